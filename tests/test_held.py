"""The breaker of a launch: on this machine the rest is not begun, told, and let go by farmx retry --release."""

import json
import os
import sys

import pytest
from launching import exists, until

from farmx import breaker

BAD = "import sys\n\n\ndef load():\n    raise ValueError('it\\'s $HOME; größe')\n\n\nload()\n"
GO = "a file that ends it"
WHY = "the first 3 runs failed with: ValueError: it's $HOME; größe (bad.py:5 in load)"


@pytest.fixture
def broken(project):
    """A project whose program fails at once, and whose breaker is 3."""
    project.write("bad.py", BAD)
    project.sweep("{n: [1, 2, 3, 4, 5, 6]}", f"{sys.executable} -S bad.py", "BREAKER: 3\n")
    return project


def states(project) -> dict[str, list[str]]:
    """state -> the notes of the runs in it."""
    told = json.loads(project.ok("status", "sweep", "--json").out)["runs"]
    found: dict[str, list[str]] = {}
    for run in told:
        found.setdefault(run["state"], []).append(run["note"])
    return found


@pytest.mark.parametrize(("how", "line"), [("-i", "held  3 not begun: "), ("-j1", "HELD   3 not begun: ")])
def test_a_launch_here_stops_says_why_and_how_to_go_on(broken, how, line):
    done = broken("sweep.yml", how)
    assert done.code == 1
    assert f"{line}{WHY}\n" in done.err
    assert "      3 failed, 3 not begun\n" in done.err
    assert "next  farmx retry --release sweep  # once that is mended: what is held and what failed\n" in done.err
    assert states(broken) == {"failed": ["main exited with 1"] * 3, "staged": [f"held: {WHY}"] * 3}


def test_what_is_held_is_left_by_retry_and_let_go_by_release_with_todays_code(broken):
    broken("sweep.yml", "-i")
    told = broken("retry", "sweep", "-i").err
    assert "runs  3 again, 3 left alone\n" in told and f"held  3: {WHY}\n" in told
    assert "next  farmx retry --release sweep  # once that is mended: they and what failed, with today's code\n" in told
    broken.write("bad.py", "print('mended')\n")
    done = broken.ok("retry", "sweep", "-i", "--release")
    assert "code  6 with today's code" in done.err and "runs  6 again, 0 left alone\n" in done.err
    assert states(broken) == {"done": [""] * 6}


def test_what_made_the_breaker_trip_is_not_attempted_again_before_it_is_let_go(broken):
    broken.sweep("{n: [1, 2, 3, 4, 5, 6]}", f"{sys.executable} -S bad.py", "BREAKER: 3\nRETRY: {error: 1}\n")
    broken("sweep.yml", "-i")
    done = broken.ok("tend", "sweep")
    assert [line.partition("  ")[2] for line in done.out.splitlines()] == [f"left: error: {WHY}"] * 3
    assert states(broken)["failed"] == ["main exited with 1"] * 3


@pytest.mark.parametrize(("how", "held"), [("-i", "held  3"), ("-j1", "HELD   3"), ("--farm=local", "")])
def test_what_is_let_go_here_is_held_again_where_nothing_was_mended(broken, how, held):
    broken("sweep.yml", "-i")
    for attempts in (2, 3):
        done = broken("retry", "sweep", "--release", how)
        assert "runs  6 again, 0 left alone\n" in done.err
        assert states(broken) == {"failed": ["main exited with 1"] * 3, "staged": [f"held: {WHY}"] * 3}
        assert len(list(broken.experiment.glob("*/attempts/*"))) == 3 * attempts
        if held:
            assert f"{held} not begun: {WHY}\n" in done.err
            assert done.err.splitlines()[-1] == (
                "next  farmx retry --release sweep  # once that is mended: what is held and what failed"
            )


def test_release_with_their_own_code_keeps_it(broken):
    broken("sweep.yml", "-i")
    broken.write("bad.py", "print('mended')\n")
    assert broken("retry", "sweep", "-i", "--release", "--code", "own").code == 1
    assert len(states(broken)["failed"]) >= 3


def test_the_same_launch_takes_what_is_held_with_todays_code(broken):
    broken("sweep.yml", "-i")
    broken.write("bad.py", "print('mended')\n")
    done = broken("sweep.yml", "-i")
    assert "runs  6: 3 failed, 3 taken up" in done.err
    assert states(broken) == {"failed": ["main exited with 1"] * 3, "done": [""] * 3}


