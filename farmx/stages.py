"""Which stages of a run are done and which an attempt is to run, by run.json and the events; never runs one.

Carried to nodes with the runner: standard library only.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from farmx import layout

ONLY, AGAIN = "only", "again"  # of run.json: attempt (the number of its queuing) -> names of stages
DONE, KEPT, LEFT = "done", "kept", "left"  # in this attempt, in one before it, still to come


class Plan(NamedTuple):
    """What an attempt is to do. stages: of run.json.  kept, run: the places of those done before, of those to run."""

    stages: tuple[Mapping[str, Any], ...]
    kept: frozenset[int]
    run: tuple[int, ...]

    def marks(self, place: int) -> dict[str, Any]:
        """What an event says of a stage beside its name; nothing where there is only one."""
        return {"place": place, **_form(self.stages[place])} if len(self.stages) > 1 else {}

    def told(self, ended: Mapping[int, str]) -> list[dict[str, Any]] | None:
        """What end.json says of each stage; ended: place -> how it ended, of those that ran. None for a single one."""
        if len(self.stages) == 1:
            return None
        begun = min(ended, default=len(self.stages))
        states = {**dict.fromkeys((place for place in self.kept if place < begun), KEPT), **ended}
        return [
            {"name": stage["name"], **_form(stage), "state": states.get(place, LEFT)}
            for place, stage in enumerate(self.stages)
        ]


def plan(run: str, number: str, record: Mapping[str, Any]) -> Plan:
    """What attempt `number` of the run at `run` is to do, by run.json, `record`.

    That is all stages from the first that is not done; of these the `only` ones it was asked for. The `again` ones are
    run whether they are done or not.
    """
    stages = tuple(record["stages"])
    again, only = (_asked(record, key, number) for key in (AGAIN, ONLY))
    wanted = [place for place, stage in enumerate(stages) if not (again or only) or stage["name"] in (again or only)]
    done = _done(run, number, stages) if len(stages) > 1 else frozenset()
    begin = 0 if again else next((place for place in wanted if place not in done), len(stages))
    return Plan(stages, done, tuple(place for place in wanted if place >= begin))


def since(run: str, number: str, started: float, todo: Plan) -> float:
    """When the attempt began that ran the first stage: attempt `number`, which began at `started` and is to do `todo`,
    or the newest before it that did. Seconds since the epoch."""
    if len(todo.stages) == 1 or 0 in todo.run:
        return started
    first = next((attempt for attempt in reversed([*_before(run, number)]) if _ran_first(attempt)), None)
    owner = layout.of_attempt(first, layout.OWNER) if first else None
    began = owner.get("started") if owner else None
    return began if isinstance(began, (int, float)) else started


def _ran_first(attempt: str) -> bool:
    """Whether the attempt in this directory began the first stage."""
    return any(row.get("event") == "started" and row.get("place", 0) == 0 for row in rows(attempt))


def named(record: Mapping[str, Any], number: str) -> bool:
    """Whether run.json, `record`, says which stages attempt `number` is to run; of what waits for another it does."""
    return any(_asked(record, key, number) for key in (AGAIN, ONLY))


def _asked(record: Mapping[str, Any], key: str, number: str) -> Sequence[str]:
    """The names of the stages that attempt `number` was asked for; () where it was not."""
    asked = record.get(key)
    names = asked.get(number.partition(".")[0]) if isinstance(asked, dict) else None
    return names if isinstance(names, list) else ()


def standing(run: str, stages: Sequence[Mapping[str, Any]], end: Mapping[str, Any] | None) -> list[bool]:
    """Whether each stage of the run at `run` is done. stages: of run.json.  end: how its newest attempt ended.

    Where that does not say it (it was killed, or began when there was one stage), the events do.
    """
    told = (end or {}).get("stages")
    if not isinstance(told, list):
        if len(stages) == 1:
            return [(end or {}).get("state") == DONE]
        done = _done(run, "", stages)
        return [place in done for place in range(len(stages))]
    forms = [each.get("form", "") for each in told if isinstance(each, dict) and each.get("state") in (DONE, KEPT)]
    return [stage.get("form", "") in forms for stage in stages]


def reached(run: str, numbers: Iterable[str], stages: Sequence[Mapping[str, Any]]) -> list[int]:
    """The place of the stage that was still to be brought to its end after each attempt, the last where none was left.

    numbers: of the attempts from the first on, oldest first.  stages: of run.json.
    """
    attempts = (os.path.join(run, layout.ATTEMPTS, number) for number in numbers)
    return [
        next((place for place in range(len(stages)) if place not in done), len(stages) - 1)
        for done in _after_each(attempts, stages)
    ]


def _form(stage: Mapping[str, Any]) -> dict[str, str]:
    return {"form": stage["form"]} if stage.get("form") else {}


def _done(run: str, number: str, stages: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    """The places of the stages that attempts before `number` ('': all) brought to their end, as they are now."""
    return [frozenset[int](), *_after_each(_before(run, number), stages)][-1]


def _after_each(attempts: Iterable[str], stages: Sequence[Mapping[str, Any]]) -> Iterator[frozenset[int]]:
    """After each of these directories of attempts, oldest first: the places of the stages that are done.

    A stage that was begun once more takes away what came after it.
    """
    forms: dict[int, str] = {}
    for attempt in attempts:
        for row in rows(attempt):
            place = row.get("place", 0)
            if row.get("event") == "started":
                forms = {other: form for other, form in forms.items() if other < place}
            elif row.get("event") == "ended" and (row["state"] if "state" in row else _state(attempt)) == DONE:
                forms[place] = row.get("form", "")
        yield frozenset(place for place, stage in enumerate(stages) if forms.get(place) == stage.get("form", ""))


def _before(run: str, number: str) -> Iterator[str]:
    """The attempts before `number` ('': all), oldest first."""
    mine, home = layout.attempt_number(number), os.path.join(run, layout.ATTEMPTS)
    found = (other for other in layout.attempt_numbers(run) if mine is None or other < mine)
    yield from (os.path.join(home, layout.attempt_name(*other)) for other in found)


def rows(attempt: str, name: str = layout.EVENTS) -> Iterator[dict[str, Any]]:
    """The rows of a file of an attempt that has one a line, by default its events; a torn line is none."""
    with suppress(OSError), open(os.path.join(attempt, name), encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict):
                    yield row


def _state(attempt: str) -> str:
    """How an attempt of a single stage ended, whose events do not say it."""
    with suppress(OSError, ValueError), open(os.path.join(attempt, layout.END), encoding="utf-8") as file:
        return str(json.load(file).get("state"))
    return ""
