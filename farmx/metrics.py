"""What the metrics files of runs say: their rows, and per run the sums a table needs; never writes under LOGROOT.

A run's rows are those of its attempts' metrics.jsonl, one attempt after another; where there are none, those of
runx's metrics.csv and then of a metrics.jsonl that logx wrote outside a launch. A row of phase `start` begins a new
attempt, as a new file does. An attempt supersedes earlier attempts' rows of a phase from its own first step on: those
of the same stage, and all that later stages had. Of an earlier stage it supersedes none.

What was summed is kept in a cache file per experiment, outside LOGROOT. The metrics files are the truth: a file is
taken as known only when its inode, size and times are as they were, or its known part still has the same checksum.
"""

import errno
import json
import os
import stat
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby, zip_longest
from operator import ne
from typing import Any, NamedTuple

from farmx import layout, metric_rows, stages
from farmx.errors import StageError
from farmx.metric_rows import Block, Part, Row
from farmx.spec import Goal, Run, metric_name
from farmx.version import __version__

VAL = "val"  # the phase a table shows, and whose steps are its epochs
CACHE_FORMAT = 2
SURE_AFTER_S = 2.0  # file systems tell times no finer than this, so a younger file may change and look the same

_File = tuple[str, os.stat_result]


class Series(NamedTuple):
    """One metric over a run: its last value, its least and its greatest (the first such; None when all are NaN)."""

    last: float
    last_step: float
    min: float | None
    min_step: float | None
    max: float | None
    max_step: float | None


class MetricLog(NamedTuple):
    """The sums of a run's rows, superseded ones left out.

    series: by full name (`val/acc`), phase by phase, each in the order they were first logged.
    step: of the last val row, None without one.  started: when its first program began, None when unknown.
    seconds, epochs: what it ran up to each attempt's last val row and the val epochs it measured in that time, the
    superseded ones among them: `epoch_time` is their ratio, free of queueing and of what lies between attempts.
    unreadable: lines that are, wholly or in part, no row.  problem: why a file cannot be read, '' when all can.
    """

    series: Mapping[str, Series] = {}
    step: float | None = None
    started: float | None = None
    seconds: float = 0.0
    epochs: int = 0
    unreadable: int = 0
    problem: str = ""

    @property
    def epoch_time(self) -> float | None:
        """Seconds a val epoch took on average, None before the first."""
        return self.seconds / self.epochs if self.epochs else None

    def last_row(self) -> dict[str, float]:
        """The values logged at the last val step, by bare name."""
        known = self.series.items()
        return {name[4:]: one.last for name, one in known if name.startswith("val/") and one.last_step == self.step}

    def best(self, goal: Goal) -> tuple[float, float] | None:
        """(value, step) at which `goal` was first best; None when it was never logged or always NaN."""
        one = self.series.get(goal.metric)
        found = one and ((one.min, one.min_step) if goal.mode == "min" else (one.max, one.max_step))
        return (found[0], found[1]) if found and found[0] is not None and found[1] is not None else None


def read(runs: Iterable[Run], cache: str | None, now: float) -> dict[str, MetricLog]:
    """The log of each run, by its path; each file is opened once at most, and only when it is not as `cache` knows it.

    cache: a directory (layout.cache_folder), made when missing; None reads everything. What is in it may be deleted,
    damaged or unwritable: the answer is the same. now: seconds since the epoch.
    """
    logs: dict[str, MetricLog] = {}
    for folder, group in groupby(sorted(runs, key=_folder), key=_folder):
        logs |= _read_experiment(folder, list(group), cache, now)
    return logs


def rows(run: Run) -> list[Row]:
    """Every row of `run` that no later attempt supersedes, oldest first; [] before its first. Raises OSError."""
    files = ((_begun(run, path), metric_rows.rows(path, _read(path))[0]) for path, _ in _found(run))
    attempts = [(_place(at, start), found) for at, told in files for start, found in metric_rows.attempts(told)]
    first: dict[str, dict[int, float]] = {}  # by phase and place of the stage
    kept: list[list[Row]] = []
    for place, found in reversed(attempts):
        kept.append([Row(*row) for row in found if not _superseded(row[1], place, first.get(row[0], {}))])
        for phase, step in {row[0]: row[1] for row in reversed(found)}.items():
            steps = first.setdefault(phase, {})
            steps[place] = min(step, steps.get(place, step))
    return list(chain.from_iterable(reversed(kept)))


