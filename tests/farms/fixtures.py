"""Fixtures for tests on real schedulers; a session, which is each worker of pytest-xdist, has its own, and each test
has all of it: what a test leaves in one is ended before the next.

Where one, or a client, is not installed the test is skipped and says why, unless FARMX_FARMS=required: then it fails.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from farms.daemons import Farm, FarmError, need_root_and
from farms.gridengine import GridEngine
from farms.slurm import Slurm

REQUIRED = os.environ.get("FARMX_FARMS") == "required"  # now: tests run without any variable of farmx
PLAIN_MAX_ARRAY = 101
CLIENTS = Path(__file__).resolve().parents[2] / ".venv-farms"


def need(kind: type[Farm], required: bool = REQUIRED) -> None:
    """Skip the test, or fail it when all farms are required, where this kind cannot be brought up."""
    try:
        need_root_and(kind.commands)
    except FarmError as error:
        lack(str(error), required)


def lack(why: str, required: bool = REQUIRED) -> NoReturn:
    """Skip the test, or fail it when all farms are required: something that it needs is not here."""
    (pytest.fail if required else pytest.skip)(why)


def client(name: str, clients: Path = CLIENTS, required: bool = REQUIRED) -> Path:
    """The program of that name among the clients of schedulers; skip the test, or fail it, where they are not."""
    path = clients / "bin" / name
    if not path.exists():
        lack(f"no {name} in {clients.name}; make test-farms installs it", required)
    return path


@pytest.fixture(scope="session")
def slurm_of_session() -> Iterator[Slurm]:
    need(Slurm)
    farm = Slurm.up()
    yield farm
    farm.stop()


@pytest.fixture(scope="session")
def slurm_plain_of_session() -> Iterator[Slurm]:
    need(Slurm)
    farm = Slurm.up(accounting=False, max_array=PLAIN_MAX_ARRAY)
    yield farm
    farm.stop()


@pytest.fixture(scope="session")
def gridengine_of_session() -> Iterator[GridEngine]:
    need(GridEngine)
    farm = GridEngine.up()
    yield farm
    farm.stop()


@pytest.fixture
def slurm(slurm_of_session: Slurm) -> Iterator[Slurm]:
    """Slurm with accounting."""
    yield slurm_of_session
    slurm_of_session.empty()


@pytest.fixture
def slurm_plain(slurm_plain_of_session: Slurm) -> Iterator[Slurm]:
    """Slurm without accounting, and with short arrays."""
    yield slurm_plain_of_session
    slurm_plain_of_session.empty()


@pytest.fixture
def gridengine(gridengine_of_session: GridEngine) -> Iterator[GridEngine]:
    yield gridengine_of_session
    gridengine_of_session.empty()
