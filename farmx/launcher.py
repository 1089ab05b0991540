"""A launch from end to end: specs are matched with what is there, the code is snapshotted, what is missing is staged,
claimed and handed to a farm. Values flow one way; never prints, never reads the clock, the cwd or the command line.

Not named launch: `farmx.launch` is the function of that name in api.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import claims, interpreter, layout, plan, programs, provenance, snapshot, stage, status, steps, verdicts
from farmx.chains import Chain, Link, chain_of, in_one, links_of, written
from farmx.errors import ConfigError, RecordError
from farmx.farms.base import Farm
from farmx.spec import Job, Run, RunSpec, Submission
from farmx.steps import TAKEN, Step

SHARE_ABOVE = 2_000  # files: a tree of links a run costs more than it protects above this


class Order(NamedTuple):
    """What is to be launched.

    source: the directory of the code.  experiment: the directory LOGROOT/<name>.  sweep: the sweep file's path.
    specs: distinct, in order.  staging: 'link', 'copy', 'share' or None to decide by the number of files.
    told: what the launch record repeats (argv, cwd, user, host, the sweep as composed).  only: the stages to run, ()
    for all.  notify: the addresses that are told what becomes of it; they are written nowhere.
    """

    id: str
    source: str
    experiment: str
    sweep: str
    specs: tuple[RunSpec, ...]
    wish: snapshot.Wish
    environ: Mapping[str, str]
    now: float
    farm: str
    arg_style: str = "gnu"
    staging: str | None = None
    cool: bool = True
    again: bool = False
    told: Mapping[str, Any] | None = None
    only: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()


class Choice(NamedTuple):
    """What a launch does about one point. run: its newest run, as it stands.  generation: of the run to make, or of it.

    job: 'new' to make a run, 'take' to queue the one there, 'leave' to queue nothing.  step: what is done about its
    stages.  why: what RETRY calls for, of a run that failed.
    """

    spec: RunSpec
    run: Run | None
    generation: int
    job: str
    step: Step = Step(False)
    why: str = ""


class Summary(NamedTuple):
    """What a launch is about to hand over, for people and --json.

    counts: 'new', 'taken up' and the states of what is left alone -> how many.  changed: how many of the runs left
    alone were made from other code.  differs: the files in which the last of them differs.  notes: what people should
    know, a line each.  held: the runs left alone that a breaker holds.
    """

    farm: str
    experiment: str
    code: str
    digest: str
    counts: Mapping[str, int]
    changed: int
    differs: tuple[str, ...]
    notes: tuple[str, ...]
    jobs: tuple[Job, ...]
    held: tuple[Run, ...] = ()


def launch(
    order: Order,
    farm: Farm,
    tell: Callable[[Summary], None],
    progress: Callable[[int, int], None],
    heard: Callable[[Submission, int], None] = lambda submission, queued: None,
) -> Summary:
    """Bring every point of the order to a run and hand what is missing to `farm`; return what was handed over.

    tell: called once all is staged and recorded, before the farm is.  progress: (runs staged, runs to stage).  heard:
    so many more jobs of a submission are queued.
    Afterwards every point has a run directory; what was there is untouched but for runs taken up. Raises FarmxError:
    before anything is made for what is wrong, later with all that was staged kept for the same command to finish.
    """
    code = checked(order)
    programs.check_containers(order.specs, farm.executor, order.environ, order.experiment)
    farm.check(_distinct(link.resources for spec in order.specs for link in _links(order, farm, spec)))
    _prepare(order)
    choices = choose(order)
    claims.sweep_staging(order.experiment)  # what waited there with a claim is in its place now
    taken = snapshot.take(code, os.path.join(order.experiment, layout.FARMX))
    if order.again:
        _intend(order, choices)
    made, lost = _stage(order, farm, choices, _shared(order, code, taken.digest), progress)
    jobs = tuple(each.jobs[0] for each in made)
    said = [taken.note] if taken.note else []
    notes = (*_elsewhere(order), *programs.bare(order.specs, order.source, code), *code.warnings, *said,
             *_copied(order, code), *_changes(order), *_late(choices), *_in_one(order, farm))  # fmt: skip
    summary = _summary(order, code, taken.digest, choices, jobs, lost, notes)
    _record(order, summary, choices)
    submissions = written(_home(order, layout.SUBMISSIONS), order.id, farm, made)
    tell(summary)
    if submissions:
        farm.submit(submissions, heard)
    return summary


def _distinct(wanted: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({repr(each): each for each in wanted}.values())


def checked(order: Order) -> snapshot.Listing:
    """The code to snapshot, after everything that can be wrong with the order was looked at; nothing is made."""
    logroot = os.path.dirname(order.experiment)
    if os.path.exists(logroot) and not os.path.isdir(logroot):
        raise ConfigError(f"LOGROOT: {logroot} is a file; name a directory")
    stage.check_passed((name for spec in order.specs for name in spec.env_pass), order.environ)
    code = snapshot.listing(order.source, order.wish, [os.path.dirname(order.experiment)])
    programs.check_paths(order.specs, order.source, code)
    programs.check_first(order.specs, order.source, order.environ, code)
    return code


# ---------------------------------------------------------------- what is there


def choose(order: Order) -> list[Choice]:
    """What to do about each point: make what is missing, take up what waits for it, leave the rest.

    Raises RecordError when the record of a run that holds a point cannot be read: it is not launched a second time.
    """
    wanted = {spec.identity for spec in order.specs}
    held, runs = _held(order.experiment, wanted)
    if any(holder.run in runs and runs[holder.run].identity != key for key, holder in held.items() if holder.run):
        claims.reindex(order.experiment)
        held, runs = _held(order.experiment, wanted)
    goals = _again(order, held, runs) if order.again else {}
    return [
        _choice(spec, held.get(spec.identity), runs, goals.get(spec.identity, 1), order.only) for spec in order.specs
    ]


def _held(experiment: str, wanted: Collection[str]) -> tuple[dict[str, claims.Holder], dict[str, Run]]:
    """Who holds each point, by identity, and how the runs of the wanted ones stand, by name."""
    held = claims.holders(experiment)
    look = status.of(experiment, [holder.run for key, holder in held.items() if holder.run and key in wanted])
    if look.problems:
        raise RecordError(look.problems[0])
    return held, {run.name: run for run in look.runs}


def _choice(spec: RunSpec, holder: claims.Holder | None, runs: Mapping[str, Run], goal: int,
            only: Sequence[str]) -> Choice:  # fmt: skip
    """goal: the generation that this launch wants the point to have at least.  only: the stages to run, () for all."""
    if holder is None:
        return Choice(spec, None, goal, "new")
    run = runs.get(holder.run or "")
    if run is None or run.identity != spec.identity or holder.generation < goal:
        return Choice(spec, run, max(goal, holder.generation + 1), "new")
    step = steps.of(spec, run, only)
    if not step.queue and not only and (verdict := verdicts.of(run, spec.retry, spec.resources)).again:
        return Choice(spec, run, holder.generation, "take", step, verdict.why)
    if step.queue and status.is_held(run):
        step = step._replace(renew=True)  # it waited for the code to be mended
    return Choice(spec, run, holder.generation, "take" if step.queue else "leave", step)


def _again(order: Order, held: Mapping[str, claims.Holder], runs: Mapping[str, Run]) -> dict[str, int]:
    """The generation each point is to reach: those of the last --again while it is unfinished, else one more."""
    for record in _launches(order.experiment):
        goals: dict[str, int] = record.get("again") or {}
        if goals:
            if all(spec.identity in goals for spec in order.specs) and not _reached(goals, held, runs):
                return goals
            break
    return {key: held[key].generation + 1 if key in held else 1 for key in (spec.identity for spec in order.specs)}


def _reached(goals: Mapping[str, int], held: Mapping[str, claims.Holder], runs: Mapping[str, Run]) -> bool:
    """Whether every point got a run of its generation and none waits; one that was deleted since has been there."""
    for key, generation in goals.items():
        run = runs.get(held[key].run or "") if key in held else None
        if key not in held or held[key].generation < generation or (run is not None and run.state in TAKEN):
            return False
    return True


def _launches(experiment: str) -> Iterator[dict[str, Any]]:
    """The launch records, newest first; one that cannot be read is no record."""
    home = os.path.join(experiment, layout.FARMX, layout.LAUNCHES)
    for name in sorted(layout.names(home), reverse=True):
        try:
            record = layout.read_json(os.path.join(home, name), layout.LAUNCH_FORMAT)
        except (RecordError, FileNotFoundError):
            continue
        if all(isinstance(record.get(key) or {}, dict) for key in ("again", "shared")):
            yield record


# ---------------------------------------------------------------- making what is missing


def _home(order: Order, name: str) -> str:
    return os.path.join(order.experiment, layout.FARMX, name)


def _prepare(order: Order) -> None:
    """Make the experiment's directories; a LOGROOT of its own inside a repository is kept out of git."""
    claims.prepare(order.experiment)
    logroot = os.path.dirname(order.experiment)
    ignore = os.path.join(logroot, ".gitignore")
    inside = _in_repository(logroot) or os.path.realpath(logroot).startswith(os.path.realpath(order.source) + os.sep)
    if inside and not os.path.lexists(ignore) and _only_runs(logroot):
        layout.write(ignore, "*\n")


