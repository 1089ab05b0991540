"""A small job that begins when an array has ended, and does what RETRY says of its runs; never decides what that is."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from farmx import layout
from farmx.errors import RecordError
from farmx.farms import slurm_script
from farmx.farms.calls import Said, call
from farmx.spec import Submission

# Of the resources of the runs, what says where and on whose account a job may be.
SHARED = ("partition", "account", "qos", "reservation")
NEEDS = ("--ntasks=1", "--mem=500", "--time=30")


def wanted(submission: Submission) -> bool:
    """Whether the runs of the submission were staged with SENTINEL."""
    try:
        told = layout.read_json(os.path.join(submission.jobs[0].run, layout.RUN), layout.RUN_FORMAT)
    except (OSError, RecordError):  # somebody deleted it while it was queued
        return False
    return told.get(layout.SENTINEL) is True


def queue(submission: Submission, array: str, name: str, resources: Mapping[str, Any]) -> Said:
    """Queue it behind the array of this id; what sbatch said. name: of the array's jobs."""
    script = os.path.join(submission.path, layout.TEND)
    log = shlex.quote(script + layout.LOG_SUFFIX)  # a name with % would mean something to sbatch
    layout.write(script, f"#!/bin/sh\nexec {command(submission)} >>{log} 2>&1\n", 0o777)
    plain = slurm_script.plain(resources)
    same = [f"--{key}={slurm_script.said(plain[key])}" for key in SHARED if key in plain]
    return call(["sbatch", "--parsable", f"--job-name={name}.tend", f"--dependency=afterany:{array}",
                 f"--chdir={submission.path}", "--output=/dev/null", *NEEDS, *same, script])  # fmt: skip


def command(submission: Submission) -> str:
    """What it runs, as shell text: farmx tend, by the Python that submits, of this experiment and no other."""
    experiment = layout.experiment_of(submission.path)
    root, name = os.path.split(experiment)
    return shlex.join([sys.executable, "-m", "farmx", "tend", "--logroot", root, name])
