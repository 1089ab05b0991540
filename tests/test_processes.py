"""processes: names of processes, signals, how a program is started, supervised and ended."""

import builtins
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import exists, gone, number, python, script, state, until

from farmx import processes
from farmx.processes import Inbox, Stop


@pytest.fixture
def sleeper():
    """A process that does nothing."""
    process = subprocess.Popen(["sleep", "100"])
    yield process
    process.kill()
    process.wait()


# ---------------------------------------------------------------- names


def test_a_birth_tells_a_process_from_a_later_one_of_its_number(sleeper):
    birth = processes.birth(sleeper.pid)
    assert birth.isdecimal() and processes.birth(sleeper.pid) == birth != ""
    assert int(birth) >= int(processes.birth(os.getpid()))
    sleeper.kill()
    until(lambda: state(sleeper.pid) == "Z")
    assert processes.birth(sleeper.pid) == ""  # a zombie does nothing any more
    sleeper.wait()
    assert processes.birth(sleeper.pid) == ""


def test_a_program_with_brackets_in_its_name_has_a_birth(tmp_path):
    odd = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("sleep"), odd)
    process = subprocess.Popen([odd, "100"])
    try:
        until(lambda: "a) Z" in Path(f"/proc/{process.pid}/stat").read_text())
        assert int(processes.birth(process.pid)) >= int(processes.birth(os.getpid()))
    finally:
        process.kill()
        process.wait()


def test_a_record_of_this_process_says_that_it_lives():
    assert processes.alive(processes.this()) is True
    assert json.loads(json.dumps(processes.this())) == processes.this()


@pytest.mark.parametrize(
    "change, told",
    [
        ({"host": "elsewhere"}, None),
        ({"host": None}, None),
        ({"host": "elsewhere", "boot": "other"}, None),
        ({"boot": "other"}, False),
        ({"boot": None}, False),
        ({"boot": "other", "machine": "other"}, None),
        ({"boot": "other", "machine": ""}, None),
        ({"birth": "1"}, False),  # the pid was given to another process since
        ({"birth": ""}, False),
        ({"birth": None}, False),
        ({"pids": "pid:[1]"}, None),  # of a container
        ({"pid": 2**22 + 1}, False),
        ({"pid": None}, False),
        ({"pid": "1"}, False),
        ({"pid": -1}, False),
        ({"pid": 0}, False),
        ({"pid": 2**22 + 1, "birth": ""}, False),
    ],
)
def test_a_record_of_a_process_that_is_no_more_says_so(change, told):
    assert processes.alive({**processes.this(), **change}) is told


def test_a_record_that_names_no_machine_is_of_the_one_that_has_its_host():
    """As those were that farmx wrote before."""
    owner = {key: value for key, value in processes.this().items() if key != "machine"}
    assert (processes.alive(owner), processes.alive({**owner, "boot": "other"})) == (True, False)


def test_a_machine_is_told_by_what_hides_its_id():
    told = Path("/etc/machine-id").read_text().strip() if os.path.exists("/etc/machine-id") else ""
    assert re.fullmatch(r"[0-9a-f]{8}" if told else "", processes.machine())
    assert not told or processes.machine() not in told


def test_where_the_system_tells_no_births_nobody_can_say_who_lives(monkeypatch):
    me, real = processes.this(), open
    assert processes.alive(me) is True

    def refused(path: str, *more: object) -> object:
        if str(path).endswith("/stat"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more)

    monkeypatch.setattr(builtins, "open", refused)
    assert processes.alive(me) is None


def test_an_empty_record_is_of_no_host():
    assert processes.alive({}) is None


# ---------------------------------------------------------------- signals


def test_an_inbox_keeps_what_arrives_in_order_and_wakes_who_waits():
    with Inbox() as inbox:
        assert inbox.wait([], 0) == [] and inbox.stops == [] and not inbox.cancelled
        for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(os.getpid(), each)
        started = time.monotonic()
        assert inbox.wait([], 100) == [] and time.monotonic() - started < 50
        assert inbox.stops == [signal.SIGHUP, signal.SIGTERM, signal.SIGINT] and inbox.cancelled


HANG_UPS = [  # what comes -> what asks
    ([signal.SIGHUP, signal.SIGHUP], [signal.SIGHUP]),
    ([signal.SIGINT, signal.SIGHUP, signal.SIGHUP], [signal.SIGINT]),
    ([signal.SIGHUP, signal.SIGHUP, signal.SIGINT], [signal.SIGHUP, signal.SIGINT]),
]


