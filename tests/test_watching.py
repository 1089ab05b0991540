"""farmx status --watch: what fits on a terminal is seen, whatever its size; q and Ctrl-C leave it as it was."""

import os
import pty
import signal
import struct
import subprocess
import termios
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

import pytest
from attempts import attempt, staged
from conftest import BIN
from launching import PATIENCE_S, Place, until

from farmx import status
from farmx.cli import watching
from farmx.spec import Attempt, Run, State

NOW = 1_800_000_000.0


def a(name: str, state: State, begun_s: float | None = None, note: str = "") -> Run:
    owner = {"started": NOW - begun_s} if begun_s is not None else None
    attempts = (Attempt("", (1, 0), owner, None),) if owner else ()
    return Run(name, f"/sweep/{name}", "sweep", state, {}, attempts, note=note)


def seen(runs: list[Run], width: int = 80, height: int = 24, problems: tuple[str, ...] = ()) -> list[str]:
    """The lines without the last, which is the clock's."""
    lines = watching.view({"/sweep": status.Look(tuple(runs), problems)}, NOW, width, height)
    assert len(lines) <= height
    assert [line for line, _ in lines if len(line) > width] == []
    return [line for line, _ in lines[:-1]]


def test_what_is_not_done_is_seen_the_newest_first():
    runs = [a("old", State.RUNNING, 100), a("waits", State.QUEUED), a("done", State.DONE, 50),
            a("new", State.FAILED, 10, "main exited with 1"), a("staged", State.STAGED)]  # fmt: skip
    assert seen(runs) == [
        "sweep  5 runs: 1 done, 1 running, 1 queued, 1 staged, 1 failed; 1:40 spent",
        "",
        "state    attempts  time  run",
        "failed   1               new     main exited with 1",
        "running  1         1:40  old",
        "queued                   staged".replace("queued ", "staged "),
        "queued                   waits",
    ]


def test_each_line_knows_its_state():
    look = {"/sweep": status.Look((a("one", State.RUNNING, 1), a("two", State.FAILED, 2)))}
    states = [state for _, state in watching.view(look, NOW, 80, 24)]
    assert states == [None, None, None, State.RUNNING, State.FAILED, None]


def test_of_ten_thousand_runs_as_many_are_seen_as_fit():
    runs = [a(f"run_{each}", State.RUNNING, each) for each in range(10_000)]
    lines = seen(runs, height=10)
    assert lines[0].startswith("sweep  10000 runs: 10000 running; ")
    assert [line.split()[3] for line in lines[3:-1]] == [f"run_{each}" for each in range(5)]
    assert lines[-1] == "and 9,995 more"


def test_all_is_seen_where_it_just_fits():
    runs = [a(f"run_{each}", State.RUNNING, each) for each in range(5)]
    assert [line.split()[3] for line in seen(runs, height=9)[3:]] == [f"run_{each}" for each in range(5)]
    assert seen(runs, height=8)[-1] == "and 2 more"


@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("width", [8, 20, 40, 200])
def test_every_terminal_gets_what_fits(width, height):
    seen([a("x" * 60, State.RUNNING, each, "note") for each in range(50)], width, height, ("torn", "torn", "torn"))


def test_a_name_that_would_disturb_a_terminal_is_spelled_out():
    lines = seen([a("a\x1b[2Jb", State.RUNNING, 1, "größe 漢字")])
    assert lines[3] == r"running  1         0:01  a\x1b[2Jb  größe 漢字"


def test_experiments_of_names_of_any_length_stand_below_one_another():
    looks = {f"/root/{name}": status.Look((a("one", State.DONE, 1),)) for name in ("db", "slow-copy")}
    lines = [line for line, _ in watching.view(looks, NOW, 80, 20)]
    assert lines[:2] == ["db         1 run: 1 done; 0:00 spent", "slow-copy  1 run: 1 done; 0:00 spent"]


def test_where_nothing_is_there_is_no_line_but_the_clock():
    assert [line for line, _ in watching.view({}, NOW, 80, 20)][:-1] == []


def test_many_experiments_leave_room_for_runs():
    looks = {f"/root/e{each}": status.Look((a("one", State.RUNNING, 1),)) for each in range(50)}
    lines = [line for line, _ in watching.view(looks, NOW, 80, 20)]
    assert (lines[8], lines[9]) == ("and 42 experiments more", "")
    assert lines[-2] == "and 43 more"


def test_what_cannot_be_read_is_seen():
    assert seen([], problems=("run.json: torn",)) == ["sweep  no runs", "unreadable: run.json: torn"]


# ---------------------------------------------------------------- on a terminal


class Screen:
    """A terminal of 60 columns and 12 lines in which a command runs."""

    def __init__(self, *argv: str, cwd: Path, term: str = "xterm") -> None:
        self.text = b""
        self.ours, theirs = pty.openpty()
        ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
        self.before = termios.tcgetattr(self.ours)
        env = {**os.environ, "TERM": term, "NO_COLOR": "1"}
        env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        os.set_blocking(self.ours, False)

    def sees(self, text: bytes) -> bool:
        """Wait for a text."""
        def come() -> bool:
            with suppress(OSError):  # nothing there yet, or the command has ended
                self.text += os.read(self.ours, 65536)
            return text in self.text

        return until(come)

    def end(self) -> int:
        try:
            return self.process.wait(timeout=PATIENCE_S)
        finally:
            self.process.kill()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FARMX_LOGROOT", str(tmp_path / "logs"))
    place = Place(tmp_path)
    attempt(staged(place), "1.0", {"main": b""}, None)
    return place


@pytest.mark.parametrize("how", ["q", "Q", "\x04", "Ctrl-C"])
def test_q_and_ctrl_c_end_it_well_and_leave_the_terminal_as_it_was(place, tmp_path, how):
    screen = Screen(str(BIN / "farmx"), "status", "sweep", "--watch", cwd=tmp_path)
    assert screen.sees(b"q ends")
    if how == "Ctrl-C":
        screen.process.send_signal(signal.SIGINT)
    else:
        os.write(screen.ours, b"x")  # any other key is none
        os.write(screen.ours, how.encode())
    assert screen.sees(b"1 run: 1 ")
    assert screen.end() == 0
    assert termios.tcgetattr(screen.ours) == screen.before


def test_what_changes_is_seen_without_a_key(place, tmp_path):
    screen = Screen(str(BIN / "farmx"), "status", "--watch", cwd=tmp_path)
    assert screen.sees(b"1 run: 1 ")
    staged(place, name="another")
    assert screen.sees(b"2 runs: ")
    os.write(screen.ours, b"q")
    assert screen.end() == 0


def test_an_experiment_that_is_not_there_is_one_line(place, tmp_path):
    screen = Screen(str(BIN / "farmx"), "status", "none", "--watch", cwd=tmp_path)
    assert screen.sees(b"farmx: no experiment or run named 'none'")
    assert screen.end() == 2
    assert b"Traceback" not in screen.text


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_be_drawn_on_is_one_line(place, tmp_path, term):
    screen = Screen(str(BIN / "farmx"), "status", "--watch", cwd=tmp_path, term=term)
    assert screen.sees(f"farmx: --watch draws on the terminal, and TERM={term} cannot; leave it out here".encode())
    assert screen.end() == 2
