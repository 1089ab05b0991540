"""What of ended runs may go: which directories, checkpoints and snapshots, how much that is, and their removal.

A run goes whole or not at all: it is renamed into .farmx/trash, which nobody reads, and deleted there. What runs, waits
or was started meanwhile is never touched.
"""

import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from farmx import checkpoints, claims, layout, snapshot, status
from farmx.errors import RecordError, StageError
from farmx.spec import Run, State

ENDED = (State.DONE, State.FAILED, State.CANCELLED, State.INTERRUPTED, State.LOST, State.PRUNED)
FAULTY = (State.FAILED, State.CANCELLED)
STALE_S = 3600.0  # what a clean that was killed left in the trash is removed after this


class Wish(NamedTuple):
    """What to remove of the runs that are named. With none of the three: their directories.

    keep: how many of the best and of the newest checkpoints stay, None to remove none.
    """

    failed: bool = False
    keep: int | None = None
    snapshots: bool = False


class Item(NamedTuple):
    """What goes at once. kind: 'run', 'checkpoints' or 'snapshot'.  run: as it stood, None for a snapshot.

    path: a run's or snapshot's directory.  names: the files in it that go, () for all of it.
    """

    kind: str
    path: str
    run: Run | None = None
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return os.path.basename(self.path)


class Plan(NamedTuple):
    """items: what would go, in order.  left: the named runs that are not touched because they have not ended.

    notes: what else stays and why, a line each.
    """

    items: tuple[Item, ...]
    left: tuple[Run, ...] = ()
    notes: tuple[str, ...] = ()


def plan(runs: Sequence[Run], wish: Wish) -> Plan:
    """What would go; nothing is changed."""
    ended = [run for run in runs if run.state in ENDED]
    left = tuple(run for run in runs if run.state not in ENDED)
    if wish == Wish():
        return Plan(tuple(Item("run", run.path, run) for run in ended), left)
    gone = [run for run in ended if wish.failed and run.state in FAULTY]
    items = [Item("run", run.path, run) for run in gone]
    notes: list[str] = []
    if wish.keep is not None:
        items += _checkpoints([run for run in ended if run not in gone], wish.keep)
    if wish.snapshots:
        for home in dict.fromkeys(os.path.dirname(run.path) for run in runs):
            found, note = _snapshots(home, {run.path for run in gone})
            items, notes = items + found, notes + note
    return Plan(tuple(items), left, tuple(notes))


def _checkpoints(runs: Iterable[Run], keep: int) -> list[Item]:
    found = ((run, checkpoints.spare(run.path, keep)) for run in runs)
    return [Item("checkpoints", run.path, run, tuple(names)) for run, names in found if names]


# ---------------------------------------------------------------- snapshots


def _snapshots(home: str, without: set[str]) -> tuple[list[Item], list[str]]:
    """The snapshots of an experiment that no run but those `without` needs, and notes on those that stay."""
    place = os.path.join(home, layout.FARMX, layout.SNAPSHOTS)
    try:
        needed = _needed(home, without)
    except RecordError as error:
        return [], [f"no snapshot goes: {error}"]
    now = layout.now_at(os.path.join(home, layout.FARMX, layout.STAGING))
    spare = [os.path.join(place, name) for name in sorted(layout.names(place))
             if not name.startswith(".") and name not in needed]  # fmt: skip
    old = [path for path in spare if _age_s(path, now) > claims.STALE_S]
    young = len(spare) - len(old)
    note = f"{_plural(young, 'snapshot')} younger than a day: a launch may be about to use it"
    return [Item("snapshot", path) for path in old], [note] if young else []


def _needed(home: str, without: Collection[str] = ()) -> set[str]:
    """The snapshots that runs name, those that are being staged too. Raises RecordError for a run that cannot say."""
    found: set[str] = set()
    for folder in (home, os.path.join(home, layout.FARMX, layout.STAGING)):
        for path in (os.path.join(folder, name) for name in layout.names(folder) if not name.startswith(".")):
            if path not in without:
                found.update(_named_by(path))
    return found


def _named_by(run: str) -> Iterator[str]:
    with suppress(OSError):
        yield os.path.basename(os.path.dirname(os.readlink(os.path.join(run, layout.CODE))))
    with suppress(FileNotFoundError, NotADirectoryError):
        yield str(layout.read_json(os.path.join(run, layout.RUN), layout.RUN_FORMAT).get("digest"))


def _age_s(path: str, now: float) -> float:
    try:
        return now - os.lstat(path).st_mtime
    except OSError:
        return 0.0


# ---------------------------------------------------------------- how much it is


class Size(NamedTuple):
    """How many files go and how many bytes that gives back: a file that has another name elsewhere gives none."""

    files: int
    size: int

    def __str__(self) -> str:
        return f"{snapshot.counted(self.files)}, {snapshot.megabytes(self.size)}"


