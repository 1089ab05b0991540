"""breaker: when the first runs of a submission failed alike, the rest is to be held, and that is told once."""

import json
import os

import pytest
from attempts import attempt, staged
from launching import Place

from farmx import breaker, layout
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

    def make(*ends: tuple | None, number: str = "2.0", name: str = "s", after: str = "") -> str:
        runs = [staged(place, name=f"run {name} {index}") for index in range(len(ends))]
        for run, end in zip(runs, ends):
            if end is not None:
                log, state, *more = end
                attempt(run, "1.0", {"main": b""}, "done")  # in an earlier submission
                attempt(run, number, {"main": log}, state, **(more[0] if more else {"code": 1}))
        home = os.path.join(place.experiment, ".farmx", "submissions")
        path = base.submission(home, name, [Job(str(run), number) for run in runs]).path
        if after:
            with open(os.path.join(path, "job.json"), "w") as file:
                json.dump({"format": 1, "after": after}, file)
        return path

    return make


FAILED = (trace(), "failed")
WHY = "the first 3 runs failed with: ValueError: it's $HOME; größe (t.py:3 in load)"
WRONG = (b"usage: t.py\nt.py: error: unrecognized arguments: --lr\n", "failed", {"code": 2})
ENDING = """srun: launch/slurm: _step_signal: Terminating StepId=7.0
slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-22T06:57:38 ***
srun: error: n1: tasks 0,2: Terminated
srun: Force Terminated StepId=7.0
"""
CASES = [
    ((FAILED, FAILED, FAILED, None, None), WHY, {"held": True, "why": WHY}),
    ((FAILED, (trace(line=9), "failed"), FAILED, None), WHY, {"held": True, "why": WHY}),  # called from elsewhere
    ((None, FAILED, (b"", None), FAILED, FAILED), WHY, {"held": True, "why": WHY}),
    ((FAILED, (trace(), "preempted", {"cause": "error", "again": True}), FAILED), WHY, {"held": True, "why": WHY}),
    ((FAILED, (b"", "cancelled"), (b"", "failed", {"cause": "oom"}), FAILED, FAILED, None), WHY, ...),
    ((FAILED, FAILED, None, None), None, None),
    ((FAILED, (trace("ValueError: other"), "failed"), FAILED), None, {"held": False}),
    ((FAILED, (trace(file="u.py"), "failed"), FAILED), None, {"held": False}),
    (((b"hello", "failed"), FAILED, FAILED), None, {"held": False}),
    ((FAILED, FAILED, FAILED, (b"", "done")), None, {"held": False}),
    (((b"", "done"), FAILED, FAILED, FAILED), None, {"held": False}),
    ((FAILED, FAILED, FAILED, (trace("KeyError: 'x'"), "failed"), None), WHY, {"held": True, "why": WHY}),
    (tuple((trace(f"ValueError: it's {lr}; größe"), "failed") for lr in ("6.0", "-1e-07", "70")) + (None,),
     "the first 3 runs failed with: ValueError: it's 6.0; größe (t.py:3 in load)", ...),  # a value of each run's own
    (tuple((trace(f"ValueError: lr={lr}"), "failed") for lr in (".5", "-0.5", "5e-1")) + (None,),
     "the first 3 runs failed with: ValueError: lr=.5 (t.py:3 in load)", ...),
    (tuple((trace(f"ValueError: loss {loss}!"), "failed") for loss in ("nan", "-inf", "3.1")) + (None,),
     "the first 3 runs failed with: ValueError: loss nan! (t.py:3 in load)", ...),
    (tuple((trace(f"KeyError: '{key}'"), "failed") for key in ("nano", "info", "nano")), None, {"held": False}),
    (tuple((trace(f"KeyError: {key}"), "failed") for key in ("np.nan", "np.inf", "np.nan")), None, {"held": False}),
    (tuple((f"t.py: error: --n: {n}: at 0x7f{n}c0: no\n".encode(), "failed", {"code": 2}) for n in "123") + (None,),
     "the first 3 runs failed with: t.py: error: --n: 1: at 0x7f1c0: no", ...),
    (tuple((trace().replace(b"line 3,", b"line %d," % line), "failed") for line in (3, 3, 4)), None, {"held": False}),
    ((FAILED, FAILED, FAILED), None, {"held": False}),  # there is no rest
    ((FAILED, FAILED, FAILED, (b"", None)), None, {"held": False}),
    ((FAILED, FAILED, (b"", None)), None, None),
    ((FAILED, FAILED, FAILED, (b"", "preempted")), WHY, {"held": True, "why": WHY}),  # its scheduler queues it again
    ((WRONG, WRONG, WRONG, None), "the first 3 runs failed with: t.py: error: unrecognized arguments: --lr", ...),
    ((tuple((f"t.py: error: no\nsrun: error: n{n}: task 1: Exited with exit code 2\n{ENDING}".encode(), "failed",
             {"code": 2}) for n in "123") + (None,)), "the first 3 runs failed with: t.py: error: no", ...),
    ((tuple((f"srun: error: n{n}: task {n}: Exited with exit code 2\n{ENDING}".encode(), "failed", {"code": 2})
            for n in "123") + (None,)),
     "the first 3 runs failed with: srun: error: n1: task 1: Exited with exit code 2", ...),
    (((b"3\n", "failed"),) * 3, None, {"held": False}),
    ((), None, None),
]  # fmt: skip


