"""A job that holds several runs: its slots, their GPUs, what is passed on, on real processes."""

import os
import select
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from launching import ROOT, gone, until

from farmx import packed, processes
from farmx.processes import Inbox
from farmx.runner import Outcome

GPUS = [
    (1, "0,1,2,3", ["0,1,2,3"]),
    (2, "0,1,2,3", ["0,1", "2,3"]),
    (3, "0,1,2,3", ["0", "1", "2,3"]),
    (4, "0,1,2,3", ["0", "1", "2", "3"]),
    (4, "0,1", ["0", "1", "0", "1"]),
    (3, "GPU-a,MIG-b", ["GPU-a", "MIG-b", "GPU-a"]),
    (2, "", [None, None]),
    (2, None, [None, None]),
]


@pytest.mark.parametrize(("slots", "gpus", "shares"), GPUS)
def test_slots_divide_the_gpus_of_their_job_or_share_them_in_turn(slots, gpus, shares):
    environ = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    assert [env.get("CUDA_VISIBLE_DEVICES") for env in packed.shares(slots, environ)] == shares


class Run:
    """A run whose program is a function of (env, inbox); what it leaves is in `home`."""

    def __init__(self, home: Path, name: str, program) -> None:
        self.home, self.name, self.program = home, name, program

    def execute(self, env, ready) -> Outcome:
        with Inbox(notice_s=60.0) as inbox:
            ready(inbox)
            (self.home / f"{self.name}.began").touch()
            return self.program(env, inbox)

    def cancelled(self) -> bool:
        return (self.home / f"{self.name}.cancel").exists()

    def left(self, pid: int, status: int) -> Outcome:
        (self.home / f"{self.name}.left").write_text(str(pid))
        return Outcome("left", os.waitstatus_to_exitcode(status))


def done(env, inbox) -> Outcome:
    return Outcome("done", 0, note=env.get("SLOT", ""))


def waits(env, inbox) -> Outcome:
    """Until something comes; a note says what."""
    while not (inbox.stops or inbox.noticed or inbox.cancelled):
        inbox.wait([], 10.0)
    return Outcome("interrupted", note=f"{len(inbox.stops)} {inbox.noticed} {inbox.cancelled}")


def killed(env, inbox) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def breaks(env, inbox) -> Outcome:
    raise OSError("the disk is full")


def work(home: Path, programs, slots: int = 2, begun=(), tell=print):
    """Run the programs; `begun`: functions called once all of the first slots' programs have begun."""
    runs = [Run(home, str(place), program) for place, program in enumerate(programs)]
    with Inbox(notice_s=60.0) as inbox:
        if pid := os.fork() if begun else None:
            outcomes = packed.work(runs, [{"SLOT": str(slot)} for slot in range(slots)], inbox)
            os.waitpid(pid, 0)
            return outcomes
        if begun:
            try:
                for place in range(slots):
                    until((home / f"{place}.began").exists)
                for each in begun:
                    each(os.getppid())
            finally:
                os._exit(0)
        return packed.work(runs, [{"SLOT": str(slot)} for slot in range(slots)], inbox, tell=tell)


def test_each_run_takes_the_next_slot_that_is_free(tmp_path):
    outcomes, waiting = work(tmp_path, [done] * 5)
    assert waiting == 0
    assert [outcome.state for outcome in outcomes] == ["done"] * 5
    assert {outcome.note for outcome in outcomes} == {"0", "1"}


def test_a_run_that_is_killed_or_breaks_stops_no_other(tmp_path, capfd):
    outcomes, waiting = work(tmp_path, [killed, breaks, done, done])
    ends = sorted((outcome.state, outcome.code) for outcome in outcomes)
    assert ends == [("done", 0), ("done", 0), ("left", -signal.SIGKILL), ("left", 1)]
    assert waiting == 0
    assert sorted(path.name for path in tmp_path.glob("*.left")) == ["0.left", "1.left"]
    assert "the disk is full" in capfd.readouterr().err


UNHEARD = """
import os, sys
from pathlib import Path
from test_packed import breaks, done, work
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 2)
outcomes, waiting = work(Path(sys.argv[1]), [breaks, done, done])
print(sorted(outcome.state for outcome in outcomes), waiting, flush=True)
"""