def _in_repository(path: str) -> bool:
    path = os.path.realpath(path)
    while not os.path.exists(os.path.join(path, ".git")) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return os.path.exists(os.path.join(path, ".git"))


def _only_runs(logroot: str) -> bool:
    """Whether nothing but experiments and runs is in there, so that nothing else is hidden with them."""
    marks = (layout.FARMX, *layout.RUN_MARKS)
    names = layout.names(logroot)
    return all(any(os.path.lexists(os.path.join(logroot, name, mark)) for mark in marks) for name in names)


def _shared(order: Order, code: snapshot.Listing, digest: str) -> stage.Shared:
    staging = order.staging or ("share" if len(code.files) > SHARE_ABOVE else "link")
    recipe = {"staging": staging, "source": order.source, **order.wish._asdict()}
    return stage.Shared(os.path.basename(order.experiment), order.sweep, digest, recipe, order.environ, order.now)


def _stage(
    order: Order, farm: Farm, choices: Sequence[Choice], shared: stage.Shared, progress: Callable[[int, int], None]
) -> tuple[list[Chain], int]:
    """Stage, claim and put in place each new run.

    Returns the jobs of each run, in order, and how many points others took first.
    """
    new = [choice for choice in choices if choice.job == "new"]
    names = _names(order, [choice.spec.tag for choice in new])
    found: list[Chain] = []
    lost, made = 0, 0
    for choice in choices:
        if choice.run and choice.step.renew:
            stage.renew(choice.run.path, shared.digest, order.environ, choice.spec.stages)
        if choice.job == "take" and choice.run:
            if choice.spec.retry:
                stage.set_retry(choice.run.path, choice.spec.retry)
            found.append(_take(order, farm, choice, choice.run))
        if choice.job != "new":
            continue
        links = _links(order, farm, choice.spec)
        name = _make(order, choice, next(names), shared._replace(only=chain_of("", links).asked(order.only)))
        if name:
            found.append(chain_of(os.path.join(order.experiment, name), links))
        else:
            lost += 1
        made += 1
        progress(made, len(new))
    return found, lost


