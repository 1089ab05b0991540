"""status: a run's state from its records and from what lives; looking changes nothing."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attempts import DAMAGED, TORN
from launching import Place, tree
from schedulers import Scheduler

from farmx import claims, layout, processes, stage, stages, status
from farmx.errors import RecordError, UsageError
from farmx.farms import base, local
from farmx.farms.base import Answer
from farmx.spec import Attempt, Job, State
from farmx.status import Hold

HERE = {"host": "here"}
OLD, FRESH = base.SILENT_S, base.SILENT_S - 1


def attempt(number=(1, 0), owner=HERE, end=None) -> Attempt:
    return Attempt("/attempt", number, owner, end)


STATES = [state.value for state in State]

WAITS = "waits for its turn"


def hold(number=1, state=None, note="", queued=True, asked=False, after=False, packed=False) -> Hold:
    return Hold(number, None if state is None else Answer(State(state), note), queued, asked, after, packed)


HERE_DECIDED = [
    # its newest attempt, what a living pool holds, is its owner alive, silence -> state, why
    (None, None, None, 0.0, "staged", "not started"),
    (None, hold(1, "queued"), None, 0.0, "queued", WAITS),
    (None, None, False, OLD, "staged", "not started"),
    (attempt(), None, True, 0.0, "running", "on here"),
    (attempt(), None, True, OLD, "running", "on here"),
    (attempt(), hold(1, "queued"), True, 0.0, "running", "on here"),
    (attempt(), hold(2, "queued"), True, 0.0, "queued", WAITS),
    (attempt(), None, False, 0.0, "interrupted", "its launcher or pool ended"),
    (attempt(), None, False, OLD, "interrupted", "its launcher or pool ended"),
    (attempt(), hold(2, "queued"), False, 0.0, "queued", WAITS),
    (attempt((2, 0)), hold(1, "queued"), False, 0.0, "interrupted", "its launcher or pool ended"),
    (attempt((2, 1)), hold(2, "queued"), True, 0.0, "running", "on here"),
    (attempt(), None, None, 7.4, "running", "on here, heard 7 s ago"),
    (attempt(), None, None, FRESH, "running", "on here, heard 299 s ago"),
    (attempt(), None, None, OLD, "unknown", "on here, which cannot be asked from here; silent for 5 min"),
    (attempt(owner=None), None, None, OLD, "unknown", "on ?, which cannot be asked from here; silent for 5 min"),
    (attempt(owner={}), None, None, 0.0, "running", "on ?, heard 0 s ago"),
    *[(attempt(end={"state": word, "note": "so"}), None, alive, OLD, word, "so")
      for word in STATES if word != "preempted" for alive in (True, False, None)],
    (attempt(end={"state": "done"}), None, None, 0.0, "done", ""),
    (attempt(end={"state": "done", "note": None}), hold(1, "queued"), None, 0.0, "done", ""),
    (attempt(end={"state": "failed"}), hold(2, "queued"), True, 0.0, "queued", WAITS),
    (attempt((2, 0), end={"state": "failed"}), hold(1, "queued"), True, 0.0, "failed", ""),
    (attempt(end={"state": "fine"}), None, None, 0.0, "unknown", "its end record says 'fine'"),
    (attempt(end={}), None, None, 0.0, "unknown", "its end record says None"),
]  # fmt: skip
PREEMPTED = attempt(end={"state": "preempted"})
GONE = "on here; its job is gone and recorded no end"
UNLISTED = "not started, and the scheduler does not list it: probably cancelled"
ELSEWHERE_DECIDED = [
    # before the attempt began
    (None, hold(1, "queued", "others go before it"), None, 0.0, "queued", "others go before it"),
    (None, hold(1, "running"), None, 0.0, "queued", "its job has begun"),
    (None, hold(1, "running", "its node is being prepared"), None, 0.0, "queued", "its node is being prepared"),
    (None, hold(1, "unknown", "cannot be asked"), None, 0.0, "unknown", "cannot be asked"),
    (None, hold(1, "cancelled", "its job was cancelled"), None, 0.0, "cancelled", "its job was cancelled"),
    (None, hold(1, "failed", "no python"), None, 0.0, "failed", "no python"),
    (None, hold(1, "failed", "no memory", packed=True), None, 0.0, "lost", "no memory; the run had not begun"),
    (None, hold(1, "cancelled", "why", packed=True), None, 0.0, "cancelled", "why"),
    (None, hold(1, "running", packed=True), None, 0.0, "queued", "waits for a slot"),
    (None, hold(1), None, 0.0, "lost", UNLISTED),
    (None, hold(1, packed=True), None, 0.0, "lost", "its job left the queue and never began it"),
    (None, hold(1, queued=False), None, 0.0, "staged", "not started"),
    (attempt(end={"state": "failed"}), hold(2), None, 0.0, "lost", UNLISTED),
    (attempt(end={"state": "failed"}), hold(2, queued=False), None, 0.0, "failed", ""),
    (attempt(end={"state": "failed"}), hold(2, "queued"), None, 0.0, "queued", WAITS),
    # a later stage's job
    (attempt(end={"state": "done"}), hold(2, "queued", "waits for its turn", after=True), None, 0.0, "queued", WAITS),
    (attempt(end={"state": "failed"}), hold(2, "cancelled", after=True), None, 0.0, "failed", ""),
    (attempt(end={"state": "failed"}), hold(2, after=True), None, 0.0, "failed", ""),
    # while it has no end
    (attempt(), hold(1, "running"), None, OLD, "running", "on here"),
    (attempt(), hold(1, "running", "it is suspended"), False, OLD, "running", "on here, it is suspended"),
    (attempt(), hold(1, "running", "it is suspended"), True, 0.0, "running", "on here, it is suspended"),
    (attempt(), hold(1, "failed", "why"), True, 0.0, "running", "on here"),
    (attempt(), hold(1, "queued"), None, 0.0, "preempted", "its job is queued again"),
    (attempt(), hold(1, "queued", "waits for its begin time"), None, 0.0, "preempted", "waits for its begin time"),
    (attempt(), hold(1, "failed", "out of memory"), None, 0.0, "failed", "out of memory"),
    (attempt(), hold(1, "lost", "its node failed"), None, 0.0, "lost", "its node failed"),
    (attempt(), hold(1, "unknown", "no answer"), None, FRESH, "running", "on here, heard 299 s ago"),
    (attempt(), hold(1, "unknown", "no answer"), None, OLD, "unknown", "on here, no answer; silent for 5 min"),
    (attempt(), hold(1), None, FRESH, "running", "on here, heard 299 s ago"),
    (attempt(), hold(1), None, OLD, "lost", GONE),
    (attempt(), hold(1), False, OLD, "lost", GONE),
    (attempt(), hold(1), True, OLD, "running", "on here"),
    (attempt(), hold(1, asked=True), None, 0.0, "cancelled", "its job ended when it was asked to"),
    (attempt(), hold(1, "failed", "killed", asked=True), None, 0.0, "cancelled", "its job ended when it was asked to"),
    (attempt(), hold(1, "lost", "its node", asked=True), None, OLD, "cancelled", "its job ended when it was asked to"),
    (attempt(), hold(1, "running", asked=True), None, 0.0, "running", "on here"),
    (attempt(), hold(1, "unknown", "ended well", asked=True), None, 0.0, "running", "on here, heard 0 s ago"),
    (attempt((1, 1)), hold(1), None, OLD, "lost", GONE),
    # between two
    (PREEMPTED, hold(1, "queued"), None, 0.0, "preempted", "its job is queued again"),
    (PREEMPTED, hold(1, "queued", "waits for its begin time"), None, 0.0, "preempted", "waits for its begin time"),
    (PREEMPTED, hold(1, "running"), None, 0.0, "preempted", "its job is queued again"),
    (PREEMPTED, hold(1, "unknown", "no answer"), None, 86399.0, "preempted", "no answer"),
    (
        PREEMPTED,
        hold(1, "unknown", "no answer"),
        None,
        86400.0,
        "unknown",
        "no answer, and its job has not come back for a day; if it is gone: farmx retry --state unknown RUN",
    ),
    (PREEMPTED, hold(1, "queued"), None, 86400.0, "preempted", "its job is queued again"),
    (PREEMPTED, hold(1, "cancelled", "its job was cancelled"), None, 0.0, "cancelled", "its job was cancelled"),
    (PREEMPTED, hold(1, "failed", "why"), None, 0.0, "interrupted", "preempted, and its job is not queued again: why"),
    (PREEMPTED, hold(1), None, 0.0, "interrupted", "preempted, and its job is not queued again"),
    (PREEMPTED, None, None, 0.0, "interrupted", "preempted, and its job is not queued again"),
    (PREEMPTED, hold(2, "queued"), None, 0.0, "queued", WAITS),
    # after it
    (attempt(end={"state": "done"}), hold(1, "running"), None, 0.0, "done", ""),
    (attempt(end={"state": "done"}), hold(1), None, 0.0, "done", ""),
]


@pytest.mark.parametrize("last, held, alive, silent_s, state, why", [*HERE_DECIDED, *ELSEWHERE_DECIDED])
def test_a_state_is_the_end_record_then_what_the_farm_says_then_staged(last, held, alive, silent_s, state, why):
    assert status.decide(last, held, alive, silent_s) == (State(state), why)


def test_the_states_are_a_closed_list():
    assert STATES == ["staged", "queued", "running", "done", "failed", "cancelled", "interrupted", "preempted", "lost",
                      "pruned", "unknown"]  # fmt: skip


# ---------------------------------------------------------------- what lives


@pytest.fixture(scope="module")
def dead():
    """What named a process that is gone."""
    code = "import json; from farmx import processes; print(json.dumps(processes.this()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


@pytest.mark.parametrize(
    "changed, age_s, alive",
    [({}, 0, True), ({}, 1e6, True), ({"birth": "1"}, 0, False), ({"host": "far"}, 0, True),
     ({"host": "far"}, base.SILENT_S + 1, False), ({"boot": "b"}, 0, False)],
)  # fmt: skip
def test_a_pool_on_another_host_counts_while_it_touches_its_record(tmp_path, changed, age_s, alive):
    job = {**processes.this(), **changed}
    path = tmp_path / layout.JOB
    path.write_text(json.dumps(job))
    os.utime(path, (time.time() - age_s,) * 2)
    assert base.submission_alive(str(tmp_path), job) is alive


def test_a_submission_without_a_record_is_held_by_nobody(tmp_path):
    assert base.submission_alive(str(tmp_path), {}) is False


def test_a_pool_of_another_host_is_alive_whatever_our_clock_says(tmp_path, monkeypatch):
    job = {"format": 1, "host": "elsewhere", "pid": 1}
    (tmp_path / "job.json").write_text("{}")
    now = time.time()
    for hours in (-3, 3):
        monkeypatch.setattr(time, "time", lambda hours=hours: now + hours * 3600)
        assert base.submission_alive(str(tmp_path), job)
    os.utime(tmp_path / "job.json", (now - 400,) * 2)
    assert not base.submission_alive(str(tmp_path), job)


# ---------------------------------------------------------------- reading runs


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_how_long_an_attempt_of_another_host_is_silent_no_clock_of_ours_says(place, monkeypatch):
    home = Path(place.run(), "attempts", "1.0")
    home.mkdir(parents=True)
    (home / layout.OWNER).write_text(json.dumps({"format": 1, "host": "elsewhere", "pid": 1, "started": 1.0}))
    (home / layout.HEARTBEAT).touch()
    now = time.time()
    for hours in (-3, 3):
        monkeypatch.setattr(time, "time", lambda hours=hours: now + hours * 3600)
        assert [run.state for run in status.of(str(place.experiment), ["one"]).runs] == [State.RUNNING]
    os.utime(home / layout.HEARTBEAT, (now - 400,) * 2)
    assert [run.state for run in status.of(str(place.experiment), ["one"]).runs] == [State.UNKNOWN]


def began(run: str, number: str = "1.0", age_s: float = 0.0, **changed) -> Path:
    """An attempt of ours that has not ended."""
    path = Path(run, layout.ATTEMPTS, number)
    path.mkdir(parents=True)
    owner = {"format": 1, **processes.this(), "started": 100.0, "ordinal": 1, **changed}
    (path / layout.OWNER).write_text(json.dumps(owner))
    (path / layout.HEARTBEAT).touch()
    os.utime(path / layout.HEARTBEAT, (time.time() - age_s,) * 2)
    return path


def ended(run: str, state: str, number: str = "1.0") -> Path:
    path = began(run, number)
    (path / layout.END).write_text(json.dumps({"format": 1, "state": state, "started": 100.0, "ended": 107.5}))
    return path


def states(place: Place) -> dict[str, str]:
    look = status.read(str(place.experiment.parent), place.experiment.name)
    assert look.problems == ()
    return {run.name: str(run.state) for run in look.runs}


def test_a_run_is_read_with_what_it_was_staged_with(place):
    path = place.run(hparams={"lr": 0.1, "format": 3, "layers": [1, 2]})
    attempt = ended(path, "done")
    record = json.loads(Path(path, layout.RUN).read_text())
    (run,) = status.read(str(place.experiment.parent), "sweep").runs
    assert (run.name, run.path, run.experiment, run.state) == ("one", path, "sweep", State.DONE)
    assert (run.hparams, run.identity) == ({"lr": 0.1, "format": 3, "layers": [1, 2]}, record["point"])
    assert (run.digest, run.goal, run.note) == (record["digest"], None, "")
    (only,) = run.attempts
    assert (only.path, only.number, only.started, only.ended) == (str(attempt), (1, 0), 100.0, 107.5)


def test_runs_that_no_farm_was_handed_are_in_order_of_their_names_as_people_count(tmp_path):
    names = ["1", "2", "10", "A", "a", "a b", "b", "lr2-9", "lr2-10", "lr10-1", "ä"]
    for name in sorted(names):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / layout.RUNX_METRICS).touch()
    assert [run.name for run in status.read(str(tmp_path), "sweep").runs] == names


def test_attempts_are_in_the_order_of_their_numbers(place):
    path = place.run()
    for number in ("10.0", "2.0", "2.1", "1.0"):
        ended(path, "failed", number)
    Path(path, layout.ATTEMPTS, ".3.0.host.1").mkdir()  # as a crash leaves aside
    Path(path, layout.ATTEMPTS, "notes").mkdir()
    (run,) = status.of(str(place.experiment), ["one"]).runs
    assert [attempt.number for attempt in run.attempts] == [(1, 0), (2, 0), (2, 1), (10, 0)]


@pytest.mark.parametrize(
    "age_s, changed, state",
    [(0, {}, "running"), (1e6, {}, "running"), (0, {"birth": "1"}, "interrupted"), (0, {"boot": "b"}, "interrupted"),
     (0, {"host": "far"}, "running"), (1e6, {"host": "far"}, "unknown")],
)  # fmt: skip
def test_an_attempt_without_an_end_is_as_alive_as_its_owner(place, age_s, changed, state):
    began(place.run(), age_s=age_s, **changed)
    assert states(place) == {"one": state}


def test_an_attempt_without_heartbeat_on_another_host_is_silent(place):
    (began(place.run(), host="far") / layout.HEARTBEAT).unlink()
    assert states(place) == {"one": "unknown"}


def test_a_run_is_queued_while_a_living_submission_holds_its_next_attempt(place):
    paths = {name: place.run(name=name) for name in ("waits", "runs", "ran", "other")}
    began(paths["runs"])
    ended(paths["ran"], "done")
    submission = place.submission(*(Job(paths[name], "1.0") for name in ("waits", "runs", "ran")))
    assert states(place) == {"other": "staged", "ran": "done", "runs": "running", "waits": "staged"}
    local.announce(submission)
    assert states(place) == {"other": "staged", "ran": "done", "runs": "running", "waits": "queued"}


def chained(place: Place, run: str) -> list[str]:
    """The submissions of its first job and of the later one, which waits for it; nobody can be asked about them."""
    paths = [place.submission(Job(run, number), name=name).path for name, number in (("s", "1.0"), ("s-2", "2.0"))]
    for path, more in zip(paths, ({}, {"after": "s"})):
        told = {"format": 1, "farm": "big", "executor": "command", "ask": {"status": None}, **more}
        Path(path, "job.json").write_text(json.dumps(told))
        base.record_queued(path, 0, 0, "7")
    stage.ask(run, {"1": ["main"], "2": ["test"]})
    return paths


def test_what_begins_first_says_whether_a_breaker_holds_a_run_of_several_jobs(place):
    """Its later job, which waits for the first, belongs to another submission, counted apart."""
    paths = chained(place, place.run())
    for path, note in ((paths[1], "farm big has no STATUS_CMD"), (paths[0], "held: it's $HOME; größe")):
        Path(path, "breaker.json").write_text(json.dumps({"format": 1, "held": True, "why": "it's $HOME; größe"}))
        (found,) = status.read(str(place.experiment.parent), "sweep").runs
        assert (found.state, found.note) == (State.QUEUED, note)


@pytest.mark.parametrize(
    ("end", "state", "held"),
    [(None, "staged", True), ({"state": "interrupted", "cause": "error"}, "staged", True),  # as RETRY leaves it
     ({"state": "interrupted"}, "interrupted", False), ({"state": "interrupted", "cause": "oom"}, "interrupted", False),
     ({"state": "failed"}, "failed", False), ({"state": "cancelled"}, "cancelled", False),
     ({"state": "done"}, "done", False)],
)  # fmt: skip
def test_a_breaker_keeps_what_has_yet_to_begin_and_nothing_that_ended_by_itself(place, dead, end, state, held):
    run = place.run()
    submission = place.submission(Job(run, "1.0")).path
    layout.write_json(os.path.join(submission, layout.JOB), {"format": 1, **dead})
    layout.write_json(os.path.join(submission, layout.BREAKER), {"format": 1, "held": True, "why": "it's $HOME"})
    if end:
        layout.write_json(str(began(run) / layout.END), {"format": 1, "started": 1.0, "ended": 2.0, **end})
    (found,) = status.of(str(place.experiment), ["one"]).runs
    assert (found.state, found.note) == (State(state), "held: it's $HOME" if held else "")


@pytest.mark.parametrize("key", [stages.ONLY, stages.AGAIN])
@pytest.mark.parametrize("remembered", [False, True], ids=["", "remembered"])
def test_a_later_job_that_run_json_names_no_more_is_not_what_a_run_waits_for(place, tmp_path, key, remembered):
    """As after retry --stage, whose first job has the number of one that never began; a farm may keep the later one."""
    run = place.run()
    chained(place, run)
    path = Path(run, layout.RUN)
    record = json.loads(path.read_text())
    test = {"name": "test", "words": ["true"], "form": "x"}
    layout.write_json(str(path), {**record, "stages": [*record["stages"], test]})
    end = ended(run, "done") / layout.END
    told = [{"name": "main", "state": "done"}, {"name": "test", "form": "x", "state": "left"}]
    end.write_text(json.dumps({**json.loads(end.read_text()), "stages": told}))
    cache = str(tmp_path / "cache") if remembered else None

    def stands() -> tuple[State, str, list[int]]:
        (found,) = status.read(str(place.experiment.parent), "sweep", cache).runs
        return found.state, found.note, [held.number for held in found.held]

    assert stands() == (State.QUEUED, "farm big has no STATUS_CMD", [2])
    stage.ask(run, {"1": ["main"]}, key)
    again = place.submission(Job(run, "1.0"), name="t").path
    shutil.copy(Path(place.experiment, ".farmx/submissions/s/job.json"), again)
    assert stands() == (State.STAGED, "main done; test to come", [2])  # whose number stays used up


@pytest.mark.parametrize(("owner", "state"), [("s", "failed"), ("t", "unknown"), ("another", "unknown")])
def test_of_an_attempt_that_was_queued_twice_the_job_that_began_it_tells(place, tmp_path, monkeypatch, owner, state):
    """The other one has ended well: it found the attempt taken."""
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    fake.says("squeue", "0|FAILED|None|sweep.s\n0|COMPLETED|None|sweep.t\n")
    run = place.run()
    for name in ("s", "t"):
        path = place.submission(Job(run, "1.0"), name=name).path
        told = {"farm": "big", "executor": "slurm", "name": f"sweep.{name}", "user": "root", "submitted": 1.0}
        layout.write_json(os.path.join(path, layout.JOB), {"format": 1, **told})
        base.record_queued(path, 0, 0, "7")
    path = began(run, host="far", submission=owner, age_s=OLD + 60)
    assert states(place) == {"one": state}
    (path / layout.CANCEL).touch()
    assert states(place) == {"one": "cancelled" if state == "failed" else state}


@pytest.mark.parametrize(("age_s", "state", "note"), [
    (status.BACK_S - 600, "preempted", "farm big has no STATUS_CMD"),
    (status.BACK_S + 600, "unknown", f"farm big has no STATUS_CMD, and {status.GONE}"),
])  # fmt: skip
def test_a_job_that_nobody_can_ask_for_is_taken_to_come_back_for_a_day(place, age_s, state, note):
    run = place.run()
    path = place.submission(Job(run, "1.0")).path
    layout.write_json(os.path.join(path, layout.JOB), {"format": 1, "farm": "big", "executor": "command", "ask": {}})
    base.record_queued(path, 0, 0, "7")
    beat = ended(run, "preempted") / layout.HEARTBEAT
    os.utime(beat, (time.time() - age_s,) * 2)
    (found,) = status.of(str(place.experiment), ["one"]).runs
    assert (found.state, found.note) == (State(state), note)


def test_a_submission_whose_pool_died_holds_nothing(place, dead):
    submission = place.submission(Job(place.run(), "1.0"))
    layout.write_json(os.path.join(submission.path, layout.JOB), {"format": 1, **dead})
    assert states(place) == {"one": "staged"}


@pytest.mark.parametrize("name", ["two words", "it's", "$HOME;", "größe 漢字", "line\u2028line", "caf\udce9"])
def test_a_renamed_run_is_queued_by_its_name_whatever_that_is(place, name):
    path = Path(place.run()).rename(place.experiment / name)
    local.announce(place.submission(Job(str(path), "1.0")))
    assert states(place) == {name: "queued"}


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"1.0", b"1.0\n", b"x y z\n", b"\xff\xfe\0", b"1.0 ../one\n", b"one 1.0"]
)
def test_damaged_lines_of_a_living_submission_hold_nothing(place, text):
    submission = place.submission(Job(place.run(), "1.0"))
    local.announce(submission)
    Path(submission.path, layout.RUNS).write_bytes(text)
    assert states(place) == {"one": "staged"}


def test_of_a_run_in_more_than_ten_submissions_of_a_launch_the_one_that_was_made_last_counts(place):
    path = place.run()
    for number in range(1, 12):
        submission = place.submission(Job(path, f"{number}.0"), name=layout.submission_name("s", number))
        local.announce(submission)
    layout.write_json(os.path.join(submission.path, layout.BREAKER), {"format": 1, "held": True, "why": "no"})
    (run,) = status.of(str(place.experiment), ["one"]).runs
    assert (run.note, [held.number for held in run.held]) == ("held: no", list(range(1, 12)))


def test_what_runx_wrote_is_a_run_of_unknown_state(place):
    path = place.experiment / "old"
    path.mkdir()
    (path / "hparams.json").write_text('{"lr": 0.1}')
    (run,) = status.of(str(place.experiment), ["old"]).runs
    assert (run.state, run.hparams, run.identity, run.digest) == (State.UNKNOWN, {"lr": 0.1}, None, None)
    assert run.note == "not launched by farmx"


def test_a_run_of_logx_right_below_logroot_is_an_experiment_of_itself(tmp_path):
    (tmp_path / "default").mkdir()
    (tmp_path / "default/metrics.jsonl").write_text("")
    (run,) = status.read(str(tmp_path), "default").runs
    assert (run.name, run.path, run.experiment) == ("default", str(tmp_path / "default"), tmp_path.name)


@pytest.mark.parametrize(
    ("mark", "record"), [("metrics.jsonl", False), ("metrics.csv", False), ("hparams.json", True), ("run.json", True)]
)
def test_a_visible_directory_with_a_mark_is_a_run_or_a_problem(place, mark, record):
    path = place.experiment / "marked" / mark
    path.parent.mkdir()
    path.write_text("")
    look = status.of(str(place.experiment), ["marked"])
    problem = f"{path}: {TORN}"
    assert ([run.name for run in look.runs], look.problems) == (([], (problem,)) if record else (["marked"], ()))


def test_what_is_no_run_is_left_out(place):
    (place.experiment / "plots").mkdir()
    (place.experiment / "notes.txt").touch()
    (place.experiment / ".hidden").mkdir()
    (place.experiment / ".hidden" / "run.json").write_text("{}")
    (place.experiment / "dangling").symlink_to("nowhere")
    assert states(place) == {}


@pytest.mark.parametrize(("text", "why"), DAMAGED.items())
@pytest.mark.parametrize("name", ["run.json", "attempts/1.0/end.json", "attempts/1.0/owner.json"])
def test_a_damaged_record_is_one_line_and_the_other_runs_are_read(place, name, text, why):
    path = place.run()
    began(path)
    place.run(name="two")
    Path(path, name).write_text(text)
    look = status.read(str(place.experiment.parent), "sweep")
    assert ([run.name for run in look.runs], look.problems) == (["two"], (f"{path}/{name}: {why}",))


def test_a_record_that_is_damaged_since_it_was_remembered_is_one_line_too(place, tmp_path):
    for name in ("one", "two"):
        began(place.run(name=name))
    asked = str(place.experiment.parent), "sweep", str(tmp_path / "cache")
    assert [run.name for run in status.read(*asked).runs] == ["one", "two"]
    path = place.experiment / "two" / "attempts" / "1.0" / "end.json"
    path.write_text("{")
    look = status.read(*asked)
    assert ([run.name for run in look.runs], look.problems) == (["one"], (f"{path}: {TORN}",))


@pytest.mark.parametrize(("text", "why"), DAMAGED.items())
def test_a_damaged_record_of_a_submission_is_one_line(place, text, why):
    submission = place.submission(Job(place.run(), "1.0"))
    Path(submission.path, layout.JOB).write_text(text)
    with pytest.raises(RecordError) as caught:
        status.read(str(place.experiment.parent), "sweep")
    assert str(caught.value) == f"{submission.path}/job.json: {why}"


def test_looking_changes_nothing(place):
    began(place.run(), host="far")
    ended(place.run(name="two"), "failed")
    before = tree(place.experiment)
    assert len(states(place)) == 2
    assert tree(place.experiment) == before


@pytest.mark.parametrize(
    "name, end",
    [("swep", "; did you mean sweep?"), ("zzz", "; known: other, sweep"), ("", "; known: other, sweep")],
)
def test_an_unknown_experiment_names_the_nearest(place, name, end):
    (place.experiment.parent / "other" / ".farmx").mkdir(parents=True)
    (place.experiment.parent / ".hidden").mkdir()
    (place.experiment.parent / "file").touch()
    with pytest.raises(UsageError) as caught:
        status.read(str(place.experiment.parent), name)
    assert str(caught.value) == f"no experiment named '{name}' in {place.experiment.parent}{end}"


def test_there_are_no_experiments_in_a_logroot_that_is_not_there(tmp_path):
    assert status.experiments(str(tmp_path / "none")) == []
    with pytest.raises(UsageError) as caught:
        status.read(str(tmp_path / "none"), "sweep")
    assert str(caught.value) == f"no experiment named 'sweep' in {tmp_path}/none; there are none"


def test_an_experiment_under_a_link_is_the_same(place, tmp_path):
    place.run()
    (tmp_path / "link").symlink_to(place.experiment.parent)
    (run,) = status.read(str(tmp_path / "link"), "sweep").runs
    assert run.path == str(tmp_path / "link" / "sweep" / "one")


def test_a_run_that_was_claimed_and_not_made_yet_is_none(place):
    place.run()
    claims.take(str(place.experiment), "l", {("p1-a", 1): "two"})
    (place.experiment / ".l.p1-a.1").mkdir()
    (place.experiment / ".l.p1-a.1/run.json").write_text("{")
    look = status.read(str(place.experiment.parent), place.experiment.name)
    assert ([run.name for run in look.runs], look.problems) == (["one"], ())


KEYS = ["run", "experiment", "point", "generation", "digest", "code"]
KEYS += ["stages", "env", "env_pass", "setup", "pythonpath"]
MAPPINGS = ["hparams", "resources", "retry", "container"]
KEYS += [*MAPPINGS, "script", "stage's resources", "max_mb"]

NONSENSE = [None, 5, {}, [], [5], [{}], {"a": 5}]
SENSE = [("env", {}), ("env_pass", []), ("pythonpath", []), ("generation", 5), ("max_mb", 5)]
SENSE += [(name, each) for name in (*MAPPINGS, "stage's resources") for each in ({}, {"a": 5})]


def test_a_record_with_nonsense_under_any_key_is_one_line(project):
    project.ok("sweep.yml", "-i")
    path = project.runs()[0] / "run.json"
    whole = json.loads(path.read_text())
    problem = f"{path}: not a record of ours; restore it or move it away"
    for name in KEYS:
        for nonsense in (each for each in NONSENSE if (name, each) not in SENSE):
            told = {**whole, name: nonsense}
            if name == "stage's resources":
                told = {**whole, "stages": [{**whole["stages"][0], "resources": nonsense}]}
            if name == "max_mb":
                told = {**whole, "code": {**whole["code"], name: nonsense}}
            path.write_text(json.dumps(told))
            look = status.read(str(project.root), "sweep")
            assert (look.problems, len(look.runs)) == ((problem,), 1), (name, nonsense)
        for argv in (["retry", "sweep"], ["cancel", "sweep"], ["sweep.yml", "-i"]):
            done = project(*argv)
            assert (done.code, done.err.count(problem)) == (3, 1), (name, argv)
        assert json.loads(project("status", "sweep", "--json").out)["unreadable"] == [problem], name
