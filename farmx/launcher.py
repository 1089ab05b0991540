"""A launch from end to end: specs are matched with what is there, the code is snapshotted, what is missing is staged,
claimed and handed to a farm. Values flow one way; never prints, never reads the clock, the cwd or the command line.

Not named launch: `farmx.launch` is the function of that name in api.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

from farmx import claims, layout, plan, programs, records, several, snapshot, stage, status, steps
from farmx.chains import Chain, Link, chain_of, in_one, links_of, written
from farmx.errors import ConfigError, RecordError, StageError
from farmx.farms.base import Farm
from farmx.needs import distinct
from farmx.orders import Choice, Order, Summary, folder, intend, notes_of, record, retry_changed, summary_of
from farmx.provenance import in_repository
from farmx.spec import Progress, Run, RunSpec, State, Submission, unseen
from farmx.steps import TAKEN
from farmx.whereabouts import is_begun


def launch(
    order: Order,
    farm: Farm,
    tell: Callable[[Summary], None],
    progress: Progress = unseen,
    heard: Callable[[Submission, int], None] = lambda submission, queued: None,
) -> Summary:
    """Bring every point of the order to a run and hand what is missing to `farm`; return what was handed over.

    tell: called once all is staged and recorded, before the farm is.  progress: of the code's files and of the runs.
    heard: so many more jobs of a submission are queued.
    Afterwards every point has a run directory; what was there is untouched but for runs taken up. Raises FarmxError:
    before anything is made for what is wrong, later with all that was staged kept for the same command to finish.
    """
    here = farm.executor == layout.LOCAL
    code = order.code or check(order, farm.executor, farm, progress)
    _prepare(order)
    _finish(order, farm)
    choices = choose(order)
    claims.sweep_staging(order.experiment)
    taken = snapshot.take(code, os.path.join(order.experiment, layout.FARMX), progress)
    if order.again:
        intend(order, choices)
    makes = any(each.job == "new" for each in choices)
    with claims.at_work(order.experiment, order.id) if makes else nullcontext():
        made, lost = _stage(order, farm, choices, _shared(order, code, taken.digest), progress)
    claims.bury(order.experiment)
    jobs = tuple(each.jobs[0] for each in made)
    said = (*programs.elsewhere(order.specs, order.environ, here), *programs.unplugged(order.specs, order.environ),
            *programs.bare(order.specs, order.source, code), *code.warnings, taken.note,
            in_one(farm, order.specs))  # fmt: skip
    notes = notes_of(order, code, choices, filter(None, said))
    summary = summary_of(order, code, taken.digest, choices, jobs, lost, notes)
    record(order, summary, choices)
    submissions = written(folder(order, layout.SUBMISSIONS), order.id, farm, made)
    tell(summary)
    if submissions:
        farm.submit(submissions, heard)
    return summary


def check(order: Order, executor: str, farm: Farm | None = None, progress: Progress = unseen) -> snapshot.Listing:
    """The code to snapshot, after all that can be wrong with launching the order there was looked at; nothing is made.

    farm: is asked, too; None to leave out what only it can say.
    """
    logroot = os.path.dirname(order.experiment)
    if os.path.exists(logroot) and not os.path.isdir(logroot):
        raise ConfigError(f"LOGROOT: {logroot} is a file; name a directory")
    stage.check_passed((name for spec in order.specs for name in spec.env_pass), order.environ)
    code = snapshot.listing(order.source, order.wish, [logroot], progress)
    programs.check_paths(order.specs, order.source, code)
    programs.check_first(order.specs, order.source, order.environ, code, executor == layout.LOCAL)
    programs.check_containers(order.specs, executor, order.environ, order.experiment,
                              {"source": order.source, "link": order.wish.link})  # fmt: skip
    if farm:
        kinds = plan.kinds(order.specs)
        farm.check(distinct(link.resources for spec in kinds for link in _links(order, farm, spec)))
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
    if not holder.made and holder.generation >= goal:
        return Choice(spec, None, holder.generation, "new", name=holder.run or "")
    run = runs.get(holder.run or "")
    if run is None or run.identity != spec.identity or holder.generation < goal:
        return Choice(spec, run, max(goal, holder.generation + 1), "new")
    from farmx import verdicts  # spares a launch of what is new

    step = steps.of(spec, run, only, steps.left_out(run))
    own = {each.name: each.resources for each in spec.stages} if run.state in verdicts.JUDGED else {}
    if not step.queue and not only and (verdict := verdicts.of(run, spec.retry, spec.resources, own)).again:
        return Choice(spec, run, holder.generation, "take", step, verdict.why)
    if step.queue and status.is_held(run):
        step = step._replace(renew=True)  # it waited for the code to be mended
    return Choice(spec, run, holder.generation, "take" if step.queue else "leave", step)


def _again(order: Order, held: Mapping[str, claims.Holder], runs: Mapping[str, Run]) -> dict[str, int]:
    """The generation that each point is to reach: that of the last --again while it is unfinished, which is continued
    then, else one more than there is."""
    wanted = [spec.identity for spec in order.specs]
    goals: dict[str, int] = {}
    for told in records.launches(order.experiment):
        goals = {**(told.get("again") or {}), **goals}
    goals = {key: goals[key] for key in wanted if isinstance(goals.get(key), int)}
    goals = {} if _reached(goals, held, runs) else goals
    return {key: goals.get(key) or (held[key].generation + 1 if key in held else 1) for key in wanted}


def _reached(goals: Mapping[str, int], held: Mapping[str, claims.Holder], runs: Mapping[str, Run]) -> bool:
    """Whether an --again is finished: every point got a run of its generation, deleted since or not, and none waits."""
    for key, generation in goals.items():
        run = runs.get(held[key].run or "") if key in held else None
        if key not in held or held[key].generation < generation or not held[key].made:
            return False
        if run is not None and run.state in TAKEN:
            return False
    return True


# ---------------------------------------------------------------- making what is missing


def _prepare(order: Order) -> None:
    """Make the experiment's directories; a LOGROOT of its own inside a repository is kept out of git."""
    claims.prepare(order.experiment)
    logroot = os.path.dirname(order.experiment)
    ignore = os.path.join(logroot, ".gitignore")
    inside = in_repository(logroot) or os.path.realpath(logroot).startswith(os.path.realpath(order.source) + os.sep)
    if inside and not os.path.lexists(ignore) and _only_runs(logroot):
        layout.write(ignore, "*\n")


