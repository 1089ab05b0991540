"""The commands as people type them: what they print, how they end, and that what they tell to type works."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from launching import PATIENCE_S, until
from typed import Said, everything, timeless, write
from typed import ran as in_shell

SWEEP = "CMD: python t.py\nHPARAMS:\n  lr: [0.1, 0.2]\n  seed: [0, 1, 0]\n"
PROGRAM = """
import os, sys
print("argv", *sys.argv[1:])
if "0.2" in sys.argv and os.path.exists(os.environ["BROKEN"]):
    sys.exit("ValueError: no learning rate\\n")
"""
NAMED = "--tag run --no-cooldir"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    write(tmp_path / "project", {"sweep.yml": SWEEP, "t.py": PROGRAM})
    return tmp_path / "project"


@pytest.fixture
def ran(commands):
    """ran(line, place, **env) -> Said: a command without the price of starting Python; any other line by a shell."""

    def run(line: str, cwd: Path, **env: str) -> Said:
        program, *argv = shlex.split(line, comments=True)
        if program not in ("farmx", "sumx") or "|" in argv:
            return in_shell(line, cwd, **env)
        done = commands(*argv, cwd=cwd, env=env, program=program)
        return Said(done.code, done.out, done.err)

    return run


def names(place: Path, root: str = "runs/sweep") -> list[str]:
    return sorted(path.name for path in (place / root).glob("[!.]*"))


def next_lines(said: Said) -> list[str]:
    """The commands that a launch tells to type, in order."""
    return [line.removeprefix("next  ") for line in said.err.splitlines() if line.startswith("next  ")]


# ---------------------------------------------------------------- -n

COMMANDS = """\
python t.py --lr 0.1 --seed 0
python t.py --lr 0.1 --seed 1
python t.py --lr 0.2 --seed 0
python t.py --lr 0.2 --seed 1
"""
DRY = [
    ("farmx sweep.yml -n", COMMANDS, "2 x 3 grid, 2 equal to another: 4 runs\n"),
    ("farmx launch sweep.yml -n", COMMANDS, "2 x 3 grid, 2 equal to another: 4 runs\n"),
    ("farmx -n sweep.yml", COMMANDS, "2 x 3 grid, 2 equal to another: 4 runs\n"),
    ("python -m farmx sweep.yml --no-run", COMMANDS, "2 x 3 grid, 2 equal to another: 4 runs\n"),
    ("farmx sweep.yml --no_run --interactive", COMMANDS, "2 x 3 grid, 2 equal to another: 4 runs\n"),
    ("farmx sweep.yml -n --first 1", COMMANDS.splitlines(True)[0], "2 x 3 grid, the first 1: 1 run\n"),
    ("farmx sweep.yml -n --first 3", "".join(COMMANDS.splitlines(True)[:2]),
     "2 x 3 grid, the first 3, 1 equal to another: 2 runs\n"),
    ("farmx sweep.yml -n --first 99 --max-runs 1", COMMANDS,
     "2 x 3 grid, the first 99, 2 equal to another: 4 runs\n"),
    ("farmx sweep.yml -n --exp_name e --no_cooldir --tag t --again -j 3 --gpus 0", COMMANDS,
     "2 x 3 grid, 2 equal to another: 4 runs\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "out", "err"), DRY, ids=[row[0] for row in DRY])
def test_n_prints_every_command_and_the_count_and_makes_nothing(ran, place, line, out, err):
    before = everything(place)
    assert ran(line, place) == (0, out, err)
    assert everything(place) == before


README = {
    "introduction": (
        "CMD: 'python train.py'\n\nHPARAMS:\n  lr: [0.01, 0.02]\n  solver: ['sgd', 'adam']\n",
        "python train.py --lr 0.01 --solver sgd\npython train.py --lr 0.01 --solver adam\n"
        "python train.py --lr 0.02 --solver sgd\npython train.py --lr 0.02 --solver adam\n",
        "2 x 2 grid: 4 runs\n",
    ),
    "logdir": (
        "CMD: 'python train.py'\nHPARAMS:\n  lr: [0.01, 0.02]\n  logdir: LOGDIR\n",
        "python train.py --lr 0.01 --logdir LOGDIR\npython train.py --lr 0.02 --logdir LOGDIR\n",
        "2 grid: 2 runs\n",
    ),
    "booleans": (
        "CMD: x\nHPARAMS:\n  some_flag: [true, false]\n  some_arg: ['True', 'False']\n  none: None\n",
        "x --some_flag --some_arg True\nx --some_flag --some_arg False\nx --some_arg True\nx --some_arg False\n",
        "2 x 2 grid: 4 runs\n",
    ),
    "lists, inheritance": (
        "PYTHONPATH: LOGDIR/code:LOGDIR/code/lib\nCMD: \"python train.py\"\n\nHPARAMS: [\n  {\n   logdir: LOGDIR,\n"
        "   adam: true,\n   arch: alexnet,\n   lr: [0.01, 0.02],\n   epochs: 10,\n   RUNX.TAG: 'alexnet',\n  },\n  {\n"
        "   arch: resnet50,\n   lr: [0.002, 0.005],\n   RUNX.TAG: 'resnet50',\n  },\n  {\n   RUNX.SKIP: true,\n"
        "   arch: resnet50,\n   lr: [0.002, 0.005],\n   RUNX.TAG: 'resnet50',\n  }\n]\n",
        "python train.py --logdir LOGDIR --adam --arch alexnet --lr 0.01 --epochs 10\n"
        "python train.py --logdir LOGDIR --adam --arch alexnet --lr 0.02 --epochs 10\n"
        "python train.py --logdir LOGDIR --adam --arch resnet50 --lr 0.002 --epochs 10\n"
        "python train.py --logdir LOGDIR --adam --arch resnet50 --lr 0.005 --epochs 10\n",
        "2 + 2 + 2 grids, 2 skipped: 4 runs\n",
    ),
}  # fmt: skip
RUNX = "LOGROOT: {}\nCODE_IGNORE_PATTERNS: '.git,*.pyc,docs*,test*'\nFARM: bigfarm\n\n# Farm resource needs\nbigfarm:\n\
    SUBMIT_CMD: 'submit_job'\n    RESOURCES:\n        image: mydocker-image-big:1.0\n        gpu: 8\n"


@pytest.mark.parametrize(("text", "out", "err"), README.values(), ids=README)
def test_files_of_runx_print_what_runx_ran(ran, place, text, out, err):
    write(place, {"sweep.yml": text, ".runx": RUNX.format("/home/logs")})
    assert ran("farmx sweep.yml -n", place) == (0, out, err)


NOTED = [  # what else the sweep file says -> what -n tells before the count
    ("PACK: {runs: 2}",
     "PACK is for jobs; on this machine -j, --gpus or the farm's RESOURCES say how many runs work at once"),
    ("NOTIFY: slurm", "NOTIFY: slurm is Slurm's own mail, and farm local sends none; name an address, as json://host"),
    ("CODE_IGNORE_PATTERNS: lib.py", "CODE_IGNORE_PATTERNS keeps lib.py out of the snapshot"),
    ("CODE_INCLUDE: [none]", "CODE_INCLUDE: none brings in nothing of {place}"),
    ("CODE_IGNORE_PATTERNS: data",
     "'data' is here but not in the snapshot; if the program means that path, name it in CODE_LINK"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "note"), NOTED)
def test_n_tells_what_a_launch_would_say_of_the_settings_and_the_code(ran, place, more, note):
    write(place, {"lib.py": "", "data": "", "sweep.yml": f"CMD: python t.py data\n{more}\n"})
    told = f"note  {note}\n".format(place=place)
    assert ran("farmx sweep.yml -n", place) == (0, "python t.py data\n", f"{told}1 run\n")
    launched = ran("farmx sweep.yml -i", place).err
    assert "".join(line for line in launched.splitlines(True) if line.startswith("note  ")) == told


def test_the_configuration_of_runx_is_read_as_it_is(ran, place, tmp_path):
    write(place, {".runx": RUNX.format(tmp_path / "logs"), "tests/t.py": "", "docs.txt": ""})
    said = ran(f"farmx sweep.yml -i {NAMED} --first 1", place)
    assert (said.code, said.out) == (0, "python t.py --lr 0.1 --seed 0\nargv --lr 0.1 --seed 0\n")
    code = tmp_path / "logs" / "sweep" / "run" / "code"
    assert sorted(os.listdir(code)) == [".runx", "sweep.yml", "t.py"]
    named = ran(f"farmx sweep.yml -i {NAMED} --first 2 --config_file .runx", place)
    assert "runs  2: 1 done, 1 new  in " in named.err
    refused = ran("farmx sweep.yml", place)
    assert refused.code == 4
    assert refused.err.endswith("farmx: there is no submit_job here; launch where it is, or choose another --farm\n")


# ---------------------------------------------------------------- -i


def test_the_foreground_shows_each_command_and_its_output(ran, place):
    said = ran(f"farmx sweep.yml -i {NAMED} --first 2", place)
    assert said.out == (
        "python t.py --lr 0.1 --seed 0\nargv --lr 0.1 --seed 0\npython t.py --lr 0.1 --seed 1\nargv --lr 0.1 --seed 1\n"
    )
    assert (said.code, said.err) == (
        0,
        "farm  this machine, one at a time\n"
        "code  2 files, 0.2 kB\n"
        f"runs  2: 2 new  in {place}/runs/sweep\n"
        "      2 done\n"
        "next  sumx sweep\n",
    )
    assert names(place) == ["run", "run_2"]


def test_a_second_launch_touches_nothing_and_a_larger_one_makes_what_is_missing(ran, place):
    ran(f"farmx sweep.yml -i {NAMED} --first 2", place)
    before = {run: everything(place / "runs" / "sweep" / run) for run in ("run", "run_2")}
    again = ran(f"farmx sweep.yml -i {NAMED} --first 2", place)
    assert (again.code, again.out) == (0, "")
    assert again.err.splitlines()[2:] == [f"runs  2: 2 done  in {place}/runs/sweep", "next  sumx sweep"]
    more = ran(f"farmx sweep.yml -i {NAMED}", place)
    assert more.err.splitlines()[2:4] == [f"runs  4: 2 done, 2 new  in {place}/runs/sweep", "      2 done"]
    assert names(place) == ["run", "run_2", "run_3", "run_4"]
    assert {run: everything(place / "runs" / "sweep" / run) for run in before} == before


def test_a_sweep_whose_points_are_all_skipped_is_no_run_and_no_error(ran, place):
    write(place, {"sweep.yml": "CMD: 'true'\nHPARAMS: {a: [1, 2], FARMX.SKIP: true}\n"})
    said = ran("farmx sweep.yml -i", place)
    assert (said.code, said.out, said.err.splitlines()[2:]) == (0, "", ["runs  none", "next  sumx sweep"])


def test_a_failed_run_is_told_and_what_is_told_to_type_works(ran, place, tmp_path):
    (tmp_path / "broken").touch()
    said = ran(f"farmx sweep.yml -i {NAMED}", place)
    assert said.code == 1
    assert said.err.splitlines()[3:] == [
        "run_3 failed: main exited with 1",
        "run_4 failed: main exited with 1",
        "      2 done, 2 failed",
        "next  sumx sweep",
        "next  farmx retry sweep  # 2 failed or cancelled",
    ]
    assert "ValueError: no learning rate" in said.out
    (tmp_path / "broken").unlink()
    table, retried = (ran(line, place) for line in next_lines(said))
    assert (table.code, len(table.out.splitlines())) == (0, 6)
    assert (retried.code, retried.err) == (
        0,
        "code  2 with today's code, 2 files, 0.2 kB\nruns  2 again, 2 left alone\n"
        "left  2 done (--state done runs them)\n      2 done\nnext  sumx sweep\n",
    )
    assert ran("farmx sweep.yml -i", place).code == 0


def test_code_that_changed_is_told_with_the_command_that_runs_it(ran, place):
    ran(f"farmx sweep.yml -i {NAMED} --first 2", place)
    write(place, {"t.py": "print('new')\n"})
    said = ran("farmx sweep.yml --first 2 -i", place)
    assert next_lines(said) == ["sumx sweep", "farmx sweep.yml --first 2 -i --again  # 2 made from other code: t.py"]
    again = ran(next_lines(said)[1], place)
    assert (again.code, again.out.count("new\n")) == (0, 2)
    assert "runs  2: 2 new  in" in again.err


@pytest.mark.parametrize("how", ["--logroot ../e$", "-c other.yaml", ""], ids=["--logroot", "-c", "sweep file"])
def test_the_commands_to_type_find_the_experiment_wherever_it_is(ran, place, how):
    write(place, {"other.yaml": "LOGROOT: else where\n"})
    if not how:
        write(place, {"sweep.yml": f"{SWEEP}LOGROOT: else where\n"})
    said = ran(f"farmx sweep.yml -i --first 1 {how}", place)
    (line,) = next_lines(said)
    assert line != "sumx sweep"
    table = ran(line, place)
    assert (table.code, len(table.out.splitlines())) == (0, 3)


# ---------------------------------------------------------------- -j


def test_the_pool_says_what_starts_and_ends(ran, place, tmp_path):
    (tmp_path / "broken").touch()
    said = ran(f"farmx sweep.yml -j 1 {NAMED}", place)
    assert (said.code, said.out) == (1, "")
    assert timeless(said.err) == (
        "farm  this machine, 1 at a time\n"
        "code  2 files, 0.2 kB\n"
        f"runs  4: 4 new  in {place}/runs/sweep\n"
        "START  0  run  python t.py --lr 0.1 --seed 0\n"
        "DONE   0  run  T\n"
        "START  0  run_2  python t.py --lr 0.1 --seed 1\n"
        "DONE   0  run_2  T\n"
        "START  0  run_3  python t.py --lr 0.2 --seed 0\n"
        "FAIL   0  run_3  T  main exited with 1\n"
        "       ValueError: no learning rate\n"
        "       see runs/sweep/run_3/output.log\n"
        "START  0  run_4  python t.py --lr 0.2 --seed 1\n"
        "FAIL   0  run_4  T  main exited with 1\n"
        "       ValueError: no learning rate\n"
        "       see runs/sweep/run_4/output.log\n"
        "      2 done, 2 failed\n"
        "next  sumx sweep\n"
        "next  farmx retry sweep  # 2 failed or cancelled\n"
    )
    log = (place / "runs/sweep/run_3/output.log").read_text()
    assert log == "argv --lr 0.2 --seed 0\nValueError: no learning rate\n\n"


GPUS = [
    ("--gpus 0,1", {"gpu 0": "0", "gpu 1": "1"}),
    ("--gpus 0+1,2+3", {"gpu 0+1": "0,1", "gpu 2+3": "2,3"}),
    ("--gpus 0,0", {"gpu 0": "0"}),
    ("--gpus 5 -j 2", {"gpu 5": "5"}),
    ("--gpus GPU-1f,MIG-2a", {"gpu GPU-1f": "GPU-1f", "gpu MIG-2a": "MIG-2a"}),
]


@pytest.mark.parametrize(("how", "slots"), GPUS, ids=[row[0] for row in GPUS])
def test_a_slot_gives_its_gpus_to_the_program(ran, place, how, slots):
    shows = "import os, time\nprint(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    wait = "while not os.path.exists('{}/output.log'): time.sleep(0.01)\n"
    rendezvous = "".join(wait.format(place / "runs" / "sweep" / run) for run in ("run", "run_2"))
    write(place, {"t.py": f"{shows}{rendezvous}"})  # so that both slots are used
    said = ran(f"farmx sweep.yml {NAMED} --first 2 {how}", place)
    assert (said.code, said.err.splitlines()[0]) == (0, "farm  this machine, 2 at a time")
    width = max(map(len, slots))
    started = re.findall(rf"^START  (.{{{width}}})  (run\S*) ", said.err, re.MULTILINE)
    told = {slot.strip(): (place / "runs/sweep" / run / "output.log").read_text().strip() for slot, run in started}
    assert (len(started), told) == (2, slots)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("how", "made"),
    [
        ("--tag t --no-cooldir", ["sweep/t", "sweep/t_2"]),
        ("--tag t --no_cooldir", ["sweep/t", "sweep/t_2"]),
        ("--no-cooldir", ["sweep/run", "sweep/run_2"]),
        ("--exp-name e --no-cooldir", ["e/run", "e/run_2"]),
        ("--exp_name e --no-cooldir", ["e/run", "e/run_2"]),
    ],
)
def test_names_are_as_asked(ran, place, how, made):
    assert ran(f"farmx sweep.yml -i --first 2 {how}", place).code == 0
    assert sorted(str(path.relative_to(place / "runs")) for path in (place / "runs").glob("*/[!.]*")) == made


def test_cool_names_begin_with_the_tag(ran, place):
    assert ran("farmx sweep.yml -i --first 2 --tag t", place).code == 0
    pattern = r"t_[a-z]+-[a-z]+_\d{4}\.\d\d\.\d\d_\d\d\.\d\d"
    assert [bool(re.fullmatch(pattern, name)) for name in names(place)] == [True, True]


# ---------------------------------------------------------------- a terminal


def at_terminal(line: str, cwd: Path, prompt: bytes, typed: bytes) -> tuple[int, str]:
    """Run a line at a terminal where `typed` is typed at the prompt; its exit code and all that the terminal shows."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvp("bash", ["bash", "-c", line])
    shown, left = b"", typed
    while True:
        if prompt in shown and left:
            os.write(master, left)
            left = b""
        if typed == b"\x03" and not select.select([master], [], [], 2)[0]:
            left = typed  # one that comes just before input() waits is lost: a person presses again
            continue
        try:
            chunk = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    return code, shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("typed", "code", "made"), [(b"y\n", 0, 4), (b"n\n", 2, 0), (b"\n", 2, 0), (b"\x03", 130, 0)])
