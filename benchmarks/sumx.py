"""What sumx costs beside a loop of json.loads over the same files, and beside runx's sumx on the same values.

    python benchmarks/sumx.py [--runs N] [--times N] [--peer PYTHON]

Makes one real run with farmx, copies it, gives each copy its metrics, and the same values to runx in its own format.
Each command is a whole process, imports and table included, in seconds of processor time; the rounds take turns;
medians and their ratios are printed. PYTHON has runx==0.0.11, tabulate and pyyaml installed; without it an environment
is made (one download).
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FARMX, SUMX = (str(Path(sys.executable).parent / name) for name in ("farmx", "sumx"))
PEERS = ("runx==0.0.11", "tabulate", "pyyaml")
FLOOR = """
import json, os, sys
for run in os.scandir(sys.argv[1]):
    path = run.path + "/attempts/1.0/metrics.jsonl"
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                json.loads(line)
"""
SETTLED_S = 2.5  # a younger file is read again by a second look, to be sure


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--runs", type=int, default=1000)
    asked.add_argument("--times", type=int, default=5)
    asked.add_argument("--peer", help="a python that has runx")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        peer = args.peer or environment(home / "peer")
        for epochs in (100, 1000):
            data(home / str(epochs), args.runs, epochs)
            time.sleep(SETTLED_S)
            report(args.runs, epochs, measured(home / str(epochs), peer, args.times))


def environment(path: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", path], check=True)
    subprocess.run([path / "bin" / "pip", "install", "-q", *PEERS], check=True)
    return str(path / "bin" / "python")


# Data


def data(home: Path, runs: int, epochs: int) -> None:
    home.mkdir()
    (home / "sweep.yml").write_text("CMD: 'true'\nHPARAMS: {lr: [0.1], solver: sgd}\n")
    subprocess.run([FARMX, "sweep.yml", "-i"], cwd=home, check=True, capture_output=True, env=surroundings(home))
    experiment = home / "runs" / "sweep"
    (one,) = (path for path in experiment.iterdir() if not path.name.startswith("."))
    (home / "runx" / "sweep").mkdir(parents=True)
    (home / ".runx").write_text(f"LOGROOT: {home / 'runx'}\n")
    for number in range(runs):
        ours = experiment / f"run-{number}"
        shutil.copytree(one, ours, symlinks=True)
        rename(ours, number)
        theirs = home / "runx" / "sweep" / f"run-{number}"
        theirs.mkdir()
        shutil.copy(ours / "hparams.json", theirs)
        metrics(ours / "attempts" / "1.0" / "metrics.jsonl", theirs / "metrics.csv", number, epochs)
    shutil.rmtree(one)


def rename(run: Path, number: int) -> None:
    record = json.loads((run / "run.json").read_text()) | {"run": run.name, "point": f"p1-{number:020x}"}
    (run / "run.json").write_text(json.dumps(record) + "\n")
    (run / "hparams.json").write_text(json.dumps({"lr": 0.001 * number, "solver": "sgd"}) + "\n")


def metrics(ours: Path, theirs: Path, seed: int, epochs: int) -> None:
    """One val row an epoch, two metrics: the same values in both formats."""
    dice, start = random.Random(seed), 1.7e9
    rows, lines = [row(start, "start", 0, {})], [f"start,start/step,0,timestamp,{start}\r\n"]
    for epoch in range(epochs):
        at, loss, acc = start + 60 * epoch + dice.random(), dice.random(), 100 * dice.random()
        rows.append(row(at, "val", epoch, {"loss": loss, "acc": acc}))
        lines.append(f"val,loss,{loss},acc,{acc},epoch,{epoch},timestamp,{at}\r\n")
    ours.write_text("".join(rows))
    theirs.write_bytes("".join(lines).encode())


def row(at: float, phase: str, step: int, values: dict[str, float]) -> str:
    return json.dumps({"time": at, "phase": phase, "step": step, "metrics": values}) + "\n"


# Measures


def surroundings(home: Path) -> dict[str, str]:
    folders = {"XDG_CACHE_HOME": home / "cache", "XDG_CONFIG_HOME": home / "config", "HOME": home}
    return os.environ | {name: str(path) for name, path in folders.items()}


def measured(home: Path, peer: str, times: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    ours = [SUMX, "sweep", "--sortwith", "acc", "--logroot", str(home / "runs")]
    for _ in range(times):
        shutil.rmtree(home / "cache", ignore_errors=True)
        for name, argv in (
            ("json.loads", [sys.executable, "-c", FLOOR, str(home / "runs" / "sweep")]),
            ("first look", ours),
            ("second look", ours),
            ("runx", [peer, "-m", "runx.sumx", "sweep", "--sortwith", "acc", "--logroot", str(home / "runx")]),
        ):
            found.setdefault(name, []).append(seconds(argv, home))
    return found


def seconds(argv: list[str], home: Path) -> float:
    """Processor time, user and system, of a whole process: the clock on the wall also counts who else is at work."""
    process = subprocess.Popen(argv, cwd=home, stdout=subprocess.DEVNULL, env=surroundings(home))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} exited {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def report(runs: int, epochs: int, found: dict[str, list[float]]) -> None:
    middle = {name: statistics.median(values) for name, values in found.items()}
    print(f"\n{runs:,} runs x {epochs:,} epochs, medians of {len(found['runx'])}")
    print("               seconds  json.loads = 1  runx is")
    for name, value in middle.items():
        print(f"{name:<12}  {value:8.3f}  {value / middle['json.loads']:14.2f}  {middle['runx'] / value:6.1f} x")


if __name__ == "__main__":
    main()
