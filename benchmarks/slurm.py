"""What a real Slurm costs: queuing runs beside one sbatch a run and beside submitit's map_array, and looking at them.

Needs tests/farms/install and root. All jobs are held, so nothing runs meanwhile; each round has a Slurm without
accounting of its own, so that no queue is longer than another's. sbatch is measured for SBATCHES runs and multiplied.
What a round made stays until all is over: just after many files were deleted, ext4 takes ten times as long to make one.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import harness
from harness import Cost, Row

sys.path.insert(0, str(harness.ROOT / "tests"))
from farms.slurm import Slurm  # noqa: E402  tests bring it up, and so does this

RUNS = (1000, 10_000)
SBATCHES = 100
TIMES = harness.rounds(3, 7)
WAITING = 100  # of the runs that are looked at again
SUBMITIT = """
import sys, submitit
executor = submitit.SlurmExecutor(folder=sys.argv[1])
executor.update_parameters(time=10, array_parallelism=100000, additional_parameters={"hold": True})
executor.map_array(print, range(int(sys.argv[2])))
"""
SINGLE = "for each in $(seq {count}); do sbatch --hold --time=10 --wrap true >/dev/null || exit; done"
ENDED = """
import os, sys, time
from pathlib import Path
from farmx import layout, runner
for run in sorted(Path("runs/sweep").glob("[!.]*"))[:int(sys.argv[1])]:
    attempt, owner = runner.take(str(run.resolve()), "1.0", {"farm": "big"})
    now = time.time()
    end = runner.end_record({**owner, "started": now - 2000}, "done")
    layout.write_json(os.path.join(attempt, layout.END), {**end, "ended": now - 1000})
"""
CONFIG = "FARM: big\nbig:\n  EXECUTOR: slurm\n  RESOURCES: {hold: true, time: 10}\n"


def rows() -> list[Row]:
    return [row for count in RUNS for row in queued(count)] + looked(RUNS[-1])


def queued(count: int) -> list[Row]:
    costs = harness.interleaved(
        {
            "farmx": lambda: on_a_slurm(lambda home, env: launch(home, env, count)),
            "array": lambda: on_a_slurm(lambda home, env: submitit(home, env, count)),
            "each": lambda: on_a_slurm(sbatch),
        },
        TIMES,
    )
    farmx, array, each = (costs[name] for name in ("farmx", "array", "each"))
    each = Cost(*(spent / SBATCHES * count for spent in each))
    what, took = f"queuing {count:,} runs on Slurm", (farmx, array, each)
    return [
        harness.at_least(f"{what}: faster than one sbatch a run", each.wall_s / farmx.wall_s, 20),
        harness.at_most(f"{what}, submitit's map_array = 1", farmx.wall_s / array.wall_s, 1),
        Row(f"{what}, CPU: less than one sbatch a run; submitit's map_array = 1",
            f"{each.cpu_s / farmx.cpu_s:.3g} x; {farmx.cpu_s / array.cpu_s:.3g} x", "", None),
        Row(f"{what}: farmx, submitit, sbatch", ", ".join(f"{cost.wall_s:.2f} s" for cost in took), "", None),
        Row(f"{what}, CPU", ", ".join(f"{cost.cpu_s:.2f} s" for cost in took), "", None),
    ]  # fmt: skip


def on_a_slurm(measure) -> Cost:
    home = harness.place()
    slurm = Slurm.up(accounting=False)
    harness.touch()
    try:
        return measure(home, {**harness.surroundings(home), **slurm.env()})
    finally:
        slurm.stop()


def launch(home: Path, env: dict[str, str], count: int) -> Cost:
    project(home, count)
    return harness.cost(["farmx", "sweep.yml", "--max-runs", "100000"], home, env)


def project(home: Path, count: int) -> None:
    (home / ".farmx.yaml").write_text(CONFIG)
    harness.grid(home / "sweep.yml", "'true'", [count])


def submitit(home: Path, env: dict[str, str], count: int) -> Cost:
    python = harness.python("submitit==1.5.4")
    return harness.cost([python, "-c", SUBMITIT, str(home / "jobs"), str(count)], home, env)


def sbatch(home: Path, env: dict[str, str]) -> Cost:
    return harness.cost(["sh", "-c", SINGLE.format(count=SBATCHES)], home, env)


# Looking


def looked(count: int) -> list[Row]:
    """What a status asks and opens: of runs that all wait, and again once most of them have ended."""
    home, slurm = harness.place(), Slurm.up(accounting=False)
    try:
        env = {**harness.surroundings(home), **slurm.env()}
        project(home, count)
        harness.cost(["farmx", "sweep.yml", "--max-runs", "100000"], home, env)
        asked = home / "asked"
        first = look(home, counting(home, env, slurm, asked))
        calls = len(asked.read_text().splitlines())
        live = sum(opens(home, env).values())
        asked.write_text("")
        subprocess.run([harness.farmx() / "python", "-c", ENDED, str(count - WAITING)], cwd=home, check=True)
        look(home, env)  # remembers them
        after = opens(home, counting(home, env, slurm, asked))
        again = len(asked.read_text().splitlines())
    finally:
        slurm.stop()
    waiting = {run.name for run in (home / "runs" / "sweep").glob("[!.]*") if not (run / "attempts").exists()}
    assert len(waiting) == WAITING
    opened = sum(times for name, times in after.items() if name in waiting)
    what = f"a second farmx status of {count:,} runs of which {count - WAITING:,} have ended"
    return [
        harness.at_most(f"farmx status of {count:,} waiting runs: scheduler calls", calls, 1, ""),
        harness.at_most(f"farmx status of {count:,} waiting runs: opens below LOGROOT a run", live / count, 2, ""),
        harness.at_most(f"{what}: scheduler calls", again, 1, ""),
        harness.at_most(f"{what}: opens below LOGROOT a run that waits", opened / WAITING, 2, ""),
        harness.at_most(f"{what}: a run that has ended", (sum(after.values()) - opened) / (count - WAITING), 0, ""),
        Row(f"farmx status of {count:,} waiting runs", f"{first.wall_s:.2f} s", "", None),
    ]


def look(home: Path, env: dict[str, str]) -> Cost:
    return harness.cost(["farmx", "status", "sweep"], home, env)


def counting(home: Path, env: dict[str, str], slurm: Slurm, log: Path) -> dict[str, str]:
    """An environment in which each call of Slurm's commands leaves a line."""
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho {name} >>{log}\nexec {shutil.which(name)} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {**env, "PATH": f"{folder}:{env['PATH']}"}


def opens(home: Path, env: dict[str, str]) -> Counter[str]:
    """Run -> how often a look opens something of it."""
    report = home / "strace.out"
    line = ["strace", "-f", "-e", "trace=open,openat", "-o", report, "farmx", "status", "sweep"]
    subprocess.run(line, cwd=home, env=env, check=True, capture_output=True)
    below = os.path.join(home, "runs", "sweep", "")
    paths = [row.partition(below)[2] for row in report.read_text().splitlines() if below in row]
    return Counter(name for path in paths if (name := re.split('[/"]', path)[0]) and name != ".farmx")


if __name__ == "__main__":
    harness.show(rows())
