"""Slurm's words and spellings, row by row."""

import pytest

from farmx.farms import slurm_words
from farmx.farms.base import Answer
from farmx.spec import State


@pytest.mark.parametrize(
    ("state", "reason", "answer"),
    [
        ("PENDING", "None", Answer(State.QUEUED, "")),
        ("PENDING", "Resources", Answer(State.QUEUED, "waits for nodes to be free")),
        ("PENDING", "(ReqNodeNotAvail, UnavailableNodes:n1)",
         Answer(State.QUEUED, "a node that it needs is down, drained or reserved")),
        ("PENDING", "AssocGrpCpuLimit",
         Answer(State.QUEUED, "a limit of the account or QOS is reached (AssocGrpCpuLimit)")),
        ("PENDING", "JobArrayTaskLimit", Answer(State.QUEUED, "array_parallelism runs of its array are running")),
        ("PENDING", "launch failed requeued held",
         Answer(State.QUEUED, "its launch failed on a node; scontrol release tries again")),
        ("PENDING", "Neu", Answer(State.QUEUED, "Slurm says Neu")),
        ("RUNNING", "None", Answer(State.RUNNING, "")),
        ("COMPLETING", "None", Answer(State.RUNNING, "it is ending")),
        ("SUSPENDED", "None", Answer(State.RUNNING, "it is suspended: others go first")),
        ("CANCELLED by 1000", "None", Answer(State.CANCELLED, "its job was cancelled")),
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


@pytest.mark.parametrize(
    ("reason", "key"),
    [("Invalid partition name specified", "partition"), ("Invalid feature specification", "constraint"),
     ("Invalid --mem specification", "mem"), ("Memory specification can not be satisfied", "mem"),
     ("Invalid generic resource (gres) specification", "gpus-per-node"), ("Something else", None)],
)  # fmt: skip
def test_which_key_is_to_blame(reason, key):
    resources = {"partition": "x", "constraint": "y", "mem": 1, "gpus-per-node": 2}
    assert slurm_words.blamed(reason, resources) == key
