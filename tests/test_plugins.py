"""EXECUTOR may name what another package brings: as the built-in ones do, or one line says what is wrong."""

import json

import pytest
from commands import project as made
from submitting import put

SCRIPTS = {
    "fsub": '#!/bin/sh\necho x >> "$HOLD/count"; sh "$2" > "$1" 2>&1 < /dev/null; wc -l < "$HOLD/count"\n',
    "fstat": "#!/bin/sh\n",
}


@pytest.fixture
def project(tmp_path, commands, monkeypatch):
    """A project whose farm is of EXECUTOR mars, which runs a job as it is submitted."""
    put(tmp_path / "hold", monkeypatch, SCRIPTS)
    project = made(tmp_path, commands)
    project.write(".farmx.yaml", "FARM: far\nfar: {EXECUTOR: mars}\n")
    return project


def test_a_failed_run_goes_back_to_it_by_retry_and_by_tend(project, mars):
    project.sweep("{n: 1}", more="RETRY: {error: 1}\n")
    project.write("note.sh", 'echo x >> "$SIDE"; [ "$(wc -l < "$SIDE")" = 3 ]')
    done = project.ok("sweep.yml")
    assert "farm  far (mars)\n" in done.err
    assert set(project.states().values()) == {"failed"}
    project.ok("tend")
    assert set(project.states().values()) == {"failed"}
    project.ok("retry", "sweep")
    assert set(project.states().values()) == {"done"}


def test_what_it_refuses_is_said_before_anything_is_made(project, mars):
    project.write(".farmx.yaml", "FARM: far\nfar: {EXECUTOR: mars, RESOURCES: {gpu: 1}}\n")
    assert project("sweep.yml").line(4) == "far gives dust, and nothing else"
    assert not project.root.exists()


def test_what_nobody_brings_is_no_executor(project):
    message = ".farmx.yaml:2:17: EXECUTOR: 'mars' is not allowed; it must be local, slurm or command"
    assert project("sweep.yml").line(2) == message


def test_a_run_queued_by_what_is_not_installed_any_more_is_unknown_and_left_alone(project, mars, monkeypatch):
    project.sweep("{n: 1}")
    project.write("note.sh", "exit 1")
    (project.path.parent / "hold" / "fsub").write_text("#!/bin/sh\necho 7\n")
    project.ok("sweep.yml")
    monkeypatch.delenv("PYTHONPATH")
    told = "a submission was queued by an executor 'mars'; install what brings it, or upgrade farmx, to read it"
    project.write(".farmx.yaml", "")
    states = json.loads(project.ok("status", "sweep", "--json").out)["runs"]
    assert [(run["state"], run["note"]) for run in states] == [("unknown", told)]
    assert "left  1 unknown (--state unknown runs it)\n" in project.ok("retry", "sweep").err
    done, (run,) = project("cancel", "sweep"), project.runs()
    assert (done.code, done.out) == (1, f"{run.name}  not cancelled: {told}\n")
    assert "runs  1: 1 unknown  in " in project.ok("sweep.yml", "-i").err
    assert [path for run in project.runs() for path in run.glob("attempts/*")] == []


@pytest.mark.parametrize(("value", "why"), [
    ("mars_farm_gone", "No module named 'mars_farm_gone'"),
    ("mars_farm:gone", "module 'mars_farm' has no attribute 'gone'"),
])  # fmt: skip
def test_one_that_cannot_be_loaded_is_one_line(project, mars, value, why):
    (mars / "mars_farm-1.0.dist-info/entry_points.txt").write_text(f"[farmx.farms]\nmars = {value}\n")
    assert project("sweep.yml").line(4) == f"EXECUTOR mars: {value} cannot be loaded: {why}; mend what is installed"
    assert not project.root.exists()
