"""What logging costs: one metric against the floor and its peers, importing, and what SIGKILL leaves.

Run by hand: python benchmarks/logx.py. Peers are installed from the registry, each into an environment of its own;
one that cannot be has a row that says so. Every ratio is of medians measured in turn, so that the machine's mood is the
same for all. A call is timed, not what a peer's threads and processes do with it later: some only queue.
"""

import compileall
import csv
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
from types import ModuleType

import harness

ROOT = harness.ROOT
RUNX = ("runx==0.0.11", "tensorboardX", "numpy", "pyyaml", "tabulate", "coolname")
ROWS = 2000
ROUNDS = 5
STARTS = 30
KILLED = 100
METRICS = {"loss": 0.12345678901234, "acc": 0.9876}
NAMED = {f"val/{name}": value for name, value in METRICS.items()}  # for those that know no phases
Log = Callable[[int], object]


def log_with_logx(folder: str) -> Log:
    sys.path.insert(0, str(ROOT))
    from farmx.logx import LogX

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


def log_with_csv(folder: str) -> Log:
    file = open(f"{folder}/rows.csv", "a", newline="")  # noqa: SIM115  it is open for as long as there are rows
    writer = csv.writer(file)

    def log(step: int) -> None:
        writer.writerow(["val", step, time.time(), *METRICS.values()])
        file.flush()

    return log


def log_with_runx(folder: str) -> Log:
    import tensorboardX  # before it finds a torch

    assert tensorboardX
    sys.modules["torch"] = ModuleType("torch")  # it is imported, and nothing of it is used without checkpoints
    from runx.logx import LogX as Runx

    logx = Runx()
    logx.initialize(folder)
    return lambda step: logx.metric("val", METRICS, step)


def log_with_tensorboardx(folder: str) -> Log:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(folder)
    return lambda step: [writer.add_scalar(name, value, step) for name, value in NAMED.items()]


def log_with_wandb(folder: str) -> Log:
    import wandb

    run = wandb.init(project="bench", dir=folder, mode="offline", settings=wandb.Settings(silent=True))
    return lambda step: run.log(NAMED, step=step)


def log_with_aim(folder: str) -> Log:
    from aim import Run

    run = Run(repo=folder, system_tracking_interval=None, log_system_params=False)
    return lambda step: run.track(METRICS, step=step, context={"subset": "val"})


def log_with_mlflow(folder: str) -> Log:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    import mlflow

    mlflow.set_tracking_uri(f"file://{folder}/mlruns")
    mlflow.start_run()
    return lambda step: mlflow.log_metrics(NAMED, step=step)


def log_with_trackio(folder: str) -> Log:
    import trackio

    trackio.init(project="bench", embed=False)
    return lambda step: trackio.log(NAMED, step=step)


FLOOR = "json.dumps + os.write"
OURS = "logx.metric"
PEERS: dict[str, tuple[tuple[str, ...], Callable[[str], Log]]] = {  # what pip installs for it
    FLOOR: ((), log_with_json),
    OURS: ((), log_with_logx),
    "csv.writer, flush": ((), log_with_csv),
    "open, append, close": ((), log_with_open),
    "sqlite, WAL": ((), log_with_sqlite),
    "runx, csv": (RUNX, log_with_runx),
    "tensorboardX": (("tensorboardX",), log_with_tensorboardx),
    "trackio": (("trackio==0.43.0",), log_with_trackio),
    "wandb, offline": (("wandb==0.31.0",), log_with_wandb),
    "aim": (("aim==3.29.1",), log_with_aim),
    "mlflow, file store": (("mlflow==3.17.2",), log_with_mlflow),
}


def row_costs() -> dict[str, float]:
    """Median microseconds of a row; the loggers in turn, ROUNDS times; one that cannot be installed or run is told.

    Each in a process of its own: what a peer's threads write later is not charged to the next one.
    """
    costs: dict[str, list[float]] = {name: [] for name in PEERS}
    for _ in range(ROUNDS):
        for name in list(costs):
            try:
                costs[name].append(one_process(name))
            except (harness.Missing, subprocess.CalledProcessError) as error:
                print(f"  {name:32}not measured: {str(error).splitlines()[0]}")
                del costs[name]
    return {name: statistics.median(each) for name, each in costs.items()}


def one_process(name: str) -> float:
    """What `row_cost` says of a logger in a process of its own, whose home is empty."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        line = [harness.peer(*PEERS[name][0]), __file__, name, folder]
        env = {**os.environ, "HOME": folder, "TRACKIO_DIR": f"{folder}/trackio"}
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, env=env, check=True)
    return float(done.stdout.splitlines()[-1])


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
    codes = ["pass", "import farmx.logx", "import json", "import typing"]
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
