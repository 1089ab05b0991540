"""What tests of the command line share: commands run in this process, and a directory compared with itself."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from farmx.cli.main import farmx
from farmx.cli.sumx import sumx

COMMANDS = {"farmx": farmx, "sumx": sumx}


class Said(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


class Typed:
    """Runs commands as a shell would, in this process: typed("farmx sweep.yml -n") -> Said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], cwd: Path) -> None:
        self._monkeypatch, self._capfd, self.cwd = monkeypatch, capfd, cwd

    def __call__(self, line: str) -> Said:
        words = shlex.split(line)
        self._monkeypatch.chdir(self.cwd)
        self._monkeypatch.setattr(sys, "argv", words)
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            COMMANDS[words[0]].main(words[1:], prog_name=words[0])
        sys.stdout.flush()
        out, err = self._capfd.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else int(bool(code)), out, err)


def ran(line: str, cwd: Path, **env: str) -> Said:
    """Run a line of shell, with nothing to read, as a process of its own."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, **env}
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def timeless(text: str) -> str:
    """`text` with T for every time span, whose width is left to chance."""
    return re.sub(r"\b\d+:\d\d(:\d\d)?\b", "T", text)


def everything(root: Path) -> dict[str, str]:
    """What is below `root`, hidden or not: relative path -> its kind and content."""
    return {os.path.relpath(path, root): _content(path) for path in sorted(root.rglob("*"))}


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link {os.readlink(path)}"
    return "directory" if path.is_dir() else f"file {path.read_bytes()!r}"


def write(root: Path, files: dict) -> None:
    """Put `files` below `root`: texts, bytes, None for a directory."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
