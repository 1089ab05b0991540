"""relaunch: runs that are there are queued once more with the right code, or ended."""

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import Project, key, read
from launching import PATIENCE_S, Place, end, exists, tree
from schedulers import Scheduler

from farmx import layout, processes, relaunch, runner, status
from farmx.cli import relaunching
from farmx.cli.here import Here
from farmx.errors import RecordError
from farmx.farms import base, local
from farmx.farms.command_asked import LINE, WORDS
from farmx.processes import Inbox
from farmx.spec import Attempt, Held, Job, Run, State
from farmx.status import Look


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def ended(run: str, state: str, number: str = "1.0") -> str:
    """The run, with an attempt that ended so."""
    path = Path(run, layout.ATTEMPTS, number)
    path.mkdir(parents=True)
    record = {"format": 1, "state": state, "host": "h", "pid": 1, "started": 1.0, "ended": 2.0}
    for name in (layout.OWNER, layout.END):
        (path / name).write_text(json.dumps(record))
    return run


def look(place: Place) -> Look:
    return status.read(str(place.experiment.parent), place.experiment.name)


# ---------------------------------------------------------------- which are queued


@pytest.fixture
def all_states(place):
    """A run in each state that an end record can say, named by it, one that is staged and one queued."""
    for state in State:
        if state not in (State.STAGED, State.QUEUED, State.RUNNING):
            ended(place.run(name=state.value), state.value)
    place.run(name="staged")
    local.announce(place.submission(Job(place.run(name="queued"), "1.0")))
    runx = place.experiment / "runx"
    runx.mkdir()
    (runx / "hparams.json").write_text("{}")
    return place


RETRIED = [
    (None, ["cancelled", "failed", "interrupted", "lost", "preempted"]),
    ([State.FAILED], ["failed"]),
    ([State.DONE, State.LOST], ["done", "lost"]),
    ([State.STAGED], ["staged"]),
    ([State.QUEUED, State.RUNNING], []),
    ([State.UNKNOWN], ["unknown"]),
]


@pytest.mark.parametrize("states, names", RETRIED)
def test_what_ended_other_than_well_is_queued_or_what_was_asked_for(all_states, states, names):
    runs = look(all_states).runs
    chosen = relaunch.retry([run for run in runs if relaunch.wanted(run, states)], "own", os.environ, Here(None))
    number = "1.0" if names == ["staged"] else "2.0"
    assert chosen.jobs == [Job(str(all_states.experiment / name), number) for name in names]
    assert (chosen.fresh, chosen.codes) == ([], ())


WANTED = [
    # how it stands, its note, how its last attempt ended, what is asked for -> whether it is queued again
    (State.STAGED, "", None, {}, False),
    (State.STAGED, "", None, {"only": ["a"]}, False),  # nothing of it has begun
    (State.STAGED, "a done; b to come", {"state": "done"}, {"only": ["a"]}, True),
    (State.STAGED, "held: x", {"state": "interrupted", "cause": "error"}, {"only": ["a"]}, False),
    (State.STAGED, "held: x", {"state": "interrupted", "cause": "error"}, {"release": True}, True),
    (State.STAGED, "held: x", None, {"release": True}, True),
    (State.STAGED, "", None, {"release": True}, False),
    (State.QUEUED, "held: x", None, {"release": True}, False),  # whose farm has it
    (State.DONE, "", {"state": "done"}, {}, False),
    (State.DONE, "", {"state": "done"}, {"only": ["a"]}, True),
    (State.DONE, "", {"state": "done"}, {"only": ["a"], "states": [State.FAILED]}, False),
    (State.RUNNING, "", None, {"only": ["a"], "states": [State.RUNNING]}, False),
    (State.CANCELLED, "", {"state": "cancelled", "cause": "dropped"}, {}, True),
    (State.CANCELLED, "", {"state": "cancelled", "cause": "dropped"}, {"alone": False}, False),
    (State.CANCELLED, "", {"state": "cancelled"}, {"alone": False}, True),
    (State.CANCELLED, "", {"state": "cancelled", "cause": "dropped"},
     {"alone": False, "states": [State.CANCELLED]}, True),
]  # fmt: skip


@pytest.mark.parametrize(("state", "note", "end", "asked", "again"), WANTED)
def test_which_runs_a_retry_queues_by_what_it_is_asked(state, note, end, asked, again):
    attempts = () if end is None else (Attempt("/r/attempts/1.0", (1, 0), {}, end),)
    run = Run("r", "/r", "sweep", state, {}, attempts, "p1-0", note=note)
    assert relaunch.wanted(run, **{"states": None, **asked}) is again
    assert relaunch.wanted(run._replace(identity=None), **{"states": None, **asked}) is False  # not ours


