"""The seam between launching and a farm: what is handed over, what is told back; never how one farm does it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from farmx import layout, processes
from farmx.errors import FarmError, StageError
from farmx.spec import Held, Job, Run, State, Submission

if TYPE_CHECKING:  # spares those who only look at runs
    from farmx.runner import Outcome

SILENT_S = 300.0  # a heartbeat this old is no sign of life
MUTE = "failed before it could say why"  # a job that left no record, as notes of farms say it
NAMELESS = "?"  # the name of a job whose farm did not say what it calls it


class Watch(Protocol):
    """Told what happens while a farm of this machine works; the order is that of happening."""

    tick_s: float  # how long it can go without a tick

    def tick(self) -> None:
        """Time passed."""

    def started(self, job: Job, slot: str) -> None:
        """An attempt begins in a slot ('' for the foreground, else '0', 'gpu 1', ...)."""

    def waiting(self, job: Job, slot: str, why: str) -> None:
        """A slot has its next job, and waits for GPUs that others use, or for a process of its own."""

    def ended(self, job: Job, slot: str, outcome: Outcome) -> None:
        """An attempt ended, or was found to be held by somebody else."""

    def held(self, waiting: int, why: str) -> None:
        """The first runs failed alike: those that wait are not begun."""

    def stopping(self, running: int, now: bool) -> None:
        """Ctrl-C or a signal came: `running` programs have their grace; `now`: they are being killed."""


# ---------------------------------------------------------------- what a farm is


class Batch(NamedTuple):
    """Jobs that one submission may hold: all of them want `resources`."""

    jobs: tuple[Job, ...]
    resources: Mapping[str, Any]


class Given(NamedTuple):
    """What the configuration says of a farm that another package brings.

    name: of its section.  executor: what EXECUTOR says, the entry point's name.  resources, options: RESOURCES and
    OPTIONS, as the yaml has them: what they mean, and what is wrong with them, is the farm's to say.  pack,
    max_requeues, requeue_code: the settings, for `record`, `jobs` and `node`.  origins: where each setting is from,
    OPTIONS.url or RESOURCES.gpu likewise, for messages, which begin with errors.where().  tell: takes a line for people
    who wait.
    """

    name: str
    executor: str
    resources: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    pack: Mapping[str, Any] = {}
    max_requeues: int = 3
    requeue_code: int | None = None
    origins: Mapping[str, str] = {}
    tell: Callable[[str], None] = lambda line: None


class Refused(FarmError):
    """A farm did not end some of the jobs that it was to end. helds: these."""

    def __init__(self, why: str, helds: Sequence[Held]) -> None:
        super().__init__(why)
        self.helds = tuple(helds)


class Can(NamedTuple):
    """What a kind of farm can besides running jobs. chains: have a job wait for the end of another, so that its submit
    heeds Submission.after.  sentinels: its Farm has `watch`.  pyxis: start commands in containers of that.  warns: its
    leaf has `warn(record, job)` and `hurry(record, job)`, by job.json and the job's id: tell a job that its time is up,
    which has itself queued again, and let it begin soon then."""

    chains: bool = False
    sentinels: bool = False
    pyxis: bool = False
    warns: bool = False


class Farm(Protocol):
    """A place to run, as a launch sees it. `executor` names its leaf; the leaf's `poll` and `cancel` need records only.

    Queuing an attempt twice is harmless, since the runner takes it once; so whatever dies is repeated. A farm may have
    more, which is looked for: `told()`, what a launch says of it; `finish(experiment)` and `watch(experiment)`, which
    queue what a killed launch left out, and what looks after the runs.
    """

    @property
    def executor(self) -> str:
        """Which leaf it is."""

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Raises FarmxError when jobs with these resources would be refused; nothing is made yet."""

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        """The jobs with the resources each wants, in as many submissions as this farm needs, in order."""

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """Write job.json of every submission (`record`), one at least, then queue its `jobs`, each recorded
        (`record_queued`) as soon as it is queued. heard: so many more runs of a submission are queued and recorded.

        Raises FarmError at the first that the farm refuses: what was heard of is queued and recorded, the rest staged.
        """


class Answer(NamedTuple):
    """What a farm says of one index of a submission: queued, running, how it ended, or unknown; note: why."""

    state: State
    note: str = ""


