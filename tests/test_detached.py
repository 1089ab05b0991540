"""detached: the pool of a farm with EXECUTOR local, which outlives the command and its terminal; real processes."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from commands import Commands, hparams
from launching import PLACE, Place, exists, gone, number, python, state, until
from typed import Said, everything, ran, write

from farmx import processes
from farmx.cli import detached
from farmx.errors import FarmError
from farmx.spec import Job

WAIT = 'echo "$FARMX_ATTEMPT_DIR" >> "$SIDE/begun"; touch LOGDIR/ready; while [ ! -e "$SIDE/go" ]; do sleep 0.01; done'
SWEEP = "CMD: sh t.sh LOGDIR\nHPARAMS: {n: [1, 2, 3]}\n"
BOX = "FARM: box\nbox: {EXECUTOR: local, RESOURCES: {jobs: 2}}\n"
SCRIPT = WAIT.replace("LOGDIR", '"$LOGDIR"') + "\n"


class Box:
    """A project whose farm is this machine, and what its pools leave."""

    def __init__(self, path: Path, commands: Commands) -> None:
        self.commands = commands
        self.path, self.side, self.experiment = path / "project", path / "side", path / "project" / "runs" / "sweep"
        self.side.mkdir()
        write(self.path, {"sweep.yml": SWEEP, "t.sh": SCRIPT, ".farmx.yaml": BOX})

    def __call__(self, line: str, code: int = 0, **env: str) -> Said:
        env = {"SIDE": str(self.side), **env}
        words = shlex.split(line)
        if words[0] == "farmx":
            done = self.commands(*words[1:], cwd=self.path, env=env, leave=True)
            said = Said(done.code, done.out, done.err)
        else:
            said = ran(line, self.path, **env)
        assert (said.code, "Traceback" in said.err) == (code, False), said
        return said

    def launch(self, line: str = "farmx sweep.yml", **env: str) -> int:
        """Launch; the pool's process, which is there by then."""
        known = set(self.jobs())
        self(line, **env)
        (path,) = set(self.jobs()) - known
        return json.loads(path.read_text())["pid"]

    def jobs(self) -> list[Path]:
        return sorted(self.experiment.glob(".farmx/submissions/*/job.json"))

    def log(self) -> str:
        """The newest pool's log, without times and numbers of processes."""
        text = (self.jobs()[-1].parent / "pool.log").read_text()
        text = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", text, flags=re.MULTILINE)
        return re.sub(r"\b\d+:\d\d\b", "T", text)

    def states(self) -> list[str]:
        """How the runs stand, by the value of n."""
        told = json.loads(self("farmx status sweep --json").out)["runs"]
        return [run["state"] for run in sorted(told, key=lambda run: self.value(run["run"]))]

    def value(self, run: str) -> int:
        return hparams(self.experiment / run)["n"]

    def run(self, value: int) -> str:
        return next(path.name for path in self.experiment.glob("[!.]*") if self.value(path.name) == value)

    def begun(self, number: int) -> None:
        """Wait until so many programs have begun."""
        until(lambda: len((self.side / "begun").read_text().splitlines()) >= number)

    def go(self) -> None:
        (self.side / "go").touch()


@pytest.fixture
def box(tmp_path, commands):
    made = Box(tmp_path, commands)
    yield made
    for path in made.jobs():  # a test that failed leaves no pool behind
        pid = json.loads(path.read_text())["pid"]
        if state(pid) not in ("", "Z"):
            os.kill(pid, signal.SIGTERM)
            made.go()
            gone(pid)


def ended(box: Box, pid: int) -> None:
    """Let the programs end, and wait for the end of the pool."""
    box.go()
    gone(pid)


def test_a_launch_leaves_its_runs_to_a_pool_and_returns(box):
    said = box("farmx sweep.yml")
    assert said.out == ""
    assert said.err.splitlines() == [
        "farm  box: a pool of this machine, 2 at a time",
        said.err.splitlines()[1],
        f"runs  3: 3 new  in {box.experiment}",
        "      3 queued",
        "next  farmx status sweep",
        f"next  farmx logs -f sweep/{box.run(1)}",
        "next  farmx cancel sweep",
        "next  sumx sweep",
    ]
    box.begun(2)
    assert box.states() == ["running", "running", "queued"]
    assert "runs  3: 2 running, 1 queued" in box("farmx sweep.yml").err
    (job,) = box.jobs()
    record = json.loads(job.read_text())
    assert (record["farm"], record["executor"]) == ("box", "local")
    ended(box, record["pid"])
    assert box.states() == ["done"] * 3
    owner = json.loads((box.experiment / box.run(1) / "attempts" / "1.0" / "owner.json").read_text())
    assert (owner["farm"], owner["submission"]) == ("box", job.parent.name)