def test_a_run_that_breaks_where_nobody_can_be_told_why_ends_all_the_same(tmp_path):
    begin = f"import sys\nsys.path[:0] = [{ROOT!r}, {ROOT + '/tests'!r}]\n"
    told = subprocess.run([sys.executable, "-c", begin + UNHEARD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert (told.stdout, told.returncode) == ("['done', 'done', 'left'] 0\n", 0)


SIGNALS = [
    (processes.NOTICE, ["0 True False"] * 2),
    (signal.SIGTERM, ["1 False False"] * 2),
]


@pytest.mark.parametrize(("number", "notes"), SIGNALS)
def test_what_the_job_is_told_all_runs_are_told_and_no_more_begin(tmp_path, number, notes):
    outcomes, waiting = work(tmp_path, [waits, waits, done], begun=[lambda job: os.kill(job, number)])
    assert [outcome.note for outcome in outcomes] == notes
    assert waiting == 1
    assert not (tmp_path / "2.began").exists()


def warns(env, inbox) -> Outcome:
    os.kill(os.getppid(), processes.CANCEL)
    return Outcome("preempted")


class Late(Inbox):
    """Of a job that is slow to wake: a warning and the end of the run that heard it first are there at once."""

    def wait(self, others: list[int], timeout_s: float) -> list[int]:
        select.select(others, [], [])
        return super().wait(others, timeout_s)


def test_a_warning_that_comes_with_the_end_of_a_run_lets_no_other_begin(tmp_path):
    runs = [Run(tmp_path, str(place), program) for place, program in enumerate([warns, done])]
    with Late(notice_s=60.0, warns=True) as inbox:
        outcomes, waiting = packed.work(runs, [{"SLOT": "0"}], inbox)
    assert ([outcome.state for outcome in outcomes], waiting) == (["preempted"], 1)


def test_one_run_is_cancelled_where_its_request_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "LOOK_S", 0.05)

    def asked(job: int) -> None:
        (tmp_path / "1.cancel").touch()
        until((tmp_path / "2.began").exists)
        (tmp_path / "0.cancel").touch()

    outcomes, waiting = work(tmp_path, [waits, waits, done], begun=[asked])
    assert [outcome.note for outcome in outcomes] == ["0 False True", "1", "0 False True"]
    assert waiting == 0


def test_a_terminate_of_the_schedulers_is_nothing_to_a_run_of_the_job(tmp_path):
    def ignores(env, inbox) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome("done", len(inbox.stops))

    outcomes, _ = work(tmp_path, [ignores], slots=1)
    assert outcomes == [Outcome("done", 0)]


REFUSED = "no process can be started: Resource temporarily unavailable"


def refuse(monkeypatch, *counts: int) -> None:
    """Let the forks of these numbers fail, from 1."""
    fork, forked = os.fork, count(1)

    def counted() -> int:
        if next(forked) in counts:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", counted)


def test_where_nothing_can_be_forked_that_is_said_nothing_is_left_open_and_signals_arrive(tmp_path, monkeypatch):
    before = sorted(os.listdir("/proc/self/fd"))
    told: list[str] = []
    refuse(monkeypatch, 1)
    assert work(tmp_path, [done, done], tell=told.append) == ([], 2)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert told == [f"2 runs were not begun: {REFUSED}"]


@pytest.mark.parametrize("refused", [(2,), (2, 4)])
def test_a_run_that_cannot_be_forked_while_others_are_at_work_begins_when_one_has_ended(
    tmp_path, monkeypatch, refused
):
    told: list[str] = []
    refuse(monkeypatch, *refused)
    outcomes, waiting = work(tmp_path, [done] * 4, tell=told.append)
    assert ([outcome.state for outcome in outcomes], waiting) == (["done"] * 4, 0)
    assert told == []


def test_where_nothing_more_can_be_forked_what_is_at_work_ends_as_it_would(tmp_path, monkeypatch):
    told: list[str] = []
    refuse(monkeypatch, *range(3, 99))
    outcomes, waiting = work(tmp_path, [done, waits_for(tmp_path / "0.began"), done], tell=told.append)
    assert ([outcome.state for outcome in outcomes], waiting) == (["done"] * 2, 1)
    assert told == [f"1 run was not begun: {REFUSED}"]


def waits_for(path: Path):
    def program(env, inbox) -> Outcome:
        until(path.exists)
        return Outcome("done", 0)

    return program


def test_runs_die_with_their_job(tmp_path):
    pid = os.fork()
    if pid == 0:
        try:
            work(tmp_path, [waits], slots=1)
        finally:
            os._exit(0)
    until((tmp_path / "0.began").exists)
    (child,) = children(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    gone(child)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


