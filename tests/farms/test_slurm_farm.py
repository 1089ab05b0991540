"""Sweeps on a real Slurm, from the command line to the last record."""

import pytest

from farms.site import Site

pytestmark = pytest.mark.farm


@pytest.fixture
def site(slurm, project):
    made = Site(project, slurm)
    made.setup()
    return made


def test_a_sweep_is_queued_and_runs_to_its_end(site):
    site.sweep("note(n, attempt); sys.exit(n == '3')", "{n: [1, 2, 3]}")
    done = site.ok("sweep.yml")
    assert "farm  big (slurm)\n" in done.err and "      3 queued\n" in done.err
    assert site.ended() == ["done", "done", "failed"]
    assert sorted(site.notes()) == ["1 1", "2 1", "3 1"]
    assert site("sweep.yml").code == 0
    assert len(site.submissions()) == 1
