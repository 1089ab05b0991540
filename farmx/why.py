"""What became of a run, in plain words, and what to do next; read from its records, its log and what its farm said."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import evidence, layout, logs, processes, stages, status, verdicts
from farmx.farms import base, calls
from farmx.farms.slurm_words import LET_GO
from farmx.spec import Attempt, Run, State

KILLED = ("SIGKILL", 137)  # 137: what a shell says of it
_SIGNALS = {
    "SIGSEGV": "it crashed: it touched memory that is not its own",
    "SIGBUS": "it crashed: memory that it mapped is not there; often /dev/shm is full",
    "SIGABRT": "it gave up by itself (abort)",
    "SIGFPE": "it crashed: an arithmetic error",
    "SIGILL": "it crashed: an instruction this processor does not have",
    "SIGKILL": "somebody killed it",
    "SIGTERM": "it was asked to end",
    "SIGINT": "it was asked to end, as by Ctrl-C",
    "SIGHUP": "its terminal went away",
    "SIGXCPU": "it used up its processor time",
    "SIGXFSZ": "a file it wrote became larger than it may",
}
_CODES = {
    126: "its command cannot be executed",
    127: "its command was not found",
    **{128 + number: name for number, name in ((4, "SIGILL"), (6, "SIGABRT"), (7, "SIGBUS"), (8, "SIGFPE"),
       (9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"))},
}  # fmt: skip
_CAUSES = {
    "gpu memory": "the memory of its GPU was used up",
    "memory": "its memory was used up",
    "time": "its time was over",
    "node": "its node failed",
    "preempted": "it had to make room for another job",
}
_RECORDED = {"oom": "memory", "time": "time", "node_fail": "node"}  # what the end record calls it
_STATES = {
    State.STAGED: "nobody has it yet",
    State.QUEUED: "it waits",
    State.DONE: "it ended well",
    State.CANCELLED: "somebody cancelled it",
    State.INTERRUPTED: "what it ran in ended before it",
    State.PREEMPTED: "it is between two attempts",
    State.LOST: "its farm has forgotten it, and it was silent",
    State.PRUNED: "its search ended it early",
}
_REPAIRS = {
    "gpu memory": "once it needs less of the GPU's memory",
    "memory": "once it needs less memory, or with more: -r mem=...",
    "time": "goes on where it calls logx.resume(); with more time: -r time=...",
    "": "once that is mended; it takes today's code",
}


class Account(NamedTuple):
    """What became of a run. Times are seconds since the epoch.

    why: a sentence.  cause: 'gpu memory', 'memory', 'time', 'node', 'preempted', '' for any other.  evidence: lines
    that say so.  error, at, code, traceback: of the log's last traceback.  heard_s: age of the heartbeat of an attempt
    that has not ended.  last_line: of the log.  next: commands to copy.  job: as the scheduler of `farm` calls it.
    """

    run: str
    experiment: str
    state: str
    why: str
    cause: str = ""
    attempt: str | None = None
    stage: str | None = None
    host: str | None = None
    code: int | None = None
    signal: str | None = None
    started: float | None = None
    ended: float | None = None
    max_rss_mb: int | None = None
    evidence: tuple[str, ...] = ()
    error: str = ""
    at: str = ""
    line: str = ""
    traceback: tuple[str, ...] = ()
    heard_s: float | None = None
    last_line: str = ""
    log: str | None = None
    next: tuple[str, ...] = ()
    job: str | None = None
    farm: str | None = None


def account(run: Run, called: str, home: str) -> Account:
    """What became of `run`. called, home: its name and its experiment's, as commands take them."""
    told = Account(run.name, run.experiment, str(run.state), _sentence(run))
    if run.attempts and run.attempts[-1].begun and run.state not in (State.STAGED, State.QUEUED):
        told = _of_attempt(told, run, run.attempts[-1])
    if base.MUTE in run.note and _full(run.path):
        told = told._replace(evidence=(*told.evidence, "no space is left on the disk that it is on"))
    if job := base.job_of(run):
        told = told._replace(job=job, farm=base.first(run.held).record.get("farm"))
    return told._replace(next=tuple(_next(run, told, called, home)))


def _full(path: str) -> bool:
    """Whether nobody can write there, as far as its file system tells."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail == 0 or (disk.f_files > 0 and disk.f_favail == 0)


def _sentence(run: Run) -> str:
    """What the state says by itself; why a run waits is its farm's to say."""
    return run.note or _standing(run)


def _standing(run: Run) -> str:
    """What its state is, in words."""
    told = _STATES.get(run.state, "")
    return told.replace("somebody", _asker(run)) if run.state is State.CANCELLED else told


def _asker(run: Run) -> str:
    """Who asked for its end, by whose file says so: its jobs are those of who launched it, whoever ends them."""
    number = run.attempts[-1].number[0] if run.attempts else 0
    for attempt in reversed([each for each in run.attempts if each.number[0] == number]):
        try:
            uid = os.stat(os.path.join(attempt.path, layout.CANCEL if attempt.begun else layout.END)).st_uid
        except OSError:
            continue
        return "you" if uid == os.getuid() else calls.user(uid)
    return "somebody"


