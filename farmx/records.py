"""What run directories and launches say, read once and remembered; never what it means for a run's state.

What was read of a run that has ended is kept outside LOGROOT, so that the next look at ten thousand runs opens only
those that may have changed. The run directory is the truth: what is remembered may be deleted at any time, and counts
only while the directory is the same (its name and inode, and when it changed, where runs came or went since), no farm
was handed anything for it since, no scheduler began it again by itself, and it had ended long enough before that
nobody's clock or cache can have hidden a change.
"""

import json
import os
import time
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout, stages
from farmx.errors import RecordError, StageError, Wrong
from farmx.spec import Attempt, Goal, State, metric_name

SETTLED_S = 60.0  # an end this old is remembered
_FORMAT = 5  # in those before less was kept of a run
_OVER = (State.DONE, State.CANCELLED)  # what no scheduler's restart executes again
_KEPT = ("point", "digest", "goal", "generation", "stages", stages.ONLY, stages.AGAIN)


class Reading(NamedTuple):
    """The records of one run. record: of run.json what looking needs, None when there is none.

    attempts: oldest first.
    """

    name: str
    path: str
    experiment: str
    record: Mapping[str, Any] | None
    hparams: Mapping[str, Any] | None
    attempts: tuple[Attempt, ...]

    @property
    def goal(self) -> Goal | None:
        """Which metric matters, if the run says so."""
        return goal((self.record or {}).get("goal"))


def read(path: str, name: str, experiment: str) -> Reading | None:
    """The records of the run directory at `path`; None for what is no run. Raises RecordError."""
    record = run_of(path)
    hparams = record["hparams"] if record and "hparams" in record else of(path, layout.HPARAMS, None)
    if record is None and hparams is None and not _is_foreign(path):
        return None
    if record is not None and not _sound(record):
        where = os.path.join(path, layout.RUN)
        raise RecordError(f"{where}: not a record of ours; restore it or move it away")
    kept = None if record is None else {**{key: record.get(key) for key in _KEPT}, **_told_apart(record)}
    return Reading(name, path, experiment, kept, hparams, attempts(path))


def _is_foreign(path: str) -> bool:
    """Whether what has neither run.json nor hparams.json to read is a run all the same: it has metrics, or one of these
    as a link that leads nowhere. A run.json alone that is a file is one that a launch is writing: no run yet."""
    there = [os.path.basename(mark) for mark in marks(path) if os.path.lexists(mark)]
    return bool(there) and not (there == [layout.RUN] and os.path.isfile(os.path.join(path, layout.RUN)))


def run_of(path: str) -> dict[str, Any] | None:
    """run.json of the run directory at `path`; None when there is none, or a launch makes it at this moment. Raises
    RecordError."""
    try:
        return of(path, layout.RUN, layout.RUN_FORMAT)
    except RecordError:
        from farmx import whereabouts  # only where something is wrong

        return None if whereabouts.is_begun(path) else of(path, layout.RUN, layout.RUN_FORMAT)  # it is whole by now


def of(path: str, name: str, newest: int | None) -> dict[str, Any] | None:
    """The record `name` in the directory `path`, None when there is none. Raises RecordError."""
    try:
        return layout.read_json(os.path.join(path, name), newest)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _told_apart(record: Mapping[str, Any]) -> dict[str, Any]:
    """What beside its values tells a run from others: the command, '' where run.json does not say, swept resources."""
    told = record.get("identity")
    identity: dict[str, Any] = told if isinstance(told, dict) else {}
    words, swept = identity.get("command") or identity.get("template") or "", identity.get("swept")
    found = swept.items() if isinstance(swept, dict) else ()
    return {
        "command": " ".join(map(str, words)) if isinstance(words, list) else str(words),
        "swept": {name: _plain(value) for name, value in found if name != "TAG"},  # a tag is in the run's name
    }


def _plain(value: Any) -> Any:
    """A value out of its form in an identity, where numbers are text."""
    text = value.get("n") if isinstance(value, dict) else None
    try:
        return value if text is None else json.loads(text)
    except (TypeError, ValueError):
        return value


