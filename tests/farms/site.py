"""A project whose farm is a real Slurm, for tests through the command line: sweeps go there, facts come back."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from commands import Done, Project, hparams, read
from launching import PATIENCE_S, until

from farms.slurm import Slurm

ENDED = ("done", "failed", "cancelled", "interrupted", "lost")
PYTHON = sys.executable


@dataclass(frozen=True)
class Site:
    """A project on a Slurm. Its program is `job.py`, or whatever the sweep says."""

    project: Project
    slurm: Slurm

    def setup(self, resources: str = "{}", more: str = "") -> None:
        """Write .farmx.yaml: the farm and what a run asks of it; a run takes little of a node."""
        wanted = {"mem": 50, "cpus-per-task": 1, **json_of(resources)}
        farm = f"big:\n  EXECUTOR: slurm\n  RESOURCES: {json.dumps(wanted)}\n"
        self.project.write(".farmx.yaml", f"FARM: big\n{farm}{more}")

    def sweep(self, program: str, hparams: str = "{n: [1, 2]}", more: str = "") -> None:
        """A sweep of a Python program; `note(text)` in it appends a line to a file outside LOGROOT."""
        self.project.write("job.py", PREAMBLE + program)
        self.project.sweep(hparams, f"{PYTHON} job.py", more)

    def end(self) -> None:
        """End every job of this Slurm, so that the next test has all of it."""
        self.slurm.empty()

    def __call__(self, *argv: str, **more: object) -> Done:
        return self.project(*argv, **{"SLURM_CONF": str(self.slurm.conf), "XDG_CACHE_HOME": "/dev/null", **more})

    def ok(self, *argv: str, **more: object) -> Done:
        """The command must end well."""
        done = self(*argv, **more)
        assert done.code == 0, done.err + done.out
        return done

    # ------------------------------------------------------------ facts

    def told(self, name: str = "sweep") -> list[dict]:
        """What status says of each run, by the value of n where there is one."""
        runs = json.loads(self.ok("status", name, "--json").out)["runs"]
        home = self.project.root / name
        return sorted(runs, key=lambda run: hparams(home / run["run"]).get("n", run["run"]))

    def states(self, name: str = "sweep") -> list[str]:
        return [run["state"] for run in self.told(name)]

    def ended(self, name: str = "sweep", seconds: float = PATIENCE_S) -> list[str]:
        """The states once every run has ended."""
        return until(lambda: now if set(now := self.states(name)) <= set(ENDED) else None, seconds)

    def notes(self) -> list[str]:
        """What programs noted, in order."""
        side = self.project.side
        return side.read_text().splitlines() if side.exists() else []

    def noted(self, *lines: str, seconds: float = PATIENCE_S) -> None:
        """Wait until programs noted all of these."""
        until(lambda: set(lines) <= set(self.notes()), seconds)

    def run(self, place: int = 0) -> Path:
        return self.project.runs()[place]

    def named(self, name: str) -> Path:
        return self.project.experiment / name

    def submissions(self) -> list[Path]:
        return sorted((self.project.experiment / ".farmx" / "submissions").iterdir())

    def name(self, submission: Path) -> str:
        """What Slurm calls the job of a submission."""
        return read(submission / "job.json")["name"]

    def alive(self) -> list[str]:
        """The jobs of this project that wait or run: 'name index' each."""
        names = ",".join(map(self.name, self.submissions()))
        return self.slurm.says("squeue", "-h", "-r", f"--name={names}", "-o", "%j %K").splitlines()

    def job(self, run: str | None = None) -> str:
        """The job that was queued last for a run, as scancel takes it; without a run for the only one there is."""
        for submission in reversed(self.submissions()):
            runs = [line.partition(" ")[2] for line in (submission / "runs").read_text().splitlines()]
            if run is None or run in runs:
                array = self.slurm.says("squeue", "-h", "-t", "all", f"--name={self.name(submission)}", "-o", "%F")
                return f"{array.split()[0]}_{runs.index(run) if run else 0}"
        raise AssertionError(run)

    def go(self) -> None:
        """Let the programs that wait for it go on."""
        Path(f"{self.project.side}.go").touch()


PREAMBLE = """
import os, signal, sys, time
def note(*words):
    with open(os.environ["SIDE"], "a") as side:
        side.write(" ".join(map(str, words)) + "\\n")
def wait(path):
    while not os.path.exists(path):
        time.sleep(0.05)
n, attempt = sys.argv[-1], os.environ["FARMX_ATTEMPT"]
"""


def json_of(text: str) -> dict:
    return json.loads(text)


def attempts(run: Path) -> dict[str, str]:
    """attempt -> how it ended, '' while it has not."""
    home = run / "attempts"
    return {name: read(end)["state"] if (end := home / name / "end.json").exists() else "" for name in os.listdir(home)}
