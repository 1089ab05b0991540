"""A packed job of short runs on a real Slurm: 100 runs of one second on 4 slots, beside the 25 s that they sleep.

Needs tests/farms/install and root. Counted is from the begin of the first run to the end of the last. Before each round
four shells sleep as often in a loop: what this machine can do just then.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import harness
from harness import Row

sys.path.insert(0, str(harness.ROOT / "tests"))
from farms.slurm import Slurm  # noqa: E402  tests bring it up, and so does this

RUNS, SLOTS = 100, 4
TIMES = harness.rounds(1, 3)
IDEAL_S = RUNS / SLOTS
CONFIG = "FARM: big\nbig: {EXECUTOR: slurm, RESOURCES: {mem: 2000}, PACK: {runs: 4, each: 100}}\n"
FLOOR = "for slot in 1 2 3 4; do (for run in $(seq 25); do sh -c 'sleep 1'; done) & done; wait"


def rows() -> list[Row]:
    floors, figures = [], []
    for _ in range(TIMES):
        floors.append(floor())
        figures.append(packed())
    spread = f"{min(figures):.2f} to {max(figures):.2f} s"
    return [
        harness.at_most(f"{RUNS} runs of one second on {SLOTS} slots of a job, ideal = 1",
                        median(figures) / IDEAL_S, 1.1),
        Row("the same", f"{median(figures):.2f} s ({spread})", "", None),
        Row("the same, four shells that sleep in a loop", f"{median(floors):.2f} s", "", None),
    ]  # fmt: skip


def floor() -> float:
    begin = time.monotonic()
    subprocess.run(["sh", "-c", FLOOR], check=True)
    return time.monotonic() - begin


def packed() -> float:
    """Seconds from the first run's begin to the last one's end."""
    home, slurm = harness.place(), Slurm.up(accounting=False)
    try:
        env = {**harness.surroundings(home), **slurm.env()}
        (home / ".farmx.yaml").write_text(CONFIG)
        (home / "sweep.yml").write_text(f"CMD: sh -c 'sleep 1'\nHPARAMS: {{n: {list(range(RUNS))}}}\n")
        harness.cost(["farmx", "sweep.yml"], home, env)
        return span(home / "runs" / "sweep")
    finally:
        slurm.stop()
        shutil.rmtree(home, ignore_errors=True)


def span(experiment: Path) -> float:
    ends: list[Path] = []
    while len(ends) < RUNS:
        time.sleep(0.5)
        ends = list(experiment.glob("[!.]*/attempts/*/end.json"))
    told = [json.loads(path.read_text()) for path in ends]
    assert {each["state"] for each in told} == {"done"}
    return max(each["ended"] for each in told) - min(each["started"] for each in told)


if __name__ == "__main__":
    harness.show(rows())