def _of_attempt(told: Account, run: Run, last: Attempt) -> Account:
    """What the newest attempt adds."""
    owner = layout.of_attempt(last.path, layout.OWNER) or {}
    events = list(stages.rows(last.path))
    printed = logs.of(run.path, layout.attempt_name(*last.number))
    lines = evidence.tail(printed[-1].path) if printed else []
    end = last.end or {}
    clock = base.Clock(os.path.join(os.path.dirname(run.path), layout.FARMX))
    told = told._replace(
        attempt=layout.attempt_name(*last.number),
        stage=printed[-1].stage if printed else None,
        log=printed[-1].path if printed else None,
        host=owner.get("host"),
        job=owner.get("job") or None,
        farm=owner.get("farm"),
        code=end.get("code"),
        signal=end.get("signal"),
        started=last.started,
        ended=last.ended,
        heard_s=clock.since(os.path.join(last.path, layout.HEARTBEAT)) if last.end is None else None,
        last_line=evidence.last_line(lines),
        max_rss_mb=max((event["max_rss_mb"] for event in events if "max_rss_mb" in event), default=None),
    )
    if run.state in (State.DONE, State.RUNNING):
        return told
    return _ended(told, run, lines, verdicts.farm_lines(run, last), _pids(owner, events))


def _ended(told: Account, run: Run, lines: list[str], farm: list[str], pids: Sequence[int]) -> Account:
    """Why it ended other than well."""
    trace = evidence.traceback(lines)
    if trace:
        told = told._replace(error=trace.error, at=trace.at, line=trace.code, traceback=trace.lines)
    killed = told.signal in KILLED or told.code in KILLED
    cause, said = evidence.farm_word([run.note, *farm, *evidence.of_farm(lines)])
    if (known := _RECORDED.get(str((run.attempts[-1].end or {}).get("cause")), cause)) != cause:
        cause, said = known, ""
    if killed and not said and cause in ("", "memory") and (said := evidence.killed_by_kernel(pids)):
        cause = "memory"
    if run.state is State.FAILED and not cause and (said := evidence.gpu_memory(lines, trace)):
        cause = "gpu memory"
    if run.state is State.FAILED and not cause and (said := evidence.memory(lines, trace)):
        cause = "memory"
    shown = tuple(line for line in (said,) if line and line not in (run.note, told.error))
    told = told._replace(cause=cause, evidence=shown)
    return told._replace(why=_why(told, run, cause))


def _why(told: Account, run: Run, cause: str) -> str:
    """The sentence: what is known best first."""
    name = told.signal or (_CODES.get(told.code) if told.code else None) or ""
    plain = _CAUSES.get(cause) or _SIGNALS.get(name, "" if told.signal else name)
    if name == "SIGKILL" and not cause:
        plain += "; nothing here says that its memory was used up, its node's kernel may know"
    if run.state in (State.FAILED, State.UNKNOWN):
        return ": ".join(filter(None, (run.note, plain)))
    known = "" if told.evidence == () and run.note else _CAUSES.get(cause, "")  # the note says it itself
    ended = (run.attempts[-1].end or {}).get("note") if run.state is State.PREEMPTED else None  # the note is its farm's
    parts = (_standing(run), str(ended or ""), run.note, known)
    return ": ".join(dict.fromkeys(filter(None, parts)))


# ---------------------------------------------------------------- what is read


def _pids(owner: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> list[int]:
    """The programs of an attempt that this boot of this machine ran; [] when it was another."""
    if (owner.get("host"), owner.get("boot")) != (processes.host(), processes.boot_id()):
        return []
    return [event["pid"] for event in events if isinstance(event.get("pid"), int)]


# ---------------------------------------------------------------- what to do


def _next(run: Run, told: Account, called: str, home: str) -> Iterator[str]:
    """Commands to copy, each with why, as a comment."""
    name, home = shlex.quote(called), shlex.quote(home)
    held = status.is_held(run)
    if held:
        yield f"farmx retry --release {home}  # once that is mended"
    if (verdict := verdicts.of(run)).again:
        yield f"farmx tend {name}  # does what RETRY says: {verdict.why}"
    if run.state is State.DONE or run.identity is None:
        yield f"sumx {home}"
    elif run.state is State.STAGED:
        yield from () if held else (f"farmx retry --state staged {name}",)  # which would begin it past the breaker
    elif run.state is State.QUEUED:
        if LET_GO in run.note and told.job:
            yield f"{LET_GO} {told.job}"
        yield f"farmx cancel {name}  # if it is to wait no more"
    elif run.state in (State.RUNNING, State.PREEMPTED, State.UNKNOWN):
        yield f"farmx logs -f {name}"
    elif run.state is State.FAILED:
        if told.log:
            yield f"farmx logs {name}"
        yield f"farmx retry {name}  # {_REPAIRS.get(told.cause, _REPAIRS[''])}"
    else:
        yield f"farmx retry {name}  # again, with the code it had"
