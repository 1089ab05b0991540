"""Runs that are there: queued once more, or ended; never found by name, never made."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import layout, runner, snapshot, stage
from farmx.errors import FarmError, StageError
from farmx.farms import base, local
from farmx.spec import Job, Run, State, Submission

RETRIED = (State.FAILED, State.CANCELLED, State.LOST, State.INTERRUPTED)
OWN_FAULT = (State.FAILED,)  # what ended by itself wants today's code; what was ended by others its own
BUSY = (State.RUNNING, State.QUEUED)


# ---------------------------------------------------------------- retry


class Retry(NamedTuple):
    """What is about to be queued again. fresh: the jobs that get today's code; the others keep their own."""

    jobs: tuple[Job, ...]
    fresh: tuple[Job, ...]
    left: tuple[Run, ...]
    code: str


def retry(
    runs: Iterable[Run], states: Sequence[State] | None, code: str | None, environ: Mapping[str, str]
) -> Retry:
    """Choose what to queue again: the runs in `states`, or whatever has ended other than well when None.

    code: 'now', 'own' or None for the rule: a run that failed by its own exit code takes today's code, and with it the
    PATH and the like of `environ`. Afterwards the records of those runs say so. Raises ConfigError, before anything is
    changed, when `environ` lacks what a run is to be passed.
    """
    chosen: list[Run] = []
    left: list[Run] = []
    for run in runs:
        (chosen if run.state in (states or RETRIED) and run.state not in BUSY and run.identity else left).append(run)
    fresh = [run for run in chosen if code == "now" or (code is None and run.state in OWN_FAULT)]
    records = {run.path: layout.read_json(os.path.join(run.path, layout.RUN), layout.RUN_FORMAT) for run in chosen}
    stage.check_passed((name for record in records.values() for name in record["env_pass"]), environ)
    told = _take_todays_code({run.path: records[run.path] for run in fresh}, environ)
    return Retry(tuple(map(base.next_job, chosen)), tuple(map(base.next_job, fresh)), tuple(left), told)


def _take_todays_code(records: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str]) -> str:
    """Snapshot the code each run came from, once a source and experiment; let the runs take it; say how much it is."""
    made: dict[tuple[str, str], tuple[str, str]] = {}
    for path, record in records.items():
        recipe = dict(record["code"])
        key = os.path.dirname(path), repr(sorted(recipe.items()))
        if key not in made:
            made[key] = _snapshot(recipe, key[0])
        stage.renew(path, made[key][0], environ)
    return ", ".join(dict.fromkeys(told for _, told in made.values()))


def _snapshot(recipe: dict[str, object], experiment: str) -> tuple[str, str]:
    source = str(recipe.pop("source"))
    recipe.pop("staging")
    if not os.path.isdir(source):
        raise StageError(f"{source}: the code was here and is gone; give --code own to use what the runs have")
    wish = snapshot.Wish(**{k: tuple(v) if isinstance(v, list) else v for k, v in recipe.items()})  # type: ignore[arg-type]
    code = snapshot.listing(source, wish, [os.path.dirname(experiment)])
    return snapshot.take(code, os.path.join(experiment, layout.FARMX)).digest, code.told()


def submissions(jobs: Sequence[Job], name: str) -> list[Submission]:
    """Write down the jobs, a submission for each experiment among them, in order."""
    by_home: dict[str, list[Job]] = {}
    for job in jobs:
        by_home.setdefault(os.path.dirname(job.run), []).append(job)
    return [
        base.submission(os.path.join(home, layout.FARMX, layout.SUBMISSIONS), name, group)
        for home, group in by_home.items()
    ]


# ---------------------------------------------------------------- cancel


def cancel(runs: Iterable[Run], tell: Callable[[Run, str], None]) -> None:
    """End each run as cancelled: one that waits can never start, one that runs here is asked to end.

    tell: each run and what was done: 'cancelled', 'asked to end', 'not cancelled: WHY', or its state when it has ended.
    """
    for run in runs:
        tell(run, _cancelled(run))


def _cancelled(run: Run) -> str:
    if run.state in (State.STAGED, State.QUEUED, State.INTERRUPTED, State.LOST):
        facts = {"farm": local.NAME, "submission": ""}
        if _close(run.path, base.next_job(run).number, facts):
            return "cancelled"
        return "just started; cancel it again"
    if run.state not in (State.RUNNING, State.UNKNOWN) or not run.attempts:
        return str(run.state)
    try:
        local.cancel(run.attempts[-1])
    except FarmError as error:
        return f"not cancelled: {error}"
    return "asked to end"


def _close(run: str, number: str, facts: Mapping[str, str]) -> bool:
    """Take the attempt only to end it as cancelled, so that it can never start; False when it was taken before."""
    try:
        attempt, owner = runner.take(run, number, facts)
    except OSError as error:
        raise StageError(f"{error.filename or run}: cannot be cancelled: {error.strerror}") from error
    if attempt:
        layout.write_json(os.path.join(attempt, layout.END), runner.end_record(owner, State.CANCELLED.value))
    return attempt is not None
