"""farmx init: a configuration file for this machine, written once, or shown."""

import os
import shlex
from collections.abc import Mapping
from typing import Any

from farmx import config, sites
from farmx.cli.surroundings import show, tell
from farmx.errors import StageError, UsageError
from farmx.spec import Surroundings


def init(given: Mapping[str, Any], at: Surroundings) -> None:
    """Find out what is here, and write it down where nothing is yet."""
    shown = given["output"] or config.PROJECT_FILE
    path = os.path.join(at.cwd, shown)
    sites.check(given["farm"])
    if not given["no_run"] and os.path.lexists(path):
        raise UsageError(f"{shown} is there and stays as it is; -o FILE writes another, -n shows what would be written")
    made, others = sites.site(given["farm"], at.environ.get("PATH"))
    for place, fact in enumerate(made.facts):
        tell(f"{'' if place else 'found':6} {fact}")
    if others:
        one = len(others) == 1
        writes = f"is here: --farm {others[0]} writes that" if one else "are here: --farm KIND writes one of them"
        tell(f"also   {', '.join(others)} {writes}")
    if given["no_run"]:
        show(made.text.rstrip("\n"))
        return
    _write(path, shown, made.text)
    tell(f"wrote  {shown}")
    named = "" if given["output"] is None else f" -c {shlex.quote(shown)}"
    tell(f"next   farmx sweep.yml -n{named}  # print every command, make nothing")
    tell(f"next   farmx sweep.yml{named}  # launch on {made.farm}")


def _write(path: str, shown: str, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{shown} is there now and stays as it is") from None
    except OSError as error:
        raise StageError(f"{shown}: cannot be written: {error.strerror}; nothing was made") from error
