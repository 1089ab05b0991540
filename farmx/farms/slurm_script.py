"""What Slurm is handed for an array: the batch script, and what the runner needs to know there; never calls Slurm.

submitit names the parameters and writes the script. It is handed nothing else: its own jobs are pickles that it moves
after sbatch returned, so a launcher killed in between would fail the array; and its rules for time limits are not ours.
The script is one line, the runner with the submission and the array's index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from farmx import containers, layout, needs, packs
from farmx.farms import slurm_words
from farmx.spec import Submission

NOTICE_S = 60  # how long before its limit or its preemption a program is told
PARALLEL = "array_parallelism"
INDEX = '"$SLURM_ARRAY_TASK_ID"'
# Set for every task of a run that has several, as torch.distributed reads them.
RANKS = (
    """export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID NODE_RANK=$SLURM_NODEID """
    # 4(x2),1 is 4, 4 and 1 tasks
    """LOCAL_WORLD_SIZE=$(echo "$SLURM_STEP_TASKS_PER_NODE" | awk -F, -v n="$SLURM_NODEID" """
    """'{for (i = 1; i <= NF; i++) {split($i, a, /[(x)]+/); n -= a[2] ? a[2] : 1; if (n < 0) {print a[1]; exit}}}'); """
    """exec "$@\""""
)
# On the job's first node, for all tasks; the port is below those that the kernel hands out.
MASTER = 'export MASTER_ADDR="$(hostname)" MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))'
# The first that is set is how many tasks we start. SLURM_TASKS_PER_NODE says how many might be on a whole node.
TASKS = ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES")
# srun that is told how many cpus a task has, and not how many tasks, fills whole nodes with them.
COUNTED = 'export SLURM_NTASKS="${SLURM_NTASKS:-$SLURM_JOB_NUM_NODES}"'
# A warning that comes before the runner can take it would end the job.
DEAF = "trap '' USR2"
# What scontrol says of a job, or slurmstepd writes into its output, when a program was ended; the first that is there.
# While a job is being ended scontrol says only COMPLETING; one that comes back has one restart more.
WORDS = (
    (r"JobState=(PENDING|REQUEUED)\b", "again"),
    (r"\bRestarts={next}\b", "again"),
    (r"JobState=TIMEOUT|DUE TO TIME LIMIT", "time"),
    (r"JobState=OUT_OF_MEMORY|Exceeded job memory limit|oom.kill", "memory"),
    (r"JobState=PREEMPTED|DUE TO PREEMPTION", "evicted"),
    (r"JobState=CANCELLED|CANCELLED AT \S+ \*\*\*", "cancelled"),
)
# What srun says of a task that did not end well, as soon as it ended: the first line is that of the first. What the
# task wrote last may stand before it: what is no whole line yet is sent on when the task ends.
FIRST = r"srun: error: \S+: tasks? [-,\d]+: (?:Exited with exit code (\d+)|([\w /()]+?)(?: \(core dumped\))?)$"
TELL = ["scancel", "--signal=TERM"]  # srun, told to end, kills its tasks at once
OVER = "already finished"  # scontrol hold and release say that of each index that has ended, do the rest, and exit 1
TOLD = r"error: \*\*\* JOB .* CANCELLED AT "  # slurmstepd says so, then signals every process of the job


def text(command: str, resources: Mapping[str, Any], tasks: int, most: int | None = None) -> str:
    """The batch script of an array of so many jobs: submitit's text for `resources`, and the command.

    most: how many of them may run at once.
    """
    import warnings  # only who submits

    from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string  # a fifth of a second; only who submits

    wanted = {key: said(value) for key, value in needs.plainly(resources).items() if value is not False}
    wanted.pop(PARALLEL, None)
    known = SlurmExecutor._valid_parameters() - {"additional_parameters", "setup", "teardown", "srun_args"}
    named = {key: wanted.pop(key) for key in list(wanted) if key in known}
    ours = {"array": array(0, tasks, most), "requeue": True,
            "signal": f"B:USR2@{_notice_s(resources)}", **wanted}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice on combinations is for its own users
        made: str = _make_sbatch_string(
            _lines(command, resources), folder="/dev/null", **{"time": None, "nodes": None, "wckey": None, **named},
            use_srun=False, stderr_to_stdout=True, additional_parameters=ours,
        )  # fmt: skip
    # What its own jobs know each other by, and an output that the command line says.
    unwanted = ("export SUBMITIT_", "#SBATCH --output=", "#SBATCH --job-name=", "#SBATCH --open-mode=")
    return "".join(line for line in made.splitlines(keepends=True) if not line.startswith(unwanted))