def test_many_runs_are_asked_for_on_a_terminal(place, typed, code, made):
    done, shown = at_terminal("farmx sweep.yml -i --max-runs 2", place, b"[y/N]:", typed)
    assert "sweep.yml makes 6 runs, more than --max-runs 2. Launch them? [y/N]:" in shown
    assert (done, len(names(place))) == (code, made)


def test_a_bar_shows_how_far_the_code_and_the_runs_are(place):
    sooner = "from farmx.cli import screen; screen.BAR_AFTER_S = -1.0; from farmx.__main__ import farmx; farmx()"
    code, shown = at_terminal(f'python -c "{sooner}" sweep.yml -i -j 2', place, b"none", b"")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    bars = re.findall(r"(listing the code|copying the code|staging|runs) \W+ (\d+)/(\d+) ", plain)
    whole = [(what, int(total)) for what, made, total in bars if made == total]
    files = len(list((place / "runs/sweep/.farmx/snapshots").glob("*/code/**/*.*")))
    assert (code, list(dict.fromkeys(whole))) == (
        0, [("listing the code", files), ("copying the code", files), ("staging", 4), ("runs", 4)]
    )  # fmt: skip


def test_pdb_works_in_the_foreground(place):
    write(place, {"t.py": "x = 41\nbreakpoint()\nprint('x is', x)\n"})
    code, shown = at_terminal("farmx sweep.yml -i --first 1", place, b"(Pdb)", b"x = x + 1\nc\n")
    assert code == 0, shown
    assert "(Pdb)" in shown
    assert "x is 42\n" in shown


