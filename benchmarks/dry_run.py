"""What `farmx sweep.yml -n` costs at 10,000 points, beside a process that reads the yaml and prints the product.

At 1,000 points also beside peers: `runx -n -i`, `run --dry-run` of mlrunner, and hydra's `--multirun` of a function
that does nothing, the least that makes it go through all points: it has no dry run and says each job as it begins.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import harness
import pool
from harness import Cost, Row

TIMES = 15
SIZES = (10, 10, 10, 10)
PEERS_SIZES = (10, 10, 10)
PEERS_TIMES = 3
SLOW = "hydra"  # takes minutes: measured once, with --long
RUNX = ("runx==0.0.11", "tabulate", "pyyaml", "coolname")
FLOOR = """
import itertools, yaml
with open("sweep.yml") as file:
    sweep = yaml.load(file, yaml.CSafeLoader)
hparams = sweep["HPARAMS"]
for values in itertools.product(*hparams.values()):
    print(sweep["CMD"], " ".join(f"--{key} {value}" for key, value in zip(hparams, values)))
"""
HYDRA = """
import hydra
@hydra.main(version_base=None, config_path=None, config_name=None)
def main(config):
    pass
main()
"""
FILES = {"floor.py": FLOOR, "hydra_app.py": HYDRA, "train.py": "", ".runx": "LOGROOT: runs\n",
         "params.yaml": pool.params(PEERS_SIZES)}  # fmt: skip
AXES = [f"+axis_{index}={','.join(map(str, range(size)))}" for index, size in enumerate(PEERS_SIZES)]
PEERS = {  # what pip installs, what python is asked for
    "runx": (RUNX, ("-m", "runx.runx", "sweep.yml", "-n", "-i")),
    "mlrunner": (pool.MLRUNNER, ("-c", "from mlrunner.run import main; main()", "--dry-run")),
    "hydra": (("hydra-core==1.3.8",), ("hydra_app.py", "--multirun", *AXES)),
}


def rows() -> list[Row]:
    return [*alone(), *beside_peers()]


def alone() -> list[Row]:
    home = harness.place()
    harness.grid(home / "sweep.yml", "python train.py", SIZES)
    (home / "floor.py").write_text(FLOOR)
    scripts = harness.farmx()
    costs = harness.interleaved(
        {
            "ours": lambda: harness.cost([scripts / "farmx", "sweep.yml", "-n"], home),
            "floor": lambda: harness.cost([scripts / "python", "floor.py"], home),
        },
        TIMES,
    )
    ours, floor = costs["ours"], costs["floor"]
    what = "`farmx sweep.yml -n` of 10,000 points, C yaml + itertools.product + print = 1"
    return [
        harness.at_most(f"{what}, CPU", ours.cpu_s / floor.cpu_s, 3),
        harness.at_most(f"{what}, wall", ours.wall_s / floor.wall_s, 3),
    ]


# Beside peers


def beside_peers() -> list[Row]:
    measured = {"floor": costs_of([harness.farmx() / "python", "floor.py"]),
                "farmx": costs_of([harness.farmx() / "farmx", "sweep.yml", "-n"])}  # fmt: skip
    what, missing = "1,000 points, the floor = 1; CPU, wall", []
    for name, (requirements, words) in PEERS.items():
        if name == SLOW and not harness.rounds(0, 1):
            missing.append(Row(f"{what}: {name}", "measured with --long", "", None))
            continue
        try:
            measured[name] = costs_of([harness.peer(*requirements), *words])
        except harness.Missing:
            missing.append(Row(f"{what}: {name}", "cannot be installed", "", None))
    slow = {SLOW: measured.pop(SLOW)} if SLOW in measured else {}
    costs = harness.interleaved(measured, PEERS_TIMES) | harness.interleaved(slow, 1)
    floor = costs.pop("floor")
    found = {name: (each.cpu_s / floor.cpu_s, each.wall_s / floor.wall_s) for name, each in costs.items()}
    return [Row(f"{what}: {name}", ", ".join(map(harness.rounded, each)), "", None)
            for name, each in found.items()] + missing  # fmt: skip


def costs_of(argv: Sequence[str | Path]) -> Callable[[], Cost]:
    """What measures a command, each time in a new directory: mlrunner prints nothing a second time."""

    def measure() -> Cost:
        home = harness.place()
        harness.grid(home / "sweep.yml", "python train.py", PEERS_SIZES)
        for name, text in FILES.items():
            (home / name).write_text(text)
        return harness.cost(argv, home)

    return measure


if __name__ == "__main__":
    harness.show(rows())
