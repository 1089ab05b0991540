"""Runs that are there: queued once more, or ended; never found by name, never made."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import (
    breaker,
    chains,
    farms,
    layout,
    needs,
    packs,
    programs,
    records,
    runner,
    snapshot,
    stage,
    status,
    steps,
    verdicts,
)
from farmx.chains import Chain
from farmx.errors import ConfigError, FarmError, FarmxError, RecordError, StageError, UsageError, nearest
from farmx.farms import base, local, together
from farmx.farms.base import Farm
from farmx.spec import Held, Job, Run, State, Submission
from farmx.stages import AGAIN, ONLY

RETRIED = (State.FAILED, State.CANCELLED, State.LOST, State.INTERRUPTED)
OWN_FAULT = (State.FAILED,)  # what ended by itself wants today's code; what was ended by others its own
BUSY = (State.RUNNING, State.QUEUED, State.PREEMPTED)
WAITING = (State.STAGED, State.QUEUED, State.PREEMPTED, State.INTERRUPTED, State.LOST)  # what may still begin
ASKED = "asked to end"
MEANWHILE = "it began, or was ended, meanwhile; cancel it again"


# ---------------------------------------------------------------- retry


class Code(NamedTuple):
    """The code of today that runs of one experiment take. home: its directory.  recipe: what their run.json says that
    goes with it, `code` and what surrounds the program.  runs: their paths."""

    home: str
    recipe: Mapping[str, Any]
    listing: snapshot.Listing
    runs: list[str]


class Retry(NamedTuple):
    """What is about to be queued again. chains: the jobs of each run.  codes: the code of today, and which runs get it;
    the others keep their own.  records: of runs that ask for other resources now, as they are to be.  stages: path of a
    run -> which each attempt is to run, and how run.json calls that."""

    chains: tuple[Chain, ...]
    codes: tuple[Code, ...]
    records: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, tuple[Mapping[str, Sequence[str]], str]]

    @property
    def jobs(self) -> list[Job]:
        """The first of each run."""
        return [chain.jobs[0] for chain in self.chains]

    @property
    def fresh(self) -> list[Job]:
        """Those of the runs that get today's code."""
        renewed = {path for code in self.codes for path in code.runs}
        return [job for job in self.jobs if job.run in renewed]


def retry(
    runs: Sequence[Run],
    code: str | None,
    environ: Mapping[str, str],
    farm: Farm,
    only: Sequence[str] = (),
    asked: Mapping[str, Any] = {},
    recipes: Mapping[str, Mapping[str, Any]] = {},
) -> Retry:
    """How these runs, which are `wanted`, are queued again on the farm. Nothing is changed.

    code: 'now', 'own' or None for the rule: a run that failed, or that a breaker held since others did, takes
    today's code.  only: the stages to run, done or not; () for all from the first that is not done, of a run
    that is done for all.  asked: resources that go over what the runs and their stages have, from now on, None for none
    of that name.  recipes: directory of an experiment -> compose.recipe of it.  Raises FarmxError when `environ` lacks
    what a run is to be passed, `farm` would refuse what a run wants, a run lacks a stage or is gone, or today's code
    cannot be had.
    """
    fresh = {run.path for run in runs if code == "now" or (code is None and _at_fault(run))}
    records = {run.path: stage.asking(stage.recorded(run.path), asked) for run in runs}
    _check_stages(runs, only)
    _check_containers(runs, records, farm, environ)
    made = tuple(_chain(run, records[run.path], only, farm, asked) for run in runs)
    farm.check(needs.distinct(link.resources for each in made for link in each.links))
    codes = _todays_code({path: record for path, record in records.items() if path in fresh}, recipes)
    told = {**records, **{path: code.recipe for code in codes for path in code.runs if "env_pass" in code.recipe}}
    stage.check_passed((name for each in told.values() for name in each["env_pass"]), environ)
    stages = {run.path: _stages(run, each, only) for run, each in zip(runs, made) if len(run.stages) > 1}
    return Retry(made, codes, records if asked else {}, stages)


