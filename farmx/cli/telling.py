"""What is said of a launch, wherever its runs go: before it, what differs from today, and how it is typed again."""

import os
import shlex
from collections.abc import Sequence

from farmx import status
from farmx.cli.surroundings import from_here, logroot, surroundings, tell
from farmx.errors import FarmxError, UsageError
from farmx.orders import Order, Summary, some
from farmx.spec import Run, State

ONCE = ("--prune", "-y", "--yes")  # what a command that is to be typed again does not agree to anew
STOPPED = "cancelled,interrupted,staged"  # how what a launch took up ends when it is stopped
_UNDER_WAY = (State.QUEUED, State.RUNNING, State.PREEMPTED, State.UNKNOWN)


def tell_summary(summary: Summary, where: str) -> None:
    """What a launch is about to do, in three lines."""
    runs = sum(summary.counts.values())
    counts = ", ".join(f"{count} {word}" for word, count in summary.counts.items())
    tell(f"farm  {where}")
    tell(f"code  {summary.code}")
    tell(f"runs  {runs}: {counts}  in {summary.experiment}" if runs else "runs  none")
    for note in summary.notes:
        tell(f"note  {note}")
    if summary.changed and not _settled(summary):  # else again() says so
        tell(f"note  {summary.changed} left alone were made from other code: {some(summary.differs)}")
    count, differs = summary.own
    if count:
        how = f"farmx retry --code now --state {STOPPED} {shlex.quote(called(summary.experiment))} takes that"
        tell(f"note  {count} taken up with their own code, today's has another {some(differs)}; once stopped, {how}")
    for line in held(summary.held):
        tell(line)


def held(runs: Sequence[Run]) -> list[str]:
    """What is said of those among `runs` that a breaker holds, a line a reason, and how to go on."""
    lines = []
    for note in dict.fromkeys(run.note for run in runs if status.is_held(run)):
        these = [run for run in runs if run.note == note]
        name = shlex.quote(called(os.path.dirname(these[0].path)))
        lines += [f"held  {len(these)}: {note.removeprefix(status.HELD)}",
                  f"next  farmx retry --release {name}  # once that is mended: they and what failed, with today's code",
                  f"next  farmx cancel {name}  # ends them"]  # fmt: skip
    return lines


def typed(order: Order) -> str:
    """The command that made the order, to be typed again."""
    return retyped(order.told.get("argv") or ())


def retyped(argv: Sequence[str]) -> str:
    """A command line, to be typed again."""
    program, *words = argv or ("",)
    known = ["python", "-m", "farmx"] if os.path.basename(program) == "__main__.py" else ["farmx"]
    return shlex.join([*known, *(word for word in words if word not in ONCE)])


def called(experiment: str) -> str:
    """What names the experiment to the other commands as they are typed here: its name, else its path."""
    try:
        at = surroundings()
    except UsageError:  # the directory that it was typed in went while this ran
        return experiment
    try:
        if logroot(None, None, at) == os.path.dirname(experiment):
            return os.path.basename(experiment)
    except FarmxError:  # the configuration that -c named is not the one that is read without
        pass
    return min(experiment, from_here(experiment, at), key=len)


def failed_of(failed: int, others: int) -> str:
    """What a retry of an experiment takes. others: the points of it that nobody looked at."""
    more = f"; {others} point{'s' * (others != 1)} outside this sweep count{'s' * (others == 1)}, too" if others else ""
    return f"{failed} failed or cancelled{more}"


def again(summary: Summary, typed: str) -> list[str]:
    """How what was made from other code is run with today's, where a launch found nothing else to do."""
    if not summary.changed or not _settled(summary):
        return []
    return [f"{typed} --again  # {summary.changed} made from other code: {some(summary.differs)}"]


def _settled(summary: Summary) -> bool:
    """Whether a launch found nothing to do and nothing under way, which --again would run a second time."""
    return not summary.jobs and not any(summary.counts.get(state) for state in _UNDER_WAY)
