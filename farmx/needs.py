"""The names in RESOURCES: cpus-per-task and cpus_per_task are one; never what a farm makes of them.

Carried to nodes with the runner: standard library only.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, which nodes would load for nothing else
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def plain(key: str) -> str:
    """The one spelling by which keys are compared."""
    return key.replace("-", "_")


def plainly(resources: Mapping[str, Any]) -> dict[str, Any]:
    """plain key -> value, of what is set."""
    return {plain(key): value for key, value in resources.items() if value is not None}


def spelled(keys: Iterable[str]) -> dict[str, str]:
    """plain key -> how it is spelled there."""
    return {plain(key): key for key in keys}


def distinct(wanted: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each of these resources once, in order."""
    return list({repr(each): each for each in wanted}.values())


def of_stage(key: str, value: Any) -> str:
    """The key in Config.origins of a resource that a stage asks for itself."""
    return f"RESOURCES.{key} {value!r}"


def over(resources: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resources with `own` in place of that, however it is spelled there; None stays one."""
    if not own:
        return resources
    named = spelled(own)
    return {**{key: value for key, value in resources.items() if plain(key) not in named or key in own}, **own}


def merged(resources: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with what is `asked` for; None takes it out."""
    laid = over(resources, asked)
    return {key: value for key, value in laid.items() if value is not None or key not in asked}
