"""A launch on Slurm killed around the submission, with a small Slurm that keeps a queue; what it queued and refused.

Killed at every eighth of its steps, other ones each day; tests/farms/test_small_slurm.py has all of them.
"""

import os
import shutil
import subprocess
from pathlib import Path

from commands import Project, read
from faults import EVERY, KILL, Fault, part
from schedulers import HELP

SBATCH = """#!/bin/sh
case "$*" in *--help*) cat {home}/help; exit;; *--tiem*) echo "sbatch: unrecognized option '--tiem'" >&2; exit 1;;
*--test-only*) exit;; esac
id=$(($(wc -l <{home}/queue) + 1))
for word; do case $word in --job-name=*) name=${{word#--job-name=}};; esac; done
echo "$id $name $word" >>{home}/queue
echo $id
"""
# The farm of the sweep below has arrays of one run: two submissions.
SQUEUE = """#!/bin/sh
while read -r id name script; do
  case "$*" in *%K*) echo "0|PENDING|Priority|$name";; *%F*) echo $id;; esac
done <{home}/queue
"""


def slurm(home: Path) -> Path:
    """A Slurm in which all waits."""
    home.mkdir()
    (home / "help").write_text(HELP)
    (home / "queue").touch()
    answers = {"sbatch": SBATCH, "squeue": SQUEUE, "sacct": "#!/bin/sh\nexit 1\n",
               "scontrol": "#!/bin/sh\necho 'MaxArraySize = 1'\n"}  # fmt: skip
    for name, text in answers.items():
        (home / name).write_text(text.format(home=home))
        (home / name).chmod(0o755)
    return home


def run_all(home: Path, env: dict[str, str]) -> None:
    """What Slurm does with its queue, some day."""
    for line in (home / "queue").read_text().splitlines():
        number, _, script = line.split(" ", 2)
        told = {**os.environ, **env, "SLURM_JOB_ID": number, "SLURM_ARRAY_TASK_ID": "0"}
        subprocess.run(["bash", script], env=told, check=True, capture_output=True, cwd=os.path.dirname(script))


def check_killed(project: Project, home: Path, first: int, stride: int) -> None:
    """Killed at step `first`, from 0, and each `stride` later: the same command queues what is missing, none twice."""
    slurm(home)
    project.write(".farmx.yaml", "FARM: big\nbig: {EXECUTOR: slurm}\n")
    env = {"PATH": f"{home}:{os.environ['PATH']}", "XDG_CACHE_HOME": "/dev/null"}
    step, double = first + 1, 0
    while True:
        shutil.rmtree(project.root, ignore_errors=True)
        project.side.unlink(missing_ok=True)
        (home / "queue").write_text("")
        done = project("sweep.yml", fault=Fault(f"{project.root}/sweep/.farmx/submissions", step, KILL), **env)
        if done.steps < step:
            break
        assert done.code == -9, (step, done)
        project.ok("sweep.yml", **env)
        project.ok("sweep.yml", **env)
        queued = (home / "queue").read_text().count("\n")
        assert queued >= 2, step
        double += queued > 2
        run_all(home, {**project.env, **env})
        assert project.again() == {(1, 1): "done", (2, 1): "done"}
        assert len(project.starts()) == len(set(project.starts())) == 2
        step += stride
    assert step > 8
    assert double == 0  # what was queued was found, whether or not that was recorded


def test_killed_at_a_step_of_a_submission_the_same_command_queues_what_is_missing(project: Project, tmp_path):
    check_killed(project, tmp_path / "slurm", *((0, 8) if EVERY else part(8)))


def test_what_waits_for_deleted_runs_does_not_begin_those_that_got_their_names(project: Project, tmp_path):
    home = slurm(tmp_path / "slurm")
    project.write(".farmx.yaml", "FARM: big\nbig: {EXECUTOR: slurm}\n")
    env = {"PATH": f"{home}:{os.environ['PATH']}", "XDG_CACHE_HOME": "/dev/null"}
    project.ok("sweep.yml", "--no-cooldir", **env)
    before = sorted(run.name for run in project.runs())
    submissions = project.experiment / ".farmx/submissions"
    old = {path.name for path in submissions.iterdir()}
    for run in project.runs():
        shutil.rmtree(run)
    project.sweep("{n: [2, 3]}")  # n=2 once more, by the name that n=1 had
    project.ok("sweep.yml", "--no-cooldir", **env)
    assert sorted(run.name for run in project.runs()) == before
    new = {path.name for path in submissions.iterdir()} - old
    run_all(home, {**project.env, **env})
    assert {read(run / "attempts/1.0/owner.json")["submission"] for run in project.runs()} == new
    assert project.again() == {(2, 2): "done", (3, 1): "done"}


def test_what_slurm_had_no_room_for_goes_back_to_it_and_never_runs_here(project: Project, tmp_path):
    home = slurm(tmp_path / "slurm")
    full = "*) echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1;; esac\n"
    (home / "sbatch").write_text(SBATCH.format(home=home).replace("esac\n", full, 1))
    project.write(".farmx.yaml", "big: {EXECUTOR: slurm}\n")
    env = {"PATH": f"{home}:{os.environ['PATH']}", "XDG_CACHE_HOME": "/dev/null"}
    told = "farmx: Slurm's limit of submitted jobs is reached (QOSMaxSubmitJobPerUserLimit): 2 of 2 runs are not queued"
    for words in (["sweep.yml", "--farm", "big"], ["retry", "sweep", "--state", "staged"]):
        done = project(*words, **env)
        assert (done.code, done.err.splitlines()[-1]) == (4, f"{told}; the same command goes on when some have ended")
    assert (project.starts(), [*project.states().values()]) == ([], ["staged", "staged"])
    (home / "sbatch").write_text(SBATCH.format(home=home))
    project.ok("retry", "sweep", "--state", "staged", **env)
    run_all(home, {**project.env, **env})
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