def measured(items: Iterable[Item]) -> Size:
    """What all the items are together."""
    seen: dict[tuple[int, int], int] = {}
    files = size = 0
    for item in items:
        for path in _files(item):
            try:
                told = os.lstat(path)
            except OSError:
                continue
            files += 1
            name = told.st_dev, told.st_ino
            seen[name] = seen.get(name, 0) + 1
            size += told.st_size if seen[name] == told.st_nlink else 0
    return Size(files, size)


def _files(item: Item) -> Iterator[str]:
    if item.names:
        yield from (os.path.join(item.path, name) for name in item.names)
        return
    for folder, folders, names in os.walk(item.path):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (os.path.join(folder, name) for name in (*names, *links))


# ---------------------------------------------------------------- the removal


def remove(items: Sequence[Item], tell: Callable[[Item, str], None]) -> int:
    """Remove the items; return how many went. tell: each one that stays, and why.

    How the runs stand is looked at once more: what was started since stays. Raises StageError where something cannot
    be removed; what went before is gone, the rest is whole.
    """
    homes = dict.fromkeys(_home(item) for item in items)
    now = {run.path: run for home in homes for run in _again(home, items)}
    went = 0
    for item in items:
        run = now.get(item.path)
        if item.run is not None and (run is None or run.state not in ENDED or _grown(item.run, run)):
            tell(item, f"is {run.state} now" if run and run.state not in ENDED else "was changed or removed meanwhile")
            continue
        why = _unlink(item) if item.names else _discard(item)
        if why:
            tell(item, why)
        went += not why
    for home in homes:
        _empty_trash(home)
    return went


def _home(item: Item) -> str:
    """The experiment's directory."""
    up = os.path.dirname(item.path)
    return up if item.run is not None else os.path.dirname(os.path.dirname(up))


def _again(home: str, items: Sequence[Item]) -> Sequence[Run]:
    names = {os.path.basename(item.path) for item in items if item.run is not None and _home(item) == home}
    return status.of(home, sorted(names)).runs


def _grown(before: Run, now: Run) -> bool:
    return [attempt.number for attempt in before.attempts] != [attempt.number for attempt in now.attempts]


def _unlink(item: Item) -> str:
    try:
        for name in item.names:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(item.path, name))
    except OSError as error:
        raise StageError(f"{error.filename}: cannot be removed: {error.strerror}") from error
    return ""


def _discard(item: Item) -> str:
    """Take it away and delete it; '' when that is done, else why it is back in its place."""
    trash = os.path.join(_home(item), layout.FARMX, layout.TRASH)
    aside = os.path.join(trash, f"{item}.{os.getpid()}.{os.urandom(4).hex()}")
    before = _fingerprint(item, item.path)
    try:
        os.makedirs(trash, exist_ok=True)
        if before is None:
            return "was used meanwhile"
        os.rename(item.path, aside)
    except FileNotFoundError:
        return "was removed meanwhile"
    except OSError as error:
        raise StageError(f"{item.path}: cannot be removed: {error.strerror}") from error
    # Whoever took an attempt, or the snapshot, before the rename has it back; afterwards nobody finds it to take.
    if _fingerprint(item, aside) != before:
        return f"was used meanwhile{_back(aside, item.path)}"
    _delete(aside)
    return ""


def _back(aside: str, path: str) -> str:
    """Put back what somebody uses, under another name where its own was taken meanwhile; which one, for people.

    Raises StageError; it is in the trash then, which this command empties no more.
    """
    try:
        os.rename(aside, path)
        return ""
    except OSError:
        other = f"{path}.{os.path.basename(aside).rpartition('.')[2]}"
    try:
        os.rename(aside, other)
    except OSError as error:
        raise StageError(f"{aside}: was used meanwhile and cannot be put back to {path}: {error.strerror}; "
                         "move it out of there") from error  # fmt: skip
    return f"; its name was taken, it is {os.path.basename(other)} now"


def _fingerprint(item: Item, path: str) -> object:
    """What tells that somebody began to use a run or a snapshot; None when somebody has since the plan was made."""
    if item.run is None:
        try:
            return os.stat(path).st_mtime if os.path.basename(item.path) not in _needed(_home(item)) else None
        except OSError:
            return None
    known = {layout.attempt_name(*attempt.number) for attempt in item.run.attempts}
    found = {name for name in layout.names(os.path.join(path, layout.ATTEMPTS)) if layout.attempt_number(name)}
    return sorted(found) if found <= known else None


def _delete(path: str) -> None:
    """Remove a tree, whatever rights its directories have. Raises StageError."""
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StageError(f"{error.filename}: cannot be removed: {error.strerror}") from error


def _empty_trash(home: str) -> None:
    """Remove what a clean that was killed left, long ago: another one may be at work right now."""
    trash = os.path.join(home, layout.FARMX, layout.TRASH)
    for path in (os.path.join(trash, name) for name in layout.names(trash)):
        with suppress(OSError):
            if layout.now_at(trash) - os.lstat(path).st_ctime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.rmdir(trash)


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
