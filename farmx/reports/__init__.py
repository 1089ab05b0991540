"""The reports by name: a report is a function Table -> text; none is imported before it is named.

`of` finds one and `deliver` puts its text where the user said; neither knows what a report looks like.
"""

from collections.abc import Callable
from typing import TextIO

from farmx.errors import UsageError, nearest
from farmx.sumx import Table

BUILT_IN = {"text": "farmx.reports.text", "csv": "farmx.reports.delimited", "json": "farmx.reports.records"}


def of(name: str) -> Callable[[Table], str]:
    """The report of that name: it makes a Table into text that ends with a newline. Raises UsageError."""
    import importlib  # only who prints a table

    if name not in BUILT_IN:
        raise UsageError(f"no report named '{name}'{nearest(name, list(BUILT_IN))}")
    report: Callable[[Table], str] = importlib.import_module(BUILT_IN[name]).render
    return report


def deliver(text: str, path: str, stdout: TextIO) -> None:
    """Write `text` to the file named exactly `path`, or to `stdout` when that is `-`. Raises UsageError."""
    if path == "-":
        stdout.write(text)
        return
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def plain(text: str) -> str:
    """`text` with what no terminal or file can hold (half a character, a name that is not unicode) spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
