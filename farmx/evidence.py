"""What the end of a log, a farm's words and the kernel tell of a program's end; never what to do about it."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from farmx import layout

TAIL = 1 << 18  # bytes of a log's end that are looked at
NEAR = 60  # lines of it in which an error that no traceback tells is sought
_KILLED = re.compile(r": line \d+: +(\d+) Killed\b")
_MARK = "Traceback (most recent call last):"
_FRAME = re.compile(r'\s*File "(.+)", line (\d+)(?:, in (.+))?$')
_SYNTAX = re.compile(r"(?:SyntaxError|IndentationError|TabError): ")
_COPY = re.compile(r"/(?:\.code/[^/]+|\.farmx/snapshots/[^/]+/code|code)/(.+)$")
_NOT_OWN = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d|/bin/[^/.]+$|^<")  # the last but one: torchrun

# What says why a program ended: in which words, of the farm or of the program itself.
GPU_MEMORY = ("CUDA out of memory", "OutOfMemoryError", "CUDA_ERROR_OUT_OF_MEMORY", "HIP out of memory",
              "CUBLAS_STATUS_ALLOC_FAILED", "RESOURCE_EXHAUSTED")  # fmt: skip
MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory", "DefaultCPUAllocator",
          "insufficient shared memory")  # fmt: skip
FARM_WORDS = (
    ("memory", re.compile(r"oom[-_ ]kill|out[-_ ]of[-_ ]memory|exceeded job memory limit", re.IGNORECASE)),
    # Capitals are a scheduler's word; what timed out otherwise is a connection.
    ("time", re.compile(r"(?i:time limit)|\bTIMEOUT\b")),
    ("node", re.compile(r"node[_ ]fail", re.IGNORECASE)),
    ("preempted", re.compile(r"preempt", re.IGNORECASE)),
)
# How a line of a scheduler begins in a program's log; Debian's Slurm says slurmstepd-NODE.
_OF_A_FARM = ("slurmstepd: ", "slurmstepd-", "srun: ", "slurmd[")


class Trace(NamedTuple):
    """A traceback. error: its last line.  at: file, line and function of the user's own code, '' when none is in it.

    code: that line.  lines: all of it.
    """

    error: str
    at: str
    code: str
    lines: tuple[str, ...]


def tail(path: str) -> list[str]:
    """The last lines of the log at `path`, a progress bar's each on its own; [] when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        size = os.fstat(descriptor).st_size
        text = os.pread(descriptor, TAIL, max(0, size - TAIL)).decode(errors="replace")
    except OSError:
        return []
    finally:
        os.close(descriptor)
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def newest_log(attempt: str) -> list[str]:
    """The last lines of the log that the attempt in this directory wrote last; [] when there is none."""
    paths = [os.path.join(attempt, name) for name in layout.names(attempt) if name.endswith(layout.LOG_SUFFIX)]
    logs = [(written, path) for path in paths if (written := _written(path)) is not None]
    return tail(max(logs)[1]) if logs else []


def _written(path: str) -> float | None:
    """When the file at `path` was written last; None for a link to nothing, what is no file, and what is gone since."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime if stat.S_ISREG(found.st_mode) else None


def last_line(lines: Sequence[str]) -> str:
    """The last line in which a program says something: a rule of dashes does not.

    Of one that says nothing, what a scheduler says first: of tasks, that is how the one ended that failed first.
    """
    own = (line.strip() for line in reversed(lines) if any(map(str.isalnum, line)) and not line.startswith(_OF_A_FARM))
    return next(own, "") or next((line for line in of_farm(lines) if "error: " in line), "")


# ---------------------------------------------------------------- tracebacks


def traceback(lines: Sequence[str]) -> Trace | None:
    """The last traceback in which the user's own code stands, else the last one; None when there is none."""
    last = None
    for trace in _tracebacks(lines):
        if trace.at:
            return trace
        last = last or trace
    return last