def _superseded(step: float, place: int, first: Mapping[int, float]) -> bool:
    """Whether later attempts leave a row out; first: their first steps of its phase, by the places of their stages."""
    return any(other < place or (other == place and step >= begin) for other, begin in first.items())


def names(logs: Iterable[MetricLog]) -> list[str]:
    """The full names of all that was logged, in order."""
    return list(dict.fromkeys(name for log in logs for name in log.series))


def full(known: Sequence[str], name: str) -> str | None:
    """Which of the full names that are `known` a user means by `name`, None for none: also one with a slash in it."""
    return next((each for each in (metric_name(name), name, f"{VAL}/{name}") if each in known), None)


def goals(pairs: Iterable[tuple[Run, MetricLog]]) -> list[Goal]:
    """The different goals of the runs, each with its log, their metrics named as they were logged."""
    pairs = list(pairs)
    known = names(log for _, log in pairs)
    own = dict.fromkeys(run.goal for run, _ in pairs if run.goal)
    return sorted({goal._replace(metric=full(known, goal.metric) or goal.metric) for goal in own})


def shown(name: str) -> str:
    """`acc` for `val/acc`; the full name where that would be another's."""
    bare = name.removeprefix(f"{VAL}/")
    return name if "/" in bare else bare


def _folder(run: Run) -> str:
    return os.path.dirname(os.path.abspath(run.path))


# From rows to sums


class _Sums:
    """What can be said of the rows so far, and what it takes to go on from there; all of it plain json."""

    def __init__(self) -> None:
        self.phases: dict[str, dict[str, Series]] = {}  # by phase, by bare name
        self.place = 0  # of the stage that the newest attempt is of
        self.tops: dict[str, dict[str, float]] = {}  # the highest step of each phase, by place of the stage
        self.begun: list[str] = []  # the phases that the newest attempt has rows of
        self.step: float | None = None
        self.started: float | None = None
        self.seconds = 0.0  # of the attempts before the newest
        self.epochs = 0
        self.origin: float | None = None  # when the newest attempt began
        self.measured: float | None = None  # the time of its last val row
        self.epoch: float | None = None  # the step of its last val row
        self.unreadable = 0

    def log(self) -> MetricLog:
        seconds = self.seconds + self.elapsed()
        series = {f"{phase}/{name}": one for phase, named in self.phases.items() for name, one in named.items()}
        return MetricLog(series, self.step, self.started, seconds, self.epochs, self.unreadable)

    def elapsed(self) -> float:
        """Seconds from the newest attempt's begin to its last val row."""
        return max(0.0, self.measured - self.origin) if self.measured is not None and self.origin is not None else 0.0


def _absorb(sums: _Sums, news: Iterable[Part]) -> bool:
    """Add `news`; False, and `sums` is spoilt, when one supersedes what was summed before: then sum all again."""
    kept: dict[tuple[str, int], list[Block]] = {}
    for part in news:
        if part.opens:
            _open(sums, part)
        for phase, block in part.blocks.items():
            _begin(sums, part)
            here = phase, sums.place
            if phase not in sums.begun:
                sums.begun.append(phase)
                tops = sums.tops.get(phase, {})
                if any(_superseded(top, int(place), {sums.place: block.steps[0]}) for place, top in tops.items()):
                    return False
                for key in [key for key in kept if key[0] == phase and key[1] > sums.place]:
                    del kept[key]
                kept[here] = [_before(one, block.steps[0]) for one in kept.get(here, ())]
            kept.setdefault(here, []).append(block)
            if phase == VAL:
                _clock(sums, block)
    for (phase, place), blocks in kept.items():
        for block in blocks:
            _add(sums, phase, place, block)
    return True


def _before(block: Block, first: float) -> Block:
    """What of `block` comes before the step `first`."""
    if max(block.steps, default=first) < first:
        return block
    columns = {name: [one for one in zip(*both) if one[1] < first] for name, both in block.columns.items()}
    left = {name: ([value for value, _ in both], [step for _, step in both]) for name, both in columns.items() if both}
    return block._replace(steps=[step for step in block.steps if step < first], columns=left)


def _open(sums: _Sums, part: Part) -> None:
    sums.seconds += sums.elapsed()
    sums.begun, sums.place = [], part.place
    sums.origin, sums.measured, sums.epoch = part.start, None, None
    sums.started = part.start if sums.started is None else sums.started


