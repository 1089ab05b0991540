"""How an attempt is executed on this machine, and a pool's process that executes one after another; never which.

The foreground executes in its own process. A pool's slot has one, a python of its own and no fork of the pool: what a
process has loaded is copied whenever it starts a program, and the pool has loaded a command line and what stages runs.
So this module imports as little as a node does.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from farmx import layout, notices, processes, runner, stages, whereabouts
from farmx.errors import FarmError, StageError
from farmx.farms import gpus, shares
from farmx.farms.gpus import Slot
from farmx.processes import Console, Inbox
from farmx.runner import Outcome

if TYPE_CHECKING:
    from farmx.spec import Job  # spares the worker

# -S: of all that is installed it needs farmx alone.
_BEGIN = "import json, sys; told = json.loads(sys.argv[1]); sys.path.append(told['home']); "
_BEGIN += "from farmx.farms import worker; worker.main(told)"

ROOM = 16  # files that the pool may have to open beside all of its workers

# What a worker says of its job, a line of json each: it waits for GPUs, it begins with these, it ended so. Its last
# word, whenever it goes, is that it left: what it was asked for and did not begin is as it was.
WAITS, BEGINS, ENDED, LEFT = "waits", "begins", "ended", "left"


class Handed(NamedTuple):
    """A submission that this process runs, or a part of it.

    path: its directory.  farm: the name of the farm that we are.  later: the directories of those that the same process
    is to run after it, and holds already.
    """

    id: str
    path: str
    farm: str
    later: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What every attempt's owner record says of where it came from."""
        return {"farm": self.farm, "submission": self.id}

    def beat(self) -> None:
        """Say that a process still holds the submissions; other hosts have no other way to know."""
        for path in (self.path, *self.later):
            with suppress(OSError):
                os.utime(os.path.join(path, layout.JOB))


def execute(
    run: str, number: str, claim: str, handed: Handed, inbox: Inbox, console: Console | None, grip: shares.Grip
) -> Outcome:
    """Execute attempt `number` of the run directory `run` in this process; what keeps it from that interrupts it.

    claim: what the submission says of which run it is, '' where it does not; that may have been renamed since.
    """

    def pulse() -> None:
        handed.beat()
        grip.touch()

    run = whereabouts.found(run, claim)
    record = layout.read_or_none(os.path.join(run, layout.RUN), layout.RUN_FORMAT) if claim else None
    if whereabouts.another(record, claim):
        return Outcome("held", note=whereabouts.ANOTHER)
    try:
        judge = partial(_judged, os.path.join(run, layout.ATTEMPTS, number))
        outcome = runner.execute(run, number, handed.facts(), inbox, console, grip.env, pulse=pulse, judge=judge)
        notices.note(handed.path, run, number, outcome.state)
        return outcome
    except StageError as error:
        return Outcome("interrupted", note=str(error))
    except FileNotFoundError:
        return Outcome("interrupted", note="its directory was moved or deleted while it waited")
    except OSError as error:  # it was not taken, or its end not recorded: to be queued again
        return Outcome("interrupted", note=f"{error.filename or run}: {error.strerror}")


def _judged(attempt: str, outcome: Outcome) -> Outcome:
    """An end with its cause, where only this machine's kernel tells that, and only while it remembers."""
    if outcome.state != "failed" or not outcome.killed():
        return outcome
    from farmx import evidence  # spares who is not killed

    started = [row["pid"] for row in stages.rows(attempt) if "pid" in row]
    pids = [*started[-1:], *evidence.killed_in_shell(evidence.newest_log(attempt))]
    return outcome._replace(cause="oom") if evidence.killed_by_kernel(pids) else outcome


# ---------------------------------------------------------------- in the pool


