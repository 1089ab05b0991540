"""Runs and their metrics -> one Table: what differs, the last and the best metrics, in order; never how it looks."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout, metrics
from farmx.errors import UsageError, nearest
from farmx.metrics import VAL, MetricLog
from farmx.spec import Goal, Run, State, goal_of, metric_name

HIDDEN = ("logdir", "command", "result_dir", "nbr_workers", "paths", "val_paths")  # hyperparameters, as runx hides them
MIN_DIGEST = 7  # characters of a digest; more where that many do not tell snapshots apart


class Column(NamedTuple):
    """One column. name: no other of its table has it.

    kind: what its cells are, any of them None for absent: `text`; `value`, a hyperparameter (str, bool, number, list or
    dict); `metric`, a number; `step`, a number; `seconds`.
    """

    name: str
    kind: str


class Table(NamedTuple):
    """rows: a cell for each of `columns`; numbers are numbers. notes: a line each, of what the rows cannot say."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()


class _Filled(NamedTuple):
    """A column with its cells; `longer` is its name where another column has a better claim to the first."""

    column: Column
    cells: Sequence[Any]
    longer: str = ""


_Pairs = Sequence[tuple[Run, MetricLog]]


def table(
    runs: Sequence[Run],
    logs: Mapping[str, MetricLog],
    *,
    sortwith: str | None = None,
    ignore: Sequence[str] = (),
    mode: str | None = None,
    codes: Mapping[str, str] = {},
) -> Table:
    """A row for every run: what it is, what differs, its last val row, its best, its epoch and what one takes.

    logs: by path of the run.  sortwith: a metric, `acc` or `train/loss`; without one the runs' goal.  With either, the
    best run is first and those that never logged it are last; ties and all else are in the order of `runs`, experiment
    by experiment.  ignore: names of columns to leave out.  mode: 'min' or 'max', whatever the
    metric's name or the goal says.  codes: of codes_of.  Raises UsageError when no run has `sortwith` though
    some have metrics.
    """
    pairs = [(run, logs.get(run.path, MetricLog())) for run in sorted(runs, key=_experiment)]
    goal = _goal(pairs, sortwith, mode)
    if goal:
        pairs.sort(key=_rank(goal))
    differs = [*_differing(pairs), *_commands(pairs)]
    logged = (*_lasts(pairs, goal), *_bests(pairs, goal))
    filled = _named([*_who(pairs), *differs, *_alone(pairs, differs), *logged, *_times(pairs, codes)])
    shown = [one for one in filled if not {one.column.name, one.longer} & set(ignore)]
    rows = tuple(zip(*(one.cells for one in shown))) if shown else ((),) * len(pairs)
    return Table(tuple(one.column for one in shown), rows, tuple(_notes(pairs, sortwith, goal, mode)))


def codes_of(runs: Sequence[Run]) -> dict[str, str]:
    """Digest -> the first whose code differs in nothing but sweep files, which is what table wants as `codes`; {} where
    all runs have one digest."""
    homes = {run.digest: os.path.dirname(run.path) for run in runs if run.digest}
    if len(homes) < 2:
        return {}
    from farmx import manifest, records  # spare who looks at runs of one snapshot

    told = map(records.last_launch, set(homes.values()))
    sweeps = {os.path.relpath(each["sweep"], str(each.get("cwd"))) for each in told if each}
    places = {digest: os.path.join(home, layout.FARMX, layout.SNAPSHOTS, digest) for digest, home in homes.items()}
    return manifest.alike(places, sweeps)


# Order


def _experiment(run: Run) -> list[Any]:
    return layout.numbered(run.experiment)


def _rank(goal: Goal) -> Callable[[tuple[Run, MetricLog]], tuple[bool, float]]:
    def rank(pair: tuple[Run, MetricLog]) -> tuple[bool, float]:
        best = pair[1].best(goal)
        if best is None:
            return True, 0
        return False, best[0] if goal.mode == "min" else -best[0]

    return rank