@pytest.mark.parametrize(("come", "stops"), HANG_UPS)
def test_a_terminal_that_goes_asks_once_though_shell_and_kernel_tell_of_it_and_hurries_no_one(come, stops):
    heard: list[int] = []
    with Inbox(heard.append) as inbox:
        for each in come:
            os.kill(os.getpid(), each)
        assert (inbox.stops, inbox.asked(), heard) == (stops, len(stops), [*range(1, len(stops) + 1)])


@pytest.mark.parametrize("come", ["INT", "USR1", "USR2", "TERM"])
def test_a_request_that_came_before_a_program_is_known_to_have_been_missed(come):
    with Inbox(notice_s=60.0) as inbox:
        inbox.overhear(signal.SIGTERM)
        assert not inbox.missed()
        os.kill(os.getpid(), getattr(signal, f"SIG{come}"))
        assert inbox.missed()


def test_an_inbox_says_which_descriptors_can_be_read():
    one, two = os.pipe(), os.pipe()
    with Inbox() as inbox:
        os.write(two[1], b"x")
        assert inbox.wait([one[0], two[0]], 100) == [two[0]]
    for descriptor in (*one, *two):
        os.close(descriptor)


def test_after_an_inbox_all_is_as_before():
    mine = signal.signal(signal.SIGHUP, lambda *_: None)
    numbers = (*processes.STOPS, processes.CANCEL, signal.SIGCHLD)
    before = [signal.getsignal(each) for each in numbers]
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), Inbox():
        assert [signal.getsignal(each) for each in numbers] != before
        raise ZeroDivisionError
    assert [signal.getsignal(each) for each in numbers] == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert signal.set_wakeup_fd(-1) == -1
    signal.signal(signal.SIGHUP, mine)


def test_a_stop_asks_then_kills_and_says_each(monkeypatch):
    sent, told, clock = [], [], [0.0]
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append((group, number)))
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Inbox() as inbox:
        stop = Stop(7, 30.0, told.append)
        stop.follow(inbox)
        assert (stop.state, sent) == (None, []) and stop.timeout_s() == processes.BEAT_S
        inbox.stops.append(signal.SIGINT)
        stop.follow(inbox)
        stop.follow(inbox)
        assert (stop.state, told) == ("interrupted", [signal.SIGTERM]) and 29 < stop.timeout_s() < 31
        clock[0] = 29.0
        stop.follow(inbox)
        assert told == [signal.SIGTERM]
        clock[0] = 31.0
        stop.follow(inbox)
        stop.follow(inbox)
        assert told == [signal.SIGTERM, signal.SIGKILL]
        assert sent == [(7, signal.SIGTERM), (7, signal.SIGCONT), (7, signal.SIGKILL), (7, signal.SIGCONT)]
        assert stop.timeout_s() == processes.BEAT_S


ASKED = [
    ("cancel", ["USR1"], "cancelled", ["SIGTERM"]),
    ("stop", ["INT"], "interrupted", ["SIGTERM"]),
    ("stop twice", ["INT", "INT"], "interrupted", ["SIGTERM", "SIGKILL"]),
    ("cancel then stop", ["USR1", "TERM"], "cancelled", ["SIGTERM", "SIGKILL"]),
    ("stop then cancel", ["TERM", "USR1"], "interrupted", ["SIGTERM", "SIGKILL"]),
]


