"""farmx status: how the runs stand, as a table and as json, for one experiment and for all."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import BIN
from launching import PATIENCE_S
from rights import ordinary_rights
from typed import Typed, everything, ran, timeless, write

from farmx.cli import looking, screen
from farmx.spec import Attempt, Run, State

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
        "done_at": None,
        "unreadable": [],
        "runs": [
            {"run": "run", "state": "done", "attempts": 1, "seconds": 65.5, "note": "", "job": None},
            {"run": "run_2", "state": "failed", "attempts": 1, "seconds": 2.0, "note": "main exited with 1",
             "job": None},
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


def test_a_run_of_logroot_itself_is_counted_as_it_is_where_it_is_named(typed):
    lone = typed.cwd / "runs" / "lone"
    lone.mkdir()
    (lone / "metrics.jsonl").touch()
    counted = "1 run: 1 unknown; 0:00 spent"
    assert typed("farmx status lone").out.splitlines()[-1] == counted
    assert f"lone   {counted}" in typed("farmx status").out.splitlines()
    (told,) = (each for each in json.loads(typed("farmx status --json").out) if each["experiment"] == "lone")
    assert told["counts"] == {"unknown": 1}


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


def test_a_run_that_was_cancelled_while_it_waited_has_no_attempt_more(typed):
    times(typed, "run", 60)
    attempt = typed.cwd / "runs/sweep/run/attempts/1.0"
    (attempt / "end.json").unlink()
    began = json.loads((attempt / "owner.json").read_text())["started"]
    os.utime(attempt / "heartbeat", (began + 60, began + 60))
    shutil.rmtree(typed.cwd / "runs/sweep/run_2/attempts")
    assert typed("farmx cancel sweep").out == "run    cancelled\nrun_2  cancelled\n"
    assert typed("farmx status sweep").out == (
        "run    state      attempts  time\n"
        "run    cancelled  1         1:00\n"
        "run_2  cancelled\n"
        "2 runs: 2 cancelled; 1:00 spent\n"
    )
    runs = told(typed, "farmx status sweep --json")["runs"]
    assert [(run["run"], run["attempts"], run["seconds"]) for run in runs] == [("run", 1, 60.0), ("run_2", 0, None)]
    assert typed("farmx why run_2").out == (
        "sweep/run_2  cancelled: you cancelled it\nnext  farmx retry sweep/run_2  # again, with the code it had\n"
    )


def test_a_runner_that_died_left_an_interrupted_run(typed):
    attempt = typed.cwd / "runs/sweep/run_2/attempts/1.0"
    (attempt / "end.json").unlink()
    began = json.loads((attempt / "owner.json").read_text())["started"]
    os.utime(attempt / "heartbeat", (began + 60, began + 60))
    (run,) = [each for each in told(typed, "farmx status sweep --json")["runs"] if each["run"] == "run_2"]
    assert run == {
        "run": "run_2", "state": "interrupted", "attempts": 1, "seconds": 60.0, "note": "its launcher or pool ended",
        "job": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["heartbeat", "main.log", "test $HOME.log", "metrics.jsonl"])
def test_an_attempt_without_an_end_lasted_until_the_last_that_it_wrote(typed, name):
    attempt = typed.cwd / "runs/sweep/run_2/attempts/1.0"
    (attempt / "end.json").unlink()
    began = json.loads((attempt / "owner.json").read_text())["started"]
    for each in (attempt / "heartbeat", attempt / "main.log", attempt / name):
        each.touch()
        os.utime(each, (began + 12, began + (57 if each.name == name else 12)))
    (attempt / "cancel").touch()  # by others, perhaps days later
    assert [run["seconds"] for run in told(typed, "farmx status run_2 --json")["runs"]] == [57.0]


def test_runs_and_several_experiments_can_be_named(typed):
    times(typed, "run", 60)
    times(typed, "run_2", 2)
    assert typed("farmx status run_2") == (
        0,
        "run    state   attempts  time\n"
        "run_2  failed  1         0:02  main exited with 1\n"
        "1 run: 1 failed; 0:02 spent\n",
        "",
    )
    assert timeless(typed("farmx status other sweep/run sweep run_2 other").out) == (
        "run          state   attempts  time\n"
        "other/run    done    1         T\n"
        "sweep/run    done    1         T\n"
        "sweep/run_2  failed  1         T  main exited with 1\n"
        "3 runs: 2 done, 1 failed; T spent\n"
    )


SHORTENED = [("sw", "sweep"), ("runs/sweep", "sweep"), ("run_", "sweep/run_2"), ("s/run_2", "sweep/run_2"),
             ("sweep/r", "'sweep/r' may be sweep/run or sweep/run_2; type more of it"),
             ("run", "'run' is a run of other and of sweep; name it other/run"),
             ("e", "empty"), ("ru", "'ru' may be other/run, sweep/run or sweep/run_2; type more of it")]  # fmt: skip


@pytest.mark.parametrize("name, meant", SHORTENED)
def test_names_may_be_shortened_while_they_are_unique(typed, name, meant):
    said = typed(f"farmx status {name}")
    assert said == ((2, "", f"farmx: {meant}\n") if "; " in meant else typed(f"farmx status {meant}"))


def test_json_of_several_names_is_a_list_and_of_one_an_object(typed):
    (one,) = told(typed, "farmx status run_2 --json")["runs"]
    several = told(typed, "farmx status run_2 other --json")
    assert one["run"] == "run_2"
    assert [(each["experiment"], [run["run"] for run in each["runs"]]) for each in several] == [
        ("sweep", ["run_2"]), ("other", ["run"]),
    ]  # fmt: skip


# ---------------------------------------------------------------- how long it takes


NOW = 1_800_000_000.0


def a(state: State, *spans: tuple[float, float | None], experiment: str = "sweep", name: str = "") -> Run:
    """A run whose attempts began and ended so long ago."""
    def attempt(number: int, begun: float, ended: float | None) -> Attempt:
        end = None if ended is None else {"started": NOW - begun, "ended": NOW - ended}
        return Attempt("", (number, 0), {"started": NOW - begun}, end)

    made = tuple(attempt(number, *span) for number, span in enumerate(spans, 1))
    name = name or f"{state}-{len(spans)}"
    return Run(name, f"/{experiment}/{name}", experiment, state, {}, made)


TOTALS = [
    ([], 0, None, None),
    ([a(State.DONE, (100, 40))], 60, None, None),
    ([a(State.DONE, (100, 40)), a(State.STAGED)], 60, 60, None),
    ([a(State.DONE, (100, 40)), a(State.RUNNING, (20, None))], 80, 40, NOW + 40),
    ([a(State.DONE, (100, 40)), a(State.RUNNING, (90, None))], 150, None, None),
    ([a(State.DONE, (100, 40)), a(State.RUNNING, (60, None)), a(State.QUEUED)], 120, 60, NOW + 60),
    ([a(State.DONE, (100, 40)), a(State.DONE, (100, 0), name="long"), a(State.RUNNING, (90, None))], 250, 10, NOW + 10),
    ([a(State.RUNNING, (20, None)), a(State.QUEUED)], 20, None, None),
    ([a(State.DONE, (100, 40)), a(State.RUNNING, (90, 80), (20, None)), a(State.QUEUED)], 90, 100, NOW + 100),
    ([a(State.DONE, (100, 40)), *[a(State.RUNNING, (0, None), name=str(each)) for each in range(2)],
      *[a(State.QUEUED, name=f"q{each}") for each in range(4)]], 60, 180, NOW + 180),
    ([a(State.DONE, (100, 40)), a(State.DONE, (9, 2), experiment="b"), a(State.QUEUED), a(State.QUEUED, experiment="b"),
      a(State.RUNNING, (0, None))], 67, 127, NOW + 127),
    ([a(State.DONE, (100, 40)), a(State.QUEUED, experiment="b")], 60, None, None),
    ([a(State.DONE, (100, 40)), a(State.FAILED, (9, 2))], 67, None, None),
]  # fmt: skip


@pytest.mark.parametrize("runs, spent, left, done", TOTALS)
def test_what_is_left_is_told_from_the_mean_of_the_done(runs, spent, left, done):
    found = looking.totals(runs, NOW)
    assert (found["spent_s"], found["left_s"], found["done_at"]) == (spent, left, done)


CLOCKS = [(60, "09:01"), (0, "09:00"), (15 * 3600, "Sat 00:00"), (5 * 86400, "Wed 09:00"),
          (7 * 86400, "2027-01-22 09:00"), (-86400, "2027-01-14 09:00")]  # fmt: skip


@pytest.fixture
def nine(monkeypatch):
    """Where we are it is nine o'clock at NOW."""
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "UTC-1")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("later, told", CLOCKS)
def test_a_point_in_time_says_its_day_unless_it_is_today(nine, later, told):
    assert looking.clock(NOW + later, NOW) == told