Answers = Mapping[tuple[str, int], Answer]  # by submission path and index; what a farm does not list is not in it


# ---------------------------------------------------------------- submissions


def submission(home: str, name: str, jobs: Iterable[Job], resources: Mapping[str, Any] | None = None) -> Submission:
    """Write down what is about to be handed over, before the farm is called. Raises StageError."""
    made = Submission(name, os.path.join(home, name), tuple(jobs), resources or {})
    try:
        os.mkdir(made.path)
        with open(os.path.join(made.path, layout.RUNS), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(_lines(made.jobs))
    except OSError as error:
        raise StageError(f"{made.path}: cannot be written: {error.strerror}; no run was queued") from error
    return made


class _Owner(Protocol):
    """Who hands a submission over: a Farm of ours, or what another's was given."""

    @property
    def name(self) -> str: ...
    @property
    def executor(self) -> str: ...
    @property
    def pack(self) -> Mapping[str, Any]: ...


def record(made: Submission, owner: _Owner, node: Mapping[str, Any], **own: Any) -> None:
    """Write job.json of a submission, before the farm is called. Raises StageError.

    node: what its jobs need to know, see `node`.  own: what `poll` and `cancel` will want, which have this alone: an
    address, a cluster; no secrets.
    """
    from farmx import packs  # spares who only looks

    layout.write_json(os.path.join(made.path, layout.JOB), {
        "format": layout.JOB_FORMAT,
        "farm": owner.name,
        "executor": owner.executor,
        "submitted": time.time(),
        "resources": dict(made.resources),
        **packs.record(packs.of(owner.pack, made.resources)),
        **({layout.AFTER: made.after} if made.after else {}),
        "node": dict(node),
        **own,
    })  # fmt: skip


def node(max_requeues: int, code: int | None, **more: Any) -> dict[str, Any]:
    """What the jobs of a scheduler need to know that runs one again by its exit code, None for one that does not.

    more: what else farmx.node reads, as `job`, the variable that holds a job's id.
    """
    return {"look_s": processes.LOOK_S, "fence": True, "code": code, "max_requeues": max_requeues, **more}


def jobs(made: Submission, pack: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    """(index, first, last) of each job of a submission: which runs it holds, by their places. pack: the setting."""
    from farmx import packs  # spares who only looks

    told = packs.of(pack, made.resources)
    for index in range(told.jobs(len(made.jobs))):
        places = told.places(index)
        yield index, places.start, min(places.stop, len(made.jobs)) - 1


def shorten(made: Submission, count: int) -> None:
    """Take back all but the first jobs of a submission: the farm refused them. Raises StageError.

    They are kept in REFUSED, so that a retry knows which farm they were meant for.
    """
    path = os.path.join(made.path, layout.REFUSED)
    refused = "\n".join(layout.read_lines(path)) + _lines(made.jobs[count:])
    layout.write(path, refused)
    layout.write(os.path.join(made.path, layout.RUNS), _lines(made.jobs[:count]))


def _lines(jobs: Iterable[Job]) -> str:
    return "".join(f"{job.number} {os.path.basename(job.run)}\n" for job in jobs)


def submissions(home: str, name: str, batches: Sequence[Batch]) -> list[Submission]:
    """Write down each batch as a submission: `name`, `name`-2, ..."""
    names = (layout.submission_name(name, place) for place in range(1, len(batches) + 1))
    return [submission(home, each, batch.jobs, batch.resources) for each, batch in zip(names, batches)]


def record_queued(path: str, first: int, last: int, name: str) -> None:
    """Append that the farm calls the indices `first` to `last` of the submission `name`. Raises StageError."""
    try:
        with open(os.path.join(path, layout.QUEUED), "a", encoding="utf-8") as file:
            file.write(f"{first}-{last} {name}\n")
    except OSError as error:
        raise StageError(f"{path}: {name} was queued, which cannot be recorded: {error.strerror}") from error


def queued(path: str) -> dict[int, str]:
    """index -> what the farm calls it, of all that was recorded as queued; a torn line is none."""
    names: dict[int, str] = {}
    for line in layout.read_lines(os.path.join(path, layout.QUEUED))[:-1]:
        indices, _, name = line.partition(" ")
        first, _, last = indices.partition("-")
        if first.isdecimal() and last.isdecimal() and name:
            names.update(dict.fromkeys(range(int(first), int(last) + 1), name))
    return names


def held(path: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Held]]:
    """(run, what is held for it) of each index of the submission at `path`, in order; record: its job.json."""
    names = queued(path)
    for place, (run, (number, _)) in enumerate(layout.runs_of(path)):
        yield run, Held(path, place, number, record, names.get(place))


def counting(helds: Sequence[Held]) -> int:
    """The number of the attempt that is to begin next, of what farms hold for a run, one at least.

    Of several that wait for no other job that is the last: it was queued in place of a lost one. Of those that wait it
    is the first. Once that attempt is taken, none of a lower number begins, and none that waits for it.
    """
    alone = [held.number for held in helds if not held.record.get(layout.AFTER)]
    return max(alone) if alone else min(held.number for held in helds)


def first(helds: Sequence[Held]) -> Held:
    """The one of counting()'s number, of several the one that was queued last."""
    number = counting(helds)
    return [held for held in helds if held.number == number][-1]


def job_of(run: Run) -> str:
    """What the farm's own commands call the job that comes or goes on next, '' where that is not known; of an attempt
    that was queued twice, which only the one that began can tell, as its node calls it."""
    held = first(run.held) if run.held else None
    if held is None or held.name in (None, NAMELESS):
        return ""
    last = run.attempts[-1] if run.attempts else None
    twice = [each.number for each in run.held].count(held.number) > 1
    if twice and last and not last.end and last.number[0] == held.number and (job := (last.owner or {}).get("job")):
        return str(job)
    if not (held.record.get("node") or {}).get("task"):
        return str(held.name)
    from farmx import packs  # spares who looks at no arrays

    return f"{held.name}_{packs.recorded(held.record).job(held.place)}"


def ahead(run: Run) -> list[Held]:
    """What farms hold for attempts of the run that are still to come."""
    last = run.attempts[-1].number[0] if run.attempts else 0
    return [held for held in run.held if held.number > last]


def alike(
    jobs: Iterable[tuple[Job, Mapping[str, Any]]], most: Callable[[Mapping[str, Any]], int] | None = None
) -> list[Batch]:
    """Jobs of equal resources together, in order of each one's first.

    most: how many with these resources a batch may hold.
    """
    groups: dict[str, tuple[Mapping[str, Any], list[Job]]] = {}
    last: Mapping[str, Any] | None = None
    key = ""
    for job, resources in jobs:
        if resources is not last:  # mostly all have the very same
            last, key = resources, repr(sorted(resources.items(), key=str))
        groups.setdefault(key, (resources, []))[1].append(job)
    sizes = {key: most(resources) if most else len(group) for key, (resources, group) in groups.items()}
    return [
        Batch(tuple(group[start : start + sizes[key]]), resources)
        for key, (resources, group) in groups.items()
        for start in range(0, len(group), sizes[key])
    ]


# ---------------------------------------------------------------- this machine's own, here since looking needs no pool


def submission_alive(path: str, job: Mapping[str, Any]) -> bool:
    """Whether the pool that holds the submission at `path` lives; `job` is its record, {} when it has none.

    A pool on another host cannot be asked: it counts while it touches its record.
    """
    alive = processes.alive(job) if job and "ended" not in job else False
    return _age_s(os.path.join(path, layout.JOB)) < SILENT_S if alive is None else alive


def silent(path: str) -> bool:
    """Whether nobody has touched the file for so long that this is no sign of life."""
    return _age_s(path) >= SILENT_S


class Clock:
    """What time it is by the clock of the file system that holds `folder`: the one that touches what lies on it, which
    may be another than ours; ours where that cannot be told."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._now: float | None = None

    def since(self, path: str) -> float | None:
        """How long ago `path` was touched, in seconds; None when it is not there."""
        try:
            touched = os.stat(path).st_mtime
        except OSError:
            return None
        if self._now is None:
            self._now = layout.now_at(self._folder)
        return max(0.0, self._now - touched)


def _age_s(path: str) -> float:
    age_s = Clock(os.path.dirname(path)).since(path)
    return SILENT_S if age_s is None else age_s
