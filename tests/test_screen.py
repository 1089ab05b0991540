"""What people see of runs on this machine: lines that stay lines, a bar that tells the truth, Ctrl-C that is heard."""

import fcntl
import io
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from commands import read
from launching import Place, until

from farmx.cli import screen
from farmx.farms import local
from farmx.farms.base import Watch
from farmx.farms.gpus import Slot
from farmx.farms.terminal import Seat
from farmx.processes import Inbox
from farmx.runner import Outcome
from farmx.spec import Job

# ---------------------------------------------------------------- Ctrl-C

DEAF = "import pathlib, signal, time\nsignal.signal(15, signal.SIG_IGN)\npathlib.Path({!r}).touch()\ntime.sleep(60)\n"


class Impatient(Watch):
    """Presses Ctrl-C once the program is ready, and again while the first is being told."""

    tick_s = 0.01

    def __init__(self, ready: Path) -> None:
        self.ready, self.told, self.ends = ready, [], []

    def started(self, job: Job, slot: str) -> None:
        return

    def ended(self, job: Job, slot: str, outcome: Outcome) -> None:
        self.ends.append(outcome._replace(seconds=0.0))

    def held(self, waiting: int, why: str) -> None: ...

    def stopping(self, running: int, now: bool) -> None:
        self.told.append((running, now))
        if not now:
            os.kill(os.getpid(), signal.SIGINT)

    def tick(self) -> None:
        if self.ready.exists() and not self.told:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_that_comes_while_the_first_is_told_kills(tmp_path):
    place, ready = Place(tmp_path), tmp_path / "ready"
    submission = place.submission(Job(place.python(DEAF.format(str(ready))), "1.0"))
    watch = Impatient(ready)
    with Inbox() as inbox:
        local.pool(submission, (Slot("0"),), watch, inbox)
    assert watch.told == [(1, False), (1, True)]
    assert watch.ends == [Outcome("interrupted", None, "SIGKILL", note="main was ended by SIGKILL")]


@pytest.mark.parametrize(
    ("running", "now", "text"),
    [
        (1, False, "stopping: 1 run has 30 s to end; Ctrl-C again kills; the rest stays as it is"),
        (2, False, "stopping: 2 runs have 30 s to end; Ctrl-C again kills; the rest stays as it is"),
        (1, True, "killing 1 run"),
        (2, True, "killing 2 runs"),
    ],
)
def test_a_stop_is_told(running, now, text):
    assert screen.stopping(running, now) == text
    assert len(text) < 80


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("text", "room", "line"),
    [
        ("python t.py", 11, "python t.py"),
        ("python t.py", 10, "python t.…"),
        ("python t.py --a 'x\ny'", 80, "python t.py --a 'x\\ny'"),
        ("\x1b[31mred\a", 80, "\\x1b[31mred\\x07"),
        ("größe 漢字 x", 80, "größe 漢字 x"),
        ("\n" * 100, 9, "\\n\\n\\n\\n…"),
        ("x" * 10**6, 8, "xxxxxxx…"),
        ("python", 7, ""),
        ("python", -3, ""),
    ],
)
def test_a_command_is_shown_on_one_line(text, room, line):
    assert screen.short(text, room) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.6, "1:00"),
        (65, "1:05"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (198003, "55:00:03"),
    ],
)
def test_a_duration_can_be_read(seconds, text):
    assert screen.duration(seconds) == text


LOGS = [
    (b"one\nValueError: no\n", "ValueError: no"),
    (b"one\nno newline", "no newline"),
    (b"ends in blanks\n\n  \n", "ends in blanks"),
    (b"", "it said nothing"),
    (b"\n\n", "it said nothing"),
    (b"step 1\rstep 2\rstep 3", "step 3"),
    (b"\x1b[31mred\x1b[0m\n", "\\x1b[31mred\\x1b[0m"),
    (b"\xff\xfe binary\n", "\ufffd\ufffd binary"),
    (b"x" * 5000 + b"\n", "x" * 299 + "…"),
    (b"it failed\n-----\n", "it failed"),
    (b"Traceback (most recent call last):\n  in line 7\nValueError: no\nleft behind: 3 workers\n", "ValueError: no"),
    (b"Traceback (most recent call last):\n  in line 7\n", "in line 7"),
]


