"""Several runs in one job of a real Slurm: PACK, from the command line to the last record."""

import json

import pytest
from launching import until

from farms.site import LONG_S, Site, attempts

pytestmark = pytest.mark.farm

ROOM = '{"mem": 400}'  # Slurm counts what processes share for each of them
GO = "wait(os.environ['SIDE'] + '.go')"


@pytest.fixture
def site(slurm, project):
    made = Site(project, slurm)
    made.setup(ROOM)
    return made


@pytest.fixture
def plain(slurm_plain, project):
    made = Site(project, slurm_plain)
    made.setup(ROOM)
    return made


def pack(**told: int) -> str:
    return f"PACK: {json.dumps(told)}\n"


@pytest.mark.parametrize("which", ["site", "plain"])
def test_a_job_holds_several_runs_each_with_its_own_log_and_end(request, which):
    site = request.getfixturevalue(which)
    site.sweep("note(n, attempt, os.environ['SLURM_ARRAY_TASK_ID']); print('log of', n); sys.exit(n == '3')",
               "{n: [1, 2, 3, 4, 5]}", pack(runs=2, each=3))  # fmt: skip
    site.ok("sweep.yml")
    assert site.ended() == ["done", "done", "failed", "done", "done"]
    assert sorted(site.notes()) == ["1 1 0", "2 1 0", "3 1 0", "4 1 1", "5 1 1"]
    logs = sorted((run / "output.log").read_text() for run in site.project.runs())
    assert logs == [f"log of {n}\n" for n in (1, 2, 3, 4, 5)]


def test_what_waits_for_a_slot_says_so_and_begins_when_one_is_free(site):
    site.sweep(f"note('began', n); {GO} if n < '3' else None", "{n: [1, 2, 3]}", pack(runs=2, each=3))
    site.ok("sweep.yml")
    site.noted("began 1", "began 2")
    until(lambda: site.states() == ["running", "running", "queued"])
    assert site.told()[2]["note"] == "waits for a slot"
    site.go()
    assert site.ended() == ["done"] * 3


def test_cancel_ends_one_run_of_a_job_and_leaves_the_others(site):
    site.sweep(f"note('began', n); {GO}", "{n: [1, 2, 3, 4]}", pack(runs=2, each=4))
    site.ok("sweep.yml")
    site.noted("began 1", "began 2")
    names = [run["run"] for run in site.told()]
    site.ok("cancel", names[0], names[2])
    until(lambda: site.states()[0] == "cancelled", LONG_S)
    site.noted("began 4")
    assert site.states() == ["cancelled", "running", "cancelled", "running"]
    site.go()
    assert site.ended() == ["cancelled", "done", "cancelled", "done"]


def test_cancel_of_all_that_a_job_holds_ends_the_job(site):
    site.sweep(f"note('began', n); {GO}", "{n: [1, 2, 3]}", pack(runs=2, each=3))
    site.ok("sweep.yml")
    site.noted("began 1", "began 2")
    site.ok("cancel", "sweep")
    assert site.ended() == ["cancelled"] * 3
    until(lambda: not site.alive())
    assert sorted(site.notes()) == ["began 1", "began 2"]


def test_before_its_time_is_up_all_are_told_and_the_job_comes_back_once_for_those_that_are_left(site):
    program = f"""
def stop(*_):
    note('told', n, attempt)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note('began', n, attempt)
{GO} if n > '1' and attempt == '1' and n < '4' else None
"""
    site.sweep(program, "{n: [1, 2, 3, 4]}", pack(runs=2, each=4))
    site.ok("sweep.yml")
    site.noted("began 1 1", "began 2 1", "began 3 1")
    site.slurm.run("scancel", "--batch", "--signal=USR2", site.job())
    site.noted("told 2 1", "told 3 1")
    assert site.ended() == ["done"] * 4
    assert sorted(site.notes()) == sorted(["began 1 1", "began 2 1", "told 2 1", "began 2 2", "began 3 1", "told 3 1",
                                           "began 3 2", "began 4 1"])  # fmt: skip
    assert [attempts(site.named(run["run"])) for run in site.told()] == [
        {"1.0": "done"}, {"1.0": "preempted", "1.1": "done"}, {"1.0": "preempted", "1.1": "done"}, {"1.1": "done"},
    ]  # fmt: skip
