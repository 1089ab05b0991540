"""Slurm's words -> ours, and plain ones for people; never asks Slurm."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from farmx import needs, processes
from farmx.errors import where
from farmx.farms.base import MUTE, Answer
from farmx.spec import State

LET_GO = "scontrol release"  # what notes say that lets go what Slurm holds
# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
_STATES = {
    "PENDING": (State.QUEUED, ""),
    "REQUEUED": (State.QUEUED, ""),
    "REQUEUE_FED": (State.QUEUED, ""),
    "REQUEUE_HOLD": (State.QUEUED, f"Slurm holds it; {LET_GO} lets it go"),
    "RESV_DEL_HOLD": (State.QUEUED, "its reservation was deleted; Slurm holds it"),
    "SPECIAL_EXIT": (State.QUEUED, f"Slurm holds it; {LET_GO} lets it go"),
    "CONFIGURING": (State.RUNNING, "its node is being prepared"),
    "RUNNING": (State.RUNNING, ""),
    "COMPLETING": (State.RUNNING, "it is ending"),
    "SIGNALING": (State.RUNNING, "it is being signalled"),
    "STAGE_OUT": (State.RUNNING, "it is ending"),
    "RESIZING": (State.RUNNING, ""),
    "STOPPED": (State.RUNNING, "somebody stopped it"),
    "SUSPENDED": (State.RUNNING, "it is suspended: others go first"),
    "CANCELLED": (State.CANCELLED, "its job was cancelled"),
    "FAILED": (State.FAILED, f"its job {MUTE}"),
    "TIMEOUT": (State.FAILED, "it reached its time limit"),
    "DEADLINE": (State.FAILED, "it reached its deadline"),
    "OUT_OF_MEMORY": (State.FAILED, "out of memory"),
    "NODE_FAIL": (State.LOST, "its node failed"),
    "BOOT_FAIL": (State.LOST, "its node did not boot"),
    "PREEMPTED": (State.INTERRUPTED, "it was preempted and not requeued"),
    "REVOKED": (State.LOST, "another cluster took it"),
    # The runner says so only once the end is recorded: another machine may see that record late.
    "COMPLETED": (State.UNKNOWN, "its job ended well, and its record cannot be seen from here yet"),
}
# https://slurm.schedmd.com/sacct.html#SECTION_JOB-STATE-CODES: all of them.
STATES = "BF,CA,CD,DL,F,NF,OOM,PD,PR,R,RQ,RS,RV,S,TO"
REFUSED = "BadConstraints"  # squeue says so of a job that waits, and for minutes of one that sbatch has refused
# https://slurm.schedmd.com/resource_limits.html and the job reason codes; those people meet.
_REASONS = {
    "None": "",
    "Priority": "others go before it",
    "Resources": "waits for nodes to be free",
    "BeginTime": "waits for its begin time",
    "Cleaning": "its last attempt is being cleaned up",
    "Dependency": "waits for the job it depends on",
    "DependencyNeverSatisfied": "the job it depends on did not end as it had to; it will never start",
    "JobArrayTaskLimit": "array_parallelism runs of its array are running",
    "JobHeldUser": f"held by its user; {LET_GO} lets it go",
    "JobHeldAdmin": "held by an administrator",
    "JobHoldMaxRequeue": "requeued too often; Slurm holds it",
    "launch_failed_requeued_held": f"its launch failed on a node; {LET_GO} tries again",
    "job_requeued_in_held_state": f"somebody held it and had it begin anew; {LET_GO} lets it go",
    "NodeDown": "a node that it needs is down",
    REFUSED: "no node fits its constraints; it will never start",
    "Nodes_required_for_job_are_DOWN": "its nodes are down, drained or kept for a partition that goes first",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs now",
    "PartitionNodeLimit": "it wants more nodes than its partition gives",
    "PartitionTimeLimit": "it wants more time than its partition gives; it will never start",
    "PartitionConfig": "its partition cannot give what it wants; it will never start",
    "ReqNodeNotAvail": "a node that it needs is down, drained or reserved",
    "Reservation": "waits for its reservation",
    "Licenses": "waits for a licence",
    "InvalidAccount": "its account is not valid; it will never start",
    "InvalidQOS": "its QOS is not valid; it will never start",
    "TimeLimit": "it reached its time limit",
    "Prolog": "the node's prolog is at work",
}
UNCLEAR = "JobLaunchFailure"  # squeue says so of a job that was killed, and of one whose output the node could not open
_UNOPENED = 53  # the signal that Slurm says ended the latter
_LIMITS = ("Assoc", "QOS", "MaxCpuPerAccount", "MaxGRESPerAccount", "MaxJobsPerAccount", "MaxMemPerLimit", "MaxNodePer")
# https://slurm.schedmd.com/sinfo.html#SECTION_NODE-STATE-CODES: what a node is when it takes no job; * does not respond
_AWAY = r"down|drain|drng|fail|maint|unk|boot|reboot|inval|no_resp|power|.*\*"
# Words in what sbatch says -> the options that it may mean; of rows and of options the first that is there is blamed.
_BLAMED = {
    "account": ("account", "partition"),
    "partition": ("partition",),
    "qos": ("qos",),
    "preferred feature": ("prefer",),
    "feature": ("constraint",),
    "constraint": ("constraint",),
    "time": ("time", "time_min"),
    "memory": ("mem", "mem_per_cpu", "mem_per_gpu"),
    "gres": ("gres", "gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket"),
    "generic": ("gres", "gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket"),
    "node count": ("nodes",),
    "node name": ("nodelist", "exclude"),
    "reservation": ("reservation",),
    "license": ("licenses",),
    "dependency": ("dependency",),
    "environment file": ("export_file",),
    "of -b": ("extra_node_info",),
}


def answer(state: str, reason: str) -> Answer:
    """What a state of Slurm and its reason, or exit code, mean. `CANCELLED by 1000` is CANCELLED."""
    if state == "FAILED" and (note := _killed(reason)):
        return Answer(State.FAILED, note)
    ours, note = _STATES.get(state.split()[0] if state else "", (State.UNKNOWN, f"Slurm says {state!r}"))
    return Answer(ours, note or (plain(reason) if ours is State.QUEUED else ""))


def exit_code(status: str) -> str:
    """A wait status as sacct says it: 0:9 for what SIGKILL ended; UNCLEAR where it is none."""
    if not status.isdecimal():
        return UNCLEAR
    number = int(status) & 127
    return f"0:{number}" if number else f"{int(status) >> 8}:0"


def _killed(reason: str) -> str:
    """What the exit code of a job tells that a signal ended; '' for any other."""
    if reason == UNCLEAR:
        return "its job was killed, or its node could not begin it"
    code, _, number = reason.partition(":")
    if code != "0" or not number.isdecimal() or number == "0":
        return ""
    if int(number) == _UNOPENED:
        return "its node could not begin its job: does it see LOGROOT, and was that or the experiment moved?"
    if int(number) == processes.NOTICE:
        return "its time limit was near before it could begin (SIGUSR2)"
    from farmx import runner  # spares who asks of jobs that nobody killed

    return f"its job was killed ({runner.signal_name(int(number))})"


def reason(error: str) -> str:
    """What a command of Slurm said, in one line: its last."""
    lines = [re.sub(r"^\w+: (error: |fatal: |(?=option ))", "", line.strip()) for line in error.strip().splitlines()]
    useful = [line for line in lines if line and not line.startswith(("sbatch: lua", "sbatch: Estimated", "Try "))]
    return useful[-1].removeprefix("allocation failure: ") if useful else "it gave no reason"


def away(state: str) -> bool:
    """Whether a node in this state, as sinfo says it, takes no job at the moment."""
    return bool(re.match(_AWAY, state.lower()))


def plain(reason: str) -> str:
    """The reason why a job waits, for people."""
    word = reason.partition(",")[0].strip().strip("()").replace(" ", "_")
    if word in _REASONS:
        return _REASONS[word]
    if word.startswith(_LIMITS):
        return f"a limit of the account or QOS is reached ({word})"
    return f"Slurm says {reason}"


def indices(text: str) -> Iterator[int]:
    """The indices of an array's jobs: `3`, `[0-2,5]`, `[0-9:3%2]`; none for N/A and what else is no index."""
    for part in text.strip("[]").partition("%")[0].split(","):
        first, _, rest = part.partition("-")
        last, _, step = rest.partition(":")
        if first.isdecimal() and (last or first).isdecimal():
            yield from range(int(first), int(last or first) + 1, int(step) if step.isdecimal() else 1)


