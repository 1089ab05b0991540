"""Slurm: job arrays through sbatch, asked with squeue and sacct; never decides what to run or what became of a run.

submitit names the parameters and writes the batch script. It is handed nothing else: its own jobs are pickles that it
moves after sbatch returned, so a launcher killed in between would fail the array; and its rules for time limits are not
ours. The script is one line, the runner with the submission and the array's index.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout
from farmx.errors import ConfigError, FarmError, nearest
from farmx.farms import base, carried, slurm_words
from farmx.farms.base import Answer, Answers, Batch
from farmx.farms.calls import call, transient
from farmx.spec import Held, Job, State, Submission

EXECUTOR = "slurm"
DELAYS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # between attempts to reach a controller that does not answer
NOTICE_S = 60  # how long before its limit or its preemption a program is told
NAMED = 200  # submissions that one squeue is asked for by name; more are picked from all of the user's
OURS = ("array", "chdir", "comment", "error", "input", "job_name", "open_mode", "output", "parsable", "requeue",
        "no_requeue", "test_only", "wait", "wrap")  # fmt: skip
PARALLEL = "array_parallelism"
# Set for every task of a run that has several, as torch.distributed reads them.
RANKS = (
    "export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID NODE_RANK=$SLURM_NODEID "
    'LOCAL_WORLD_SIZE=$(echo "$SLURM_STEP_TASKS_PER_NODE" | cut -d, -f$((SLURM_NODEID + 1)) | cut -d"(" -f1); exec "$@"'
)


class Farm(NamedTuple):
    """A Slurm cluster, as the commands on this machine reach it.

    origins: where each key of RESOURCES is from, for messages.  max_requeues: how often the runner requeues a job.
    """

    name: str
    origins: Mapping[str, str] = {}
    max_requeues: int = 3
    delays_s: Sequence[float] = DELAYS_S
    executor: str = EXECUTOR

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Raises ConfigError for resources that sbatch would refuse, FarmError where there is no sbatch."""
        known = _options()
        for resources in [batch.resources for batch in base.alike(((Job("", ""), each) for each in wanted), 1)]:
            self._check_names(resources, known)
            self._check_values(resources)

    def _check_names(self, resources: Mapping[str, Any], known: Sequence[str]) -> None:
        for key, value in resources.items():
            name = key.replace("-", "_")
            if name in OURS:
                raise ConfigError(f"{self._where(key)} is set by farmx itself; take it out")
            if name not in known and name != PARALLEL:
                raise ConfigError(f"{self._where(key)} is no option of sbatch{nearest(name, list(known))}")
            if name == PARALLEL and not (type(value) is int and value > 0):
                raise ConfigError(f"{self._where(key)}: {value!r} is not allowed; it must be a whole number above 0")
            if any(character in str(value) for character in "\n\\"):
                raise ConfigError(f"{self._where(key)}: sbatch takes no newline and no backslash; write it without")
            if name == "signal" and not re.fullmatch(r"B:(SIG)?USR2@\d+", str(value)):
                raise ConfigError(f"{self._where(key)}: {value!r} is not allowed; it must be B:USR2@SECONDS: the "
                                  "runner takes USR2 and sends the program SIGTERM")  # fmt: skip

    def _check_values(self, resources: Mapping[str, Any]) -> None:
        said = call(["sbatch", "--test-only"], text=script("true", resources, 1))
        reason = _reason(said.error)
        if said.code == 0 or transient(said.error) or "down, drained or reserved" in said.error:
            return
        key = slurm_words.blamed(reason, resources)
        where = f"{self._where(key)} {resources[key]!r}" if key else f"farm '{self.name}': RESOURCES"
        raise ConfigError(f"{where}: sbatch says: {reason}{_known(key, resources)}")

    def _where(self, key: str) -> str:
        origin = self.origins.get(f"RESOURCES.{key}")
        return f"{origin}: RESOURCES.{key}" if origin else f"RESOURCES.{key}"

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        """Arrays of equal resources, none larger than MaxArraySize lets it be."""
        return base.alike(jobs, _max_array())

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """One sbatch for each array."""
        for submission in submissions:
            self._record(submission)
            layout.write(os.path.join(submission.path, layout.SCRIPT), script(
                carried.command(submission.path, '"$SLURM_ARRAY_TASK_ID"'), submission.resources, len(submission.jobs)
            ))  # fmt: skip
        for submission in submissions:
            name = self._queue(submission)
            base.record_queued(submission.path, 0, len(submission.jobs) - 1, name)
            heard(submission, len(submission.jobs))

    def _record(self, submission: Submission) -> None:
        resources = submission.resources
        record = {
            "format": layout.JOB_FORMAT,
            "farm": self.name,
            "executor": EXECUTOR,
            "submitted": time.time(),
            "user": _user(),
            "name": _job_name(submission),
            "resources": dict(resources),
            "node": _for_the_runner(resources, self.max_requeues),
        }
        layout.write_json(os.path.join(submission.path, layout.JOB), record)

    def _queue(self, submission: Submission) -> str:
        """The id of the array, queued now or by a call that gave no answer. Raises FarmError."""
        argv = _sbatch(submission)
        for delay_s in (*self.delays_s, None):
            said = call(argv)
            if said.code == 0:
                return said.output.strip().split(";")[0]
            if not transient(said.error):
                break
            if found := _found(_job_name(submission)):
                return found
            if delay_s is not None:
                time.sleep(delay_s)
        raise FarmError(f"sbatch exited {said.code} for {_runs(submission)}: {_reason(said.error)}; "
                        "what was queued before is kept, the rest is staged: the same command goes on")  # fmt: skip


