"""The farms, for the tests of the farms themselves."""

import pytest

from farms.fixtures import (
    gridengine,
    gridengine_of_session,
    slurm,
    slurm_of_session,
    slurm_plain,
    slurm_plain_of_session,
)
from farms.site import Site

__all__ = ["gridengine", "gridengine_of_session", "slurm", "slurm_of_session", "slurm_plain", "slurm_plain_of_session"]

LONGEST_S = 300  # of a test: the first one of a worker also brings its farm up


@pytest.fixture
def site(slurm, project):
    """A project whose farm is the session's Slurm."""
    made = Site(project, slurm)
    made.setup()
    yield made
    made.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("farm"):
            item.add_marker(pytest.mark.timeout(LONGEST_S))