def array(first: int, end: int, most: int | None) -> str:
    """What --array says of the jobs from `first` on, without `end`, of which so many may run at once."""
    return f"{first}-{end - 1}" + ("" if most is None else f"%{most}")


def most(script: str) -> int | None:
    """How many jobs of an array may run at once, as its script says; None for all."""
    found = re.search(r"^#SBATCH --array=\S+%(\d+)$", script, re.MULTILINE)
    return int(found[1]) if found else None


def parallel(resources: Mapping[str, Any]) -> int | None:
    """How many jobs with these resources may run at once of a launch; None for all."""
    return needs.plainly(resources).get(PARALLEL)


class Share(NamedTuple):
    """Of what may run at once, the part of one array. most: so many.  behind: the submission that ends before it."""

    most: int | None
    behind: str = ""


def shares(submissions: Sequence[tuple[Submission, int]]) -> dict[str, Share]:
    """id -> the share of each of these submissions, which have so many jobs: Slurm knows a limit for one array alone.

    Submissions of equal resources that wait for as many others, one after another, share one limit.
    """
    groups: dict[str, list[tuple[str, int]]] = {}
    depths: dict[str, int] = {}
    for each, jobs in submissions:  # what waits comes after what it waits for
        depths[each.id] = depths.get(each.after, 0) + 1 if each.after else 0
        key = repr([depths[each.id], sorted(each.resources.items(), key=str)])
        groups.setdefault(key, []).append((each.id, jobs))
    limits = {each.id: parallel(each.resources) for each, _ in submissions}
    return {name: share for group in groups.values() for name, share in _shared(group, limits[group[0][0]])}


def _shared(group: Sequence[tuple[str, int]], limit: int | None) -> list[tuple[str, Share]]:
    """The limit, shared out by the number of their jobs, so that they end together. Where there are more arrays than it
    lets in, each has one job at a time, and begins when one before it has ended."""
    names, jobs = zip(*group)
    if limit is None:
        return [(name, Share(None)) for name in names]
    if limit < len(group):
        return [(name, Share(1, names[place - limit] if place >= limit else "")) for place, name in enumerate(names)]
    given = [1] * len(group)
    for _ in range(min(limit, sum(jobs)) - len(group)):
        given[max(range(len(group)), key=lambda place: jobs[place] / given[place])] += 1
    return [(name, Share(count)) for name, count in zip(names, given)]


def output(submission: str) -> str:
    """What --output says: a file for each index. A backslash in it would make all of it literal: then there is none."""
    return os.devnull if "\\" in submission else f"{submission.replace('%', '%%')}/%a{layout.LOG_SUFFIX}"


def logged(submission: str) -> str:
    """Shell text that makes up for an --output that cannot be said; Slurm's own lines are lost then."""
    return f"exec >>{INDEX}{layout.LOG_SUFFIX} 2>&1\n" if output(submission) == os.devnull else ""


def _lines(command: str, resources: Mapping[str, Any]) -> str:
    alone = f"{DEAF}\n{command}"
    return f"{COUNTED}\n{MASTER}\n{alone}" if _tasks(resources) else alone


def placed(resources: Mapping[str, Any], pack: packs.Pack) -> Mapping[str, Any]:
    """What sbatch is asked for: a job of several runs is for one node, where Slurm would make it several by itself."""
    said = pack == packs.ALONE or needs.plainly(resources).get("nodes") is not None
    return resources if said else {**resources, "nodes": 1}


