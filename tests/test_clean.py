"""farmx clean: what has ended goes, whole or not at all, and only what was shown; what lives, waits or begins stays."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from attempts import TORN, attempt, ended, staged
from commands import Project, key
from conftest import BIN
from faults import KILL, Fault
from launching import PATIENCE_S, Place, python, until
from rights import ordinary_rights
from typed import Typed, everything

from farmx import checkpoints, clean, layout, manifest, naming
from farmx.errors import RecordError
from farmx.farms import local
from farmx.spec import Job, Run, State

OLD = 1_000_000_000


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FARMX_LOGROOT", str(tmp_path / "logs"))
    return Place(tmp_path)


@pytest.fixture
def typed(place, monkeypatch, capfd, tmp_path) -> Typed:
    return Typed(monkeypatch, capfd, tmp_path)


@pytest.fixture
def all_states(place):
    """A run in each state that records can say, named by it, and one that farmx did not launch."""
    for state in State:
        if state not in (State.STAGED, State.QUEUED, State.RUNNING, State.PREEMPTED):
            attempt(staged(place, name=state.value), "1.0", {"main": b"said\n"}, state.value)
    staged(place, name="staged")
    attempt(staged(place, name="running"), "1.0", {"main": b""}, None)
    local.announce(place.submission(Job(str(staged(place, name="queued")), "1.0")))
    (place.experiment / "runx").mkdir()
    (place.experiment / "runx/hparams.json").write_text("{}")
    return place


def runs(place: Place) -> list[Run]:
    return naming.find(str(place.experiment.parent), ["sweep"])


def visible(place: Place) -> list[str]:
    return sorted(name for name in os.listdir(place.experiment) if not name.startswith("."))


# ---------------------------------------------------------------- which runs


GOES = [
    ("", ["cancelled", "done", "failed", "interrupted", "lost", "pruned"]),
    ("--failed", ["cancelled", "failed"]),
    ("--snapshots", []),
    ("--checkpoints keep=1", []),
    ("--failed --checkpoints 1 --snapshots", ["cancelled", "failed"]),
]


@pytest.mark.parametrize("options, gone", GOES)
def test_what_has_ended_goes_and_what_lives_or_waits_stays(all_states, typed, options, gone):
    before = visible(all_states)
    said = typed(f"farmx clean sweep -y {options}")
    assert said.code == 0
    assert visible(all_states) == [name for name in before if name not in gone]
    if gone:
        assert said.err.splitlines()[-1] == f"removed {len(gone)} of {len(gone)}"
    else:
        assert said.out == "nothing to remove\n"
    assert not (all_states.experiment / ".farmx/trash").exists()


def test_what_would_go_is_shown_first_and_without_a_terminal_nothing_goes(all_states, typed):
    before = everything(all_states.experiment)
    said = typed("farmx clean failed cancelled running queued")
    assert (said.code, everything(all_states.experiment)) == (2, before)
    sizes = clean.measured(clean.plan([run for run in runs(all_states) if run.name == "failed"], clean.Wish()).items)
    assert said.out.splitlines()[1] == f"        failed  failed  {sizes}"
    assert said.out.splitlines()[0].startswith("remove  2 runs: ")
    assert said.err == (
        "note    the next launch of their sweep file runs again what is removed\n"
        "left    1 running, 1 queued\n"
        "farmx: there is no terminal to ask on; give -y to remove this\n"
    )


WRONG = [
    ("farmx clean", "EXPERIMENT|RUN... is missing; see farmx clean --help"),
    ("farmx clean nope", "no experiment or run named 'nope' in LOGROOT; known: sweep"),
    (
        "farmx clean sweep --checkpoints keep=0",
        "--checkpoints: '0' is not a whole number above 0; see farmx clean --help",
    ),
    (
        "farmx clean sweep --checkpoints all",
        "--checkpoints: 'all' is not a whole number above 0; see farmx clean --help",
    ),
]


@pytest.mark.parametrize("line, told", WRONG)
def test_a_wrong_line_is_told_and_removes_nothing(place, typed, line, told):
    before = everything(place.experiment)
    assert typed(line) == (2, "", f"farmx: {told.replace('LOGROOT', str(place.experiment.parent))}\n")
    assert everything(place.experiment) == before


@pytest.mark.parametrize("answer, left", [("y", []), ("n", ["one"]), ("", ["one"])])
def test_on_a_terminal_it_asks(place, tmp_path, answer, left):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [BIN / "farmx", "clean", "one"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    text = b""

    def asked() -> bool:
        nonlocal text
        text += os.read(ours, 65536)
        return b"Remove this? [y/N]" in text

    until(asked)
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(timeout=PATIENCE_S) == 0
    os.close(ours)
    assert visible(place) == left


SOONER = "from farmx.cli import screen; screen.BAR_AFTER_S = -1.0; from farmx.__main__ import farmx; farmx()"


def test_on_a_terminal_a_bar_shows_how_far_it_is(place, tmp_path):
    for number in range(50):
        attempt(staged(place, name=f"run{number}"), "1.0", {"main": b""}, "failed")
    begun(place.experiment / "run7")
    line = f'python -c "{SOONER}" clean sweep -y'
    done = subprocess.run(["script", "-qec", line, "/dev/null"], cwd=tmp_path, capture_output=True, text=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stdout)
    bars = re.findall(r"(measuring|removing) \W+ (\d+)/(\d+) ", plain)
    whole = [(what, total) for what, made, total in bars if made == total]
    assert list(dict.fromkeys(whole)) == [("measuring", "49"), ("removing", "49")], plain
    assert "removed 49 of 49" in plain and visible(place) == ["run7"]


def test_a_removed_run_is_launched_again_as_the_next_of_its_point(project: Project):
    project.ok("sweep.yml", "-i")
    first, second = project.runs()
    gone, stays = key(first)[0], key(second)[0]
    project.ok("clean", f"sweep/{first.name}", "-y")
    project.ok("sweep.yml", "-i")
    assert project.again() == {(gone, 2): "done", (stays, 1): "done"}


def test_a_directory_that_may_not_be_written_goes_too(place, typed):
    run = staged(place)
    attempt(run, "1.0", {"main": b""}, "done")
    (run / "out/deep").mkdir(parents=True)
    (run / "out/deep/file").touch()
    for name in ("out/deep", "out"):
        (run / name).chmod(0o555)
    assert typed("farmx clean one -y").code == 0
    assert (visible(place), os.listdir(place.experiment / ".farmx/submissions")) == ([], [])


# ---------------------------------------------------------------- meanwhile


def begun(run: Run | Path) -> None:
    """Somebody's runner takes the next attempt."""
    path = Path(run.path if isinstance(run, Run) else run)
    attempt(path, "2.0", {"main": b""}, None)


