"""claims: which run holds which point, whatever people and crashes did to the directories."""

import errno
import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from attempts import DAMAGED
from launching import lost

from farmx import claims, processes
from farmx.claims import Holder
from farmx.errors import RecordError, StageError

POINTS, STAGING, SNAPSHOTS = (os.path.join(".farmx", name) for name in ("points", "staging", "snapshots"))


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
    """A run in its place, with its claim."""
    make(experiment / STAGING / run, point, generation)
    assert claims.hold(str(experiment), point, generation, run)
    return experiment / run


def links(experiment: Path) -> dict[str, str]:
    return {name: os.readlink(experiment / POINTS / name) for name in sorted(os.listdir(experiment / POINTS))}


# ---------------------------------------------------------------- claiming


def test_holding_a_point_puts_the_run_in_place_and_links_to_it(experiment):
    assert held(experiment).is_dir()
    assert links(experiment) == {"p1-a.1": "../../one"}
    assert (experiment / POINTS / "p1-a.1" / "run.json").exists()
    assert os.listdir(experiment / STAGING) == []


def test_a_point_is_held_once(experiment):
    held(experiment)
    make(experiment / STAGING / "two")
    assert not claims.hold(str(experiment), "p1-a", 1, "two")
    assert os.listdir(experiment / STAGING) == ["two"]
    assert links(experiment) == {"p1-a.1": "../../one"}


def test_generations_of_a_point_are_held_apart(experiment):
    held(experiment)
    held(experiment, generation=2, run="two")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(2, "two")}


def test_the_answer_that_our_own_claim_is_there_is_a_success(experiment):
    make(experiment / STAGING / "one")
    assert claims.claim(str(experiment), "p1-a", 1, "one")
    assert claims.claim(str(experiment), "p1-a", 1, "one")  # as NFS repeats calls


def test_a_run_of_the_same_name_that_is_in_place_is_another_launchs(experiment):
    held(experiment)
    make(experiment / STAGING / "one")
    assert not claims.hold(str(experiment), "p1-a", 1, "one")
    assert links(experiment) == {"p1-a.1": "../../one"}


@pytest.mark.parametrize("taken", ["directory", "file"])
def test_a_name_that_was_taken_meanwhile_leaves_the_point_free(experiment, taken):
    if taken == "file":
        (experiment / "one").touch()
    else:
        make(experiment / "one", "p1-b")
    make(experiment / STAGING / "one")
    with pytest.raises(FileExistsError):
        claims.hold(str(experiment), "p1-a", 1, "one")
    assert links(experiment) == {}


def test_a_run_that_somebody_removed_before_it_was_in_place_leaves_the_point_free(experiment):
    with pytest.raises(StageError) as caught:
        claims.hold(str(experiment), "p1-a", 1, "one")
    assert str(caught.value) == f"{experiment}/{STAGING}/one: somebody removed it; launch again"
    assert links(experiment) == {}


def test_a_claim_that_cannot_be_written_is_one_line(experiment):
    shutil.rmtree(experiment / POINTS)
    with pytest.raises(StageError) as caught:
        claims.claim(str(experiment), "p1-a", 1, "one")
    assert str(caught.value) == f"{experiment}/{POINTS}/p1-a.1: cannot be claimed: No such file or directory"


def test_a_file_system_without_symbolic_links_is_told(experiment, monkeypatch):
    def refused(target: str, path: str) -> None:  # as of vfat, exfat and some shares
        raise PermissionError(errno.EPERM, "Operation not permitted", target, None, path)

    monkeypatch.setattr(os, "symlink", refused)
    with pytest.raises(StageError) as caught:
        claims.claim(str(experiment), "p1-a", 1, "one")
    told = "cannot be claimed: its file system has no symbolic links; set LOGROOT to a directory on another"
    assert str(caught.value) == f"{experiment}/{POINTS}/p1-a.1: {told}"


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


def test_a_claim_that_a_crash_left_half_done_is_finished(experiment):
    make(experiment / STAGING / "one")
    claims.claim(str(experiment), "p1-a", 1, "one")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}
    assert (experiment / "one" / "run.json").exists()