def goal(told: Any) -> Goal | None:
    """The goal that a record tells, None for what is none."""
    sound = isinstance(told, dict) and _fits(told, {str: ("metric", "mode")})
    return Goal(metric_name(told["metric"]), told["mode"]) if sound else None


def marks(path: str) -> Sequence[str]:
    """What makes a directory a run."""
    return [os.path.join(path, mark) for mark in layout.RUN_MARKS]


def attempts(path: str, known: Sequence[Attempt] = ()) -> tuple[Attempt, ...]:
    """The attempts of the run at `path`, oldest first. known: some of them as they were before: an end stands."""
    home = os.path.join(path, layout.ATTEMPTS)
    before = {attempt.number: attempt for attempt in known}
    numbers = layout.attempt_numbers(path)
    return tuple(_attempt(os.path.join(home, layout.attempt_name(*number)), number, before.get(number))
                 for number in numbers)  # fmt: skip


def _attempt(path: str, number: tuple[int, int], before: Attempt | None) -> Attempt:
    """Raises RecordError for a record whose times are none."""
    if before is not None and before.end is not None:
        return before
    if before is not None and not os.path.exists(os.path.join(path, layout.END)):
        return before  # an owner stays
    end = of(path, layout.END, layout.ATTEMPT_FORMAT)
    owner = of(path, layout.OWNER, layout.ATTEMPT_FORMAT) if end is None else end
    for record, name in ((owner, "started"), (end, "ended")):
        if record is not None and not _is_time(record.get(name)):
            raise RecordError(f"{path}: its record does not say when it {name}; restore it or move it away")
    if end is not None and not _is_end(end):
        raise RecordError(f"{os.path.join(path, layout.END)}: not a record of ours; restore it or move it away")
    return Attempt(path, number, owner, end)


def _is_end(record: Mapping[str, Any]) -> bool:
    said = {key: value for key, value in record.items() if value is not None}
    return _maybe(said, str, ("state", "note", "signal", "cause")) and _maybe(said, int, ("code",))


_KINDS = {
    str: ("run", "experiment", "point", "digest", "setup"),
    int: ("generation",),
    list: ("stages", "env_pass", "pythonpath"),
    dict: ("env", "code"),
}
_MAPPINGS = ("hparams", "resources", layout.RETRY, "container")  # each may be left out
_CODE = {str: ("staging", "source"), list: ("ignore", "include", "link"), int: ("max_files",)}


def _sound(record: Mapping[str, Any]) -> bool:
    """Whether a run.json says what everybody who reads it later takes for granted."""
    if not _fits(record, _KINDS) or not _fits(record["code"], _CODE) or not record["stages"]:
        return False
    if not _maybe(record, dict, _MAPPINGS) or not _maybe(record, str, ("script",)):
        return False
    if not isinstance(record["code"].get("max_mb", 0.0), (int, float)) or not _is_retry(record.get(layout.RETRY)):
        return False
    code, goal = record["code"], record.get("goal") or {"metric": "", "mode": ""}
    texts = [*record["env_pass"], *record["pythonpath"], *record["env"].values()]
    texts += [each for name in _CODE[list] for each in code[name]]
    told = record["stages"]
    if not all(isinstance(each, dict) and _fits(each, {str: ("name",), list: ("words",)}) for each in told):
        return False
    if not all(_maybe(each, dict, ("resources",)) for each in told):
        return False
    words = [word for each in told for word in (*each["words"], each.get("shell", ""))]
    goals = isinstance(goal, dict) and _fits(goal, {str: ("metric", "mode")})
    return goals and all(isinstance(text, str) for text in (*texts, *words))


def _is_retry(told: Any) -> bool:
    """Whether RETRY of a run.json says what policy reads."""
    if not told:
        return True
    from farmx import policy  # spares runs without

    try:
        policy.rules(told)
    except (Wrong, KeyError):
        return False
    return True


