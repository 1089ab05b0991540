"""Stages with resources of their own on a real Slurm: jobs that wait for one another, index by index."""

import json
import os
import shutil
from pathlib import Path

import pytest
from launching import until

from farms.site import PYTHON, Site, attempts

pytestmark = pytest.mark.farm

# A stage: what it is called and with which value; fails where `fail.STAGE.VALUE` is there, waits where `wait.STAGE` is.
PROGRAM = """
stage, n = sys.argv[1:3]
note(stage, n, attempt, os.environ.get('SLURM_CPUS_PER_TASK'))
side = os.environ['SIDE']
while os.path.exists(f'{side}.wait.{stage}'):
    time.sleep(0.05)
sys.exit(os.path.exists(f'{side}.fail.{stage}.{n}'))
"""


@pytest.fixture
def site(slurm, project):
    made = Site(project, slurm)
    made.setup('{"mem": 100}')
    return made


def staged(site: Site, hparams: str = "{n: [1, 2]}") -> None:
    """train and look as the run asks, test and score with two cpus."""
    site.sweep(PROGRAM)
    own = {"look": {}, "test": {"cpus-per-task": 2}, "score": {"cpus-per-task": 2}}
    stages = {"train": f"{PYTHON} job.py train {{n}}"}
    stages |= {name: {"cmd": f"{PYTHON} job.py {name} {{n}}", "RESOURCES": wants} for name, wants in own.items()}
    site.project.write("sweep.yml", f"CMD: {json.dumps(stages)}\nHPARAMS: {hparams}\n")


def mark(site: Site, what: str, there: bool = True) -> None:
    path = site.project.side.parent / f"{site.project.side.name}.{what}"
    path.touch() if there else path.unlink()


def told(site: Site) -> list[tuple[str, str]]:
    return [(run["state"], run["note"]) for run in site.told()]


def test_each_group_of_stages_is_a_job_and_begins_when_its_own_run_is_there(site):
    staged(site)
    mark(site, "wait.train")
    site.ok("sweep.yml")
    assert len(site.submissions()) == 2
    site.noted("train 1 1 1", "train 2 1 1")
    assert site.states() == ["running", "running"]
    mark(site, "wait.test")
    mark(site, "wait.train", there=False)
    site.noted("test 1 2 2", "test 2 2 2")
    assert site.states() == ["running", "running"]
    mark(site, "wait.test", there=False)
    assert site.ended() == ["done", "done"]
    wanted = ["train {} 1 1", "look {} 1 1", "test {} 2 2", "score {} 2 2"]
    for n in ("1", "2"):
        assert [line for line in site.notes() if line.split()[1] == n] == [line.format(n) for line in wanted]
    assert [attempts(run) for run in site.project.runs()] == [{"1.0": "done", "2.0": "done"}] * 2
    assert "runs  2: 2 done" in site("sweep.yml").err
    assert len(site.submissions()) == 2


def test_a_stage_that_fails_ends_what_waits_for_it_and_a_retry_goes_on_from_there(site):
    staged(site)
    mark(site, "fail.look.1")
    site.ok("sweep.yml")
    assert site.ended() == ["failed", "done"]
    until(lambda: not site.alive())
    assert [line for line in site.notes() if line.split()[1] == "1"] == ["train 1 1 1", "look 1 1 1"]
    mark(site, "fail.look.1", there=False)
    site.ok("retry", "sweep")
    assert site.ended() == ["done", "done"]
    assert [line for line in site.notes() if line.split()[1] == "1"][2:] == ["look 1 2 1", "test 1 3 2", "score 1 3 2"]
    assert [attempts(site.named(run["run"])) for run in site.told()] == [
        {"1.0": "failed", "3.0": "done", "4.0": "done"}, {"1.0": "done", "2.0": "done"},
    ]  # fmt: skip


def test_cancel_ends_the_stage_that_runs_and_all_that_wait(site):
    staged(site, "{n: [1]}")
    mark(site, "wait.train")
    site.ok("sweep.yml")
    site.noted("train 1 1 1")
    site.ok("cancel", "sweep")
    assert site.ended() == ["cancelled"]
    until(lambda: not site.alive())
    assert site.notes() == ["train 1 1 1"]


def test_a_stage_that_ends_well_before_its_job_sees_a_cancel_lets_no_later_one_begin(site):
    staged(site, "{n: [1]}")
    mark(site, "wait.train")
    site.ok("sweep.yml")
    site.noted("train 1 1 1")
    (site.run() / "attempts" / "1.0" / "cancel").touch()  # of another user, or Slurm did not answer
    mark(site, "wait.train", there=False)
    assert site.ended() == ["cancelled"]
    until(lambda: not site.alive())
    assert site.notes() == ["train 1 1 1"]


