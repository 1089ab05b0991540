"""A table for people: aligned, numbers as short as they stay apart.

Aligned here and not by tabulate: importing that alone looks for 800 files and takes longer than reading the runs.
"""

import json
from collections.abc import Sequence
from typing import Any

from farmx.reports import plain
from farmx.sumx import Column, Table

DIGITS = 4  # of a number that is not whole
METRIC_DIGITS = 6  # of metrics that look alike; hyperparameters get as many as it takes
WIDE = 40  # characters of a text; more where texts would look alike


def render(table: Table) -> str:
    """The names, a rule and a line a run, no line with blanks at its end; numbers stand to the right."""
    columns = [_aligned(column, [row[i] for row in table.rows]) for i, column in enumerate(table.columns)]
    return plain("".join("  ".join(line).rstrip() + "\n" for line in zip(*columns)))


def _aligned(column: Column, cells: Sequence[Any]) -> list[str]:
    texts = _texts(column, cells)
    right = column.kind != "text" and all(cell is None or _is_number(cell) for cell in cells)
    if right and column.kind != "seconds":
        texts = _pointed(texts)
    head = _line(column.name)
    width = max(map(_width, [head, *texts]))
    filled = [" " * (width - _width(text)) for text in [head, *texts]]
    lines = [blank + text if right else text + blank for text, blank in zip([head, *texts], filled)]
    return [lines[0], "-" * width, *lines[1:]]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _pointed(texts: list[str]) -> list[str]:
    """`texts` with blanks after them, so that their decimal points stand below each other."""
    tails = [len(text) - len(_before_point(text)) for text in texts]
    most = max(tails, default=0)
    return [text + " " * (most - tail) if text else "" for text, tail in zip(texts, tails)]


def _before_point(text: str) -> str:
    return text.partition(".")[0].partition("e")[0]


def _width(text: str) -> int:
    """Places on the screen: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata  # only names that are not ascii

    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.combining(one) > 0 for one in text)


# Cells


def _texts(column: Column, cells: Sequence[Any]) -> list[str]:
    """The cells as text, as short as they stay apart, within reason; names whole."""
    if column.kind == "seconds":
        return ["" if cell is None else _clock(cell) for cell in cells]
    digits = _digits(cells, METRIC_DIGITS if column.kind == "metric" else 17)
    texts = [_text(cell, digits) for cell in cells]
    if column.kind == "text":  # names: people copy them
        return texts
    short = [_clipped(text) for text in texts]
    return short if len(set(short)) == len(set(texts)) else texts


def _digits(cells: Sequence[Any], most: int) -> int:
    """The fewest significant digits, `most` at most, with which different numbers look different."""
    numbers = {cell for cell in cells if isinstance(cell, float) and cell == cell}
    for digits in range(DIGITS, most):
        if len({_float(number, digits) for number in numbers}) == len(numbers):
            return digits
    return most


def _text(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return _float(value, digits)
    if isinstance(value, (list, tuple, dict)):
        return _line(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))
    return _line(str(value))


def _float(value: float, digits: int) -> str:
    """99.1, 1e-05, 123457: exponents only for what is tiny or beyond sixteen places."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e16 else text


def _clock(seconds: float) -> str:
    """m:ss or h:mm:ss; below ten seconds with the digits that matter (0.31s)."""
    if not seconds < float("inf"):
        return "inf"
    if seconds < 9.95:
        return f"{seconds:.2g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _line(text: str) -> str:
    """`text` on one line: what would break the table is spelled as in Python."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _clipped(text: str) -> str:
    return text if len(text) <= WIDE else text[: WIDE - 1] + "…"
