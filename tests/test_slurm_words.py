"""Slurm's words and spellings, row by row."""

import pytest

from farmx.farms import slurm_words
from farmx.farms.base import Answer
from farmx.spec import State

UNOPENED = "its node could not begin its job: does it see LOGROOT, and was that or the experiment moved?"


@pytest.mark.parametrize(
    ("state", "reason", "answer"),
    [
        ("PENDING", "None", Answer(State.QUEUED, "")),
        ("PENDING", "Resources", Answer(State.QUEUED, "waits for nodes to be free")),
        ("PENDING", "(ReqNodeNotAvail, UnavailableNodes:n1)",
         Answer(State.QUEUED, "a node that it needs is down, drained or reserved")),
        ("PENDING", "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
         Answer(State.QUEUED, "its nodes are down, drained or kept for a partition that goes first")),
        ("PENDING", "AssocGrpCpuLimit",
         Answer(State.QUEUED, "a limit of the account or QOS is reached (AssocGrpCpuLimit)")),
        ("PENDING", "JobArrayTaskLimit", Answer(State.QUEUED, "array_parallelism runs of its array are running")),
        ("PENDING", "BadConstraints",
         Answer(State.QUEUED, "no node fits its constraints; it will never start")),
        ("PENDING", "DependencyNeverSatisfied",
         Answer(State.QUEUED, "the job it depends on did not end as it had to; it will never start")),
        ("PENDING", "launch failed requeued held",
         Answer(State.QUEUED, "its launch failed on a node; scontrol release tries again")),
        ("PENDING", "job requeued in held state",
         Answer(State.QUEUED, "somebody held it and had it begin anew; scontrol release lets it go")),
        ("PENDING", "Neu", Answer(State.QUEUED, "Slurm says Neu")),
        ("RUNNING", "None", Answer(State.RUNNING, "")),
        ("COMPLETING", "None", Answer(State.RUNNING, "it is ending")),
        ("SUSPENDED", "None", Answer(State.RUNNING, "it is suspended: others go first")),
        ("CANCELLED by 1000", "None", Answer(State.CANCELLED, "its job was cancelled")),
        ("FAILED", "JobLaunchFailure", Answer(State.FAILED, "its job was killed, or its node could not begin it")),
        ("FAILED", "0:9", Answer(State.FAILED, "its job was killed (SIGKILL)")),
        ("FAILED", "0:12", Answer(State.FAILED, "its time limit was near before it could begin (SIGUSR2)")),
        ("FAILED", "0:36", Answer(State.FAILED, "its job was killed (SIGRTMIN+2)")),
        ("FAILED", "0:0", Answer(State.FAILED, "its job failed before it could say why")),
        ("FAILED", "0:53", Answer(State.FAILED, UNOPENED)),
        ("FAILED", "NonZeroExitCode", Answer(State.FAILED, "its job failed before it could say why")),
        ("FAILED", "1:0", Answer(State.FAILED, "its job failed before it could say why")),
        ("TIMEOUT", "TimeLimit", Answer(State.FAILED, "it reached its time limit")),
        ("OUT_OF_MEMORY", "", Answer(State.FAILED, "out of memory")),
        ("NODE_FAIL", "", Answer(State.LOST, "its node failed")),
        ("PREEMPTED", "", Answer(State.INTERRUPTED, "it was preempted and not requeued")),
        ("", "", Answer(State.UNKNOWN, "Slurm says ''")),
        ("HUNGRY", "", Answer(State.UNKNOWN, "Slurm says 'HUNGRY'")),
    ],
)  # fmt: skip
def test_a_state_and_its_reason(state, reason, answer):
    assert slurm_words.answer(state, reason) == answer


@pytest.mark.parametrize(
    ("status", "code"),
    [("9", "0:9"), ("53", "0:53"), ("256", "1:0"), ("0", "0:0"), ("", "JobLaunchFailure"),
     ("4021", "0:53"), ("139", "0:11"), ("N/A", "JobLaunchFailure")],  # what a signal ended has no code
)  # fmt: skip
def test_a_wait_status_as_sacct_says_it(status, code):
    assert slurm_words.exit_code(status) == code


