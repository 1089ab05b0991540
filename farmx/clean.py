"""What of ended runs may go: which directories, checkpoints and snapshots, how much that is, and their removal.

A run goes whole or not at all: it is renamed into .farmx/trash, which nobody reads, and deleted there. What runs, waits
or was started meanwhile is never touched, nor what a link leads to.

    .farmx/trash/<name>.<pid>.<hex>.<kind>    what it may still be put back from: `kind` is run or snapshot
                 <name>.<pid>.<hex>           the same, renamed once it is known that nobody uses it: it is deleted
"""

import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from farmx import checkpoints, claims, layout, records, snapshot, status
from farmx.errors import RecordError, StageError
from farmx.spec import Progress, Run, State, unseen

ENDED = (State.DONE, State.FAILED, State.CANCELLED, State.INTERRUPTED, State.LOST, State.PRUNED)
FAULTY = (State.FAILED, State.CANCELLED)
STALE_S = 3600.0  # what a clean that was killed left in the trash goes, or comes back, after this
_PLACES = {"run": (), "snapshot": (layout.FARMX, layout.SNAPSHOTS)}  # kind -> below the experiment's directory


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


def plan(runs: Sequence[Run], wish: Wish, homes: Iterable[str] = ()) -> Plan:
    """What would go; nothing is changed. homes: directories of experiments that are meant, too, though they may hold no
    runs."""
    linked = [run for run in runs if run.state in ENDED and os.path.islink(run.path)]
    notes = [f"{run.name}, a link to {os.readlink(run.path)}: remove that and the link by hand" for run in linked]
    ended = [run for run in runs if run.state in ENDED and run not in linked]
    left = tuple(run for run in runs if run.state not in ENDED)
    if wish == Wish():
        return Plan(tuple(Item("run", run.path, run) for run in ended), left, tuple(notes))
    gone = [run for run in ended if wish.failed and run.state in FAULTY]
    items = [Item("run", run.path, run) for run in gone]
    if wish.keep is not None:
        items += _checkpoints([run for run in ended if run not in gone], wish.keep)
    if wish.snapshots:
        meant = list(dict.fromkeys([*(os.path.dirname(run.path) for run in runs), *homes]))
        for home in meant:
            found, said = _snapshots(home, {run.path for run in gone})
            whose = f"{os.path.basename(home)}: " if len(meant) > 1 else ""
            items, notes = items + found, notes + [whose + note for note in said]
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
    found = (os.path.join(place, name) for name in sorted(layout.names(place)) if not name.startswith("."))
    spare = [path for path in found if os.path.basename(path) not in needed and not os.path.islink(path)]
    old = [path for path in spare if _age_s(path, now) > claims.STALE_S]
    young = len(spare) - len(old)
    note = f"{_plural(young, 'snapshot')} younger than a day: a launch may be about to use it"
    return [Item("snapshot", path) for path in old], [note] if young else []


def _needed(home: str, without: Collection[str] = ()) -> set[str]:
    """The snapshots that runs name. Raises RecordError for a run that cannot say."""
    found: set[str] = set()
    for path in (os.path.join(home, name) for name in layout.names(home) if not name.startswith(".")):
        if path not in without:
            found.update(_named_by(path))
    return found


def _named_by(run: str) -> Iterator[str]:
    with suppress(OSError):
        yield os.path.basename(os.path.dirname(os.readlink(os.path.join(run, layout.CODE))))
    record = records.run_of(run)
    if record is not None:
        yield str(record.get("digest"))


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


def measured(items: Sequence[Item], progress: Progress = unseen) -> Size:
    """What all the items are together."""
    seen: dict[tuple[int, int], int] = {}
    files = size = 0
    for made, item in enumerate(items, 1):
        for path in _files(item):
            try:
                told = os.lstat(path)
            except OSError:
                continue
            files += 1
            name = told.st_dev, told.st_ino
            seen[name] = seen.get(name, 0) + 1
            size += told.st_size if seen[name] == told.st_nlink else 0
        progress("measuring", made, len(items))
    return Size(files, size)


def _files(item: Item) -> Iterator[str]:
    if item.names:
        yield from (os.path.join(item.path, name) for name in item.names)
        return
    for folder, folders, names in os.walk(item.path):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (os.path.join(folder, name) for name in (*names, *links))


# ---------------------------------------------------------------- the removal


def remove(items: Sequence[Item], tell: Callable[[Item, str], None], progress: Progress = unseen) -> int:
    """Remove the items; return how many went. tell: each one that stays, and why.  progress: of all, the runs first.

    How the runs stand is looked at once more: what was started since stays, and so does what nobody lets us take away.
    Raises StageError where that cannot be deleted, or put back; the rest is whole.
    """
    homes = dict.fromkeys(_home(item) for item in items)
    now = {run.path: run for home in homes for run in _again(home, items)}
    went = 0
    for made, item in enumerate((item for item in items if item.run is not None), 1):
        run = now.get(item.path)
        if why := _changed(item, run) or _unlink(item):
            tell(item, why)
        else:
            went += 1 if item.names else _discard([item], tell)
        progress("removing", made, len(items))
    for home in homes:
        went += _discard([item for item in items if item.run is None and _home(item) == home], tell)
        _empty_trash(home, tell)
    return went


def _home(item: Item) -> str:
    """The experiment's directory."""
    up = os.path.dirname(item.path)
    return up if item.run is not None else os.path.dirname(os.path.dirname(up))


def _again(home: str, items: Sequence[Item]) -> Sequence[Run]:
    names = {os.path.basename(item.path) for item in items if item.run is not None and _home(item) == home}
    return status.of(home, sorted(names)).runs