class Worker:
    """The pool's end of a worker: it writes jobs, a line of json each, and is answered lines."""

    def __init__(self, slot: Slot, handed: Handed) -> None:
        """Start it; raises FarmError."""
        self.slot, self.place = slot, slot.name  # place: what people are told of its job's GPUs
        self.job: Job | None = None
        self.begun = False  # whether it began that
        self.pid = 0
        self._said = b""
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if most != resource.RLIM_INFINITY and max(pipes) + ROOM > most:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self.pid = _spawned(slot, handed, pipes[0], pipes[3])
        except OSError as error:
            raise FarmError(f"{sys.executable}: a worker of the pool cannot be started: {error.strerror}") from error
        finally:
            for each in (pipes[0], pipes[3]) if self.pid else pipes:
                os.close(each)
        self.birth, self._requests, self.answers = processes.birth(self.pid), pipes[1], pipes[2]

    def start(self, job: Job, claim: str = "") -> None:
        """Ask for `job`, of the run that has that claim; the worker is idle. One that was killed has no answer then."""
        self.job, self.begun, self.place = job, False, self.slot.name
        with suppress(BrokenPipeError):
            os.write(self._requests, json.dumps([*job, claim]).encode() + b"\n")

    def hear(self) -> list[list[Any]] | None:
        """What it says now, which may be half a line; None when it is no more."""
        chunk = os.read(self.answers, 65536)
        *lines, self._said = (self._said + chunk).split(b"\n")
        return [json.loads(line) for line in lines] if chunk else None

    def close(self) -> None:
        """Let it go and wait for its end."""
        os.close(self._requests)
        os.close(self.answers)
        os.waitpid(self.pid, 0)


def _spawned(slot: Slot, handed: Handed, requests: int, answers: int) -> int:
    """The pid of a worker that reads there and writes there. Raises OSError."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, processes.STOPS)  # until the worker can keep what arrives
    told = {"home": os.path.dirname(os.path.dirname(os.path.abspath(layout.__file__))), "parent": os.getpid(),
            "mask": [int(number) for number in mask], "slot": slot, "handed": handed}  # fmt: skip
    line = [sys.executable, "-I", "-S", f"-Xutf8={sys.flags.utf8_mode}", "-c", _BEGIN, json.dumps(told)]
    ends = [(os.POSIX_SPAWN_DUP2, requests, 0), (os.POSIX_SPAWN_DUP2, answers, 1)]
    try:  # in a group of its own: Ctrl-C is for the pool, which passes it on
        return os.posix_spawn(line[0], line, os.environ, file_actions=ends, setpgroup=0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


# ---------------------------------------------------------------- in the worker's own process

_REQUESTS, _ANSWERS = 0, 1  # its standard input and output


def main(told: Mapping[str, Any]) -> None:
    """The life of a worker."""
    slot, handed = gpus.slot_of(told["slot"]), Handed(*told["handed"])
    with Inbox() as inbox:
        signal.pthread_sigmask(signal.SIG_SETMASK, told["mask"])
        processes.die_with_parent(signal.SIGTERM, told["parent"])
        with suppress(BrokenPipeError):  # the pool is gone; the attempt's own record says all
            while (request := _request(inbox)) and (outcome := _attempt(slot, handed, *request, inbox)):
                _say(ENDED, *outcome)
            _say(LEFT)


def _request(inbox: Inbox) -> tuple[str, str, str] | None:
    """The run directory, the number and the claim of the attempt to execute next; None when there is no more to do."""
    line = b""
    while not line.endswith(b"\n"):
        ready = inbox.wait([_REQUESTS], processes.BEAT_S)
        if inbox.stops:
            return None
        chunk = os.read(_REQUESTS, 65536) if ready else b""
        if ready and not chunk:
            return None
        line += chunk
    run, number, claim = json.loads(line)
    return run, number, claim


def _say(*words: object) -> None:
    os.write(_ANSWERS, json.dumps(words).encode() + b"\n")


def _attempt(slot: Slot, handed: Handed, run: str, number: str, claim: str, inbox: Inbox) -> Outcome | None:
    """Execute an attempt with the GPUs of the slot, for which it may have to wait; None when we are to end before."""
    taken = os.path.join(run, layout.ATTEMPTS, number)

    def pause(seconds: float) -> bool:
        inbox.wait([], seconds)
        return not inbox.stops and not os.path.exists(taken)  # cancelled, or somebody else's by now

    patience = shares.Patience(pause, partial(_say, WAITS))
    try:
        grip = shares.acquire(slot, os.sep.join(run.split(os.sep)[-2:]), patience)
    except (OSError, FarmError) as error:
        return Outcome("interrupted", note=f"no GPU could be had for it: {error}")
    grip = grip or shares.Grip(slot.name, {})  # somebody has it, or it was cancelled: it will not begin
    try:
        if inbox.stops:
            return None
        _say(BEGINS, grip.name)
        return execute(run, number, claim, handed, inbox, None, grip)
    finally:
        grip.close()
