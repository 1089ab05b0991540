"""Which run a submission was handed, and where that is when its job begins: somebody may have renamed, copied or
deleted it by hand; whether it is there yet. Never what is done about it.

Carried to nodes with the runner: standard library only.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from farmx import layout
from farmx.errors import RecordError

ANOTHER = "the run that was queued was deleted, and another has its name"


def inodes(experiment: str) -> dict[str, int]:
    """name -> inode of what is in the directory of an experiment: a rename keeps that, a copy has another."""
    with suppress(RecordError):
        return layout.inodes(experiment)
    return {}


def lines(inodes: Mapping[str, int], runs: Iterable[tuple[str, str]]) -> str:
    """What `claimed` says of each (path, claim): the claim, and the inode of its directory where that is known.

    claim: of which generation of which point the run is, '' where nobody says.
    """
    told = ((claim, inodes.get(os.path.basename(run)) if claim else None) for run, claim in runs)
    return "".join(f"{claim}\n" if inode is None else f"{claim} {inode}\n" for claim, inode in told)


def another(record: Mapping[str, Any] | None, line: str) -> bool:
    """Whether this run.json is not that of the run that was queued, which somebody deleted: it has its name.

    line: of `claimed`.
    """
    return bool(record) and _claim(line) not in ("", _said(record or {}))


def found(run: str, line: str) -> str:
    """Where the run is that was queued as the one at this path: there, or where somebody has renamed it to since.

    line: of `claimed`; one of an earlier format says no inode, and where an inode changes (sshfs) none is found: what
    nobody finds begins nothing, which is the safe side. A copy has the claim, too, and is not what was queued.
    """
    claim, inode = _claim(line), line.partition(" ")[2]
    if not inode or _is(run, claim):
        return run
    with suppress(OSError), os.scandir(os.path.dirname(run)) as entries:
        path = next((each.path for each in entries if str(each.inode()) == inode and each.name[0] != "."), run)
        return path if _is(path, claim) else run
    return run


def _claim(line: str) -> str:
    return line.partition(" ")[0]


def _said(record: Mapping[str, Any]) -> str:
    return layout.claim_name(record.get("point"), record.get("generation"))


def _is(run: str, claim: str) -> bool:
    """Whether the run at this path says that it is the one that the claim names."""
    with suppress(OSError, RecordError):
        return _said(layout.read_json(os.path.join(run, layout.RUN), layout.RUN_FORMAT)) == claim
    return False


def is_begun(run: str) -> bool:
    """Whether the run directory holds nothing, or a torn run.json, while a launch says that it is at work: one makes it
    at this moment, or was killed as it did. It is no run yet."""
    try:
        there, staging = layout.names(run), os.path.join(os.path.dirname(run), layout.FARMX, layout.STAGING)
        empty = not there or (there == [layout.RUN] and is_torn(f"{run}/{layout.RUN}"))
        at_work = any(name.startswith(layout.AT_WORK) for name in layout.names(staging))
    except (OSError, RecordError):
        return False
    return empty and at_work and os.path.isdir(run)


def is_torn(path: str) -> bool:
    """Whether the record at `path` lacks its end, the end of a line: one that is being written is seen, and left by who
    is killed, empty or up to any page of it. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        text = file.read()
    if text.endswith(b"\n"):
        return False
    import json  # only where something is wrong

    with suppress(ValueError, RecursionError):
        json.loads(text)
        return False  # somebody's own
    return True
