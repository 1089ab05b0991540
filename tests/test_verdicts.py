"""verdicts: why each attempt of a run ended, by its record, its log and what its farm wrote."""

import json
from pathlib import Path

import pytest
from attempts import attempt, staged
from launching import Place

from farmx import records, remedies, verdicts
from farmx.policy import Verdict
from farmx.runner import Outcome
from farmx.spec import Held, Run, Standing, State


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def run_of(path: Path, state: State = State.FAILED, note: str = "", held: tuple[Held, ...] = ()) -> Run:
    return Run(path.name, str(path), "sweep", state, {}, records.attempts(str(path)), "p1-x", note=note, held=held)


ENDS = [
    # how it ended, what its record says beside, its log, the farm's log -> its cause
    ("done", {}, b"MemoryError", "", None),
    ("cancelled", {}, b"", "oom_kill", None),
    ("interrupted", {}, b"", "", None),
    ("preempted", {}, b"", "", None),
    ("failed", {"code": 1}, b"hello", "", "error"),
    ("failed", {"signal": "SIGSEGV"}, b"", "", "error"),
    ("failed", {"note": "it reached its time limit"}, b"", "", "time"),
    ("failed", {"note": "out of memory; main was ended by SIGKILL"}, b"", "", "oom"),
    ("failed", {"cause": "oom"}, b"", "it reached its time limit", "oom"),
    ("failed", {"cause": "something newer"}, b"", "", "error"),
    ("preempted", {"cause": "error", "again": True}, b"", "", "error"),
    ("failed", {"signal": "SIGKILL"}, b"", "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch", "oom"),
    ("failed", {"signal": "SIGKILL"}, b"", "slurmstepd: error: Exceeded job memory limit", "oom"),
    ("failed", {"code": 137}, b"slurmstepd: error: Detected 1 oom_kill event\n", "", "oom"),
    ("failed", {"cause": "error"}, b"", "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=7.batch.", "oom"),
    ("failed", {"cause": "error"}, b"", "slurmstepd: error: *** DUE TO TIME LIMIT ***", "error"),
    ("failed", {"cause": "time"}, b"", "oom_kill", "time"),
    ("failed", {"code": 1}, b"we are out of memory of those days, oom_kill\n", "", "error"),
    ("failed", {"code": 1}, b"numpy.core._exceptions.MemoryError: Unable to allocate\n", "", "oom"),
    ("failed", {"code": 1}, b"torch.cuda.OutOfMemoryError: CUDA out of memory.\n", "", "error"),
    ("failed", {"code": 1}, b"", "timeout's one 1.0 failed: main exited with 1", "error"),
    ("failed", {"code": 1}, b"TimeoutError: timed out", "TimeoutError: [Errno 110] Connection timed out", "error"),
    ("failed", {"code": 1}, "it's größe\n".encode(), "slurmstepd: error: *** DUE TO TIME LIMIT ***", "time"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "more", "log", "farm", "cause"), ENDS)
def test_the_cause_of_an_attempt(place, state, more, log, farm, cause):
    path = staged(place)
    farm_log(place, path, attempt(path, "1.0", {"main": log}, state, **more), farm)
    assert verdicts.causes(run_of(path)) == [cause]


def farm_log(place: Place, path: Path, made: Path, text: str) -> None:
    """What the farm wrote, in a submission of its own."""
    owner = json.loads((made / "owner.json").read_text())
    (made / "owner.json").write_text(json.dumps({**owner, "submission": "s;1", "index": 3}))
    home = place.experiment / ".farmx" / "submissions" / "s;1"
    home.mkdir(exist_ok=True)
    (home / "3.log").write_text(text + "\n")