def test_a_staged_run_without_a_claim_is_nobodys(experiment):
    make(experiment / STAGING / "one")
    assert claims.holders(str(experiment)) == {}
    assert not (experiment / "one").exists()


def test_a_deleted_run_leaves_its_generation_behind(experiment):
    shutil.rmtree(held(experiment))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, None)}


@pytest.mark.parametrize("name", ["aaa", "zzz", "it's $HOME; größe", "two\nlines"])
def test_a_renamed_run_heals_the_index(experiment, name):
    held(experiment).rename(experiment / name)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, name)}
    assert links(experiment) == {"p1-a.1": f"../../{name}"}


@pytest.mark.parametrize("call, error", [("rename", errno.ENOENT), ("symlink", errno.EEXIST)])
def test_a_claim_whose_change_a_file_server_repeats_leads_to_the_renamed_run(experiment, monkeypatch, call, error):
    held(experiment).rename(experiment / "two")
    lost(monkeypatch, call, error)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "two")}
    assert links(experiment) == {"p1-a.1": "../../two"}


def test_two_renamed_runs_hold_each_their_own_point(experiment):
    one, two = held(experiment), held(experiment, "p1-b", run="two")
    one.rename(experiment / "was-one")
    two.rename(experiment / "was-two")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "was-one"), "p1-b": Holder(1, "was-two")}


@pytest.mark.parametrize("copy", ["a-copy", "z-copy"])
def test_a_copy_is_not_mistaken_for_the_original(experiment, copy):
    shutil.copytree(held(experiment), experiment / copy)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}
    assert links(experiment) == {"p1-a.1": "../../one"}


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
    assert links(experiment) == {"p1-a.1": "../../two", "p1-b.1": "../../one", "p1-c.1": "../../three",
                                 "p1-d.1": "../../gone"}  # fmt: skip


def test_visible_runs_hold_their_points_when_the_index_was_lost(experiment):
    held(experiment)
    held(experiment, generation=2, run="two")
    held(experiment, "p1-b", run="other")
    shutil.rmtree(experiment / ".farmx")
    claims.prepare(str(experiment))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(2, "two"), "p1-b": Holder(1, "other")}
    assert links(experiment)["p1-a.2"] == "../../two"


def test_what_is_no_run_of_ours_is_passed_over(experiment):
    held(experiment)
    (experiment / "notes.txt").write_text("mine")
    (experiment / "plots").mkdir()
    (experiment / "runx").mkdir()
    (experiment / "runx" / "hparams.json").write_text("{}")
    (experiment / POINTS / ".p1-a.7").symlink_to("../../one")  # as a crash leaves aside
    (experiment / POINTS / "README").touch()
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}


@pytest.mark.parametrize(("text", "why"), DAMAGED.items())
def test_a_damaged_run_stops_what_might_make_its_point_twice(experiment, text, why):
    held(experiment).rename(experiment / "renamed")
    (experiment / "renamed" / "run.json").write_text(text)
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    assert str(caught.value) == f"{experiment}/renamed/run.json: {why}"


def test_a_damaged_copy_stops_nothing_while_no_point_misses_its_run(experiment):
    shutil.copytree(held(experiment), experiment / "copy")
    (experiment / "copy" / "run.json").write_text("{")
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}


@pytest.mark.parametrize("told", [{}, {"point": 1, "generation": 1}, {"point": "p1-a", "generation": "x"}])
def test_a_record_that_names_no_point_is_no_run_of_ours(experiment, told):
    held(experiment).rename(experiment / "renamed")
    (experiment / "renamed" / "run.json").write_text(json.dumps({"format": 1, **told}))
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, None)}


def test_a_claim_that_is_no_link_is_one_line(experiment):
    (experiment / POINTS / "p1-a.1").mkdir()  # as a copy that follows links leaves it
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    told = f"{experiment}/{POINTS}/p1-a.1: not a claim of ours (Invalid argument); move it away"
    assert str(caught.value) == told