def _begin(sums: _Sums, part: Part) -> None:
    """Take the newest attempt's first row for its begin where no start row told; its own epoch is not measured."""
    if sums.begun or sums.origin is not None or part.first is None:
        return
    phase, step, sums.origin = part.first
    sums.epoch = step if phase == VAL else None
    sums.started = sums.origin if sums.started is None else sums.started


def _clock(sums: _Sums, block: Block) -> None:
    """Count the epochs of val rows: a row at the step of the one before is of the same epoch."""
    if block.until is not None and sums.origin is not None:
        sums.epochs += sum(map(ne, block.timed, (sums.epoch, *block.timed[:-1])))
        sums.measured, sums.epoch = block.until, block.timed[-1]


def _add(sums: _Sums, phase: str, place: int, block: Block) -> None:
    if not block.steps:
        return
    top, tops = max(block.steps), sums.tops.setdefault(phase, {})
    tops[str(place)] = max(top, tops.get(str(place), top))
    if phase == VAL:
        sums.step = block.steps[-1]
    series = sums.phases.setdefault(phase, {})
    for name, (values, steps) in block.columns.items():
        new = _series(values, steps)
        series[name] = _joined(series[name], new) if name in series else new


def _series(values: Sequence[float], steps: Sequence[float]) -> Series:
    last, last_step = values[-1], steps[-1]
    if _may_hold_nan(values):
        there = [(value, step) for value, step in zip(values, steps) if value == value]
        values, steps = [value for value, _ in there], [step for _, step in there]
    if not values:
        return Series(last, last_step, None, None, None, None)
    low, high = min(values), max(values)
    return Series(last, last_step, low, steps[values.index(low)], high, steps[values.index(high)])


def _may_hold_nan(values: Sequence[float]) -> bool:
    try:
        total = sum(values)
    except OverflowError:  # a whole number beyond floats
        return True
    return total != total


def _joined(old: Series, new: Series) -> Series:
    """The series of both: what was least or greatest first stays, unless the new is strictly better."""
    lower = old.min is None or (new.min is not None and new.min < old.min)
    higher = old.max is None or (new.max is not None and new.max > old.max)
    return Series(new.last, new.last_step, *(new if lower else old)[2:4], *(new if higher else old)[4:6])


# From files to sums, by way of the cache


class _Known(NamedTuple):
    """How far a file has been summed."""

    path: str
    mark: list[int]  # of its stat
    sure: bool  # no other content can have that mark
    size: int  # bytes summed: complete lines
    checksum: int  # of those bytes


class _Entry(NamedTuple):
    files: list[_Known]
    sums: _Sums


def _read_experiment(folder: str, runs: list[Run], cache: str | None, now: float) -> dict[str, MetricLog]:
    shelf = os.path.join(cache, "metrics", _label(folder)) if cache else None
    entries = _load(shelf, folder) if shelf else {}
    logs, changed = {}, False
    for run in runs:
        old = entries.pop(run.path, None)
        try:
            found = _found(run)
            entry = (old and _continued(old, run, found, now)) or _scratch(run, found, now)
        except OSError as error:
            logs[run.path] = MetricLog(problem=f"{error.filename or run.path}: {error.strerror}")
            continue
        logs[run.path] = entry.sums.log()
        entries[run.path] = entry
        changed |= entry is not old
    if shelf and changed:
        _save(shelf, folder, entries, {run.path for run in runs})
    return logs


def _scratch(run: Run, found: list[_File], now: float) -> _Entry:
    entry = _Entry([], _Sums())
    _absorb(entry.sums, [part for file in found for part in _placed(run, file, _news(entry, file, None, now) or ())])
    return entry


def _placed(run: Run, file: _File, news: Sequence[Part]) -> Sequence[Part]:
    """The same, with the places of the stages that wrote them."""
    begun = _begun(run, file[0]) if news else ()
    return [part._replace(place=_place(begun, part.start)) for part in news] if begun else news


def _begun(run: Run, path: str) -> Sequence[tuple[float, int]]:
    """When each stage began in the attempt of a metrics file, and its place; () of a run of one stage."""
    folder = os.path.dirname(path)
    if len(run.stages) < 2 or folder == run.path:
        return ()
    rows = stages.rows(folder)
    return [(row["time"], row["place"]) for row in rows if row.get("event") == "started" and "place" in row]


