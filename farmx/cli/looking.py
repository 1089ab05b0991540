"""farmx status: how the runs of an experiment, or the experiments of LOGROOT, stand."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from farmx import config
from farmx import status as records
from farmx.cli.screen import duration, tell
from farmx.compose import Surroundings
from farmx.spec import Run, State

OPEN = (State.STAGED, State.QUEUED, State.RUNNING, State.INTERRUPTED, State.LOST, State.PREEMPTED)


def logroot(given: str | None, config_file: str | None, at: Surroundings) -> str:
    """LOGROOT as every setting says."""
    flags = {} if given is None else {"LOGROOT": given}
    return config.compose(cwd=at.cwd, home=at.home, environ=at.environ, named=config_file, flags=flags).logroot


def status(experiment: str | None, as_json: bool, root: str) -> str:
    """The text to print."""
    if experiment is None:
        return _experiments(root, as_json)
    look = records.read(root, experiment)
    for problem in look.problems:
        tell(f"unreadable: {problem}")
    fields = [_fields(run) for run in look.runs]
    if as_json:
        return json.dumps({"experiment": experiment, **_totals(look.runs), "runs": fields}, indent=2)
    return _table(fields) + "\n" + _told(look.runs)


def _fields(run: Run) -> dict[str, Any]:
    spent = time_spent(run)
    return {"run": run.name, "state": str(run.state), "attempts": len(run.attempts), "seconds": spent, "note": run.note}


def time_spent(run: Run) -> float | None:
    """Seconds that the ended attempts of a run took, all together; None when none has ended."""
    ended = [attempt.ended - attempt.started for attempt in run.attempts if attempt.ended and attempt.started]
    return sum(ended) if ended else None


def _totals(runs: Sequence[Run]) -> dict[str, Any]:
    counts = Counter(str(run.state) for run in runs)
    spent = [seconds for run in runs if (seconds := time_spent(run)) is not None]
    done = [seconds for run in runs if run.state is State.DONE and (seconds := time_spent(run)) is not None]
    waiting = sum(run.state in OPEN for run in runs)
    busy = max(1, sum(run.state is State.RUNNING for run in runs))
    left = waiting * sum(done) / len(done) / busy if done and waiting else None
    return {"counts": dict(counts), "spent_s": sum(spent), "left_s": left}


def _table(fields: Sequence[dict[str, Any]]) -> str:
    rows = [[f["run"], f["state"], f["attempts"] or "", _time(f["seconds"]), f["note"]] for f in fields]
    return _aligned([["run", "state", "attempts", "time", ""], *rows])


def _time(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _aligned(rows: Sequence[Sequence[Any]]) -> str:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    padded = [[f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def _told(runs: Sequence[Run]) -> str:
    totals = _totals(runs)
    counts = ", ".join(f"{count} {state}" for state, count in totals["counts"].items())
    left = f", about {duration(totals['left_s'])} left" if totals["left_s"] is not None else ""
    return f"{len(runs)} runs: {counts}; {duration(totals['spent_s'])} spent{left}" if runs else "no runs"


def _experiments(root: str, as_json: bool) -> str:
    found = {name: records.read(root, name) for name in records.experiments(root)}
    if as_json:
        return json.dumps([{"experiment": name, **_totals(look.runs)} for name, look in found.items()], indent=2)
    if not found:
        return f"no experiments in {root}"
    rows = [[name, _told(look.runs)] for name, look in found.items()]
    return _aligned(rows) + f"\nin {os.path.abspath(root)}"
