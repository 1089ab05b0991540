"""launcher: the same command brings every point to a run and touches nothing else, whatever people did meanwhile."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from attempts import DAMAGED, TORN
from commands import Project, claims, key, read, staging
from launching import tree
from typed import Said, Typed, ran, write

from farmx import claims as claim
from farmx import layout, processes
from farmx.spec import State
from farmx.steps import TAKEN


def launched(project: Project, *argv: str, code: int = 0, **env) -> dict[str, list[str]]:
    """Launch in the foreground; what was said, by its first word."""
    done = project("sweep.yml", "-i", *argv, **env)
    assert done.code == code, done
    told: dict[str, list[str]] = {"farm": [], "code": [], "runs": [], "note": [], "next": []}
    for line in done.err.splitlines():
        word, _, rest = line.partition("  ")
        told.setdefault(word, []).append(rest)
    return told


def by_n(project: Project) -> dict[int, Path]:
    """The value of n -> its run, where each has one."""
    found = {key(path)[0]: path for path in project.runs()}
    assert len(found) == len(project.runs())
    return found


def records(project: Project) -> list[dict]:
    return [read(path) for path in sorted((project.experiment / ".farmx" / "launches").iterdir())]


# ---------------------------------------------------------------- what a launch leaves


def test_a_launch_leaves_a_run_a_claim_and_a_record_of_itself(project):
    told = launched(project)
    assert told["farm"] == ["this machine, one at a time"]
    assert told["code"] == ["2 files, 0.1 kB"]
    assert told["runs"] == [f"2: 2 new  in {project.experiment}"]
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
    runs = {read(path / "run.json")["point"] + ".1": path.name for path in project.runs()}
    assert claims(project.experiment) == runs
    assert staging(project.experiment) == []
    (record,) = records(project)
    assert record["counts"] == {"new": 2}
    assert record["argv"] == ["farmx", "sweep.yml", "-i"]
    assert (record["cwd"], record["sweep"]) == (str(project.path), str(project.path / "sweep.yml"))
    assert record["text"] == (project.path / "sweep.yml").read_text()
    assert record["snapshot"] == read(project.runs()[0] / "run.json")["digest"]
    assert sorted(os.listdir(project.root)) == ["sweep"]


def test_the_same_command_again_touches_nothing(project):
    launched(project)
    before = {path: tree(path) for path in project.runs()}
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]
    assert {path: tree(path) for path in project.runs()} == before
    assert len(project.starts()) == 2


def test_first_takes_points_in_order_and_the_rest_comes_later(project):
    project.sweep("{n: [1, 2, 3]}")
    assert launched(project, "--first", "2")["runs"] == [f"2: 2 new  in {project.experiment}"]
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
    assert launched(project)["runs"] == [f"3: 2 done, 1 new  in {project.experiment}"]
    assert project.again() == {(1, 1): "done", (2, 1): "done", (3, 1): "done"}


def test_a_new_value_is_a_new_run_and_a_value_taken_away_stays(project):
    launched(project)
    project.sweep("{n: [2, 3]}")
    assert launched(project)["runs"] == [f"2: 1 done, 1 new  in {project.experiment}"]
    assert project.again() == {(1, 1): "done", (2, 1): "done", (3, 1): "done"}


def test_a_value_spelled_otherwise_is_the_same_point(project):
    project.sweep("{n: [1, 0.5]}")
    launched(project)
    project.sweep("{n: [1.0, 5e-1, 1e0]}")
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]
    project.sweep("{n: ['1', 0.5]}")
    assert launched(project)["runs"] == [f"2: 1 new, 1 done  in {project.experiment}"]


def test_failed_and_cancelled_runs_are_left_and_the_command_for_them_is_told(project):
    project.sweep(cmd="sh work.sh")
    project.write("work.sh", "exit $2\n")
    launched(project, code=1)
    told = launched(project, code=1)
    assert told["runs"] == [f"2: 2 failed  in {project.experiment}"]
    assert told["next"] == ["sumx sweep", "farmx retry sweep  # 2 failed or cancelled"]
    attempts = [path.name for path in project.experiment.glob("*/attempts/*")]
    assert attempts == ["1.0", "1.0"]


@pytest.mark.parametrize("state", sorted({*map(str, State)} - {"queued", "running", "preempted"}))
def test_a_launch_takes_up_what_waits_and_leaves_the_rest(project, state):
    launched(project)
    one = by_n(project)[1]
    end = one / "attempts" / "1.0" / "end.json"
    if state == "staged":
        shutil.rmtree(one / "attempts")
    elif state == "interrupted":
        end.unlink()
    else:
        end.write_text(json.dumps({**read(end), "state": state}))
    told = project("sweep.yml", "-i").err
    taken = State(state) in TAKEN
    assert ("1 taken up" in told) == taken
    number = "1.0" if state == "staged" else "2.0"
    assert project.starts()[2:] == ([f"sweep/{one.name}/{number}"] if taken else [])


# ---------------------------------------------------------------- --again


def test_again_runs_every_point_once_more_each_time(project):
    for generation in (1, 2, 3):
        launched(project, "--again")
        expected = {(n, each): "done" for n in (1, 2) for each in range(1, generation + 1)}
        assert project.again() == expected
    launched(project)
    assert project.again() == expected
    assert len(project.starts()) == len(set(project.starts())) == 6


def test_again_continues_what_it_left_waiting(project):
    launched(project)
    launched(project, "--again")
    newest = next(path for path in project.runs() if key(path) == (2, 2))
    shutil.rmtree(newest / "attempts")
    assert launched(project, "--again")["runs"] == [f"2: 1 done, 1 taken up  in {project.experiment}"]
    assert sorted(project.again()) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_run_deleted_since_is_no_unfinished_again(project):
    launched(project)
    launched(project, "--again")
    shutil.rmtree(next(path for path in project.runs() if key(path) == (2, 2)))
    launched(project, "--again")
    assert sorted(project.again()) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3)]


def test_again_of_some_points_is_not_the_unfinished_one_of_all(project):
    launched(project)
    launched(project, "--again", "--first", "1")
    assert sorted(project.again()) == [(1, 1), (1, 2), (2, 1)]
    launched(project, "--again")
    assert sorted(project.again()) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]


def not_begun(project: Project, *keys: tuple[int, int]) -> None:
    """As if these runs, (value of n, generation), had not begun yet."""
    for path in project.runs():
        if key(path) in keys:
            shutil.rmtree(path / "attempts")


def test_again_of_more_points_goes_on_with_the_unfinished_one_of_some(project):
    launched(project)
    launched(project, "--again", "--first", "1")
    not_begun(project, (1, 2))
    assert launched(project, "--again")["runs"] == [f"2: 1 taken up, 1 new  in {project.experiment}"]
    assert project.again() == {(1, 1): "done", (1, 2): "done", (2, 1): "done", (2, 2): "done"}


def test_an_unfinished_again_is_continued_in_a_sweep_that_grew_and_with_a_point_that_was_run_once_more_since(project):
    launched(project)
    launched(project, "--again")
    not_begun(project, (2, 2))
    launched(project, "--again", "--first", "1")
    project.sweep("{n: [1, 2, 3]}")
    assert launched(project, "--again")["runs"] == [f"3: 1 done, 1 taken up, 1 new  in {project.experiment}"]
    assert sorted(project.again()) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]
    assert set(project.again().values()) == {"done"}


def test_changed_code_is_told_with_the_command_that_runs_it(project):
    launched(project)
    assert launched(project)["next"] == ["sumx sweep"]
    project.write("note.sh", (project.path / "note.sh").read_text() + "# new\n")
    told = launched(project)
    assert told["runs"] == [f"2: 2 done  in {project.experiment}"]
    assert told["next"][1].startswith("farmx sweep.yml -i --again")
    launched(project, "--again")
    assert len(project.starts()) == 4
    assert launched(project)["next"] == ["sumx sweep"]


def test_how_to_have_todays_code_is_told_as_it_can_be_typed(project):
    elsewhere = ("--logroot", "else where")
    launched(project, *elsewhere)
    for path in project.path.glob("else where/sweep/*/attempts"):
        shutil.rmtree(path)
    project.write("note.sh", (project.path / "note.sh").read_text() + "true\n")
    (note,) = launched(project, *elsewhere)["note"]
    assert note.endswith(" farmx retry --code now --state cancelled,interrupted,staged 'else where/sweep' takes that")


def test_a_generation_that_is_no_number_is_none(project):
    launched(project, "--again")
    (path,) = (project.experiment / ".farmx" / "launches").iterdir()
    record = read(path)
    path.write_text(json.dumps({**record, "again": dict(zip(record["again"], ("x", None)))}))
    launched(project, "--again")
    assert sorted(project.again()) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_what_is_taken_up_keeps_its_code_and_the_launch_says_so_and_how_to_have_todays(project):
    launched(project)
    not_begun(project, (1, 1), (2, 1))
    project.write("note.sh", (project.path / "note.sh").read_text() + "touch new\n")
    command = "farmx retry --code now --state cancelled,interrupted,staged sweep"
    note = f"2 taken up with their own code, today's has another note.sh; once stopped, {command} takes that"
    assert note in launched(project)["note"]
    assert [(path / "code" / "new").exists() for path in project.runs()] == [False, False]
    not_begun(project, (1, 1))
    project.ok(*command.split()[1:])
    assert sorted((path / "code" / "new").exists() for path in project.runs()) == [False, True]
    not_begun(project, (1, 1))
    project.sweep("{n: [1, 2, 3]}")
    assert [line for line in launched(project)["note"] if "their own code" in line] == []


# ---------------------------------------------------------------- what changed


@pytest.mark.parametrize("key_, old, new", [
    ("ENV", "ENV: {A: 1}", "ENV: {A: 2}"),
    ("ENV", "", "ENV: {A: 1}"),
    ("SETUP", "SETUP: 'true'", "SETUP: ':'"),
    ("RESOURCES", "RESOURCES: {gpu: 1}", "RESOURCES: {gpu: 2}"),
    ("RESOURCES", "RESOURCES: {mem: 4}", "RESOURCES: {mem: .inf}"),
    ("PYTHONPATH", "", "PYTHONPATH: LOGDIR/code/src"),
])  # fmt: skip
def test_a_change_outside_identity_is_told_once_and_makes_no_run(project, key_, old, new):
    (project.path / "src").mkdir()
    project.write("src/module.py", "")
    project.sweep(more=f"{old}\nCODE_IGNORE_PATTERNS: '*.yml'\n")
    launched(project)
    project.sweep(more=f"{new}\nCODE_IGNORE_PATTERNS: '*.yml'\n")
    told = launched(project)
    assert told["runs"] == [f"2: 2 done  in {project.experiment}"]
    whose = "left alone" if key_ == "RESOURCES" else "that are there"
    note = f"{key_} changed since the last launch; runs {whose} keep what they were staged with, --again makes new ones"
    assert [line for line in told["note"] if "changed" in line] == [note]
    assert [line for line in launched(project)["note"] if "changed" in line] == []


def test_another_sweep_file_of_the_same_name_is_told(project, tmp_path):
    launched(project)
    other = tmp_path / "other" / "sweep.yml"
    other.parent.mkdir()
    shutil.copy(project.path / "sweep.yml", other)
    done = project.ok(str(other), "-i")
    note = f"note  this experiment was launched from {project.path}/sweep.yml before; now from {other}"
    assert note in done.err.splitlines()
    assert len(project.starts()) == 2


# ---------------------------------------------------------------- what people do to directories


def test_a_renamed_run_is_not_made_again(project):
    launched(project)
    by_n(project)[1].rename(project.experiment / "my best; it's $HOME")
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]
    assert len(project.starts()) == 2
    assert "my best; it's $HOME" in project.states()


def test_a_renamed_run_that_waits_is_taken_up_under_its_new_name(project):
    launched(project, "--first", "1")
    run = by_n(project)[1]
    shutil.rmtree(run / "attempts")
    run.rename(project.experiment / "größe; $HOME")
    launched(project)
    assert "sweep/größe; $HOME/1.0" in project.starts()
    assert project.again() == {(1, 1): "done", (2, 1): "done"}


def test_a_deleted_run_is_made_as_the_next_generation(project):
    launched(project)
    shutil.rmtree(by_n(project)[1])
    assert launched(project)["runs"] == [f"2: 1 new, 1 done  in {project.experiment}"]
    assert project.again() == {(1, 2): "done", (2, 1): "done"}


def test_a_copied_run_is_not_mistaken_for_the_original(project):
    launched(project)
    run = by_n(project)[1]
    shutil.copytree(run, project.experiment / "a copy", symlinks=True)
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]
    shutil.rmtree(run / "attempts")
    launched(project)
    assert project.starts()[2:] == [f"sweep/{run.name}/1.0"]


def test_a_run_archived_outside_and_brought_back_is_found(project, tmp_path):
    launched(project)
    run = by_n(project)[1]
    shutil.move(run, tmp_path / "archive")
    shutil.move(tmp_path / "archive", project.experiment / "back")
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]


def test_an_experiment_copied_without_its_hidden_directory_makes_nothing_again(project):
    launched(project)
    shutil.rmtree(project.experiment / ".farmx")
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]
    assert len(project.starts()) == 2


def test_an_experiment_that_was_renamed_goes_on_under_its_new_name(project):
    launched(project)
    project.experiment.rename(project.root / "renamed")
    told = launched(project, "--exp-name", "renamed")
    assert told["runs"] == [f"2: 2 done  in {project.root}/renamed"]


def point(project: Project, n: int) -> str:
    """What the point of this value of n is, as another experiment of the same sweep tells."""
    project.ok("sweep.yml", "-i", "--exp-name", "other")
    (told,) = [read(path) for path in (project.root / "other").glob("*/run.json") if key(path.parent)[0] == n]
    return told["point"]


def broken_off(project: Project, launch: str = "l") -> Path:
    """A launch says that it makes runs, of a process that is no more; the file that says so."""
    path = project.experiment / ".farmx" / "staging" / f".launch-{launch}"
    path.write_text(json.dumps({"format": 1, **processes.this(), "boot": "before"}))
    return path


@pytest.mark.parametrize("left", [None, [], ["run.json"]])
def test_a_run_that_a_launch_claimed_and_did_not_make_is_made_under_its_name(project, left):
    project.sweep("{n: 1}")
    launched(project)
    project.sweep()
    other = point(project, 2)
    mark = broken_off(project)
    claim.take(str(project.experiment), "l", {(other, 1): "promised", ("p1-else", 1): "never"})
    for claimed in (f"{other}.1", "p1-else.1") if left is not None else ():
        (project.experiment / f".l.{claimed}").mkdir()
        for name in left:
            (project.experiment / f".l.{claimed}" / name).write_text("{")
    assert launched(project)["runs"] == [f"2: 1 done, 1 new  in {project.experiment}"]
    assert by_n(project)[2].name == "promised"
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
    assert not mark.exists()
    assert set(os.listdir(project.experiment)) == {".farmx", *(run.name for run in project.runs())}
    assert "p1-else.1" not in claims(project.experiment)


def test_a_name_that_a_launch_at_work_has_promised_is_given_to_no_other_run(project):
    """Else each of the runs of both would be named anew."""
    project.ok("sweep.yml", "-i", "--first", "1")  # which makes what claims go into
    mark = broken_off(project)
    mark.write_text(json.dumps({"format": 1, **processes.this(), "host": "elsewhere"}))
    claim.take(str(project.experiment), "l", {("p1-else", 1): "x"})
    project.ok("sweep.yml", "-i", "--no-cooldir", "--tag", "x")
    assert by_n(project)[2].name == "x_2"
    assert claims(project.experiment)["p1-else.1"] == "x"


def test_what_a_dead_launch_claimed_and_nobody_made_is_launched_anew(project):
    launched(project)
    one = by_n(project)[1]
    broken_off(project, "elsewhere")
    shutil.rmtree(one)  # of a launch that made all of its runs
    assert launched(project)["runs"] == [f"2: 1 new, 1 done  in {project.experiment}"]
    assert project.again() == {(1, 2): "done", (2, 1): "done"}
    assert staging(project.experiment) == []


@pytest.mark.parametrize("there", ["mine", "run.json"])
def test_a_name_that_somebody_took_before_its_run_was_made_is_left_to_him(project, there):
    """run.json: a copy of another run has the name."""
    launched(project)
    project.sweep("{n: [1, 2, 3]}")
    other = point(project, 3)
    broken_off(project)
    claim.take(str(project.experiment), "l", {(other, 1): "promised"})
    (project.experiment / "promised").mkdir()
    shutil.copy(by_n(project)[1] / "run.json", project.experiment / "promised" / there)
    project.ok("sweep.yml", "-i")
    assert os.listdir(project.experiment / "promised") == [there]
    *_, newest = (run for place, run in claims(project.experiment).items() if place.startswith(other))
    assert read(project.experiment / newest / "run.json")["point"] == other
    assert project("sweep.yml", "-i").err.count("1 new") == 0


def test_what_a_launch_that_died_long_ago_left_is_removed(project):
    launched(project)
    waiting = project.experiment / ".farmx" / "staging" / "old"  # as an earlier farmx staged runs
    shutil.copytree(by_n(project)[1], waiting, symlinks=True)
    os.utime(waiting, (1, 1))
    launched(project)
    assert staging(project.experiment) == []


def test_logroot_may_be_a_link(project, tmp_path):
    (tmp_path / "disk").mkdir()
    project.root.symlink_to(tmp_path / "disk")
    launched(project)
    launched(project)
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
    assert (tmp_path / "disk" / "sweep").is_dir()


def test_a_run_renamed_to_what_is_no_text_is_shown_and_retried(project):
    project.sweep(cmd="sh work.sh")
    project.write("work.sh", "exit 3\n")
    launched(project, code=1)
    by_n(project)[1].rename(os.fsdecode(os.fsencode(project.experiment) + b"/caf\xe9"))
    for argv in (["status", "sweep"], ["status", "sweep", "--json"], ["status"]):
        project.ok(*argv)
    project.write("work.sh", ". ./note.sh\n")
    project.ok("retry", "sweep", "-j", "1")
    project.ok("sweep.yml", "-i")
    assert set(project.again().values()) == {"done"}
    assert project("cancel", "sweep").code == 0


def test_a_name_that_another_launch_took_meanwhile_is_replaced_by_one_that_is_nobodys(monkeypatch, capfd, tmp_path):
    """Not by one that this launch has for a later run: else each run after it would be named anew, too."""
    write(tmp_path, {"sweep.yml": "CMD: 'true'\nHPARAMS: {n: [1, 2, 3]}\n",
                     ".farmx.yaml": "FARM: big\nbig: {SUBMIT_CMD: 'true {script}'}\n"})  # fmt: skip
    real, refused = os.mkdir, []

    def mkdir(path: str, *more: object, **others: object) -> None:
        if os.path.basename(path) == "x" and not refused:
            refused.append(path)
            write(tmp_path, {"runs/sweep/x/hparams.json": "{}"})  # which is in place by now
        real(path, *more, **others)

    monkeypatch.setattr(os, "mkdir", mkdir)
    typed = Typed(monkeypatch, capfd, tmp_path)
    assert typed("farmx sweep.yml --no-cooldir --tag x").code == 0
    runs = {path.parent.name: read(path)["hparams"]["n"] for path in (tmp_path / "runs/sweep").glob("*/run.json")}
    assert (runs, len(refused)) == ({"x_4": 1, "x_2": 2, "x_3": 3}, 1)
    assert staging(tmp_path / "runs/sweep") == []


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("step", ["mkdir", "open"])
def test_a_run_that_another_launch_made_just_before_us_stays_as_that_made_it(monkeypatch, capfd, tmp_path, step, begun):
    """begun: it runs already. Of who makes a run at the same moment as another one fails."""
    write(tmp_path, {"sweep.yml": "CMD: 'true'\n", ".farmx.yaml": "FARM: big\nbig: {SUBMIT_CMD: 'true {script}'}\n"})
    home, real = tmp_path / "runs/sweep", getattr(os, step)
    theirs: dict[str, str] = {}

    def meanwhile(path: str, *more: object, **others: object) -> object:
        if path == {"mkdir": "x", "open": "x/run.json"}[step] and others.get("dir_fd") and not theirs:
            ((identity, generation),) = [name.rsplit(".", 1) for name in claims(home)]
            told = {"format": layout.RUN_FORMAT, "point": identity, "generation": int(generation)}
            theirs.update({"x/run.json": json.dumps(told), **({"x/attempts/1.0/owner.json": "{}"} if begun else {})})
            write(home, theirs)
        return real(path, *more, **others)

    typed = Typed(monkeypatch, capfd, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, step, meanwhile)
        said = typed("farmx sweep.yml --no-cooldir --tag x")
    assert (said.code, "1 taken by another launch" in said.err) == (0, True), said.err
    assert sorted(os.listdir(home)) == [".farmx", "x"]
    assert {f"x/{name}": text for name, text in tree(home / "x").items() if text} == theirs


@pytest.mark.parametrize("step", ["mkdir", "open"])
def test_a_name_that_two_launches_promised_is_its_who_began_first(monkeypatch, capfd, tmp_path, step):
    """They claimed at once. Another goes on with what one did not make, while the other one stands at this step."""
    write(tmp_path, {"sweep.yml": "CMD: 'true'\nHPARAMS: {n: [2]}\n",
                     ".farmx.yaml": "FARM: big\nbig: {SUBMIT_CMD: 'true {script}'}\n"})  # fmt: skip
    home, real, typed = tmp_path / "runs/sweep", getattr(os, step), Typed(monkeypatch, capfd, tmp_path)
    assert typed("farmx sweep.yml --no-cooldir --tag x").code == 0
    (two,) = claims(home)
    shutil.rmtree(home)
    write(tmp_path, {"sweep.yml": "CMD: 'true'\nHPARAMS: {n: [1]}\n"})

    def meanwhile(path: str, *more: object, **others: object) -> object:
        found = real(path, *more, **others)
        if path == {"mkdir": "x", "open": "x/run.json"}[step] and others.get("dir_fd"):
            patched.undo()
            claim.take(str(home), "other", {(two.rpartition(".")[0], 1): "x"})
            write(home, {".farmx/staging/.launch-other": json.dumps({**processes.this(), "format": 1})})
            write(tmp_path, {"sweep.yml": "CMD: 'true'\nHPARAMS: {n: [2]}\n"})
            theirs.append(ran("farmx sweep.yml --no-cooldir --tag x", tmp_path))
        return found

    theirs: list[Said] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, step, meanwhile)
        assert typed("farmx sweep.yml --no-cooldir --tag x").code == 0
    assert [each.code for each in theirs] == [0], theirs
    assert {path.parent.name: key(path.parent) for path in home.glob("*/run.json")} == {"x": (1, 1), "x_2": (2, 1)}


def test_a_point_whose_claimed_name_is_another_points_is_made_once(project):
    """By the launch that goes on with it while that which claimed it is at work, or when it was broken off."""
    project.sweep("{n: 1}")
    launched(project)
    project.sweep()
    other = point(project, 2)
    broken_off(project)
    claim.take(str(project.experiment), "l", {(other, 1): by_n(project)[1].name})
    assert launched(project)["runs"] == [f"2: 1 done, 1 new  in {project.experiment}"]
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]


def test_a_launch_that_cannot_say_that_it_is_at_work_claims_nothing(monkeypatch, capfd, tmp_path):
    """Else another would take what it has not made yet for deleted, and make it, too."""
    write(tmp_path, {"sweep.yml": "CMD: 'true'\n"})
    typed, real = Typed(monkeypatch, capfd, tmp_path), os.open

    def full(path: str, *more: object, **others: object) -> int:
        if ".launch-" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *more, **others)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        said = typed("farmx sweep.yml -i")
    assert (said.code, said.err.count("\n"), "No space left on device" in said.err) == (3, 1, True), said.err
    assert claims(tmp_path / "runs/sweep") == {}
    assert typed("farmx sweep.yml -i").code == 0


def test_a_point_that_cannot_be_claimed_gets_no_run(monkeypatch, capfd, tmp_path):
    write(tmp_path, {"sweep.yml": "CMD: 'true'\n"})

    def refused(target: str, path: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", target, None, path)

    monkeypatch.setattr(os, "symlink", refused)
    assert Typed(monkeypatch, capfd, tmp_path)("farmx sweep.yml -i").code == 3
    assert os.listdir(tmp_path / "runs/sweep") == [".farmx"]


# ---------------------------------------------------------------- LOGROOT in the tree


def test_a_logroot_in_the_tree_is_no_code_and_not_gits(project):
    for _ in range(2):
        assert launched(project, FARMX_LOGROOT="runs")["code"] == ["2 files, 0.1 kB"]
    assert (project.path / "runs" / ".gitignore").read_text() == "*\n"
    assert (project.path / "runs" / "sweep").is_dir()


def test_a_logroot_in_the_tree_by_another_way_is_no_code_either(project, tmp_path):
    (tmp_path / "home").symlink_to(project.path)
    for _ in range(2):
        told = launched(project, FARMX_LOGROOT=str(tmp_path / "home" / "runs"))
        assert told["code"] == ["2 files, 0.1 kB"]
    assert (project.path / "runs" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(("there", "ignored"), [
    ([], True), (["default/metrics.jsonl"], True), (["old/.farmx/x"], True),
    (["notes.txt"], False), (["mine/x"], False),
])  # fmt: skip
def test_a_logroot_that_was_there_is_kept_out_of_git_unless_it_holds_more_than_runs(project, there, ignored):
    for name in ["", *there]:
        path = project.path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("") if name else path.mkdir(exist_ok=True)
    launched(project, FARMX_LOGROOT="runs")
    assert (project.path / "runs" / ".gitignore").exists() == ignored


def test_a_logroot_of_the_repository_is_kept_out_of_git_from_wherever_it_is_launched(project, shell):
    shell("git init -q .", cwd=project.path)
    (project.path / "sub").mkdir()
    assert project("../sweep.yml", "-i", cwd=project.path / "sub", FARMX_LOGROOT="../logs").code in (0, 1)
    assert shell("git status --short", cwd=project.path).count("logs") == 0


# ---------------------------------------------------------------- damaged records


STOPPING = ["RUN/run.json", "RUN/attempts/1.0/end.json", ".farmx/submissions/S/job.json"]


@pytest.mark.parametrize("name", STOPPING)
def test_a_damaged_record_is_one_line_with_its_path_and_nothing_starts(project, name):
    launched(project)
    (submission,) = os.listdir(project.experiment / ".farmx" / "submissions")
    path = project.experiment / name.replace("RUN", by_n(project)[1].name).replace("S", submission)
    for text, why in DAMAGED.items():
        path.write_text(text)
        assert project("sweep.yml", "-i").line(3) == f"{path}: {why}", text
        retried = project("retry", "sweep")
        assert (retried.code, retried.err.count(f"{path}: {why}\n")) == (3, 1), text
        assert len(project.starts()) == 2, text


def test_a_damaged_owner_is_one_line_and_nothing_starts(project):
    launched(project)
    attempt = by_n(project)[1] / "attempts" / "1.0"
    (attempt / "end.json").unlink()
    (attempt / "owner.json").write_text("{")
    assert project("sweep.yml", "-i").line(3) == f"{attempt}/owner.json: {TORN}"
    assert len(project.starts()) == 2


NONSENSE = [
    *DAMAGED,
    "{}",
    '{"again": null, "shared": null, "sweep": null}',
    '{"shared": [], "sweep": "x"}',
    '{"again": [], "sweep": "x"}',
    '{"again": {"p": 1}, "sweep": "x", "shared": 1}',
    '{"again": 7}',
]


@pytest.mark.parametrize("argv", [[], ["--again"]])
def test_a_damaged_record_of_a_launch_is_no_record(project, argv):
    launched(project)
    for turn, text in enumerate(NONSENSE, 1):
        for path in (project.experiment / ".farmx" / "launches").iterdir():
            path.write_text(text)
        launched(project, *argv)
        assert len(project.starts()) == (2 + 2 * turn if argv else 2), text


@pytest.mark.parametrize("text", ["", "\n\n", "1.0\n", "x y z\n", "1.0 " + "a" * 999, "1.0 ../..\n", "\udcff\udcfe"])
def test_damaged_lines_of_a_submission_hold_nothing(project, text):
    launched(project)
    (submission,) = (project.experiment / ".farmx" / "submissions").iterdir()
    (submission / "runs").write_bytes(text.encode(errors="surrogateescape"))
    launched(project)
    assert len(project.states()) == len(project.starts()) == 2


# ---------------------------------------------------------------- what is wrong before anything is made


def test_a_variable_to_pass_that_is_not_set_makes_nothing(project):
    project.sweep(more="ENV_PASS: [A_SECRET]\n")
    told = "ENV_PASS: A_SECRET is not set in this shell; export it or take it off the list"
    assert project("sweep.yml", "-i").line(2) == told
    assert not project.root.exists()
    project.ok("sweep.yml", "-i", A_SECRET="s;")
    assert "s;" not in "".join(tree(project.runs()[0]).values())


@pytest.mark.parametrize(
    "hparams, cmd, word",
    [
        ("{n: [1]}", "sh note.sh data/x.bin", "data/x.bin"),
        ("{n: [data/x.bin]}", "sh note.sh", "data/x.bin"),
        ("{n: [1]}", "sh note.sh --data=data/x.bin", "data/x.bin"),
        ("{n: [1]}", "sh note.sh ./data/x.bin", "./data/x.bin"),
    ],
)
def test_a_path_that_a_run_would_not_find_makes_nothing(project, hparams, cmd, word):
    (project.path / "data").mkdir()
    project.write("data/x.bin", "")
    project.sweep(hparams, cmd, "CODE_IGNORE_PATTERNS: data\n")
    told = (
        f"'{word}' is here but not in the snapshot of the code, so a run would not find it; name it in CODE_LINK (a "
        "live path) or CODE_INCLUDE (copied), or give an absolute path"
    )
    assert project("sweep.yml", "-i").line(2) == told
    assert not project.root.exists()
    project.sweep(hparams, cmd, "CODE_IGNORE_PATTERNS: data\nCODE_LINK: [data]\n")
    launched(project)


def test_runs_that_exchanged_names_keep_their_points(project):
    launched(project)
    one, two = project.runs()
    one.rename(project.root / "aside")
    two.rename(one)
    (project.root / "aside").rename(two)
    assert launched(project)["runs"] == [f"2: 2 done  in {project.experiment}"]
    assert claims(project.experiment) == {read(path / "run.json")["point"] + ".1": path.name for path in (one, two)}
    assert len(project.starts()) == 2


def test_a_run_that_took_the_name_of_a_deleted_one_keeps_its_point_and_the_other_is_launched(project):
    launched(project)
    runs = by_n(project)
    shutil.rmtree(runs[1])
    runs[2].rename(runs[1])
    assert launched(project)["runs"] == [f"2: 1 new, 1 done  in {project.experiment}"]
    assert project.again() == {(1, 2): "done", (2, 1): "done"}
    assert len(project.starts()) == 3


def test_a_sweep_file_that_changed_makes_no_other_code(project):
    launched(project)
    project.sweep(more="# a word\n")
    assert "--again" not in project.ok("sweep.yml", "-i").err
    project.write("note.sh", (project.path / "note.sh").read_text() + "# a word\n")
    assert "--again  # 2 made from other code: note.sh\n" in project.ok("sweep.yml", "-i").err
