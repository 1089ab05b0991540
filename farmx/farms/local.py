"""This machine: runs in the foreground, one at a time, or in a pool, one a slot; never decides what to run."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from farmx import layout, processes, runner
from farmx.errors import FarmError, FarmxError, StageError, UsageError
from farmx.farms.base import Watch
from farmx.processes import Console, Inbox
from farmx.runner import Outcome
from farmx.spec import Attempt, Job, Submission

NAME = "local"
_QUERY = "index,memory.used,memory.total,utilization.gpu"


class Slot(NamedTuple):
    """One place in a pool: how people call it and what it adds to a program's environment."""

    name: str
    env: Mapping[str, str] = {}


def slots(count: int | None, gpus: str | None) -> tuple[Slot, ...]:
    """The slots that -j and --gpus ask for: `0,1` two, `0+1,2+3` two of two GPUs, `0,0` two on one, `free` the idle.

    With both, `count` slots that share the GPUs in turn. Raises UsageError, FarmError when GPUs cannot be listed.
    """
    if count is not None and count < 1:
        raise UsageError(f"-j {count}: a pool has at least one slot; give -j 1 or more")
    if gpus is None:
        return tuple(Slot(str(index)) for index in range(count or 1))
    free = gpus.strip() == "free"
    groups = _idle() if free else [group.strip() for group in gpus.split(",")]
    for group in groups:
        if not group or not all(_is_gpu(part) for part in group.split("+")):
            raise UsageError(f"--gpus {gpus!r}: '{group}' is no GPU; give 0,1 or 0+1,2+3 or free")
    chosen = [groups[index % len(groups)] for index in range(count or len(groups))]
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if free else {}  # nvidia-smi's, by which they were found
    return tuple(Slot(f"gpu {group}", {"CUDA_VISIBLE_DEVICES": group.replace("+", ","), **order}) for group in chosen)


def _is_gpu(text: str) -> bool:
    return (text.isascii() and text.isdecimal()) or text.startswith(("GPU-", "MIG-"))


def _idle() -> list[str]:
    """The GPUs on which no process computes and that hold less than 5 % of their memory, by index."""
    asked = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        raise FarmError("--gpus free: there is no nvidia-smi to ask; name the GPUs: --gpus 0,1") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise FarmError(f"--gpus free: nvidia-smi cannot list the GPUs ({error}); name them: --gpus 0,1") from error
    rows = [_row(line.strip()) for line in told.splitlines() if line.strip()]
    free = [index for index, used, total, busy in rows if used <= 0.05 * total and busy < 5]
    if not free:
        raise FarmError(f"--gpus free: none of the {len(rows)} GPUs is idle now; name them: --gpus 0,1")
    return free


def _row(line: str) -> tuple[str, float, float, float]:
    """A GPU as nvidia-smi tells it: index, memory used and there is, utilization in percent; 0 for what it hides."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 4 or not _is_gpu(cells[0]):
        raise FarmError(f"--gpus free: nvidia-smi said {line!r}; name them: --gpus 0,1")
    used, total, busy = map(_number, cells[1:])
    return cells[0], used, total, busy


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "[N/A]" under MIG, and for memory that the GPU shares with the processor
        return 0.0


def announce(submission: Submission) -> dict[str, Any]:
    """Record that this process is the farm that holds `submission`, as long as it lives; return what it says."""
    job = {"format": layout.JOB_FORMAT, "farm": NAME, "submitted": time.time(), **processes.this()}
    layout.write_json(os.path.join(submission.path, layout.JOB), job)
    return job


def beat(submission: Submission) -> None:
    """Say that this process still holds `submission`; other hosts have no other way to know."""
    try:
        os.utime(os.path.join(submission.path, layout.JOB))
    except OSError:
        return


def release(submission: Submission, job: Mapping[str, Any]) -> None:
    """Record that this process is done with `submission`, though it may live on: nothing in it waits any more."""
    with suppress(FarmxError):
        layout.write_json(os.path.join(submission.path, layout.JOB), {**job, "ended": time.time()})


def facts(submission: Submission) -> dict[str, Any]:
    """What every attempt's owner record says of where it came from."""
    return {"farm": NAME, "submission": submission.id}


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
        outcomes.append(_execute(job, submission, inbox, console(), {}))
        watch.ended(job, "", outcomes[-1])
    return outcomes


