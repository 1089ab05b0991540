"""This machine as the farm of a command: where it runs, what is shown of it, and what is said at the end."""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from farmx import breaker, launcher, layout, stages
from farmx.cli import notifying, screen
from farmx.cli.surroundings import tell
from farmx.cli.telling import again, called, failed_of, tell_summary, typed
from farmx.config import Farm
from farmx.errors import UsageError
from farmx.farms import local, shares
from farmx.farms.base import Batch
from farmx.farms.gpus import Slot
from farmx.farms.gpus import slots as slots_of
from farmx.orders import Order, Summary
from farmx.processes import Inbox
from farmx.spec import Job, Submission

if TYPE_CHECKING:
    from farmx.farms.terminal import Seat


def slots(jobs: int | None, gpus: str | None, interactive: bool, farm: Farm, named: bool) -> tuple[Slot, ...] | None:
    """The slots to run in, None for the foreground. Raises UsageError where nobody said how to run here.

    named: whether somebody chose the farm.
    """
    if jobs is not None or gpus is not None:
        return slots_of(jobs, gpus)
    if interactive:
        return None
    if named:
        raise unreachable(farm.name)
    raise UsageError("no farm is set up; give -i to run here, -j N to run N at a time, --farm local to leave them to a "
                     "pool of this machine")  # fmt: skip


def unreachable(farm: str) -> UsageError:
    """The error for a farm whose section does not say how it is reached."""
    return UsageError(f"farm '{farm}' has neither EXECUTOR nor SUBMIT_CMD; add one, or give -i to run here")


def run(order: Order, places: tuple[Slot, ...] | None, lives_on: bool = False, same: str = "") -> int:
    """Launch the order here and say so; return the exit code.

    lives_on: this process does not end with the launch.  same: the command that does the same, by default the one that
    was typed.
    """
    progress, close = screen.later_bar(every=50)
    farm = Here(places, lives_on)

    def told(summary: Summary) -> None:
        close()
        tell_summary(summary, "this machine, " + ("one at a time" if places is None else f"{len(places)} at a time"))

    try:
        summary = launcher.launch(order, notifying.telling(farm, order.notify), told, progress)
    finally:
        close()
    if not summary.jobs:  # else what was told of them took along what had waited
        notifying.flush([summary.experiment], order.notify, order.environ)
    return _close(summary, farm, same or typed(order))


def commands(submission: Submission, between: str) -> dict[str, str]:
    """What to show of each job: its command, LOGDIR as the word, read back from the run; between: its stages."""
    told = {}
    for job in submission.jobs:
        with suppress(FileNotFoundError, NotADirectoryError):  # it was deleted, which is said when it is to begin
            record = layout.read_json(os.path.join(job.run, layout.RUN), layout.RUN_FORMAT)
            todo = stages.plan(job.run, job.number, record)
            told[job.run] = between.join(_line(todo.stages[place], todo.stages) for place in todo.run)
    return told