@pytest.mark.parametrize("asked, state, told", [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
def test_the_first_request_decides_what_it_is_called_and_the_second_kills(monkeypatch, asked, state, told):
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    said = []
    with Inbox() as inbox:
        stop = Stop(7, 30.0, lambda number: said.append(signal.Signals(number).name))
        for each in asked:
            os.kill(os.getpid(), getattr(signal, f"SIG{each}"))
            stop.follow(inbox)
    assert (stop.state, said) == (state, told)


@pytest.mark.parametrize("early, sent", [(False, []), (True, [signal.SIGTERM, signal.SIGCONT])])
def test_who_was_told_by_a_scheduler_as_we_were_is_told_by_us_only_where_it_had_not_begun(monkeypatch, early, sent):
    killed = []
    monkeypatch.setattr(os, "killpg", lambda group, number: killed.append(number))
    with Inbox(told=lambda: True) as inbox:
        os.kill(os.getpid(), signal.SIGTERM)  # before anybody looked for the first time
        stop = Stop(7, 30.0, lambda number: None, early=early)
        stop.follow(inbox)
    assert (stop.state, killed) == ("interrupted", sent)


@pytest.mark.parametrize("asked, state", [(True, "cancelled"), (False, "preempted")])
def test_a_notice_is_a_cancel_where_somebody_asked_for_that(monkeypatch, asked, state):
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    with Inbox(notice_s=60.0) as inbox:
        stop = Stop(7, 30.0, lambda number: None, lambda: asked)
        os.kill(os.getpid(), signal.SIGUSR2)
        stop.follow(inbox)
        assert stop.state == state and 49 < stop.timeout_s() < 51


WARNED = [
    ("a warning", True, False, ["USR1"], "preempted", ["SIGTERM"]),
    ("both warnings", True, False, ["USR1", "USR2"], "preempted", ["SIGTERM"]),
    ("nobody's word", False, False, ["USR1"], None, []),
    ("a cancel", True, True, ["USR1"], "cancelled", ["SIGTERM"]),
    ("a cancel and what the scheduler makes of it", True, True, ["USR1", "USR2"], "cancelled", ["SIGTERM"]),
    ("a warning, then a stop", True, False, ["USR1", "TERM"], "preempted", ["SIGTERM", "SIGKILL"]),
]


@pytest.mark.parametrize(("warns", "wished", "asked", "state", "told"), [row[1:] for row in WARNED],
                         ids=[row[0] for row in WARNED])  # fmt: skip
def test_a_cancel_that_nobody_wished_is_a_warning_where_the_scheduler_sends_such(
    monkeypatch, warns, wished, asked, state, told
):
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    said = []
    with Inbox(notice_s=60.0, warns=warns) as inbox:
        stop = Stop(7, 30.0, lambda number: said.append(signal.Signals(number).name), lambda: wished)
        for each in asked:
            os.kill(os.getpid(), getattr(signal, f"SIG{each}"))
            stop.follow(inbox)
    assert (stop.state, [name for name in said if name != "SIGCONT"]) == (state, told)


def test_a_second_warning_that_comes_while_the_first_is_looked_into_is_no_cancel(monkeypatch):
    """Grid Engine tells a job's processes by their group and one by one."""
    monkeypatch.setattr(os, "killpg", lambda *_: None)

    def wished() -> bool:
        os.kill(os.getpid(), signal.SIGUSR1)
        return False

    with Inbox(notice_s=60.0, warns=True) as inbox:
        stop = Stop(7, 30.0, lambda number: None, wished)
        os.kill(os.getpid(), signal.SIGUSR1)
        stop.follow(inbox)
        stop.follow(inbox)
    assert stop.state == "preempted"


LOOKS = [
    ("looked for first", ["look", "TERM"], "cancelled", ["SIGTERM"]),
    ("then told twice", ["look", "TERM", "TERM"], "cancelled", ["SIGTERM", "SIGKILL"]),
    ("looked for again", ["look", "look"], "cancelled", ["SIGTERM"]),
    ("wished while it is preempted", ["notice", "look"], "cancelled", ["SIGTERM"]),
    ("wished while it is stopped", ["stop", "look"], "interrupted", ["SIGTERM"]),
]


@pytest.mark.parametrize(("asked", "state", "told"), [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS])
def test_a_wish_that_is_looked_for_is_one_request_with_the_signal_that_it_brings(monkeypatch, asked, state, told):
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    said, wishes = [], []
    with Inbox(notice_s=60.0) as inbox:
        stop = Stop(7, 30.0, lambda number: said.append(signal.Signals(number).name), lambda: bool(wishes))
        for each in asked:
            if each == "look":
                wishes.append(each)
                stop.look()
            else:
                number = {"notice": signal.SIGUSR2, "stop": signal.SIGINT, "TERM": signal.SIGTERM}[each]
                os.kill(os.getpid(), number)
            stop.follow(inbox)
    assert (stop.state, said) == (state, told)


# ---------------------------------------------------------------- starting

SPAWN = """
from farmx import processes
output = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.environ["OURS"] = "x"
given = json.loads(sys.argv[2])
with processes.Inbox() as inbox:
    pid = processes.spawn(given["argv"], given["env"], given["cwd"], output, processes.Console())
    stop = processes.Stop(pid, 30.0, print)
    status, usage = processes.supervise(pid, inbox, stop, processes.Console(), lambda: None)
print(os.waitstatus_to_exitcode(status))
"""


def spawn(tmp_path: Path, argv: list[str], env: dict | None = None, cwd: str = "/") -> tuple[int, str]:
    """(exit code, output) of a program that spawn starts."""
    given = json.dumps({"argv": argv, "env": env or {}, "cwd": cwd})
    code = int(script(SPAWN, str(tmp_path / "output"), given))
    return code, (tmp_path / "output").read_text()


def ignored_around_us() -> int:
    """The signals above 31 that whoever started us ignores: no name in Python, nothing of ours to reset.

    glibc's posix_spawn, which Python 3.13's subprocess uses more often, leaves one of its own (33) ignored.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["SigIgn"], 16) >> 31 << 31 | 1 << 32


def test_a_program_finds_its_environment_its_directory_and_nothing_of_ours(tmp_path):
    code = """
import json, os, signal
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps([dict(os.environ), os.getcwd(), sorted(os.listdir("/proc/self/fd"))[:-1],
    os.getsid(0) == os.getpid() == os.getpgid(0), os.read(0, 9).decode(),
    [int(status[name], 16) for name in ("SigBlk", "SigIgn")]]))
""".replace("import json, os", "import sys; sys.stdin.fileno()\nimport json, os")
    env = {"A": "it's\n$HOME größe", "EMPTY": ""}
    ended, told = spawn(tmp_path, [sys.executable, "-I", "-S", "-c", code], env, str(tmp_path))
    ignored_by_python = (1 << (signal.SIGPIPE - 1)) | (1 << (signal.SIGXFSZ - 1))
    environ, cwd, descriptors, leads, typed, (blocked, ignored) = json.loads(told)
    environ.pop("LC_CTYPE", None)  # Python's own doing in the C locale
    assert (ended, environ, cwd, descriptors, leads, typed) == (0, env, str(tmp_path), ["0", "1", "2"], True, "")
    assert (blocked, ignored & ~ignored_by_python & ~ignored_around_us()) == (0, 0)


def test_a_program_ends_of_a_closed_pipe_and_of_a_file_too_large_as_in_any_shell(tmp_path):
    told = spawn(tmp_path, ["/bin/sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status"])[1]
    _, blocked, _, ignored = told.split()
    assert (int(blocked, 16), int(ignored, 16) & ~ignored_around_us()) == (0, 0)


@pytest.mark.parametrize(
    "make, argv, told",
    [
        (None, "/no/such", "/no/such: No such file or directory\n"),
        (lambda path: path.write_text("#!/bin/sh\n"), "{}", "{}: Permission denied\n"),
        (lambda path: (path.write_text("#!/no/shell\n"), path.chmod(0o755)), "{}", "{}: No such file or directory\n"),
        (lambda path: (path.write_bytes(b"\x7fELF\0"), path.chmod(0o755)), "{}", "{}: Exec format error\n"),
    ],
    ids=["not there", "not executable", "no interpreter", "no program"],
)
def test_what_cannot_be_started_exits_127_and_says_why(tmp_path, make, argv, told):
    path = tmp_path / "it's größe"
    if make:
        make(path)
    assert spawn(tmp_path, [argv.format(path)]) == (127, told.format(path))


def test_a_path_that_is_no_text_says_why_too(tmp_path):
    given = json.dumps({"argv": ["/no/\udcff"], "env": {}, "cwd": "/"})
    script(SPAWN, str(tmp_path / "output"), given)
    assert (tmp_path / "output").read_bytes() == b"/no/\xff: No such file or directory\n"


def test_a_directory_that_is_not_there_is_said(tmp_path):
    code, told = spawn(tmp_path, ["/bin/true"], cwd=str(tmp_path / "gone"))
    assert (code, told) == (127, f"{tmp_path}/gone: No such file or directory\n")


def test_a_request_that_came_before_the_program_ends_it_all_the_same(tmp_path):
    """However short a time lies between the fork and the signal: it is neither lost nor swallowed by our handlers."""
    code = """
from farmx import processes
for _ in range(40):
    with processes.Inbox() as inbox:
        inbox.stops.append(15)
        pid = processes.spawn(["/bin/sleep", "100"], {}, "/", 1, processes.Console())
        stop = processes.Stop(pid, 1.0, lambda number: None)
        status, _ = processes.supervise(pid, inbox, stop, processes.Console(), lambda: None)
        assert os.WTERMSIG(status) == 15, status
"""
    script(code)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_signal_to_what_was_forked_only_now_ends_it_and_does_not_end_in_our_handlers(name):
    """A scheduler signals each process of a job; by the time we hear of it the program may have begun, untold."""
    code = """
from farmx import processes
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), getattr(signal, sys.argv[1])))
with processes.Inbox():
    pid = processes.spawn(["/bin/true"], {}, "/", 1, processes.Console())
