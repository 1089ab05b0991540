"""farmx retry and farmx cancel: from the command line to what is done, and what is printed of it."""

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from farmx import compose, naming, relaunch, status, steps, yaml12
from farmx.cli import here, looking, notifying, telling, there
from farmx.cli.surroundings import left_out, located, logroot, tell, unattended
from farmx.config import Config
from farmx.errors import FarmxError, NoFarmError, UsageError, nearest
from farmx.farms import gpus
from farmx.farms.base import Farm
from farmx.farms.gpus import Slot
from farmx.layout import LOCAL
from farmx.relaunch import Retry
from farmx.spec import Job, Run, State, Submission, Surroundings

STOPPED = 130  # the exit code of what somebody stopped


class Group(NamedTuple):
    """Runs of one experiment that go to one place. home: the experiment's directory.  urls: whom NOTIFY tells.
    recipe: of today's code.  notes: what is set and does nothing there, where that is this machine."""

    home: str
    runs: list[Run]
    farm: Farm
    urls: Sequence[str]
    recipe: Mapping[str, Any]
    notes: Sequence[str]


def retry(given: Mapping[str, Any], at: Surroundings) -> int:
    """Queue again, each run on the farm that had it, or run them here; return the exit code."""
    root = logroot(given["logroot"], given["config_file"], at)
    states, asked = states_of(given["state"]), resources_of(given["resources"])
    problems: list[str] = []
    runs = naming.find(root, [located(name, at) for name in given["names"]], newest=True, problems=problems,
                       full=unattended())  # fmt: skip
    code = left_out(problems)
    alone = naming.alone(root, [located(name, at) for name in given["names"]])
    again = [run for run in runs
             if relaunch.wanted(run, states, given["stages"], given["release"], run.path in alone)]  # fmt: skip
    for home in dict.fromkeys(os.path.dirname(run.path) for run in runs if given["farm"]):
        compose.settled(home, at, given["config_file"], {"FARM": given["farm"]})  # a wrong name is told, needed or not
    groups = _groups(given, again, at, asked)
    chosen = [relaunch.retry(each.runs, given["code"], at.environ, each.farm, given["stages"], asked,
                             {each.home: each.recipe}) for each in groups]  # fmt: skip
    today = partial(_recipe, given, at)
    gone = relaunch.let_go(runs, given["code"], at.environ, today) if given["release"] else []
    if gone:
        tell(f"      {len(gone)} let go")
    relaunch.settle(chosen, at.environ)
    taken = {run.path for run in (*again, *gone)}
    left = [run for run in runs if run.path not in taken]
    _tell(chosen, left, given["as_json"])
    for note in dict.fromkeys(note for group in groups for note in group.notes):
        tell(f"note  {note}")
    refused: list[FarmxError] = []
    for group, each in zip(groups, chosen):
        try:
            code = _queue(group, relaunch.submissions(each, group.farm, compose.launch_id(at.now, group.home))) or code
        except FarmxError as error:  # holds up no other farm: the records of all are those of what was told
            refused.append(error)
        if code == STOPPED:
            break
    for other in refused[1:]:
        tell(f"refused  {other}")
    if refused:
        raise refused[0]
    _tell_next(groups, left, _on(states, again, at))
    if code != STOPPED and not all(isinstance(group.farm, here.Here) for group in groups):
        notifying.act(given, at)
    return code


def _groups(given: Mapping[str, Any], runs: Sequence[Run], at: Surroundings, asked: Mapping[str, Any]) -> list[Group]:
    """The runs of each experiment, whose settings are their own, by where they go; those that run here last.

    asked: the resources that the command line asks for. Raises FarmxError for a farm that is not there any more.
    """
    places, jobs = _places(given), relaunch.last_jobs(runs)
    defaults: dict[str, str] = {}
    by_place: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        home, name = os.path.dirname(run.path), ""
        if not _asked_here(given) and not (name := given["farm"] or _holder(jobs[run.path])):
            if home not in defaults:
                defaults[home] = _default(home, given["config_file"], at)
            name = defaults[home]
        by_place.setdefault((home, name), []).append(run)
    groups = []
    for (home, name), group in sorted(by_place.items(), key=lambda each: each[0][1] == ""):
        settings = _settings(home, name, len(group), given, at)
        pack = relaunch.pack_of(jobs[run.path] for run in group)
        farm = _there(settings, asked, pack) if name else here.Here(places)
        notes = tuple(compose.idle(settings, here=not name)) if farm.executor == LOCAL else ()
        urls, recipe = notifying.addresses(settings.notify), compose.recipe(home, settings)
        groups.append(Group(home, group, farm, urls, recipe, notes))
    return groups


def _recipe(given: Mapping[str, Any], at: Surroundings, home: str, farm: str) -> Mapping[str, Any]:
    """The recipe of today's code for what that farm has of the experiment; {} where the farm is not there any more."""
    try:
        return compose.recipe(home, compose.settled(home, at, given["config_file"], {"FARM": farm} if farm else {}))
    except NoFarmError:
        return {}


def _holder(job: Mapping[str, Any]) -> str:
    """The farm that had the runs of this job.json, '' for a command here, and for none."""
    return "" if relaunch.of_command(job) else str(job.get("farm") or "")


def _asked_here(given: Mapping[str, Any]) -> bool:
    return given["interactive"] or given["jobs"] is not None or given["gpus"] is not None


