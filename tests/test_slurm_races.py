"""Two launches of one sweep at once, on a small Slurm that keeps a queue; more of them: farms/test_small_slurm.py."""

import os
import time
from pathlib import Path

import pytest
from commands import Commands, Project
from test_slurm_killed import run_all, slurm


@pytest.fixture(scope="module")
def other():
    """A second process that commands are forked from."""
    with Commands() as made:
        yield made


def at_once(project: Project, other: Commands, after_s: float, *argv: str, **env: str) -> list[int]:
    """The exit codes of a command and of the same one, begun so much later."""
    more = {"cwd": project.path, "env": {**project.env, **env}}
    project.commands.ask(*argv, **more)
    time.sleep(after_s)
    other.ask(*argv, **more)
    return [each.answer().code for each in (project.commands, other)]


def check_once(project: Project, other: Commands, home: Path, after_s: float) -> None:
    """Two launches make each run once, queue it and start it once."""
    slurm(home)
    project.write(".farmx.yaml", "FARM: big\nbig: {EXECUTOR: slurm}\n")
    env = {"PATH": f"{home}:{os.environ['PATH']}", "XDG_CACHE_HOME": "/dev/null"}
    assert at_once(project, other, after_s, "sweep.yml", **env) == [0, 0]
    project.ok("sweep.yml", **env)
    run_all(home, {**project.env, **env})
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
    assert len(project.starts()) == len(set(project.starts())) == 2
    assert project.ok("sweep.yml", **env).err.count(" queued") == 0


@pytest.mark.parametrize("after_s", [0, 0.05])
def test_two_launches_at_once_make_each_run_once_and_start_it_once(project: Project, other, tmp_path, after_s):
    check_once(project, other, tmp_path / "slurm", after_s)