def test_why_a_run_is_left_is_its_state_with_what_would_run_it(all_states):
    assert relaunching.why_left([run for run in look(all_states).runs if not relaunch.wanted(run, None)]) == (
        "1 done (--state done runs it), 1 queued, 1 staged (--state staged runs it), 1 pruned (--state pruned runs it)"
        ", 1 unknown (not launched by farmx), 1 unknown (--state unknown runs it)"
    )


CODE = [
    (None, ["failed"]),
    ("own", []),
    ("now", ["cancelled", "failed", "interrupted", "lost", "preempted"]),
]


@pytest.mark.parametrize("code, fresh", CODE)
def test_what_failed_by_itself_takes_todays_code(all_states, code, fresh):
    recipe = {"staging": "link", "source": str(all_states.source), "ignore": [], "include": [], "link": [],
              "max_files": 10, "max_mb": 1.0}  # fmt: skip
    for path in all_states.experiment.glob("*/run.json"):
        path.write_text(json.dumps({**read(path), "code": recipe}))
    old = all_states.snapshot()
    (all_states.source / "t.py").write_text("print('new')\n")
    runs = [run for run in look(all_states).runs if relaunch.wanted(run, None)]
    chosen = relaunch.retry(runs, code, {"PATH": "/new bin"}, Here(None))
    assert {run.digest for run in look(all_states).runs} <= {None, old}
    relaunch.settle([chosen], {"PATH": "/new bin"})
    assert [os.path.basename(job.run) for job in chosen.fresh] == fresh
    changed = {run.name for run in look(all_states).runs if run.digest not in (None, old)}
    assert changed == set(fresh)
    for name in ("cancelled", "failed", "interrupted", "lost"):
        script = read(all_states.experiment / name / "run.json")["script"]
        assert ("export PATH='/new bin'\n" in script) == (name in fresh)
    assert [each.listing.told() for each in chosen.codes] == ["1 file, 0.0 kB"] * bool(fresh)


def test_the_next_attempt_comes_after_the_last_whatever_the_scheduler_restarted(place):
    path = place.run()
    for number in ("1.0", "9.0", "10.3"):
        ended(path, "failed", number)
    assert relaunch.retry(look(place).runs, "own", {}, Here(None)).jobs == [Job(path, "11.0")]


def test_a_run_that_was_deleted_since_it_was_looked_at_is_one_line_and_no_other_is_changed(all_states):
    runs = [run for run in look(all_states).runs if run.state in relaunch.RETRIED]
    records = [Path(run.path, layout.RUN) for run in runs]
    shutil.rmtree(runs[-1].path)
    before = [path.read_text() for path in records[:-1]]
    with pytest.raises(RecordError) as caught:
        relaunch.retry(runs, "own", {}, Here(None), asked={"mem": 7})
    assert str(caught.value) == f"{records[-1]}: it is gone: was the run moved or deleted meanwhile?"
    assert [path.read_text() for path in records[:-1]] == before


# ---------------------------------------------------------------- retried, end to end


def failing(project: Project) -> None:
    """Both points fail once."""
    project.sweep(cmd="sh work.sh")
    project.write("work.sh", "cat note.sh > /dev/null; exit 3\n")
    assert project("sweep.yml", "-i").code == 1


def test_a_failed_run_is_mended_by_todays_code_in_its_own_directory(project):
    failing(project)
    project.write("work.sh", "echo mended; . ./note.sh\n")
    before = project.runs()
    done = project.ok("retry", "sweep")
    assert done.out.count("mended") == 2
    assert done.err.splitlines()[:2] == ["code  2 with today's code, 3 files, 0.1 kB", "runs  2 again, 0 left alone"]
    assert project.runs() == before
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
    assert sorted(line.rpartition("/")[2] for line in project.starts()) == ["2.0", "2.0"]


TODAY = [
    # what is code when it is launched, and when it is retried
    ("CODE_IGNORE_PATTERNS: data", "CODE_LINK: data"),
    ("CODE_IGNORE_PATTERNS: data", "CODE_IGNORE_PATTERNS: other"),
    ("CODE_IGNORE_PATTERNS: data", "CODE_IGNORE_PATTERNS: data\nCODE_INCLUDE: data"),
    ("CODE_IGNORE_PATTERNS: data", ""),
]


@pytest.mark.parametrize("place", ["sweep.yml", ".farmx.yaml"])
@pytest.mark.parametrize("before, after", TODAY)
def test_a_retry_takes_what_is_code_by_todays_settings(project, before, after, place):
    def settings(text: str) -> None:
        project.sweep(cmd="sh work.sh")
        with open(project.path / place, "a") as file:
            file.write(f"{text}\n")

    settings(before)
    project.write("work.sh", 'D=da; cat "$D"ta/x && . ./note.sh\n')
    (project.path / "data").mkdir()
    project.write("data/x", "found\n")
    assert project("sweep.yml", "-i").code == 1
    (project.path / ".farmx.yaml").unlink(missing_ok=True)
    settings(after)
    assert project("retry", "sweep", "--code", "own").code == 1
    assert project.ok("retry", "sweep").out.count("found\n") == 2
    assert project.again() == {(1, 1): "done", (2, 1): "done"}