def _line(stage: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> str:
    """A stage's command, behind its name where there are several."""
    line = " ".join(filter(None, (stage.get("shell"), shlex.join(stage["words"]))))
    width = max(len(each["name"]) for each in among)
    return f"{stage['name']:<{width}}  {line}" if len(among) > 1 else line


class Here:
    """This machine as a farm: the foreground (places None) or a pool, with what is shown of it."""

    executor = layout.LOCAL

    def __init__(self, places: Sequence[Slot] | None, lives_on: bool = False) -> None:
        self._places, self._lives_on = places, lives_on
        self.counts = screen.Counts()
        self.stopped = self.held = False
        self._enough = False  # Ctrl-C came when all runs had ended, and some of what they said was yet to be shown

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Resources are what farms give; here is what there is. Raises FarmError where GPUs cannot be shared."""
        shares.check(self._places or ())

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        """All together."""
        return [Batch(tuple(job for job, _ in jobs), {})]

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """Run them, or up to the first stop signal."""
        from farmx.farms import terminal  # spares who only looks

        seat = terminal.Seat()
        try:
            self._all(submissions, partial(self._foreground if self._places is None else self._pool, seat=seat))
        finally:
            self._leave(seat)

    def _all(self, submissions: Sequence[Submission], run: Callable[[Submission], None]) -> None:
        counts = screen.Counts()
        for submission in submissions:
            if not self.stopped:
                self._run(submission, run)
                counts.states.update(self.counts.states)
        self.counts = counts

    def _run(self, submission: Submission, run: Callable[[Submission], None]) -> None:
        job = local.announce(submission)
        try:
            run(submission)
        finally:
            if self._lives_on:  # else our end says it
                local.finish(submission, job)
        self.held = self.held or bool(breaker.held(submission.path))

    def _foreground(self, submission: Submission, seat: "Seat") -> None:
        from farmx.farms import terminal

        with Inbox() as inbox:
            watch = screen.Foreground(commands(submission, "\n"), seat.put)
            self.counts = watch.counts
            inbox.heard = lambda count: watch.stopping(1, count > 1)
            local.foreground(submission, watch, inbox, partial(terminal.console, seat))
            self.stopped = bool(inbox.stops)

    def _leave(self, seat: "Seat") -> None:
        """Show what is behind, which a stop cuts short."""
        try:
            shown = seat.close(1.0 if self.stopped else None)
        except KeyboardInterrupt:
            shown, self._enough = False, True
        if not shown and self._places is None:
            tell("      not all that the runs said was shown; their logs have it: farmx logs RUN")
        elif not shown:
            tell("      not all was shown; farmx status has it")

    def _pool(self, submission: Submission, seat: "Seat") -> None:
        places = self._places or ()
        with Inbox() as inbox:
            width = max(slot.width for slot in places)
            watch = screen.Pool(len(submission.jobs), commands(submission, "; "), width, seat)
            self.counts = watch.counts
            try:
                local.pool(submission, places, watch, inbox)
            finally:
                watch.close()
            self.stopped = bool(inbox.stops)

    def code(self) -> int:
        """The exit code of a command that ran this."""
        if self.stopped or self._enough:
            return 130
        return 1 if self.counts.states["failed"] + self.counts.states["interrupted"] else 0


# ---------------------------------------------------------------- what is said


def _close(summary: Summary, farm: Here, typed: str) -> int:
    """How it went, and the commands to type next."""
    tell_end(farm, len(summary.jobs))
    on = f"{typed}  # goes on with the rest"
    lines = next_lines([called(summary.experiment)], [farm], summary.counts, on, summary.others)
    for line in [*lines, *again(summary, typed)]:
        tell(f"next  {line}")
    return farm.code() or int(summary.counts.get("failed", 0) > 0)


def tell_end(farm: Here, jobs: int) -> None:
    """How so many jobs went."""
    begun = sum(farm.counts.states.values())
    if jobs:
        waiting = f"{jobs - begun} not begun" if begun < jobs else ""
        tell("      " + ", ".join(filter(None, (farm.counts.told(), waiting))))


def next_lines(names: Sequence[str], farms: Sequence[Here], left: Mapping[str, int], on: str,
               others: int = 0) -> list[str]:  # fmt: skip
    """The commands to type after something of these experiments ran here. left: the states of what was left alone.
    on: what goes on with what was stopped.  others: as for failed_of."""
    quoted, ended = shlex.join(names), sum((farm.counts.states for farm in farms), Counter[str]())
    retry = f"farmx retry {quoted}  #"
    failed = sum(count.get(state, 0) for count in (ended, left) for state in ("failed", "cancelled"))
    goes_on = any(farm.stopped for farm in farms) or ended["interrupted"] > 0
    lines = [f"sumx {quoted}"]
    if any(farm.held for farm in farms):
        lines.append(f"farmx retry --release {quoted}  # once that is mended: what is held and what failed")
    elif failed and not (goes_on and on.startswith(retry)):
        lines.append(f"{retry} {failed_of(failed, others)}")
    return [*lines, on] if goes_on else lines
