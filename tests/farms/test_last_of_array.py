"""The last job of an array has the array's own number: what is asked for it on a real Slurm is asked for it alone."""

import json

import pytest

from farms.site import Site, attempts

pytestmark = pytest.mark.farm

N = 3  # runs of the array; the last is the one that has its number
WAITS = "wait(os.environ['SIDE'] + '.go')"
STOP = """
def stop(*_):
    note('told', n, attempt)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note('began', n, attempt)
"""


@pytest.fixture
def site(slurm, project):
    made = Site(project, slurm)
    made.setup('{"mem": 100}')
    return made


def launched(site: Site, program: str, more: str = "") -> str:
    """Queue N runs of the program and wait until all have begun; the array's number."""
    site.sweep(STOP + program, json.dumps({"n": list(range(1, N + 1))}), more)
    site.ok("sweep.yml")
    site.noted(*(f"began {n} 1" for n in range(1, N + 1)))
    return site.job().partition("_")[0]


def of_each(site: Site) -> list[dict[str, str]]:
    return [attempts(site.named(run["run"])) for run in site.told()]


def test_its_requeue_leaves_the_others_alone(site):
    program = f"sys.exit(1) if n == '{N}' and attempt == '1' else None\n{WAITS} if n != '{N}' else None\n"
    launched(site, program, "RETRY: {error: 1}\n")
    site.noted(f"began {N} 2")
    site.go()
    assert site.ended() == ["done"] * N
    assert of_each(site) == [{"1.0": "done"}] * (N - 1) + [{"1.0": "preempted", "1.1": "done"}]
    assert not [line for line in site.notes() if line.startswith("told")]


def test_a_run_that_has_ended_is_not_executed_again_because_the_last_is_requeued(site):
    program = f"sys.exit(7) if n == '1' else None\n{WAITS} if attempt == '1' else None\n"
    array = launched(site, program)
    site.slurm.run("scancel", "--batch", "--signal=USR2", f"{array}_{N - 1}")
    site.noted(f"told {N} 1", f"began {N} 2")
    site.go()
    assert site.ended() == ["failed", "done", "done"]
    assert of_each(site) == [{"1.0": "failed"}, {"1.0": "done"}, {"1.0": "preempted", "1.1": "done"}]


def test_its_end_is_not_judged_by_what_became_of_another(site):
    program = f"wait(os.environ['SIDE'] + '.last')\nsys.exit(1) if n == '{N}' else None\n{WAITS}\n"
    array = launched(site, program)
    site.slurm.run("scontrol", "requeue", f"{array}_0")
    site.noted("told 1 1")
    (site.project.side.parent / f"{site.project.side.name}.last").touch()
    site.noted("began 1 2")
    site.go()
    assert site.ended() == ["done", "done", "failed"]
    assert of_each(site)[-1] == {"1.0": "failed"}


def test_a_warning_to_one_run_of_several_tasks_ends_no_other(site):
    site.setup('{"mem": 100, "ntasks": 2}')
    site.sweep(STOP + WAITS + " if attempt == '1' else None\n", "{n: [1, 2]}")
    site.ok("sweep.yml")
    site.noted("began 1 1", "began 2 1")
    array = site.job().partition("_")[0]
    site.slurm.run("scancel", "--batch", "--signal=USR2", f"{array}_1")
    site.noted("told 2 1")
    site.go()
    assert site.ended() == ["done", "done"]
    assert of_each(site)[0] == {"1.0": "done"}
    assert "told 1 1" not in site.notes()