def test_a_retry_makes_the_tree_of_a_run_as_todays_settings_say(project):
    failing(project)
    with open(project.path / "sweep.yml", "a") as file:
        file.write("CODE_STAGING: copy\n")
    project.write("work.sh", "echo >> note.sh && . ./note.sh\n")
    project.ok("retry", "sweep")
    assert [(path / "code" / "work.sh").stat().st_nlink for path in project.runs()] == [1, 1]
    assert {read(path / "run.json")["code"]["staging"] for path in project.runs()} == {"copy"}
    project.ok("retry", "sweep", "--state", "done", "--code", "own")
    assert {read(path / "run.json")["code"]["staging"] for path in project.runs()} == {"copy"}


MENDED = [
    # what the file says once it is mended, and what is so of a run with that alone
    ("ENV: {WORD: \"it's $HOME;\\nü\"}", """test "$WORD" = "it's \\$HOME;\nü\""""),
    ("SETUP: |\n  WORD='two  words'\n  export WORD", """test "$WORD" = 'two  words'"""),
    ("PYTHONPATH: LOGDIR/code/src", 'test "$PYTHONPATH" = "$LOGDIR/code/src"'),
    ("ENV_PASS: [HOME]", """grep -q '"env_pass": ."HOME".' "$LOGDIR/run.json\""""),
]


@pytest.mark.parametrize("place", ["sweep.yml", ".farmx.yaml"])
@pytest.mark.parametrize("mended, so", MENDED)
def test_with_todays_code_a_run_gets_what_surrounds_a_program_by_todays_settings(project, mended, so, place):
    project.sweep(cmd="sh work.sh")
    project.write("work.sh", f"{so} && . ./note.sh\n")
    assert project("sweep.yml", "-i", PYTHONPATH="").code == 1
    with open(project.path / place, "a") as file:
        file.write(f"{mended}\n")
    assert project("retry", "sweep", "--code", "own", PYTHONPATH="").code == 1
    assert project.again() == {(1, 1): "failed", (2, 1): "failed"}
    project.ok("retry", "sweep", PYTHONPATH="")
    assert project.again() == {(1, 1): "done", (2, 1): "done"}


def test_what_surrounds_a_program_is_not_taken_from_another_sweep_file_of_the_experiment(project):
    project.write("note.sh", 'test "$WORD" = mine && test -e ok\n')
    for name, word in (("sweep", "mine"), ("other", "theirs")):
        project.write(f"{name}.yml", f"CMD: sh note.sh\nHPARAMS: {{{name}: 1}}\nENV: {{WORD: {word}}}\n")
        assert project(f"{name}.yml", "-i", "--exp-name", "sweep").code == 1
    project.write("ok", "")
    assert project("retry", "sweep", "-i").err.count(" failed\n") == 1
    words = {path.name: read(path / "run.json")["env"]["WORD"] for path in project.runs()}
    told = {words[name]: state for name, state in project.states().items()}
    assert told == {"mine": "done", "theirs": "failed"}


def test_what_todays_settings_pass_on_must_be_there_before_a_run_is_changed(project):
    failing(project)
    with open(project.path / "sweep.yml", "a") as file:
        file.write("ENV_PASS: [NOWHERE]\n")
    before = tree(project.experiment)
    told = project("retry", "sweep").line(2)
    assert told == "ENV_PASS: NOWHERE is not set in this shell; export it or take it off the list"
    assert tree(project.experiment) == before


def test_settings_of_another_directory_say_nothing_of_the_code_of_a_run(project, tmp_path):
    failing(project)
    ours = project.runs()[0].name
    project.write("work.sh", "cat more.txt && . ./note.sh\n")
    project.write("more.txt", "more\n")
    other = shutil.copytree(project.path, tmp_path / "other")
    (other / "work.sh").write_text("exit 3\n")
    with open(other / "sweep.yml", "a") as file:
        file.write("CODE_IGNORE_PATTERNS: more.txt\n")
    assert project("sweep.yml", "-i", "--again", "--first", "1", cwd=other).code == 1
    assert project.ok("retry", f"sweep/{ours}").out.count("more\n") == 1


def test_with_its_own_code_it_fails_again(project):
    failing(project)
    project.write("work.sh", "exit 0\n")
    assert project("retry", "sweep", "--code", "own", "-j", "2").code == 1
    assert project.again() == {(1, 1): "failed", (2, 1): "failed"}


