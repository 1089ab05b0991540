"""What first users and reviewers ran into: terminals that go, runs that move, code that is none, words that mislead."""

import errno
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import NOTE, Project, read
from conftest import BIN
from launching import PATIENCE_S, Place, end, python, until
from test_interpreter import environment
from test_local import FARM
from typed import everything, ran, timeless, write

import farmx
from farmx import layout, processes, runner, snapshot, status
from farmx.cli.surroundings import one_line
from farmx.errors import UsageError
from farmx.farms import base, local, worker
from farmx.spec import Job, State, Submission

WAIT = NOTE + 'while [ ! -e "$SIDE.go" ]; do sleep 0.01; done\n'
FARMX = str(BIN / "farmx")


@pytest.fixture
def waiting(project) -> Project:
    """The project, its two programs waiting to be let `go`."""
    project.write("note.sh", WAIT)
    return project


def go(project: Project) -> None:
    Path(f"{project.side}.go").touch()


def began(project: Project) -> Path:
    """The first run, as soon as its program has begun."""
    (name,) = until(project.starts)
    return project.root / os.path.dirname(name)


@contextmanager
def begun(project: Project, *command: str, **more):
    """A process in the project, whose first program has begun; none is left afterwards."""
    given = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with subprocess.Popen(command, cwd=project.path, env={**os.environ, **project.env}, **{**given, **more}) as process:
        try:
            began(project)
            yield process
        finally:
            go(project)
            process.kill()


def pooled(project: Project) -> list[str]:
    """What the pool behind said, without how long it took."""
    lines = (project.path.parent / "behind").read_text().splitlines()
    return [" ".join(timeless(line).split()) for line in lines]


# ---------------------------------------------------------------- terminals that go


def test_under_nohup_the_end_of_a_terminal_ends_no_run(waiting):
    with begun(waiting, "nohup", FARMX, "sweep.yml", "-j", "1") as process:
        process.send_signal(signal.SIGHUP)
        go(waiting)
        assert process.wait(PATIENCE_S) == 0
    assert waiting.again() == {(1, 1): "done", (2, 1): "done"}


@pytest.mark.parametrize("how", [["-j", "1"], ["-i"]])
def test_a_launch_whose_terminal_is_gone_asks_its_runs_to_end(waiting, how):
    master, slave = pty.openpty()
    with begun(waiting, FARMX, "sweep.yml", *how, stderr=slave) as process:
        os.close(slave)
        os.close(master)
        process.terminate()
        assert process.wait(PATIENCE_S) == 130
    ended = (end(run) for run in waiting.runs())
    assert [(each["state"], each["note"]) for each in ended if each] == [("interrupted", "main was ended by SIGTERM")]
    assert sorted(waiting.again().values()) == ["interrupted", "staged"]
    assert len(waiting.starts()) == 1


SAVES = "trap 'touch \"$SIDE.told\"' TERM\n" + WAIT + "exit 0\n"  # else it is that of a `sleep` that was told, too


@pytest.mark.parametrize("how", [["-j", "1"], ["-i"]])
def test_a_closed_terminal_is_told_of_twice_and_gives_a_program_its_time_all_the_same(waiting, how):
    waiting.write("note.sh", SAVES)
    with begun(waiting, FARMX, "sweep.yml", *how) as process:
        process.send_signal(signal.SIGHUP)
        until(Path(f"{waiting.side}.told").exists)
        process.send_signal(signal.SIGHUP)
        go(waiting)
        assert process.wait(PATIENCE_S) == 130
    (ended,) = filter(None, map(end, waiting.runs()))
    assert (ended["state"], ended["note"]) == ("interrupted", "main exited with 0")


