"""A run's checkpoints: written aside and renamed, the best and the last in a record; never loaded but to be used.

The record, checkpoints.json, is the truth about which is best and last. Where there is none (runx's directory, or it
was deleted) the names are. A file under its final name is whole: it came there by a rename.
"""

from __future__ import annotations

import operator
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from farmx import layout, pickles
from farmx.errors import LogxError, RecordError, StageError
from farmx.lines import number, short, unwritable
from farmx.pickles import Torn

LAST = "last"
BEST = "best"
METRIC = "__metric"

_NAME = re.compile(r"(last|best)_checkpoint_ep([0-9]+)\.pth", re.ASCII)
_ASIDE = re.compile(r"\.(?:(?:last|best)_checkpoint_ep[0-9]+\.pth|checkpoints\.json)\.([0-9]+)\.[0-9a-f]{8}", re.ASCII)


class Entry(NamedTuple):
    """A checkpoint as the record tells it.

    metric, higher_better: None when only its name is known.  steps: the next step of each phase when it was saved.
    """

    file: str
    epoch: int
    metric: float | None = None
    higher_better: bool | None = None
    steps: Mapping[str, int] = {}


class Book(NamedTuple):
    """What the record says. best: best first.  dropped: no longer wanted, perhaps still there."""

    last: Entry | None = None
    best: tuple[Entry, ...] = ()
    dropped: tuple[str, ...] = ()


def better(metric: float | None, best: float | None, higher_better: bool) -> bool:
    """Whether `metric` beats `best`, strictly; NaN and None never do, and any number beats them."""
    if metric is None or metric != metric:
        return False
    if best is None or best != best:
        return True
    return bool(metric > best if higher_better else metric < best)


def spare(folder: str, keep: int) -> list[str]:
    """The checkpoints in `folder` that are neither among the `keep` best nor the `keep` newest; [] without a record.

    The best and the last never are among them, nor a best one whose metric the record does not know.
    """
    try:
        book = _read(os.path.join(folder, layout.CHECKPOINTS))
    except (FileNotFoundError, NotADirectoryError, RecordError):
        return []
    found = sorted(filter(None, map(_NAME.fullmatch, layout.names(folder))), key=lambda match: -int(match[2]))
    best = {entry.file for place, entry in enumerate(book.best) if place < keep or entry.metric is None}
    newest = [match[0] for match in found if match[1] == LAST][:keep]
    kept = {*best, *newest, *([book.last.file] if book.last else [])}
    return [match[0] for match in found if match[0] not in kept and (book.best or match[1] == LAST)]


