"""A child that works beside us: what it answers, what becomes of who asks when it ends, and what it never touches."""

import os
import subprocess
import sys

import pytest
from launching import HOSTILE, gone, number
from schedulers import Scheduler

from farmx import __main__, config, layout
from farmx.farms import beside, slurm_script

BEGIN = "import os, signal, sys, time\nfrom farmx.farms import beside, slurm_script\n"
CHILD = "with beside.child('json') as ask:\n    pid = ask(os.getpid)()\n    assert pid != os.getpid()\n"


def program(code: str, **more) -> str:
    """What a python of its own prints, which has one thread as a command has."""
    return subprocess.run([sys.executable, "-c", BEGIN + code], stdout=subprocess.PIPE, text=True, check=True,
                          **more).stdout  # fmt: skip


def inside(code: str, **more) -> str:
    """The same with a child that answers."""
    return program(CHILD + "".join(f"    {line}\n" for line in code.splitlines()), **more)


@pytest.mark.parametrize("resources", [{}, {"time": 10, "hold": True, "gpus-per-node": "a:2"}, {"mem": 1.5, "x": None},
                                       *({"comment": value} for value in HOSTILE[:8])])  # fmt: skip
def test_a_script_is_the_same_from_a_child(resources):
    given = ("exec 'it'", resources, 3, 2)
    code = f"with beside.child('submitit.slurm.slurm') as ask:\n    made = ask(slurm_script.text, *{given!r})()\n"
    code += "assert 'submitit' not in sys.modules\nsys.stdout.buffer.write(repr(made).encode())"
    assert program(code) == repr(slurm_script.text(*given))


def test_without_a_child_a_question_is_answered_when_its_answer_is_asked_for():
    found: list[int] = []
    answer = beside.here(found.append, 1)
    assert found == []
    answer()
    assert found == [1]


def test_answers_come_to_their_questions_in_any_order():
    code = "answers = [ask(max, 0, each) for each in range(100)]\nprint(*(each() for each in reversed(answers)))"
    assert inside(code) == " ".join(map(str, range(99, -1, -1))) + "\n"


def test_the_same_is_answered_once():
    code = "found = ask(time.monotonic_ns)()\nprint(ask(time.monotonic_ns)() == found)"
    assert inside(code) == "True\n"


def test_nobody_waits_for_a_pipe_that_is_full():
    code = "asked = [ask(os.path.join, f'{each}', 'x' * 3000) for each in range(200)]\n"
    code += "large = [ask(os.urandom, 200_000 + each) for each in range(20)]\n"
    code += "longest = ask(os.path.join, 'x' * 200_000)\n"
    code += "print([len(each()) for each in asked[98:102] + large[-2:] + [longest]])"
    assert inside(code) == "[3003, 3003, 3004, 3004, 200018, 200019, 200000]\n"


@pytest.mark.parametrize("moment", ["before", "asked", "stopped"])
def test_a_child_that_is_killed_leaves_its_work_to_us(moment):
    kill = "os.kill(pid, signal.SIGKILL)\n"
    code = {
        "before": f"{kill}first, second = ask(os.getpid), ask(os.path.join, 'a', 'b')\n",
        "asked": f"first, second = ask(os.urandom, 1 << 20), ask(os.path.join, 'a', 'b')\n{kill}",  # into a full pipe
        "stopped": f"os.kill(pid, signal.SIGSTOP)\nsecond = ask(os.path.join, 'a', 'b')\nfirst = second\n{kill}",
    }[moment]
    assert inside(f"{code}first()\nprint(second(), ask(os.path.join, 'c')())") == "a/b c\n"


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("beside.here, len, 'abc'", "answered here"),  # its answer is not plain
        ("repr, sys", "<module 'sys' (built-in)>"),  # what it is given is not
        ("len, 'x' * 100_000", "100000"),
    ],
)
def test_what_cannot_be_told_is_done_here(question, told):
    code = f"found = ask({question})()\nprint('answered here' if callable(found) else found, ask(len, 'abcd')())"
    assert inside(code) == f"{told} 4\n"


