"""A launch that is killed, or told that the disk is full, at every one of its steps; and two launches at once.

Every fourth step, other ones each day, so that all tests are two minutes; FARMX_STEPS=all has every one.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from commands import Commands, Project, claims, key, read, staging
from faults import DENIED, EVERY, FAILING, FULL, KILL, LAUNCHER, OTHERS, Fault, part
from launching import Place, state, until

from farmx import status
from farmx.farms import local, terminal
from farmx.farms.gpus import Slot
from farmx.processes import Inbox
from farmx.spec import Job

CHUNKS = 4 if EVERY else 2  # of a walk, so that several processes share it
FIRST, STRIDE = part(4)
LEFT = {"staged", "interrupted", "done"}  # what a killed launch may leave


def steps(project: Project, chunk: int, *argv: str, begin=None, below: str = "", first: int = FIRST, **fault):
    """Run the command with a fault at each step of a chunk, all from the begin; yield each end.

    Of every STRIDE-th step a chunk has each CHUNKS-th.

    begin: what stands before the command, a LOGROOT that is copied.  below: of LOGROOT, where steps count.
    """
    step = first + chunk * STRIDE + 1
    while True:
        shutil.rmtree(project.root, ignore_errors=True)
        project.side.unlink(missing_ok=True)
        if begin:
            shutil.copytree(begin, project.root, symlinks=True)
        done = project(*argv, fault=Fault(f"{project.root}/{below}", step, **fault))
        if done.steps < step:
            return
        yield step, done
        step += CHUNKS * STRIDE


def staged(project: Project, tmp_path: Path) -> Path:
    """A LOGROOT in which both runs wait: what comes before that is the same in a pool and in the foreground."""
    project.ok("sweep.yml", "-i")
    for path in project.experiment.glob("*/attempts"):
        shutil.rmtree(path)
    return shutil.copytree(project.root, tmp_path / "begin", symlinks=True)


def check_named(project: Project) -> None:
    """Status names every run that is there, each in a state that is no end but done; a claim leads to a whole run."""
    if not (project.experiment / ".farmx").exists():
        assert re.search("no experiment or run named 'sweep' in |holds no runs", project("status", "sweep").line(2))
        return
    states = seen(project)
    claimed = set(claims(project.experiment).values()) if (project.experiment / ".farmx" / "points").exists() else set()
    made = {path.name for path in project.runs() if (path / "run.json").stat().st_size}
    assert set(states) == made <= claimed
    assert set(states) == claimed or any(name.startswith(".launch-") for name in staging(project.experiment))
    assert set(states.values()) <= LEFT


def seen(project: Project) -> dict[str, str]:
    """Run -> state, as `Project.states` asks the command for it; here without the command."""
    look = status.read(str(project.root), project.experiment.name)
    assert list(look.problems) == []
    return {run.name: run.state.value for run in look.runs}


def found(project: Project) -> dict[tuple[int, int], str]:
    """(the value of n, generation) -> state, as `Project.again` asks the command for it; here without the command."""
    states = seen(project)
    return {key(path): states[path.name] for path in project.runs()}


def check_once(project: Project, generations: int = 1) -> None:
    """Each point has one run a generation, done, in one attempt; no attempt started twice."""
    both = {(n, generation): "done" for n in (1, 2) for generation in range(1, generations + 1)}
    assert found(project) == both
    assert len(project.runs()) == len(both)
    assert len(project.starts()) == len(set(project.starts()))
    for run in project.runs():
        ends = [read(path)["state"] for path in run.glob("attempts/*/end.json")]
        assert ends.count("done") == 1
        assert set(ends) <= {"done", "interrupted"}


# ---------------------------------------------------------------- killed

WALKS = {
    "the launcher": (("-i",), LAUNCHER),
    "the pool": (("-j", "1"), LAUNCHER),
    "the worker": (("-j", "1"), OTHERS),
}


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("walk", WALKS)
def test_killed_at_any_step_the_same_command_ends_with_each_point_done_once(project, tmp_path, walk, chunk):
    argv, who = WALKS[walk]
    begin = None if walk == "the launcher" else staged(project, tmp_path)
    killed = 0
    for step, done in steps(project, chunk, "sweep.yml", *argv, how=KILL, who=who, begin=begin):
        assert done.code == (-9 if who == LAUNCHER else 1), (step, done)
        check_named(project)
        project.ok("sweep.yml", *argv)
        check_once(project)
        killed += 1
    assert killed > 1


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_an_again_killed_at_any_step_is_continued(project, tmp_path, chunk):
    project.ok("sweep.yml", "-i")
    begin = shutil.copytree(project.root, tmp_path / "begin", symlinks=True)
    argv = "sweep.yml", "-i", "--again"
    for step, done in steps(project, chunk, *argv, how=KILL, begin=begin, below="sweep/.farmx/"):
        assert done.code == -9, (step, done)
        check_named(project)
        project.ok(*argv)
        check_once(project, generations=2)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_retry_killed_at_any_step_is_taken_up(project, tmp_path, chunk):
    project.sweep("{n: 1}", cmd="sh work.sh")
    project.write("work.sh", "exit 3\n")
    assert project("sweep.yml", "-i").code == 1
    begin = shutil.copytree(project.root, tmp_path / "begin", symlinks=True)
    project.write("work.sh", ". ./note.sh\n")
    for step, done in steps(project, chunk, "retry", "sweep", how=KILL, begin=begin):
        assert done.code == -9, (step, done)
        assert set(seen(project).values()) <= {"failed", *LEFT}
        project.ok("retry", "sweep")
        assert found(project) == {(1, 1): "done"}
        assert len(project.starts()) == len(set(project.starts()))


# ---------------------------------------------------------------- told that it cannot


def check_told(done, typed: str) -> None:
    """A refusal is one line; an attempt that could not be made or kept says so, and what to type."""
    *_, last = done.err.splitlines()
    if done.code == 3:
        assert re.fullmatch(r"farmx: /.*: .*", last), done.err
    else:
        assert done.code == 1, done
        assert f"next  farmx {typed}  # goes on with the rest" in done.err, done.err


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("walk", WALKS)
def test_a_full_disk_at_any_step_is_one_line_and_the_same_command_finishes(project, tmp_path, walk, chunk):
    argv, who = WALKS[walk]
    begin = None if walk == "the launcher" else staged(project, tmp_path)
    refused = 0
    for _, done in steps(project, chunk, "sweep.yml", *argv, how=FULL, who=who, begin=begin):
        if done.code:  # some steps a launch can do without
            check_told(done, shlex.join(("sweep.yml", *argv)))
            refused += 1
        check_named(project)
        project.ok("sweep.yml", *argv)
        check_once(project)
    assert refused > 0


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("walk", ["the launcher", "the worker"])
def test_what_may_not_be_read_at_any_step_is_one_line_and_the_same_command_finishes(project, tmp_path, walk, chunk):
    argv, who = WALKS[walk]
    begin, walked = staged(project, tmp_path), 0
    for _, done in steps(project, chunk, "sweep.yml", *argv, how=DENIED, who=who, begin=begin, reads=True):
        if done.code:
            check_told(done, shlex.join(("sweep.yml", *argv)))
        check_named(project)
        project.ok("sweep.yml", *argv)
        check_once(project)
        walked += 1
    assert walked > 0


LOOKING = ["status", "status sweep", "why RUN", "logs RUN --json", "cancel sweep", "tend", "clean sweep -y", "notify"]


@pytest.mark.parametrize("line", LOOKING)
def test_a_disk_that_fails_at_any_step_of_a_look_is_no_traceback(project, tmp_path, line):
    """As `Project` asks of each command; every step, or every eighth."""
    project.sweep("{n: 1}", cmd="sh work.sh")
    project.write("work.sh", ". ./note.sh; exit 3\n")
    assert project("sweep.yml", "-i").code == 1
    argv = line.replace("RUN", project.runs()[0].name).split()
    begin = shutil.copytree(project.root, tmp_path / "begin", symlinks=True)
    walk = {"how": FAILING, "begin": begin, "reads": True, "first": FIRST if line != "notify" else 0}  # of two
    codes = [done.code for chunk in range(CHUNKS if EVERY else 1) for _, done in steps(project, chunk, *argv, **walk)]
    assert codes and set(codes) <= {0, 1, 2, 3}  # 2: what cannot be looked at may seem to be no experiment


# ---------------------------------------------------------------- what it leaves where runs are made


def names(project: Project) -> dict[int, str]:
    return {key(path)[0]: path.name for path in project.runs()}


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("how", [KILL, FULL])
def test_what_a_launch_left_half_made_keeps_no_name_from_the_next(project, how, chunk):
    project.write(".farmx.yaml", "FARM: big\nbig: {SUBMIT_CMD: 'true {script}'}\n")
    argv = "sweep.yml", "--no-cooldir", "--tag", "x"
    for step, done in steps(project, chunk, *argv, how=how, below="sweep/"):
        if how == FULL and project.experiment.exists():
            visible = [path for path in project.experiment.iterdir() if path.name[0] != "."]
            assert sorted(visible) == sorted(project.runs()), (step, done)
        project.ok(*argv)
        left = [name for name in staging(project.experiment) if not name.startswith((".now.", "..launch"))]
        assert (names(project), left) == ({1: "x", 2: "x_2"}, []), (step, done)


# ---------------------------------------------------------------- two at once


@pytest.fixture(scope="module")
def neighbour():
    with Commands() as made:
        yield made


@pytest.mark.parametrize(
    "one, two",
    [
        (["-i"], ["-i"]),
        (["-j", "2"], ["-i"]),
        (["-i", "--no-cooldir"], ["-i", "--no-cooldir"]),
        (["-j", "2", "--no-cooldir"], ["-i", "--no-cooldir", "--tag", "run"]),
    ],
    ids=" ".join,
)
def test_two_launches_at_once_make_and_start_each_point_once(project, neighbour, one, two):
    rounds = 20 if one == two == ["-i"] else 6
    for round_ in range(rounds if EVERY else rounds // 3):
        shutil.rmtree(project.root, ignore_errors=True)
        project.side.unlink(missing_ok=True)
        project.sweep(f"{{n: [1, 2], round: {round_}}}")
        for commands, argv in ((project.commands, one), (neighbour, two)):
            commands.ask("sweep.yml", *argv, cwd=project.path, env=project.env)
        ended = [commands.answer() for commands in (project.commands, neighbour)]
        assert [done.code for done in ended] == [0, 0], ended
        check_once(project)
        assert len(project.starts()) == 2
        assert staging(project.experiment) == []


def test_two_agains_at_once_make_and_start_each_point_once(project, neighbour):
    project.ok("sweep.yml", "-i")
    for round_ in range(2, 6):
        for commands in (project.commands, neighbour):
            commands.ask("sweep.yml", "-i", "--again", cwd=project.path, env=project.env)
        ended = [commands.answer() for commands in (project.commands, neighbour)]
        assert [done.code for done in ended] == [0, 0], ended
        assert len(project.starts()) == len(set(project.starts()))
        assert staging(project.experiment) == []
        generations = [generation for _, generation in project.again()]
        assert generations.count(1) == 2
        assert max(generations) >= round_
        assert set(project.states().values()) == {"done"}


# ---------------------------------------------------------------- surroundings that do not work


def test_a_logroot_that_is_a_file_is_one_line(project):
    project.root.write_text("mine")
    assert project("sweep.yml", "-i").line(2) == f"LOGROOT: {project.root} is a file; name a directory"
    assert project.root.read_text() == "mine"


def test_a_logroot_without_rights_is_one_line(project):
    project.root.mkdir(mode=0o555)
    why = f"{project.experiment}: cannot be made: Permission denied; set LOGROOT to a directory you can write"
    assert project("sweep.yml", "-i", ordinary=True).line(3) == why
    assert os.listdir(project.root) == []


LOCKED = [  # what may not be written -> what a launch says of it
    (".farmx/points", "/.farmx/points/", ".json: cannot be written: Permission denied"),
    (".farmx/launches", "/.farmx/launches/", ".json: cannot be written: Permission denied"),
    (".farmx/submissions", "/.farmx/submissions/", ": cannot be written: Permission denied; no run was queued"),
    (".", "/", ": cannot be staged: Permission denied; what was staged before is kept"),
]


@pytest.mark.parametrize("name, place, why", LOCKED, ids=[row[0] for row in LOCKED])
def test_a_directory_that_may_not_be_written_is_one_line_and_nothing_starts(project, name, place, why):
    project.ok("sweep.yml", "-i")
    project.sweep("{n: [1, 2, 3]}", more="CODE_IGNORE_PATTERNS: sweep.yml\n")
    project.ok("sweep.yml", "-n")
    (project.experiment / name).chmod(0o555)
    done = project("sweep.yml", "-i", ordinary=True)
    assert done.code == 3
    told = done.err.splitlines()[-1]
    assert told.startswith(f"farmx: {project.experiment}{place}") and told.endswith(why)
    assert len(project.starts()) == 2
    (project.experiment / name).chmod(0o755)
    project.ok("sweep.yml", "-i")
    assert project.again() == {(1, 1): "done", (2, 1): "done", (3, 1): "done"}


LOCKED = [  # what may not be read -> how a launch, status, retry and cancel end
    (".", [3, 3, 3, 3]),
    (".farmx/points", [3, 0, 3, 3]),
    (".farmx/submissions", [3, 3, 3, 3]),
    (".farmx/launches", [3, 0, 0, 0]),  # of runs that are done
    ("RUN", [3, 0, 3, 3]),
    ("RUN/attempts", [3, 0, 3, 3]),
]


@pytest.mark.parametrize(("name", "codes"), LOCKED)
def test_a_directory_that_may_not_be_read_is_one_line(project, name, codes):
    project.ok("sweep.yml", "-i")
    locked = project.experiment / name.replace("RUN", project.runs()[0].name)
    ended = []
    for argv in (["sweep.yml", "-i"], ["status", "sweep"], ["retry", "sweep"], ["cancel", "sweep"]):
        locked.chmod(0)
        try:
            done = project(*argv, ordinary=True)
        finally:
            locked.chmod(0o755)
        ended.append(done.code)
        if done.code:
            (told,) = [line for line in done.err.splitlines() if "Permission denied" in line]
            why = "cannot be (read|made): Permission denied"
            assert re.match(f"(farmx|left alone): {project.experiment}.*: {why}", told)
        assert len(project.starts()) == 2
    assert ended == codes


@pytest.mark.parametrize(
    "argv", [["sweep.yml", "-i"], ["sweep.yml", "-n"], ["status"], ["retry", "x"], ["cancel", "x"]], ids=" ".join
)
def test_a_directory_that_vanished_is_one_line(project, tmp_path, argv):
    (tmp_path / "gone").mkdir()
    line = 'cd gone && rmdir ../gone && exec farmx "$@"'
    done = subprocess.run(["bash", "-c", line, "bash", *argv], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "farmx: the current directory no longer exists; cd to one that does\n"
    assert not project.root.exists()


def test_a_run_that_is_deleted_before_its_turn_stays_deleted(project):
    project.sweep(cmd="sh delete.sh")
    delete = 'cd "$LOGDIR/.."; for each in *; do [ $PWD/$each = $LOGDIR ] || rm -r $each; done'
    project.write("delete.sh", f". ./note.sh; {delete}\n")
    done = project("sweep.yml", "-i")
    assert done.code == 1
    assert project.again() == {(1, 1): "done"}
    assert len(project.runs()) == len(os.listdir(project.experiment)) - 1 == 1
    project.write("delete.sh", ". ./note.sh\n")
    project.ok("sweep.yml", "-i")
    assert project.again() == {(1, 1): "done", (2, 2): "done"}


class Killer:
    """A watch that kills the worker of a run that has ended, before it gets another."""

    tick_s = 60.0

    def __init__(self) -> None:
        self.ends = []

    def tick(self) -> None: ...

    def started(self, job, slot) -> None: ...

    def stopping(self, running, now) -> None: ...
    def held(self, waiting, why) -> None: ...

    def ended(self, job, slot, outcome) -> None:
        self.ends.append(outcome.state)
        if outcome.state == "done":
            pid = read(Path(job.run) / "attempts" / job.number / "owner.json")["pid"]
            os.kill(pid, signal.SIGKILL)
            until(lambda: state(pid) in ("", "Z"))


def test_a_worker_killed_between_two_runs_is_replaced(tmp_path):
    place = Place(tmp_path)
    jobs = [Job(place.run(name=name), "1.0") for name in ("one", "two", "three")]
    watch = Killer()
    with Inbox() as inbox:
        local.pool(place.submission(*jobs), (Slot("0"),), watch, inbox)
    assert watch.ends == ["done", "interrupted", "done"]
    assert [run.state.value for run in status.of(str(place.experiment), ["two"]).runs] == ["staged"]


def test_a_full_disk_loses_what_a_program_says_and_not_the_program(capfd):
    made = terminal.Tee(terminal.Seat())
    log = os.open("/dev/full", os.O_WRONLY)
    output = made.open(log)
    os.write(output, b"said\n")
    made.pump(made.descriptors()[0])
    os.write(output, b"last\n")
    made.close()
    os.close(log)
    assert capfd.readouterr().out == "said\nlast\n"
