"""polls: a farm is not asked again within seconds for what it just said."""

import json
import time
from pathlib import Path

import pytest

from farmx import polls
from farmx.farms.base import Answer
from farmx.spec import Held, State

ONE, TWO = Held("/s", 0, 1, {}), Held("/s", 1, 1, {})
SAID = {("/s", 0): Answer(State.QUEUED, "it's größe\n"), ("/s", 1): Answer(State.UNKNOWN, "no answer")}


class Farm:
    """Counts who asks."""

    def __init__(self):
        self.asked = []

    def __call__(self, helds):
        self.asked.append(list(helds))
        return {(held.submission, held.place): SAID[held.submission, held.place] for held in helds}


@pytest.fixture
def farm(monkeypatch):
    """One that is asked while no time passes: what it said is fresh for seconds only."""
    now = time.time()
    monkeypatch.setattr(polls.time, "time", lambda: now)
    return Farm()


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def kept(cache: str) -> Path:
    (path,) = Path(cache, "polls").iterdir()
    return path


SHAPE = ("submission", "place", "name", "begun", "answer", "at", "took_s")  # of what is kept of an index


def changed(cache: str, **more: object) -> None:
    """Change what is kept of the only index; what is no part of that, in the file itself."""
    told = json.loads(kept(cache).read_text())
    (row,) = told["told"]
    row = {**dict(zip(SHAPE, row)), **{key: each for key, each in more.items() if key in SHAPE}}
    more = {key: each for key, each in more.items() if key not in SHAPE}
    kept(cache).write_text(json.dumps({**told, "told": [list(row.values())], **more}))


def test_the_second_who_asks_gets_what_the_first_was_told(farm, cache):
    first = polls.ask("big", [ONE, TWO], [0, 0], farm, cache)
    assert first == polls.ask("big", [ONE, TWO], [0, 0], farm, cache) == SAID
    assert polls.ask("big", [TWO], [0], farm, cache)["/s", 1] == SAID["/s", 1]
    assert farm.asked == [[ONE, TWO]]


def test_what_was_not_asked_about_is_asked(farm, cache):
    polls.ask("big", [ONE], [0], farm, cache)
    assert polls.ask("big", [ONE, TWO], [0, 0], farm, cache) == SAID
    assert farm.asked == [[ONE], [ONE, TWO]]


def test_what_a_farm_did_not_list_stays_not_listed(farm, cache):
    assert polls.ask("big", [ONE], [0], lambda helds: {}, cache) == {}
    assert polls.ask("big", [ONE], [0], farm, cache) == {}


def test_what_was_not_listed_before_it_was_recorded_as_queued_is_asked_for_again(farm, cache):
    assert polls.ask("big", [ONE], [0], lambda helds: {}, cache) == {}
    named = ONE._replace(name="7_0")
    assert polls.ask("big", [named], [0], farm, cache) == {("/s", 0): SAID["/s", 0]}
    assert polls.ask("big", [named], [0], farm, cache) == {("/s", 0): SAID["/s", 0]}
    assert farm.asked == [[named]]


def test_who_asks_for_others_forgets_nothing_of_what_was_said(farm, cache):
    there = Held("/it's $HOME;\ngröße", 3, 1, {}, "9")
    for _ in range(2):
        assert polls.ask("big", [ONE], [0], farm, cache) == {("/s", 0): SAID["/s", 0]}
        assert polls.ask("big", [there], [0], lambda helds: farm.asked.append(helds) or {}, cache) == {}
    assert farm.asked == [[ONE], [there]]
    assert polls.ask("big", [ONE, there], [0, 0], farm, cache) == {("/s", 0): SAID["/s", 0]}
    assert len(farm.asked) == 2


def test_each_answer_has_its_own_age_and_the_old_ones_are_thrown_away(farm, cache, monkeypatch):
    now = time.time()
    for age_s, helds in ((0, [ONE]), (3, [TWO]), (6, [TWO])):
        monkeypatch.setattr(polls.time, "time", lambda age_s=age_s: now + age_s)
        polls.ask("big", helds, [0], farm, cache)
    assert farm.asked == [[ONE], [TWO]]
    polls.ask("big", [ONE, TWO], [0, 0], farm, cache)
    assert farm.asked == [[ONE], [TWO], [ONE, TWO]]
    monkeypatch.setattr(polls.time, "time", lambda: now + 12)
    polls.ask("big", [ONE], [0], farm, cache)
    assert [row[:2] for row in json.loads(kept(cache).read_text())["told"]] == [["/s", 0]]


def test_what_waited_then_and_has_begun_since_runs(farm, cache):
    polls.ask("big", [ONE, TWO], [1, 1], farm, cache)
    again = polls.ask("big", [ONE, TWO], [2, 2], farm, cache)
    assert again == {("/s", 0): Answer(State.RUNNING), ("/s", 1): SAID["/s", 1]}
    assert len(farm.asked) == 1


def test_another_farm_is_asked_for_itself(farm, cache):
    polls.ask("big", [ONE], [0], farm, cache)
    polls.ask("small", [ONE], [0], farm, cache)
    assert len(farm.asked) == 2


# how old the answer is, how long the farm took -> whether it counts
AGES = [(0, 0, True), (4, 0.1, True), (6, 0.1, False), (6, 1, True), (11, 1, False), (59, 30, True), (61, 30, False),
        (-1, 0, False)]  # fmt: skip


@pytest.mark.parametrize("age_s, took_s, counts", AGES)
def test_a_slow_farm_is_asked_less_often(farm, cache, monkeypatch, age_s, took_s, counts):
    polls.ask("big", [ONE], [0], farm, cache)
    at = json.loads(kept(cache).read_text())["told"][0][SHAPE.index("at")]
    changed(cache, took_s=took_s)
    monkeypatch.setattr(polls.time, "time", lambda: at + age_s)
    polls.ask("big", [ONE], [0], farm, cache)
    assert (len(farm.asked) == 1) == counts


DAMAGE = [{"told": 3}, {"told": [3]}, {"told": [[]]}, {"answer": ["well", ""]}, {"answer": 3}, {"answer": ["done"]},
          {"at": None}, {"took_s": "x"}, {"begun": float("inf")}, {"place": []}, {"farm": "a"}, {"format": 1},
          {"format": 9}]  # fmt: skip


@pytest.mark.parametrize("more", DAMAGE, ids=str)
def test_a_damaged_answer_is_none(farm, cache, more):
    polls.ask("big", [ONE], [0], farm, cache)
    changed(cache, **more)
    assert polls.ask("big", [ONE], [0], farm, cache) == {("/s", 0): SAID["/s", 0]}
    assert len(farm.asked) == 2


def test_without_a_cache_the_farm_is_asked_each_time(farm, tmp_path):
    (tmp_path / "file").touch()
    for cache in (None, str(tmp_path / "file" / "cache")):
        farm.asked.clear()
        polls.ask("big", [ONE], [0], farm, cache)
        polls.ask("big", [ONE], [0], farm, cache)
        assert len(farm.asked) == 2


def test_where_the_answer_cannot_be_kept_the_farm_is_asked_each_time(farm, cache):
    polls.ask("big", [ONE], [0], farm, cache)
    path = kept(cache)
    path.unlink()
    path.mkdir()
    for _ in range(2):
        assert polls.ask("big", [ONE], [0], farm, cache) == {("/s", 0): SAID["/s", 0]}
    assert len(farm.asked) == 3