# ---------------------------------------------------------------- what sbatch is given


def script(command: str, resources: Mapping[str, Any], tasks: int) -> str:
    """The batch script of an array of so many jobs: submitit's text for `resources`, and the command."""
    import warnings  # only who submits

    from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string  # a fifth of a second; only who submits

    wanted = {key.replace("-", "_"): _text(value) for key, value in resources.items() if value not in (None, False)}
    parallel = wanted.pop(PARALLEL, None)
    known = SlurmExecutor._valid_parameters() - {"additional_parameters", "setup", "teardown", "srun_args"}
    named = {key: wanted.pop(key) for key in list(wanted) if key in known}
    ours = {"array": f"0-{tasks - 1}" + (f"%{parallel}" if parallel else ""), "requeue": True,
            "signal": f"B:USR2@{NOTICE_S}", **wanted}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice on combinations is for its own users
        text: str = _make_sbatch_string(
            _lines(command, resources), folder="/dev/null", **{"time": None, "nodes": None, **named},
            wckey=None, use_srun=False, stderr_to_stdout=True, additional_parameters=ours,
        )  # fmt: skip
    # What its own jobs know each other by, and an output that the command line says.
    unwanted = ("export SUBMITIT_", "#SBATCH --output=", "#SBATCH --job-name=", "#SBATCH --open-mode=")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(unwanted))


def _lines(command: str, resources: Mapping[str, Any]) -> str:
    if not _tasks(resources):
        return command
    port = "$((20000 + SLURM_JOB_ID % 20000))"
    return f'export MASTER_ADDR="$(hostname)" MASTER_PORT={port}\n{command}'


def _text(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _tasks(resources: Mapping[str, Any]) -> bool:
    """Whether a run of these resources has several tasks."""
    counts = {key.replace("-", "_"): str(value) for key, value in resources.items() if value is not None}
    return any(counts.get(key, "1") != "1" for key in ("nodes", "ntasks", "ntasks_per_node", "ntasks_per_gpu"))


def _for_the_runner(resources: Mapping[str, Any], max_requeues: int) -> dict[str, Any]:
    """What a node needs to know of Slurm: see node."""
    each = ["srun", "--kill-on-bad-exit=1", "/bin/sh", "-c", RANKS, "rank"] if _tasks(resources) else []
    signal = str(resources.get("signal") or f"B:USR2@{NOTICE_S}")
    return {
        "job": "SLURM_JOB_ID",
        "restarts": "SLURM_RESTART_COUNT",
        "each": each,
        "notice_s": int(signal.rpartition("@")[2]),
        "requeue": ["scontrol", "requeue"],
        "max_requeues": max_requeues,
        "ask": ["scontrol", "show", "job", "-o"],
        "answer": r"JobState=(\w+)",
        "words": {"CANCELLED": "cancelled", "PREEMPTED": "preempted", "TIMEOUT": "time", "PENDING": "preempted",
                  "REQUEUED": "preempted", "OUT_OF_MEMORY": "memory"},
    }  # fmt: skip


def _sbatch(submission: Submission) -> list[str]:
    """The call. What may hold any character stands here: a line of the script loses some."""
    path = submission.path.replace("%", "%%")
    return [
        "sbatch",
        "--parsable",
        f"--job-name={_job_name(submission)}",
        f"--comment={submission.id}",
        f"--chdir={submission.path}",
        f"--output={path}/%a{layout.LOG_SUFFIX}",
        "--open-mode=append",
        os.path.join(submission.path, layout.SCRIPT),
    ]


def _job_name(submission: Submission) -> str:
    """The experiment, for people, and the submission, by which the job is found again."""
    experiment = os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(submission.path))))
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', experiment)[:80]}.{submission.id}"


def _runs(submission: Submission) -> str:
    first = os.path.basename(submission.jobs[0].run)
    return f"run {first}" if len(submission.jobs) == 1 else f"{len(submission.jobs)} runs from {first} on"


# ---------------------------------------------------------------- what Slurm knows


