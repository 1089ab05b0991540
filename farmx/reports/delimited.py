"""A table as comma separated values: all digits, lists as json, an absent value as nothing between two commas."""

import csv
import io
import json
from typing import Any

from farmx import layout
from farmx.reports import plain
from farmx.sumx import Table


def render(table: Table) -> str:
    """A line of names and a line a run, each ending with a newline; fields quoted where they have to be."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(column.name for column in table.columns)
    writer.writerows(map(_field, row) for row in table.rows)
    return plain(file.getvalue())


def _field(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return layout.number(value) if isinstance(value, float) else value
