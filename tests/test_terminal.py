"""terminal: what a foreground run shows and hears, at a real pseudo-terminal and without one."""

import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from launching import PATIENCE_S, Place, end, exists, gone, number, output, python, script, until

FOREGROUND = """
tty = sys.argv[2]
if tty:
    os.setsid()
    for descriptor in (0, 1, 2):
        os.dup2(os.open(tty, os.O_RDWR), descriptor)
from farmx import processes, runner
from farmx.farms import terminal
if sys.argv[3] == "background":
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        os._exit(0)
    os.setpgid(0, 0)
seat = terminal.Seat()
with processes.Inbox() as inbox:
    for run in sys.argv[1].split(":"):
        runner.execute(run, "1.0", {}, inbox, terminal.console(seat), grace_s=60)
seat.close(None)
"""


class Screen:
    """A terminal with somebody at it."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self.keys, self._far = os.openpty()
        self.shown = b""
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._far)
        self.process: subprocess.Popen | None = None

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.keys, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def run(self, *runs: str) -> None:
        self.process = python(FOREGROUND, ":".join(runs), os.ttyname(self._far), "", stdout=None)

    def look(self, seconds: float = PATIENCE_S) -> bool:
        """Take in what has come; False when there was nothing for so long."""
        if not select.select([self.keys], [], [], seconds)[0]:
            return False
        self.shown += os.read(self.keys, 65536)
        return True

    def see(self, text: str) -> None:
        """Wait until `text` is on the screen."""
        deadline = time.monotonic() + PATIENCE_S
        while text.encode() not in self.shown:
            assert time.monotonic() < deadline and self.look(), self.shown

    def type(self, text: str) -> None:
        os.write(self.keys, text.encode())

    def end(self) -> str:
        """Wait for the run's end; return all that was shown."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            self.look(0.01)
            assert time.monotonic() < deadline, self.shown
        while self.look(0.0):
            pass
        assert self.process.returncode == 0, self.shown
        return self.shown.decode()

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
        for descriptor in (self.keys, self._far):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def screen():
    made = Screen()
    yield made
    made.close()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


# ---------------------------------------------------------------- at a terminal


def test_a_program_sits_at_a_terminal_of_the_size_of_ours(place, screen):
    code = """
import os, sys
print([os.isatty(each) for each in (0, 1, 2)], os.get_terminal_size(), os.tcgetpgrp(0) == os.getpgrp())
with open("/dev/tty", "w") as tty:
    print("and its own", file=tty)
"""
    screen.resize(33, 121)
    run = place.python(code)
    screen.run(run)
    text = "[True, True, True] os.terminal_size(columns=121, lines=33) True\nand its own\n"
    assert screen.end() == text.replace("\n", "\r\n")
    assert output(run) == text and end(run)["state"] == "done"


def test_what_is_typed_is_shown_and_read_a_line_at_a_time(place, screen):
    run = place.python("print('hello', input('name? ')); print('again', input('name? '))")
    screen.run(run)
    screen.see("name? ")
    screen.type("adx\x7fa größe\r")
    screen.see("hello ada größe\r\nname? ")
    screen.type("eve\n")
    shown = screen.end()
    assert "hello ada größe\r\n" in shown and "again eve\r\n" in shown and "name? eve\r\n" in shown
    assert "hello ada größe\nname? eve\nagain eve\n" in output(run) and "\r" not in output(run)


def test_pdb_works(place, screen):
    run = place.python("x = 6\nbreakpoint()\nprint('x is', x)")
    screen.run(run)
    screen.see("(Pdb) ")
    screen.type("p x * 7\r")
    screen.see("42")
    screen.type("x = 8\r")
    screen.type("c\r")
    assert "x is 8\r\n" in screen.end() and end(run)["state"] == "done"


def test_a_program_may_read_single_keys_without_their_echo(place, screen):
    read = "k = sys.stdin.buffer.raw.read(1); print('got', k)"
    run = place.python(f"import sys, tty; tty.setraw(0); print('ready', flush=True); {read}")
    screen.run(run)
    screen.see("ready")
    screen.type("\x1b")
    assert "got b'\\x1b'" in screen.end()


def test_the_keys_of_the_terminal_are_those_of_ours(place, screen):
    attributes = termios.tcgetattr(screen._far)
    attributes[0] |= 0o40000  # IUTF8, which Python does not name
    attributes[6][termios.VERASE] = b"\x08"
    termios.tcsetattr(screen._far, termios.TCSANOW, attributes)
    screen.before = termios.tcgetattr(screen._far)
    run = place.python("print(repr(input('name? ')))")
    screen.run(run)
    screen.see("name? ")
    screen.type("aö\x08b\r")
    assert "'ab'\r\n" in screen.end()
    assert termios.tcgetattr(screen._far) == screen.before


