"""An event of a launch -> what people are told: a title and a few lines; never how it is sent."""

import os
import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from farmx import layout, metrics, notices, status
from farmx.errors import FarmxError
from farmx.spec import Goal, Run

TRIED_AGAIN = ("failed", "cancelled", "interrupted", "lost")


class Text(NamedTuple):
    """What one message says."""

    title: str
    body: str


def text(experiment: str, record: Mapping[str, Any], cache: str | None, now: float) -> Text:
    """What the event says of the experiment directory as it is now. cache, now: as metrics.read's."""
    name, shown = str(record.get("experiment")), shlex.quote(str(record.get("experiment")))
    event = record.get("event")
    if event == notices.FAILED:
        run = str(record.get("run"))
        lines = [str(record.get("error") or "it said nothing"), "", f"farmx why {shlex.quote(f'{name}/{run}')}"]
        return Text(f"{name}: {run} failed", "\n".join(lines))
    if event == notices.HELD:
        lines = [str(record.get("why")), "", f"farmx retry --release {shown}  # once that is mended"]
        return Text(f"{name}: the rest is held", "\n".join(lines))
    counts = _standing(experiment, str(record.get("launch"))) or record.get("counts") or {}
    lines = [*_best(experiment, cache, now), f"sumx {shown}"]
    if any(counts.get(state) for state in TRIED_AGAIN):
        lines.append(f"farmx retry {shown}")
    return Text(f"{name}: {', '.join(f'{count} {state}' for state, count in sorted(counts.items()))}", "\n".join(lines))


def _standing(experiment: str, launch: str) -> dict[str, int]:
    """State -> how many of the runs of the launch are in it now; {} where that cannot be told."""
    submissions = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    try:
        paths = layout.launched_with(os.path.join(submissions, launch))
        look = status.of(experiment, list(dict.fromkeys(run for path in paths for run, _ in layout.runs_of(path))))
    except (OSError, FarmxError):
        return {}
    return {} if look.problems else Counter(str(run.state) for run in look.runs)


def _best(experiment: str, cache: str | None, now: float) -> list[str]:
    """The best run by the goal that all runs of the experiment share, as a line and an empty one; [] without."""
    try:
        runs = status.aimed(experiment, status.of(experiment, layout.names(experiment), cache).runs)
        logs = metrics.read(runs, cache, now)
    except (OSError, FarmxError):
        return []
    goals = metrics.goals((run, logs[run.path]) for run in runs if run.path in logs)
    found = _first(goals[0], runs, logs) if len(goals) == 1 else ""
    return [f"best {metrics.shown(goals[0].metric)} {found}", ""] if found else []


def _first(goal: Goal, runs: tuple[Run, ...], logs: Mapping[str, metrics.MetricLog]) -> str:
    """Value, step and name of the best run."""
    best, told = None, ""
    for run in runs:
        value = logs[run.path].best(goal) if run.path in logs else None
        if value is not None and goal.better(value[0], best):
            best, told = value[0], f"{value[0]:g} at step {value[1]:g}: {run.name}"
    return told
