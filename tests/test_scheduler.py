"""scheduler: how the job that we are is called, what is made of what its scheduler says, how what waits is held."""

import json
import os
from pathlib import Path

import pytest
from launching import Place

from farmx import layout
from farmx.farms import command, slurm_script
from farmx.runner import Outcome
from farmx.scheduler import Scheduler
from farmx.spec import Job

TASK, JOBS = ["X_ARRAY", "X_INDEX"], ["X_JOB", "X_OTHER"]
NAMED = [
    # what the environment says, by which variables -> what the job is called
    ({"X_JOB": "7", "X_ARRAY": "5", "X_INDEX": "3"}, {"task": TASK, "job": "X_JOB"}, "5_3"),
    ({"X_JOB": "7", "X_ARRAY": "5"}, {"task": TASK, "job": "X_JOB"}, "7"),  # of an array half the name is all of it
    ({"X_JOB": "7"}, {"task": [], "job": "X_JOB"}, "7"),
    ({"X_OTHER": "9.pbs"}, {"job": JOBS}, "9.pbs"),
    ({"X_JOB": "7", "X_OTHER": "9"}, {"job": JOBS}, "7"),
    ({"X_JOB": ""}, {"job": JOBS}, ""),
    ({"X_JOB": "7"}, {}, ""),
]


@pytest.mark.parametrize(("env", "node", "job"), NAMED)
def test_a_job_is_called_as_its_scheduler_calls_no_other(tmp_path, monkeypatch, env, node, job):
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    assert Scheduler(node, str(tmp_path), 1).job == job


FAILED, TOLD = Outcome("failed", 1, note="main exited with 1"), Outcome("preempted", None, "SIGTERM")
UP = "it was told that its time is up"
JUDGED = [
    # how the program ended, what its scheduler says, what else the node knows -> how that counts
    (Outcome("done", 0), "cancelled", {}, Outcome("done", 0)),
    (Outcome("cancelled"), "again", {}, Outcome("cancelled")),
    (FAILED, "", {}, FAILED),
    (FAILED, "again", {}, FAILED._replace(state="preempted", note="its job was stopped and is queued again")),
    (FAILED, "cancelled", {}, FAILED._replace(state="cancelled", note="its job was cancelled")),
    (FAILED, "evicted", {}, FAILED._replace(
        state="interrupted", note="others went first; its job is not queued again")),
    (FAILED, "time", {}, FAILED._replace(note="it reached its time limit", cause="time")),
    (FAILED, "memory", {}, FAILED._replace(note="out of memory; main exited with 1", cause="oom")),
    (TOLD, "memory", {"requeue": ["true"]}, TOLD._replace(again=True, note=f"{UP}; its job is queued again")),
    (TOLD, "", {"code": 99}, TOLD._replace(again=True, note=f"{UP}; its job is queued again")),
    (TOLD, "", {}, TOLD._replace(state="interrupted", note=f"{UP}; this farm cannot be asked to queue it again")),
    (TOLD, "", {"code": None}, TOLD._replace(
        state="interrupted", note=f"{UP}; this farm cannot be asked to queue it again")),
]  # fmt: skip


@pytest.mark.parametrize(("outcome", "said", "more", "judged"), JUDGED)
def test_an_end_counts_as_what_the_scheduler_says_of_its_job(tmp_path, monkeypatch, outcome, said, more, judged):
    monkeypatch.setenv("X_JOB", "7")
    words = [[f"(?m)^{each}=7$", each] for each in ("again", "cancelled", "evicted", "time", "memory")]
    node = {"job": "X_JOB", "ask": ["sh", "-c", f'echo {said}="$0"'], "words": words, "max_requeues": 2, **more}
    assert Scheduler(node, str(tmp_path), 1).judge(outcome) == judged


STEP = "slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-22T01:14:57"
WRITTEN = [
    # what Slurm writes into the output of a job -> what that says of one that EXECUTOR: slurm queued, of one of sbatch
    (f"{STEP} ***", "cancelled", "cancelled"),
    (f"{STEP} DUE TO TIME LIMIT ***", "time", "time"),
    (f"{STEP} DUE TO PREEMPTION ***", "evicted", None),  # Slurm may queue it again, and there is nobody to ask
    ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.", "memory", "memory"),
    ("it's $HOME; größe", None, None),
]


@pytest.mark.parametrize(("line", "ours", "theirs"), WRITTEN)
def test_what_slurm_writes_into_the_output_of_a_job_tells_no_more_than_it_means_there(
    tmp_path, capfd, line, ours, theirs
):
    os.write(2, f"{line}\n".encode())
    nodes = ({**slurm_script.node({}, 3, 30), "ask": None}, command.node(None, 3))
    assert [Scheduler(node, str(tmp_path), 1).word() for node in nodes] == [ours, theirs]


