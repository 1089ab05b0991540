"""What becomes of a launch on a real Slurm is written down by its runners, once, and sent by whoever has a route."""

import json
import os

import pytest
from commands import Project
from launching import until

from farms.site import Site

pytestmark = pytest.mark.farm


@pytest.fixture
def site(slurm, project, post):
    made = Site(project, slurm)
    made.setup(more="NOTIFY: file://$TOLD\n")
    return made


@pytest.fixture
def near(site, posting):
    """The same project from a machine that has apprise."""
    return Site(Project(site.project.path, posting), site.slurm)


def events(site: Site) -> list[str]:
    home = site.project.experiment / ".farmx" / "outbox"
    return sorted(name.split(".")[-2] for name in os.listdir(home) if name.endswith(".json"))


def test_the_last_run_writes_the_end_down_and_another_machine_sends_it_once(site, near, post):
    site.sweep("note(n)", "{n: [1, 2, 3, 4, 5, 6]}")
    done = site.ok("sweep.yml")
    assert "NOTIFY" not in done.err
    assert site.ended() == ["done"] * 6
    assert until(lambda: events(site)) == ["ended"]
    assert "1 message kept" in site.ok("tend").err
    assert near.ok("notify", "--flush").err == "      1 sent\n"
    near.ok("tend")
    near.ok("sweep.yml")
    assert post.told() == ["sweep: 6 done|sumx sweep"]


def test_a_failure_and_a_held_rest_are_written_down_by_runners(site, near, post):
    site.sweep("raise ValueError('broken')", "{n: [1, 2, 3, 4]}", "BREAKER: 2\nRESOURCES: {array_parallelism: 1}\n")
    site.ok("sweep.yml")
    until(lambda: events(site) == ["failed", "held"])
    near.ok("tend")
    assert sorted(line.partition("|")[0].split()[-1] for line in post.told()) == ["failed", "held"]


def test_runs_that_were_cancelled_while_they_waited_end_a_launch_too(site, near, post):
    site.sweep("note(n)", "{n: [1, 2]}", "RESOURCES: {hold: true}\n")
    site.ok("sweep.yml")
    near.ok("notify", "--flush")
    assert post.told() == []
    site.ok("cancel", "sweep")
    near.ok("notify", "--flush")
    assert post.told() == ["sweep: 2 cancelled|sumx sweep|farmx retry sweep"]


def test_slurm_in_notify_is_slurms_own_mail(site):
    site.setup(more="NOTIFY: slurm\n")
    site.sweep("note(n)", "{n: [1]}", "RESOURCES: {mail_user: me@example.org}\n")
    site.ok("sweep.yml")
    assert json.loads((site.submissions()[0] / "job.json").read_text())["resources"]["mail_type"] == "END,FAIL"
    lines = (site.submissions()[0] / "script").read_text().splitlines()
    assert {"#SBATCH --mail-type=END,FAIL", "#SBATCH --mail-user=me@example.org"} <= set(lines)
    assert site.ended() == ["done"]
