"""What RETRY says of a run that ended other than well: again, and with which resources, or not. Pure.

Carried to nodes with the runner: standard library only.

    RETRY: {oom: {mem: x1.5, max: 128G}, node_fail: 3, time: x2, error: 0}

A cause is given a number of further attempts with the same resources, the factor by which the resource that it is
about grows with each of at most TIMES attempts, or a mapping of one resource to its factor, with `max` and `times`.
What a run is to have follows from what it was staged with and the causes of its attempts alone, so who asks twice, or
at the same time as another, is told the same.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from farmx import needs
from farmx.errors import Wrong

# A cause, and the resources that it is about, the first that a run has counts.
CAUSES: Mapping[str, Sequence[str]] = {
    "oom": ("mem", "mem_per_cpu", "mem_per_gpu"),
    "node_fail": (),
    "time": ("time",),
    "error": (),
}
MAX, TIMES_KEY = "max", "times"
TIMES = 3  # attempts that a factor gives by itself
_FACTOR = re.compile(r"x(\d+(?:\.\d+)?)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTPkmgtp]?)(i?[Bb]?)")
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_UNITS = " KMGTP"
DAY_S = 86400


class Rule(NamedTuple):
    """What one cause is given. resources: of these the first that a run has grows by `factor`, up to `most`."""

    times: int
    resources: tuple[str, ...] = ()
    factor: float = 1.0
    most: Any = None


class Verdict(NamedTuple):
    """Whether a run is to be attempted again, and why, for people. resources: of that attempt."""

    again: bool
    why: str
    resources: Mapping[str, Any] = {}


# ---------------------------------------------------------------- what RETRY says


def rules(told: Mapping[str, Any]) -> dict[str, Rule]:
    """RETRY, as the configuration and run.json have it. Raises Wrong."""
    return {cause: rule(cause, value) for cause, value in told.items()}


def rule(cause: str, value: Any) -> Rule:
    """What `value` gives the cause. Raises Wrong."""
    if isinstance(value, Mapping):
        return _mapped(value)
    if type(value) is int and value >= 0:
        return Rule(value)
    factor = _factor(value)
    if factor is None:
        raise Wrong(f"{_shown(value)} is not allowed; it must be a whole number of further attempts, a factor such as "
                    "x1.5, or a mapping such as {mem: x1.5, max: 128G}")  # fmt: skip
    if not CAUSES[cause]:
        raise Wrong(f"{_shown(value)}: {cause} is about no resource; write {{mem: {value}}}, or whichever is to grow")
    return Rule(TIMES, tuple(CAUSES[cause]), factor)


def _mapped(told: Mapping[str, Any]) -> Rule:
    times = told.get(TIMES_KEY, TIMES)
    if type(times) is not int or times < 0:
        raise Wrong(f"{_shown(times)} is not allowed; it must be a whole number of attempts", TIMES_KEY)
    grows = [key for key in told if key not in (MAX, TIMES_KEY)]
    if len(grows) != 1:
        raise Wrong(f"{', '.join(grows) or 'no resource'} is to grow; name one resource: {{mem: x1.5, max: 128G}}")
    factor = _factor(told[grows[0]])
    if factor is None:
        raise Wrong(f"{_shown(told[grows[0]])} is not allowed; it must be a factor above 1, such as x1.5", grows[0])
    most = told.get(MAX)
    if MAX in told and _measure(most) is None:
        raise Wrong(f"{_shown(most)} is not allowed; it must be an amount such as 128G, 2-00:00:00 or 16", MAX)
    return Rule(times, (grows[0],), factor, most)


def _factor(value: Any) -> float | None:
    found = _FACTOR.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) if found and float(found[1]) > 1 else None


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def misfit(told: Mapping[str, Any], resources: Mapping[str, Any]) -> str | None:
    """Why RETRY cannot do for a run of these resources what it says; None when it can."""
    for cause, each in rules(told).items():
        if each.factor > 1 and (problem := _misfit(each, resources)):
            return f"{cause}: {problem}"
    return None


def _misfit(given: Rule, resources: Mapping[str, Any]) -> str | None:
    key = _key(given, resources)
    if key is None:
        return f"RESOURCES has no {given.resources[0]} that could grow; add it"
    have, most = _measure(resources[key]), _measure(given.most)
    if have is None:
        return f"RESOURCES.{key} is {resources[key]!r}, which cannot grow; write an amount"
    if most and most.kind != have.kind:
        return f"{MAX} {given.most} and RESOURCES.{key} {resources[key]} cannot be compared; write both alike"
    if most and most.amount < have.amount:
        return f"{MAX} {given.most} is below RESOURCES.{key}, which is {resources[key]}"
    return None


# ---------------------------------------------------------------- what a run is to have


def verdict(told: Mapping[str, Any], causes: Sequence[str | None], resources: Mapping[str, Any]) -> Verdict:
    """What becomes of a run whose attempts ended by these causes, the last one just now.

    causes: None for one that ended well or by others.  resources: what the run was staged with.
    """
    policy, cause = rules(told), causes[-1] if causes else None
    if cause is None or cause not in policy or not policy[cause].times:
        return Verdict(False, "")
    given = policy[cause]
    if causes.count(cause) > given.times:
        return Verdict(False, f"{cause}: {_attempts(given.times)} made (RETRY)")
    if given.factor == 1:
        return Verdict(True, cause, raised(told, causes, resources))
    if problem := _misfit(given, resources):
        return Verdict(False, f"{cause}: {problem}")
    key = str(_key(given, resources))
    had, wanted = (raised(told, some, resources) for some in (causes[:-1], causes))
    if had[key] == wanted[key]:
        return Verdict(False, f"{cause}: {key} is {had[key]} already, the most that RETRY allows")
    return Verdict(True, f"{cause}, {key} {wanted[key]}", wanted)


def _attempts(times: int) -> str:
    return f"{times} further attempt{'s were' if times != 1 else ' was'}"


def raised(told: Mapping[str, Any], causes: Sequence[str | None], resources: Mapping[str, Any]) -> dict[str, Any]:
    """What a run staged with `resources` is to have after these attempts, whoever starts the next."""
    wanted = dict(resources)
    for cause, given in rules(told).items():
        key, count = _key(given, resources), min(given.times, causes.count(cause))
        if count and given.factor > 1 and key is not None and not _misfit(given, resources):
            wanted[key] = scaled(wanted[key], given.factor**count, given.most)
    return wanted


def _key(given: Rule, resources: Mapping[str, Any]) -> str | None:
    """The resource that grows, as it is spelled there; None when there is none."""
    spelled = needs.spelled(key for key, value in resources.items() if value is not None)
    return next((spelled[key] for key in map(needs.plain, given.resources) if key in spelled), None)


# ---------------------------------------------------------------- amounts


class _Amount(NamedTuple):
    """kind: what it may be compared with."""

    kind: str
    amount: float


def scaled(value: Any, factor: float, most: Any = None) -> Any:
    """`value` times `factor`, rounded up and spelled alike, but `most` where it would be more."""
    limit = _measure(most)
    have = _measure(value)
    assert have is not None
    if limit and have.amount * factor >= limit.amount:
        return most
    if isinstance(value, (int, float)):
        return _ceil(value * factor) if isinstance(value, int) else value * factor
    return _time_times(value, factor) if have.kind == "time" else _size_times(value, factor)


def _ceil(amount: float) -> int:
    return math.ceil(round(amount, 6))  # 1.1 ** 2 * 100 is not 122


def _measure(value: Any) -> _Amount | None:
    if type(value) in (int, float):
        return _Amount("number", float(value)) if 0 < value < math.inf else None
    if not isinstance(value, str):
        return None
    if size := _SIZE.fullmatch(value):
        kind = "size" if size[2] or size[3] else "number"
        found = _Amount(kind, float(size[1]) * 1024 ** _UNITS.index(size[2].upper() or " "))
    elif time := _time(value):
        found = _Amount("time", time.seconds)
    else:
        return None
    return found if found.amount > 0 else None


def _size_times(value: str, factor: float) -> str:
    """In a smaller unit where that keeps it whole: Slurm takes no 1.5G."""
    found = _SIZE.fullmatch(value)
    assert found is not None
    unit, tail, amount = found[2], found[3], round(float(found[1]) * factor, 6)
    if amount != int(amount) and unit.upper() in ("M", "G", "T", "P"):
        smaller = _UNITS[_UNITS.index(unit.upper()) - 1]
        return f"{_ceil(amount * 1024)}{smaller if unit.isupper() else smaller.lower()}{tail}"
    return f"{_ceil(amount)}{unit}{tail}"


class _Time(NamedTuple):
    """One of Slurm's: 90, 90:30, 1:30:00, 2-12, 2-12:30, 2-12:30:00. units: what each number counts, in seconds."""

    days: int | None
    numbers: tuple[int, ...]
    units: tuple[int, ...]

    @property
    def seconds(self) -> int:
        return (self.days or 0) * DAY_S + sum(number * unit for number, unit in zip(self.numbers, self.units))


def _time(value: str) -> _Time | None:
    found = _TIME.fullmatch(value)
    if found is None:
        return None
    days, numbers = found[1], tuple(int(part) for part in found.groups()[1:] if part is not None)
    units = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}[len(numbers)] if days is None else (3600, 60, 1)[: len(numbers)]
    return _Time(None if days is None else int(days), numbers, units)


def _time_times(value: str, factor: float) -> str:
    """In as many numbers as it had, so rounded up to what its last one counts."""
    had = _time(value)
    assert had is not None
    left = _ceil(had.seconds * factor / had.units[-1]) * had.units[-1]
    parts: list[str] = []
    if had.days is not None:
        days, left = divmod(left, DAY_S)
    for unit in had.units:
        number, left = divmod(left, unit)
        parts.append(f"{number:02d}" if parts or had.days is not None else str(number))
    return ("" if had.days is None else f"{days}-") + ":".join(parts)
