"""What `farmx sweep.yml -n` costs at 10,000 points, beside a process that reads the yaml and prints the product."""

import harness
from harness import Row

TIMES = 15
SIZES = (10, 10, 10, 10)
FLOOR = """
import itertools, yaml
with open("sweep.yml") as file:
    sweep = yaml.load(file, yaml.CSafeLoader)
hparams = sweep["HPARAMS"]
for values in itertools.product(*hparams.values()):
    print(sweep["CMD"], " ".join(f"--{key} {value}" for key, value in zip(hparams, values)))
"""


def rows() -> list[Row]:
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


if __name__ == "__main__":
    harness.show(rows())
