"""What logging costs: one metric against the floor and its peers, importing, and what SIGKILL leaves.

Run by hand: python benchmarks/logx.py. Peers are those that this python can import. Every ratio is of medians
measured in turn, so that the machine's mood is the same for both.
"""

import compileall
import importlib.util
import json
import os
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from farmx.logx import LogX  # noqa: E402

ROWS = 5000
ROUNDS = 5
STARTS = 30
KILLED = 100
METRICS = {"loss": 0.12345678901234, "acc": 0.9876}
Log = Callable[[int], object]


def log_with_logx(folder: str) -> Log:
    logx = LogX()
    logx.initialize(folder)
    return lambda step: logx.metric("val", METRICS, step)


def log_with_json(folder: str) -> Log:
    fd = os.open(f"{folder}/rows", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def log(step: int) -> None:
        row = {"time": time.time(), "phase": "val", "step": step, "metrics": METRICS}
        os.write(fd, (json.dumps(row) + "\n").encode())

    return log


def log_with_open(folder: str) -> Log:
    def log(step: int) -> None:
        with open(f"{folder}/opened", "a") as file:
            file.write(json.dumps({"time": time.time(), "phase": "val", "step": step, "metrics": METRICS}) + "\n")

    return log


def log_with_sqlite(folder: str) -> Log:
    base = sqlite3.connect(f"{folder}/sqlite", isolation_level=None)
    base.execute("pragma journal_mode=wal")
    base.execute("pragma synchronous=normal")
    base.execute("create table rows (time, phase, step, metrics)")
    insert = "insert into rows values (?, ?, ?, ?)"
    return lambda step: base.execute(insert, (time.time(), "val", step, json.dumps(METRICS)))


def log_with_runx(folder: str) -> Log:
    from runx.logx import LogX as Runx

    logx = Runx()
    logx.initialize(folder)
    return lambda step: logx.metric("val", METRICS, step)


def log_with_tensorboardx(folder: str) -> Log:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(folder)
    return lambda step: [writer.add_scalar(f"val/{name}", value, step) for name, value in METRICS.items()]


def log_with_torch(folder: str) -> Log:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)
    return lambda step: [writer.add_scalar(f"val/{name}", value, step) for name, value in METRICS.items()]


FLOOR = "json.dumps + os.write"
PEERS: dict[str, tuple[str, Callable[[str], Log]]] = {
    FLOOR: ("json", log_with_json),
    "logx.metric": ("farmx", log_with_logx),
    "open, append, close": ("json", log_with_open),
    "sqlite, WAL": ("sqlite3", log_with_sqlite),
    "runx, csv": ("runx", log_with_runx),
    "tensorboardX": ("tensorboardX", log_with_tensorboardx),
    "torch SummaryWriter": ("torch", log_with_torch),
}


def here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def row_costs() -> dict[str, float]:
    """Median microseconds of a row; the loggers in turn, ROUNDS times.

    Each in a process of its own: what a peer's threads write later is not charged to the next one.
    """
    names = [name for name, (package, _) in PEERS.items() if here(package)]
    costs: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                line = [sys.executable, __file__, name, folder]
                done = subprocess.run(line, stdout=subprocess.PIPE, check=True)
            costs[name].append(float(done.stdout.splitlines()[-1]))
    return {name: statistics.median(each) for name, each in costs.items()}


def row_cost(name: str, folder: str) -> None:
    """Print it, and end the process."""
    log = PEERS[name][1](folder)
    costs = [timed(log, step) for step in range(ROWS)]
    print(statistics.median(costs) / 1000, flush=True)
    os._exit(0)  # how a peer ends is not what is measured


def timed(log: Log, step: int) -> int:
    started = time.perf_counter_ns()
    log(step)
    return time.perf_counter_ns() - started


def start_costs() -> dict[str, float]:
    """Median CPU milliseconds of a process that runs the code, in turn."""
    codes = ["pass", "import farmx.logx", "import json", "import typing"] + ["import runx.logx"] * here("runx")
    costs: dict[str, list[float]] = {code: [] for code in codes}
    with tempfile.TemporaryDirectory() as copy:
        # Compiled, as it is once it was imported, also where bytecode is not written.
        shutil.copytree(ROOT / "farmx", f"{copy}/farmx", ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(copy, quiet=1)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([copy, os.environ.get("PYTHONPATH", "")])}
        for _ in range(STARTS):
            for code in codes:
                spent = children_s()
                subprocess.run([sys.executable, "-c", code], cwd=copy, env=env, check=True, capture_output=True)
                costs[code].append(children_s() - spent)
    return {code: statistics.median(each) * 1000 for code, each in costs.items()}


def children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rows_after_sigkill() -> int:
    """How many rows are there after KILLED calls had returned and SIGKILL came."""
    code = "import os\nfrom farmx.logx import logx\nlogx.initialize('.')\n"
    code += f"for i in range({KILLED}): logx.metric('val', {{'i': i}}, i)\nos.kill(os.getpid(), {int(signal.SIGKILL)})"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)})
        rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return sum(row["phase"] == "val" for row in rows)


def write_calls() -> str:
    """Write calls per metric, as strace counts them."""
    if not shutil.which("strace"):
        return "not counted: no strace here"
    code = "from farmx.logx import logx\nlogx.initialize('.')\nfor i in range({}): logx.metric('val', {{'i': i}}, i)"
    return f"{(calls(code.format(1100)) - calls(code.format(100))) / 1000:g}"


def calls(code: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        line = ["strace", "-f", "-o", "trace", "-e", "trace=write,writev,pwrite64,fsync,fdatasync", sys.executable]
        subprocess.run([*line, "-c", code], cwd=folder, env=env, check=True, capture_output=True)
        return len(Path(folder, "trace").read_text().splitlines())


def table(title: str, unit: str, costs: dict[str, float], floor: str) -> None:
    print(f"{title:34}{unit:>10}{'ratio':>8}")
    for name, cost in costs.items():
        print(f"  {name:32}{cost:10.1f}{cost / costs[floor]:8.2f}")


def main() -> None:
    """Print the tables; with a logger's name, what a row of it costs."""
    if sys.argv[1:]:
        row_cost(*sys.argv[1:])
    table("one row of two metrics", "us", row_costs(), FLOOR)
    table("start of a process", "CPU ms", start_costs(), "pass")
    print(f"rows found after SIGKILL          {rows_after_sigkill():8} of {KILLED}")
    print(f"write and sync calls a metric     {write_calls():>8}")


if __name__ == "__main__":
    main()
