"""evidence: tracebacks lead to the user's own line; words of farms, of the kernel and of CUDA are known."""

import os
from pathlib import Path

import pytest

from farmx import evidence

COPY = "/logs/sweep/run/.code/0123abcd"
LIB = "/env/lib/python3.11/site-packages/torch/nn.py"


def lines(text: str) -> list[str]:
    return text.split("\n")


PLAIN = f"""step 1
Traceback (most recent call last):
  File "{COPY}/train.py", line 12, in <module>
    main()
    ^^^^^^
  File "{COPY}/pkg/model.py", line 3, in step
    loss.backward()
  File "{LIB}", line 99, in backward
    raise ValueError(x)
ValueError: bad größe
"""
CHAINED = f"""Traceback (most recent call last):
  File "{COPY}/a.py", line 1, in read
    x[1]
IndexError: list index out of range

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "{COPY}/a.py", line 4, in <module>
    read()
RuntimeError: second
"""
TORCHRUN = f"""[rank0]: Traceback (most recent call last):
[rank0]:   File "{COPY}/train.py", line 7, in main
[rank0]:     go()
[rank0]: KeyError: 'lr'
Traceback (most recent call last):
  File "{LIB}", line 10, in run
    elastic()
  File "/env/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
SYNTAX = f"""  File "{COPY}/train.py", line 2
    foo(
       ^
SyntaxError: '(' was never closed
"""
IMPORTED = f"""Traceback (most recent call last):
  File "{COPY}/train.py", line 1, in <module>
    import other
  File "{COPY}/other.py", line 2
    foo(
       ^
SyntaxError: '(' was never closed
"""
TRACES = [
    (PLAIN, "ValueError: bad größe", "pkg/model.py:3 in step", "loss.backward()"),
    (CHAINED, "RuntimeError: second", "a.py:4", "read()"),
    (TORCHRUN, "KeyError: 'lr'", "train.py:7 in main", "go()"),
    (SYNTAX, "SyntaxError: '(' was never closed", "train.py:2", "foo("),
    (IMPORTED, "SyntaxError: '(' was never closed", "other.py:2", "foo("),
    (PLAIN.replace(COPY, "/logs/sweep/.farmx/snapshots/abc/code"), "ValueError: bad größe",
     "pkg/model.py:3 in step", "loss.backward()"),
    (PLAIN.replace(COPY, "/home/me/project"), "ValueError: bad größe", "/home/me/project/pkg/model.py:3 in step",
     "loss.backward()"),
    (PLAIN.replace(COPY, "/usr/lib/python3.11"), "ValueError: bad größe", "", ""),
    (PLAIN.replace(COPY, f"{COPY}/venv/lib/python3.11"), "ValueError: bad größe", "", ""),
    (PLAIN.replace(LIB, f"{COPY}/bin/go"), "ValueError: bad größe", "bin/go:99 in backward", "raise ValueError(x)"),
    (PLAIN.replace("    loss.backward()\n", ""), "ValueError: bad größe", "pkg/model.py:3 in step", ""),
    (PLAIN.replace("ValueError: bad größe\n", ""), "", "pkg/model.py:3 in step", "loss.backward()"),
    ("Traceback (most recent call last):", "", "", ""),
]  # fmt: skip


@pytest.mark.parametrize("text, error, at, code", TRACES)
def test_a_traceback_leads_to_the_users_own_line(text, error, at, code):
    trace = evidence.traceback(lines(text))
    assert (trace.error, trace.at, trace.code) == (error, at, code)


def test_a_log_without_one_has_none_and_the_last_one_counts():
    assert evidence.traceback(lines("all is well\n")) is None
    assert evidence.traceback(lines(PLAIN + "later\n" + PLAIN.replace("bad", "last"))).error == "ValueError: last größe"
    assert evidence.traceback(lines(PLAIN)).lines == tuple(lines(PLAIN)[1:-1])


FARM = [
    (["slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch."], "memory"),
    (["OUT_OF_MEMORY"], "memory"),
    (["slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T08:00:00 DUE TO TIME LIMIT ***"], "time"),
    (["TIMEOUT"], "time"),
    (["slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T08:00:00 DUE TO NODE FAILURE, SEE LOG"], "node"),
    (["NODE_FAIL"], "node"),
    (["slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T08:00:00 DUE TO PREEMPTION ***"], "preempted"),
    (["it reached its time limit"], "time"),
    (["the farm says TIMEOUT (wall)"], "time"),
    (["main exited with 1"], ""),
    (["TimeoutError: timed out"], ""),
    (["/data: Connection timed out"], ""),
    (["Slurm cannot be asked: slurm_load_jobs error: Socket timed out on send/recv operation"], ""),
    (["subprocess.TimeoutExpired: Command 'x' timed out after 15 seconds"], ""),
    (["curl: CURLE_OPERATION_TIMEOUT; retrying, timeout 30 s"], ""),
    ([], ""),
]


@pytest.mark.parametrize("said, why", FARM)
def test_a_farms_words_are_known(said, why):
    assert evidence.farm_word([*said, "bye"]) == (why, said[0] if why else "")


def test_of_a_log_only_a_schedulers_lines_are_its_words():
    said = ["timeout of the loader: retrying", "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch."]
    assert evidence.of_farm(said) == said[1:]


MEMORY = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.", True, False),
    ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, False),
    ("MemoryError", False, True),
    ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7 TiB for an array", False, True),
    ("terminate called after throwing an instance of 'std::bad_alloc'", False, True),
    ("OSError: [Errno 12] Cannot allocate memory", False, True),
    ("bus error encountered in worker. This might be caused by insufficient shared memory (shm).", False, True),
    ("ValueError: no", False, False),
]


@pytest.mark.parametrize("line, gpu, host", MEMORY)
def test_what_a_program_says_of_memory_is_known(line, gpu, host):
    assert (evidence.gpu_memory([line], None), evidence.memory([line], None)) == (line * gpu, line * host)
    trace = evidence.traceback(lines(PLAIN.replace("ValueError: bad größe", line)))
    assert (evidence.gpu_memory([], trace), evidence.memory([], trace)) == (line * gpu, line * host)


def test_what_was_said_long_before_another_error_is_no_cause():
    trace = evidence.traceback(lines(PLAIN))
    assert evidence.gpu_memory(["CUDA out of memory, halving the batch", *lines(PLAIN)], trace) == ""
    assert evidence.gpu_memory(["CUDA out of memory", *["fine"] * 100], None) == ""


# ---------------------------------------------------------------- files and the kernel


def test_of_a_large_log_its_end_is_read(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(b"\xff" * (2 * evidence.TAIL) + b"\n1 %\r2 %\r\nlast\n\n \n")
    assert evidence.tail(str(log))[1:] == ["1 %", "2 %", "last", "", " ", ""]
    assert evidence.last_line(evidence.tail(str(log))) == "last"


def test_what_cannot_be_read_says_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [evidence.tail(str(tmp_path / name)) for name in ("none", "", "pipe")] == [[], [], []]
    assert evidence.last_line([]) == ""


@pytest.mark.parametrize("line", ["=" * 60, "-----", " |", "***", ""])
def test_a_rule_of_dashes_says_nothing(line):
    assert evidence.last_line(["train.py FAILED", line]) == "train.py FAILED"


SRUN = "srun: error: n1: task 1: Exited with exit code 3"
SCHEDULED = [
    # a log -> its last line
    (["step 3", SRUN, "srun: Force Terminated StepId=7.0", "slurmstepd-n1: error: *** STEP 7.0 ***", ""], "step 3"),
    ([SRUN, "saved", "srun: error: n1: task 0: Terminated"], "saved"),
    (["srun: job 7 queued", SRUN, "srun: error: n1: task 0: Terminated", "srun: Force Terminated StepId=7.0"], SRUN),
    (["srun: job 7 queued"], ""),
]


@pytest.mark.parametrize(("log", "line"), SCHEDULED)
def test_what_a_scheduler_says_is_no_programs_last_line_but_its_first_error_is_that_of_one_that_says_nothing(log, line):
    assert evidence.last_line(log) == line


LOGS = {  # what stands beside a main.log that was written before it
    "a link to nothing": lambda path: path.symlink_to("gone"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a directory": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("make", LOGS.values(), ids=LOGS)
def test_of_logs_the_newest_that_is_a_file_counts(tmp_path, make):
    for name, seconds in (("prepare.log", 1), ("main.log", 2)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (seconds, seconds))
    make(tmp_path / "it's $HOME;\ngröße.log")
    assert evidence.newest_log(str(tmp_path)) == ["main.log"]


def test_without_a_log_there_are_no_lines(tmp_path):
    (tmp_path / "x.log").symlink_to("gone")
    (tmp_path / "events.jsonl").write_text("{}")
    assert [evidence.newest_log(str(tmp_path / name)) for name in ("", "none")] == [[], []]


@pytest.mark.parametrize("lines, pids", [
    (["/e/r/launch.sh: line 12:  4711 Killed                  python t.py"], [4711]),
    (["bash: line 1:     7 Killed                  python t.py", "     8 Done                    | tee größe"], [7]),
    (["/it's: a; $HOME/launch.sh: line 2: 12 Killed  a", "exit 137", "/e/launch.sh: line 3: 123 Killed  b"], [12, 123]),
    (["/e/launch.sh: line 2:  4711 Terminated              python t.py", "Killed", "epoch: line 3 Killed"], []),
    (["/e/launch.sh: line 2:  4711 Killed  a", *["more"] * evidence.NEAR], []),
    ([], []),
])  # fmt: skip
def test_a_shell_says_which_of_its_children_was_killed(lines, pids):
    assert evidence.killed_in_shell(lines) == pids


KERNEL = "[1.0] Memory cgroup out of memory: Killed process 4711 (python) total-vm:9kB"


@pytest.mark.parametrize("pids, said", [([4711], KERNEL), ([7, 4711], KERNEL), ([471], ""), ([], "")])
def test_the_kernel_says_whom_it_killed(tmp_path, monkeypatch, pids, said):
    dmesg(tmp_path, monkeypatch, f"echo '[0.5] boot'; echo '{KERNEL}'; echo '[2.0] more'")
    assert evidence.killed_by_kernel(pids) == said


@pytest.mark.parametrize("script", ["echo 'dmesg: read kernel buffer failed' >&2; exit 1", None])
def test_a_kernel_that_may_not_be_asked_says_nothing(tmp_path, monkeypatch, script):
    dmesg(tmp_path, monkeypatch, script)
    assert evidence.killed_by_kernel([1]) == ""


def dmesg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """The only dmesg there is; None: there is none."""
    monkeypatch.setenv("PATH", str(folder))
    if script is not None:
        (folder / "dmesg").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "dmesg").chmod(0o755)


class Counted(list):
    """Lines that know how often they were looked at."""

    looks = 0

    def __getitem__(self, at):
        found = super().__getitem__(at)
        self.looks += len(found) if isinstance(at, slice) else 1
        return found

    def __iter__(self):
        self.looks += len(self)
        return super().__iter__()


LIBRARY = ["Traceback (most recent call last):", '  File "/x/lib/python3.11/socket.py", line 3, in f', "OSError: no"]


@pytest.mark.parametrize("lines", [LIBRARY, LIBRARY[:1], ["SyntaxError: x"]], ids=["tracebacks", "heads", "syntax"])
def test_a_log_full_of_errors_is_read_once_and_not_once_for_each(lines):
    log = Counted(lines * 500)
    assert evidence.traceback(log) == evidence.traceback(lines)
    assert log.looks < 20 * len(log)