def test_a_stop_is_passed_on_before_it_is_told():
    def refused(running: int, now: bool) -> None:
        raise OSError(5, "Input/output error")

    with subprocess.Popen(["sleep", "30"]) as program:
        inbox, watch = SimpleNamespace(stops=[signal.SIGTERM]), SimpleNamespace(stopping=refused)
        pool = local._Pool(Submission("s", "", ()), worker.Handed("s", "", "local"), watch, inbox)
        pool._workers.append(SimpleNamespace(pid=program.pid, job=Job("a", "1.0")))
        with pytest.raises(OSError, match="Input/output error"):
            pool._pass_on(1)
        try:
            assert program.wait(PATIENCE_S) == -signal.SIGTERM
        finally:
            program.kill()


BREAKS = """
        import time
        while not os.path.exists(given["jobs"][0][0] + "/ready"): time.sleep(0.01)
        raise OSError(5, "Input/output error")
"""


def test_a_pool_that_breaks_ends_what_it_began(tmp_path):
    place = Place(tmp_path)
    run = place.shell("echo > LOGDIR/ready; sleep 20")
    handed = place.submission(Job(run, "1.0"))
    given = {"jobs": [[run, "1.0"]], "path": handed.path, "slots": [["0", [], 0]]}
    code = FARM.replace("def tick(self): pass", f"def tick(self):{BREAKS}")
    with python(code, json.dumps(given), stderr=subprocess.PIPE) as process:
        _, told = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, told.splitlines()[-1]) == (1, "OSError: [Errno 5] Input/output error")
    assert end(run)["state"] == "interrupted"


def test_a_line_for_a_terminal_that_is_gone_is_no_error():
    master, slave = pty.openpty()
    os.close(master)
    code = "from farmx.cli.surroundings import tell; tell('a'); tell('b'); print('on')"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=slave, text=True)
    os.close(slave)
    assert (done.returncode, done.stdout) == (0, "on\n")


@pytest.mark.parametrize("line", ["farmx sweep.yml -i | true", "farmx sweep.yml -j 2 2>&1 | head -1"])
def test_a_reader_that_has_enough_stops_no_run(project, line):
    project.sweep("{n: [1, 2, 3, 4]}")
    project.write("note.sh", f"{NOTE}sleep 0.05; echo said\n")
    assert ran(line, project.path, **project.env).code == 0
    assert project.again() == {(n, 1): "done" for n in (1, 2, 3, 4)}


@pytest.mark.parametrize("closed", [">&- 2>&- <&-", "<&-", ">&-", "2>&-"])
def test_what_the_caller_closed_is_no_hindrance(project, closed):
    said = ran(f"farmx sweep.yml -j 1 {closed}", project.path, **project.env)
    assert (said.code, "Traceback" in said.err) == (0, False)
    assert project.again() == {(1, 1): "done", (2, 1): "done"}


def test_n_with_its_output_closed_is_no_traceback(project):
    assert ran("farmx sweep.yml -n >&-", project.path, **project.env) == (0, "", "2 grid: 2 runs\n")


def test_a_value_that_the_terminal_has_no_letters_for_is_spelled_out(project):
    project.sweep("{name: é}")
    env = {**project.env, "PYTHONIOENCODING": "ascii"}
    line = "sh note.sh --name '\\xe9'\n"
    assert ran("farmx sweep.yml -n", project.path, **env) == (0, line, "1 run\n")
    said = ran("farmx sweep.yml -i", project.path, **env)
    assert (said.code, said.out, "Traceback" in said.err) == (0, line, False)


def test_half_a_character_in_a_record_or_a_metric_is_no_traceback(project):
    project.ok("sweep.yml", "-i", "--tag", "r", "--no-cooldir", "--first", "1")
    run = project.experiment / "r"
    row = {"time": 1.0, "phase": "val", "step": 0, "metrics": {"\ud800": 1.0}}
    (run / "attempts" / "1.0" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    env = {**project.env, "PYTHONIOENCODING": "utf-8"}
    said = ran("sumx sweep", project.path, **env)
    assert (said.code, said.out.split()[:2], said.err) == (0, ["run", "\\ud800"], "")
    end = run / "attempts" / "1.0" / "end.json"
    end.write_text(json.dumps({**read(end), "note": "\ud800"}))
    why = f"farmx: {end}: cannot be read: it is not json; restore it or move it away\n"
    assert ran("farmx why sweep/r", project.path, **env) == (3, "", why)


def test_a_table_for_a_full_disk_is_one_line(project):
    project.ok("sweep.yml", "-i")
    said = ran("sumx sweep >/dev/full", project.path, **project.env)
    assert said == (1, "", "sumx: the output cannot be written: No space left on device\n")


def test_an_error_that_no_output_has_is_not_told_as_one():
    with pytest.raises(FileNotFoundError):
        one_line(_lost)()


def _lost() -> None:
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))  # as getcwd() says it


