"""stages: which stages of a run are done, by what its attempts left, and which the next attempt runs."""

import builtins
import json
from pathlib import Path

import pytest

from farmx import stages
from farmx.stages import Plan

TRAIN, AVG, TEST = {"name": "train"}, {"name": "avg", "form": "f1"}, {"name": "test", "form": "f2"}
ALL = [TRAIN, AVG, TEST]
PLACES = {"train": 0, "avg": 1, "test": 2}


def happened(text: str) -> list[dict]:
    """Events from `train+ avg-`: each begun and ended, + well, - not; `avg` alone was begun and never ended."""
    rows = []
    for word in text.split():
        name = word.rstrip("+-")
        marks = {"place": PLACES[name], **({"form": ALL[PLACES[name]]["form"]} if PLACES[name] else {})}
        rows.append({"event": "started", "stage": name, "pid": 1, **marks})
        if word != name:
            state = "done" if word.endswith("+") else "failed"
            rows.append({"event": "ended", "stage": name, "code": 0, **marks, "state": state})
    return rows


def attempt(run: Path, number: str, rows: list[dict], end: dict | None = None) -> None:
    home = run / "attempts" / number
    home.mkdir(parents=True)
    (home / "events.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if end:
        (home / "end.json").write_text(json.dumps(end))


def plan(run: Path, told: list[dict] = ALL, number: str = "9.0", **asked: dict) -> Plan:
    return stages.plan(str(run), number, {"stages": told, **asked})


PLANS = [
    # what earlier attempts did, the only stages that are asked for, those kept and those run
    ([], [], "", "train avg test"),
    (["train+ avg+ test-"], [], "train avg", "test"),
    (["train-"], [], "", "train avg test"),
    (["train"], [], "", "train avg test"),
    (["train+ avg"], [], "train", "avg test"),
    (["train+ avg-", "avg+ test-"], [], "train avg", "test"),
    (["train+ avg+ test+"], [], "train avg test", ""),
    (["train+ avg+ test+", "train-"], [], "", "train avg test"),
    (["train+ avg+ test+", "train+"], [], "train", "avg test"),
    (["train+ avg+ test+", "avg+"], [], "train avg", "test"),
    (["train+"], ["train"], "train", ""),
    (["train+"], ["test"], "train", "test"),
    (["train+"], ["train", "avg"], "train", "avg"),
    ([], ["test"], "", "test"),
    ([], ["test", "train"], "", "train test"),
    (["test+"], [], "test", "train avg test"),
    (["train+"], ["gone"], "train", ""),
]


@pytest.mark.parametrize(("before", "asked", "kept", "run"), PLANS)
def test_an_attempt_begins_at_the_first_stage_that_is_not_done(before, asked, kept, run, tmp_path):
    for count, text in enumerate(before, 1):
        attempt(tmp_path, f"{count}.0", happened(text))
    made = plan(tmp_path, only={"9": asked} if asked else {})
    assert [ALL[place]["name"] for place in sorted(made.kept)] == kept.split()
    assert [ALL[place]["name"] for place in made.run] == run.split()


def test_what_is_asked_for_again_runs_whether_it_is_done_or_not(tmp_path):
    attempt(tmp_path, "1.0", happened("train+ avg+ test-"))
    assert plan(tmp_path, again={"9": ["avg", "train"]}) == Plan(tuple(ALL), frozenset({0, 1}), (0, 1))
    assert plan(tmp_path, again={"8": ["train"]}).run == (2,)
    assert plan(tmp_path, again=3, only=None).run == (2,)
    assert plan(tmp_path, again={"9": 3}, only={"9": None}).run == (2,)


REACHED = [  # what attempts did -> the stage that was still to come after each
    ([], []),
    (["train-", "train+", "avg-", "avg+ test-", "test+"], ["train", "avg", "avg", "test", "test"]),
    (["train+ avg+ test-", "train", "train+ avg"], ["test", "train", "avg"]),
    (["train-"] * 20, ["train"] * 20),
]


@pytest.mark.parametrize(("before", "reached"), REACHED)
def test_the_stage_that_attempts_had_reached_is_told_with_one_look_at_each(before, reached, tmp_path, monkeypatch):
    numbers = [f"1.{count}" for count in range(len(before))]
    for number, text in zip(numbers, before):
        attempt(tmp_path, number, happened(text))
    opened: list[str] = []
    real = open
    monkeypatch.setattr(builtins, "open", lambda path, **more: opened.append(path) or real(path, **more))
    assert [ALL[place]["name"] for place in stages.reached(str(tmp_path), numbers, ALL)] == reached
    assert opened == [f"{tmp_path}/attempts/{number}/events.jsonl" for number in numbers]


def test_what_another_attempt_was_asked_for_is_its_own(tmp_path):
    assert plan(tmp_path, only={"8": ["test"]}).run == (0, 1, 2)
    assert plan(tmp_path, only={"9": ["test"]}, number="9.3").run == (2,)


def test_attempts_count_in_the_order_of_their_numbers_and_only_those_before(tmp_path):
    attempt(tmp_path, "10.0", happened("train-"))
    attempt(tmp_path, "9.1", happened("train+ avg+ test+"))
    attempt(tmp_path, "9.0", happened("train+"))
    attempt(tmp_path, "2.0", happened("train-"))
    assert plan(tmp_path, number="9.1").kept == {0}
    assert plan(tmp_path, number="10.0").kept == {0, 1, 2}
    assert plan(tmp_path, number="11.0").kept == frozenset()


CHANGED = [
    # the stages of today, those of them that are done after all three were
    ([TRAIN, AVG, TEST], {0, 1, 2}),
    ([{"name": "fit"}, {"name": "mean", "form": "f1"}, TEST], {0, 1, 2}),
    ([TRAIN, {"name": "avg", "form": "new"}, {"name": "test", "form": "newer"}], {0}),
    ([TRAIN, AVG, {"name": "test", "form": "new"}], {0, 1}),
    ([TRAIN, AVG], {0, 1}),
    ([TRAIN, AVG, TEST, {"name": "more", "form": "f3"}], {0, 1, 2}),
]


@pytest.mark.parametrize(("told", "done"), CHANGED)
def test_a_changed_stage_is_not_done_and_a_renamed_one_is(told, done, tmp_path):
    attempt(tmp_path, "1.0", happened("train+ avg+ test+"))
    assert plan(tmp_path, told).kept == done


def test_a_stage_that_was_changed_and_changed_back_is_run_again(tmp_path):
    attempt(tmp_path, "1.0", happened("train+ avg+"))
    rows = [{**row, "form": "new"} for row in happened("avg+")]
    attempt(tmp_path, "2.0", rows)
    assert plan(tmp_path).kept == {0}


def test_a_run_of_one_stage_that_got_more_keeps_it_by_how_its_attempt_ended(tmp_path):
    rows = [{"event": "started", "stage": "main"}, {"event": "ended", "stage": "main", "code": 0}]
    attempt(tmp_path, "1.0", rows, {"state": "interrupted"})
    assert plan(tmp_path).kept == frozenset()
    attempt(tmp_path, "2.0", rows, {"state": "done"})
    assert plan(tmp_path).kept == {0}


def test_one_stage_is_run_without_looking(tmp_path):
    assert plan(tmp_path / "gone", [TRAIN]) == Plan((TRAIN,), frozenset(), (0,))
    assert plan(tmp_path, [TRAIN]).told({0: "done"}) is None
    assert plan(tmp_path, [TRAIN]).marks(0) == {}


def test_torn_and_foreign_lines_are_no_events(tmp_path):
    attempt(tmp_path, "1.0", happened("train+"))
    path = tmp_path / "attempts/1.0/events.jsonl"
    path.write_bytes(b"\xff\n[1]\n3\n" + path.read_bytes() + b'{"event": "started", "pla')
    (tmp_path / "attempts/2.0").mkdir()
    assert plan(tmp_path).kept == {0}


TOLD = [
    # kept before, how those that ran ended, what end.json says of each
    (set(), {0: "done", 1: "failed"}, ["done", "failed", "left"]),
    ({0}, {1: "done", 2: "done"}, ["kept", "done", "done"]),
    ({0, 1, 2}, {1: "done"}, ["kept", "done", "left"]),
    ({0, 1}, {}, ["kept", "kept", "left"]),
    ({0, 1, 2}, {0: "interrupted"}, ["interrupted", "left", "left"]),
    (set(), {2: "done"}, ["left", "left", "done"]),
]


@pytest.mark.parametrize(("kept", "ended", "states"), TOLD)
def test_the_end_tells_how_each_stage_stands(kept, ended, states, tmp_path):
    told = Plan(tuple(ALL), frozenset(kept), ()).told(ended)
    assert told == [{**stage, "state": state} for stage, state in zip(ALL, states)]
    assert stages.standing(str(tmp_path), ALL, {"stages": told}) == [state in ("done", "kept") for state in states]


STANDING = [
    # the stages of run.json, its last end, whether each is done; the events say that train and avg are
    ([TRAIN], {"state": "done"}, [True]),
    ([TRAIN], {"state": "failed"}, [False]),
    ([TRAIN], None, [False]),
    (ALL, None, [True, True, False]),
    (ALL, {"state": "interrupted"}, [True, True, False]),
    (ALL, {"state": "done", "stages": [TRAIN, 3, {**TEST, "state": "done"}]}, [False, False, True]),
]


@pytest.mark.parametrize(("told", "end", "done"), STANDING)
def test_where_the_end_does_not_say_it_the_events_do(told, end, done, tmp_path):
    attempt(tmp_path, "1.0", happened("train+ avg+ test"))
    assert stages.standing(str(tmp_path), told, end) == done