def _finish(order: Order, farm: Farm) -> None:
    """Have the farm queue what a killed launch left out of jobs that wait for one another. Raises FarmError."""
    finish = getattr(farm, "finish", None)
    if finish is not None:
        finish(order.experiment)


def _only_runs(logroot: str) -> bool:
    """Whether nothing but experiments and runs is in there, so that nothing else is hidden with them."""
    marks = (layout.FARMX, *layout.RUN_MARKS)
    names = layout.names(logroot)
    return all(any(os.path.lexists(os.path.join(logroot, name, mark)) for mark in marks) for name in names)


def _shared(order: Order, code: snapshot.Listing, digest: str) -> stage.Shared:
    recipe = stage.recipe(order.source, order.wish._asdict(), order.staging, len(code.files))
    return stage.Shared(os.path.basename(order.experiment), order.sweep, digest, recipe, order.environ, order.now)


def _stage(
    order: Order, farm: Farm, choices: Sequence[Choice], shared: stage.Shared, progress: Progress
) -> tuple[list[Chain], int]:
    """Claim what is new, all in one step, and make its runs.

    Returns the jobs of each run, in order, and how many points others took first.
    """
    anew = retry_changed(order)
    work = [each for each in choices if each.job != "leave" or each.step.renew or _wants_retry(each, anew)]
    names = _names(order, work)
    begun = {each.place: each.name for each in work if each.name}
    new = [each for each in work if each.job == "new"]
    wanted = {each.place: names.next(each.spec.tag) for each in new if not each.name}
    ours = claims.take(order.experiment, order.id, wanted, begun)
    todo = [each._replace(name=ours.get(each.place, "")) for each in work if each.job != "new" or each.place in ours]
    found: list[Chain] = []
    lost, made = len(new) - len(ours), 0
    with _opened(order.experiment) as home:
        make = partial(_make, order, shared, names, begun, home)
        for choice, chain in zip(todo, several.each(partial(_staged, order, farm, make, shared, anew), todo)):
            found += [chain] if chain else []
            if choice.job == "new":
                lost += chain is None
                made += 1
                progress("staging", made, len(ours))
    return found, lost


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    """A descriptor of the directory: a path from there is short, and the system follows it ten thousand times.

    Raises StageError.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StageError(f"{folder}: cannot be read: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _staged(
    order: Order,
    farm: Farm,
    make: Callable[[Choice, Mapping[str, Sequence[str]]], str | None],
    shared: stage.Shared,
    anew: bool,
    choice: Choice,
) -> Chain | None:
    """Make the run of one point, or take up the one that is there; return its jobs, None where there is nothing to
    queue or another launch made it first.

    make: as _make.  anew: whether RETRY changed.
    """
    if choice.job == "new":
        links = _links(order, farm, choice.spec)
        kept = make(choice, chain_of("", links).asked(order.only) if order.only or len(links) > 1 else {})
        claim = layout.claim_name(*choice.place)
        return chain_of(f"{order.experiment}/{kept}", links, claim) if kept else None
    assert choice.run
    if choice.step.renew:
        around = stage.around(choice.spec) if status.is_held(choice.run) else {}
        more = {"code": shared.code, **around}
        stage.renew(choice.run.path, shared.digest, order.environ, choice.spec.stages, more)
    if _wants_retry(choice, anew):
        stage.set_retry(choice.run.path, choice.spec.retry)
    return _take(order, farm, choice, choice.run) if choice.job == "take" else None


def _wants_retry(choice: Choice, changed: bool) -> bool:
    """Whether today's RETRY is for a run that is there."""
    ended_well = choice.run is not None and choice.run.state is State.DONE
    return bool(choice.spec.retry) if choice.job == "take" else changed and not ended_well