def _maybe(record: Mapping[str, Any], kind: type, names: Sequence[str]) -> bool:
    """Whether each of these is of that kind where it is said."""
    return all(isinstance(record[name], kind) for name in names if name in record)


def _fits(record: Mapping[str, Any], kinds: Mapping[type, Sequence[str]]) -> bool:
    return all(isinstance(record.get(name), kind) for kind, names in kinds.items() for name in names)


# ---------------------------------------------------------------- of submissions

_TEXTS = ("farm", "executor", "name", "user", layout.AFTER)
_PARTS = ("node", "resources", "pack", "cluster")


def job(submission: str) -> dict[str, Any]:
    """job.json of the submission directory, {} when there is none. Raises RecordError."""
    record = of(submission, layout.JOB, layout.JOB_FORMAT) or {}
    said = {key: value for key, value in record.items() if value is not None}
    sound = _maybe(said, str, _TEXTS) and _maybe(said, dict, _PARTS) and _is_time(said.get("submitted", 0.0))
    asked = said.get("ask", {}) if said.get("executor") == layout.COMMAND else {}
    if not sound or not _is_pack(said.get("pack")) or not _is_ask(asked):
        raise RecordError(f"{os.path.join(submission, layout.JOB)}: not a record of ours; restore it or move it away")
    return record


def _is_time(value: Any) -> bool:
    """Whether it is one that people can be told of."""
    return isinstance(value, (int, float)) and abs(value) < 1e11


def _is_pack(told: Any) -> bool:
    return told is None or all(type(told.get(key)) is int and told[key] > 0 for key in ("slots", "each"))


def _is_ask(told: Any) -> bool:
    """Whether it says, as far as it says anything, how a farm of commands is asked."""
    if not isinstance(told, dict) or not _maybe(told, str, ("line",)) or not _maybe(told, dict, ("words",)):
        return False
    commands = [told.get(key) or [] for key in ("status", "cancel")]
    return all(isinstance(each, list) and all(isinstance(word, str) for word in each) for each in commands)


# ---------------------------------------------------------------- of launches


def launches(experiment: str) -> Iterator[dict[str, Any]]:
    """The launch records, newest first; one that cannot be read is no record."""
    home = os.path.join(experiment, layout.FARMX, layout.LAUNCHES)
    for name in sorted(layout.names(home), reverse=True):
        try:
            record = layout.read_json(os.path.join(home, name), layout.LAUNCH_FORMAT)
        except (RecordError, FileNotFoundError):
            continue
        if all(isinstance(record.get(key) or {}, dict) for key in ("again", "shared")):
            yield record


def last_launch(experiment: str) -> dict[str, Any]:
    """The record of the newest launch that came as far as handing over, {} when there is none."""
    return next((record for record in launches(experiment) if isinstance(record.get("sweep"), str)), {})


# ---------------------------------------------------------------- remembered


class Handed(NamedTuple):
    """The newest that farms were handed for a run: the number of an attempt, and the id of the last submission."""

    number: int
    submission: str


NOTHING = Handed(0, "")