UNENDED = [
    (State.RUNNING, "on h", "", None),
    (State.UNKNOWN, "", "", None),
    (State.INTERRUPTED, "", "", None),
    (State.LOST, "its node failed", "", "node_fail"),
    (State.LOST, "on h; its job is gone and recorded no end", "", "node_fail"),
    (State.FAILED, "out of memory", "", "oom"),
    (State.FAILED, "it reached its time limit", "", "time"),
    (State.FAILED, "its job failed before it could say why", "error: Exceeded job memory limit", "oom"),
    (State.FAILED, "its job failed before it could say why", "", "node_fail"),
]


@pytest.mark.parametrize(("state", "note", "farm", "cause"), UNENDED)
def test_the_cause_of_one_that_left_no_end_is_what_its_farm_says(place, state, note, farm, cause):
    path = staged(place)
    farm_log(place, path, attempt(path, "1.0", {"main": b""}, None), farm)
    assert verdicts.causes(run_of(path, state, note)) == [cause]


def test_each_restart_of_a_job_has_its_own_part_of_the_farms_log(place):
    said = "one 1.0 preempted: its job is queued again\n{}one 1.1 failed: main exited with 1\n{}"
    rows = (("", "", "error"), ("oom_kill\n", "", "oom"), ("", "oom_kill", "oom"))
    for place_of, (before, after, cause) in enumerate(rows):
        path = staged(place, name=f"one{place_of}")
        for number, state in (("1.0", "preempted"), ("1.1", "failed")):
            text = "DUE TO TIME LIMIT\n" + said.format(before, after).replace("one", path.name)
            farm_log(place, path, attempt(path, number, {"main": b""}, state), text)
        assert verdicts.causes(run_of(path)) == [None, cause]


def test_one_that_was_superseded_without_an_end_was_lost(place):
    path = staged(place)
    attempt(path, "1.0", {}, None)
    attempt(path, "2.0", {"main": b""}, "failed", code=1)
    assert verdicts.causes(run_of(path)) == ["node_fail", "error"]
    attempt(path, "3.0", {"main": b""}, None)
    assert verdicts.causes(run_of(path, State.INTERRUPTED)) == ["node_fail", "error", None]


HELD = [
    ("error", {"error": 1, "oom": 1}, True, Verdict(False, "error: it's $HOME")),
    ("error", {"error": 1}, False, Verdict(True, "error")),
    ("oom", {"error": 1, "oom": 1}, True, Verdict(True, "oom")),
    ("error", {"oom": 1}, True, Verdict(False, "")),
]


@pytest.mark.parametrize(("cause", "retry", "held", "verdict"), HELD)
def test_what_failed_by_a_fault_of_the_code_waits_while_its_launch_is_held(place, cause, retry, held, verdict):
    path = staged(place)
    farm_log(place, path, attempt(path, "1.0", {"main": b""}, "failed", cause=cause), "")
    record = {"format": 1, "held": held, "why": "it's $HOME"}
    (place.experiment / ".farmx" / "submissions" / "s;1" / "breaker.json").write_text(json.dumps(record))
    assert verdicts.of(run_of(path), retry, {}) == verdict


def test_a_job_that_never_began_counts_each_time_it_was_queued(place):
    path = staged(place)
    (path / "run.json").write_text(json.dumps({"retry": {"node_fail": 2}, "resources": {"mem": "1G"}}))
    helds = tuple(Held(f"s{place}", 0, 1, {}, "7") for place in range(3))
    for count, again in ((1, True), (2, True), (3, False)):
        run = run_of(path, State.LOST, "its job left the queue and never began", helds[:count])
        assert verdicts.causes(run) == ["node_fail"] * count
        assert verdicts.of(run).again is again
    assert verdicts.causes(run_of(path, State.QUEUED, "", helds)) == []
    told = [run_of(path, State.FAILED, note, helds[:2]) for note in ("it reached its time limit", "out of memory")]
    assert list(map(verdicts.causes, told)) == [["time"] * 2, ["oom"] * 2]
    asked = {"mem": "1G", "time": 5}
    grown = [verdicts.wanted(run, {"time": "x2", "oom": "x1.5"}, asked, asked) for run in told]
    assert grown == [{"mem": "1G", "time": 20}, {"mem": "2304M", "time": 5}]
    unheard = Held("s", 0, 1, {}, None)
    assert verdicts.causes(run_of(path, State.FAILED, "", (unheard,))) == []


