"""farmx status: how the runs of experiments, runs that are named, or the experiments of LOGROOT, stand."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from farmx import layout, naming
from farmx import status as states
from farmx.cli.screen import duration
from farmx.cli.surroundings import tell
from farmx.errors import RecordError
from farmx.farms import base
from farmx.spec import Attempt, Run, State

ORDER = (State.DONE, State.RUNNING, State.QUEUED, State.STAGED, *State)  # of counts
OPEN = (State.STAGED, State.QUEUED, State.RUNNING, State.INTERRUPTED, State.LOST, State.PREEMPTED)
HEADS = ["run", "state", "attempts", "time", ""]


def status(names: Sequence[str], as_json: bool, root: str, now: float, cache: str | None = None) -> str:
    """The text to print. now: seconds since the epoch.  cache: as status.read's."""
    if not names:
        return _experiments(root, as_json, now, cache)
    looks = look(names, root, cache)
    for problem in (problem for each in looks.values() for problem in each.problems):
        tell(f"unreadable: {problem}")
    if as_json:
        told = [_record(home, each, now) for home, each in looks.items()]
        return json.dumps(told[0] if len(names) == 1 else told, indent=2)
    runs = [run for each in looks.values() for run in each.runs]
    return table(runs, now, several=len(looks) > 1) + "\n" + summary(runs, now)


def look(names: Sequence[str], root: str, cache: str | None) -> dict[str, states.Look]:
    """How what `names` name stands, each run once: directory of the experiment -> its runs that are meant."""
    runs: dict[str, dict[str, Run]] = {}
    problems: dict[str, tuple[str, ...]] = {}
    meant = list(dict.fromkeys(naming.resolve(root, name) for name in names))
    for named, found in zip(meant, naming.looks(meant, cache)):
        runs.setdefault(named.home, {}).update((run.path, run) for run in found.runs)
        problems[named.home] = found.problems
    return {home: states.Look(tuple(each.values()), problems[home]) for home, each in runs.items()}


def _record(home: str, found: states.Look, now: float) -> dict[str, Any]:
    told = {"experiment": os.path.basename(home), **totals(found.runs, now), "unreadable": list(found.problems)}
    return {**told, "runs": [_fields(run, now) for run in found.runs]}


def _fields(run: Run, now: float) -> dict[str, Any]:
    seconds, attempts = time_spent(run, now), sum(attempt.begun for attempt in run.attempts)
    note = "" if run.note in (states.WAITS, states.NEW) else run.note  # the state says it all
    told = {"run": run.name, "state": str(run.state), "attempts": attempts, "seconds": seconds, "note": note}
    return {**told, "job": base.job_of(run) or None}


# ---------------------------------------------------------------- times


def time_spent(run: Run, now: float) -> float | None:
    """Seconds that the attempts of a run took, all together, a running one until now, one that recorded no end until
    its last sign of life; None when nobody knows."""
    over = run.attempts[:-1] if run.state is State.RUNNING else run.attempts
    spans = [span for attempt in over if attempt.begun and (span := _span(attempt)) is not None]
    if run.state is State.RUNNING and run.attempts[-1].started:
        spans.append(_elapsed(run, now))
    return sum(spans) if spans else None


def _span(attempt: Attempt) -> float | None:
    """Seconds that an attempt took which is over; None where nobody knows."""
    ended = attempt.ended or _last_sign(attempt.path)
    return max(0.0, ended - attempt.started) if attempt.started and ended else None


def _last_sign(attempt: str) -> float | None:
    """When its runner or its program wrote something last: the heartbeat alone would tell that to the minute."""
    names, found = [layout.HEARTBEAT, layout.METRICS], list[float]()
    with suppress(RecordError):  # others may not list it
        names += (name for name in layout.names(attempt) if name.endswith(layout.LOG_SUFFIX))
    for name in names:
        with suppress(OSError):
            found.append(os.stat(os.path.join(attempt, name)).st_mtime)
    return max(found, default=None)