def removed(items: tuple[clean.Item, ...]) -> tuple[int, list[str]]:
    told: list[str] = []
    return clean.remove(items, lambda item, why: told.append(f"{item} {why}")), told


def test_a_run_that_was_started_since_it_was_shown_stays(place):
    for name in ("one", "two"):
        attempt(staged(place, name=name), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    begun(place.experiment / "one")
    assert removed(items) == (1, ["one is running now"])
    assert visible(place) == ["one"]


def test_a_run_that_was_started_and_has_ended_since_stays(place):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    ended(attempt(place.experiment / "one", "2.0", {"main": b"better\n"}, None), "done")
    assert removed(items) == (0, ["one was changed or removed meanwhile"])


def test_a_run_that_was_queued_since_stays(place):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    local.announce(place.submission(Job(str(place.experiment / "one"), "2.0")))
    assert removed(items) == (0, ["one is queued now"])


def test_a_run_that_is_taken_at_the_last_moment_is_back_in_its_place(place, monkeypatch):
    """After the last look, before its directory is renamed."""
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    before, real = everything(place.experiment / "one"), os.rename
    monkeypatch.setattr(os, "rename", lambda *paths: (begun(items[0].run), monkeypatch.undo(), real(*paths)))
    assert removed(items) == (0, ["one was used meanwhile"])
    after = everything(place.experiment / "one")
    assert {name for name in after if name not in before and name.count("/") == 1} == {"attempts/2.0"}
    assert before.items() <= after.items()


def test_a_run_in_use_whose_name_was_taken_meanwhile_is_kept_under_another(place, monkeypatch):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    real = os.rename

    def taken(source, target):
        begun(items[0].run)
        monkeypatch.undo()
        real(source, target)
        (place.experiment / "one" / "anothers").mkdir(parents=True)

    monkeypatch.setattr(os, "rename", taken)
    (told,) = removed(items)[1]
    (kept,) = set(visible(place)) - {"one"}
    assert told == f"one was used meanwhile; its name was taken, it is {kept} now"
    assert sorted(os.listdir(place.experiment / kept / "attempts")) == ["1.0", "2.0"]
    assert os.listdir(place.experiment / "one") == ["anothers"]


def test_a_rename_that_nfs_repeated_has_happened(place, monkeypatch):
    """The second call finds nothing left to rename."""
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *paths: (real(*paths), monkeypatch.undo(), real(*paths)))
    assert removed(items) == (1, [])
    assert (visible(place), (place.experiment / ".farmx" / layout.TRASH).exists()) == ([], False)


