"""A job that holds several runs: each in a process of its own, as many at once as there are slots; never what a run is.

Who ends the job signals every process of it. A program that is told twice is killed, so the process of a run heeds only
what its parent passes on, which is an INT. Of a scheduler's TERM it notes that it came: a program that begins later has
not heard it.

Carried to nodes with node: standard library only.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, NoReturn, Protocol

from farmx import processes
from farmx.processes import Inbox
from farmx.runner import Outcome

LOOK_S = 3.0  # how often a wish to cancel one of the runs is looked for
_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_STOP, _STOP_NOW = (signal.SIGINT,), (signal.SIGINT, signal.SIGHUP)  # one signal that waits twice is one


class Held(Protocol):
    """A run that the job holds."""

    def execute(self, env: Mapping[str, str], ready: Callable[[Inbox], None]) -> Outcome:
        """Execute its attempt. ready: called with what takes its signals, once that can."""

    def cancelled(self) -> bool:
        """Whether somebody asked for its end."""

    def left(self, pid: int, status: int) -> Outcome:
        """The process that executed it ended with this wait status and could not say how it went."""


class _Child(NamedTuple):
    """A run at work. answer: where the process says how it ended."""

    run: Held
    slot: int
    pid: int
    answer: int


def shares(slots: int, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """What each slot adds to the environment: a part of the job's GPUs while there are enough, else one in turn."""
    found: list[dict[str, str]] = [{} for _ in range(slots)]
    for name in _GPUS:
        gpus = [gpu for gpu in environ.get(name, "").split(",") if gpu]
        for slot, env in enumerate(found if gpus else ()):
            part = gpus[slot * len(gpus) // slots : (slot + 1) * len(gpus) // slots]
            env[name] = ",".join(part if slots <= len(gpus) else [gpus[slot % len(gpus)]])
    return found


def work(
    runs: Sequence[Held],
    slots: Sequence[Mapping[str, str]],
    inbox: Inbox,
    stopped: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[list[Outcome], int]:
    """Execute the runs in order, each in the first slot that is free, until all have ended or we are to stop.

    stopped: whether no more are to begin. Returns how those that began ended, in that order, and how many did not.
    One that no process can be had for begins once it can; where none is at work that would end, `tell` is told.
    """
    queue, free = list(reversed(runs)), list(range(len(slots)))
    busy: dict[int, _Child] = {}
    outcomes: list[Outcome] = []
    told, look = 0, time.monotonic() + LOOK_S

    def over() -> bool:
        inbox.heed(lambda: False)  # nobody cancels all of a job by a signal; what it warns of holds before a run begins
        return bool(inbox.stops or inbox.noticed) or stopped()

    while True:
        refused = _begin_all(queue, free, slots, busy, over)
        if not busy:
            if refused is not None:
                left = f"{len(queue)} run{'s were' if len(queue) > 1 else ' was'} not begun"
                tell(f"{left}: no process can be started: {refused.strerror}")
            return outcomes, len(queue)
        inbox.heed(lambda: False)
        told = _pass_on(list(busy.values()), inbox, told)
        for answer in inbox.wait(list(busy), look - time.monotonic()):
            child = busy.pop(answer)
            free.append(child.slot)
            outcomes.append(_ended(child))
        if time.monotonic() >= look:
            _cancel(busy.values())
            look = time.monotonic() + LOOK_S


def _begin_all(
    queue: list[Held],
    free: list[int],
    slots: Sequence[Mapping[str, str]],
    busy: dict[int, _Child],
    stopped: Callable[[], bool],
) -> OSError | None:
    """Begin what can begin now, the last of the queue first; why no more can, where we are refused a process.

    What is at work would die with us, so that is no error.
    """
    while free and queue and not stopped():
        try:
            child = _begin(queue[-1], free[0], slots[free[0]])
        except OSError as error:
            return error
        queue.pop()
        free.pop(0)
        busy[child.answer] = child
    return None


def _begin(run: Held, slot: int, env: Mapping[str, str]) -> _Child:
    parent = os.getpid()
    processes.prctl()
    answer, said = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, processes.REQUESTS)  # until the child can keep what arrives

    def ready(inbox: Inbox) -> None:
        inbox.overhear(signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        pid = os.fork()
        if pid == 0:
            _live(run, env, ready, said, parent)
    except OSError:
        os.close(answer)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(said)
    return _Child(run, slot, pid, answer)


def _live(run: Held, env: Mapping[str, str], ready: Callable[[Inbox], None], said: int, parent: int) -> NoReturn:
    """The life of the process that executes a run; whatever happens, it is never the job that goes on."""
    code = 1
    try:
        processes.die_with_parent(signal.SIGKILL, parent)
        os.write(said, json.dumps(run.execute(env, ready)).encode())
        code = 0
    finally:
        try:
            if code:
                import traceback  # only what went wrong needs it

                processes.say(traceback.format_exc().rstrip(), 2)
        finally:
            os._exit(code)


def _ended(child: _Child) -> Outcome:
    """How a run ended, of which the process has ended or is about to."""
    with os.fdopen(child.answer) as file:
        said = file.read()
    status = os.waitpid(child.pid, 0)[1]
    return Outcome(*json.loads(said)) if said else child.run.left(child.pid, status)


def _pass_on(busy: Sequence[_Child], inbox: Inbox, told: int) -> int:
    """Tell the runs what we were told since; `told`, and what is returned: how much that was."""
    heard = len(inbox.stops) + inbox.noticed  # another may come while these are passed on
    for count in range(told + 1, heard + 1):
        first = (processes.NOTICE,) if inbox.noticed and not inbox.stops else _STOP
        for child in busy:
            for number in first if count == 1 else _STOP_NOW:
                os.kill(child.pid, number)
    return heard


def _cancel(busy: Iterable[_Child]) -> None:
    for child in busy:
        if child.run.cancelled():
            os.kill(child.pid, processes.CANCEL)
