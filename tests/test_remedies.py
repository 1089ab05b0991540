"""remedies: what the runner itself does about a run that failed."""

import json
import os

import pytest
from attempts import attempt, staged
from launching import Place

from farmx import breaker, layout, remedies
from farmx.farms.slurm_script import FIRST
from farmx.remedies import Remedy
from farmx.runner import Outcome
from farmx.spec import Job

FAILED = Outcome("failed", 1, note="main exited with 1")
KILLED = Outcome("failed", None, "SIGKILL", note="main was ended by SIGKILL")
LATE = Outcome("failed", 1, note="it reached its time limit", cause="time")
AGAIN = "; its job is queued again (RETRY {})"


@pytest.fixture
def remedy(tmp_path):
    """remedy(RETRY, log, the ends of earlier attempts): of the next attempt of a run that a job can be requeued for."""
    place = Place(tmp_path)

    def make(retry: dict, log: bytes = b"", before: tuple[dict | None, ...] = (), requeues: bool = True,
             first: str | None = None) -> Remedy:  # fmt: skip
        run = staged(place)
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "retry": retry, "resources": {"mem": "1G", "time": 5}}))
        for count, end in enumerate(before):
            more = dict(end or {})
            attempt(run, f"1.{count}", {"main": b""}, more.pop("state", None), **more)
        number = f"1.{len(before)}"
        attempt(run, number, {"main": log}, None)
        return Remedy(str(place.submission(name="s").path), str(run), number, requeues, first)

    return make


def again(outcome: Outcome, cause: str) -> Outcome:
    return outcome._replace(state="preempted", again=True, note=outcome.note + AGAIN.format(cause), cause=cause)


