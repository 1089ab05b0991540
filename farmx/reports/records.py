"""A table as json: a list of one object a run, with the table's columns as fields, absent values as null."""

import json
from typing import Any

from farmx import layout
from farmx.reports import plain
from farmx.sumx import Table


def render(table: Table) -> str:
    """The list, a run a line; NaN and the infinities, which json has no numbers for, are text."""
    names = [column.name for column in table.columns]
    lines = (json.dumps(_sound(dict(zip(names, row))), ensure_ascii=False, default=str) for row in table.rows)
    return plain("[" + ",".join(f"\n{line}" for line in lines) + "\n]\n")


def _sound(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _sound(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sound(one) for one in value]
    return layout.number(value) if isinstance(value, float) else value