def _links(order: Order, farm: Farm, spec: RunSpec, begin: str = "") -> tuple[Link, ...]:
    """The jobs that run the stages asked for of a run, from `begin` on, '' for the first."""
    names = [each.name for each in spec.stages]
    todo = spec.stages[names.index(begin) if begin in names else 0 :]
    wanted = [(each.name, each.resources) for each in todo if not order.only or each.name in order.only]
    return links_of(wanted, spec.resources, farm)


def _take(order: Order, farm: Farm, choice: Choice, run: Run) -> Chain:
    """The jobs that go on with a run that is there; its record says so."""
    spec = choice.spec
    reached = next((each.name for each in run.stages if not each.done), "")
    first, *rest = _links(order, farm, spec, choice.step.begin or reached)
    raised = first._replace(resources=verdicts.wanted(run, spec.retry, first.resources))
    found = chain_of(run, (raised, *rest))
    if len(spec.stages) > 1:
        stage.ask(run.path, found.asked(order.only))
    return found


def _names(order: Order, tags: Sequence[str | None], *used: str) -> Iterator[str]:
    """A name for each tag that no run has now, nor is in `used`."""
    taken = {*used, *layout.names(order.experiment), *layout.names(_home(order, layout.STAGING))}
    return plan.names(iter(tags), taken, order.now, order.id, order.cool)


def _make(order: Order, choice: Choice, name: str, shared: stage.Shared) -> str | None:
    """Stage one run and claim its point; its name, or None, and nothing left, when another launch claimed it first.

    The name is another one than `name` when another launch took that meanwhile.
    """
    while True:
        staged = None
        try:
            staged = stage.run(order.experiment, choice.spec, name, choice.generation, shared)
            if claims.hold(order.experiment, choice.spec.identity, choice.generation, name):
                return name
            shutil.rmtree(staged, ignore_errors=True)
            return None
        except FileExistsError:
            if staged:
                shutil.rmtree(staged, ignore_errors=True)
            name = next(_names(order, [choice.spec.tag], name))


# ---------------------------------------------------------------- what is told and kept