def _tracebacks(lines: Sequence[str]) -> Iterator[Trace]:
    """From the last to the first: a log may hold thousands, and a runner waits for this."""
    heads = [place for place, line in enumerate(lines) if _MARK in line]
    before = range(heads[0] if heads else len(lines))
    for place in reversed(heads):
        yield _trace(_block(lines, place))
    for place in reversed([place for place in before if _SYNTAX.match(lines[place])]):
        start = max((at for at in range(max(0, place - 5), place) if _FRAME.match(lines[at])), default=place)
        yield _trace(["", *lines[start : place + 1]])


def _block(lines: Sequence[str], head: int) -> list[str]:
    """From there to the line that says what the error was."""
    prefix = lines[head].partition(_MARK)[0]  # torchrun puts [rank0]: in front of every line
    found = [lines[head].removeprefix(prefix)]
    for place in range(head + 1, len(lines)):
        found.append(lines[place].removeprefix(prefix))
        if found[-1] and not found[-1].startswith(" "):
            break
    return found


def _trace(lines: Sequence[str]) -> Trace:
    """The traceback whose head is the first of `lines`."""
    end = next((at for at in range(1, len(lines)) if lines[at] and not lines[at].startswith(" ")), len(lines))
    frames = [(at, match) for at in range(1, end) if (match := _FRAME.match(lines[at]))]
    at = code = ""
    for place, match in frames:
        if (file := own(match[1])) is not None:
            at = f"{file}:{match[2]}" + (f" in {match[3]}" if match[3] and match[3] != "<module>" else "")
            code = lines[place + 1].strip() if place + 1 < end and not _FRAME.match(lines[place + 1]) else ""
    error = lines[end].strip() if end < len(lines) else ""
    return Trace(error, at, code, tuple(line for line in lines[: end + 1] if line))


def own(path: str) -> str | None:
    """How the user knows a file of a traceback: its path in the code, else as it is; None for a library's."""
    copy = _COPY.search(path) if layout.FARMX in path or layout.OWN_CODE in path else None
    name = copy[1] if copy else path
    return None if _NOT_OWN.search(name) else name


# ---------------------------------------------------------------- what ended it


def gpu_memory(lines: Sequence[str], trace: Trace | None) -> str:
    """The line that says that a GPU's memory was used up; '' when none does."""
    return _saying(GPU_MEMORY, [trace.error] if trace else lines[-NEAR:])


def memory(lines: Sequence[str], trace: Trace | None) -> str:
    """The line with which the program itself says that it got no more memory."""
    return "" if gpu_memory(lines, trace) else _saying(MEMORY, [trace.error] if trace else lines[-NEAR:])


def out_of_memory(lines: Sequence[str]) -> bool:
    """Whether a log tells of it: the program itself, or a scheduler that had one of its tasks killed."""
    return any(farm_word([line])[0] == "memory" for line in of_farm(lines)) or bool(memory(lines, traceback(lines)))


def _saying(words: Sequence[str], lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if any(word in line for word in words)), "")


def of_farm(lines: Sequence[str]) -> list[str]:
    """The lines that a scheduler put into a program's log."""
    return [line.strip() for line in lines if line.startswith(_OF_A_FARM)]


def farm_word(lines: Sequence[str]) -> tuple[str, str]:
    """(why, the line that says so) of what a farm said: memory, time, node or preempted; ('', '') when it did not."""
    for line in reversed(lines):
        for why, words in FARM_WORDS:
            if words.search(line):
                return why, line
    return "", ""


def killed_in_shell(lines: Sequence[str]) -> list[int]:
    """The processes of which a bash says, near the end of its log, that SIGKILL ended them."""
    return [int(match[1]) for line in lines[-NEAR:] if (match := _KILLED.search(line))]


def killed_by_kernel(pids: Sequence[int]) -> str:
    """The kernel's line that it killed one of these processes of this boot for want of memory; '' when it has none."""
    import subprocess  # only after a SIGKILL

    try:
        told = subprocess.run(["dmesg"], capture_output=True, timeout=10, check=False).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""
    sought = [re.compile(rf"Killed process {pid}\b") for pid in pids]
    return next((line.strip() for line in reversed(told.split("\n")) if any(one.search(line) for one in sought)), "")