def test_what_a_launch_takes_up_of_what_is_held_gets_what_surrounds_a_program_by_todays_settings(broken):
    (broken.path / "src").mkdir()
    broken.write("src/helper.py", "")
    broken.write("bad.py", "import helper\n")
    broken.write(".farmx.yaml", "PYTHONPATH: LOGDIR/code/sources\nENV: {WORD: old}\n")
    broken("sweep.yml", "-i")
    mended = """PYTHONPATH: LOGDIR/code/src\nENV: {WORD: "it's $HOME;\\nü"}\nSETUP: export TWO='two  words'\n"""
    broken.write(".farmx.yaml", f"{mended}ENV_PASS: [GIVEN]\n")
    done = broken("sweep.yml", "-i", GIVEN="it")
    assert "runs  6: 3 failed, 3 taken up" in done.err
    kept = "runs that are there keep what they were staged with, --again makes new ones; what was held goes by today's"
    for key in ("ENV", "SETUP", "PYTHONPATH"):
        assert f"note  {key} changed since the last launch; {kept}\n" in done.err
    assert {state: len(notes) for state, notes in states(broken).items()} == {"failed": 3, "done": 3}
    told = [json.loads((path / "run.json").read_text()) for path in broken.runs()]
    old = ("", {"WORD": "old"}, ["LOGDIR/code/sources"], [])
    new = ("export TWO='two  words'", {"WORD": "it's $HOME;\nü"}, ["LOGDIR/code/src"], ["GIVEN"])
    found = [(each["setup"], each["env"], each["pythonpath"], each["env_pass"]) for each in told]
    assert sorted(found, key=repr) == sorted(3 * [old] + 3 * [new], key=repr)


@pytest.mark.parametrize("setting", ["BREAKER: 0\n", ""])
def test_without_a_breaker_or_below_its_count_every_run_is_tried(broken, setting):
    broken.sweep("{n: [1, 2, 3, 4]}", f"{sys.executable} -S bad.py", setting)
    assert "      4 failed\n" in broken("sweep.yml", "-i").err
    assert states(broken) == {"failed": ["main exited with 1"] * 4}


def test_one_that_ends_well_keeps_the_breaker_closed(broken):
    broken.write("bad.py", BAD.replace("load()\n", "sys.argv[-1] == '2' or load()\n").replace("def sys", "def load"))
    broken("sweep.yml", "-i")
    assert {state: len(notes) for state, notes in states(broken).items()} == {"failed": 5, "done": 1}


def test_a_pool_that_outlives_the_command_holds_too(broken):
    broken.write(".farmx.yaml", "FARM: pool\npool: {EXECUTOR: local}\n")
    broken.ok("sweep.yml")
    (submission,) = (broken.experiment / ".farmx" / "submissions").iterdir()
    assert breaker.read(str(submission)) == {"format": 1, "held": True, "why": WHY}
    assert f"HELD   3 not begun: {WHY}\n" in (submission / "pool.log").read_text()
    assert len(states(broken)["staged"]) == 3
    broken.write("bad.py", "print('mended')\n")
    broken.ok("retry", "sweep", "--release")
    assert states(broken) == {"done": [""] * 6}


# ---------------------------------------------------------------- a launch that is several submissions


def test_the_pools_of_a_launch_count_together_and_those_to_come_begin_nothing(broken):
    for gpu, values in enumerate(("[1, 2]", "[3, 4, 5]", "[6, 7]")):
        broken.write(".farmx.yaml", "FARM: pool\npool: {EXECUTOR: local}\n")
        more = f"BREAKER: 3\nRESOURCES: {{gpus: '{gpu}'}}\n"
        broken.sweep(f"{{n: {values}}}", f"{sys.executable} -S bad.py", more)
        broken.ok("sweep.yml")
    launched = os.listdir(broken.experiment / ".farmx" / "submissions")
    until(lambda: states(broken) == {"failed": ["main exited with 1"] * 7})
    broken.ok("retry", "sweep")
    pools = sorted(set((broken.experiment / ".farmx" / "submissions").iterdir()), key=lambda path: path.name)[-3:]
    assert not {path.name for path in pools} & set(launched)
    until(lambda: [breaker.held(str(path)) for path in pools] == [WHY] * 3)
    held = [f"HELD   {count} not begun: {WHY}\n" for count in (0, 2, 2)]
    until(lambda: [line in (path / "pool.log").read_text() for line, path in zip(held, pools)] == [False, True, True])
    assert len(list(broken.experiment.glob("*/attempts/2.0"))) == 3


def test_what_a_pool_at_work_holds_is_left_to_it(broken):
    broken.write("bad.py", f"import os, sys, time\nwhile sys.argv[-1] == '1' and not os.path.exists({GO!r}): "
                           f"time.sleep(0.01)\nraise ValueError\n".replace(GO, str(broken.path / "go")))  # fmt: skip
    pool = broken.behind("sweep.yml", "-j", "2")
    exists(broken.experiment)
    until(lambda: len(states(broken).get("failed", ())) == 3)
    done = broken.ok("retry", "sweep", "--release", "--state", "cancelled", "-i")
    assert "runs  0 again, 6 left alone\n" in done.err
    (broken.path / "go").touch()
    assert pool.wait() == 1


@pytest.mark.parametrize(
    "cmd", ["no-such-program", f"{sys.executable} none.py", f"{sys.executable} -c 'open(\"LOGDIR/x/y\")'"]
)
def test_a_fault_that_names_the_runs_own_directory_is_the_same_fault(project, cmd):
    project.write(".farmx.yaml", "SETUP: ':'\n")  # so that the launch does not look for the program itself
    project.sweep("{n: [1, 2, 3, 4, 5, 6]}", json.dumps(cmd), "BREAKER: 3\n")
    project("sweep.yml", "-i")
    found = states(project)
    assert (len(found["failed"]), len(found["staged"])) == (3, 3)
    (note,) = set(found["staged"])
    assert note.startswith("held: the first 3 runs failed with: ") and str(project.root) not in note
