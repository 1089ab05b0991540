"""farmx why: what became of a run, in plain words, of every state and every end; and commands that can be copied."""

import json
import os
import pwd
import re
import subprocess
import time
from pathlib import Path

import pytest
from attempts import attempt, staged
from conftest import BIN
from launching import PATIENCE_S, Place, execute, until
from rights import ordinary_rights
from typed import Typed, everything, timeless, write

from farmx import layout, processes, records, why
from farmx.farms import base
from farmx.spec import Attempt, Held, Run, State

TRACE = """Traceback (most recent call last):
  File "{code}/train.py", line 7, in main
    step(x)
{error}
"""
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FARMX_LOGROOT", str(tmp_path / "logs"))
    return Place(tmp_path)


@pytest.fixture
def typed(place, monkeypatch, capfd, tmp_path) -> Typed:
    return Typed(monkeypatch, capfd, tmp_path)


def told(typed: Typed, line: str = "farmx why one --json") -> dict:
    said = typed(line)
    assert (said.code, said.err) == (0, "")
    return json.loads(said.out)


def undated(text: str) -> list[str]:
    """Its lines, with T for every time span and WHEN for every date."""
    return timeless(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN", text)).splitlines()


def died(place: Place, log: str = "", **end: object) -> Path:
    """A run whose only attempt failed so."""
    run = staged(place)
    text = log.replace("{code}", f"{run}/.code/abc")
    attempt(run, "1.0", {"main": text.encode()}, **{"end": "failed", "note": "main exited with 1", "code": 1, **end})
    return run


def test_of_a_run_that_farmx_did_not_launch_there_is_the_table(place, typed):
    """Its logs are not ours, and it cannot be run again."""
    write(place.experiment, {"runx/hparams.json": "{}"})
    account = told(typed, "farmx why runx --json")
    assert {name: each for name, each in account.items() if each} == {
        "run": "runx", "experiment": "sweep", "state": "unknown", "why": "not launched by farmx",
        "next": ["sumx sweep"],
    }  # fmt: skip


# ---------------------------------------------------------------- ended


ENDS = [
    ({"log": TRACE.replace("{error}", "ValueError: no")}, "", "main exited with 1"),
    ({"log": TRACE.replace("{error}", OOM)}, "gpu memory", "main exited with 1: the memory of its GPU was used up"),
    ({"log": TRACE.replace("{error}", "MemoryError")}, "memory", "main exited with 1: its memory was used up"),
    ({"log": "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.\n", "code": None, "signal": "SIGKILL",
      "note": "main was ended by SIGKILL"}, "memory", "main was ended by SIGKILL: its memory was used up"),
    ({"code": None, "signal": "SIGKILL", "note": "main was ended by SIGKILL"}, "",
     "main was ended by SIGKILL: somebody killed it; nothing here says that its memory was used up, its node's kernel "
     "may know"),
    ({"code": 137, "note": "main exited with 137"}, "",
     "main exited with 137: somebody killed it; nothing here says that its memory was used up, its node's kernel may "
     "know"),
    ({"code": None, "signal": "SIGSEGV", "note": "main was ended by SIGSEGV"}, "",
     "main was ended by SIGSEGV: it crashed: it touched memory that is not its own"),
    ({"code": 139, "note": "main exited with 139"}, "",
     "main exited with 139: it crashed: it touched memory that is not its own"),
    ({"code": None, "signal": "SIGRTMIN+3", "note": "main was ended by SIGRTMIN+3"}, "",
     "main was ended by SIGRTMIN+3"),
    ({"code": 127, "note": "main exited with 127", "log": "sh: nosuch: not found\n"}, "",
     "main exited with 127: its command was not found"),
    ({"code": 126, "note": "main exited with 126"}, "", "main exited with 126: its command cannot be executed"),
    ({"note": "Slurm: TIMEOUT, main exited with 1"}, "time", "Slurm: TIMEOUT, main exited with 1: its time was over"),
    ({"note": "Slurm: NODE_FAIL"}, "node", "Slurm: NODE_FAIL: its node failed"),
    ({"note": ""}, "", ""),
]  # fmt: skip


@pytest.mark.parametrize("how, cause, sentence", ENDS)
def test_an_end_is_told_in_plain_words(place, typed, how, cause, sentence):
    died(place, **how)
    found = told(typed)
    assert (found["state"], found["cause"], found["why"]) == ("failed", cause, sentence)


STATES = [
    ("done", "", "it ended well", ["sumx sweep"]),
    ("cancelled", "", "somebody cancelled it", ["farmx retry sweep/one  # again, with the code it had"]),
    ("cancelled", "cancelled before it began", "somebody cancelled it: cancelled before it began",
     ["farmx retry sweep/one  # again, with the code it had"]),
    ("interrupted", "/x: No space left on device", "what it ran in ended before it: /x: No space left on device",
     ["farmx retry sweep/one  # again, with the code it had"]),
    ("preempted", "", "what it ran in ended before it: preempted, and its job is not queued again",
     ["farmx retry sweep/one  # again, with the code it had"]),
    ("lost", "", "its farm has forgotten it, and it was silent",
     ["farmx retry sweep/one  # again, with the code it had"]),
    ("pruned", "", "its search ended it early", ["farmx retry sweep/one  # again, with the code it had"]),
    ("bad word", "", "its end record says 'bad word'", ["farmx logs -f sweep/one"]),
]  # fmt: skip


@pytest.mark.parametrize("state, note, sentence, commands", STATES)
def test_every_state_has_its_words_and_its_command(place, typed, state, note, sentence, commands):
    attempt(staged(place), "1.0", {"main": b"fine\n"}, state, note=note)
    found = told(typed)
    assert (found["why"], found["next"]) == (sentence, commands)


def test_an_error_is_told_with_the_place_in_the_users_code(place, typed):
    died(place, TRACE.replace("{error}", "ValueError: no größe $HOME"))
    found = typed("farmx why one")
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines()[:3] == [
        "sweep/one  failed: main exited with 1",
        "      ValueError: no größe $HOME",
        "      at train.py:7 in main:  step(x)",
    ]
    assert undated(found.out)[3:] == [
        "      attempt 1.0, stage main, on h, WHEN, ended after T",
        "      log logs/sweep/one/attempts/1.0/main.log",
        "next  farmx logs sweep/one",
        "next  farmx retry sweep/one  # once that is mended; it takes today's code",
    ]


REPAIRS = [
    ({"log": TRACE.replace("{error}", OOM)}, "once it needs less of the GPU's memory"),
    ({"note": "OUT_OF_MEMORY"}, "once it needs less memory, or with more: -r mem=..."),
    ({"note": "TIMEOUT"}, "goes on where it calls logx.resume(); with more time: -r time=..."),
    ({"note": "NODE_FAIL"}, "once that is mended; it takes today's code"),
]


@pytest.mark.parametrize("how, repair", REPAIRS)
def test_what_to_do_fits_the_cause(place, typed, how, repair):
    died(place, **how)
    assert told(typed)["next"] == ["farmx logs sweep/one", f"farmx retry sweep/one  # {repair}"]


def test_what_the_farm_itself_wrote_is_read(place, typed):
    died(place, code=None, signal="SIGTERM", note="main was ended by SIGTERM")
    home = place.experiment / ".farmx/submissions/s"
    home.mkdir()
    (home / layout.RUNS).write_text("1.0 another\n1.0 one\n")
    owner = place.experiment / "one/attempts/1.0/owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "index": 1}))
    line = "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T08:00:00 DUE TO TIME LIMIT ***"
    (home / "1.log").write_text(f"{line}\n")
    found = told(typed)
    assert (found["why"], found["evidence"]) == ("main was ended by SIGTERM: its time was over", [line])


OWN_LINES = [
    # what the runner said in the farm's log, how the attempt is recorded -> cause, sentence
    ("one 1.0 preempted: it was told that its time is up; its job is queued again", {"code": 1}, "",
     "main exited with 1"),
    ("a timeout's run 1.0 failed: main exited with 1", {"code": 1}, "", "main exited with 1"),
    ("one 1.0 failed: its time is up", {"cause": "time", "note": "its time is up"}, "time",
     "its time is up: its time was over"),
    ("", {"cause": "oom"}, "memory", "main exited with 1: its memory was used up"),
    ("TimeoutError: timed out", {"code": 1}, "", "main exited with 1"),
    ("", {"cause": "something newer"}, "", "main exited with 1"),
]  # fmt: skip


@pytest.mark.parametrize("line, how, cause, sentence", OWN_LINES)
def test_what_our_own_runner_wrote_into_a_farms_log_is_not_the_farms_word(place, typed, line, how, cause, sentence):
    owner = died(place, **how) / "attempts/1.0/owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "index": 1}))
    home = place.experiment / ".farmx/submissions/s"
    home.mkdir()
    (home / layout.RUNS).write_text("1.0 another\n1.0 one\n")
    (home / "1.log").write_text(f"{line}\n")
    found = told(typed)
    assert (found["cause"], found["why"]) == (cause, sentence)


def test_of_a_run_between_two_attempts_it_is_told_how_the_first_ended(place):
    path = staged(place)
    attempt(path, "1.0", {"main": b"hi\n"}, "preempted", note="its time is up; its job is queued again")
    run = Run("one", str(path), "sweep", State.PREEMPTED, {}, records.attempts(str(path)), "p1-x", note="waits")
    found = why.account(run, "sweep/one", "sweep")
    assert found.why == "it is between two attempts: its time is up; its job is queued again: waits"
    assert found.next == ("farmx logs -f sweep/one",)


ARRAY = {"executor": "slurm", "node": {"task": ["A", "B"]}}
JOBS = [
    # what the farm was handed, beside its name for it -> what its own commands call that
    ({"record": ARRAY, "place": 3}, "39", "39_3"),
    ({"record": {**ARRAY, "pack": {"slots": 2, "each": 2}}, "place": 3}, "39", "39_1"),
    ({"record": {"executor": "command", "node": {"job": "JOB_ID"}}, "place": 3}, "pbs; $HOME", "pbs; $HOME"),
    ({"record": {"executor": "theirs"}, "place": 0}, "7", "7"),
    ({"record": {"executor": "command"}, "place": 3}, "?", ""),  # its submit command did not say
    ({"record": ARRAY, "place": 3}, None, ""),  # not queued yet
]


@pytest.mark.parametrize(("held", "name", "job"), JOBS)
def test_the_job_of_a_run_that_waits_is_told_as_its_farm_calls_it(held, name, job):
    record = {**held["record"], "farm": "big $HOME"}
    helds = (Held("/s", held["place"], 1, record, name),)
    run = Run("one", "/l/sweep/one", "sweep", State.QUEUED, {}, (), "p1-x", held=helds)
    told = why.account(run, "sweep/one", "sweep")
    assert (told.job, told.farm) == ((job, "big $HOME") if job else (None, None))
    assert told.next == ("farmx cancel sweep/one  # if it is to wait no more",)


TWICE = [
    # (number, job) of the last attempt, and whether it has ended -> the job told, of 1.x queued as 39 and, again, as 52
    (None, "52_3"),
    (((1, 0), "40", False), "40"),
    (((1, 0), "40", True), "52_3"),
    (((1, 0), None, False), "52_3"),
    (((0, 1), "40", False), "52_3"),
]


@pytest.mark.parametrize(("last", "job"), TWICE)
def test_of_an_attempt_that_was_queued_twice_the_job_that_began_is_told(last, job):
    helds = tuple(Held(f"/s/{name}", 3, 1, ARRAY, name) for name in ("39", "52"))
    number, owner, over = last or ((1, 0), None, False)
    attempts = (Attempt("/none", number, {"job": owner}, {"ended": 1.0} if over else None),) if last else ()
    run = Run("one", "/l/sweep/one", "sweep", State.QUEUED, {}, attempts, "p1-x", held=helds)
    assert why.account(run, "sweep/one", "sweep").job == job
    assert base.job_of(run._replace(held=helds[:1])) == "39_3"


BY_SLURM = ("held by its user; scontrol release lets it go", "no luck; scontrol release tries again")


@pytest.mark.parametrize("note", BY_SLURM)
def test_what_slurm_holds_is_let_go_by_a_command_to_copy(note):
    held = Held("/s", 3, 1, ARRAY, "39")
    run = Run("one", "/l/sweep/one", "sweep", State.QUEUED, {}, (), "p1-x", note=note, held=(held,))
    release, cancel = why.account(run, "sweep/one", "sweep").next
    assert (release, cancel.partition(" ")[0]) == ("scontrol release 39_3", "farmx")


def test_the_job_of_an_attempt_is_told_when_it_has_ended_too(place, typed):
    owner = died(place) / "attempts/1.0/owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "job": "39_0", "farm": "big $HOME"}))
    found = told(typed)
    assert (found["job"], found["farm"]) == ("39_0", "big $HOME")
    assert "      job 39_0 on big $HOME" in typed("farmx why one").out.splitlines()


def test_who_cancelled_a_run_is_told(place, typed, monkeypatch):
    """By whose file asked for it, or kept it from beginning: the end itself is its runner's."""
    ran, waited, by_farm = (staged(place, name=name) for name in ("ran", "waited", "by farm"))
    paths = [attempt(run, "1.0", {"main": b""}, "cancelled") for run in (ran, waited, by_farm)]
    (paths[0] / "cancel").touch()
    end = json.loads((paths[1] / "end.json").read_text())
    (paths[1] / "end.json").write_text(json.dumps({**end, "begun": False}))
    mine = [told(typed, f"farmx why '{name}' --json")["why"] for name in ("ran", "waited", "by farm")]
    assert mine == ["you cancelled it", "you cancelled it", "somebody cancelled it"]
    monkeypatch.setattr(os, "getuid", lambda: 12)
    theirs = [told(typed, f"farmx why {name} --json")["why"] for name in ("ran", "waited")]
    assert theirs == [f"{pwd.getpwuid(paths[0].stat().st_uid).pw_name} cancelled it"] * 2
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert told(typed, "farmx why ran --json")["why"] == f"{paths[0].stat().st_uid} cancelled it"


MUTE = "its job failed before it could say why"
FULL = ("no space is left on the disk that it is on",)
DISKS = [
    # free blocks, all and free inodes, what the farm says -> evidence
    ((0, 100, 50), MUTE, FULL),
    ((0, 0, 0), "farm big says Eqw of job 7, which failed before it could say why", FULL),
    ((9, 100, 0), MUTE, FULL),
    ((9, 100, 1), MUTE, ()),
    ((9, 0, 0), MUTE, ()),  # its file system counts no inodes
    ((0, 100, 0), "its job was killed (SIGTERM)", ()),
]


@pytest.mark.parametrize(("disk", "note", "evidence"), DISKS)
def test_of_a_job_that_could_say_nothing_a_full_disk_is_told(place, monkeypatch, disk, note, evidence):
    blocks, files, free = disk
    path = place.run()
    found = os.statvfs(path)
    full = os.statvfs_result((*found[:4], blocks, files, free, free, *found[8:]))
    monkeypatch.setattr(os, "statvfs", lambda where: {path: full}[where])
    run = Run("one", path, "sweep", State.FAILED, {}, (), "p1-x", note=note)
    assert why.account(run, "sweep/one", "sweep").evidence == evidence


@pytest.mark.parametrize(("recorded", "known"), [({}, ""), ({"cause": "oom"}, "memory")])
def test_the_kernels_word_counts_for_a_program_of_this_boot(place, typed, tmp_path, monkeypatch, recorded, known):
    run = died(place, code=None, signal="SIGKILL", note="main was ended by SIGKILL", **recorded)
    home = run / "attempts/1.0"
    (home / "events.jsonl").write_text('{"event": "started", "pid": 4711}\n{"event": "ended", "max_rss_mb": 900}\n{"to')
    (tmp_path / "bin").mkdir()
    kernel = "Out of memory: Killed process 4711 (python)"
    (tmp_path / "bin/dmesg").write_text(f"#!/bin/sh\necho '{kernel}'\n")
    (tmp_path / "bin/dmesg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    assert told(typed)["cause"] == known
    owner = json.loads((home / "owner.json").read_text())
    (home / "owner.json").write_text(json.dumps({**owner, "host": processes.host(), "boot": processes.boot_id()}))
    found = told(typed)
    assert (found["cause"], found["evidence"], found["max_rss_mb"]) == ("memory", [kernel], 900)


def test_a_program_that_a_signal_ended_is_told_so_for_real(place, typed):
    execute(place.shell("kill -SEGV $$"))
    found = told(typed)
    assert (found["why"], found["signal"], found["stage"], found["host"]) == (
        "main was ended by SIGSEGV: it crashed: it touched memory that is not its own", "SIGSEGV", "main",
        processes.host(),
    )  # fmt: skip


def test_a_program_whose_python_fails_is_told_its_line_for_real(place, typed):
    (place.source / "t.py").write_text("def f(x):\n    return 1 / x\nf(0)\n")
    execute(place.shell("python t.py; exit 3"))
    found = told(typed)
    assert (found["code"], found["error"], found["at"], found["line"]) == (
        3, "ZeroDivisionError: division by zero", "t.py:2 in f", "return 1 / x"
    )  # fmt: skip


# ---------------------------------------------------------------- not ended


def test_a_staged_run_says_so_and_how_it_is_started(place, typed):
    staged(place)
    assert typed("farmx why one").out == (
        "sweep/one  staged: not started\nnext  farmx retry --state staged sweep/one\n"
    )


def test_a_running_run_says_where_since_when_and_its_last_line(tmp_path, monkeypatch, capfd):
    go = tmp_path / "go"
    write(tmp_path, {"sweep.yml": "CMD: sh t.sh\n",
                     "t.sh": f"echo step 1; while [ ! -e '{go}' ]; do sleep 0.05; done\n"})  # fmt: skip
    typed = Typed(monkeypatch, capfd, tmp_path)
    quiet = {"cwd": tmp_path, "stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen([BIN / "farmx", "sweep.yml", "-j", "1", "--tag", "run", "--no-cooldir"], **quiet) as pool:
        until(lambda: (tmp_path / "runs/sweep/run/output.log").read_bytes())
        said = typed("farmx why run")
        go.touch()
        pool.communicate(timeout=PATIENCE_S)
    host = processes.host()
    assert undated(said.out) == [
        f"sweep/run  running: on {host}",
        "      last line: step 1",
        f"      attempt 1.0, stage main, on {host}, since WHEN, T ago",
        "      last heard T ago",
        "      log runs/sweep/run/attempts/1.0/main.log",
        "next  farmx logs -f sweep/run",
    ]


@pytest.mark.parametrize("ahead_s", [10800.0, -10800.0])
def test_when_it_was_last_heard_is_told_by_the_clock_of_its_file_system(place, typed, monkeypatch, ahead_s):
    heartbeat = attempt(staged(place), "1.0", {"main": b""}, None) / "heartbeat"
    os.utime(heartbeat, (time.time() - 600, time.time() - 600))
    ours = time.time
    monkeypatch.setattr(time, "time", lambda: ours() + ahead_s)
    assert 600 <= told(typed)["heard_s"] < 600 + PATIENCE_S


# ---------------------------------------------------------------- how it is asked and what it leaves alone


def test_the_commands_it_tells_work_where_the_run_is_not_in_logroot(place, typed, monkeypatch):
    died(place)
    monkeypatch.delenv("FARMX_LOGROOT")
    commands = told(typed, "farmx why logs/sweep/one --json")["next"]
    assert commands[0] == "farmx logs logs/sweep/one"
    assert typed(commands[0]).code == 0


def test_a_name_that_a_shell_would_read_is_quoted(place, typed):
    attempt(staged(place, name="a; $HOME"), "1.0", {"main": b""}, "failed", note="main exited with 1")
    assert told(typed, "farmx why 'a;' --json")["next"][0] == "farmx logs 'sweep/a; $HOME'"


def test_asking_changes_nothing_and_works_without_the_right_to_read_the_log(place, typed):
    run = died(place, "secret\n")
    before = everything(place.experiment.parent)
    os.chmod(run / "attempts/1.0/main.log", 0)
    with ordinary_rights():
        assert told(typed)["last_line"] == ""
    os.chmod(run / "attempts/1.0/main.log", 0o644)
    assert everything(place.experiment.parent) == before
