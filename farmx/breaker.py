"""Whether the first runs of a submission failed alike, so that the rest is better held; never holds anything.

Carried to nodes with the runner: standard library only. Once it is known, the submission's record says so, and nobody
looks through its runs again.
"""

import os
from collections.abc import Iterator
from typing import Any

from farmx import layout
from farmx.errors import RecordError, StageError

# Codes by which shells, argparse and python say that the command itself is wrong: no traceback tells that.
_WRONG_COMMAND = (2, 126, 127)


def after(submission: str, run: str) -> str | None:
    """check() after an attempt of `run` failed, by what it was staged with."""
    try:
        most = layout.read_json(os.path.join(run, layout.RUN), layout.RUN_FORMAT).get(layout.BREAKS)
    except (OSError, RecordError):
        return None
    return check(submission, most) if type(most) is int else None


def check(submission: str, most: int) -> str | None:
    """Why the rest of the submission is to be held, told once, to one caller; None when it is not. most: 0 for never.

    That is when the first `most` runs of the submission that ended, in the order of its indices, failed with the same
    error in the same place, and none ended well.
    """
    if most < 1 or read(submission) is not None:
        return None
    found: list[str | None] = []
    for attempt, end in _ended(submission):
        if end.get("state") == "done":
            found = [None]
            break
        if failed(end):
            found.append(_error(attempt, end) if len(found) < most else found[0])
    if None in found or len(set(found)) > 1:
        _keep(submission, {"held": False})
        return None
    if len(found) < most:
        return None
    why = f"the first {most} runs failed with: {found[0]}" if most > 1 else f"the first run failed with: {found[0]}"
    return why if _keep(submission, {"held": True, "why": why}) else None


def failed(end: dict[str, Any]) -> bool:
    """Whether an attempt ended by a fault of its own; one that RETRY queues again, too."""
    by_itself = end.get("cause") in (None, "error")
    return by_itself and (end.get("state") == "failed" or "cause" in end)


def read(submission: str) -> dict[str, Any] | None:
    """What is known of a submission: `held`, and `why`; None while its first runs do not tell."""
    try:
        return layout.read_json(os.path.join(submission, layout.BREAKER), layout.BREAKER_FORMAT)
    except (OSError, RecordError):
        return None


def release(submission: str) -> None:
    """Record that what was held goes on; it is never held again. Raises StageError."""
    record = {**(read(submission) or {}), "format": layout.BREAKER_FORMAT, "held": False}
    layout.write_json(os.path.join(submission, layout.BREAKER), record)


def _keep(submission: str, known: dict[str, Any]) -> bool:
    """Record what is known; False when somebody did before, or the disk is full: what nobody is told is not held."""
    path = os.path.join(submission, layout.BREAKER)
    aside = layout.aside(path)
    try:
        layout.write_json(aside, {"format": layout.BREAKER_FORMAT, **known})
    except StageError:
        return False
    try:
        os.link(aside, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without links: two may say it
        os.replace(aside, path)
        return True
    finally:
        if os.path.lexists(aside):
            os.unlink(aside)


def _ended(submission: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The newest ended attempt of each index that has one, and how it ended, in order of the indices."""
    home = layout.experiment_of(submission)
    for run, (queued, _) in layout.runs_of(submission):
        numbers = layout.attempt_numbers(os.path.join(home, run))
        for number in reversed([each for each in numbers if each[0] == queued]):
            attempt = os.path.join(home, run, layout.ATTEMPTS, layout.attempt_name(*number))
            try:
                end = layout.read_json(os.path.join(attempt, layout.END), layout.ATTEMPT_FORMAT)
            except (OSError, RecordError):
                continue
            yield attempt, end
            break


def _error(attempt: str, end: dict[str, Any]) -> str | None:
    """What it failed with, in one line that is the same for the same fault; None where nothing tells."""
    from farmx import evidence  # spares who only looks

    lines = evidence.newest_log(attempt)
    trace = evidence.traceback(lines)
    if trace is not None and trace.error:
        return f"{trace.error} ({trace.at})" if trace.at else trace.error
    return (evidence.last_line(lines) or None) if end.get("code") in _WRONG_COMMAND else None