def test_the_end_of_input_is_typed_too(place, screen):
    run = place.python("import sys; print('ready', flush=True); print(repr(sys.stdin.read()))")
    screen.run(run)
    screen.see("ready\r\n")
    screen.type("one\r")
    screen.see("one")
    screen.type("\x04")
    assert "'one\\n'\r\n" in screen.end()


WAIT = "echo ready; while [ ! -e LOGDIR/go ]; do sleep 0.01; done"


def test_ctrl_c_ends_the_run_and_the_terminal_is_as_it_was(place, screen):
    run = place.shell(f"trap 'echo bye; exit 3' TERM; {WAIT}")
    screen.run(run)
    screen.see("ready\r\n")
    assert termios.tcgetattr(screen._far) != screen.before
    screen.type("\x03")
    assert "bye\r\n" in screen.end()
    assert end(run)["state"] == "interrupted" and end(run)["code"] == 3
    assert termios.tcgetattr(screen._far) == screen.before


def test_a_second_ctrl_c_kills(place, screen):
    run = place.shell(f"trap 'echo asked' TERM; {WAIT}")
    screen.run(run)
    screen.see("ready\r\n")
    screen.type("\x03")
    screen.see("asked")
    screen.type("\x03")
    screen.end()
    assert end(run)["signal"] == "SIGKILL"
    assert termios.tcgetattr(screen._far) == screen.before


def test_ctrl_z_stops_nobody(place, screen):
    run = place.shell(f"trap 'echo stopped' TSTP; {WAIT}; read x; echo \"read $x\"")
    screen.run(run)
    screen.see("ready\r\n")
    screen.type("\x1a")
    Path(run, "go").touch()
    screen.type("y\r")
    assert "read " in screen.end() and end(run)["state"] == "done"


def test_ctrl_backslash_is_the_programs(place, screen):
    run = place.shell(f"ulimit -c 0; trap 'echo quit; exit 4' QUIT; {WAIT}")
    screen.run(run)
    screen.see("ready\r\n")
    screen.type("\x1c")
    screen.end()
    assert (end(run)["state"], end(run)["code"]) == ("failed", 4)
    assert termios.tcgetattr(screen._far) == screen.before


def test_a_window_that_changes_its_size_changes_it_for_the_program(place, screen):
    code = """
import os, signal
signal.signal(signal.SIGWINCH, lambda *_: print(os.get_terminal_size().columns, flush=True))
print("ready", flush=True)
while not os.path.exists(os.environ["FARMX_RUN"] + "/go"): signal.sigtimedwait([], 0.01)
"""
    run = place.python(code)
    screen.run(run)
    screen.see("ready\r\n")
    screen.resize(50, 77)
    screen.see("77\r\n")
    Path(run, "go").touch()
    screen.end()
    assert output(run) == "ready\n77\n"


def test_all_that_was_said_is_shown_and_kept_to_the_last_byte(place, screen):
    run = place.python("import sys; sys.stdout.write('x' * 300_000 + 'last'); sys.stdout.flush()")
    screen.run(run)
    assert screen.end() == "x" * 300_000 + "last" == output(run)


def test_the_last_word_of_a_program_that_ends_at_once_is_never_lost(place):
    for name in "abcdefgh":
        screen = Screen()
        run = place.shell("echo last", name)
        screen.run(run)
        assert (screen.end(), output(run)) == ("last\r\n", "last\n")
        screen.close()


CHATTY = "setsid sh -c 'echo $$ > \"$LOGDIR/away\"; exec yes' & until [ -s \"$LOGDIR/away\" ]; do sleep 0.01; done"


def test_a_program_that_left_a_talker_behind_still_ends(place, screen):
    run = place.shell(CHATTY)
    screen.run(run)
    screen.end()
    os.kill(number(f"{run}/away"), 9)
    assert end(run)["state"] == "done"


def test_more_than_a_program_reads_may_be_typed_and_ctrl_c_still_works(place, screen):
    run = place.shell("stty raw -echo; " + WAIT)
    screen.run(run)
    screen.see("ready")
    os.set_blocking(screen.keys, False)
    typed = refused = 0
    while refused < 20:  # neither the program's terminal nor ours takes any more
        try:
            typed += os.write(screen.keys, b"x" * 4096)
        except BlockingIOError:
            refused += 1
            time.sleep(0.01)
    assert typed > 20_000
    screen.process.send_signal(2)
    screen.end()
    assert end(run)["state"] == "interrupted"


