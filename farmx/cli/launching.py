"""farmx launch: from the command line to a launch, and what is printed on the way."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from farmx import compose, launcher, layout, plan, sweep
from farmx.cli import screen
from farmx.compose import Composed, Request, Surroundings
from farmx.errors import UsageError
from farmx.farms import local
from farmx.launcher import Order, Summary
from farmx.processes import Inbox
from farmx.runner import Outcome
from farmx.spec import Submission


def launch(given: Mapping[str, Any], at: Surroundings) -> int:
    """Do what the command line says; return the exit code."""
    request = request_of(given)
    made = compose.read(request, at)
    for warning in made.sweep.warnings:
        screen.tell(warning)
    if given["no_run"]:
        return _print(made)
    places = _places(given, made)
    _guard(made, given["max_runs"])
    return run(compose.order(made, at), places)


def request_of(given: Mapping[str, Any]) -> Request:
    """The request that the options of a command say."""
    flags = {"LOGROOT": given["logroot"], "FARM": given["farm"]}
    return Request(
        sweep=given["sweep_yml"],
        flags={key: value for key, value in flags.items() if value is not None},
        config_file=given["config_file"],
        name=_name(given["exp_name"]),
        tag=given["tag"],
        cool=not given["no_cooldir"],
        again=given["again"],
        first=given["first"],
    )


def _name(name: str | None) -> str | None:
    if name is not None and (not name[:1].isalnum() or os.sep in name):
        raise UsageError(f"--exp-name {name!r}: a name of a directory, beginning with a letter or digit, without '/'")
    return name


def _print(made: Composed) -> int:
    """-n: every command to stdout, the count to stderr."""
    lines = list(plan.commands(made.template, made.points()))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    screen.tell(_count(made, len(lines)))
    return 0


def _count(made: Composed, distinct: int) -> str:
    """'2 x 3 grid, 1 skipped: 5 runs', with what equal points and --first took away."""
    equal = made.count() - distinct
    parts = [sweep.shape(made.sweep)]
    if made.request.first is not None:
        parts.append(f"the first {made.request.first}")
    if equal:
        parts.append(f"{equal} equal to another")
    return f"{', '.join(parts)}: {distinct} run{'s' * (distinct != 1)}"


def _guard(made: Composed, most: int) -> None:
    count = made.count()
    if count <= most:
        return
    told = f"{made.request.sweep} makes {count:,} runs, more than --max-runs {most:,}"
    if not sys.stdin.isatty():
        raise UsageError(f"{told}; give --max-runs {count} if you mean it, or --first N to try a few")
    import click

    if not click.confirm(f"{told}. Launch them?", err=True):
        raise UsageError("nothing was launched")


def _places(given: Mapping[str, Any], made: Composed) -> tuple[local.Slot, ...] | None:
    """The slots to run in, None for the foreground. Raises UsageError where this machine was not asked for."""
    farm = made.config.farm
    if given["jobs"] is not None or given["gpus"] is not None:
        return local.slots(given["jobs"], given["gpus"])
    if given["interactive"]:
        return None
    if farm.executor in ("local", ""):
        raise UsageError("no farm is set up; give -i to run here, or -j N to run N at a time")
    raise UsageError(
        f"farm '{farm.name}' is {farm.executor}: this version runs on this machine only; give -i or -j N"
    )


def run(order: Order, places: tuple[local.Slot, ...] | None) -> int:
    """Launch the order here and say so; return the exit code."""
    progress, close = screen.staging_bar()
    farm = Here(places)

    def told(summary: Summary) -> None:
        close()
        _tell(summary, places)

    summary = launcher.launch(order, farm, told, progress)
    return _close(summary, farm, _typed(order))


def commands(submission: Submission) -> dict[str, str]:
    """What to show of each job: its command, LOGDIR as the word, read back from the run."""
    told = {}
    for job in submission.jobs:
        stage = layout.read_json(os.path.join(job.run, layout.RUN), layout.RUN_FORMAT)["stages"][0]
        told[job.run] = " ".join(filter(None, (stage.get("shell"), shlex.join(stage["words"]))))
    return told


class Here:
    """This machine as a farm: the foreground (places None) or a pool, with what is shown of it."""

    def __init__(self, places: Sequence[local.Slot] | None) -> None:
        self._places = places
        self.counts = screen.Counts()
        self.stopped = False

    def __call__(self, submission: Submission) -> list[Outcome]:
        """Run all jobs of the submission, or up to the first stop signal."""
        local.announce(submission)
        with Inbox() as inbox:
            if self._places is None:
                outcomes = self._foreground(submission, inbox)
            else:
                outcomes = self._pool(submission, self._places, inbox)
            self.stopped = bool(inbox.stops)
        return outcomes

    def _foreground(self, submission: Submission, inbox: Inbox) -> list[Outcome]:
        from farmx.farms import terminal  # pools do without one

        watch = screen.Foreground(commands(submission))
        self.counts = watch.counts
        return local.foreground(submission, watch, inbox, terminal.console)

    def _pool(self, submission: Submission, places: Sequence[local.Slot], inbox: Inbox) -> list[Outcome]:
        watch = screen.Pool(len(submission.jobs), commands(submission), max(len(slot.name) for slot in places))
        self.counts = watch.counts
        try:
            return local.pool(submission, places, watch, inbox)
        finally:
            watch.close()

    def code(self) -> int:
        """The exit code of a command that ran this."""
        if self.stopped:
            return 130
        return 1 if self.counts.states["failed"] + self.counts.states["interrupted"] else 0


# ---------------------------------------------------------------- what is said


def _tell(summary: Summary, places: Sequence[local.Slot] | None) -> None:
    """What a launch is about to do, in three lines."""
    where = "this machine, one at a time" if places is None else f"this machine, {len(places)} at a time"
    runs = sum(summary.counts.values())
    counts = ", ".join(f"{count} {word}" for word, count in summary.counts.items())
    screen.tell(f"farm  {where}")
    screen.tell(f"code  {summary.code}")
    screen.tell(f"runs  {runs}: {counts}  in {summary.experiment}" if runs else "runs  none")
    for note in summary.notes:
        screen.tell(f"note  {note}")


def _typed(order: Order) -> str:
    """The command that made the order, to be typed again."""
    argv = list((order.told or {}).get("argv", ()))
    return shlex.join([os.path.basename(argv[0]), *argv[1:]]) if argv else f"farmx {shlex.quote(order.sweep)}"


def _close(summary: Summary, farm: Here, typed: str) -> int:
    """How it went, and the commands to type next."""
    name = os.path.basename(summary.experiment)
    if farm.counts.states:
        screen.tell(f"      {farm.counts.told()}")
    for line in _next(summary, farm, name, typed):
        screen.tell(f"next  {line}")
    return farm.code()


def _next(summary: Summary, farm: Here, name: str, typed: str) -> list[str]:
    lines = [f"sumx {shlex.quote(name)}"]
    failed = farm.counts.states["failed"] + summary.counts.get("failed", 0) + summary.counts.get("cancelled", 0)
    if failed:
        lines.append(f"farmx retry {shlex.quote(name)}  # {failed} failed or cancelled")
    if farm.stopped:
        lines.append(f"{typed}  # goes on with what was interrupted and what has not begun")
    if summary.changed and not summary.jobs:
        lines.append(f"{typed} --again  # {summary.changed} runs were made from other code")
    return lines
