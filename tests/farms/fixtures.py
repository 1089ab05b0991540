"""Fixtures for tests on real schedulers; a session, which is each worker of pytest-xdist, has its own.

Where one is not installed the test is skipped and says why, unless FARMX_FARMS=required: then it fails.
"""

import os
from collections.abc import Iterator

import pytest

from farms.daemons import Farm, FarmError, need_root_and
from farms.gridengine import GridEngine
from farms.slurm import Slurm

REQUIRED = os.environ.get("FARMX_FARMS") == "required"  # now: tests run without any variable of farmx
PLAIN_MAX_ARRAY = 101


def need(kind: type[Farm], required: bool = REQUIRED) -> None:
    """Skip the test, or fail it when all farms are required, where this kind cannot be brought up."""
    try:
        need_root_and(kind.commands)
    except FarmError as error:
        (pytest.fail if required else pytest.skip)(str(error))


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Slurm with accounting."""
    need(Slurm)
    farm = Slurm.up()
    yield farm
    farm.stop()


@pytest.fixture(scope="session")
def slurm_plain() -> Iterator[Slurm]:
    """Slurm without accounting, and with short arrays."""
    need(Slurm)
    farm = Slurm.up(accounting=False, max_array=PLAIN_MAX_ARRAY)
    yield farm
    farm.stop()


@pytest.fixture(scope="session")
def gridengine() -> Iterator[GridEngine]:
    need(GridEngine)
    farm = GridEngine.up()
    yield farm
    farm.stop()
