"""A Slurm that gives the number of a job that it has forgotten to another job, of somebody else."""

import os
import signal
import time

import pytest
from launching import until

from farms import fixtures
from farms.daemons import send
from farms.site import Site
from farms.slurm import Slurm

pytestmark = pytest.mark.farm

PROGRAM = """note(n, "began")
while n == "1":
    time.sleep(1)
wait(os.environ["SIDE"] + ".go")
raise KeyError("lr")
"""
# n=1 has an array of its own; of the others only one runs at a time.
ARRAYS = "[{n: 1, SUBMIT_JOB.PARTITION: main}, {n: [2, 3, 4], SUBMIT_JOB.PARTITION: low}]"
UNTOUCHED = "PENDING JobHeldUser"  # hold would make it JobHeldAdmin, release let it run, scancel end it


@pytest.fixture
def site(project):
    fixtures.need(Slurm)
    farm = Slurm.up(accounting=False, settings={"MinJobAge": "1", "MaxJobId": "16"})
    made = Site(project, farm)
    made.setup('{"array_parallelism": 1}')
    yield made
    farm.stop()


def stranger(site: Site, number: str) -> None:
    """Have another job get this number, which Slurm has forgotten: it goes round, and each try uses one up."""
    asked = ["-H", "--array=0", "--mem=50", "-J", "stranger", "-o", "/dev/null", "--wrap", "true"]
    before = f" Job {int(number) - 1} to start "
    until(lambda: before in site.slurm.run("sbatch", "--test-only", *asked).stderr)
    assert site.slurm.says("sbatch", "--parsable", *asked) == number


def kill(site: Site, job: str) -> None:
    """End what a job runs, its runner too, so that nobody writes down how it ended."""
    send(site.slurm.with_variable(f"SLURM_ARRAY_JOB_ID={job}"), signal.SIGKILL)


def test_a_job_that_has_the_number_of_one_of_ours_is_not_asked_for_held_let_go_or_cancelled(site):
    site.sweep(PROGRAM, ARRAYS, "BREAKER: 1\n")
    site.ok("sweep.yml")
    site.noted("1 began", "2 began")
    run = site.told()[0]["run"]
    number = site.job(run).partition("_")[0]
    assert (site.submissions()[0] / "queued").read_text() == f"0-0 {number}\n"
    kill(site, number)
    until(lambda: not site.slurm.says("squeue", "-h", "-t", "all", "-j", number))
    stranger(site, number)

    def held() -> str:
        return site.slurm.says("squeue", "-h", "-t", "all", "--name=stranger", "-j", number, "-o", "%T %r")

    assert held() == UNTOUCHED
    beat = site.named(run) / "attempts" / "1.0" / "heartbeat"
    os.utime(beat)
    assert site.states() == ["running", "running", "queued", "queued"]  # it was heard of a moment ago
    os.utime(beat, (time.time() - 400,) * 2)
    assert site.states() == ["lost", "running", "queued", "queued"]
    os.utime(beat)
    site.ok("cancel", run)
    assert held() == UNTOUCHED
    site.go()
    why = "held: the first run failed with: KeyError: 'lr' (job.py:14)"
    until(lambda: [each["note"] for each in site.told()][2:] == [why] * 2)
    (log,) = site.submissions()[1].glob("0.log")
    until(lambda: log.read_text().endswith(f" 1.0 holds the rest: {why.removeprefix('held: ')}\n"))
    assert held() == UNTOUCHED
    site.sweep("note(n, 'mended')", ARRAYS, "BREAKER: 1\n")
    assert "      2 let go\n" in site.ok("retry", "--release", "sweep").err
    site.noted("3 mended", "4 mended")
    assert held() == UNTOUCHED