def settle(chosen: Sequence[Retry], environ: Mapping[str, str]) -> None:
    """Let the records of the runs say what was chosen; those with today's code take the PATH and the like of `environ`.

    Raises FarmxError; no run is changed before all code is there.
    """
    codes = [code for each in chosen for code in each.codes]
    digests = _taken(codes)
    for each in chosen:
        for path, record in each.records.items():
            layout.write_json(os.path.join(path, layout.RUN), dict(record))
    _renew(codes, digests, environ)
    for each in chosen:
        for path, (asked, key) in each.stages.items():
            stage.ask(path, asked, key)


def wanted(
    run: Run, states: Sequence[State] | None, only: Sequence[str] = (), release: bool = False, alone: bool = True
) -> bool:
    """Whether a retry queues the run again. states: of which runs, None for whatever has ended other than well.  only:
    the stages that it is to run, and so by default of runs that are done, too.  release: also those that a breaker held
    and nobody has.  alone: the run is named by itself, not with its experiment."""
    meant = run.state in (states or RETRIED) and bool(states or alone or not steps.dropped(run))
    meant = meant or (release and status.is_held(run))
    meant = meant or bool(only and not states and _in_part(run))
    return meant and run.state not in BUSY and run.identity is not None


def _in_part(run: Run) -> bool:
    """Whether nothing failed in it and all of its stages, or the first ones, are done."""
    return run.state is State.DONE or (run.state is State.STAGED and bool(run.attempts) and not status.is_held(run))


def _chain(
    run: Run, record: Mapping[str, Any], only: Sequence[str], farm: Farm, asked: Mapping[str, Any]
) -> Chain:
    """Its jobs; the first asks for more than the run was staged with where RETRY says so, of what is not `asked`."""
    again, retry = _again(run, only), record.get(layout.RETRY) or {}
    reached = next((place for place, each in enumerate(run.stages) if not each.done), 0)
    todo = [each for place, each in enumerate(record["stages"]) if (each["name"] in again or not again)]
    todo = todo if again else todo[reached:]
    own = {each["name"]: each.get("resources") or {} for each in record["stages"]}
    resources = record.get("resources") or {}
    first, *rest = chains.links_of([(each["name"], own[each["name"]]) for each in todo], resources, farm)
    raised = needs.merged(verdicts.wanted(run, retry, first.resources, resources, own), asked)
    return chains.chain_of(run, (first._replace(resources=raised), *rest))


def _again(run: Run, only: Sequence[str]) -> Sequence[str]:
    """The stages to run though they may be done."""
    return only or [each.name for each in run.stages if all(stage.done for stage in run.stages)]


def _stages(run: Run, chain: Chain, only: Sequence[str]) -> tuple[Mapping[str, Sequence[str]], str]:
    again = _again(run, only)
    return chain.asked(again), AGAIN if again else ONLY


def _at_fault(run: Run) -> bool:
    """Whether it ended, or was kept from beginning, by a fault of the code."""
    return run.state in OWN_FAULT or status.is_held(run)


def let_go(runs: Iterable[Run], code: str | None, environ: Mapping[str, str],
           recipe: Callable[[str, str], Mapping[str, Any]]) -> list[Run]:  # fmt: skip
    """Let begin what a breaker holds in the queue of a farm, each submission whole; return which runs that were.

    code: 'own' for that which they have, else today's.  recipe: (directory of an experiment, farm or '') ->
    compose.recipe of it there; what they are passed was settled as they were queued. Raises FarmxError.
    """
    held = [run for run in runs if run.state in (State.QUEUED, State.PREEMPTED) and status.is_held(run)]
    held = [run for run in held if _release(run)]  # else of a pool that is about to end
    if code != "own":
        by_farm: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
        for run in held:
            if run.state is State.QUEUED or verdicts.causes(run)[-1] == "error":
                key = os.path.dirname(run.path), base.first(run.held).record.get("farm") or ""
                by_farm.setdefault(key, {})[run.path] = stage.recorded(run.path)
        codes = [each for (home, farm), told in by_farm.items()
                 for each in _todays_code(told, {home: _but_passed(recipe(home, farm))})]  # fmt: skip
        _renew(codes, _taken(codes), environ)
    by_submission = {base.first(run.held).submission: run for run in held}
    for submission, run in by_submission.items():
        breaker.unbar(submission)  # else what the farm lets begin would end at once
        _release(run)(base.first(run.held))
        breaker.release(submission)
    return held


