"""Jobs of a SUBMIT_CMD on their nodes: warned, run again by an exit code, restarted, held, cancelled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import key
from launching import ROOT, Place, end
from submitting import SUBMIT, codes, configure
from test_relaunch import cancelled

from farmx import breaker, layout
from farmx.farms import base, command
from farmx.spec import Job

# $RUNNER is the process that answers signals.
RUNNER = """sed 's/.*"pid": \\([0-9]*\\).*/\\1/' "$FARMX_ATTEMPT_DIR/owner.json\""""
WARNED = f"""printf "%s\\n" "$FARMX_ATTEMPT_DIR" >> "$SIDE"
trap 'exit 0' TERM
if [ "$FARMX_ATTEMPT" -lt "$MOST" ]; then kill -$HOW "$({RUNNER})"; sleep 9 & wait; fi
"""


@pytest.fixture
def big(project, hold):
    """A project whose farm runs a job as it is submitted, one after another."""
    (hold / "run").touch()
    settle(project)
    return project


def settle(project, more: str = "REQUEUE_CODE: 99") -> None:
    configure(project, more=f"SUBMIT_PARALLEL: 1\n{more}")


def one(project, text: str, **more: str) -> tuple[dict, dict[str, str]]:
    """What status says of the run of a program, and how its attempts ended."""
    project.sweep("{n: [1]}")
    project.write("note.sh", text)
    project.ok("sweep.yml", **more)
    (run,) = json.loads(project.ok("status", "sweep", "--json").out)["runs"]
    home = project.experiment / run["run"] / "attempts"
    return run, {path.name: json.loads((path / "end.json").read_text())["state"] for path in sorted(home.iterdir())}


# ---------------------------------------------------------------- warned

HOW = [
    ("USR1", "REQUEUE_CODE: 99", "done", {"1.0": "preempted", "1.1": "done"}, ["99", "0"]),
    ("USR2", "REQUEUE_CODE: 99", "done", {"1.0": "preempted", "1.1": "done"}, ["99", "0"]),
    ("USR2", "", "interrupted", {"1.0": "interrupted"}, ["1"]),
    ("USR2", "REQUEUE_CODE: 99\nMAX_REQUEUES: 0", "failed", {"1.0": "failed"}, ["1"]),
]


@pytest.mark.parametrize(("how", "settings", "state", "ends", "said"), HOW)
def test_a_job_that_is_warned_ends_its_program_and_asks_to_be_run_again(big, hold, how, settings, state, ends, said):
    settle(big, settings)
    run, attempts = one(big, WARNED, HOW=how, MOST="2")
    assert (run["state"], attempts, codes(hold)) == (state, ends, said)
    assert [start.rpartition("/")[2] for start in big.starts()] == list(ends)


def test_a_run_that_is_not_run_again_where_nobody_can_be_asked_is_unknown_after_a_day_and_retried(big, hold):
    (hold / "submit_job").write_text(SUBMIT.replace('"$code" = 99 ]', '"$RESTARTED" = 0 ]'))
    run, attempts = one(big, WARNED, HOW="USR1", MOST="2")
    assert (run["state"], run["note"], attempts) == ("preempted", "farm big has no STATUS_CMD", {"1.0": "preempted"})
    beat = big.experiment / run["run"] / "attempts" / "1.0" / layout.HEARTBEAT
    os.utime(beat, (beat.stat().st_mtime - 86400,) * 2)
    assert set(big.states().values()) == {"unknown"}
    note = json.loads(big.ok("status", "sweep", "--json").out)["runs"][0]["note"]
    told = f"note  1 unknown: {note}; left alone: launch again when that is known\n"
    assert told in big.ok("sweep.yml").err
    big.ok("retry", "--state", "unknown", run["run"], MOST="2")
    assert set(big.states().values()) == {"done"}


def test_what_is_no_warning_where_no_code_is_told_does_nothing(big, hold):
    settle(big, "")
    run, attempts = one(big, f"""kill -USR1 "$({RUNNER})"; sleep 0.1; kill -USR1 $$; exit 0""")
    assert (run["state"], attempts, codes(hold)) == ("done", {"1.0": "done"}, ["0"])


