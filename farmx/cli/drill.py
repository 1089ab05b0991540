"""farmx drill: one real run is ended as a scheduler ends it, and what becomes of it is looked at, step by step."""

import math
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from farmx import compose, drills, farms, launcher, layout, processes, records, relaunch, status
from farmx.cli import there
from farmx.cli.screen import duration
from farmx.cli.surroundings import show, tell, user
from farmx.cli.telling import called
from farmx.compose import Composed, Request
from farmx.drills import Check
from farmx.errors import FarmError, UsageError
from farmx.farms import base
from farmx.farms.base import Farm
from farmx.farms.slurm_words import LET_GO
from farmx.layout import LOCAL
from farmx.spec import Attempt, Run, State, Surroundings

SUFFIX = "-drill"
LOOK_S = 5.0  # between questions to the farm
LOOK_HERE_S = 1.0  # between questions to this machine, which cost nobody anything
PAUSE_S = 0.2  # between looks at records
HURRY_S = 10.0  # sooner than this a node of Slurm would refuse what is queued again as revoked
LEAVE_S = 180.0  # until what was cancelled has ended: a program's grace, and a scheduler's delays
SILENT_S = 30.0  # without a sign of logx, after which a program is taken for one that does not use it
_ENDED = (State.DONE, State.FAILED, State.CANCELLED)
_OVER = (*_ENDED, State.INTERRUPTED, State.LOST)  # no farm takes it up by itself any more
T = TypeVar("T")


def drill(given: Mapping[str, Any], at: Surroundings) -> int:
    """Do it; return the exit code: 0 when every check held."""
    made = _composed(given, at)
    farm = there.farm(made.config)
    _clear(compose.order(made, at, user()).experiment)
    run = _launch(made, at, farm, again=True)
    tell(f"run    {os.path.relpath(run, at.cwd)} on {made.config.farm.name}")
    trial = Trial(run, made.config.farm.executor == LOCAL, lambda: _launch(made, at, farm, again=False))
    try:
        held = [_shown(check) for check in trial.checks(given["after"])]
        return int(not all(held))
    finally:
        leave(trial, given["keep"])


def _shown(check: Check) -> bool:
    show(str(check))
    return check.held is not False


def _composed(given: Mapping[str, Any], at: Surroundings) -> Composed:
    """The first point of the sweep as an experiment of its own. Raises UsageError for a farm that cannot be drilled."""
    flags = {key: given[name] for key, name in (("LOGROOT", "logroot"), ("FARM", "farm")) if given[name] is not None}
    request = Request(sweep=given["sweep_yml"], flags=flags, config_file=given["config_file"], first=1)
    made = compose.read(request, at)
    if not there.elsewhere(made.config):
        made = compose.read(request._replace(flags={**flags, "FARM": LOCAL}), at)
    for warning in made.sweep.warnings:
        tell(warning)
    executor = made.config.farm.executor
    if executor != LOCAL and not farms.can(executor).warns:
        raise UsageError(f"farm '{made.config.farm.name}' is neither EXECUTOR: slurm nor a pool of this machine, and "
                         "how it ends a run is not known here; try --farm local")  # fmt: skip
    return made._replace(request=made.request._replace(name=f"{made.sweep.name}{SUFFIX}"))


def _launch(made: Composed, at: Surroundings, farm: Farm, again: bool) -> str:
    """Queue the point, anew or where it stands; return the path of its run."""
    asked = made._replace(request=made.request._replace(again=again))
    order = compose.order(asked, at._replace(now=time.time()), user())
    summary = launcher.launch(order, farm, lambda summary: None)
    if not summary.jobs:
        raise UsageError(f"{made.request.sweep}: there is nothing to drill: {dict(summary.counts) or 'no point'}")
    return summary.jobs[0].run


def _clear(experiment: str) -> None:
    """Cancel what a killed drill left: else the next would take it up. Raises UsageError for one that is under way."""
    for run in status.of(experiment, layout.names(experiment)).runs:
        if run.state in status.LIVE:
            name = shlex.quote(called(experiment))
            raise UsageError(f"a drill before this one is {run.state}: {run.name}; farmx cancel {name} ends it")
        _cancel(run)


def _cancel(run: Run) -> None:
    relaunch.cancel([run], lambda run, did: tell(f"end    {run.name}  {did}") if run.state not in _ENDED else None)


def leave(trial: "Trial", keep: bool) -> None:
    """Cancel the run unless it is to go on; what has not ended after LEAVE_S is told."""
    run = trial.look()
    if keep and run.state not in _OVER:
        tell(f"next   farmx status {shlex.quote(called(os.path.dirname(run.path)))}  # the run goes on")
        return
    _cancel(run)
    trial.until(lambda: all(attempt.end for attempt in trial.attempts()), LEAVE_S)
    if (run := trial.look()).state not in _OVER:
        name = shlex.quote(called(os.path.dirname(run.path)))
        tell(f"left   {run.name} is {run.state}{f', {run.note}' if run.note else ''}; farmx cancel {name} ends it")


def _due(attempt: Attempt, running: float, after_s: float | None) -> str:
    """Why an attempt that has been at work for so many seconds is to be told to end; '' while it is not."""
    if after_s is not None:
        return f"after {duration(running)}" if running >= after_s else ""
    signs = drills.signs(attempt)
    if signs.ready:
        return "it has a checkpoint" if signs.saved else f"it has metrics of {drills.EPOCHS} steps"
    return f"no sign of logx in {SILENT_S:.0f} s" if not signs.used and running >= SILENT_S else ""