def _options() -> list[str]:
    """Every option of this sbatch, spelled with underscores."""
    said = call(["sbatch", "--help"])
    if said.code is None:
        raise FarmError("there is no sbatch here; launch from a machine of the cluster, or choose another --farm")
    found = re.findall(r"--([a-z][a-z-]+)", said.output)
    if not found:
        raise FarmError(f"sbatch --help says no options but: {_reason(said.error)}; is Slurm set up here?")
    return sorted({name.replace("-", "_") for name in found})


def _max_array() -> int:
    """How many jobs an array may hold."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", call(["scontrol", "show", "config"]).output)
    return int(found[1]) if found else 1001  # Slurm's default


def _known(key: str | None, resources: Mapping[str, Any]) -> str:
    """The end of a message: what would have been allowed, where Slurm says that."""
    column = {"partition": "%R", "constraint": "%f"}.get((key or "").replace("-", "_"))
    if key is None or column is None:
        return ""
    rows = call(["sinfo", "-h", "-o", column]).output.split()
    names = sorted({name for row in rows for name in row.split(",") if name != "(null)"})
    return nearest(str(resources[key]), names)


def _reason(error: str) -> str:
    """What a command of Slurm said, in one line: its last."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line.strip()) for line in error.splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(("sbatch: lua", "sbatch: Estimated"))]
    return useful[-1].removeprefix("allocation failure: ") if useful else "it gave no reason"


def _user() -> str:
    import pwd  # only who submits

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _found(name: str) -> str | None:
    """The id of the array of this name, None when there is none such or nobody answers."""
    said = call(["squeue", "-h", "-t", "all", f"--name={name}", "-o", "%F"])
    return said.output.split()[0] if said.code == 0 and said.output.split() else None


# ---------------------------------------------------------------- asking


def poll(helds: Sequence[Held]) -> Answers:
    """What squeue says of each, in one call; for those it has forgotten, what sacct says, where there is accounting."""
    if not helds:
        return {}
    names = {str(held.record.get("name")): held.submission for held in helds}
    users = ",".join(sorted({str(held.record.get("user")) for held in helds}))
    by_name = [f"--name={','.join(sorted(names))}"] if len(names) <= NAMED else []
    said = call(["squeue", "-h", "-r", "-t", "all", "-u", users, *by_name, "-o", "%K|%T|%r|%j"])
    if said.code != 0:
        note = f"Slurm cannot be asked: {_reason(said.error)}" if said.code is not None else "there is no squeue here"
        return {(held.submission, held.place): Answer(State.UNKNOWN, note) for held in helds}
    answers = dict(_answers(names, (line.split("|", 3) for line in said.output.splitlines())))
    forgotten = [held for held in helds if (held.submission, held.place) not in answers]
    return {**_accounted(forgotten, users), **answers}


def _answers(names: Mapping[str, str], rows: Iterator[list[str]]) -> Iterator[tuple[tuple[str, int], Answer]]:
    for index, state, reason, name in (row for row in rows if len(row) == 4):
        if name in names and index.isdecimal():
            yield (names[name], int(index)), slurm_words.answer(state, reason)


def _accounted(helds: Sequence[Held], users: str) -> Answers:
    """How those jobs ended that squeue has forgotten; {} without accounting. Only those that were ever queued."""
    helds = [held for held in helds if held.name is not None]
    if not helds:
        return {}
    names = {str(held.record.get("name")): held.submission for held in helds}
    since = min(float(held.record.get("submitted") or 0.0) for held in helds)
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 60))
    by_name = [f"--name={','.join(sorted(names))}"] if len(names) <= NAMED else []
    said = call(["sacct", "-n", "-P", "-X", "-u", users, "-S", start, *by_name, "-o", "JobID,State,Reason,JobName"])
    rows = (line.split("|", 3) for line in said.output.splitlines() if said.code == 0)
    return dict(_answers(names, ([row[0].rpartition("_")[2], *row[1:]] for row in rows)))


# ---------------------------------------------------------------- cancel


def cancel(helds: Sequence[Held]) -> None:
    """End these jobs, waiting or running, in one call. Raises FarmError; what has ended already is no error."""
    wanted: dict[str, list[int]] = {}
    for held in helds:
        name = held.name or _found(str(held.record.get("name")))  # queued, and nobody lived to record it
        if name:
            wanted.setdefault(name, []).append(held.place)
    if not wanted:
        return
    said = call(["scancel", *(f"{name}_[{_ranges(places)}]" for name, places in wanted.items())])
    if said.code is None:
        raise FarmError("there is no scancel here; cancel from a machine of the cluster")
    if said.code != 0 and not any(word in said.error for word in ("Invalid job id", "already completed")):
        raise FarmError(f"scancel: {_reason(said.error)}")


def _ranges(places: Sequence[int]) -> str:
    """0,1,2,5 as Slurm writes it: 0-2,5."""
    parts: list[list[int]] = []
    for place in sorted(set(places)):
        if parts and place == parts[-1][1] + 1:
            parts[-1][1] = place
        else:
            parts.append([place, place])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
