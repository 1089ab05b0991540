"""What a farm starts on a node: which attempt it is, who stopped it, and whether it is queued again."""

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from launching import ROOT, Place, end, until
from schedulers import Scheduler

from farmx import breaker, layout, node, notices, packs, runner, status, verdicts, whereabouts, why
from farmx.farms import base, slurm_script
from farmx.policy import Verdict
from farmx.runner import Outcome
from farmx.spec import Job, State

ENDED = Outcome("interrupted", None, "SIGTERM", note="main was ended by SIGTERM")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def handed(place: Place, run: str, number: str = "1.0", others: tuple[str, ...] = (), name: str = "id", **more) -> str:
    """A submission of one run, as the Slurm farm leaves it. others: runs that it holds beside it."""
    home = str(place.experiment / ".farmx" / "submissions")
    made = base.submission(home, name, [Job(each, number) for each in (run, *others)])
    told = {**slurm_script.node({}, 3, 30), **more}
    record = {"format": 1, "executor": "slurm", "farm": "big", "name": f"sweep.{name}", "node": told}
    layout.write_json(os.path.join(made.path, layout.JOB), record)
    return made.path


def start(submission: str, restarts: int = 0, job: str = "7", index: str = "0") -> subprocess.Popen:
    """A job on a node; its output is appended to a file, as Slurm does it."""
    env = {**os.environ, "SLURM_JOB_ID": job, "PYTHONPATH": ROOT}
    if restarts:
        env["SLURM_RESTART_COUNT"] = str(restarts)
    code = "import sys\nfrom farmx import node\nsys.exit(node.main(sys.argv[1:]))"
    with open(os.path.join(submission, "0.log"), "ab") as log:
        return subprocess.Popen([sys.executable, "-c", code, submission, index], env=env, stdout=log, stderr=log)


def said(submission: str) -> str:
    return Path(submission, "0.log").read_text()


def test_an_attempt_is_executed_and_its_job_ends_as_its_program(place):
    run = place.shell("exit 3")
    submission = handed(place, run)
    assert start(submission).wait() == 3
    assert end(run) == {
        "format": 1, "state": "failed", "code": 3, "signal": None, "note": "main exited with 3", "cause": "error"
    }  # fmt: skip
    assert said(submission) == "one 1.0 failed: main exited with 3\n"
    owner = json.loads(Path(run, "attempts", "1.0", "owner.json").read_text())
    assert {name: owner[name] for name in ("farm", "submission", "index", "job")} == {
        "farm": "big", "submission": "id", "index": 0, "job": "7"
    }  # fmt: skip


TASKS = """echo no such option
echo 'srun: error: n1: task 1: Exited with exit code 2
srun: error: n1: task 0: Terminated'
exit 143"""


@pytest.mark.parametrize(("each", "code"), [(["env"], 2), ([], 143)], ids=["several tasks", "one task"])
def test_of_a_program_of_several_tasks_the_code_of_the_first_that_failed_is_its_and_its_jobs(place, each, code):
    run = place.shell(TASKS, breaker=1)
    submission = handed(place, run, others=(place.run(name="two"),), each=each, hold=None)
    assert start(submission).wait() == code
    assert [end(run)[name] for name in ("code", "note")] == [code, f"main exited with {code}"]
    assert breaker.held(submission) == (WHY if each else "")


def test_what_is_held_is_every_array_that_has_the_name_of_the_submission(place, tmp_path, monkeypatch):
    run = place.shell("echo no such option >&2; exit 2", breaker=1)
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    submission = handed(place, run, others=(place.run(name="two"),))
    base.record_queued(submission, 0, 0, "5")  # a number that is another's by now
    fake.says("squeue", "9\n7\n7\n8\n")  # one line for each job that has begun
    assert start(submission).wait() == 2
    assert [words[1:] for words in fake.calls("squeue")] == [["-h", "-o", "%F", "--name", "sweep.id"]]
    assert holds(fake) == ["7", "8", "9"]


def test_the_other_arrays_of_the_launch_are_held_too(place, tmp_path, monkeypatch):
    run = place.shell("echo no such option >&2; exit 2", breaker=1)
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    paths = [handed(place, run), *(handed(place, place.run(name=name), name=name) for name in ("id-2", "other"))]
    fake.says("squeue", "7\n", call=1)
    fake.says("squeue", "8\n", call=2)
    assert start(paths[0]).wait() == 2
    assert [words[-1] for words in fake.calls("squeue")] == ["sweep.id", "sweep.id-2"]
    assert holds(fake) == ["7", "8"]
    assert [bool(breaker.held(path)) for path in paths] == [True, True, False]