def test_what_fails_in_the_child_fails_here():
    code = "try:\n    ask(os.listdir, '/none')()\nexcept FileNotFoundError as error:\n    print(error)"
    assert inside(code) == "[Errno 2] No such file or directory: '/none'\n"


def test_it_says_nothing_of_what_failed():
    code = "ask(os.listdir, '/none')\nos.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)"
    assert inside(code, stderr=subprocess.STDOUT) == ""


def test_a_module_that_cannot_be_loaded_leaves_its_work_to_us():
    code = "with beside.child('no_such_module') as ask:\n    print(ask(os.getpid)() == os.getpid())"
    assert program(code, stderr=subprocess.STDOUT) == "True\n"


def test_without_a_process_to_be_had_the_work_is_done_here(monkeypatch):
    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    with beside.child("json") as ask:
        assert ask(os.getpid)() == os.getpid()


def test_it_has_no_stream_of_ours():
    code = "print(*(ask(os.readlink, f'/proc/self/fd/{stream}')() for stream in (0, 1, 2)))"
    assert inside(code) == "/dev/null /dev/null /dev/null\n"


@pytest.mark.parametrize("first", ["json", "no_such_module"])
def test_what_is_to_be_done_or_written_at_our_end_is_not_done_at_its_end(first, tmp_path):
    code = "import atexit\nout = open('out', 'w')\natexit.register(out.write, 'the end')\nout.write('begun, ')\n"
    code += f"with beside.child({first!r}) as ask:\n    ask(os.listdir, '/none')\n"
    code += "    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n"
    program(code, cwd=tmp_path)
    assert (tmp_path / "out").read_text() == "begun, the end"


def test_it_hears_no_ctrl_c():
    assert inside("os.kill(pid, signal.SIGINT)\nprint(ask(os.getppid)() == os.getpid())") == "True\n"


def test_nothing_is_left_of_it_once_it_is_not_needed():
    code = "ask(time.sleep, 1000)\n"
    after = "try:\n    os.waitpid(-1, 0)\nexcept ChildProcessError:\n    print(sorted(os.listdir('/proc/self/fd')))"
    bare = program("print(sorted(os.listdir('/proc/self/fd')))")
    assert program(CHILD + f"    {code}{after}") == bare


@pytest.mark.parametrize("work", ["", "ask(time.sleep, 0.1)", "ask(os.urandom, 1 << 20)"])
def test_it_ends_when_we_are_killed(work, tmp_path):
    code = f"{CHILD}    {work}\n    print(pid, file=open('pid', 'w'), flush=True)\n    os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", BEGIN + code], cwd=tmp_path).returncode == -9
    gone(number(tmp_path / "pid"))


def test_a_program_that_we_start_meanwhile_does_not_keep_it(tmp_path):
    start = "import subprocess; subprocess.Popen(['sleep', '1000'])"
    code = f"{CHILD}    {start}\n    print(pid, file=open('pid', 'w'), flush=True)\n    os.kill(os.getpid(), 9)"
    done = subprocess.Popen([sys.executable, "-c", BEGIN + code], cwd=tmp_path, start_new_session=True)
    done.wait()
    try:
        gone(number(tmp_path / "pid"))
    finally:
        os.killpg(done.pid, 9)


# ---------------------------------------------------------------- a launch on Slurm


