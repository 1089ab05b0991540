"""A real Slurm that takes no more than so many jobs of a user: what fits is queued, and nothing is queued twice."""

import re

import pytest
from launching import until

from farms import fixtures
from farms.site import PYTHON, Site, attempts
from farms.slurm import Slurm

pytestmark = pytest.mark.farm

HELD = '{"hold": true}'


@pytest.fixture(scope="module")
def strict():
    """A Slurm that enforces limits."""
    fixtures.need(Slurm)
    farm = Slurm.up(settings={"AccountingStorageEnforce": "limits"})
    yield farm
    farm.stop()


@pytest.fixture
def site(strict, project):
    made = Site(project, strict)
    yield made
    made.end()
    allow(made, -1)


def allow(site: Site, most: int) -> None:
    """Let in so many jobs of ours, -1 for any number; returns once that counts, with a limit once none are in."""
    site.slurm.run("sacctmgr", "-i", "modify", "user", "root", "set", f"MaxSubmitJobs={most}")
    told = rf"MaxSubmitJobs={most}\(0\)" if most >= 0 else r"MaxSubmitJobs=(\(|\s)"
    ask = ["scontrol", "show", "assoc_mgr", "users=root", "accounts=root", "flags=assoc"]
    until(lambda: re.search(told, site.slurm.says(*ask).rpartition("UserName=root")[2]))


def release(site: Site) -> None:
    for submission in site.submissions():
        site.slurm.run("scontrol", "release", f"jobname={site.name(submission)}", check=False)


def test_what_a_limit_lets_in_is_queued_and_the_same_command_goes_on_until_all_have_run(site):
    allow(site, 5)
    site.setup(HELD)
    site.sweep("note(n, attempt)", "{n: " + str(list(range(12))) + "}")
    refused = site("sweep.yml")
    assert refused.code == 4
    assert refused.err.splitlines()[-2:] == [
        "      5 queued",
        "farmx: Slurm's limit of submitted jobs is reached (AssocMaxSubmitJobLimit): 7 of 12 runs are not queued; the "
        "same command goes on when some have ended",
    ]
    assert site.states() == ["queued"] * 5 + ["staged"] * 7
    assert len(site.alive()) == 5
    again = site("sweep.yml")
    assert (again.code, "      0 queued" in again.err) == (4, True)
    site.ok("cancel", site.told()[0]["run"], site.told()[4]["run"])
    until(lambda: len(site.alive()) == 3)
    assert site("sweep.yml").code == 4
    assert site.states() == ["cancelled"] + ["queued"] * 3 + ["cancelled"] + ["queued"] * 2 + ["staged"] * 5
    allow(site, -1)
    site.setup()
    site.ok("sweep.yml")
    release(site)
    assert site.ended() == [*["cancelled"], *["done"] * 3, *["cancelled"], *["done"] * 7]
    assert sorted(map(int, (line.split()[0] for line in site.notes()))) == [1, 2, 3, *range(5, 12)]
    assert {tuple(attempts(run)) for run in site.project.runs()} == {("1.0",)}


def test_a_later_stage_that_a_limit_keeps_out_is_queued_by_the_same_command_once_the_first_is_done(site):
    allow(site, 3)
    site.setup(HELD)
    site.sweep("note(sys.argv[1], n, attempt)", "{n: [1, 2]}")
    stages = f"{{train: '{PYTHON} job.py a {{n}}', test: {{cmd: '{PYTHON} job.py b {{n}}', RESOURCES: {{mem: 60}}}}}}"
    site.project.sweep("{n: [1, 2]}", stages)
    refused = site("sweep.yml")
    assert (refused.code, "      2 queued" in refused.err) == (4, True), refused.err
    assert "1 of 2 runs are not queued to their last stage" in refused.err
    assert sorted(site.alive()) == sorted(f"{site.name(each)} {index}" for each, index in zip(
        [*site.submissions()[:1], *site.submissions()], (0, 1, 0)
    ))  # fmt: skip
    site.setup()
    release(site)
    until(lambda: site.states() == ["done", "staged"])
    site.ok("sweep.yml")
    assert site.ended() == ["done"] * 2
    assert sorted(site.notes()) == ["a 1 1", "a 2 1", "b 1 2", "b 2 2"]
