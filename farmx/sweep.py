"""Sweep files: yaml text -> Sweep -> points, by runx's rules; never names, argv or anything on disk."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from farmx import shelltext, yaml12
from farmx.errors import SweepError, nearest
from farmx.spec import Goal, Point, Value, goal_of
from farmx.yaml12 import Fields, Items, Mark, Node, Scalar, wrong

if TYPE_CHECKING:
    from farmx.pipeline import Stage

OWN_KEYS = ("CMD", "HPARAMS", "GOAL")

# The kinds of a dimension.
VALUE, TAG, SKIP, RESOURCE = "value", "tag", "skip", "resource"

# The keys of HPARAMS that are not passed to the program, with what they vary.
MAGIC = {
    "RUNX.TAG": (TAG, "TAG"),
    "FARMX.TAG": (TAG, "TAG"),
    "RUNX.SKIP": (SKIP, "SKIP"),
    "FARMX.SKIP": (SKIP, "SKIP"),
    "SUBMIT_JOB.NODES": (RESOURCE, "nodes"),
    "SUBMIT_JOB.PARTITION": (RESOURCE, "partition"),
}
_MAGIC_PREFIX = re.compile(r"(?:RUNX|FARMX|SUBMIT_JOB)\.", re.IGNORECASE)
_REFERENCE = r"\{([^{}]*)\}"
_YAML_ONLY = re.compile(r"0[ox].*|[-+]?\.(?:inf|nan)", re.IGNORECASE)
_NOTHING = Value(None, ())


class Dimension(NamedTuple):
    """One key of HPARAMS. values: at least one.  listed: the file gives a list, so it tells points apart."""

    kind: str
    name: str
    values: tuple[Value, ...]
    listed: bool
    mark: Mark


class Item(NamedTuple):
    """One mapping of HPARAMS, what it inherits included; dimensions in the order of the product, last one fastest."""

    dimensions: tuple[Dimension, ...]


class Sweep(NamedTuple):
    """A sweep file.

    file: as messages show it.  name: of the experiment.  cmd: on one line but for newlines inside quotes, '' where
    `stages` are the commands, in order.
    settings, setting_marks: every other top-level key, for config to check; `x-*` are left out.
    warnings: one line each: what YAML 1.1, and so runx, read differently; what no stage uses.
    """

    file: str
    name: str
    cmd: str
    items: tuple[Item, ...]
    goal: Goal | None
    settings: Mapping[str, Node]
    setting_marks: Mapping[str, Mark]
    warnings: tuple[str, ...]
    stages: tuple[Stage, ...] = ()


def read(text: str, file: str) -> Sweep:
    """The sweep that `text` says; `file` is its path, for messages and the experiment's name.

    Raises SweepError for everything that is wrong with CMD, HPARAMS, GOAL and the yaml itself. Other keys are not
    looked at.
    """
    root = yaml12.parse(text, file, SweepError)
    if root is None or (isinstance(root, Scalar) and root.data is None):
        raise SweepError(f"{file}: the file is empty; write at least CMD: <command>")
    if not isinstance(root, Fields):
        wrong(root, "a sweep file is a mapping; write CMD: <command> and HPARAMS: <name>: <values>")
    keys = {key: node for key, node in root.items.items() if not key.startswith("x-")}
    settings = {key: node for key, node in keys.items() if key not in OWN_KEYS}
    for key in filter(_MAGIC_PREFIX.match, settings):
        if key not in MAGIC:
            wrong(root.marks[key], f"unknown key {key!r}{nearest(key, list(MAGIC))}")
        wrong(root.marks[key], f"{key} stands among the values of HPARAMS; write HPARAMS: {{{key}: ...}}")
    items = _items(keys.get("HPARAMS"))
    cmd, stages = _cmd(keys, root.marks, file)
    _check_stages(stages, items)
    return Sweep(
        file=file,
        name=os.path.splitext(os.path.basename(file))[0],
        cmd=cmd,
        items=items,
        goal=_goal(keys.get("GOAL")),
        settings=settings,
        setting_marks={key: root.marks[key] for key in settings},
        warnings=_warnings(keys) + _unused(stages, items),
        stages=stages,
    )


def points(sweep: Sweep) -> Iterator[Point]:
    """The points in file order, the last key of HPARAMS fastest, skipped ones left out; equal ones stay.

    Points share their Values, and those of one item their `swept` and `resources` where nothing in them varies.
    """
    for item in sweep.items:
        if any(axis.kind != VALUE and axis.listed for axis in item.dimensions):
            yield from _special_points(item)
        else:
            yield from _plain_points(item)


def count(sweep: Sweep) -> int:
    """How many points there are, without making them."""
    return sum(_kept(item) for item in sweep.items)


def shape(sweep: Sweep) -> str:
    """The sweep in a few words: '2 x 3 grid, 1 skipped', '2 x 3 + 4 grids', '1 run'."""
    sizes = [[len(axis.values) for axis in item.dimensions if len(axis.values) > 1] for item in sweep.items]
    grids = " + ".join(" x ".join(map(str, size)) or "1" for size in sizes)
    told = f"{grids} grid{'s' if len(sizes) > 1 else ''}" if sizes != [[]] else "1 run"
    skipped = sum(map(_all, sweep.items)) - count(sweep)
    return f"{told}, {skipped} skipped" if skipped else told


# ---------------------------------------------------------------- CMD


def _cmd(keys: Mapping[str, Node], marks: Mapping[str, Mark], file: str) -> tuple[str, tuple[Stage, ...]]:
    """(the command on one line, ()) or ('', the stages), by the top-level keys."""
    node = keys.get("CMD")
    if node is None:
        for key in keys:
            if nearest(key, ["CMD"]).startswith("; did you mean"):
                wrong(marks[key], f"unknown key {key!r}; did you mean CMD?")
        raise SweepError(f"{file}: there is no CMD; write CMD: <command>")
    if isinstance(node, Fields):
        from farmx import pipeline  # spares a sweep of one command

        return "", pipeline.read(node, partial(_command, stage=True))
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
    if node.lines and (other := shelltext.second_command(node.text)):
        told = f"{name} has several lines, and {other!r} would be words of the line before it"
        wrong(node, f"{told}; {shelltext.how_on_one_line(node.text)}")
    return cmd


# ---------------------------------------------------------------- stages


def _check_stages(stages: tuple[Stage, ...], items: tuple[Item, ...]) -> None:
    """Raise SweepError for a reference to nothing in a stage, and for a name that stands for something else there."""
    if not stages:
        return
    from farmx import templates  # spares a sweep of one command

    names = [_names(item) for item in items]
    for axis in (axis for each in names for axis in each.values()):
        if axis.name in templates.OWN:
            wrong(axis.mark, f"{{{axis.name}}} stands for something else in a stage; choose another name")
    for stage in stages:
        _check_references(stage, names)


def _names(item: Item) -> dict[str, Dimension]:
    return {axis.name: axis for axis in item.dimensions if axis.kind == VALUE}


def _check_references(stage: Stage, names: list[dict[str, Dimension]]) -> None:
    """Raise SweepError for a reference to nothing. A flag that some mappings of HPARAMS lack is left out there."""
    from farmx import templates  # spares a sweep of one command

    known = list(dict.fromkeys(name for each in names for name in each))
    for reference in stage.template.references():
        if reference.kind == templates.VARIABLE:
            continue
        if reference.name not in known:
            wrong(stage.mark, f"{stage.name}: {templates.unknown(reference, known)}")
        lacks = [place for place, each in enumerate(names, 1) if reference.name not in each]
        if lacks and reference.kind != templates.FLAG:
            told = f"{reference.source} has no value in mapping {lacks[0]} of HPARAMS"
            wrong(stage.mark, f"{stage.name}: {told}; give it one there, None for nothing")
    first = stage.template.words[0][0] if stage.template.words else ""
    if isinstance(first, templates.Reference) and first.kind == templates.FLAG:
        wrong(stage.mark, f"{stage.name}: begins with {first.source}, a flag; begin with a program")
    if isinstance(first, templates.Reference) and first.kind == templates.VALUE:
        values = [value for each in names for value in each[first.name].values]
        if not all(value.words for value in values):
            wrong(stage.mark, f"{stage.name}: {first.source} is nothing for some runs; begin with a program")


def _unused(stages: tuple[Stage, ...], items: tuple[Item, ...]) -> tuple[str, ...]:
    """A warning for each hyperparameter that no stage uses."""
    used = {reference.name for stage in stages for reference in stage.template.references()}
    marks = {axis.name: axis.mark for item in reversed(items) for axis in _names(item).values()} if stages else {}
    return tuple(
        f"{mark}: no stage uses {name}; it still tells runs apart"
        for name, mark in sorted(marks.items(), key=lambda each: each[1])
        if name not in used
    )


# ---------------------------------------------------------------- goal and hyperparameters


def _goal(node: Node | None) -> Goal | None:
    """GOAL: a metric, or {metric: M, mode: min or max}."""
    if node is None:
        return None
    fields = node.items if isinstance(node, Fields) else {"metric": node}
    for key in fields:
        if key not in ("metric", "mode"):
            assert isinstance(node, Fields)
            wrong(node.marks[key], f"unknown key {key!r} in GOAL{nearest(key, ['metric', 'mode'])}")
    metric, mode = fields.get("metric"), fields.get("mode")
    if not (isinstance(metric, Scalar) and isinstance(metric.data, str) and metric.data.strip()):
        wrong(metric or node, "GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}")
    if mode is not None and yaml12.plain(mode) not in ("min", "max"):
        wrong(mode, f"the mode of GOAL is {yaml12.spelled(mode)}; it must be min or max")
    return goal_of(metric.text.strip(), None if mode is None else yaml12.plain(mode))


def _items(node: Node | None) -> tuple[Item, ...]:
    """HPARAMS, each later mapping laid over the first."""
    if node is None or (isinstance(node, Scalar) and node.data is None):
        return (Item(()),)
    if isinstance(node, Items) and not node.items:
        wrong(node, "HPARAMS is an empty list; leave HPARAMS out for a single run")
    fields = [_item(item) for item in (node.items if isinstance(node, Items) else (node,))]
    merged = [fields[0]] + [{**fields[0], **later} for later in fields[1:]]
    items = tuple(Item(tuple(dimensions.values())) for dimensions in merged)
    for item in items:
        _check_tags(item)
    return items


def _item(node: Node) -> dict[tuple[str, str], Dimension]:
    """One mapping of HPARAMS by (kind, name), so that FARMX.TAG overrides an inherited RUNX.TAG."""
    if not isinstance(node, Fields):
        wrong(node, f"HPARAMS takes <name>: <values>, or a list of such mappings; this is {yaml12.spelled(node)}")
    dimensions: dict[tuple[str, str], Dimension] = {}
    for key, value in node.items.items():
        dimension = _dimension(key, value, node.marks[key])
        place = (dimension.kind, dimension.name)
        if place in dimensions:
            wrong(node.marks[key], f"RUNX.{dimension.name} and FARMX.{dimension.name} are the same; keep one")
        dimensions[place] = dimension
    return dimensions


def _dimension(key: str, node: Node, mark: Mark) -> Dimension:
    kind, name = _kind(key, mark)
    listed = isinstance(node, Items)
    nodes = node.items if isinstance(node, Items) else (node,)
    if not nodes:
        give = "true or false" if kind == SKIP else "values, or None to leave it out"
        wrong(node, f"{key} is an empty list, which is no run at all; give it {give}")
    return Dimension(kind, name, tuple(_READ[kind](item, key) for item in nodes), listed, mark)


def _kind(key: str, mark: Mark) -> tuple[str, str]:
    if key in MAGIC:
        return MAGIC[key]
    if _MAGIC_PREFIX.match(key):
        wrong(mark, f"unknown key {key!r} in HPARAMS{nearest(key, list(MAGIC))}")
    if not key.strip("-"):
        wrong(mark, f"{key!r} names no hyperparameter; write a name")
    return VALUE, key


def _value(node: Node, key: str) -> Value:
    """One value of a hyperparameter; a list here is one value of several words."""
    if isinstance(node, Items):
        return Value([_data(item, key) for item in node.items], tuple(_element(item, key) for item in node.items))
    data = _data(node, key)
    assert isinstance(node, Scalar)
    if data is None:
        return _NOTHING
    if isinstance(data, bool):
        return Value(data, ("true" if data else "false",))
    return Value(data, (_word(node),))


def _data(node: Node, key: str) -> Any:
    """`node` as data, the bare word None as None. Raises SweepError for a mapping."""
    if isinstance(node, Fields):
        wrong(node, f"{key} holds a mapping; a value is text, a number, true, false, None or a list of these")
    if isinstance(node, Items):
        return [_data(item, key) for item in node.items]
    return None if node.text == "None" and not node.quoted else node.data


def _element(node: Node, key: str) -> str:
    """The word for one element of a list that is one value; a list inside it is its json."""
    if isinstance(node, Scalar):
        return _word(node) or ("" if node.quoted else "null")
    import json  # spares all sweeps without such a list

    return json.dumps(_data(node, key), ensure_ascii=False)


def _word(node: Scalar) -> str:
    """A scalar as it is spelled, but for the spellings of numbers that only yaml knows (0x1F, 0o17, .inf, .nan)."""
    return str(node.data) if _YAML_ONLY.fullmatch(node.text) else node.text


def _tag(node: Node, key: str) -> Value:
    if not isinstance(node, Scalar):
        wrong(node, f"{key} is {yaml12.spelled(node)}; it must be text or a list of texts, braces in quotes: '{{lr}}'")
    return _NOTHING if _data(node, key) in (None, "") else Value(node.text, (node.text,))


def _skip(node: Node, key: str) -> Value:
    if not (isinstance(node, Scalar) and isinstance(node.data, bool)):
        wrong(node, f"{key} is {yaml12.spelled(node)}; it must be true or false, without quotes, or a list of these")
    return Value(node.data, (str(node.data).lower(),))


def _resource(node: Node, key: str) -> Value:
    if not isinstance(node, Scalar) or isinstance(node.data, bool):
        wrong(node, f"{key} is {yaml12.spelled(node)}; it must be text, a number or a list of these")
    return _value(node, key)


_READ = {VALUE: _value, TAG: _tag, SKIP: _skip, RESOURCE: _resource}


def _check_tags(item: Item) -> None:
    """Raise SweepError when a tag's {name} is no hyperparameter of `item`."""
    names = list(_names(item))
    for axis in item.dimensions:
        for value in axis.values if axis.kind == TAG else ():
            for name in re.findall(_REFERENCE, value.data or ""):
                if name not in names:
                    wrong(axis.mark, f"the tag {value.data!r} names no hyperparameter {name!r}{nearest(name, names)}")