# ---------------------------------------------------------------- Ctrl-C


def interrupted(line: str, cwd: Path, times: int) -> Said:
    """Run a line until its program says ready, then send the signal of Ctrl-C, again each time it is noticed."""
    with subprocess.Popen(
        shlex.split(line), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        ready = cwd.parent / "ready"
        until(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        for turn in range(times):
            ready.unlink()
            process.send_signal(2)
            if turn < times - 1:
                until(lambda: ready.exists() or process.poll() is not None)
                assert process.poll() is None
        out, err = process.communicate(timeout=PATIENCE_S)
    return Said(process.returncode, out.decode(), err.decode())


WAITS = """
import pathlib, signal, time
ready = pathlib.Path({ready!r})
if {deaf}:
    signal.signal(signal.SIGTERM, lambda *_: ready.touch())
ready.touch()
while pathlib.Path({wait!r}).exists():
    time.sleep(0.05)
"""


@pytest.mark.parametrize("how", ["-i", "-j 1"])
@pytest.mark.parametrize(("times", "signal"), [(1, "SIGTERM"), (2, "SIGKILL")])
def test_ctrl_c_stops_at_once_or_after_a_grace_and_the_same_command_goes_on(ran, place, tmp_path, how, times, signal):
    wait = tmp_path / "wait"
    wait.touch()
    write(place, {"t.py": WAITS.format(ready=str(tmp_path / "ready"), wait=str(wait), deaf=times == 2)})
    line = f"farmx sweep.yml {how} {NAMED}"
    said = interrupted(line, place, times)
    assert said.code == 130
    told = said.err.splitlines()
    assert "stopping: 1 run has 30 s to end; Ctrl-C again kills; the rest stays as it is" in told
    assert ("killing 1 run" in told) == (times == 2)
    assert f"main was ended by {signal}" in said.err
    assert told[-3:-1] == ["      1 interrupted, 3 not begun", "next  sumx sweep"]
    assert told[-1] == f"next  {line}  # goes on with the rest"
    wait.unlink()
    again = ran(next_lines(said)[1], place)
    assert again.code == 0, again.err
    assert "runs  4: 4 taken up  in" in again.err
    assert again.err.splitlines()[-2] == "      4 done"


def waits(pid: int) -> bool:
    """Whether it sleeps and has no children to hear of any more."""
    told = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s+(\w+)$", told, re.MULTILINE)[1], 16)
    return "State:\tS" in told and not caught >> (signal.SIGCHLD - 1) & 1


def test_ctrl_c_while_a_slow_reader_is_shown_the_rest_has_the_launch_say_how_it_went(place):
    write(place, {"t.py": "for n in range(20_000): print('line', n)\n"})
    line = f"farmx sweep.yml -i {NAMED}"
    with subprocess.Popen(shlex.split(line), cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: len(list(place.glob("runs/sweep/*/attempts/1.0/end.json"))) == 4)
        until(lambda: waits(process.pid))
        process.send_signal(2)
        told = process.stderr.read().decode().splitlines()
        assert process.wait(PATIENCE_S) == 130
    rest = "      not all that the runs said was shown; their logs have it: farmx logs RUN"
    assert told[-3:] == [rest, "      4 done", "next  sumx sweep"]


# ---------------------------------------------------------------- help, completion, pipes

HELPS = ["farmx", "farmx launch", "farmx status", "farmx logs", "farmx why", "farmx retry", "farmx clean",
         "farmx cancel", "sumx"]


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", HELPS)
def test_help_can_be_read_at_80_columns(ran, place, command, flag):
    said = ran(f"{command} {flag}", place, COLUMNS="80")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: {command} ")
    assert [line for line in said.out.splitlines() if len(line) > 79] == []


def test_the_commands_are_told_whole_in_the_order_of_use(ran, place):
    told = ran("farmx --help", place, COLUMNS="80").out.partition("Commands:\n")[2]
    assert told == (
        "  launch  Make and run what is missing of a sweep.\n"
        "  init    Write a .farmx.yaml for this machine.\n"
        "  status  How the runs stand.\n"
        "  logs    What a run printed.\n"
        "  why     What became of a run, and what to do next.\n"
        "  retry   Run again what failed, was cancelled, interrupted or lost.\n"
        "  tend    Do what RETRY says of runs that failed or were lost.\n"
        "  drill   Prove preemption, requeue and resume with one real run.\n"
        "  notify  Whom NOTIFY tells, and what waits to be told.\n"
        "  clean   Remove ended runs, checkpoints or snapshots.\n"
        "  cancel  End runs: those that wait and those that run.\n"
    )


def test_farmx_alone_is_its_help(ran, place):
    assert ran("farmx", place) == ran("farmx --help", place)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("farmx st", ["plain,status"]),
        ("farmx sw", ["plain,sweep.yml"]),
        ("farmx x", ["file,x"]),
        ("farmx launch sw", ["file,sw"]),
        ("farmx status s", ["plain,sweep"]),
        ("farmx retry s", ["plain,sweep"]),
        ("sumx s", ["plain,sweep"]),
        ("farmx launch x.yml --ag", ["plain,--again"]),
    ],
)
def test_tab_offers_commands_files_experiments_and_options(ran, place, words, offered):
    (place / "runs" / "sweep").mkdir(parents=True)
    program = words.split()[0]
    env = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    said = ran(program, place, **env, **{f"_{program.upper()}_COMPLETE": "bash_complete"})
    assert (said.code, said.out.split()) == (0, offered)


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["farmx", "sumx"])
def test_the_completion_script_is_there(ran, place, program, kind):
    said = ran(program, place, **{f"_{program.upper()}_COMPLETE": f"{kind}_source"})
    assert (said.code, said.err) == (0, "")
    assert f"_{program.upper()}_COMPLETE={kind}_complete" in said.out


@pytest.mark.parametrize("line", ["farmx sweep.yml -n", "farmx --help", "farmx status", "sumx sweep --json"])
def test_a_reader_that_has_enough_ends_the_command_quietly(ran, place, line):
    hparams = {"sweep.yml": f"CMD: x\nHPARAMS: {{n: [{','.join(map(str, range(9000)))}]}}\n"}
    write(place, {**hparams, "runs/sweep/run/hparams.json": '{"a": "%s"}' % ("x" * 200_000)})
    said = ran(f"{line} | true", place)
    assert (said.code, said.out) == (0, "")
    assert [each for each in said.err.splitlines() if "Error" in each or "Traceback" in each] == []


@pytest.mark.parametrize("program", ["farmx", "sumx"])
def test_the_version_is_told(place, program):
    from farmx import __version__

    assert in_shell(f"{program} --version", place) == (0, f"{program}, version {__version__}\n", "")


def test_modules_of_the_user_are_not_imported(place):
    bad = "raise SystemExit('the wrong module')\n"
    write(place, dict.fromkeys(["yaml.py", "click.py", "json.py", "farmx.py"], bad))
    for line in ("farmx sweep.yml -n", "farmx status"):
        assert in_shell(line, place).code == 0
