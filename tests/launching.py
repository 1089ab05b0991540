"""What tests of launching share: hostile values, a source tree, runs staged for real, and waiting for facts."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from farmx import claims, layout, outfit, plan, runner, snapshot, stage
from farmx.farms import base
from farmx.spec import Job, Point, RunSpec, Submission, Value
from farmx.testing import PATIENCE_S, until

HOSTILE = [
    "two words", "it's", '"', "$HOME", "$(date)", ";", "a\nb", "\n", "\t", "größe 漢字", "back\\slash", "--dash", "-",
    "", "*", "~", "#", "!", "a=b", "x" * 10_000,
]  # fmt: skip
PLACE = "it's $HOME; \"a\\b\"\n größe"  # the name of a directory


def exists(path: str | Path) -> None:
    """Wait for a file."""
    until(lambda: os.path.exists(path))


def gone(pid: int) -> None:
    """Wait for the end of a process that may be nobody's child."""
    until(lambda: state(pid) in ("", "Z"))


def state(pid: int) -> str:
    """The kernel's letter for the state of a process, '' when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def number(path: str | Path) -> int:
    """Wait until a program wrote a number and a newline into `path`; return it."""
    return int(until(lambda: text if (text := Path(path).read_text()).endswith("\n") else None))


def tree(root: Path) -> dict[str, str]:
    """path -> content of each file under `root`, '-> target' for links."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*files, *(each for each in folders if os.path.islink(os.path.join(folder, each)))):
            path = os.path.join(folder, name)
            link = os.path.islink(path)
            found[os.path.relpath(path, root)] = f"-> {os.readlink(path)}" if link else _text(path)
    return found


def _text(path: str) -> str:
    return Path(path).read_text(errors="surrogateescape")


def lost(monkeypatch: pytest.MonkeyPatch, call: str, error: int) -> None:
    """From now on the first answer to this call is lost: it is done, and the answer to the second one is an error."""
    real: Callable = getattr(os, call)

    def repeated(*paths: object, **more: object) -> None:
        real(*paths, **more)
        raise OSError(error, os.strerror(error), *paths[:1])

    monkeypatch.setattr(os, call, repeated)


# ---------------------------------------------------------------- runs


def value(data: object) -> Value:
    """A Value as the sweep file's plain spelling gives it."""
    if data is None:
        return Value(None, ())
    if isinstance(data, list):
        return Value(data, tuple(map(str, data)))
    return Value(data, (str(data).lower() if isinstance(data, bool) else str(data),))


def spec(words: tuple[str, ...] = ("true",), hparams: dict | None = None, **more: object) -> RunSpec:
    """The spec of one point of a template; more: its other fields."""
    given = {"shell": None, "arg_style": "gnu", "pythonpath": ("LOGDIR/code",), **more}
    made = Point({name: value(data) for name, data in (hparams or {}).items()})
    (only,) = plan.specs(plan.Template(() if given["shell"] else words, **given), iter([made]))
    return only


class Place:
    """An experiment whose source is a directory of Python; runs in it are staged as a launch does it."""

    def __init__(self, home: Path, name: str = "sweep") -> None:
        self.source = home / "source"
        self.experiment = home / "logs" / name
        self.wish = snapshot.Wish()
        self.source.mkdir(parents=True, exist_ok=True)
        (self.source / "t.py").write_text("import sys\nprint(*sys.argv[1:])\n")
        claims.prepare(str(self.experiment))

    def snapshot(self) -> str:
        """Snapshot the source as it is; return the digest."""
        code = snapshot.listing(str(self.source), self.wish, [str(self.experiment.parent)])
        return snapshot.take(code, str(self.experiment / layout.FARMX)).digest

    def run(self, words: tuple[str, ...] = ("true",), name: str = "one", staging: str = "link", **more: object) -> str:
        """Make a run with what the runner makes of its record; return its path."""
        code = {"staging": staging, "source": str(self.source), **self.wish._asdict()}
        shared = stage.Shared(self.experiment.name, "sweep.yml", self.snapshot(), code, os.environ, 1.0)
        stage.run(str(self.experiment), spec(words, **more), name, 1, shared)
        run = str(self.experiment / name)
        outfit.unfold(run, layout.read_json(os.path.join(run, layout.RUN), layout.RUN_FORMAT))
        os.symlink(f"../.farmx/snapshots/{shared.digest}/code", os.path.join(run, layout.CODE))
        return run

    def shell(self, text: str, name: str = "one", **more: object) -> str:
        """A run of shell text."""
        return self.run(("sh", "-c", text), name, **more)

    def python(self, code: str, name: str = "one", **more: object) -> str:
        """A run of Python code."""
        return self.run((sys.executable, "-c", code), name, **more)

    def submission(self, *jobs: Job, name: str = "s") -> Submission:
        """What a farm is handed."""
        return base.submission(str(self.experiment / layout.FARMX / layout.SUBMISSIONS), name, jobs)


def end(run: str, number: str = "1.0") -> dict | None:
    """The end record of an attempt without what differs each time; None when there is none."""
    record = layout.of_attempt(os.path.join(run, layout.ATTEMPTS, number), layout.END)
    return record and {key: each for key, each in record.items() if key not in ("started", "ended")}


def events(run: str, number: str = "1.0") -> list[dict]:
    """The events of an attempt, in order."""
    text = Path(run, layout.ATTEMPTS, number, layout.EVENTS).read_text()
    return [json.loads(line) for line in text.splitlines()]


def output(run: str) -> str:
    """The newest attempt's log."""
    return Path(run, layout.OUTPUT).read_text()


# ---------------------------------------------------------------- processes of their own

ROOT = str(Path(__file__).resolve().parent.parent)
EXECUTE = """
from farmx import processes, runner
given = json.loads(sys.argv[1])
processes.BEAT_S = given.pop("beat_s", processes.BEAT_S)
more = {key: given.pop(key) for key in ("look_s", "notice_s") if key in given}
with processes.Inbox(**more) as inbox:
    print("ready", flush=True)
    outcome = runner.execute(inbox=inbox, **given)
print(json.dumps(outcome))
"""


def python(code: str, *argv: str, **more: object) -> subprocess.Popen:
    """A process of its own that has json, os, sys and farmx at hand; its output is piped. It never hangs for long."""
    alarm = f"signal.alarm({PATIENCE_S:.0f})"
    begin = f"import json, os, signal, sys\n{alarm}\nsys.path[:0] = [{ROOT!r}, {ROOT + '/tests'!r}]\n"
    given = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, **more}
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", begin + code, *argv], **given)


def script(code: str, *argv: str, **more: object) -> str:
    """What such a process prints; it must end well."""
    process = python(code, *argv, **more)
    told, _ = process.communicate()
    assert process.returncode == 0, told
    return told


def start(run: str, number: str = "1.0", **given: object) -> subprocess.Popen:
    """A process that executes an attempt; it has its signal handlers when this returns."""
    facts = {"facts": {"farm": "local", "submission": "s"}, "run": run, "number": number}
    process = python(EXECUTE, json.dumps({**facts, **given}))
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen) -> runner.Outcome:
    """How the attempt that a process executes ended."""
    with process:  # not communicate(), which overlooks what came with the line that was read
        told = process.stdout.read()
    assert process.returncode == 0, told
    return runner.Outcome(*json.loads(told))


def execute(run: str, number: str = "1.0", **given: object) -> runner.Outcome:
    """Execute an attempt in a process of its own and wait for its end."""
    return finish(start(run, number, **given))
