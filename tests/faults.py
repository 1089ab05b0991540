"""A fault at the Nth step of a process, or of those that it starts: it is killed, or told that the disk is full."""

import errno
import mmap
import os
import signal
import sys
import time
from typing import NamedTuple

LAUNCHER, OTHERS = "launcher", "others"  # whose steps count: the command's own, or those of what it starts
# what happens at the step; dry: nothing, they are counted
KILL, FULL, DENIED, FAILING, DRY = "kill", "full", "denied", "failing", "dry"
ERRORS = {FULL: errno.ENOSPC, DENIED: errno.EACCES, FAILING: errno.EIO}
WRITES = {"os.mkdir": 0, "os.rename": 1, "os.symlink": 1, "os.link": 1, "os.remove": 0, "os.rmdir": 0, "os.utime": 0,
          "os.chmod": 0}  # fmt: skip  # audit events that change a file system -> which argument is the path
READS = {"os.listdir": 0, "os.scandir": 0}
LOOKS = ("stat", "lstat", "readlink")  # no audit hook hears of these; steps of a disk that fails
STARTS = ("os.fork", "os.posix_spawn")
EVERY = os.environ.get("FARMX_STEPS") == "all"  # as CI has it; else a part of the steps, other ones each day
TODAY = int(time.time()) // 86400


def part(stride: int) -> tuple[int, int]:
    """The first step to take, from 0, and how far it is to each next one, where one of `stride` is enough for a day."""
    return (0, 1) if EVERY else (TODAY % stride, stride)


class Fault(NamedTuple):
    """What happens at a step: the `step`th of those below `below` that change it (`reads`: of those that only look)."""

    below: str
    step: int = 0
    how: str = DRY
    who: str = LAUNCHER
    reads: bool = False


class _Steps:
    """Counts the steps of a process and those it starts; at the one that was asked for, the fault happens."""

    def __init__(self, fault: Fault, count: mmap.mmap, launcher: int) -> None:
        self.fault, self.count, self.launcher, self.inside = fault, count, launcher, False

    def mine(self) -> bool:
        return not self.inside and (os.getpid() == self.launcher) == (self.fault.who == LAUNCHER)

    def step(self, path: str) -> None:
        """One more step; the one that was asked for does not happen."""
        number = int.from_bytes(self.count[:], "little") + 1
        self.count[:] = number.to_bytes(8, "little")
        if number != self.fault.step:
            return
        if self.fault.how == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault.how in ERRORS:
            raise OSError(ERRORS[self.fault.how], os.strerror(ERRORS[self.fault.how]), path)

    def audit(self, event: str, args: tuple) -> None:
        if not self.mine():
            return
        sought = READS if self.fault.reads else WRITES
        if event in STARTS:
            if self.fault.how in (KILL, DRY):
                self.step("")
        elif event == "open":
            self._open(*args)
        elif event in sought and self.below(args[sought[event]]):
            self.step(os.fspath(args[sought[event]]))

    def _open(self, path: object, _mode: object, flags: int) -> None:
        if not self.below(path) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) == self.fault.reads:
            return
        self.step(os.fspath(path))
        if flags & os.O_CREAT and self.fault.how in (KILL, DRY):  # killed once more, with the file made and empty
            if int.from_bytes(self.count[:], "little") + 1 == self.fault.step:
                self.inside = True
                os.open(path, flags, 0o666)
                self.inside = False
            self.step(os.fspath(path))

    def below(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.fault.below)

    def wrapped(self, function):
        """`function` of a descriptor, as a step where that is a file below."""

        def call(descriptor: int, *args):
            if self.mine() and not self.fault.reads and self.below(path := os.readlink(f"/proc/self/fd/{descriptor}")):
                self.step(path)
            return function(descriptor, *args)

        return call

    def looking(self, function):
        """`function` of a path, as a step where that is below."""

        def call(path, *args, **more):
            if self.mine() and self.below(path):
                self.step(os.fspath(path))
            return function(path, *args, **more)

        return call


def install(fault: Fault, count: int, launcher: int) -> None:
    """Count in the file `count` what process `launcher` does, or what those do that it starts."""
    steps = _Steps(fault, mmap.mmap(count, 8), launcher)
    for name in ("write", "pwrite", "ftruncate"):  # no audit hook hears of these
        setattr(os, name, steps.wrapped(getattr(os, name)))
    for name in LOOKS if fault.reads and fault.how == FAILING else ():
        setattr(os, name, steps.looking(getattr(os, name)))
    sys.addaudithook(steps.audit)


def install_in_workers(fault: Fault, count: int) -> None:
    """Have the workers that this process starts do so, too: they are no forks of it."""
    from farmx.farms import worker

    os.set_inheritable(count, True)
    begin = f"import sys; sys.path.append({os.path.dirname(__file__)!r}); import faults; "
    begin += f"faults.install(faults.Fault(*{tuple(fault)!r}), {count}, {os.getpid()}); sys.path.pop(); "
    worker._BEGIN = begin + worker._BEGIN
