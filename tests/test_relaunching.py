"""farmx retry: each run goes back to the farm that had it; never to this machine, where that was not asked for."""

import json

import pytest
from commands import Project

CONFIG = """
big: {{SUBMIT_CMD: '{big} {{name}} {{script}}', STATUS_CMD: /bin/true}}
small: {{SUBMIT_CMD: '{small} {{name}} {{script}}', STATUS_CMD: /bin/true}}
"""
SUBMIT = '#!/bin/sh\necho "$(basename "$0") $1" >> "$SIDE.asked"\necho 7\n'  # what it takes is never begun


def configure(project: Project, text: str = CONFIG, farm: str = "") -> None:
    """Two farms that begin nothing and, asked, list nothing: what they took is lost. farm: FARM."""
    names = {}
    for name in ("big", "small"):
        path = project.path.parent / name
        path.write_text(SUBMIT)
        path.chmod(0o755)
        names[name] = str(path)
    project.write(".farmx.yaml", (f"FARM: {farm}\n" if farm else "") + text.format(**names))


def asked(project: Project) -> dict[str, int]:
    """Submit command -> how often it was called since this was asked last."""
    path = project.side.parent / f"{project.side.name}.asked"
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    names = [line.split()[0] for line in lines]
    return {name: names.count(name) for name in sorted(set(names))}


@pytest.fixture
def lost(project):
    """Two runs that were handed to the farm `big`, by --farm alone, and lost while they waited."""
    configure(project)
    project.ok("sweep.yml", "--farm", "big")
    assert (asked(project), project.again()) == ({"big": 2}, {(1, 1): "lost", (2, 1): "lost"})
    return project


def test_what_was_lost_while_it_waited_goes_back_to_its_farm(lost):
    done = lost.ok("retry", "sweep")
    assert "runs  2 again, 0 left alone\n      2 queued\n" in done.err
    assert (asked(lost), lost.starts()) == ({"big": 2}, [])


def test_so_does_what_was_cancelled_while_it_waited(lost):
    lost.ok("cancel", "sweep")
    assert set(lost.again().values()) == {"cancelled"}
    lost.ok("retry", "sweep")
    assert (asked(lost), lost.starts()) == ({"big": 2}, [])


def test_whatever_farm_the_file_names(lost):
    configure(lost, farm="small")
    lost.ok("retry", "sweep")
    assert asked(lost) == {"big": 2}


@pytest.fixture
def two(lost):
    """The same, and three more runs of the experiment on the farm `small`."""
    lost.ok("cancel", "sweep")
    lost.sweep("{n: [1, 2, 3, 4, 5]}")
    lost.ok("sweep.yml", "--farm", "small")
    assert asked(lost) == {"small": 3}
    return lost


def test_the_runs_of_two_farms_go_each_to_its_own(two):
    done = two.ok("retry", "sweep")
    assert "runs  5 again, 0 left alone\n" in done.err
    assert asked(two) == {"big": 2, "small": 3}
    submissions = sorted((two.experiment / ".farmx" / "submissions").iterdir())[2:]
    told = {json.loads((path / "job.json").read_text())["farm"]: len((path / "runs").read_text().splitlines())
            for path in submissions}  # fmt: skip
    assert told == {"big": 2, "small": 3}


@pytest.mark.parametrize("argv", [("--farm", "small"), ("--farm", "small", "--state", "lost,cancelled")])
def test_a_farm_that_is_named_takes_all(two, argv):
    two.ok("retry", "sweep", *argv)
    assert asked(two) == {"small": 5}


@pytest.mark.parametrize("argv", [("-i",), ("-j", "2"), ("-i", "--json")])
def test_here_is_only_where_that_is_asked_for(two, argv):
    two.ok("retry", "sweep", *argv)
    assert (asked(two), len(two.starts())) == ({}, 5)


def test_a_farm_that_the_configuration_has_no_more_is_one_line_before_anything_is_queued(two):
    configure(two, CONFIG[: CONFIG.index("small:")])
    told = "no farm named 'small' in .farmx.yaml; known: big, local; give --farm NAME, or -i to run here"
    assert two("retry", "sweep").line(2) == f"sweep: 3 runs to go back to small: {told}"
    assert (asked(two), two.starts(), len(list(two.experiment.glob("*/attempts/2.0")))) == ({}, [], 0)
    two.ok("retry", "sweep", "--state", "cancelled")
    assert asked(two) == {"big": 2}
    two.ok("retry", "sweep", "--state", "lost", "--farm", "big")
    assert asked(two) == {"big": 5}


def test_a_farm_that_says_no_more_how_to_submit_is_one_line(lost):
    configure(lost, "big: {{RESOURCES: {{mem: 1}}}}\n")
    told = "farm 'big' has neither EXECUTOR nor SUBMIT_CMD; add one, or give -i to run here"
    assert lost("retry", "sweep").line(2) == told
    assert lost.starts() == []


def test_a_run_that_was_renamed_goes_back_by_the_records_of_its_attempts(project):
    configure(project)
    project.path.parent.joinpath("big").write_text('#!/bin/sh\nsh "$2" > /dev/null 2>&1\necho 7\n')
    project.sweep("{n: [1]}", "'false'")
    project.ok("sweep.yml", "--farm", "big")
    configure(project)
    (run,) = project.runs()
    run.rename(run.parent / "renamed")
    project.ok("retry", "sweep")
    assert asked(project) == {"big": 1}


def test_what_a_dead_pool_had_and_never_began_goes_back_to_that_pool(project):
    project.write(".farmx.yaml", "box: {EXECUTOR: local}\n")
    project.sweep("{n: [1, 2, 3]}", "sh t.sh", "BREAKER: 1\n")
    project.write("t.sh", "echo bad; exit 2\n")
    project.ok("sweep.yml", "--farm", "box")
    assert project.again() == {(1, 1): "failed", (2, 1): "staged", (3, 1): "staged"}
    project.write("t.sh", "exit 0\n")
    assert "      3 queued\n" in project.ok("retry", "sweep", "--release").err
    assert set(project.again().values()) == {"done"}
    assert len(list((project.experiment / ".farmx" / "submissions").glob("*/pool.log"))) == 2
