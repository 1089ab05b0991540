"""polls: a farm is not asked again within seconds for what it just said."""

import json
from pathlib import Path

import pytest

from farmx import polls
from farmx.farms.base import Answer
from farmx.spec import Held, State

ONE, TWO = Held("/s", 0, 1, {}), Held("/s", 1, 1, {})
SAID = {("/s", 0): Answer(State.QUEUED, "it's größe\n"), ("/s", 1): Answer(State.RUNNING)}


class Farm:
    """Counts who asks."""

    def __init__(self):
        self.asked = []

    def __call__(self, helds):
        self.asked.append(list(helds))
        return {(held.submission, held.place): SAID[held.submission, held.place] for held in helds}


@pytest.fixture
def farm():
    return Farm()


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def kept(cache: str) -> Path:
    (path,) = Path(cache, "polls").iterdir()
    return path


def changed(cache: str, **more: object) -> None:
    told = json.loads(kept(cache).read_text())
    kept(cache).write_text(json.dumps({**told, **more}))


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
    at = json.loads(kept(cache).read_text())["at"]
    changed(cache, took_s=took_s)
    monkeypatch.setattr(polls.time, "time", lambda: at + age_s)
    polls.ask("big", [ONE], [0], farm, cache)
    assert (len(farm.asked) == 1) == counts


@pytest.mark.parametrize("more", [{"asked": 3}, {"answers": [["/s", 0, "well", ""]]}, {"at": None}, {"format": 9}])
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
