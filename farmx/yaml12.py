"""YAML text as values that know where they stand, by the scalar rules of YAML 1.2; never what a key means."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from farmx.errors import FarmxError, SweepError


class Mark(NamedTuple):
    """Where something is written; line and column count from 1, line 0 is no file (`command line`)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Scalar(NamedTuple):
    """One value. text: as the file spells it; quoted: it is text whatever it looks like (quotes, `|`, `>`, !!str).

    lines: it has several, whose ends were written (in a `|`, or as \\n), not made by folding.
    """

    data: None | bool | int | float | str
    text: str
    mark: Mark
    quoted: bool
    lines: bool = False


class Items(NamedTuple):
    """A list."""

    items: tuple["Node", ...]
    mark: Mark


class Fields(NamedTuple):
    """A mapping, merges (`<<`) done: in file order, merged keys first. marks: of the keys."""

    items: dict[str, "Node"]
    marks: dict[str, Mark]
    mark: Mark


Node = Scalar | Items | Fields

_PLAIN, _QUOTED = "plain", "quoted"
_YAML = "tag:yaml.org,2002:"
_NULLS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WORDS: dict[str, None | bool] = {**_NULLS, **_BOOLS}
_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]+)|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|0o(?P<oct>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)|(?P<inf>[-+]?\.(?:inf|Inf|INF))|(?P<nan>\.(?:nan|NaN|NAN))"
)
_NUMBERS: dict[str, Callable[[str], int | float]] = {
    "int": int,
    "float": float,
    "oct": lambda digits: int(digits, 8),
    "hex": lambda digits: int(digits, 16),
    "inf": lambda text: float(text.replace(".", "")),
    "nan": lambda text: float("nan"),
}
# Python refuses to write integers of more than 4,300 digits; longer digits stay text on every version.
_LONGEST_NUMBER = 3000
_MAY_DIFFER = re.compile(r"[yYnNoO].{0,2}|[-+]?[0-9.].*[^0-9].*|[-+]?0[0-9]+", re.DOTALL)


def parse(text: str, file: str, error: type[FarmxError]) -> Node | None:
    """The one document in `text`, None when there is none; `file` is its name in marks and messages.

    Raises `error`, one line with file:line:column, for anything that is not YAML, a key written twice, a tag beyond
    YAML's own, an anchor inside itself and characters that no program can be handed.
    """
    import yaml  # spares every command that meets no yaml file

    try:
        composer, composed = _composer()(text), None
        composed = composer.get_single_node()
        return None if composed is None else _Reader(file, error).node(composed)
    except yaml.reader.ReaderError as problem:
        raise error(_bad_character(text, file, problem.character)) from None
    except UnicodeEncodeError as problem:
        raise error(_bad_character(text, file, ord(text[problem.start]))) from None
    except yaml.MarkedYAMLError as problem:
        raise error(_syntax(text, file, problem)) from None
    except RecursionError:
        raise error(f"{file}: nested too deeply") from None


def wrong(node: Node | Mark, problem: str) -> NoReturn:
    """Raise SweepError with the place."""
    raise SweepError(f"{node if isinstance(node, Mark) else node.mark}: {problem}")


def plain(node: Node) -> Any:
    """`node` as Python data: None, bool, int, float, str, lists and dicts of these."""
    if isinstance(node, Scalar):
        return node.data
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {key: plain(item) for key, item in node.items.items()}


def spelled(node: Node) -> str:
    """`node` as a message shows it: 'text', a list, a mapping."""
    return repr(node.text) if isinstance(node, Scalar) else "a list" if isinstance(node, Items) else "a mapping"


