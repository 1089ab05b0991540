"""EXECUTOR may name what another package brings: as the built-in ones do, or one line says what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import project as made
from launching import until
from own_farms import HOME, installed
from test_farmx_httpq import queue
from typed import ran

__all__ = ["queue"]

INSTALL = "; or install the package that brings it"
BROUGHT = "it must be local, slurm, command or httpq"
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", "."]
FROM = "EXECUTOR httpq: farmx-httpq 1.0 (httpq = {})"
FARM = "class Farm:\n    executor = '{}'\n    check = batches = submit = print\n"
WARNS = "from farmx.farms.base import Can\nCAN = Can(warns=True)\n"
LEAF = "poll = cancel = print\ndef farm(given):\n    return {}\n"


@pytest.fixture
def project(tmp_path, commands, own_farm, queue, monkeypatch):
    """A project whose farm is of EXECUTOR httpq."""
    project = made(tmp_path, commands)
    monkeypatch.setenv("SIDE", str(project.side))  # for the jobs of the queue, which this process starts
    configure(project, f"OPTIONS: {{url: '{queue.url}'}}")
    return project


def configure(project, settings: str, executor: str = "httpq") -> None:
    project.write(".farmx.yaml", f"FARM: far\nfar:\n  EXECUTOR: {executor}\n  {settings}\n")


def test_a_failed_run_goes_back_to_it_by_retry_and_by_tend(project):
    project.sweep("{n: 1}", more="RETRY: {error: 1}\n")
    project.write("note.sh", 'echo x >> "$SIDE"; [ "$(wc -l < "$SIDE")" = 3 ]')
    assert "farm  far (httpq)\n" in project.ok("sweep.yml").err
    for command in (["tend"], ["retry", "sweep"]):
        until(lambda: set(project.states().values()) == {"failed"})
        project.ok(*command)
    until(lambda: set(project.states().values()) == {"done"})


@pytest.mark.parametrize(("settings", "code", "message"), [
    ("OPTIONS: {uri: 'http://x'}", 2, ".farmx.yaml:4:13: OPTIONS.uri: unknown key; did you mean url?"),
    ("OPTIONS: {url: [x]}", 2, ".farmx.yaml:4:13: OPTIONS.url: \"['x']\" is no address; write OPTIONS: "
                               "{url: http://HOST:PORT}"),
    ("OPTIONS: url", 2, ".farmx.yaml:4:12: OPTIONS: 'url' is not allowed; it must be a mapping"),
    ("OPTIONS: {url: 'http://localhost:1'}\n  RESOURCES: {nise: 1}", 2,
     ".farmx.yaml:5:15: RESOURCES.nise: httpq knows no 'nise'; did you mean nice?"),
    ("OPTIONS: {url: 'http://localhost:1'}", 4,
     "http://localhost:1 does not answer: [Errno 111] Connection refused; is it up?"),
])  # fmt: skip
def test_what_it_has_against_its_settings_is_said_before_anything_is_made(project, settings, code, message):
    configure(project, settings)
    assert project("sweep.yml").line(code) == message
    assert not project.root.exists()


def test_a_sweep_file_may_say_some_of_its_options(project, queue):
    configure(project, "OPTIONS: {url: 'http://localhost:1'}")
    project.sweep(more=f"OPTIONS: {{url: '{queue.url}'}}\n")
    project.ok("sweep.yml")
    project.sweep(more="OPTIONS: {uri: x}\n")
    assert project("sweep.yml").line(2) == "sweep.yml:3:11: OPTIONS.uri: unknown key; did you mean url?"


@pytest.mark.parametrize(("name", "told"), [
    ("mars", f"{BROUGHT}{INSTALL}"),
    ("httpx", f"{BROUGHT}; did you mean httpq?"),
    ("Slurm", f"{BROUGHT}; did you mean slurm?"),
])  # fmt: skip
def test_what_nobody_brings_is_no_executor_and_what_somebody_brings_is_listed(project, name, told):
    configure(project, "OPTIONS: {}", name)
    assert project("sweep.yml", "-n").line(2) == f".farmx.yaml:3:13: EXECUTOR: {name!r} is not allowed; {told}"


def test_where_nobody_brings_one_there_are_ours(project, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    told = f"it must be local, slurm or command{INSTALL}"
    assert project("sweep.yml", "-n").line(2) == f".farmx.yaml:3:13: EXECUTOR: 'httpq' is not allowed; {told}"


def test_options_are_nothing_to_our_own_farms(project):
    configure(project, "OPTIONS: {a: 1}", "local")
    message = "OPTIONS are for a farm of another package, and EXECUTOR local is farmx's own; take them out"
    assert project("sweep.yml", "-n").line(2) == f".farmx.yaml:4:3: {message}"


def test_a_run_queued_by_what_is_not_installed_any_more_is_unknown_and_left_alone(project, queue, monkeypatch):
    project.sweep("{n: 1}")
    project.write("note.sh", "exit 1")
    queue.running["no slot"] = queue.running["is free"] = None
    project.ok("sweep.yml")
    monkeypatch.delenv("PYTHONPATH")
    told = "a submission was queued by an executor 'httpq'; install what brings it, or upgrade farmx, to read it"
    project.write(".farmx.yaml", "")
    states = json.loads(project.ok("status", "sweep", "--json").out)["runs"]
    assert [(run["state"], run["note"]) for run in states] == [("unknown", told)]
    assert "left  1 unknown (--state unknown runs it)\n" in project.ok("retry", "sweep").err
    done, (run,) = project("cancel", "sweep"), project.runs()
    assert (done.code, done.out) == (1, f"{run.name}  not cancelled: {told}\n")
    assert "runs  1: 1 unknown  in " in project.ok("sweep.yml", "-i").err
    assert [path for run in project.runs() for path in run.glob("attempts/*")] == []


# ---------------------------------------------------------------- what is installed wrongly


@pytest.mark.parametrize(("value", "text", "why"), [
    ("farmx_gone", "", "it cannot be loaded: ModuleNotFoundError: No module named 'farmx_gone'"),
    ("farmx_it:gone", "", "it cannot be loaded: AttributeError: module 'farmx_it' has no attribute 'gone'"),
    ("farmx_it", "import farmx_needs", "it cannot be loaded: ModuleNotFoundError: No module named 'farmx_needs'"),
    ("farmx_it", "1 +", "it cannot be loaded: SyntaxError: invalid syntax (farmx_it.py, line 1)"),
    ("farmx_it", "{}['it is\\n$HOME']", "it cannot be loaded: KeyError: 'it is\\n$HOME'"),
    ("farmx_it", "raise RuntimeError('two\\nlines')", "it cannot be loaded: RuntimeError: two lines"),
    ("farmx_it", "", "it has no farm()"),
    ("farmx_it", "farm = cancel = print", "it has no poll()"),
    ("farmx_it", f"{WARNS}farm = poll = cancel = print", "it has no warn()"),
    ("farmx_it", f"{WARNS}farm = poll = cancel = warn = print", "it has no hurry()"),
    ("farmx_it:farm", "def farm(given): pass", "it has no farm()"),
    ("farmx_it", LEAF.format("None"), "its farm() gives what has no check()"),
    ("farmx_it", LEAF.format("print"), "its farm() gives what has no check()"),
    ("farmx_it", FARM.format("slurm") + LEAF.format("Farm()"),
     "its farm() gives one whose executor is not 'httpq'"),
])  # fmt: skip
def test_what_is_broken_is_one_line_that_says_who_brings_it(project, own_farm, value, text, why):
    (own_farm / "farmx_it.py").write_text(text)
    (own_farm / "farmx_httpq-1.0.dist-info/entry_points.txt").write_text(f"[farmx.farms]\nhttpq = {value}\n")
    assert project("sweep.yml").line(4) == f"{FROM.format(value)}: {why}; mend what is installed"
    assert not project.root.exists()


@pytest.mark.parametrize(("raised", "told"), [
    ("ValueError('two\\nlines')", "ValueError: two lines"),
    ("BrokenPipeError(32, 'Broken pipe')", "BrokenPipeError: [Errno 32] Broken pipe"),  # not that of our stdout
])  # fmt: skip
def test_a_bug_in_it_keeps_its_traceback_and_then_says_who_brings_it_and_loses_nothing(project, own_farm, raised, told):
    path = own_farm / "farmx_httpq.py"
    whole, there = path.read_text(), "                job = {"
    path.write_text(whole.replace(there, f"                if index == 2: raise {raised}\n{there}"))
    project.sweep("{n: [1, 2, 3, 4, 5]}")
    done = ran("farmx sweep.yml", project.path, **project.env, PATH=PATH)
    assert (done.code, done.err.count("Traceback"), "      2 queued\n" in done.err) == (1, 1, True)
    who = FROM.format("farmx_httpq")
    assert done.err.splitlines()[-1] == f"farmx: {who}: {told}; mend what is installed"
    assert sorted(project.states().values())[-3:] == ["staged"] * 3
    path.write_text(whole)
    project.ok("sweep.yml")
    until(lambda: list(project.states().values()) == ["done"] * 5)
    assert len(project.starts()) == 5


def test_a_bug_of_ours_below_what_it_calls_is_not_told_as_one_of_its_own(project, own_farm):
    path = own_farm / "farmx_httpq.py"
    whole, there = path.read_text(), "heard(made, last - first + 1)"
    path.write_text(whole.replace(there, "heard(made, 'no number')"))  # stands for one
    done = ran("farmx sweep.yml", project.path, **project.env, PATH=PATH)
    assert (done.code, done.err.count("Traceback"), "mend what is installed" in done.err) == (1, 1, False)
    assert done.err.splitlines()[-1].startswith("TypeError: ")


def test_of_two_that_bring_it_none_is_chosen(project, own_farm):
    installed(own_farm, "farmx-another", "httpq = another")
    told = "farmx-another 1.0 (httpq = another) and farmx-httpq 1.0 (httpq = farmx_httpq) both bring it; uninstall one"
    assert project("sweep.yml").line(4) == f"EXECUTOR httpq: {told}"


def test_the_names_of_ours_are_ours(project, own_farm):
    installed(own_farm, "farmx-another", "local = another")
    configure(project, "RESOURCES: {jobs: 1}", "local")
    project.sweep("{n: 1}")
    project.ok("sweep.yml")
    until(lambda: set(project.states().values()) == {"done"})


@pytest.mark.parametrize(("executor", "looks"), [("slurm", False), ("httpq", True)])
def test_what_is_installed_is_looked_through_for_no_name_of_ours(project, executor, looks):
    configure(project, "RESOURCES: {}", executor)
    code = "import atexit, sys; atexit.register(lambda: print('importlib.metadata' in sys.modules, file=sys.stderr))"
    line = f"{code}; sys.argv[1:] = ['sweep.yml', '-n']; from farmx.__main__ import farmx; farmx()"
    done = subprocess.run([sys.executable, "-c", line], cwd=project.path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, str(looks))


# ---------------------------------------------------------------- the example, as its author has it


def test_the_example_is_installed_as_it_says(own_farm):
    said = (HOME / "pyproject.toml").read_text()
    assert '[project.entry-points."farmx.farms"]\nhttpq = "farmx_httpq"\n' in said
    assert 'name = "farmx-httpq"' in said


def test_the_tests_of_the_example_run_beside_it(own_farm):
    done = subprocess.run([*PYTEST, "-k", "recorded_before", "."], cwd=own_farm, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1].partition(" in ")[0]) == (0, "1 passed, 14 deselected")


def test_a_class_without_a_site_is_told_what_it_lacks(own_farm):
    (own_farm / "test_it.py").write_text("from farmx.testing import FarmContract\nclass TestIt(FarmContract): pass\n")
    done = subprocess.run([*PYTEST, "-x", "test_it.py"], cwd=own_farm, capture_output=True, text=True)
    assert "your class has no fixture `site` that returns a farmx.testing.Site" in done.stdout
