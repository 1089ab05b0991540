"""Several runs in one job of a real Slurm: PACK, from the command line to the last record."""

import json
import os
import signal
from pathlib import Path

import pytest
from launching import gone, until

from farms.site import Site, attempts

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
    until(lambda: site.states()[0] == "cancelled")
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


def test_each_slot_has_its_gpus(site):
    site.setup('{"mem": 400, "gpus": 2}')
    site.sweep(f"note(n, os.environ['CUDA_VISIBLE_DEVICES']); {GO}", "{n: [1, 2]}", pack(per_gpu=1))
    site.ok("sweep.yml")
    until(lambda: len(site.notes()) == 2)
    site.go()
    assert site.ended() == ["done", "done"]
    shares = sorted(line.split()[1] for line in site.notes())
    assert len(set(shares)) == 2 and all("," not in share for share in shares)


TELLS = """
def stop(*_):
    note('told', n, attempt)
    time.sleep(0.5)
    note('saved', n, attempt)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
note('began', n, attempt)
wait(os.environ['SIDE'] + '.go') if attempt == '1' and n != '3' else None
"""


def test_a_job_that_others_preempt_comes_back_and_each_program_was_told_once(site):
    site.setup('{"mem": 400, "partition": "low"}')
    site.sweep(TELLS, "{n: [1, 2, 3]}", pack(runs=2, each=3))
    site.ok("sweep.yml")
    site.noted("began 1 1", "began 2 1")
    asked = ["-p", "high", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 2"]
    others = site.slurm.run("sbatch", "--parsable", *asked)
    site.noted("saved 1 1", "saved 2 1")
    assert site.ended() == ["done"] * 3
    site.slurm.run("scancel", others.stdout.strip())
    lines = [f"{what} {n} 1" for n in "12" for what in ("began", "told", "saved")]
    assert sorted(site.notes()) == sorted([*lines, "began 1 2", "began 2 2", "began 3 1"])
    assert [attempts(site.named(run["run"])) for run in site.told()] == [
        {"1.0": "preempted", "1.1": "done"}, {"1.0": "preempted", "1.1": "done"}, {"1.1": "done"},
    ]  # fmt: skip


def test_a_job_whose_runner_is_killed_leaves_its_runs_to_the_next_launch(site):
    site.sweep(f"note('began', n, attempt, os.getpid()); {GO} if attempt == '1' else None",
               "{n: [1, 2, 3]}", pack(runs=2, each=3))  # fmt: skip
    site.ok("sweep.yml")
    until(lambda: len(site.notes()) == 2)
    owner = next(json.loads(path.read_text()) for path in site.project.experiment.glob("*/attempts/1.0/owner.json"))
    job = parent(owner["pid"])
    os.kill(job, signal.SIGKILL)
    until(lambda: not site.alive())
    for line in site.notes():
        gone(int(line.split()[3]))
    assert site.states()[2] == "lost"
    site.go()
    site.ok("retry", "sweep")
    assert site.ended() == ["done"] * 3


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_run_whose_runner_is_killed_failed_and_the_job_goes_on(site):
    site.sweep(f"note('began', n, attempt); {GO}", "{n: [1, 2, 3]}", pack(runs=2, each=3))
    site.ok("sweep.yml")
    site.noted("began 1 1", "began 2 1")
    run = site.named(site.told()[0]["run"])
    os.kill(json.loads((run / "attempts/1.0/owner.json").read_text())["pid"], signal.SIGKILL)
    site.noted("began 3 1")
    assert site.states() == ["failed", "running", "running"]
    site.go()
    assert site.ended() == ["failed", "done", "done"]
