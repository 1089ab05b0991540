"""Two users who share a LOGROOT by their group, and one who may only read it, on a Slurm that hides jobs of others."""

import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Done
from launching import PATIENCE_S, until

from farms import fixtures
from farms.daemons import send
from farms.farmer import PYTHON, library
from farms.gridengine import USER
from farms.slurm import Slurm

pytestmark = pytest.mark.farm
MATE, GUEST = "games", "nobody"  # Debian makes these
CONFIGURATION = "LOGROOT: ../root\nFARM: big\nbig: {{EXECUTOR: slurm, RESOURCES: {{mem: 50{more}}}}}\n"
PROGRAM = 'while [ ! -e "{go}" ]; do sleep 0.1; done; exit $(($2 == 3 && FARMX_ATTEMPT == 1))\n'


@dataclass(frozen=True)
class Lab:
    """What they share. home: of it all."""

    slurm: Slurm
    home: Path

    @property
    def go(self) -> Path:
        return self.home / "go"

    def project(self, user: str, more: str = "") -> Path:
        """A directory of that user with a sweep of three. more: resources."""
        path = self.home / user
        path.mkdir(exist_ok=True)
        (path / "job.sh").write_text(PROGRAM.format(go=self.go))
        (path / "sweep.yml").write_text("CMD: sh job.sh\nHPARAMS: {n: [1, 2, 3]}\n")
        (path / ".farmx.yaml").write_text(CONFIGURATION.format(more=more))
        shutil.chown(path, user)
        return path

    def __call__(self, user: str, *argv: str) -> Done:
        """farmx, typed by that user, whose files belong to the group of the lab."""
        group = pwd.getpwnam(GUEST if user == GUEST else USER).pw_gid
        home = str(self.home / f"home of {user}")
        env = {"PATH": "/usr/bin:/bin", "HOME": home, "PYTHONPATH": str(library(self.slurm)), **self.slurm.env()}
        done = subprocess.run(
            [PYTHON, "-m", "farmx", *argv], cwd=self.home / user, env=env, text=True, umask=0o002, user=user,
            group=group, extra_groups=[], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def told(self, user: str) -> list[tuple[str, str]]:
        """How the runs stand to that user, and why, by the value of n."""
        runs = {run["run"]: run for run in json.loads(self(user, "status", "sweep", "--json").out)["runs"]}
        return [(runs[name]["state"], runs[name]["note"]) for name in self.names()]

    def states(self, user: str = USER) -> list[str]:
        return [state for state, _ in self.told(user)]

    def names(self) -> list[str]:
        """The runs by the value of n."""
        records = [json.loads(path.read_text()) for path in (self.home / "root/sweep").glob("*/run.json")]
        return [record["run"] for record in sorted(records, key=lambda record: record["hparams"]["n"])]

    def jobs(self) -> list[str]:
        return sorted(self.slurm.says("squeue", "-h", "-r", "-o", "%u %T").splitlines())


@pytest.fixture
def lab() -> Iterator[Lab]:
    fixtures.need(Slurm)
    farm = Slurm.up(settings={"PrivateData": "jobs"})
    farm.folder.chmod(0o755)
    made = Lab(farm, farm.folder / "lab")
    made.home.mkdir()
    made.home.chmod(0o777)
    (made.home / "root").mkdir()
    shutil.chown(made.home / "root", USER, USER)
    (made.home / "root").chmod(0o2775)
    yield made
    farm.stop()


def test_what_one_user_launched_the_others_see_end_and_run_again_as_far_as_they_may(lab):
    root = lab.home / "root" / "sweep"
    hidden = f"only {USER} can ask for it"
    for user in (USER, MATE, GUEST):
        lab.project(user, ", hold: true")
    assert lab(USER, "sweep.yml").code == 0
    assert lab.states() == ["queued"] * 3
    assert lab.told(MATE) == lab.told(GUEST) == [("unknown", hidden)] * 3
    first, second, third = lab.names()
    assert f"unknown: {hidden}\n" in lab(GUEST, "why", first).out
    assert lab(MATE, "cancel", first) == Done(1, f"{first}  not cancelled: {hidden}\n", "")
    assert f"note  3 unknown: {hidden}; left alone" in lab(MATE, "sweep.yml").err
    assert lab(GUEST, "sweep.yml").line(3).endswith(".json: cannot be written: Permission denied")
    assert lab.jobs() == [f"{USER} PENDING"] * 3

    lab.slurm.run("scontrol", "release", lab.slurm.says("squeue", "-h", "-o", "%F"))
    until(lambda: lab.states() == ["running"] * 3)
    assert lab.states(MATE) == lab.states(GUEST) == ["running"] * 3
    denied = f"not cancelled: {root}/{first}/attempts/1.0/cancel: Permission denied"
    assert lab(GUEST, "cancel", first) == Done(1, f"{first}  {denied}\n", "")
    runner = json.loads((root / first / "attempts/1.0/owner.json").read_text())["pid"]
    os.kill(runner, signal.SIGSTOP)  # so that it does not look before Slurm ends it
    assert lab(MATE, "cancel", first) == Done(0, f"{first}  asked to end; its runner will see that: {hidden}\n", "")
    assert lab.jobs() == [f"{USER} RUNNING"] * 3
    assert lab(USER, "cancel", first) == Done(0, f"{first}  asked to end\n", "")
    send([runner], signal.SIGCONT)  # as Slurm did, which ends it
    until(lambda: lab.states(MATE) == ["cancelled", "running", "running"])
    lab.go.touch()
    until(lambda: lab.states(MATE) == ["cancelled", "done", "failed"])

    for user in (MATE, GUEST):
        assert lab(user, "logs", third).code == 0
    assert lab(GUEST, "retry", third).line(3) == f"{root}/{third}/run.json: cannot be written: Permission denied"
    lab.project(MATE)
    assert "runs  1 again, 0 left alone\n" in lab(MATE, "retry", third, "-r", "hold=false").err
    until(lambda: lab.states() == ["cancelled", "done", "done"])
    left = lab(GUEST, "clean", "sweep", "-y")
    assert left.code == 1
    assert sorted(left.err.splitlines()[-4:-1]) == sorted(
        f"left    {name} cannot be removed: Permission denied" for name in (first, second, third)
    )
    assert lab.states(GUEST) == ["cancelled", "done", "done"]
    assert "removed 3 of 3\n" in lab(MATE, "clean", "sweep", "-y").err
    assert lab.names() == []
