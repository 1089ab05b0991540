"""What tests of launching share: a small project, commands without the price of starting Python, what is then on disk.

`Commands` is a process with farmx imported; each command is a fork of it, with an environment and a directory of its
own, and perhaps a fault: at its Nth step it is killed or told that the disk is full. It adopts what a killed
command leaves behind and answers once all of it has gone.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import traceback
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from faults import Fault, install, install_in_workers
from rights import ordinary_rights

NOTE = 'printf "%s\\n" "$FARMX_ATTEMPT_DIR" >> "$SIDE"\n'  # each start of the program leaves a line outside LOGROOT


@dataclass(frozen=True)
class Done:
    """How a command ended. code: negative for a signal.  steps: how many it took where a fault was asked for."""

    code: int
    out: str
    err: str
    steps: int = 0

    def line(self, code: int) -> str:
        """The one line that a refused command says."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.count("\n") == 1 and self.err.startswith("farmx: "), self.err
        return self.err.removeprefix("farmx: ").rstrip("\n")


@dataclass
class Commands:
    """The process that commands are forked from."""

    server: subprocess.Popen = field(init=False)

    def __enter__(self) -> "Commands":
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()

    def __call__(self, *argv: str, **more) -> Done:
        """Run a command, as `ask` does, and wait for it and all that it leaves behind."""
        self.ask(*argv, **more)
        return self.answer()

    def ask(self, *argv: str, cwd: Path, env=None, fault: Fault | None = None, ordinary=False, program="farmx",
            leave=False) -> None:  # fmt: skip
        """Begin to run `farmx argv...`, or another program (sumx, or python and its code), in `cwd`.

        ordinary: even as root, with no more rights than the modes of files give.  leave: what it leaves behind may live
        on when it has ended.
        """
        told = {"argv": argv, "cwd": str(cwd), "env": {**os.environ, **(env or {})}, "ordinary": ordinary,
                "fault": fault, "program": program, "leave": leave}  # fmt: skip
        self.server.stdin.write(json.dumps(told) + "\n")
        self.server.stdin.flush()

    def answer(self) -> Done:
        """Wait for what was asked and all that it leaves behind."""
        return Done(**json.loads(self.server.stdout.readline()))


# ---------------------------------------------------------------- a project and what is on disk


@dataclass(frozen=True)
class Project:
    """A source tree, its LOGROOT beside it, and the file in which every start of a program leaves a line."""

    path: Path
    commands: Commands

    @property
    def side(self) -> Path:
        return self.path.parent / "side"

    @property
    def root(self) -> Path:
        return self.path.parent / "root"

    @property
    def experiment(self) -> Path:
        return self.root / "sweep"

    @property
    def env(self) -> dict[str, str]:
        return {"SIDE": str(self.side), "FARMX_LOGROOT": str(self.root)}

    def __call__(self, *argv: str, fault: Fault | None = None, cwd: Path | None = None, ordinary=False, **env) -> Done:
        done = self.commands(*argv, cwd=cwd or self.path, env={**self.env, **env}, fault=fault, ordinary=ordinary)
        assert "Traceback" not in done.err, done.err
        return done

    def behind(self, *argv: str, **env: str) -> subprocess.Popen:
        """The command as a process of its own that is not waited for; its stderr goes to a file beside the project."""
        env = {**os.environ, **self.env, **env}
        command = [str(Path(sys.executable).parent / "farmx"), *argv]
        with (self.path.parent / "behind").open("ab") as err:
            return subprocess.Popen(
                command, cwd=self.path, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err
            )

    def ok(self, *argv: str, **more) -> Done:
        """The command must end well."""
        done = self(*argv, **more)
        assert done.code == 0, done.err + done.out
        return done

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.write_text(text)
        return path

    def sweep(self, hparams: str = "{n: [1, 2]}", cmd: str = "sh note.sh", more: str = "") -> None:
        self.write("sweep.yml", f"CMD: {cmd}\nHPARAMS: {hparams}\n{more}")

    def starts(self) -> list[str]:
        """The attempts in which a program started, as EXPERIMENT/RUN/ATTEMPT, in order."""
        lines = self.side.read_text().splitlines() if self.side.exists() else []
        return [line.replace("/attempts/", "/").removeprefix(f"{self.root}/") for line in lines]

    def runs(self) -> list[Path]:
        return runs(self.experiment)

    def states(self) -> dict[str, str]:
        """Run -> state, as the command tells it."""
        told = json.loads(self.ok("status", "sweep", "--json").out)
        return {run["run"]: run["state"] for run in told["runs"]}

    def again(self) -> dict[tuple[int, int], str]:
        """(the value of n, generation) -> state, of every visible run."""
        states = self.states()
        return {key(path): states[path.name] for path in self.runs()}


