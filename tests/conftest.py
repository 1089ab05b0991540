"""What every test stands on: a home directory of its own, no run around it, and the installed commands."""

import gc
import importlib
import itertools
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytest.register_assert_rewrite("farmx.testing")

BIN = Path(sys.executable).parent
FOREIGN = ("XDG_", "FARMX_", "GIT_", "SLURM_", "MAKE")  # set by whoever started pytest; no test may depend on them
ALONE = ("LOGDIR", "RANK", "LOCAL_RANK", "PYTHONPATH", "MFLAGS", "CDPATH", "CUDA_VISIBLE_DEVICES")


COUNT = itertools.count()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Nothing that is collected becomes garbage: to look for some, again and again, takes half of the time."""
    gc.disable()
    try:
        _rewrite(**getattr(session.config, "workerinput", {}))
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _rewrite(workerid: str = "", workercount: int = 0, **_: object) -> None:
    """Workers that begin at once each rewrite the assertions of a part of the tests, and find what the others did."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    mine = names[int(workerid.removeprefix("gw")) :: workercount] if workerid else []
    pytest.register_assert_rewrite(*mine)
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, sys.dont_write_bytecode and not mine
    for name in mine:
        with suppress(Exception, pytest.skip.Exception):  # which is told when that is collected
            importlib.import_module(name)
    sys.dont_write_bytecode = kept


@pytest.fixture(autouse=True)
def heeded():
    """Programs that a test starts heed Ctrl-C and a hang-up, though `pytest &` in a script, or nohup, ignores them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """A fresh, empty home directory, for the test and for every program it starts; a git identity; no run around."""
    path = tmp_path_factory.getbasetemp() / f"home{next(COUNT)}"
    path.mkdir(0o700)
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name in ALONE:
            monkeypatch.delenv(name)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "somebody@example.org")
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("FARMX_LOCKS", str(path / ".gpus"))  # GPU 0 of a test is not that of another
    monkeypatch.setenv("PATH", str(BIN), prepend=os.pathsep)
    return path


@pytest.fixture
def torchless(monkeypatch):
    """torch is not loaded, though another test in this process may have done it."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.fixture
def tmp_path(request, tmp_path_factory):
    """As pytest's own, but for a link to the newest of each name, which takes longer to make than the directory."""
    path = tmp_path_factory.getbasetemp() / f"{re.sub(r'[^a-zA-Z0-9]', '_', request.node.name)[:30]}{next(COUNT)}"
    path.mkdir(0o700)
    return path


@pytest.fixture
def shell(tmp_path):
    """Run a line of shell with the installed commands at hand; its output must not be a traceback.

    shell(line, cwd=tmp_path, code=0) -> stdout; the exit code must be `code`.
    """

    def run(line: str, cwd: Path = tmp_path, code: int = 0) -> str:
        done = subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def commands():
    """The farmx command without the price of starting Python: commands.Commands."""
    from commands import Commands

    with Commands() as made:
        yield made


@pytest.fixture(scope="session")
def posting(tmp_path_factory):
    """The same with a stand-in for apprise beside it: posting.Post tells what that was given."""
    from posting import commands

    with commands(tmp_path_factory.mktemp("apprise")) as made:
        yield made


@pytest.fixture
def post(tmp_path, monkeypatch):
    """The file that the address file://$TOLD names: posting.Post."""
    from posting import Post

    monkeypatch.setenv("TOLD", str(tmp_path / "it's a secret"))
    return Post(tmp_path)


@pytest.fixture
def hold(tmp_path, monkeypatch):
    """Where the submit command `submit_job` is, and keeps what it takes: see submitting."""
    from submitting import SUBMIT, put

    return put(tmp_path / "hold", monkeypatch, {"submit_job": SUBMIT})


@pytest.fixture
def own_farm(tmp_path, monkeypatch):
    """Another package, installed, which brings EXECUTOR httpq: the example. Where it lies."""
    from own_farms import example

    path = tmp_path / "it's a site"
    example(path)
    monkeypatch.setenv("PYTHONPATH", str(path))
    return path


@pytest.fixture
def project(tmp_path, commands):
    """A project of two files whose sweep has two points: commands.Project."""
    from commands import project

    return project(tmp_path, commands)