def test_a_run_that_somebody_removes_at_the_last_moment_is_told(place, monkeypatch):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *paths: (shutil.rmtree(paths[0]), monkeypatch.undo(), real(*paths)))
    assert removed(items) == (0, ["one was removed meanwhile"])
    assert visible(place) == []


def test_what_was_used_is_back_where_a_file_server_repeats_the_rename(place, monkeypatch):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    real = os.rename

    def twice(source, target, **more):
        if source.endswith("/one"):
            begun(items[0].run)
        for _ in range(2):
            real(source, target, **more)

    monkeypatch.setattr(os, "rename", twice)
    assert removed(items) == (0, ["one was used meanwhile"])
    assert sorted(os.listdir(place.experiment / "one" / "attempts")) == ["1.0", "2.0"]


def test_what_somebody_removed_or_renamed_meanwhile_is_told(place):
    for name in ("one", "two"):
        attempt(staged(place, name=name), "1.0", {"main": b""}, "failed")
    items = clean.plan(runs(place), clean.Wish()).items
    shutil.rmtree(place.experiment / "one")
    (place.experiment / "two").rename(place.experiment / "three")
    assert removed(items) == (0, [f"{name} was changed or removed meanwhile" for name in ("one", "two")])
    assert visible(place) == ["three"]


def test_killed_at_any_step_a_run_is_whole_or_gone(project: Project):
    """Every step of a clean of two runs in turn: no run is visible in part, and the same command finishes."""
    project.ok("sweep.yml", "-i", "--tag", "run", "--no-cooldir")
    kept = project.path.parent / "kept"
    shutil.copytree(project.root, kept, symlinks=True)
    whole = {path.name: sorted(everything(path)) for path in project.runs()}
    steps = project("clean", "sweep", "-y", fault=Fault(str(project.root))).steps
    assert steps > 4  # deleting is no step of these: it happens where nobody looks
    for step in range(1, steps + 1):
        shutil.rmtree(project.root)
        shutil.copytree(kept, project.root, symlinks=True)
        project("clean", "sweep", "-y", fault=Fault(str(project.root), step, KILL))
        for path in project.runs():
            assert sorted(everything(path)) == whole[path.name], step
        assert [name for name in os.listdir(project.experiment) if name not in {".farmx", *whole}] == []
        project.ok("clean", "sweep", "-y")
        assert project.runs() == []


