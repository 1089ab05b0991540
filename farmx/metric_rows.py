"""The rows in a metrics file: metrics.jsonl as logx writes it, metrics.csv as runx does; never which of them count.

Lines of no use (torn, foreign, of a wrong type) are counted, and never an error.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter, ne
from typing import Any, NamedTuple

from farmx import layout

START = "start"  # the phase of the row that says when a program began

_FIELDS = itemgetter("phase", "step", "time", "metrics")
_WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_WRAPPED = re.compile(r"[\w.]+\((?:\[\s*([^\s,\[\]()]+)\s*\]|([^\s,\[\]()]+))(?:,.*)?\)", re.DOTALL)  # tensor(2.5, ...)
_NUMBERS = {int, float}
_FORMS = {
    int: r"(-?(?:0|[1-9]\d{0,17}))",
    float: r"(-?(?:0|[1-9]\d{0,17})(?:\.\d{1,30}(?:e[-+]\d{1,3})?|e[-+]\d{1,3}))",
}
_START = b'"start"'
MOST_PHASES = 8  # a file with more is read row by row
_NO_TIME = 1e15  # far beyond any clock, and small enough to be a float


class Row(NamedTuple):
    """One row of metrics: the values of `metrics`, by bare name, at `step` of `phase`.

    time: seconds since the epoch, None where runx wrote none.
    """

    phase: str
    step: float
    time: float | None
    metrics: dict[str, float]


class Block(NamedTuple):
    """The rows of one phase of one attempt, by column; steps has their steps.

    columns: a metric's values, and the steps at which it was logged.
    timed: the steps of the rows that have a time; until: the time of the last of these.
    """

    steps: Sequence[float]
    columns: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    timed: Sequence[float]
    until: float | None


class Part(NamedTuple):
    """Rows of one attempt. opens: the attempt begins here, at `start` when that is known.

    first: phase, step and time of its first row, None when there is none.  place: of the stage that wrote them.
    """

    opens: bool
    start: float | None
    first: tuple[str, float, float | None] | None
    blocks: dict[str, Block]
    place: int = 0


def parts(path: str, data: bytes, opens: bool) -> tuple[list[Part], int]:
    """The attempts in `data`, complete lines of the file at `path`, and the number of lines not understood.

    opens: `data` begins the file; else its first rows, up to a start row, go on with the attempt before.
    """
    regular = None if path.endswith(layout.RUNX_METRICS) else _regular(data, opens)
    if regular:
        return [regular], 0
    found, unreadable = rows(path, data)
    told = [_part(i > 0 or opens, start, group) for i, (start, group) in enumerate(attempts(found))]
    return [part for part in told if part.opens or part.first], unreadable


def rows(path: str, data: bytes) -> tuple[list[Any], int]:
    """Tuples with Row's fields, start rows among them, and the number of lines not understood."""
    return _csv_rows(data) if path.endswith(layout.RUNX_METRICS) else _json_rows(data)


def attempts(found: list[Any]) -> list[tuple[float | None, list[Any]]]:
    """The rows before the first start row, then for each start row its time and the rows after it."""
    starts = [i for i, row in enumerate(found) if row[0] == START]
    ends = [*starts[1:], len(found)]
    begun = [(found[i][2], found[i + 1 : end]) for i, end in zip(starts, ends)]
    return [(None, found[: starts[0]] if starts else found), *begun]


def _part(opens: bool, start: float | None, found: list[Any]) -> Part:
    phases = dict.fromkeys(map(itemgetter(0), found))
    blocks = {phase: _block([row for row in found if row[0] == phase]) for phase in phases}
    return Part(opens, start, found[0][:3] if found else None, blocks)


def _block(found: list[Any]) -> Block:
    _, steps, times, metrics = zip(*found)
    names = dict.fromkeys(chain.from_iterable(metrics))
    timed = [(row[1], row[2]) for row in found if row[2] is not None]
    columns = {name: _column(name, steps, metrics) for name in names}
    return Block(steps, columns, [step for step, _ in timed], timed[-1][1] if timed else None)


def _column(name: str, steps: Sequence[float], metrics: Sequence[Any]) -> tuple[Sequence[float], Sequence[float]]:
    try:
        return list(map(itemgetter(name), metrics)), steps
    except KeyError:
        there = [(found[name], step) for found, step in zip(metrics, steps) if name in found]
        return [value for value, _ in there], [step for _, step in there]


# metrics.jsonl, as regular as logx writes it: by column, without making a dict of each row


def _regular(data: bytes, opens: bool) -> Part | None:
    """The one attempt in `data` where each line of a phase has the form of the phase's first; else None.

    What a line may be is spelled out in full, so it is only taken here when json would say the same of it.
    """
    head, _, rest = data.partition(b"\n")
    row, whole = _json_row(head)
    start = row[2] if whole and row[0] == START else None
    if start is None:
        rest = data
    if _START in rest:
        return None
    blocks: dict[str, Block] = {}
    first = None
    while rest and len(blocks) < MOST_PHASES:
        row, whole = _json_row(rest[: rest.find(b"\n")])
        pattern = _pattern(row) if whole and row[0] not in blocks else None
        found = pattern.findall(rest) if pattern else ()
        if not found or pattern is None:
            return None
        blocks[row[0]] = _columns(row, found)
        first = first or row[:3]
        rest = b"" if len(found) == rest.count(b"\n") else pattern.sub(b"", rest)
    return Part(opens or start is not None, start, first, blocks) if blocks and not rest else None