def test_the_log_of_a_pool_of_one_run_says_so(box):
    write(box.path, {"sweep.yml": SWEEP.replace("[1, 2, 3]", "[1]"), "t.sh": ":\n"})
    box("farmx sweep.yml")
    pid = json.loads(box.jobs()[0].read_text())["pid"]
    gone(pid)
    assert box.log().splitlines()[0] == f"POOL   process {pid}, 1 run; kill {pid} ends it"


def test_the_log_of_a_pool_is_what_one_on_a_terminal_shows_with_times(box):
    write(box.path, {".farmx.yaml": BOX.replace("2", "1"), "t.sh": 'exit "$3"\n'})
    write(box.path, {"sweep.yml": SWEEP.replace("[1, 2, 3]", "[0, 3]")})
    assert box("farmx sweep.yml").err.startswith("farm  box: a pool of this machine, one at a time\n")
    pid = json.loads(box.jobs()[0].read_text())["pid"]
    gone(pid)
    names = [box.run(0), box.run(3)]
    assert box.log().splitlines() == [
        f"POOL   process {pid}, 2 runs; kill {pid} ends it",
        f"START  0  {names[0]}  sh t.sh LOGDIR --n 0",
        f"DONE   0  {names[0]}  T",
        f"START  0  {names[1]}  sh t.sh LOGDIR --n 3",
        f"FAIL   0  {names[1]}  T  main exited with 3",
        "       it said nothing",
        f"       see {box.experiment}/{names[1]}/output.log",
        "POOL   1 done, 1 failed",
    ]


def of(pid: int, name: str) -> str:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def test_the_pool_has_a_session_of_its_own_no_terminal_no_parent_and_nothing_open_of_ours(box, tmp_path):
    os.umask(umask := os.umask(0o022))
    read, written = os.pipe()
    os.set_inheritable(written, True)
    code = "import os, farmx; farmx.launch('sweep.yml', interactive=False); print('returned')"
    told = subprocess.run([sys.executable, "-c", code], cwd=box.path, env={**os.environ, "SIDE": str(box.side)},
                          pass_fds=[written], capture_output=True, text=True)  # fmt: skip
    assert told.stdout == "returned\n", told.stderr
    os.close(written)
    assert os.read(read, 1) == b""  # the pool did not keep it
    os.close(read)
    pid = json.loads(box.jobs()[0].read_text())["pid"]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    session, terminal = int(fields[3]), int(fields[4])
    assert session not in (pid, os.getsid(0)) and terminal == 0
    log = str(box.jobs()[0].parent / "pool.log")
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null", log, log]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert int(of(pid, "Umask"), 8) == umask
    assert int(of(pid, "SigIgn"), 16) & 1 << signal.SIGHUP - 1
    until(lambda: int(of(pid, "SigBlk"), 16) == 0)  # all are blocked for as long as a process is being started
    ended(box, pid)


def test_the_end_of_the_terminal_is_not_that_of_the_pool(box):
    master, slave = pty.openpty()
    env = {**os.environ, "SIDE": str(box.side)}
    with subprocess.Popen(["bash", "-ic", "farmx sweep.yml; cat"], cwd=box.path, stdin=slave, stdout=slave,
                          stderr=slave, start_new_session=True, env=env) as shell:  # fmt: skip
        os.close(slave)
        box.begun(2)
        pid = json.loads(box.jobs()[0].read_text())["pid"]
        os.close(master)  # SIGHUP to all that sit there
        os.killpg(shell.pid, signal.SIGHUP)
        os.kill(pid, signal.SIGHUP)
        shell.kill()
    assert box.states() == ["running", "running", "queued"]
    ended(box, pid)
    assert box.states() == ["done"] * 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_pool_ends_its_runs_are_interrupted_and_the_same_launch_goes_on(box, how):
    pid = box.launch()
    box.begun(2)
    os.kill(pid, how)
    gone(pid)
    until(lambda: box.states() == ["interrupted", "interrupted", "staged"])
    pid = box.launch()
    box.begun(4)
    assert box.states() == ["running", "running", "queued"]
    ended(box, pid)
    assert box.states() == ["done"] * 3
    assert [len(list((box.experiment / box.run(n) / "attempts").iterdir())) for n in (1, 2, 3)] == [2, 2, 1]


