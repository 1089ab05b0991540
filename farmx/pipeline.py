"""CMD of a sweep file: one command, or a mapping of stages; never which values their templates are filled with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from farmx import shelltext, yaml12
from farmx.errors import SweepError, nearest
from farmx.settings import BY_KEY, Bad
from farmx.yaml12 import Fields, Mark, Node, Scalar

if TYPE_CHECKING:
    from farmx.templates import Template


class Stage(NamedTuple):
    """One entry of a CMD that is a mapping. resources: its own, laid over RESOURCES."""

    name: str
    template: Template
    resources: Mapping[str, Any]
    mark: Mark


def wrong(node: Node | Mark, problem: str) -> NoReturn:
    """Raise SweepError with the place."""
    raise SweepError(f"{node if isinstance(node, Mark) else node.mark}: {problem}")


def read(keys: Mapping[str, Node], marks: Mapping[str, Mark], file: str) -> tuple[str, tuple[Stage, ...]]:
    """(the command on one line, ()) or ('', the stages), by the top-level keys. Raises SweepError."""
    node = keys.get("CMD")
    if node is None:
        for key in keys:
            if nearest(key, ["CMD"]).startswith("; did you mean"):
                wrong(marks[key], f"unknown key {key!r}; did you mean CMD?")
        raise SweepError(f"{file}: there is no CMD; write CMD: <command>")
    if isinstance(node, Fields):
        return "", _stages(node)
    cmd = _command(node, "CMD")
    if "$'" not in cmd:  # the one quote that shlex does not know
        shelltext.words(cmd, f"{node.mark}: CMD")
    return cmd, ()


def _command(node: Node, name: str, stage: bool = False) -> str:
    """One command on one line; a stage's is not followed by the values. Raises SweepError."""
    if not isinstance(node, Scalar):
        how = ", in quotes where it begins with [ or {" if stage else ", or a mapping of stages"
        wrong(node, f"{name} must be one command, not {yaml12.spelled(node)}; write {name}: <command>{how}")
    cmd = shelltext.one_line("" if node.data is None else node.text)
    if not cmd:
        wrong(node, f"{name} is empty; write {name}: <command>")
    bare = shelltext.bare(cmd)
    if re.search(r"(?:^|\s)#", bare):
        what = "what comes after it" if stage else "the values"
        wrong(node, f"{name} holds a comment (#), which would swallow {what}; quote the # or leave the comment out")
    if bare[-1] in ";&|":
        why = "" if stage else ", so the values would be a command of their own"
        wrong(node, f"{name} ends with {bare[-1]}{why}; leave it out")
    return cmd


# ---------------------------------------------------------------- stages


_STAGE_KEYS = ["cmd", "RESOURCES"]
_STAGE_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,59}", re.ASCII)


def _stages(cmd: Fields) -> tuple[Stage, ...]:
    if not cmd.items:
        wrong(cmd, "CMD is an empty mapping; write CMD: <command>, or a <stage>: <command> a line")
    return tuple(_stage(name, node, cmd.marks[name]) for name, node in cmd.items.items())


def _stage(name: str, node: Node, mark: Mark) -> Stage:
    """A stage: its command, or {cmd: <command>, RESOURCES: {...}}."""
    if not _STAGE_NAME.fullmatch(name):
        wrong(mark, f"{name!r} names a stage and its log; write letters, digits, _, . and -, the first no sign")
    resources: Mapping[str, Any] = {}
    if isinstance(node, Fields):
        for key in node.items:
            if key not in _STAGE_KEYS:
                wrong(node.marks[key], f"unknown key {key!r} in stage {name}{nearest(key, _STAGE_KEYS)}")
        if "cmd" not in node.items:
            wrong(node, f"stage {name} has no command; write {name}: {{cmd: <command>, RESOURCES: ...}}")
        resources = _own_resources(node.items.get("RESOURCES"))
        node = node.items["cmd"]
    from farmx import templates  # spares a sweep of one command

    template = templates.read(_command(node, name, stage=True), f"{node.mark}: {name}")
    return Stage(name, template, resources, node.mark)


def _own_resources(node: Node | None) -> Mapping[str, Any]:
    if node is None or (isinstance(node, Scalar) and node.data is None):
        return {}
    try:
        resources: Mapping[str, Any] = BY_KEY["RESOURCES"].read(node)
    except Bad as bad:
        problem = bad.problem or f"{yaml12.spelled(node)} is not allowed; it must be a mapping"
        wrong(bad.node or node, f"RESOURCES: {problem}")
    return resources