def _all(item: Item) -> int:
    return math.prod(len(axis.values) for axis in item.dimensions)


def _kept(item: Item) -> int:
    return math.prod(
        sum(not value.data for value in axis.values) if axis.kind == SKIP else len(axis.values)
        for axis in item.dimensions
    )


def _plain_points(item: Item) -> Iterator[Point]:
    """The points of an item whose tag, skip and resources are the same for all."""
    if not _kept(item):
        return
    axes = [axis for axis in item.dimensions if axis.kind == VALUE]
    names = [axis.name for axis in axes]
    tag = next((axis.values[0].data for axis in item.dimensions if axis.kind == TAG), None)
    resources = _resources({(axis.kind, axis.name): axis.values[0] for axis in item.dimensions})
    swept: dict[str, Value] = {}
    for combination in product(*(axis.values for axis in axes)):
        yield Point(dict(zip(names, combination)), tag, swept, resources)


def _special_points(item: Item) -> Iterator[Point]:
    """The points of an item where a list varies the tag, the skip or a resource."""
    places = [(axis.kind, axis.name) for axis in item.dimensions]
    listed = [(axis.kind, axis.name) for axis in item.dimensions if axis.listed and axis.kind in (TAG, RESOURCE)]
    for combination in product(*(axis.values for axis in item.dimensions)):
        at = dict(zip(places, combination))
        if (SKIP, "SKIP") in at and at[SKIP, "SKIP"].data:
            continue
        yield Point(
            {name: value for (kind, name), value in at.items() if kind == VALUE},
            at.get((TAG, "TAG"), _NOTHING).data,
            {name: at[kind, name] for kind, name in listed},
            _resources(at),
        )