def test_cancel_ends_what_runs_and_what_waits_and_with_them_the_pool(box):
    pid = box.launch()
    box.begun(2)
    assert [line.split(maxsplit=1)[1] for line in box("farmx cancel sweep").out.splitlines()] == [
        "cancelled", "asked to end", "asked to end",
    ]  # fmt: skip
    gone(pid)
    assert box.states() == ["cancelled"] * 3
    assert len((box.side / "begun").read_text().splitlines()) == 2


def test_a_run_that_waits_is_cancelled_alone(box):
    pid = box.launch()
    box.begun(2)
    assert box(f"farmx cancel {box.run(3)}").out == f"{box.run(3)}  cancelled\n"
    assert box.states() == ["running", "running", "cancelled"]
    ended(box, pid)
    assert box.states() == ["done", "done", "cancelled"]


def test_retry_goes_back_to_the_farm(box):
    pid = box.launch()
    box.begun(2)
    box("farmx cancel sweep")
    gone(pid)
    known = set(box.jobs())
    assert box("farmx retry sweep").err.splitlines()[-5] == "      3 queued"
    (job,) = set(box.jobs()) - known
    box.begun(4)
    assert sorted(box.states()) == ["queued", "running", "running"]
    ended(box, json.loads(job.read_text())["pid"])
    assert box.states() == ["done"] * 3


def test_retry_of_two_experiments_is_a_pool_of_each_whose_settings_are_its_own(box):
    write(box.path, {"other.yml": SWEEP.replace("[1, 2, 3]", "[1]")})
    (box.path / "t.sh").write_text("exit 3\n")
    for line in ("farmx sweep.yml", "farmx other.yml"):
        box(line + " -j 3", code=1)
    (box.path / "t.sh").write_text(SCRIPT)
    box.go()
    assert box("farmx retry sweep other").err.splitlines()[-6:] == [
        "      3 queued", "      1 queued", "next  farmx status sweep other", f"next  farmx logs -f sweep/{box.run(1)}",
        "next  farmx cancel sweep other", "next  sumx sweep other"]  # fmt: skip
    records = [json.loads(path.read_text()) for path in (*box.jobs()[-1:], *sorted(
        (box.path / "runs" / "other").glob(".farmx/submissions/*/job.json"))[-1:])]  # fmt: skip
    assert records[0]["pid"] != records[1]["pid"]
    for record in records:
        gone(record["pid"])
    assert box.states() == ["done"] * 3
    told = json.loads(box("farmx status other --json").out)
    assert [run["state"] for run in told["runs"]] == ["done"]


def test_a_pool_says_of_all_its_submissions_that_it_holds_them(tmp_path):
    """Looked at from another host, one that nobody touches is nobody's, and is launched once more."""
    place = Place(tmp_path)
    runs = [place.shell("touch LOGDIR/ready; while [ ! -e LOGDIR/go ]; do sleep 0.01; done", name) for name in "abc"]
    handed = [place.submission(Job(run, "1.0"), name=f"s{index}") for index, run in enumerate(runs)]
    given = {"farm": "box", "pools": [[each.id, each.path, [["0", [], 0]]] for each in handed]}
    code = """
import farmx.processes
from farmx.cli import detached
farmx.processes.BEAT_S = 0.02
ready, readied = os.pipe()
os.set_inheritable(readied, True)
detached.main({**json.loads(sys.argv[1]), "ready": readied})
"""
    records = [Path(each.path, "job.json") for each in handed]
    with python(code, json.dumps(given)):
        try:
            for index, run in enumerate(runs):
                exists(f"{run}/ready")
                for record in records[index:] * 3:  # one may have been due when the run began
                    os.utime(record, (1, 1))
                    until(lambda record=record: record.stat().st_mtime > 1)
                Path(run, "go").touch()
        finally:
            for run in runs:
                Path(run, "go").touch()
    told = until(lambda: [json.loads(record.read_text()) for record in records])
    gone(told[0]["pid"])
    assert len({each["pid"] for each in told}) == 1
    assert ["ended" in json.loads(record.read_text()) for record in records] == [True] * 3


def test_two_launches_of_two_experiments_are_two_pools(box):
    write(box.path, {"other.yml": SWEEP})
    first = box.launch()
    box("farmx other.yml")
    box.begun(4)
    ended(box, first)
    until(lambda: {run["state"] for run in json.loads(box("farmx status other --json").out)["runs"]} == {"done"})
    assert box.states() == ["done"] * 3