def said(value: Any) -> Any:
    """A value as sbatch takes it: a list with commas."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _tasks(resources: Mapping[str, Any]) -> bool:
    """Whether a run of these resources has several tasks; Slurm may give it some all the same: see _spread."""
    counts = needs.plainly(resources)
    return any(str(counts.get(key, 1)) != "1" for key in ("nodes", "ntasks", "ntasks_per_node", "ntasks_per_gpu"))


def _notice_s(resources: Mapping[str, Any]) -> int:
    """How long before its limit a program is told: what is asked for, else NOTICE_S, but never more than half of it."""
    wanted = needs.plainly(resources)
    if "signal" in wanted:
        return int(str(wanted["signal"]).rpartition("@")[2])
    limit_s = slurm_words.seconds(str(wanted.get("time", "")))
    return NOTICE_S if limit_s is None else max(1, min(NOTICE_S, limit_s // 2))


def node(resources: Mapping[str, Any], max_requeues: int, kill_wait_s: int) -> dict[str, Any]:
    """What a node needs to know of Slurm, as farmx.node reads it."""
    return {
        "job": "SLURM_JOB_ID",
        "task": ["SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"],
        "restarts": "SLURM_RESTART_COUNT",
        "each": _each(resources),
        "spread": {} if _tasks(resources) else _spread(resources),
        "contained": _contained(resources),
        "notice_s": _notice_s(resources),
        "grace_s": max(kill_wait_s - 5, kill_wait_s / 2),  # the rest is for recording the end
        "requeue": ["scontrol", "requeue"],
        "max_requeues": max_requeues,
        "arrays": ["squeue", "-h", "-o", "%F", "--name"],
        "hold": ["scontrol", "hold"],  # jobname= would leave out what runs and may be queued again
        "release": ["scontrol", "release"],
        "held": OVER,
        "fence": True,  # where hold failed, or who asked for it died
        "ask": ["scontrol", "show", "job", "-o"],
        "words": WORDS,
        "told": TOLD,
        "first": FIRST,
        "tell": TELL if _tasks(resources) else [],
    }


# bash: other shells lose exported functions
_FIRST = ("/bin/bash", "-c", f'{COUNTED}; [ "$SLURM_NTASKS" = 1 ] || {MASTER}; exec "$@"', "first")
_RANKED = ("/bin/sh", "-c", RANKS, "rank")


def _each(resources: Mapping[str, Any]) -> list[str]:
    """The words that start a command once a task; none for a run of one task.

    srun takes neither cpus_per_task nor, where sbatch has been told what to export, our environment from its job.
    """
    return [*_srun(resources), *_RANKED] if _tasks(resources) else []


def _spread(resources: Mapping[str, Any]) -> dict[str, Any]:
    """The same where Slurm itself makes a job several tasks: more GPUs than a node has, a task for each GPU, a list of
    nodes."""
    return {"by": TASKS, "each": [*_FIRST, *_srun(resources), *_RANKED], "tell": TELL}


def _srun(resources: Mapping[str, Any]) -> list[str]:
    cpus = needs.plainly(resources).get("cpus_per_task")
    return ["srun", "--kill-on-bad-exit=1", "--export=ALL", *([f"--cpus-per-task={cpus}"] if cpus else [])]


def _contained(resources: Mapping[str, Any]) -> dict[str, list[str]]:
    """The same for a command in a container of pyxis, as containers.around reads it: srun there, be it one task."""
    without = [word for name in containers.OUTER for word in ("-u", name)]
    alone = "" if _tasks(resources) else 'case $SLURM_NTASKS in 1) exec "$@"; esac; '
    inside = f"export {containers.ENV_INSIDE}={containers.PYXIS}; {alone}{RANKS}"
    start = [*_FIRST, "env", *without, *_srun(resources)]
    return {"start": start, "task": ["/bin/sh", "-c", inside, "rank"], "tell": TELL}