print(signal.Signals(-os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).name)
"""
    assert script(code, name) == f"{name}\n"


def test_where_nothing_more_can_be_forked_nothing_is_left_open_and_signals_arrive(monkeypatch):
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(BlockingIOError):
        processes.spawn(["/bin/true"], {}, "/", 1, processes.Console())
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_program_dies_with_whoever_started_it(tmp_path):
    code = """
from farmx import processes
pid = processes.spawn(["/bin/sleep", "100"], {}, "/", 1, processes.Console())
print(pid, flush=True)
os.read(0, 1)
"""
    process = python(code, stdin=subprocess.PIPE)
    pid = int(process.stdout.readline())
    assert state(pid) in ("S", "R", "D")
    process.kill()
    process.communicate()
    gone(pid)


# ---------------------------------------------------------------- supervising


def test_a_heart_beats_while_a_program_runs(tmp_path):
    code = """
from farmx import processes
processes.BEAT_S = 0.01
beats = []
wait = ["/bin/sh", "-c", "until [ -e $0 ]; do sleep 0.01; done; exit 3", sys.argv[1]]
pid = processes.spawn(wait, os.environ, "/", 1, processes.Console())
def beat():
    beats.append(1)
    if len(beats) == 3:
        open(sys.argv[1], "w").close()
    return True