def seconds(limit: str) -> int | None:
    """A time limit as sbatch takes it: MIN, MIN:SEC, H:MIN:SEC, D-H, D-H:MIN, D-H:MIN:SEC; None for none such."""
    days, dash, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in (*parts, days if dash else "0")) or len(parts) > 3:
        return None
    numbers = [int(part) for part in parts]
    hours, minutes, secs = (numbers + [0, 0])[:3] if dash else ([0] * (len(parts) < 3) + numbers + [0])[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + secs


def resource(key: str, value: Any, origins: Mapping[str, str]) -> str:
    """How a message calls a resource: with where it is from, in its stage where a stage asks for it."""
    stage = origins.get(needs.of_stage(key, value))
    return f"{stage}: RESOURCES.{key}" if stage else where(f"RESOURCES.{key}", origins)


def blamed(reason: str, resources: Mapping[str, Any]) -> str | None:
    """The key of `resources` that sbatch complains of; None where it does not say."""
    keys = needs.spelled(resources)
    named = {needs.plain(option) for option in re.findall(r"--([a-z][a-z-]*)", reason)}
    rows = (options for word, options in _BLAMED.items() if re.search(rf"\b{word}s?\b", reason.lower()))
    meant = (option for options in rows for option in options)
    return next((keys[option] for option in (*sorted(named), *meant) if option in keys), None)
