"""This machine: runs in the foreground, one at a time, or in a pool, one a slot; never decides what to run."""

import json
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from farmx import breaker, layout, notices, processes, runner
from farmx.errors import FarmError, FarmxError, StageError
from farmx.farms import shares
from farmx.farms.base import Watch
from farmx.farms.gpus import Slot
from farmx.processes import Console, Inbox
from farmx.runner import Outcome
from farmx.spec import Attempt, Job, Submission

NAME = "local"


def announce(submission: Submission, farm: str = NAME) -> dict[str, Any]:
    """Record that this process is the farm that holds `submission`, as long as it lives; return what it says."""
    job = {"format": layout.JOB_FORMAT, "farm": farm, "executor": NAME, "submitted": time.time(), **processes.this()}
    layout.write_json(os.path.join(submission.path, layout.JOB), job)
    return job


def beat(submission: Submission) -> None:
    """Say that this process still holds `submission`; other hosts have no other way to know."""
    try:
        os.utime(os.path.join(submission.path, layout.JOB))
    except OSError:
        return


def finish(submission: Submission, job: Mapping[str, Any]) -> None:
    """Record that this process is done with `submission`, though it may live on: nothing in it waits any more."""
    with suppress(FarmxError):
        layout.write_json(os.path.join(submission.path, layout.JOB), {**job, "ended": time.time()})


class Handed(NamedTuple):
    """A submission and the farm, by name, that this process is for it."""

    submission: Submission
    farm: str = NAME

    def facts(self) -> dict[str, Any]:
        """What every attempt's owner record says of where it came from."""
        return {"farm": self.farm, "submission": self.submission.id}


# ---------------------------------------------------------------- foreground


def foreground(
    submission: Submission, watch: Watch, inbox: Inbox, console: Callable[[], Console]
) -> list[Outcome]:
    """Run each job here, one after another, its output live; return their outcomes, in order, to the first stop."""
    outcomes: list[Outcome] = []
    for job in submission.jobs:
        if inbox.stops:
            break
        watch.started(job, "")
        outcomes.append(_execute(job, Handed(submission), inbox, console(), shares.Grip("", {})))
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


def _execute(job: Job, handed: Handed, inbox: Inbox, console: Console | None, grip: shares.Grip) -> Outcome:
    def pulse() -> None:
        beat(handed.submission)
        grip.touch()

    try:
        outcome = runner.execute(job.run, job.number, handed.facts(), inbox, console, grip.env, pulse=pulse)
        notices.note(handed.submission.path, job.run, job.number, outcome.state)
        return outcome
    except StageError as error:
        return Outcome("interrupted", note=str(error))
    except FileNotFoundError:
        return Outcome("interrupted", note="its directory was moved or deleted while it waited")
    except OSError as error:  # it was not taken, or its end not recorded: to be queued again
        return Outcome("interrupted", note=f"{error.filename or job.run}: {error.strerror}")


# ---------------------------------------------------------------- workers

# What a worker says of its job, a line of json each: it waits for GPUs, it begins with these, it ended so, or it was
# left as it was.
_WAITS, _BEGINS, _ENDED, _LEFT = "waits", "begins", "ended", "left"


