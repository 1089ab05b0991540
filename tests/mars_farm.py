"""A farm as another package brings it: EXECUTOR mars, a queue reached by fsub, fstat and fdel."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farmx import layout
from farmx.errors import FarmError
from farmx.farms import base, carried
from farmx.farms.base import Answer, Batch
from farmx.spec import Held, Job, State, Submission

STATES = {"q": State.QUEUED, "r": State.RUNNING}


class Farm:
    executor = "mars"

    def __init__(self, name: str, resources: Mapping[str, Any]) -> None:
        self.name, self.resources = name, resources

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        for each in wanted:
            if set(each) - {"dust"}:
                raise FarmError(f"{self.name} gives dust, and nothing else")

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        return base.alike(jobs)

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        for each in submissions:
            record = {"format": layout.JOB_FORMAT, "farm": self.name, "executor": self.executor}
            layout.write_json(os.path.join(each.path, layout.JOB), record)
            for place in range(len(each.jobs)):
                script, log = (os.path.join(each.path, f"{place}{end}") for end in (".sh", layout.LOG_SUFFIX))
                layout.write(script, f"#!/bin/sh\n{carried.command(each.path, str(place))}\n", 0o777)
                base.record_queued(each.path, place, place, said("fsub", log, script).strip())
                heard(each, 1)


def farm(name: str, resources: Mapping[str, Any], origins: Mapping[str, str]) -> Farm:
    return Farm(name, resources)


def poll(helds: Sequence[Held]) -> base.Answers:
    known = {(held.submission, held.place): held.name for held in helds if held.name}
    try:
        states = dict(line.split() for line in said("fstat", *known.values()).splitlines())
    except FarmError as error:
        return {index: Answer(State.UNKNOWN, str(error)) for index in known}
    return {index: Answer(STATES[states[name]]) for index, name in known.items() if name in states}


def cancel(helds: Sequence[Held]) -> None:
    said("fdel", *(held.name for held in helds if held.name))


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise FarmError(f"{argv[0]} exited {done.returncode}: {done.stderr.strip()}")
    return done.stdout
