"""naming: what is typed finds runs by exact and by shortened names; Tab offers names and opens no record."""

import os

import pytest
from launching import Place

from farmx import naming
from farmx.errors import RecordError, UsageError


def found(place: Place, *names: str) -> list[str]:
    logroot = place.experiment.parent
    return [os.path.relpath(run.path, logroot) for run in naming.find(str(logroot), names)]



@pytest.fixture
def two(tmp_path):
    """Two experiments; `same` is a run of both."""
    sweep, other = Place(tmp_path), Place(tmp_path, "other")
    sweep.run(name="one")
    sweep.run(name="same")
    other.run(name="same")
    other.run(name="größe; $HOME")
    return sweep


NAMED = [
    (["sweep"], ["sweep/one", "sweep/same"]),
    (["sweep/"], ["sweep/one", "sweep/same"]),
    (["sweep/one"], ["sweep/one"]),
    (["other/same"], ["other/same"]),
    (["one"], ["sweep/one"]),
    (["one/"], ["sweep/one"]),
    (["größe; $HOME"], ["other/größe; $HOME"]),
    (["one", "sweep", "sweep/one"], ["sweep/one", "sweep/same"]),
    (["other/same", "one"], ["other/same", "sweep/one"]),
    (["LOGROOT/sweep"], ["sweep/one", "sweep/same"]),
    (["LOGROOT/sweep/one"], ["sweep/one"]),
    (["LOGROOT/sweep/one/"], ["sweep/one"]),
]


@pytest.mark.parametrize("names, runs", NAMED)
def test_a_name_is_an_experiment_a_run_or_a_path(two, names, runs):
    logroot = str(two.experiment.parent)
    assert found(two, *(name.replace("LOGROOT", logroot) for name in names)) == runs


UNKNOWN = [
    ("swep", "; did you mean sweep?"),
    ("onee", "; did you mean one?"),
    ("", "; known: größe; $HOME, one, other, same, sweep"),
    ("..", "; known: größe; $HOME, one, other, same, sweep"),
    ("sweep/none", ""),
    ("sweep/.farmx", ""),
    ("/etc", ""),
]


@pytest.mark.parametrize("name, end", UNKNOWN)
def test_a_name_of_nothing_is_one_line_with_the_nearest(two, name, end):
    with pytest.raises(UsageError) as caught:
        naming.find(str(two.experiment.parent), [name])
    start = f"no experiment or run named '{name.rstrip('/')}' in {two.experiment.parent}; "
    assert str(caught.value).startswith(start.removesuffix("; ") + (end or "; "))


def test_a_run_of_two_experiments_must_be_named_with_one(two):
    with pytest.raises(UsageError) as caught:
        naming.find(str(two.experiment.parent), ["same"])
    assert str(caught.value) == "'same' is a run of other and of sweep; name it other/same"


def test_an_experiment_comes_before_a_run_of_its_name(two, tmp_path):
    Place(tmp_path, "third").run(name="sweep")
    assert found(two, "sweep") == ["sweep/one", "sweep/same"]


def test_a_damaged_run_is_one_line(two):
    (two.experiment / "one" / "run.json").write_text("{")
    with pytest.raises(RecordError) as caught:
        naming.find(str(two.experiment.parent), ["sweep"])
    assert str(caught.value).startswith(f"{two.experiment}/one/run.json: ")
