"""farmx status: how the runs stand, as a table and as json, for one experiment and for all."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import BIN
from typed import Typed, everything, ran, timeless, write

SWEEP = "CMD: sh t.sh\nHPARAMS: {n: [0, 1]}\n"


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> Path:
    """Experiments `empty`, `other` of one run that is done, and `sweep` with a run that is done and one that failed."""
    place = tmp_path_factory.mktemp("looking") / "project"
    write(place, {"sweep.yml": SWEEP, "t.sh": 'echo "$@"; exit $2\n'})
    env = {"HOME": str(place), "PATH": f"{BIN}:{os.environ['PATH']}"}
    names = "--tag run --no-cooldir"
    assert ran(f"farmx sweep.yml -j 1 {names}", place, **env).code == 1
    assert ran(f"farmx sweep.yml -i {names} --exp-name other --first 1", place, **env).code == 0
    (place / "runs" / "empty").mkdir()
    return place


@pytest.fixture
def typed(launched, monkeypatch, capfd, tmp_path) -> Typed:
    shutil.copytree(launched, tmp_path / "project", symlinks=True)
    return Typed(monkeypatch, capfd, tmp_path / "project")


def told(typed: Typed, line: str) -> dict | list:
    said = typed(line)
    assert (said.code, said.err) == (0, "")
    return json.loads(said.out)


def edit(typed: Typed, name: str, **changes: object) -> None:
    """Change a record below runs/sweep."""
    path = typed.cwd / "runs" / "sweep" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def times(typed: Typed, run: str, seconds: float) -> None:
    """Let the attempt of a run have taken so long."""
    edit(typed, f"{run}/attempts/1.0/end.json", started=1000.0, ended=1000.0 + seconds)


def test_every_run_has_its_line_and_the_counts_come_last(typed):
    times(typed, "run", 65.2)
    times(typed, "run_2", 3605)
    assert typed("farmx status sweep") == (
        0,
        "run    state   attempts  time\n"
        "run    done    1         1:05\n"
        "run_2  failed  1         1:00:05  main exited with 1\n"
        "2 runs: 1 done, 1 failed; 1:01:10 spent\n",
        "",
    )


def test_json_has_the_same(typed):
    times(typed, "run", 65.5)
    times(typed, "run_2", 2)
    assert told(typed, "farmx status sweep --json") == {
        "experiment": "sweep",
        "counts": {"done": 1, "failed": 1},
        "spent_s": 67.5,
        "left_s": None,
        "unreadable": [],
        "runs": [
            {"run": "run", "state": "done", "attempts": 1, "seconds": 65.5, "note": ""},
            {"run": "run_2", "state": "failed", "attempts": 1, "seconds": 2.0, "note": "main exited with 1"},
        ],
    }


def test_every_experiment_has_its_line(typed):
    times(typed, "run", 10)
    times(typed, "run_2", 20)
    said = typed("farmx status")
    assert (said.code, said.err) == (0, "")
    assert timeless(said.out).splitlines() == [
        "empty  no runs",
        "other  1 run: 1 done; T spent",
        "sweep  2 runs: 1 done, 1 failed; T spent",
        f"in {typed.cwd}/runs",
    ]
    every = told(typed, "farmx status --json")
    assert [(each["experiment"], each["counts"]) for each in every] == [
        ("empty", {}), ("other", {"done": 1}), ("sweep", {"done": 1, "failed": 1}),
    ]  # fmt: skip


def test_what_cannot_be_read_is_told_of_every_experiment(typed):
    record = typed.cwd / "runs" / "sweep" / "run" / "run.json"
    record.write_text("{")
    problem = f"unreadable: {record}: cannot be read: it is not json; restore it or move it away\n"
    assert (typed("farmx status").err, typed("farmx status sweep").err) == (problem, problem)


def test_what_is_left_is_told_from_the_runs_that_are_done(typed):
    times(typed, "run", 60)
    shutil.rmtree(typed.cwd / "runs/sweep/run_2/attempts")
    assert typed("farmx status sweep").out == (
        "run    state   attempts  time\n"
        "run    done    1         1:00\n"
        "run_2  staged\n"
        "2 runs: 1 done, 1 staged; 1:00 spent, about 1:00 left\n"
    )


def test_a_runner_that_died_left_an_interrupted_run(typed):
    end = typed.cwd / "runs/sweep/run_2/attempts/1.0/end.json"
    end.unlink()
    (run,) = [each for each in told(typed, "farmx status sweep --json")["runs"] if each["run"] == "run_2"]
    assert run == {
        "run": "run_2", "state": "interrupted", "attempts": 1, "seconds": None, "note": "its launcher or pool ended",
    }  # fmt: skip


def test_looking_changes_nothing(typed):
    before = everything(typed.cwd)
    for line in ("farmx status", "farmx status sweep", "sumx sweep", "farmx status sweep --json"):
        assert typed(line).code == 0
    assert everything(typed.cwd) == before


@pytest.mark.parametrize("name", ["sweep/", "runs/sweep", "./runs/sweep", "HERE/runs/sweep"])
def test_an_experiment_may_be_a_path(typed, name):
    assert typed(f"farmx status {name}".replace("HERE", str(typed.cwd))) == typed("farmx status sweep")


def test_where_nothing_was_launched_that_is_said(typed, tmp_path):
    typed.cwd = tmp_path
    assert typed("farmx status") == (0, f"no experiments in {tmp_path}/runs\n", "")
    assert told(typed, "farmx status --json") == []


def test_runs_that_are_at_work_are_running_and_waiting(typed):
    """A pool of one slot whose first run waits for a file: meanwhile one run is running and one is queued."""
    go = typed.cwd / "go"
    write(typed.cwd, {"wait.yml": SWEEP.replace("t.sh", "wait.sh"),
                      "wait.sh": f"touch '{go}.ready'; while [ ! -e '{go}' ]; do sleep 0.05; done\n"})  # fmt: skip
    command = ["farmx", "wait.yml", "-j", "1", "--tag", "run", "--no-cooldir"]
    with subprocess.Popen(command, cwd=typed.cwd, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        while not os.path.exists(f"{go}.ready"):
            assert process.poll() is None
        runs = told(typed, "farmx status wait --json")["runs"]
        again = typed("farmx retry wait")
        go.touch()
        process.communicate(timeout=30)
    host = os.uname().nodename
    assert [(run["run"], run["state"], run["note"]) for run in runs] == [
        ("run", "running", f"on {host}"), ("run_2", "queued", ""),
    ]  # fmt: skip
    assert again == (0, "", "runs  0 again, 2 left alone\n")
    assert told(typed, "farmx status wait --json")["counts"] == {"done": 2}