def test_a_job_is_run_again_so_often_and_then_has_failed(big, hold):
    settle(big, "REQUEUE_CODE: 99\nMAX_REQUEUES: 2")
    run, attempts = one(big, WARNED, HOW="USR1", MOST="9")
    assert attempts == {"1.0": "preempted", "1.1": "preempted", "1.2": "failed"}
    assert run["note"] == "it was told that its time is up, and it was requeued twice (MAX_REQUEUES)"
    assert codes(hold) == ["99", "99", "1"]


@pytest.mark.parametrize("settings", ["REQUEUE_CODE: 99", ""])
@pytest.mark.parametrize("code", [3, 99, 100])
def test_a_programs_own_code_says_nothing_to_the_scheduler(big, hold, code, settings):
    settle(big, settings)
    run, _ = one(big, f"exit {code}")
    assert (run["state"], run["note"], codes(hold)) == ("failed", f"main exited with {code}", ["1"])


def test_what_retry_gives_an_exit_code_is_run_in_the_same_job(big, hold):
    big.sweep("{n: [1]}", more="RETRY: {error: 1}\n")
    big.write("note.sh", 'exit "$((FARMX_ATTEMPT == 1))"')
    big.ok("sweep.yml")
    assert (set(big.states().values()), codes(hold)) == ({"done"}, ["99", "0"])


def test_a_packed_job_comes_back_for_those_that_were_warned_and_those_that_wait(big, hold):
    big.sweep("{n: [1, 2, 3]}", more="PACK: {runs: 1, each: 3}\n")
    whole = f'sed -n "s/^PPid:\\t//p" "/proc/$({RUNNER})/status"'  # the process that all runs of the job are below
    big.write("note.sh", WARNED.replace('"$MOST" ]', '"$MOST" ] && [ "$2" = 1 ]').replace(RUNNER, whole))
    big.ok("sweep.yml", HOW="USR1", MOST="2")
    assert (big.again(), codes(hold)) == ({(n, 1): "done" for n in (1, 2, 3)}, ["99", "0"])
    by_n = {key(path)[0]: sorted(os.listdir(path / "attempts")) for path in big.runs()}
    assert by_n == {1: ["1.0", "1.1"], 2: ["1.0"], 3: ["1.0"]}
    first = next(path.name for path in big.runs() if key(path)[0] == 1)
    assert big.starts()[:2] == [f"sweep/{first}/1.0", f"sweep/{first}/1.1"]  # nothing else began before that


# ---------------------------------------------------------------- restarted


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def handed(place: Place, run: str) -> str:
    """A submission of one run, as the farm leaves it."""
    made = base.submission(str(place.experiment / ".farmx" / "submissions"), "id", [Job(run, "1.0")])
    record = {"format": 1, "executor": "command", "farm": "big", "node": command.node(99, 3)}
    layout.write_json(os.path.join(made.path, layout.JOB), record)
    return made.path


def job(submission: str, **env: str) -> tuple[int, str]:
    """The code of a job, and what it said."""
    code = "import sys\nfrom farmx import node\nsys.exit(node.main(sys.argv[1:]))"
    kept = {key: value for key, value in os.environ.items() if key not in command.JOBS}
    done = subprocess.run([sys.executable, "-c", code, submission, "0"], env={**kept, "PYTHONPATH": ROOT, **env},
                          capture_output=True, text=True)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def attempt(run: str, number: str, job: str, state: str | None, **more: object) -> Path:
    path = Path(run, "attempts", number)
    path.mkdir(parents=True)
    layout.write_json(str(path / layout.OWNER), {"format": 1, "started": 1.0, "job": job, "pid": 1, "host": "far"})
    if state:
        told = {"format": 1, "started": 1.0, "ended": 2.0, "state": state, **more}
        layout.write_json(str(path / layout.END), told)
    return path


