"""A farm elsewhere, as a command uses it: made from the configuration, called, and what is said of it."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from farmx import farms, launcher, layout
from farmx.cli import screen
from farmx.cli.surroundings import tell
from farmx.cli.telling import again, called, failed_of, tell_summary, typed
from farmx.config import DEFAULT, Config
from farmx.farms.base import Farm, Given
from farmx.farms.beside import Ask, here
from farmx.layout import COMMAND, LOCAL, SLURM
from farmx.orders import Order, Summary
from farmx.spec import Progress, Submission, unseen


def elsewhere(settings: Config) -> bool:
    """Whether these settings name a farm that runs go to without us: a scheduler, or a pool of this machine."""
    chosen = settings.origins.get("FARM", DEFAULT) != DEFAULT
    return settings.farm.executor not in ("", LOCAL) or (settings.farm.executor == LOCAL and chosen)


def farm(settings: Config, ask: Ask | None = None) -> Farm:
    """The farm that the settings name; ask: of a child, where there is one for it. Raises ConfigError."""
    given = settings.farm
    if given.executor == SLURM:
        from farmx.farms import slurm  # only its users

        return slurm.Farm(given.name, settings.origins, given.max_requeues, pack=given.pack, tell=tell_why,
                          ask=ask or here)  # fmt: skip
    if given.executor == LOCAL:
        from farmx.cli.detached import Detached  # only its users

        return Detached(given.name, given.resources, settings.origins)
    if given.executor != COMMAND:
        return farms.build(Given(given.name, given.executor, given.resources, given.options, given.pack,
                                 given.max_requeues, given.requeue_code, settings.origins, tell_why))  # fmt: skip
    from farmx.farms import command  # only its users

    asking = command.Asking(given.status_cmd, given.status_line or command.LINE, given.status, given.cancel_cmd)
    return command.Farm(given.name, given.submit_cmd or "", settings.origins, given.resources, given.job_id,
                        given.submit_parallel, asking, given.workspace, given.ngc_logroot, pack=given.pack,
                        code=given.requeue_code, max_requeues=given.max_requeues, tell=tell_why)


def tell_why(line: str) -> None:
    """What keeps us waiting."""
    tell(f"      {line}")


def run(order: Order, to: Farm, same: str = "") -> int:
    """Launch the order there and say so; return the exit code. same: as for here.run."""
    progress, close = screen.later_bar(every=50)
    queuing = Queuing()

    def told(summary: Summary) -> None:
        close()
        named = getattr(to, "told", None)
        tell_summary(summary, named() if named else f"{order.farm} ({to.executor})")
        queuing.begin(len(summary.jobs))

    try:
        summary = launcher.launch(order, _telling(order, to), told, progress, queuing.heard)
    finally:
        close()
        queuing.close()
    _watch(to, [order.experiment])
    _flush(order)
    lines = next_lines([called(summary.experiment)], [job.run for job in summary.jobs], summary.counts,
                       summary.others)  # fmt: skip
    for line in [*lines, *again(summary, same or typed(order))]:
        tell(f"next  {line}")
    return 0


def _telling(order: Order, to: Farm) -> Farm:
    if not order.notify:
        return to
    from farmx.cli import notifying  # only whose user is told

    return notifying.telling(to, order.notify)


def _flush(order: Order) -> None:
    if order.notify:
        from farmx.cli import notifying  # only whose user is told

        notifying.flush([order.experiment], order.notify, order.environ)


def queue(to: Farm, submissions: Sequence[Submission]) -> None:
    """Hand over what is written down already, and say so."""
    queuing = Queuing()
    queuing.begin(sum(len(each.jobs) for each in submissions if not each.after))
    try:
        to.submit(submissions, queuing.heard)
    finally:
        queuing.close()
    _watch(to, sorted({layout.experiment_of(submission.path) for submission in submissions}))


def _watch(to: Farm, experiments: Iterable[str]) -> None:
    """Have what waits there watched, where that was asked for. Raises FarmError."""
    watch = getattr(to, "watch", None)
    if watch is not None:
        for experiment in experiments:
            watch(experiment)


class Queuing:
    """Counts what a farm takes, with a bar on a terminal; says so at the end, even when it refused the rest."""

    def __init__(self) -> None:
        self.count = self.total = 0
        self._progress: Progress = unseen
        self._close: Callable[[], None] = lambda: None

    def begin(self, total: int) -> None:
        """So many runs are handed over."""
        self.total = total
        self._progress, self._close = screen.later_bar()

    def heard(self, submission: Submission, queued: int) -> None:
        """So many more; a run whose stages are several jobs counts once."""
        self.count += 0 if submission.after else queued
        self._progress("queuing", self.count, self.total)

    def close(self) -> None:
        """Say how many."""
        self._close()
        if self.count or (self.total and sys.exc_info()[0]):
            tell(f"      {self.count} queued")


def next_lines(names: Sequence[str], runs: Sequence[str], left: Mapping[str, int],
               others: int = 0) -> list[str]:  # fmt: skip
    """The commands to type after these runs of these experiments were handed over. left: the states of what was left
    alone.  others: as for failed_of."""
    quoted = shlex.join(names)
    lines = [f"farmx status {quoted}", f"sumx {quoted}"]
    if runs:
        home, run = os.path.split(runs[0])
        lines[1:1] = [f"farmx logs -f {shlex.quote(os.path.join(called(home), run))}", f"farmx cancel {quoted}"]
    failed = left.get("failed", 0) + left.get("cancelled", 0)
    return [*lines, f"farmx retry {quoted}  # {failed_of(failed, others)}"] if failed else lines