# ---------------------------------------------------------------- from Python


LAUNCHED_TWICE = """
import farmx, os
try:
    farmx.launch("sweep.yml", jobs=1)
except KeyboardInterrupt:
    print(sorted(str(run.state) for run in farmx.runs("sweep")))
open(os.environ["SIDE"] + ".go", "w").close()
print([str(run.state) for run in farmx.launch("sweep.yml", jobs=1)])
"""


def test_after_ctrl_c_a_living_interpreter_holds_nothing_and_can_launch_again(waiting):
    with begun(waiting, sys.executable, "-c", LAUNCHED_TWICE, stdout=subprocess.PIPE, text=True) as process:
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=PATIENCE_S)
    assert told == "['interrupted', 'staged']\n['done', 'done']\n"


def test_a_launch_from_another_thread_is_refused_and_makes_nothing(project, monkeypatch):
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("FARMX_LOGROOT", str(project.root))
    caught: list[BaseException] = []

    def call() -> None:
        try:
            farmx.launch("sweep.yml")
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    told = "launch() answers Ctrl-C, and only the main thread of a program can; call it there"
    assert [str(error) for error in caught] == [told]
    assert not project.root.exists()


def test_a_name_that_is_a_path_is_refused_from_python_too(project, monkeypatch):
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("FARMX_LOGROOT", str(project.root))
    with pytest.raises(UsageError) as caught:
        farmx.launch("sweep.yml", name="a/b")
    told = "--exp-name 'a/b': a name of a directory, beginning with a letter or digit, without '/'"
    assert str(caught.value) == told
    assert not project.root.exists()


# ---------------------------------------------------------------- runs that move, end and wait


def roots(project: Project) -> list[str]:
    (run,) = project.runs()
    lines = json.loads((run / "run.json").read_text())["script"].splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith("export PYTHONPATH=")]


def test_a_retry_knows_what_was_installed_since(project, tmp_path):
    site = environment(tmp_path / "venv")  # its python exits with 1
    (project.path / "src").mkdir()
    project.sweep("{n: 1}", "python t.py")
    project.write("t.py", "")
    path = f"{tmp_path}/venv/bin:{os.environ['PATH']}"
    assert project("sweep.yml", "-i", PATH=path).code == 1
    assert roots(project) == ['"$LOGDIR"/code"${PYTHONPATH:+:$PYTHONPATH}"']
    (site / "x.pth").write_text(f"{project.path}/src\n")
    assert project("retry", "sweep", "-j", "1", PATH=path).code == 1
    assert roots(project) == ['"$LOGDIR"/code/src:"$LOGDIR"/code"${PYTHONPATH:+:$PYTHONPATH}"']


@contextmanager
def pool(project: Project):
    """A pool at the first of two runs: its process, the run that runs, the one that waits."""
    process = project.behind("sweep.yml", "-j", "1")
    try:
        first = began(project)
        (second,) = (run for run in project.runs() if run != first)
        yield process, first, second
    finally:
        go(project)
        process.wait(PATIENCE_S)


