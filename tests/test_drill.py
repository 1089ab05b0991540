"""farmx drill: a real run of a pool here is ended and taken up again; what its records prove is told line by line."""

import json
import re
import shlex
import signal
import sys

import pytest
from commands import read, runs
from launching import PATIENCE_S, Place, until
from schedulers import Scheduler

from farmx import drills, layout, runner
from farmx.cli import drill
from farmx.farms import base
from farmx.spec import Attempt, Job, State

TORCH = """
import pickle
__version__ = "2.0.0"
def save(content, file):
    file.write(pickle.dumps(content))
def load(path, **how):
    with open(path, "rb") as file:
        return pickle.load(file)
"""
TRAIN = """
import time
import torch
from farmx.logx import logx
logx.initialize()
kept = {resume}
for epoch in range(kept["epoch"] + 1 if kept else 0, 600):
    logx.metric("train", {{"loss": 1}}, epoch)
    logx.metric("val", {{"acc": epoch}}, epoch)
    logx.save_model({{"epoch": epoch, "state_dict": {{}}}}, metric=epoch, epoch=epoch)
    time.sleep(0.1)
"""
TOLD = "ok       the program was told to end (SIGTERM) and ended within its grace after S s"
AGAIN = [
    "ok       attempt 1.0 is recorded as interrupted",
    "ok       launching again took it up; a pool that has ended queues nothing",
    "ok       attempt 2.0 began with FARMX_ATTEMPT=2",
]
UNCLEAR = (
    "unclear  whether it went on from where it was cannot be told: there are no metrics of logx in both attempts; "
    "read its log: farmx logs RUN"
)


@pytest.fixture
def trial(project):
    def prepare(program: str):
        project.write("job.py", program)
        project.write("torch.py", TORCH)
        project.sweep("{n: [1, 2]}", f"{sys.executable} job.py")
        return project

    return prepare


def lines(out: str) -> list[str]:
    return re.sub(r"\d+\.\d s", "S s", out).splitlines()


def states(project) -> list[str]:
    told = json.loads(project.ok("status", "sweep-drill", "--json").out)
    return sorted(run["state"] for run in told["runs"])


def test_a_program_that_saves_and_resumes_passes_and_its_run_is_cancelled(trial):
    project = trial(TRAIN.format(resume="logx.resume()"))
    done = project("drill", "sweep.yml", "--farm", "local")
    assert done.code == 0, done.out + done.err
    *shown, last = lines(done.out)
    assert shown == [TOLD, *AGAIN]
    assert re.fullmatch(r"ok       its train metrics went on at step \d+, after \d+", last)
    assert (states(project), project.experiment.exists()) == (["cancelled"], False)
    (run,) = runs(project.root / "sweep-drill")
    assert read(run / "hparams.json") == {"n": 1}
    assert project("drill", "sweep.yml").code == 0  # on this machine, where nobody named a farm
    assert states(project) == ["cancelled"] * 2


def test_a_program_that_starts_anew_does_not(trial):
    project = trial(TRAIN.format(resume="None"))
    done = project("drill", "sweep.yml")
    assert (done.code, lines(done.out)[:4]) == (1, [TOLD, *AGAIN])
    assert lines(done.out)[4].startswith("NOT ok   its train metrics began at step 0 again, after ")
    assert lines(done.out)[4].endswith("; save with logx.save_model() and go on from logx.resume(): docs/logx.md")


def test_of_a_program_without_logx_it_cannot_be_told(trial):
    project = trial("import time\ntime.sleep(300)\n")
    done = project("drill", "sweep.yml", "--after", "1")
    assert (done.code, lines(done.out)) == (0, [TOLD, *AGAIN, UNCLEAR])
    assert re.search(r"^told   after 0:\d\d: it is told to end now$", done.err, re.MULTILINE)
    assert states(project) == ["cancelled"]


def test_a_program_that_is_too_short_is_told(trial):
    project = trial("print('done')\n")
    done = project("drill", "sweep.yml", "--after", "20")
    (run,) = runs(project.root / "sweep-drill")
    told = f"NOT ok   it ended before it could be told to: it is done; see farmx why {run.name}"
    assert (done.code, lines(done.out)) == (1, [told])
    assert states(project) == ["done"]


# A shell: it heeds the signal long before a Python on a busy machine would.
KILLS = "trap 'kill -KILL $PPID' TERM\nwhile :; do sleep 0.1; done\n"


def test_a_run_that_records_no_end_is_told(project):
    project.write("job.sh", KILLS)
    project.sweep("{n: [1, 2]}", "sh job.sh")
    done = project("drill", "sweep.yml", "--after", "3")
    (run,) = runs(project.root / "sweep-drill")
    (line,) = lines(done.out)
    assert (done.code, line.endswith(f"; see farmx why {run.name}")) == (1, True)
    assert line.startswith("NOT ok   it recorded no end when it was told to: it is interrupted, ")


