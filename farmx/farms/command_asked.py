"""STATUS_CMD and CANCEL_CMD, called once for many jobs: from records alone; never decides what became of a run.

The record that a job was queued with says how it is asked: a change of the configuration is for jobs queued after it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from farmx import errors, layout, packs
from farmx.errors import ConfigError, FarmError, nearest
from farmx.farms import command_words
from farmx.farms.base import MUTE, NAMELESS, Answer, Answers, Refused
from farmx.farms.calls import Said, call
from farmx.spec import Held, State

IDS = "{ids}"
ROOM = 100_000  # characters of ids in one call: Linux takes a word of 128 kB, and 2 MB in all as a rule
LINE = r"^\s*(?P<id>\S+)\s+(?P<state>\S+)"  # the first two words of a line
_STATES = {"queued": State.QUEUED, "running": State.RUNNING, "done": State.LOST, "failed": State.FAILED,
           "cancelled": State.CANCELLED}  # fmt: skip
_SAYS = "farm {farm} says {word}"
_NOTES = {"done": "its job ended without recording an end", "cancelled": "its job was cancelled", "running": "",
          "failed": f"{_SAYS} of job {{name}}, which {MUTE}"}  # fmt: skip
# What schedulers say, where STATUS does not: Grid Engine, PBS, LSF, HTCondor's numbers, Slurm and NGC in long words.
_COMMON = {
    "queued": "qw hqw hRwq hRqw Rq Rqw Q H W PEND PSUSP WAIT 1 5 PENDING REQUEUED CREATED QUEUED STARTING",
    "running": "r t hr ht Rr Rt hRr hRt dr dt dRr dRt R E B RUN 2 RUNNING COMPLETING",
    "paused": "s ts S tS T tT Rs Rts RS RtS RT RtT ds dS dT dRs dRS dRT USUSP SSUSP SUSPENDED",  # of what runs
    "done": "C F X DONE 4 COMPLETED FINISHED_SUCCESS",
    "failed": "Eqw Ehqw EhRqw ERqw EXIT ZOMBI FAILED TIMEOUT OUT_OF_MEMORY NODE_FAIL FAILED_RUN_LIMIT_EXCEEDED",
    "cancelled": "3 CANCELLED KILLED_BY_USER KILLED_BY_SYSTEM CANCELED",
}
WORDS = {word: "running" if state == "paused" else state for state, words in _COMMON.items() for word in words.split()}

_OVER = ("done", "failed", "cancelled")
_ENDING = {word for word in WORDS if word.startswith("d")}  # Grid Engine's: it was told to


class Asking(NamedTuple):
    """How the jobs of a farm are asked and ended. line: a pattern with the groups id and state, and perhaps name, of a
    line of what STATUS_CMD prints.  words: a state there -> queued, running, done, failed or cancelled."""

    status: str | None = None
    line: str = LINE
    words: Mapping[str, str] = {}
    cancel: str | None = None

    def record(self, origins: Mapping[str, str]) -> dict[str, Any]:
        """What job.json says of it. Raises ConfigError."""
        return {
            "status": _words(self.status, "STATUS_CMD", origins),
            "line": self.line,
            "words": {**WORDS, **self.words},
            "cancel": _words(self.cancel, "CANCEL_CMD", origins),
        }


def _words(text: str | None, key: str, origins: Mapping[str, str]) -> list[str] | None:
    if text is None:
        return None
    where = errors.where(key, origins)
    words = command_words.split(text, where)
    names = [name for word in words for name in command_words.references(word)]
    for name in names:
        if name != "ids":
            raise ConfigError(f"{where}: {{{name}}} is nothing here{nearest(name, ['ids'])}")
    if key == "CANCEL_CMD" and not names:
        raise ConfigError(f"{where}: it does not say which jobs; write {IDS} where their ids go")
    return words


def _call(words: Sequence[str], ids: Sequence[str]) -> Said:
    """Call it for these jobs: {ids} alone becomes a word each, in a word their list with commas.

    In as many calls as the system's limits ask for; the code and the errors are those of the first that failed.
    """
    env, argv = command_words.assigned(words)
    output, failed = "", Said(0, "", "")
    for part in _parts(ids) if any(IDS in word for word in argv) else [ids]:
        each = (part if word == IDS else [word.replace(IDS, ",".join(part))] for word in argv)
        said = call([word for some in each for word in some], env=env)
        output += said.output
        failed = said if failed.code == 0 else failed
    return failed._replace(output=output)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids, cut where one call has no room for more."""
    begin, used = 0, 0
    for place, name in enumerate(ids):
        size = len(os.fsencode(name)) + 1
        if used + size > ROOM and place > begin:
            yield ids[begin:place]
            begin, used = place, 0
        used += size
    yield ids[begin:]


# ---------------------------------------------------------------- poll


def poll(helds: Sequence[Held]) -> Answers:
    """What STATUS_CMD says of each, in one call for all that are asked alike."""
    answers: dict[tuple[str, int], Answer] = {}
    for group in _alike([held for held in helds if held.name is not None]):
        if _ask(group[0]).get("status"):
            known = [held for held in group if held.name != NAMELESS]
            answers.update(_answered(known))
            answers.update(_unasked([held for held in group if held.name == NAMELESS], "its submit command said no id"))
        else:
            farm = group[0].record.get("farm")
            answers.update(_unasked(group, f"farm {farm} has no STATUS_CMD"))
    return answers


def _ask(held: Held) -> Mapping[str, Any]:
    return held.record.get("ask") or {}


def _alike(helds: Sequence[Held]) -> list[list[Held]]:
    groups: dict[str, list[Held]] = {}
    for held in helds:
        groups.setdefault(repr(_ask(held)), []).append(held)
    return list(groups.values())


