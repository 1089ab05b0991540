"""What a launch is asked for, what it decided, and what is told and kept of that; never makes a run, never prints."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import claims, interpreter, layout, manifest, provenance, records, snapshot, stage, status
from farmx.spec import Job, Run, RunSpec, State
from farmx.steps import Step


class Order(NamedTuple):
    """What is to be launched.

    source: the directory of the code.  experiment: the directory LOGROOT/<name>.  sweep: the sweep file's path.
    specs: distinct, in order.  staging: 'link', 'copy', 'share' or None to decide by the number of files.
    told: what the launch record repeats (argv, cwd, user, host, the sweep as composed).  only: the stages to run, ()
    for all.  notify: the addresses that are told what becomes of it; they are written nowhere.  notes: what people
    should know of its settings, a line each.  code: what check() found, None where that is yet to look.
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
    told: Mapping[str, Any] = {}
    only: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    code: snapshot.Listing | None = None


class Choice(NamedTuple):
    """What a launch does about one point. run: its newest run, as it stands.  generation: of the run to make, or of it.

    job: 'new' to make a run, 'take' to queue the one there, 'leave' to queue nothing.  step: what is done about its
    stages.  why: what RETRY calls for, of a run that failed.  name: of a run to make that a launch claimed before, and
    did not come to make.
    """

    spec: RunSpec
    run: Run | None
    generation: int
    job: str
    step: Step = Step(False)
    why: str = ""
    name: str = ""

    @property
    def place(self) -> claims.Place:
        """Which generation of which point that run is."""
        return self.spec.identity, self.generation


class Summary(NamedTuple):
    """What a launch is about to hand over, for people and --json.

    counts: 'new', 'taken up' and the states of what is left alone -> how many.  changed: how many of the runs left
    alone were made from other code.  differs: the files in which the last of them differs.  notes: what people should
    know, a line each.  held: the runs left alone that a breaker holds.  own: as changed and differs of those that are
    taken up, which go on with the code they have.  others: how many points of the experiment are not in the order.
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
    own: tuple[int, tuple[str, ...]] = (0, ())
    others: int = 0


def retry_changed(order: Order) -> bool:
    """Whether RETRY is another than that of the last launch."""
    was = records.last_launch(order.experiment).get("shared") or {}
    return bool(order.specs) and was.get("RETRY", {}) != dict(order.specs[0].retry)


def folder(order: Order, name: str) -> str:
    """A directory of the experiment's own, by its name in layout."""
    return os.path.join(order.experiment, layout.FARMX, name)


# ---------------------------------------------------------------- what is told and kept


def summary_of(
    order: Order,
    code: snapshot.Listing,
    digest: str,
    choices: Sequence[Choice],
    jobs: tuple[Job, ...],
    lost: int,
    notes: tuple[str, ...],
) -> Summary:
    """What is told of these choices. jobs: of the runs handed over.  lost: how many points others took first."""
    words = {"new": "new", "take": "taken up"}
    begins = (_word(choice) or words.get(choice.job) for choice in choices)
    counts = Counter(word or str(each.run.state if each.run else "") for word, each in zip(begins, choices))
    counts.subtract({"new": lost})
    if lost:
        counts["taken by another launch"] = lost
    left = [choice.run for choice in choices if choice.job == "leave" and choice.run]
    changed, differs = _changed(order, digest, [run.digest for run in left if run.digest is not None])
    kept = {name: count for name, count in counts.items() if count}
    held = tuple(filter(status.is_held, left))
    taken = [each.run for each in choices if each.job == "take" and each.run and not each.step.renew]
    own = _changed(order, digest, [run.digest for run in taken if run.digest is not None])
    return Summary(order.farm, order.experiment, code.told(), digest, kept, changed, differs, notes, jobs, held, own,
                   _others(order))  # fmt: skip


def _others(order: Order) -> int:
    return len(claims.identities(order.experiment) - {spec.identity for spec in order.specs})


