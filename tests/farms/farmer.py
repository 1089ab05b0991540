"""A project of the ordinary user whose jobs Grid Engine runs: he launches, looks and cancels by himself.

He may enter neither the checkout nor the Python that pytest runs on; so he has the system's, and copies of farmx and of
what it imports.
"""

import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from commands import Done, hparams, runs
from launching import PATIENCE_S, until

from farms.daemons import Farm
from farms.gridengine import LINGER_S, USER, GridEngine

PYTHON = "/usr/bin/python3"
IMPORTED = ("farmx", "click", "coolname", "git", "gitdb", "smmap", "pathspec", "yaml", "rich", "markdown_it", "mdurl",
            "pygments", "typing_extensions", "submitit", "cloudpickle")  # fmt: skip
ENDED = ("done", "failed", "cancelled", "interrupted", "lost")
SECTION = r"""FARM: big
big:
  LOGROOT: ../root
  SUBMIT_CMD: qsub -terse -notify -N {{name}} -o {output} -j y {submit} {{script}}
  STATUS_CMD: qstat
  STATUS_LINE: ^\s*(?P<id>\d+)\s+\S+\s+\S+\s+\S+\s+(?P<state>\S+)
"""
CANCEL = "CANCEL_CMD: qdel {ids}"


def library(farm: Farm) -> Path:
    """Copies of farmx and what it imports, where anybody may read them."""
    path = farm.folder / "library"
    if path.exists():
        return path
    path.mkdir(mode=0o755)
    for name in IMPORTED:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        source = Path(spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin)
        if source.is_dir():
            shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        else:
            shutil.copy(source, path)
    return path


@dataclass(frozen=True)
class Farmer:
    """His project, beside it the LOGROOT and the file where every start of a program leaves a line."""

    farm: GridEngine
    path: Path

    @property
    def side(self) -> Path:
        return self.path.parent / "side"

    @property
    def root(self) -> Path:
        return self.path.parent / "root"

    @property
    def experiment(self) -> Path:
        return self.root / "sweep"

    def env(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in ("LANG", "LC_ALL", "PATH")}
        kept["PATH"] = os.pathsep.join(each for each in kept["PATH"].split(os.pathsep) if each != sys.prefix + "/bin")
        ours = {"HOME": str(self.farm.home), "USER": USER, "LOGNAME": USER, "PYTHONPATH": str(library(self.farm))}
        return {**kept, **ours, **self.farm.env(), **more}

    def behind(self, *argv: str, **more: str) -> subprocess.Popen[str]:
        """Begin `farmx argv...`, which leads a process group."""
        who = pwd.getpwnam(USER)
        return subprocess.Popen(
            [PYTHON, "-m", "farmx", *argv], cwd=self.path, env=self.env(**more), text=True, start_new_session=True,
            user=who.pw_uid, group=who.pw_gid, extra_groups=[], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *argv: str, **more: str) -> Done:
        process = self.behind(*argv, **more)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in err, err
        return Done(process.returncode, out, err)

    def ok(self, *argv: str, **more: str) -> Done:
        done = self(*argv, **more)
        assert done.code == 0, done.err + done.out
        return done

    def kill(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL for a command and all that it called."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.path / name
        path.write_text(text)
        path.chmod(mode)
        shutil.chown(path, USER)
        return path

    def configure(self, submit: str = "", more: str = "", output: str = "{log}", cancel: str = CANCEL) -> None:
        """Write .farmx.yaml. submit: more words of SUBMIT_CMD."""
        text = SECTION.format(submit=submit, output=output)
        self.write(".farmx.yaml", text + "".join(f"  {line}\n" for line in f"{cancel}\n{more}".splitlines()))

    def sweep(self, hparams: str = "{n: [1, 2]}", program: str = ":", more: str = "") -> None:
        """A sweep of a shell program that notes its start and then does `program`."""
        self.write("note.sh", f'printf "%s\\n" "$FARMX_ATTEMPT_DIR" >> "{self.side}"\n{program}\n')
        self.write("sweep.yml", f"CMD: sh note.sh\nHPARAMS: {hparams}\n{more}")

    def runs(self) -> list[Path]:
        return runs(self.experiment)

    def told(self) -> list[dict]:
        """What status says of each run, by the value of n."""
        runs = json.loads(self.ok("status", "sweep", "--json").out)["runs"]
        return sorted(runs, key=lambda run: hparams(self.experiment / run["run"]).get("n", 0))

    def states(self) -> list[str]:
        return [run["state"] for run in self.told()]

    def become(self, *states: str, seconds: float = PATIENCE_S) -> None:
        """Wait until the runs stand like this, by the value of n."""
        until(lambda: self.states() == list(states), seconds)

    def ended(self, seconds: float = PATIENCE_S) -> list[str]:
        """The states once every run has ended."""
        return until(lambda: now if set(now := self.states()) <= set(ENDED) else None, seconds)

    def starts(self) -> list[str]:
        """The attempts in which a program started, as RUN/ATTEMPT, in order."""
        lines = self.side.read_text().splitlines() if self.side.exists() else []
        return [line.replace("/attempts/", "/").removeprefix(f"{self.experiment}/") for line in lines]

    def queued(self) -> dict[str, str]:
        """index -> job, of all submissions."""
        paths = sorted((self.experiment / ".farmx/submissions").glob("*/queued"))
        lines = [line.split() for path in paths for line in path.read_text().splitlines()]
        return {index.partition("-")[0]: job for index, job in lines}

    def emptied(self) -> None:
        """Return when Grid Engine has no job; one whose end its host did not hear of is told again after a minute."""
        until(lambda: not self.farm.jobs(), LINGER_S)


def farmer(farm: GridEngine, name: str) -> Farmer:
    """A project in a directory `name` of its user's."""
    made = Farmer(farm, farm.home / name / "project")
    made.path.mkdir(parents=True)
    for path in (made.path.parent, made.path):
        shutil.chown(path, USER, pwd.getpwnam(USER).pw_gid)
    made.configure()
    made.sweep()
    return made