def _place(begun: Sequence[tuple[float, int]], start: float | None) -> int:
    """Of the stage whose program began to log then; the first one that began, where it does not say when."""
    there = [place for time, place in begun if start is None or time <= start]
    return (there[0] if start is None else there[-1]) if there else 0


def _continued(old: _Entry, run: Run, found: list[_File], now: float) -> _Entry | None:
    """`old` itself when no file changed, `old` and what was appended, or None (`old` is spoilt): then sum all again."""
    if [path for path, _ in found[: len(old.files)]] != [file.path for file in old.files]:
        return None
    if len(found) == len(old.files) and all(map(_unchanged, old.files, found)):
        return old
    entry, added = _Entry([], old.sums), list[Part]()
    for file, known in zip_longest(found, old.files):
        news = _news(entry, file, known, now)
        if news is None or (news and known and known is not old.files[-1]):
            return None
        added += _placed(run, file, news)
    return entry if _absorb(entry.sums, added) else None


def _news(entry: _Entry, file: _File, known: _Known | None, now: float) -> list[Part] | None:
    """The attempts in `file` beyond what is known of it, noted in `entry`; None when that is no longer in it.

    What is appended to runx's file may belong to a line that was there, so it is read again as a whole.
    """
    if known and _unchanged(known, file):
        entry.files.append(known)
        return []
    path, status = file
    data = _read(path)
    done = known.size if known else 0
    if zlib.crc32(memoryview(data)[:done]) != (known.checksum if known else 0):
        return None
    if done and len(data) > done and path.endswith(layout.RUNX_METRICS):
        return None
    sure = now - status.st_ctime >= SURE_AFTER_S
    entry.files.append(_Known(path, _mark(status), sure, len(data), zlib.crc32(data)))
    if known and len(data) == done:
        return []
    news, unreadable = metric_rows.parts(path, data[done:], known is None)
    entry.sums.unreadable += unreadable
    return news


def _unchanged(known: _Known, file: _File) -> bool:
    return known.sure and known.mark == _mark(file[1])


def _mark(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _found(run: Run) -> list[_File]:
    attempts = sorted(run.attempts, key=lambda attempt: attempt.number)
    own = _existing(os.path.join(attempt.path, layout.METRICS) for attempt in attempts)
    return own or _existing(os.path.join(run.path, name) for name in (layout.RUNX_METRICS, layout.OUTSIDE_METRICS))


def _existing(paths: Iterable[str]) -> list[_File]:
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file", path)
        found.append((path, status))
    return found


def _read(path: str) -> bytes:
    """The complete lines of a file; a writer may be in the middle of one more."""
    with open(path, "rb", buffering=0) as file:
        data = file.read()
    return data[: data.rfind(b"\n") + 1]


# The cache: a line of json that names the other, then that other


def _label(folder: str) -> str:
    return f"{os.path.basename(folder)}-{zlib.crc32(os.fsencode(folder)):08x}"


def _load(shelf: str, folder: str) -> dict[str, _Entry]:
    """The entries by path of the run; {} when there is no such file, or it is not whole and of this version."""
    try:
        with open(shelf, encoding="ascii") as file:
            head, body = file.readline(), file.read()
        if head != _head(folder, body):
            return {}
        found = json.loads(body).items()
        return {path: _Entry([_Known(*one) for one in files], _sums(plain)) for path, (files, plain) in found}
    except (OSError, ValueError):
        return {}


def _save(shelf: str, folder: str, entries: dict[str, _Entry], seen: set[str]) -> None:
    """Keep `entries`, those of runs not `seen` only while their directory exists; without a word when it cannot be."""
    there = {path: entry for path, entry in entries.items() if path in seen or os.path.isdir(path)}
    body = json.dumps({path: [entry.files, _plain(entry.sums)] for path, entry in there.items()})
    try:
        os.makedirs(os.path.dirname(shelf), exist_ok=True)
        layout.write(shelf, _head(folder, body) + body)
    except (OSError, StageError):
        return


def _head(folder: str, body: str) -> str:
    return json.dumps([CACHE_FORMAT, __version__, folder, zlib.crc32(body.encode())]) + "\n"


def _plain(sums: _Sums) -> list[Any]:
    return list(vars(sums).values())


def _sums(plain: list[Any]) -> _Sums:
    phases = {phase: {name: Series(*one) for name, one in named.items()} for phase, named in plain[0].items()}
    sums = _Sums()
    vars(sums).update(zip(vars(sums), [phases, *plain[1:]], strict=True))
    return sums
