"""What a launch does about a run that is there, by its stages and those of today; never does it."""

from collections.abc import Sequence
from typing import NamedTuple

from farmx.spec import Run, RunSpec, Stage, Standing, State

TAKEN = (State.STAGED, State.INTERRUPTED, State.LOST)  # what the next launch takes up by itself
_ENDED = (State.DONE, State.FAILED, State.CANCELLED, State.PRUNED)


class Step(NamedTuple):
    """queue: make an attempt.  renew: give the run today's stages.  begin: the stage that the attempt begins at, '' for
    the first.  late: it has other stages than today, and is under way."""

    queue: bool
    renew: bool = False
    begin: str = ""
    late: bool = False


def of(spec: RunSpec, run: Run, only: Sequence[str]) -> Step:
    """What to do about `run`, which holds the point of `spec`; only: the stages that are asked for, () for all.

    A later stage that is new or changed is run, and what comes after it, in the same run; when the run failed before it
    came to that stage, it is only noted. A stage that is no longer there changes nothing.
    """
    changed = _changed(spec.stages, run.stages)
    if run.state not in TAKEN and run.state not in _ENDED:
        return Step(False, late=changed < len(spec.stages))
    done = [place < changed and stage.done for place, stage in enumerate(run.stages)]
    reached = next((place for place, stage in enumerate(run.stages) if not stage.done), len(run.stages))
    moved = changed < len(spec.stages)
    came = run.state is State.DONE or (run.state is State.FAILED and changed <= reached)
    todo = [place for place, stage in enumerate(spec.stages) if not only or stage.name in only]
    begin = next((place for place in todo if place >= len(done) or not done[place]), None)
    if begin is None and run.state in (State.INTERRUPTED, State.LOST) and not only:
        return Step(True, moved)  # it did all and could not say so
    if begin is None or not (run.state in TAKEN or (moved and came)):
        return Step(False, moved)
    return Step(True, moved, spec.stages[begin].name if begin else "")


def _changed(now: Sequence[Stage], then: Sequence[Standing]) -> int:
    """The place of the first later stage that is new or changed; as many as there are when none is."""
    places = range(1, len(now))
    return next((place for place in places if place >= len(then) or now[place].form != then[place].form), len(now))
