"""The processes of one host: their names, signals, a program's start, supervision and end; never what it runs for.

With runner it is carried to nodes, so it imports only the standard library.
"""

import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NoReturn

BEAT_S = 60.0  # how often a heartbeat is due
LOOK_S = 10.0  # how often a wish to cancel a run is looked for in its directory, where anybody may leave it
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CANCEL = signal.SIGUSR1  # farmx cancel; any other end of ours is an interruption
NOTICE = signal.SIGUSR2  # a scheduler's: the limit is near, or others go first
REQUESTS = (*STOPS, CANCEL, NOTICE)

_RECORD_S = 10.0  # what is left of a notice for recording the end
_PR_SET_PDEATHSIG = 1


# Names

def host() -> str:
    """What this machine calls itself."""
    return os.uname().nodename


@lru_cache
def boot_id() -> str:
    """What tells this boot of this machine from all others; '' where the system does not say."""
    return _text("/proc/sys/kernel/random/boot_id").strip().decode()


@lru_cache
def machine() -> str:
    """What tells machines of one name apart; '' where the system does not say. Not the id itself, which is nobody's."""
    from zlib import crc32  # spares who only looks

    told = _text("/etc/machine-id").strip()
    return f"{crc32(told):08x}" if told else ""


def birth(pid: int) -> str:
    """When process `pid` was born, in the kernel's ticks: with the pid, a name no other process has. '' when gone."""
    fields = _text(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return "" if not fields or fields[0] in (b"Z", b"X") else fields[19].decode()


def _text(path: str) -> bytes:
    """What the system says there; b"" when it says nothing."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def this() -> dict[str, Any]:
    """What names this process among all: host, machine, boot, namespace of pids, pid and birth."""
    pid = os.getpid()
    return {"host": host(), "machine": machine(), "boot": boot_id(), "pids": pid_namespace(), "pid": pid,
            "birth": _own_birth(pid)}  # fmt: skip


@lru_cache
def _own_birth(pid: int) -> str:
    return birth(pid)


@lru_cache
def pid_namespace() -> str:
    """Where a pid of ours means what it means to us: a container has its own. '' where the system does not say."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def alive(owner: Mapping[str, Any]) -> bool | None:
    """Whether the process a record names still lives; None when this host cannot say."""
    if owner.get("host") != host():
        return None
    if owner.get("boot") != boot_id():  # of this machine, or of another that has its name
        return False if owner.get("machine", machine()) == machine() else None
    if owner.get("pids", pid_namespace()) != pid_namespace():  # a container's pids say nothing out here
        return None
    pid = owner.get("pid")
    if born := birth(pid) if isinstance(pid, int) else "":
        return born == owner.get("birth")
    return False if birth(os.getpid()) else None  # None: where the system tells no births


# Signals and output


class Inbox:
    """The signals that arrived, in order, and a descriptor that wakes a select; the old handlers return at exit.

    heard: called, in the middle of anything, with how many asked us to stop so far, at each one.  notice_s: NOTICE is
    taken as the word of a scheduler that in so many seconds it will end us; None: it is nobody's word.  told: whether
    the scheduler tells the program itself to end; a second TERM, ours, would break into what it does about the first.
    ending: whether all of our job is being told to end, which we may hear later than the program.  warns: whether a
    CANCEL that farmx cancel did not send is such a word, too.  look_s: how often a wish to cancel the program is looked
    for that no signal tells of.
    """

    def __init__(
        self,
        heard: Callable[[int], None] = lambda count: None,
        notice_s: float | None = None,
        told: Callable[[], bool] = lambda: False,
        ending: Callable[[], bool] = lambda: False,
        warns: bool = False,
        look_s: float = LOOK_S,
    ) -> None:
        self.stops: list[int] = []
        self.cancelled = False  # a CANCEL came of which nobody has settled yet what it was
        self.wished = False
        self.noticed = False
        self.overheard = False  # a signal that was for the others of our job, and that somebody passes on to us
        self.notice_s = notice_s
        self.told = told
        self.ending = ending
        self.warns = warns
        self.look_s = look_s
        self.heard = heard
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._old: dict[int, Any] = {}
        self._others: int | None = None

    def __enter__(self) -> "Inbox":
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*STOPS, CANCEL, signal.SIGCHLD, *([] if self.notice_s is None else [NOTICE])):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
                self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, _frame: object) -> None:
        if number == self._others:
            self.overheard = True
        elif number == CANCEL:
            self.cancelled = True
        elif number == NOTICE:
            self.noticed = True
        elif number in STOPS and not (number == signal.SIGHUP and self.stops):  # its shell tells of a terminal, too
            self.stops.append(number)
            self.heard(len(self.stops))

    def overhear(self, number: int) -> None:
        """From now on this signal asks nothing of us; that it came is `overheard`."""
        self._others = number

    def heed(self, wished: Callable[[], bool]) -> None:
        """Settle what a CANCEL was. wished: whether somebody asked for this program's end.

        One that comes meanwhile is a new one, and asks nothing before it is settled, too: a scheduler may send two.
        """
        if not self.cancelled:
            return
        self.cancelled = False
        if wished():
            self.wished = True
        elif self.warns:
            self.noticed = True

    def begin(self) -> None:
        """Another program begins: a cancel was of the one before, a warning is for every one."""
        self.heed(lambda: False)
        self.wished = False

    def asked(self) -> int:
        """How many requests came to end a program; a scheduler that is told to cancel a run gives its notice, too."""
        return len(self.stops) + (self.wished or self.noticed)

    def shared(self) -> bool:
        """Whether a request came, or is on its way, that our program may have heard as we do."""
        if not self.stops and self.ending():
            self.stops.append(signal.SIGTERM)
        return bool(self.stops or self.overheard or (self.warns and (self.cancelled or self.noticed)))

    def missed(self) -> bool:
        """Whether a request came that a program which begins only now cannot have heard."""
        return self.overheard or self.cancelled or self.asked() > 0

    def wait(self, others: list[int], timeout_s: float) -> list[int]:
        """Sleep until a signal, a readable descriptor of `others` or the timeout; return those readable."""
        poller = select.poll()  # which takes any number, unlike select
        for descriptor in (self._reader, *others):
            poller.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(math.ceil(max(0.0, timeout_s) * 1000))}
        if self._reader in ready:
            os.read(self._reader, 4096)
        return [descriptor for descriptor in others if descriptor in ready]


