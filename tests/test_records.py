"""records: what run directories say, and what is remembered of those that have ended."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from attempts import OTHER
from launching import Place

from farmx import layout, records, runner, status
from farmx.errors import RecordError
from farmx.farms import local
from farmx.spec import Job, State


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def ended(run: str, state: str = "done", number: str = "1.0", ago_s: float = 1000.0) -> None:
    """An attempt of a run that ended so, so long ago."""
    attempt, owner = runner.take(run, number, {})
    record = runner.end_record({**owner, "started": time.time() - ago_s - 1}, state)
    layout.write_json(os.path.join(attempt, layout.END), {**record, "ended": time.time() - ago_s})


def look(place: Place, cache: str | None) -> dict[str, State]:
    return {run.name: run.state for run in status.read(str(place.experiment.parent), place.experiment.name, cache).runs}


@pytest.fixture
def opened(monkeypatch):
    """What was opened below a run's directory since."""
    seen: list[str] = []
    read = layout.read_json
    names = layout.names
    monkeypatch.setattr(layout, "read_json", lambda path, newest: seen.append(path) or read(path, newest))
    monkeypatch.setattr(layout, "names", lambda path: seen.append(path) or names(path))
    return seen


def of_runs(opened: list[str], place: Place) -> list[str]:
    paths = [os.path.relpath(path, place.experiment) for path in opened]
    return sorted(path for path in paths if not path.startswith(".") and os.sep in path)


def test_a_second_look_opens_nothing_of_what_ended_and_two_of_what_lives(place, cache, opened):
    for name in ("a", "b"):
        ended(place.run(name=name))
    live = place.run(name="live")
    runner.take(live, "1.0", {})
    first = look(place, cache)
    assert first == {"a": State.DONE, "b": State.DONE, "live": State.RUNNING}
    opened.clear()
    assert look(place, cache) == first
    assert of_runs(opened, place) == ["live/attempts"]


@pytest.mark.parametrize("lived", ["it waited", "it ran", "it had just ended"])
def test_what_was_looked_at_before_its_end_was_old_is_opened_once_more(place, cache, opened, lived):
    run = place.run(name="a")
    if lived != "it waited":
        attempt, owner = runner.take(run, "1.0", {})
    if lived == "it had just ended":
        layout.write_json(os.path.join(attempt, layout.END), runner.end_record(owner, "done"))
    look(place, cache)
    if lived == "it waited":
        attempt, owner = runner.take(run, "1.0", {})
    record = runner.end_record({**owner, "started": time.time() - 1001}, "done")
    layout.write_json(os.path.join(attempt, layout.END), {**record, "ended": time.time() - 1000})
    if lived == "it had just ended":  # its end stands as it was read
        _age(cache)
    assert look(place, cache) == {"a": State.DONE}
    opened.clear()
    assert look(place, cache) == {"a": State.DONE}
    assert of_runs(opened, place) == []


def _age(cache: str) -> None:
    """As if what is remembered had been read a thousand seconds ago."""
    (shelf,) = Path(cache, "runs").iterdir()
    told = json.loads(shelf.read_text())
    for *_, attempts, _, _ in told["runs"].values():
        for _, _, end in attempts:
            end["ended"] -= 1000
    shelf.write_text(json.dumps(told))


def test_what_is_remembered_is_what_was_read(place, cache):
    ended(place.run(name="a", hparams={"lr": 0.1, "name": "größe \n"}), "failed")
    ended(str(place.experiment / "a"), "done", "2.1")
    plain = status.read(str(place.experiment.parent), place.experiment.name)
    for _ in range(2):
        kept = status.read(str(place.experiment.parent), place.experiment.name, cache)
        assert [run._replace(attempts=()) for run in kept.runs] == [run._replace(attempts=()) for run in plain.runs]
        told = [(attempt.path, attempt.number, attempt.started, attempt.end) for attempt in kept.runs[0].attempts]
        assert told == [(each.path, each.number, each.started, each.end) for each in plain.runs[0].attempts]


def swept(experiment: Path, cache: str | None = None) -> list[dict]:
    return [dict(run.swept) for run in status.read(str(experiment.parent), experiment.name, cache).runs]


