"""GOAL added or changed after a launch: the newest launch's counts, for the runs that are there, too."""

import json

import pytest
from commands import Project

from farmx import messages, status
from farmx.spec import Goal

PROGRAM = """printf '{"time": 5.5, "phase": "val", "step": 0, "metrics": {"acc": %s, "err": %s, "top/5": %s}}\\n' \
"$2" "$2" "$2" > "$FARMX_ATTEMPT_DIR/metrics.jsonl"
"""
ACC, ERR, NONE = "GOAL: acc\n", "GOAL: {metric: test/err, mode: min}\n", ""


@pytest.fixture
def launched(project):
    """Launches the sweep with what it is given after CMD and HPARAMS; returns the notes."""
    project.write("t.sh", PROGRAM)

    def launch(more: str, values: str = "1, 2") -> list[str]:
        project.sweep(f"{{n: [{values}]}}", "sh t.sh", f"{more}CODE_IGNORE_PATTERNS: '*.yml'\n")
        lines = project.ok("sweep.yml", "-i").err.splitlines()
        return [line for line in lines if line.startswith("note")]

    return launch


def table(project: Project, *options: str) -> tuple[list[dict], str]:
    """What sumx says: the rows and the notes."""
    done = project.commands("sweep", "--json", *options, cwd=project.path, env=project.env, program="sumx")
    assert done.code == 0, done.err
    return json.loads(done.out), done.err


def order(project: Project, *options: str) -> tuple[list[int], str | None]:
    """The values of n as sumx sorts them, and by what."""
    rows, notes = table(project, *options)
    assert notes == ""
    return [row["n"] for row in rows], next((name for name in rows[0] if name.endswith("-best")), None)


@pytest.mark.parametrize(
    ("first", "then", "before", "after", "said"),
    [
        (NONE, ACC, ([1, 2], None), ([2, 1], "acc-best"), "the goal is now val/acc, higher is better; it was none"),
        (
            *(ACC, ERR, ([2, 1], "acc-best"), ([1, 2], "err-best")),
            "the goal is now val/err, lower is better; it was val/acc, higher is better",
        ),
        (
            *("GOAL: err\n", "GOAL: {metric: err, mode: max}\n", ([1, 2], "err-best"), ([2, 1], "err-best")),
            "the goal is now val/err, higher is better; it was val/err, lower is better",
        ),
        (ACC, NONE, ([2, 1], "acc-best"), ([1, 2], None), "the goal is now none; it was val/acc, higher is better"),
    ],
)
def test_the_goal_of_the_newest_launch_counts_for_the_runs_that_are_there(
    project, launched, first, then, before, after, said
):
    assert launched(first) == []
    assert order(project) == order(project) == before
    assert launched(then) == [f"note  {said}"]
    assert order(project) == order(project) == after
    assert launched(then) == []


def test_runs_of_launches_with_different_goals_have_one(project, launched):
    launched(ACC)
    launched(ERR)
    launched(ERR, "1, 2, 0.5")
    assert order(project) == ([0.5, 1, 2], "err-best")
    assert order(project, "--max") == ([2, 1, 0.5], "err-best")
    assert order(project, "-s", "test/acc") == ([2, 1, 0.5], "acc-best")


def test_a_launch_from_a_machine_whose_clock_is_behind_has_the_newest_goal(project, launched):
    launched(ACC)
    (path,) = (project.experiment / ".farmx/launches").iterdir()
    path.rename(path.with_name("29990101-000000.000-aaaaaa.json"))
    launched(ERR)
    assert order(project) == ([1, 2], "err-best")


def test_what_else_looks_at_a_goal_has_the_newest(project, launched, monkeypatch):
    import farmx

    launched(ACC)
    launched(ERR)
    monkeypatch.chdir(project.path)
    found = farmx.runs("sweep", logroot=str(project.root))
    assert [run.goal for run in found] == [Goal("val/err", "min")] * 2
    told = messages.text(str(project.experiment), {"event": "ended", "experiment": "sweep", "launch": "x"}, None, 0.0)
    assert told.body.splitlines()[0] == f"best err 1 at step 0: {found[0].name}"


@pytest.mark.parametrize(
    "goal, said",
    [("top/5", "val/top/5 2"), ("err", "err 1"), ("test/err", "err 1"), ("acc", "acc 2"), ("val/top/5", "val/top/5 2")],
)
def test_a_message_means_by_a_goal_what_a_table_does(project, launched, goal, said):
    launched(f"GOAL: {goal}\n")
    told = messages.text(str(project.experiment), {"event": "ended", "experiment": "sweep", "launch": "x"}, None, 0.0)
    assert told.body.splitlines()[0].rpartition(" at step ")[0] == f"best {said}"
    assert order(project)[1] == f"{said.split()[0]}-best"


@pytest.mark.parametrize(
    "goal", [None, [], "acc", {}, {"metric": "err"}, {"metric": 3, "mode": "min"}, {"metric": "err", "mode": None}]
)
def test_a_goal_that_a_record_spoils_is_none(project, launched, goal):
    launched(ACC)
    shared(project, GOAL=goal)
    assert order(project) == ([1, 2], None)


def test_where_no_launch_tells_a_goal_the_runs_do(project, launched):
    launched(ACC)
    shared(project)
    assert order(project) == ([2, 1], "acc-best")
    assert launched(ERR) == []
    assert order(project) == ([1, 2], "err-best")
    for record in (project.experiment / ".farmx/launches").iterdir():
        record.unlink()
    assert order(project) == ([2, 1], "acc-best")
    (project.experiment / ".farmx").rename(project.path / "gone")
    assert order(project) == ([2, 1], "acc-best")


def test_a_launch_that_did_not_come_as_far_as_handing_over_has_no_say(project, launched):
    launched(ACC)
    home = project.experiment / ".farmx/launches"
    (home / "29990101-000000.000-aaaaaa.json").write_text('{"format": 1, "again": {}}')
    (home / "29990101-000000.000-bbbbbb.json").write_text('{"form')
    assert order(project) == ([2, 1], "acc-best")


def shared(project: Project, **settings: object) -> None:
    """Spoil the record of the only launch."""
    (path,) = (project.experiment / ".farmx/launches").iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "shared": settings}))


def test_runs_of_no_launch_keep_what_they_say(tmp_path):
    assert status.aimed(str(tmp_path), ()) == ()
