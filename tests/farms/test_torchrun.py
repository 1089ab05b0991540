"""The sweep of torchrun that docs/slurm.md shows, with the real one, on two nodes of a real Slurm; where torch is.

Without torch, which is no part of any installation of ours, tests/farms/test_slurm_farm.py has a stand-in for it.
"""

import json
import re
import shlex
from pathlib import Path

import pytest
from launching import until

from farms.fixtures import lack
from farms.site import PYTHON, Site, attempts

pytestmark = pytest.mark.farm

DOCS = Path(__file__).resolve().parents[2] / "docs" / "slurm.md"
TORCHRUN = Path(PYTHON).with_name("torchrun")
RANKS = range(4)

TRAIN = """
import datetime, torch
import torch.distributed as dist
from farmx.logx import logx

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=100))
rank = dist.get_rank()
told = torch.zeros(())
def tell(*_):
    note("told", attempt, rank)
    told.fill_(1)
signal.signal(signal.SIGTERM, tell)

def any_told():
    answer = told.clone()
    dist.all_reduce(answer)
    return bool(answer)

logx.initialize()
kept = logx.resume()
first = kept["epoch"] + 1 if kept else 0
note("began", attempt, rank, "of", dist.get_world_size(), "with", os.environ["LOCAL_RANK"], "at", first)
for epoch in range(first, 4):
    total = torch.tensor(rank + 1.0)
    dist.all_reduce(total)
    logx.metric("val", {"sum": total}, epoch)
    logx.save_model({"state_dict": {"weight": torch.full((2,), epoch, dtype=torch.bfloat16)}}, total, epoch)
    while epoch == 1 and not any_told():
        time.sleep(0.1)
    if any_told():
        break
dist.barrier()
note("ended", attempt, rank, "after", epoch)
dist.destroy_process_group()
"""


def documented(launcher: str) -> str:
    """The CMD that docs/slurm.md shows, for two workers a node, with `launcher` in place of torchrun."""
    (words,) = re.findall(r"^CMD: torchrun (.*)$", DOCS.read_text(), re.MULTILINE)
    return f"{launcher} {words.replace('--nproc-per-node 8', '--nproc-per-node 2')}"


@pytest.fixture
def site(slurm, project):
    if not TORCHRUN.exists():
        lack("no torchrun beside python", required=False)
    made = Site(project, slurm)
    made.setup('{"nodes": 2, "cpus-per-task": 2, "mem": 3000, "partition": "low", "time": 10}')
    made.sweep(TRAIN)
    (project.path / "job.py").rename(project.path / "train.py")
    project.sweep("{n: 1}", documented(shlex.quote(str(TORCHRUN))))
    made.ok("sweep.yml")
    yield made
    made.end()


def began(attempt: int, first: int) -> set[str]:
    return {f"began {attempt} {rank} of 4 with {rank % 2} at {first}" for rank in RANKS}


def ended(attempt: int, epoch: int) -> set[str]:
    return {f"ended {attempt} {rank} after {epoch}" for rank in RANKS}


def told(attempt: int) -> set[str]:
    return {f"told {attempt} {rank}" for rank in RANKS}


def rows(site: Site, attempt: str) -> list[tuple]:
    path = site.run() / "attempts" / attempt / "metrics.jsonl"
    found = map(json.loads, path.read_text().splitlines() if path.exists() else [])
    return [(row["step"], row["metrics"]) for row in found if row["phase"] == "val"]


def summed(*epochs: int) -> list[tuple]:
    return [(epoch, {"sum": 10.0}) for epoch in epochs]


def test_a_cancel_reaches_all_ranks_and_only_one_has_logged(site):
    site.noted(*began(1, 0))
    until(lambda: rows(site, "1.0") == summed(0, 1))
    site.slurm.run("scancel", site.job())
    assert site.ended() == ["cancelled"]
    until(lambda: not site.alive())
    assert set(site.notes()) == began(1, 0) | told(1) | ended(1, 1)
    assert (attempts(site.run()), rows(site, "1.0")) == ({"1.0": "cancelled"}, summed(0, 1))


@pytest.mark.parametrize("cause", ["a time limit", "a preemption"])
def test_what_stops_a_run_reaches_all_ranks_and_they_go_on_together(site, cause):
    site.noted(*began(1, 0))
    until(lambda: rows(site, "1.0") == summed(0, 1))
    if cause == "a time limit":
        site.slurm.run("scancel", "--batch", "--signal=USR2", site.job())
    else:
        site.slurm.run("sbatch", "-p", "high", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "true")
    assert site.ended() == ["done"]
    assert set(site.notes()) == began(1, 0) | told(1) | ended(1, 1) | began(2, 2) | ended(2, 3)
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "done"}
    assert (rows(site, "1.0"), rows(site, "1.1")) == (summed(0, 1), summed(2, 3))