RESTARTS = [
    ("run again by its code", "preempted", {}, "one 1.1 done\n"),
    ("by another job, queued twice", "preempted", {"JOB_ID": "8"}, "one 1.1 held: attempt 1.0 is that of job 7\n"),
    ("by a scheduler that names no jobs", "preempted", {"JOB_ID": ""}, "one 1.1 held: attempt 1.0 is that of job 7\n"),
    ("its node died", None, {"RESTARTED": "1"}, "one 1.1 done\n"),
    ("its node went down", "interrupted", {"RESTARTED": "1"}, "one 1.1 done\n"),
    ("it may still run", None, {"RESTARTED": "0"}, "one 1.0 held: taken by process 1 on far\n"),
    ("another may still run", None, {"RESTARTED": "1", "JOB_ID": "8"}, "one 1.0 held: taken by process 1 on far\n"),
    ("it was done", "done", {"RESTARTED": "1"}, "one 1.0 held: taken by process 1 on far\n"),
    ("it had failed", "failed", {"RESTARTED": "1"}, "one 1.0 held: taken by process 1 on far\n"),
]


@pytest.mark.parametrize(("state", "env", "said"), [row[1:] for row in RESTARTS], ids=[row[0] for row in RESTARTS])
def test_a_restart_is_another_attempt_only_where_the_last_one_is_over(place, state, env, said):
    run = place.run()
    attempt(run, "1.0", "7", state)
    assert job(handed(place, run), **{"JOB_ID": "7", **env}) == (0, said)


def test_a_run_that_was_cancelled_too_late_for_its_attempt_does_not_go_on(place):
    run = place.run()
    (attempt(run, "1.0", "7", "preempted") / layout.CANCEL).touch()
    assert job(handed(place, run), JOB_ID="7") == (0, "one 1.1 held: attempt 1.0 was cancelled\n")
    assert end(run, "1.1") == {"format": 1, "state": "cancelled", "begun": False}


def test_a_run_that_was_cancelled_while_it_waited_never_starts(place):
    run = place.run()
    attempt(run, "1.0", "", "cancelled")
    assert job(handed(place, run), JOB_ID="7") == (1, "one 1.0 cancelled: cancelled before it began\n")


# ---------------------------------------------------------------- held

WHY = "the first 2 runs failed with: no such option"


@pytest.fixture
def broken(big):
    """A project whose command is wrong, and whose breaker is 2."""
    big.sweep("{n: [1, 2, 3, 4, 5]}", more="BREAKER: 2\n")
    big.write("note.sh", "echo no such option >&2; exit 2\n")
    return big


def standing(project) -> dict[tuple[str, str], int]:
    """(state, note) -> how many."""
    found: dict[tuple[str, str], int] = {}
    for run in json.loads(project.ok("status", "sweep", "--json").out)["runs"]:
        key = run["state"], run["note"]
        found[key] = found.get(key, 0) + 1
    return found


def run_jobs(hold: Path, count: int) -> None:
    """Let the first jobs that wait begin, and end."""
    waiting = (hold / "calls").read_text().split("\n\0")
    for call in waiting[:count]:
        if call:
            subprocess.run(["sh", "-c", call.split("\0")[-2]], stdin=subprocess.DEVNULL, capture_output=True)
    (hold / "calls").write_text("\n\0".join(waiting[count:]))


def test_a_job_that_its_breaker_holds_ends_before_its_program_begins(broken, hold):
    broken.ok("sweep.yml")
    assert codes(hold) == ["1", "1", "0", "0", "0"]
    assert (hold / "out").read_text().endswith(f" held: {WHY}\n")
    assert standing(broken) == HELD


HELD = {("failed", "main exited with 2"): 2, ("staged", f"held: {WHY}"): 3}
GO_ON = {
    "release": (("retry", "sweep", "--release"), {("done", ""): 5}),
    "the same launch": (("sweep.yml",), {("failed", "main exited with 2"): 2, ("done", ""): 3}),
}