def _goal(pairs: _Pairs, sortwith: str | None, mode: str | None) -> Goal | None:
    own = metrics.goals(pairs)
    if sortwith is None and len(own) != 1:
        return None
    name = own[0].metric if sortwith is None else _logged(pairs, sortwith)
    said = [goal.mode for goal in own if goal.metric == name]
    return Goal(name, mode or (said[0] if len(said) == 1 else goal_of(name).mode))


def _logged(pairs: _Pairs, name: str) -> str:
    """The full name of a metric as the user gives it; any name will do while no run has logged anything."""
    full = metrics.full(_names(pairs), name)
    if full is None and _names(pairs):
        raise UsageError(f"no run has a metric '{name}'{_others(pairs, name)}")
    return full or metric_name(name)


def _others(pairs: _Pairs, name: str) -> str:
    """How a message about a metric that was not logged ends: with what was."""
    there = [metrics.shown(each) for each in _names(pairs)]
    bare = name.rpartition("/")[2]
    alike = next((each for each in there if each.rpartition("/")[2] == bare), None)  # of another phase
    hint = f"; did you mean {alike}?" if alike else nearest(metrics.shown(metric_name(name)), there)
    return hint if "known:" in hint else f"{hint} known: {', '.join(sorted(there))}"


def _names(pairs: _Pairs) -> list[str]:
    return metrics.names(log for _, log in pairs)


# Columns


def _who(pairs: _Pairs) -> list[_Filled]:
    """The experiment, when there are several, the run, and its state, when one is not done."""
    runs = [run for run, _ in pairs]
    found = [_Filled(Column("run", "text"), [run.name for run in runs])]
    if len({run.experiment for run in runs}) > 1:
        found.insert(0, _Filled(Column("experiment", "text"), [run.experiment for run in runs]))
    if any(map(_unfinished, runs)):
        found.append(_Filled(Column("state", "text"), [str(run.state) for run in runs]))
    return found


def _unfinished(run: Run) -> bool:
    """Whether there is something to say of its state: of runx's runs nobody knows it."""
    return run.state is not State.DONE and not (run.state is State.UNKNOWN and run.identity is None)


def _differing(pairs: _Pairs) -> list[_Filled]:
    """The hyperparameters, then the swept resources that differ; one that is None, or not there, is absent."""
    kinds = {"hparams": [run.hparams for run, _ in pairs], "resources": [run.swept for run, _ in pairs]}
    found = []
    for kind, values in kinds.items():
        for name in dict.fromkeys(name for each in values for name in each if name not in HIDDEN):
            cells = [each.get(name) for each in values]
            if len(set(map(_same, cells))) > 1:
                found.append(_Filled(Column(name, "value"), cells, f"{kind}.{name}"))
    return found


def _commands(pairs: _Pairs) -> list[_Filled]:
    """The command, where runs of one experiment differ in it."""
    known = {(run.experiment, run.command) for run, _ in pairs if run.command}
    if len({experiment for experiment, _ in known}) == len(known):
        return []
    return [_Filled(Column("command", "value"), [run.command or None for run, _ in pairs])]


def _alone(pairs: _Pairs, shown: Sequence[_Filled]) -> list[_Filled]:
    """The hidden hyperparameters that tell runs apart where nothing that is shown does; of runx's own runs none, whose
    directories stand among them."""
    runs = [run for run, _ in pairs]
    names = [name for name in HIDDEN if any(name in run.hparams for run in runs)]
    rows = [(run.experiment, *(_same(one.cells[i]) for one in shown)) for i, run in enumerate(runs)] if names else []
    found = []
    for name in names:
        cells = [run.hparams.get(name) for run in runs]
        told = {(row, _same(cell)) for row, cell, run in zip(rows, cells, runs) if run.identity}
        if len(told) > len({row for row, _ in told}):
            found.append(_Filled(Column(name, "value"), cells, f"hparams.{name}"))
    return found