def say(text: str, descriptor: int) -> None:
    """Write a line there, now; a full disk, or a reader that went away, loses it and stops nothing."""
    with suppress(OSError):
        os.write(descriptor, f"{text}\n".encode("utf-8", "surrogateescape"))


class Console:
    """Where a program's output goes: straight into its log. A subclass may stand between it and a terminal."""

    def open(self, log: int) -> int:
        """The descriptor that becomes the program's output."""
        return log

    def adopt(self) -> None:
        """Called in the child, which leads a session of its own, before the program starts."""
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)

    def descriptors(self) -> list[int]:
        """What to watch while the program runs."""
        return []

    def pump(self, descriptor: int) -> None:
        """Move what `descriptor` has."""

    def close(self) -> None:
        """The program is gone: move what is left, put the terminal back."""


# Programs


def marked(marks: Sequence[str]) -> list[int]:
    """The processes on this host, but us, with a mark at the begin of a variable of their environment (`NAME=va`)."""
    assert not isinstance(marks, str) and all("=" in mark for mark in marks), "a mark that fits anybody"
    sought = [b"\0" + os.fsencode(mark) for mark in marks]
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        environ = b"\0" + _text(f"/proc/{name}/environ")
        if any(mark in environ for mark in sought):
            found.append(int(name))
    return found


def clear(marks: Sequence[str], seconds: float = 5.0) -> None:
    """Kill the `marked` processes and see them gone, for so long at most."""
    until = time.monotonic() + seconds
    while (pids := marked(marks)) and time.monotonic() < until:
        for pid in pids:
            _kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_group(group: int, number: int) -> None:
    """Send `number` to every process of a group, if there is any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel for signal `number` when our parent dies, even by SIGKILL; nothing where it has no such call.

    Who forks calls `prctl` before: a child that had to find it would take twice as long to start.
    """
    call = prctl()
    if call is not None:
        call(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + number)


@lru_cache
def prctl() -> Any:
    """Linux's call of that name; None where there is none."""
    import ctypes  # spares those who only look at processes

    return getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


def spawn(argv: list[str], env: Mapping[str, str], cwd: str, output: int, console: Console) -> int:
    """Start a program in a session of its own, its output on `output`; return its pid. It dies with us.

    When this returns, the program has begun, or it has ended with 127: signals for it reach it, not what we forked. One
    that reached that ends it all the same, so a request that came before this returns may be passed on to the program.
    """
    parent = os.getpid()
    prctl()
    begun, beginning = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)  # until the child has no handlers of ours
    try:
        pid = os.fork()
        if pid == 0:
            _become(argv, env, cwd, output, console, parent, mask)
    except OSError:
        os.close(begun)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(beginning)
    os.read(begun, 1)  # ends when execvpe closes the other end
    os.close(begun)
    return pid


