"""The real schedulers that tests stand on, as tests need them, and what this project believes of schedulers."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from launching import until

from farms import daemons, fixtures, gridengine, slurm

pytestmark = pytest.mark.farm

HERE = Path(__file__).resolve().parent
# Says which signals arrive, and stays.
STUBBORN = """#!/bin/bash
trap 'echo shell TERM' TERM
trap 'echo shell USR2' USR2
bash -c 'trap "echo child TERM" TERM; trap "echo child USR2" USR2; echo child; while :; do sleep 0.1; done' &
while :; do wait; sleep 0.05; done
"""


def batch(farm: slurm.Slurm, place: Path, script: str, *options: str) -> str:
    """Submit a script; its id. It prints into <place>/<id>.txt, or <id>_<index>.txt, and appends there."""
    (place / "script").write_text(script if script.startswith("#!") else f"#!/bin/bash\n{script}\n")
    output = "%A_%a.txt" if any(each.startswith("--array") for each in options) else "%j.txt"
    where = ["--parsable", "--open-mode=append", f"--output={place}/{output}", f"--chdir={place}"]
    return farm.run("sbatch", *where, *options, str(place / "script")).stdout.strip()


def state(farm: slurm.Slurm, job: str) -> str:
    return farm.says("squeue", "-h", "-j", job, "-t", "all", "-o", "%T")


def ended(farm: slurm.Slurm, job: str) -> str:
    """Wait until a job or all of an array has ended; its state."""
    return until(lambda: end if (end := state(farm, job)) and not set(end.split()) & ALIVE else "")


ALIVE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED"}


def end(farm: slurm.Slurm, job: str) -> None:
    """End a job and wait for that, without the grace that scancel gives."""
    farm.run("scancel", "--full", "--signal=KILL", job)
    ended(farm, job)


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


# ---------------------------------------------------------------- slurm


@pytest.fixture(params=["slurm", "slurm_plain"])
def either(request):
    return request.getfixturevalue(request.param)


def test_srun_runs_on_both_nodes(either):
    said = either.run("srun", "-N2", "-n2", "--label", "printenv", "SLURMD_NODENAME").stdout
    assert sorted(said.splitlines()) == [f"0: {either.nodes[0]}", f"1: {either.nodes[1]}"]


def test_the_tasks_of_an_array_run_at_once_on_both_nodes(either, tmp_path):
    together = "touch $SLURM_ARRAY_TASK_ID; until [ -e 0 ] && [ -e 1 ]; do sleep 0.05; done; echo $SLURMD_NODENAME"
    job = batch(either, tmp_path, together, "--array=0-1", "--exclusive")
    assert ended(either, job) == "COMPLETED\nCOMPLETED"
    said = [text(tmp_path / f"{job}_{index}.txt").strip() for index in (0, 1)]
    assert sorted(said) == list(either.nodes)


@pytest.mark.parametrize("option", ["--gres=gpu:2", "--gpus-per-node=2", "--gpus=2", "--gpus-per-task=2"])
def test_gpus_set_cuda_visible_devices(either, option):
    assert either.run("srun", "-n1", option, "printenv", "CUDA_VISIBLE_DEVICES").stdout == "0,1\n"


def test_more_gpus_than_a_node_has_are_refused(either):
    done = either.run("sbatch", "--gpus-per-node=5", "--wrap", "true", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().splitlines()[-1] == (
        "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    )


def test_sacct_knows_an_ended_job(slurm, tmp_path):
    job = batch(slurm, tmp_path, "exit 3")
    ended(slurm, job)
    ask = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State,ExitCode"]
    assert until(lambda: (said := slurm.says(*ask)) not in ("", "PENDING|0:0", "RUNNING|0:0") and said) == "FAILED|3:0"


def test_sacct_fails_without_accounting(slurm_plain):
    done = slurm_plain.run("sacct", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Slurm accounting storage is disabled\n")


@pytest.mark.parametrize(("indices", "code"), [("0-100", 0), ("1-100", 0), ("0-101", 1), ("101", 1), ("100-101", 1)])
def test_the_second_configuration_has_no_index_above_100(slurm_plain, indices, code):
    done = slurm_plain.run("sbatch", "--hold", "--parsable", f"--array={indices}", "--wrap", "true", check=False)
    assert done.returncode == code
    if code == 0:
        slurm_plain.run("scancel", done.stdout.strip())
    else:
        assert done.stderr == "sbatch: error: Batch job submission failed: Invalid job array specification\n"


def test_a_preempted_job_gets_term_and_is_requeued_as_restart_1(either, tmp_path):
    script = STUBBORN.replace("bash -c", 'echo start "$SLURM_RESTART_COUNT"\nbash -c')
    job = batch(either, tmp_path, script, "-p", "low", "--requeue", "--exclusive", "-N2")
    until(lambda: "child" in text(tmp_path / f"{job}.txt"))
    urgent = batch(either, tmp_path, "sleep 1", "-p", "high", "--exclusive", "-N2")
    assert ended(either, urgent) == "COMPLETED"
    until(lambda: "start 1" in text(tmp_path / f"{job}.txt"))
    assert either.says("squeue", "-h", "-j", job, "-O", "RestartCnt") == "1"
    end(either, job)
    said = text(tmp_path / f"{job}.txt").splitlines()
    assert "DUE TO PREEMPTION" in "".join(said)
    assert [line for line in said if line.startswith("start")] == ["start ", "start 1"]
    assert {"shell TERM", "child TERM"} <= set(said)


def test_scancel_sends_term_to_shell_and_children_then_kill(either, tmp_path):
    job = batch(either, tmp_path, STUBBORN)
    log = tmp_path / f"{job}.txt"
    until(lambda: "child" in text(log))
    either.run("scancel", job)
    assert ended(either, job) == "CANCELLED"
    assert {"shell TERM", "child TERM"} <= set(text(log).splitlines())
    until(lambda: not either.with_variable(f"SLURM_JOB_ID={job}"))


WHO_GETS_IT = [([], set()), (["--batch"], {"shell USR2"}), (["--full"], {"shell USR2", "child USR2"})]


@pytest.mark.parametrize(("option", "who"), WHO_GETS_IT)
def test_a_signal_by_scancel_reaches_a_batch_job_only_with_batch_or_full(either, tmp_path, option, who):
    job = batch(either, tmp_path, STUBBORN)
    log = tmp_path / f"{job}.txt"
    until(lambda: "child" in text(log))
    either.run("scancel", "--signal=USR2", *option, job)
    if who:
        until(lambda: who <= set(text(log).splitlines()))
    end(either, job)
    assert {line for line in text(log).splitlines() if line.endswith("USR2")} == who


def test_the_batch_shell_gets_the_signal_it_asked_for_before_the_time_limit(slurm, tmp_path):
    job = batch(slurm, tmp_path, STUBBORN, "--time=1", "--signal=B:USR2@20")  # Slurm sends it up to 30 s before that
    until(lambda: "shell USR2" in text(tmp_path / f"{job}.txt"))
    assert "child USR2" not in text(tmp_path / f"{job}.txt")
    end(slurm, job)


def test_too_much_memory_ends_a_job(slurm, tmp_path):
    eat = f"exec {sys.executable} -c 'import time; x = b\"x\" * (300 << 20); time.sleep(60)'"
    job = batch(slurm, tmp_path, eat, "--mem=60")
    assert ended(slurm, job) == "FAILED"
    assert "error: Exceeded job memory limit" in text(tmp_path / f"{job}.txt")


def test_a_variable_of_sbatch_beats_its_line_in_the_script_and_an_argument_beats_both(slurm_plain, tmp_path):
    (tmp_path / "script").write_text("#!/bin/bash\n#SBATCH --partition=low\n")
    for options, partition in (([], "high"), (["--partition=main"], "main")):
        line = ["sbatch", "--hold", "--parsable", "-o", "/dev/null", *options, str(tmp_path / "script")]
        job = slurm_plain.run(*line, SBATCH_PARTITION="high").stdout.strip()
        assert slurm_plain.says("squeue", "-h", "-j", job, "-o", "%P") == partition
        slurm_plain.run("scancel", job)


def test_a_job_submitted_by_a_job_inherits_what_does_not_hold_for_it(slurm_plain, tmp_path):
    inner = tmp_path / "inner"
    inner.write_text(f"#!/bin/bash\nenv >{tmp_path}/inherited\n")
    job = batch(slurm_plain, tmp_path, f"sbatch --parsable --mem-per-cpu=50 -o /dev/null {inner}", "--mem=100", "-n2")
    ended(slurm_plain, job)
    ended(slurm_plain, text(tmp_path / f"{job}.txt").strip())
    asked = ("SLURM_NTASKS", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU")
    found = dict(line.partition("=")[::2] for line in text(tmp_path / "inherited").splitlines())
    assert [found[name] for name in asked] == ["2", "100", "50"]  # it has one task; with both MEM srun refuses to start


def as_it_is(path: str) -> str:
    """A path as --output takes it literally: a backslash in it makes it all literal, else % starts a pattern."""
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")


@pytest.mark.parametrize("name", ["100% %A", "back\\slash %A", "it's \"$HOME\"; größe", "new\nline", "\\"])
def test_any_path_can_be_said_to_output_and_chdir(slurm_plain, tmp_path, name):
    place = tmp_path / name
    place.mkdir()
    (tmp_path / "script").write_text("#!/bin/bash\npwd -P\n")
    words = [f"--output={as_it_is(str(place))}/log", f"--chdir={place}", str(tmp_path / "script")]
    job = slurm_plain.run("sbatch", "--parsable", *words).stdout.strip()
    assert ended(slurm_plain, job) == "COMPLETED"
    assert (place / "log").read_text() == f"{place}\n"


def test_submitit_runs_a_function(slurm, tmp_path, monkeypatch):
    from submitit import AutoExecutor

    monkeypatch.setenv("SLURM_CONF", str(slurm.conf))
    executor = AutoExecutor(tmp_path, cluster="slurm")
    executor.update_parameters(timeout_min=60)  # it asks to be told 90 s before the end, which may be at once
    job = executor.submit(divmod, 7, 2)
    assert ended(slurm, job.job_id) == "COMPLETED"
    assert job.paths.result_pickle.exists()


def test_what_a_test_leaves_is_ended_before_the_next(either, tmp_path):
    running, _, _ = (batch(either, tmp_path, STUBBORN, *more) for more in ([], ["--hold"], ["--requeue", "-p", "low"]))
    until(lambda: "child" in text(tmp_path / f"{running}.txt"))
    either.run("scontrol", "update", f"nodename={either.nodes[1]}", "state=drain", "reason=Duplicate jobid")
    either.empty()
    assert (either.says("squeue", "-h"), either.is_idle()) == ("", True)


# ---------------------------------------------------------------- slurm, daemons killed


@pytest.fixture
def own():
    """A Slurm that a test may break."""
    fixtures.need(slurm.Slurm)
    farm = slurm.Slurm.up(accounting=False, settings=slurm.NERVOUS)
    yield farm
    farm.stop()


def test_a_killed_slurmctld_started_again_knows_its_jobs(own, tmp_path):
    job = batch(own, tmp_path, "until [ -e go ]; do sleep 0.05; done")
    until(lambda: state(own, job) == "RUNNING")
    own.kill("slurmctld")
    assert own.run("squeue", check=False).returncode == 1
    own.daemon("slurmctld")
    until(lambda: state(own, job) == "RUNNING")
    (tmp_path / "go").touch()
    assert ended(own, job) == "COMPLETED"


def test_a_job_whose_node_died_is_requeued_elsewhere(own, tmp_path):
    job = batch(own, tmp_path, 'echo "$SLURMD_NODENAME $SLURM_RESTART_COUNT"; sleep 100', "--requeue")
    log = tmp_path / f"{job}.txt"
    until(lambda: len(text(log).splitlines()) == 1)
    own.kill_node(own.nodes[0])
    until(lambda: len(text(log).splitlines()) == 2)
    assert text(log).splitlines() == [f"{own.nodes[0]} ", f"{own.nodes[1]} 1"]


def test_a_dead_node_started_again_takes_jobs(own):
    own.kill_node(own.nodes[1])
    own.daemon(own.nodes[1])
    until(own.is_idle)
    assert own.run("srun", "-w", own.nodes[1], "echo", "here").stdout == "here\n"


# ---------------------------------------------------------------- grid engine


def qsub(farm: gridengine.GridEngine, *words: str) -> str:
    """Submit a command that prints into <home>/out, and wait for it; what it printed."""
    farm.run("qsub", "-sync", "y", "-terse", "-b", "y", "-cwd", "-j", "y", "-o", str(farm.home / "out"), *words)
    said = (farm.home / "out").read_text()
    (farm.home / "out").unlink()
    return said


def test_qsub_runs_a_job_as_the_ordinary_user(gridengine):
    assert qsub(gridengine, "id", "-un") == "farmer\n"


def test_a_task_of_an_array_knows_its_number(gridengine):
    place = f"{gridengine.home}/t$TASK_ID"
    gridengine.run("qsub", "-sync", "y", "-b", "y", "-t", "1-3", "-j", "y", "-o", place, "printenv", "SGE_TASK_ID")
    assert [(gridengine.home / f"t{index}").read_text() for index in (1, 2, 3)] == ["1\n", "2\n", "3\n"]


def test_no_job_of_root_is_taken(gridengine):
    done = gridengine.run("qsub", "-b", "y", "true", user="root", check=False)
    assert done.returncode == 1
    assert "your user id 0 is lower than minimum user id" in done.stderr


def test_qdel_ends_a_job_and_what_it_started(gridengine):
    words = ["bash", "-c", "'echo here; sleep 1000; true'"]
    job = gridengine.says("qsub", "-terse", "-b", "y", "-o", f"{gridengine.home}/deleted", *words)
    until(lambda: text(gridengine.home / "deleted") == "here\n")
    gridengine.run("qdel", job)
    mine = {b"JOB_ID=" + job.encode(), b"SGE_ROOT=" + os.fsencode(gridengine.root)}
    until(lambda: not [pid for pid, env in daemons.environments() if mine <= env])
    until(lambda: job not in gridengine.says("qstat", "-u", "*").split())


def test_qacct_knows_an_ended_job(gridengine):
    done = gridengine.run("qsub", "-sync", "y", "-terse", "-b", "y", "bash", "-c", "'exit 3'", check=False)
    job = done.stdout.split()[0]
    assert done.returncode == 3
    said = until(lambda: line if "exit_status" in (line := gridengine.says("qacct", "-j", job)) else "")
    assert ["exit_status", "3"] in [line.split() for line in said.splitlines()]


def test_what_a_test_leaves_in_grid_engine_is_ended_before_the_next(gridengine):
    for words in (["sleep", "1000"], ["-h", "true"]):
        gridengine.run("qsub", "-b", "y", "-o", "/dev/null", *words)
    assert len(gridengine.jobs()) == 2
    gridengine.empty()
    assert gridengine.jobs() == []


def test_a_killed_grid_engine_started_again_runs_jobs(gridengine):
    for name in ("sge_qmaster", "sge_execd"):
        gridengine.kill(name)
    for name in ("sge_qmaster", "sge_execd"):
        gridengine.daemon(name)
    until(lambda: gridengine.run("qsub", "-b", "y", "-h", "true", check=False).returncode == 0)
    until(gridengine.is_ready)
    assert qsub(gridengine, "echo", "again") == "again\n"


# ---------------------------------------------------------------- each of them

KINDS = [slurm.Slurm, gridengine.GridEngine]
QUICK = {slurm.Slurm: {"accounting": False}, gridengine.GridEngine: {}}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    fixtures.need(request.param)
    return request.param


@pytest.fixture
def place(kind):
    """A directory for a farm that is not there yet; gone afterwards, with all that runs in it."""
    with tempfile.TemporaryDirectory(prefix="place-", dir="/tmp") as parent:
        os.chmod(parent, 0o755)
        yield Path(parent) / "farm"
        kind(Path(parent) / "farm").stop()


def test_two_of_a_kind_do_not_meet(kind):
    one, other = kind.up(**QUICK[kind]), kind.up(**QUICK[kind])
    assert (one.folder == other.folder, one.port == other.port) == (False, False)
    one.stop()
    assert (one.folder.exists(), one.pids()) == (False, [])
    assert other.pids()
    word = ["srun", "-N2"] if kind is slurm.Slurm else ["qsub", "-sync", "y", "-b", "y"]
    assert other.run(*word, "true").returncode == 0
    other.stop()
    assert (other.folder.exists(), other.pids()) == (False, [])


def test_what_a_killed_farm_left_in_its_directory_makes_way(kind, place):
    first = kind.up(place, **QUICK[kind])
    before = set(first.pids())
    daemons.send(sorted(before)[::2], signal.SIGKILL)
    second = kind.up(place, **QUICK[kind])
    assert not before & set(second.pids())
    until(lambda: len(second.pids()) >= len(before))


UP = """
import sys
from pathlib import Path
sys.path.insert(0, {path!r})
from farms import daemons
from {module} import {name}
daemons.HOME = Path({home!r})
print({name}.up(**{options}).folder, flush=True)
sys.stdin.read()
"""


def test_the_farm_of_a_killed_test_is_ended_by_the_next_one(kind, place, monkeypatch):
    place.mkdir(mode=0o755)
    monkeypatch.setattr(daemons, "HOME", place)  # not where other workers end what they find
    about = {"path": str(HERE.parent), "module": kind.__module__, "name": kind.__name__, "home": str(place)}
    code = UP.format(options=QUICK[kind], **about)
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as test:
        folder = Path(test.stdout.readline().strip())
        assert daemons.orphans() == []
        test.kill()
    try:
        assert daemons.orphans() == [folder]
        assert kind(folder).pids()
        kind.up(**QUICK[kind]).stop()
        assert (folder.exists(), kind(folder).pids()) == (False, [])
    finally:
        kind(folder).stop()
    shutil.rmtree(place)


def test_jobs_end_with_the_farm_and_the_shells_around_it_do_not(kind, place):
    farm = kind.up(place, **QUICK[kind])
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **farm.env()}) as bystander:
        queued = {slurm.Slurm: ["sbatch", "-o", "/dev/null", "--wrap"], gridengine.GridEngine: ["qsub", "-b", "y"]}
        farm.run(*queued[kind], *(["sleep 1000; true"] if kind is slurm.Slurm else ["sleep", "1000"]))
        jobs = until(lambda: [pid for pid, env in daemons.environments() if farm.is_job(env)])
        farm.stop()
        alive = {pid for pid, _ in daemons.environments()}
        assert (farm.pids(), alive & {*jobs, bystander.pid}) == ([], {bystander.pid})
        bystander.kill()


def test_the_directory_of_somebody_else_is_refused_and_kept(kind, place, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    place.symlink_to(tmp_path)  # which has a long name
    with pytest.raises(daemons.FarmError, match="/farm: something else is in it; name a new directory$"):
        kind.up(place)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_too_long_for_sockets_is_refused(kind):
    with pytest.raises(daemons.FarmError, match="too long for the sockets in it; at most 80 characters$"):
        kind.up(Path("/tmp") / ("x" * 80))


COMMANDS = {slurm.Slurm: ("slurm.py", ["--no-accounting"]), gridengine.GridEngine: ("gridengine.py", [])}


def test_the_command_brings_one_up_and_down(kind, place):
    name, options = COMMANDS[kind]
    command = [sys.executable, str(HERE / name)]
    up = subprocess.run([*command, "up", str(place), *options], capture_output=True, text=True, check=True)
    farm = kind(place)
    said = [line.removeprefix("export ").partition("=")[::2] for line in up.stdout.splitlines()]
    assert {name: value for name, value in said if "PORT" not in name}.items() <= farm.env().items()
    assert len(farm.pids()) >= 2
    for _ in range(2):
        subprocess.run([*command, "down", str(place)], check=True)
        assert (farm.pids(), place.exists()) == ([], False)


# ---------------------------------------------------------------- where there is none


class Nowhere(daemons.Farm):
    commands = ("sh", "no-such-scheduler")


OUTCOMES = [(False, pytest.skip.Exception), (True, pytest.fail.Exception)]


@pytest.mark.parametrize(("required", "outcome"), OUTCOMES)
def test_a_missing_client_is_a_skip_and_when_required_a_failure(tmp_path, required, outcome):
    with pytest.raises(outcome, match="^no prun in clients; make test-farms installs it$"):
        fixtures.client("prun", tmp_path / "clients", required)


@pytest.mark.parametrize(("required", "outcome"), OUTCOMES)
def test_a_missing_farm_is_a_skip_and_when_required_a_failure(required, outcome):
    if os.getuid() != 0:
        pytest.skip("only root gets so far")
    with pytest.raises(outcome, match="^not installed: no-such-scheduler; run tests/farms/install$"):
        fixtures.need(Nowhere, required)


def test_install_has_nothing_to_say_where_all_is_installed(kind):
    done = subprocess.run([HERE / "install"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
