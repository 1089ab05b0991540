"""farmx why: what became of a run, in plain words, and what to do next."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from farmx import naming, why
from farmx.cli.screen import duration
from farmx.cli.surroundings import from_here, located, logroot
from farmx.spec import Run, State, Surroundings


def tell(given: Mapping[str, Any], at: Surroundings) -> None:
    """Print what became of one run."""
    root = logroot(given["logroot"], given["config_file"], at)
    run = naming.one(root, located(given["name"], at))
    plain = os.path.dirname(os.path.dirname(run.path)) == root and not given["logroot"] and not given["config_file"]
    called = f"{run.experiment}/{run.name}" if plain else from_here(run.path, at)
    account = why.account(run, called, run.experiment if plain else from_here(os.path.dirname(run.path), at))
    if given["as_json"]:
        print(json.dumps(account._asdict(), indent=2))
        return
    print(f"{called}  {run.state}" + (f": {account.why}" if account.why else ""))
    for line in _details(run, account, at):
        print(f"      {line}")
    for line in account.next:
        print(f"next  {line}")


def _details(run: Run, told: why.Account, at: Surroundings) -> Iterator[str]:
    if told.error:
        yield told.error
    if told.at:
        yield f"at {told.at}" + (f":  {told.line}" if told.line else "")
    yield from told.evidence
    if told.last_line and told.last_line != told.error and run.state is not State.DONE:
        yield f"last line: {told.last_line}"
    if told.max_rss_mb and told.cause == "memory":
        yield f"one of its processes had {told.max_rss_mb:,} MB"
    if told.attempt:
        yield _when(told, at.now)
    if told.job:
        yield f"job {told.job} on {told.farm}"
    if told.heard_s is not None:
        yield f"last heard {duration(told.heard_s)} ago"
    if told.log:
        yield f"log {min(told.log, os.path.relpath(told.log, at.cwd), key=len)}"


def _when(told: why.Account, now: float) -> str:
    """Which attempt, where, from when to when."""
    parts = [f"attempt {told.attempt}"]
    if told.stage:
        parts.append(f"stage {told.stage}")
    if told.host:
        parts.append(f"on {told.host}")
    if told.started:
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(told.started))
        parts.append(f"{begun}, ended after {duration(told.ended - told.started)}" if told.ended is not None else
                     f"since {begun}, {duration(now - told.started)} ago")  # fmt: skip
    return ", ".join(parts)