def _pattern(row: Any) -> "re.Pattern[bytes] | None":
    """What a line like that of `row` is, its numbers as groups; None when `row` holds what is no plain number."""
    phase, step, _, metrics = row
    if not _NUMBERS.issuperset(map(type, metrics.values())):
        return None
    form = [f'"time": {_FORMS[float]}', f'"phase": {_spelled(phase)}', f'"step": {_FORMS[type(step)]}']
    values = [f"{_spelled(name)}: {_FORMS[type(value)]}" for name, value in metrics.items()]
    return _compiled("(?m)^\\{" + ", ".join([*form, '"metrics": \\{' + ", ".join(values)]) + "\\}\\}\n")


def _columns(row: Any, found: list[Any]) -> Block:
    """The groups of every match, as numbers of the kinds that `row` has."""
    times, *rest = zip(*found)
    kinds: list[Any] = [type(row[1]), *map(type, row[3].values())]
    steps, *columns = ([*map(kind, column)] for kind, column in zip(kinds, rest))
    return Block(steps, {name: (column, steps) for name, column in zip(row[3], columns)}, steps, float(times[-1]))


def _spelled(text: str) -> str:
    return re.escape(json.dumps(text))


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> "re.Pattern[bytes]":
    return re.compile(pattern.encode())


# metrics.jsonl, whatever is in it


def _json_rows(data: bytes) -> tuple[list[Any], int]:
    """The rows, all lines in one call of the parser where each is sound (half the time of a call a line)."""
    try:
        found = json.loads("[" + data.decode().rstrip("\n").replace("\n", ",") + "]")
        if len(found) == data.count(b"\n") and set(map(type, found)) == {dict}:
            quick = list(map(_FIELDS, found))
            if _sound(*zip(*quick)):
                return quick, 0
    except (ValueError, KeyError, RecursionError):
        pass
    return _sifted(map(_json_row, filter(bytes.strip, data.split(b"\n"))))


def _sound(phases: Iterable[Any], steps: Iterable[Any], times: Iterable[Any], metrics: Iterable[Any]) -> bool:
    """Whether all is of the types that need no second look: no text for a number, nothing left out."""
    types = [set(map(type, column)) for column in (phases, steps, times, metrics)]
    if types[0] != {str} or not types[1] <= _NUMBERS or types[2] != {float} or types[3] != {dict}:
        return False
    if any(map(ne, steps, steps)) or not all(phases):
        return False
    return set(map(type, chain.from_iterable(map(dict.values, metrics)))) <= _NUMBERS


def _sifted(found: Iterable[tuple[Any, bool]]) -> tuple[list[Any], int]:
    pairs = list(found)
    return [row for row, _ in pairs if row is not None], sum(not whole for _, whole in pairs)


def _json_row(line: bytes) -> tuple[Any, bool]:
    """The row in `line`, None when there is none, and whether all of the line was understood."""
    try:
        record = json.loads(line.decode())
        phase, step, time, values = record["phase"], record.get("step"), record.get("time"), record.get("metrics")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, False
    time = float(time) if type(time) in _NUMBERS and abs(time) < _NO_TIME else None
    if phase == START:
        return (START, 0, time, {}), True
    if type(phase) is not str or not phase or type(step) not in _NUMBERS or step != step or type(values) is not dict:
        return None, False
    return _row(phase, step, time, {name: _number(value) for name, value in values.items() if value is not None})


def _row(phase: str, step: float, time: float | None, metrics: dict[str, float | None]) -> tuple[Any, bool]:
    sound = {name: value for name, value in metrics.items() if value is not None}
    return (phase, step, time, sound), len(sound) == len(metrics)


def _number(value: Any) -> float | None:
    """A number of json as logx writes it (NaN and infinities are text there), None for anything else."""
    if isinstance(value, (int, float)):
        return value
    return _WORDS.get(value) if isinstance(value, str) else None


# metrics.csv


def _csv_rows(data: bytes) -> tuple[list[Any], int]:
    """The rows of runx's file; line by line when an unclosed quote swallowed the lines after it."""
    import csv  # only runx's files need it
    import io

    text = data.decode(errors="replace").replace("\0", "")
    whole = _sifted(map(_csv_row, _records(csv.reader(io.StringIO(text, newline="")), csv.Error)))
    if not whole[1]:
        return whole
    lines = (fields for line in text.split("\n") for fields in _records(csv.reader([line]), csv.Error))
    return max(whole, _sifted(map(_csv_row, lines)), key=lambda found: len(found[0]))


def _records(reader: Iterator[list[str]], error: type[Exception]) -> Iterator[list[str]]:
    """The fields of each line that is not blank; one empty field for a line that the csv module refuses."""
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except error:
            fields = [""]
        if fields:
            yield fields


def _csv_row(fields: list[str]) -> tuple[Any, bool]:
    """The row of `phase,k,v,...,epoch,E,timestamp,T`, timestamp optional; and whether all of it was understood."""
    phase, pairs = fields[0], list(zip(fields[1::2], fields[2::2]))
    time = _parsed(pairs.pop()[1]) if pairs and pairs[-1][0] == "timestamp" else None
    if phase == START:
        return (START, 0, time, {}), True
    step = _parsed(pairs.pop()[1]) if pairs and pairs[-1][0] == "epoch" else None
    if not phase or step is None or step != step or len(fields) % 2 == 0 or len(dict(pairs)) < len(pairs):
        return None, False
    return _row(phase, step, time, {name: _parsed(text) for name, text in pairs})


def _parsed(text: str) -> float | None:
    """The number that `text` spells, also as the text of a tensor of one element; None when it spells none."""
    wrapped = _WRAPPED.fullmatch(text)
    text = wrapped[1] or wrapped[2] if wrapped else text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