def scalar(text: str) -> None | bool | int | float | str:
    """What an unquoted `text` is by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > _LONGEST_NUMBER:
        return text
    kind = match.lastgroup or ""
    return _NUMBERS[kind](match[kind])


def readings_1_1(node: Node) -> Iterator[tuple[Scalar, Any]]:
    """The unquoted scalars under `node` that YAML 1.1 reads otherwise, with that reading; in order, each place once."""
    import yaml  # spares every command that meets no yaml file

    loader = yaml.SafeLoader("")
    for item in _scalars(node, set()):
        if item.quoted or not _MAY_DIFFER.fullmatch(item.text):
            continue
        known, old = _old_reading(loader, item.text)
        if known and old != item.data:
            yield item, old


def _old_reading(loader: Any, text: str) -> tuple[bool, Any]:
    """Whether YAML 1.1 can read `text` at all, and as what."""
    import yaml  # spares every command that meets no yaml file

    try:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        return True, loader.construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, ValueError):
        return False, None


def _scalars(node: Node, seen: set[int]) -> Iterator[Scalar]:
    """The scalars under `node`, an aliased one once, so that aliases of aliases cost nothing."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Scalar):
        yield node
        return
    for item in node.items if isinstance(node, Items) else node.items.values():
        yield from _scalars(item, seen)


@lru_cache(maxsize=1)
def _composer() -> Callable[[str], Any]:
    """A class over `yaml`'s parser, the C one where there is one, that leaves the meaning of scalars to us."""
    import yaml  # spares every command that meets no yaml file

    class Undecided:
        def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
            return _QUOTED if kind is yaml.ScalarNode and not implicit[0] else _PLAIN

        def descend_resolver(self, parent: Any, index: Any) -> None: ...

        def ascend_resolver(self) -> None: ...

    return type("_Composer", (Undecided, yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader), {})


class _Reader:
    """PyYAML's nodes -> ours. A node met again through an alias is read once."""

    def __init__(self, file: str, error: type[FarmxError]) -> None:
        self.file = file
        self.error = error
        self.known: dict[int, Node | None] = {}

    def node(self, composed: Any) -> Node:
        """The node for `composed`; raises self.error."""
        key = id(composed)
        if key not in self.known:
            self.known[key] = None
            self.known[key] = self._read(composed)
        known = self.known[key]
        if known is None:
            raise self.error(f"{self.mark(composed)}: an anchor cannot contain itself")
        return known

    def mark(self, composed: Any) -> Mark:
        """Where `composed` begins."""
        start = composed.start_mark
        return Mark(self.file, start.line + 1, start.column + 1)

    def _read(self, composed: Any) -> Node:
        if composed.id == "scalar":
            return self._scalar(composed)
        if composed.tag not in (_PLAIN, _YAML + "seq", _YAML + "map"):
            raise self._unknown_tag(composed)
        if composed.id == "sequence":
            return Items(tuple(self.node(item) for item in composed.value), self.mark(composed))
        return self._fields(composed)

    def _scalar(self, composed: Any) -> Scalar:
        text, tag, mark = composed.value, composed.tag, self.mark(composed)
        if "\0" in text:
            raise self.error(f"{mark}: a NUL character cannot be passed to a program")
        if tag == _PLAIN:
            return Scalar(scalar(text), text, mark, False)
        if tag in (_QUOTED, _YAML + "str"):
            return Scalar(text, text, mark, True, lines="\n" in text.strip() and composed.style in ("|", '"'))
        return Scalar(self._tagged(composed), text, mark, False)

    def _tagged(self, composed: Any) -> None | bool | int | float | str:
        """The data of a scalar that says what it is: `!!int 3`, `!!float 3`."""
        names = {"int": int, "float": float, "bool": bool, "null": type(None)}
        wanted = names.get(composed.tag.removeprefix(_YAML))
        if wanted is None:
            raise self._unknown_tag(composed)
        data = scalar(composed.value)
        if wanted is float and type(data) is int:
            return float(data)
        if type(data) is not wanted:
            raise self.error(f"{self.mark(composed)}: {composed.value!r} is no {composed.tag.removeprefix(_YAML)}")
        return data

    def _unknown_tag(self, composed: Any) -> FarmxError:
        tag = composed.tag.replace(_YAML, "!!")
        return self.error(f"{self.mark(composed)}: unknown tag {tag}; leave it out")

    def _fields(self, composed: Any) -> Fields:
        fields = Fields({}, {}, self.mark(composed))
        own: list[tuple[str, Any, Any]] = []
        seen: dict[str, Mark] = {}
        for key, value in composed.value:
            name, mark = self._key(key), self.mark(key)
            if name in seen:
                raise self.error(f"{mark}: {name!r} is written twice, first at line {seen[name].line}; keep one")
            seen[name] = mark
            if name == "<<" and key.tag == _PLAIN:
                self._merge(value, fields)
            else:
                own.append((name, mark, value))
        for name, mark, value in own:
            fields.items[name] = self.node(value)
            fields.marks[name] = mark
        return fields

    def _key(self, composed: Any) -> str:
        if composed.id != "scalar":
            raise self.error(f"{self.mark(composed)}: a key must be text, not a list or a mapping; quote it")
        return self._scalar(composed).text

    def _merge(self, composed: Any, into: Fields) -> None:
        """Put the fields of what `<<` names into `into`; of several, the first one wins."""
        for source in reversed(composed.value if composed.id == "sequence" else [composed]):
            node = self.node(source)
            if not isinstance(node, Fields):
                raise self.error(f"{self.mark(source)}: << takes a mapping or a list of mappings")
            into.items.update(node.items)
            into.marks.update(node.marks)