LISTS = 'case "$0" in sweep.id) echo 7;; sweep.id-2) echo 8;; *) exit 1;; esac'
BAD, WHY = "echo no such option >&2; exit 2", "the first run failed with: no such option"


def holds(fake: Scheduler) -> list[str]:
    """The arrays that scontrol was asked to hold, in order."""
    return [words[2] for words in fake.calls("scontrol") if words[1] == "hold"]


@pytest.fixture
def failing(place, tmp_path, monkeypatch):
    """A submission each, of one launch, of runs that fail alike and of which the first trips the breaker."""
    place.fake = Scheduler(tmp_path / "bin", monkeypatch)
    paths = []
    for name in ("id", "id-2"):
        run, other = (place.shell(BAD, name=f"{name} {each}", breaker=1) for each in "ab")
        paths.append(handed(place, run, others=(other,), name=name, arrays=["sh", "-c", LISTS]))
    return paths


ENDED_SOME = "7_0: Job has already finished\n7_1-5: No error\n"


@pytest.mark.parametrize(("code", "error", "held"), [(0, "", True), (1, ENDED_SOME, True), (1, "no controller", False)])
def test_a_hold_that_fails_is_said_and_what_begins_then_asks_again_and_ends(place, failing, code, error, held):
    path, other = failing
    place.fake.says("scontrol", "", error, code)
    assert start(path).wait() == 2
    said_of_it = "holds the rest" if held else "cannot hold the rest, which ends as it begins"
    assert said(path).splitlines()[1] == f"id a 1.0 {said_of_it}: {WHY}"
    assert holds(place.fake) == ["7", "8"]
    place.fake.says("scontrol")
    assert [start(each, index="1").wait() for each in (path, other)] == [0, 0]
    told = [f"id b 1.0 holds the rest: {WHY}"] * (not held)
    assert said(path).splitlines()[2:] == [*told, f"id b 1.0 held: {WHY}"]
    assert said(other) == f"id-2 b 1.0 held: {WHY}\n"
    assert holds(place.fake) == ["7", "8"] * (1 if held else 2)


def test_where_the_arrays_cannot_be_asked_for_the_others_are_held_and_it_is_said(place, failing):
    path, _ = failing
    record = json.loads(Path(path, "job.json").read_text())
    record["node"]["arrays"][-1] = LISTS.replace("echo 7", "echo 7; exit 1")
    layout.write_json(os.path.join(path, "job.json"), record)
    assert start(path).wait() == 2
    assert said(path).splitlines()[1] == f"id a 1.0 cannot hold the rest, which ends as it begins: {WHY}"
    assert holds(place.fake) == ["8"]


def test_where_the_name_of_an_array_cannot_be_read_nothing_is_held_and_it_is_said(place, failing):
    path, other = failing
    Path(other, "job.json").write_text('{"format": 1, "name": ')
    assert start(path).wait() == 2
    assert said(path).splitlines()[1] == f"id a 1.0 cannot hold the rest, which ends as it begins: {WHY}"
    assert holds(place.fake) == []


def test_where_the_submissions_cannot_be_listed_what_is_held_ends_and_it_is_said(place, failing, monkeypatch, capfd):
    path, _ = failing
    layout.write_json(os.path.join(path, layout.BREAKER), {"format": 1, "held": True, "why": WHY})
    scandir = os.scandir

    def broken(at):
        if at == os.path.dirname(path):
            raise OSError(errno.EIO, "Input/output error", at)
        return scandir(at)

    monkeypatch.setattr(os, "scandir", broken)
    assert node.main([path, "0"]) == 0
    told = f"id a 1.0 cannot hold the rest, which ends as it begins: {WHY}\nid a 1.0 held: {WHY}\n"
    assert capfd.readouterr().out == told
    assert holds(place.fake) == []


def test_where_the_farm_can_hold_nothing_the_jobs_look_for_themselves(place, failing):
    path, other = failing
    for each in failing:
        record = json.loads(Path(each, "job.json").read_text())
        del record["node"]["hold"]
        layout.write_json(os.path.join(each, "job.json"), record)
    assert start(path).wait() == 2
    assert said(path).splitlines()[1] == f"id a 1.0 holds the rest: {WHY}"
    assert [start(each, index="1").wait() for each in (path, other)] == [0, 0]
    assert said(other) == f"id-2 b 1.0 held: {WHY}\n"
    assert holds(place.fake) == place.fake.calls("squeue") == []


