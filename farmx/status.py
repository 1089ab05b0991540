"""Records and the farms' answers -> Runs; one pure function decides a run's state. Looking never changes a run."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout, processes, records, stages
from farmx.errors import RecordError, UsageError, nearest
from farmx.farms import base
from farmx.farms.base import Answer, Answers
from farmx.records import Handed, Reading, Shelf
from farmx.spec import Attempt, Held, Run, Standing, State

WAITS = "waits for its turn"
HELD = "held: "  # how the note of a run begins that the breaker of its submission keeps from beginning
SLOT = "waits for a slot"
UNLISTED = "not started, and the scheduler does not list it: probably cancelled"
LEFT = "its job left the queue and never began it"
GONE = "its job has not come back for a day; if it is gone: farmx retry --state unknown RUN"
BACK_S = 86400.0  # so long a job that is to be run again is taken to wait in a queue that cannot be asked
NEW = "not started"
LIVE = (State.RUNNING, State.QUEUED, State.PREEMPTED)
_OVER = (State.FAILED, State.LOST, State.INTERRUPTED)  # what a farm says of a job that ended by itself
_UNSURE = (State.LOST, State.UNKNOWN, State.INTERRUPTED, State.CANCELLED, State.FAILED)
# Of several answers about one attempt the first of these counts; None: not listed.
_LIFE = (State.RUNNING, State.QUEUED, State.UNKNOWN, State.DONE, State.CANCELLED, State.FAILED, State.PREEMPTED,
         State.PRUNED, State.INTERRUPTED, State.LOST, State.STAGED, None)  # fmt: skip


class Hold(NamedTuple):
    """The newest that farms were handed for a run: attempt `number` (queued by us).

    answer: what the farm says of it, None when it answered and does not list it.  queued: whether the farm ever said
    that it has it.  asked: whether somebody asked for the end of that attempt.  after: whether it begins only when the
    attempt before it has ended well.  packed: whether its job holds other runs, too.
    """

    number: int
    answer: Answer | None
    queued: bool = False
    asked: bool = False
    after: bool = False
    packed: bool = False


def decide(last: Attempt | None, hold: Hold | None, alive: bool | None, silent_s: float) -> tuple[State, str]:
    """The state of a run, and why, for people.

    last: its newest attempt.  alive: whether that attempt's owner is a living process, None when this host cannot say.
    silent_s: age of its heartbeat, which ends with it.
    The run's own end record comes first, then what the farm says, then that it is staged.
    """
    if hold is not None and _comes(hold, last) and (told := _waiting(hold)):
        return told
    if last is None:
        return State.STAGED, NEW
    same = hold if hold is not None and hold.number == last.number[0] else None
    if last.end is not None:
        between = last.end.get("state") == State.PREEMPTED
        return _between(same, silent_s) if between else _ended(last.end)
    host = last.owner.get("host", "?") if last.owner else "?"
    if alive and (same is None or same.answer is None or same.answer.state is not State.RUNNING):
        return State.RUNNING, f"on {host}"
    if same is not None and (told := _unended(same, host)):
        return told
    if alive is False and same is None:
        return State.INTERRUPTED, "its launcher or pool ended"
    if silent_s < base.SILENT_S:
        return State.RUNNING, f"on {host}, heard {silent_s:.0f} s ago"
    if same is not None and same.answer is None:
        return State.LOST, f"on {host}; its job is gone and recorded no end"
    why = same.answer.note if same and same.answer else "which cannot be asked from here"
    return State.UNKNOWN, f"on {host}, {why}; silent for {silent_s / 60:.0f} min"


def _comes(hold: Hold, last: Attempt | None) -> bool:
    """Whether the hold is for an attempt that is still to come."""
    if last is None:
        return True
    broken = hold.after and last.end is not None and last.end.get("state") not in (State.DONE, State.PREEMPTED)
    return hold.number > last.number[0] and not broken


def _waiting(hold: Hold) -> tuple[State, str] | None:
    """Before the attempt that a farm was handed has begun; None when it never had it."""
    if hold.answer is None:
        return (State.LOST, LEFT if hold.packed else UNLISTED) if hold.queued else None
    if hold.answer.state is State.RUNNING:
        return State.QUEUED, hold.answer.note or (SLOT if hold.packed else "its job has begun")
    if hold.answer.state is State.FAILED and hold.packed:
        return State.LOST, f"{hold.answer.note}; the run had not begun"
    return hold.answer.state, hold.answer.note or WAITS


def _between(hold: Hold | None, silent_s: float) -> tuple[State, str]:
    """After an attempt that was to be started again by its farm, which nobody may be able to ask."""
    if hold is None or hold.answer is None:
        return State.INTERRUPTED, "preempted, and its job is not queued again"
    if hold.answer.state is State.UNKNOWN and silent_s >= BACK_S:
        return State.UNKNOWN, f"{hold.answer.note}, and {GONE}"
    if hold.answer.state in (State.QUEUED, State.RUNNING, State.UNKNOWN):
        return State.PREEMPTED, hold.answer.note or "its job is queued again"
    if hold.answer.state is State.CANCELLED:
        return State.CANCELLED, hold.answer.note
    return State.INTERRUPTED, f"preempted, and its job is not queued again: {hold.answer.note}"


def _unended(hold: Hold, host: str) -> tuple[State, str] | None:
    """What the farm says of an attempt without an end; None when only the heartbeat can tell."""
    if hold.asked and (hold.answer is None or hold.answer.state in _OVER):
        return State.CANCELLED, "its job ended when it was asked to"
    if hold.answer is None:
        return None
    if hold.answer.state is State.UNKNOWN:
        return None
    if hold.answer.state is State.QUEUED:
        return State.PREEMPTED, hold.answer.note or "its job is queued again"
    if hold.answer.state is State.RUNNING:
        return State.RUNNING, ", ".join(filter(None, (f"on {host}", hold.answer.note)))
    return hold.answer.state, hold.answer.note


def _ended(end: Mapping[str, Any]) -> tuple[State, str]:
    try:
        return State(end.get("state")), str(end.get("note") or "")
    except ValueError:
        return State.UNKNOWN, f"its end record says {end.get('state')!r}"


# ---------------------------------------------------------------- reading


class Look(NamedTuple):
    """What one look at an experiment found. problems: one line for each directory that could not be read."""

    runs: tuple[Run, ...]
    problems: tuple[str, ...] = ()


def read(logroot: str, experiment: str, cache: str | None = None) -> Look:
    """The runs of an experiment, those that were handed to a farm first in that order, then by name, numbers in it
    counting as numbers.

    Raises UsageError when there is none such.

    cache: a directory (layout.cache_folder) that remembers runs that have ended; None reads every record.
    """
    path = os.path.join(logroot, experiment)
    if not experiment or not os.path.isdir(path):
        raise UsageError(f"no experiment named '{experiment}' in {logroot}" + nearest(experiment, experiments(logroot)))
    look = of(path, layout.names(path), cache)
    look = look if look.runs else _itself(path) or look
    if not look.runs and not look.problems and not is_experiment(path):
        raise UsageError(f"{path} holds no runs; name an experiment{nearest('', experiments(logroot))}")
    return look


def _itself(path: str) -> Look | None:
    """The directory as a run, where it is one: logx makes one of LOGROOT/default."""
    itself = any(map(os.path.lexists, records.marks(path)))
    return of(os.path.dirname(path), [os.path.basename(path)]) if itself else None


def aimed(path: str, runs: Iterable[Run]) -> tuple[Run, ...]:
    """The runs with the goal of the newest launch of the experiment directory `path`, where one says it."""
    shared = records.last_launch(path).get("shared") or {}
    found = tuple(runs)
    return tuple(run._replace(goal=records.goal(shared["GOAL"])) for run in found) if "GOAL" in shared else found


def every(logroot: str, cache: str | None = None) -> dict[str, Look]:
    """Every experiment by name, also one that holds no runs; one that cannot be read is a problem of its own."""
    paths = {name: os.path.join(logroot, name) for name in experiments(logroot)}
    told: dict[str, _Told] = {}
    unreadable: dict[str, Look] = {}
    for path in paths.values():
        try:
            told[path] = _told(path, layout.names(path), cache)
        except RecordError as error:
            unreadable[path] = Look((), (str(error),))
    looks = {**_looks(told, cache), **unreadable}
    return {name: looks[path] if looks[path].runs else _itself(path) or looks[path] for name, path in paths.items()}


def is_experiment(path: str) -> bool:
    """Whether a launch made the directory at `path`."""
    return os.path.isdir(os.path.join(path, layout.FARMX))


def of(path: str, names: Iterable[str], cache: str | None = None) -> Look:
    """The runs of these names in the experiment directory `path`, in the order of read(); what is no run is left out.

    Every farm that holds what has not ended is asked once. cache: remembers what has ended, and for a few seconds what
    farms said; None asks and reads it all.  Raises RecordError when what farms were handed cannot be read.
    """
    return several({path: names}, cache)[path]


def several(wanted: Mapping[str, Iterable[str]], cache: str | None = None) -> dict[str, Look]:
    """What of() tells, for several experiments: directory -> the names in it. Every farm is asked once for them all."""
    return _looks({path: _told(path, names, cache) for path, names in wanted.items()}, cache)


class _Handed(NamedTuple):
    """What farms were handed. open: run -> what may still be held for it.

    newest: run -> the newest attempt number that any farm, dead or alive, was ever handed for it, and by which
    submission last.  stopped: submission -> why it is held, of those that are.
    """

    open: dict[str, list[Held]]
    newest: dict[str, Handed]
    stopped: dict[str, str]


class _Told(NamedTuple):
    """What the records of an experiment tell: of each run, what farms may know more of."""

    runs: list[tuple[Reading, Sequence[Held]]]
    problems: list[str]
    handed: _Handed


def _told(path: str, names: Iterable[str], cache: str | None) -> _Told:
    handed = _handed(path)
    found, problems = _readings(path, names, handed.newest, cache)
    runs = [(read, _open(read, handed.open.get(read.name, ())) if read.record is not None else ()) for read in found]
    return _Told(runs, problems, handed)


def _looks(told: Mapping[str, _Told], cache: str | None) -> dict[str, Look]:
    runs = (each for one in told.values() for each in one.runs)
    answers = _ask([(held, len(read.attempts)) for read, helds in runs for held in helds], cache)
    return {path: _look(path, one, answers) for path, one in told.items()}


def _look(path: str, told: _Told, answers: Answers) -> Look:
    now = base.Clock(os.path.join(path, layout.FARMX))
    runs, problems = [], list(told.problems)
    for read, helds in told.runs:
        try:
            run = _run(read, helds, answers, now)
            runs.append(_noted(run, told.handed))
        except RecordError as error:
            problems.append(str(error))
    return Look(tuple(runs), tuple(problems))


def _readings(
    path: str, names: Iterable[str], handed: Mapping[str, Handed], cache: str | None
) -> tuple[list[Reading], list[str]]:
    """What the runs of these names say, in the order in which they were handed to a farm, and the problems met."""
    inodes = layout.inodes(path) if cache else {}
    shelf = Shelf(path, cache)
    found, problems = [], []
    places = {run: place for place, run in enumerate(handed)}

    def order(name: str) -> tuple[int, list[str | int]]:
        place = places.get(os.path.basename(name))
        return (len(places), layout.numbered(name)) if place is None else (place, [])

    for name in sorted(names, key=order):
        last = os.path.basename(name)
        if last.startswith("."):
            continue
        newest = handed.get(last, records.NOTHING)
        try:
            read = shelf.get(os.path.join(path, name), name, inodes.get(name, 0), newest)
            if read is None and (read := records.read(os.path.join(path, name), last, os.path.basename(path))):
                shelf.put(read, inodes.get(name, 0), newest)
        except RecordError as error:
            problems.append(str(error))
            continue
        found += [read] if read else []
    shelf.save(inodes)
    return found, problems


def experiments(logroot: str) -> list[str]:
    """The experiments in `logroot`, by name."""
    names = sorted(name for name in layout.names(logroot) if not name.startswith("."))
    return [name for name in names if os.path.isdir(os.path.join(logroot, name))]


def _run(read: Reading, helds: Sequence[Held], answers: Answers, now: base.Clock) -> Run:
    record, attempts = read.record, read.attempts
    if record is None:  # runx, or logx outside a launch: nobody tells how it ended
        return Run(read.name, read.path, read.experiment, State.UNKNOWN, read.hparams or {}, attempts,
                   note="not launched by farmx")  # fmt: skip
    coming = [held for held in helds if layout.AFTER not in held.record or stages.named(record, str(held.number))]
    state, note = _decide(attempts, coming, answers, now)
    if helds and state in _UNSURE or (attempts and attempts[-1].end is None and state not in LIVE):
        attempts = records.attempts(read.path)  # it may have ended since its end was looked for
        state, note = _decide(attempts, coming, answers, now)
    standing = _standing(read.path, record["stages"], attempts if state not in LIVE else ())
    if state is State.DONE and not (attempts and (attempts[-1].end or {}).get("state") == State.DONE):
        standing = tuple(stage._replace(done=True) for stage in standing)  # its farm says so, its records are elsewhere
    if state is State.DONE and not all(stage.done for stage in standing):
        state, note = State.STAGED, _to_come(standing)
    return Run(read.name, read.path, read.experiment, state, read.hparams or {}, attempts, record["point"],
               record["digest"], read.goal, note, record["generation"], tuple(helds), standing,
               record["swept"], record["command"])  # fmt: skip


def _noted(run: Run, handed: _Handed) -> Run:
    """The run; where a breaker keeps its next attempt from beginning, its note says so."""
    newest = handed.newest.get(run.name, records.NOTHING).submission
    why = handed.stopped.get(os.path.basename(base.first(run.held).submission) if run.held else newest, "")
    kept = run.state is State.LOST and _waited(run)  # by its job, which has ended
    kept = kept or (run.state is State.INTERRUPTED and (run.attempts[-1].end or {}).get("cause") == "error")  # RETRY's
    if why and (kept or run.state in (State.QUEUED, State.STAGED, State.PREEMPTED)):
        return run._replace(state=State.STAGED if kept else run.state, note=f"{HELD}{why}")
    return run


def _waited(run: Run) -> bool:
    """Whether a job for its next attempt ends, once a breaker holds the run, without beginning it: one that looks for
    that itself, or one that several runs share."""
    return any(_fenced(held) or _shares(held) for held in base.ahead(run))


def is_held(run: Run) -> bool:
    """Whether the breaker of its submission keeps the run from beginning."""
    return run.note.startswith(HELD)


def _standing(path: str, told: Sequence[Mapping[str, Any]], attempts: Sequence[Attempt]) -> tuple[Standing, ...]:
    """Each stage and whether it is done; told: of run.json.  attempts: none where nothing is."""
    done = stages.standing(path, told, attempts[-1].end) if attempts else [False] * len(told)
    return tuple(Standing(stage["name"], stage.get("form", ""), each) for stage, each in zip(told, done))


def _to_come(standing: Sequence[Standing]) -> str:
    done = ", ".join(stage.name for stage in standing if stage.done)
    return f"{done} done; {', '.join(stage.name for stage in standing if not stage.done)} to come"


def _decide(
    attempts: Sequence[Attempt], helds: Sequence[Held], answers: Answers, now: base.Clock
) -> tuple[State, str]:
    last = attempts[-1] if attempts else None
    alive = processes.alive(last.owner) if last and last.owner and not last.end else None
    hold = _hold(helds, answers, last)
    unheard = last is not None and (last.end.get("state") == State.PREEMPTED if last.end else not alive)
    silent_s = now.since(os.path.join(last.path, layout.HEARTBEAT)) if last and unheard else 0.0
    return decide(last, hold, alive, base.SILENT_S if silent_s is None else silent_s)


# ---------------------------------------------------------------- what farms hold


def _stopped(submission: str) -> tuple[str, Collection[int]]:
    """Why the breaker of a submission keeps what waits in it from beginning, '' when it does not; the indices whose
    jobs have ended since it did."""
    if not os.path.exists(os.path.join(submission, layout.BREAKER)):
        return "", ()
    from farmx import breaker  # spares who looks at runs that no breaker holds

    return breaker.held(submission), breaker.marked(submission)


def _handed(experiment: str) -> _Handed:
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    found = _Handed({}, {}, {})
    for path in layout.submissions(home):
        record = records.job(path)
        dead = layout.executor_of(record) == layout.LOCAL and not base.submission_alive(path, record)
        why, over = _stopped(path)
        found.stopped[os.path.basename(path)] = why
        for run, held in base.held(path, record):
            number = max(held.number, found.newest[run].number if run in found.newest else 0)
            found.newest[run] = Handed(number, os.path.basename(path))
            if not dead and held.place not in over:  # else nothing of it waits any more
                found.open.setdefault(run, []).append(held)
    return found


def _open(read: Reading, helds: Sequence[Held]) -> Sequence[Held]:
    """Those of which a farm may know more than the run's records."""
    last = read.attempts[-1] if read.attempts else None
    if last is None:
        return helds
    ended = last.end is not None and last.end.get("state") != State.PREEMPTED
    first = last.number[0] + ended  # an attempt after it may be waiting for it: a later stage's job
    return [held for held in helds if held.number >= first]