LEFT = [
    (a(State.RUNNING, (600, None)), "1 running; 40:00 spent, about 20:00 left, done at 09:20"),
    (a(State.QUEUED), "1 queued; 30:00 spent, about 30:00 left"),
    (a(State.RUNNING, (5400, None)), "1 running; 2:00:00 spent"),
]


@pytest.mark.parametrize("run, told", LEFT)
def test_the_last_line_says_at_what_oclock_runs_are_done_while_one_runs(nine, run, told):
    assert looking.summary([a(State.DONE, (3600, 1800)), run], NOW) == f"2 runs: 1 done, {told}"


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
        process.communicate(timeout=PATIENCE_S)
    host = os.uname().nodename
    assert [(run["run"], run["state"], run["note"]) for run in runs] == [
        ("run", "running", f"on {host}"), ("run_2", "queued", ""),
    ]  # fmt: skip
    assert again == (0, "", "runs  0 again, 2 left alone\nleft  1 running, 1 queued\n")
    assert told(typed, "farmx status wait --json")["counts"] == {"done": 2}


@pytest.mark.parametrize(
    ("state", "ended", "spent"),
    [(State.DONE, NOW - 5.0, 0.0), (State.DONE, NOW + 7.0, 7.0), (State.RUNNING, None, 0.0)],
)
def test_clocks_that_disagree_make_no_time_negative(state, ended, spent):
    end = None if ended is None else {"started": NOW, "ended": ended}
    run = Run("r", "/e/r", "e", state, {}, (Attempt("/e/r/attempts/1.0", (1, 0), {"started": NOW}, end),))
    assert looking.time_spent(run, NOW - 60.0) == spent
    assert looking.totals([run], NOW - 60.0)["spent_s"] == spent


