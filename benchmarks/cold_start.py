"""What a command costs before it does anything: CPU time beside the same imports bare, and file lookups.

The imports are those that the command loads beside its own modules: `python -c "import click, yaml, ..."`.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import harness
from dry_run import RUNX
from harness import Cost, Row

TIMES = 25
COMMANDS = ("farmx --help", "farmx sweep.yml -n", "farmx status sweep", "sumx sweep")
LOADED = """
import atexit, runpy, sys
before = set(sys.modules)
atexit.register(lambda: print("LOADED", *(set(sys.modules) - before), file=sys.stderr))
sys.argv = {words}
from farmx.__main__ import {name}
{name}()
"""


def rows() -> list[Row]:
    home = harness.place()
    (home / "sweep.yml").write_text("CMD: 'true'\nHPARAMS: {lr: [0.1]}\n")
    harness.cost([harness.farmx() / "farmx", "sweep.yml", "-i"], home)
    return [row for command in COMMANDS for row in measured(command, home)] + others(home)


def measured(command: str, home: Path) -> list[Row]:
    name, *words = command.split()
    argv = [str(harness.farmx() / name), *words]
    bare = [str(harness.farmx() / "python"), "-c", f"import {', '.join(imports(name, words, home))}"]
    both: dict[str, Callable[[], Cost]] = {
        "ours": lambda: harness.cost(argv, home),
        "bare": lambda: harness.cost(bare, home),
    }
    costs = harness.interleaved(both, TIMES)
    found = [harness.at_most(f"start of `{command}`, CPU, the same imports bare = 1",
                             costs["ours"].cpu_s / costs["bare"].cpu_s, 1.5)]  # fmt: skip
    if counted := lookups(argv, home):
        found.append(harness.at_most(f"start of `{command}`, stat and open", counted, 800, "calls"))
    return found


def imports(name: str, words: list[str], home: Path) -> list[str]:
    """The modules, ours left out, that the command loads and a bare python does not."""
    code = LOADED.format(words=[name, *words], name=name)
    done = subprocess.run([harness.farmx() / "python", "-c", code], cwd=home, env=harness.surroundings(home),
                          capture_output=True, text=True)  # fmt: skip
    loaded = done.stderr[done.stderr.rindex("LOADED") :].split()[1:]
    ours = {"farmx", "atexit", "runpy", "pkgutil", "cython_runtime"}
    return sorted(each for each in loaded if each.split(".")[0] not in ours and not each.startswith("_cython"))


def lookups(argv: list[str], home: Path) -> int:
    counted = harness.calls(argv, home)
    return sum(counted.get(name, 0) for name in harness.LOOKUPS)


def others(home: Path) -> list[Row]:
    """The floor, and a peer."""
    commands = {"python -c pass": [str(harness.farmx() / "python"), "-c", "pass"],
                "runx -h": [harness.python(*RUNX), "-m", "runx.runx", "-h"]}  # fmt: skip
    return [Row(f"`{name}`, stat and open", f"{lookups(argv, home)} calls", "", None)
            for name, argv in commands.items()]  # fmt: skip


if __name__ == "__main__":
    harness.show(rows())
