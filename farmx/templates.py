"""The commands of stages as templates: `{param}` is a value, `[param]` its flag; never which values there are."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from farmx import shelltext
from farmx.errors import SweepError, nearest
from farmx.spec import Value

OUTPUT = "_output"  # the run's directory
VARIABLES = ("_name", "_time")  # the run's name, when its attempt began: launch.sh has them under these names
OWN = (OUTPUT, *VARIABLES)
VALUE, FLAG, VARIABLE, TEXT = "value", "flag", "variable", "text"

_NAME = r"[\w.+/@-]+"
_REFERENCE = re.compile(
    rf"(?P<variable>\$\{{[^{{}}]*\}})|\{{\{{(?P<braces>{_NAME})\}}\}}|\[\[(?P<brackets>{_NAME})\]\]"
    rf"|(?<!\$)\{{(?P<value>{_NAME})\}}|\[(?P<flag>{_NAME})\]"
)
_MARK = re.compile("\0([0-9]+)\0")  # no text that a program can be handed holds these


class Reference(NamedTuple):
    """One place to fill in. kind: VALUE, FLAG, VARIABLE; TEXT for an escaped one, which stands for `name` itself.

    source: as it is written.  inside: the quotes it stands in, as shelltext.spliced tells.  alone: it is a word.
    """

    kind: str
    name: str
    source: str
    inside: str
    alone: bool


Part = str | Reference


class Template(NamedTuple):
    """One stage's command, read.

    words: each word in parts; () when `shell` holds it as shell text in parts.
    """

    words: tuple[tuple[Part, ...], ...]
    shell: tuple[Part, ...] | None = None

    def references(self) -> Iterator[Reference]:
        """All that is to be filled in."""
        for parts in (self.shell,) if self.shell is not None else self.words:
            yield from (part for part in parts if isinstance(part, Reference) and part.kind != TEXT)

    def program(self) -> tuple[str, ...]:
        """The words it begins with whatever the values are."""
        plain = takewhile(lambda parts: isinstance(parts[0], str) and len(parts) == 1, self.words)
        return tuple(str(parts[0]) for parts in plain)

    def source(self) -> tuple[str, ...] | str:
        """What it says, the same for two spellings of one command: its words, or its shell text."""
        if self.shell is not None:
            return _source(self.shell)
        return tuple(map(_source, self.words))


def without_flags(template: Template) -> tuple[Template, tuple[str, ...]]:
    """The template without the flags at its end, and their names."""
    words, shell, names = list(template.words), list(template.shell or ()), []
    while words and (name := _flag(words[-1])):
        names.append(name)
        words.pop()
    while shell and ((blank := isinstance(shell[-1], str) and not shell[-1].strip()) or (name := _flag(shell[-1:]))):
        names += [] if blank else [name]
        shell.pop()
    if shell and isinstance(shell[-1], str):
        shell[-1] = shell[-1].rstrip()
    return Template(tuple(words), tuple(shell) if template.shell is not None else None), tuple(names)


def _flag(parts: Sequence[Part]) -> str:
    """The name of the flag that these parts are, '' for anything else."""
    only = parts[0] if len(parts) == 1 else ""
    return only.name if isinstance(only, Reference) and only.kind == FLAG else ""


def read(text: str, where: str) -> Template:
    """The template that `text` says. Raises SweepError, beginning with `where`."""
    found: list[Reference] = []

    def marked(match: re.Match[str], inside: str) -> str:
        if match["variable"]:  # of the shell
            return match[0]
        kind, name = _named(match)
        if (kind, name) == (VALUE, OUTPUT):
            return "LOGDIR"
        alone = inside in ("", "(") and _stands_alone(match.string, match.start(), match.end())
        found.append(Reference(kind, name, match[0], inside, alone))
        return f"\0{len(found) - 1}\0"

    marks = shelltext.spliced(shelltext.one_line(text), _REFERENCE, marked)
    for each in found:
        _check(each, marks, where)
    plain = _MARK.sub(lambda mark: found[int(mark[1])].name if found[int(mark[1])].kind == TEXT else "_", marks)
    if shelltext.shell_syntax(plain) or any(each.kind == VARIABLE for each in found):
        return Template((), _parts(marks, found))
    return Template(tuple(_parts(word, found) for word in shelltext.words(marks, where)))


def _named(match: re.Match[str]) -> tuple[str, str]:
    """Kind and name of what `match` found."""
    for group, form in (("braces", "{%s}"), ("brackets", "[%s]")):
        if match[group]:
            return TEXT, form % match[group]
    if match["flag"]:
        return FLAG, match["flag"]
    return (VARIABLE if match["value"] in VARIABLES else VALUE), match["value"]


def _stands_alone(text: str, start: int, end: int) -> bool:
    return text[start - 1 : start] in _BEFORE and text[end : end + 1] in _AFTER


_BEFORE, _AFTER = ("", *" \t\n;&|("), ("", *" \t\n;&|)<>")


def _check(reference: Reference, marks: str, where: str) -> None:
    source = reference.source
    if reference.kind == FLAG and not reference.alone:
        close = f"{{{reference.name}}} is its value alone, [{source}] the text {source}"
        raise SweepError(f"{where}: {source} must be a word of its own, outside quotes; {close}")
    if reference.kind != TEXT and "`" in shelltext.bare(marks):
        raise SweepError(f"{where}: {source} beside backquotes; write $(...) for them")


def _parts(marks: str, found: list[Reference]) -> tuple[Part, ...]:
    """Text with marks as parts; empty texts are left out, but for an empty word."""
    pieces = _MARK.split(marks)
    parts = [found[int(piece)] if place % 2 else piece for place, piece in enumerate(pieces)]
    return tuple(part for part in parts if part != "") or ("",)


def _source(parts: tuple[Part, ...]) -> str:
    return "".join(part if isinstance(part, str) else part.source for part in parts)


def unknown(reference: Reference, names: list[str]) -> str:
    """The end of a message about a reference to nothing in `names`."""
    close = nearest(reference.name, [*names, *(OWN if reference.kind != FLAG else ())])
    form = "[[%s]]" if reference.kind == FLAG else "{{%s}}"
    return f"{reference.source} names no hyperparameter{close}; {form % reference.name} is that text itself"


# ---------------------------------------------------------------- filling in

Flags = Callable[[str, Value], tuple[str, ...]]
_NOTHING = Value(None, ())


def words(template: Template, values: Mapping[str, Value], flags: Flags) -> tuple[str, ...]:
    """The argv of a template without shell text: a value alone is its words, in a word or in quotes their text."""
    return tuple(word for parts in template.words for word in word_of(parts, values, flags))


def word_of(parts: tuple[Part, ...], values: Mapping[str, Value], flags: Flags) -> tuple[str, ...]:
    """What one word of a template becomes: none, one or several."""
    first = parts[0]
    if len(parts) == 1 and isinstance(first, Reference) and first.alone:
        return tokens(first, values, flags)
    return ("".join(part if isinstance(part, str) else _text(part, values) for part in parts),)


def shell(template: Template, values: Mapping[str, Value], flags: Flags) -> str:
    """The shell text of a template, each value quoted as its place needs."""
    assert template.shell is not None
    return "".join(part if isinstance(part, str) else quoted(part, values, flags) for part in template.shell)


def quoted(reference: Reference, values: Mapping[str, Value], flags: Flags) -> str:
    """What a reference in shell text becomes, as text of that place."""
    if reference.kind == TEXT:
        return reference.name
    if reference.kind == VARIABLE:
        return shelltext.inserted(f'"${reference.name}"', reference.inside)
    if reference.alone:
        return shlex.join(tokens(reference, values, flags))
    text = _text(reference, values)
    return shelltext.inserted(shlex.quote(text), reference.inside) if text or not reference.inside else ""


def tokens(reference: Reference, values: Mapping[str, Value], flags: Flags) -> tuple[str, ...]:
    """What a reference that is a word of its own becomes."""
    if reference.kind == TEXT:
        return (reference.name,)
    value = values.get(reference.name, _NOTHING)
    return flags(reference.name, value) if reference.kind == FLAG else value.words


def _text(reference: Reference, values: Mapping[str, Value]) -> str:
    return reference.name if reference.kind == TEXT else str(values.get(reference.name, _NOTHING))
