"""The commands of a scheduler, called and answered as values; never what they mean."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from farmx import layout

if TYPE_CHECKING:
    import subprocess

TIMED_OUT = 124
TIMEOUT_S = 120.0  # a scheduler that takes longer does not answer
_DROPPED = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SRUN_")
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")
_LOGIN = ("SLURM_JWT",)  # who we are, where tokens say so; written nowhere
_IN_A_JOB = ("SLURM_JOB_ID", "JOB_ID", "PBS_JOBID", "LSB_JOBID")
_OF_A_TASK = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
              "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
              "ZE_AFFINITY_MASK")  # fmt: skip
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
    "submitjob",  # a limit of submitted jobs: it will let in more one day; limited() tells it from the others
    "communication error",
    "unable to contact qmaster",
    "unable to send message to qmaster",
    "can't reach qmaster",
    "no response from",
    "send timeout",
)
ALL = "MaxJobCount"  # the limit of all jobs of a cluster
_FULL = "unable to accept job, sleeping"  # sbatch says so there, and tries again for two minutes
# Grid Engine; OpenPBS; Torque; HTCondor; Slurm; LSF.
_CROWDED = (
    r"(?i)jobs are allowed per (?:user|cluster)|would exceed .*\blimit\b|maximum number of jobs|would exceed max_jobs"
    r"|submitjob|job submit limit|pending job threshold"
)

_ERROR = r"(?i)(?:denied|error)\b"  # qdel says so of one job, then that others are ended


class Said(NamedTuple):
    """code: the exit code, None where there is no such command. TIMED_OUT: it did not answer in time."""

    code: int | None
    output: str
    error: str

    def reason(self) -> str:
        """Why it failed, a line of its errors, else of its output: the last that begins with `error` or `denied`, else
        the last of several words (`Exiting.` tells nothing), else the last."""
        for text in (self.error, self.output):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines:
                useful = [line for line in lines if " " in line]
                return ([line for line in useful if re.match(_ERROR, line)] or useful or lines)[-1]
        return "it gave no reason"


def call(
    argv: Sequence[str],
    text: str = "",
    timeout_s: float = TIMEOUT_S,
    env: Mapping[str, str] | None = None,
    cluster: Mapping[str, str] | None = None,
    apart: Apart | None = None,
) -> Said:
    """Run a command to its end in the `environment` of that cluster and `env`, `text` on its standard input.

    apart: among these.
    """
    import subprocess  # spares those who ask no scheduler

    whole = {**environment(cluster), **(env or {})}
    try:
        if apart is not None:
            return apart.call(argv, text, timeout_s, whole)
        made = subprocess.run(argv, input=text, capture_output=True, encoding="utf-8", errors="replace", env=whole,
                              timeout=timeout_s, check=False)  # fmt: skip
    except FileNotFoundError:
        return Said(None, "", f"there is no {argv[0]} here")
    except subprocess.TimeoutExpired as late:
        meanwhile = late.stderr.decode(errors="replace").split("\n") if isinstance(late.stderr, bytes) else []
        lines = [*filter(str.strip, meanwhile), f"{argv[0]} timed out after {timeout_s:.0f} s"]
        return Said(TIMED_OUT, "", "; ".join(lines[-2:]))  # why it waited, and that it did
    except OSError as error:
        return Said(126, "", f"{argv[0]}: {error.strerror}")
    return Said(made.returncode, made.stdout, made.stderr)


class Apart:
    """Commands in sessions of their own, which hear no Ctrl-C of our terminal: who takes a job is heard to the end.

    Those that still run when this is left are ended.
    """

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self._over = False

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill them, with what they started, and what another thread begins from now on."""
        self._over = True
        for process in tuple(self.running):
            _kill(process)

    def call(self, argv: Sequence[str], text: str, timeout_s: float, env: Mapping[str, str]) -> Said:
        """As `call`; raises what subprocess does."""
        import subprocess  # spares those who ask no scheduler

        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace", env=env,
                              start_new_session=True) as process:  # fmt: skip
            self.running.add(process)
            if self._over:
                _kill(process)
            try:
                output, error = process.communicate(text, timeout_s)
            finally:
                _kill(process)  # where it has not ended
                self.running.discard(process)
        return Said(process.returncode, output, error)


def _kill(process: subprocess.Popen[str]) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def environment(cluster: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what a job that we are in would hand down: SLURM_NTASKS, or RANK, of this job is not the next one's.

    cluster: what `here` said when the cluster was asked first; None: as it is here.
    """
    inside = any(name in os.environ for name in _IN_A_JOB)
    named = here() if cluster is None else _there(cluster)
    kept = {
        key: value
        for key, value in os.environ.items()
        if (key in _LOGIN or not key.startswith(_DROPPED)) and key not in _OURS and not (inside and key in _OF_A_TASK)
    }
    return {**kept, **{key: value for key, value in named.items() if value}}


def here() -> dict[str, str]:
    """Which cluster the commands of a scheduler reach from here, for asking the same one from elsewhere."""
    return {key: os.environ.get(key, "") for key in _KEPT}


def _there(cluster: Mapping[str, str]) -> Mapping[str, str]:
    """`cluster`, as far as this machine knows it: a job may have had a configuration that only nodes have."""
    conf = cluster.get("SLURM_CONF")
    return cluster if not conf or os.path.exists(conf) else here()


def transient(error: str) -> bool:
    """Whether a scheduler could not answer now, as opposed to refusing."""
    said = error.lower()
    return any(word in said for word in _TRANSIENT)


def limited(error: str) -> str:
    """What Slurm calls the limit of submitted jobs that is in the way, '' when none is: AssocMaxSubmitJobLimit."""
    found = re.search(r"\w*SubmitJob\w*", error)
    return found[0] if found else ALL if _FULL in error else ""


def crowded(error: str) -> bool:
    """Whether a scheduler refuses a job for the number of jobs that there are: it will take it when some have ended."""
    return bool(re.search(_CROWDED, error))


def user(uid: int | None = None) -> str:
    """Whose jobs ours are, or those of another, as a scheduler names us; the number where it has no name, as in a
    container."""
    import pwd  # spares those who ask no scheduler

    number = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
