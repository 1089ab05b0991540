"""What people do to jobs with Slurm's own commands, and what farmx says of it."""

import os
import time

import pytest

from farms.site import Site, attempts
from farmx import records

pytestmark = pytest.mark.farm


@pytest.fixture
def site(slurm, project):
    made = Site(project, slurm)
    made.setup()
    return made


def test_what_runs_again_by_hand_is_never_told_to_have_failed_however_long_ago_that_was(site, tmp_path):
    site.sweep("note(n, attempt)\nif attempt == '1': sys.exit(3)\nwait(os.environ['SIDE'] + '.go')", "{n: [1]}")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]
    home = site.run() / "attempts"
    end = home / "1.0/end.json"
    record = end.read_text()
    ended = time.time() - records.SETTLED_S - 60
    end.write_text(record.replace(record.partition('"ended": ')[2].partition(",")[0], str(ended)))
    os.utime(home, (ended,) * 2)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for _ in range(2):
        assert "failed" in site.ok("status", "sweep", **cache).out
    site.slurm.run("scontrol", "requeue", site.job())
    site.noted("1 2")
    assert " running " in site.ok("status", "sweep", **cache).out
    site.go()
    assert site.ended() == ["done"]
    assert attempts(site.run()) == {"1.0": "failed", "1.1": "done"}
