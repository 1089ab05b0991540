"""breaker: when the first runs of a submission failed alike, the rest is to be held, and that is told once."""

import json
import os

import pytest
from attempts import attempt, staged
from launching import Place

from farmx import breaker
from farmx.farms import base
from farmx.spec import Job

TRACE = """Traceback (most recent call last):
  File "{}", line {}, in <module>
    load()
  File "{}", line 3, in load
    raise ValueError("no such file")
{}
"""


def trace(error: str = "ValueError: it's $HOME; größe", file: str = "t.py", line: int = 7) -> bytes:
    return TRACE.format(file, line, file, error).encode()


@pytest.fixture
def submission(tmp_path):
    """submission(how each index ended, ...) -> its path; None: it has not begun. (log, state, more of its record)."""
    place = Place(tmp_path)

    def make(*ends: tuple | None, number: str = "2.0") -> str:
        runs = [staged(place, name=f"run {index}") for index in range(len(ends))]
        for run, end in zip(runs, ends):
            if end is not None:
                log, state, *more = end
                attempt(run, "1.0", {"main": b""}, "done")  # in an earlier submission
                attempt(run, number, {"main": log}, state, **(more[0] if more else {"code": 1}))
        home = os.path.join(place.experiment, ".farmx", "submissions")
        return base.submission(home, "s", [Job(str(run), number) for run in runs]).path

    return make


FAILED = (trace(), "failed")
WHY = "the first 3 runs failed with: ValueError: it's $HOME; größe (t.py:3 in load)"
WRONG = (b"usage: t.py\nt.py: error: unrecognized arguments: --lr\n", "failed", {"code": 2})
CASES = [
    ((FAILED, FAILED, FAILED, None, None), WHY, {"held": True, "why": WHY}),
    ((FAILED, (trace(line=9), "failed"), FAILED, None), WHY, {"held": True, "why": WHY}),  # called from elsewhere
    ((None, FAILED, (b"", None), FAILED, FAILED), WHY, {"held": True, "why": WHY}),
    ((FAILED, (trace(), "preempted", {"cause": "error", "again": True}), FAILED), WHY, {"held": True, "why": WHY}),
    ((FAILED, (b"", "cancelled"), (b"", "failed", {"cause": "oom"}), FAILED, FAILED), WHY, {"held": True, "why": WHY}),
    ((FAILED, FAILED, None, None), None, None),
    ((FAILED, (trace("ValueError: other"), "failed"), FAILED), None, {"held": False}),
    ((FAILED, (trace(file="u.py"), "failed"), FAILED), None, {"held": False}),
    (((b"hello", "failed"), FAILED, FAILED), None, {"held": False}),
    ((FAILED, FAILED, FAILED, (b"", "done")), None, {"held": False}),
    (((b"", "done"), FAILED, FAILED, FAILED), None, {"held": False}),
    ((FAILED, FAILED, FAILED, (trace("KeyError: 'x'"), "failed")), WHY, {"held": True, "why": WHY}),
    ((WRONG, WRONG, WRONG), "the first 3 runs failed with: t.py: error: unrecognized arguments: --lr", ...),
    (((b"3\n", "failed"),) * 3, None, {"held": False}),
    ((), None, None),
]  # fmt: skip


@pytest.mark.parametrize(("ends", "why", "record"), CASES)
def test_the_rest_is_held_when_the_first_failed_alike_and_none_ended_well(submission, ends, why, record):
    path = submission(*ends)
    assert breaker.check(path, 3) == why
    wanted = {"held": True, "why": why} if record is ... else record
    assert breaker.read(path) == (wanted and {"format": 1, **wanted})
    assert breaker.check(path, 3) is None  # it is told once


def test_a_breaker_of_none_never_trips_and_one_of_one_at_the_first(submission):
    path = submission(FAILED, None)
    assert (breaker.check(path, 0), breaker.read(path)) == (None, None)
    assert breaker.check(path, 1) == "the first run failed with: ValueError: it's $HOME; größe (t.py:3 in load)"


def test_what_was_let_go_is_never_held_again(submission):
    path = submission(FAILED, FAILED, FAILED)
    assert breaker.check(path, 3) == WHY
    breaker.release(path)
    assert (breaker.read(path), breaker.check(path, 3)) == ({"format": 1, "held": False, "why": WHY}, None)


def test_of_several_restarts_the_newest_that_ended_counts(submission):
    path = submission(FAILED, FAILED, FAILED, number="1.1")
    assert breaker.check(path, 3) == WHY


def test_a_record_that_cannot_be_read_holds_nothing(submission):
    path = submission(FAILED, FAILED, FAILED)
    with open(os.path.join(path, "breaker.json"), "w") as file:
        json.dump([], file)
    assert (breaker.read(path), breaker.check(path, 3)) == (None, None)