def test_a_job_that_nobody_tells_its_number_asks_nobody_about_it(place, tmp_path, monkeypatch):
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    submission = handed(place, place.shell("exit 3"), ask=["scontrol", "show", "job"], tell=["scancel"])
    assert start(submission, job="").wait() == 3
    assert fake.calls() == []


def test_where_the_runner_died_while_it_held_the_next_one_does_it_and_nobody_begins(place, failing):
    path, other = failing
    (place.fake.home / "scontrol").write_text('#!/bin/sh\n[ "$1" = show ] || kill -9 $PPID\n')
    assert start(path).wait() == -9
    place.fake.again()
    assert [start(each, index="1").wait() for each in (other, path)] == [0, 0]
    assert said(other).splitlines() == [f"id-2 b 1.0 holds the rest: {WHY}", f"id-2 b 1.0 held: {WHY}"]
    assert said(path).splitlines()[-1] == f"id b 1.0 held: {WHY}"
    assert holds(place.fake) == ["7", "8"]


def test_what_somebody_lets_go_while_it_is_being_held_goes_on(place, failing):
    path, other = failing
    opened = json.dumps({"format": 1, "held": True, "why": WHY, "open": True})
    for each in failing:
        record = json.loads(Path(each, "job.json").read_text())
        record["node"]["hold"] = ["sh", "-c", f"scontrol hold $0; printf %s '{opened}' > '{other}/breaker.json'"]
        record["node"]["release"] = ["scontrol", "release"]
        layout.write_json(os.path.join(each, "job.json"), record)
    assert start(path).wait() == 2
    asked = [words[1:] for words in place.fake.calls("scontrol") if words[1] != "show"]
    assert asked == [["hold", "7"], ["hold", "8"], ["release", "8"]]


def test_one_that_fails_after_them_holds_what_is_not_held_and_nothing_that_was_let_go(place, failing):
    path, other = failing
    place.fake.says("scontrol", "", "no", 1)
    assert start(path).wait() == 2
    breaker.release(path)
    running = json.loads(Path(other, "job.json").read_text())
    del running["node"]["fence"]  # it had begun before
    layout.write_json(os.path.join(other, "job.json"), running)
    assert start(other).wait() == 2
    assert holds(place.fake) == ["7", "8", "8"]


def test_a_second_job_for_an_attempt_ends_at_the_fence_and_well(place):
    run = place.run()
    submission = handed(place, run)
    assert [start(submission, job=job).wait() for job in ("7", "8")] == [0, 0]
    assert said(submission).startswith("one 1.0 done\none 1.0 held: taken by process ")


@pytest.mark.parametrize(
    ("state", "job", "told"),
    [("done", "7", "one 1.1 held: attempt 1.0 is done\n"),
     ("cancelled", "7", "one 1.1 held: attempt 1.0 is cancelled\n"),
     ("", "8", "one 1.1 held: attempt 1.0 is that of job 8\n"), ("", "7", "one 1.1 done\n"),
     ("failed", "7", "one 1.1 done\n"), ("preempted", "7", "one 1.1 done\n")],
)  # fmt: skip
def test_a_restart_goes_on_only_where_its_own_job_was_stopped(place, state, job, told):
    run = place.run()
    attempt = Path(run, "attempts", "1.0")
    attempt.mkdir(parents=True)
    layout.write_json(str(attempt / "owner.json"), {"format": 1, "started": 1.0, "job": job})
    if state:
        layout.write_json(str(attempt / "end.json"), {"format": 1, "started": 1.0, "ended": 2.0, "state": state})
    submission = handed(place, run)
    assert start(submission, restarts=1).wait() == 0
    assert said(submission) == told


CLAIMS = [  # what the submission says of the run -> whether its job begins it
    ("{point}.1\n", True),
    ("", True),
    (None, True),
    ("p1-another.1\n", False),
    ("{point}.2\n", False),
    ("{point}\n", False),
]


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(("claimed", "begins"), CLAIMS)
def test_a_job_does_not_begin_another_run_that_has_the_name_of_one_that_was_deleted(place, claimed, begins, pack):
    run = place.shell("echo ran")
    submission = handed(place, run)
    if pack:
        packed(submission)
    if claimed is not None:
        point = json.loads(Path(run, "run.json").read_text())["point"]
        Path(submission, "claimed").write_text(claimed.format(point=point))
    assert start(submission).wait() == 0
    told = "done" if begins else "held: the run that was queued was deleted, and another has its name"
    assert said(submission) == f"one 1.0 {told}\n"
    assert Path(run, "attempts").exists() == begins


