"""steps: what a launch does about a run that is there, by how its stages stand and what they are today."""

import pytest
from launching import spec

from farmx import plan, steps, templates
from farmx.spec import Run, RunSpec, Standing, State
from farmx.steps import Step

DONE, FAILED, STAGED, RUNNING = State.DONE, State.FAILED, State.STAGED, State.RUNNING


def today(*texts: str) -> RunSpec:
    """A spec whose stages are a, b, ..."""
    made = [plan.StageTemplate(name, templates.read(text, "here")) for name, text in zip("abcd", texts)]
    return spec(stages=tuple(made))


def there(state: State, done: int, *texts: str) -> Run:
    """A run of these stages, so many of them done."""
    forms = [stage.form for stage in today(*texts).stages]
    standing = (Standing(name, form, place < done) for place, (name, form) in enumerate(zip("abcd", forms)))
    return Run("r", "/r", "e", state, {}, stages=tuple(standing))


STEPS = [
    # the run, today's stages, the stages that are asked for, what is done about it
    (there(DONE, 3, "x", "y", "z"), ("x", "y", "z"), (), Step(False)),
    (there(DONE, 3, "x", "y", "z"), ("x", "Y", "z"), (), Step(True, True, "b")),
    (there(DONE, 3, "x", "y", "z"), ("x", "y", "z", "w"), (), Step(True, True, "d")),
    (there(DONE, 1, "x"), ("x", "y"), (), Step(True, True, "b")),
    (there(DONE, 3, "x", "y", "z"), ("x", "y"), (), Step(False)),
    (there(DONE, 3, "x", "y", "z"), ("x", "Y", "z"), ("a",), Step(False, True)),
    (there(DONE, 3, "x", "y", "z"), ("x", "Y", "z"), ("c",), Step(True, True, "c")),
    # failed, at the stage after those that are done
    (there(FAILED, 1, "x", "y", "z"), ("x", "y", "z"), (), Step(False)),
    (there(FAILED, 1, "x", "y", "z"), ("x", "Y", "z"), (), Step(True, True, "b")),
    (there(FAILED, 2, "x", "y", "z"), ("x", "Y", "z"), (), Step(True, True, "b")),
    (there(FAILED, 1, "x", "y", "z"), ("x", "y", "Z"), (), Step(False, True)),
    (there(FAILED, 0, "x"), ("x", "y"), (), Step(False, True)),
    (there(State.CANCELLED, 2, "x", "y", "z"), ("x", "Y", "z"), (), Step(False, True)),
    # waiting
    (there(STAGED, 0, "x", "y"), ("x", "y"), (), Step(True)),
    (there(STAGED, 1, "x", "y"), ("x", "y"), (), Step(True, False, "b")),
    (there(STAGED, 1, "x", "y"), ("x", "y"), ("a",), Step(False)),
    (there(STAGED, 0, "x", "y"), ("x", "y"), ("b",), Step(True, False, "b")),
    (there(State.LOST, 1, "x", "y"), ("x", "Y"), (), Step(True, True, "b")),
    (there(State.INTERRUPTED, 0, "x"), ("x",), (), Step(True)),
    (there(State.INTERRUPTED, 2, "x", "y"), ("x", "y"), (), Step(True)),
    (there(State.INTERRUPTED, 2, "x", "y"), ("x", "y"), ("a",), Step(False)),
    # under way
    (there(RUNNING, 0, "x", "y"), ("x", "y"), (), Step(False)),
    (there(RUNNING, 0, "x", "y"), ("x", "Y"), (), Step(False, late=True)),
    (there(State.QUEUED, 0, "x"), ("x", "y"), (), Step(False, late=True)),
    (there(State.UNKNOWN, 0, "x"), ("x",), (), Step(False)),
]


LATE = [((), True), (("b",), True), (("a", "b"), True), (("a",), False), (("c",), False)]


@pytest.mark.parametrize(("only", "late"), LATE)
def test_what_a_run_under_way_was_not_asked_for_comes_later(only, late):
    run = there(RUNNING, 0, "x", "y", "z")
    assert steps.of(today("x", "y", "z"), run, only, ["b"]) == Step(False, late=late)


@pytest.mark.parametrize(("run", "texts", "only", "step"), STEPS)
def test_a_launch_runs_what_is_new_or_changed_where_the_run_came_so_far(run, texts, only, step):
    assert steps.of(today(*texts), run, only) == step