def test_only_what_failed_or_was_lost_is_judged_by_what_it_was_staged_with(place):
    path = staged(place)
    record = json.loads((path / "run.json").read_text())
    retry, resources = {"oom": {"mem": "x2"}, "error": 1}, {"mem": "64G", "it's; $HOME": "a\nb"}
    (path / "run.json").write_text(json.dumps({**record, "retry": retry, "resources": resources}))
    attempt(path, "1.0", {"main": b"MemoryError"}, "failed", code=1)
    again = Verdict(True, "oom, mem 128G", {**resources, "mem": "128G"})
    assert [verdicts.of(run_of(path, state)) for state in (State.FAILED, State.DONE, State.QUEUED)] == [
        again, verdicts.NONE, verdicts.NONE
    ]  # fmt: skip
    assert verdicts.of(run_of(path), {}, {}) == verdicts.NONE
    assert verdicts.of(run_of(path), {"oom": 1}, {"mem": 1}) == Verdict(True, "oom", {"mem": 1})
    assert verdicts.of(run_of(path)._replace(identity=None)) == verdicts.NONE
    assert verdicts.wanted(run_of(path, State.CANCELLED), retry, resources, resources) == {**resources, "mem": "128G"}
    assert verdicts.wanted(run_of(path, State.CANCELLED), {}, resources, resources) == resources


@pytest.mark.parametrize(
    ("state", "end", "why"),
    [
        (State.INTERRUPTED, {"state": "preempted", "cause": "error", "again": True}, "error"),
        (State.INTERRUPTED, {"state": "preempted", "again": True}, ""),
        (State.INTERRUPTED, {"state": "interrupted", "cause": "error"}, ""),
        (State.PREEMPTED, {"state": "preempted", "cause": "error", "again": True}, ""),
    ],
)
def test_what_was_to_run_again_in_its_own_job_and_does_not_is_due(place, state, end, why):
    path = staged(place)
    attempt(path, "1.0", {"main": b""}, end.pop("state"), **end)
    assert verdicts.of(run_of(path, state), {"error": 1}, {}) == Verdict(bool(why), why, {})
    assert not verdicts.of(run_of(path, State.INTERRUPTED)._replace(attempts=()), {"error": 1}, {}).again


OWN = [
    # which stages are done, what each asks for itself -> what its next attempt is to have
    ((False, False), {}, {}, {"mem-per-cpu": "20G", "x": 1}),
    ((False, False), {"mem_per_cpu": "3G"}, {"mem_per_cpu": "7G"}, {"mem_per_cpu": "6G", "x": 1}),
    ((True, False), {"mem_per_cpu": "3G"}, {"mem_per_cpu": "7G"}, {"mem_per_cpu": "14G", "x": 1}),
    ((True, True), {"mem_per_cpu": "3G"}, {"mem_per_cpu": "7G"}, {"mem_per_cpu": "6G", "x": 1}),
    ((True, False), {"mem": "3G", "mem_per_cpu": None}, {}, {"mem-per-cpu": "20G", "x": 1}),
    ((True, False), {}, {"mem": "3G", "mem_per_cpu": None}, {"mem": "6G", "mem_per_cpu": None, "x": 1}),
]