class Shelf:
    """What was read of the runs of one experiment, by name: a file in `cache`, a directory; None: nothing is kept."""

    def __init__(self, experiment: str, cache: str | None) -> None:
        self._experiment = experiment
        label = f"{os.path.basename(experiment)}-{zlib.crc32(os.fsencode(experiment)):08x}"
        self._path = os.path.join(cache, "runs", f"{label}.json") if cache else None
        self._listed = self._time(experiment, "st_mtime_ns")
        self._quiet = False  # whether no run came or went since all that is kept was looked at
        self._kept = self._load()
        self._made: dict[str, int] = {}
        self._fresh: dict[str, list[Any]] = {}
        self._touched: dict[str, int] = {}
        self._changed = False

    def _load(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        told = layout.read_or_none(self._path, _FORMAT) or {}
        ours = (told.get("format"), told.get("experiment")) == (_FORMAT, self._experiment)
        kept = told.get("runs") if ours else None
        self._quiet = told.get("listed") == self._listed and _past(self._listed / 1e9)
        return kept if isinstance(kept, dict) else {}

    def get(self, path: str, name: str, inode: int, handed: Handed) -> Reading | None:
        """What is remembered of this run, with what has happened since; None when it has to be read anew.

        handed: as it is now, NOTHING for none.  Raises RecordError.
        """
        row = self._kept.get(name)
        whole = isinstance(row, list) and len(row) == 7
        made = self._made[name] = row[6] if row and whole and self._quiet else self._time(path, "st_ctime_ns")
        if not row or not whole or [*row[:2], row[6]] != [inode, [*handed], made]:
            self._look(path, name)
            return None
        known = tuple(Attempt(os.path.join(path, layout.ATTEMPTS, layout.attempt_name(*number)), tuple(number), owner,
                              end) for number, owner, end in row[4])  # fmt: skip
        self._fresh[name] = row
        found = Reading(name, path, os.path.basename(self._experiment), row[2], row[3], known)
        settled, touched = row[5], self._look(path, name) if known and row[5] is not True else 0
        if settled is True or (settled and settled == touched):
            return found
        found = found._replace(attempts=attempts(path, known))
        if found.attempts != known or self._settled(found, handed) != settled:
            self.put(found, inode, handed)
        return found

    def _look(self, path: str, name: str) -> int:
        """When an attempt came last, by the clock of the disk, 0 for never: asked before they are read, so that none
        that comes then is overlooked later."""
        self._touched[name] = self._time(os.path.join(path, layout.ATTEMPTS), "st_mtime_ns")
        return self._touched[name]

    def _time(self, path: str, which: str) -> int:
        """When it was changed, 0 where that cannot be told, or is not kept."""
        try:
            return int(getattr(os.stat(path), which)) if self._path else 0
        except OSError:
            return 0

    def put(self, reading: Reading, inode: int, handed: Handed) -> None:
        """Remember it."""
        if self._path is None or reading.record is None:
            return
        told = [[attempt.number, attempt.owner if attempt.end is None else {"started": attempt.started}, attempt.end]
                for attempt in reading.attempts]  # fmt: skip
        row = [inode, handed, reading.record, reading.hparams, told, self._settled(reading, handed),
               self._made.get(reading.name, 0)]  # fmt: skip
        kept = self._kept.get(reading.name)
        if kept is None or json.dumps(kept) != json.dumps(row):  # of a first look there is nothing to compare
            self._changed = True
        self._fresh[reading.name] = row

    def _settled(self, reading: Reading, handed: Handed) -> bool | int:
        """True where a run changes only when a farm is handed a new attempt of it; where a scheduler may restart it by
        itself, the time at which its last attempt came, which is another then; False while anything may change."""
        last = reading.attempts[-1] if reading.attempts else None
        if last is None or last.end is None or last.number[0] < handed.number or not _past(float(last.ended or 0.0)):
            return False
        state, touched = last.end.get("state"), self._touched.get(reading.name, 0)
        if state == State.PREEMPTED:
            return False
        return state in _OVER or (touched if _past(touched / 1e9) else False)

    def save(self, there: Container[str]) -> None:
        """Keep it for the next look, and what was kept before of runs that are `there` and were not looked at now.

        What cannot be kept is read again then.
        """
        gone = [name for name in self._kept if name not in there]
        all_seen = not self._quiet and self._kept.keys() - gone <= self._fresh.keys() and _past(self._listed / 1e9)
        if self._path is None or not (self._changed or gone or all_seen):
            return
        listed = self._listed if self._quiet or all_seen else 0
        runs = {**{name: row for name, row in self._kept.items() if name in there}, **self._fresh}
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            layout.write_json(self._path, {"format": _FORMAT, "experiment": self._experiment, "listed": listed,
                                           "runs": runs})  # fmt: skip
        except (OSError, StageError):
            return


def _past(moment: float) -> bool:
    """Whether it is so long ago that nobody's clock or cache can have hidden what came right after it."""
    return time.time() - moment > SETTLED_S
