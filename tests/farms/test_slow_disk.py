"""A file system on which every call takes a millisecond longer: all holds as on a fast one, and a run costs as many
calls however many there are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Project, hparams
from test_slurm_killed import slurm

from farms.fixtures import lack

pytestmark = pytest.mark.farm
CALLS = "%file,getdents64,fsync"
FARMX = str(Path(sys.executable).parent / "farmx")


@pytest.fixture(scope="module", autouse=True)
def strace():
    """Skipped, or failed where farms are required, where strace is not installed or may not trace."""
    tried = ["strace", "-o", "/dev/null", "true"]
    if not shutil.which("strace") or subprocess.run(tried, check=False, capture_output=True).returncode:
        lack("calls are made slow by strace, which is not installed or not allowed here")


class Slow:
    """Starts commands on the slow file system."""

    def __init__(self, project: Project, home: Path) -> None:
        self.project, self.home, self.count = project, home, 0
        self.env = {**os.environ, **project.env, "PATH": f"{home}:{os.environ['PATH']}", "XDG_CACHE_HOME": "/dev/null"}

    def begin(self, *argv: str, slow: bool = True, **env: str) -> tuple[subprocess.Popen, Path]:
        """The process and where its calls will be written."""
        self.count += 1
        log = self.home / f"calls.{self.count}"
        delay = ["-e", f"inject={CALLS}:delay_exit=1000"] if slow else []
        words = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", *delay, "-o", str(log)]
        made = subprocess.Popen([*words, *argv], env={**self.env, **env}, cwd=self.project.path, stderr=subprocess.PIPE,
                                stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)  # fmt: skip
        return made, log

    def calls(self, *argv: str, slow: bool = True, **env: str) -> int:
        """How many calls the command made; it must end well."""
        made, log = self.begin(*argv, slow=slow, **env)
        said = made.communicate()[1]
        assert made.returncode == 0, said
        return len(log.read_text().splitlines())

    def job(self, index: int) -> dict[str, str]:
        return {"SLURM_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": str(index)}

    def script(self, name: str) -> str:
        (script,) = (self.project.root / name / ".farmx" / "submissions").glob("*/script")
        return str(script)


@pytest.fixture
def slow(project, tmp_path):
    home = slurm(tmp_path / "slurm")
    (home / "scontrol").write_text("#!/bin/sh\necho 'MaxArraySize = 1001'\n")
    project.write(".farmx.yaml", "FARM: big\nbig: {EXECUTOR: slurm}\n")
    return Slow(project, home)


def test_what_a_run_costs_does_not_grow_with_their_number_and_an_attempt_begins_once(slow):
    launch, look, run = {}, {}, {}
    for size in (2, 8):
        slow.project.sweep(f"{{n: {list(range(size))}}}")
        launch[size] = slow.calls(FARMX, "sweep.yml", "--exp-name", f"of{size}", slow=size > 2)
        look[size] = slow.calls(FARMX, "status", f"of{size}", slow=size > 2)
        run[size] = slow.calls("bash", slow.script(f"of{size}"), slow=size > 2, **slow.job(size - 1))
    assert (launch[8] - launch[2]) / 6 <= 12
    assert (look[8] - look[2]) / 6 <= 20
    assert run[8] <= run[2] + 20
    twice = [slow.begin("bash", slow.script("of8"), **slow.job(0))[0] for _ in range(2)]
    assert [each.communicate() and each.returncode for each in twice] == [0, 0]
    told = slow.project.ok("status", "of8", "--json", PATH=slow.env["PATH"], XDG_CACHE_HOME="/dev/null").out
    states = {hparams(slow.project.root / "of8" / each["run"])["n"]: each["state"]
              for each in json.loads(told)["runs"]}  # fmt: skip
    assert (states[0], states[7]) == ("done", "done")
    assert len(slow.project.starts()) == len(set(slow.project.starts())) == 3