def _summary(
    order: Order,
    code: snapshot.Listing,
    digest: str,
    choices: Sequence[Choice],
    jobs: tuple[Job, ...],
    lost: int,
    notes: tuple[str, ...],
) -> Summary:
    words = {"new": "new", "take": "taken up"}
    begins = (_word(choice) or words.get(choice.job) for choice in choices)
    counts = Counter(word or str(each.run.state if each.run else "") for word, each in zip(begins, choices))
    counts.subtract({"new": lost})
    if lost:
        counts["taken by another launch"] = lost
    left = [choice.run for choice in choices if choice.job == "leave" and choice.run]
    changed = [run.digest for run in left if run.digest is not None and run.digest != digest]
    farmx = os.path.join(order.experiment, layout.FARMX)
    differs = tuple(snapshot.differing(farmx, digest, changed[-1])) if changed else ()
    kept = {name: count for name, count in counts.items() if count}
    held = tuple(filter(status.is_held, left))
    return Summary(order.farm, order.experiment, code.told(), digest, kept, len(changed), differs, notes, jobs, held)


def _word(choice: Choice) -> str:
    """What a launch does about a run that is there, where that is more than taking it up."""
    return f"retried ({choice.why})" if choice.why else f"from {choice.step.begin}" if choice.step.begin else ""


def _elsewhere(order: Order) -> Iterator[str]:
    home = os.path.dirname(order.sweep)
    if os.path.commonpath([home, order.source]) != order.source:
        yield f"the code is that of the current directory, {order.source}; the sweep file is in {home}"


def _copied(order: Order, code: snapshot.Listing) -> Iterator[str]:
    """That an address of NOTIFY, which may hold a secret, stands in a file that is copied with the code."""
    origin = str(((order.told or {}).get("origins") or {}).get("NOTIFY", ""))
    file = origin.rsplit(":", 2)[0]
    if file and any("$" not in url for url in order.notify) and code.has(file):
        yield f"{file} is copied with the code, and NOTIFY in it, too; write $VAR for what is secret in an address"


def _changes(order: Order) -> Iterator[str]:
    """What differs from the last launch of this experiment and does not make new points."""
    last = next((record for record in _launches(order.experiment) if "sweep" in record), None)
    if last is None or not order.specs:
        return
    if last["sweep"] != order.sweep:
        yield f"this experiment was launched from {last['sweep']} before; now from {order.sweep}"
    if (last.get("arg_style") or order.arg_style) != order.arg_style:
        yield "ARG_STYLE changed since the last launch; runs that are there got their values the old way"
    was, now = last.get("shared") or {}, _settings(order.specs[0])
    for key in (key for key in now if key in was and was[key] != now[key]):
        yield f"{key} changed since the last launch; runs that are there keep what they were staged with"


def _late(choices: Sequence[Choice]) -> Iterator[str]:
    late = sum(choice.step.late for choice in choices)
    if late:
        yield f"{late} under way with the stages they began with; launch again when they have ended"


def _in_one(order: Order, farm: Farm) -> Iterator[str]:
    for spec in order.specs[:1]:
        if note := in_one(farm, ((each.name, each.resources) for each in spec.stages)):
            yield note


def _settings(spec: RunSpec) -> dict[str, Any]:
    """What all runs of a launch share and identity leaves out."""
    return {"ENV": dict(spec.env), "SETUP": spec.setup, "PYTHONPATH": list(spec.pythonpath),
            "RESOURCES": dict(spec.resources), "RETRY": dict(spec.retry),
            "CONTAINER": dict(spec.container)}  # fmt: skip


def _intend(order: Order, choices: Sequence[Choice]) -> None:
    """Keep which generation each point is to reach before the first run is made: an --again that dies is continued."""
    goals = {choice.spec.identity: choice.generation for choice in choices}
    told = {"format": layout.LAUNCH_FORMAT, "id": order.id, "launched": order.now, "again": goals}
    layout.write_json(os.path.join(_home(order, layout.LAUNCHES), f"{order.id}.json"), told)


def _record(order: Order, summary: Summary, choices: Sequence[Choice]) -> None:
    """Keep what was asked for, when, by whom and from which code."""
    told = {
        "format": layout.LAUNCH_FORMAT,
        "id": order.id,
        "launched": order.now,
        "sweep": order.sweep,
        "arg_style": order.arg_style,
        "farm": order.farm,
        **(order.told or {}),
        **provenance.git(order.source),
        "snapshot": summary.digest,
        "counts": dict(summary.counts),
        "shared": _settings(order.specs[0]) if order.specs else {},
        "packages": interpreter.packages(interpreter.site_packages(order.environ, _first_words(order))),
        "again": {choice.spec.identity: choice.generation for choice in choices} if order.again else None,
    }
    layout.write_json(os.path.join(_home(order, layout.LAUNCHES), f"{order.id}.json"), told)


def _first_words(order: Order) -> tuple[str, ...]:
    return order.specs[0].stages[0].words[:4] if order.specs else ()
