"""This machine: runs in the foreground, one at a time, or in a pool, one a slot; never decides what to run."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from farmx import breaker, layout, processes, runner
from farmx.errors import FarmError, FarmxError, RecordError
from farmx.farms import shares
from farmx.farms.base import Watch
from farmx.farms.gpus import Slot
from farmx.farms.worker import BEGINS, ENDED, LEFT, WAITS, Handed, Worker, execute
from farmx.processes import Console, Inbox
from farmx.runner import Outcome
from farmx.spec import Attempt, Job, Submission

_NO_GPUS = shares.Grip("", {})


def announce(submission: Submission, farm: str = layout.LOCAL, **more: bool) -> dict[str, Any]:
    """Record that this process is the farm that holds `submission`, as long as it lives; return what it says.

    more: `detached`, where it is no command that somebody waits for.
    """
    job = {"format": layout.JOB_FORMAT, "farm": farm, "executor": layout.LOCAL, "submitted": time.time(),
           **processes.this(), **more}  # fmt: skip
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
    """Run each job here, one after another, its output live; return their outcomes, in order, to the first stop.

    Raises RecordError where it cannot be read which runs they are; none began then.
    """
    handed, outcomes = Handed(submission.id, submission.path, layout.LOCAL), list[Outcome]()
    claims = _claims(submission)
    for job in submission.jobs:
        if inbox.stops:
            break
        watch.started(job, "")
        outcomes.append(execute(*job, claims.get(job, ""), handed, inbox, console(), _NO_GPUS))
        watch.ended(job, "", outcomes[-1])
        if _breaks(job, submission, outcomes[-1], len(submission.jobs) - len(outcomes), watch):
            break
    return outcomes


def _breaks(job: Job, submission: Submission, outcome: Outcome, waiting: int, watch: Watch) -> bool:
    """Whether this failure trips the breaker for what waits here, or in later submissions of the launch; says so."""
    counts = outcome.state == "failed" and (waiting or _more(submission))
    why = breaker.after(submission.path, job.run) if counts else None
    if why is not None and waiting:
        watch.held(waiting, why)
    return why is not None


def _more(submission: Submission) -> bool:
    """Whether its launch has submissions after this one; no, where they cannot be listed."""
    try:
        return layout.launched_with(submission.path)[-1] != submission.path
    except RecordError:
        return False


def _claims(submission: Submission) -> Mapping[Job, str]:
    """Of which generation of which point the run of each job was when it was handed over. Raises RecordError."""
    return dict(zip(submission.jobs, layout.read_lines(os.path.join(submission.path, layout.CLAIMED))))


# ---------------------------------------------------------------- pool


def pool(
    submission: Submission,
    places: Sequence[Slot],
    watch: Watch,
    inbox: Inbox,
    farm: str = layout.LOCAL,
    later: Sequence[Submission] = (),
) -> list[Outcome]:
    """Run the jobs, each in the first slot that is free; return their outcomes as they came, to the first stop.

    later: what this process holds already and is to run after these.  Raises RecordError as foreground(), FarmError
    where no worker can be had while none has a job.
    """
    handed = Handed(submission.id, submission.path, farm, tuple(each.path for each in later))
    made = _Pool(submission, handed, watch, inbox)
    try:
        made.run(places[: len(submission.jobs)])
    finally:
        made.close()
    return made.outcomes


_KILLED = Outcome("interrupted", note="its worker was killed")


class _Pool:
    """A submission at work: the jobs that wait, the workers that there are, and how what began has ended.

    A worker has a job from when it was asked for that until it said how it ended. Told to end by others than us, it
    leaves, and one killed is gone; a fresh one takes its slot.
    """

    def __init__(self, submission: Submission, handed: Handed, watch: Watch, inbox: Inbox) -> None:
        self.outcomes: list[Outcome] = []
        self._submission, self._handed, self._watch, self._inbox = submission, handed, watch, inbox
        self._queue, self._claims = list(submission.jobs), _claims(submission)
        self._workers: list[Worker] = []
        self._free: list[Slot] = []  # those without a worker
        self._short = False  # whether there was none to be had for one of them
        self._told = 0  # how many stops were passed on
        self._due = time.monotonic()  # when to say again that we hold what was handed to us

    def run(self, slots: Sequence[Slot]) -> None:
        """Run the jobs, to the first stop. Raises FarmError where no worker can be had while none has a job."""
        self._free += slots
        self._hire()
        while busy := [worker for worker in self._workers if worker.job]:
            self._pass_on(len(busy))
            due_s = self._beat()
            self._watch.tick()
            ready = self._inbox.wait([worker.answers for worker in busy], min(self._watch.tick_s, due_s))
            for worker in busy:
                if worker.answers in ready:
                    self._hear(worker)
            self._hire()

    def close(self) -> None:
        """Let the workers go and wait for their end; one that has a job still is told to end."""
        self._tell(signal.SIGTERM)  # whatever it was, nobody would pass on what stops them any more
        while self._workers:
            self._workers.pop().close()

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.job:
                os.kill(worker.pid, number)

    def _pass_on(self, running: int) -> None:
        """Pass new stop signals to the workers: the first asks, the second kills."""
        while self._told < len(self._inbox.stops):  # another may come while these are passed on
            self._told += 1
            for number in processes.STOPS if self._told > 1 else (signal.SIGTERM,):  # one that waits twice is one
                self._tell(number)
            self._watch.stopping(running, now=self._told > 1)

    def _beat(self) -> float:
        """Say, twice a heartbeat's time, that we hold what was handed to us; in how many seconds it is due again."""
        now = time.monotonic()
        if now >= self._due:
            self._handed.beat()
            self._due = now + processes.BEAT_S / 2
        return self._due - now

    def _hire(self) -> None:
        """A worker with the next job for each slot that has none, as far as jobs are to start and workers to be had."""
        while self._free and self._queue and not self._inbox.stops:
            try:
                worker = Worker(self._free[0], self._handed)
            except FarmError as error:
                if not any(worker.job for worker in self._workers):
                    raise
                self._wait(str(error))
                return
            self._free.pop(0)
            self._workers.append(worker)
            self._next(worker)

    def _wait(self, why: str) -> None:
        """No worker can be had now; those that work go on. Said once."""
        if not self._short:
            self._watch.waiting(self._queue[0], self._free[0].name, why)
        self._short = True

    def _next(self, worker: Worker) -> None:
        """Give the worker its next job, if one is to start."""
        worker.job = None
        if self._queue and not self._inbox.stops:
            job = self._queue.pop(0)
            worker.start(job, self._claims.get(job, ""))

    def _hear(self, worker: Worker) -> None:
        """Act on what a worker says."""
        said = worker.hear()
        if said is None:
            self._killed(worker)
        for kind, *words in said or ():
            if kind == LEFT:
                self._left(worker)
            elif kind == ENDED:
                self._ended(worker, Outcome(*words))
                self._next(worker)
            elif kind == BEGINS:
                worker.begun, worker.place = True, words[0]
                self._watch.started(_job(worker), worker.place)
            elif kind == WAITS:
                self._watch.waiting(_job(worker), worker.place, *words)

    def _ended(self, worker: Worker, outcome: Outcome) -> None:
        """The worker's job ended; a failure may be one that holds what waits."""
        job = _job(worker)
        self._watch.ended(job, worker.place, outcome)
        self.outcomes.append(outcome)
        if _breaks(job, self._submission, outcome, len(self._queue), self._watch):
            self._queue.clear()

    def _left(self, worker: Worker) -> None:
        """Somebody told the worker to end, and it went; a job that it did not begin is the next again."""
        self._part(worker)
        if worker.job and not worker.begun:
            self._queue.insert(0, worker.job)

    def _killed(self, worker: Worker) -> None:
        """The worker went without a word, and may have left processes of its job's."""
        self._part(worker)
        run, number = _job(worker)
        if runner.owned(os.path.join(run, layout.ATTEMPTS, number), worker.pid, worker.birth):
            with suppress(RecordError):  # what it left cannot be looked for; the other runs go on
                runner.clear(os.path.join(run, layout.ATTEMPTS, number))
        self._ended(worker, _KILLED)

    def _part(self, worker: Worker) -> None:
        """See the last of a worker."""
        self._workers.remove(worker)  # first: whatever happens then, its number may be another process's
        worker.close()
        self._free.insert(0, worker.slot)


def _job(worker: Worker) -> Job:
    assert worker.job is not None, "a worker speaks of its job only"
    return worker.job


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