def test_what_a_killed_clean_left_goes_with_a_later_one(place, typed, monkeypatch):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    trash = place.experiment / ".farmx" / layout.TRASH
    shutil.copytree(place.experiment / "one", trash / "old", symlinks=True)
    assert [run.name for run in runs(place)] == ["one"]
    assert typed("farmx clean one -y").code == 0
    assert os.listdir(trash) == ["old"]  # another clean may be at it
    for name in ("attempts/1.0", "attempts"):
        (trash / "old" / name).chmod(0o555)
    monkeypatch.setattr(clean, "STALE_S", -60.0)
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    with ordinary_rights():
        assert typed("farmx clean one -y").code == 0
    assert not trash.exists()


STOPPED = """
import os
from farmx import clean, status
real = os.rename
def rename(source, target, **more):
    real(source, target, **more)
    if sys.argv[2] in str(source) and "/trash/" in target:
        os.kill(os.getpid(), 9)
os.rename = rename
runs = status.read(sys.argv[1], "sweep").runs
clean.remove(clean.plan(runs, clean.Wish(snapshots=sys.argv[2] == "/snapshots/")).items, print)
"""


def killed(place: Place, part: str) -> None:
    """A clean that is killed once it has taken away what has this in its path."""
    with python(STOPPED, str(place.experiment.parent), part) as process:
        assert process.wait() == -9


@pytest.mark.parametrize("name", ["one", "it's $HOME; größe.v1.0", "x.1.deadbeef.run"])
@pytest.mark.parametrize("taken", [False, True])
def test_a_run_that_a_killed_clean_took_away_and_had_not_looked_at_again_comes_back(
    place, typed, monkeypatch, name, taken
):
    attempt(staged(place, name=name), "1.0", {"main": b""}, "failed")
    killed(place, f"/{name}")
    (aside,) = (place.experiment / ".farmx" / layout.TRASH).iterdir()
    (aside / "attempts" / "2.0").mkdir()  # it had begun
    before = everything(aside)
    attempt(staged(place, name="two"), "1.0", {"main": b""}, "failed")
    if taken:
        attempt(staged(place, name=name), "1.0", {"main": b""}, "failed")
        (place.experiment / name / "another's").touch()
    assert typed("farmx clean sweep/two -y").code == 0
    assert everything(aside) == before  # that clean may be at it
    monkeypatch.setattr(clean, "STALE_S", -60.0)
    attempt(staged(place, name="two"), "1.0", {"main": b""}, "failed")
    said = typed("farmx clean sweep/two -y")
    (back,) = set(visible(place)) - ({name} if taken else set())
    also = f"; its name was taken, it is {back} now" if taken else ""
    told = f"left    {name} is back: a clean that was killed had yet to see whether it is used{also}\n"
    assert (said.code, said.err.splitlines(keepends=True)[-2:]) == (1, [told, "removed 1 of 1\n"])
    assert everything(place.experiment / back) == before
    assert not aside.parent.exists()


def test_a_snapshot_that_a_killed_clean_took_away_and_had_not_looked_at_again_comes_back(place, typed, monkeypatch):
    first, second = snapshots(place)
    for again in (False, True):  # again: somebody made it anew meanwhile
        for each in (first, second):
            os.utime(place.experiment / ".farmx/snapshots" / each, (OLD, OLD))
        killed(place, "/snapshots/")
        assert kept(place) == [first]
        assert not again or place.snapshot() == second
        shutil.copytree(place.experiment / "one", place.experiment / "two", symlinks=True)
        with monkeypatch.context() as patched:
            patched.setattr(clean, "STALE_S", -60.0)
            typed("farmx clean sweep/two -y")
        assert (kept(place), visible(place)) == (sorted([first, second]), ["one"])


def test_what_cannot_be_removed_is_one_line(place, typed):
    attempt(staged(place), "1.0", {"main": b""}, "failed")
    (place.experiment / ".farmx" / layout.TRASH).touch()
    said = typed("farmx clean one -y")
    assert (said.code, said.err.splitlines()[-2:]) == (
        1, ["left    one cannot be removed: File exists", "removed 0 of 1"])  # fmt: skip
    assert visible(place) == ["one"]


