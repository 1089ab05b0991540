"""Runs that share a job of a farm, from records alone: which jobs began none, and which may be ended as a whole."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout, packs, records
from farmx.errors import ConfigError, Wrong, where
from farmx.spec import Held, State


def check(told: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]], origins: Mapping[str, str]) -> None:
    """Raises ConfigError for a PACK that does not fit jobs with one of these resources."""
    for resources in wanted:
        try:
            packs.of(told, resources)
        except Wrong as wrong:
            raise ConfigError(f"{where('PACK', origins)}: {wrong}") from None


class _Member(NamedTuple):
    """The run at `place` of a submission, which is to be its attempt `queued`. path: of the run."""

    submission: str
    place: int
    path: str
    queued: int

    def numbers(self) -> list[tuple[int, int]]:
        """The attempts that its job or a later one made of it, oldest first."""
        return [each for each in layout.attempt_numbers(self.path) if each[0] >= self.queued]


def unbegun(helds: Sequence[Held]) -> list[Held]:
    """Those whose job has begun none of the runs that it holds."""
    return _where(helds, lambda member: not any(queued == member.queued for queued, _ in member.numbers()[:1]))


def whole(helds: Sequence[Held]) -> list[Held]:
    """Those whose job holds nothing else that is to go on: it may be ended for their sake.

    A run that shares its job with others has been asked to end in its own directory, where the job looks for that.
    """
    ours = {(held.submission, held.place) for held in helds}
    return _where(helds, lambda member: (member.submission, member.place) in ours or _over(member))


def _where(helds: Sequence[Held], fits: Callable[[_Member], bool]) -> list[Held]:
    """Those of which all runs of their job fit; a list of runs is read once, and a job is looked at once."""
    lists = {submission: layout.runs_of(submission) for submission in {held.submission for held in helds}}
    fitting: dict[tuple[str, int], bool] = {}
    found = []
    for held in helds:
        pack = packs.recorded(held.record)
        job = held.submission, pack.job(held.place)
        if job not in fitting:
            fitting[job] = all(map(fits, _members(held.submission, pack.places(job[1]), lists[held.submission])))
        found += [held] if fitting[job] else []
    return found


def _members(
    submission: str, places: Iterable[int], runs: Sequence[tuple[str, tuple[int, int]]]
) -> Iterator[_Member]:
    """The runs at these places, of which the last job of a submission has fewer."""
    experiment = layout.experiment_of(submission)
    for place in itertools.takewhile(lambda place: place < len(runs), places):
        run, (queued, _) = runs[place]
        yield _Member(submission, place, os.path.join(experiment, run), queued)


def _over(member: _Member) -> bool:
    """Whether a run of a job is nothing to it any more."""
    numbers = member.numbers()
    if not numbers or numbers[-1][0] > member.queued:
        return bool(numbers)
    attempt = os.path.join(member.path, layout.ATTEMPTS, layout.attempt_name(*numbers[-1]))
    end = records.of(attempt, layout.END, layout.ATTEMPT_FORMAT)
    return end is not None and end.get("state") != State.PREEMPTED