def test_code_that_is_gone_is_one_line_and_its_own_still_runs(project, tmp_path):
    failing(project)
    project.path.rename(tmp_path / "moved")
    told = project("retry", "sweep", cwd=tmp_path).line(3)
    assert told == f"{project.path}: the code was here and is gone; give --code own to use what the runs have"
    assert project("retry", "sweep", "--code", "own", cwd=tmp_path).code == 1
    attempts = [path.name for path in project.experiment.glob("*/attempts/*")]
    assert sorted(attempts) == ["1.0", "1.0", "2.0", "2.0"]


@pytest.mark.parametrize("gone", [("project",), ("other",), ("project", "other")])
def test_where_no_code_can_be_had_no_run_is_changed(project, tmp_path, gone):
    """n=1 came from one directory, n=2 from another."""
    failing(project)
    project.sweep("{n: [1, 2, 3]}", cmd="sh work.sh")
    shutil.copytree(project.path, tmp_path / "other")
    assert project("sweep.yml", "-i", cwd=tmp_path / "other").code == 1
    for name in ("project", "other"):
        (tmp_path / name / "work.sh").write_text("exit 0\n")
    for name in gone:
        shutil.rmtree(tmp_path / name)
    before = {path: path.read_text() for path in project.experiment.glob("*/run.json")}
    assert len({json.loads(text)["code"]["source"] for text in before.values()}) == 2
    told = project("retry", "sweep", "-r", "mem=7", "-i", cwd=tmp_path)
    line = f"{tmp_path / gone[0]}: the code was here and is gone; give --code own to use what the runs have"
    assert told.err.splitlines()[-1] == f"farmx: {line}"
    assert {path: path.read_text() for path in before} == before


def test_runs_of_two_experiments_take_todays_code_each_from_its_own_snapshot(project):
    failing(project)
    shutil.copy(project.path / "sweep.yml", project.path / "other.yml")
    assert project("other.yml", "-i").code == 1
    project.write("work.sh", ". ./note.sh\n")
    project.ok("retry", "sweep", "other")
    assert sorted(line.partition("/")[0] for line in project.starts()) == ["other", "other", "sweep", "sweep"]


@pytest.mark.parametrize("words", [(), ("--release",), ("-r", "mem=7")])
def test_where_the_code_of_one_experiment_is_gone_no_run_of_another_is_changed(project, tmp_path, words):
    failing(project)
    other = tmp_path / "other $HOME"
    shutil.copytree(project.path, other)
    (other / "sweep.yml").rename(other / "other.yml")
    assert project("other.yml", "-i", cwd=other).code == 1
    shutil.rmtree(other)
    project.write("work.sh", "exit 0\n")
    before = {path: path.read_text() for path in project.experiment.parent.glob("*/*/run.json")}
    snapshots = sorted(project.experiment.parent.glob("*/.farmx/snapshots/*"))
    told = project("retry", "sweep", "other", *words).err.splitlines()
    assert told == [f"farmx: {other}: the code was here and is gone; give --code own to use what the runs have"]
    assert {path: path.read_text() for path in before} == before
    assert sorted(project.experiment.parent.glob("*/.farmx/snapshots/*")) == snapshots


def test_what_a_run_was_to_be_passed_must_be_there_before_anything_changes(project):
    failing(project)
    for path in project.experiment.glob("*/run.json"):
        path.write_text(json.dumps({**read(path), "env_pass": ["A_SECRET"]}))
    before = {path: read(path / "run.json") for path in project.runs()}
    told = "ENV_PASS: A_SECRET is not set in this shell; export it or take it off the list"
    assert project("retry", "sweep", "--code", "own").line(2) == told
    assert {path: read(path / "run.json") for path in project.runs()} == before
    assert project("retry", "sweep", "--code", "own", A_SECRET="s").code == 1  # its own code fails once more


def test_a_retry_of_nothing_is_no_failure(project):
    project.ok("sweep.yml", "-i")
    done = project.ok("retry", "sweep")
    assert (done.out, done.err) == ("", "runs  0 again, 2 left alone\nleft  2 done (--state done runs them)\n")
    assert len(project.starts()) == 2


def test_a_retry_takes_the_runs_in_the_order_of_the_sweep(project):
    project.sweep("{n: [5, 3, 9, 1, 7]}", "'false'")
    project("sweep.yml", "-i")
    looked = json.loads(project.ok("status", "sweep", "--json").out)["runs"]
    again = json.loads(project("retry", "sweep", "-i", "--json").out)["queued"]
    for told in (looked, again):
        records = [json.loads((project.experiment / each["run"] / "run.json").read_text()) for each in told]
        assert [record["hparams"]["n"] for record in records] == [5, 3, 9, 1, 7]