NAMES = ["1", "it's $HOME; größe", "two"]


@pytest.mark.parametrize("options", ["", "--checkpoints keep=1"])
def test_what_others_let_nobody_remove_stays_and_all_else_goes(place, typed, options):
    """As runs of another user, whose umask is 022, in an experiment that several share."""
    for name in NAMES:
        attempt(staged(place, name=name), "1.0", {"main": b""}, "failed")
        saved(place.experiment / name, [1, 2, 3])
    theirs = place.experiment / NAMES[1]
    before = everything(theirs)
    theirs.chmod(0o555)
    try:
        with ordinary_rights():
            said = typed(f"farmx clean sweep -y {options}")
    finally:
        theirs.chmod(0o755)
    told = [f"left    {NAMES[1]} cannot be removed: Permission denied", "removed 2 of 3"]
    assert (said.code, said.err.splitlines()[-2:]) == (1, told)
    assert everything(theirs) == before
    gone = [name for name in NAMES if not (place.experiment / name / "last_checkpoint_ep0.pth").exists()]
    assert gone == [NAMES[0], NAMES[2]]
    assert visible(place) == sorted(NAMES if options else [NAMES[1]])


# ---------------------------------------------------------------- what is not under LOGROOT


@pytest.fixture
def moved(place, tmp_path) -> Path:
    """Where the run `one`, which has failed, was moved to; a link is in its place."""
    run, elsewhere = staged(place), tmp_path / "big disk" / "one"
    attempt(run, "1.0", {"main": b""}, "failed")
    saved(run, [1, 2, 3])
    elsewhere.parent.mkdir()
    run.rename(elsewhere)
    elsewhere.chmod(0o750)
    return elsewhere


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("options", ["", "--failed", "--checkpoints keep=1", "--failed --checkpoints 1 --snapshots"])
def test_a_run_that_is_a_link_to_another_disk_stays_with_all_it_leads_to(place, typed, moved, relative, options):
    link = place.experiment / "one"
    link.symlink_to(os.path.relpath(moved, link.parent) if relative else moved)
    before = everything(moved), everything(place.experiment), moved.stat().st_mode
    said = typed(f"farmx clean one -y {options}")
    assert (said.code, said.out) == (0, "nothing to remove\n")
    assert said.err.splitlines()[0] == f"left    one, a link to {os.readlink(link)}: remove that and the link by hand"
    assert (everything(moved), everything(place.experiment), moved.stat().st_mode) == before


def test_a_run_that_became_a_link_since_it_was_shown_stays(place, moved):
    link = place.experiment / "one"
    moved.rename(link)
    items = clean.plan(runs(place), clean.Wish()).items
    link.rename(moved)
    link.symlink_to(moved)
    before = everything(moved)
    assert removed(items) == (0, ["one is a link now"])
    assert (os.readlink(link), everything(moved)) == (str(moved), before)


def test_a_snapshot_that_is_a_link_stays(place, typed, tmp_path):
    first, second = snapshots(place)
    link = place.experiment / ".farmx/snapshots" / second
    link.rename(tmp_path / "code")
    link.symlink_to(tmp_path / "code")
    os.utime(link, (OLD, OLD), follow_symlinks=False)
    before = everything(tmp_path / "code")
    assert typed("farmx clean sweep --snapshots -y").out == "nothing to remove\n"
    assert (kept(place), everything(tmp_path / "code")) == (sorted([first, second]), before)


def test_a_snapshot_that_became_a_link_since_it_was_shown_stays(place, tmp_path):
    _, second = snapshots(place)
    items = clean.plan(runs(place), clean.Wish(snapshots=True)).items
    link = place.experiment / ".farmx/snapshots" / second
    link.rename(tmp_path / "code")
    link.symlink_to(tmp_path / "code")
    assert removed(items) == (0, [f"{second} was used meanwhile"])
    assert os.readlink(link) == str(tmp_path / "code")


