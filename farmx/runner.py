"""Executes one attempt of a run: takes it, builds the run's own code tree, supervises the process group, records.

Alone in one file on the standard library, so that it can be carried to a node; never imports anything of farmx, never
decides what to run next. Everything it writes is in the run's directory.
"""

import ctypes
import errno
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Names on disk: the same as in layout, which this file cannot import; a test holds them equal.
RUN = "run.json"
LAUNCH = "launch.sh"
CODE = "code"
OWN_CODE = ".code"
ATTEMPTS = "attempts"
OUTPUT = "output.log"
OWNER = "owner.json"
EVENTS = "events.jsonl"
HEARTBEAT = "heartbeat"
END = "end.json"
LOG_SUFFIX = ".log"
FARMX = ".farmx"
SNAPSHOTS = "snapshots"
TREE = "code"
ATTEMPT_FORMAT = 1

BEAT_S = 60.0  # how often the heartbeat is touched
GRACE_S = 30.0  # between the signal that asks a program to end and the one that makes it
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CANCEL = signal.SIGUSR1  # farmx cancel; any other end of ours is an interruption
END_RESERVE = b" " * 1024  # so that a disk full at the end still takes the end record

_PR_SET_PDEATHSIG = 1


class Outcome(NamedTuple):
    """How an attempt ended, or who has it.

    state: done, failed, cancelled, interrupted; held when somebody else took the attempt first.
    code, signal: the program's exit code, or the name of the signal that ended it.  note: one line for people.
    """

    state: str
    code: int | None = None
    signal: str | None = None
    seconds: float = 0.0
    note: str = ""


class Inbox:
    """The signals that arrived, in order, and a descriptor that wakes a select; the old handlers return at exit."""

    def __init__(self) -> None:
        self.stops: list[int] = []
        self.cancelled = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Inbox":
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*STOPS, CANCEL, signal.SIGCHLD):
            self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, _frame: object) -> None:
        if number == CANCEL:
            self.cancelled = True
        elif number in STOPS:
            self.stops.append(number)

    def wait(self, others: list[int], timeout_s: float) -> list[int]:
        """Sleep until a signal, a readable descriptor of `others` or the timeout; return those readable."""
        ready, _, _ = select.select([self._reader, *others], [], [], max(0.0, timeout_s))
        if self._reader in ready:
            os.read(self._reader, 4096)
        return [fd for fd in ready if fd != self._reader]


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


# ---------------------------------------------------------------- records


def write(path: str, record: Mapping[str, Any]) -> None:
    """Put `record` at `path` at once."""
    aside = f"{path}.{os.getpid()}"
    with open(aside, "w", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    os.replace(aside, path)


def read(path: str) -> dict[str, Any] | None:
    """The record at `path`; None when there is none or it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def boot_id() -> str:
    """What tells this boot of this machine from all others; '' where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def birth(pid: int) -> str:
    """When process `pid` was born, in the kernel's ticks: with the pid, a name no other process has. '' when gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def process() -> dict[str, Any]:
    """What names this process among all: host, boot, pid and birth."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": boot_id(), "pid": pid, "birth": birth(pid)}


def alive(owner: Mapping[str, Any]) -> bool | None:
    """Whether the process a record names still lives; None when it is not for this host to say."""
    if owner.get("host") != socket.gethostname():
        return None
    if owner.get("boot") != boot_id():
        return False
    pid = owner.get("pid")
    return isinstance(pid, int) and birth(pid) == owner.get("birth")


# ---------------------------------------------------------------- taking an attempt