def _links(order: Order, farm: Farm, spec: RunSpec, begin: str = "") -> tuple[Link, ...]:
    """The jobs that run the stages asked for of a run, from `begin` on, '' for the first."""
    names = [each.name for each in spec.stages] if begin else []
    todo = spec.stages[names.index(begin) :] if begin in names else spec.stages
    wanted = [(each.name, each.resources) for each in todo if not order.only or each.name in order.only]
    return links_of(wanted, spec.resources, farm)


def _take(order: Order, farm: Farm, choice: Choice, run: Run) -> Chain:
    """The jobs that go on with a run that is there; its record says so."""
    from farmx import verdicts  # spares a launch of what is new

    spec = choice.spec
    first, *rest = _links(order, farm, spec, choice.step.begin or run.reached)
    own = {each.name: each.resources for each in spec.stages}
    raised = first._replace(resources=verdicts.wanted(run, spec.retry, first.resources, spec.resources, own))
    found = chain_of(run, (raised, *rest))
    stage.set_resources(run.path, spec.resources, own)
    if len(spec.stages) > 1:
        stage.ask(run.path, found.asked(order.only))
    return found


def _names(order: Order, work: Sequence[Choice]) -> plan.Names:
    """Names that no run has now, or is to have."""
    promised = claims.promised(order.experiment).values()
    taken = {*promised, *layout.names(order.experiment), *(each.name for each in work)}
    return plan.Names(taken, order.now, order.id, order.cool)


def _make(
    order: Order,
    shared: stage.Shared,
    names: plan.Names,
    begun: Collection[claims.Place],
    home: int,
    choice: Choice,
    only: Mapping[str, Sequence[str]],
) -> str | None:
    """Make the run of a claimed point; its name, or None when another launch, which found it missing, made it first.

    The name is another one than was claimed, from `names`, when somebody took that meanwhile. begun: what others had
    claimed and not made.  home: a descriptor of the experiment directory.  only: as run.json says it.
    """
    mine = shared._replace(only=only) if only else shared
    name, alone = choice.name, choice.place not in begun
    while True:
        path = f"{order.experiment}/{name}"
        try:
            if alone:
                stage.run(order.experiment, choice.spec, name, choice.generation, mine, home)
            elif is_begun(path) and _is_promised(order, choice.place, name):
                raise FileExistsError(path)
            else:
                stage.instead(order.experiment, choice.spec, name, choice.generation, mine, order.id)
            return name
        except FileExistsError:
            if claims.holds(order.experiment, choice.place, name):
                return None
            if not is_begun(path) or _is_promised(order, choice.place, name):
                name = claims.named_anew(order.experiment, order.id, choice.place, name, names.next(choice.spec.tag))
            alone = False


def _is_promised(order: Order, place: claims.Place, name: str) -> bool:
    """Whether another place is to have the name, too, as of launches that claim at once: the run begun may be its."""
    return any(run == name and each != place for each, run in claims.promised(order.experiment).items())