@pytest.mark.parametrize(("done", "train", "test", "wanted"), OWN)
@pytest.mark.parametrize("today", [False, True])
def test_what_grows_is_what_the_stage_asks_for_at_which_it_goes_on(place, today, done, train, test, wanted):
    path = staged(place, "train", "test")
    record = json.loads((path / "run.json").read_text())
    retry, resources = {"oom": "x2"}, {"mem-per-cpu": "10G", "x": 1}
    own = {"train": train, "test": test}
    record["stages"] = [{**each, "resources": own[each["name"]]} for each in record["stages"]]
    (path / "run.json").write_text(json.dumps({**record, "retry": retry, "resources": resources}))
    attempt(path, "1.0", {"train": b"MemoryError"}, "failed", code=1)
    run = run_of(path)._replace(stages=tuple(map(Standing, own, ("", "f2"), done)))
    key = next(name for name in ("mem", "mem-per-cpu", "mem_per_cpu") if wanted.get(name))
    verdict = Verdict(True, f"oom, {key} {wanted[key]}", wanted)
    assert verdicts.of(run, *((retry, resources, own) if today else ())) == verdict


OOM = b"MemoryError"
BOTH = ({"mem": "10G"}, {"mem": "2G"})
COUNTED = [
    # what each stage asks for itself, RETRY, of each attempt how its stages ended -> again, memory
    (BOTH, {"oom": "x2"}, [{"train": "failed"}, {"train": "failed"}], (True, "40G")),
    (BOTH, {"oom": "x2"}, [{"train": "failed"}] * 2 + [{"train": "done"}, {"test": "failed"}], (True, "4G")),
    (BOTH, {"oom": 1}, [{"train": "failed"}, {"train": "done"}, {"test": "failed"}], (True, "2G")),
    (BOTH, {"oom": 1}, [{"train": "failed"}, {"train": "done"}, {"test": "failed"}, {"test": "failed"}], (False, "2G")),
    (BOTH, {"oom": 1}, [{"train": "failed"}, {"train": "done", "test": "failed"}], (True, "2G")),
    (BOTH, {"oom": 1}, [{"train": "done", "test": "failed"}, {"train": "failed"}], (True, "10G")),  # by --stage
    (({}, {}), {"oom": 1}, [{"train": "failed"}, {"train": "done", "test": "failed"}], (False, "1G")),  # one job
    (({}, {}), {"oom": "x2"}, [{"train": "failed"}, {"train": "done", "test": "failed"}], (True, "4G")),
]  # fmt: skip


@pytest.mark.parametrize(("own", "retry", "attempts", "wanted"), COUNTED)
def test_a_stage_that_is_a_job_of_its_own_has_its_own_count_and_grows_by_itself(place, own, retry, attempts, wanted):
    path = staged(place, "train", "test")
    record = json.loads((path / "run.json").read_text())
    told = [{**each, "resources": mine, "form": each["name"]} for each, mine in zip(record["stages"], own)]
    (path / "run.json").write_text(json.dumps({**record, "stages": told, "retry": retry, "resources": {"mem": "1G"}}))
    for number, stages in enumerate(attempts, 1):
        state = "failed" if "failed" in stages.values() else "done"
        cause = {"cause": "oom"} if state == "failed" else {}
        made = attempt(path, f"{number}.0", dict.fromkeys(stages, OOM), state, **cause)
        rows = [{"event": event, "stage": name, "place": ["train", "test"].index(name), "form": name, "state": each}
                for name, each in stages.items() for event in ("started", "ended")]  # fmt: skip
        (made / "events.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = {name: each == "done" for stages in attempts for name, each in stages.items()}
    standing = tuple(Standing(name, name, done.get(name, False)) for name in ("train", "test"))
    run = run_of(path)._replace(stages=standing)
    reached = own[[each.done for each in standing].index(False)]
    wants = {"mem": "1G", **reached}
    next_one = verdicts.wanted(run, retry, wants, {"mem": "1G"}, dict(zip(("train", "test"), own)))
    assert (verdicts.of(run).again, next_one["mem"]) == wanted
    last = f"{len(attempts)}.0"
    (path / "attempts" / last / "end.json").unlink()
    outcome = Outcome("failed", 1, note="x", cause="oom")
    judged = remedies.Remedy(str(place.submission(name="s").path), str(path), last, True).judge(outcome)
    assert judged.again is (wanted[0] and retry == {"oom": 1})  # what is to grow is for others
