"""remedies: what the runner itself does about a run that failed."""

import json
import os

import pytest
from attempts import attempt, staged
from launching import Place

from farmx import breaker
from farmx.remedies import Remedy
from farmx.runner import Outcome

FAILED = Outcome("failed", 1, note="main exited with 1")
KILLED = Outcome("failed", None, "SIGKILL", note="main was ended by SIGKILL")
LATE = Outcome("failed", 1, note="it reached its time limit", cause="time")
AGAIN = "; its job is queued again (RETRY {})"


@pytest.fixture
def remedy(tmp_path):
    """remedy(RETRY, log, the ends of earlier attempts): of the next attempt of a run that a job can be requeued for."""
    place = Place(tmp_path)

    def make(retry: dict, log: bytes = b"", before: tuple[dict | None, ...] = (), requeues: bool = True) -> Remedy:
        run = staged(place)
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "retry": retry, "resources": {"mem": "1G", "time": 5}}))
        for count, end in enumerate(before):
            more = dict(end or {})
            attempt(run, f"1.{count}", {"main": b""}, more.pop("state", None), **more)
        number = f"1.{len(before)}"
        attempt(run, number, {"main": log}, None)
        return Remedy(str(place.submission(name="s").path), str(run), number, requeues)

    return make


def again(outcome: Outcome, cause: str) -> Outcome:
    return outcome._replace(state="preempted", again=True, note=outcome.note + AGAIN.format(cause), cause=cause)


ERROR = {"state": "preempted", "cause": "error", "again": True}
OOM = b"MemoryError"
CASES = [
    ({}, FAILED, b"", (), FAILED._replace(cause="error")),
    ({"error": 0}, FAILED, b"", (), FAILED._replace(cause="error")),
    ({"error": 1}, FAILED, b"", (), again(FAILED, "error")),
    ({"error": 1}, FAILED, b"", (ERROR,), FAILED._replace(cause="error")),
    ({"error": 2}, FAILED, b"", (ERROR,), again(FAILED, "error")),
    ({"error": 1}, FAILED, OOM, (), FAILED._replace(cause="oom")),
    ({"oom": 1}, FAILED, OOM, (), again(FAILED, "oom")),
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


def test_where_nobody_can_requeue_it_or_the_rest_is_held_the_cause_is_recorded(remedy):
    assert remedy({"error": 1}, requeues=False).judge(FAILED) == FAILED._replace(cause="error")


def test_where_the_rest_is_held_it_is_left_for_who_mends_it(remedy):
    made = remedy({"error": 1})
    with open(os.path.join(made.submission, "breaker.json"), "w") as file:
        json.dump({"format": 1, "held": True, "why": "x"}, file)
    assert made.judge(FAILED) == FAILED._replace(cause="error")
    assert breaker.read(made.submission) == {"format": 1, "held": True, "why": "x"}


def test_a_run_without_a_record_is_judged_by_its_end(remedy):
    made = remedy({"error": 1})
    os.unlink(os.path.join(made.run, "run.json"))
    assert (made.judge(FAILED), made.held(FAILED)) == (FAILED._replace(cause="error"), None)