def test_swept_resources_are_read_as_data(project, cache):
    names = "[\"it's $HOME; größe\", '1']"
    project.sweep(f"{{n: 1, SUBMIT_JOB.NODES: [1, 2.5], SUBMIT_JOB.PARTITION: {names}, RUNX.TAG: [a]}}")
    project.ok("sweep.yml", "-i")
    expected = [{"nodes": nodes, "partition": name} for nodes in (1, 2.5) for name in ("it's $HOME; größe", "1")]
    assert [swept(project.experiment, each) for each in (None, cache, cache)] == [expected] * 3
    done = project.commands("sweep", "--json", cwd=project.path, env=project.env, program="sumx")
    told = [(row["nodes"], row["partition"]) for row in json.loads(done.out)]
    assert sorted(told) == sorted(tuple(each.values()) for each in expected)


COMMANDS = {
    "words": ("sh note.sh", "sh note.sh"),
    "a space": ("sh note.sh 'it''s  $HOME'", "sh note.sh its  $HOME"),
    "shell": ("true && sh note.sh", "true && sh note.sh"),
    "stages": ("{a: 'sh note.sh [n]', b: 'true'}", "sh note.sh"),
    "a template": ("{a: 'sh note.sh x{n}', b: 'true'}", "sh note.sh x{n}"),
}


@pytest.mark.parametrize(("cmd", "command"), COMMANDS.values(), ids=COMMANDS)
def test_a_run_knows_its_command(project, cache, cmd, command):
    project.sweep("{n: [1]}", cmd)
    project.ok("sweep.yml", "-i")
    looks = [status.read(str(project.root), "sweep", each) for each in (None, cache, cache)]
    assert [[run.command for run in each.runs] for each in looks] == [[command]] * 3


def test_runs_of_a_command_that_changed_are_told_apart(project):
    for cmd in ("sh note.sh", "sh note.sh --fast"):
        project.sweep("{n: [1]}", cmd)
        project.ok("sweep.yml", "-i")
    done = project.commands("sweep", "--json", cwd=project.path, env=project.env, program="sumx")
    assert [row["command"] for row in json.loads(done.out)] == ["sh note.sh", "sh note.sh --fast"]


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (None, {}),
        ("x", {}),
        ({}, {}),
        ({"swept": None}, {}),
        ({"swept": [1]}, {}),
        ({"swept": {"nodes": {"n": "1"}, "TAG": "a", "x": None}}, {"nodes": 1, "x": None}),
        ({"swept": {"nodes": {"n": "one"}, "x": {"n": 3}, "y": {}}}, {"nodes": {"n": "one"}, "x": {"n": 3}, "y": {}}),
        ({"swept": {"nodes": {"n": "inf"}, "x": {"n": "1e-05"}}}, {"nodes": {"n": "inf"}, "x": 1e-05}),
    ],
)
def test_an_identity_that_says_nothing_of_use_does_no_harm(place, identity, expected):
    path = Path(place.run(name="a"), layout.RUN)
    path.write_text(json.dumps({**json.loads(path.read_text()), "identity": identity}))
    assert swept(place.experiment) == [expected]


def test_a_memory_of_an_earlier_form_is_no_memory(place, cache, opened):
    ended(place.run(name="a"))
    look(place, cache)
    (shelf,) = Path(cache, "runs").iterdir()
    shelf.write_text(json.dumps({**json.loads(shelf.read_text()), "format": 2}))
    opened.clear()
    look(place, cache)
    assert f"a/{layout.RUN}" in of_runs(opened, place)


