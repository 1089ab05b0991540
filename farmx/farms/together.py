"""Runs that share a job of a farm, from records alone: which have begun, and which jobs may be ended as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout, packs, records
from farmx.errors import ConfigError, where
from farmx.spec import Held, State


def check(told: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]], origins: Mapping[str, str]) -> None:
    """Raises ConfigError for a PACK that does not fit jobs with one of these resources."""
    for resources in wanted:
        try:
            packs.of(told, resources)
        except packs.Wrong as wrong:
            raise ConfigError(f"{where('PACK', origins)}: {wrong}") from None


class _Member(NamedTuple):
    """A run of a job. numbers: of its attempts that this job or a later one made, oldest first."""

    place: int
    path: str
    numbers: tuple[tuple[int, int], ...]
    queued: int


def _members(held: Held) -> Iterator[_Member]:
    """All the runs that share the job of one."""
    experiment = layout.experiment_of(held.submission)
    pack = packs.recorded(held.record)
    for place, (run, (queued, _)) in enumerate(layout.runs_of(held.submission)):
        if pack.job(place) == pack.job(held.place):
            path = os.path.join(experiment, run)
            found = layout.attempt_numbers(path)
            yield _Member(place, path, tuple(each for each in found if each[0] >= queued), queued)


def begun(held: Held) -> bool:
    """Whether its job has begun it, or another run that it holds."""
    return any(member.numbers and member.numbers[0][0] == member.queued for member in _members(held))


def whole(helds: Sequence[Held]) -> list[Held]:
    """Those whose job holds nothing else that is to go on: it may be ended for their sake.

    A run that shares its job with others has been asked to end in its own directory, where the job looks for that.
    """
    ours = {(held.submission, held.place) for held in helds}
    free: dict[tuple[str, int], bool] = {}
    for held in helds:
        pack = packs.recorded(held.record)
        job = held.submission, pack.job(held.place)
        if job not in free:
            free[job] = pack == packs.ALONE or all(
                (held.submission, member.place) in ours or _over(member) for member in _members(held)
            )
    return [held for held in helds if free[held.submission, packs.recorded(held.record).job(held.place)]]


def _over(member: _Member) -> bool:
    """Whether a run of a job is nothing to it any more."""
    if not member.numbers or member.numbers[-1][0] > member.queued:
        return bool(member.numbers)
    attempt = os.path.join(member.path, layout.ATTEMPTS, layout.attempt_name(*member.numbers[-1]))
    end = records.of(attempt, layout.END, layout.ATTEMPT_FORMAT)
    return end is not None and end.get("state") != State.PREEMPTED
