"""Places to run: `base` is the seam, every other module is a leaf that launching reaches through it.

The table of leaves; one is imported when a farm or a record names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from farmx.errors import RecordError

if TYPE_CHECKING:
    from farmx.farms.base import Answers
    from farmx.spec import Held

LEAVES = ("local", "slurm", "command")
CHAINED = ("slurm",)  # where a job can wait for the end of another


class Leaf(Protocol):
    """What every leaf has besides its Farm, from records alone: a farm may have left the configuration since."""

    poll: Callable[[Sequence[Held]], Answers]
    cancel: Callable[[Sequence[Held]], None]


def leaf(record: Mapping[str, Any]) -> Leaf:
    """The leaf that wrote this job.json. Raises RecordError."""
    name = record.get("executor", "local")
    if name not in LEAVES:
        raise RecordError(f"a submission was queued by an executor {name!r}; upgrade farmx to read it")
    return cast("Leaf", importlib.import_module(f"farmx.farms.{name}"))