def test_a_launch_on_slurm_leaves_submitit_to_a_child(tmp_path, monkeypatch):
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    fake.says("sbatch", "7\n")
    (tmp_path / ".farmx.yaml").write_text("FARM: big\nbig: {EXECUTOR: slurm, RESOURCES: {time: 10}}\n")
    (tmp_path / "sweep.yml").write_text("CMD: 'true'\nHPARAMS: {n: [1, 2]}\n")
    code = "import atexit\natexit.register(lambda: print(*{'submitit', 'asyncio'} & {*sys.modules}, file=sys.stderr))\n"
    code += "sys.argv[1:] = ['sweep.yml']\nfrom farmx.__main__ import farmx\nfarmx()"
    done = subprocess.run([sys.executable, "-c", BEGIN + code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, ""), done.stderr
    script = next((tmp_path / "runs/sweep/.farmx/submissions").glob("*/script")).read_text()
    assert "#SBATCH --array=0-1\n" in script and "#SBATCH --time=10\n" in script


def test_what_sbatch_refuses_is_told_in_one_line_and_nothing_is_made(tmp_path, monkeypatch):
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    fake.says("sbatch-test", "", "sbatch: error: invalid time specification\n", 1)
    (tmp_path / ".farmx.yaml").write_text("FARM: big\nbig: {EXECUTOR: slurm, RESOURCES: {time: soon}}\n")
    (tmp_path / "sweep.yml").write_text("CMD: 'true'\n")
    code = "sys.argv[1:] = ['sweep.yml']\nfrom farmx.__main__ import farmx\nfarmx()"
    done = subprocess.run([sys.executable, "-c", BEGIN + code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "farmx: .farmx.yaml:2:36: RESOURCES.time 'soon': sbatch says: invalid time specification\n"
    assert not (tmp_path / "runs").exists()


NOTED = """
import atexit
fork, seen = os.fork, []
def noted():
    if sys._getframe(1).f_globals["__name__"] == "farmx.farms.beside":
        seen.append("compose" if "farmx.compose" in sys.modules else "click" if "click" in sys.modules else "nothing")
    return fork()
os.fork = noted
atexit.register(lambda: print(*seen, file=sys.stderr))
sys.argv[1:] = WORDS
from farmx.__main__ import farmx
farmx()
"""
ON_SLURM = "FARM: big\nbig: {EXECUTOR: slurm}\n"


@pytest.mark.parametrize(
    ("words", "here", "home", "loaded"),
    [
        ([], ON_SLURM, "", "nothing"),
        (["-c", "other.yaml"], "", "", "nothing"),
        ([], "", ON_SLURM, "compose"),  # what nobody guesses is seen when it is read
        (["--farm", "none"], ON_SLURM, "", "nothing"),  # a guess may be wrong
        (["-n"], ON_SLURM, "", ""),
        (["-i"], ON_SLURM, "", ""),
        (["-j", "1"], ON_SLURM, "", ""),
        (["-j1"], ON_SLURM, "", ""),
        (["--jobs=1"], ON_SLURM, "", ""),
        (["--no_run"], ON_SLURM, "", ""),
        (["--first", "1"], ON_SLURM, "", "nothing"),
        (["--no-cooldir"], ON_SLURM, "", "nothing"),
        (["--gpus", "0"], ON_SLURM, "", ""),
    ],
)
def test_a_child_is_begun_before_what_a_launch_loads_where_slurm_is_named(
    words, here, home, loaded, tmp_path, monkeypatch
):
    Scheduler(tmp_path / "bin", monkeypatch).says("sbatch", "7\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/.config/farmx").mkdir(parents=True)
    (tmp_path / "home/.config/farmx/config.yaml").write_text(home)
    (tmp_path / ".farmx.yaml").write_text(here)
    (tmp_path / "other.yaml").write_text(ON_SLURM)
    (tmp_path / "sweep.yml").write_text("CMD: 'true'\n")
    code = BEGIN + NOTED.replace("WORDS", repr(["sweep.yml", *words]))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == loaded, done.stderr


@pytest.mark.parametrize("there", ["nothing", "a pipe", "a directory"])
def test_who_guesses_waits_for_no_configuration_that_is_no_file(there, tmp_path):
    if there != "nothing":
        (os.mkfifo if there == "a pipe" else os.mkdir)(tmp_path / "c.yaml")
    assert not __main__._seems_for_slurm(["sweep.yml", "-c", str(tmp_path / "c.yaml")])


def test_a_child_is_begun_by_the_names_that_the_configuration_has():
    assert (config.PROJECT_FILE, layout.SLURM.encode()) == (__main__._CONFIG, __main__._SLURM)
