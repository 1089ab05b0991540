"""Real schedulers keep the contract."""

import os
import pwd
import re
import shutil
from dataclasses import dataclass
from itertools import count

import pytest

from farms import farmer
from farms.gridengine import USER, GridEngine
from farmx.testing import PATIENCE_S, Done, FarmContract, Site

pytestmark = pytest.mark.farm
NUMBER = count()
LIVE = ("PENDING", "RUNNING", "COMPLETING")
GRID = r"^\s*(?P<id>\d+)\s+\S+\s+(?P<name>\S+)\s+\S+\s+(?P<state>\S+)"


class TestSlurm(FarmContract):
    @pytest.fixture
    def site(self, slurm, tmp_path):
        section = {"EXECUTOR": "slurm", "RESOURCES": {"cpus-per-task": 4, "mem": 50}}

        def exits(job: str) -> set[str]:
            told = slurm.says("sacct", "-X", "-n", "-P", f"--jobs={job}", "-o", "State,ExitCode").split()
            ended = [line.partition("|")[2].removesuffix(":0") for line in told if not line.startswith(LIVE)]
            return set(ended) if len(ended) == len(told) else set()

        return Site(tmp_path / "site", section, "sbatch", "squeue", "scancel", 2, slurm.env(), exits,
                    refused={"partition": "nowhere"}, other={"mem": 60})  # fmt: skip


@dataclass
class Farmers(Site):
    """Everything as the ordinary user."""

    farm: GridEngine | None = None

    def write(self, name: str, text: str) -> None:
        super().write(name, text)
        for path in (self.path, self.project, self.project / name):
            shutil.chown(path, USER, pwd.getpwnam(USER).pw_gid)

    def run(self, *argv: str) -> Done:
        made = farmer.Farmer(self.farm, self.project)
        process = made.behind(*argv, **{key: self.env()[key] for key in ("PATH", "XDG_CACHE_HOME")})
        out, err = process.communicate(timeout=PATIENCE_S)
        return Done(process.returncode, out, err)


class TestGridEngine(FarmContract):
    @pytest.fixture
    def site(self, gridengine):
        path = gridengine.home / f"contract.{os.getpid()}.{next(NUMBER)}"
        section = {"SUBMIT_CMD": "qsub -terse -notify -N {name} -o {log} -j y {script}", "STATUS_CMD": "qstat",
                   "STATUS_LINE": GRID, "CANCEL_CMD": "qdel {ids}"}  # fmt: skip

        def exits(job: str) -> set[str]:
            return set(re.findall(r"^exit_status +(\d+)", gridengine.says("qacct", "-j", job), re.MULTILINE))

        return Farmers(path, section, "qsub", "qstat", "qdel", 4, exits=exits, refused={"dust": 1},
                       farm=gridengine)  # fmt: skip
