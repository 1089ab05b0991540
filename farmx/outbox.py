"""What waits to be told of an experiment, and who sends it: found, claimed, kept until it was sent; never sends.

    .farmx/outbox/<launch>.<event>.claim    who sends it now: made exclusively, so it is sent once
                                  .sent     the same, renamed when it was: it is never sent again
                                  .tries    how often it could not be, and whom it reached all the same
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from farmx import layout, notices, processes, status
from farmx.errors import FarmxError
from farmx.farms import base
from farmx.layout import CLAIM_SUFFIX, EVENT_SUFFIX, SENT_SUFFIX, TRIES_SUFFIX, WANTED_SUFFIX
from farmx.notices import ENDED
from farmx.spec import Run, State

OPEN = (State.QUEUED, State.RUNNING, State.PREEMPTED, State.UNKNOWN)


class Message(NamedTuple):
    """An event that was not sent. home: the outbox.  name: of the event.  record: what it says.

    tries: how often it could not be sent.  reached: digests of the addresses that have it.  stuck: what tells
    the claim of a sender that ended meanwhile, so that nobody knows whether it was sent; '' for none.
    """

    home: str
    name: str
    record: Mapping[str, Any]
    tries: int
    reached: tuple[str, ...]
    stuck: str

    @property
    def experiment(self) -> str:
        """The experiment's directory."""
        return os.path.dirname(os.path.dirname(self.home))

    def _path(self, suffix: str) -> str:
        return os.path.join(self.home, self.name + suffix)

    def claim(self, again: bool = False) -> bool:
        """Become the one who sends it; False when another is, or did. again: take it from a sender that ended."""
        if self.stuck:
            return again and self._take_over()
        if not _made(self._path(CLAIM_SUFFIX)):
            return False
        if os.path.exists(self._path(SENT_SUFFIX)):
            os.unlink(self._path(CLAIM_SUFFIX))
            return False
        return True

    def _take_over(self) -> bool:
        """Of all who find the same dead claim one makes the file that is named by it, and only that one replaces it."""
        if not _made(self._path(f"{CLAIM_SUFFIX}.{self.stuck}")):
            return False
        layout.write_json(self._path(CLAIM_SUFFIX), _me())
        return True

    def sent(self) -> None:
        """Record that all have it."""
        layout.move(self._path(CLAIM_SUFFIX), self._path(SENT_SUFFIX))

    def kept(self, reached: Sequence[str]) -> None:
        """Record that it could not be sent to all; it may be claimed again."""
        told = {"format": layout.OUTBOX_FORMAT, "tries": self.tries + 1, "reached": list(reached)}
        layout.write_json(self._path(TRIES_SUFFIX), told)
        os.unlink(self._path(CLAIM_SUFFIX))


def _made(path: str) -> bool:
    """Whether it was us who made the file, with who we are in it; False when it is there."""
    try:
        layout.new(path, json.dumps(_me()).encode())
    except FileExistsError:
        return False
    return True


def _me() -> dict[str, Any]:
    return {"format": layout.OUTBOX_FORMAT, **processes.this()}


def due(experiment: str) -> bool:
    """Whether something may be to tell: an event that was not sent, or a launch whose end nobody wrote down."""
    names = set(layout.names(notices.outbox(experiment)))
    return any(name.endswith(WANTED_SUFFIX) or f"{name.removesuffix(EVENT_SUFFIX)}{SENT_SUFFIX}" not in names
               for name in names if name.endswith((EVENT_SUFFIX, WANTED_SUFFIX)))  # fmt: skip


def waiting(experiment: str) -> list[Message]:
    """What was not sent, by launch; what another is sending just now is left out."""
    home = notices.outbox(experiment)
    names = set(layout.names(home))
    return sorted(_messages(experiment, home, names), key=_order)


def _order(message: Message) -> tuple[str, int]:
    launch, _, event = message.name.rpartition(".")
    return launch, notices.EVENTS.index(event) if event in notices.EVENTS else 0