def test_a_first_stage_that_its_breaker_holds_is_let_go_and_the_later_ones_begin_behind_it(site):
    site.setup('{"mem": 100, "array_parallelism": 1}')
    site.sweep("note(*sys.argv[1:])\nif sys.argv[1] == 'train': raise KeyError('lr')")
    stages = {name: {"cmd": f"{PYTHON} job.py {name} {{n}}", "RESOURCES": {"nice": nice}}
              for name, nice in (("train", 0), ("test", 1))}  # fmt: skip
    site.project.write("sweep.yml", f"CMD: {json.dumps(stages)}\nHPARAMS: {{n: [1, 2, 3]}}\nBREAKER: 2\n")
    site.ok("sweep.yml")
    held = ("queued", "held: the first 2 runs failed with: KeyError: 'lr' (job.py:11)")
    until(lambda: told(site) == [("failed", "train exited with 1")] * 2 + [held])
    site.sweep("note(*sys.argv[1:])")
    site.project.write("sweep.yml", f"CMD: {json.dumps(stages)}\nHPARAMS: {{n: [1, 2, 3]}}\nBREAKER: 2\n")
    done = site.ok("retry", "sweep", "--release")
    assert "      1 let go\n" in done.err and "runs  2 again, 0 left alone\n" in done.err
    assert site.ended() == ["done"] * 3
    assert sorted(site.notes()) == sorted(f"{stage} {n}" for stage, n in (
        ("train", 1), ("train", 2), *((name, n) for name in stages for n in (1, 2, 3))))  # fmt: skip


def test_what_waits_for_a_stage_of_its_own_is_cancelled(site):
    staged(site, "{n: [1]}")
    mark(site, "wait.train")
    site.ok("sweep.yml")
    site.noted("train 1 1 1")
    site.slurm.run("scontrol", "hold", f"JobName={site.name(site.submissions()[1])}", check=False)
    job = site.slurm.says("squeue", "-h", f"--name={site.name(site.submissions()[1])}", "-o", "%F")
    site.slurm.run("scontrol", "hold", job)
    mark(site, "wait.train", there=False)
    until(lambda: site.states() == ["queued"])
    site.ok("cancel", "sweep")
    assert site.ended() == ["cancelled"]
    until(lambda: not site.alive())
    assert attempts(site.run()) == {"1.0": "done", "2.0": "cancelled"}


def test_what_was_queued_again_is_cancelled_by_its_own_number(site):
    staged(site, "{n: [1]}")
    mark(site, "fail.train.1")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]
    mark(site, "fail.train.1", there=False)
    site.ok("retry", "sweep", "-r", "hold=true")
    assert site.states() == ["queued"]
    assert site.ok("cancel", "sweep").out.endswith("  cancelled\n")
    assert site.ended() == ["cancelled"]
    until(lambda: not site.alive())
    assert attempts(site.run()) == {"1.0": "failed", "3.0": "cancelled"}


def refused_between_two_jobs(site: Site, home: Path) -> None:
    """Launch; Slurm takes the first job of each run alone."""
    real = shutil.which("sbatch")
    (home / "bin").mkdir()
    refuses = '*--dependency=*) echo "sbatch: error: no" >&2; exit 1 ;;'
    (home / "bin/sbatch").write_text(f'#!/bin/sh\ncase "$*" in {refuses} esac\nexec {real} "$@"\n')
    (home / "bin/sbatch").chmod(0o755)
    staged(site)
    done = site("sweep.yml", PATH=f"{home}/bin:{os.environ['PATH']}")
    assert (done.code, done.err.count("2 queued")) == (4, 1)


def test_while_the_first_jobs_are_there_the_same_command_queues_the_later_ones_behind_them(site, tmp_path):
    mark(site, "wait.train")
    refused_between_two_jobs(site, tmp_path)
    site.noted("train 1 1 1", "train 2 1 1")
    again = site.ok("sweep.yml").err
    assert again.count("2 jobs of a launch that was cut short are queued behind those that they wait for") == 1
    assert "cut short" not in site.ok("sweep.yml").err
    name = site.name(site.submissions()[1])
    asked = ["squeue", "-h", "-r", f"--name={name}", "-o", "%T %r"]
    until(lambda: site.slurm.says(*asked).splitlines() == ["PENDING Dependency"] * 2)
    mark(site, "wait.train", there=False)
    assert site.ended() == ["done", "done"]
    assert [attempts(run) for run in site.project.runs()] == [{"1.0": "done", "2.0": "done"}] * 2
    assert len(site.submissions()) == 2


def test_a_launch_that_the_farm_refuses_between_two_jobs_is_finished_by_the_same_command(site, tmp_path):
    refused_between_two_jobs(site, tmp_path)
    until(lambda: site.states() == ["staged", "staged"])
    assert {note for _, note in told(site)} == {"train, look done; test, score to come"}
    site.ok("sweep.yml")
    assert site.ended() == ["done", "done"]
    assert [line for line in site.notes() if line.split()[1] == "1"] == [
        "train 1 1 1", "look 1 1 1", "test 1 2 2", "score 1 2 2",
    ]  # fmt: skip


def test_a_stage_may_be_run_alone_and_the_rest_later(site):
    staged(site, "{n: [1]}")
    site.ok("sweep.yml", "--stage", "train,look")
    until(lambda: site.states() == ["staged"])
    assert len(site.submissions()) == 1
    site.ok("sweep.yml")
    assert site.ended() == ["done"]
    assert site.notes() == ["train 1 1 1", "look 1 1 1", "test 1 2 2", "score 1 2 2"]