def test_a_retry_says_in_json_what_was_queued(project):
    failing(project)
    one = next(path for path in project.runs() if key(path)[0] == 1)
    done = project("retry", f"sweep/{one.name}", "--json", "--code", "own")
    told = json.loads(done.out.splitlines()[0])
    assert told == {"queued": [{"run": one.name, "attempt": "2.0", "code": "own"}], "left": []}


@pytest.mark.parametrize("relative", [True, False])
def test_a_run_is_named_by_the_path_that_tab_completion_makes(project, relative):
    failing(project)
    project.write("work.sh", ". ./note.sh\n")
    one = project.runs()[0]
    project.ok("retry", os.path.relpath(one, project.path) if relative else str(one))
    assert project.starts() == [f"sweep/{one.name}/2.0"]


# ---------------------------------------------------------------- cancelled


def cancelled(place: Place) -> dict[str, str]:
    told = {}
    relaunch.cancel(look(place).runs, lambda run, what: told.update({run.name: what}))
    return told


def test_what_waits_can_never_start_and_what_ended_stays_as_it_was(all_states):
    waiting = {"staged", "queued", "interrupted", "lost", "preempted"}
    before = {run.name: run.state for run in look(all_states).runs}
    told = cancelled(all_states)
    after = {run.name: run.state for run in look(all_states).runs}
    assert {name for name in told if told[name] == "cancelled"} == {*waiting, "cancelled"}
    assert {name: told[name] for name in ("done", "failed")} == {"done": "done", "failed": "failed"}
    assert after == {name: State.CANCELLED if name in waiting else state for name, state in before.items()}


def test_the_end_of_a_run_that_never_began_takes_the_space_kept_for_it(place):
    run = place.run()
    assert cancelled(place) == {"one": "cancelled"}
    assert sorted(os.listdir(f"{run}/attempts/1.0")) == ["end.json", "owner.json"]
    assert end(run) == {"format": 1, "state": "cancelled", "begun": False}


def test_a_cancelled_run_is_not_taken_up_but_retried(project):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i", "--first", "1")
    project.root.joinpath("sweep", project.runs()[0].name, "attempts", "1.0", "end.json").unlink()
    assert project("cancel", "sweep").code == 0
    assert project.again() == {(1, 1): "cancelled"}
    project.ok("sweep.yml", "-i")
    assert project.again() == {(1, 1): "cancelled", (2, 1): "done"}
    project.ok("retry", "sweep")
    assert project.again() == {(1, 1): "done", (2, 1): "done"}


# The attempts of a run, what farms hold for it (number, whether that waits for another), its state -> what is closed.
CLOSED = [
    ([], [], "staged", "1.0"),
    ([], [(1, False)], "queued", "1.0"),
    ([], [(1, False), (2, True), (3, True)], "queued", "1.0"),
    ([("1.0", "done")], [(1, False), (2, True), (3, True)], "queued", "2.0"),
    ([("1.0", "preempted")], [(1, False), (2, True)], "preempted", "1.1"),
    ([("1.0", "preempted")], [(1, False), (2, True)], "running", "1.1"),  # as it was when somebody looked
    ([("1.0", "done")], [(1, False), (2, True), (3, True)], "running", "2.0"),
    ([("1.0", "lost")], [(1, False), (2, True)], "lost", "2.0"),
    # 2 and 3 wait for 1, which failed, so a retry queued 4, 5 and 6
    ([("1.0", "failed")], [(2, True), (3, True), (4, False), (5, True), (6, True)], "queued", "4.0"),
    # by its farm's word, which forgets it
    ([], [(1, False)], "cancelled", "1.0"),
    ([], [(1, False)], "failed", "1.0"),  # as Grid Engine's Eqw, which keeps it
    ([("1.0", "failed")], [(2, False), (3, True)], "failed", "2.0"),
    ([("1.0", "failed")], [(2, False)], "cancelled", "2.0"),
    ([("1.0", "preempted")], [(1, False)], "cancelled", "2.0"),
    ([("1.0", "failed"), ("4.0", "done")], [(3, True), (4, False), (5, True), (6, True)], "queued", "5.0"),
]


def holding(path: str, attempts: list, held: list, state: str) -> Run:
    """The run as somebody saw it, with these attempts, and held by a farm."""
    had = []
    for number, how in attempts:
        ended(path, how, number)
        attempt = os.path.join(path, layout.ATTEMPTS, number)
        had.append(Attempt(attempt, layout.attempt_number(number), {}, read(Path(attempt, layout.END))))
    helds = tuple(Held("/s", 0, number, {"after": "s"} if waits else {}, "7") for number, waits in held)
    return Run("one", path, "sweep", State(state), {}, tuple(had), "p1-0", held=helds)


