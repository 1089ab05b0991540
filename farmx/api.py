"""farmx from Python: launch a sweep, read runs back. What the commands do, as values."""

import os
import threading
from collections.abc import Sequence

from farmx import claims, compose, status
from farmx.cli import here, there
from farmx.cli.surroundings import MAX_RUNS, surroundings, tell, user
from farmx.cli.surroundings import logroot as logroot_of
from farmx.errors import RecordError, UsageError
from farmx.farms.gpus import slots
from farmx.spec import Run


def launch(
    sweep: str,
    *,
    farm: str | None = None,
    interactive: bool = True,
    jobs: int | None = None,
    gpus: str | None = None,
    logroot: str | None = None,
    tag: str | None = None,
    name: str | None = None,
    cool: bool = True,
    again: bool = False,
    first: int | None = None,
    stages: Sequence[str] = (),
    config_file: str | None = None,
    max_runs: int = MAX_RUNS,
) -> list[Run]:
    """Do what `farmx SWEEP -i` does (`-j`, `--gpus` with `jobs`, `gpus`); return the runs of its points, in order.

    interactive=False without these is `farmx SWEEP`: the runs are left to the farm, and this returns at once. Points
    that had a run before keep it, so the list is the same however often this is called. Raises FarmxError for whatever
    is wrong, before anything is made, more points than `max_runs` among it, and KeyboardInterrupt after Ctrl-C; a run
    that fails raises nothing: look at its `state`.
    """
    pooled = jobs is not None or gpus is not None
    here_now = interactive or pooled
    if here_now and threading.current_thread() is not threading.main_thread():
        raise UsageError("launch() answers Ctrl-C, and only the main thread of a program can; call it there")
    at = surroundings()
    flags = {key: value for key, value in {"LOGROOT": logroot, "FARM": farm}.items() if value is not None}
    request = compose.Request(sweep, flags, config_file, name=name, tag=tag, cool=cool, again=again, first=first,
                              stages=tuple(stages))  # fmt: skip
    made = compose.read(request, at)
    if made.size() > max_runs:
        raise UsageError(f"{sweep} makes {made.size():,} runs, more than max_runs={max_runs}; give "
                         f"max_runs={made.size()} if you mean it, or first=N to try a few")  # fmt: skip
    for warning in made.sweep.warnings:
        tell(warning)
    order = compose.order(made, at, user(), here_now)
    if not here_now:
        if not there.elsewhere(made.config):
            raise UsageError("launch(): no farm is set up; interactive=True or jobs=N runs here, farm='local' leaves "
                             "the runs to a pool of this machine")  # fmt: skip
        there.run(order, there.farm(made.config))
    elif here.run(order, slots(jobs, gpus) if pooled else None, lives_on=True) == 130:
        raise KeyboardInterrupt  # what was to follow in the caller's program is not wanted either
    held = claims.holders(order.experiment)
    names = [held[spec.identity].run or "" for spec in order.specs if spec.identity in held]
    found = {run.name: run for run in status.aimed(order.experiment, _readable(status.of(order.experiment, names)))}
    return [found[name] for name in names if name in found]


def runs(experiment: str, *, logroot: str | None = None, config_file: str | None = None) -> list[Run]:
    """The runs of an experiment, as they were launched, in the order of the sweep.

    Raises UsageError when there is none, RecordError for an unreadable run.
    """
    root = logroot_of(logroot, config_file, surroundings())
    return list(status.aimed(os.path.join(root, experiment), _readable(status.read(root, experiment))))


def _readable(look: status.Look) -> tuple[Run, ...]:
    """Its runs. Raises RecordError where one could not be read: a list without it would seem whole."""
    if look.problems:
        raise RecordError("; ".join(look.problems))
    return look.runs
