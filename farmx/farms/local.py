"""This machine: runs in the foreground, one at a time, or in a pool, one a slot; never decides what to run."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from farmx import breaker, layout, processes, runner
from farmx.errors import FarmError, FarmxError
from farmx.farms import shares
from farmx.farms.base import Watch
from farmx.farms.gpus import Slot
from farmx.farms.worker import BEGINS, LEFT, WAITS, Handed, Worker, execute
from farmx.processes import Console, Inbox
from farmx.runner import Outcome
from farmx.spec import Attempt, Job, Submission

NAME = "local"
_NO_GPUS = shares.Grip("", {})


def announce(submission: Submission, farm: str = NAME) -> dict[str, Any]:
    """Record that this process is the farm that holds `submission`, as long as it lives; return what it says."""
    job = {"format": layout.JOB_FORMAT, "farm": farm, "executor": NAME, "submitted": time.time(), **processes.this()}
    layout.write_json(os.path.join(submission.path, layout.JOB), job)
    return job


def finish(submission: Submission, job: Mapping[str, Any]) -> None:
    """Record that this process is done with `submission`, though it may live on: nothing in it waits any more."""
    with suppress(FarmxError):
        layout.write_json(os.path.join(submission.path, layout.JOB), {**job, "ended": time.time()})


# ---------------------------------------------------------------- foreground


def foreground(
    submission: Submission, watch: Watch, inbox: Inbox, console: Callable[[], Console]
) -> list[Outcome]:
    """Run each job here, one after another, its output live; return their outcomes, in order, to the first stop."""
    handed, outcomes = Handed(submission.id, submission.path, NAME), list[Outcome]()
    for job in submission.jobs:
        if inbox.stops:
            break
        watch.started(job, "")
        outcomes.append(execute(*job, handed, inbox, console(), _NO_GPUS))
        watch.ended(job, "", outcomes[-1])
        if _breaks(job, submission, outcomes[-1], len(submission.jobs) - len(outcomes), watch):
            break
    return outcomes


def _breaks(job: Job, submission: Submission, outcome: Outcome, waiting: int, watch: Watch) -> bool:
    """Whether this failure is one that holds what waits, here or in what the launch left to us beside; says so."""
    counts = outcome.state == "failed" and (waiting or layout.launched_with(submission.path)[-1] != submission.path)
    why = breaker.after(submission.path, job.run) if counts else None
    if why is not None and waiting:
        watch.held(waiting, why)
    return why is not None


# ---------------------------------------------------------------- pool


def pool(
    submission: Submission, places: Sequence[Slot], watch: Watch, inbox: Inbox, farm: str = NAME
) -> list[Outcome]:
    """Run the jobs, each in the first slot that is free; return their outcomes as they came, to the first stop."""
    handed = Handed(submission.id, submission.path, farm)
    queue = list(submission.jobs)
    outcomes: list[Outcome] = []
    workers: list[Worker] = []
    ended = False
    try:
        for slot in places[: len(submission.jobs)]:
            workers.append(Worker(slot, handed))
        busy = [worker for worker in workers if _next(worker, queue, inbox)]
        told, beaten = 0, -processes.BEAT_S
        while busy:
            told = _pass_on(busy, inbox, watch, told)
            if time.monotonic() - beaten > processes.BEAT_S / 2:
                handed.beat()
                beaten = time.monotonic()
            watch.tick()
            ready = inbox.wait([worker.answers for worker in busy], watch.tick_s)
            for worker in [each for each in busy if each.answers in ready]:
                heard = _hear(worker, watch)
                if heard is None:
                    continue
                outcomes += heard
                if worker.job and any(_breaks(worker.job, submission, each, len(queue), watch) for each in heard):
                    queue.clear()
                busy.remove(worker)
                fresh = worker if heard != [_KILLED] else _replace(worker, workers, handed)
                if _next(fresh, queue, inbox):
                    busy.append(fresh)
        ended = True
    finally:
        for worker in workers:
            if not ended:  # whatever it was, nobody would pass on what stops them any more
                os.kill(worker.pid, signal.SIGTERM)
        for worker in workers:
            worker.close()
    return outcomes


def _next(worker: Worker, queue: list[Job], inbox: Inbox) -> bool:
    """Give the idle worker its next job; False when there is none or no more are to start."""
    if inbox.stops or not queue:
        return False
    worker.start(queue.pop(0))
    return True


_KILLED = Outcome("interrupted", note="its worker was killed")


def _hear(worker: Worker, watch: Watch) -> list[Outcome] | None:
    """Pass on what a worker says; how its job ended, [] when it never began, None while it goes on."""
    assert worker.job is not None
    said = worker.hear()
    outcome = _KILLED if said is None else None
    for kind, *words in said or ():
        if kind == WAITS:
            watch.waiting(worker.job, worker.place, *words)
        elif kind == BEGINS:
            worker.place = words[0]
            watch.started(worker.job, worker.place)
        elif kind == LEFT:
            return []
        else:
            outcome = Outcome(*words)
    if outcome is None:
        return None
    watch.ended(worker.job, worker.place, outcome)
    return [outcome]


def _replace(worker: Worker, workers: list[Worker], handed: Handed) -> Worker:
    """A new worker in the slot of one that was killed."""
    assert worker.job is not None
    worker.close()
    runner.clear(worker.job.run)
    workers.remove(worker)
    workers.append(Worker(worker.slot, handed))
    return workers[-1]


def _pass_on(busy: Sequence[Worker], inbox: Inbox, watch: Watch, told: int) -> int:
    """Pass new stop signals to the workers: the first asks, the second kills. Returns how many were passed on."""
    heard = len(inbox.stops)  # another may come while these are passed on
    for count in range(told + 1, heard + 1):
        for worker in busy:
            for number in processes.STOPS if count > 1 else (signal.SIGTERM,):  # one signal that waits twice is one
                os.kill(worker.pid, number)
        watch.stopping(len(busy), now=count > 1)
    return heard


# ---------------------------------------------------------------- cancel


def cancel(attempt: Attempt) -> None:
    """Ask the runner of an attempt to end its program as cancelled. Raises FarmError when it cannot.

    The request stands in the attempt's directory, where the runner looks from time to time: the process that is
    signalled may be at another one by then, and may be none of ours, or of this machine.
    """
    request(attempt)
    owner = attempt.owner or {}
    with suppress(PermissionError, ProcessLookupError):
        if processes.alive(owner):
            os.kill(owner["pid"], processes.CANCEL)


def request(attempt: Attempt) -> None:
    """Write down that the attempt is to end as cancelled, whoever stops it then. Raises FarmError."""
    try:
        with open(os.path.join(attempt.path, layout.CANCEL), "w", encoding="utf-8"):
            return
    except OSError as error:
        raise FarmError(f"{error.filename}: {error.strerror}") from error
