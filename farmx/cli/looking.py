"""farmx status: how the runs of an experiment, or the experiments of LOGROOT, stand."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from farmx import status as records
from farmx.cli.screen import duration
from farmx.cli.surroundings import tell
from farmx.spec import Run, State

OPEN = (State.STAGED, State.QUEUED, State.RUNNING, State.INTERRUPTED, State.LOST, State.PREEMPTED)


def status(experiment: str | None, as_json: bool, root: str, now: float) -> str:
    """The text to print. now: seconds since the epoch."""
    if experiment is None:
        return _experiments(root, as_json, now)
    look = records.read(root, experiment)
    for problem in look.problems:
        tell(f"unreadable: {problem}")
    fields = [_fields(run, now) for run in look.runs]
    if as_json:
        told = {"experiment": experiment, **totals(look.runs, now), "unreadable": list(look.problems)}
        return json.dumps({**told, "runs": fields}, indent=2)
    return _table(fields) + "\n" + _told(look.runs, now)


def _fields(run: Run, now: float) -> dict[str, Any]:
    seconds, attempts = time_spent(run, now), len(run.attempts)
    plain = run.state is State.QUEUED or not run.attempts  # the state says it all
    note = "" if plain else run.note
    return {"run": run.name, "state": str(run.state), "attempts": attempts, "seconds": seconds, "note": note}


def time_spent(run: Run, now: float) -> float | None:
    """Seconds that the attempts of a run took, all together, a running one until now; None when nobody knows."""
    spans = [attempt.ended - attempt.started for attempt in run.attempts if attempt.ended and attempt.started]
    if run.state is State.RUNNING and run.attempts[-1].started:
        spans.append(max(0.0, _elapsed(run, now)))
    return sum(spans) if spans else None


def totals(runs: Sequence[Run], now: float) -> dict[str, Any]:
    """counts: state -> runs.  spent_s: of all attempts.  left_s: an estimate from the done runs, None without one."""
    spent = {run.path: time_spent(run, now) for run in runs}
    counts = Counter(str(run.state) for run in runs)
    done = [seconds for run in runs if run.state is State.DONE and (seconds := spent[run.path]) is not None]
    mean = sum(done) / len(done) if done else 0.0
    left = [max(0.0, mean - _elapsed(run, now)) for run in runs if run.state in OPEN]
    busy = max(1, counts[str(State.RUNNING)])
    left_s = sum(left) / busy if done and left else None
    return {"counts": dict(counts), "spent_s": sum(filter(None, spent.values())), "left_s": left_s}


def _elapsed(run: Run, now: float) -> float:
    """Seconds that count towards the end of a run: those of a running attempt."""
    return now - (run.attempts[-1].started or now) if run.state is State.RUNNING and run.attempts else 0.0


def _table(fields: Sequence[dict[str, Any]]) -> str:
    rows = [[f["run"], f["state"], f["attempts"] or "", _time(f["seconds"]), f["note"]] for f in fields]
    return _aligned([["run", "state", "attempts", "time", ""], *rows])


def _time(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _aligned(rows: Sequence[Sequence[Any]]) -> str:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    padded = [[f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def _told(runs: Sequence[Run], now: float) -> str:
    found = totals(runs, now)
    counts = ", ".join(f"{count} {state}" for state, count in found["counts"].items())
    left = f", about {duration(found['left_s'])} left" if found["left_s"] is not None else ""
    if not runs:
        return "no runs"
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {counts}; {duration(found['spent_s'])} spent{left}"


def _experiments(root: str, as_json: bool, now: float) -> str:
    found = records.every(root)
    for problem in (problem for look in found.values() for problem in look.problems):
        tell(f"unreadable: {problem}")
    if as_json:
        told = [{"experiment": name, **totals(look.runs, now), "unreadable": list(look.problems)}
                for name, look in found.items()]  # fmt: skip
        return json.dumps(told, indent=2)
    if not found:
        return f"no experiments in {root}"
    rows = [[name, _told(look.runs, now)] for name, look in found.items()]
    return _aligned(rows) + f"\nin {os.path.abspath(root)}"