AGAIN, STOPPED, RETRIED = {"again": True}, {}, {"again": True, "cause": "error"}
BEFORE = [
    # how the attempts of the same job ended before, MAX_REQUEUES -> how often it was requeued, None: again
    ([], 3, None),
    ([AGAIN], 1, "once"),
    ([AGAIN, AGAIN], 2, "twice"),
    ([AGAIN, AGAIN], 3, None),
    ([AGAIN] * 3, 3, "3 times"),
    ([AGAIN, STOPPED], 2, None),
    ([AGAIN, RETRIED], 2, None),
    ([AGAIN, None], 2, None),
    ([], 0, "0 times"),
]


@pytest.mark.parametrize(("before", "most", "often"), BEFORE)
def test_a_run_whose_time_is_up_is_requeued_so_often_and_what_others_did_does_not_count(
    tmp_path, monkeypatch, before, most, often
):
    for count, more in enumerate(before):
        path = tmp_path / "attempts" / f"2.{count}" / layout.END
        path.parent.mkdir(parents=True)
        if more is not None:
            path.write_text(json.dumps({"format": 1, "state": "preempted", "started": 1.0, "ended": 2.0, **more}))
    monkeypatch.setenv("X_RESTARTS", str(len(before)))
    node = {"restarts": "X_RESTARTS", "requeue": ["true"], "max_requeues": most}
    again = TOLD._replace(again=True, note=f"{UP}; its job is queued again")
    enough = TOLD._replace(state="failed", cause="time", note=f"{UP}, and it was requeued {often} (MAX_REQUEUES)")
    assert Scheduler(node, str(tmp_path), 2).judge(TOLD) == (enough if often else again)


LISTS = ["sh", "-c", 'echo "9 8"; echo 9']
HOLDS = ["sh", "-c", 'printf "%s " "$0" >>"$HELD"; echo no >&2; exit "$CODE"']
HELD = [
    # its node, the code of what holds -> whether all is held, which arrays that was asked for
    ({"arrays": LISTS, "hold": HOLDS}, 0, True, "8 9 "),
    ({"arrays": LISTS, "hold": HOLDS}, 1, False, "8 9 "),
    ({"arrays": LISTS, "hold": HOLDS, "held": "^no$"}, 1, True, "8 9 "),
    ({"arrays": LISTS, "hold": ["/no/such"]}, 0, False, ""),
    ({"arrays": ["/no/such"], "hold": HOLDS}, 0, False, ""),
    ({"arrays": ["false"], "hold": HOLDS}, 0, False, ""),
    ({"arrays": ["true"], "hold": HOLDS}, 1, True, ""),
    ({"arrays": LISTS}, 0, True, ""),
]


@pytest.mark.parametrize(("node", "code", "done", "arrays"), HELD)
@pytest.mark.parametrize("barred", [True, False])
def test_what_waits_is_held_array_by_array_where_a_breaker_says_so(
    tmp_path, monkeypatch, node, code, done, arrays, barred
):
    (tmp_path / "asked").touch()
    monkeypatch.setenv("HELD", str(tmp_path / "asked"))
    monkeypatch.setenv("CODE", str(code))
    place = Place(tmp_path)
    run = place.run()
    path = Path(place.submission(Job(run, "1.0")).path)
    (path / layout.JOB).write_text(json.dumps({"format": 1, "name": "sweep.s"}))
    (path / layout.BREAKER).write_text(json.dumps({"format": 1, "held": barred, "why": "x"}))
    assert Scheduler(node, run, 1).hold(str(path)) is (done or not barred)
    assert (tmp_path / "asked").read_text() == (arrays if barred else "")


REQUEUED = [
    (["sh", "-c", '[ "$0" = 7 ]'], None),
    (["sh", "-c", "echo ' no such job ' >&2; exit 1"], "no such job"),
    (["sh", "-c", "exit 3"], "sh exited 3"),
    (["/no/such"], "[Errno 2] No such file or directory: '/no/such'"),
]


@pytest.mark.parametrize(("requeue", "problem"), REQUEUED)
def test_a_job_that_cannot_be_queued_again_says_why(tmp_path, monkeypatch, requeue, problem):
    monkeypatch.setenv("X_JOB", "7")
    assert Scheduler({"job": "X_JOB", "requeue": requeue}, str(tmp_path), 1).requeue() == problem
