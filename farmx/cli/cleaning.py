"""farmx clean: what would go is shown, then asked for, then removed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from farmx import clean as rules
from farmx import naming
from farmx.clean import Item, Plan, Size, Wish
from farmx.cli import screen
from farmx.cli.surroundings import SHOWN, located, logroot, show, tell, unattended
from farmx.errors import UsageError
from farmx.spec import Surroundings


def clean(given: Mapping[str, Any], at: Surroundings) -> int:
    """Remove what `given` asks for; return the exit code: 1 when something of it stayed."""
    root = logroot(given["logroot"], given["config_file"], at)
    names = [located(name, at) for name in given["names"]]
    runs = naming.find(root, names, full=given["yes"] or unattended())
    homes = [naming.resolve(root, name).home for name in names]
    plan = rules.plan(runs, Wish(given["failed"], given["checkpoints"], given["snapshots"]), homes)
    _show(plan)
    if not plan.items or not (given["yes"] or _asked()):
        return 0
    progress, close = screen.later_bar(every=50)
    stayed = []

    def stays(item: Item, why: str) -> None:
        stayed.append(item)
        close()
        tell(f"left    {item} {why}")

    try:
        went = rules.remove(plan.items, stays, progress)
    finally:
        close()
    tell(f"removed {went} of {len(plan.items)}")
    return int(bool(stayed))


def _asked() -> bool:
    if unattended():
        raise UsageError("there is no terminal to ask on; give -y to remove this")
    return click.confirm("Remove this?", err=True)


def _show(plan: Plan) -> None:
    """Everything that would go, how much it is, and what stays."""
    for kind, word in (("run", "run"), ("checkpoints", "checkpoint"), ("snapshot", "snapshot")):
        items = [item for item in plan.items if item.kind == kind]
        if items:
            count = sum(len(item.names) for item in items) if kind == "checkpoints" else len(items)
            show(f"remove  {count} {word}{'s' * (count != 1)}: {_measured(items)}")
            _list(items)
    if len({item.kind for item in plan.items}) > 1:
        show(f"in all  {_measured(plan.items)}")
    if not plan.items:
        show("nothing to remove")
    if any(item.kind == "run" for item in plan.items):
        tell("note    the next launch of their sweep file runs again what is removed")
    if plan.left:
        counts = Counter(str(run.state) for run in plan.left)
        tell(f"left    {', '.join(f'{count} {state}' for state, count in counts.items())}")
    for note in plan.notes:
        tell(f"left    {note}")


def _measured(items: Sequence[Item]) -> Size:
    progress, close = screen.later_bar(every=50)
    try:
        return rules.measured(items, progress)
    finally:
        close()


def _list(items: list[Item]) -> None:
    for item in items[:SHOWN]:
        count = f"{len(item.names)} checkpoint{'s' * (len(item.names) != 1)}, " if item.names else ""
        what = f"{count}{rules.measured([item])}"
        show(f"        {item}  {item.run.state}  {what}" if item.run else f"        {item}  {what}")
    if len(items) > SHOWN:
        show(f"        and {len(items) - SHOWN:,} more")