def told_of(*runs: Run) -> list[tuple[str, str]]:
    told = []
    relaunch.cancel(runs, lambda run, what: told.append((run.name, what)))
    return told


@pytest.mark.parametrize(("attempts", "held", "state", "closed"), CLOSED)
def test_a_cancel_takes_the_number_that_is_to_begin_next(place, attempts, held, state, closed):
    run = holding(place.run(), attempts, held, state)
    assert told_of(run) == [("one", "cancelled")]
    made = sorted(os.listdir(Path(run.path, layout.ATTEMPTS)))
    assert made == sorted([*(number for number, _ in attempts), closed])
    assert end(run.path, closed)["state"] == "cancelled"
    for number, waits in held:
        assert waits or runner.take(run.path, f"{number}.0", {})[0] is None


@pytest.mark.parametrize("queued", [None, "7"], ids=["a retry that was cut short", "what waited for it"])
def test_a_cancel_of_a_run_that_failed_changes_nothing(place, queued):
    run = holding(place.run(), [("1.0", "failed")], [(2, queued is not None)], "failed")
    run = run._replace(held=tuple(held._replace(name=queued) for held in run.held))
    assert told_of(run) == [("one", "failed")]
    assert os.listdir(Path(run.path, layout.ATTEMPTS)) == ["1.0"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_cancel_of_what_nobody_can_say_begins_says_why_and_changes_nothing(place, waits):
    run = holding(place.run(), [], [(1, False), (2, waits)], "unknown")._replace(note="farm big has no STATUS_CMD")
    assert told_of(run) == [("one", "not cancelled: farm big has no STATUS_CMD")]
    assert not Path(run.path, layout.ATTEMPTS).exists()


@pytest.mark.parametrize(("recorded", "held", "wished"), [(False, [(1, False)], True), (True, [(1, False)], False),
                                                          (False, [], False)])  # fmt: skip
def test_a_cancel_of_what_its_farm_ended_is_written_down_where_no_record_says_so(place, recorded, held, wished):
    run = holding(place.run(), [("1.0", "cancelled")], held, "cancelled")
    if not recorded:
        run = run._replace(attempts=tuple(each._replace(end=None) for each in run.attempts))
    assert told_of(run) == [("one", "cancelled")]
    assert os.listdir(Path(run.path, layout.ATTEMPTS)) == ["1.0"]
    assert Path(run.path, layout.ATTEMPTS, "1.0", layout.CANCEL).exists() is wished


@pytest.mark.parametrize(("attempts", "held", "state", "begun"), CLOSED)
def test_what_began_since_it_was_looked_at_is_not_cancelled(place, attempts, held, state, begun):
    run = holding(place.run(), attempts, held, state)
    assert runner.take(run.path, begun, {})[0]
    assert told_of(run) == [("one", "not cancelled: it began, or was ended, meanwhile; cancel it again")]
    assert end(run.path, begun) is None


# How an attempt ended after it was looked at, and what has begun since -> what a cancel says, and what is then there.
TOO_LATE = [
    (None, None, "asked to end", {"1.0": None}),
    ("done", None, "asked to end", {"1.0": "done"}),
    ("preempted", None, "cancelled", {"1.0": "preempted", "1.1": "cancelled"}),
    ("preempted", "1.1", "not cancelled: it began, or was ended, meanwhile; cancel it again",
     {"1.0": "preempted", "1.1": None}),
]  # fmt: skip


@pytest.mark.parametrize(("how", "begun", "told", "there"), TOO_LATE)
def test_an_attempt_that_is_to_be_followed_by_another_when_its_end_is_asked_for_is_followed_by_none(
    place, how, begun, told, there
):
    run = place.run()
    attempt, owner = runner.take(run, "1.0", {})
    seen = Run("one", run, "sweep", State.RUNNING, {}, (Attempt(attempt, (1, 0), {}, None),), "p1-0")
    if how:
        runner.record_end(attempt, runner.end_record(owner, how))
    if begun:
        runner.take(run, begun, {})
    assert told_of(seen) == [("one", told)]
    numbers = os.listdir(Path(run, layout.ATTEMPTS))
    assert {number: (end(run, number) or {}).get("state") for number in numbers} == there


def test_a_run_that_cannot_be_cancelled_is_one_line_and_the_others_are(place):
    names = ["one", "two", "three"]
    for name in names:
        place.run(name=name)
    held = place.submission(*(Job(str(place.experiment / name), "1.0") for name in names))
    Path(held.path, layout.JOB).write_text(json.dumps({"format": 1, "farm": "big", "executor": "command"}))
    base.record_queued(held.path, 0, 2, "7")
    queued = {run.name: run._replace(state=State.QUEUED) for run in look(place).runs}
    bad = place.experiment / "two" / layout.ATTEMPTS
    bad.touch()
    told = dict(told_of(*(queued[name] for name in names)))
    but = "cancelled; its job is still queued and will end at once: farm big has no CANCEL_CMD"
    assert told["one"] == told["three"] == but
    assert told["two"].startswith(f"not cancelled: {bad}")
    assert told["two"].endswith(": Not a directory")
    assert [end(str(place.experiment / name)) is not None for name in names] == [True, False, True]


def test_what_another_users_job_has_to_do_with_ours_is_nothing(place, tmp_path, monkeypatch):
    """The scheduler lets nobody end jobs of others: each user's are ended by a call of their own."""
    fake = Scheduler(tmp_path / "bin", monkeypatch)
    for name, who in (("one", "me"), ("two", "you")):
        made = place.submission(Job(place.run(name=name), "1.0"), name=name)
        told = {"format": 1, "farm": "big", "executor": "slurm", "name": f"sweep.{name}", "user": who, "submitted": 1.0}
        layout.write_json(os.path.join(made.path, layout.JOB), told)
        base.record_queued(made.path, 0, 0, "7")
    fake.says("squeue", "7|sweep.one\n8|sweep.two\n")
    runs = {run.name: run._replace(state=State.QUEUED) for run in look(place).runs}
    fake.says("scancel", "", "scancel: error: Kill job error on job id 8_[0]: Access/permission denied\n", 1, call=2)
    assert dict(told_of(*runs.values())) == {
        "one": "cancelled",
        "two": "cancelled; its job is still queued and will end at once: "
               "scancel: Kill job error on job id 8_[0]: Access/permission denied",
    }  # fmt: skip
    assert fake.calls("scancel") == [["scancel", "7_[0]"], ["scancel", "8_[0]"]]


def test_a_job_that_is_gone_keeps_no_other_from_being_told_as_cancelled(place, tmp_path, monkeypatch):
    fake = Scheduler(tmp_path / "bin", monkeypatch, "qdel", "qstat")
    made = place.submission(*(Job(place.run(name=name), "1.0") for name in ("gone", "ends", "stays")))
    ask = {"status": ["qstat"], "line": LINE, "words": WORDS, "cancel": ["qdel", "{ids}"]}
    told = {"format": 1, "farm": "big", "executor": "command", "ask": ask}
    layout.write_json(os.path.join(made.path, layout.JOB), told)
    for index, name in enumerate(("7", "8", "9")):
        base.record_queued(made.path, index, index, name)
    fake.says("qstat", "8 dr\n9 qw\n")
    fake.says("qdel", 'denied: job "7" does not exist\nme has registered the job 8 for deletion\n', "", 1)
    runs = [run._replace(state=State.QUEUED) for run in look(place).runs]
    assert dict(told_of(*runs)) == {
        "gone": "cancelled",
        "ends": "cancelled",
        "stays": "cancelled; its job is still queued and will end at once: "
                 'qdel exited 1: denied: job "7" does not exist',
    }  # fmt: skip
    assert fake.calls("qdel") == [["qdel", "7", "8", "9"]]


def test_a_job_that_nobody_here_can_end_is_told_and_the_run_never_starts(place):
    run = holding(place.run(), [], [], "queued")._replace(held=(Held("/s", 0, 1, {"executor": "mars-5"}, "7"),))
    ((name, told),) = told_of(run)
    assert (name, told.partition(": ")[0]) == ("one", "cancelled; its job is still queued and will end at once")
    assert "executor 'mars-5'" in told
    assert end(run.path, "1.0")["state"] == "cancelled"


def test_a_run_that_cannot_be_cancelled_fails_the_command(project):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    one, two = project.runs()
    for run in one, two:
        shutil.rmtree(run / layout.ATTEMPTS)
    (one / layout.ATTEMPTS).touch()
    done = project("cancel", "sweep")
    lines = sorted(done.out.splitlines())
    assert (done.code, done.err) == (1, "")
    told = {one.name: f"not cancelled: {one}/attempts: Not a directory", two.name: "cancelled"}
    width = max(map(len, told))
    assert lines == sorted(f"{name:<{width}}  {what}" for name, what in told.items())


def test_a_run_on_another_host_is_asked_by_its_records(place):
    path = Path(place.run(), layout.ATTEMPTS, "1.0")
    path.mkdir(parents=True)
    owner = {"format": 1, "host": "far", "boot": "b", "pid": os.getpid(), "birth": "1", "started": 1.0}
    (path / layout.OWNER).write_text(json.dumps(owner))
    (path / layout.HEARTBEAT).touch()
    assert cancelled(place) == {"one": "asked to end"}
    os.utime(path / layout.HEARTBEAT, (1, 1))
    assert cancelled(place) == {"one": "asked to end"}
    assert (path / layout.CANCEL).exists() and end(str(place.experiment / "one")) is None


@pytest.mark.parametrize("argv", [("-i",), ("-j", "1")])
def test_a_running_run_ends_as_cancelled_and_a_queued_one_never_starts(project, argv):
    project.sweep("{n: [1, 2, 3]}", cmd="sh wait.sh")
    project.write("wait.sh", '. ./note.sh; [ "$2" = 3 ] || { touch "$SIDE.$2"; sleep 60 & wait; }\n')
    command = project.behind("sweep.yml", *argv)
    exists(f"{project.side}.1")
    by_n = {key(path)[0]: path.name for path in project.runs()}
    assert project.again() == {(1, 1): "running", (2, 1): "queued", (3, 1): "queued"}
    assert project.ok("cancel", by_n[2]).out == f"{by_n[2]}  cancelled\n"
    assert project.ok("cancel", f"sweep/{by_n[1]}").out == f"{by_n[1]}  asked to end\n"
    assert command.wait(PATIENCE_S) == 0
    assert project.again() == {(1, 1): "cancelled", (2, 1): "cancelled", (3, 1): "done"}
    assert project.starts() == [f"sweep/{by_n[1]}/1.0", f"sweep/{by_n[3]}/1.0"]


def test_cancelling_says_in_json_what_was_done(project):
    project.ok("sweep.yml", "-i", "--first", "1")
    (one,) = project.runs()
    assert json.loads(project.ok("cancel", "sweep", "--json").out) == [{"run": one.name, "did": "done"}]


def test_a_late_cancel_does_not_end_the_next_run(place):
    """The signal came when the run it was for had ended, and its runner has not begun the next."""
    path = place.run()
    with Inbox() as inbox:
        os.kill(os.getpid(), processes.CANCEL)
        assert inbox.cancelled
        assert runner.execute(path, "1.0", {}, inbox).state == "done"


def test_an_experiment_names_the_newest_run_of_each_point_and_a_run_any(project):
    project.sweep("{n: [1]}", cmd="'false'")
    project("sweep.yml", "-i")
    old = project.runs()[0]
    project("sweep.yml", "-i", "--again")
    assert len(project.runs()) == 2
    assert json.loads(project("cancel", "sweep", "--json").out) != []
    told = json.loads(project("retry", "sweep", "--json").out)
    assert [each["run"] for each in told["queued"]] == [path.name for path in project.runs() if path != old]
    told = json.loads(project("retry", old.name, "--json").out)
    assert [each["run"] for each in told["queued"]] == [old.name]


def test_what_was_queued_last_is_told_by_the_number_of_its_attempt_whatever_clock_named_its_submission(place):
    run = place.run()
    for name, number, farm in (("2", "1.0", "early"), ("1", "2.0", "late")):
        made = place.submission(Job(run, number), name=name)
        layout.write_json(os.path.join(made.path, layout.JOB), {"format": 1, "farm": farm, "executor": "local"})
    (seen,) = status.of(str(place.experiment), ["one"]).runs
    assert [job["farm"] for job in relaunch.last_jobs([seen]).values()] == ["late"]


@pytest.mark.parametrize("kept", [True, False])
def test_the_farm_of_a_renamed_run_is_told_by_its_attempts(place, kept):
    run = place.run()
    made = place.submission(Job(run, "1.0"), name="s")
    record = {"format": 1, "farm": "big", "executor": "command"}
    layout.write_json(os.path.join(made.path, layout.JOB), record)
    runner.take(run, "1.0", {"farm": "big", "submission": "s"})
    os.rename(run, place.experiment / "it's $HOME")
    if not kept:
        shutil.rmtree(made.path)
    (seen,) = status.of(str(place.experiment), ["it's $HOME"]).runs
    assert relaunch.last_jobs([seen]) == {seen.path: record if kept else {"farm": "big"}}


def test_what_a_farm_has_no_room_for_is_still_meant_for_it(place):
    names = ["one", "it's $HOME; größe", "three"]
    made = place.submission(*(Job(place.run(name=name), "1.0") for name in names))
    layout.write_json(os.path.join(made.path, layout.JOB), {"format": 1, "farm": "big", "executor": "slurm"})
    base.shorten(made, 2)
    base.shorten(made._replace(jobs=made.jobs[:2]), 1)
    look = status.of(str(place.experiment), names)
    assert {run.name: [held.number for held in run.held] for run in look.runs} == {
        "one": [1], "it's $HOME; größe": [], "three": []
    }  # fmt: skip
    assert [job["farm"] for job in relaunch.last_jobs(look.runs).values()] == ["big"] * 3
