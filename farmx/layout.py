"""Every name on disk, who writes it and in which format; never what is in it. Standard library only."""

from __future__ import annotations

import errno
import os

from farmx.errors import RecordError, StageError

TYPE_CHECKING = False  # as typing's; importing typing, re or json here would double the start of a training script
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

# LOGROOT/<experiment>/.farmx/
FARMX = ".farmx"  # launch
SNAPSHOTS = "snapshots"  # stage: one directory per distinct content
STAGING = "staging"  # launch: who makes runs right now
AT_WORK = ".launch-"  # launch: begins the name of what says, in there, which process makes runs; ends with its id
POINTS = "points"  # launch: <launch>.json: points and who is to hold them; <number>, a symlink to it: the claim
SUBMISSIONS = "submissions"  # launch
LAUNCHES = "launches"  # launch: what was asked for, when, by whom
OUTBOX = "outbox"  # launch, runner: what there is to tell, until it was sent
TRASH = "trash"  # clean: what is being deleted
RUNNER = "runner-"  # farm: runner-<digest>.pyz, what a node executes attempts with

# LOGROOT/<experiment>/.farmx/snapshots/<digest>/
MANIFEST = "manifest"  # stage
TREE = "code"  # stage

# LOGROOT/<experiment>/.farmx/submissions/<id>/
RUNS = "runs"  # launch: line i: attempt and run of index i
REFUSED = "refused"  # farm: the lines of RUNS that it took out, since it has no room for them
CLAIMED = "claimed"  # launch: line i: which generation of which point that run holds, and its inode; names change
JOB = "job.json"  # farm: which one holds it and how it is asked; before it is called (local: host and pid)
SCRIPT = "script"  # farm: what it was handed
SCRIPT_SUFFIX = ".sh"  # farm: <i>.sh, likewise where each job is handed by itself
FINISH = "finish."  # farm: finish.<n>: who queues what a killed launch left out; the next number is for the next
TEND = "tend"  # farm: the script of its sentinel, which writes tend.log
POOL_LOG = "pool.log"  # pool: what a detached one of this machine would show on a terminal
KEPT_SUFFIX = ".held"  # runner: the job of INDEX.held ended, nothing begun, since the breaker holds it
BREAKER = "breaker.json"  # runner, or the pool, of a run that failed as the first ones did: the rest is held
HOLDING = "holding"  # runner: empty; the farm holds what the breaker does
QUEUED = "queued"  # farm: lines "first-last id", what it calls these indices; appended as soon as it says so

# LOGROOT/<experiment>/.farmx/outbox/
WANTED_SUFFIX = ".wanted"  # launch: <submission>.wanted: what becomes of it is to be told
EVENT_SUFFIX = ".json"  # runner, or who looks: <launch>.<event>.json
CLAIM_SUFFIX = ".claim"  # outbox, who sends: <launch>.<event>.claim, made exclusively, so it is sent once
SENT_SUFFIX = ".sent"  # outbox, who sent: that claim, renamed
TRIES_SUFFIX = ".tries"  # outbox, who could not send: <launch>.<event>.tries

# LOGROOT/<experiment>/<run>/
RUN = "run.json"  # stage
HPARAMS = "hparams.json"  # runner, as run.json says; logx outside a launch; runx
LAUNCH = "launch.sh"  # runner, as run.json says
CODE = "code"  # runner: symlink to the run's own tree, or to the snapshot
OWN_CODE = ".code"  # runner: <digest>/, hard links to the snapshot
ATTEMPTS = "attempts"  # runner
OUTPUT = "output.log"  # runner: symlink to the newest attempt's log
LOGGING = "logging.log"  # logx
OUTSIDE_METRICS = "metrics.jsonl"  # logx outside a launch
RUNX_METRICS = "metrics.csv"  # runx
CHECKPOINTS = "checkpoints.json"  # logx: which checkpoint is best and last