class Trial:
    """A run under drill, looked at until something is true of it. here: whether a pool of this machine has it.
    again: launches it once more."""

    def __init__(self, path: str, here: bool, again: Callable[[], str]) -> None:
        self.path, self._here, self._again = path, here, again
        self._told = ""

    def checks(self, after_s: float | None) -> Iterator[Check]:
        """Each check as soon as it is known, to the first that leaves nothing to look at."""
        if self.until(self.attempts) is None:
            yield self._gave_up("it never began")
            return
        first = self._ready(after_s)
        if first is None:
            yield self._gave_up("it ended before it could be told to")
            return
        before = drills.signs(first)
        self._end(first)
        ended = self.until(lambda: next((each for each in self._since(first)[:1] if each.end), None))
        if ended is None:
            yield self._gave_up("it recorded no end when it was told to")
            return
        yield drills.told(ended)
        yield drills.recorded(ended, State.INTERRUPTED if self._here else State.PREEMPTED)
        second = self._second(first)
        if second is None:
            yield self._gave_up("it was not queued again")
            return
        yield Check(True, "launching again took it up; a pool that has ended queues nothing" if self._here else
                    "it was queued again by its runner")  # fmt: skip
        yield drills.numbered(second, first)
        if before.used:
            tell("wait   for its first metrics")
            self.until(lambda: drills.signs(second).steps)
        yield drills.resumed(before, drills.signs(second))

    # ------------------------------------------------------------ looking

    def attempts(self) -> tuple[Attempt, ...]:
        """Its attempts, oldest first."""
        return records.attempts(self.path)

    def look(self) -> Run:
        """How it stands."""
        (run,) = status.of(os.path.dirname(self.path), [os.path.basename(self.path)]).runs
        return run

    def until(self, fact: Callable[[], T], most_s: float = math.inf) -> T | None:
        """What `fact` returns once that is true; None when the run, or the time, is over before."""
        began = looked = time.monotonic()
        pause_s = LOOK_HERE_S if self._here else LOOK_S
        while not (found := fact()) and time.monotonic() - began < most_s:
            if time.monotonic() - looked > pause_s:
                run, looked = self.look(), time.monotonic()
                self._say(run)
                if run.state in _OVER:
                    return fact() or None
            time.sleep(PAUSE_S)
        return found

    def _say(self, run: Run) -> None:
        """Tell how it stands, when that is news."""
        now = f"{run.state}" + (f": {run.note}" if run.note and run.state is not State.RUNNING else "")
        if now != self._told:
            tell(f"wait   {now}")
            if LET_GO in run.note and (job := base.job_of(run)):
                tell(f"next   {LET_GO} {job}")
        self._told = now

    def _gave_up(self, what: str) -> Check:
        run = self.look()
        note = f", {run.note}" if run.note else ""
        return Check(False, f"{what}: it is {run.state}{note}", f"see farmx why {run.name}")

    def _since(self, first: Attempt) -> tuple[Attempt, ...]:
        """Its attempts from `first` on: before it are those of stages that have jobs of their own, and are done."""
        return tuple(each for each in self.attempts() if each.number >= first.number)

    def _ready(self, after_s: float | None) -> Attempt | None:
        """Wait until an attempt may be told to end, which is at work; None when the run ended before."""
        begun: dict[tuple[int, int], float] = {}
        if after_s is None:
            tell(f"wait   for a checkpoint of logx or metrics of {drills.EPOCHS} steps; --after SECONDS is for others")

        def ready() -> tuple[Attempt, str] | None:
            newest = self.attempts()[-1]
            running = time.monotonic() - begun.setdefault(newest.number, time.monotonic())
            why = _due(newest, running, after_s) if newest.end is None else ""
            return (newest, why) if why else None

        found = self.until(ready)
        if found is None or self._since(found[0])[0].end:
            return None
        tell(f"told   {found[1]}: it is told to end now")
        return found[0]

    # ------------------------------------------------------------ acting

    def _end(self, first: Attempt) -> None:
        """Send what a scheduler would, or end the pool. Raises FarmError."""
        record = self._record(first)
        if not self._here:
            _leaf(record).warn(record, _job(first))
            return
        if not processes.alive(record):
            raise FarmError("the pool of the run has ended already")
        os.kill(int(record["pid"]), signal.SIGTERM)

    def _record(self, attempt: Attempt) -> Mapping[str, Any]:
        """job.json of the submission that an attempt came from, which has not ended."""
        name = str((attempt.owner or {}).get("submission"))
        home = os.path.join(os.path.dirname(self.path), layout.FARMX, layout.SUBMISSIONS, name)
        return layout.read_json(os.path.join(home, layout.JOB), layout.JOB_FORMAT)

    def _second(self, first: Attempt) -> Attempt | None:
        """The attempt after the first, once it has begun; None when none will. first: as it was before its end."""
        if self._here:
            self._again()
            return self.until(lambda: next(iter(self._since(first)[1:]), None))
        record = self._record(first)
        hurried = time.monotonic() + HURRY_S - LOOK_S

        def begun() -> Attempt | None:
            nonlocal hurried
            if time.monotonic() - hurried > LOOK_S:
                _leaf(record).hurry(record, _job(first))
                hurried = time.monotonic()
            return next(iter(self._since(first)[1:]), None)

        return self.until(begun)


def _leaf(record: Mapping[str, Any]) -> Any:
    """What warns the jobs of this job.json."""
    return farms.leaf(record)


def _job(attempt: Attempt) -> str:
    """What its farm calls it."""
    return str((attempt.owner or {}).get("job"))
