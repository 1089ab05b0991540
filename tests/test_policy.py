"""policy: what RETRY gives a run, by its causes and resources."""

import pytest

from farmx import policy
from farmx.policy import Rule, Verdict

RULES = [
    ("oom", 0, Rule(0)),
    ("error", 4, Rule(4)),
    ("oom", "x1.5", Rule(3, ("mem", "mem_per_cpu", "mem_per_gpu"), 1.5)),
    ("time", "x2", Rule(3, ("time",), 2.0)),
    ("oom", {"mem": "x1.5", "max": "128G"}, Rule(3, ("mem",), 1.5, "128G")),
    ("node_fail", {"gpus": "x2", "max": 8, "times": 1}, Rule(1, ("gpus",), 2.0, 8)),
    ("error", {"times": 0, "it's $HOME": "x3"}, Rule(0, ("it's $HOME",), 3.0)),
]


@pytest.mark.parametrize(("cause", "value", "rule"), RULES)
def test_a_cause_is_given_attempts_a_factor_or_both(cause, value, rule):
    assert policy.rule(cause, value) == rule


COUNT = ("{} is not allowed; it must be a whole number of further attempts, a factor such as x1.5, or a mapping such "
         "as {{mem: x1.5, max: 128G}}")  # fmt: skip
FACTOR = "{} is not allowed; it must be a factor above 1, such as x1.5"
MOST = "{} is not allowed; it must be an amount such as 128G, 2-00:00:00 or 16"
TIMES = "{} is not allowed; it must be a whole number of attempts"
GROWS = "{} is to grow; name one resource: {{mem: x1.5, max: 128G}}"
WRONG = [
    *[("oom", value, COUNT.format(repr(value)), "")
      for value in (True, -1, 1.5, "", "x", "x1", "x0.5", "2x", "x1.5G", "xinf", "x-2", "x 2", "X2", [3])],
    ("oom", None, COUNT.format("nothing"), ""),
    ("error", "x2", "'x2': error is about no resource; write {mem: x2}, or whichever is to grow", ""),
    ("oom", {}, GROWS.format("no resource"), ""),
    ("oom", {"max": "1G", "times": 1}, GROWS.format("no resource"), ""),
    ("oom", {"mem": "x2", "it's": "x2"}, GROWS.format("mem, it's"), ""),
    ("oom", {"mem": 2}, FACTOR.format("2"), "mem"),
    ("oom", {"mem": "x1"}, FACTOR.format("'x1'"), "mem"),
    ("oom", {"mem": None}, FACTOR.format("nothing"), "mem"),
    *[("oom", {"mem": "x2", "max": value}, MOST.format(repr(value)), "max") for value in (0, -1, True, ["1G"], "1X")],
    ("oom", {"mem": "x2", "max": None}, MOST.format("nothing"), "max"),
    *[("oom", {"mem": "x2", "times": value}, TIMES.format(repr(value)), "times") for value in (True, "2", -1, 1.0)],
]  # fmt: skip


@pytest.mark.parametrize(("cause", "value", "problem", "key"), WRONG)
def test_anything_else_is_wrong_and_says_what_it_may_be_and_which_key_it_is(cause, value, problem, key):
    with pytest.raises(policy.Wrong) as wrong:
        policy.rule(cause, value)
    assert (str(wrong.value), wrong.value.key) == (problem, key)


SCALED = [
    ("64G", 1.5, "96G"),
    ("1G", 1.5, "1536M"),
    ("1.5G", 2, "3G"),
    ("3g", 1.1, "3380m"),
    ("1T", 1.5, "1536G"),
    ("5GB", 1.5, "7680MB"),
    ("1Gi", 1.5, "1536Mi"),
    ("64000M", 1.5, "96000M"),
    ("3K", 1.5, "5K"),
    ("128", 1.5, "192"),
    (64000, 1.5, 96000),
    (3, 1.1, 4),
    (100, 1.1**2, 121),
    (100, 1.1, 110),
    (1.5, 2, 3.0),
    (90, 2, 180),
    ("4:00:00", 2, "8:00:00"),
    ("04:00:00", 2, "8:00:00"),
    ("2-00:00:00", 1.5, "3-00:00:00"),
    ("1-12:30:00", 2, "3-01:00:00"),
    ("2-12", 1.5, "3-18"),
    ("1-00", 1.3, "1-08"),
    ("1-00:30", 2, "2-01:00"),
    ("90:30", 2, "181:00"),
    ("0:01", 1.5, "0:02"),
    ("23:59:59", 2, "47:59:58"),
]


@pytest.mark.parametrize(("value", "factor", "wanted"), SCALED)
def test_an_amount_grows_and_is_spelled_as_it_was(value, factor, wanted):
    assert policy.scaled(value, factor) == wanted
    assert type(policy.scaled(value, factor)) is type(wanted)


