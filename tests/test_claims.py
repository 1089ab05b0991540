"""claims: which run holds which point, whatever people and crashes did to the directories."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attempts import DAMAGED
from commands import claims as claimed
from launching import lost, tree

from farmx import claims, processes
from farmx.claims import Holder
from farmx.errors import RecordError, StageError

POINTS, STAGING, SNAPSHOTS = (os.path.join(".farmx", name) for name in ("points", "staging", "snapshots"))
PLACE = ("p1-a", 1)
DEAD = {"boot": "before"}  # of a process that is no more


@pytest.fixture
def experiment(tmp_path):
    claims.prepare(str(tmp_path / "sweep"))
    return tmp_path / "sweep"


def make(path: Path, point: str = "p1-a", generation: int = 1) -> Path:
    """A run directory, as far as claims look into it."""
    path.mkdir()
    (path / "run.json").write_text(json.dumps({"format": 1, "point": point, "generation": generation}))
    return path


def held(experiment: Path, point: str = "p1-a", generation: int = 1, run: str = "one") -> Path:
    """A run with its claim."""
    assert claims.take(str(experiment), run, {(point, generation): run}) == {(point, generation): run}
    return make(experiment / run, point, generation)


def at_work(experiment: Path, launch: str = "one", **more: object) -> Path:
    """A launch of this process says that it makes runs; what it says that in."""
    path = experiment / STAGING / f".launch-{launch}"
    path.write_text(json.dumps({"format": 1, **processes.this(), **more}))
    return path


# ---------------------------------------------------------------- claiming


def test_all_points_of_a_launch_are_claimed_by_one_link(experiment):
    wanted = {("p1-a", 1): "one", ("p1-b", 3): "it's $HOME; größe", ("p1-c", 1): "two\nlines"}
    assert claims.take(str(experiment), "l", wanted) == wanted
    assert sorted(os.listdir(experiment / POINTS)) == ["1", "l.json"]
    assert os.readlink(experiment / POINTS / "1") == "l.json"
    assert json.loads((experiment / POINTS / "1").read_text()) == {
        "format": 1,
        "launch": "l",
        "claims": {"p1-a.1": "one", "p1-b.3": "it's $HOME; größe", "p1-c.1": "two\nlines"},
    }
    assert claims.identities(str(experiment)) == {"p1-a", "p1-b", "p1-c"}


def test_of_what_others_claimed_first_nothing_changes_and_the_rest_is_ours(experiment):
    claims.take(str(experiment), "l", {PLACE: "one"})
    assert claims.take(str(experiment), "m", {PLACE: "two", ("p1-a", 2): "three"}) == {("p1-a", 2): "three"}
    assert claimed(experiment) == {"p1-a.1": "one", "p1-a.2": "three"}


@pytest.mark.parametrize("wanted", [{}, {PLACE: "two"}])
def test_where_nothing_is_to_claim_nothing_is_written(experiment, wanted):
    claims.take(str(experiment), "l", {PLACE: "one"})
    before = tree(experiment)
    assert claims.take(str(experiment), "m", wanted) == {}
    assert tree(experiment) == before


def test_who_claims_at_the_same_moment_as_another_sees_what_that_took(experiment, monkeypatch):
    real = os.symlink

    def symlink(source: str, target: str) -> None:
        monkeypatch.undo()
        theirs = {PLACE: "theirs", ("p1-b", 1): "theirs, too"}
        assert claims.take(str(experiment), "other", theirs) == theirs
        real(source, target)

    monkeypatch.setattr(os, "symlink", symlink)
    ours = {("p1-c", 1): "ours, too"}
    assert claims.take(str(experiment), "l", {PLACE: "ours", **ours}) == ours
    assert claimed(experiment) == {"p1-a.1": "theirs", "p1-b.1": "theirs, too", "p1-c.1": "ours, too"}


def test_the_answer_that_our_own_claim_is_there_is_a_success(experiment, monkeypatch):
    lost(monkeypatch, "symlink", errno.EEXIST)  # as NFS repeats calls
    assert claims.take(str(experiment), "l", {PLACE: "one"}) == {PLACE: "one"}
    assert claimed(experiment) == {"p1-a.1": "one"}
    assert sorted(os.listdir(experiment / POINTS)) == ["1", "l.json"]


@pytest.mark.parametrize("number", [9, 10, 11])
def test_claims_are_read_in_the_order_of_their_numbers(experiment, number):
    for count in range(1, number + 1):
        claims.lead(str(experiment), {PLACE: f"run {count}"})
    assert claimed(experiment) == {"p1-a.1": f"run {number}"}
    make(experiment / f"run {number}")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, f"run {number}")}


def test_a_claim_that_cannot_be_written_is_one_line(experiment):
    shutil.rmtree(experiment / POINTS)
    with pytest.raises(StageError) as caught:
        claims.take(str(experiment), "l", {PLACE: "one"})
    assert str(caught.value) == f"{experiment}/{POINTS}/l.json: cannot be written: No such file or directory"


REFUSED = [
    (errno.EPERM, "its file system has no symbolic links; set LOGROOT to a directory on another"),  # vfat, exfat
    (errno.ENOSPC, "No space left on device"),
]


@pytest.mark.parametrize(("error", "why"), REFUSED)
def test_a_claim_that_cannot_be_linked_is_one_line(experiment, monkeypatch, error, why):
    def refused(target: str, path: str) -> None:
        raise OSError(error, os.strerror(error), target, None, path)

    monkeypatch.setattr(os, "symlink", refused)
    with pytest.raises(StageError) as caught:
        claims.take(str(experiment), "l", {PLACE: "one"})
    assert str(caught.value) == f"{experiment}/{POINTS}/1: cannot be claimed: {why}"
    assert claimed(experiment) == {}


@pytest.mark.parametrize("what", ["a file in place of LOGROOT", "a file in place of the experiment"])
def test_an_experiment_that_cannot_be_made_is_one_line(tmp_path, what):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "sweep" if "LOGROOT" in what else tmp_path / "file"
    with pytest.raises(StageError) as caught:
        claims.prepare(str(path))
    why = f"{path}: cannot be made: Not a directory; set LOGROOT to a directory you can write"
    assert str(caught.value) == why


# ---------------------------------------------------------------- who holds what


def test_nobody_holds_anything_where_nothing_is(tmp_path):
    assert claims.holders(str(tmp_path / "none")) == {}
    assert claims.identities(str(tmp_path / "none")) == set()


def test_generations_of_a_point_are_held_apart(experiment):
    held(experiment)
    held(experiment, generation=2, run="two")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(2, "two")}


LEFT = [  # what is where a launch makes its run -> whether that is made
    (None, False),
    ({}, False),
    ({"mine": ""}, False),
    ({"run.json": ""}, False),
    ({"run.json": '{"format": 1, "point": "p1-a", "generation": 1'}, False),
    ({"run.json": '{"format": 1, "point": "p1-b", "generation": 1}'}, False),
    ({"run.json": '{"format": 1, "point": "p1-a", "generation": 2}'}, False),
    ({"run.json": '{"format": 1, "point": "p1-a", "generation": 1}'}, True),
]


@pytest.mark.parametrize(("there", "made"), LEFT)
def test_what_a_launch_that_is_at_work_has_not_made_is_to_be_made(experiment, there, made):
    claims.take(str(experiment), "one", {PLACE: "one"})
    mark = at_work(experiment)
    if there is not None:
        (experiment / "one").mkdir()
    for name, text in (there or {}).items():
        (experiment / "one" / name).write_text(text)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one", made)}
    mark.unlink()
    if there not in (LEFT[3][0], LEFT[4][0]):  # which are damaged then
        assert claims.holders(str(experiment)) == {"p1-a": Holder(1, None if there is None else "one")}


def test_only_what_the_launch_at_work_claimed_is_to_be_made(experiment):
    claims.take(str(experiment), "before", {("p1-a", 1): "a", ("p1-b", 1): "b"})
    claims.take(str(experiment), "one", {("p1-a", 2): "c", ("p1-c", 1): "d"})
    at_work(experiment)
    assert claims.holders(str(experiment)) == {
        "p1-a": Holder(2, "c", False), "p1-b": Holder(1, None), "p1-c": Holder(1, "d", False)
    }  # fmt: skip


def test_a_deleted_run_leaves_its_generation_behind(experiment):
    shutil.rmtree(held(experiment))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, None)}


@pytest.mark.parametrize("working", [False, True])
@pytest.mark.parametrize("name", ["aaa", "zzz", "it's $HOME; größe", "two\nlines"])
def test_a_renamed_run_heals_the_index(experiment, name, working):
    held(experiment).rename(experiment / name)
    if working:
        at_work(experiment)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, name)}
    assert claimed(experiment) == {"p1-a.1": name}
    before = tree(experiment)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, name)}
    assert tree(experiment) == before


def test_two_renamed_runs_hold_each_their_own_point(experiment):
    one, two = held(experiment), held(experiment, "p1-b", run="two")
    one.rename(experiment / "was-one")
    two.rename(experiment / "was-two")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "was-one"), "p1-b": Holder(1, "was-two")}


@pytest.mark.parametrize("copy", ["a-copy", "z-copy"])
def test_a_copy_is_not_mistaken_for_the_original(experiment, copy):
    shutil.copytree(held(experiment), experiment / copy)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}
    assert claimed(experiment) == {"p1-a.1": "one"}


def test_a_copy_stands_in_for_an_original_that_was_deleted(experiment):
    original = held(experiment)
    shutil.copytree(original, experiment / "copy")
    shutil.rmtree(original)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "copy")}


def test_an_older_generation_does_not_stand_in_for_a_newer_one(experiment):
    held(experiment)
    shutil.rmtree(held(experiment, generation=2, run="two"))
    (experiment / "one").rename(experiment / "renamed")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(2, None)}


def test_claims_follow_runs_that_swapped_their_names_and_stay_with_originals(experiment):
    one, two = held(experiment), held(experiment, "p1-b", run="two")
    shutil.copytree(held(experiment, "p1-c", run="three"), experiment / "a-copy")
    one.rename(experiment / "was-one")
    two.rename(one)
    (experiment / "was-one").rename(two)
    shutil.rmtree(held(experiment, "p1-d", run="gone"))
    (experiment / "notes").mkdir()
    claims.reindex(str(experiment))
    assert claimed(experiment) == {"p1-a.1": "two", "p1-b.1": "one", "p1-c.1": "three", "p1-d.1": "gone"}


def test_visible_runs_hold_their_points_when_the_index_was_lost(experiment):
    held(experiment)
    held(experiment, generation=2, run="two")
    held(experiment, "p1-b", run="other")
    shutil.rmtree(experiment / ".farmx")
    claims.prepare(str(experiment))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(2, "two"), "p1-b": Holder(1, "other")}
    assert claimed(experiment)["p1-a.2"] == "two"


def test_visible_runs_hold_their_points_when_what_claimed_them_was_lost(experiment):
    held(experiment)
    (experiment / POINTS / "one.json").unlink()
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}
    assert os.readlink(experiment / POINTS / "1") == "one.json"


def test_what_is_no_run_of_ours_is_passed_over(experiment):
    held(experiment)
    (experiment / "notes.txt").write_text("mine")
    (experiment / "plots").mkdir()
    (experiment / "runx").mkdir()
    (experiment / "runx" / "hparams.json").write_text("{}")
    (experiment / POINTS / ".p1-a.7").symlink_to("../../one")  # as a crash leaves aside
    (experiment / POINTS / ".one.json.7.0123abcd").write_text("{")
    (experiment / POINTS / "never.json").write_text("{}")  # by a launch that was killed before it claimed that
    (experiment / POINTS / "README").touch()
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}


@pytest.mark.parametrize(("text", "why"), DAMAGED.items())
def test_a_damaged_run_stops_what_might_make_its_point_twice(experiment, text, why):
    held(experiment).rename(experiment / "renamed")
    (experiment / "renamed" / "run.json").write_text(text)
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    assert str(caught.value) == f"{experiment}/renamed/run.json: {why}"


@pytest.mark.parametrize(("text", "why"), DAMAGED.items())
def test_damaged_claims_stop_what_might_make_points_twice(experiment, text, why):
    held(experiment)
    (experiment / POINTS / "one.json").write_text(text)
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    assert str(caught.value) == f"{experiment}/{POINTS}/one.json: {why}"


NONSENSE = [
    {"launch": "one"},
    {"launch": "one", "claims": []},
    {"launch": "one", "claims": {"p1-a.1": 7}},
    {"claims": {}},
]


@pytest.mark.parametrize("told", NONSENSE)
def test_claims_that_say_nonsense_are_one_line(experiment, told):
    held(experiment)
    (experiment / POINTS / "one.json").write_text(json.dumps({"format": 1, **told}))
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    assert str(caught.value) == f"{experiment}/{POINTS}/one.json: not a record of ours; restore it or move it away"


def test_a_damaged_copy_stops_nothing_while_no_point_misses_its_run(experiment):
    shutil.copytree(held(experiment), experiment / "copy")
    (experiment / "copy" / "run.json").write_text("{")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}


@pytest.mark.parametrize("told", [{}, {"point": 1, "generation": 1}, {"point": "p1-a", "generation": "x"}])
def test_a_record_that_names_no_point_is_no_run_of_ours(experiment, told):
    held(experiment).rename(experiment / "renamed")
    (experiment / "renamed" / "run.json").write_text(json.dumps({"format": 1, **told}))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, None)}


def test_a_claim_that_goes_as_it_is_read_is_found_by_its_run(experiment, monkeypatch):
    held(experiment)
    real = os.readlink

    def gone(path: str) -> str:
        monkeypatch.undo()
        os.unlink(path)
        return real(path)

    monkeypatch.setattr(os, "readlink", gone)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}
    assert claimed(experiment) == {"p1-a.1": "one"}


NO_LINK = [
    ("1", "cannot be read: Is a directory"),
    ("p1-a.1", "not a claim of ours (Invalid argument); move it away"),  # as a copy that follows links leaves it
]


@pytest.mark.parametrize(("name", "why"), NO_LINK)
def test_a_claim_that_is_no_link_is_one_line(experiment, name, why):
    (experiment / POINTS / name).mkdir()
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    assert str(caught.value) == f"{experiment}/{POINTS}/{name}: {why}"


@pytest.mark.parametrize("kept", ["both", "the number", "what it led to"])
def test_a_copy_that_follows_links_or_leaves_them_out_goes_on(experiment, kept):
    held(experiment)
    link = experiment / POINTS / "1"
    link.unlink()
    if kept != "what it led to":
        shutil.copy(experiment / POINTS / "one.json", link)
    if kept == "the number":
        (experiment / POINTS / "one.json").unlink()
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}
    assert claims.take(str(experiment), "l", {PLACE: "two", ("p1-b", 1): "three"}) == {("p1-b", 1): "three"}
    assert claimed(experiment) == {"p1-a.1": "one", "p1-b.1": "three"}


def test_where_sshfs_hides_where_links_lead_it_is_said_what_to_do(experiment, monkeypatch):
    held(experiment)

    def contained(path: str, **_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    monkeypatch.setattr(os, "readlink", contained)
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    told = "its file system does not tell where it leads; mount sshfs with -o no_contain_symlinks"
    assert str(caught.value) == f"{experiment}/{POINTS}/1: {told}"


def test_claims_of_an_earlier_farmx_count_and_are_led_elsewhere_as_todays(experiment):
    """There was a symlink for each point."""
    for point, run in (("p1-a", "one"), ("p1-b", "gone")):
        (experiment / POINTS / f"{point}.1").symlink_to(f"../../{run}")
    make(experiment / "one")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one"), "p1-b": Holder(1, None)}
    assert claims.take(str(experiment), "l", {PLACE: "two", ("p1-b", 2): "three"}) == {("p1-b", 2): "three"}
    (experiment / "one").rename(experiment / "renamed")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "renamed"), "p1-b": Holder(2, None)}
    assert claimed(experiment) == {"p1-a.1": "renamed", "p1-b.2": "three"}


# ---------------------------------------------------------------- what others claimed and have not made

SAYS = [  # what has the name of a run -> whether it says that it is that
    (None, False),
    ("a file", False),
    ({}, False),
    ({"mine": ""}, False),
    ({"run.json": "{"}, False),
    ({"run.json": '{"format": 1, "point": "p1-a", "generation": 1}'}, True),
    ({"run.json": '{"format": 1, "point": "p1-a", "generation": 2}'}, False),
    ({"run.json": '{"format": 1, "point": "p1-b", "generation": 1}'}, False),
]


@pytest.mark.parametrize(("there", "holds"), SAYS)
def test_what_has_the_name_of_a_run_is_told_from_it(experiment, there, holds):
    if isinstance(there, dict):
        (experiment / "one").mkdir()
        for name, text in there.items():
            (experiment / "one" / name).write_text(text)
    elif there:
        (experiment / "one").touch()
    assert claims.holds(str(experiment), PLACE, "one") == holds


@pytest.mark.parametrize(("text", "why"), DAMAGED.items())
def test_a_damaged_run_of_a_launch_that_is_at_work_stops_what_might_make_its_point_twice(experiment, text, why):
    held(experiment)
    at_work(experiment)
    (experiment / "one" / "run.json").write_text(text)
    (experiment / "one" / "attempts").mkdir()  # alone an empty record is one that is being written
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    assert str(caught.value) == f"{experiment}/one/run.json: {why}"


def test_who_goes_on_with_what_another_claimed_keeps_it_when_that_is_buried(experiment):
    claims.take(str(experiment), "dead", {PLACE: "one", ("p1-b", 1): "two"})
    at_work(experiment, "dead", **DEAD)
    at_work(experiment, "l")
    ours = claims.take(str(experiment), "l", {("p1-c", 1): "three"}, {PLACE: "one"})
    assert ours == {PLACE: "one", ("p1-c", 1): "three"}
    claims.bury(str(experiment))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one", False), "p1-c": Holder(1, "three", False)}


def test_who_goes_on_with_a_run_just_as_its_launch_is_buried_keeps_it(experiment, monkeypatch):
    claims.take(str(experiment), "dead", {PLACE: "one", ("p1-b", 1): "two"})
    at_work(experiment, "dead", **DEAD)
    at_work(experiment, "l")
    real = os.symlink

    def symlink(source: str, target: str) -> None:
        monkeypatch.undo()
        assert claims.take(str(experiment), "l", {}, {PLACE: "one"}) == {PLACE: "one"}
        real(source, target)

    monkeypatch.setattr(os, "symlink", symlink)
    claims.bury(str(experiment))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one", False)}


@pytest.mark.parametrize("looks", range(1, 5))
def test_who_looks_while_a_launch_is_buried_takes_no_run_for_deleted(experiment, monkeypatch, looks):
    """At each of the directories that it looks into."""
    claims.take(str(experiment), "dead", {PLACE: "one"})
    at_work(experiment, "dead", **DEAD)
    assert _looked_while(experiment, monkeypatch, looks, lambda: claims.bury(str(experiment))) != Holder(1, None)


@pytest.mark.parametrize("looks", range(1, 5))
def test_who_looks_while_a_launch_claims_takes_no_run_for_deleted(experiment, monkeypatch, looks):
    def begin() -> None:
        at_work(experiment, "l")
        claims.take(str(experiment), "l", {PLACE: "one"})

    assert _looked_while(experiment, monkeypatch, looks, begin) != Holder(1, None)


@pytest.mark.parametrize("looks", range(1, 5))
def test_who_looks_while_a_launch_ends_takes_no_run_for_deleted(experiment, monkeypatch, looks):
    claims.take(str(experiment), "l", {PLACE: "one"})
    mark = at_work(experiment, "l")

    def end() -> None:
        make(experiment / "one")
        mark.unlink()

    assert _looked_while(experiment, monkeypatch, looks, end) in (Holder(1, "one"), Holder(1, "one", False))


def _looked_while(experiment: Path, monkeypatch, looks: int, happens: Callable[[], None]) -> Holder | None:
    """Who holds the point to one who looks, when this happens just before it lists so many directories."""
    real, left = os.scandir, [looks]

    def scandir(path: str) -> object:
        left[0] -= 1
        if not left[0]:
            monkeypatch.undo()
            happens()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = claims.holders(str(experiment)).get("p1-a")
    assert left[0] == 0
    return found


def test_what_was_buried_just_before_another_goes_on_with_it_is_made_once(experiment):
    claims.take(str(experiment), "dead", {PLACE: "one"})
    at_work(experiment, "dead", **DEAD)
    claims.bury(str(experiment))
    assert claims.take(str(experiment), "third", {PLACE: "two"}) == {PLACE: "two"}
    assert claims.take(str(experiment), "l", {}, {PLACE: "one"}) == {PLACE: "two"}


def test_names_are_promised_while_a_launch_is_at_work(experiment):
    claims.take(str(experiment), "before", {PLACE: "one"})
    claims.take(str(experiment), "l", {("p1-b", 1): "two", ("p1-c", 1): "it's $HOME"})
    mark = at_work(experiment, "l")
    assert claims.promised(str(experiment)) == {("p1-b", 1): "two", ("p1-c", 1): "it's $HOME"}
    mark.unlink()
    assert claims.promised(str(experiment)) == {}


def test_who_goes_on_with_a_run_that_was_named_anew_meanwhile_makes_it_by_that_name(experiment):
    claims.take(str(experiment), "other", {PLACE: "one"})
    assert claims.named_anew(str(experiment), "other", PLACE, "one", "two") == "two"
    assert claims.take(str(experiment), "l", {}, {PLACE: "one"}) == {PLACE: "two"}
    assert claimed(experiment) == {"p1-a.1": "two"}


def test_a_run_that_is_named_anew_is_still_to_be_made(experiment):
    claims.take(str(experiment), "l", {PLACE: "one"})
    at_work(experiment, "l")
    make(experiment / "one", "p1-b")
    assert claims.named_anew(str(experiment), "l", PLACE, "one", "two") == "two"
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "two", False), "p1-b": Holder(1, "one")}


def test_of_two_who_name_a_run_anew_the_second_takes_the_name_of_the_first(experiment, monkeypatch):
    claims.take(str(experiment), "l", {PLACE: "one"})
    real = os.symlink

    def symlink(source: str, target: str) -> None:
        monkeypatch.undo()
        assert claims.named_anew(str(experiment), "other", PLACE, "one", "theirs") == "theirs"
        real(source, target)

    monkeypatch.setattr(os, "symlink", symlink)
    assert claims.named_anew(str(experiment), "l", PLACE, "one", "ours") == "theirs"
    assert claims.named_anew(str(experiment), "l", PLACE, "theirs", "ours") == "ours"
    assert claimed(experiment) == {"p1-a.1": "ours"}


def test_a_claim_that_somebody_removed_does_not_keep_a_run_from_another_name(experiment):
    assert claims.named_anew(str(experiment), "l", PLACE, "one", "two") == "two"
    assert claimed(experiment) == {"p1-a.1": "two"}


# ---------------------------------------------------------------- what dead launches left


def aged(path: Path, hours: float) -> None:
    then = path.lstat().st_mtime - hours * 3600
    os.utime(path, (then, then))


def test_what_dead_launches_left_is_removed_after_a_day(experiment):
    old, young = make(experiment / STAGING / "old"), make(experiment / STAGING / "young")  # as an earlier farmx did
    mark, probe = at_work(experiment), experiment / STAGING / ".now.1.a"
    half, whole = experiment / SNAPSHOTS / ".new.1.a", experiment / SNAPSHOTS / "0123"
    for path in (probe, half, whole):
        path.mkdir()
    for path in (old, mark, probe, half, whole):
        aged(path, 25)
    aged(young, 23)
    claims.sweep_staging(str(experiment))
    assert [path.exists() for path in (old, probe, half, whole, young, mark)] == [False, False, False, True, True, True]


def test_what_goes_as_it_is_looked_at_is_passed_over(experiment, monkeypatch):
    make(experiment / STAGING / "one")
    at_work(experiment, host="elsewhere")
    real = os.lstat

    def gone(path: str, **more: object) -> os.stat_result:
        if os.path.exists(path) and path.startswith(str(experiment / STAGING)):
            Path(path).rename(experiment.parent / os.path.basename(path))
        return real(path, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", gone)
        claims.sweep_staging(str(experiment))
        claims.bury(str(experiment))
    assert os.listdir(experiment / STAGING) == []


LAUNCHES = [  # what a launch says that is at work, how long ago -> whether it is over
    (DEAD, 0, True),
    ({}, 0, False),
    ({}, 25, False),  # stopped for a day, and to be continued
    ({**DEAD, "host": "elsewhere"}, 0, False),
    ({**DEAD, "host": "elsewhere"}, 23, False),
    ({**DEAD, "host": "elsewhere"}, 25, True),
    (None, 0, False),
    (None, 25, True),
]


@pytest.mark.parametrize(("told", "hours", "over"), LAUNCHES)
def test_with_what_a_launch_claimed_and_did_not_make_nobody_goes_on_once_it_is_over(experiment, told, hours, over):
    wanted = {("p1-a", 1): "made", ("p1-b", 1): "begun", ("p1-c", 1): "it's $HOME", ("p1-d", 1): "damaged"}
    claims.take(str(experiment), "one", {**wanted, ("p1-f", 1): "torn"})
    claims.take(str(experiment), "two", {("p1-e", 1): "of another"})
    make(experiment / "made")
    make(experiment / "it's $HOME", "p1-z")
    (make(experiment / "damaged") / "run.json").write_text("{\n")
    (make(experiment / "torn") / "run.json").write_text("{")
    for name in (".one.p1-b.1", ".one.p1-c.1", ".two.p1-e.1", ".mine", ".one"):
        (experiment / name).mkdir()
    (experiment / ".one.p1-b.1/run.json").write_text("{")
    mark, other = at_work(experiment, **told or {}), at_work(experiment, "two")
    if told is None:
        mark.write_text("")
    aged(mark, hours)
    claims.bury(str(experiment))
    assert (mark.exists(), other.exists()) == (not over, True)
    left = {".farmx", "made", "it's $HOME", "damaged", ".two.p1-e.1", ".mine", ".one"}
    assert set(os.listdir(experiment)) == left | (set() if over else {".one.p1-b.1", ".one.p1-c.1", "torn"})
    kept = {"p1-a.1", "p1-d.1", "p1-e.1"} | (set() if over else {"p1-b.1", "p1-c.1", "p1-f.1"})
    assert set(claimed(experiment)) == kept
    (experiment / "damaged/run.json").write_text('{"format": 1, "point": "p1-d", "generation": 1}')
    found = claims.holders(str(experiment))
    found.pop("p1-z", None)  # of no claim
    theirs = {"p1-b": Holder(1, "begun", False), "p1-c": Holder(1, "it's $HOME", False),
              "p1-f": Holder(1, "torn", False)}  # fmt: skip
    assert found == {
        "p1-a": Holder(1, "made"), "p1-d": Holder(1, "damaged"), "p1-e": Holder(1, "of another", False),
        **({} if over else theirs)
    }  # fmt: skip


def test_a_launch_says_that_it_is_at_work_until_it_has_made_its_runs_or_was_broken_off(experiment):
    with claims.at_work(str(experiment), "one"):
        (path,) = (experiment / STAGING).iterdir()
        assert processes.alive(json.loads(path.read_text())) is True
    assert os.listdir(experiment / STAGING) == []
    with pytest.raises(KeyboardInterrupt), claims.at_work(str(experiment), "one"):
        raise KeyboardInterrupt
    assert os.listdir(experiment / STAGING) == [path.name]