# LOGROOT/<experiment>/<run>/attempts/<k>.<r>/
OWNER = "owner.json"  # runner: who took the attempt, in place when the directory appears
EVENTS = "events.jsonl"  # runner: stages begun and ended
HEARTBEAT = "heartbeat"  # runner: touched every minute
CANCEL = "cancel"  # relaunch: its attempt is to end
END = "end.json"  # runner: how it ended; the last thing written
METRICS = "metrics.jsonl"  # logx
ARGS = "args.json"  # logx
LOG_SUFFIX = ".log"  # runner: <stage>.log

# Of run.json: settings that whoever acts later needs
BREAKS = "breaker"  # how many first runs that failed alike hold the rest
SENTINEL = "sentinel"  # whether each submission has one
RETRY = "retry"  # which ends call for another attempt, as policy reads it

# Of job.json, and of the settings: what holds the jobs
LOCAL = "local"  # this machine: built in as a farm, too, and what a record means that names no executor
SLURM = "slurm"
COMMAND = "command"  # commands that the settings say
EXECUTORS = (LOCAL, SLURM, COMMAND)

# Of job.json
AFTER = "after"  # the submission, by its id, whose job of the same index must have ended well before

RUN_MARKS = (RUN, OUTSIDE_METRICS, RUNX_METRICS, HPARAMS)  # a visible directory with one of these is a run

# Of a row of metrics: phases under other names, as runx has them
PHASES = {
    **dict.fromkeys(("trn", "train", "training"), "train"),
    **dict.fromkeys(("val", "validate", "validation", "test"), "val"),
}

# The environment of a program
ENV_RUN = "FARMX_RUN"
ENV_ATTEMPT = "FARMX_ATTEMPT"
ENV_ATTEMPT_DIR = "FARMX_ATTEMPT_DIR"
ENV_EXPERIMENT = "FARMX_EXPERIMENT"
ENV_POINT = "FARMX_POINT"
ENV_LOGDIR = "LOGDIR"
ENV_LOGROOT = "FARMX_LOGROOT"  # of whoever launches or looks, and of logx outside a launch
ENV_STARTED = "FARMX_STARTED"  # when the attempt began that ran the first stage
STARTED_FORM = "%Y%m%d.%H%M%S"

# Every record carries the number of the form it was written in.
RUN_FORMAT = 2  # in 1 launch.sh and hparams.json were staged beside it, which held neither
JOB_FORMAT = 1
LAUNCH_FORMAT = 1
POINTS_FORMAT = 1
BREAKER_FORMAT = 1
ATTEMPT_FORMAT = 1  # owner.json, end.json; for the lines of events.jsonl they say it
CHECKPOINTS_FORMAT = 1
OUTBOX_FORMAT = 1


def attempt_name(queued: int, restarted: int = 0) -> str:
    """The directory of the attempt that we queued as the `queued`th and the scheduler restarted `restarted` times."""
    return f"{queued}.{restarted}"


def attempt_number(name: str) -> tuple[int, int] | None:
    """(queued, restarted) of an attempt's directory name; None for anything else in there."""
    queued, _, restarted = name.partition(".")
    return (int(queued), int(restarted)) if queued.isdecimal() and restarted.isdecimal() else None


def attempt_after(name: str) -> str:
    """The one that the scheduler makes of this attempt when it restarts its job."""
    queued, restarted = attempt_number(name) or (0, 0)
    return attempt_name(queued, restarted + 1)


def attempt_numbers(run: str) -> list[tuple[int, int]]:
    """The numbers of the attempts in the run directory, oldest first. Raises RecordError."""
    found = map(attempt_number, names(os.path.join(run, ATTEMPTS)))
    return sorted(number for number in found if number)


def experiment_of(submission: str) -> str:
    """The directory of the experiment that the submission directory belongs to."""
    return os.path.dirname(os.path.dirname(os.path.dirname(submission)))


def runs_of(submission: str, name: str = RUNS) -> list[tuple[str, tuple[int, int]]]:
    """(run, attempt number) of each index of the submission directory, in order; [] while there is no list.

    name: REFUSED for those that it was to have.  Raises RecordError.
    """
    lines = read_lines(os.path.join(submission, name))
    found = [(run, attempt_number(name)) for name, _, run in (line.partition(" ") for line in lines)]
    return [(run, number) for run, number in found if number]