@pytest.mark.parametrize("more", ["", ", interactive=False"])
def test_from_python_the_runs_are_there_and_queued(box, more):
    code = f"import farmx; print(*(run.state for run in farmx.launch('sweep.yml', farm='local'{more})))"
    told = ran(f"{sys.executable} -c {json.dumps(code)}", box.path, SIDE=str(box.side))
    assert told.code == 0, told.err
    assert set(told.out.split()) <= {"queued", "running"} and len(told.out.split()) == 3
    assert told.err.startswith("farm  local: a pool of this machine, one at a time\n")
    ended(box, json.loads(box.jobs()[0].read_text())["pid"])


def test_a_project_in_a_hostile_place_with_hostile_words(tmp_path, commands):
    (tmp_path / PLACE).mkdir()
    box = Box(tmp_path / PLACE, commands)
    write(box.path, {".farmx.yaml": BOX.replace("box", "\"it's größe; $HOME\"")})
    pid = box.launch()
    ended(box, pid)
    assert box.states() == ["done"] * 3


# ---------------------------------------------------------------- what is refused

REFUSED = [
    ("{gpu: 1}", "RESOURCES.gpu is nothing that this machine gives; did you mean gpus?; -i or -j N run without "
                 "RESOURCES"),
    ("{jobs: none}", "RESOURCES.jobs: 'none' is not allowed; it must be a whole number above 0"),
    ("{gpus: fre}", "RESOURCES.gpus: 'fre': 'fre' is no GPU; write '0,1' or '0+1,2+3' for these GPUs, free for one "
                    "idle GPU a run, 2 for two"),
]  # fmt: skip


@pytest.mark.parametrize("resources, told", REFUSED, ids=[row[0] for row in REFUSED])
def test_what_this_machine_does_not_give_is_refused_and_nothing_is_made(box, resources, told):
    write(box.path, {".farmx.yaml": BOX.replace("{jobs: 2}", resources)})
    before = everything(box.path)
    assert box("farmx sweep.yml", code=2).err == f"farmx: .farmx.yaml:2:36: {told}\n"
    assert everything(box.path) == before


def test_locks_that_cannot_be_are_told_before_anything_is_made(box, tmp_path):
    write(box.path, {".farmx.yaml": BOX.replace("jobs: 2", "gpus: '0'")})
    before = everything(box.path)
    for line in ("farmx sweep.yml", "farmx sweep.yml --gpus 0"):
        said = box(line, code=4, FARMX_LOCKS=str(tmp_path / "none" / "x"))
        assert said.err.startswith(f"farmx: {tmp_path}/none/x: pools share GPUs there: No such file or directory")
    assert everything(box.path) == before


def test_a_section_that_names_no_executor_is_told(box):
    write(box.path, {".farmx.yaml": "FARM: box\nbox: {LOGROOT: runs}\n"})
    assert box("farmx sweep.yml", code=2).err == (
        "farmx: farm 'box' has neither EXECUTOR nor SUBMIT_CMD; add one, or give -i to run here\n"
    )


def test_a_pool_that_does_not_come_up_is_told_and_its_runs_stay_staged(box, tmp_path):
    code = (
        "import sys, os\n"
        "from farmx.cli import detached\n"
        "from farmx.cli.main import farmx\n"
        "detached._BEGIN = 'raise SystemExit(3)'\n"
        "farmx(['sweep.yml'], prog_name='farmx')\n"
    )
    (tmp_path / "broken.py").write_text(code)
    said = box(f"{sys.executable} {tmp_path / 'broken.py'}", code=4)
    (submission,) = box.experiment.glob(".farmx/submissions/*")
    assert said.err.splitlines()[-2:] == [
        "      0 queued",
        f"farmx: the pool ended before it held a run; why is in {submission}/pool.log",
    ]
    assert box.states() == ["staged"] * 3


@pytest.mark.parametrize(("name", "comes"), [("claimed", True), ("runs", False)])
def test_a_record_that_a_pool_cannot_read_is_one_line_of_its_log(tmp_path, name, comes):
    submission = Place(tmp_path / PLACE).submission()
    path = Path(submission.path, name)
    path.unlink(missing_ok=True)
    path.mkdir()
    with nullcontext() if comes else pytest.raises(FarmError, match="the pool ended before it held a run; why is in "):
        detached.Detached("box", {"jobs": 1}).submit([submission], lambda submission, queued: None)
    log = Path(submission.path, "pool.log")
    *_, last = until(lambda: text if (text := log.read_text()).endswith("Is a directory\n") else "").split("farmx: ")
    assert last == f"{path}: cannot be read: Is a directory\n"
    assert "Traceback" not in log.read_text()


# ---------------------------------------------------------------- GPUs

GPU = "FARM: box\nbox: {EXECUTOR: local, RESOURCES: {gpus: '0'}}\n"


