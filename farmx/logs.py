"""What a run printed: its logs in order, read to their end or followed until the run has ended; never what it means.

A log is bytes. It may be larger than memory, be no text, and be cut short or replaced while it is read.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from farmx import layout
from farmx.errors import RecordError, UsageError, nearest
from farmx.spec import Run, State

CHUNK = 1 << 18  # bytes read at once
POLL_S = 0.3  # between two looks at a log that is followed
LOOK_S = 15.0  # between two looks at how its run stands, for which its farm may be asked
GOING = (State.STAGED, State.QUEUED, State.RUNNING, State.PREEMPTED, State.UNKNOWN)


class Log(NamedTuple):
    """One stage's output in one attempt ('2.0')."""

    attempt: str
    stage: str
    path: str

    def __str__(self) -> str:
        return f"attempt {self.attempt}, {self.stage}"


def of(run: str, attempt: str, stage: str | None = None) -> list[Log]:
    """The logs that the attempt of the run directory `run` has: all stages in their order, or one.

    Raises RecordError for a run.json that cannot be read.
    """
    return [log for log in _of(run, attempt, stages(run)) if stage in (None, log.stage)]


def _of(run: str, attempt: str, known: Sequence[str]) -> list[Log]:
    """All logs of an attempt, in the order of the stages that are known."""
    home = os.path.join(run, layout.ATTEMPTS, attempt)
    found = {name.removesuffix(layout.LOG_SUFFIX) for name in layout.names(home) if name.endswith(layout.LOG_SUFFIX)}
    ordered = [name for name in known if name in found] + sorted(name for name in found if name not in known)
    return [Log(attempt, name, os.path.join(home, name + layout.LOG_SUFFIX)) for name in ordered]


def standing(run: str, stage: str | None = None) -> list[Log]:
    """The logs that tell how the run came to where it is, stages in their order, or that of one stage.

    They are those of the newest attempt that began, and of the stages before its first those of the newest one that ran
    them: a retry begins at the stage that failed, and a stage may be a job, and so an attempt, of its own.
    """
    known, found = stages(run), list[Log]()
    for name in reversed(attempts(run)):
        logs = _of(run, name, known)
        if not (found or logs or _has_ended(run, name)):  # it begins just now
            return []
        begin = known.index(found[0].stage) if found and found[0].stage in known else 0
        found = [log for log in logs if log.stage in known[:begin]] + found if found else logs
    return [log for log in found if stage in (None, log.stage)]


def stages(run: str) -> list[str]:
    """The names of a run's stages, in their order; [] for what farmx did not launch."""
    try:
        return [stage["name"] for stage in layout.read_json(os.path.join(run, layout.RUN), layout.RUN_FORMAT)["stages"]]
    except (FileNotFoundError, NotADirectoryError):
        return []


def goes(run: Run) -> bool:
    """Whether more may come; of what farmx did not launch nobody would ever say that it has ended."""
    return run.identity is not None and run.state in GOING


def attempts(run: str, since: tuple[int, int] = (0, 0)) -> list[str]:
    """The names of a run's attempts from `since` on, oldest first."""
    return [layout.attempt_name(*number) for number in layout.attempt_numbers(run) if number >= since]


# ---------------------------------------------------------------- what was asked for


def check(run: Run, stage: str | None, attempt: str | None) -> str | None:
    """The attempt that was asked for ('2.0', or '2' for the newest 2.x), None for the newest.

    Raises UsageError for a stage or an attempt that the run does not have.
    """
    known = stages(run.path)
    if stage is not None and stage not in known:
        raise UsageError(f"--stage: {run.name} has no stage '{stage}'{nearest(stage, known)}")
    if attempt is None:
        return None
    there = attempts(run.path)
    fit = [name for name in there if name == attempt or name.partition(".")[0] == attempt]
    if not fit:
        raise UsageError(f"--attempt: {run.name} has no attempt '{attempt}'; it has {', '.join(there) or 'none yet'}")
    return fit[-1]


# ---------------------------------------------------------------- reading


class Tail:
    """What the file at `path` has beyond what was read of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._read = 0

    def pieces(self, tell: Callable[[str], None] = lambda text: None) -> Iterator[bytes]:
        """Its bytes, up to the size it has now; nothing while there is no file. Raises RecordError.

        tell: a line when the file was cut short or replaced; then it is read from its begin.
        """
        try:  # opened anew each time: on a shared file system that is what shows the writes of others
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            yield from self._beyond(descriptor, tell)
        except OSError as error:
            raise self._unreadable(error) from error
        finally:
            os.close(descriptor)

    def _beyond(self, descriptor: int, tell: Callable[[str], None]) -> Iterator[bytes]:
        told = os.fstat(descriptor)
        file = told.st_dev, told.st_ino
        replaced, cut = self._file not in (None, file), told.st_size < self._read
        if replaced or cut:
            tell(f"{self._path} was {'replaced' if replaced else 'cut short'}; from its begin:")
            self._read = 0
        self._file = file
        while self._read < told.st_size:
            piece = os.pread(descriptor, min(CHUNK, told.st_size - self._read), self._read)
            if not piece:  # cut short just now
                return
            self._read += len(piece)
            yield piece

    def _unreadable(self, error: OSError) -> RecordError:
        return RecordError(f"{self._path}: cannot be read: {error.strerror}")


class Reader:
    """Reads logs one after another; `tell` hears which one, where there is more than one, and what happened to it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._tails: dict[str, Tail] = {}
        self._last: Log | None = None

    def read(self, logs: Iterable[Log], several: bool = False) -> Iterator[bytes]:
        """What each of them has beyond what was read of it."""
        for log in logs:
            for piece in self._tails.setdefault(log.path, Tail(log.path)).pieces(self._tell):
                if self._last != log and (several or self._last is not None):
                    self._tell(f"==> {log}")
                self._last = log
                yield piece


def follow(
    reader: Reader, stand: Callable[[], Run], stage: str | None, only: str | None, tell: Callable[[str], None]
) -> Iterator[bytes]:
    """What a run printed, as standing() has it, and prints until it has ended, whichever attempts and stages come.

    stand: how the run stands now.  only: an attempt to follow alone, to its end.  A run that waits says so once.
    """
    run, looked, ends = stand(), time.monotonic(), 0
    newest = attempts(run.path)[-1:]
    first = layout.attempt_number(only or (newest[0] if newest else "")) or (0, 0)
    if goes(run) and run.state is not State.RUNNING:
        tell(f"{run.name} is {run.state}: {run.note}; waiting for it, Ctrl-C ends")
    yield from reader.read(() if only else standing(run.path, stage))
    while True:
        names = [only] if only else attempts(run.path, first)
        over = not goes(run) or _left(run.path, only)
        yield from reader.read(log for name in names for log in of(run.path, name, stage))
        if over:  # decided before its logs were read to their end
            return
        time.sleep(POLL_S)
        before, ends = ends, _ends(run.path)
        if ends > before or time.monotonic() - looked > LOOK_S:
            run, looked = stand(), time.monotonic()


def _left(run: str, only: str | None) -> bool:
    """Whether the attempt to be followed alone will say no more."""
    return only is not None and (_has_ended(run, only) or only not in attempts(run)[-1:])


def _ends(run: str) -> int:
    """How many of a run's attempts have ended."""
    return sum(_has_ended(run, name) for name in attempts(run))


def _has_ended(run: str, name: str) -> bool:
    return os.path.exists(os.path.join(run, layout.ATTEMPTS, name, layout.END))
