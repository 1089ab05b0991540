"""What a killed launch wrote down for Slurm and did not queue, from records alone: jobs that wait for others of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from farmx import layout, packs, processes, records
from farmx.farms.calls import here
from farmx.spec import Job, Submission

YOUNG_S = 3600.0  # a launch on another host, which nobody can look at from here, has queued all after that long


class Left(NamedTuple):
    """A submission that nobody recorded as queued. name: of its jobs.  before: of those that they wait for.  by: the
    launch that may be queuing it just now, '' where that has ended.  claim: the file by which another takes it over."""

    submission: Submission
    name: str
    before: str
    pack: packs.Pack
    by: str
    claim: str


def out(experiment: str, now: float) -> list[Left]:
    """The submissions of the experiment that wait for others and were not queued, those that others wait for first.

    One whose runs were queued again since is none: their later stages go with that.  now: in seconds since the epoch.
    """
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    paths = layout.submissions(home)
    found = [each for path in paths for each in _left(path, now)]
    newest: dict[str, int] = {}
    for path in paths if found else ():
        for run, (queued, _) in layout.runs_of(path):
            newest[run] = max(queued, newest.get(run, 0))
    return [each for each in found if all(_is_last(job, newest, found) for job in each.submission.jobs)]


def _left(path: str, now: float) -> Iterator[Left]:
    if os.path.exists(os.path.join(path, layout.QUEUED)) or not os.path.exists(os.path.join(path, layout.SCRIPT)):
        return
    told = records.job(path)
    after = str(told.get(layout.AFTER) or "")
    home, experiment = os.path.dirname(path), layout.experiment_of(path)
    before = records.job(os.path.join(home, after)) if after else None
    if not before or told.get("cluster") != here():
        return
    listed = layout.runs_of(path)
    jobs = tuple(Job(os.path.join(experiment, run), layout.attempt_name(*number)) for run, number in listed)
    made = Submission(os.path.basename(path), path, jobs, told.get("resources") or {}, after)
    if jobs:
        last, record = _last(path, told)
        claim = os.path.join(path, f"{layout.FINISH}{last + 1}")
        yield Left(made, str(told.get("name")), str(before.get("name")), packs.recorded(told), _by(record, now), claim)


def _last(path: str, record: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """(the number of the last claim, 0 for none; what says whose that is, which for none is job.json, `record`)."""
    numbers = [name.removeprefix(layout.FINISH) for name in layout.names(path) if name.startswith(layout.FINISH)]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    return last, (records.of(path, f"{layout.FINISH}{last}", layout.JOB_FORMAT) if last else record) or {}


def _by(record: Mapping[str, Any], now: float) -> str:
    """The process that wrote it down and may still be there to queue it, '' for none."""
    by = record.get("by")
    if not isinstance(by, Mapping):
        return ""
    alive = processes.alive(by)
    young = now - float(record.get("submitted") or 0.0) < YOUNG_S
    return f"process {by.get('pid')} of {by.get('host')}" if alive or (alive is None and young) else ""


@contextmanager
def mine(left: Sequence[Left], now: float) -> Iterator[list[Left]]:
    """Those that no launch at work queues: ours alone while this lasts, of however many that find them at once."""
    ours: list[Left] = []
    try:
        for each in left:
            told = {"format": layout.JOB_FORMAT, "by": processes.this(), "submitted": now}
            if not each.by and layout.make_json(each.claim, told):
                ours.append(each)
        yield [each for each in ours if not os.path.exists(os.path.join(each.submission.path, layout.QUEUED))]
    finally:
        for each in ours:
            with suppress(OSError):
                os.unlink(each.claim)


def theirs(left: Sequence[Left]) -> list[str]:
    """What is said of those that a launch at work queues, a line a launch."""
    counts: Counter[str] = Counter()
    for each in left:
        counts[each.by] += each.pack.jobs(len(each.submission.jobs))
    return [f"{_jobs(count)} left to a launch that is at work, {by}" for by, count in counts.items() if by]


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"


def _is_last(job: Job, newest: dict[str, int], found: list[Left]) -> bool:
    """Whether no later attempt of the run was handed over, but for those that were left out, too."""
    ours = [other.number for each in found for other in each.submission.jobs if other.run == job.run]
    return newest[os.path.basename(job.run)] <= max(int(number.partition(".")[0]) for number in ours)