def _but_passed(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in recipe.items() if key != "env_pass"}


def _release(run: Run) -> Any:
    """What has the farm of a held run let begin what a breaker holds, None where it cannot."""
    return farms.release(base.first(run.held).record)


def _check_containers(
    runs: Iterable[Run], told: Mapping[str, Mapping[str, Any]], farm: Farm, environ: Mapping[str, str]
) -> None:
    """Raises ConfigError for a run that the farm cannot start in the container that it was staged with."""
    for run in runs:
        inside = told[run.path].get("container") or {}
        code = told[run.path]["code"]
        if problem := programs.misfit(inside, farm.executor, environ, os.path.dirname(run.path), code):
            raise ConfigError(f"{run.name}: CONTAINER: {problem}")


def _check_stages(runs: Iterable[Run], only: Sequence[str]) -> None:
    """Raises UsageError for a stage that one of the runs has not."""
    for run in runs:
        known = [stage.name for stage in run.stages]
        for name in only:
            if name not in known:
                raise UsageError(f"--stage: {run.name} has no stage {name!r}{nearest(name, known)}")


def _todays_code(
    records: Mapping[str, Mapping[str, Any]], recipes: Mapping[str, Mapping[str, Any]]
) -> tuple[Code, ...]:
    """Today's code of the source that each run came from, listed once for each source and experiment. Raises StageError
    for a source that is gone."""
    made: dict[tuple[str, str], Code] = {}
    for path, record in records.items():
        recipe = _recipe(record, path, recipes)
        key = os.path.dirname(path), repr((sorted(recipe["code"].items()), sorted(recipe)))
        if key not in made:
            made[key] = _code(key[0], recipe)
        made[key].runs.append(path)
    return tuple(made.values())


