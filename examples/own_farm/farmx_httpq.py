"""EXECUTOR httpq: runs are jobs of a queue that is reached by HTTP. A farm as another package brings it to farmx."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from farmx import layout
from farmx.errors import ConfigError, FarmError, nearest, where
from farmx.farms import base, carried
from farmx.farms.base import Answer, Answers, Batch, Given
from farmx.spec import Held, Job, State, Submission

STATES = {"waiting": State.QUEUED, "running": State.RUNNING}


class Farm:
    """The queue at `url`, as a launch sees it."""

    def __init__(self, given: Given, url: str) -> None:
        self.executor = given.executor
        self._given, self._url = given, url

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Refuse what the queue would, before anything is made; among it, that nobody is there."""
        for key, value in (item for resources in wanted for item in resources.items()):
            at = where(f"RESOURCES.{key}", self._given.origins)
            if key != "nice":
                raise ConfigError(f"{at}: httpq knows no {key!r}{nearest(key, ['nice'])}")
            if type(value) is not int or not 0 <= value <= 19:
                raise ConfigError(f"{at}: {value!r} is not allowed; it must be a whole number from 0 to 19")
        ask(self._url, "standing", {"ids": []})

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        """Jobs of equal resources make a submission; a queue that takes no more of them at once would say so here."""
        return base.alike(jobs)

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """Write all down, then queue job after job, and write down each."""
        for made in submissions:
            base.record(made, self._given, base.node(self._given.max_requeues, None, job="HTTPQ_JOB"), url=self._url)
        for made in submissions:
            for index, first, last in base.jobs(made, self._given.pack):
                job = {
                    "command": carried.command(made.path, str(index)),
                    "log": os.path.join(made.path, f"{index}{layout.LOG_SUFFIX}"),
                    "nice": made.resources.get("nice", 0),
                }
                base.record_queued(made.path, first, last, ask(self._url, "submit", job)["id"])
                heard(made, last - first + 1)


def farm(given: Given) -> Farm:
    """What a section of .farmx.yaml with EXECUTOR: httpq says, checked."""
    for key in given.options:
        if key != "url":
            raise ConfigError(f"{where(f'OPTIONS.{key}', given.origins)}: unknown key{nearest(key, ['url'])}")
    url = str(given.options.get("url", ""))
    if not url.startswith("http://"):
        at = where("OPTIONS.url", given.origins)
        raise ConfigError(f"{at}: {url!r} is no address; write OPTIONS: {{url: http://HOST:PORT}}")
    return Farm(given, url)


def poll(helds: Sequence[Held]) -> Answers:
    """How each of these stands, from the records that submit wrote: one question to each queue."""
    answers: dict[tuple[str, int], Answer] = {}
    for url, group in queues(helds):
        try:
            said = ask(url, "standing", {"ids": ids(group)})
        except FarmError as error:
            answers.update({(held.submission, held.place): Answer(State.UNKNOWN, str(error)) for held in group})
        else:
            listed = [held for held in group if held.name in said]
            answers.update({(held.submission, held.place): Answer(STATES[said[held.name]]) for held in listed})
    return answers


def cancel(helds: Sequence[Held]) -> None:
    """End these, waiting or running, with one call to each queue; what has ended already is no error."""
    for url, group in queues(helds):
        ask(url, "end", {"ids": ids(group)})


def queues(helds: Sequence[Held]) -> Iterator[tuple[str, list[Held]]]:
    """What was queued, by where that was; what submit did not come to was not."""
    found: dict[str, list[Held]] = {}
    for held in helds:
        if held.name is not None:
            found.setdefault(held.record["url"], []).append(held)
    yield from found.items()


def ids(helds: Sequence[Held]) -> list[str | None]:
    """Each job once: with PACK, runs share one."""
    return list(dict.fromkeys(held.name for held in helds))


def ask(url: str, what: str, told: Mapping[str, Any]) -> Any:
    """What the queue answers. Raises FarmError, its own words in it."""
    parts = urlsplit(url)
    try:
        with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=60)) as line:
            line.request("POST", f"/{what}", json.dumps(told))
            answer = line.getresponse()
            said = json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        raise FarmError(f"{url} does not answer: {error}; is it up?") from error
    if answer.status != 200:
        raise FarmError(f"{url} refuses: {said['error']}; the same command goes on")
    return said