def _place(text: str, file: str, index: int) -> Mark:
    before = text[:index].split("\n")
    return Mark(file, len(before), len(before[-1]) + 1)


def _bad_character(text: str, file: str, character: int) -> str:
    where = _place(text, file, text.find(chr(character)))
    return f"{where}: the character U+{character:04X} cannot stand in yaml; remove it"


# What PyYAML's two parsers say, whether the trouble is where the context begins, what to do. The first match counts.
_ADVICE = (
    (r"found a tab character", False, "a tab cannot indent; use spaces"),
    (r"duplicate anchor|second occurrence", False, "this anchor's name is taken; choose another"),
    (r"undefined alias", False, "{rest} names no anchor above it; define it with & first"),
    (r"another document", False, "a second document begins here; keep one in the file"),
    (r"mapping values are not allowed", False, "a ':' cannot stand here; quote the value or mend the indentation"),
    (r"unexpected end of stream", True, "the quote opened here is never closed"),
    (r"expected ',' or '\]'", True, "the [ opened here is never closed, or a comma is missing after it"),
    (r"expected ',' or '\}'", True, "the {{ opened here is never closed, or a comma is missing after it"),
    (r"block collection", False, "expected another '-' item here; mend the indentation"),
    (r"expected key|expected <block end>", False, "expected a key here; mend the indentation or the brackets above"),
    (r"could not find expected ':'", False, "a ':' is missing after a key; write key: value"),
    (r"unknown escape", False, 'unknown escape in "..."; write \\\\ for a backslash or use \'...\''),
    (r"node content", False, "expected a value here; quote it if it is text"),
)


def _syntax(text: str, file: str, problem: Any) -> str:
    """The line for a syntax error."""
    mark, said = problem.problem_mark, problem.problem or ""
    for pattern, at_context, advice in _ADVICE:
        if re.search(pattern, f"{said} {problem.context or ''}"):
            mark = problem.context_mark if at_context and problem.context_mark else mark
            return f"{_at(file, mark)}: {advice.format(rest=_rest(text, mark))}"
    if "cannot start any token" in said:
        return f"{_at(file, mark)}: {_bad_start(_rest(text, mark))}"
    return f"{_at(file, mark)}: {said}; this is not yaml"


def _at(file: str, mark: Any) -> Mark:
    return Mark(file, mark.line + 1, mark.column + 1)


def _rest(text: str, mark: Any) -> str:
    """The word at `mark`, or the blank there, for a message."""
    line = [*text.splitlines(), ""][mark.line][mark.column :]
    return re.split(r"[\s,\]}]", line, maxsplit=1)[0] or line[:1]


def _bad_start(word: str) -> str:
    if word[:1] == "\t":
        return "a tab cannot indent; use spaces"
    return f"a value cannot start with {word[:1]}; quote it"
