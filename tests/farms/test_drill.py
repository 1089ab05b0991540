"""farmx drill on a real Slurm: told, requeued, resumed; and what it says where that does not work."""

import json
import re

import pytest
from test_drill import TOLD, TORCH, TRAIN, lines

from farms.site import PYTHON, Site, attempts

pytestmark = pytest.mark.farm


@pytest.fixture
def site(slurm, project):
    made = Site(project, slurm)
    made.setup()
    made.project.write("torch.py", TORCH)
    return made


def test_a_run_is_told_requeued_and_goes_on(site):
    site.sweep(TRAIN.format(resume="logx.resume()"))
    done = site("drill", "sweep.yml")
    assert done.code == 0, done.out + done.err
    *shown, last = lines(done.out)
    assert shown == [
        TOLD,
        "ok       attempt 1.0 is recorded as preempted",
        "ok       it was queued again by its runner",
        "ok       attempt 1.1 began with FARMX_ATTEMPT=2",
    ]
    assert re.fullmatch(r"ok       its train metrics went on at step \d+, after \d+", last)
    assert site.states("sweep-drill") == ["cancelled"]


def test_of_stages_that_are_jobs_of_their_own_the_one_that_is_at_work_is_ended(site):
    site.sweep(TRAIN.format(resume="logx.resume()"))
    site.project.write("prepare.py", "print('prepared')\n")
    train = {"cmd": f"{PYTHON} job.py [n]", "RESOURCES": {"cpus_per_task": 2}}
    stages = {"prepare": f"{PYTHON} prepare.py", "train": train}
    site.project.write("sweep.yml", f"CMD: {json.dumps(stages)}\nHPARAMS: {{n: [1, 2]}}\n")
    done = site("drill", "sweep.yml")
    assert done.code == 0, done.out + done.err
    *shown, last = lines(done.out)
    assert shown == [
        TOLD,
        "ok       attempt 2.0 is recorded as preempted",
        "ok       it was queued again by its runner",
        "ok       attempt 2.1 began with FARMX_ATTEMPT=3",
    ]
    assert re.fullmatch(r"ok       its train metrics went on at step \d+, after \d+", last)
    (run,) = (site.project.root / "sweep-drill").glob("*/run.json")
    assert attempts(run.parent) == {"1.0": "done", "2.0": "preempted", "2.1": "cancelled"}


def test_a_farm_that_may_not_requeue_is_told(site):
    site.setup(more="MAX_REQUEUES: 0\n")
    site.sweep("time.sleep(300)")
    done = site("drill", "sweep.yml", "--after", "1")
    note = "it was told that its time is up, and it was requeued 0 times (MAX_REQUEUES)"
    assert done.code == 1
    first, second, third = lines(done.out)
    assert first == TOLD
    assert second == f"NOT ok   attempt 1.0 is recorded as failed, not preempted: {note}; see farmx why"
    assert third.startswith(f"NOT ok   it was not queued again: it is failed, {note}; see farmx why ")