def _places(given: Mapping[str, Any]) -> Sequence[Slot] | None:
    """The slots of what runs here, None for the foreground, whose output would be among the json."""
    pooled = given["jobs"] is not None or given["gpus"] is not None or given["as_json"]
    return gpus.slots(given["jobs"], given["gpus"]) if pooled else None


def _default(home: str, config_file: str | None, at: Surroundings) -> str:
    """The farm that FARM names for the experiment, '' for this machine."""
    settings = compose.settled(home, at, config_file)
    return settings.farm.name if there.elsewhere(settings) else ""


def _settings(home: str, name: str, count: int, given: Mapping[str, Any], at: Surroundings) -> Config:
    """The settings of an experiment of which so many runs go to the farm of that name, '' for this machine."""
    try:
        return compose.settled(home, at, given["config_file"], {"FARM": name} if name else {})
    except NoFarmError as error:
        if not name:
            raise
        runs = "1 run" if count == 1 else f"{count} runs"
        raise NoFarmError(f"{os.path.basename(home)}: {runs} to go back to {name}: {error}; give --farm NAME, or -i to "
                          "run here") from None  # fmt: skip


def _there(settings: Config, asked: Mapping[str, Any], pack: Mapping[str, int]) -> Farm:
    """The farm that they name. pack: as the last jobs of its runs were packed."""
    if not there.elsewhere(settings):
        raise here.unreachable(settings.farm.name)
    origins = {**settings.origins, **{f"RESOURCES.{key}": "--resources" for key in asked}}
    return there.farm(settings._replace(farm=settings.farm._replace(pack=settings.farm.pack or pack), origins=origins))


def _queue(group: Group, submissions: Sequence[Submission]) -> int:
    """Hand over the jobs of a group, or run them here; the exit code that this calls for."""
    told = notifying.telling(group.farm, group.urls)
    if not isinstance(group.farm, here.Here):
        there.queue(told, submissions)
        return 0
    told.submit(submissions, lambda submission, queued: None)
    here.tell_end(group.farm, len(group.runs))
    return group.farm.code()


def _tell_next(groups: Sequence[Group], left: Sequence[Run], on: str) -> None:
    """The commands to type next. left: the runs that were left alone.  on: what goes on with what was stopped here."""
    ours = [(group, group.farm) for group in groups if isinstance(group.farm, here.Here)]
    others = [group for group in groups if not isinstance(group.farm, here.Here)]
    lines: list[str] = []
    if others:
        names, counts = _called(others, left)
        lines += there.next_lines(names, [run.path for group in others for run in group.runs], counts)
    if ours:
        names, counts = _called([group for group, _ in ours], left)
        lines += here.next_lines(names, [farm for _, farm in ours], counts, on)
    for line in dict.fromkeys(lines):
        tell(f"next  {line}")


def _called(groups: Sequence[Group], left: Sequence[Run]) -> tuple[list[str], Counter[str]]:
    """What commands call the experiments of the groups, and the states of those of `left` that are of them, but of none
    that --prune cancelled, which no retry of an experiment takes."""
    homes = list(dict.fromkeys(group.home for group in groups))
    these = (run for run in left if os.path.dirname(run.path) in homes and not steps.dropped(run))
    return [telling.called(home) for home in homes], Counter(str(run.state) for run in these)


def _on(states: Sequence[State] | None, runs: Sequence[Run], at: Surroundings) -> str:
    """The command that goes on with these runs once this one was stopped: the same words may mean others by then."""
    found = {run.state for run in runs}
    rest, wanted = "what was interrupted" if State.DONE in found else "the rest", {State.INTERRUPTED, *found}
    wanted.discard(State.DONE)  # those that are done by now are no rest
    same = State.DONE not in found and wanted <= set(states or relaunch.RETRIED)
    return f"{telling.retyped(at.argv if same else _asking(at.argv, wanted))}  # goes on with {rest}"


def _asking(argv: Sequence[str], states: Collection[State]) -> list[str]:
    """The command with --state as said, in place of what it had."""
    words = [word for word in argv if not word.startswith("--state=")]
    while "--state" in words:
        place = words.index("--state")
        del words[place : place + 2]
    return [*words, "--state", ",".join(sorted(map(str, states)))]


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


def _tell(chosen: Sequence[Retry], left: Sequence[Run], as_json: bool) -> None:
    """What is queued again, and what is left alone."""
    jobs = [job for each in chosen for job in each.jobs]
    fresh = {job for each in chosen for job in each.fresh}
    if as_json:
        queued = [_fields(job, job in fresh) for job in jobs]
        told = [{"run": run.name, "state": str(run.state)} for run in left]
        print(json.dumps({"queued": queued, "left": told}), flush=True)
    if fresh:
        sizes = dict.fromkeys(code.listing.told() for each in chosen for code in each.codes)
        tell(f"code  {len(fresh)} with today's code, {', '.join(sizes)}")
    if own := len(jobs) - len(fresh):
        tell(f"code  {own} with their own")
    tell(f"runs  {len(jobs)} again, {len(left)} left alone")
    if why := why_left(left):
        tell(f"left  {why}")
    for line in telling.held(left):
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
            print(f"{run.name:<{width}}  {what}")

    problems: list[str] = []
    runs = naming.find(root, [located(name, at) for name in names], problems=problems, full=unattended())
    width = max((len(run.name) for run in runs), default=0)
    relaunch.cancel(runs, note)
    if as_json:
        print(json.dumps(told, indent=2))
    return left_out(problems) or int(any(each["did"].startswith("not cancelled") for each in told))