def test_a_claim_that_goes_as_it_is_read_is_found_by_its_run(experiment, monkeypatch):
    held(experiment)
    real = os.readlink

    def gone(path: str) -> str:
        monkeypatch.undo()
        os.unlink(path)
        return real(path)

    monkeypatch.setattr(os, "readlink", gone)
    assert claims.holders(str(experiment)) == {"p1-a": Holder(1, "one")}
    assert links(experiment) == {"p1-a.1": "../../one"}


def test_where_sshfs_hides_where_links_lead_it_is_said_what_to_do(experiment, monkeypatch):
    held(experiment)

    def contained(path: str, **_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    monkeypatch.setattr(os, "readlink", contained)
    with pytest.raises(RecordError) as caught:
        claims.holders(str(experiment))
    told = "its file system does not tell where it leads; mount sshfs with -o no_contain_symlinks"
    assert str(caught.value) == f"{experiment}/{POINTS}/p1-a.1: {told}"


# ---------------------------------------------------------------- what dead launches left


def aged(path: Path, hours: float) -> None:
    then = path.stat().st_mtime - hours * 3600
    os.utime(path, (then, then))


def test_what_dead_launches_left_is_removed_after_a_day(experiment):
    old, young = make(experiment / STAGING / "old"), make(experiment / STAGING / "young")
    half, whole = experiment / SNAPSHOTS / ".new.1.a", experiment / SNAPSHOTS / "0123"
    for path in (half, whole):
        path.mkdir()
    for path in (old, half, whole):
        aged(path, 25)
    aged(young, 23)
    claims.sweep_staging(str(experiment))
    assert [path.exists() for path in (old, half, whole, young)] == [False, False, True, True]
    assert os.listdir(experiment / STAGING) == ["young"]


DEAD = {**processes.this(), "boot": "before"}
LAUNCHES = [  # what launches say that are at work -> whether what lies in staging/ may go at once
    ([], False),
    ([DEAD], True),
    ([DEAD, {**DEAD, "pid": 1}], True),
    ([DEAD, processes.this()], False),
    ([processes.this()], False),
    ([DEAD, {**DEAD, "host": "elsewhere"}], False),
    ([DEAD, None], False),
]


@pytest.mark.parametrize(("launches", "over"), LAUNCHES)
def test_what_launches_left_goes_at_once_when_all_that_staged_are_known_to_have_ended(experiment, launches, over):
    make(experiment / STAGING / "it's $HOME")
    (experiment / STAGING / "half").mkdir()
    (experiment / STAGING / ".now.1.a").mkdir()  # somebody's look at the clock
    for number, told in enumerate(launches):
        (experiment / STAGING / f".launch-{number}").write_text(json.dumps(told) if told else "")
    before = sorted(os.listdir(experiment / STAGING))
    claims.sweep_staging(str(experiment))
    assert sorted(os.listdir(experiment / STAGING)) == ([".now.1.a"] if over else before)


def test_a_launch_says_that_it_is_at_work_until_it_has_staged_or_was_broken_off(experiment):
    with claims.at_work(str(experiment), "one"):
        (path,) = (experiment / STAGING).iterdir()
        assert processes.alive(json.loads(path.read_text())) is True
    assert os.listdir(experiment / STAGING) == []
    with pytest.raises(KeyboardInterrupt), claims.at_work(str(experiment), "one"):
        raise KeyboardInterrupt
    assert os.listdir(experiment / STAGING) == [path.name]


def test_a_staged_run_that_another_launch_puts_in_place_meanwhile_is_passed_over(experiment, monkeypatch):
    make(experiment / STAGING / "one")
    listed = os.scandir

    def scandir(path):
        entries = list(listed(path))
        if str(path).endswith(STAGING) and "one" in [entry.name for entry in entries]:
            os.rename(experiment / STAGING / "one", experiment / "one")
        return nullcontext(entries)

    monkeypatch.setattr(os, "scandir", scandir)
    claims.sweep_staging(str(experiment))
    assert (experiment / "one" / "run.json").exists()