def _ids(helds: Sequence[Held]) -> list[str]:
    return list(dict.fromkeys(str(held.name) for held in helds if held.name not in (None, NAMELESS)))


def _answered(helds: Sequence[Held]) -> Iterator[tuple[tuple[str, int], Answer]]:
    """What the farm says of each that it lists; all others unknown where it could not answer."""
    if not helds:
        return
    ask, farm = _ask(helds[0]), str(helds[0].record.get("farm"))
    said = _call(ask["status"], _ids(helds))
    listed = _listed(ask, said)
    others = _others(helds, listed)
    for held in helds:
        if held.name in listed and (held.submission, held.place) not in others:
            yield (held.submission, held.place), _answer(listed[held.name][0], held.name, held.record, farm)
        elif said.code != 0:
            why = said.reason() if said.code is None else f"{ask['status'][0]} exited {said.code}: {said.reason()}"
            yield (held.submission, held.place), Answer(State.UNKNOWN, f"farm {farm} cannot be asked: {why}")
        elif elsewhere := held.record.get("elsewhere"):
            yield (held.submission, held.place), Answer(State.UNKNOWN, f"its records are in {elsewhere}")


def _listed(ask: Mapping[str, Any], said: Said) -> dict[str, tuple[str, str]]:
    """id -> the state and the name ('' where STATUS_LINE finds none) of each job in what STATUS_CMD said."""
    lines = filter(None, (re.search(ask["line"], line) for line in said.output.splitlines()))
    return {found["id"]: (found["state"], found.groupdict().get("name") or "") for found in lines}


def _others(helds: Sequence[Held], listed: Mapping[str, tuple[str, str]]) -> set[tuple[str, int]]:
    """The (submission, index) of those whose number the scheduler has given to another job since, by the names listed.

    A scheduler may show less than all of a name.
    """
    runs_of = cache(layout.runs_of)
    others = set()
    for held in helds:
        name, experiment = listed.get(str(held.name), ("", ""))[1].rstrip("*"), held.record.get("experiment")
        if not name or not isinstance(experiment, str):
            continue
        pack = packs.recorded(held.record)
        first, _ = runs_of(held.submission)[pack.places(pack.job(held.place)).start]
        if not command_words.job_name(os.path.join(experiment, first)).startswith(name):
            others.add((held.submission, held.place))
    return others


def _answer(word: str, name: str, record: Mapping[str, Any], farm: str) -> Answer:
    ours = record["ask"]["words"].get(word, "")
    if ours not in _STATES:
        return Answer(State.UNKNOWN, f"farm {farm} says {word!r}, which STATUS does not name")
    if ours == "done" and record.get("elsewhere"):  # so its end cannot be seen here
        return Answer(State.DONE, f"farm {farm} says {word}")
    note = None if word in _COMMON["paused"].split() else _NOTES.get(ours)
    return Answer(_STATES[ours], (_SAYS if note is None else note).format(farm=farm, word=word, name=name))


def _unasked(helds: Sequence[Held], why: str) -> Iterator[tuple[tuple[str, int], Answer]]:
    """Nobody can say how these stand: what has not begun is queued as far as we know, the rest its heartbeat tells."""
    runs_of = cache(layout.runs_of)
    for held in helds:
        state = State.UNKNOWN if _begun(held, runs_of(held.submission)[held.place][0]) else State.QUEUED
        yield (held.submission, held.place), Answer(state, why)


def _begun(held: Held, run: str) -> bool:
    """Whether there is such an attempt, or a later one."""
    numbers = layout.attempt_numbers(os.path.join(layout.experiment_of(held.submission), run))
    return any(number >= (held.number, 0) for number in numbers)


# ---------------------------------------------------------------- cancel


def cancel(helds: Sequence[Held]) -> None:
    """CANCEL_CMD for all of them, in one call for all that are asked alike. Raises FarmError, base.Refused for some."""
    for group in _alike([held for held in helds if held.name is not None]):
        farm, words = group[0].record.get("farm"), _ask(group[0]).get("cancel")
        if not words:
            raise FarmError(f"farm {farm} has no CANCEL_CMD")
        ours = _ours(group)
        if not ours:
            continue
        ids = _ids(ours)
        if not ids:
            raise FarmError(f"farm {farm} did not say what it calls the job")
        said = _call(words, ids)
        if said.code != 0 and (left := _left(ours)):
            raise Refused(f"{words[0]} exited {said.code}: {said.reason()}", left)


def _ours(helds: Sequence[Held]) -> Sequence[Held]:
    """Those that the farm has, and whose number no other job has since; all of them where it lists no names."""
    ask = _ask(helds[0])
    if not ask.get("status") or "name" not in re.compile(ask["line"]).groupindex:
        return helds
    said = _call(ask["status"], _ids(helds))
    listed = _listed(ask, said)
    others = _others(helds, listed)
    there = [held for held in helds if said.code != 0 or held.name == NAMELESS or held.name in listed]
    return [held for held in there if (held.submission, held.place) not in others]


def _left(helds: Sequence[Held]) -> Sequence[Held]:
    """Those that the farm, asked again, has and is not about to end: a job that ended meanwhile cannot be cancelled."""
    ask = _ask(helds[0])
    if not ask.get("status"):
        return helds
    said = _call(ask["status"], _ids(helds))
    over = {word for word, state in ask["words"].items() if state in _OVER} | _ENDING
    words = {name: word for name, (word, _) in _listed(ask, said).items()}
    return [held for held in helds if (words[held.name] not in over if held.name in words else said.code != 0)]
