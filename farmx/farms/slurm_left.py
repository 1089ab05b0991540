"""What a killed launch wrote down for Slurm and did not queue, from records alone: jobs that wait for others of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from farmx import layout, packs, records
from farmx.farms.calls import here
from farmx.spec import Job, Submission


class Left(NamedTuple):
    """A submission that nobody recorded as queued. name: of its jobs.  before: of those that they wait for."""

    submission: Submission
    name: str
    before: str
    pack: packs.Pack


def out(experiment: str) -> list[Left]:
    """The submissions of the experiment that wait for others and were not queued, those that others wait for first.

    One whose runs were queued again since is none: their later stages go with that.
    """
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    paths = layout.submissions(home)
    found = [each for path in paths for each in _left(path)]
    newest: dict[str, int] = {}
    for path in paths if found else ():
        for run, (queued, _) in layout.runs_of(path):
            newest[run] = max(queued, newest.get(run, 0))
    return [each for each in found if all(_is_last(job, newest, found) for job in each.submission.jobs)]


def _left(path: str) -> Iterator[Left]:
    if os.path.exists(os.path.join(path, layout.QUEUED)) or not os.path.exists(os.path.join(path, layout.SCRIPT)):
        return
    record = records.of(path, layout.JOB, layout.JOB_FORMAT) or {}
    after = str(record.get("after") or "")
    home, experiment = os.path.dirname(path), layout.experiment_of(path)
    before = records.of(os.path.join(home, after), layout.JOB, layout.JOB_FORMAT) if after else None
    if not before or record.get("cluster") != here():
        return
    listed = layout.runs_of(path)
    jobs = tuple(Job(os.path.join(experiment, run), layout.attempt_name(*number)) for run, number in listed)
    made = Submission(os.path.basename(path), path, jobs, record.get("resources") or {}, after)
    if jobs:
        yield Left(made, str(record.get("name")), str(before.get("name")), packs.recorded(record))


def _is_last(job: Job, newest: dict[str, int], found: list[Left]) -> bool:
    """Whether the run was handed over with no later number but by what was left out, too."""
    ours = [other.number for each in found for other in each.submission.jobs if other.run == job.run]
    return newest[os.path.basename(job.run)] <= max(int(number.partition(".")[0]) for number in ours)
