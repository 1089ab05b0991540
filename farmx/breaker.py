"""Whether the first runs of a launch failed alike, so that the rest is better held; never holds anything.

Carried to nodes with the runner: standard library only. Once it is known, the record of each of the launch's
submissions says so, and nobody looks through their runs again. That is one fact; that the farm holds what waits is
another, of which layout.HOLDING is the record: whoever finds the first without the second does that once more.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from farmx import layout
from farmx.errors import RecordError, StageError

# Codes by which shells, argparse and python say that the command itself is wrong: no traceback tells that.
_WRONG_COMMAND = (2, 126, 127)
_NUMBER = r"0x[0-9a-fA-F]+|-?(?:\d+\.?\d*|\.\d+|(?<![\w.])(?:nan|inf)(?!\w))(?:[eE][-+]?\d+)?"


def after(submission: str, run: str) -> str | None:
    """check() after an attempt of `run` failed, by what it was staged with."""
    try:
        most = layout.read_json(os.path.join(run, layout.RUN), layout.RUN_FORMAT).get(layout.BREAKS)
        return check(submission, most) if type(most) is int else None
    except (OSError, RecordError):
        return None


def check(submission: str, most: int) -> str | None:
    """Why the rest of the launch is to be held, whoever asks and whenever; None when it is not. most: 0 for never.

    That is when the first `most` runs that ended, in the order of the launch's submissions and their indices, failed
    with the same error in the same place, none ended well, and some have not begun.
    """
    if most < 1:
        return None
    known = read(submission)
    if known is None and (found := _found(counted_with(submission), most)):
        _make(submission, found)
        spread(submission)
    elif held(submission) and not farm_holds(submission):
        spread(submission)  # who did so before may have died
    return held(submission) or None


def _found(launch: Sequence[str], most: int) -> dict[str, Any] | None:
    """What the record of each of these submissions is to say; None while their first runs do not tell.

    Where all have begun there is no rest, and that is the end of it: else each that fails would look through all.
    """
    found, waits = _errors(launch, most)
    faults = [fault for fault in found if fault]
    if len(faults) < len(found) or len({fault.same for fault in faults}) > 1:
        return {"held": False}
    if len(faults) < most:
        return None
    if not waits:
        return {"held": False}
    runs = f"the first {most} runs" if most > 1 else "the first run"
    return {"held": True, "why": f"{runs} failed with: {faults[0].text}"}


def spread(submission: str) -> None:
    """Have what is known of the submission stand in the records of those that are held with it."""
    known = read(submission)
    for path in counted_with(submission) if known else ():
        _make(path, known or {})


def counted_with(submission: str) -> list[str]:
    """The submission directories that are held together: of the same launch and as many stages in, in order."""
    launch = layout.launched_with(submission)
    after = {os.path.basename(path): _after(path) for path in launch}
    depths: dict[str, int] = {}
    for path in launch:  # what waits comes after what it waits for
        name = os.path.basename(path)
        depths[name] = depths.get(after[name], 0) + 1 if after[name] else 0
    return [path for path in launch if depths[os.path.basename(path)] == depths[os.path.basename(submission)]]


def _after(submission: str) -> str:
    """The submission that it waits for, '' for none."""
    record = layout.read_or_none(os.path.join(submission, layout.JOB), layout.JOB_FORMAT) or {}
    return str(record.get(layout.AFTER) or "")


class _Fault(NamedTuple):
    """What a run failed with, in one line. same: what is the same for the same fault."""

    text: str
    same: str


def _errors(launch: Sequence[str], most: int) -> tuple[list[_Fault | None], bool]:
    """What each run failed with that did, beyond the first `most` as the first, and whether any waits.

    [None] when one ended well.
    """
    found: list[_Fault | None] = []
    waits = False
    for attempt, end in (each for submission in launch for each in _standing(submission)):
        waits = waits or not attempt or end.get("state") == "preempted"
        if end.get("state") == "done":
            return [None], waits
        if failed(end.get("state"), end.get("cause")):
            found.append(_error(attempt, end) if len(found) < most else found[0])
    return found, waits


def failed(state: str | None, cause: str | None) -> bool:
    """Whether an attempt ended by a fault of its own; one that RETRY queues again, too."""
    return cause == "error" or (cause is None and state == "failed")


def read(submission: str) -> dict[str, Any] | None:
    """What is known of a submission: `held`, and `why`; None while its first runs do not tell."""
    return layout.read_or_none(os.path.join(submission, layout.BREAKER), layout.BREAKER_FORMAT)


def held(submission: str) -> str:
    """Why what waits of the submission is kept from beginning; '' when it is not."""
    known = read(submission) or {}
    return str(known.get("why") or "") if known.get("held") else ""


def mark(submission: str, place: int) -> None:
    """Record that the job of this index ended since it is held: a scheduler that cannot be asked has it no more."""
    with suppress(StageError):  # a full disk
        layout.write_bytes(os.path.join(submission, f"{place}{layout.KEPT_SUFFIX}"), b"")


def marked(submission: str) -> set[int]:
    """The indices that mark() was told of."""
    stems = (os.path.splitext(name) for name in layout.names(submission))
    return {int(stem) for stem, suffix in stems if suffix == layout.KEPT_SUFFIX and stem.isdecimal()}


def bars(submission: str) -> str:
    """Why a job of the submission that begins now is to end at once; '' where it is not, or is being let go."""
    return "" if (read(submission) or {}).get("open") else held(submission)


def farm_holds(submission: str) -> bool:
    """Whether the farm holds what waits of the submission."""
    return os.path.exists(os.path.join(submission, layout.HOLDING))


def note_farm_holds(submission: str) -> None:
    """Record that the farm holds what waits of all that is held with the submission."""
    for path in counted_with(submission):
        if held(path):
            with suppress(StageError):  # a full disk: it is asked for once more
                layout.write(os.path.join(path, layout.HOLDING), "")


def unbar(submission: str) -> None:
    """Record that what is held is about to go on: a job that begins goes on, too. Raises StageError."""
    _change(submission, open=True)


def release(submission: str) -> None:
    """Record that what was held goes on; it is never held again. Raises StageError."""
    _change(submission, held=False)


def _change(submission: str, **more: bool) -> None:
    record = {**(read(submission) or {}), "format": layout.BREAKER_FORMAT, **more}
    layout.write_json(os.path.join(submission, layout.BREAKER), record)


def _make(submission: str, known: Mapping[str, Any]) -> None:
    """Record what is known, unless somebody did before, or the disk is full: what is not recorded is not held."""
    with suppress(StageError):
        layout.make_json(os.path.join(submission, layout.BREAKER), {"format": layout.BREAKER_FORMAT, **known})


def _standing(submission: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The newest ended attempt of each index and how it ended, in order of the indices.

    (its newest attempt, {}) where none has ended, ('', {}) where none began.
    """
    home = layout.experiment_of(submission)
    for run, (queued, _) in layout.runs_of(submission):
        numbers = [each for each in layout.attempt_numbers(os.path.join(home, run)) if each[0] == queued]
        paths = [os.path.join(home, run, layout.ATTEMPTS, layout.attempt_name(*number)) for number in numbers]
        ends = ((path, end) for path in reversed(paths) if (end := layout.of_attempt(path, layout.END)) is not None)
        yield next(ends, (paths[-1] if paths else "", {}))


def _error(attempt: str, end: dict[str, Any]) -> _Fault | None:
    """What it failed with; None where nothing tells.

    A number in a message is mostly a value of the run, and says nothing of the fault.
    """
    from farmx import evidence  # spares who only looks

    lines = evidence.newest_log(attempt)
    trace = evidence.traceback(lines)
    error, at = "", ""
    if trace is not None and trace.error:
        error, at = trace.error, f" ({trace.at})" if trace.at else ""
    elif end.get("code") in _WRONG_COMMAND:
        error = evidence.last_line(lines)
    error, at = _anywhere(error, attempt), _anywhere(at, attempt)
    return _Fault(error + at, re.sub(_NUMBER, "#", error) + at) if error else None


def _anywhere(line: str, attempt: str) -> str:
    """`line` with LOGDIR for the directory of its run, which would tell it from that of every other run."""
    owner = layout.of_attempt(attempt, layout.OWNER) or {}
    names = {attempt, os.path.realpath(attempt), str(owner.get("path") or attempt)}
    for run in sorted(map(os.path.dirname, map(os.path.dirname, names)), key=len, reverse=True):
        line = line.replace(run, layout.ENV_LOGDIR)
    return line
