"""farmx tend: does what RETRY says of runs that ended other than well; says what it did, and what it left alone."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import compose, farms, layout, naming, packs, relaunch, status, verdicts
from farmx.cli import notifying, there
from farmx.cli.surroundings import left_out, located, logroot, tell, unattended
from farmx.errors import FarmxError
from farmx.farms.base import Farm
from farmx.policy import Verdict
from farmx.spec import Run, Surroundings


class Due(NamedTuple):
    """A run that ended other than well, and what RETRY says of it."""

    run: Run
    verdict: Verdict


def tend(given: Mapping[str, Any], at: Surroundings) -> int:
    """Queue what is due, each run on the farm that it was on; return the exit code: of the last farm that refused."""
    root = logroot(given["logroot"], given["config_file"], at)
    told: list[dict[str, Any]] = []
    names = list(dict.fromkeys([located(name, at) for name in given["names"]] or _experiments(root)))
    try:
        runs, code = _found(root, names)
    except FarmxError:
        if given["names"]:
            raise
        runs, code = _found_alone(root, names)
    for group in _by_experiment(runs):
        dues = list(_due(group))
        told += [_fields(due) for due in dues]
        if not given["as_json"]:
            _show(dues)
        code = _queue([due for due in dues if due.verdict.again], given["config_file"], at) or code
    notifying.act(given, at)
    if given["as_json"]:
        print(json.dumps(told, indent=2))
    elif not told and not code:
        tell("nothing is due: no run failed or was lost that RETRY speaks of")
    return code


def _experiments(root: str) -> list[str]:
    return [name for name in status.experiments(root) if status.is_experiment(os.path.join(root, name))]


def _found(root: str, names: Sequence[str]) -> tuple[list[Run], int]:
    """The runs of all, for which every farm is asked once; the exit code that those call for that cannot be read."""
    problems: list[str] = []
    runs = naming.find(root, names, newest=True, problems=problems, full=unattended())
    return runs, left_out(problems)


def _found_alone(root: str, names: Sequence[str]) -> tuple[list[Run], int]:
    """The same, one after the other: one that cannot be read, which is told, holds up no other."""
    found: list[Run] = []
    code = 0
    for name in names:
        try:
            runs, left = _found(root, [name])
            found, code = [*found, *runs], left or code
        except FarmxError as error:
            tell(f"{name}: {error}")
            code = error.exit_code
    return found, code


def _by_experiment(runs: Iterable[Run]) -> Iterable[list[Run]]:
    """The settings of each are its own."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(os.path.dirname(run.path), []).append(run)
    return found.values()


def _due(runs: Iterable[Run]) -> Iterator[Due]:
    for run in runs:
        verdict = verdicts.of(run)
        if verdict.why:
            yield Due(run, verdict)


def _show(dues: Sequence[Due]) -> None:
    for run, verdict in dues:
        print(f"{run.experiment}/{run.name}  {'again' if verdict.again else 'left'}: {verdict.why}", flush=True)


def _fields(due: Due) -> dict[str, Any]:
    run, verdict = due
    told = {"experiment": run.experiment, "run": run.name, "again": verdict.again, "why": verdict.why}
    return {**told, "resources": dict(verdict.resources)} if verdict.again else told


def _queue(dues: Sequence[Due], config_file: str | None, at: Surroundings) -> int:
    """One farm after another; what one refuses holds up no other."""
    groups: dict[str, tuple[Mapping[str, Any], list[Run]]] = {}
    jobs = relaunch.last_jobs(due.run for due in dues)
    for due in dues:
        record = jobs[due.run.path]
        alike = repr((record.get("executor"), record.get("farm"), record.get(packs.RECORD)))
        groups.setdefault(alike, (record, []))[1].append(due.run)
    code = 0
    for record, runs in groups.values():
        home = os.path.dirname(runs[0].path)
        try:
            urls = notifying.routes(home, config_file, at)
            farm = _farm(record, relaunch.pack_of([record]), home, config_file, at)
            chosen = relaunch.retry(runs, "own", at.environ, farm)
            relaunch.settle([chosen], at.environ)
            made = relaunch.submissions(chosen, farm, compose.launch_id(at.now, home))
            there.queue(notifying.telling(farm, urls), made)
        except FarmxError as error:
            tell(f"{record.get('farm', layout.LOCAL)}: {error}")
            code = error.exit_code
    return code


def _farm(
    record: Mapping[str, Any], pack: Mapping[str, int], home: str, config_file: str | None, at: Surroundings
) -> Farm:
    """The farm of a submission: as its record says where that says all, else as the settings do.

    pack: as its jobs were packed.  home: the experiment's directory.
    """
    name, recorded = str(record.get("farm") or layout.LOCAL), getattr(farms.leaf(record), "recorded", None)
    if recorded:
        made: Farm = recorded(record, pack, there.tell_why)
        return made
    settings = compose.settled(home, at, config_file, {"FARM": name})
    return there.farm(settings._replace(farm=settings.farm._replace(pack=pack)))