def test_one_drill_at_a_time_and_a_stopped_one_leaves_nothing_running(trial):
    project = trial("import time\ntime.sleep(300)\n")
    first = project.behind("drill", "sweep.yml", "--after", "200")
    home = project.root / "sweep-drill"
    until(lambda: list(home.glob("*/attempts/1.0/main.log")))
    (run,) = runs(home)
    told = f"farmx: a drill before this one is running: {run.name}; farmx cancel sweep-drill ends it\n"
    done = project("drill", "sweep.yml")
    assert (done.code, done.out, done.err) == (2, "", told)
    first.send_signal(signal.SIGINT)
    assert first.wait(PATIENCE_S) == 130
    assert states(project) == ["cancelled"]


def test_a_run_that_is_kept_goes_on(trial):
    project = trial("import time\ntime.sleep(300)\n")
    assert project.behind("drill", "sweep.yml", "--after", "1", "--keep").wait(PATIENCE_S) == 0
    assert "next   farmx status sweep-drill  # the run goes on\n" in (project.path.parent / "behind").read_text()
    assert states(project) == ["running"]
    project.ok("cancel", "sweep-drill")
    until(lambda: states(project) == ["cancelled"])


def test_a_farm_that_is_no_slurm_and_no_pool_is_refused_and_nothing_made(trial):
    project = trial("")
    project.write(".farmx.yaml", "big: {SUBMIT_CMD: submit_job}\n")
    done = project("drill", "sweep.yml", "--farm", "big")
    assert (done.code, done.err) == (
        2, "farmx: farm 'big' is neither EXECUTOR: slurm nor a pool of this machine, and how it ends a run is not "
           "known here; try --farm local\n"
    )  # fmt: skip
    assert not project.root.exists()


# ---------------------------------------------------------------- what records prove


def attempt(tmp_path, files: dict, end: dict | None = None) -> Attempt:
    path = tmp_path / "attempts/1.0"
    path.mkdir(parents=True)
    for name, rows in files.items():
        (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Attempt(str(path), (1, 0), {"ordinal": 1}, end)


def event(what: str, time: float, **more: str) -> dict:
    return {"event": what, "time": time, **more}


TERM, KILL = event("signalled", 10.0, signal="SIGTERM"), event("signalled", 40.0, signal="SIGKILL")
EVENTS = [
    ([TERM, event("ended", 12.5)],
     "ok       the program was told to end (SIGTERM) and ended within its grace after 2.5 s"),
    ([TERM], "ok       the program was told to end (SIGTERM) and ended within its grace"),
    ([TERM, KILL, event("ended", 40.1)],
     "NOT ok   the program was told to end (SIGTERM), did not, and was killed after 30.1 s; let it save and exit on "
     "SIGTERM, or save as it goes"),
    ([event("ended", 1.0)], "NOT ok   the program was not told to end (SIGTERM); farmx why says how it ended"),
    ([], "NOT ok   the program was not told to end (SIGTERM); farmx why says how it ended"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "line"), EVENTS)
def test_what_events_prove(tmp_path, rows, line):
    assert str(drills.told(attempt(tmp_path, {"events.jsonl": rows}))) == line


ENDS = [
    ({"state": "preempted"}, "ok       attempt 1.0 is recorded as preempted"),
    ({"state": "failed", "note": "MAX_REQUEUES"},
     "NOT ok   attempt 1.0 is recorded as failed, not preempted: MAX_REQUEUES; see farmx why"),
    ({"state": "done"},
     "NOT ok   attempt 1.0 is recorded as done, not preempted; it ended by itself before it was told; drill a longer "
     "run"),
]  # fmt: skip


@pytest.mark.parametrize(("end", "line"), ENDS)
def test_what_an_end_proves(tmp_path, end, line):
    assert str(drills.recorded(attempt(tmp_path, {}, end), State.PREEMPTED)) == line


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [(1, 2, "ok       attempt 1.0 began with FARMX_ATTEMPT=2"),
     (3, 4, "ok       attempt 1.0 began with FARMX_ATTEMPT=4"),
     (2, 2, "NOT ok   attempt 1.0 began with FARMX_ATTEMPT=2; it should be 3")],
)  # fmt: skip
def test_what_the_number_of_an_attempt_proves(tmp_path, before, after, line):
    made = attempt(tmp_path, {})
    first, second = (made._replace(owner={"ordinal": ordinal}) for ordinal in (before, after))
    assert str(drills.numbered(second, first)) == line


def row(phase: str, step: float, **metrics: float) -> dict:
    return {"time": 1.0, "phase": phase, "step": step, "metrics": metrics}


SIGNS = [
    ({}, False, False, False),
    ({"args.json": []}, False, True, False),
    ({"metrics.jsonl": [row("start", 0)]}, False, True, False),
    ({"metrics.jsonl": [row("train", 0, a=1), row("val", 0, a=1)]}, False, True, False),
    ({"metrics.jsonl": [row("val", 0, a=1), row("val", 1, a=1)]}, False, True, True),
    ({"metrics.jsonl": [row("val", 0, a=1)]}, True, True, True),
    ({}, True, False, False),
]  # fmt: skip


