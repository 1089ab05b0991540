"""The seam between launching and a farm: what is handed over, what is told back; never how one farm does it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from farmx import layout, processes
from farmx.errors import StageError
from farmx.spec import Job, Run, Submission

if TYPE_CHECKING:  # spares those who only look at runs
    from farmx.runner import Outcome

SILENT_S = 300.0  # a heartbeat this old is no sign of life


class Watch(Protocol):
    """Told what happens while a farm of this machine works; the order is that of happening."""

    tick_s: float  # how long it can go without a tick

    def tick(self) -> None:
        """Time passed."""

    def started(self, job: Job, slot: str) -> None:
        """An attempt begins in a slot ('' for the foreground, else '0', 'gpu 1', ...)."""

    def ended(self, job: Job, slot: str, outcome: Outcome) -> None:
        """An attempt ended, or was found to be held by somebody else."""

    def stopping(self, running: int, now: bool) -> None:
        """Ctrl-C or a signal came: `running` programs have their grace; `now`: they are being killed."""


def next_job(run: Run) -> Job:
    """The attempt to queue for a run: the one after its last. Queuing one number twice starts it once."""
    return Job(run.path, layout.attempt_name(run.attempts[-1].number[0] + 1 if run.attempts else 1))


def submission(home: str, name: str, jobs: Iterable[Job]) -> Submission:
    """Write down what is about to be handed over, before the farm is called. Raises StageError."""
    made = Submission(name, os.path.join(home, name), tuple(jobs))
    lines = "".join(f"{job.number} {os.path.basename(job.run)}\n" for job in made.jobs)
    try:
        os.mkdir(made.path)
        with open(os.path.join(made.path, layout.RUNS), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(lines)
    except OSError as error:
        raise StageError(f"{made.path}: cannot be written: {error.strerror}; no run was queued") from error
    return made


def read_runs(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """(run, attempt number) of each index of the submission at `path`, in order."""
    try:
        with open(os.path.join(path, layout.RUNS), encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return
    for line in lines:
        name, _, run = line.partition(" ")
        if number := layout.attempt_number(name):
            yield run, number


def submission_alive(path: str, job: Mapping[str, Any]) -> bool:
    """Whether the farm still holds the submission at `path`; `job` is its record, {} when it has none.

    A pool on another host cannot be asked: it counts while it touches its record.
    """
    alive = processes.alive(job) if job and "ended" not in job else False
    return _age_s(os.path.join(path, layout.JOB)) < SILENT_S if alive is None else alive


def owner_alive(owner: Mapping[str, Any]) -> bool | None:
    """Whether the owner of an attempt still lives; None when it cannot be asked from here."""
    return processes.alive(owner)


def _age_s(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return SILENT_S