def _changed(item: Item, now: Run | None) -> str:
    """What became of the item's run since it was shown, '' where that is nothing."""
    if now is not None and now.state not in ENDED:
        return f"is {now.state} now"
    if os.path.islink(item.path):
        return "is a link now"
    same = now is not None and item.run is not None and _numbers(item.run) == _numbers(now)
    return "" if same else "was changed or removed meanwhile"


def _numbers(run: Run) -> list[tuple[int, int]]:
    return [attempt.number for attempt in run.attempts]


def _unlink(item: Item) -> str:
    """Remove the files of it that go, none of what goes as a whole; '' when that is done, else why it is not."""
    try:
        for name in item.names:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(item.path, name))
    except OSError as error:
        return f"cannot be removed: {error.strerror}"
    return ""


def _discard(items: Sequence[Item], tell: Callable[[Item, str], None]) -> int:
    """Take what is of one experiment away and delete what nobody uses; how many that were.

    Whatever happens before it is known who uses what puts everything back.
    """
    before = _fingerprints({item.path: item for item in items})
    gone = {_aside(item): item for item in items}
    with ExitStack() as undo:
        for aside, item in list(gone.items()):
            undo.callback(_back, aside, item.path)
            if why := "was used meanwhile" if before[item.path] is None else _move(item.path, aside):
                tell(gone.pop(aside), why)
        # Whoever took an attempt, or a snapshot, before the rename has it back; afterwards nobody finds it to take.
        after = _fingerprints(gone)
        for aside, item in list(gone.items()):
            if after[item.path] != before[item.path]:
                tell(gone.pop(aside), f"was used meanwhile{_back(aside, item.path)}")
        undo.pop_all()
    for aside in gone:
        _delete(_known_unused(aside))
    return len(gone)


def _known_unused(aside: str) -> str:
    """Let it never come back; where it is then. Raises StageError."""
    path = os.path.splitext(aside)[0]
    try:
        layout.move(aside, path)
    except OSError as error:
        raise StageError(f"{aside}: cannot be removed: {error.strerror}") from error
    return path


def _aside(item: Item) -> str:
    name = f"{item}.{os.getpid()}.{os.urandom(4).hex()}.{item.kind}"
    return os.path.join(_home(item), layout.FARMX, layout.TRASH, name)


def _move(path: str, aside: str) -> str:
    """Take it away; '' when that is done, else why it is not. Raises StageError."""
    try:
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        os.rename(path, aside)
    except FileNotFoundError:  # NFS repeats calls: it may be away by the first
        return "" if os.path.lexists(aside) else "was removed meanwhile"
    except OSError as error:
        return f"cannot be removed: {error.strerror}{_back(aside, path)}"
    return ""


def _back(aside: str, path: str) -> str:
    """Put back what is aside, under another name where its own was taken meanwhile; which one, for people.

    Raises StageError; it is in the trash then, which this command empties no more.
    """
    if not os.path.lexists(aside):
        return ""
    try:
        layout.move(aside, path)
        return ""
    except OSError:
        other = f"{path}.{aside.split('.')[-2]}"
    try:
        layout.move(aside, other)
    except OSError as error:
        raise StageError(f"{aside}: may be in use and cannot be put back to {path}: {error.strerror}; "
                         "move it out of there") from error  # fmt: skip
    return f"; its name was taken, it is {os.path.basename(other)} now"


def _fingerprints(places: Mapping[str, Item]) -> dict[str, object]:
    """The item's path -> its fingerprint, of items of one experiment by where they are now.

    However many snapshots are among them, the runs are read once.
    """
    first = next((item for item in places.values() if item.run is None), None)
    needed = _needed(_home(first)) if first else set()
    return {item.path: _fingerprint(item, path, needed) for path, item in places.items()}


def _fingerprint(item: Item, path: str, needed: Collection[str]) -> object:
    """What tells that somebody began to use a run or a snapshot; None when somebody has since the plan was made."""
    if item.run is None:
        try:
            return None if os.path.islink(path) or str(item) in needed else os.stat(path).st_mtime
        except OSError:
            return None
    known = {layout.attempt_name(*attempt.number) for attempt in item.run.attempts}
    found = {name for name in layout.names(os.path.join(path, layout.ATTEMPTS)) if layout.attempt_number(name)}
    return sorted(found) if found <= known else None


def _delete(path: str) -> None:
    """Remove a tree, whatever rights its directories have; of a link nothing but itself. Raises StageError."""
    try:
        if os.path.islink(path):  # what it leads to is not under LOGROOT
            os.unlink(path)
            return
        shutil.rmtree(path, ignore_errors=True)
        for folder, _, _ in os.walk(path):
            with suppress(OSError):
                os.chmod(folder, stat.S_IRWXU)
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StageError(f"{error.filename}: cannot be removed: {error.strerror}") from error


def _empty_trash(home: str, tell: Callable[[Item, str], None]) -> None:
    """Remove what a clean that was killed left, long ago: another one may be at work right now.

    Of what that had not looked at once more nobody knows whether it is used: it comes back.
    """
    trash = os.path.join(home, layout.FARMX, layout.TRASH)
    for path in (os.path.join(trash, name) for name in layout.names(trash)):
        with suppress(OSError, StageError):
            if layout.now_at(trash) - os.lstat(path).st_ctime <= STALE_S:
                continue
            kind = os.path.splitext(path)[1][1:]
            item = Item(kind, os.path.join(home, *_PLACES.get(kind, ()), os.path.basename(path).rsplit(".", 3)[0]))
            made_anew = kind == "snapshot" and os.path.lexists(item.path)
            if kind in _PLACES and not made_anew:
                also = _back(path, item.path)
                tell(item, f"is back: a clean that was killed had yet to see whether it is used{also}")
            else:
                _delete(path)
    with suppress(OSError):
        os.rmdir(trash)


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