def test_a_run_that_was_deleted_while_it_waited_is_one_line(place):
    run = place.run()
    submission = handed(place, run)
    os.rename(run, f"{run}.moved")
    assert start(submission).wait() == 1
    assert said(submission) == (
        f"{run}: {run}/attempts is gone: was the run moved or deleted while it waited?\n"
    )


@pytest.mark.parametrize("pack", [False, True])
def test_a_run_that_was_renamed_while_it_waited_runs_under_its_new_name(place, pack):
    run = place.shell("echo in $FARMX_RUN")
    submission = handed(place, run)
    if pack:
        packed(submission)
    claimed(submission, run)
    shutil.copytree(run, place.experiment / "a backup")
    moved = place.experiment / "it's; renamed ✓"
    os.rename(run, moved)
    assert start(submission).wait() == 0
    assert said(submission) == f"{moved.name} 1.0 done\n"
    assert (moved / "output.log").read_text() == f"in {moved}\n"


@pytest.mark.parametrize("pack", [False, True])
def test_a_deleted_run_does_not_begin_in_its_copy(place, pack):
    run = place.run()
    submission = handed(place, run)
    if pack:
        packed(submission)
    claimed(submission, run)
    backup = place.experiment / "a-backup"
    shutil.copytree(run, backup)
    shutil.rmtree(run)
    assert start(submission).wait() == 1
    assert said(submission).endswith(f"{run}/attempts is gone: was the run moved or deleted while it waited?\n")
    assert not (backup / "attempts").exists()


def claimed(submission: str, run: str) -> None:
    """Have the submission say whose point its only run holds, as a launch does."""
    point = json.loads(Path(run, "run.json").read_text())["point"]
    inodes = whereabouts.inodes(os.path.dirname(run))
    Path(submission, "claimed").write_text(whereabouts.lines(inodes, [(run, f"{point}.1")]))


def a_file(run: str, submission: str) -> str:
    """Put a file where the run was; what is said of that."""
    os.rename(run, f"{run}.moved")
    Path(run).touch()
    return f"{run}/attempts: Not a directory"


def attempts_a_file(run: str, submission: str) -> str:
    """Put a directory where the list of the run's attempts is made; what is said of that."""
    Path(run, "attempts").touch()
    return f"{run}/attempts: Not a directory"


def attempts_a_loop(run: str, submission: str) -> str:
    """Nobody can read the list of the run's attempts; what is said of that."""
    os.symlink("attempts", os.path.join(run, "attempts"))
    return f"{run}/attempts: Too many levels of symbolic links"


def no_lines(run: str, submission: str) -> str:
    Path(submission, layout.RUNS).write_text("")
    return f"{submission}/runs: no run stands there for index 0: was it changed, or is it not here yet? launch again"


def no_list(run: str, submission: str) -> str:
    os.unlink(os.path.join(submission, layout.RUNS))
    return f"{submission}/runs: no run stands there for index 0: was it changed, or is it not here yet? launch again"


def torn(run: str, submission: str) -> str:
    Path(submission, layout.JOB).write_text("{")
    return f"{submission}/job.json: cannot be read: it is not json; restore it or move it away"


def no_record(run: str, submission: str) -> str:
    os.unlink(os.path.join(submission, layout.JOB))
    return f"{submission}/job.json: No such file or directory"


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("harm", [a_file, attempts_a_file, attempts_a_loop, no_lines, no_list, torn, no_record])
def test_what_keeps_an_attempt_from_being_taken_is_one_line_of_its_job(place, harm, pack):
    run = place.shell("echo ran")
    submission = handed(place, run)
    if pack:
        packed(submission)
    said_of = harm(run, submission)
    assert start(submission).wait() == 1
    assert said(submission) == f"{said_of}\n"


@pytest.mark.parametrize("pack", [False, True])
def test_an_end_that_cannot_be_recorded_in_its_place_is_recorded_beside_it_and_one_line(place, pack):
    run = place.shell("rm LOGDIR/attempts/1.0/.end.json; mkdir LOGDIR/attempts/1.0/.end.json")
    submission = handed(place, run)
    if pack:
        packed(submission)
    assert start(submission).wait() == 1
    note = ".end.json: Is a directory"
    assert end(run) == {"format": 1, "state": "interrupted", "code": None, "signal": None, "note": note}
    assert said(submission) == f"{note}\none 1.0 interrupted: {note}\n"


