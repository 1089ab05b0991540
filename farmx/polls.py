"""What farms said a moment ago, so that many who look do not all ask; never what it means.

Kept outside LOGROOT, a file per farm. An answer counts for a few seconds, for ten times as long as the farm took to
give it (a scheduler that is slow is asked less often), and only for what it was asked about.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from farmx import layout
from farmx.errors import RecordError, StageError
from farmx.farms.base import Answer, Answers
from farmx.spec import Held, State

FRESH_S = 5.0
LONGEST_S = 60.0
_FORMAT = 1


def ask(
    farm: str,
    helds: Sequence[Held],
    begun: Sequence[int],
    poll: Callable[[Sequence[Held]], Answers],
    cache: str | None,
) -> Answers:
    """What the farm says of `helds`: what it said lately where that is enough, else its answer now.

    begun: how many attempts the run of each has: what waited then and has begun an attempt since runs.  cache: a
    directory (layout.cache_folder); None always asks.
    """
    if cache is None:
        return poll(helds)
    path = os.path.join(cache, "polls", f"{zlib.crc32(os.fsencode(farm)):08x}.json")
    kept = _kept(path, farm, helds, begun)
    if kept is not None:
        return kept
    asked = time.time()
    answers = poll(helds)
    _keep(path, farm, [[held.submission, held.place, count] for held, count in zip(helds, begun)], answers, asked)
    return answers


def _kept(path: str, farm: str, helds: Sequence[Held], begun: Sequence[int]) -> Answers | None:
    try:
        told = layout.read_json(path, _FORMAT)
        asked = {(submission, place): count for submission, place, count in told["asked"]}
        fresh_s = min(LONGEST_S, max(FRESH_S, 10 * told["took_s"]))
        if told["farm"] != farm or not 0 <= time.time() - told["at"] < fresh_s:
            return None
        if any((held.submission, held.place) not in asked for held in helds):
            return None
        rows = told["answers"]
        answers = {(submission, place): Answer(State(state), note) for submission, place, state, note in rows}
        for held, count in zip(helds, begun):
            here = held.submission, held.place
            if count > asked[here] and here in answers and answers[here].state is State.QUEUED:
                answers[here] = Answer(State.RUNNING)
        return answers
    except (OSError, RecordError, KeyError, TypeError, ValueError):
        return None


def _keep(path: str, farm: str, asked: list[list[Any]], answers: Answers, begun: float) -> None:
    now = time.time()
    told = {
        "format": _FORMAT,
        "farm": farm,
        "at": now,
        "took_s": now - begun,
        "asked": asked,
        "answers": [[*place, answer.state.value, answer.note] for place, answer in answers.items()],
    }
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        layout.write(path, json.dumps(told) + "\n")
    except (OSError, StageError):
        return
