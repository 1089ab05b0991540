"""Places to run: `base` is the seam, every other module is a leaf that launching reaches through it.

The table of leaves; one is imported when a farm or a record names it. Other packages may bring more.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from farmx import layout
from farmx.errors import FarmError, RecordError

if TYPE_CHECKING:
    from farmx.farms.base import Answers, Farm
    from farmx.spec import Held

CHAINED = (layout.SLURM,)  # where a job can wait for the end of another


class Leaf(Protocol):
    """What every leaf has besides its Farm, from records alone: a farm may have left the configuration since."""

    poll: Callable[[Sequence[Held]], Answers]
    cancel: Callable[[Sequence[Held]], None]


class Plugin(Leaf, Protocol):
    """A leaf that another package brings. farm: of a name, its RESOURCES, and where each setting is from."""

    farm: Callable[[str, Mapping[str, Any], Mapping[str, str]], Farm]


def leaf(record: Mapping[str, Any]) -> Leaf:
    """The leaf that wrote this job.json. Raises RecordError."""
    name = record.get("executor", layout.LOCAL)
    return cast("Leaf", importlib.import_module(f"farmx.farms.{name}")) if name in layout.EXECUTORS else plugin(name)


def plugin(name: str) -> Plugin:
    """The leaf of that name which another package brings. Raises RecordError where none does, FarmError."""
    from farmx import settings  # spares who has none

    found = settings.plugin(name)
    if found is None:
        raise RecordError(f"a submission was queued by an executor {name!r}; install what brings it, or upgrade farmx, "
                          "to read it")  # fmt: skip
    try:
        return cast("Plugin", found.load())
    except (ImportError, AttributeError) as error:
        why = f"{found.value} cannot be loaded: {error}; mend what is installed"
        raise FarmError(f"EXECUTOR {name}: {why}") from error
