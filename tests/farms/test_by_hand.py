"""What people do to jobs with Slurm's own commands, and what farmx says of it."""

import json
import os
import time

import pytest
from launching import until

from farms.site import PYTHON, attempts
from farmx import records

pytestmark = pytest.mark.farm


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
    until(lambda: not site.alive())
    site.slurm.run("scontrol", "requeue", site.job())
    site.noted("1 2")
    assert " running " in site.ok("status", "sweep", **cache).out
    site.go()
    assert site.ended() == ["done"]
    assert attempts(site.run()) == {"1.0": "failed", "1.1": "done"}


def test_a_later_job_that_slurm_keeps_is_not_what_a_run_waits_for_whose_first_stage_was_run_alone(site):
    site.sweep("note(*sys.argv[1:])")
    stages = {name: {"cmd": f"{PYTHON} job.py {name} {{n}}", "RESOURCES": {"nice": nice, "hold": True}}
              for name, nice in (("train", 0), ("test", 1))}  # fmt: skip
    site.project.write("sweep.yml", f"CMD: {json.dumps(stages)}\nHPARAMS: {{n: [1]}}\n")
    site.ok("sweep.yml")
    assert site.states() == ["queued"]
    first, later = map(site.name, site.submissions())
    site.slurm.run("scancel", f"--name={first}")
    until(lambda: site.states() == ["cancelled"])
    assert site.alive() == [f"{later} 0"]
    site.ok("retry", "sweep", "--stage", "train", "-r", "hold=false")
    site.noted("train 1")
    told = ["staged", "train done; test to come"]
    until(lambda: [[run["state"], run["note"]] for run in site.told()] == [told])
    until(lambda: site.alive() == [f"{later} 0"])  # the job that ran has told its end before Slurm is through with it
    site.ok("sweep.yml")
    assert site.states() == ["queued"]
    site.slurm.run("scontrol", "release", *site.slurm.says("squeue", "-h", "-o", "%F").split())
    assert site.ended() == ["done"]
    assert site.notes() == ["train 1", "test 1"]
