"""The commands of a scheduler called: whatever happens is a value."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from launching import until

from farmx.farms import calls


def test_a_command_is_told_its_input_and_answers_with_all_it_says():
    said = calls.call(["sh", "-c", "cat; echo bad >&2; exit 3"], text="größe\n")
    assert said == calls.Said(3, "größe\n", "bad\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["no-such-command"], calls.Said(None, "", "there is no no-such-command here")),
     (["sleep", "9"], calls.Said(124, "", "sleep timed out after 0 s")),
     (["/"], calls.Said(126, "", "/: Permission denied"))],
)  # fmt: skip
def test_what_cannot_be_called_or_does_not_answer_is_a_value(argv, said):
    assert calls.call(argv, timeout_s=0.05) == said


def test_what_does_not_answer_in_time_says_what_it_said_last():
    said = calls.call(["sh", "-c", "echo one >&2; echo 'too many jobs' >&2; exec sleep 9"], timeout_s=1.0)
    assert said == calls.Said(124, "", "too many jobs; sh timed out after 1 s")


def test_bytes_that_are_no_text_do_no_harm():
    assert calls.call(["printf", "\\377"]) == calls.Said(0, "\ufffd", "")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("squeue: error: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("sbatch: error: AssocMaxSubmitJobLimit", True),
        ("Unable to run job: unable to contact qmaster using port 6444 on host \"it's\".", True),
        ("error: unable to send message to qmaster using port 6444 on host \"it's\": got send error", True),
        ("Unable to run job: can't reach qmaster.\nExiting.", True),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", False),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
         "size and/or time limits)", False),
        ("", False),
    ],
)  # fmt: skip
def test_what_may_go_better_later(error, transient):
    assert calls.transient(error) is transient


def test_outside_a_job_the_ranks_of_a_launcher_are_the_users_own(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert calls.environment().get("RANK") == "3"
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert calls.environment().get("RANK") is None


def test_what_is_called_apart_hears_no_signal_of_our_group_and_can_be_ended(tmp_path):
    with calls.Apart() as apart:
        said = calls.call(["sh", "-c", "ps -o sid= -p $$; echo $$"], apart=apart)
        session, pid = said.output.split()
        assert (said.code, session == pid) == (0, True)
        (tmp_path / "slow").write_text("sleep 60 & echo; wait\n")
        with ThreadPoolExecutor() as pool:
            slow = pool.submit(calls.call, ["sh", str(tmp_path / "slow")], apart=apart)
            until(lambda: apart.running)
            apart.end()
            assert slow.result().code == -signal.SIGKILL
    assert calls.call(["sleep", "60"], apart=apart).code == -signal.SIGKILL  # it was to begin just then
    assert apart.running == set()


def test_what_does_not_answer_in_time_is_ended_with_what_it_started(tmp_path):
    with calls.Apart() as apart:
        said = calls.call(["sh", "-c", "sleep 60 & wait"], timeout_s=0.05, apart=apart)
    assert said == calls.Said(124, "", "sh timed out after 0 s")
