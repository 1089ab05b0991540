"""A pool of this machine that outlives the command and its terminal: started, and what its process does then."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farmx import breaker, layout, processes
from farmx.cli import here, screen
from farmx.cli.surroundings import begin, import_path, tell
from farmx.errors import FarmError, FarmxError
from farmx.farms import base, gpus, local, shares
from farmx.farms.base import Batch
from farmx.farms.gpus import Slot
from farmx.processes import Inbox
from farmx.spec import Job, Submission

_BEGIN = begin("detached")
UP_S = 120.0  # how long it may take to say that it has its runs, on whatever file system


class Detached:
    """A farm with EXECUTOR local: each launch leaves its runs to one process of its own."""

    executor = layout.LOCAL

    def __init__(self, name: str, resources: Mapping[str, Any], origins: Mapping[str, str] = {}) -> None:
        self.name, self._resources, self._origins = name, resources, origins
        self._known: dict[str, tuple[Slot, ...]] = {}  # by what was wanted: nvidia-smi may take seconds

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Raises ConfigError for what this machine does not give, FarmError when GPUs cannot be listed or shared."""
        for resources in wanted or [{}]:
            shares.check(self._slots(resources))

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        """Those that want the same together; the pool takes them in order."""
        return base.alike((job, self._merged(wants)) for job, wants in jobs)

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """Start the pool; it holds all of them when this returns."""
        pools = [[each.id, each.path, self._slots(each.resources)] for each in submissions]
        _start({"farm": self.name, "pools": pools}, _log(submissions[0]))
        for submission in submissions:
            heard(submission, len(submission.jobs))

    def told(self) -> str:
        """What it is, for people."""
        slots = self._slots({})
        names = list(dict.fromkeys(slot.name for slot in slots if slot.gpus))
        idle = next((slot.idle for slot in slots), 0)
        on = f", on {', '.join(names)}" if names else f", {idle} idle GPU{'s' * (idle > 1)} each" if idle else ""
        count = "one at a time" if len(slots) == 1 else f"{len(slots)} at a time"
        return f"{self.name}: a pool of this machine, {count}{on}"

    def _merged(self, wants: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a run wants; how many run at once is the pool's to say, as it is configured now."""
        jobs = {"jobs": self._resources["jobs"]} if "jobs" in self._resources else {}
        return {**self._resources, **wants, **jobs}

    def _slots(self, wants: Mapping[str, Any]) -> tuple[Slot, ...]:
        merged = self._merged(wants)
        key = repr(sorted(merged.items()))
        if key not in self._known:
            self._known[key] = gpus.configured(merged, self._origins)
        return self._known[key]


def _log(submission: Submission) -> str:
    return os.path.join(submission.path, layout.POOL_LOG)


def _start(told: Mapping[str, Any], log: str) -> None:
    """Start a pool; raises FarmError when it does not come up, returns when the submissions are its own."""
    ready, readied = os.pipe()
    try:
        came = _came(ready, readied, json.dumps({"path": import_path(), "ready": readied, **told}).encode(), log)
    except OSError as error:
        raise FarmError(f"the pool cannot be started: {error.filename or log}: {error.strerror}") from error
    finally:
        os.close(ready)
    if came is None:
        why = f"did not answer within {UP_S:.0f} s and was ended; its runs stay as they were"
        raise FarmError(f"the pool {why}, the same command tries again (its log: {log})")
    if not came:
        raise FarmError(f"the pool ended before it held a run; why is in {log}")


def _came(ready: int, readied: int, given: bytes, log: str) -> bool | None:
    """Whether the pool came up and said so; None when it said nothing for so long that it had to be ended."""
    until, argv = time.monotonic() + UP_S, [sys.executable, "-I", "-c", _BEGIN, log]
    try:
        with open(log, "ab") as output:
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=os.sep,
                                       start_new_session=True, pass_fds=[readied])  # fmt: skip
    finally:
        os.close(readied)
    try:
        process.communicate(given, UP_S)
        heard = select.select([ready], [], [], max(0.0, until - time.monotonic()))[0]
    except subprocess.TimeoutExpired:
        heard = []
    if not heard:
        processes.kill_group(process.pid, signal.SIGKILL)  # it leads the group that the pool is in
        process.communicate()
        return None
    return process.returncode == 0 and os.read(ready, 1) != b""


# ---------------------------------------------------------------- in the pool's own process


def main(given: Mapping[str, Any]) -> None:
    """The life of a pool. Its parent ends at once, so it leads no session and no terminal can become its own."""
    if os.fork():
        os._exit(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        _work(given)
    except FarmxError as error:  # of no run's: a file system that fails, a worker that cannot be had
        tell(f"farmx: {error}")
        sys.exit(error.exit_code)


def _work(given: Mapping[str, Any]) -> None:
    pools = [_Pool(_submission(name, path), tuple(map(gpus.slot_of, slots)), given["farm"])
             for name, path, slots in given["pools"]]  # fmt: skip
    os.write(given["ready"], b"1")
    os.close(given["ready"])
    while pools:
        if not pools.pop(0).run([each.submission for each in pools]):
            break


def _submission(name: str, path: str) -> Submission:
    home = layout.experiment_of(path)
    jobs = [Job(os.path.join(home, run), layout.attempt_name(*number)) for run, number in layout.runs_of(path)]
    return Submission(name, path, tuple(jobs))


class _Pool:
    """One submission, ours from now on."""

    def __init__(self, submission: Submission, slots: Sequence[Slot], farm: str) -> None:
        self.submission, self._slots, self._farm = submission, slots, farm
        width = max(slot.width for slot in slots)
        self._watch = Log(len(submission.jobs), here.commands(submission, "; "), width)
        self._record = local.announce(submission, farm, detached=True)

    def run(self, later: Sequence[Submission]) -> bool:
        """Run its jobs; whether nobody asked us to stop. later: what is ours, too, and waits for that."""
        log = os.open(_log(self.submission), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        pid, count = os.getpid(), len(self.submission.jobs)
        self._watch.say(f"POOL   process {pid}, {count} run{'s' * (count != 1)}; kill {pid} ends it")
        if why := breaker.held(self.submission.path):  # since runs of the same launch, before these, failed alike
            self._watch.held(len(self.submission.jobs), why)
            local.finish(self.submission, self._record)
            return True
        with Inbox() as inbox:
            local.pool(self.submission, self._slots, self._watch, inbox, self._farm, later)
            stopped = bool(inbox.stops)
        self._watch.say(f"POOL   {self._watch.counts.told()}")
        local.finish(self.submission, self._record)
        return not stopped


class Log(screen.Pool):
    """What a pool on a terminal shows, each line with its time."""

    def say(self, text: str) -> None:
        """One line."""
        tell(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}")
