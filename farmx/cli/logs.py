"""farmx logs: what a run printed, as it is or as it comes."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from farmx import layout, logs, naming
from farmx.cli.surroundings import located, logroot, tell
from farmx.errors import RecordError, UsageError
from farmx.spec import Run, Surroundings


def show(given: Mapping[str, Any], at: Surroundings) -> None:
    """Print the logs of one run."""
    run = naming.one(logroot(given["logroot"], given["config_file"], at), located(given["name"], at))
    attempt = logs.check(run, given["stage"], given["attempt"])
    if given["as_json"]:
        print(json.dumps(_fields(run, attempt, given["stage"]), indent=2))
    elif given["follow"]:
        _follow(run, given["stage"], attempt, layout.cache_folder(at.home, at.environ))
    else:
        _print(run, given["stage"], attempt)


def _chosen(run: Run, attempt: str | None, stage: str | None) -> list[logs.Log]:
    return logs.of(run.path, attempt, stage) if attempt else logs.standing(run.path, stage)


def _print(run: Run, stage: str | None, attempt: str | None) -> None:
    found = _chosen(run, attempt, stage)
    _write(logs.Reader(tell).read(found, several=len(found) > 1))
    if not found:
        why = f": {run.note}" if run.note else ""
        waits = "; -f waits for it" if logs.goes(run) else ""
        tell(f"{run.name} has printed nothing{f' in {stage}' if stage else ''}, it is {run.state}{why}{waits}")


def _follow(run: Run, stage: str | None, attempt: str | None, cache: str) -> None:
    named = naming.Named(os.path.dirname(run.path), run.name)
    last = [run]

    def stand() -> Run:
        last[:] = naming.read(named, cache).runs or last  # a record that is torn now is whole at the next look
        if not os.path.isdir(run.path):
            raise UsageError(f"{run.path} is gone: somebody renamed or deleted it")
        return last[0]

    _write(logs.follow(logs.Reader(tell), stand, stage, attempt, tell))
    if attempt is None:
        tell(f"{run.name} {last[0].state}" + (f": {last[0].note}" if last[0].note else ""))


def _write(pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _fields(run: Run, attempt: str | None, stage: str | None) -> list[dict[str, Any]]:
    """Which logs there are. bytes: their sizes now."""
    sizes = [(log, _size(log.path)) for log in _chosen(run, attempt, stage)]
    return [{**log._asdict(), "bytes": size} for log, size in sizes if size is not None]


def _size(path: str) -> int | None:
    """None where there is no such file. Raises RecordError."""
    try:
        return os.path.getsize(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