def some(names: Sequence[str]) -> str:
    """The first three of them."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _changed(order: Order, digest: str, made: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """How many of the runs made from these snapshots were made from other code, and the files in which the last is.

    That a sweep file changed says nothing: its values and commands are looked at one by one.
    """
    farmx = os.path.join(order.experiment, layout.FARMX)
    sweep = (os.path.relpath(order.sweep, order.source),)
    others = (each for each in dict.fromkeys(made) if each != digest)
    differs = {each: tuple(manifest.differing(farmx, digest, each, sweep)) for each in others}
    changed = [each for each in made if differs.get(each)]
    return len(changed), differs[changed[-1]] if changed else ()


def notes_of(order: Order, code: snapshot.Listing, choices: Sequence[Choice], said: Iterable[str]) -> tuple[str, ...]:
    """What people should know, a line each; said: what others say."""
    return (*_elsewhere(order), *order.notes, *said, *_copied(order, code), *_changes(order, choices),
            *_late(choices), *_unknown(choices))  # fmt: skip


def _word(choice: Choice) -> str:
    """What a launch does about a run that is there, where that is more than taking it up."""
    return f"retried ({choice.why})" if choice.why else f"from {choice.step.begin}" if choice.step.begin else ""


def _elsewhere(order: Order) -> Iterator[str]:
    home = os.path.dirname(order.sweep)
    if os.path.commonpath([home, order.source]) != order.source:
        yield f"the code is that of the current directory, {order.source}; the sweep file is in {home}"


def _copied(order: Order, code: snapshot.Listing) -> Iterator[str]:
    """That an address of NOTIFY, which may hold a secret, stands in a file that is copied with the code."""
    origin = str((order.told.get("origins") or {}).get("NOTIFY", ""))
    file = origin.rsplit(":", 2)[0]
    if file and any("$" not in url for url in order.notify) and code.has(file):
        yield f"{file} is copied with the code, and NOTIFY in it, too; write $VAR for what is secret in an address"


def _changes(order: Order, choices: Sequence[Choice]) -> Iterator[str]:
    """What differs from the last launch of this experiment and does not make new points."""
    last = records.last_launch(order.experiment)
    if not last or not order.specs:
        return
    if last["sweep"] != order.sweep:
        yield f"this experiment was launched from {last['sweep']} before; now from {order.sweep}"
    if (last.get("arg_style") or order.arg_style) != order.arg_style:
        yield "ARG_STYLE changed since the last launch; runs that are there got their values the old way"
    was, now = last.get("shared") or {}, _settings(order.specs[0])
    aim, goal = records.goal(was.get("GOAL")), order.specs[0].goal
    if "GOAL" in was and aim != goal:
        yield f"the goal is now {goal or 'none'}; it was {aim or 'none'}"
    held = any(each.job == "take" and each.run and status.is_held(each.run) for each in choices)
    for key in (key for key in now if key in was and was[key] != now[key] and key != "GOAL"):
        kept = "keep what they were staged with, --again makes new ones"
        how = "go by it unless they are done" if key == "RETRY" else kept
        how += "; what was held goes by today's" if held and key in ("ENV", "SETUP", "PYTHONPATH") else ""
        whose = "left alone" if key == "RESOURCES" else "that are there"  # what is taken up asks for today's
        if key != "RESOURCES" or any(each.job == "leave" for each in choices):
            yield f"{key} changed since the last launch; runs {whose} {how}"


def _late(choices: Sequence[Choice]) -> Iterator[str]:
    late = sum(choice.step.late for choice in choices)
    if late:
        yield f"{late} under way with the stages they began with; launch again when they have ended"


def _unknown(choices: Sequence[Choice]) -> Iterator[str]:
    notes = [each.run.note for each in choices if each.job == "leave" and each.run and each.run.state is State.UNKNOWN]
    if notes:
        why = Counter(notes).most_common(1)[0][0]
        yield f"{len(notes)} unknown: {why}; left alone: launch again when that is known"


def _settings(spec: RunSpec) -> dict[str, Any]:
    """What all runs of a launch share and identity leaves out."""
    return {"ENV": dict(spec.env), "SETUP": spec.setup, "PYTHONPATH": list(spec.pythonpath),
            "RESOURCES": stage.sound(spec.resources), "RETRY": dict(spec.retry),
            "CONTAINER": dict(spec.container), "GOAL": spec.goal and spec.goal._asdict()}  # fmt: skip


def intend(order: Order, choices: Sequence[Choice]) -> None:
    """Keep which generation each point is to reach before the first run is made: an --again that dies is continued."""
    goals = {choice.spec.identity: choice.generation for choice in choices}
    told = {"format": layout.LAUNCH_FORMAT, "id": order.id, "launched": order.now, "again": goals}
    layout.write_json(os.path.join(folder(order, layout.LAUNCHES), f"{order.id}.json"), told)


def record(order: Order, summary: Summary, choices: Sequence[Choice]) -> None:
    """Keep what was asked for, when, by whom and from which code."""
    told = {
        "format": layout.LAUNCH_FORMAT,
        "id": order.id,
        "launched": order.now,
        "sweep": order.sweep,
        "arg_style": order.arg_style,
        "farm": order.farm,
        **order.told,
        **provenance.git(order.source),
        "snapshot": summary.digest,
        "counts": dict(summary.counts),
        "shared": _settings(order.specs[0]) if order.specs else {},
        "packages": interpreter.packages(interpreter.site_packages(order.environ, _first_words(order))),
        "again": {choice.spec.identity: choice.generation for choice in choices} if order.again else None,
    }
    layout.write_json(os.path.join(folder(order, layout.LAUNCHES), f"{order.id}.json"), told)


def _first_words(order: Order) -> tuple[str, ...]:
    return order.specs[0].stages[0].words[:4] if order.specs else ()