ERROR = {"state": "preempted", "cause": "error", "again": True}
OOM = b"MemoryError"
TASK = b"srun: error: n1: task 0: Out Of Memory\nsrun: error: n2: task 1: Terminated\nsrun: Force Terminated StepId=8.0"
STEP = b"slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=8.0. Some of your processes may have been killed"
CASES = [
    ({}, FAILED, b"", (), FAILED._replace(cause="error")),
    ({"error": 0}, FAILED, b"", (), FAILED._replace(cause="error")),
    ({"error": 1}, FAILED, b"", (), again(FAILED, "error")),
    ({"error": 1}, FAILED, b"", (ERROR,), FAILED._replace(cause="error")),
    ({"error": 2}, FAILED, b"", (ERROR,), again(FAILED, "error")),
    ({"error": 1}, FAILED, OOM, (), FAILED._replace(cause="oom")),
    ({"oom": 1}, FAILED, OOM, (), again(FAILED, "oom")),
    ({"error": 1}, FAILED, TASK, (), FAILED._replace(cause="oom")),
    ({"oom": 1}, FAILED, STEP, (), again(FAILED, "oom")),
    ({"oom": "x2"}, FAILED, OOM, (), FAILED._replace(cause="oom")),  # another job has to ask for more
    ({"error": 9, "oom": 9}, KILLED, b"", (), KILLED),  # of a KILL the scheduler may say more
    ({"error": 9, "oom": 9}, FAILED._replace(code=137), b"", (), FAILED._replace(code=137)),
    ({"time": "x2"}, LATE, b"", (), LATE),
    ({"time": 1}, LATE, b"", (), again(LATE, "time")),
    ({"error": {"mem": "x2"}}, FAILED, b"", (), FAILED._replace(cause="error")),
    ({"node_fail": 1, "error": 1}, FAILED, b"", (None,), again(FAILED, "error")),
    ({"error": 1}, Outcome("done", 0), b"", (), Outcome("done", 0)),
    ({"error": 1}, Outcome("cancelled", 1), b"", (), Outcome("cancelled", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("retry", "outcome", "log", "before", "judged"), CASES)
def test_an_attempt_that_retry_gives_with_the_same_resources_is_made_in_the_same_job(
    remedy, retry, outcome, log, before, judged
):
    assert remedy(retry, log, before).judge(outcome) == judged


ENDING = """srun: launch/slurm: _step_signal: Terminating StepId=7.0
slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-22T06:57:38 ***
srun: error: n1: task 0: Terminated
srun: error: n2: task 2: Exited with exit code 9
srun: Force Terminated StepId=7.0
"""
ALL = "slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-22T06:57:38 DUE TO TIME LIMIT ***\n"
SEVERAL = [
    # what srun says in the log before it ends the other tasks, its own code -> the code that is recorded
    ("srun: error: n1: task 1: Exited with exit code 3\n", 143, 3),
    ("srun: error: n1: task 1: Exited with exit code 3\n", 137, 3),
    ("srun: error: n1: tasks 1-2,4: Exited with exit code 127\n", 143, 127),
    ("srun: error: n1: task 1: Segmentation fault\n", 143, 139),
    ("srun: error: n1: task 1: Aborted (core dumped)\n", 143, 134),
    ("srun: error: n1: task 1: Terminated\n", 137, 143),
    ("srun: error: n1: task 1: some word of its own\n", 143, 143),
    ("loss 0.1\rloss 0.2srun: error: n1: task 1: Exited with exit code 3\n", 143, 3),  # a line that was not ended
    ("'srun: error: n1: task 1: Exited with exit code 3'\nsrun: error: n1: task 0: Quit\n", 143, 131),
    ("srun: error: n1: task 1: Exited with exit code 3\n", 5, 5),  # a code that no task has that was ended
    (f"srun: error: n1: task 1: Exited with exit code 3\n{ALL}", 143, 143),
    ("", 137, 143),  # that of the task that srun names first
]


@pytest.mark.parametrize(("said", "code", "recorded"), SEVERAL)
def test_of_several_tasks_the_end_of_the_one_that_failed_first_is_recorded(remedy, said, code, recorded):
    made = remedy({}, f"{said}{ENDING}".encode(), first=FIRST)
    first = Outcome("failed", recorded, note=f"main exited with {recorded}", cause="error")
    assert made.judge(Outcome("failed", code, note=f"main exited with {code}")) == first


ONE = b"srun: error: n1: task 1: Killed\n"
MEMORY = [(TASK, 143, "oom"), (ONE + STEP, 143, "oom"), (ONE, 137, None)]


@pytest.mark.parametrize(("log", "code", "cause"), MEMORY, ids=["a task", "a child", "nobody says why"])
def test_of_several_tasks_one_that_was_killed_is_known_to_have_lacked_memory_where_slurm_says_so(
    remedy, log, code, cause
):
    outcome = Outcome("failed", code, note=f"main exited with {code}", cause=cause)
    assert remedy({}, log, first=FIRST).judge(Outcome("failed", 143, note="main exited with 143")) == outcome


def test_where_nobody_can_requeue_it_or_the_rest_is_held_the_cause_is_recorded(remedy):
    assert remedy({"error": 1}, requeues=False).judge(FAILED) == FAILED._replace(cause="error")


def test_where_the_rest_is_held_it_is_left_for_who_mends_it(remedy):
    made = remedy({"error": 1})
    with open(os.path.join(made.submission, "breaker.json"), "w") as file:
        json.dump({"format": 1, "held": True, "why": "x"}, file)
    assert made.judge(FAILED) == FAILED._replace(cause="error")
    assert breaker.read(made.submission) == {"format": 1, "held": True, "why": "x"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(1 << 8, Outcome("interrupted", note="its runner broke off; its job printed why")),
     (15, Outcome("failed", None, "SIGTERM", note="its runner was ended by SIGTERM"))],
)  # fmt: skip
def test_a_runner_that_recorded_no_end_is_judged_by_its_own(status, outcome):
    assert remedies.of_runner(2**22, status) == outcome


def test_a_run_without_a_record_is_judged_by_its_end(remedy):
    made = remedy({"error": 1})
    os.unlink(os.path.join(made.run, "run.json"))
    assert (made.judge(FAILED), made.held(FAILED)) == (FAILED._replace(cause="error"), None)


# ---------------------------------------------------------------- what holds the rest

WHY = "the first 2 runs failed with: ValueError: x (t.py:1 in f)"
OOMED, TIMED = FAILED._replace(cause="oom"), LATE
ERRED, RETRIED = FAILED._replace(cause="error"), again(FAILED, "error")
TRACE = b'Traceback (most recent call last):\n  File "t.py", line 1, in f\nValueError: x\n'


@pytest.fixture
def launch(tmp_path):
    """launch(ends): a launch in which the first runs ended so and one waits; the Remedy of its first run."""
    place = Place(tmp_path)

    def make(*ends: Outcome) -> Remedy:
        runs = [staged(place, name=f"run {index}") for index in range(len(ends) + 1)]
        for run, end in zip(runs, ends):
            record = json.loads((run / "run.json").read_text())
            (run / "run.json").write_text(json.dumps({**record, "breaker": 2}))
            attempt(run, "1.0", {"main": TRACE}, end.state, **({"cause": end.cause} if end.cause else {}))
        path = place.submission(*(Job(str(run), "1.0") for run in runs)).path
        return Remedy(path, str(runs[0]), "1.0", True)

    return make


@pytest.fixture
def opened(monkeypatch):
    """The records that were opened since, by name."""
    names, opens = [], layout.read_json

    def read_json(path: str, newest: int | None) -> dict:
        names.append(os.path.basename(path))
        return opens(path, newest)

    monkeypatch.setattr(layout, "read_json", read_json)
    return names


@pytest.mark.parametrize("outcome", [OOMED, TIMED, again(FAILED, "oom"), Outcome("done", 0), Outcome("cancelled", 1)])
def test_an_end_that_is_no_fault_of_the_code_opens_no_record_of_other_runs(launch, opened, outcome):
    made = launch(*[outcome] * 5)
    opened.clear()
    assert made.held(outcome) is None
    assert set(opened) <= {"breaker.json"}


@pytest.mark.parametrize("outcome", [FAILED, ERRED, RETRIED])
def test_the_ends_that_are_a_fault_of_the_code_hold_the_rest(launch, outcome):
    made = launch(outcome, outcome)
    assert made.held(outcome) == WHY
    assert breaker.held(made.submission) == WHY


def test_what_is_held_is_told_at_the_end_of_whatever_failed_since(launch):
    made = launch(ERRED, ERRED)
    made.held(ERRED)
    assert [made.held(outcome) for outcome in (OOMED, TIMED, Outcome("done", 0))] == [WHY, WHY, None]
