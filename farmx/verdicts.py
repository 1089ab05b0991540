"""What RETRY says of runs as they stand: why each attempt ended, from records, logs and farms' words; never acts."""

import os
import re
from collections.abc import Mapping
from typing import Any

from farmx import breaker, evidence, layout, needs, policy, records, remedies
from farmx.farms import base
from farmx.policy import Verdict
from farmx.spec import Attempt, Run, State

JUDGED = (State.FAILED, State.LOST)
NONE = Verdict(False, "")
_WORDS = {"memory": "oom", "time": "time", "node": "node_fail"}  # evidence's -> RETRY's
_RUNNERS = re.compile(r".* \d+\.\d+ (?:done|failed|cancelled|interrupted|preempted|held|holds|was)\b")


def of(
    run: Run,
    retry: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] = {},
    own: Mapping[str, Mapping[str, Any]] = {},
) -> Verdict:
    """What becomes of `run`, by what it was staged with; by RETRY, RESOURCES and those of its stages as they are today
    where `retry` is given.

    Raises RecordError when its records cannot be read.
    """
    if run.identity is None or not (run.state in JUDGED or _unkept(run)):
        return NONE
    if retry is None:
        record = records.of(run.path, layout.RUN, layout.RUN_FORMAT) or {}
        retry, resources = record.get(layout.RETRY) or {}, record.get("resources") or {}
        own = {each["name"]: each.get("resources") or {} for each in record.get("stages") or ()}
    if not retry:
        return NONE
    wants, found = _wants(run, resources, own), _counted(run, resources, own)
    why = _held(run) if found and found[-1] == "error" else ""
    return Verdict(False, f"error: {why}") if why and retry.get("error") else policy.verdict(retry, found, wants)


def _unkept(run: Run) -> bool:
    """Whether RETRY was to run it again in its own job, which is gone."""
    end = run.attempts[-1].end or {} if run.attempts else {}
    return run.state is State.INTERRUPTED and end.get("state") == State.PREEMPTED and end.get("cause") in policy.CAUSES


def _wants(run: Run, resources: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the stage at which it goes on asks for, with nothing grown. own: stage -> its own resources."""
    return needs.over(resources, own[run.reached] if run.reached in own else next(iter(own.values()), {}))


def _held(run: Run) -> str:
    """Why the submission of its last attempt is held: until that is mended nothing of it is attempted again."""
    return breaker.held(submission(run, run.attempts[-1])[0])


def wanted(
    run: Run,
    retry: Mapping[str, Any],
    wants: Mapping[str, Any],
    resources: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]] = {},
) -> Mapping[str, Any]:
    """What the next attempt of a run is to have, whoever queues it. wants: what its first stage asks for.  resources:
    what the run was staged with.  own: stage -> what it asks for itself."""
    return policy.raised(retry, _counted(run, resources, own), wants) if retry else wants


def _counted(run: Run, resources: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> list[str | None]:
    """The causes of the attempts as they count for the stage at which it goes on."""
    told = [{"form": each.form, "resources": own.get(each.name)} for each in run.stages]
    numbers = [layout.attempt_name(*each.number) for each in run.attempts]
    return remedies.of_job(run.path, numbers, causes(run), told, resources)


def causes(run: Run) -> list[str | None]:
    """Why each attempt ended, oldest first, None where it ended well or was ended by others.

    A job that a farm had and never began counts as an attempt whose node failed, unless the farm says why.
    """
    last = run.attempts[-1] if run.attempts else None
    found = [_cause(run, attempt, attempt is last) for attempt in run.attempts]
    # One that waits for the stage before it is nobody's failure.
    waited = [held for held in base.ahead(run) if held.name and not held.record.get(layout.AFTER)]
    why, _ = evidence.farm_word([run.note])
    return found + [_WORDS.get(why, "node_fail")] * len(waited) if run.state in JUDGED else found


def _cause(run: Run, attempt: Attempt, newest: bool) -> str | None:
    end = attempt.end
    if end is None:
        if newest and run.state not in JUDGED:
            return None
        return _said(run, attempt, run.note if newest else "") or "node_fail"
    note, known = str(end.get("note") or ""), end.get("cause")
    if known == "error" and _said(run, attempt, note) == "oom":
        return "oom"  # a child was killed, which a scheduler writes down once the runner is gone
    if known in policy.CAUSES:
        return str(known)
    if end.get("state") != State.FAILED:
        return None
    if why := _said(run, attempt, note):
        return why
    return "oom" if evidence.out_of_memory(evidence.newest_log(attempt.path)) else "error"


def _said(run: Run, attempt: Attempt, note: str) -> str:
    """What the farm says of its end, there or in what it wrote into its own log."""
    why, _ = evidence.farm_word([note, *farm_lines(run, attempt)])
    return _WORDS.get(why, "")


def farm_lines(run: Run, attempt: Attempt) -> list[str]:
    """What the farm wrote while it had the attempt: restarts of a job write into one file, and so do our runners."""
    home, index = submission(run, attempt)
    lines = evidence.tail(os.path.join(home, f"{index}{layout.LOG_SUFFIX}"))
    queued, restarted = attempt.number
    before = tuple(f"{run.name} {layout.attempt_name(queued, count)} " for count in range(restarted))
    begin = max((place for place, line in enumerate(lines) if before and line.startswith(before)), default=-1)
    return [line for line in lines[begin + 1 :] if line and not _RUNNERS.match(line)]


def submission(run: Run, attempt: Attempt) -> tuple[str, int | None]:
    """The submission that the attempt came from, a directory that may be gone, and its index there."""
    owner = records.of(attempt.path, layout.OWNER, layout.ATTEMPT_FORMAT) or {}
    home = os.path.join(os.path.dirname(run.path), layout.FARMX, layout.SUBMISSIONS)
    return os.path.join(home, str(owner.get("submission") or "-")), owner.get("index")
