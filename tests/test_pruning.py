"""launch --prune: what waits and left the sweep file is shown, then cancelled; nothing else is touched."""

import json
import shutil
from pathlib import Path

import pytest
from commands import Project, hparams, read


@pytest.fixture
def waiting(project: Project) -> Project:
    """n: 1 done; 2, 3 staged; the file then holds 1 and 2."""
    project.sweep("{n: [1, 2, 3]}")
    project.ok("sweep.yml", "-i")
    for n, run in by_n(project).items():
        if n != 1:
            shutil.rmtree(run / "attempts")
    project.sweep("{n: [1, 2]}")
    return project


def by_n(project: Project) -> dict[int, Path]:
    return {hparams(run)["n"]: run for run in project.runs()}


def states(project: Project) -> dict[int, str]:
    told = project.states()
    return {n: told[run.name] for n, run in by_n(project).items()}


def test_what_waits_and_left_the_file_is_shown_and_cancelled(waiting):
    told = waiting("sweep.yml", "-i", "--prune", "-y")
    name = by_n(waiting)[3].name
    assert f"prune 1 waiting run left the sweep file:\n      {name}  staged  n=3\n      {name}  cancelled\n" in told.err
    assert states(waiting) == {1: "done", 2: "done", 3: "cancelled"}


@pytest.mark.parametrize("sure", ["-y", "--yes"])
def test_what_is_told_to_type_again_agrees_to_nothing(waiting, sure):
    waiting("sweep.yml", "-i", "--prune", sure)
    waiting.write("note.sh", ":\n")
    told = waiting.ok("sweep.yml", "--prune", "-i", sure)
    assert told.err.splitlines()[-1] == "next  farmx sweep.yml -i --again  # 2 made from other code: note.sh"


def test_without_a_terminal_nothing_is_cancelled_or_launched_unless_agreed(waiting):
    told = waiting("sweep.yml", "-i", "--prune")
    assert told.code == 2
    assert told.err.endswith("farmx: --prune would cancel 1 run; give -y if you mean it\n")
    assert states(waiting) == {1: "done", 2: "staged", 3: "staged"}


def test_what_ended_or_is_another_files_is_left(waiting):
    run = by_n(waiting)[3]
    record = read(run / "run.json")
    (run / "run.json").write_text(json.dumps({**record, "sweep": "/another/sweep.yml"}))
    waiting.sweep("{n: [2]}")
    told = waiting("sweep.yml", "-i", "--prune", "-y")
    assert "prune" not in told.err
    assert states(waiting) == {1: "done", 2: "done", 3: "staged"}


def test_an_unreadable_run_stops_it(waiting):
    (by_n(waiting)[3] / "run.json").write_text("{")
    told = waiting("sweep.yml", "-i", "--prune", "-y")
    assert told.code == 3
    assert "run.json" in told.err