def test_a_run_renamed_while_it_runs_records_its_end_and_one_that_waited_begins_under_its_new_name(waiting):
    with pool(waiting) as (process, first, second):
        first.rename(waiting.experiment / "best")
        second.rename(waiting.experiment / "later; $HOME")
        go(waiting)
        assert process.wait(PATIENCE_S) == 0
    assert read(waiting.experiment / "best" / "attempts" / "1.0" / "end.json")["state"] == "done"
    assert read(waiting.experiment / "later; $HOME" / "attempts" / "1.0" / "end.json")["state"] == "done"
    assert waiting.states() == {"best": "done", "later; $HOME": "done"}
    assert [line for line in pooled(waiting) if line.startswith(("STOP", "HELD", "FAIL"))] == []
    assert "2 done" in pooled(waiting)


def test_a_pool_tells_a_run_that_was_cancelled_while_it_waited_as_cancelled(waiting):
    with pool(waiting) as (process, first, second):
        assert waiting.ok("cancel", f"sweep/{second.name}").out == f"{second.name}  cancelled\n"
        go(waiting)
        assert process.wait(PATIENCE_S) == 0
    assert waiting.states() == {first.name: "done", second.name: "cancelled"}
    ends = [line for line in pooled(waiting) if line.startswith(("STOP", "HELD"))]
    assert ends == [f"STOP 0 {second.name} T cancelled before it began"]
    assert "1 done, 1 cancelled" in pooled(waiting)


@pytest.fixture
def taken(tmp_path) -> tuple[Path, dict]:
    """The one attempt of a run, taken by this process, and its owner record."""
    run = Place(tmp_path).run()
    attempt, owner = runner.take(run, "1.0", {})
    (Path(attempt) / layout.HEARTBEAT).touch()
    return Path(attempt), owner


def state(attempt: Path) -> tuple[State, str]:
    run = attempt.parent.parent
    (found,) = status.of(str(run.parent), [run.name]).runs
    return found.state, found.note


def test_a_run_that_ends_while_it_is_looked_at_is_done(taken, monkeypatch):
    attempt, owner = taken

    def ended(_owner: dict) -> bool:
        (attempt / layout.END).write_text(json.dumps(runner.end_record(owner, "done")))
        return False

    monkeypatch.setattr(processes, "alive", ended)  # the only moment between the two looks
    assert state(attempt) == (State.DONE, "")


def test_an_owner_in_a_container_lives_as_long_as_its_heart_beats(taken):
    attempt, owner = taken
    inside = {**owner, "pids": "pid:[1]", "pid": 7, "birth": "1"}
    (attempt / layout.OWNER).write_text(json.dumps(inside))
    assert processes.alive(inside) is None
    found, note = state(attempt)
    assert (found, note.startswith(f"on {owner['host']}, heard ")) == (State.RUNNING, True)
    os.utime(attempt / layout.HEARTBEAT, (time.time() - base.SILENT_S - 1,) * 2)
    assert state(attempt)[0] == State.UNKNOWN


# ---------------------------------------------------------------- which files are code


def test_a_link_leads_inside_the_snapshot_where_it_led_inside_the_tree(tmp_path):
    tree, other = tmp_path / "tree", tmp_path / "other"
    write(tmp_path, {"tree/data/x": "x", "tree/deep/er/y": "y", "other/z": "z"})
    links = {
        "link": (f"{tree}/data/x", "data/x"),
        "deep/er/link": (f"{tree}/data", "../../data"),
        "plain": ("data/x", "data/x"),
        "out": (f"{other}/z", f"{other}/z"),
        "deep/out": ("../../other/z", f"{other}/z"),
        "beside": (f"{tmp_path}/tree2", f"{tmp_path}/tree2"),
    }
    for name, (text, _) in links.items():
        (tree / name).symlink_to(text)
    code = snapshot.listing(str(tree), snapshot.Wish(), [])
    assert code.links == {name: text for name, (_, text) in links.items()}
    assert code.files == ("data/x", "deep/er/y")


def test_experiments_of_any_logroot_are_no_code(tmp_path):
    names = ("a/b", "old/runs/exp/run/big", "old/runs/notes", "t.py")
    write(tmp_path, {"old/runs/exp/.farmx": None, **dict.fromkeys(names, "")})
    assert snapshot.listing(str(tmp_path), snapshot.Wish(), []).files == ("a/b", "old/runs/notes", "t.py")


