"""launch --prune: the runs that wait and have left the sweep file: shown first, then cancelled."""

import sys

from farmx import plan, relaunch, sweep
from farmx.cli.surroundings import SHOWN, tell
from farmx.compose import Composed
from farmx.errors import UsageError
from farmx.orders import Order
from farmx.spec import Run


def prune(made: Composed, order: Order, sure: bool) -> None:
    """Show what waits in the order's experiment and is not in its sweep file any more; cancel it once that is agreed.

    sure: agreed before.  Raises UsageError where nobody can be asked, or who was asked said no: nothing was cancelled
    then, and nothing launched.
    """
    runs = show(made, order)
    if not runs:
        return
    if not sure:
        _ask(len(runs))
    relaunch.cancel(runs, _note)


def show(made: Composed, order: Order) -> list[Run]:
    """Show what waits in the order's experiment and is not in its sweep file any more; return it.

    The file is what counts, all its points: what --first leaves out of an order has not left it.
    """
    wanted = {spec.identity for spec in plan.specs(made.template, sweep.points(made.sweep))}
    runs = relaunch.left_behind(order.experiment, order.sweep, wanted)
    if runs:
        _show(runs)
    return runs


def _show(runs: list[Run]) -> None:
    tell(f"prune {len(runs)} waiting run{'s' * (len(runs) != 1)} left the sweep file:")
    for run in runs[:SHOWN]:
        values = " ".join(f"{key}={value}" for key, value in run.hparams.items())
        tell(f"      {run.name}  {run.state}  {values}")
    if len(runs) > SHOWN:
        tell(f"      and {len(runs) - SHOWN} more")


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"--prune would cancel {count} run{'s' * (count != 1)}; give -y if you mean it")
    import click  # only who is asked

    if not click.confirm("Cancel them?", err=True):
        raise UsageError("nothing was cancelled and nothing launched")


def _note(run: Run, did: str) -> None:
    tell(f"      {run.name}  {did}")