def project(path: Path, commands: Commands) -> Project:
    """A project of two files, its sweep of two points."""
    made = Project(path / "project", commands)
    made.path.mkdir()
    made.write("note.sh", NOTE)
    made.sweep()
    return made


def runs(experiment: Path) -> list[Path]:
    """The visible runs of an experiment, by name."""
    return sorted(path for path in experiment.glob("[!.]*") if (path / "run.json").exists())


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def hparams(run: Path) -> dict:
    """The values of a run, which may not have begun."""
    return read(run / "run.json")["hparams"]


def key(run: Path) -> tuple[int, int]:
    """(the value of n, the generation) of a run."""
    return hparams(run).get("n", 0), read(run / "run.json")["generation"]


def claims(experiment: Path) -> dict[str, str]:
    """identity.generation -> the run that the claim leads to."""
    home = experiment / ".farmx" / "points"
    found: dict[str, str] = {}
    for number in sorted(int(name) for name in os.listdir(home) if name.isdecimal()):
        found.update(read(home / str(number))["claims"])
    return {place: run for place, run in sorted(found.items()) if run}  # '': it was taken back


def staging(experiment: Path) -> list[str]:
    return sorted(os.listdir(experiment / ".farmx" / "staging"))


# ---------------------------------------------------------------- the process that commands are forked from


def _load() -> None:
    """Import here what commands import, so that no fork has to, and leave what is there out of every collection.

    Nothing else, pytest least of all: a fork takes the longer the more is there.
    """
    import difflib
    import pwd
    import resource

    import pathspec
    import yaml

    from farmx.cli import launching, looking, relaunching, why  # noqa: F401
    from farmx.farms import command, slurm, terminal  # noqa: F401

    assert difflib and pathspec and pwd and resource and yaml
    gc.collect()
    gc.freeze()  # else each fork copies the pages of all that is there when it first collects


def _serve() -> None:
    from farmx.cli.main import farmx
    from farmx.cli.sumx import sumx

    _load()
    programs = {"farmx": farmx, "sumx": sumx, "python": _python}
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what a killed command leaves becomes ours
    for line in sys.stdin:
        told = json.loads(line)
        out, err = os.memfd_create("out"), os.memfd_create("err")
        count = os.memfd_create("count")
        os.ftruncate(count, 8)
        pid = os.fork()
        if pid == 0:
            _child(programs[told["program"]], told, out, err, count)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG if told["leave"] else 0)[0]:
                pass
        texts = [os.pread(file, 1 << 24, 0).decode(errors="surrogateescape") for file in (out, err)]
        steps = int.from_bytes(os.pread(count, 8, 0), "little")
        answer = {"code": code, "out": texts[0], "err": texts[1], "steps": steps}
        os.close(out)
        os.close(err)
        os.close(count)
        print(json.dumps(answer), flush=True)


def _python(argv: list[str], **_: object) -> None:
    """As `python -c CODE`."""
    exec(compile(argv[0], "<string>", "exec"), {"__name__": "__main__"})
    sys.exit()


def _child(program, told: dict, out: int, err: int, count: int) -> None:
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate((null, out, err)):
            os.dup2(file, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        for name in [name for name in os.environ if name not in told["env"]]:
            del os.environ[name]
        for name, text in told["env"].items():  # to set what is set would copy the pages of memory that it is in
            if os.environ.get(name) != text:
                os.environ[name] = text
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        if told["cwd"]:
            os.chdir(told["cwd"])
        sys.argv = [told["program"], *told["argv"]]
        if told["fault"]:
            install(Fault(*told["fault"]), count, os.getpid())
            install_in_workers(Fault(*told["fault"]), count)
        with ordinary_rights() if told["ordinary"] else nullcontext():
            program(told["argv"], prog_name=told["program"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:  # noqa: BLE001  # a child must never go on as the server
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