def test_a_link_in_the_trash_goes_alone(place, typed, moved, monkeypatch):
    trash = place.experiment / ".farmx" / layout.TRASH
    trash.mkdir()
    (trash / "old").symlink_to(moved)
    before = everything(moved), moved.stat().st_mode
    monkeypatch.setattr(clean, "STALE_S", -60.0)
    attempt(staged(place, name="two"), "1.0", {"main": b""}, "failed")
    assert typed("farmx clean two -y").code == 0
    assert (trash.exists(), everything(moved), moved.stat().st_mode) == (False, *before)


# ---------------------------------------------------------------- how much


def test_a_file_counts_where_its_last_name_goes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/file").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a/file", tmp_path / "b/file")
    (tmp_path / "a/link").symlink_to("nowhere")
    a, b = (clean.Item("run", str(tmp_path / name)) for name in ("a", "b"))
    link = len("nowhere")
    assert clean.measured([a]) == (2, link)
    assert clean.measured([a, b]) == (3, 1000 + link)
    assert clean.measured([clean.Item("checkpoints", str(tmp_path / "a"), None, ("file", "gone"))]) == (1, 0)
    assert str(clean.Size(1, 2_000_000)) == "1 file, 2.0 MB"


# ---------------------------------------------------------------- checkpoints


def saved(folder: Path, metrics: list[float], keep: int = 1, delete_old: bool = False) -> None:
    """What logx leaves of these epochs."""
    writer = checkpoints.Checkpoints(str(folder), print)
    for epoch, metric in enumerate(metrics):
        writer.save({"w": [metric] * 100}, metric, epoch, True, delete_old, keep, {})


def stay(*names: str) -> list[str]:
    return sorted(f"{name.replace(' ', '_checkpoint_ep')}.pth" for name in names)


SPARE = [
    ([1, 2, 3, 4], 1, 1, ["best 3", "last 3"]),
    ([4, 3, 2, 1], 1, 1, ["best 0", "last 3"]),
    ([4, 3, 2, 1], 4, 1, ["best 0", "last 3"]),
    ([4, 3, 2, 1], 4, 2, ["best 0", "best 1", "last 2", "last 3"]),
    ([1, 4, 2, 3], 2, 2, ["best 1", "best 3", "last 2", "last 3"]),
    ([1], 1, 3, ["best 0", "last 0"]),
    ([float("nan"), float("nan")], 1, 1, ["last 1"]),
]


@pytest.mark.parametrize("metrics, kept, keep, names", SPARE)
def test_the_best_and_the_newest_checkpoints_stay(place, typed, metrics, kept, keep, names):
    run = staged(place)
    attempt(run, "1.0", {"main": b""}, "done")
    saved(run, metrics, kept)
    assert typed(f"farmx clean sweep --checkpoints keep={keep} -y").code == 0
    assert sorted(path.name for path in run.glob("*.pth")) == stay(*names)
    book = checkpoints.Checkpoints(str(run), print)
    assert book.newest(True)[0].epoch == len(metrics) - 1
    best = next((name for name in names if name.startswith("best")), None)
    assert book.best() == (best and str(run / stay(best)[0]))
    assert typed(f"farmx clean sweep --checkpoints keep={keep} -y").out == "nothing to remove\n"


def test_checkpoints_of_a_run_that_lives_or_without_a_record_stay(place, typed):
    for name, state in (("lives", None), ("bare", "done")):
        run = staged(place, name=name)
        attempt(run, "1.0", {"main": b""}, state)
        saved(run, [1, 2, 3])
    (place.experiment / "bare" / layout.CHECKPOINTS).unlink()
    before = everything(place.experiment / "lives"), everything(place.experiment / "bare")
    assert typed("farmx clean sweep --checkpoints keep=1 -y").out == "nothing to remove\n"
    assert (everything(place.experiment / "lives"), everything(place.experiment / "bare")) == before


