"""What there is to tell of a launch, written down once by whoever sees it first; never sent from here.

Carried to nodes with the runner: standard library only. A launch whose user wants to be told leaves a word for each of
its submissions; without one nothing here does anything. An event is one file, made exclusively:

    .farmx/outbox/<submission>.wanted      which launch it is, and its submissions
    .farmx/outbox/<launch>.<event>.json    failed: its first failure; held: the breaker holds the rest; ended: no run of
                                           it is under way or waits any more
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from farmx import breaker, evidence, layout
from farmx.errors import FarmxError, StageError

FAILED, HELD, ENDED = EVENTS = ("failed", "held", "ended")  # as they happen
LINE = 500  # characters of an error that are told


def outbox(experiment: str) -> str:
    """The directory of the experiment's messages."""
    return os.path.join(experiment, layout.FARMX, layout.OUTBOX)


def want(submissions: Iterable[str]) -> None:
    """Have told what becomes of these submission directories, which are one launch's and about to be handed over.

    Raises StageError.
    """
    by_home: dict[str, list[str]] = {}
    for path in submissions:
        by_home.setdefault(layout.experiment_of(path), []).append(os.path.basename(path))
    for experiment, names in by_home.items():
        try:
            os.makedirs(outbox(experiment), exist_ok=True)
        except OSError as error:
            raise StageError(f"{outbox(experiment)}: messages cannot be kept there: {error.strerror}") from error
        told = {"format": layout.OUTBOX_FORMAT, "launch": names[0], "submissions": names}
        for name in names:
            layout.write_json(os.path.join(outbox(experiment), name + layout.WANTED_SUFFIX), told)


def note(submission: str, run: str, number: str, state: str) -> None:
    """An attempt of the submission ended: write down what that is worth telling. No failure of this is one of the run.

    run: its directory.  state: how it ended, or 'held' where it was somebody else's.
    """
    try:
        wanted = read(layout.experiment_of(submission), os.path.basename(submission) + layout.WANTED_SUFFIX)
        if wanted is not None and state != "held":
            _note(submission, run, number, state, wanted)
    except (OSError, FarmxError):
        return


def _note(submission: str, run: str, number: str, state: str, wanted: Mapping[str, Any]) -> None:
    experiment, launch = layout.experiment_of(submission), wanted["launch"]
    if state == "failed":
        error = _error(os.path.join(run, layout.ATTEMPTS, number))
        post(experiment, launch, FAILED, {"run": os.path.basename(run), "attempt": number, "error": error})
    tripped(experiment, wanted)
    counts = _over(experiment, wanted["submissions"])
    if counts is not None:
        post(experiment, launch, ENDED, {"counts": counts})


def tripped(experiment: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the breaker holds what is left of the launch; that is written down then."""
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    why = next(filter(None, (breaker.held(os.path.join(home, name)) for name in wanted["submissions"])), "")
    if why:
        post(experiment, wanted["launch"], HELD, {"why": why[:LINE]})
    return bool(why)


def post(experiment: str, launch: str, event: str, facts: Mapping[str, Any]) -> bool:
    """Write the event down; False when somebody did before. Raises OSError or StageError."""
    path = os.path.join(outbox(experiment), f"{launch}.{event}{layout.EVENT_SUFFIX}")
    if os.path.exists(path):
        return False
    told = {"format": layout.OUTBOX_FORMAT, "event": event, "launch": launch, **facts}
    return layout.make_json(path, {**told, "experiment": os.path.basename(experiment)})


def read(experiment: str, name: str) -> dict[str, Any] | None:
    """A record of the outbox; None when there is none, or it cannot be read, or is no record of ours."""
    told = layout.read_or_none(os.path.join(outbox(experiment), name), layout.OUTBOX_FORMAT)
    needed = ("launch", "submissions") if name.endswith(layout.WANTED_SUFFIX) else ()
    return told if told is not None and _sound(told, needed) else None


_KINDS = {"launch": str, "event": str, "submissions": list, "reached": list, "tries": int, "counts": dict}


def _sound(told: Mapping[str, Any], needed: Sequence[str]) -> bool:
    """Whether all that is said is of the kind that everybody takes for granted, and what is needed is said."""
    if not all(type(told[key]) is kind for key, kind in _KINDS.items() if key in told):
        return False
    names = (*told.get("submissions", ()), *told.get("reached", ()))
    return all(isinstance(name, str) for name in names) and all(key in told for key in needed)


def _error(attempt: str) -> str:
    """What it failed with, in one line."""
    lines = evidence.newest_log(attempt)
    trace = evidence.traceback(lines)
    if trace is None or not trace.error:
        return evidence.last_line(lines)[:LINE]
    return f"{trace.error[:LINE]} ({trace.at})" if trace.at else trace.error[:LINE]


def _over(experiment: str, submissions: Sequence[str]) -> Counter[str] | None:
    """State -> how many, once every attempt of the submissions has ended; None before.

    The last indices are looked at first: they begin last, so of thousands of runs nearly all open one or two files.
    """
    counts: Counter[str] = Counter()
    for name in reversed(submissions):
        path = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS, name)
        for run, (queued, _) in reversed(layout.runs_of(path)):
            state = _end(os.path.join(experiment, run), queued)
            if state is None:
                return None
            counts[state] += 1
    return counts


def _end(run: str, queued: int) -> str | None:
    """How the attempt that was queued as the `queued`th ended; None while it may go on."""
    numbers = layout.attempt_numbers(run)
    ours = [number for number in numbers if number[0] == queued]
    if ours:
        try:
            path = os.path.join(run, layout.ATTEMPTS, layout.attempt_name(*ours[-1]), layout.END)
            end = layout.read_json(path, layout.ATTEMPT_FORMAT)
            if end.get("state") != "preempted":  # that is queued again, by us or by its scheduler
                return str(end.get("state"))
        except (FileNotFoundError, NotADirectoryError):
            pass
    return "taken up again" if numbers and numbers[-1][0] > queued else None