@pytest.mark.parametrize(("words", "after"), GO_ON.values(), ids=GO_ON)
@pytest.mark.parametrize("pack", ["", "PACK: {runs: 1, each: 3}\n"])
def test_whose_job_ended_since_it_was_held_is_queued_again_where_nobody_can_be_asked(broken, pack, words, after):
    settle(broken, pack)
    broken.ok("sweep.yml")
    assert standing(broken) == HELD
    broken.write("note.sh", ":\n")
    broken.ok(*words)
    assert standing(broken) == after


def test_whose_job_ended_since_it_was_held_has_none_that_could_be_cancelled(broken):
    broken.ok("sweep.yml")
    names = [each.split() for each in broken.ok("cancel", "sweep").out.splitlines()]
    assert sorted(did for _, did in names) == ["cancelled"] * 3 + ["failed"] * 2


def test_what_waits_where_nobody_can_be_asked_is_let_go_and_its_jobs_begin_it(broken, hold):
    (hold / "run").unlink()
    broken.ok("sweep.yml")
    run_jobs(hold, 3)  # the third is held
    assert standing(broken) == {("failed", "main exited with 2"): 2, ("staged", f"held: {WHY}"): 1,
                                ("queued", f"held: {WHY}"): 2}  # fmt: skip
    broken.write("note.sh", ":\n")
    done = broken.ok("retry", "sweep", "--release")
    assert "      2 let go\n" in done.err and "runs  3 again, 0 left alone\n" in done.err
    run_jobs(hold, 5)
    assert standing(broken) == {("done", ""): 5}


def test_a_job_that_its_scheduler_does_not_run_again_is_queued_anew_as_retry_says(big, hold):
    settle(big, 'REQUEUE_CODE: 99\nSTATUS_CMD: "true"')
    big.sweep("{n: [1]}", more="RETRY: {error: 2}\n")
    big.write("note.sh", '[ "$FARMX_ATTEMPT" = 2 ]\n')
    (hold / "run").unlink()
    big.ok("sweep.yml")
    run_jobs(hold, 1)
    assert list(standing(big)) == [("interrupted", "preempted, and its job is not queued again")]
    assert big.ok("tend", "sweep").out.endswith("  again: error\n")
    run_jobs(hold, 2)
    assert standing(big) == {("done", ""): 1}


@pytest.mark.parametrize(("back", "again"), [(0, 0), (1, 1)])
def test_what_failed_and_is_queued_again_by_retry_is_held_with_the_rest(broken, hold, back, again):
    """back: how many of these jobs begin once more before they are let go, and so end."""
    broken.sweep("{n: [1, 2, 3, 4, 5]}", more="BREAKER: 2\nRETRY: {error: 2}\n")
    settle(broken, f"REQUEUE_CODE: 99\nSTATUS_CMD: cat \"{hold / 'told'}\"")
    (hold / "run").unlink()
    broken.ok("sweep.yml")
    calls = (hold / "calls").read_text()
    run_jobs(hold, 2)
    (submission,) = (broken.experiment / ".farmx/submissions").iterdir()
    queued = [line.split()[1] for line in (submission / "queued").read_text().splitlines()]
    (hold / "calls").write_text(calls)
    run_jobs(hold, back)
    (hold / "told").write_text("".join(f"{name} qw\n" for name in queued[back:]))
    held = f"held: {WHY}"
    assert standing(broken) == {key: count for key, count in {
        ("staged", held): back, ("preempted", held): 2 - back, ("queued", held): 3}.items() if count}  # fmt: skip
    broken.write("note.sh", ":\n")
    done = broken.ok("retry", "sweep", "--release")
    assert f"      {5 - again} let go\n" in done.err and f"runs  {again} again, 0 left alone\n" in done.err
    run_jobs(hold, 6)
    assert standing(broken) == {("done", ""): 5}