def submission_name(launch: str, place: int) -> str:
    """What the `place`th submission of a launch is called, from 1."""
    return launch if place == 1 else f"{launch}-{place}"


def submissions(home: str) -> list[str]:
    """The submission directories in `home`, in the order in which they were made. Raises RecordError."""
    there = set(names(home))
    return [os.path.join(home, name) for name in sorted(there, key=lambda name: _launched(name, there))]


def executor_of(job: Mapping[str, Any]) -> str:
    """What holds the jobs of a submission, by its job.json; one that does not say is of this machine."""
    return str(job.get("executor", LOCAL))


def launched_with(submission: str) -> list[str]:
    """The submission directories of the same launch as this one, itself among them, in order. Raises RecordError."""
    home, name = os.path.split(submission)
    there = {*names(home), name}
    launch, _ = _launched(name, there)
    places = sorted(place for each, place in (_launched(name, there) for name in there) if each == launch)
    return [os.path.join(home, submission_name(launch, place)) for place in places]


def _launched(name: str, there: Collection[str]) -> tuple[str, int]:
    """The launch that a submission is of, which begins with when that was, and which of its submissions it is."""
    launch, _, place = name.rpartition("-")
    return (launch, int(place)) if place.isdecimal() and launch in there else (name, 1)


def cache_folder(home: str, environ: Mapping[str, str]) -> str:
    """Where what may be deleted at any time is kept, outside LOGROOT: $XDG_CACHE_HOME/farmx or ~/.cache/farmx."""
    return os.path.join(environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "farmx")


def claim_name(identity: object, generation: object) -> str:
    """What tells the run that holds this generation of a point from any that ever had, or gets, its name."""
    return f"{identity}.{generation}"


def making(launch: str, claim: str = "") -> str:
    """The directory in which a launch makes the run of that claim, beside the runs and hidden; its begin, without one.

    Beside them: within a directory a rename is the cheapest.
    """
    return f".{launch}.{claim}"


def aside(path: str) -> str:
    """A name beside `path`, hidden and ours alone, for writing before a rename."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")


def now_at(folder: str) -> float:
    """What time the file system of `folder` says it is, in seconds since the epoch; our clock where it cannot tell."""
    probe = aside(os.path.join(folder, "now"))
    try:
        os.mkdir(probe)
        now = os.stat(probe).st_mtime
        os.rmdir(probe)
    except OSError:
        import time  # only where that fails

        return time.time()
    return now


def number(value: float) -> float | str:
    """What a record holds for a number: itself, or 'NaN', 'Infinity', '-Infinity', which bare are not json.

    float() reads all of them back.
    """
    if value != value:
        return "NaN"
    return value if abs(value) != float("inf") else "Infinity" if value > 0 else "-Infinity"


def new(path: str, content: bytes, mode: int = 0o666, home: int | None = None) -> None:
    """Make the file `path`, which must not be there, and put `content` into it. Raises OSError; a file that it made and
    could not fill is left empty.

    home: the descriptor of the directory that a relative path begins at.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=home)
    try:
        left = memoryview(content)
        while left:  # a disk that is nearly full takes a part
            left = left[os.write(descriptor, left) :]
    except OSError:
        os.ftruncate(descriptor, 0)
        raise
    finally:
        os.close(descriptor)


def write(path: str, text: str, mode: int = 0o666) -> None:
    """Put `text` at `path` at once: a reader sees the old file or the whole new one. Raises StageError.

    mode: the rights, less the umask.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"), mode)


def write_bytes(path: str, content: bytes, mode: int = 0o666) -> None:
    """`content` at `path`, likewise."""
    temporary = aside(path)
    try:
        new(temporary, content, mode)
        rename(temporary, path, lambda: holds(path, content))
    except OSError as error:
        remove(temporary)
        raise StageError(f"{path}: cannot be written: {error.strerror}") from error


_REPEATED = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)


def rename(source: str, target: str, ours: Callable[[], bool], home: int | None = None) -> None:
    """Rename, which NFS may do twice when an answer is lost; raises OSError.

    The second answer is that there is no `source`, or that there is a `target`. ours: whether what is at `target` now
    is what was to be renamed.  home: the descriptor of the directory that relative paths begin at.
    """
    try:
        os.rename(source, target, src_dir_fd=home, dst_dir_fd=home)
    except OSError as error:
        if error.errno not in _REPEATED or not ours():
            raise


def move(source: str, target: str) -> None:
    """rename() of what is known again by its inode; raises OSError."""
    moved = os.lstat(source)
    rename(source, target, lambda: _is(target, moved))


def _is(path: str, told: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), told)
    except OSError:
        return False


def holds(path: str, content: bytes) -> bool:
    """Whether the file at `path` is there with just this content."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read() == content
    except OSError:
        return False


