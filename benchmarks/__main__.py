"""All measurements, one after another: python -m benchmarks [--long] [NAME...]. Each takes up to two minutes, and
installs its peers once; --long: more rounds, as the figures of README.md have, and what takes minutes alone.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent
sys.path.insert(0, str(HOME))

import harness  # noqa: E402  it is found beside this file

TABLES = ("cold_start", "dry_run", "launching", "pool", "slurm", "packing", "submitting")
SCRIPTS = {
    "logx": lambda: [harness.farmx() / "python", HOME / "logx.py"],
    "sumx": lambda: [harness.farmx() / "python", HOME / "sumx.py", "--times", str(harness.rounds(2, 5)),
                     "--peer", harness.python("runx==0.0.11", "tabulate", "pyyaml")],
}  # fmt: skip


def main(words: list[str]) -> None:
    names = [word for word in words if word != "--long"]
    if len(names) < len(words):
        os.environ[harness.LONG] = "1"
    for name in names or (*TABLES, *SCRIPTS):
        print(f"\n{name}\n", flush=True)
        if name in TABLES:
            harness.show(importlib.import_module(name).rows())
        else:
            subprocess.run(SCRIPTS[name](), check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