def _execute(
    job: Job, submission: Submission, inbox: Inbox, console: Console | None, env: Mapping[str, str]
) -> Outcome:
    try:
        return runner.execute(
            job.run, job.number, facts(submission), inbox, console, env, pulse=lambda: beat(submission)
        )
    except StageError as error:
        return Outcome("interrupted", note=str(error))
    except FileNotFoundError:
        return Outcome("interrupted", note="its directory was moved or deleted while it waited")
    except OSError as error:  # it was not taken, or its end not recorded: to be queued again
        return Outcome("interrupted", note=f"{error.filename or job.run}: {error.strerror}")


# ---------------------------------------------------------------- pool


class _Worker:
    """A process that executes one attempt after another in its slot. The pool writes indices, it answers outcomes."""

    def __init__(self, slot: Slot, submission: Submission, others: Sequence["_Worker"]) -> None:
        self.slot = slot
        self.job: Job | None = None
        requests, self._requests = os.pipe()
        self.answers, answers = os.pipe()
        parent = os.getpid()
        processes.libc()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, processes.STOPS)  # until the worker can keep what arrives
        try:
            self.pid = os.fork()
            if self.pid == 0:
                for worker in (self, *others):  # a pipe held open by a neighbour would never end
                    os.close(worker._requests)
                    os.close(worker.answers)
                _work(slot, submission, requests, answers, parent, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(requests)
        os.close(answers)

    def start(self, index: int, job: Job) -> None:
        """Ask for job `index`; the worker is idle. One that was killed has no answer then."""
        self.job = job
        with suppress(BrokenPipeError):
            os.write(self._requests, f"{index}\n".encode())

    def answer(self) -> Outcome | None:
        """How its job ended; None when the worker itself died instead."""
        line = b""
        while not line.endswith(b"\n"):
            chunk = os.read(self.answers, 65536)
            if not chunk:
                return None
            line += chunk
        return Outcome(*json.loads(line))

    def close(self) -> None:
        """Let it go and wait for its end."""
        os.close(self._requests)
        os.close(self.answers)
        os.waitpid(self.pid, 0)


def _work(
    slot: Slot, submission: Submission, requests: int, answers: int, parent: int, mask: Collection[int]
) -> None:
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
                outcome = _execute(submission.jobs[int(line)], submission, inbox, None, slot.env)
                os.write(answers, json.dumps(outcome).encode() + b"\n")
        code = 0
    except BrokenPipeError:
        code = 0  # the pool is gone; the attempt's own record says all
    finally:
        if code:
            import traceback  # only a bug needs it

            traceback.print_exc()
        os._exit(code)  # what the pool had not yet printed when it forked is the pool's to print


def pool(submission: Submission, places: Sequence[Slot], watch: Watch, inbox: Inbox) -> list[Outcome]:
    """Run the jobs, each in the first slot that is free; return their outcomes as they came, to the first stop."""
    queue = iter(enumerate(submission.jobs))
    outcomes: list[Outcome] = []
    workers: list[_Worker] = []
    ended = False
    try:
        for slot in places[: len(submission.jobs)]:
            workers.append(_Worker(slot, submission, workers))
        busy = [worker for worker in workers if _next(worker, queue, watch, inbox)]
        told = 0
        while busy:
            told = _pass_on(busy, inbox, watch, told)
            beat(submission)
            watch.tick()
            ready = inbox.wait([worker.answers for worker in busy], watch.tick_s)
            for worker in [each for each in busy if each.answers in ready]:
                fresh = _collect(worker, workers, submission, outcomes, watch)
                busy.remove(worker)
                if _next(fresh, queue, watch, inbox):
                    busy.append(fresh)
        ended = True
    finally:
        for worker in workers:
            if not ended:  # whatever it was, nobody would pass on what stops them any more
                os.kill(worker.pid, signal.SIGTERM)
        for worker in workers:
            worker.close()
    return outcomes


def _next(worker: _Worker, queue: Iterator[tuple[int, Job]], watch: Watch, inbox: Inbox) -> bool:
    """Give the idle worker its next job; False when there is none or no more are to start."""
    found = None if inbox.stops else next(queue, None)
    if found is None:
        return False
    watch.started(found[1], worker.slot.name)
    worker.start(*found)
    return True


def _collect(
    worker: _Worker, workers: list[_Worker], submission: Submission, outcomes: list[Outcome], watch: Watch
) -> _Worker:
    """Take in the answer of a worker; when it died, put a new one in its slot. Return whoever is in the slot now."""
    outcome = worker.answer()
    job = worker.job
    assert job is not None
    if outcome is None:
        worker.close()
        runner.clear(job.run)
        workers.remove(worker)
        worker = _Worker(worker.slot, submission, workers)
        workers.append(worker)
        outcome = Outcome("interrupted", note="its worker was killed")
    outcomes.append(outcome)
    watch.ended(job, worker.slot.name, outcome)
    return worker


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