# ---------------------------------------------------------------- words that mislead


def refused(project: Project, cmd: str, more: str = "") -> str:
    """The line that says why; nothing is made."""
    project.sweep(cmd=cmd, more=more)
    before = everything(project.path)
    told = project("sweep.yml", "-i").line(2)
    assert not project.root.exists() and everything(project.path) == before
    return told


def notes(project: Project) -> list[str]:
    return [line for line in project("sweep.yml", "-i").err.splitlines() if line.startswith("note")]


def test_a_program_that_is_not_there_makes_nothing(project):
    told = "CMD: there is no program 'pyhton' in PATH; is its environment active?"
    assert refused(project, "pyhton t.py") == told


def test_a_program_that_setup_may_bring_is_not_looked_for(project):
    write(project.path, {"bin/pyhton": "#!/bin/sh\n. ./note.sh\n"})
    (project.path / "bin" / "pyhton").chmod(0o755)
    project.sweep("{n: 1}", "pyhton t.py", "SETUP: 'PATH=$LOGDIR/code/bin:$PATH'\n")
    project.ok("sweep.yml", "-i")
    assert project.again() == {(1, 1): "done"}


@pytest.mark.parametrize("cmd", ["cat data/x.bin | wc -c", "sh note.sh && cat data/x.bin", "sh note.sh < data/x.bin"])
def test_a_path_in_shell_syntax_that_a_run_would_not_find_makes_nothing(project, cmd):
    write(project.path, {"data/x.bin": ""})
    told = (
        "'data/x.bin' is here but not in the snapshot of the code, so a run would not find it; name it in CODE_LINK (a "
        "live path) or CODE_INCLUDE (copied), or give an absolute path"
    )
    assert refused(project, cmd, "CODE_IGNORE_PATTERNS: data\n") == told


def test_a_bare_word_that_may_be_a_path_is_a_note(project):
    write(project.path, {"data/x.bin": ""})
    project.sweep("{n: 1}", "sh note.sh data", "CODE_IGNORE_PATTERNS: data\n")
    told = "note  'data' is here but not in the snapshot; if the program means that path, name it in CODE_LINK"
    assert notes(project) == [told]
    assert project.again() == {(1, 1): "done"}


def test_another_spelling_of_arguments_is_told(project):
    project.sweep(more="ARG_STYLE: gnu\nCODE_IGNORE_PATTERNS: '*.yml'\n")
    assert notes(project) == []
    project.sweep(more="ARG_STYLE: equals\nCODE_IGNORE_PATTERNS: '*.yml'\n")
    told = "note  ARG_STYLE changed since the last launch; runs that are there got their values the old way"
    assert notes(project) == [told]
    assert notes(project) == []


def test_the_files_in_which_the_code_differs_are_named(project):
    project.ok("sweep.yml", "-i")
    project.write("note.sh", NOTE + "# new\n")
    project.write("more.py", "")
    told = project.ok("sweep.yml", "-i").err.splitlines()[-1]
    assert told == "next  farmx sweep.yml -i --again  # 2 made from other code: more.py, note.sh"


UNNAMEABLE = {
    ".hidden.yml": "its name would be a hidden experiment's",
    "./.hidden.yml": "its name would be a hidden experiment's",
    "./-x.yml": "the experiment's name would be read as an option",
}


@pytest.mark.parametrize("name", UNNAMEABLE)
def test_a_sweep_that_would_make_an_experiment_that_cannot_be_named_is_refused(project, name):
    (project.path / "sweep.yml").rename(project.path / name)
    assert project(name, "-i").line(2) == f"{name}: {UNNAMEABLE[name]}; give --exp-name"
    assert not project.root.exists()
    project.ok(name, "-i", "--exp-name", "sweep")
    assert project.again() == {(1, 1): "done", (2, 1): "done"}
