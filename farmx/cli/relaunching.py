"""farmx retry and farmx cancel: from the command line to what is done, and what is printed of it."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from farmx import compose, layout, naming, records, relaunch, status, yaml12
from farmx.cli import here, looking, notifying, there
from farmx.cli.surroundings import located, logroot, tell, unattended
from farmx.errors import RecordError, UsageError, nearest
from farmx.farms import gpus, local
from farmx.farms.base import Farm
from farmx.relaunch import Retry
from farmx.spec import Job, Run, State, Submission, Surroundings

STOPPED = 130  # the exit code of what somebody stopped


def retry(given: Mapping[str, Any], at: Surroundings) -> int:
    """Queue again, here or on the farm; return the exit code."""
    root = logroot(given["logroot"], given["config_file"], at)
    states, asked = states_of(given["state"]), resources_of(given["resources"])
    problems: list[str] = []
    runs = naming.find(root, [located(name, at) for name in given["names"]], newest=True, problems=problems,
                       full=unattended())  # fmt: skip
    code = _left_out(problems)
    gone = relaunch.let_go(runs, given["code"], at.environ) if given["release"] else []
    if gone:
        tell(f"      {len(gone)} let go")
    runs = [run for run in runs if run not in gone]
    groups = _by_experiment(runs)
    farms = [_farm(given, group, at, asked) for group in groups]
    urls = [notifying.routes(_home(group), given["config_file"], at) for group in groups]
    chosen = [
        relaunch.retry(group, states, given["code"], at.environ, farm, given["stages"], given["release"], asked)
        for group, farm in zip(groups, farms)
    ]
    _tell(_together(chosen), given["as_json"])
    name = compose.launch_id(at.now)
    for each, farm, addresses in zip(chosen, farms, urls):
        code = _queue(farm, addresses, relaunch.submissions(each, farm, name)) or code
        if code == STOPPED:
            return code
    if not all(isinstance(farm, here.Here) for farm in farms):
        notifying.act(given, at)
    return code


def _by_experiment(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each experiment, whose settings are their own; one group of none where there are none."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(os.path.dirname(run.path), []).append(run)
    return [*groups.values()] or [[]]


def _together(parts: Sequence[Retry]) -> Retry:
    """What is told of all of them."""
    return Retry(
        jobs=tuple(job for part in parts for job in part.jobs),
        chains=tuple(chain for part in parts for chain in part.chains),
        fresh=tuple(job for part in parts for job in part.fresh),
        left=tuple(run for part in parts for run in part.left),
        code=", ".join(dict.fromkeys(part.code for part in parts if part.code)),
    )


def _queue(farm: Farm, urls: Sequence[str], submissions: Sequence[Submission]) -> int:
    """Hand over the jobs of one experiment, or run them here; the exit code that this calls for."""
    told = notifying.telling(farm, urls)
    if not isinstance(farm, here.Here):
        there.queue(told, submissions)
        return 0
    told.submit(submissions, lambda submission, queued: None)
    if farm.counts.states:
        tell(f"      {farm.counts.told()}")
    return farm.code()


def _left_out(problems: Sequence[str]) -> int:
    """Say which runs cannot be read, and so are left as they are; the exit code that this calls for."""
    for problem in problems:
        tell(f"left alone: {problem}")
    return RecordError.exit_code if problems else 0


def _farm(given: Mapping[str, Any], runs: Sequence[Run], at: Surroundings, asked: Mapping[str, Any]) -> Farm:
    """Where to run again: here when that is asked for, else the farm that is named, the one they were on, or FARM.

    asked: the resources that the command line asks for.
    """
    pooled = given["jobs"] is not None or given["gpus"] is not None
    if not pooled and not given["interactive"]:
        last = given["farm"] or _last_farm(runs)
        flags = {} if last is None else {"FARM": last}
        settings = compose.settled(_home(runs), at, given["config_file"], flags)
        if there.elsewhere(settings):
            farm = settings.farm._replace(pack=settings.farm.pack or relaunch.pack_of(runs))
            origins = {**settings.origins, **{f"RESOURCES.{key}": "--resources" for key in asked}}
            return there.farm(settings._replace(farm=farm, origins=origins))
    pooled = pooled or given["as_json"]  # stdout is for json alone
    return here.Here(gpus.slots(given["jobs"], given["gpus"]) if pooled else None)


def _home(runs: Sequence[Run]) -> str | None:
    """The directory of the experiment of these runs, None where there are none."""
    return os.path.dirname(runs[0].path) if runs else None


def _last_farm(runs: Sequence[Run]) -> str | None:
    """The farm that all of these runs were last on, None when that is this machine or not one."""
    farms = {str(owner.get("farm")) for run in runs if run.attempts and (owner := _owner(run))}
    return next(iter(farms)) if len(farms) == 1 and farms != {local.NAME} else None


def _owner(run: Run) -> dict[str, Any] | None:
    return records.of(run.attempts[-1].path, layout.OWNER, layout.ATTEMPT_FORMAT)


def resources_of(given: Sequence[str]) -> dict[str, Any]:
    """--resources KEY=VALUE, several of them, as a mapping; None for a key without a value. Raises UsageError."""
    asked: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key.strip() or not equals:
            raise UsageError(f"--resources: {text!r} is no KEY=VALUE; write time=8:00:00, or KEY= to ask for nothing")
        asked[key.strip()] = yaml12.scalar(value.strip())
    return asked


def states_of(text: str | None) -> list[State] | None:
    """--state failed,lost as states. Raises UsageError for a word that is none."""
    if text is None:
        return None
    known = [state.value for state in State]
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise UsageError(f"--state: there is no state '{word}'{nearest(word, known)}")
    return [State(word) for word in words]


def _tell(chosen: Retry, as_json: bool) -> None:
    if as_json:
        queued = [_fields(job, job in chosen.fresh) for job in chosen.jobs]
        left = [{"run": run.name, "state": str(run.state)} for run in chosen.left]
        print(json.dumps({"queued": queued, "left": left}), flush=True)
    own = len(chosen.jobs) - len(chosen.fresh)
    if chosen.fresh:
        tell(f"code  {len(chosen.fresh)} with today's code, {chosen.code}")
    if own:
        tell(f"code  {own} with their own")
    tell(f"runs  {len(chosen.jobs)} again, {len(chosen.left)} left alone")
    if told := why_left(chosen.left):
        tell(f"left  {told}")
    for line in here.held(chosen.left):
        tell(line)


def why_left(runs: Sequence[Run]) -> str:
    """The states of runs that are left alone, with what would run them; '' of those that a breaker holds."""
    found = Counter((run.state, bool(run.identity)) for run in runs if not status.is_held(run))
    told = []
    for (state, ours), count in sorted(found.items(), key=lambda each: looking.ORDER.index(each[0][0])):
        free = f" (--state {state} runs {'them' if count > 1 else 'it'})" if state not in relaunch.BUSY else ""
        told.append(f"{count} {state}" + (free if ours else " (not launched by farmx)"))
    return ", ".join(told)


def _fields(job: Job, fresh: bool) -> dict[str, str]:
    return {"run": os.path.basename(job.run), "attempt": job.number, "code": "now" if fresh else "own"}


def cancel(names: Sequence[str], as_json: bool, given: str | None, config_file: str | None, at: Surroundings) -> int:
    """End the runs that `names` name; return the exit code."""
    root = logroot(given, config_file, at)
    told: list[dict[str, str]] = []

    def note(run: Run, what: str) -> None:
        told.append({"run": run.name, "did": what})
        if not as_json:
            print(f"{run.name}  {what}")

    problems: list[str] = []
    runs = naming.find(root, [located(name, at) for name in names], problems=problems, full=unattended())
    relaunch.cancel(runs, note)
    if as_json:
        print(json.dumps(told, indent=2))
    return _left_out(problems) or int(any(each["did"].startswith("not cancelled") for each in told))
