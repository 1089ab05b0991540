"""Stages with resources of their own are jobs of their own, each waiting for the one before: a run's jobs, in order.

All jobs of a run are queued at once, each the next attempt of it, and run.json says which stages each is to run. A farm
that cannot make a job wait for another gets one job that runs them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import farms, layout, needs, whereabouts
from farmx.farms import base
from farmx.farms.base import Farm
from farmx.spec import Job, Run, RunSpec, Submission


class Link(NamedTuple):
    """A job of a run. stages: those it runs, () for all of them.  resources: what it asks for."""

    stages: tuple[str, ...]
    resources: Mapping[str, Any]


class Chain(NamedTuple):
    """The jobs of a run, each of which waits for the one before. claim: of which generation of which point it is."""

    jobs: tuple[Job, ...]
    links: tuple[Link, ...]
    claim: str = ""

    def asked(self, only: Sequence[str]) -> dict[str, Sequence[str]]:
        """What run.json says of the jobs: the number (queued by us) of each attempt -> its stages. only: the stages of
        a single job, () for all, of which run.json says nothing."""
        if len(self.jobs) == 1 and not only:
            return {}
        several = zip(self.jobs, self.links)
        return {_queued(job): link.stages if len(self.jobs) > 1 else only for job, link in several}


def _queued(job: Job) -> str:
    return job.number.partition(".")[0]


def links_of(
    stages: Sequence[tuple[str, Mapping[str, Any]]], resources: Mapping[str, Any], farm: Farm
) -> tuple[Link, ...]:
    """The jobs that run these stages, (name, its own resources) each, of a run that asks for `resources`.

    Stages in a row that ask for the same share a job.
    """
    made: list[Link] = []
    for name, own in stages:
        wants = needs.over(resources, own)
        if made and (made[-1].resources == wants or not farms.can(farm.executor).chains):
            made[-1] = made[-1]._replace(stages=(*made[-1].stages, name))
        else:
            made.append(Link((name,), wants))
    return tuple(made) or (Link((), resources),)


def chain_of(run: Run | str, made: Sequence[Link], claim: str = "") -> Chain:
    """These jobs as the next attempts of a run, or as the first ones of a new run at that path, with that claim."""
    path, first = (run, 1) if isinstance(run, str) else (run.path, _first(run))
    if not isinstance(run, str) and run.identity:
        claim = layout.claim_name(run.identity, run.generation)
    jobs = [Job(path, layout.attempt_name(number)) for number in range(first, first + len(made))]
    return Chain(tuple(jobs), tuple(made), claim)


def _first(run: Run) -> int:
    """The number of the attempt to queue next.

    A job that waits for an attempt which did not end well may wait for ever: its number is used up. Anything else that
    was queued and has not begun is queued again under the number that it has, so that it starts once.
    """
    ahead = base.ahead(run)
    if not ahead:
        return run.attempts[-1].number[0] + 1 if run.attempts else 1
    if all(held.record.get(layout.AFTER) for held in ahead):
        return max(held.number for held in ahead) + 1
    return base.counting(ahead)


def written(home: str, name: str, farm: Farm, chains: Sequence[Chain]) -> list[Submission]:
    """Write down the jobs: those that wait for nothing, each batch followed by what waits for it."""
    batches: list[tuple[base.Batch, bool]] = []
    for group in _kinds(chains):
        of_job = {chain.jobs[0]: chain for chain in group}
        for batch in farm.batches([(chain.jobs[0], chain.links[0].resources) for chain in group]):
            batches.append((batch, False))
            members = [of_job[job] for job in batch.jobs]
            for place in range(1, len(members[0].jobs)):
                jobs = tuple(chain.jobs[place] for chain in members)
                batches.append((base.Batch(jobs, members[0].links[place].resources), True))
    made = base.submissions(home, name, [batch for batch, _ in batches])
    claims = {chain.jobs[0].run: chain.claim for chain in chains}
    inodes = whereabouts.inodes(os.path.dirname(os.path.dirname(home)))
    for each in made:
        told = whereabouts.lines(inodes, ((job.run, claims[job.run]) for job in each.jobs))
        layout.write(os.path.join(each.path, layout.CLAIMED), told)
    return [
        each._replace(after=before.id if waits else "")
        for before, each, (_, waits) in zip([*made[:1], *made], made, batches)
    ]


def _kinds(chains: Iterable[Chain]) -> list[list[Chain]]:
    """All runs of one job together, and those of several whose jobs ask for the same."""
    kinds: dict[str, list[Chain]] = {}
    for each in chains:
        key = "" if len(each.jobs) == 1 else repr([sorted(link.resources.items(), key=str) for link in each.links])
        kinds.setdefault(key, []).append(each)
    return list(kinds.values())


def in_one(farm: Farm, specs: Sequence[RunSpec]) -> str:
    """What to say of a farm that runs all stages in one job though they ask for resources of their own; '' for none."""
    stages = specs[0].stages if specs else ()
    apart = any(each.resources for each in stages[1:])
    if not apart or farm.executor == layout.LOCAL or farms.can(farm.executor).chains:
        return ""
    first = stages[0].name
    return f"this farm cannot make one job wait for another: all stages run in one, with the RESOURCES of {first}"
