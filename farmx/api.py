"""farmx from Python: launch a sweep, read runs back. What the commands do, as values."""

import operator
import os
import shlex
import threading
from collections.abc import Sequence
from typing import Any

from farmx import claims, compose, config, status
from farmx.cli import here, launching, there
from farmx.cli.surroundings import MAX_RUNS, located, surroundings, tell, user
from farmx.cli.surroundings import logroot as logroot_of
from farmx.errors import RecordError, UsageError
from farmx.farms.gpus import slots
from farmx.spec import Run


def launch(
    sweep: str | os.PathLike[str],
    *,
    farm: str | None = None,
    interactive: bool | None = None,
    jobs: int | None = None,
    gpus: str | int | Sequence[int | str] | None = None,
    logroot: str | os.PathLike[str] | None = None,
    tag: str | None = None,
    name: str | None = None,
    cool: bool = True,
    again: bool = False,
    first: int | None = None,
    stages: str | Sequence[str] = (),
    config_file: str | os.PathLike[str] | None = None,
    max_runs: int = MAX_RUNS,
) -> list[Run]:
    """Do what `farmx SWEEP -i` does (`-j`, `--gpus` with `jobs`, `gpus`); return the runs of its points, in order.

    `farm`, or interactive=False, without these is `farmx SWEEP`: the runs are left to the farm, and this returns at
    once; interactive=True runs them here all the same. Points that had a run before keep it, so the list is the same
    however often this is called. Raises FarmxError for whatever is wrong, before anything is made, more points than
    `max_runs` among it, and KeyboardInterrupt after Ctrl-C; a run that fails raises nothing: look at its `state`.
    """
    jobs, gpus = _count("jobs", jobs), _gpus(gpus)
    max_runs = _count("max_runs", max_runs) or 0
    pooled = jobs is not None or gpus is not None
    here_now = pooled or (farm is None if interactive is None else interactive)
    if here_now and threading.current_thread() is not threading.main_thread():
        raise UsageError("launch() answers Ctrl-C, and only the main thread of a program can; call it there")
    at = surroundings()
    flags = {"LOGROOT": _path("logroot", logroot), "FARM": _text("farm", farm)}
    request = compose.Request(
        sweep=_named("sweep", sweep),
        flags={key: value for key, value in flags.items() if value is not None},
        config_file=_path("config_file", config_file),
        name=_text("name", name),
        tag=_text("tag", tag),
        cool=cool,
        again=again,
        first=_count("first", first),
        stages=_stages(stages),
    )
    made = compose.read(request, at)
    if made.size() > max_runs:
        raise UsageError(f"{request.sweep} makes {made.size():,} runs, more than max_runs={max_runs}; give "
                         f"max_runs={made.size()} if you mean it, or first=N to try a few")  # fmt: skip
    for warning in made.sweep.warnings:
        tell(warning)
    order = compose.order(made, at, user(), here_now)
    same = shlex.join(launching.words_of(request, _how(here_now, jobs, gpus, max_runs)))
    if not here_now:
        there.run(order, there.farm(_elsewhere(made.config)), same)
    elif here.run(order, slots(jobs, gpus) if pooled else None, lives_on=True, same=same) == 130:
        raise KeyboardInterrupt  # what was to follow in the caller's program is not wanted either
    held = claims.holders(order.experiment)
    names = [held[spec.identity].run or "" for spec in order.specs if spec.identity in held]
    found = {run.name: run for run in status.aimed(order.experiment, _readable(status.of(order.experiment, names)))}
    return [found[name] for name in names if name in found]


def runs(
    experiment: str | os.PathLike[str],
    *,
    logroot: str | os.PathLike[str] | None = None,
    config_file: str | os.PathLike[str] | None = None,
) -> list[Run]:
    """The runs of an experiment, by its name or its path, in the order in which they were first launched.

    Raises UsageError when there is none, RecordError for an unreadable run.
    """
    at = surroundings()
    root = logroot_of(_path("logroot", logroot, "runs"), _path("config_file", config_file, "runs"), at)
    name = located(_named("experiment", experiment, "runs"), at)
    return list(status.aimed(os.path.join(root, name), _readable(status.read(root, name))))


def _readable(look: status.Look) -> tuple[Run, ...]:
    """Its runs. Raises RecordError where one could not be read: a list without it would seem whole."""
    if look.problems:
        raise RecordError("; ".join(look.problems))
    return look.runs


def _elsewhere(settings: config.Config) -> config.Config:
    """The settings, which name a farm that takes runs from us. Raises UsageError where they name none."""
    if there.elsewhere(settings):
        return settings
    if settings.origins.get("FARM", config.DEFAULT) != config.DEFAULT:
        raise here.unreachable(settings.farm.name)
    raise UsageError("launch(): no farm is set up; interactive=True or jobs=N runs here, farm='local' leaves the "
                     "runs to a pool of this machine")  # fmt: skip


def _how(interactive: bool, jobs: int | None, gpus: str | None, max_runs: int) -> list[str]:
    """The options of the command line that run it in the same place."""
    pool = {"-j": jobs, "--gpus": gpus, "--max-runs": max_runs if max_runs > MAX_RUNS else None}
    words = [word for option, value in pool.items() if value is not None for word in (option, str(value))]
    return ["-i", *words] if interactive and jobs is None and gpus is None else words


# ---------------------------------------------------------------- what may be given, each a UsageError where it is not


def _path(name: str, value: Any, function: str = "launch") -> str | None:
    return None if value is None else _named(name, value, function)


def _named(name: str, value: Any, function: str = "launch") -> str:
    try:
        return os.fsdecode(value)
    except TypeError:
        raise UsageError(f"{function}(): {name}={value!r} is no path; give a text or a Path") from None


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"launch(): {name}={value!r} is no text; give {name}='...'")
    return value


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UsageError(f"launch(): {name}={value!r} is no whole number")
    return operator.index(value)


def _gpus(value: Any) -> str | None:
    each = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    if not all(isinstance(one, (str, int)) and not isinstance(one, bool) for one in each):
        raise UsageError(f"launch(): gpus={value!r} names no GPUs; give '0,1', [0, 1] or 'free'")
    return None if value is None else ",".join(map(str, each))


def _stages(value: Any) -> tuple[str, ...]:
    each = value.split(",") if isinstance(value, str) else value
    if not isinstance(each, (list, tuple)) or not all(isinstance(one, str) for one in each):
        raise UsageError(f"launch(): stages={value!r} names no stages; give ['train', 'test']")
    return tuple(dict.fromkeys(one.strip() for one in each))