def _recipe(record: Mapping[str, Any], run: str, recipes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the run.json of a run is to say that goes with today's code: what settings say today of what is code and
    what is linked, where the newest launch took its code from there, too; what surrounds the program, where that was
    a launch of its sweep file."""
    today = recipes.get(os.path.dirname(run)) or {"code": {}}
    if today["code"].get("source") != record["code"]["source"]:
        return {"code": record["code"]}
    return today if today["sweep"] == record.get("sweep") else {"code": today["code"]}


def _code(home: str, recipe: Mapping[str, Any]) -> Code:
    source, staging = str(recipe["code"]["source"]), recipe["code"]["staging"]
    if not os.path.isdir(source):
        raise StageError(f"{source}: the code was here and is gone; give --code own to use what the runs have")
    told = {key: tuple(each) if isinstance(each, list) else each for key, each in recipe["code"].items()}
    wish = snapshot.Wish(**{key: told[key] for key in snapshot.Wish._fields if key in told})  # type: ignore[arg-type]
    listing = snapshot.listing(source, wish, [os.path.dirname(home)])
    code = stage.recipe(source, wish._asdict(), staging, len(listing.files))
    return Code(home, {**recipe, "code": code}, listing, [])


def _taken(codes: Iterable[Code]) -> dict[str, str]:
    """Path of each run -> the snapshot of its code, which is there now; no run has it yet. Raises StageError."""
    digests: dict[str, str] = {}
    for home, _, listing, runs in codes:
        digests.update(dict.fromkeys(runs, snapshot.take(listing, os.path.join(home, layout.FARMX)).digest))
    return digests


def _renew(codes: Iterable[Code], digests: Mapping[str, str], environ: Mapping[str, str]) -> None:
    for code in codes:
        for path in code.runs:
            stage.renew(path, digests[path], environ, more=code.recipe)


def last_jobs(runs: Iterable[Run]) -> dict[str, Mapping[str, Any]]:
    """Path of each run -> job.json of the submission that it was handed over in last, {} where there is none.

    Of a submission that is gone only the `farm` is known.
    """
    runs = list(runs)
    listed = {home: _listed(home) for home in {os.path.dirname(run.path) for run in runs}}
    return {run.path: listed[os.path.dirname(run.path)].get(os.path.basename(run.path)) or _job(run) for run in runs}


def _listed(experiment: str) -> dict[str, Mapping[str, Any]]:
    """Run -> job.json of the submission that holds its newest attempt, whether anything of that began or not.

    What a command was to run and was stopped before is still its farm's, and what a farm had no room for is, too.
    """
    found: dict[str, tuple[tuple[int, int], Mapping[str, Any]]] = {}
    for path in layout.submissions(os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)):
        if record := records.job(path):
            for run, number in (*layout.runs_of(path), *layout.runs_of(path, layout.REFUSED)):
                attempt = os.path.join(experiment, run, layout.ATTEMPTS, layout.attempt_name(*number))
                newest = run not in found or number >= found[run][0]  # clocks that name submissions may be wrong
                if newest and (not of_command(record) or os.path.exists(attempt)):
                    found[run] = number, record
    return {run: record for run, (_, record) in found.items()}


def of_command(job: Mapping[str, Any]) -> bool:
    """Whether no farm had these runs, by their job.json, but a command here, for as long as it lived."""
    return job.get("farm") == layout.LOCAL and not job.get("detached")


def _job(run: Run) -> Mapping[str, Any]:
    """The same by the records of its attempts: its directory was renamed, or the submission is gone."""
    for attempt in reversed(run.attempts):
        owner = records.of(attempt.path, layout.OWNER, layout.ATTEMPT_FORMAT) or {}
        if owner.get("submission"):  # else a cancel took it
            home, _ = verdicts.submission(run, attempt)
            return records.job(home) or {"farm": owner.get("farm")}
    return {}


def pack_of(jobs: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
    """PACK as all of these jobs, by their job.json, were packed, {} when they were not or not alike."""
    found = {packs.recorded(job) for job in jobs if job}
    pack = found.pop() if len(found) == 1 else packs.ALONE
    return {} if pack == packs.ALONE else {"runs": pack.slots, "each": pack.each}


def submissions(chosen: Retry, farm: Farm, name: str) -> list[Submission]:
    """Write down the jobs, each experiment's in submissions of its own, in order."""
    by_home: dict[str, list[Chain]] = {}
    for each in chosen.chains:
        by_home.setdefault(os.path.dirname(each.jobs[0].run), []).append(each)
    return [
        submission
        for home, group in by_home.items()
        for submission in chains.written(os.path.join(home, layout.FARMX, layout.SUBMISSIONS), name, farm, group)
    ]


# ---------------------------------------------------------------- cancel


def cancel(runs: Iterable[Run], tell: Callable[[Run, str], None], more: Mapping[str, str] = {}) -> None:
    """End each run as cancelled: one that waits can never start, one that runs is asked to end.

    tell: each run and what was done: 'cancelled' or 'asked to end', with why its farm was not told, 'not cancelled:
    WHY', or its state when it has ended.
    more: what the ends of those that wait say beside.
    Each farm is called once, after the records say so: whatever it does then, none of these begins any more.
    """
    # Those that wait go first: a slot that a cancelled run leaves must not take one of them.
    done = [(run, *_cancelled(run, more)) for run in sorted(runs, key=lambda run: run.state is State.RUNNING)]
    refused = _end_jobs([held for _, _, helds in done for held in helds])
    for run, did, helds in done:
        why = next((refused[key] for held in helds if (key := (held.submission, held.place)) in refused), None)
        unseen = why is not None and did == ASKED and any(held.record.get("elsewhere") for held in helds)
        tell(run, did if why is None else f"not cancelled: {why}" if unseen else _but(did, why))


def left_behind(experiment: str, sweep: str, wanted: Collection[str]) -> list[Run]:
    """The runs that wait and that this sweep file once made, of points that are not `wanted` any more, by name.

    Raises RecordError when a run cannot be read: it may be one of them.
    """
    look = status.of(experiment, layout.names(experiment))
    if look.problems:
        raise RecordError(look.problems[0])
    waiting = [run for run in look.runs if run.state in WAITING and run.identity and run.identity not in wanted]
    return [run for run in waiting if (records.of(run.path, layout.RUN, layout.RUN_FORMAT) or {}).get("sweep") == sweep]


def _but(did: str, why: str) -> str:
    told = "its runner will see that" if did == ASKED else "its job is still queued and will end at once"
    return f"{did}; {told}: {why}"


def _cancelled(run: Run, why: Mapping[str, str]) -> tuple[str, Sequence[Held]]:
    """What became of it, and what its farm is to end."""
    try:
        if run.state in WAITING or _told_by_its_farm_alone(run):
            return _never(run, why)
        if run.state is State.UNKNOWN and run.held and not run.attempts:  # its farm cannot say whether it begins
            return f"not cancelled: {run.note}", ()
        if run.state is State.CANCELLED and run.held and run.attempts and run.attempts[-1].end is None:
            local.request(run.attempts[-1])
        if run.state not in (State.RUNNING, State.UNKNOWN) or not run.attempts:
            return str(run.state), ()
        (local.request if _elsewhere(run) else local.cancel)(run.attempts[-1])
        if waits := _left(run):
            return _never(run._replace(state=waits), why)
    except (FarmError, StageError) as error:  # the others are cancelled all the same
        return f"not cancelled: {error}", ()
    return ASKED, _elsewhere(run)


def _never(run: Run, why: Mapping[str, str]) -> tuple[str, Sequence[Held]]:
    """The same of one whose next attempt is to begin: it never does."""
    closed = _close(run.path, _next(run), why)
    return ("cancelled", _elsewhere(run)) if closed else (f"not cancelled: {MEANWHILE}", ())


def _left(run: Run) -> State | None:
    """How it waits, where its attempt ended meanwhile so that another follows; None while that runs, or is the last.

    Who ends it, and who begins the next, looks for our wish again.
    """
    state = (layout.of_attempt(run.attempts[-1].path, layout.END) or {}).get("state")
    if state == State.PREEMPTED:
        return State.PREEMPTED
    return State.QUEUED if state == State.DONE and base.ahead(run) else None


def _told_by_its_farm_alone(run: Run) -> bool:
    """Whether no record says that the run is over, before or between its attempts: its farm forgets that one day."""
    ahead = base.ahead(run)
    if run.state is State.FAILED:  # before it began: a farm may keep the job for who mends it
        return any(held.name and not held.record.get(layout.AFTER) for held in ahead)
    end = run.attempts[-1].end if run.attempts else None
    left = bool(ahead) or (end or {}).get("state") == State.PREEMPTED
    return run.state is State.CANCELLED and bool(run.held) and left


def _next(run: Run) -> str:
    """The number of the attempt that is to begin next; once that is taken, nothing begins that farms hold for it."""
    queued, restarted = run.attempts[-1].number if run.attempts else (0, 0)
    if run.state is State.PREEMPTED:
        return layout.attempt_after(layout.attempt_name(queued, restarted))
    ahead = base.ahead(run)
    return layout.attempt_name(base.counting(ahead) if ahead else queued + 1)


def _elsewhere(run: Run) -> tuple[Held, ...]:
    return tuple(held for held in run.held if layout.executor_of(held.record) != layout.LOCAL)


def _end_jobs(helds: Sequence[Held]) -> dict[tuple[str, int], str]:
    """Have the farms end these; (submission, index) -> why it could not be done."""
    by_farm: dict[tuple[Any, ...], list[Held]] = {}
    for held in helds:  # each user's apart: who may not end one is told so of that alone
        key = held.record["executor"], held.record.get("farm"), held.record.get("user")
        by_farm.setdefault(key, []).append(held)
    refused: dict[tuple[str, int], str] = {}
    for group in by_farm.values():
        try:
            if whole := together.whole(group):
                farms.leaf(group[0].record).cancel(whole)
        except FarmxError as error:  # a record that cannot be read, too: the records of the runs say so already
            left = error.helds if isinstance(error, base.Refused) else group
            refused.update({(held.submission, held.place): str(error) for held in left})
    return refused


def _close(run: str, number: str, why: Mapping[str, str]) -> bool:
    """Keep the attempt from ever starting; False where it has. Raises StageError."""
    try:
        return runner.close(run, number, **why)
    except OSError as error:
        raise StageError(f"{error.filename or run}: {error.strerror}") from error
