"""What running 1,000 times `true` two at a time costs: CPU time beside `xargs -P2 sh -c true` and beside mlrunner.

The command is `true` for all three; farmx stages, claims, records and logs each run, mlrunner does so in its way.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import harness
from harness import Cost, Row

SIZES = (10, 10, 10)
RUNS = 1000
TIMES = 3
MLRUNNER = ("--no-deps", "mlrunner==0.5.9", "dill==0.3.6", "multiprocess==0.70.14", "ilock", "portalocker", "pyyaml",
            "tabulate")  # fmt: skip  # pandas is left out: for another command


def rows() -> list[Row]:
    home = harness.place()
    harness.grid(home / "sweep.yml", "'true'", SIZES)
    costs = harness.interleaved(
        {
            "farmx": lambda: farmx(home),
            "xargs": lambda: harness.cost(["sh", "-c", f"seq {RUNS} | xargs -P2 -n1 sh -c true"], home),
            "mlrunner": mlrunner,
        },
        TIMES,
    )
    ours, floor, peer = (costs[name] for name in ("farmx", "xargs", "mlrunner"))
    what = f"{RUNS:,} runs of `true`, two at a time, CPU"
    return [
        harness.at_least(f"{what}: less than mlrunner", peer.cpu_s / ours.cpu_s, 5),
        Row(f"{what}: `xargs -P2 sh -c true` = 1", f"{ours.cpu_s / floor.cpu_s:.3g} x", "", None),
        Row("a run takes: farmx, xargs, mlrunner",
            ", ".join(f"{each.cpu_s / RUNS * 1000:.2f} ms" for each in (ours, floor, peer)), "", None),
        Row("all take: farmx, xargs, mlrunner", ", ".join(f"{each.wall_s:.1f} s" for each in (ours, floor, peer)),
            "", None),
    ]  # fmt: skip


def farmx(home: Path) -> Cost:
    logroot = harness.place()
    return harness.cost([harness.farmx() / "farmx", "sweep.yml", "-j", "2", "--logroot", logroot], home)


def mlrunner() -> Cost:
    """Its own format of the same grid, on two resources."""
    home = harness.place()
    (home / "params.yaml").write_text(params(SIZES))
    run = Path(harness.python(*MLRUNNER)).parent / "run"
    return harness.cost([run], home, {**os.environ, "HOME": str(home)})


def params(sizes: Sequence[int]) -> str:
    """The text of a params.yaml of a grid of these sizes."""
    axes = "".join(f"axis_{index}: [{', '.join(map(str, range(size)))}]\n" for index, size in enumerate(sizes))
    template = " ".join(("true", *(f"[axis_{index}]" for index in range(len(sizes)))))
    return f"---\ntemplate: {{main: '{template}'}}\nresource: [0, 1]\n---\n{axes}"


if __name__ == "__main__":
    harness.show(rows())
