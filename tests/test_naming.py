"""naming: what is typed finds runs by exact and by shortened names; Tab offers names and opens no record."""

import os

import pytest
from attempts import TORN
from launching import Place

from farmx import naming
from farmx.cli.surroundings import from_here, located
from farmx.errors import RecordError, UsageError
from farmx.spec import Surroundings

AT = Surroundings(cwd="/", home="/", environ={}, now=0.0, host="", argv=())


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


TYPED = [  # typed in a directory that has `runs` with the experiment `exp`, a run `bare`, and `plain` with neither
    ("exp", "exp"),
    ("exp/", "exp"),
    ("runs/exp", "/at/runs/exp"),
    ("runs/exp/", "/at/runs/exp"),
    ("runs/none/", "runs/none"),
    ("plain/", "plain"),
    ("./plain/", "/at/plain"),
    ("bare", "bare"),
    ("bare/", "/at/bare"),
    ("own/", "/at/own"),
    (".", "/at"),
]


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_what_is_typed_is_a_path_where_it_looks_like_one_or_ends_like_one_that_holds_runs(tmp_path, typed, meant):
    for name in ("runs/exp/.farmx", "bare", "plain", "own/.farmx"):
        (tmp_path / "at" / name).mkdir(parents=True)
    (tmp_path / "at/bare/metrics.jsonl").touch()
    at = AT._replace(cwd=str(tmp_path / "at"))
    assert located(typed, at).replace(str(tmp_path), "") == meant


@pytest.mark.parametrize("name", ["runs/exp", "bare", ".", ".."])
def test_a_path_that_is_told_is_typed_as_it_is_told(tmp_path, name):
    at = AT._replace(cwd=str(tmp_path / "at"))
    (tmp_path / "at").mkdir()
    (tmp_path / "at" / name).mkdir(parents=True, exist_ok=True)
    path = (tmp_path / "at" / name).resolve()
    assert located(from_here(str(path), at), at) == str(path)


UNKNOWN = [
    ("swep", "; did you mean sweep?"),
    ("onee", "; did you mean one?"),
    ("", "; known: other, sweep"),
    ("..", "; known: other, sweep"),
    ("sweep/none", "; did you mean sweep?"),
    ("sweep/.farmx", "; known: other, sweep"),
    ("/etc", "; known: other, sweep"),
]


@pytest.mark.parametrize("name, end", UNKNOWN)
def test_a_name_of_nothing_is_one_line_with_the_nearest(two, name, end):
    with pytest.raises(UsageError) as caught:
        naming.find(str(two.experiment.parent), [name])
    assert str(caught.value) == f"no experiment or run named '{name.rstrip('/')}' in {two.experiment.parent}{end}"


def test_a_name_of_nothing_among_many_is_still_told_in_a_line_that_can_be_read(tmp_path):
    for number in range(60):
        (tmp_path / f"sweep{number:02}" / ".farmx").mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        naming.find(str(tmp_path), ["zzz"])
    some = ", ".join(f"sweep{number:02}" for number in range(50))
    assert str(caught.value) == f"no experiment or run named 'zzz' in {tmp_path}; known: {some} and 10 more"


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
    assert str(caught.value) == f"{two.experiment}/one/run.json: {TORN}"


# ---------------------------------------------------------------- shortened


SHORTENED = [
    ("sw", ["sweep/one", "sweep/same"]),
    ("o", "'o' may be other or sweep/one; type more of it"),
    ("on", ["sweep/one"]),
    ("gr", ["other/größe; $HOME"]),
    ("größe;", ["other/größe; $HOME"]),
    ("sw/o", ["sweep/one"]),
    ("s/s", ["sweep/same"]),
    ("oth/same", ["other/same"]),
    ("sa", "'sa' may be other/same or sweep/same; type more of it"),
    ("sweep/", ["sweep/one", "sweep/same"]),
    ("sweep/.", "did you mean sweep?"),
    (".f", "known: other, sweep"),
    ("/s", "known: other, sweep"),
    ("//", "known: other, sweep"),
    ("ONE", "did you mean one?"),
]


