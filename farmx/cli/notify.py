"""farmx notify: whom NOTIFY tells, whether a message reaches them, and what waits to be told."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from farmx import outbox
from farmx.cli import notifying
from farmx.cli.surroundings import logroot, show, tell
from farmx.errors import ConfigError
from farmx.messages import Text
from farmx.settings import NOTIFY_SLURM
from farmx.spec import Surroundings

SLURMS_OWN = "Slurm's own mail, on farms that are Slurm"
NOBODY = "NOTIFY names nobody; write NOTIFY: [json://host/path] or another address of apprise's into .farmx.yaml"


def notify(given: Mapping[str, Any], at: Surroundings) -> int:
    """Do what the options say; return the exit code."""
    homes = notifying.experiments(logroot(given["logroot"], given["config_file"], at))
    names = _named(homes, given["config_file"], at)
    if not names and (given["test"] or given["flush"]):
        raise ConfigError(NOBODY)
    say: Callable[[str], None] = _nothing if given["as_json"] else show
    told, code = _done(given, names, homes, at, say)
    if not given["test"] and not given["flush"]:
        told["tells"] = [_shown(name) for name in names]
        for name in told["tells"]:
            say(f"tells  {name}")
        if not names:
            tell(NOBODY)
    if given["as_json"]:
        show(json.dumps(told, indent=2))
    return code


def _done(given: Mapping[str, Any], names: tuple[str, ...], homes: list[str], at: Surroundings,
          say: Callable[[str], None]) -> tuple[dict[str, Any], int]:  # fmt: skip
    """What --test and --flush do, or what waits: the fields of --json, and the exit code."""
    told: dict[str, Any] = {}
    code = 0
    if given["test"]:
        told["answers"] = _test(names, at, say)
        code = int(any(each["took"] is False for each in told["answers"]))
    if given["flush"]:
        told["sent"] = notifying.send(homes, given["config_file"], at, again=True)
        tell(f"      {told['sent']} sent")
    if not given["test"]:
        told["waits"] = _waiting(homes, say)
        code = int(given["flush"] and bool(told["waits"]))  # what should have been sent just now
    return told, code


def _nothing(text: str) -> None:
    """What would be said to people."""


def _named(homes: list[str], config_file: str | None, at: Surroundings) -> tuple[str, ...]:
    """Whom the configuration of here names, and then those whom experiments name."""
    found = [notifying.named(None, config_file, at), *notifying.by_routes(homes, config_file, at)]
    return tuple(dict.fromkeys(name for names in found for name in names))


def _shown(name: str) -> str:
    return SLURMS_OWN if name == NOTIFY_SLURM else notifying.shown(name)


def _test(names: tuple[str, ...], at: Surroundings, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Send a test to each address, and say what it answers."""
    told = []
    for address, took, answer in _answers(names, at):
        say(f"{address}  {answer}")
        told.append({"address": address, "took": took, "answer": answer})
    return told


def _answers(names: tuple[str, ...], at: Surroundings) -> Iterator[tuple[str, bool | None, str]]:
    """What is shown of each address, whether it took a test message, None for what was not tried, and its answer."""
    urls = notifying.addresses(names)
    if len(urls) < len(names):
        yield SLURMS_OWN, None, "not tried: only Slurm sends it"
    if not urls:
        return
    post = notifying.apprise()
    text = Text("farmx: a test", f"from {at.host}; messages about your runs come this way")
    for url in urls:
        problem = notifying.answer(url, text, post, at.environ)
        yield notifying.shown(url), not problem, problem or "took it"


def _waiting(homes: list[str], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Say what waits."""
    told = []
    for message in (message for home in homes for message in outbox.waiting(home)):
        tried = f", {notifying.tried(message.tries)}" if message.tries else ""
        say(f"waits  {message.record.get('experiment')}: {message.record.get('event')}{tried}")
        told.append({**{key: message.record.get(key) for key in ("experiment", "event")}, "tries": message.tries})
    return told