def take(run: str, number: str, facts: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Become the owner of attempt `number` ("2.0") of the run directory `run`.

    Returns (the attempt's directory, our owner record), or (None, the record of whoever has it). At most one process
    ever gets the directory: it is built aside with its owner inside and renamed, which fails once one is there.
    """
    attempts = os.path.join(run, ATTEMPTS)
    os.makedirs(attempts, exist_ok=True)
    attempt = os.path.join(attempts, number)
    ordinal = 1 + sum(not name.startswith(".") and name != number for name in os.listdir(attempts))
    owner = {"format": ATTEMPT_FORMAT, **process(), "started": time.time(), "ordinal": ordinal, **facts}
    aside = os.path.join(attempts, f".{number}.{owner['host']}.{owner['pid']}.{owner['birth']}")
    shutil.rmtree(aside, ignore_errors=True)
    os.mkdir(aside)
    write(os.path.join(aside, OWNER), owner)
    try:
        os.rename(aside, attempt)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        holder = read(os.path.join(attempt, OWNER)) or {}
        shutil.rmtree(aside, ignore_errors=True)
        # NFS repeats calls: the second answer to our own rename says EEXIST.
        return (attempt, owner) if holder == owner else (None, holder)
    return attempt, owner


def close_attempt(run: str, number: str, facts: Mapping[str, Any], state: str) -> bool:
    """Take an attempt only to end it as `state`, so that it can never start; False when it was taken before."""
    attempt, owner = take(run, number, facts)
    if attempt:
        write(os.path.join(attempt, END), end_record(owner, state))
    return attempt is not None


def end_record(owner: Mapping[str, Any], state: str, **more: Any) -> dict[str, Any]:
    """What end.json says; `started` stands there again so that an ended attempt is read with one open."""
    return {"format": ATTEMPT_FORMAT, "state": state, "started": owner["started"], "ended": time.time(), **more}


# ---------------------------------------------------------------- the run's own code tree


def own_code(run: str, digest: str, shared: bool) -> None:
    """Make `code` lead to this run's own tree of snapshot `digest` (to the snapshot itself when `shared`).

    A tree that an earlier attempt built of the same snapshot is kept with all that the program wrote there.
    """
    target = os.path.join(os.pardir, FARMX, SNAPSHOTS, digest, TREE)
    if not shared:
        _build(os.path.join(run, os.path.dirname(target), TREE), os.path.join(run, OWN_CODE, digest))
        target = os.path.join(OWN_CODE, digest)
    point(os.path.join(run, CODE), target)


def _build(snapshot: str, tree: str) -> None:
    if os.path.isdir(tree):
        return
    aside = f"{tree}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    os.makedirs(aside)
    link_tree(snapshot, aside)
    try:
        os.rename(aside, tree)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not os.path.isdir(tree):
            raise


def link_tree(source: str, target: str) -> None:
    """Fill the empty directory `target` with what is in `source`: files as hard links, links as themselves."""
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)
            elif entry.is_dir():
                os.mkdir(path)
                link_tree(entry.path, path)
            else:
                _link(entry.path, path)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            raise
        shutil.copy2(source, target)


def point(link: str, target: str) -> None:
    """Make the symlink `link` say `target`, at once."""
    try:
        if os.readlink(link) == target:
            return
    except OSError:
        pass
    aside = f"{link}.{os.getpid()}"
    if os.path.lexists(aside):
        os.unlink(aside)
    os.symlink(target, aside)
    os.rename(aside, link)


# ---------------------------------------------------------------- processes


def leftovers(run: str) -> list[int]:
    """The processes on this host that earlier attempts of `run` started and that still live, whatever their session."""
    mark = f"\0FARMX_ATTEMPT_DIR={os.path.join(run, ATTEMPTS)}{os.sep}".encode()
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit() and int(name) != os.getpid() and mark in b"\0" + _environ(name):
            found.append(int(name))
    return found


def _environ(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def clear(run: str, seconds: float = 5.0) -> None:
    """Kill what a killed runner left of earlier attempts, so that at most one attempt is current."""
    until = time.monotonic() + seconds
    while (pids := leftovers(run)) and time.monotonic() < until:
        for pid in pids:
            _kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _kill_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel for signal `number` when our parent dies, even by SIGKILL; nothing where it has no such call."""
    prctl = getattr(_libc, "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + number)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(argv: list[str], env: Mapping[str, str], cwd: str, output: int, console: Console) -> int:
    """Start a program in a session of its own, its output on `output`; return its pid. It dies with us."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in (*STOPS, CANCEL, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        die_with_parent(signal.SIGKILL, parent)
        console.adopt()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(output, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


class Stop:
    """What was asked of a program: nothing, to end (and by when), or to be gone."""

    def __init__(self, group: int, grace_s: float, note: Callable[[int], None]) -> None:
        self.state: str | None = None
        self._group, self._grace_s, self._note = group, grace_s, note
        self._deadline: float | None = None
        self._seen = 0

    def follow(self, inbox: Inbox) -> None:
        """Act on what arrived: the first request asks, a second one or the end of the grace kills."""
        asked = len(inbox.stops) + inbox.cancelled
        if asked and self.state is None:
            self.state = "cancelled" if inbox.cancelled else "interrupted"
            self._deadline = time.monotonic() + self._grace_s
            self._send(signal.SIGTERM)
        elif asked > self._seen or (self._deadline is not None and time.monotonic() > self._deadline):
            self._deadline = None
            self._send(signal.SIGKILL)
        self._seen = asked

    def timeout_s(self) -> float:
        """How long until `follow` must be called again."""
        return BEAT_S if self._deadline is None else self._deadline - time.monotonic() + 0.01

    def _send(self, number: int) -> None:
        self._note(number)
        _kill_group(self._group, number)
        _kill_group(self._group, signal.SIGCONT)


def supervise(pid: int, inbox: Inbox, stop: Stop, console: Console, beat: Callable[[], None]) -> tuple[int, Any]:
    """Wait for the program: beat, move its output, pass signals on. Return its wait status and resource usage."""
    beaten = time.monotonic()
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage
        stop.follow(inbox)
        for descriptor in inbox.wait(console.descriptors(), min(stop.timeout_s(), beaten + BEAT_S - time.monotonic())):
            console.pump(descriptor)
        if time.monotonic() - beaten >= BEAT_S:
            beat()
            beaten = time.monotonic()


# ---------------------------------------------------------------- an attempt from end to end


class Attempt:
    """The records of one attempt while it runs; every method writes what it says and nothing else."""

    def __init__(self, path: str, owner: Mapping[str, Any], pulse: Callable[[], None]) -> None:
        self.path, self.owner, self._pulse = path, owner, pulse
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._events = os.open(os.path.join(path, EVENTS), flags, 0o666)
        self._end = os.open(os.path.join(path, f".{END}"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.write(self._end, END_RESERVE)
        os.close(os.open(os.path.join(path, HEARTBEAT), flags, 0o666))

    def event(self, event: str, **more: Any) -> None:
        """Append one line; a full disk loses the line, never the run."""
        row = {"time": time.time(), "event": event, **more}
        try:
            os.write(self._events, (json.dumps(row) + "\n").encode())
        except OSError:
            return

    def beat(self) -> None:
        """Say that we live."""
        self._pulse()
        try:
            os.utime(os.path.join(self.path, HEARTBEAT))
        except OSError:
            return

    def end(self, state: str, **more: Any) -> None:
        """Record the end, in the space kept for it, and close."""
        record = json.dumps(end_record(self.owner, state, **more)).encode()
        os.pwrite(self._end, record + b"\n", 0)
        os.ftruncate(self._end, len(record) + 1)
        os.rename(os.path.join(self.path, f".{END}"), os.path.join(self.path, END))
        os.close(self._end)
        os.close(self._events)


def execute(
    run: str,
    number: str,
    facts: Mapping[str, Any],
    inbox: Inbox,
    console: Console | None = None,
    env: Mapping[str, str] | None = None,
    grace_s: float = GRACE_S,
    pulse: Callable[[], None] = lambda: None,
) -> Outcome:
    """Execute attempt `number` of the run directory `run` and record it; return how it ended.

    facts: what else owner.json says (farm, submission).  env: what this slot adds to the environment.  pulse: called
    with every heartbeat.
    Raises OSError only when the attempt could not be taken; whatever fails later is recorded as its end.
    """
    taken, owner = take(run, number, facts)
    if taken is None:
        return Outcome("held", note=f"taken by process {owner.get('pid')} on {owner.get('host')}")
    attempt = Attempt(taken, owner, pulse)
    try:
        outcome = _run_stages(run, attempt, inbox, console or Console(), env or {}, grace_s)
    except OSError as error:
        outcome = Outcome("failed", note=f"could not start: {error}")
    seconds = time.time() - owner["started"]
    attempt.end(outcome.state, code=outcome.code, signal=outcome.signal, note=outcome.note)
    inbox.cancelled = False
    return outcome._replace(seconds=seconds)


def _run_stages(
    run: str, attempt: Attempt, inbox: Inbox, console: Console, env: Mapping[str, str], grace_s: float
) -> Outcome:
    record = read(os.path.join(run, RUN))
    if record is None:
        return Outcome("failed", note=f"{os.path.join(run, RUN)} cannot be read")
    if attempt.owner["ordinal"] > 1:
        clear(run)
    own_code(run, record["digest"], record["code"]["staging"] == "share")
    environ = environment(run, record, attempt, env)
    outcome = Outcome("done", code=0)
    for stage in record["stages"]:
        outcome = _run_stage(run, stage["name"], attempt, inbox, console, environ, grace_s)
        if outcome.state != "done":
            break
    return outcome


def environment(run: str, record: Mapping[str, Any], attempt: Attempt, env: Mapping[str, str]) -> dict[str, str]:
    """What the program finds in its environment beside what launch.sh sets."""
    ours = {
        "FARMX_RUN": run,
        "FARMX_ATTEMPT": str(attempt.owner["ordinal"]),
        "FARMX_ATTEMPT_DIR": attempt.path,
        "FARMX_EXPERIMENT": record["experiment"],
        "FARMX_POINT": record["point"],
        "LOGDIR": run,
        "PYTHONUNBUFFERED": "1",  # a log is read while the program runs, and after it was killed
    }
    return {**os.environ, **ours, **env}


def _run_stage(
    run: str, stage: str, attempt: Attempt, inbox: Inbox, console: Console, env: Mapping[str, str], grace_s: float
) -> Outcome:
    path = os.path.join(attempt.path, stage + LOG_SUFFIX)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    point(os.path.join(run, OUTPUT), os.path.relpath(path, run))
    output = console.open(log)
    try:
        pid = spawn([os.path.join(run, LAUNCH), stage], env, run, output, console)
        attempt.event("started", stage=stage, pid=pid)
        stop = Stop(pid, grace_s, lambda number: attempt.event("signalled", signal=signal.Signals(number).name))
        status, usage = supervise(pid, inbox, stop, console, attempt.beat)
        _kill_group(pid, signal.SIGKILL)  # children that outlive their program would write into a finished run
    finally:
        console.close()
        os.close(log)
    outcome = _outcome(status, stop.state, stage)
    attempt.event("ended", stage=stage, code=outcome.code, signal=outcome.signal,
                  cpu_s=round(usage.ru_utime + usage.ru_stime, 3), max_rss_mb=usage.ru_maxrss // 1024)  # fmt: skip
    return outcome


def _outcome(status: int, stopped: str | None, stage: str) -> Outcome:
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Outcome(stopped or "failed", None, name, note=f"{stage} was ended by {name}")
    code = os.WEXITSTATUS(status)
    if code == 0 and not stopped:
        return Outcome("done", 0)
    return Outcome(stopped or "failed", code, note=f"{stage} exited with {code}")