with processes.Inbox() as inbox:
    stop = processes.Stop(pid, 1.0, print)
    status, usage = processes.supervise(pid, inbox, stop, processes.Console(), beat)
print(os.waitstatus_to_exitcode(status), len(beats) >= 3, usage.ru_maxrss > 100)
"""
    assert script(code, str(tmp_path / "go")) == "3 True True\n"


def test_a_stopped_program_is_woken_to_hear_that_it_must_end(tmp_path):
    code = """
import signal
from farmx import processes
pid = processes.spawn(["/bin/sleep", "100"], {}, "/", 1, processes.Console())
os.kill(pid, signal.SIGSTOP)
with processes.Inbox() as inbox:
    inbox.stops.append(15)
    status, _ = processes.supervise(pid, inbox, processes.Stop(pid, 1.0, int), processes.Console(), lambda: None)
print(os.WTERMSIG(status))
"""
    assert script(code) == "15\n"


# ---------------------------------------------------------------- what is left


def test_marked_finds_processes_by_the_begin_of_a_variable(tmp_path):
    mark = f"FARMX_MARK={tmp_path}/größe/"
    environs = [f"{tmp_path}/größe/1", f"{tmp_path}/größe/", f"{tmp_path}/größe", f"{tmp_path}/other/größe/"]
    started = [subprocess.Popen(["sleep", "100"], env={"A": "b", "FARMX_MARK": each}) for each in environs]
    started.append(subprocess.Popen(["sleep", "100"], env={"MY_FARMX_MARK": environs[0], "B": mark}))
    try:
        for each in started:
            until(lambda each=each: b"sleep" in Path(f"/proc/{each.pid}/cmdline").read_bytes())
        assert sorted(processes.marked([mark])) == sorted(each.pid for each in started[:2])
        processes.clear([mark])
        assert [each.wait() for each in started[:2]] == [-signal.SIGKILL] * 2
        assert [each.poll() for each in started[2:]] == [None] * 3
    finally:
        for each in started:
            each.kill()
            each.wait()


def test_clearing_does_not_wait_for_the_dead_or_for_ourselves(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    processes.clear([f"FARMX_MARK={tmp_path}/"])
    code = "from farmx import processes\nprint(processes.marked(['FARMX_MARK=me']))"
    assert script(code, env={"FARMX_MARK": "me"}) == "[]\n"


def test_a_mark_that_is_no_text_is_found(tmp_path):
    process = subprocess.Popen(["sleep", "100"], env={b"FARMX_MARK": b"/\xff/x"})
    try:
        until(lambda: b"sleep" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        assert processes.marked(["FARMX_MARK=/\udcff/"]) == [process.pid]
    finally:
        process.kill()
        process.wait()


def test_a_group_that_has_gone_is_no_error(sleeper):
    sleeper.kill()
    sleeper.wait()
    processes.kill_group(sleeper.pid, signal.SIGTERM)


def test_whoever_asks_to_die_with_a_parent_that_has_died_dies_at_once(tmp_path):
    code = """
import signal
from farmx import processes
pid = os.fork()
if pid == 0:
    if os.fork() == 0:
        while os.getppid() == int(sys.argv[2]): pass
        with open(sys.argv[1], "w") as file: file.write(f"{os.getpid()}\\n")
        processes.die_with_parent(signal.SIGTERM, int(sys.argv[2]))
        os.execv("/bin/sleep", ["sleep", "100"])
    os._exit(0)
os.waitpid(pid, 0)
"""
    script(code, str(tmp_path / "pid"), "0")
    exists(tmp_path / "pid")
    gone(number(tmp_path / "pid"))