CHANGES = {
    "deleted": lambda run, place: shutil.rmtree(run),
    "renamed": lambda run, place: os.rename(run, f"{run}-new"),
    "made anew under its name": lambda run, place: (os.rename(run, f"{run}-old"), place.run(name="a")),
    "queued again": lambda run, place: local.announce(place.submission(Job(run, "2.0"))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_is_read_anew(place, cache, change):
    run = place.run(name="a")
    ended(run)
    look(place, cache)
    CHANGES[change](run, place)
    assert look(place, cache) == look(place, None)


def _same_inode(cache: str, run: str) -> None:
    """As if the directory that was read had had the inode of the one that is there now."""
    (shelf,) = Path(cache, "runs").iterdir()
    told = json.loads(shelf.read_text())
    told["runs"][os.path.basename(run)][0] = os.stat(run).st_ino
    shelf.write_text(json.dumps(told))


@pytest.mark.parametrize("state", ["done", "failed"])
@pytest.mark.parametrize("looks", [1, 2])
def test_a_run_restored_from_a_backup_is_read_anew_though_it_has_the_inode_of_the_deleted_one(
    place, cache, opened, state, looks
):
    run, other = place.run(name="a", hparams={"n": 1}), place.run(name="b", hparams={"n": 2})
    backup = place.experiment.parent.parent / "backup"
    shutil.copytree(run, backup, symlinks=True)
    for each in (run, other):
        ended(each, state)
    os.utime(place.experiment, (1, 1))
    for _ in range(looks):
        look(place, cache)
    shutil.rmtree(run)
    shutil.copytree(backup, run, symlinks=True)
    _same_inode(cache, run)
    opened.clear()
    assert look(place, cache) == {"a": State.STAGED, "b": State(state)}
    assert f"b/{layout.RUN}" not in of_runs(opened, place)


def test_a_look_at_one_run_checks_no_other(place, cache):
    run, other = place.run(name="a"), place.run(name="b")
    backup = place.experiment.parent.parent / "backup"
    shutil.copytree(run, backup, symlinks=True)
    for each in (run, other):
        ended(each)
    look(place, cache)
    shutil.rmtree(run)
    shutil.copytree(backup, run, symlinks=True)
    os.utime(place.experiment, (1, 1))
    _same_inode(cache, run)
    for _ in range(2):
        status.of(str(place.experiment), ["b"], cache)
    assert look(place, cache) == {"a": State.STAGED, "b": State.DONE}


def test_a_run_whose_attempts_were_deleted_and_that_was_launched_again_is_read_anew(place, cache):
    run = place.run(name="it's größe")
    for name, state in (("first", "done"), ("second", "failed")):
        handed = place.submission(Job(run, "1.0"), name=name)
        job = local.announce(handed)
        ended(run, state)
        local.finish(handed, job)
        assert look(place, cache) == {"it's größe": State(state)}
        shutil.rmtree(Path(run, layout.ATTEMPTS))


@pytest.mark.parametrize("looked_meanwhile", [True, False])
def test_an_attempt_that_a_pool_made_and_left_is_read(place, cache, looked_meanwhile):
    run = place.run(name="a")
    ended(run, "failed")
    look(place, cache)
    handed = place.submission(Job(run, "2.0"))
    job = local.announce(handed)
    if looked_meanwhile:
        assert look(place, cache) == {"a": State.QUEUED}
    ended(run, "done", "2.0")
    local.finish(handed, job)
    assert look(place, cache) == {"a": State.DONE}


def test_a_look_at_one_run_forgets_none_of_the_others(place, cache, opened):
    for name in ("a", "b"):
        ended(place.run(name=name))
    look(place, cache)
    status.of(str(place.experiment), ["a"], cache)
    shutil.rmtree(place.experiment / "a")
    opened.clear()
    assert look(place, cache) == {"b": State.DONE}
    assert of_runs(opened, place) == []
    (shelf,) = Path(cache, "runs").iterdir()
    assert list(json.loads(shelf.read_text())["runs"]) == ["b"]


def test_what_ended_just_now_is_looked_at_again(place, cache):
    run = place.run(name="a")
    ended(run, ago_s=records.SETTLED_S - 30)
    look(place, cache)
    ended(run, "failed", "2.0")
    assert look(place, cache) == {"a": State.FAILED}


@pytest.mark.parametrize("state", ["failed", "interrupted", "pruned"])
def test_what_a_scheduler_may_run_again_is_opened_once_it_did(place, cache, opened, state):
    """As by scontrol requeue, however long ago it ended: what runs is never told to have ended."""
    run = place.run(name="it's größe")
    ended(run, state)
    _touch(run, 1000)
    assert look(place, cache) == {"it's größe": State(state)}
    opened.clear()
    assert look(place, cache) == {"it's größe": State(state)}
    assert of_runs(opened, place) == []
    runner.take(run, "1.1", {})
    assert look(place, cache) == {"it's größe": State.RUNNING}
    ended(run, state, "1.2")
    assert look(place, cache) == {"it's größe": State(state)}


def test_what_was_begun_again_while_it_was_read_is_opened_again(place, cache, monkeypatch):
    run = place.run(name="a")
    ended(run, "failed")
    _touch(run, 1000)
    read = records.read

    def meanwhile(*given: str) -> records.Reading | None:
        found = read(*given)
        runner.take(run, "1.1", {})
        return found

    monkeypatch.setattr(records, "read", meanwhile)
    assert look(place, cache) == {"a": State.FAILED}
    assert look(place, cache) == {"a": State.RUNNING}


@pytest.mark.parametrize("ago_s", [records.SETTLED_S - 30, 30 - records.SETTLED_S])
def test_attempts_that_changed_just_now_by_the_clock_of_their_disk_are_looked_at_again(place, cache, ago_s):
    """The next change may be at the same moment by that clock."""
    run = place.run(name="a")
    ended(run, "interrupted")
    _touch(run, ago_s)
    (touched,) = {os.stat(Path(run, layout.ATTEMPTS)).st_mtime_ns}
    look(place, cache)
    runner.take(run, "1.1", {})
    os.utime(Path(run, layout.ATTEMPTS), ns=(touched, touched))
    assert look(place, cache) == {"a": State.RUNNING}


def _touch(run: str, ago_s: float) -> None:
    """As if nothing had come into the run's attempts for so long."""
    os.utime(Path(run, layout.ATTEMPTS), (time.time() - ago_s,) * 2)


BROKEN = ["", "{", "[]", "null", '{"format": 99}', '{"format": 1, "experiment": "x", "runs": {}}', "RUNS", "\xff"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_damaged_memory_is_no_memory(place, cache, text):
    ended(place.run(name="a"))
    first = look(place, cache)
    (shelf,) = Path(cache, "runs").iterdir()
    kept = json.loads(shelf.read_text())
    rows = ({}, [], {"a": []}, {"a": [1, 2, 3, 4, 5, 6]}, {"a": None})
    for runs in rows if text == "RUNS" else [None]:
        shelf.write_text(json.dumps({**kept, "runs": runs}) if text == "RUNS" else text)
        assert look(place, cache) == first
        assert json.loads(shelf.read_text()) == kept


def test_a_cache_that_cannot_be_written_is_no_cache(place, tmp_path):
    ended(place.run(name="a"))
    (tmp_path / "file").touch()
    assert look(place, str(tmp_path / "file" / "cache")) == {"a": State.DONE}


def test_a_run_of_runx_is_always_read(place, cache, opened):
    place.experiment.joinpath("old").mkdir()
    place.experiment.joinpath("old", layout.RUNX_METRICS).touch()
    assert look(place, cache) == look(place, cache) == {"old": State.UNKNOWN}


def test_an_unreadable_run_is_told_at_every_look(place, cache):
    Path(place.run(name="a"), layout.RUN).write_text("{")
    for _ in range(2):
        found = status.read(str(place.experiment.parent), place.experiment.name, cache)
        assert [problem.rpartition("/")[2].partition(":")[0] for problem in found.problems] == ["run.json"]


COMMAND = {"executor": "command"}
SOUND = [{}, {"farm": None, "node": None, "pack": None, "submitted": None}, {"submitted": 5},
         {"pack": {"slots": 1, "each": 1}}, {**COMMAND, "ask": {}}, {**COMMAND, "ask": None},
         {"executor": "slurm", "ask": 5},
         {**COMMAND, "ask": {"line": "x", "words": {}, "status": ["a", "it's"], "cancel": None}}]  # fmt: skip
UNSOUND = [
    *({name: wrong} for name in ("farm", "executor", "name", "user", "after") for wrong in (5, [], {}, True)),
    *({name: wrong} for name in ("node", "resources", "cluster", "pack") for wrong in (5, [], "x", True)),
    *({"pack": wrong} for wrong in ({}, {"slots": 1}, {"slots": 0, "each": 1}, {"slots": 1, "each": True})),
    *({"submitted": wrong} for wrong in ("x", [], 1e12, -1e12, float("inf"), float("nan"))),
    *({**COMMAND, "ask": wrong} for wrong in (5, [], "x", {"line": 5}, {"words": []}, {"status": "x"}, {"status": [5]},
                                              {"cancel": {"a": 1}}, {"cancel": [["x"]]})),
]  # fmt: skip


@pytest.mark.parametrize("told", SOUND, ids=str)
def test_a_record_of_a_submission_says_what_it_says_or_nothing(tmp_path, told):
    (tmp_path / layout.JOB).write_text(json.dumps({"format": 1, **told}))
    assert records.job(str(tmp_path)) == {"format": 1, **told}


@pytest.mark.parametrize("told", UNSOUND, ids=str)
def test_a_record_of_a_submission_that_says_something_else_is_none(tmp_path, told):
    (tmp_path / layout.JOB).write_text(json.dumps({"format": 1, **told}))
    with pytest.raises(RecordError) as caught:
        records.job(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}/job.json: {OTHER}"
