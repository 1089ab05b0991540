"""Two launches of one sweep at once, twenty times, on a real Slurm: each point is one run, each attempt begins once."""

import os
import time
from pathlib import Path

import pytest
from commands import Commands, runs
from launching import until

from farms.site import Site, attempts

pytestmark = pytest.mark.farm

TIMES = 20


@pytest.fixture
def site(slurm_plain, project):
    made = Site(project, slurm_plain)
    made.setup()
    return made


@pytest.fixture(scope="module")
def other():
    """A second process that commands are forked from."""
    with Commands() as made:
        yield made


def test_two_launches_of_a_sweep_at_once_make_each_run_once_and_start_it_once(site, other):
    more = {"cwd": site.project.path, "env": {**site.project.env, **site.slurm.env(), "XDG_CACHE_HOME": "/dev/null"}}
    names = [f"race{turn:02}" for turn in range(TIMES)]
    for turn, name in enumerate(names):
        argv = ("sweep.yml", "--exp-name", name)
        site.project.commands.ask(*argv, **more)
        time.sleep(turn * 0.02)  # so that the second is further behind each time
        other.ask(*argv, **more)
        assert [each.answer().code for each in (site.project.commands, other)] == [0, 0]
    homes = [site.project.root / name for name in names]
    until(lambda: all(ended(home) for home in homes))
    until(lambda: not site.slurm.says("squeue", "-h"))
    assert [[attempts(run) for run in runs(home)] for home in homes] == [[{"1.0": "done"}] * 2] * TIMES
    starts = site.project.starts()
    assert sorted(starts) == sorted(f"{home.name}/{run.name}/1.0" for home in homes for run in runs(home))


def ended(home: Path) -> bool:
    return all(os.path.exists(run / "attempts" / "1.0" / "end.json") for run in runs(home))