# ---------------------------------------------------------------- who stopped it


@pytest.mark.parametrize(
    ("told", "state", "note"),
    [
        ("JobState=RUNNING Restarts=0", "interrupted", "main was ended by SIGTERM"),
        ("JobState=PENDING Restarts=1", "preempted", "its job was stopped and is queued again"),
        ("JobState=COMPLETING Restarts=1 ", "preempted", "its job was stopped and is queued again"),
        ("JobState=CANCELLED Restarts=0", "cancelled", "its job was cancelled"),
        ("JobState=TIMEOUT Restarts=0", "failed", "it reached its time limit"),
        ("JobState=OUT_OF_MEMORY", "failed", "out of memory; main was ended by SIGTERM"),
        ("JobState=PREEMPTED Restarts=0", "interrupted", "others went first; its job is not queued again"),
        ("", "interrupted", "main was ended by SIGTERM"),
    ],
)
def test_what_slurm_says_tells_who_stopped_a_program(place, tmp_path, monkeypatch, told, state, note):
    Scheduler(tmp_path / "bin", monkeypatch).says("scontrol", told, code=0 if told else 1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    judged = node.Scheduler(slurm_script.node({}, 3, 30), place.run(), 1).judge(ENDED)
    causes = {"it reached its time limit": "time", "out of memory; main was ended by SIGTERM": "oom"}
    assert judged == ENDED._replace(state=state, note=note, cause=causes.get(note))


TOLD = """trap 'echo told >>"$SIDE"; exit 0' TERM; echo began >>"$SIDE"; while :; do sleep 0.05; done"""
CANCELLED = "slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T08:23:24 ***\n"


@pytest.mark.parametrize(
    ("line", "state"),
    [(CANCELLED, "cancelled"), (CANCELLED.replace(" ***\n", " DUE TO TIME LIMIT ***\n"), "failed"),
     (CANCELLED.replace(" ***\n", " DUE TO PREEMPTION ***\n"), "interrupted")],
)  # fmt: skip
def test_a_program_that_slurm_told_itself_is_not_told_again(place, tmp_path, monkeypatch, line, state):
    side = tmp_path / "side"
    monkeypatch.setenv("SIDE", str(side))
    Scheduler(tmp_path / "bin", monkeypatch).says("scontrol", "JobState=COMPLETING Restarts=0")
    run = place.shell(TOLD)
    submission = handed(place, run)
    job = start(submission)
    until(lambda: side.read_text() == "began\n")
    pid = int(until(lambda: [row["pid"] for row in events(run) if row["event"] == "started"])[0])
    with open(os.path.join(submission, "0.log"), "a") as log:
        log.write(line)
    job.terminate()
    until(lambda: [row for row in events(run) if row["event"] == "signalled"])
    assert side.read_text() == "began\n"
    os.kill(pid, 15)
    job.wait()
    assert side.read_text() == "began\ntold\n"
    assert end(run)["state"] == state


@pytest.mark.parametrize(("restarts", "state"), [(0, "cancelled"), (1, "interrupted")], ids=["its own", "an earlier"])
def test_what_slurm_wrote_before_its_runner_looked_counts_unless_it_was_of_an_earlier_start(
    place, tmp_path, monkeypatch, restarts, state
):
    Scheduler(tmp_path / "bin", monkeypatch).says("scontrol", f"JobState=COMPLETING Restarts={restarts}")
    run = place.shell("echo began >LOGDIR/began; exec sleep 60")
    submission = handed(place, run)
    Path(submission, "0.log").write_text(CANCELLED)
    job = start(submission, restarts=restarts)
    until(lambda: Path(run, "began").exists())
    number = f"1.{restarts}"
    pid = int(until(lambda: [row["pid"] for row in events(run, number) if row["event"] == "started"])[0])
    job.terminate()
    until(lambda: [row for row in events(run, number) if row["event"] == "signalled"])
    with suppress(ProcessLookupError):
        os.kill(pid, 15)  # as Slurm does of its own start
    job.wait()
    assert end(run, number)["state"] == state


@pytest.mark.parametrize(
    ("line", "answer", "state"),
    [(CANCELLED, "JobState=CANCELLED", "cancelled"),
     (CANCELLED.replace(" ***\n", " DUE TO JOB REQUEUE ***\n"), "JobState=COMPLETING Restarts=1", "preempted"),
     (CANCELLED.replace(" ***\n", " DUE TO PREEMPTION ***\n"), "JobState=PREEMPTED", "interrupted"),
     ("", "JobState=RUNNING", "done")],
    ids=["cancelled", "requeued", "preempted", "for itself"],
)  # fmt: skip
def test_a_program_that_heeds_slurm_before_its_runner_does_is_not_done(
    place, tmp_path, monkeypatch, line, answer, state
):
    side = tmp_path / "side"
    monkeypatch.setenv("SIDE", str(side))
    Scheduler(tmp_path / "bin", monkeypatch).says("scontrol", answer)
    run = place.shell(TOLD)
    submission = handed(place, run)
    job = start(submission)
    until(lambda: side.read_text() == "began\n")
    with open(os.path.join(submission, "0.log"), "a") as log:
        log.write(line)
    pid = int(until(lambda: [row["pid"] for row in events(run) if row["event"] == "started"])[0])
    os.kill(pid, 15)
    job.wait()
    assert (end(run)["state"], end(run)["code"]) == (state, 0)


def events(run: str, number: str = "1.0") -> list[dict]:
    return [json.loads(line) for line in Path(run, "attempts", number, "events.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------- out of time


@pytest.mark.parametrize(
    ("before", "most", "state", "note", "asked"),
    [
        (["again", "stopped"], 2, "preempted", "it was told that its time is up; its job is queued again", True),
        (["again", "again"], 2, "failed", "it was told that its time is up, and it was requeued twice (MAX_REQUEUES)",
         False),
    ],
)  # fmt: skip
def test_a_run_whose_time_is_up_is_requeued_so_often_and_stops_by_others_do_not_count(
    place, tmp_path, monkeypatch, before, most, state, note, asked
):
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    side = tmp_path / "side"
    monkeypatch.setenv("SIDE", str(side))
    run = place.shell(TOLD)
    for count, how in enumerate(before):
        attempt = Path(run, "attempts", f"1.{count}")
        attempt.mkdir(parents=True)
        record = {"format": 1, "started": 1.0, "ended": 2.0, "state": "preempted"}
        layout.write_json(str(attempt / "end.json"), {**record, **({"again": True} if how == "again" else {})})
    submission = handed(place, run, max_requeues=most)
    job = start(submission, restarts=len(before))
    until(lambda: side.read_text() == "began\n")
    job.send_signal(12)
    job.wait()
    told = end(run, f"1.{len(before)}")
    assert (told["state"], told["note"], told.get("again", False)) == (state, note, asked)
    assert fake.calls("scontrol") == ([["scontrol", "requeue", "7"]] if asked else [])


@pytest.mark.parametrize(
    ("why", "answer", "state", "asked"),
    [("", "JobState=CANCELLED", "cancelled", False),
     (" DUE TO PREEMPTION", "JobState=COMPLETING Restarts=1", "preempted", False),
     (" DUE TO PREEMPTION", "JobState=PREEMPTED Restarts=0", "interrupted", False),
     (" DUE TO TIME LIMIT", "JobState=COMPLETING Restarts=0", "preempted", True)],
    ids=["cancelled", "requeued", "preempted", "too late"],
)  # fmt: skip
@pytest.mark.parametrize("pack", [False, True], ids=["alone", "packed"])
def test_what_others_do_to_a_job_whose_time_is_nearly_up_stands(
    place, tmp_path, monkeypatch, why, answer, state, asked, pack
):
    side = tmp_path / "side"
    monkeypatch.setenv("SIDE", str(side))
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    fake.says("scontrol", answer)
    run, other = place.shell(TOLD.replace("exit 0", "")), place.shell("exit 0", name="two")
    submission = handed(place, run, others=(other,) if pack else ())
    if pack:
        packed(submission, slots=1)
    job = start(submission)
    until(lambda: side.read_text() == "began\n")
    job.send_signal(12)
    until(lambda: side.read_text() == "began\ntold\n")
    with open(os.path.join(submission, "0.log"), "a") as log:
        log.write(CANCELLED.replace(" ***\n", f"{why} ***\n"))
    job.terminate()
    job.wait()
    assert (end(run)["state"], end(run).get("again", False)) == (state, asked)
    assert [["scontrol", "requeue", "7"]] * asked == [call for call in fake.calls("scontrol") if "requeue" in call]


MEANWHILE = """#!/bin/sh
echo "$*" >>"$ASKED"
touch "$FARMX_WISH"
echo {told}
"""


@pytest.mark.parametrize(
    ("signal", "line", "told"),
    [(15, "", "JobState=PENDING Restarts=1"), (12, " DUE TO TIME LIMIT", "JobState=COMPLETING Restarts=0")],
    ids=["Slurm queues it again", "its runner does"],
)
def test_a_run_that_is_cancelled_while_its_end_is_judged_is_not_queued_again(
    place, tmp_path, monkeypatch, signal, line, told
):
    """Too late for its attempt: nobody looks any more whether somebody asked for its end."""
    Scheduler(tmp_path / "bin", monkeypatch, "scontrol")
    (tmp_path / "bin/scontrol").write_text(MEANWHILE.format(told=told))
    run, side = place.shell(TOLD, name="it's $HOME; größe"), tmp_path / "side"
    env = {"SIDE": side, "ASKED": tmp_path / "asked", "FARMX_WISH": f"{run}/attempts/1.0/cancel"}
    for name, path in env.items():
        monkeypatch.setenv(name, str(path))
    submission = handed(place, run, notice_s=0.4)  # of which it has half: it is told by Slurm, which is not here
    job = start(submission)
    until(lambda: side.read_text() == "began\n")
    with open(os.path.join(submission, "0.log"), "a") as log:
        log.write(CANCELLED.replace(" ***\n", f"{line} ***\n") if line else "")
    job.send_signal(signal)
    job.wait()
    assert [end(run, number)["state"] for number in ("1.0", "1.1")] == ["preempted", "cancelled"]
    assert set((tmp_path / "asked").read_text().splitlines()) == {"show job -o 7"}
    assert said(submission).splitlines()[-1] == "it's $HOME; größe 1.0 cancelled: before its next attempt"


def test_the_last_job_of_an_array_is_named_by_its_index_since_its_number_is_the_arrays(place, tmp_path, monkeypatch):
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    run = place.shell("exit 1", retry={"error": 1})
    start(handed(place, run, tell=["scancel", "--signal=TERM"])).wait()
    assert fake.calls("scontrol") == [["scontrol", "show", "job", "-o", "7_0"], ["scontrol", "requeue", "7_0"]]
    owner = json.loads(Path(run, "attempts", "1.0", "owner.json").read_text())
    assert owner["job"] == "7_0"


def test_a_requeue_that_slurm_refuses_is_said(place, tmp_path, monkeypatch):
    Scheduler(tmp_path / "bin", monkeypatch).says("scontrol", "", "Requested operation is presently disabled\n", 1)
    side = tmp_path / "side"
    monkeypatch.setenv("SIDE", str(side))
    submission = handed(place, place.shell(TOLD))
    job = start(submission)
    until(lambda: side.read_text() == "began\n")
    job.send_signal(12)
    assert job.wait() == 1
    assert said(submission).splitlines()[-1] == (
        "one 1.0 was not queued again: Requested operation is presently disabled"
    )


FULL = """
import os, subprocess, sys
from pathlib import Path
from launching import Place
from test_node import handed
from farmx import node
home = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", home], check=True)
place = Place(home)
run = place.shell("yes > LOGDIR/filled; exit 5", breaker=1, retry={"error": 2})
submission = handed(place, run, requeue=["sh", "-c", "echo requeued >/proc/$PPID/fd/2"], hold=["echo", "held"])
os.environ.update(SLURM_JOB_ID="7", SLURM_ARRAY_JOB_ID="6")
code = node.main([submission, "0"])
print(code, Path(run, "attempts", "1.0", "end.json").read_text())
"""


def test_a_disk_that_the_program_filled_keeps_no_job_from_being_queued_again(tmp_path):
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    begin = f"import sys\nsys.path[:0] = [{ROOT!r}, {ROOT + '/tests'!r}]\n"
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", begin + FULL, tmp_path], capture_output=True, text=True
    )
    first, _, record = done.stdout.rpartition("\n5 ")
    assert first == "one 1.0 preempted: main exited with 5; its job is queued again (RETRY error)", done.stderr
    assert json.loads(record)["state"] == "preempted"
    assert done.stderr == "requeued\n"


def unheard(submission: str) -> int:
    """The exit code of a job whose log takes nothing, as on a disk that is full."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys\nfrom farmx import node\nsys.exit(node.main(sys.argv[1:]))"
    env = {**os.environ, "SLURM_JOB_ID": "7", "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", code, submission, "0"], env=env, stdout=writer, stderr=writer)
    os.close(writer)
    return done.returncode


def test_a_job_whose_log_takes_nothing_more_ends_as_its_program(place):
    assert unheard(handed(place, place.run())) == 0


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_whose_log_takes_nothing_more_is_queued_again(place, tmp_path, code):
    run = place.shell("exit 5", retry={"error": 1})
    submission = handed(place, run, requeue=["sh", "-c", f"echo $0 >>{tmp_path}/side; exit {code}"])
    assert unheard(submission) == 5
    assert ((tmp_path / "side").read_text(), end(run)["state"]) == ("7\n", "preempted")


def test_a_job_whose_log_takes_nothing_more_goes_on_with_its_next_run(place):
    runs = [place.run(name=name) for name in ("one", "two", "three")]
    submission = packed(handed(place, runs[0], others=tuple(runs[1:])), each=3)
    assert unheard(submission) == 0
    assert [end(run)["state"] for run in runs] == ["done"] * 3


def test_what_a_scheduler_says_in_another_encoding_is_heard(place):
    run = place.shell("exit 3")
    said_so = "printf 'caf\\351 OUT_OF_MEMORY'"
    submission = handed(place, run, ask=["sh", "-c", said_so], words=[["OUT_OF_MEMORY", "memory"]])
    assert start(submission).wait() == 3
    assert end(run)["note"] == "out of memory; main exited with 3"


# ---------------------------------------------------------------- a job that holds several

KILLS_ITS_RUNNER = """
pid=$(sed -n 's/.*"pid": \\([0-9]*\\),.*/\\1/p' "$FARMX_ATTEMPT_DIR/owner.json")
echo "Out of memory: Killed process $pid (python3)" >"$SIDE"
kill -KILL "$pid"
"""


@pytest.mark.parametrize(
    ("kernel", "cause", "again"),
    [('cat "$SIDE"', "oom", Verdict(True, "oom, mem 2G", {"mem": "2G"})), ("exit 1", None, Verdict(False, ""))],
)  # fmt: skip
def test_a_run_whose_runner_was_killed_failed_and_the_job_goes_on(place, tmp_path, monkeypatch, kernel, cause, again):
    monkeypatch.setenv("SIDE", str(tmp_path / "side"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "dmesg").write_text(f"#!/bin/sh\n{kernel}\n")
    (tmp_path / "dmesg").chmod(0o755)
    run, other = place.shell(KILLS_ITS_RUNNER, retry={"oom": "x2"}, resources={"mem": "1G"}), place.run(name="two")
    submission = packed(handed(place, run, others=(other,)))
    notices.want([submission])
    assert start(submission).wait() == 1
    told = {"format": 1, "state": "failed", "code": None, "signal": "SIGKILL",
            "note": "its runner was ended by SIGKILL"}  # fmt: skip
    assert end(run) == {**told, **({"cause": cause} if cause else {})}
    assert f".{layout.END}" not in os.listdir(f"{run}/attempts/1.0")  # the space kept for it is used
    assert end(other)["state"] == "done"
    assert os.listdir(place.experiment / ".farmx/outbox").count("id.failed.json") == 1
    (seen,) = status.of(str(place.experiment), ["one"]).runs
    assert (seen.state, verdicts.of(seen)) == (State.FAILED, again)
    assert why.account(seen, "sweep/one", "sweep").cause == ("memory" if cause else "")


def test_processes_that_nobody_may_look_for_keep_no_end_of_a_killed_runner_from_being_recorded(place, monkeypatch):
    run, listed = place.run(), os.listdir
    submission = packed(handed(place, run, ask=[]))
    runner.take(run, "1.0", {})

    def refused(path):
        if path == "/proc":
            raise PermissionError(errno.EACCES, "processes are nobody's business", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", refused)
    job = layout.read_json(os.path.join(submission, layout.JOB), layout.JOB_FORMAT)
    left = node.Held(submission, job, 0, 0, run, 1, packed=True).left(os.getpid(), 15)
    assert (left.state, end(run)["note"]) == ("failed", "its runner was ended by SIGTERM")


def packed(submission: str, slots: int = 2, each: int = 2) -> str:
    """The same submission as one job that holds all its runs."""
    path = os.path.join(submission, layout.JOB)
    record = layout.read_json(path, layout.JOB_FORMAT)
    layout.write_json(path, {**record, **packs.record(packs.Pack(slots, each))})
    return submission
