"""What a launch does about a run that is there, by its stages and those of today; never does it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from farmx import layout, records, stages
from farmx.farms import base
from farmx.spec import Run, RunSpec, Stage, Standing, State

TAKEN = (State.STAGED, State.INTERRUPTED, State.LOST)  # what the next launch takes up by itself
_ENDED = (State.DONE, State.FAILED, State.CANCELLED, State.PRUNED)


# What the end of a run that waited says, which --prune cancelled: a launch whose sweep has its point again takes it up.
DROPPED = {"cause": "dropped", "note": "its point left the sweep file (--prune)"}


def dropped(run: Run) -> bool:
    """Whether --prune cancelled it."""
    end = run.attempts[-1].end if run.attempts and run.state is State.CANCELLED else None
    return end is not None and end.get("cause") == DROPPED["cause"]


class Step(NamedTuple):
    """queue: make an attempt.  renew: give the run today's stages.  begin: the stage that the attempt begins at, '' for
    the first.  late: it is under way, and has other stages than today, or was not asked for some of those asked for."""

    queue: bool
    renew: bool = False
    begin: str = ""
    late: bool = False


def of(spec: RunSpec, run: Run, only: Sequence[str], left: Collection[str] = ()) -> Step:
    """What to do about `run`, which holds the point of `spec`; only: the stages that are asked for, () for all.

    left: what left_out tells of it.
    A later stage that is new or changed is run, and what comes after it, in the same run; when the run failed before it
    came to that stage, it is only noted. A stage that is no longer there changes nothing.
    """
    changed = _changed(spec.stages, run.stages)
    if run.state not in TAKEN and run.state not in _ENDED:
        asked = only or [stage.name for stage in spec.stages]
        return Step(False, late=changed < len(spec.stages) or any(name in left for name in asked))
    done = [place < changed and stage.done for place, stage in enumerate(run.stages)]
    reached = next((place for place, stage in enumerate(run.stages) if not stage.done), len(run.stages))
    moved = changed < len(spec.stages)
    came = run.state is State.DONE or (run.state is State.FAILED and changed <= reached)
    todo = [place for place, stage in enumerate(spec.stages) if not only or stage.name in only]
    begin = next((place for place in todo if place >= len(done) or not done[place]), None)
    if begin is None and run.state in (State.INTERRUPTED, State.LOST) and not only:
        return Step(True, moved)  # it did all and could not say so
    if begin is None or not (run.state in TAKEN or dropped(run) or (moved and came)):
        return Step(False, moved)
    return Step(True, moved, spec.stages[begin].name if begin else "")


def left_out(run: Run) -> Collection[str]:
    """The stages that are not done and that no job of a run under way was asked for, by name; () for a run that has
    ended, or waits for a launch."""
    if len(run.stages) < 2 or run.state in (*TAKEN, *_ENDED):
        return ()
    runs = [each.number[0] for each in run.attempts[-1:] if each.end is None]
    numbers = sorted({*runs, *(held.number for held in base.ahead(run))})
    record = records.of(run.path, layout.RUN, layout.RUN_FORMAT)
    if record is None or not numbers or not all(stages.named(record, str(number)) for number in numbers):
        return ()  # one of all stages
    plans = [stages.plan(run.path, layout.attempt_name(number, 0), record) for number in numbers]
    come = plans[0].kept.union(*(plan.run for plan in plans))
    return [stage["name"] for place, stage in enumerate(record["stages"]) if place not in come]


def _changed(now: Sequence[Stage], then: Sequence[Standing]) -> int:
    """The place of the first later stage that is new or changed; as many as there are when none is."""
    places = range(1, len(now))
    return next((place for place in places if place >= len(then) or now[place].form != then[place].form), len(now))
