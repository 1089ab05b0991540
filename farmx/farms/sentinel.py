"""A small job that begins when an array has ended, and does what RETRY says of its runs; never decides what that is."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from farmx import layout, needs
from farmx.errors import RecordError
from farmx.farms import slurm_script

# Of the resources of the runs, what says where and on whose account a job may be.
SHARED = ("partition", "account", "qos", "reservation")
NEEDS = ("--ntasks=1", "--mem=500", "--time=30")


def wanted(submission: str) -> bool:
    """Whether the runs of the submission directory were staged with SENTINEL."""
    try:
        with open(os.path.join(submission, layout.RUNS), encoding="utf-8", errors="surrogateescape") as file:
            _, _, run = file.readline().rstrip("\n").partition(" ")  # ten thousand lines say the same
        told = layout.read_json(os.path.join(layout.experiment_of(submission), run, layout.RUN), layout.RUN_FORMAT)
    except (OSError, RecordError):  # somebody deleted it while it was queued
        return False
    return told.get(layout.SENTINEL) is True


def called(name: str) -> str:
    """What the sentinel of an array of this name is called."""
    return f"{name}.tend"


def sbatch(submission: str, arrays: Sequence[str], name: str, resources: Mapping[str, Any]) -> list[str]:
    """The call that queues it behind these arrays, of this name; its script is written."""
    script = os.path.join(submission, layout.TEND)
    log = shlex.quote(script + layout.LOG_SUFFIX)  # a name with % would mean something to sbatch
    layout.write(script, f"#!/bin/sh\nexec {command(submission)} >>{log} 2>&1\n", 0o777)
    plain = needs.plainly(resources)
    same = [f"--{key}={slurm_script.said(plain[key])}" for key in SHARED if key in plain]
    return ["sbatch", "--parsable", f"--job-name={called(name)}", f"--dependency=afterany:{':'.join(arrays)}",
            f"--chdir={submission}", "--output=/dev/null", *NEEDS, *same, script]  # fmt: skip


def command(submission: str) -> str:
    """What it runs, as shell text: farmx tend, by the Python that submits, of this experiment and no other."""
    root, name = os.path.split(layout.experiment_of(submission))
    return shlex.join([sys.executable, "-m", "farmx", "tend", "--logroot", root, name])
