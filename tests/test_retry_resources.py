"""farmx retry --resources: what runs are to ask for from now on, by the command line, on a small Slurm."""

import json
import os
import subprocess

import pytest
from commands import Project, read
from test_slurm_killed import slurm

from farmx import stage
from farmx.cli.relaunching import resources_of
from farmx.errors import UsageError


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ((), {}),
        (("time=8:00:00", "mem=64G", "gpus=2"), {"time": "8:00:00", "mem": "64G", "gpus": 2}),
        (("hold=", "exclusive=true", "constraint=a=b"), {"hold": None, "exclusive": True, "constraint": "a=b"}),
        (("comment=it's $HOME; größe", "time=1", "time=2"), {"comment": "it's $HOME; größe", "time": 2}),
    ],
)
def test_what_is_asked_for_is_read_as_a_sweep_file_would_read_it(given, asked):
    assert resources_of(given) == asked


@pytest.mark.parametrize("text", ["time", "=8", "", " =x"])
def test_what_is_no_key_and_value_is_refused(text):
    with pytest.raises(UsageError) as error:
        resources_of([text])
    assert str(error.value) == (
        f"--resources: {text!r} is no KEY=VALUE; write time=8:00:00, or KEY= to ask for nothing"
    )


RECORD = {"resources": {"mem": 1, "cpus-per-task": 2, "hold": True},
          "stages": [{"name": "train"}, {"name": "test", "resources": {"cpus_per_task": 4}}]}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "resources", "own"),
    [
        ({}, {"mem": 1, "cpus-per-task": 2, "hold": True}, {"cpus_per_task": 4}),
        ({"mem": "64G", "hold": None}, {"cpus-per-task": 2, "mem": "64G"}, {"cpus_per_task": 4}),
        ({"cpus_per_task": 8}, {"mem": 1, "hold": True, "cpus_per_task": 8}, {"cpus_per_task": 8}),
        ({"cpus-per-task": None}, {"mem": 1, "hold": True}, {}),
    ],
)
def test_what_is_asked_for_goes_over_what_a_run_and_its_stages_have(asked, resources, own):
    stages = [{"name": "train"}, {"name": "test", "resources": own}]
    assert stage.asking(RECORD, asked) == {"resources": resources, "stages": stages}


@pytest.fixture
def failed(project: Project, tmp_path, monkeypatch):
    """A sweep of two runs that failed on a Slurm; the PATH with it in the environment."""
    home = slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    project.write(".farmx.yaml", "FARM: big\nbig: {EXECUTOR: slurm, RESOURCES: {time: 1, hold: true, mem: 5}}\n")
    project.sweep(cmd="sh -c 'exit 1'")
    project.ok("sweep.yml")
    for line in (home / "queue").read_text().splitlines():
        script = line.split(" ", 2)[2]
        told = {**os.environ, **project.env, "SLURM_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "0"}
        job = subprocess.run(["bash", script], env=told, capture_output=True, cwd=os.path.dirname(script))
        assert job.returncode == 1
    (home / "queue").write_text("")
    return project


def test_a_retry_asks_for_what_the_command_line_says_and_so_does_the_next(failed):
    failed.ok("retry", "sweep", "--resources", "time=8:00:00", "-r", "hold=", "--code", "own")
    told = [read(run / "run.json")["resources"] for run in failed.runs()]
    assert told == [{"mem": 5, "time": "8:00:00"}] * 2
    scripts = sorted((failed.experiment / ".farmx" / "submissions").glob("*/script"))
    lines = [[line for line in script.read_text().splitlines() if "--time" in line or "--hold" in line]
             for script in scripts]  # fmt: skip
    assert lines == [["#SBATCH --hold", "#SBATCH --time=1"]] * 2 + [["#SBATCH --time=8:00:00"]] * 2


def test_what_the_farm_would_refuse_changes_nothing(failed):
    before = [(run / "run.json").read_text() for run in failed.runs()]
    submissions = os.listdir(failed.experiment / ".farmx" / "submissions")
    refused = failed("retry", "sweep", "-r", "tiem=8", "-r", "mem=7")
    assert refused.line(2) == "--resources: RESOURCES.tiem is no option of sbatch; did you mean time?"
    assert [(run / "run.json").read_text() for run in failed.runs()] == before
    assert os.listdir(failed.experiment / ".farmx" / "submissions") == submissions


CONFIG = "FARM: big\nbig: {{EXECUTOR: slurm, RESOURCES: {}}}\n"
CMD = "{{train: 'true', test: {{cmd: 'true', RESOURCES: {}}}}}"
NOTE = "note  RESOURCES changed since the last launch; runs left alone keep what they were staged with, " \
       "--again makes new ones"


@pytest.mark.parametrize(("cancelled", "notes"), [(0, []), (1, [NOTE])], ids=["all taken up", "one left alone"])
def test_what_a_launch_takes_up_asks_for_todays_resources_from_then_on(
    project: Project, tmp_path, monkeypatch, cancelled, notes
):
    home = slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    project.write(".farmx.yaml", CONFIG.format("{time: 1, hold: true, mem: 5}"))
    project.sweep("{n: [1, 2]}", CMD.format("{time: 2}"))
    project.ok("sweep.yml")
    for run in project.runs()[:cancelled]:
        project.ok("cancel", run.name)
    (home / "queue").write_text("")  # what waited is lost
    project.write(".farmx.yaml", CONFIG.format("{time: 1, mem: 9}"))
    project.sweep("{n: [1, 2]}", CMD.format("{time: 3, qos: high}"))
    done = project.ok("sweep.yml")
    told = [read(run / "run.json") for run in project.runs()]
    asked = [(each["resources"], *(stage.get("resources") for stage in each["stages"])) for each in told]
    was = [({"time": 1, "hold": True, "mem": 5}, None, {"time": 2})] * cancelled
    assert asked == [*was, *[({"time": 1, "mem": 9}, None, {"time": 3, "qos": "high"})] * (2 - cancelled)]
    assert [line for line in done.err.splitlines() if "RESOURCES" in line] == notes


def test_json_says_what_was_queued(failed):
    told = json.loads(failed.ok("retry", "sweep", "-r", "mem=7", "--json", "--code", "own").out)
    assert sorted(each["attempt"] for each in told["queued"]) == ["2.0", "2.0"]