def _same(value: Any) -> Any:
    """A key that two values share when they are one: 1 and 1.0 are, 1 and True are not."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        return value
    return json.dumps(value, sort_keys=True, default=str)


def _lasts(pairs: _Pairs, goal: Goal | None) -> list[_Filled]:
    """The values of each run's last val row, and the last of `goal` when that is of another phase."""
    lasts = [log.last_row() for _, log in pairs]
    found = []
    for name in dict.fromkeys(name for last in lasts for name in last):
        full = f"{VAL}/{name}"
        found.append(_Filled(Column(metrics.shown(full), "metric"), [last.get(name) for last in lasts], full))
    if goal and not goal.metric.startswith(f"{VAL}/") and goal.metric in _names(pairs):
        logged = [log.series.get(goal.metric) for _, log in pairs]
        found.append(_Filled(Column(goal.metric, "metric"), [one and one.last for one in logged], goal.metric))
    return found


def _bests(pairs: _Pairs, goal: Goal | None) -> list[_Filled]:
    if not goal:
        return []
    bests = [log.best(goal) or (None, None) for _, log in pairs]
    name = metrics.shown(goal.metric)
    return [
        _Filled(Column(f"{name}-best", "metric"), [value for value, _ in bests]),
        _Filled(Column(f"{name}-epoch", "step"), [step for _, step in bests]),
    ]


def _times(pairs: _Pairs, codes: Mapping[str, str]) -> list[_Filled]:
    """The last val step, what an epoch takes, and the code, when that differs."""
    found = [
        _Filled(Column("epoch", "step"), [log.step for _, log in pairs]),
        _Filled(Column("epoch_time", "seconds"), [log.epoch_time for _, log in pairs]),
    ]
    digests = [run.digest and codes.get(run.digest, run.digest) for run, _ in pairs]
    different = set(filter(None, digests))
    if len(different) > 1:
        length = _distinct(different)
        found.append(_Filled(Column("code", "text"), [digest and digest[:length] for digest in digests]))
    return found


def _distinct(digests: set[str]) -> int:
    length = MIN_DIGEST
    while len({digest[:length] for digest in digests}) < len(digests):
        length += 1
    return length


def _named(filled: Sequence[_Filled]) -> list[_Filled]:
    """Each column under a name of its own: ours first, then hyperparameters, then metrics have the shorter one."""
    names: dict[int, str] = {}
    for i in sorted(range(len(filled)), key=lambda i: (bool(filled[i].longer), filled[i].column.kind == "metric")):
        name = filled[i].column.name
        name = filled[i].longer if name in names.values() else name
        while name in names.values():
            name += "*"
        names[i] = name
    return [one._replace(column=Column(names[i], one.column.kind)) for i, one in enumerate(filled)]


# Notes


def _notes(pairs: _Pairs, sortwith: str | None, goal: Goal | None, mode: str | None) -> Iterable[str]:
    unreadable = [(run.name, log.problem) for run, log in pairs if log.problem]
    if unreadable:
        told = ", ".join(name for name, _ in unreadable)
        yield f"{_count(len(unreadable), 'run')} unreadable: {told} ({unreadable[0][1]})"
    for run, log in pairs:
        if log.unreadable:
            yield f"{_count(log.unreadable, 'line')} unreadable in {run.name}"
    goals, names = metrics.goals(pairs), _names(pairs)
    if sortwith is None and len(goals) > 1:
        one = len({goal.metric for goal in goals}) < len(goals)
        differ = ", ".join(f"{goal.mode} {goal.metric}" if one else goal.metric for goal in goals)
        yield f"the runs have different goals ({differ}): name one with --sortwith"
    elif mode and not goal:
        yield f"--{mode} changes nothing without --sortwith or a GOAL"
    if goal and pairs and goal.metric not in names:
        yield f"no run has logged {metrics.shown(goal.metric)} yet{_others(pairs, goal.metric) if names else ''}"
    elif names and not goal and not any(name.startswith(f"{VAL}/") for name in names):
        yield f"nothing of phase {VAL} is logged; --sortwith shows other phases: {', '.join(sorted(names))}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
