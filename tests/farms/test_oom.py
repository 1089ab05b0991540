"""RETRY where the kernel ends what takes too much memory, in cgroups that Slurm makes for its jobs as clusters do."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from farms.fixtures import lack, need
from farms.site import Site, attempts
from farms.slurm import Slurm

pytestmark = pytest.mark.farm

CGROUPS = Path("/sys/fs/cgroup")
CONF = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainRAMSpace=yes\nMinRAMSpace=10\n"
SETTINGS = {
    "TaskPlugin": "task/cgroup",
    "ProctrackType": "proctrack/cgroup",
    "JobAcctGatherParams": "NoOverMemoryKill",  # or Slurm itself may come before the kernel
}
EAT = "import os; kept = [os.urandom(1 << 20) for _ in range(80)]"
CHILD = f"import subprocess; subprocess.run([sys.executable, '-c', {EAT!r}], check=True)"
WHO = {"the program": f"note(n, attempt)\n{EAT}", "a child of it": f"note(n, attempt)\n{CHILD}"}


class Bounded(Slurm):
    """Its jobs have cgroups."""

    def write(self, *args, **kwargs) -> None:
        super().write(*args, **kwargs)
        (self.folder / "cgroup.conf").write_text(CONF)

    def stop(self) -> None:
        super().stop()
        for node in self.nodes:
            for home in CGROUPS.glob(f"*/slurm_{node}"):
                for folder, _, _ in os.walk(home, topdown=False):
                    os.rmdir(folder)


@pytest.fixture(scope="module")
def bounded() -> Iterator[Slurm]:
    need(Slurm)
    if not os.access(CGROUPS / "memory" / "cgroup.procs", os.W_OK):
        lack("no memory cgroups of version 1 that root may make", required=False)
    farm = Bounded.up(settings=SETTINGS)
    yield farm
    farm.stop()


@pytest.fixture
def site(bounded, project):
    made = Site(project, bounded)
    made.setup('{"mem": "60M"}')
    yield made
    made.end()


@pytest.mark.parametrize(("who", "nodes"), [("the program", 1), ("a child of it", 1), ("the program", 2)])
def test_a_run_of_which_the_kernel_killed_something_gets_more_memory(site, who, nodes):
    site.sweep(WHO[who], "{n: 1}", f"RESOURCES: {{nodes: {nodes}}}\nRETRY: {{oom: x2, error: 0}}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]
    told = json.loads(site.ok("why", site.run().name, "--json").out)
    assert (told["cause"], told["why"].rpartition(": ")[2]) == ("memory", "its memory was used up")
    (tended,) = json.loads(site.ok("tend", "sweep", "--json").out)
    assert (tended["why"], tended["again"]) == ("oom, mem 120M", True)
    assert site.ended() == ["done"]
    assert site.notes() == ["1 1"] * nodes + ["1 2"] * nodes
    assert attempts(site.run()) == {"1.0": "failed", "2.0": "done"}
