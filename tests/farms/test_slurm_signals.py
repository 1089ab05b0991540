"""Jobs of a real Slurm that a signal ends before they can record it: what is told of them, and how long they ran."""

import json
import os
import signal

import pytest
from commands import read
from launching import until

from farms.site import attempts

pytestmark = pytest.mark.farm


FILLS = """
note(n, "began")
if n == "1":
    wait(os.environ["SIDE"] + ".go")
    filled = bytearray(os.urandom(1 << 20)) * 400
time.sleep(300)
"""
KILLED = "its job was killed (SIGKILL)"


def test_a_job_whose_shell_runner_or_memory_was_ended_is_told_as_killed_with_its_time(site):
    site.sweep(FILLS, "{n: [1, 2, 3]}")
    site.ok("sweep.yml")
    site.noted("1 began", "2 began", "3 began")
    memory, shell, runner = (site.named(run["run"]) for run in site.told())
    site.go()
    site.slurm.run("scancel", "--batch", "--signal=KILL", site.job(shell.name))
    os.kill(read(runner / "attempts/1.0/owner.json")["pid"], signal.SIGKILL)
    assert site.ended() == ["failed"] * 3
    assert [run["note"] for run in site.told()] == [KILLED] * 3
    assert [attempts(run) for run in (memory, shell, runner)] == [{"1.0": ""}] * 3
    for run in (memory, shell, runner):
        began = read(run / "attempts/1.0/owner.json")["started"]
        os.utime(run / "attempts/1.0/heartbeat", (began + 90, began + 90))
    assert [run["seconds"] for run in site.told()] == [90.0] * 3
    why = [json.loads(site.ok("why", run.name, "--json").out)["why"] for run in (memory, shell, runner)]
    assert why == [f"{KILLED}: its memory was used up", KILLED, KILLED]
    until(lambda: not site.alive())
    # Slurm remembers the jobs of other tests, too.
    ours = f"--jobs={','.join(site.job(run.name) for run in (memory, shell, runner))}"
    assert site.slurm.says("squeue", "-h", "-t", "F", ours, "-o", "%r").split() == ["JobLaunchFailure"] * 3
