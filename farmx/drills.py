"""What an attempt that was ended, and the one after it, prove of preemption, requeue and resume; never ends one."""

from __future__ import annotations

import os
from collections import Counter
from typing import NamedTuple

from farmx import layout, stages
from farmx.spec import Attempt, State

EPOCHS = 2  # of metrics, after which a program that has saved nothing by logx is not waited for


class Check(NamedTuple):
    """What one look found. held: None when it cannot be told.  advice: what to do where it does not hold."""

    held: bool | None
    text: str
    advice: str = ""

    def __str__(self) -> str:
        word = {True: "ok", False: "NOT ok", None: "unclear"}[self.held]
        return f"{word:<7}  {self.text}" + (f"; {self.advice}" if self.advice and not self.held else "")


class Signs(NamedTuple):
    """What logx left in an attempt. used: whether it was initialized there.  steps: (phase, step) of its metrics, in
    order.  saved: whether its run has a checkpoint."""

    used: bool
    steps: tuple[tuple[str, float], ...]
    saved: bool

    @property
    def ready(self) -> bool:
        """Whether there is something to go on from: a checkpoint, or metrics of a program that saves by itself."""
        phases = Counter(phase for phase, _ in set(self.steps))
        return self.used and (self.saved or max(phases.values(), default=0) >= EPOCHS)


def signs(attempt: Attempt) -> Signs:
    """What logx left in it so far."""
    rows = list(stages.rows(attempt.path, layout.METRICS))
    told = [row for row in rows if row.get("metrics") and isinstance(row.get("step"), (int, float))]
    steps = tuple((str(row.get("phase")), float(row["step"])) for row in told)
    used = bool(rows) or os.path.exists(os.path.join(attempt.path, layout.ARGS))
    run = os.path.dirname(os.path.dirname(attempt.path))
    return Signs(used, steps, os.path.exists(os.path.join(run, layout.CHECKPOINTS)))


# ---------------------------------------------------------------- checks


def told(attempt: Attempt) -> Check:
    """Whether its program got SIGTERM and ended by itself."""
    rows = list(stages.rows(attempt.path))
    sent = {row.get("signal"): row.get("time") for row in rows if row.get("event") == "signalled"}
    if "SIGTERM" not in sent:
        return Check(False, "the program was not told to end (SIGTERM)", "farmx why says how it ended")
    ended = next((row["time"] for row in rows if row.get("event") == "ended"), None)
    took = f" after {max(0.0, ended - sent['SIGTERM']):.1f} s" if ended else ""
    if "SIGKILL" in sent:
        return Check(False, f"the program was told to end (SIGTERM), did not, and was killed{took}",
                     "let it save and exit on SIGTERM, or save as it goes")  # fmt: skip
    return Check(True, f"the program was told to end (SIGTERM) and ended within its grace{took}")


def recorded(attempt: Attempt, wanted: State) -> Check:
    """Whether its end was recorded as what it was."""
    state, note = (attempt.end or {}).get("state"), (attempt.end or {}).get("note")
    name = layout.attempt_name(*attempt.number)
    why = f": {note}" if note else ""
    if state == wanted:
        return Check(True, f"attempt {name} is recorded as {state}")
    advice = "it ended by itself before it was told; drill a longer run" if state == State.DONE else "see farmx why"
    return Check(False, f"attempt {name} is recorded as {state}, not {wanted}{why}", advice)


def numbered(attempt: Attempt, before: Attempt) -> Check:
    """Whether the program of an attempt is told that it is the one after `before`."""
    name, ordinal = layout.attempt_name(*attempt.number), (attempt.owner or {}).get("ordinal")
    wanted = 1 + ((before.owner or {}).get("ordinal") or 1)
    told = f"attempt {name} began with {layout.ENV_ATTEMPT}={ordinal}"
    return Check(ordinal == wanted, told, f"it should be {wanted}")


def resumed(first: Signs, second: Signs) -> Check:
    """Whether the second attempt went on where the first was."""
    phases = {phase for phase, _ in first.steps}
    goes_on = next(((phase, step) for phase, step in second.steps if phase in phases), None)
    if goes_on is None:
        return Check(None, "whether it went on from where it was cannot be told: there are no metrics of logx in both "
                           "attempts; read its log: farmx logs RUN")  # fmt: skip
    phase, step = goes_on
    before = [each for name, each in first.steps if name == phase]
    if step > before[0]:
        return Check(True, f"its {phase} metrics went on at step {step:g}, after {before[-1]:g}")
    return Check(False, f"its {phase} metrics began at step {step:g} again, after {before[-1]:g}",
                 "save with logx.save_model() and go on from logx.resume(): docs/logx.md")  # fmt: skip