@pytest.mark.parametrize(("ends", "why", "record"), CASES)
def test_the_rest_is_held_when_the_first_failed_alike_and_none_ended_well(submission, ends, why, record):
    path = submission(*ends)
    assert breaker.check(path, 3) == why
    wanted = {"held": True, "why": why} if record is ... else record
    assert breaker.read(path) == (wanted and {"format": 1, **wanted})
    assert breaker.check(path, 3) == why  # whoever asks


def test_a_breaker_of_none_never_trips_and_one_of_one_at_the_first(submission):
    path = submission(FAILED, None)
    assert (breaker.check(path, 0), breaker.read(path)) == (None, None)
    assert breaker.check(path, 1) == "the first run failed with: ValueError: it's $HOME; größe (t.py:3 in load)"


def test_where_all_have_begun_and_fail_alike_only_the_first_ends_look_through_all(submission, monkeypatch):
    path = submission(*[FAILED] * 3, *[(b"", None)] * 9)
    read: list[str] = []
    attempts = layout.attempt_numbers
    monkeypatch.setattr(layout, "attempt_numbers", lambda run: read.append(run) or attempts(run))
    assert breaker.check(path, 3) is None
    assert len(read) == 12
    assert [breaker.check(path, 3) for _ in range(9)] == [None] * 9
    assert len(read) == 12


def test_what_was_let_go_is_never_held_again(submission):
    path = submission(FAILED, FAILED, FAILED, None)
    assert breaker.check(path, 3) == WHY
    breaker.release(path)
    assert (breaker.read(path), breaker.check(path, 3)) == ({"format": 1, "held": False, "why": WHY}, None)


def test_of_several_restarts_the_newest_that_ended_counts(submission):
    path = submission(FAILED, FAILED, FAILED, None, number="1.1")
    assert breaker.check(path, 3) == WHY


def test_a_record_that_cannot_be_read_holds_nothing(submission):
    path = submission(FAILED, FAILED, FAILED, None)
    with open(os.path.join(path, "breaker.json"), "w") as file:
        json.dump([], file)
    assert (breaker.read(path), breaker.check(path, 3)) == (None, None)


# ---------------------------------------------------------------- a launch that is several submissions


def known(*paths: str) -> list[dict | None]:
    """The records of these submissions without their format."""
    records = map(breaker.read, paths)
    return [record and {key: value for key, value in record.items() if key != "format"} for record in records]