CAPPED = [("64G", 4, "100G", "100G"), ("64G", 2, "128G", "128G"), ("64G", 2, "1T", "128G"), ("1G", 2, "3000M", "2G"),
          ("4:00:00", 9, "1-00:00:00", "1-00:00:00"), ("60", 9, 120, 120), (2, 3, 4, 4), (2, 3, "8", 6)]  # fmt: skip


@pytest.mark.parametrize(("value", "factor", "most", "wanted"), CAPPED)
def test_it_grows_to_the_most_that_is_allowed(value, factor, most, wanted):
    assert policy.scaled(value, factor, most) == wanted


MISFITS = [
    ({"oom": 3, "error": 1}, {}, None),
    ({"oom": "x2"}, {"mem": "1G"}, None),
    ({"oom": "x2"}, {"mem-per-cpu": "1G"}, None),
    ({"oom": "x2"}, {"mem": None}, "oom: RESOURCES has no mem that could grow; add it"),
    ({"time": "x2"}, {"mem": "1G"}, "time: RESOURCES has no time that could grow; add it"),
    ({"time": "x2"}, {"time": "UNLIMITED"}, "time: RESOURCES.time is 'UNLIMITED', which cannot grow; write an amount"),
    ({"oom": "x2"}, {"mem": ["1G"]}, "oom: RESOURCES.mem is ['1G'], which cannot grow; write an amount"),
    ({"oom": "x2"}, {"mem": 0}, "oom: RESOURCES.mem is 0, which cannot grow; write an amount"),
    ({"error": {"$(x); é": "x2"}}, {"mem": 1}, "error: RESOURCES has no $(x); é that could grow; add it"),
    ({"oom": {"mem": "x2", "max": "128G"}}, {"mem": 128},
     "oom: max 128G and RESOURCES.mem 128 cannot be compared; write both alike"),
    ({"oom": {"mem": "x2", "max": "32G"}}, {"mem": "64G"}, "oom: max 32G is below RESOURCES.mem, which is 64G"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "resources", "problem"), MISFITS)
def test_resources_that_retry_does_not_fit_are_told(told, resources, problem):
    assert policy.misfit(told, resources) == problem


RETRY = {"oom": {"mem": "x1.5", "max": "128G"}, "node_fail": 2, "time": "x2", "error": 0}
HAS = {"mem": "64G", "time": "4:00:00", "partition": "it's $HOME"}
VERDICTS = [
    ([], Verdict(False, "")),
    ([None], Verdict(False, "")),
    (["error"], Verdict(False, "")),
    (["oom", None], Verdict(False, "")),
    (["oom"], Verdict(True, "oom, mem 96G", {**HAS, "mem": "96G"})),
    (["oom", "oom"], Verdict(True, "oom, mem 128G", {**HAS, "mem": "128G"})),
    (["oom"] * 3, Verdict(False, "oom: mem is 128G already, the most that RETRY allows")),
    (["oom"] * 9, Verdict(False, "oom: 3 further attempts were made (RETRY)")),
    (["node_fail"], Verdict(True, "node_fail", HAS)),
    (["oom", "node_fail"], Verdict(True, "node_fail", {**HAS, "mem": "96G"})),
    (["oom", "time"], Verdict(True, "time, time 8:00:00", {**HAS, "mem": "96G", "time": "8:00:00"})),
    (["node_fail"] * 2, Verdict(True, "node_fail", HAS)),
    (["node_fail"] * 3, Verdict(False, "node_fail: 2 further attempts were made (RETRY)")),
    (["time"] * 3, Verdict(True, "time, time 32:00:00", {**HAS, "time": "32:00:00"})),
    (["time"] * 4, Verdict(False, "time: 3 further attempts were made (RETRY)")),
]


@pytest.mark.parametrize(("causes", "verdict"), VERDICTS)
def test_the_verdict_follows_from_the_causes_of_all_attempts(causes, verdict):
    assert policy.verdict(RETRY, causes, HAS) == verdict


@pytest.mark.parametrize(("causes", "verdict"), VERDICTS)
def test_without_retry_nothing_is_attempted_again(causes, verdict):
    assert policy.verdict({}, causes, HAS) == Verdict(False, "")


def test_what_cannot_grow_is_not_attempted_again_and_says_why():
    why = "oom: RESOURCES has no mem that could grow; add it"
    assert policy.verdict(RETRY, ["oom"], {"partition": "a"}) == Verdict(False, why)
    assert policy.verdict(RETRY, ["node_fail"], {}) == Verdict(True, "node_fail", {})


def test_whoever_retries_by_hand_after_the_last_attempt_gets_what_that_had():
    assert policy.raised(RETRY, ["time"] * 5 + ["oom"], HAS) == {**HAS, "time": "32:00:00", "mem": "96G"}
    assert policy.raised({}, ["oom"], HAS) == HAS
    assert policy.raised(RETRY, ["oom"], {"mem": "256G"}) == {"mem": "256G"}  # the launch asks for more since
