"""Places to run: `base` is the seam, every other module is a leaf that launching reaches through it.

The table of leaves; one is imported when a farm or a record names it. Other packages may bring more.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from farmx import layout
from farmx.errors import FarmError, RecordError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from farmx.farms.base import Answers, Can, Farm, Given
    from farmx.spec import Held

# What a module of somebody else's may raise as it is loaded.
_BROKEN = (ImportError, SyntaxError, AttributeError, NameError, TypeError, ValueError, LookupError, OSError,
           RuntimeError)  # fmt: skip
_OF_A_LEAF = ("farm", "poll", "cancel")
_OF_WARNS = ("warn", "hurry")  # of one whose CAN says so
_OF_A_FARM = ("check", "batches", "submit")


class Leaf(Protocol):
    """What every leaf has besides its Farm, from records alone: a farm may have left the configuration since.

    It may have `release(held)`, which lets begin what a breaker has the farm hold; where jobs look at the breaker as
    they begin (`fence` in the record) nothing holds them. And `recorded(record, pack, tell)`, which makes the Farm that
    wrote a job.json where that says all of it: what is queued again by `farmx tend` needs no configuration then.
    """

    poll: Callable[[Sequence[Held]], Answers]
    cancel: Callable[[Sequence[Held]], None]


class Plugin(Leaf, Protocol):
    """A leaf that another package brings. It may have CAN, a base.Can."""

    farm: Callable[[Given], Farm]


def leaf(record: Mapping[str, Any]) -> Leaf:
    """The leaf that wrote this job.json. Raises RecordError where nobody brings it, FarmError where it is broken."""
    return _leaf(layout.executor_of(record))


def release(record: Mapping[str, Any]) -> Callable[[Held], None] | None:
    """What lets begin what a breaker holds of a submission with this job.json; None where it cannot. Raises as leaf."""
    fenced = (record.get("node") or {}).get("fence") is True
    return getattr(leaf(record), "release", None) or ((lambda held: None) if fenced else None)


def can(executor: str) -> Can:
    """What farms of this kind can. Raises as leaf."""
    from farmx.farms.base import Can

    here = executor in ("", layout.LOCAL)  # spares the pool where nobody needs one
    return Can() if here else getattr(_leaf(executor), "CAN", Can())


def _leaf(name: str) -> Leaf:
    ours = name in layout.EXECUTORS
    return cast("Leaf", importlib.import_module(f"farmx.farms.{name}")) if ours else plugin(name)


# ---------------------------------------------------------------- of other packages


def build(given: Given) -> Farm:
    """The farm that another package makes of its settings. Raises FarmxError, for whatever it finds wrong with them."""
    made = plugin(given.executor).farm(given)
    lacking = [name for name in _OF_A_FARM if not callable(getattr(made, name, None))]
    if lacking:
        raise _wrong(_found(given.executor), f"its farm() gives what has no {lacking[0]}()")
    if getattr(made, "executor", None) != given.executor:
        raise _wrong(_found(given.executor), f"its farm() gives one whose executor is not {given.executor!r}")
    return made


@cache  # who looks through all that is installed does so once
def plugin(name: str) -> Plugin:
    """The leaf of that name which another package brings. Raises RecordError where none does, FarmError."""
    found = _found(name)
    try:
        made = found.load()
    except _BROKEN as error:
        raise _wrong(found, f"it cannot be loaded: {type(error).__name__}: {error}") from error
    wanted = (*_OF_A_LEAF, *(_OF_WARNS if getattr(getattr(made, "CAN", None), "warns", False) else ()))
    lacking = [each for each in wanted if not callable(getattr(made, each, None))]
    if lacking:
        raise _wrong(found, f"it has no {lacking[0]}()")
    return cast("Plugin", made)


def theirs(error: BaseException) -> FarmError | None:
    """What to say, after its traceback, of an error that came out of what another package brings; None of any other."""
    if not plugin.cache_info().currsize:
        return None
    from farmx import settings  # spares who meets none

    at, names = error.__traceback__, set[str]()
    while at:
        name = str(at.tb_frame.f_globals.get("__name__")).partition(".")[0]
        names = {name, *(names if name != "farmx" else ())}  # what it calls of ours may have bugs of our own
        at = at.tb_next
    found = next((each for each in settings.plugins() if each.module.partition(".")[0] in names), None)
    return _wrong(found, f"{type(error).__name__}: {error}") if found else None


def _found(name: str) -> EntryPoint:
    from farmx import settings  # spares who has none

    found = [each for each in settings.plugins() if each.name == name]
    if not found:
        raise RecordError(f"a submission was queued by an executor {name!r}; install what brings it, or upgrade farmx, "
                          "to read it")  # fmt: skip
    if len({each.value for each in found}) > 1:
        both = " and ".join(sorted(map(_from, found)))
        raise FarmError(f"EXECUTOR {name}: {both} both bring it; uninstall one")
    return found[0]


def _wrong(found: EntryPoint, why: str) -> FarmError:
    told = " ".join(why.split())
    return FarmError(f"EXECUTOR {found.name}: {_from(found)}: {told}; mend what is installed")


def _from(found: EntryPoint) -> str:
    """Who brings it, as a message says it."""
    dist = found.dist
    return f"{dist.name} {dist.version} ({found.name} = {found.value})" if dist else f"{found.name} = {found.value}"