def test_a_terminal_that_is_closed_interrupts_the_run_with_its_grace(place, screen):
    run = place.shell(f"trap 'echo > LOGDIR/heard; exit 5' TERM; trap '' HUP; {WAIT}")
    screen.run(run)
    screen.see("ready\r\n")
    os.close(screen.keys)
    assert screen.process.wait(PATIENCE_S) == 0
    assert os.path.exists(f"{run}/heard")
    assert (end(run)["state"], end(run)["code"]) == ("interrupted", 5)


def test_in_the_background_of_a_terminal_nothing_is_read_from_it(place, screen):
    run = place.python("import sys; print(sys.stdin.isatty(), sys.stdout.isatty(), repr(sys.stdin.read()))")
    screen.process = python(FOREGROUND, run, os.ttyname(screen._far), "background", stdout=None)
    shown = screen.end()
    assert shown == "False False ''\r\n" and output(run) == "False False ''\n"
    assert termios.tcgetattr(screen._far) == screen.before


def test_what_a_program_did_not_read_is_for_the_next_run(place, screen):
    first = place.shell(WAIT, "first")
    second = place.python("import sys; print(repr(sys.stdin.read()))", "second")
    screen.run(first, second)
    screen.see("ready\r\n")
    screen.type("größe\rhalf a \x7fline\x04\x04")
    screen.see("lin")
    Path(first, "go").touch()
    assert "'größe\\nhalf aline'" in screen.end()
    assert termios.tcgetattr(screen._far) == screen.before


def test_a_terminal_that_is_stopped_holds_nobody_up_and_shows_all_later(place, screen):
    run = place.shell("echo ready; until [ -e LOGDIR/go ]; do sleep 0.01; done; yes | head -n 400000; echo last")
    screen.run(run)
    screen.see("ready\r\n")
    Path(run, "go").touch()
    until(lambda: end(run))  # nobody has looked at the screen meanwhile
    assert screen.end() == "ready\r\n" + "y\r\n" * 400_000 + "last\r\n"


# ---------------------------------------------------------------- without a terminal


def test_without_a_terminal_output_is_copied_as_it_comes_and_input_is_ours(place):
    run = place.python("import sys; print('one', sys.stdout.isatty(), flush=True); print(sys.stdin.read())")
    with python(FOREGROUND, run, "", "", stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "one False\n"
        assert output(run) == "one False\n"
        process.stdin.write("two\nthree")
        process.stdin.close()
        assert process.stdout.read() == "two\nthree\n"
    assert process.returncode == 0
    assert output(run) == "one False\ntwo\nthree\n"


def test_bytes_are_copied_as_they_are(place):
    run = place.python("import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)")
    with python(FOREGROUND, run, "", "", text=False) as process:
        assert process.stdout.read() == bytes(range(256)) * 1000
    assert Path(run, "output.log").read_bytes() == bytes(range(256)) * 1000


def test_a_reader_that_pauses_holds_nobody_up_and_gets_all_later_in_order(place):
    runs = [place.shell(f"yes {name} | head -n 200000; echo last; yes | head -n 9 >&2", name) for name in "ab"]
    with python(FOREGROUND, ":".join(runs), "", "") as process:
        until(lambda: all(map(end, runs)))
        said = "".join(f"{name}\n" * 200_000 + "last\n" + "y\n" * 9 for name in "ab")
        assert process.stdout.read() == said == "".join(map(output, runs))


def test_a_reader_that_pauses_for_many_runs_costs_no_open_files(place):
    runs = [place.shell("yes | head -n 9000; echo $FARMX_RUN", f"n{index:02}") for index in range(40)]
    few = "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
    with python(few + FOREGROUND, ":".join(runs), "", "") as process:
        until(lambda: all(map(end, runs)))
        assert process.stdout.read() == "".join(map(output, runs))
    assert [end(run)["state"] for run in runs] == ["done"] * 40


def test_where_a_thousand_files_are_open_already_all_is_shown_too(place):
    run = place.shell("yes | head -n 90000; echo last")
    many = "import os, resource\nhard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    many += "resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))\nheld = [os.dup(0) for _ in range(1100)]\n"
    with python(many + FOREGROUND, run, "", "") as process:
        until(lambda: end(run) or process.poll())
        assert process.stdout.read() == output(run) == "y\n" * 90_000 + "last\n"
    assert process.returncode == 0


PIPES = """
import select
from farmx.farms import terminal
said, seat, readers = os.fdopen(os.dup(1), "w"), terminal.Seat(), {}
for to in (1, 2):
    readers[to], writer = os.pipe()
    os.dup2(writer, to)
def ready():
    return any(select.select([descriptor], [], [], 0)[0] for descriptor in seat.descriptors())
def take(to):
    return len(os.read(readers[to], 65536))
"""