def test_the_first_runs_are_those_of_the_whole_launch_and_each_of_its_submissions_is_held(submission):
    first, second, third = (submission(FAILED, name="s"), submission(FAILED, None, name="s-2"),
                            submission(FAILED, None, name="s-10"))  # fmt: skip
    other = submission(FAILED, FAILED, None, name="t")
    assert (breaker.check(second, 3), breaker.check(first, 3)) == (WHY, WHY)
    assert known(first, second, third, other) == [{"held": True, "why": WHY}] * 3 + [None]
    assert breaker.check(other, 3) is None


def test_one_that_ended_well_anywhere_in_the_launch_keeps_it_closed(submission):
    first, second = submission((b"", "done"), name="s"), submission(FAILED, FAILED, FAILED, None, name="s-2")
    assert breaker.check(second, 3) is None
    assert known(first, second) == [{"held": False}] * 2


def test_what_waits_may_be_in_another_submission(submission):
    first, second = submission(FAILED, FAILED, FAILED, name="s"), submission(None, name="s-2")
    assert (breaker.check(first, 3), breaker.held(second)) == (WHY, WHY)


def test_stages_that_are_jobs_of_their_own_are_counted_apart(submission):
    train, test = submission(*[(b"", "done")] * 4, name="s"), submission(FAILED, FAILED, name="s-2", after="s")
    again, more = submission((b"", "done"), name="s-3"), submission(FAILED, None, name="s-4", after="s-3")
    assert breaker.check(test, 3) == WHY
    assert known(train, test, again, more) == [None, {"held": True, "why": WHY}] * 2


@pytest.mark.parametrize("asked", [0, 1])
def test_what_died_while_it_recorded_is_recorded_by_the_next(submission, asked):
    paths = submission(FAILED, FAILED, FAILED, name="s"), submission(FAILED, None, name="s-2")
    assert breaker.check(paths[0], 3) == WHY
    os.unlink(os.path.join(paths[1], "breaker.json"))
    assert breaker.check(paths[asked], 3) == WHY
    assert known(*paths) == [{"held": True, "why": WHY}] * 2


def test_that_the_farm_holds_it_is_another_fact_than_that_it_is_to(submission):
    paths = submission(FAILED, FAILED, FAILED, name="s"), submission(FAILED, None, name="s-2")
    breaker.check(paths[0], 3)
    assert [breaker.farm_holds(path) for path in paths] == [False, False]
    breaker.release(paths[1])
    breaker.note_farm_holds(paths[0])
    assert [breaker.farm_holds(path) for path in paths] == [True, False]


def test_what_is_being_let_go_is_still_held_and_bars_nothing(submission):
    path = submission(FAILED, FAILED, FAILED, None)
    breaker.check(path, 3)
    assert (breaker.bars(path), breaker.held(path)) == (WHY, WHY)
    breaker.unbar(path)
    assert (breaker.bars(path), breaker.held(path), breaker.check(path, 3)) == ("", WHY, WHY)
    breaker.release(path)
    assert (breaker.bars(path), breaker.held(path), breaker.check(path, 3)) == ("", "", None)


@pytest.mark.parametrize("name", ["20261121-000000.000-123456", "s"])
def test_a_launch_whose_name_ends_in_digits_is_no_part_of_another(submission, name):
    path, second = submission(FAILED, FAILED, FAILED, name=name), submission(None, name=f"{name}-2")
    assert layout.launched_with(path) == layout.launched_with(second) == [path, second]


def test_submissions_come_in_the_order_in_which_they_were_made(submission):
    names = ["20261121-000000.000-99999a", *(f"20261121-000000.000-99999a-{place}" for place in (2, 10)),
             "20261121-000000.001-000000", "20261121-000000.001-000000-2", "20261121-000000.002-000000"]  # fmt: skip
    paths = {name: submission(None, name=name) for name in reversed(names)}
    assert layout.submissions(os.path.dirname(paths[names[0]])) == [paths[name] for name in names]
    assert layout.launched_with(paths[names[1]]) == [paths[name] for name in names[:3]]