@pytest.mark.parametrize("metrics, names, count", [
    ([1, 2], ["last 0"], "1 checkpoint"), ([1, 2, 3], ["last 0", "last 1"], "2 checkpoints"),
])  # fmt: skip
def test_only_checkpoints_go(place, typed, metrics, names, count):
    run = staged(place)
    attempt(run, "1.0", {"main": b""}, "done")
    saved(run, metrics)
    (run / "last_checkpoint_ep0.pth.mine").touch()
    before = set(everything(place.experiment))
    said = typed("farmx clean sweep --checkpoints keep=1 -y")
    gone = before - set(everything(place.experiment))
    assert sorted(gone) == [f"one/{name}" for name in stay(*names)]
    total, one, *_ = said.out.splitlines()
    assert total.startswith(f"remove  {count}: {len(names)} file")
    assert one.startswith(f"        one  done  {count}, ")


# ---------------------------------------------------------------- snapshots


def kept(place: Place) -> list[str]:
    return sorted(os.listdir(place.experiment / ".farmx/snapshots"))


def snapshots(place: Place) -> tuple[str, str]:
    """Two snapshots, made long ago: the first that of a run that is done, the second of nobody."""
    first = json.loads((staged(place) / "run.json").read_text())["digest"]
    attempt(place.experiment / "one", "1.0", {"main": b""}, "done")
    (place.source / "t.py").write_text("new")
    second = place.snapshot()
    for digest in (first, second):
        os.utime(place.experiment / ".farmx/snapshots" / digest, (OLD, OLD))
    return first, second


def test_a_snapshot_that_no_run_needs_goes(place, typed):
    first, second = snapshots(place)
    assert typed("farmx clean sweep --snapshots -y").code == 0
    assert kept(place) == [first]
    assert typed("farmx clean sweep --snapshots -y").out == "nothing to remove\n"


def test_with_the_run_that_needed_it_a_snapshot_goes(place, typed):
    snapshots(place)
    ended(place.experiment / "one/attempts/1.0", "failed")
    assert typed("farmx clean sweep --failed --snapshots -y").code == 0
    assert (kept(place), visible(place)) == ([], [])


def test_where_no_run_is_left_every_old_snapshot_goes(place, typed):
    snapshots(place)
    typed("farmx clean sweep -y")
    assert len(kept(place)) == 2
    said = typed("farmx clean sweep --snapshots -y")
    assert (said.code, said.err, kept(place)) == (0, "removed 2 of 2\n", [])


def test_a_young_snapshot_stays_and_one_that_was_asked_for_is_young(place, typed):
    first, second = snapshots(place)
    assert place.snapshot() == second
    said = typed("farmx clean sweep --snapshots -y")
    assert (said.out, said.err) == (
        "nothing to remove\n", "left    1 snapshot younger than a day: a launch may be about to use it\n"
    )  # fmt: skip
    assert kept(place) == sorted([first, second])
    shutil.copytree(place.experiment, place.experiment.parent / "two $HOME", symlinks=True)
    assert typed("farmx clean sweep 'two $HOME' --snapshots -y").err.splitlines() == [
        f"left    {name}: 1 snapshot younger than a day: a launch may be about to use it"
        for name in ("sweep", "two $HOME")
    ]


def test_a_snapshot_that_a_run_names_by_its_link_alone_stays(place, typed):
    first, second = snapshots(place)
    (place.experiment / "one/code").unlink()
    (place.experiment / "one/code").symlink_to(f"../.farmx/snapshots/{second}/code")
    assert typed("farmx clean sweep --snapshots -y").out == "nothing to remove\n"
    assert kept(place) == sorted([first, second])


def test_where_a_run_cannot_say_what_it_needs_no_snapshot_goes(place):
    snapshots(place)
    whole = runs(place)
    record = place.experiment / "it's $HOME/run.json"  # that appeared meanwhile
    record.parent.mkdir()
    record.write_text("{")
    assert clean.plan(whole, clean.Wish(snapshots=True)) == ((), (), (f"no snapshot goes: {record}: {TORN}",))


