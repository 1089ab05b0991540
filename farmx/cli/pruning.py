"""launch --prune: the runs that wait and have left the sweep file: shown first, then cancelled."""

import os
import sys
from collections.abc import Iterator

from farmx import compose, plan, records, relaunch, steps, sweep
from farmx.cli.surroundings import SHOWN, tell
from farmx.compose import Composed, Request
from farmx.errors import ConfigError, SweepError, UsageError
from farmx.orders import Order
from farmx.spec import Run, Surroundings


def prune(made: Composed, order: Order, at: Surroundings, sure: bool) -> None:
    """Show what waits in the order's experiment and is not in its sweep file any more; cancel it once that is agreed.

    sure: agreed before.  Raises UsageError where nobody can be asked, or who was asked said no: nothing was cancelled
    then, and nothing launched.
    """
    runs = show(made, order, at)
    if not runs:
        return
    if not sure:
        _ask(len(runs))
    relaunch.cancel(runs, _note, steps.DROPPED)


def show(made: Composed, order: Order, at: Surroundings) -> list[Run]:
    """Show what waits in the order's experiment and is not in its sweep file any more; return it.

    The file is what counts, all its points: what --first leaves out of an order has not left it. Nor has what another
    sweep file of the experiment holds today. Raises SweepError or ConfigError where that is wrong.
    """
    runs = relaunch.left_behind(order.experiment, order.sweep, _points(made))
    if runs:
        wanted = set().union(*(_points(made) for made in _others(order, at)))
        runs = [run for run in runs if run.identity not in wanted]
    if runs:
        _show(runs)
    return runs


def _points(made: Composed) -> set[str]:
    """The identities of all points of a sweep."""
    return {spec.identity for spec in plan.specs(made.template, sweep.points(made.sweep))}


def _others(order: Order, at: Surroundings) -> Iterator[Composed]:
    """The other sweep files that the experiment was launched from and that are still there, with the directory and the
    configuration file that each was last launched with. Raises SweepError or ConfigError."""
    launches = {str(told.get("sweep") or ""): told for told in reversed(list(records.launches(order.experiment)))}
    for file, told in launches.items():
        if file == order.sweep or not os.path.exists(file):
            continue
        cwd = str(told.get("cwd")) if os.path.isdir(str(told.get("cwd"))) else at.cwd
        try:
            yield compose.read(Request(file, config_file=told.get("config")), at._replace(cwd=cwd))
        except (SweepError, ConfigError) as error:
            why = f"--prune looks at {file}, which this experiment was launched from, too"
            raise type(error)(f"{why}: {error}") from error


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