def write_json(path: str, record: dict[str, Any]) -> None:
    """`record` as json at `path`, at once. Raises StageError."""
    import json  # spares training scripts that only import logx

    write(path, json.dumps(record, allow_nan=False) + "\n")


NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.ENOSYS)  # none can be made there


def make_json(path: str, record: dict[str, Any]) -> bool:
    """`record` as json at `path` where there is nothing yet; False when somebody was first. Raises StageError.

    On a file system without links two who do it at once may both think that they were first.
    """
    temporary = aside(path)
    write_json(temporary, record)
    try:
        return _placed(temporary, path)
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        remove(temporary)


def _placed(temporary: str, path: str) -> bool:
    """Whether the file at `temporary`, which may stay, is what is at `path` now."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return os.path.samefile(temporary, path)  # NFS repeats calls: ours already
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        move(temporary, path)
    return True


def read_json(path: str, newest: int | None) -> dict[str, Any]:
    """The record at `path`, written in a format no newer than `newest`; None: its keys are a user's, `format` too.

    Raises FileNotFoundError or NotADirectoryError when there is none, RecordError when it is torn, no record, or newer
    than this farmx.
    """
    import json  # spares training scripts that only import logx

    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read().decode()
        record = json.loads(text)
        if "\\u" in text:  # half of a pair is no character: nobody could show it, or open a file of that name
            json.dumps(record, ensure_ascii=False).encode(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read: it is not json; restore it or move it away") from error
    if not isinstance(record, dict):
        raise RecordError(f"{path}: not a record of ours; restore it or move it away")
    number = 0 if newest is None else record.get("format", 0)
    if not isinstance(number, int):
        raise RecordError(f"{path}: not a record of ours; restore it or move it away")
    if newest is not None and number > newest:
        raise RecordError(f"{path}: written by a newer farmx (format {number}); upgrade farmx to read it")
    return record


def read_or_none(path: str, newest: int) -> dict[str, Any] | None:
    """The same; None when there is none or it cannot be read."""
    try:
        return read_json(path, newest)
    except (OSError, RecordError):
        return None


def of_attempt(attempt: str, name: str) -> dict[str, Any] | None:
    """The record OWNER or END of the attempt in this directory, likewise."""
    return read_or_none(os.path.join(attempt, name), ATTEMPT_FORMAT)


def read_lines(path: str) -> list[str]:
    """The lines of the file at `path` without their ends, a torn last one too; [] when there is none.

    Raises RecordError.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error


def names(path: str) -> list[str]:
    """What is in the directory `path`, in no order; [] when there is none. Raises RecordError."""
    return list(inodes(path))


def numbered(name: str) -> list[str | int]:
    """What to sort names by so that people find them: `lr2-run10` comes after `lr2-run9`."""
    import re  # spares training scripts that only import logx

    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def wished(attempt: str) -> bool:
    """Whether somebody asked for the end of the attempt at this path.

    By the list of its directory, opened anew: over NFS a name that was not there a moment ago stays so in a cache for
    up to a minute, and so does the list of a directory that is open, while whoever opens it asks the server.
    """
    try:
        return CANCEL in names(attempt)
    except RecordError:
        return False


def inodes(path: str) -> dict[str, int]:
    """name -> inode of what is in the directory `path`; {} when there is none. Raises RecordError."""
    try:
        with os.scandir(path) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error


def remove(path: str) -> None:
    """The file is gone, as far as we may."""
    try:
        os.unlink(path)
    except OSError:
        return