def _messages(experiment: str, home: str, names: Collection[str]) -> Iterator[Message]:
    for name in names:
        stem = name.removesuffix(EVENT_SUFFIX)
        if name.startswith(".") or stem == name or stem + SENT_SUFFIX in names:
            continue
        record = notices.read(experiment, name)
        stuck = _dead(experiment, stem + CLAIM_SUFFIX) if stem + CLAIM_SUFFIX in names else ""
        if record is None or (stem + CLAIM_SUFFIX in names and not stuck):
            continue
        tried = notices.read(experiment, stem + TRIES_SUFFIX) or {}
        yield Message(home, stem, record, int(tried.get("tries") or 0), tuple(tried.get("reached") or ()), stuck)


def _dead(experiment: str, claim: str) -> str:
    """What tells this claim from others where its sender is gone; '' while it may live. Another host's is taken for
    gone once it is silent."""
    path = os.path.join(notices.outbox(experiment), claim)
    alive = processes.alive(notices.read(experiment, claim) or {})
    if alive or (alive is None and not base.silent(path)):
        return ""
    try:
        return str(os.stat(path).st_mtime_ns)
    except FileNotFoundError:
        return ""


# ---------------------------------------------------------------- what nobody else saw


def settle(experiment: str, over: Collection[str] = ()) -> None:
    """Write down what no runner could: that the breaker tripped, that runs were cancelled or lost, or a pool died; drop
    what others tell.

    over: submissions by name that are known to be done with. Raises nothing: who acts has other things to do.
    """
    names = [name for name in layout.names(notices.outbox(experiment)) if name.endswith(WANTED_SUFFIX)]
    launches = {told["launch"]: told for name in names if (told := notices.read(experiment, name))}
    for launch, wanted in launches.items():
        try:
            if os.path.exists(os.path.join(notices.outbox(experiment), f"{launch}.{ENDED}{EVENT_SUFFIX}")):
                _forget(experiment, wanted)
            elif not notices.tripped(experiment, wanted):
                _settle(experiment, wanted, over)
        except (OSError, FarmxError):
            continue
    with suppress(OSError, FarmxError):
        _drop(experiment)


def _drop(experiment: str) -> None:
    """Count as sent the ends of launches whose runs later submissions took all: of them these tell."""
    ends = (message for message in waiting(experiment) if message.record.get("event") == ENDED)
    for message in ends:
        if _overtaken(experiment, str(message.record.get("launch"))) and message.claim():
            message.sent()


def _overtaken(experiment: str, launch: str) -> bool:
    """Whether every run of the launch was queued again by another."""
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    ours = layout.launched_with(os.path.join(home, launch))
    numbers = {run: queued for path in ours for run, (queued, _) in layout.runs_of(path)}
    others = (each for path in layout.submissions(home) if path not in ours for each in layout.runs_of(path))
    taken = {run for run, (queued, _) in others if queued > numbers.get(run, queued)}
    return bool(numbers) and taken == set(numbers)


def _forget(experiment: str, wanted: Mapping[str, Any]) -> None:
    for name in wanted["submissions"]:
        os.unlink(os.path.join(notices.outbox(experiment), name + WANTED_SUFFIX))


def _settle(experiment: str, wanted: Mapping[str, Any], over: Collection[str]) -> None:
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    runs: dict[str, bool] = {}  # whether its submission can still begin it
    for name in wanted["submissions"]:
        path = os.path.join(home, name)
        live = name not in over and _live(path)
        runs.update({run: live for run, _ in layout.runs_of(path)})
    look = status.of(experiment, list(runs))
    if not look.problems and not any(_under_way(run, runs[run.name]) for run in look.runs):
        counts = Counter(str(run.state) for run in look.runs)
        notices.post(experiment, wanted["launch"], ENDED, {"counts": counts})


def _live(submission: str) -> bool:
    """Whether the farm may still begin what it has not; of a scheduler that is what its answers say."""
    job = layout.read_or_none(os.path.join(submission, layout.JOB), layout.JOB_FORMAT)
    if job is None:  # not handed over yet, or unreadable
        return True
    return layout.executor_of(job) != layout.LOCAL or base.submission_alive(submission, job)


def _under_way(run: Run, live: bool) -> bool:
    return run.state in OPEN or (live and run.state == State.STAGED)