def _become(
    argv: list[str],
    env: Mapping[str, str],
    cwd: str,
    output: int,
    console: Console,
    parent: int,
    mask: Collection[int],
) -> NoReturn:
    """The child of `spawn` becomes the program. mask: the signals that it is to block.

    Each page of memory that this touches is copied, so it does little.
    """
    try:
        os.setsid()
        for number in (*REQUESTS, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        die_with_parent(signal.SIGKILL, parent)
        console.adopt()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(cwd)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        (os.execve if argv[0].startswith(os.sep) else os.execvpe)(argv[0], argv, env)
    except OSError as error:
        os.write(output, os.fsencode(f"{error.filename or argv[0]}: {error.strerror}\n"))
    finally:
        os._exit(127)


class Stop:
    """What was asked of a program: nothing, to end (and by when), or to be gone."""

    def __init__(
        self,
        group: int,
        grace_s: float,
        note: Callable[[int], None],
        cancelled: Callable[[], bool] | None = None,
        early: bool = False,
    ) -> None:
        """cancelled: whether somebody asked for this program's end; None: nobody but who sends a cancel signal.

        early: whether a request came before the program began, so that it was for us alone.
        """
        self.state: str | None = None
        self._group, self._grace_s, self._note, self._cancelled = group, grace_s, note, cancelled
        self._deadline: float | None = None
        self._seen, self._early = 0, early

    def follow(self, inbox: Inbox) -> None:
        """Act on what arrived: the first request asks, a second one or the end of the grace kills."""
        inbox.heed(self._cancelled or (lambda: True))
        asked = inbox.asked()
        if asked and self.state is None:
            self.ask(*self._asked(inbox), told=not self._early and inbox.told())
        if asked > self._seen or (self._deadline is not None and time.monotonic() > self._deadline):
            self._deadline = None
            self._send(signal.SIGKILL)
        self._seen = max(asked, self._seen)

    def look(self) -> None:
        """Act on a wish to cancel the program that no signal told of."""
        if self.state in (None, "preempted") and self._cancelled is not None and self._cancelled():
            if self.state is None:
                self.ask("cancelled", self._grace_s)
            self.state = "cancelled"

    def ended(self, inbox: Inbox) -> None:
        """The program ended, perhaps well: a scheduler signals all of a job at once, and it may have heeded that."""
        if self.state is None and inbox.shared():
            inbox.heed(self._cancelled or (lambda: True))
            self.state = self._asked(inbox)[0]

    def _asked(self, inbox: Inbox) -> tuple[str, float]:
        """What the first request makes of the program, and its grace."""
        noticed = inbox.notice_s is not None and not (inbox.stops or inbox.wished or inbox.overheard)
        grace_s = max(inbox.notice_s - _RECORD_S, inbox.notice_s / 2) if noticed and inbox.notice_s else self._grace_s
        if inbox.wished or (self._cancelled is not None and self._cancelled()):
            return "cancelled", grace_s
        return "preempted" if noticed else "interrupted", grace_s

    def ask(self, state: str, grace_s: float, told: bool = False) -> None:
        """Ask the program to end within so many seconds, as `state`; told: it was asked already."""
        self.state = state
        self._seen = 1  # two requests may have come already; who is asked for other reasons is told by a signal later
        self._deadline = time.monotonic() + grace_s
        (self._note if told else self._send)(signal.SIGTERM)

    def timeout_s(self) -> float:
        """How long until `follow` must be called again."""
        return BEAT_S if self._deadline is None else self._deadline - time.monotonic() + 0.01

    def _send(self, number: int) -> None:
        self._note(number)
        kill_group(self._group, number)
        kill_group(self._group, signal.SIGCONT)


def supervise(pid: int, inbox: Inbox, stop: Stop, console: Console, beat: Callable[[], bool]) -> tuple[int, Any]:
    """Wait for the program: beat, move its output, pass signals on. Return its wait status and resource usage.

    What it leaves in its group is killed: it would write into a finished run. After that its pid may be another's.
    beat: whether the program is to go on.
    """
    beaten = looked = time.monotonic()
    while True:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            kill_group(pid, signal.SIGKILL)  # before it is reaped, which frees the number
            _, status, usage = os.wait4(pid, 0)
            stop.ended(inbox)
            return status, usage
        stop.follow(inbox)
        due = min(beaten + BEAT_S, looked + inbox.look_s) - time.monotonic()
        for descriptor in inbox.wait(console.descriptors(), min(stop.timeout_s(), due)):
            console.pump(descriptor)
        if time.monotonic() - looked >= inbox.look_s:
            stop.look()
            looked = time.monotonic()
        if time.monotonic() - beaten >= BEAT_S:
            if not beat() and stop.state is None:
                stop.ask("interrupted", 0.0)
            beaten = time.monotonic()