SILENT = "did not answer within 1 s and was ended; its runs stay as they were, the same command tries again "
SILENT += "(its log: {log})"


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        ("time.sleep(60)", SILENT),
        ("os.fork() and os._exit(0); time.sleep(60)", SILENT),
        ("os.kill(os.getpid(), 9)", "ended before it held a run; why is in {log}"),
        ("os.fork() and os._exit(0); os.kill(os.getpid(), 9)", "ended before it held a run; why is in {log}"),
    ],
    ids=["never begins", "never answers", "dies at once", "dies before it answers"],
)  # fmt: skip
def test_a_pool_that_says_nothing_is_waited_for_so_long_and_leaves_no_process(tmp_path, monkeypatch, begin, told):
    place, side = Place(tmp_path / PLACE), tmp_path / "pid"
    submission = place.submission(Job(place.run(), "1.0"))
    monkeypatch.setattr(detached, "UP_S", 1.0)
    begin = f"import os, time; print(os.getpid(), file=open({str(side)!r}, 'w')); {begin}"
    monkeypatch.setattr(detached, "_BEGIN", begin)
    with pytest.raises(FarmError) as error:
        detached.Detached("box", {"jobs": 1}).submit([submission], pytest.fail)
    assert str(error.value) == "the pool " + told.format(log=f"{submission.path}/pool.log")
    gone(number(side))
    until(lambda: not processes.marked([f"HOME={os.environ['HOME']}"]))
    assert sorted(os.listdir(submission.path)) == ["pool.log", "runs"]


def test_two_pools_that_want_one_gpu_run_one_at_a_time_and_an_attached_one_says_that_it_waits(box):
    write(box.path, {".farmx.yaml": GPU, "one.yml": SWEEP.replace("[1, 2, 3]", "[4]")})
    first = box.launch()
    box.begun(1)
    with subprocess.Popen(["farmx", "one.yml", "--gpus", "0"], cwd=box.path, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "SIDE": str(box.side)}) as attached:  # fmt: skip
        line = until(lambda: next((line for line in attached.stderr if line.startswith("WAIT")), None))
        worker = json.loads((box.experiment / box.run(1) / "attempts" / "1.0" / "owner.json").read_text())["pid"]
        (name,) = [path.name for path in (box.path / "runs" / "one").glob("[!.]*")]
        assert line == f"WAIT   gpu 0  {name}  process {worker} uses it for sweep/{box.run(1)}\n"
        assert len((box.side / "begun").read_text().splitlines()) == 1
        os.kill(first, signal.SIGKILL)  # its end lets go of the GPU
        box.begun(2)
        box.go()
        assert "DONE   gpu 0" in attached.stderr.read()
    assert attached.returncode == 0


def test_a_run_that_is_cancelled_while_it_waits_for_a_gpu_waits_no_more(box):
    write(box.path, {".farmx.yaml": GPU, "one.yml": SWEEP.replace("[1, 2, 3]", "[4]")})
    first = box.launch()
    box.begun(1)
    box("farmx one.yml")
    (job,) = (box.path / "runs" / "one").glob(".farmx/submissions/*/job.json")
    pid = json.loads(job.read_text())["pid"]
    until(lambda: "WAIT   gpu 0" in (job.parent / "pool.log").read_text())
    box("farmx cancel one")
    gone(pid)
    assert "POOL   1 cancelled" in (job.parent / "pool.log").read_text()
    ended(box, first)


def test_free_looks_for_an_idle_gpu_whenever_a_run_begins(box, tmp_path):
    rows = tmp_path / "rows"
    write(tmp_path, {"bin/nvidia-smi": f"#!/bin/sh\nexec cat {rows}\n", "rows": "0, 90, 100, 0\n1, 0, 100, 0\n"})
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    write(box.path, {".farmx.yaml": GPU.replace("'0'", "free"),
                     "t.sh": 'echo "$CUDA_VISIBLE_DEVICES" >> "$SIDE/gpus"\n' + SCRIPT})  # fmt: skip
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    said = box("farmx sweep.yml", PATH=path)
    assert said.err.splitlines()[0] == "farm  box: a pool of this machine, 2 at a time, 1 idle GPU each"
    box.begun(1)
    until(lambda: "WAIT   gpu    " in box.log())
    assert "no GPU is idle" in box.log()
    rows.write_text("0, 0, 100, 0\n1, 90, 100, 0\n")
    box.begun(2)
    assert sorted((box.side / "gpus").read_text().split()) == ["0", "1"]
    assert "START  gpu 0  " in box.log() and "START  gpu 1  " in box.log()
    ended(box, json.loads(box.jobs()[0].read_text())["pid"])
    assert box.states() == ["done"] * 3