@pytest.mark.parametrize("state", [State.FAILED, State.LOST, State.PREEMPTED, State.UNKNOWN])
def test_an_attempt_that_recorded_no_end_took_until_its_last_sign_of_life(tmp_path, state):
    attempts = [Attempt(str(tmp_path / f"1.{count}"), (1, count), {"started": NOW}, None) for count in range(3)]
    for count, attempt in enumerate(attempts[:2]):
        os.mkdir(attempt.path)
        (tmp_path / f"1.{count}" / "heartbeat").touch()
        os.utime(f"{attempt.path}/heartbeat", (NOW + 60.0, NOW + 60.0 * (count + 1)))
    ran = Run("r", "/e/r", "e", state, {}, tuple(attempts))
    assert looking.time_spent(ran, NOW + 1000.0) == 180.0  # the third tells nothing
    assert looking.time_spent(ran._replace(attempts=tuple(attempts[2:])), NOW + 1000.0) is None
    running = ran._replace(state=State.RUNNING, attempts=tuple(attempts[:2]))
    assert looking.time_spent(running, NOW + 1000.0) == 1060.0


def test_a_negative_span_is_none():
    assert screen.duration(-3.0) == "0:00"


def test_what_others_may_not_list_counts_by_what_they_may_ask_for(tmp_path):
    for name, at in (("heartbeat", 60), ("metrics.jsonl", 90), ("main.log", 120)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    assert looking._last_sign(str(tmp_path)) == 120
    tmp_path.chmod(0o311)
    with ordinary_rights():
        assert looking._last_sign(str(tmp_path)) == 90
    assert looking._last_sign(str(tmp_path / "none")) is None