@pytest.mark.parametrize(
    ("text", "found"),
    [("3", [3]), ("[3]", [3]), ("[0-2,5]", [0, 1, 2, 5]), ("[0-9:4%2]", [0, 4, 8]), ("[1,3%2]", [1, 3]), ("N/A", []),
     ("", []), ("4294967294x", []), ("[1,...]", [1])],
)  # fmt: skip
def test_the_indices_of_an_array(text, found):
    assert list(slurm_words.indices(text)) == found


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("90", 5400), ("1:30", 90), ("12:00:00", 43200), ("2-0", 172800), ("1-12", 129600), ("1-2:30", 95400),
     ("1-00:00:30", 86430), ("INFINITE", None), ("", None), ("1:2:3:4", None), ("-5", None)],
)  # fmt: skip
def test_a_time_limit_in_seconds(limit, seconds):
    assert slurm_words.seconds(limit) == seconds


# An option and a wrong value of it -> what sbatch 22.05 says then.
REFUSED = {
    "ntasks=two": 'Invalid numeric value "two" for --ntasks.',
    "ntasks-per-node=x": 'Invalid numeric value "x" for --ntasks-per-node.',
    "cpus-per-task=x": 'Invalid numeric value "x" for --cpus-per-task.',
    "extra-node-info=x": 'Invalid numeric value "x" for first arg of -B.',
    "nodes=many": '"many" is not a valid node count',
    "nodelist=nosuch": "Invalid node name specified",
    "exclude=nosuch": "Invalid node name specified",
    "reservation=nosuch": "Requested reservation is invalid",
    "licenses=matlab:3": "Invalid license specification",
    "partition=gpux": "Invalid partition name specified",
    "constraint=nosuch": "Invalid feature specification",
    "prefer=nosuch": "Invalid preferred feature specification",
    "dependency=x": "Job dependency problem",
    "mem=lots": "Invalid --mem specification",
    "mem-per-cpu=x": "Invalid --mem-per-cpu specification",
    "time=soon": "Invalid --time specification",
    "time-min=x": "Invalid --time-min specification",
    "gres=nosuch:1": "Invalid generic resource (gres) specification",
    "gpus-per-socket=x": "Invalid generic resource (gres) specification",
    "hint=x": 'unrecognized --hint argument "x", see --hint=help',
    "profile=x": "invalid --profile=x option",
    "acctg-freq=x": "Invalid --acctg-freq specification: x",
    "contiguous=x": "option '--contiguous' doesn't allow an argument",
    "export-file=/nosuch": "Could not open user environment file /nosuch",
}


@pytest.mark.parametrize(("option", "reason"), REFUSED.items())
def test_a_wrong_value_is_blamed_on_its_key_whatever_else_there_is(option, reason):
    key, _, value = option.partition("=")
    others = {"gpu-bind": "x", "mem-bind": "x", "ntasks": 1, "mincpus": 1, "output": "x", "time-limit": 1}
    assert slurm_words.blamed(reason, {**others, key: value}) == key


@pytest.mark.parametrize(
    ("reason", "key"),
    [("Memory specification can not be satisfied", "mem"), ("Invalid --mem-per-cpu specification", "mem_per_cpu"),
     ("Invalid generic resource (gres) specification", "gpus-per-node"), ("Invalid qos specification", None),
     ("Invalid account or account/partition combination specified", "account"),
     ("Sometimes it is accountable", None), ("Something else", None)],
)  # fmt: skip
def test_of_several_keys_the_one_that_is_meant_is_blamed(reason, key):
    resources = {"partition": "x", "account": "z", "mem": 1, "mem_per_cpu": 2, "gpus-per-node": 2, "time": 1}
    assert slurm_words.blamed(reason, resources) == key


@pytest.mark.parametrize(
    ("error", "reason"),
    [("sbatch: error: Batch job submission failed: no\n", "Batch job submission failed: no"),
     ("sbatch: option '--mem' requires an argument\nTry \"sbatch --help\" for more information\n",
      "option '--mem' requires an argument"),
     ("sbatch: lua: hello\nallocation failure: Invalid license specification\nsbatch: Estimated never\n",
      "Invalid license specification"), ("\n", "it gave no reason")],
)  # fmt: skip
def test_what_a_command_said_is_one_line(error, reason):
    assert slurm_words.reason(error) == reason
