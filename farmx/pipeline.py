"""CMD of a sweep file where it is a mapping of stages; never which values their templates are filled with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from farmx import yaml12
from farmx.errors import nearest
from farmx.settings import BY_KEY, Bad
from farmx.yaml12 import Fields, Mark, Node, Scalar, wrong

if TYPE_CHECKING:
    from farmx.templates import Template

# (a node, the stage's name) -> its command on one line; raises SweepError
Command = Callable[[Node, str], str]


class Stage(NamedTuple):
    """One entry of a CMD that is a mapping. resources: its own, laid over RESOURCES.  marks: of their names."""

    name: str
    template: Template
    resources: Mapping[str, Any]
    mark: Mark
    marks: Mapping[str, Mark] = {}


_STAGE_KEYS = ["cmd", "RESOURCES"]
_STAGE_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,59}", re.ASCII)


def read(cmd: Fields, command: Command) -> tuple[Stage, ...]:
    """The stages of a CMD, in order. Raises SweepError."""
    if not cmd.items:
        wrong(cmd, "CMD is an empty mapping; write CMD: <command>, or a <stage>: <command> a line")
    return tuple(_stage(name, node, cmd.marks[name], command) for name, node in cmd.items.items())


def _stage(name: str, node: Node, mark: Mark, command: Command) -> Stage:
    """A stage: its command, or {cmd: <command>, RESOURCES: {...}}."""
    if not _STAGE_NAME.fullmatch(name):
        wrong(mark, f"{name!r} names a stage and its log; write letters, digits, _, . and -, the first no sign")
    resources: Mapping[str, Any] = {}
    marks: Mapping[str, Mark] = {}
    if isinstance(node, Fields):
        for key in node.items:
            if key not in _STAGE_KEYS:
                wrong(node.marks[key], f"unknown key {key!r} in stage {name}{nearest(key, _STAGE_KEYS)}")
        if "cmd" not in node.items:
            wrong(node, f"stage {name} has no command; write {name}: {{cmd: <command>, RESOURCES: ...}}")
        resources = _own_resources(node.items.get("RESOURCES"))
        marks = getattr(node.items.get("RESOURCES"), "marks", {})
        node = node.items["cmd"]
    from farmx import templates  # spares a sweep of one command

    template = templates.read(command(node, name), f"{node.mark}: {name}")
    return Stage(name, template, resources, node.mark, marks)


def _own_resources(node: Node | None) -> Mapping[str, Any]:
    if node is None or (isinstance(node, Scalar) and node.data is None):
        return {}
    try:
        resources: Mapping[str, Any] = BY_KEY["RESOURCES"].read(node)
    except Bad as bad:
        problem = bad.problem or f"{yaml12.spelled(node)} is not allowed; it must be a mapping"
        wrong(bad.node or node, f"RESOURCES: {problem}")
    return resources