class Checkpoints:
    """The checkpoints in `folder`; `tell` takes a line for people. Made, it has touched nothing."""

    def __init__(self, folder: str, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._cleaned = False
        self._torn: set[tuple[int, ...]] = set()  # the marks of files that could not be loaded: none of them is best

    def save(
        self,
        content: Mapping[str, Any],
        metric: float,
        epoch: int,
        higher_better: bool,
        delete_old: bool,
        keep: int,
        steps: Mapping[str, int],
    ) -> bool:
        """Write `content` as the last checkpoint, and as a best one if it is among the `keep` best; True if the best.

        In this order: written, renamed, linked as best, recorded, and only then the old ones deleted. Raises LogxError.
        """
        keep = _counted(keep)
        book = self._clean()
        new = Entry(_file(LAST, epoch), epoch, metric, higher_better, steps)
        challenger = new._replace(file=_file(BEST, epoch))
        best = _ranked(book.best, challenger)[:keep]
        self._put(new.file, lambda file: pickles.dump({"epoch": epoch, **content, METRIC: metric}, file))
        if any(each is challenger for each in best):
            self._copy(new.file, challenger.file)
        book = _turned(book, new, best, delete_old)
        self._write(book)
        self._remove(book.dropped)
        return bool(best) and best[0] is challenger

    def best(self) -> str | None:
        """The path of the best checkpoint; where no record tells it, of the best one with the highest epoch."""
        best = self._book().best or self._named().best
        return self._path(best[0].file) if best else None

    def newest(self, weights_only: bool) -> tuple[Entry, dict[str, Any]] | None:
        """The newest checkpoint that can be loaded and what it holds; None when there is none.

        A torn one is told in one line, then the next older one is tried; it is the best no more. Raises LogxError for
        what is refused, and where nothing can be looked for.
        """
        for entry in self._candidates():
            path = self._path(entry.file)
            try:
                mark = _mark(path)
                if mark not in self._torn:
                    return entry, _content(path, weights_only)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise LogxError(f"{path}: cannot be read: {error.strerror}") from error
            except Torn as error:
                self._torn.add(mark)
                self._tell(f"{error}; taking the next older checkpoint, if there is one")
        return None

    def _whole(self, entry: Entry) -> bool:
        """Whether its file is there and was not found torn."""
        try:
            return _mark(self._path(entry.file)) not in self._torn
        except OSError:
            return False

    def _candidates(self) -> list[Entry]:
        book = self._book()
        others = sorted((*book.best, *self._by_name(LAST), *self._by_name(BEST)), key=lambda entry: -entry.epoch)
        return [book.last, *others] if book.last else others

    def _clean(self) -> Book:
        """The book; before the first save, what somebody killed in the middle of one left behind is removed."""
        book = self._book()
        if self._cleaned:
            return book
        self._cleaned = True
        self._remove([name for name in self._names() if _abandoned(name)])
        self._remove(book.dropped)
        return book._replace(best=tuple(self._learned(entry) for entry in book.best))

    def _learned(self, entry: Entry) -> Entry:
        # Only for a checkpoint without a record: runx's, whose metric is in the file alone.
        if entry.metric is not None:
            return entry
        try:
            return entry._replace(metric=number(_content(self._path(entry.file), True).get(METRIC), METRIC))
        except LogxError as error:
            self._tell(f"{error}; so {entry.file} is not compared with, and stays")
            return entry

    def _book(self) -> Book:
        try:
            return self._present(_read(self._path(layout.CHECKPOINTS)))
        except (FileNotFoundError, NotADirectoryError):
            return self._named()
        except RecordError as error:
            self._tell(f"{error}; going by the names of the checkpoints")
            return self._named()

    def _present(self, book: Book) -> Book:
        last = book.last if book.last and os.path.exists(self._path(book.last.file)) else None
        return book._replace(last=last, best=tuple(filter(self._whole, book.best)))

    def _named(self) -> Book:
        last = self._by_name(LAST)
        return Book(last[0] if last else None, tuple(filter(self._whole, self._by_name(BEST))))

    def _by_name(self, kind: str) -> tuple[Entry, ...]:
        """The newest first."""
        matches = [match for match in map(_NAME.fullmatch, self._names()) if match and match[1] == kind]
        return tuple(Entry(match[0], int(match[2])) for match in sorted(matches, key=lambda match: -int(match[2])))

    def _names(self) -> list[str]:
        try:
            return layout.names(self._folder)
        except RecordError as error:
            raise LogxError(str(error)) from error

    def _put(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        path = self._path(name)
        temporary = layout.aside(path)
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            layout.move(temporary, path)
        except OSError as error:
            raise unwritable(path, error) from error
        finally:
            layout.remove(temporary)

    def _copy(self, name: str, other: str) -> None:
        """Let `other` be the same file as `name`; where the file system has no hard links, a copy of it."""
        path = self._path(other)
        temporary = layout.aside(path)
        try:
            os.link(self._path(name), temporary)
            layout.move(temporary, path)
        except OSError:
            layout.remove(temporary)
            self._put(other, lambda file: _pour(self._path(name), file))

    def _write(self, book: Book) -> None:
        record = {
            "format": layout.CHECKPOINTS_FORMAT,
            "last": _told(book.last) if book.last else None,
            "best": [_told(entry) for entry in book.best],
            "dropped": list(book.dropped),
        }
        try:
            layout.write_json(self._path(layout.CHECKPOINTS), record)
        except StageError as error:
            raise LogxError(str(error)) from error

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            layout.remove(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _counted(keep: Any) -> int:
    try:
        count = operator.index(keep)
    except TypeError:
        count = 0
    if count < 1:
        raise LogxError(f"save_model: keep={short(keep)} must be a whole number from 1 on")
    return count


def _file(kind: str, epoch: int) -> str:
    return f"{kind}_checkpoint_ep{epoch}.pth"


def _ranked(best: Sequence[Entry], new: Entry) -> list[Entry]:
    """`best` with `new` behind all it does not beat; without it, if it is NaN or not better than its epoch's other.

    One epoch has one file.
    """
    rest = [entry for entry in best if entry.file != new.file]
    beaten = [better(new.metric, entry.metric, bool(new.higher_better)) for entry in best if entry.file == new.file]
    if new.metric != new.metric or beaten == [False]:
        return list(best)
    place = 0
    while place < len(rest) and not better(new.metric, rest[place].metric, bool(new.higher_better)):
        place += 1
    return [*rest[:place], new, *rest[place:]]


def _turned(book: Book, last: Entry, best: Sequence[Entry], delete_old: bool) -> Book:
    """The book after a save, with what it makes superfluous; a best one whose metric is not known never is."""
    kept = {last.file, *(entry.file for entry in best)}
    unknown = {entry.file for entry in book.best if entry.metric is None}
    old = [entry.file for entry in book.best] + [_file(BEST, last.epoch)]
    if delete_old and book.last:
        old.append(book.last.file)
    return Book(last, tuple(best), tuple(dict.fromkeys(file for file in old if file not in kept | unknown)))


def _told(entry: Entry) -> dict[str, Any]:
    metric = None if entry.metric is None else layout.number(entry.metric)
    return {**entry._asdict(), "metric": metric, "steps": dict(entry.steps)}


def _read(path: str) -> Book:
    """Raises FileNotFoundError, or RecordError for what is no record of ours."""
    record = layout.read_json(path, layout.CHECKPOINTS_FORMAT)
    try:
        last = None if record["last"] is None else _entry(record["last"])
        return Book(last, tuple(map(_entry, record["best"])), tuple(map(_checked, record["dropped"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path}: not a record of ours") from error


def _entry(told: Mapping[str, Any]) -> Entry:
    metric, higher = told["metric"], told["higher_better"]
    steps = {str(phase): int(step) for phase, step in told["steps"].items()}
    return Entry(_checked(told["file"]), int(told["epoch"]), None if metric is None else float(metric), higher, steps)


def _checked(name: str) -> str:
    # A name leads to a deletion later: it must be one of ours.
    if not _NAME.fullmatch(name):
        raise ValueError(name)
    return name


def _abandoned(name: str) -> bool:
    """Whether `name` was written aside by a process that is gone."""
    match = _ASIDE.fullmatch(name)
    if not match:
        return False
    if int(match[1]) == os.getpid():  # ours are gone by now; in a container numbers come again
        return True
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _pour(path: str, file: BinaryIO) -> None:
    with open(path, "rb") as source:
        shutil.copyfileobj(source, file)


def _mark(path: str) -> tuple[int, ...]:
    """What tells a file from one that is written later. Raises OSError."""
    file = os.stat(path)
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns


def _content(path: str, weights_only: bool) -> dict[str, Any]:
    content = pickles.load(path, weights_only, "resume")
    if not isinstance(content, dict):
        raise Torn(f"{path}: holds a {type(content).__name__}, not what save_model writes")
    return content