def test_what_waits_is_let_go_with_todays_code_and_what_has_ended_is_queued_again(broken, hold):
    status = 'STATUS_CMD: cat "' + str(hold / "told") + '"'
    settle(broken, f"REQUEUE_CODE: 99\n{status}")
    (hold / "run").unlink()
    broken.ok("sweep.yml")
    (submission,) = (broken.experiment / ".farmx/submissions").iterdir()
    queued = [line.split()[1] for line in (submission / "queued").read_text().splitlines()]
    run_jobs(hold, 3)  # the third is held
    (hold / "told").write_text("".join(f"{name} qw\n" for name in queued[3:]))
    assert standing(broken) == {("failed", "main exited with 2"): 2, ("staged", f"held: {WHY}"): 1,
                                ("queued", f"held: {WHY}"): 2}  # fmt: skip
    broken.write("note.sh", ":\n")
    done = broken.ok("retry", "sweep", "--release")
    assert "      2 let go\n" in done.err and "runs  3 again, 0 left alone\n" in done.err
    assert breaker.read(str(submission))["held"] is False
    run_jobs(hold, 5)
    (hold / "told").write_text("")
    assert standing(broken) == {("done", ""): 5}


@pytest.mark.parametrize("known", [True, False])
def test_what_is_let_go_gets_the_settings_of_the_farm_that_has_it_and_keeps_what_was_passed(broken, hold, known):
    """known: whether that farm still has a section; else the runs keep what surrounds them."""
    settle(broken, "REQUEUE_CODE: 99\nSETUP: export LOADED=cuda\nENV: {WORD: old}")
    config = (broken.path / ".farmx.yaml").read_text().replace("FARM: big\n", "")
    broken.write(".farmx.yaml", config)
    (hold / "run").unlink()
    broken.ok("sweep.yml", "--farm", "big")
    run_jobs(hold, 2)
    waiting = [path for path in broken.runs() if not (path / "attempts").is_dir()]
    broken.write("note.sh", ":\n")
    broken.write(".farmx.yaml", config.replace("old", "new") if known else "")
    with open(broken.path / "sweep.yml", "a") as file:
        file.write("ENV_PASS: [GIVEN]\n")
    assert "      3 let go\n" in broken.ok("retry", "sweep", "--release", *([] if known else ["-i"]), GIVEN="it").err
    told = [json.loads((path / "run.json").read_text()) for path in waiting]
    assert [(each["setup"], each["env"], each["env_pass"]) for each in told] == 3 * [
        ("export LOADED=cuda", {"WORD": "new" if known else "old"}, [])
    ]


# ---------------------------------------------------------------- cancelled


def test_without_cancel_cmd_a_waiting_run_is_cancelled_and_its_job_starts_nothing(big, hold):
    (hold / "run").unlink()
    big.sweep("{n: [1]}")
    big.ok("sweep.yml")
    (run,) = big.runs()
    said = "cancelled; its job is still queued and will end at once: farm big has no CANCEL_CMD"
    assert big.ok("cancel", "sweep").out == f"{run.name}  {said}\n"
    run_jobs(hold, 1)
    assert (set(big.states().values()), big.starts()) == ({"cancelled"}, [])


def test_what_runs_is_asked_to_end_by_its_records(place, tmp_path, monkeypatch):
    run = place.shell("sleep 9")
    submission = handed(place, run)
    base.record_queued(submission, 0, 0, "7")
    attempt(run, "1.0", "7", None)
    Path(run, "attempts/1.0", layout.HEARTBEAT).touch()
    assert cancelled(place) == {"one": "asked to end; its runner will see that: farm big has no CANCEL_CMD"}
    assert Path(run, "attempts/1.0/cancel").exists() and end(run) is None


def test_where_no_node_sees_our_records_it_is_not_cancelled(place):
    run = place.shell("sleep 9")
    submission = handed(place, run)
    record = json.loads(Path(submission, layout.JOB).read_text())
    layout.write_json(os.path.join(submission, layout.JOB), {**record, "elsewhere": "/mount"})
    base.record_queued(submission, 0, 0, "7")
    attempt(run, "1.0", "7", None)
    Path(run, "attempts/1.0", layout.HEARTBEAT).touch()
    assert cancelled(place) == {"one": "not cancelled: farm big has no CANCEL_CMD"}