@pytest.mark.parametrize(("log", "line"), LOGS, ids=range(len(LOGS)))
def test_why_a_run_failed_is_its_error_else_the_last_line_of_its_log(tmp_path, monkeypatch, log, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output.log").write_bytes(log)
    assert screen.why(str(tmp_path)) == f"\n       {line}\n       see output.log"


def test_why_a_run_failed_is_told_where_the_current_directory_is_no_more(tmp_path, monkeypatch):
    (tmp_path / "output.log").write_text("ValueError: no\n")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert screen.why(str(tmp_path)) == f"\n       ValueError: no\n       see {tmp_path}/output.log"


def test_a_pool_outlives_the_directory_that_it_was_started_in(project):
    project.sweep("{n: [1, 2, 3]}", """sh -c 'rm -rf "$GONE"; exit 1'""")
    done = project("sweep.yml", "-j", "1", GONE=str(project.path))
    ends = [read(run / "attempts" / "1.0" / "end.json")["state"] for run in project.runs()]
    assert (done.code, ends) == (1, ["failed"] * 3)
    told = [line for line in done.err.splitlines() if line.startswith(("   ", "next", "farmx:")) and "see " not in line]
    assert told == ["       it said nothing"] * 3 + [
        "      3 failed",
        f"next  sumx {project.experiment}",
        f"next  farmx retry {project.experiment}  # 3 failed or cancelled",
    ]


def test_without_a_log_there_is_nothing_to_see(tmp_path):
    assert screen.why(str(tmp_path)) == ""


# ---------------------------------------------------------------- a terminal


class Clock:
    """A bar's clock."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(columns: int, done: int, seconds: float, monkeypatch) -> str:
    """The bar of 12 runs on a terminal of so many columns, after so many seconds with so many done."""
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", str(columns))
    progress = screen.bar("runs", 12)
    try:
        clock = Clock()
        progress.get_time = clock
        task = progress.tasks[0]
        task._get_time, task.start_time = clock, 0.0
        clock.now = seconds
        progress.update(task.id, completed=done)
        file = io.StringIO()
        Console(file=file, width=columns).print(progress.get_renderable())
    finally:
        progress.stop()
    return file.getvalue().rstrip("\n")


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize(
    ("done", "seconds", "told"),
    [(0, 3.0, " 0/12 0:03"), (2, 2.0, " 2/12 0:02, about 0:10 left"), (9, 5400, " 9/12 1:30:00, about 30:00 left")],
)
def test_the_bar_tells_the_mean_so_far_on_one_line(monkeypatch, columns, done, seconds, told):
    line = shown(columns, done, seconds, monkeypatch)
    assert (line[:5], line[-len(told) :], line.count("\n"), len(line) <= columns) == ("runs ", told, 0, True)


@pytest.mark.parametrize(("terminal", "after_s", "bars"), [(True, 0.0, 1), (True, 99.0, 0), (False, 0.0, 0)])
def test_a_bar_that_may_come_later_comes_on_a_terminal_alone_and_shows_how_far_it_is(
    monkeypatch, terminal, after_s, bars
):
    made = []

    class Bar:
        task_ids = (7,)

        def __init__(self, *given) -> None:
            self.told = [given]
            made.append(self)

        def update(self, task: int, completed: int, refresh: bool) -> None:
            self.told.append((task, completed, refresh))

        def stop(self) -> None:
            self.told.append("stop")

    monkeypatch.setattr(screen, "bar", Bar)
    monkeypatch.setattr(screen, "BAR_AFTER_S", after_s - 1e-9)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    progress, close = screen.later_bar(every=2)
    for what in ("copying the code", "staging"):
        for count in (0, 1, 2, 3):
            progress(what, count, 3)
    close()
    drawn = [(7, 0, True), (7, 2, True), (7, 3, True), "stop"]
    assert [each.told for each in made] == [[("copying the code", 3), *drawn], [("staging", 3), *drawn]][: 2 * bars]


@pytest.mark.parametrize("ends", [os.pipe, os.openpty], ids=["pipe", "terminal"])
def test_a_reader_of_a_pool_that_pauses_holds_up_no_run_and_gets_every_line_later_in_order(project, ends):
    project.sweep(f"{{n: {list(range(30))}, x: {'x' * 200}}}")
    reader, writer = ends()
    if ends is os.pipe:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # what a terminal holds, too
    command = [str(Path(sys.executable).parent / "farmx"), "sweep.yml", "-j", "2", "--logroot", str(project.root)]
    env = {**os.environ, **project.env, "COLUMNS": "400", "TERM": "xterm"}
    with subprocess.Popen(command, cwd=project.path, env=env, stdin=subprocess.DEVNULL, stderr=writer) as process:
        os.close(writer)
        until(lambda: len([*project.experiment.glob("*/attempts/1.0/end.json")]) == 30)
        said = everything(reader)
    words = [line.split()[0] for line in said.splitlines() if line.split()]
    assert [words.count(word) for word in ("START", "DONE")] == [30, 30]
    assert words[-2:] == ["30", "next"]
    assert process.returncode == 0


LETTERS = [
    # of a terminal, and what is said of a run with the value é漢 there
    ("latin-1", "é\\u6f22", "-----"),
    ("ascii", "\\xe9\\u6f22", "-----"),
    ("utf-8", "é漢", "━━━━━"),
]


@pytest.mark.parametrize(("encoding", "value", "bar"), LETTERS)
def test_above_a_bar_and_in_it_stands_what_the_terminal_has_letters_for(project, encoding, value, bar):
    project.sweep("{name: é漢}")
    reader, writer = os.openpty()
    command = [str(Path(sys.executable).parent / "farmx"), "sweep.yml", "-j", "1", "--logroot", str(project.root)]
    env = {**os.environ, **project.env, "COLUMNS": "100", "TERM": "xterm", "PYTHONIOENCODING": encoding}
    with subprocess.Popen(command, cwd=project.path, env=env, stdin=subprocess.DEVNULL, stderr=writer) as process:
        os.close(writer)
        said = everything(reader, encoding)
    (start,) = (line for line in said.splitlines() if line.startswith("START"))
    assert (start.split("--name ")[1], bar in said, process.returncode) == (f"'{value}'", True, 0)


def test_half_a_character_is_spelled_out_above_a_bar(monkeypatch, capfd):
    errors = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace")
    monkeypatch.setattr(errors, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", errors)
    watch = screen.Pool(1, {}, 1, Seat())
    watch.say("half \ud800")
    watch.close()
    assert "half \\ud800\n" in capfd.readouterr().err


def everything(reader: int, encoding: str = "utf-8") -> str:
    """What is said there to the end, without what moves the cursor or colours."""
    said = b""
    with suppress(OSError):  # a terminal whose last program has gone
        while chunk := os.read(reader, 65536):
            said += chunk
    os.close(reader)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode(encoding)).replace("\r", "\n")


ALIKE = [
    # the commands of a launch -> what is shown of the first where not all of it fits
    (["python train.py --lr 0.1 --seed 0", "python train.py --lr 0.01 --seed 0"], "…--lr 0.1 --seed 0"),
    (["python train.py --lr 0.1 --seed 0", "python train.py --lr 0.1 --seed 10"], "…--seed 0"),
    (["python train.py --lr 0.1 --amp", "python train.py --lr 0.1"], "…--lr 0.1 --amp"),
    (["python train.py lr=0.1", "python train.py lr=0.01"], "…lr=0.1"),
    (["python train.py -1", "python train.py -2"], "…-1"),
    (["one.sh a-b", "two.sh a-b"], "one.sh a-b"),
    (["python train.py --lr 0.1"] * 2, "python train.py --lr 0.1"),
    (["python train.py --lr 0.1"], "python train.py --lr 0.1"),
]


@pytest.mark.parametrize(("commands", "shown"), ALIKE)
def test_of_a_command_that_does_not_fit_what_all_begin_with_is_left_out(monkeypatch, capfd, commands, shown):
    monkeypatch.setattr(screen, "LINE", len("START  0  a  ") + len(commands[0]) - 1)
    watch = screen.Pool(2, {f"/logs/sweep/{name}": command for name, command in zip("ab", commands)}, 1)
    watch.started(Job("/logs/sweep/a", "1.0"), "0")
    cut = shown if shown[0] == "…" else f"{shown[:-2]}…"
    assert capfd.readouterr().err == f"START  0  a  {cut}\n"
    monkeypatch.setattr(screen, "LINE", len("START  0  a  ") + len(commands[0]))
    watch.started(Job("/logs/sweep/a", "1.0"), "0")
    assert capfd.readouterr().err == f"START  0  a  {commands[0]}\n"


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, "START  0  bold-heron_2026.11.21_06.07  python train.py --lr 0.1 --arch resnet50…"),
        (60, "START  0  bold-heron_2026.11.21_06.07  python train.py --lr…"),
        (40, "START  0  bold-heron_2026.11.21_06.07"),
    ],
)
def test_a_start_is_one_line_on_a_terminal_and_the_name_stays_whole(monkeypatch, capfd, columns, line):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    job = Job("/logs/sweep/bold-heron_2026.11.21_06.07", "1.0")
    watch = screen.Pool(2, {job.run: "python train.py --lr 0.1 --arch resnet50 --seed 0 --epochs 100"}, 1)
    watch.started(job, "0")
    watch.close()
    assert line in capfd.readouterr().err.replace("\x1b[2K", "").splitlines()
    assert len(line) <= columns
