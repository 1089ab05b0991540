"""What launching costs: 200 runs of a tree of 2,000 files and 50 MB beside runx's staging, and system calls a run.

Launching is all but starting the runs: the command of users, `farmx sweep.yml -j 2`, up to the farm, which is put out
of the way in the measuring process. runx's staging is what it does to the code of each run: a copytree, then `chmod -R`
of the experiment, all runs made before in it. STAGED runs are measured. Scaling them in proportion would leave out
that chmod takes longer with every run: both figures are told. From 20 runs `grown` foretold 60 within 10 %.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import linear_regression, median

import harness
from harness import Cost, Row

RUNS = 200
STAGED = 20  # of runx
TIMES = 3
FILES, FOLDERS, SIZE = 2000, 40, 25_000
ACCOUNTED = (10, 100, 1000, 10_000)
METADATA = (
    "%file,getdents64,fchmod,fchown,ftruncate,utimensat,futimesat"  # creating, naming, looking up; not read and write
)
LAUNCH = """
import sys
from farmx.cli import here
here.Here.submit = lambda self, submissions, heard: None
sys.argv[0] = "farmx"
from farmx.__main__ import farmx
farmx()
"""
RUNX = """
import subprocess, sys, time
from shutil import copytree, ignore_patterns
source, target, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
for run in range(runs):
    began = time.perf_counter()
    copytree(source, f"{target}/run-{run}/code", ignore=ignore_patterns(".git", "*.pyc", "docs*", "test*", "*.pth"))
    copied = time.perf_counter()
    subprocess.call(["chmod", "-R", "a+rw", target])
    print(copied - began, time.perf_counter() - copied)
"""


def rows() -> list[Row]:
    return [*beside_runx(), *accounts()]


# Beside runx


def tree(path: Path) -> Path:
    """2,000 files, 50 MB."""
    for index in range(FILES):
        folder = path / f"package_{index % FOLDERS}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module_{index}.py").write_bytes(os.urandom(SIZE))
    return path


def beside_runx() -> list[Row]:
    home = harness.place()
    source = tree(home / "source")
    harness.grid(source / "sweep.yml", "'true'", [RUNS])
    launching, starting, staging = [], [], []  # seconds; of staging: of copying and of chmod, for each run
    for index in range(TIMES):
        launching.append(launch(source, home / f"launched-{index}").wall_s)
        starting.append(start(source, home / f"started-{index}").wall_s)
        staging.append(stage(source, home / f"runx-{index}"))
    ours, started = median(launching), median(starting)
    linear = median(sum(map(sum, each)) for each in staging) * RUNS / STAGED
    runx = median(map(grown, staging))
    theirs = used(home / "runx-0") * RUNS / STAGED
    what = f"{RUNS} runs of {FILES:,} files, 50 MB"
    return [
        harness.at_least(f"launching {what}: faster than runx stages them", runx / ours, 300),
        harness.at_least(f"launching and running {what}: faster than runx stages them", runx / started, 20),
        harness.at_least(f"launching and running {what}: fewer bytes than runx", theirs / used(home / "started-0"), 20),
        Row("launching and launching and running them, were runx's chmod as fast for the last as for the first runs",
            f"{linear / ours:.3g} x, {linear / started:.3g} x", "", None),
        Row("launching them, launching and running them, runx's staging",
            f"{ours:.2f} s, {started:.2f} s, {runx:.0f} s", "", None),
    ]  # fmt: skip


def grown(staged: list[tuple[float, float]]) -> float:
    """Seconds of staging RUNS runs: a copy each, and a chmod that grows by the same with every run."""
    copying = median(copy for copy, _ in staged)
    growth, least = linear_regression(range(1, len(staged) + 1), [chmod for _, chmod in staged])
    return RUNS * (copying + least) + growth * RUNS * (RUNS + 1) / 2


def launch(source: Path, logroot: Path, sweep: str = "sweep.yml") -> Cost:
    return harness.cost(words(sweep, logroot), source)


def words(sweep: str, logroot: Path) -> list[str]:
    python = str(harness.farmx() / "python")
    return [python, "-c", LAUNCH, sweep, "-j", "2", "--logroot", str(logroot), "--max-runs", "100000"]


def start(source: Path, logroot: Path) -> Cost:
    return harness.cost([harness.farmx() / "farmx", "sweep.yml", "-j", "2", "--logroot", str(logroot)], source)


def stage(source: Path, target: Path) -> list[tuple[float, float]]:
    target.mkdir()
    line = [sys.executable, "-c", RUNX, source, target, str(STAGED)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return [(float(copied), float(changed)) for copied, changed in map(str.split, done.stdout.splitlines())]


def used(path: Path) -> int:
    """Bytes of the blocks under `path`, a file with several names counted once."""
    done = subprocess.run(["du", "-s", "--block-size=1", path], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


# System calls


def accounts() -> list[Row]:
    """Metadata calls a run, from what the counts of one launch and of a larger one differ by."""
    home = harness.place()
    (home / "train.py").write_text("print(1)\n")
    counted = {0: calls(home, 1)} | {runs: calls(home, runs) for runs in ACCOUNTED}
    if not counted[0]:
        return [Row("metadata calls a run to launch", "not counted: no strace here", "<= 12", None)]
    each = {runs: (counted[runs] - counted[0]) / (runs - 1) for runs in ACCOUNTED}
    return [harness.at_most(f"metadata calls a run to launch {runs:,} runs", figure, 12, "calls")
            for runs, figure in each.items()]  # fmt: skip


def calls(home: Path, runs: int) -> int:
    sweep = harness.grid(home / f"of_{runs}.yml", "python train.py", [runs])
    return sum(harness.calls(words(sweep.name, harness.place()), home, METADATA).values())


if __name__ == "__main__":
    harness.show(rows())