def _ask(helds: Sequence[tuple[Held, int]], cache: str | None) -> Answers:
    """What the farms say of each, of which so many attempts have begun."""
    answers: dict[tuple[str, int], Answer] = {}
    elsewhere: list[tuple[Held, int]] = []
    for held, begun in helds:
        if layout.executor_of(held.record) == layout.LOCAL:
            answers[held.submission, held.place] = Answer(State.QUEUED, WAITS)
        else:
            elsewhere.append((held, begun))
    if not elsewhere:
        return answers
    from farmx import polls  # spares who looks at runs that have ended

    return {**answers, **polls.of(elsewhere, cache)}


def _fenced(held: Held) -> bool:
    """Whether it is its job that looks whether a breaker holds it."""
    node = held.record.get("node")
    return isinstance(node, dict) and node.get("fence") is True


def _shares(held: Held) -> bool:
    """Whether it waits for a slot in a job of several runs."""
    if not held.record.get("pack"):
        return False
    from farmx import packs  # spares who looks at runs that have jobs of their own

    return packs.recorded(held.record) != packs.ALONE


def _hold(helds: Sequence[Held], answers: Answers, last: Attempt | None) -> Hold | None:
    """The hold that counts. Of several for one number (an attempt may be queued twice) that is the one whose job began
    the attempt; before that the one that has most life."""
    if not helds:
        return None
    number = base.counting(helds)
    helds = [held for held in helds if held.number == number]
    if last is not None and last.owner and last.number[0] == number:
        began = [held for held in helds if os.path.basename(held.submission) == last.owner.get("submission")]
        helds = began or helds
    told = [answers.get((held.submission, held.place)) for held in helds]
    best = min(told, key=lambda answer: _LIFE.index(answer.state if answer else None))
    queued = any(held.name is not None for held in helds)
    over = best is None or best.state in _OVER
    asked = over and last is not None and os.path.exists(os.path.join(last.path, layout.CANCEL))
    after = any(held.record.get(layout.AFTER) for held in helds)
    return Hold(number, best, queued, asked, after, any(_shares(held) for held in helds))
