"""Executes one attempt of a run: takes it, has its directory outfitted, supervises the process group, records.

Made to be carried to nodes with what it imports, all on the standard library. It never decides what to run next;
everything it writes is in the run's directory.
"""

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from farmx import layout, outfit, processes, stages
from farmx.errors import RecordError
from farmx.processes import Console, Inbox, Stop

GRACE_S = 30.0  # between the signal that asks a program to end and the one that makes it
END_RESERVE = b" " * 1024  # so that a disk full at the end still takes the end record


class Outcome(NamedTuple):
    """How an attempt ended, or who has it.

    state: done, failed, cancelled, interrupted; held when somebody else took the attempt first.
    code, signal: the program's exit code, or the name of the signal that ended it.  note: one line for people.  again:
    whether we, and nobody else, are to have it queued again.  cause: what RETRY calls it, where that is known.
    """

    state: str
    code: int | None = None
    signal: str | None = None
    seconds: float = 0.0
    note: str = ""
    again: bool = False
    cause: str | None = None

    def killed(self) -> bool:
        """Whether SIGKILL ended its program, or one of that, as a shell says it."""
        return self.signal == "SIGKILL" or self.code == 128 + signal.SIGKILL


# ---------------------------------------------------------------- taking an attempt


def take(run: str, number: str, facts: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Become the owner of attempt `number` ("2.0") of the run directory `run`.

    Returns (the attempt's directory, our owner record), or (None, the record of whoever has it). At most one process
    ever gets the directory: it is built aside with its owner inside and renamed, which fails once one is there.
    """
    attempts = os.path.join(run, layout.ATTEMPTS)
    with suppress(FileExistsError):
        os.mkdir(attempts)  # not its parents: a run that somebody deleted stays so
    attempt = os.path.join(attempts, number)
    names = os.listdir(attempts)
    if after := _after(number, names):  # a scheduler restarted what we had given up and queued anew
        return None, _owner(os.path.join(attempts, after))
    others = (os.path.join(attempts, name) for name in names if not name.startswith(".") and name != number)
    ordinal = 1 + sum(map(_counts, others))
    owner = {"format": layout.ATTEMPT_FORMAT, **processes.this(), "started": time.time(), "ordinal": ordinal,
             "path": attempt, **facts}  # fmt: skip
    aside = os.path.join(attempts, f".{number}.{owner['host']}.{owner['pid']}.{owner['birth']}")
    outfit.empty(aside)
    layout.new(os.path.join(aside, f".{layout.END}"), END_RESERVE)  # so who owns an attempt can record its end
    layout.new(os.path.join(aside, layout.OWNER), json.dumps(owner).encode() + b"\n")
    try:
        layout.rename(aside, attempt, lambda: _owner(attempt) == owner)
    except OSError as error:
        there = error.errno in (errno.EEXIST, errno.ENOTEMPTY)  # a look may tell what NFS remembers from before
        if not there and not (error.errno == errno.EPERM and os.path.isdir(attempt)):  # sshfs's word for it
            raise
        outfit.remove(aside)
        return None, _owner(attempt)
    return attempt, owner


def close(run: str, number: str, **more: str) -> bool:
    """Have the attempt end as cancelled, taken by us alone, so that it never starts; False where others execute it.

    more: what its end says beside. Raises OSError.
    """
    attempt, owner = take(run, number, {"farm": layout.LOCAL, "submission": ""})
    if attempt:
        record_end(attempt, end_record(owner, "cancelled", begun=False, **more))
    return attempt is not None or not _counts(os.path.join(run, layout.ATTEMPTS, number))


def _owner(attempt: str) -> dict[str, Any]:
    return layout.of_attempt(attempt, layout.OWNER) or {}


def owned(attempt: str, pid: int, birth: str | None = None) -> dict[str, Any] | None:
    """The owner record of the attempt at that path, where it names process `pid` of this host; else None.

    birth: of the process; None where it has gone and nobody asked in time.
    """
    owner = _owner(attempt)
    named = (owner.get("pid"), owner.get("host")) == (pid, processes.host())
    return owner if named and birth in (None, owner.get("birth")) else None


def newer(attempt: str) -> str | None:
    """The name of an attempt of the same run that came after the one at `attempt`; only the newest is current.

    None where they cannot be looked at: a file system that stumbles at a heartbeat ends no program.
    """
    attempts, number = os.path.split(attempt)
    try:
        return _after(number, os.listdir(attempts))
    except OSError:
        return None


def _after(number: str, names: Iterable[str]) -> str | None:
    mine = layout.attempt_number(number) or (0, 0)
    return next((name for name in names if (layout.attempt_number(name) or (0, 0)) > mine), None)


def _counts(attempt: str) -> bool:
    """Whether somebody took the attempt to execute it: a cancel takes one that waits so that nobody does."""
    return (layout.of_attempt(attempt, layout.END) or {}).get("begun") is not False


def end_record(owner: Mapping[str, Any], state: str, **more: Any) -> dict[str, Any]:
    """What end.json says; `started` stands there again so that an ended attempt is read with one open."""
    return {"format": layout.ATTEMPT_FORMAT, "state": state, "started": owner["started"], "ended": time.time(), **more}


def record_end(attempt: str, record: Mapping[str, Any], home: int | None = None) -> None:
    """Record how the attempt of ours at this path ended, in the space kept for it. Raises OSError.

    record: of `end_record`; a note that is too long for that is cut.  home: the descriptor of the directory that a
    relative path begins at.
    """
    kept, end = (os.path.join(attempt, name) for name in (f".{layout.END}", layout.END))
    text = json.dumps(record).encode() + b"\n"
    if len(text) > len(END_RESERVE) and record.get("note"):  # a character is up to twelve bytes of json
        text = json.dumps({**record, "note": record["note"][: len(END_RESERVE) // 16]}).encode() + b"\n"
    descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666, dir_fd=home)
    try:
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
        layout.rename(kept, end, partial(_is, end, descriptor, home), home)
    finally:
        os.close(descriptor)


def _is(path: str, descriptor: int, home: int | None) -> bool:
    """Whether the file at that path is the one that is open."""
    try:
        return os.path.samestat(os.stat(path, dir_fd=home), os.fstat(descriptor))
    except OSError:
        return False


# ---------------------------------------------------------------- an attempt from end to end


class Attempt:
    """The records of one attempt while it runs; every method writes what it says and nothing else."""

    def __init__(self, path: str, owner: Mapping[str, Any], pulse: Callable[[], None]) -> None:
        self.path, self.owner, self._pulse = path, owner, pulse
        self._home = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # whatever the run is renamed to
        self._open = [self._home]
        self._counts = os.fstat(self._home).st_nlink > 0  # some file systems count no links
        self.stages: list[dict[str, Any]] | None = None  # how each stands, where there are several

    def begin(self) -> None:
        """Make what is written meanwhile. Raises OSError; an end can be recorded all the same."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._events = os.open(layout.EVENTS, flags, 0o666, dir_fd=self._home)
        self._open.append(self._events)
        os.close(os.open(layout.HEARTBEAT, flags, 0o666, dir_fd=self._home))

    def cancelled(self) -> bool:
        """Whether somebody asked for this attempt's end, and not for that of one before it in our process.

        Who looked before our job was restarted asked for the end of what it ran then.
        """
        with suppress(OSError):
            if not self._in_place():
                return layout.CANCEL in os.listdir(self._home)
            home, name = os.path.split(self.path)
            queued, restarted = layout.attempt_number(name) or (0, 0)
            names = (layout.attempt_name(queued, count) for count in range(restarted, -1, -1))
            return any(layout.wished(os.path.join(home, name)) for name in names)
        return False

    def _in_place(self) -> bool:
        """Whether it is where it began: the run may have been renamed, and another taken its name. Raises OSError."""
        return os.path.exists(self.path) and os.path.samestat(os.stat(self.path), os.fstat(self._home))

    def event(self, event: str, **more: Any) -> None:
        """Append one line; a full disk loses the line, never the run."""
        row = {"time": time.time(), "event": event, **more}
        try:
            os.write(self._events, (json.dumps(row) + "\n").encode())
        except OSError:
            return

    def beat(self) -> bool:
        """Say that we live; whether this attempt is there and still the newest of its run."""
        self._pulse()
        with suppress(OSError):
            os.utime(layout.HEARTBEAT, dir_fd=self._home)
        return not self._deleted() and not self._superseded()

    def _superseded(self) -> bool:
        """Whether a newer attempt of the run has begun, wherever that is by now; no, where that cannot be looked at."""
        with suppress(OSError):
            if self._in_place():  # by its path, since over NFS the list of what is open may be an old one
                return newer(self.path) is not None
            attempts = os.open(os.pardir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._home)
            try:
                return _after(os.path.basename(self.path), os.listdir(attempts)) is not None
            finally:
                os.close(attempts)
        return False

    def _deleted(self) -> bool:
        """Whether somebody deleted it, not just renamed the run: another run of its point may have begun."""
        try:
            return self._counts and os.fstat(self._home).st_nlink == 0
        except OSError as error:  # what NFS says of that, and also while its server is being replaced
            return error.errno == errno.ESTALE and _gone(self.path)

    def end(self, state: str, **more: Any) -> None:
        """Record the end, in the space kept for it, and close."""
        if self.stages:
            more["stages"] = self.stages
        try:
            record_end("", end_record(self.owner, state, **more), self._home)
        finally:
            for descriptor in self._open:
                os.close(descriptor)


def _gone(path: str) -> bool:
    """Whether the file server says that nothing is there; one that does not answer says nothing."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno == errno.ENOENT
    return False


def execute(
    run: str,
    number: str,
    facts: Mapping[str, Any],
    inbox: Inbox,
    console: Console | None = None,
    env: Mapping[str, str] | None = None,
    grace_s: float = GRACE_S,
    pulse: Callable[[], None] = lambda: None,
    each: Sequence[str] = (),
    judge: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> Outcome:
    """Execute attempt `number` of the run directory `run` and record it; return how it ended.

    facts: what else owner.json says (farm, submission).  env: what this slot adds to the environment.  pulse: called
    with every heartbeat.  each: words before every command, to start it once a task.  judge: what its end was, where
    somebody knows more than the exit code.
    Raises OSError or StageError when the attempt could not be taken, or its end not be recorded. What our surroundings
    refuse in between (a full disk, a lost right) interrupts it: that is no fault of the run's.
    """
    inbox.begin()
    taken, owner = take(run, number, facts)
    if taken is None:
        return _held(os.path.join(run, layout.ATTEMPTS, number), owner)
    attempt = Attempt(taken, owner, pulse)
    try:
        attempt.begin()
        start = _Start(run, attempt, inbox, console or Console(), env or {}, grace_s, each)
        outcome = judge(_run_stages(start))
    except OSError as error:
        outcome = Outcome("interrupted", note=f"{error.filename or run}: {error.strerror}")
    except RecordError as error:
        outcome = Outcome("interrupted", note=str(error))
    seconds = time.time() - owner["started"]
    more: dict[str, Any] = {"again": True} if outcome.again else {}
    more |= {"cause": outcome.cause} if outcome.cause else {}
    attempt.end(outcome.state, code=outcome.code, signal=outcome.signal, note=outcome.note, **more)
    if outcome.state == "preempted" and layout.wished(taken) and _closed(run, layout.attempt_after(number)):
        outcome = outcome._replace(state="cancelled", note="before its next attempt", again=False)
    return outcome._replace(seconds=seconds)


def _closed(run: str, number: str) -> bool:
    """close(), where that can be; else it is for who would begin that attempt: the end of this one is recorded."""
    with suppress(OSError):
        return close(run, number)
    return False


def _held(attempt: str, owner: Mapping[str, Any]) -> Outcome:
    """What became of an attempt that was not ours to take."""
    end = layout.of_attempt(attempt, layout.END) or {}
    if end.get("state") == "cancelled":
        return Outcome("cancelled", note="cancelled before it began")
    return Outcome("held", note=f"taken by process {owner.get('pid')} on {owner.get('host')}")


class _Start(NamedTuple):
    """What a stage's program is started with. env: its own, beside ours.  command: the words before a stage's name."""

    run: str
    attempt: Attempt
    inbox: Inbox
    console: Console
    env: Mapping[str, str]
    grace_s: float
    command: Sequence[str]


def _run_stages(start: _Start) -> Outcome:
    """start.command: what goes before every command yet, not the command."""
    run, attempt = start.run, start.attempt
    if after := newer(attempt.path):  # it came while we took ours
        return Outcome("interrupted", note=f"attempt {after} of this run has begun")
    record = layout.read_or_none(os.path.join(run, layout.RUN), layout.RUN_FORMAT)
    if record is None or not outfit.whole(record):
        return Outcome("interrupted", note=f"{os.path.join(run, layout.RUN)} does not say what to run")
    if attempt.owner["ordinal"] > 1:
        clear(attempt.path)  # what a killed runner left
    # As the shell's argument, so that it runs where nothing may be executed.
    command = [*start.command, outfit.unfold(run, record), os.path.join(run, layout.LAUNCH)]
    outfit.own_code(run, record["digest"], record["code"]["staging"])
    number = os.path.basename(attempt.path)
    todo = stages.plan(run, number, record)
    since = stages.since(run, number, attempt.owner["started"], todo)
    start = start._replace(command=command, env=environment(run, record, attempt, start.env, since))
    attempt.stages, outcome = todo.told({}), Outcome("done", code=0)
    for place in todo.kept - set(todo.run):
        attempt.event(stages.KEPT, stage=todo.stages[place]["name"], **todo.marks(place))
    ended: dict[int, str] = {}
    for place in todo.run:
        stage = _Stage(todo.stages[place]["name"], todo.marks(place))
        if ended and attempt.cancelled():  # the one before may have been shorter than the time between two looks
            clear(attempt.path)  # what the one before left
            return Outcome("cancelled", note=f"before {stage.name} began")
        outcome = _run_stage(start, stage)
        ended[place] = outcome.state
        attempt.stages = todo.told(ended)
        if outcome.state != "done":
            break
    return outcome


def clear(attempt: str) -> None:
    """Kill every process on this host that the attempt at that path, or one of its run before it, started.

    Whatever session it went to. Owner records say by which path an attempt knew itself: the run may have been renamed.
    """
    attempts, number = os.path.split(attempt)
    mine = layout.attempt_number(number) or (0, 0)
    before = [name for name in layout.names(attempts) if (0, 0) < (layout.attempt_number(name) or (0, 0)) < mine]
    paths = {os.path.join(attempts, name) for name in (number, *before)}
    paths |= {known for path in paths if isinstance(known := _owner(path).get("path"), str)}
    processes.clear([f"{layout.ENV_ATTEMPT_DIR}={path}{end}" for path in paths for end in ("\0", os.sep)])


def environment(
    run: str, record: Mapping[str, Any], attempt: Attempt, env: Mapping[str, str], since: float
) -> dict[str, str]:
    """What the program finds in its environment beside what launch.sh sets. since: as stages.since has it."""
    ours = {
        layout.ENV_RUN: run,
        layout.ENV_ATTEMPT: str(attempt.owner["ordinal"]),
        layout.ENV_ATTEMPT_DIR: attempt.path,
        layout.ENV_EXPERIMENT: record["experiment"],
        layout.ENV_POINT: record["point"],
        layout.ENV_LOGDIR: run,
        layout.ENV_STARTED: time.strftime(layout.STARTED_FORM, time.localtime(since)),
        "PYTHONUNBUFFERED": "1",  # a log is read while the program runs, and after it was killed
    }
    return {**os.environ, **ours, **env}


class _Stage(NamedTuple):
    """A stage to run. marks: what its events say of it beside its name."""

    name: str
    marks: Mapping[str, Any]


def _run_stage(start: _Start, stage: _Stage) -> Outcome:
    attempt = start.attempt
    name = stage.name + layout.LOG_SUFFIX
    log = os.open(os.path.join(attempt.path, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        number = os.path.basename(attempt.path)
        outfit.point(os.path.join(start.run, layout.OUTPUT), os.path.join(layout.ATTEMPTS, number, name))
        status, usage, stopped = _run_program(start, stage, log)
    finally:
        os.close(log)
    outcome = _outcome(status, stopped, stage.name)
    more = {**stage.marks, "state": outcome.state} if stage.marks else {}
    attempt.event("ended", stage=stage.name, code=outcome.code, signal=outcome.signal, **more,
                  cpu_s=round(usage.ru_utime + usage.ru_stime, 3), max_rss_mb=usage.ru_maxrss // 1024)  # fmt: skip
    return outcome


def _run_program(start: _Start, stage: _Stage, log: int) -> tuple[int, Any, str | None]:
    """Its wait status, its resource usage, and as what it was stopped, if it was."""
    attempt, console = start.attempt, start.console
    output, pid, begun = console.open(log), None, time.time()  # no row that the program logs is older than that
    try:
        pid = processes.spawn([*start.command, stage.name], start.env, start.run, output, console)
        stop = Stop(pid, start.grace_s, partial(_sent, attempt), attempt.cancelled, early=start.inbox.missed())
        attempt.event("started", time=begun, stage=stage.name, pid=pid, **stage.marks)
        status, usage = processes.supervise(pid, start.inbox, stop, console, attempt.beat)
        pid = None  # reaped, its group killed: the number may be another's
        # Whoever ends a job may signal its program first, and we hear of it too late.
        unasked = stop.state == "preempted" or (stop.state is None and status)
        stopped = "cancelled" if unasked and attempt.cancelled() else stop.state
        if stopped:
            clear(attempt.path)  # what left the group does not outlive a run that was told to end
        return status, usage, stopped
    finally:
        if pid:
            processes.kill_group(pid, signal.SIGKILL)
        console.close()


def _sent(attempt: Attempt, number: int) -> None:
    attempt.event("signalled", signal=signal.Signals(number).name)


def _outcome(status: int, stopped: str | None, stage: str) -> Outcome:
    if os.WIFSIGNALED(status):
        name = signal_name(os.WTERMSIG(status))
        return Outcome(stopped or "failed", None, name, note=f"{stage} was ended by {name}")
    code = os.WEXITSTATUS(status)
    if code == 0 and not stopped:
        return Outcome("done", 0)
    return Outcome(stopped or "failed", code, note=f"{stage} exited with {code}")


def signal_name(number: int) -> str:
    """What a signal is called, SIGTERM or SIGRTMIN+6."""
    try:
        return signal.Signals(number).name
    except ValueError:  # of the real-time ones Python names the first and the last
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
