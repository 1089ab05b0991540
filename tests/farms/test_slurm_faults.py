"""What is killed, lost or late between farmx and a real Slurm: an attempt begins at most once, a point ends once."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from launching import PATIENCE_S, until

from farms import fixtures
from farms.daemons import environments, send
from farms.site import Site, attempts
from farms.slurm import NERVOUS, Slurm

pytestmark = pytest.mark.farm

GO = "note(n, attempt); wait(os.environ['SIDE'] + '.go')"


@pytest.fixture
def site(slurm_plain, project):
    made = Site(project, slurm_plain)
    made.setup()
    return made


# ---------------------------------------------------------------- never twice

# In place of sbatch: the real one, and the command that called it killed before, after, or at its second call.
SBATCH = """#!/bin/sh
case "$*" in *--help*|*--test-only*) exec {sbatch} "$@";; esac
echo call >>{calls}
[ "$(wc -l <{calls})" -eq {nth} ] || exec {sbatch} "$@"
if [ {when} = after ]; then {sbatch} "$@" >/dev/null; fi
kill -9 $PPID
if [ {when} = later ]; then sleep 1; exec {sbatch} "$@"; fi
"""


def wrapped(site: Site, when: str, nth: int) -> str:
    """A PATH whose sbatch kills who calls it."""
    folder = site.project.path.parent / "bin"
    folder.mkdir(exist_ok=True)
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    text = SBATCH.format(sbatch=shutil.which("sbatch"), calls=calls, nth=nth, when=when)
    (folder / "sbatch").write_text(text)
    (folder / "sbatch").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("when", "nth", "queued"),
    [("before", 1, 0), ("after", 1, 2), ("later", 1, 0), ("before", 2, 2), ("after", 2, 4), ("later", 2, 2)],
)
def test_a_launch_killed_around_sbatch_is_finished_by_the_same_command(site, when, nth, queued):
    site.sweep("note(n, attempt)", "{n: [1, 2], SUBMIT_JOB.PARTITION: [main, low]}")
    assert site("sweep.yml", PATH=wrapped(site, when, nth)).code == -signal.SIGKILL
    site.ok("sweep.yml")
    assert site.ended() == ["done"] * 4
    until(lambda: not site.alive())
    assert sorted(site.notes()) == ["1 1", "1 1", "2 1", "2 1"]
    assert [attempts(run) for run in site.project.runs()] == [{"1.0": "done"}] * 4
    assert site("sweep.yml").code == 0


def test_a_second_copy_of_an_attempt_ends_at_the_fence(site):
    site.sweep(GO, "{n: 1}")
    site.ok("sweep.yml")
    site.noted("1 1")
    (first,) = site.submissions()
    asked = ["--parsable", "--array=0", "--mem=50", f"--output={first}/second", f"--chdir={first}", f"{first}/script"]
    second = site.slurm.run("sbatch", *asked).stdout.strip()
    until(lambda: "held: taken by process" in (first / "second").read_text())
    until(lambda: site.slurm.says("squeue", "-h", "-t", "all", "-j", second, "-o", "%T") == "COMPLETED")
    assert site.states() == ["running"]
    site.go()
    assert site.ended() == ["done"]
    assert site.notes() == ["1 1"]


def test_launches_of_one_sweep_at_once_queue_and_start_each_run_once(site):
    site.sweep("note(n, attempt)", "{n: [1, 2, 3]}")
    env = {**site.project.env, **site.slurm.env()}
    behind = [site.project.behind("sweep.yml", **env) for _ in range(4)]
    assert [each.wait() for each in behind] == [0] * 4
    until(lambda: site.submissions() and site.states() == ["done"] * 3)
    until(lambda: not site.alive())
    assert sorted(site.notes()) == ["1 1", "2 1", "3 1"]
    assert len(site.project.runs()) == 3


# ---------------------------------------------------------------- Slurm itself


@pytest.fixture(scope="module")
def nervous():
    """A Slurm that a test may break, which soon notices that a node is dead, and soon forgets what has ended."""
    fixtures.need(Slurm)
    farm = Slurm.up(accounting=False, settings={**NERVOUS, "MinJobAge": "2"})
    yield farm
    farm.stop()


@pytest.fixture
def own(nervous, project):
    made = Site(project, nervous)
    made.setup()
    yield made
    made.end()


def test_a_controller_killed_during_a_submission_holds_each_run_once_when_it_is_back(own):
    own.setup('{"hold": true}')  # one that begins and is forgotten is in the way of the next of its number
    own.sweep("note(n, attempt)", "{n: [1, 2], SUBMIT_JOB.PARTITION: [main, low]}")
    folder = own.project.path.parent / "bin"
    folder.mkdir()
    kill = f"kill -KILL {' '.join(map(str, own.slurm.pids('slurmctld')))} 2>/dev/null"
    (folder / "sbatch").write_text(
        f'#!/bin/sh\ncase "$*" in *--help*|*--test-only*) exec {shutil.which("sbatch")} "$@";; esac\n'
        f'[ -e {folder}/called ] && exec {shutil.which("sbatch")} "$@"\n'
        f'touch {folder}/called\n{shutil.which("sbatch")} "$@" >/dev/null\n{kill}\n'
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2\nexit 1\n'
    )
    (folder / "sbatch").chmod(0o755)
    launch = own.project.behind("sweep.yml", **own.slurm.env(), PATH=f"{folder}:{os.environ['PATH']}")
    until(lambda: (folder / "called").exists() and not own.slurm.pids("slurmctld"))
    own.slurm.daemon("slurmctld")
    assert launch.wait(PATIENCE_S) == 0
    names = list(map(own.name, own.submissions()))
    assert sorted(own.alive()) == sorted(f"{name} {index}" for name in names for index in (0, 1))
    for name in names:
        own.slurm.run("scontrol", "release", f"jobname={name}")
    assert own.ended() == ["done"] * 4
    assert sorted(own.notes()) == ["1 1", "1 1", "2 1", "2 1"]
    assert (own.submissions()[0] / "queued").read_text().count("\n") == 1


def test_a_run_whose_node_dies_goes_on_elsewhere_as_its_next_attempt(own):
    own.sweep("note(attempt, os.environ['SLURMD_NODENAME'])\nif attempt == '1': time.sleep(300)", "{n: 1}")
    own.ok("sweep.yml")
    (first,) = until(own.notes)
    node = first.split()[1]
    own.slurm.kill_node(node)
    (other,) = set(own.slurm.nodes) - {node}
    own.noted(f"2 {other}")
    assert own.ended() == ["done"]
    assert attempts(own.run()) == {"1.0": "", "1.1": "done"}
    own.slurm.daemon(node)
    own.slurm.until(own.slurm.is_idle, "the node does not come back", node)


def forget(own: Site) -> None:
    """End a job so that nobody writes down how, and wait until Slurm has forgotten it."""
    send(own.slurm.with_variable(f"SLURM_JOB_ID={own.job().partition('_')[0]}"), signal.SIGKILL)
    until(lambda: not own.slurm.says("squeue", "-h", "-t", "all"))


def test_a_run_that_slurm_has_forgotten_is_lost_once_it_is_silent_and_the_same_command_takes_it_up(own):
    own.sweep("note(n, attempt)\nif attempt == '1': time.sleep(300)", "{n: 1}")
    own.ok("sweep.yml")
    own.noted("1 1")
    forget(own)
    assert own.states() == ["running"]  # it was heard of a moment ago; Slurm's answer may be the older one
    touched(own.run(), -1 / 9)
    assert own.states() == ["lost"]
    own.ok("sweep.yml")
    assert own.ended() == ["done"]
    assert own.notes() == ["1 1", "1 2"]


def test_a_full_disk_at_the_end_still_takes_the_end(site, tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(root)], check=False)
    if mounted.returncode:
        fixtures.lack("no file system can be mounted here")
    try:
        fill = "with open(os.environ['LOGDIR'] + '/big', 'wb', 0) as big:\n    while True: big.write(b'x' * 4096)"
        site.sweep(fill, "{n: 1}")
        site.ok("sweep.yml", "--logroot", str(root))
        (run,) = until(lambda: list(root.glob("sweep/[!.]*")))
        until(lambda: (run / "attempts" / "1.0" / "end.json").exists())
        assert attempts(run) == {"1.0": "failed"}
        until(lambda: not site.slurm.says("squeue", "-h"))
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


def test_a_job_cancelled_as_it_starts_is_cancelled_and_its_program_ends(site):
    site.sweep("note(n)\ntime.sleep(300)", "{n: " + str(list(range(8))) + "}")
    site.ok("sweep.yml")
    array = site.job().partition("_")[0]
    site.slurm.run("scancel", array)
    assert site.ended() == ["cancelled"] * 8
    until(lambda: not site.alive())
    assert site.states() == ["cancelled"] * 8
    until(lambda: not [pid for pid, env in environments() if f"SIDE={site.project.side}".encode() in env])
    assert site.ok("sweep.yml").err.count("queued") == 0


def test_what_was_cancelled_while_it_was_held_stays_so_when_squeue_has_forgotten_it(project):
    farm = Slurm.up(settings={"MinJobAge": "2"})
    try:
        site = Site(project, farm)
        site.setup('{"hold": true}')
        site.sweep("note(n, attempt)")
        site.ok("sweep.yml")
        name = site.name(site.submissions()[0])
        farm.run("scancel", farm.says("squeue", "-h", f"--name={name}", "-o", "%F"))
        until(lambda: not farm.says("squeue", "-h", "-t", "all", f"--name={name}"))
        until(lambda: [run["note"] for run in site.told()] == ["its job was cancelled"] * 2)
        assert "runs  2: 2 cancelled  in " in site.ok("sweep.yml").err
    finally:
        farm.stop()


def touched(run: Path, hours: float) -> None:
    """As by a node whose clock is wrong, on a file system that takes the time from it, and that is not this machine."""
    owner = run / "attempts" / "1.0" / "owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "host": "elsewhere"}))
    os.utime(owner.with_name("heartbeat"), (time.time() + hours * 3600,) * 2)


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_clock_that_is_wrong_on_a_node_makes_nothing_lost_that_slurm_knows(site, hours):
    site.sweep(GO, "{n: 1}")
    site.ok("sweep.yml")
    site.noted("1 1")
    touched(site.run(), hours)
    assert site.states() == ["running"]
    assert "runs  1: 1 running  in " in site.ok("sweep.yml").err
    site.go()
    assert site.ended() == ["done"]
    assert site.notes() == ["1 1"]


def test_a_run_that_slurm_forgot_is_taken_up_once_though_the_clock_of_its_node_was_wrong(own):
    own.sweep("note(n, attempt)\nif attempt == '1': time.sleep(300)", "{n: 1}")
    own.ok("sweep.yml")
    own.noted("1 1")
    forget(own)
    touched(own.run(), 3)  # ahead: it seems to be heard of for three hours more, and is let be
    assert own.states() == ["running"]
    assert "runs  1: 1 running  in " in own.ok("sweep.yml").err
    touched(own.run(), -3)  # behind: it seems silent from the first minute on; that alone has lost nothing above
    assert own.states() == ["lost"]
    own.ok("sweep.yml")
    assert own.ended() == ["done"]
    assert own.notes() == ["1 1", "1 2"]
    assert attempts(own.run()) == {"1.0": "", "2.0": "done"}
