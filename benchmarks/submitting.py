"""Submitting 64 runs by a command that takes a second, two with --long: sixteen calls at once, or one after another."""

import json
from pathlib import Path

import harness
from harness import Cost, Row

RUNS = 64
TAKES_S = float(harness.rounds(1, 2))
AT_ONCE = 16


def rows() -> list[Row]:
    home = harness.place()
    harness.grid(home / "sweep.yml", "'true'", (RUNS,))
    rest = min(launch(home, 1, 0) for _ in range(2))  # all that a launch does beside waiting for the calls
    one, many = (launch(home, count) for count in (1, AT_ONCE))
    what = f"submitting {RUNS} runs, {TAKES_S:g} s a call, {AT_ONCE} at once"
    calls = (one.wall_s - rest.wall_s) / (many.wall_s - rest.wall_s)
    took = ", ".join(f"{each.wall_s:.1f} s" for each in (one, many, rest))
    return [
        harness.at_least(f"{what}: the calls are faster than one after another", calls, 15),
        Row("the launch", f"{one.wall_s / many.wall_s:.3g} x", "", None),
        Row("it takes: one after another, at once, where a call takes no time", took, "", None),
    ]


def launch(home: Path, at_once: int, takes_s: float = TAKES_S) -> Cost:
    submit = home / "submit_job"
    submit.write_text(f"#!/bin/sh\nsleep {takes_s}\necho 1\n")
    submit.chmod(0o755)
    section = {"SUBMIT_CMD": str(submit), "SUBMIT_PARALLEL": at_once}
    (home / ".farmx.yaml").write_text(json.dumps({"FARM": "slow", "slow": section}))
    return harness.cost([harness.farmx() / "farmx", "sweep.yml", "--logroot", harness.place()], home)


if __name__ == "__main__":
    harness.show(rows())