@pytest.mark.parametrize(("files", "saved", "used", "ready"), SIGNS)
def test_when_there_is_something_to_go_on_from(tmp_path, files, saved, used, ready):
    made = attempt(tmp_path, files)
    if saved:
        (tmp_path / "checkpoints.json").touch()
    signs = drills.signs(made)
    assert (signs.used, signs.ready) == (used, ready)


USED = {"metrics.jsonl": [row("train", 0, a=1)]}
EPOCHS = {"metrics.jsonl": [row("train", 0, a=1), row("train", 1, a=1)]}
DUE = [
    ({}, 29.9, None, ""),
    ({}, 30.0, None, "no sign of logx in 30 s"),
    (USED, 99.0, None, ""),
    (EPOCHS, 0.1, None, "it has metrics of 2 steps"),
    (USED | {"../../checkpoints.json": []}, 0.1, None, "it has a checkpoint"),
    ({}, 39.9, 40.0, ""),
    (EPOCHS, 39.9, 40.0, ""),
    ({}, 40.0, 40.0, "after 0:40"),
]


@pytest.mark.parametrize(("files", "running", "after_s", "why"), DUE)
def test_why_a_run_is_told_to_end(tmp_path, files, running, after_s, why):
    assert drill._due(attempt(tmp_path, files), running, after_s) == why


def signs(*steps: tuple[str, float]) -> drills.Signs:
    return drills.Signs(bool(steps), steps, False)


STEPS = [
    (signs(("val", 0), ("val", 1)), signs(("val", 2)), "ok       its val metrics went on at step 2, after 1"),
    (signs(("val", 1), ("val", 2)), signs(("val", 2)), "ok       its val metrics went on at step 2, after 2"),
    (signs(("train", 9), ("val", 0)), signs(("test", 0), ("val", 1)),
     "ok       its val metrics went on at step 1, after 0"),
    (signs(("val", 1)), signs(("val", 1)),
     "NOT ok   its val metrics began at step 1 again, after 1; save with logx.save_model() and go on from "
     "logx.resume(): docs/logx.md"),
    (signs(), signs(), UNCLEAR),
    (signs(("val", 1)), signs(("test", 1)), UNCLEAR),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "line"), STEPS)
def test_what_steps_prove(first, second, line):
    assert str(drills.resumed(first, second)) == line


SILENT = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.mark.parametrize(
    ("squeue", "end"),
    [
        (("", SILENT, 1), f"asked to end; its runner will see that: squeue: {SILENT}"),
        (("0|RUNNING|None|sweep.id\n", "", 0), "asked to end"),
    ],
    ids=["it cannot be asked", "it does nothing"],
)
def test_what_slurm_does_not_end_is_left_in_the_end_with_the_command_that_cancels_it(
    tmp_path, monkeypatch, capfd, squeue, end
):
    place = Place(tmp_path, "it's drill")
    run = place.run()
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    made = base.submission(str(place.experiment / ".farmx" / "submissions"), "id", [Job(run, "1.0")])
    record = {"format": 1, "executor": "slurm", "farm": "big", "name": "sweep.id", "user": "root"}
    layout.write_json(f"{made.path}/{layout.JOB}", record)
    base.record_queued(made.path, 0, 0, "7")
    runner.take(run, "1.0", {"farm": "big", "submission": "id", "job": "7", "host": "elsewhere"})
    fake.says("squeue", *squeue)
    monkeypatch.setattr(drill, "LEAVE_S", 0.3)
    monkeypatch.chdir(tmp_path)
    drill.leave(drill.Trial(run, False, pytest.fail), keep=False)
    told = capfd.readouterr().err.splitlines()
    assert told[0] == f"end    one  {end}"
    state, _, command = told[-1].rpartition("; ")
    assert re.fullmatch(r"left   one is (running|unknown), on elsewhere.*", state)
    assert shlex.split(command) == ["farmx", "cancel", str(place.experiment.relative_to(tmp_path)), "ends", "it"]


def test_what_slurm_holds_is_told_once_with_the_command_that_lets_it_go(tmp_path, monkeypatch, capfd):
    place = Place(tmp_path, "it's drill")
    run = place.run()
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    made = base.submission(str(place.experiment / ".farmx" / "submissions"), "id", [Job(run, "1.0")])
    record = {"executor": "slurm", "farm": "big", "name": "sweep.id", "user": "root", "node": {"task": ["A", "B"]}}
    layout.write_json(f"{made.path}/{layout.JOB}", {"format": 1, **record})
    base.record_queued(made.path, 0, 0, "7")
    fake.says("squeue", "0|PENDING|JobHeldUser|sweep.id\n")
    monkeypatch.setattr(drill, "LOOK_S", 0.0)
    assert drill.Trial(run, False, pytest.fail).until(lambda: len(fake.calls("squeue")) > 2)
    assert capfd.readouterr().err.splitlines() == [
        "wait   queued: held by its user; scontrol release lets it go", "next   scontrol release 7_0",
    ]  # fmt: skip
