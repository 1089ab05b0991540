"""needs: one resource under two spellings is one resource."""

import pytest

from farmx import needs


@pytest.mark.parametrize(
    ("key", "plain"), [("mem", "mem"), ("cpus-per-task", "cpus_per_task"), ("cpus_per_task", "cpus_per_task"), ("", "")]
)
def test_a_dash_is_an_underscore(key, plain):
    assert needs.plain(key) == plain


def test_what_is_not_set_is_not_asked_for():
    assert needs.plainly({"mem-per-cpu": "1G", "time": None, "hold": False}) == {"mem_per_cpu": "1G", "hold": False}


def test_the_spelling_is_kept_beside_the_plain_one():
    assert needs.spelled(["mem-per-cpu", "time"]) == {"mem_per_cpu": "mem-per-cpu", "time": "time"}


@pytest.mark.parametrize(
    ("resources", "own", "both"),
    [
        ({"mem": 1}, {}, {"mem": 1}),
        ({"mem": 1, "a-b": 2}, {"a_b": 3}, {"mem": 1, "a_b": 3}),
        ({"mem": 1, "a_b": 2}, {"a-b": None, "it's": "$HOME;"}, {"mem": 1, "a-b": None, "it's": "$HOME;"}),
        ({"mem": 1}, {"mem": None}, {"mem": None}),
    ],
)
def test_what_is_laid_over_stands_in_place_of_what_was_and_nothing_stays_nothing(resources, own, both):
    before = dict(resources)
    assert needs.over(resources, own) == both
    assert resources == before


@pytest.mark.parametrize(
    ("resources", "asked", "merged"),
    [
        ({"mem": 1}, {}, {"mem": 1}),
        ({"mem": 1, "a-b": 2}, {"a_b": 3}, {"mem": 1, "a_b": 3}),
        ({"mem": 1, "a_b": 2}, {"a-b": None}, {"mem": 1}),
        ({}, {"mem": 2, "time": None}, {"mem": 2}),
    ],
)
def test_what_is_asked_for_stands_in_place_of_what_was(resources, asked, merged):
    before = dict(resources)
    assert needs.merged(resources, asked) == merged
    assert resources == before
