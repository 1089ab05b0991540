"""Walks on the small Slurm of tests/test_slurm_killed.py, too long for every `make test`; they need no daemon."""

import pytest
from commands import Commands, Project
from test_slurm_killed import check_killed
from test_slurm_races import check_once

pytestmark = pytest.mark.farm


@pytest.fixture(scope="module")
def other():
    """A second process that commands are forked from."""
    with Commands() as made:
        yield made


def test_killed_at_any_step_of_a_submission_the_same_command_queues_what_is_missing(project: Project, tmp_path):
    check_killed(project, tmp_path / "slurm", 0, 1)


@pytest.mark.parametrize("turn", range(20))
def test_two_launches_at_once_make_each_run_once_and_start_it_once(project: Project, other, tmp_path, turn):
    check_once(project, other, tmp_path / "slurm", turn * 0.01)