@pytest.mark.parametrize("name, meant", SHORTENED)
def test_a_name_may_be_shortened_while_it_is_unique(two, name, meant):
    if isinstance(meant, list):
        assert found(two, name) == meant
        return
    with pytest.raises(UsageError) as caught:
        found(two, name)
    unknown = f"no experiment or run named '{name.rstrip('/')}' in {two.experiment.parent}; "
    assert str(caught.value) == (meant if "may be" in meant else unknown + meant)


def test_an_exact_name_wins_over_longer_ones(two, tmp_path):
    Place(tmp_path, "sweep2").run(name="one_2")
    two.run(name="one_2")
    assert found(two, "sweep") == ["sweep/one", "sweep/one_2", "sweep/same"]
    assert found(two, "one") == found(two, "sweep/one") == ["sweep/one"]


def test_what_is_no_run_is_not_shortened_to(two):
    (two.experiment / "notes").mkdir()
    with pytest.raises(UsageError, match="no experiment or run named 'not'"):
        found(two, "not")


def test_of_many_candidates_some_are_named(two):
    for each in range(9):
        two.run(name=f"run_{each}")
    with pytest.raises(UsageError) as caught:
        found(two, "run")
    names = ", ".join(f"sweep/run_{each}" for each in range(6))
    assert str(caught.value) == f"'run' may be {names} or others; type more of it"


EXPERIMENTS = [("sw", "sweep"), ("sweep", "sweep"), ("o", "other"), ("x", "x"), ("", ""), ("one", "one"),
               ("/a/path", "/a/path")]  # fmt: skip


@pytest.mark.parametrize("name, meant", EXPERIMENTS)
def test_where_only_an_experiment_is_meant_runs_do_not_count(two, name, meant):
    assert naming.experiment(str(two.experiment.parent), name) == meant


def test_an_experiment_that_two_begin_like_is_told(two, tmp_path):
    Place(tmp_path, "sweep2")
    with pytest.raises(UsageError) as caught:
        naming.experiment(str(two.experiment.parent), "sw")
    assert str(caught.value) == "'sw' may be sweep or sweep2; type more of it"


ONE = [
    ("one", "sweep/one"),
    ("on", "sweep/one"),
    ("o", "sweep/one"),
    ("third", "third/alone"),
    ("sweep", "'sweep' is an experiment of 2 runs; name one of them: sweep/one, sweep/same"),
    ("sa", "'sa' may be other/same or sweep/same; type more of it"),
    ("empty", "'empty' holds no runs; name one that does"),
]


@pytest.mark.parametrize("name, meant", ONE)
def test_where_one_run_is_meant_a_shortened_name_is_a_runs_first(two, tmp_path, name, meant):
    Place(tmp_path, "third").run(name="alone")
    Place(tmp_path, "empty")
    root = str(two.experiment.parent)
    if " " not in meant:
        assert os.path.relpath(naming.one(root, name).path, root) == meant
        return
    with pytest.raises(UsageError) as caught:
        naming.one(root, name)
    assert str(caught.value) == meant


def test_where_nobody_sees_it_a_shortened_name_does_nothing(project):
    project.sweep("{n: [1]}", "'false'", "RETRY: {error: 1}\n")
    project("sweep.yml", "-i")
    (run,) = project.runs()
    names = {"swee": "sweep", run.name[:-1]: f"sweep/{run.name}", f"sweep/{run.name[:-1]}": f"sweep/{run.name}"}
    for name, meant in names.items():
        for command in (["cancel"], ["tend"], ["retry"], ["retry", "-i"], ["clean"], ["clean", "-y"]):
            told = project(command[0], name, *command[1:]).line(2)
            assert told == f"'{name}' alone begins {meant}; where nobody is asked names are whole: write {meant}"
    assert [path.name for path in (run / "attempts").iterdir()] == ["1.0"]
    for command in (["cancel"], ["tend"]):
        assert project.ok(*command, "sweep")
    assert project.ok("logs", "swee")
