"""Records and the farms' answers -> Runs; one pure function decides a run's state. Looking never changes a run."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout
from farmx.errors import RecordError, UsageError, nearest
from farmx.farms import base
from farmx.spec import Attempt, Goal, Run, State


def decide(
    last: Attempt | None, queued: tuple[int, int] | None, alive: bool | None, silent_s: float
) -> tuple[State, str]:
    """The state of a run, and why, for people.

    last: its newest attempt.  queued: the number of the newest attempt that a living submission holds for it.
    alive: what the farm says of the newest attempt's owner, None when it cannot say.  silent_s: age of its heartbeat.
    The run's own end record comes first, then what the farm says, then that it is staged.
    """
    if queued is not None and (last is None or queued > last.number):
        return State.QUEUED, "waits for its turn"
    if last is None:
        return State.STAGED, "not started"
    if last.end is not None:
        return _ended(last.end)
    host = last.owner.get("host", "?") if last.owner else "?"
    if alive:
        return State.RUNNING, f"on {host}"
    if alive is False:
        return State.INTERRUPTED, "its launcher or pool ended"
    if silent_s < base.SILENT_S:
        return State.RUNNING, f"on {host}, heard {silent_s:.0f} s ago"
    return State.UNKNOWN, f"on {host}, which cannot be asked from here; silent for {silent_s / 60:.0f} min"


def _ended(end: Mapping[str, Any]) -> tuple[State, str]:
    try:
        return State(end.get("state")), str(end.get("note") or "")
    except ValueError:
        return State.UNKNOWN, f"its end record says {end.get('state')!r}"


# ---------------------------------------------------------------- reading


class Look(NamedTuple):
    """What one look at an experiment found. problems: one line for each directory that could not be read."""

    runs: tuple[Run, ...]
    problems: tuple[str, ...] = ()


def read(logroot: str, experiment: str) -> Look:
    """The runs of an experiment, by name. Raises UsageError when there is none such."""
    path = os.path.join(logroot, experiment)
    if not experiment or not os.path.isdir(path):
        raise UsageError(f"no experiment named '{experiment}' in {logroot}" + nearest(experiment, experiments(logroot)))
    look = of(path, [*layout.names(path), *_unsettled(path)])
    if not look.runs and any(map(os.path.lexists, _marks(path))):  # logx outside a launch made a run of LOGROOT/default
        look = of(os.path.dirname(path), [os.path.basename(path)])
    if not look.runs and not look.problems and not is_experiment(path):
        raise UsageError(f"{path} holds no runs; name an experiment{nearest('', experiments(logroot))}")
    return look


def _unsettled(path: str) -> Iterator[str]:
    """The runs, relative to the experiment, that hold their point and that a crash left before they were in place."""
    staging = os.path.join(layout.FARMX, layout.STAGING)
    for name in layout.names(os.path.join(path, staging)):
        try:
            record = _record(os.path.join(path, staging, name), layout.RUN, layout.RUN_FORMAT) or {}
        except RecordError:  # half made: what is claimed is whole
            continue
        claim = layout.claim(path, str(record.get("point")), record.get("generation", 0))
        if os.path.islink(claim) and os.path.basename(os.readlink(claim)) == name:
            yield os.path.join(staging, name)


def every(logroot: str) -> dict[str, Look]:
    """Every experiment by name, also one that holds no runs."""
    paths = {name: os.path.join(logroot, name) for name in experiments(logroot)}
    return {name: of(path, layout.names(path)) for name, path in paths.items()}


def is_experiment(path: str) -> bool:
    """Whether a launch made the directory at `path`."""
    return os.path.isdir(os.path.join(path, layout.FARMX))


def of(path: str, names: Iterable[str]) -> Look:
    """The runs of these names in the experiment directory `path`, by name; what is no run is left out."""
    queued = _queued(path)
    experiment = os.path.basename(path)
    runs, problems = [], []
    for name in sorted(names):
        try:
            last = os.path.basename(name)
            if not last.startswith(".") and (run := _run(os.path.join(path, name), last, experiment, queued)):
                runs.append(run)
        except RecordError as error:
            problems.append(str(error))
    return Look(tuple(runs), tuple(problems))


def experiments(logroot: str) -> list[str]:
    """The experiments in `logroot`, by name."""
    names = sorted(name for name in layout.names(logroot) if not name.startswith("."))
    return [name for name in names if os.path.isdir(os.path.join(logroot, name))]


def _run(path: str, name: str, experiment: str, queued: Mapping[str, tuple[int, int]]) -> Run | None:
    record, hparams = _record(path, layout.RUN, layout.RUN_FORMAT), _record(path, layout.HPARAMS, None)
    if record is None and hparams is None and not any(map(os.path.lexists, _marks(path))):
        return None
    if record is not None and not _sound(record):
        where = os.path.join(path, layout.RUN)
        raise RecordError(f"{where}: not a record of ours; restore it or move it away")
    attempts = tuple(_attempts(path))
    if record is None:  # runx, or logx outside a launch: nobody tells how it ended
        return Run(name, path, experiment, State.UNKNOWN, hparams or {}, attempts, note="not launched by farmx")
    last = attempts[-1] if attempts else None
    alive = base.owner_alive(last.owner) if last and last.owner and not last.end else None
    if last and alive is False:  # it may have ended since its end was looked for
        attempts = (*attempts[:-1], last := _attempt(last.path, last.number))
    state, note = decide(last, queued.get(name), alive, _silence(last))
    return Run(name, path, experiment, state, hparams or {}, attempts, record["point"], record["digest"],
               _goal(record), note, record["generation"])  # fmt: skip


_KINDS = {
    str: ("run", "experiment", "point", "digest", "setup"),
    int: ("generation",),
    list: ("stages", "env_pass", "pythonpath"),
    dict: ("env", "code"),
}
_CODE = {str: ("staging", "source"), list: ("ignore", "include", "link"), int: ("max_files",)}


def _sound(record: Mapping[str, Any]) -> bool:
    """Whether a run.json says what everybody who reads it later takes for granted."""
    if not _fits(record, _KINDS) or not _fits(record["code"], _CODE) or not record["stages"]:
        return False
    code, goal = record["code"], record.get("goal") or {"metric": "", "mode": ""}
    texts = [*record["env_pass"], *record["pythonpath"], *record["env"].values()]
    texts += [each for name in _CODE[list] for each in code[name]]
    stages = record["stages"]
    if not all(isinstance(each, dict) and _fits(each, {str: ("name",), list: ("words",)}) for each in stages):
        return False
    words = [word for each in stages for word in (*each["words"], each.get("shell", ""))]
    goals = isinstance(goal, dict) and _fits(goal, {str: ("metric", "mode")})
    return goals and all(isinstance(text, str) for text in (*texts, *words))


def _fits(record: Mapping[str, Any], kinds: Mapping[type, Sequence[str]]) -> bool:
    return all(isinstance(record.get(name), kind) for kind, names in kinds.items() for name in names)


def _marks(path: str) -> Sequence[str]:
    return [os.path.join(path, mark) for mark in layout.RUN_MARKS]


def _record(path: str, name: str, newest: int | None) -> dict[str, Any] | None:
    try:
        return layout.read_json(os.path.join(path, name), newest)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _goal(record: Mapping[str, Any]) -> Goal | None:
    goal = record.get("goal")
    return Goal(goal["metric"], goal["mode"]) if goal else None


def _attempts(path: str) -> Iterable[Attempt]:
    home = os.path.join(path, layout.ATTEMPTS)
    for number in sorted(filter(None, map(layout.attempt_number, layout.names(home)))):
        yield _attempt(os.path.join(home, layout.attempt_name(*number)), number)


def _attempt(path: str, number: tuple[int, int]) -> Attempt:
    """Raises RecordError for a record whose times are none."""
    end = _record(path, layout.END, layout.ATTEMPT_FORMAT)
    owner = _record(path, layout.OWNER, layout.ATTEMPT_FORMAT) if end is None else end
    for record, name in ((owner, "started"), (end, "ended")):
        if record is not None and not isinstance(record.get(name), (int, float)):
            raise RecordError(f"{path}: its record does not say when it {name}; restore it or move it away")
    return Attempt(path, number, owner, end)


def _silence(last: Attempt | None) -> float:
    """How long ago the newest attempt was heard, by this machine's clock; 0 when it has ended or none is there."""
    if last is None or last.end is not None:
        return 0.0
    try:
        return max(0.0, time.time() - os.stat(os.path.join(last.path, layout.HEARTBEAT)).st_mtime)
    except OSError:
        return base.SILENT_S


# ---------------------------------------------------------------- what living submissions hold


def _queued(experiment: str) -> dict[str, tuple[int, int]]:
    """run -> the newest attempt number that a living submission holds for it."""
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    held: dict[str, tuple[int, int]] = {}
    for name in layout.names(home):
        path = os.path.join(home, name)
        if base.submission_alive(path, _record(path, layout.JOB, layout.JOB_FORMAT) or {}):
            for run, number in base.read_runs(path):
                held[run] = max(number, held.get(run, number))
    return held
