"""What the measurements share: pythons with farmx and with peers, what a process costs, medians in turn, the rows."""

import atexit
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LONG = "FARMX_BENCHMARKS_LONG"  # in the environment: --long was given
PYTHONS = Path(tempfile.gettempdir()) / f"farmx-benchmarks-{os.getuid()}"  # kept: installing takes a minute
LOOKUPS = ("stat", "lstat", "newfstatat", "open", "openat")


class Row(NamedTuple):
    """One line of the table. met: whether the figure keeps what was promised, None where nothing was."""

    what: str
    figure: str
    promised: str
    met: bool | None


class Cost(NamedTuple):
    """Of one process with all its children."""

    wall_s: float
    cpu_s: float


# Pythons


@cache
def python(*requirements: str) -> str:
    """A python of a private environment with these installed."""
    home = PYTHONS / hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    if not (home / "whole").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        install(home, *requirements)
        (home / "whole").touch()
    return str(home / "bin" / "python")


class Missing(SystemExit):
    """What cannot be installed here, and why."""


def install(home: Path, *words: str) -> None:
    done = subprocess.run([home / "bin" / "pip", "install", "--quiet", *words], capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"pip install {' '.join(words)}: {done.stderr}")


def peer(*requirements: str) -> str:
    """The python that a peer is measured in: this one where it needs nothing. Raises Missing."""
    return python(*requirements) if requirements else sys.executable


@cache
def farmx() -> Path:
    """The bin directory of an environment with this checkout installed as users install it: from a wheel."""
    home = Path(python("click", "pyyaml", "coolname", "gitpython", "pathspec", "rich", "submitit")).parent.parent
    copy = place()  # building in the checkout would leave its marks there
    shutil.copytree(ROOT / "farmx", copy / "farmx", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    install(home, "--no-deps", "--force-reinstall", str(copy))
    return home / "bin"


# Places


def place() -> Path:
    """A new empty directory that is gone when this process ends."""
    path = Path(tempfile.mkdtemp(prefix="farmx-bench-"))
    atexit.register(shutil.rmtree, path, True)
    return path


def surroundings(home: Path) -> dict[str, str]:
    """An environment whose home is `home` and whose first commands are those of `farmx()`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FARMX", "XDG", "PYTHON"))}
    return {**kept, "HOME": str(home), "PATH": f"{farmx()}:{os.environ['PATH']}"}


def grid(path: Path, command: str, sizes: Sequence[int]) -> Path:
    """A sweep file of a grid of these sizes, at `path`."""
    axes = [f"  axis_{index}: [{', '.join(map(str, range(size)))}]\n" for index, size in enumerate(sizes)]
    path.write_text(f"CMD: {command}\nHPARAMS:\n{''.join(axes)}")
    return path


# Costs

TOUCH = """
import mmap, sys
made = mmap.mmap(-1, int(sys.argv[1]))
for at in range(0, len(made), mmap.PAGESIZE):
    made[at] = 1
"""


def touch(size: int = 1 << 30) -> None:
    """Have so many bytes of memory in use, and free again. A virtual machine whose host has taken back what was free
    gets each page anew in 10 us, as long as it takes to make a file: who is measured next would pay for that."""
    subprocess.run([sys.executable, "-c", TOUCH, str(size)], check=True)


def rounds(short: int, long: int) -> int:
    """How often to measure: `short` leaves a file two minutes on a machine at other work, `long` is for --long."""
    return long if os.environ.get(LONG) else short


def cost(argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Run a process to its end, its output thrown away, and say what it and its children took."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(argv, cwd=cwd, env=env or surroundings(cwd), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=errors)  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{argv} ended with {process.returncode}: {errors.read().decode()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def interleaved(measured: Mapping[str, Callable[[], Cost]], times: int) -> dict[str, Cost]:
    """The medians of so many rounds; in a round each is measured once, so that all meet the same machine."""
    found: dict[str, list[Cost]] = {name: [] for name in measured}
    for _ in range(times):
        for name, measure in measured.items():
            found[name].append(measure())
    return {name: Cost(*map(statistics.median, zip(*costs))) for name, costs in found.items()}


def calls(argv: Sequence[str | Path], cwd: Path, traced: str = "%file") -> dict[str, int]:
    """System call -> how often a process and its children make it, as strace counts; {} without strace."""
    if not shutil.which("strace"):
        return {}
    report = cwd / "strace.out"
    line = ["strace", "-f", "-c", "-U", "name,calls", "-e", f"trace={traced}", "-o", report, *argv]
    subprocess.run(line, cwd=cwd, env=surroundings(cwd), check=True, capture_output=True)
    rows = [row.split() for row in report.read_text().splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "total"}


def at_most(what: str, figure: float, most: float, unit: str = "x") -> Row:
    """A row for what must not be larger."""
    return Row(what, f"{rounded(figure)} {unit}", f"<= {most:g} {unit}", figure <= most)


def at_least(what: str, figure: float, least: float, unit: str = "x") -> Row:
    """A row for what must not be smaller."""
    return Row(what, f"{rounded(figure)} {unit}", f">= {least:g} {unit}", figure >= least)


def rounded(figure: float) -> str:
    return f"{figure:.3g}" if figure < 100 else f"{figure:,.0f}"


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table of markdown."""
    print("| what | measured | promised | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.figure} | {row.promised} | {_WORDS[row.met]} |", flush=True)


_WORDS = {True: "kept", False: "**falls short**", None: ""}