def _resources(at: Mapping[tuple[str, str], Value]) -> dict[str, Value]:
    """The resources a point sets; None leaves them to the configuration."""
    return {name: value for (kind, name), value in at.items() if kind == RESOURCE and value.data is not None}


def _warnings(keys: Mapping[str, Node]) -> tuple[str, ...]:
    """One line for each value that does not mean what it meant to runx, which read YAML 1.1."""
    told = [
        f"{scalar.mark}: {scalar.text} is {_reading(scalar.data)} here; runx read {_reading(old)}"
        for scalar, old in yaml12.readings_1_1(Items(tuple(keys.values()), Mark("")))
        if _matters(scalar, old)
    ]
    return tuple(told + _quoted_nones(keys.get("HPARAMS")))


def _quoted_nones(hparams: Node | None) -> list[str]:
    """A warning for each 'None' in quotes: text here, an argument left out in runx."""
    mappings = hparams.items if isinstance(hparams, Items) else (hparams,)
    values = [value for fields in mappings if isinstance(fields, Fields) for value in fields.items.values()]
    marks = {
        scalar.mark: None
        for value in values
        for scalar in (value.items if isinstance(value, Items) else (value,))
        if isinstance(scalar, Scalar) and scalar.quoted and scalar.text == "None"
    }
    return [f"{mark}: 'None' in quotes is text here; runx left the argument out, as None does" for mark in marks]


def _matters(scalar: Scalar, old: Any) -> bool:
    """Whether a program would see the difference: the word it is given, or the number in it."""
    if isinstance(scalar.data, (int, float)) and isinstance(old, (int, float)):
        return scalar.data != old and old == old  # nan reads as nan in both
    return str(old) != _word(scalar)


def _reading(data: Any) -> str:
    if isinstance(data, str):
        return f"the string {data!r}"
    import json  # only a warning wants it

    return json.dumps(data) if isinstance(data, (bool, int, float)) else str(data)