def totals(runs: Sequence[Run], now: float) -> dict[str, Any]:
    """counts: state -> runs.  spent_s: of all attempts.

    left_s: an estimate from the done runs of the same experiments, None without one, or where it is wrong already;
    done_at: when that is over, while a run runs.
    """
    spent = {run.path: time_spent(run, now) for run in runs}
    found = Counter(run.state for run in runs)
    counts = {str(state): found[state] for state in dict.fromkeys(ORDER) if state in found}
    left_s = _left_s(runs, spent, now, max(1, found[State.RUNNING]))
    done_at = None if left_s is None or not found[State.RUNNING] else now + left_s
    return {"counts": counts, "spent_s": sum(filter(None, spent.values())), "left_s": left_s, "done_at": done_at}


def _left_s(runs: Sequence[Run], spent: dict[str, float | None], now: float, busy: int) -> float | None:
    """How long what is left takes, so many runs at a time; None while an experiment has no done run to judge by, or
    one runs longer than any that is done."""
    took: dict[str, list[float]] = {}
    for run in runs:
        if run.state is State.DONE and (seconds := spent[run.path]) is not None:
            took.setdefault(os.path.dirname(run.path), []).append(seconds)
    left = [run for run in runs if run.state in OPEN]
    if not left or any(os.path.dirname(run.path) not in took for run in left):
        return None
    each = [_remains(took[os.path.dirname(run.path)], _elapsed(run, now)) for run in left]
    return sum(each) / busy if min(each) >= 0 else None


def _remains(took: Sequence[float], elapsed: float) -> float:
    """Seconds until a run ends that so many have gone by of: by the mean of those that are done, by the longest where
    that is over; negative where that is over, too."""
    mean = sum(took) / len(took)
    return (mean if elapsed <= mean else max(took)) - elapsed


def _elapsed(run: Run, now: float) -> float:
    """Seconds that count towards the end of a run: those of a running attempt; none by a node's clock that is ahead."""
    begun = run.attempts[-1].started if run.state is State.RUNNING and run.attempts else None
    return max(0.0, now - begun) if begun else 0.0


def clock(when: float, now: float) -> str:
    """A point in time for people: 17:05 today, Tue 17:05 this week, else the date in front."""
    at, today = time.localtime(when), time.localtime(now)
    day = "" if at[:3] == today[:3] else "%a " if 0 < when - now < 6 * 86400 else "%Y-%m-%d "
    return time.strftime(f"{day}%H:%M", at)


# ---------------------------------------------------------------- text


def table(runs: Iterable[Run], now: float, several: bool = False) -> str:
    """A line a run below a line of heads. several: runs of more than one experiment, so that is told."""
    return aligned([HEADS, *(row(run, now, several) for run in runs)])


def row(run: Run, now: float, several: bool = False) -> list[Any]:
    """The cells of a run."""
    f = _fields(run, now)
    name = f"{run.experiment}/{run.name}" if several else run.name
    return [name, f["state"], f["attempts"] or "", "" if f["seconds"] is None else duration(f["seconds"]), f["note"]]


def aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of equal length as lines, each column as wide as its widest cell."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    padded = [[f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def summary(runs: Sequence[Run], now: float) -> str:
    """One line of all: how many, in which states, time spent and left, and when it will be done."""
    if not runs:
        return "no runs"
    found = totals(runs, now)
    counts = ", ".join(f"{count} {state}" for state, count in found["counts"].items())
    left = f", about {duration(found['left_s'])} left" if found["left_s"] is not None else ""
    done = f", done at {clock(found['done_at'], now)}" if found["done_at"] is not None else ""
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {counts}; {duration(found['spent_s'])} spent{left}{done}"


def _experiments(root: str, as_json: bool, now: float, cache: str | None) -> str:
    found = states.every(root, cache)
    for problem in (problem for each in found.values() for problem in each.problems):
        tell(f"unreadable: {problem}")
    if as_json:
        told = [{"experiment": name, **totals(each.runs, now), "unreadable": list(each.problems)}
                for name, each in found.items()]  # fmt: skip
        return json.dumps(told, indent=2)
    if not found:
        return f"no experiments in {root}"
    rows = [[name, summary(each.runs, now) if each.runs or not each.problems else "cannot be read"]
            for name, each in found.items()]  # fmt: skip
    return aligned(rows) + f"\nin {os.path.abspath(root)}"