WAKES = """
for to in (1, 2, 1):
    seat.put(b"x" * 100_000, to)
for to in (1, 2, 1):
    print(ready(), take(to) > 60_000, ready(), seat.flush(), ready(), file=said)
print(take(1) > 60_000, ready(), seat.flush(), seat.descriptors(), seat.close(None), file=said)
"""


def test_only_the_end_that_is_waited_for_wakes_whether_that_is_our_output_or_our_errors(place):
    assert script(PIPES + WAKES) == "False True True None False\n" * 3 + "True True None [] True\n"


GONE = """
log = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(log, b"x" * 200_000)
seat.show(b"x" * 200_000, log)
seat.put(b"last", 1)
exec(sys.argv[2])
took = take(1)
seat.flush()
print(took + take(1), seat.close(1.0), file=said)
"""


@pytest.mark.parametrize(("what", "more"), [
    ("os.unlink(sys.argv[1])", 4), ("os.rename(sys.argv[1], sys.argv[1] + ' x')", 4),
    ("os.truncate(sys.argv[1], 70_000)", 70_000 - 65536 + 4),
])  # fmt: skip
def test_what_was_yet_to_be_shown_of_a_log_that_is_gone_is_not_taken_for_shown(tmp_path, what, more):
    assert script(PIPES + GONE, str(tmp_path / "größe's\nlog"), what) == f"{65536 + more} False\n"


SOCKET = """
import os, signal, socket, threading, time
ours, theirs = socket.socketpair()
shown = os.dup(1)
if os.fork() == 0:
    signal.alarm(90)  # a fork inherits none
    ours.close()
    while not all(os.path.exists(f"{run}/attempts/1.0/end.json") for run in os.sys.argv[1].split(":")):
        time.sleep(0.01)
    while more := theirs.recv(65536):
        os.write(shown, more)
    os._exit(0)
theirs.close()
os.dup2(ours.fileno(), 1)
"""


def test_a_socket_that_nobody_reads_holds_nobody_up(place):
    run = place.shell("yes | head -n 400000; echo last")
    with python("import sys\n" + SOCKET + FOREGROUND, run, "", "") as process:
        assert process.stdout.read() == "y\n" * 400_000 + "last\n"


def test_what_neither_the_log_nor_a_reader_takes_is_lost_and_no_more():
    reader, writer = os.pipe()
    code = "seat.show(b'x' * 200_000, None); seat.put(b'last', 1); print(seat.close(0.0), file=sys.stderr)"
    begin = "from farmx.farms import terminal; seat = terminal.Seat(); "
    with python(begin + code, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert process.stderr.read() == "False\n"
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"x" * 65536


def test_a_reader_that_has_enough_does_not_end_the_run(place):
    run = place.shell("echo one; until [ -e LOGDIR/go ]; do sleep 0.01; done; yes | head -n 50000; echo last")
    process = python(FOREGROUND, run, "", "")
    assert process.stdout.readline() == "one\n"
    process.stdout.close()
    Path(run, "go").touch()
    assert process.wait(PATIENCE_S) == 0
    assert end(run)["state"] == "done"
    assert output(run) == "one\n" + "y\n" * 50_000 + "last\n"


def test_a_talker_left_behind_does_not_hold_the_run_up(place):
    run = place.shell(CHATTY)
    with python(FOREGROUND, run, "", "", stdout=subprocess.DEVNULL) as process:
        process.wait(PATIENCE_S)
    os.kill(number(f"{run}/away"), 9)
    assert end(run)["state"] == "done"


def test_a_program_that_closes_its_output_runs_on(place):
    run = place.shell("exec > LOGDIR/elsewhere 2>&1; echo said; sleep 0.05")
    with python(FOREGROUND, run, "", "") as process:
        assert process.stdout.read() == ""
    assert (end(run)["state"], Path(run, "elsewhere").read_text()) == ("done", "said\n")


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
def test_a_command_whose_own_descriptors_are_closed_runs_all_the_same(place, closed, tmp_path):
    run = place.shell("echo said")
    begin = f"import os\nfor each in {closed!r}: os.close(each)\n"
    process = python(begin + FOREGROUND, run, "", "")
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 0
    assert end(run)["state"] == "done" and output(run) == "said\n"


def test_nothing_of_this_is_left(place, screen):
    run = place.shell('echo $$ > "$LOGDIR/pid"; sleep 100')
    screen.run(run)
    exists(f"{run}/pid")
    screen.process.kill()
    screen.process.wait()
    gone(number(f"{run}/pid"))
    assert json.dumps(end(run)) == "null" and sys.platform == "linux"
