"""The commands of a scheduler, called and answered as values; never what they mean."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from farmx import layout

TIMEOUT_S = 120.0  # a scheduler that takes longer does not answer
_DROPPED = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SRUN_")
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")
_OURS = (layout.ENV_RUN, layout.ENV_ATTEMPT, layout.ENV_ATTEMPT_DIR, layout.ENV_EXPERIMENT, layout.ENV_POINT,
         layout.ENV_LOGDIR)  # fmt: skip
_TRANSIENT = (
    "timed out",
    "unable to contact slurm controller",
    "connection refused",
    "connection reset",
    "connection failure",
    "zero bytes were transmitted",
    "resource temporarily unavailable",
    "temporarily unable to accept job",
    "unable to establish controller",
    "backup controller in standby",
    "transport endpoint is not connected",
    "try again",
    "submit limit",
    "submitjoblimit",
    "maxsubmitjobsperuser",
    "communication error",
    "unable to contact qmaster",
    "can't reach qmaster",
    "no response from",
    "send timeout",
)


class Said(NamedTuple):
    """code: the exit code, None where there is no such command. One that did not answer in time has code 124."""

    code: int | None
    output: str
    error: str


def call(
    argv: Sequence[str], text: str = "", timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None
) -> Said:
    """Run a command to its end in `environment` and `env`, `text` on its standard input."""
    import subprocess  # spares those who ask no scheduler

    try:
        made = subprocess.run(argv, input=text, capture_output=True, encoding="utf-8", errors="replace",
                              env={**environment(), **(env or {})}, timeout=timeout_s, check=False)  # fmt: skip
    except FileNotFoundError:
        return Said(None, "", f"there is no {argv[0]} here")
    except subprocess.TimeoutExpired:
        return Said(124, "", f"{argv[0]} timed out after {timeout_s:.0f} s")
    except OSError as error:
        return Said(126, "", f"{argv[0]}: {error.strerror}")
    return Said(made.returncode, made.stdout, made.stderr)


def environment() -> dict[str, str]:
    """Ours without what a job that we are in would hand down: SLURM_NTASKS of this job is not that of the next."""
    kept = {key: value for key, value in os.environ.items() if key in _KEPT or not key.startswith(_DROPPED)}
    return {key: value for key, value in kept.items() if key not in _OURS}


def transient(error: str) -> bool:
    """Whether a scheduler could not answer now, as opposed to refusing."""
    said = error.lower()
    return any(word in said for word in _TRANSIENT)