def test_a_snapshot_that_is_asked_for_at_the_last_moment_is_back_in_its_place(place, monkeypatch):
    first, second = snapshots(place)
    items = clean.plan(runs(place), clean.Wish(snapshots=True)).items
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *paths: (place.snapshot(), monkeypatch.undo(), real(*paths)))
    assert removed(items) == (0, [f"{second} was used meanwhile"])
    assert kept(place) == sorted([first, second])
    assert manifest.matches(str(place.experiment / ".farmx/snapshots" / second))


def bare(place: Place, count: int) -> list[str]:
    """So many snapshots that nobody needs, made long ago."""
    found = [place.experiment / ".farmx/snapshots" / f"{number:024x}" for number in range(count)]
    for path in found:
        (path / layout.TREE).mkdir(parents=True)
        os.utime(path, (OLD, OLD))
    return [path.name for path in found]


BROKEN = [
    (lambda path: path.write_text("torn"), RecordError, "run.json: cannot be read: it is not json"),
    (lambda path: os.kill(os.getpid(), signal.SIGINT), KeyboardInterrupt, "^$"),
]


@pytest.mark.parametrize("happens, error, message", BROKEN)
def test_a_look_that_fails_while_snapshots_are_aside_puts_them_back(place, monkeypatch, happens, error, message):
    """Whether anybody needs them by now is not known then: in the trash a later clean would take them."""
    first, _ = snapshots(place)
    bare(place, 2)
    items = clean.plan(runs(place), clean.Wish(snapshots=True)).items
    before, real = kept(place), os.rename
    seen = iter((0, 1))

    def failing(source, target):
        real(source, target)
        if next(seen) == 1:
            monkeypatch.undo()
            happens(place.experiment / "one/run.json")

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(error, match=message):
        removed(items)
    assert kept(place) == before
    assert os.listdir(place.experiment / ".farmx" / layout.TRASH) == []


def test_of_snapshots_that_go_together_only_the_one_in_use_is_back(place, monkeypatch):
    first, second = snapshots(place)
    bare(place, 2)
    items = clean.plan(runs(place), clean.Wish(snapshots=True)).items
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *paths: (place.snapshot(), monkeypatch.undo(), real(*paths)))
    assert removed(items) == (2, [f"{second} was used meanwhile"])
    assert kept(place) == sorted([first, second])
    assert not (place.experiment / ".farmx" / layout.TRASH).exists()


@pytest.mark.parametrize("count", [1, 10])
def test_records_of_runs_are_read_as_often_for_many_snapshots_as_for_one(place, monkeypatch, count):
    for name in ("one", "two", "three"):
        attempt(staged(place, name=name), "1.0", {"main": b""}, "done")
    bare(place, count)
    items = clean.plan(runs(place), clean.Wish(snapshots=True)).items
    read, real = [], layout.read_json
    monkeypatch.setattr(layout, "read_json", lambda path, newest: read.append(path) or real(path, newest))
    assert removed(items) == (count, [])
    assert sorted(read) == sorted(2 * [str(place.experiment / name / "run.json") for name in ("one", "two", "three")])


@pytest.mark.parametrize("name, meant", [("swe", "sweep"), ("on", "sweep/one"), ("swe/one", "sweep/one")])
def test_who_is_not_asked_writes_whole_names(place, typed, name, meant):
    attempt(staged(place), "1.0", {"main": b""})
    said = typed(f"farmx clean {name} -y")
    line = f"farmx: '{name}' alone begins {meant}; where nobody is asked names are whole: write {meant}\n"
    assert (said.code, said.out, said.err) == (2, "", line)
    assert visible(place) == ["one"]


@pytest.mark.parametrize("name", ["sweep", "sweep/", "one", "sweep/one", "sweep/one/"])
def test_a_whole_name_is_one(place, typed, name):
    attempt(staged(place), "1.0", {"main": b""})
    assert typed(f"farmx clean {name} -y").code == 0
    assert visible(place) == []