class _Worker:
    """A process that executes one attempt after another in its slot. The pool writes indices, it answers lines."""

    def __init__(self, slot: Slot, handed: Handed, others: Sequence["_Worker"]) -> None:
        self.slot, self.place = slot, slot.name  # place: what people are told of its job's GPUs
        self.job: Job | None = None
        self._said = b""
        requests, self._requests = os.pipe()
        self.answers, answers = os.pipe()
        parent = os.getpid()
        processes.libc()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, processes.STOPS)  # until the worker can keep what arrives
        try:
            self.pid = os.fork()
            if self.pid == 0:
                for worker in (self, *others):  # so that each ends when the pool lets it go
                    os.close(worker._requests)
                    os.close(worker.answers)
                _work(slot, handed, requests, answers, parent, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(requests)
        os.close(answers)

    def start(self, index: int, job: Job) -> None:
        """Ask for job `index`; the worker is idle. One that was killed has no answer then."""
        self.job, self.place = job, self.slot.name
        with suppress(BrokenPipeError):
            os.write(self._requests, f"{index}\n".encode())

    def hear(self) -> list[list[Any]] | None:
        """What it says now, which may be half a line; None when the worker itself died."""
        chunk = os.read(self.answers, 65536)
        *lines, self._said = (self._said + chunk).split(b"\n")
        return [json.loads(line) for line in lines] if chunk else None

    def close(self) -> None:
        """Let it go and wait for its end."""
        os.close(self._requests)
        os.close(self.answers)
        os.waitpid(self.pid, 0)


def _work(slot: Slot, handed: Handed, requests: int, answers: int, parent: int, mask: Collection[int]) -> None:
    """The life of a worker; never returns. mask: the signals to block from when it can take them."""
    code = 1
    try:
        os.setpgid(0, 0)  # Ctrl-C is for the pool, which passes it on
        with Inbox() as inbox:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            processes.die_with_parent(signal.SIGTERM, parent)
            while not inbox.stops:
                if not inbox.wait([requests], processes.BEAT_S) or inbox.stops:
                    continue
                line = os.read(requests, 64)
                if not line:
                    break
                outcome = _attempt(slot, handed, handed.submission.jobs[int(line)], inbox, answers)
                _say(answers, *([_LEFT] if outcome is None else [_ENDED, *outcome]))
        code = 0
    except BrokenPipeError:
        code = 0  # the pool is gone; the attempt's own record says all
    finally:
        if code:
            import traceback  # only a bug needs it

            traceback.print_exc()
        os._exit(code)  # what the pool had not yet printed when it forked is the pool's to print


def _say(answers: int, *words: object) -> None:
    os.write(answers, json.dumps(words).encode() + b"\n")


def _attempt(slot: Slot, handed: Handed, job: Job, inbox: Inbox, answers: int) -> Outcome | None:
    """Execute a job with the GPUs of its slot, for which it may have to wait; None when we are to end before that."""
    taken = os.path.join(job.run, layout.ATTEMPTS, job.number)

    def pause(seconds: float) -> bool:
        inbox.wait([], seconds)
        return not inbox.stops and not os.path.exists(taken)  # cancelled, or somebody else's by now

    patience = shares.Patience(pause, partial(_say, answers, _WAITS))
    try:
        grip = shares.acquire(slot, os.sep.join(job.run.split(os.sep)[-2:]), patience)
    except (OSError, FarmError) as error:
        return Outcome("interrupted", note=f"no GPU could be had for it: {error}")
    if grip is None and inbox.stops:
        return None
    grip = grip or shares.Grip(slot.name, {})  # it will not begin
    try:
        _say(answers, _BEGINS, grip.name)
        return _execute(job, handed, inbox, None, grip)
    finally:
        grip.close()


# ---------------------------------------------------------------- pool


def pool(
    submission: Submission, places: Sequence[Slot], watch: Watch, inbox: Inbox, farm: str = NAME
) -> list[Outcome]:
    """Run the jobs, each in the first slot that is free; return their outcomes as they came, to the first stop."""
    handed = Handed(submission, farm)
    queue = list(enumerate(submission.jobs))
    outcomes: list[Outcome] = []
    workers: list[_Worker] = []
    ended = False
    try:
        for slot in places[: len(submission.jobs)]:
            workers.append(_Worker(slot, handed, workers))
        busy = [worker for worker in workers if _next(worker, queue, inbox)]
        told = 0
        while busy:
            told = _pass_on(busy, inbox, watch, told)
            beat(submission)
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


def _next(worker: _Worker, queue: list[tuple[int, Job]], inbox: Inbox) -> bool:
    """Give the idle worker its next job; False when there is none or no more are to start."""
    if inbox.stops or not queue:
        return False
    worker.start(*queue.pop(0))
    return True


_KILLED = Outcome("interrupted", note="its worker was killed")


def _hear(worker: _Worker, watch: Watch) -> list[Outcome] | None:
    """Pass on what a worker says; how its job ended, [] when it never began, None while it goes on."""
    assert worker.job is not None
    said = worker.hear()
    outcome = _KILLED if said is None else None
    for kind, *words in said or ():
        if kind == _WAITS:
            watch.waiting(worker.job, worker.place, *words)
        elif kind == _BEGINS:
            worker.place = words[0]
            watch.started(worker.job, worker.place)
        elif kind == _LEFT:
            return []
        else:
            outcome = Outcome(*words)
    if outcome is None:
        return None
    watch.ended(worker.job, worker.place, outcome)
    return [outcome]


def _replace(worker: _Worker, workers: list[_Worker], handed: Handed) -> _Worker:
    """A new worker in the slot of one that was killed."""
    assert worker.job is not None
    worker.close()
    runner.clear(worker.job.run)
    workers.remove(worker)
    workers.append(_Worker(worker.slot, handed, workers))
    return workers[-1]


def _pass_on(busy: Sequence[_Worker], inbox: Inbox, watch: Watch, told: int) -> int:
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
    """Ask the runner of an attempt on this machine to end its program as cancelled. Raises FarmError when it cannot.

    The request stands in the attempt's directory: the process that is signalled may be at another one by then.
    """
    owner = attempt.owner or {}
    alive = processes.alive(owner)
    if alive is None:
        raise FarmError(f"it is on {owner.get('host')}, or in a container there; cancel it there")
    request(attempt)
    try:
        if alive:
            os.kill(owner["pid"], processes.CANCEL)
    except PermissionError:
        raise FarmError(f"process {owner['pid']} belongs to somebody else") from None
    except ProcessLookupError:
        return


def request(attempt: Attempt) -> None:
    """Write down that the attempt is to end as cancelled, whoever stops it then. Raises FarmError."""
    try:
        with open(os.path.join(attempt.path, layout.CANCEL), "w", encoding="utf-8"):
            return
    except OSError as error:
        raise FarmError(f"{error.filename}: {error.strerror}") from error
