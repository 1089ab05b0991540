"""What farms said a moment ago, so that many who look do not all ask; never what it means.

Kept outside LOGROOT, a file per farm. What was said of an index of a submission counts for a few seconds, for ten times
as long as the farm took to say it (a scheduler that is slow is asked less often), and only while nobody has recorded
since what the farm calls it.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import farms, layout
from farmx.errors import FarmxError, RecordError, StageError
from farmx.farms.base import Answer, Answers
from farmx.spec import Held, State

FRESH_S = 5.0
LONGEST_S = 60.0
_FORMAT = 2  # in those before all that was kept was of one look


def of(helds: Sequence[tuple[Held, int]], cache: str | None) -> Answers:
    """What their farms say of each, of which so many attempts have begun.

    Each farm is asked once at most, and once more for each copy of a submission, whose jobs have the same names.
    """
    by_farm: dict[tuple[str, str], list[tuple[Held, int]]] = {}
    first: dict[str, str] = {}
    for held, begun in helds:
        same = first.setdefault(os.path.basename(held.submission), held.submission) == held.submission
        farm = f"{held.record['executor']} {held.record.get('farm')}"
        by_farm.setdefault((farm, "" if same else held.submission), []).append((held, begun))
    answers: dict[tuple[str, int], Answer] = {}
    for (farm, _), group in by_farm.items():
        asked, counts = zip(*group)
        try:
            answers.update(ask(farm, asked, counts, farms.leaf(asked[0].record).poll, cache))
        except FarmxError as error:  # who looks at others, too, sees how these stand
            answers.update(((held.submission, held.place), Answer(State.UNKNOWN, str(error))) for held in asked)
    return answers


def ask(
    farm: str,
    helds: Sequence[Held],
    begun: Sequence[int],
    poll: Callable[[Sequence[Held]], Answers],
    cache: str | None,
) -> Answers:
    """What the farm says of `helds`: what it said lately where that is enough for all of them, else its answer now.

    begun: how many attempts the run of each has; one that waited when the farm said so, and has begun another since,
    runs.  cache: a directory (layout.cache_folder); None always asks.
    """
    if cache is None:
        return poll(helds)
    path = os.path.join(cache, "polls", f"{zlib.crc32(os.fsencode(farm)):08x}.json")
    asked = time.time()
    kept = _kept(path, farm, asked)
    if all((told := kept.get(_place(held))) and told.name == held.name for held in helds):
        said = {_place(held): _since(kept[_place(held)], count) for held, count in zip(helds, begun)}
        return {place: answer for place, answer in said.items() if answer is not None}
    answers = poll(helds)
    now = time.time()
    for held, count in zip(helds, begun):
        kept[_place(held)] = _Told(held.name, count, answers.get(_place(held)), now, now - asked)
    _keep(path, farm, kept)
    return answers


class _Told(NamedTuple):
    """What a farm said of an index at the time `at`, None when it does not list it.

    name: what it called it by the records of then.  begun: attempts of its run then.  took_s: how long it took.
    """

    name: str | None
    begun: int
    answer: Answer | None
    at: float
    took_s: float

    def counts(self, now: float) -> bool:
        """Whether it is new enough."""
        return 0 <= now - self.at < min(LONGEST_S, max(FRESH_S, 10 * self.took_s))


def _place(held: Held) -> tuple[str, int]:
    return held.submission, held.place


def _since(told: _Told, begun: int) -> Answer | None:
    waited = told.answer is not None and told.answer.state is State.QUEUED
    return Answer(State.RUNNING) if waited and begun > told.begun else told.answer


def _kept(path: str, farm: str, now: float) -> dict[tuple[str, int], _Told]:
    """What it said that counts still; {} for what cannot be read."""
    try:
        record = layout.read_json(path, _FORMAT)
        rows = record["told"] if (record["format"], record["farm"]) == (_FORMAT, farm) else ()
        told = {
            (str(submission), int(place)): _Told(name, int(begun), _answer(answer), float(at), float(took_s))
            for submission, place, name, begun, answer, at, took_s in rows
        }
    except (OSError, RecordError, KeyError, TypeError, ValueError, OverflowError):
        return {}
    return {place: each for place, each in told.items() if each.counts(now)}


def _answer(row: Any) -> Answer | None:
    if row is None:
        return None
    state, note = row
    return Answer(State(state), str(note))


def _keep(path: str, farm: str, kept: Mapping[tuple[str, int], _Told]) -> None:
    rows = [
        [*place, told.name, told.begun, told.answer and [told.answer.state.value, told.answer.note], told.at,
         told.took_s]
        for place, told in kept.items()
    ]  # fmt: skip
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        layout.write(path, json.dumps({"format": _FORMAT, "farm": farm, "told": rows}) + "\n")
    except (OSError, StageError):
        return
