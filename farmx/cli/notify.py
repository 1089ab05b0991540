"""farmx notify: whom NOTIFY tells, whether a message reaches them, and what waits to be told."""

from collections.abc import Mapping
from typing import Any

from farmx import outbox
from farmx.cli import notifying
from farmx.cli.surroundings import logroot, show, tell
from farmx.errors import ConfigError
from farmx.messages import Text
from farmx.spec import Surroundings

NOBODY = "NOTIFY names nobody; write NOTIFY: [json://host/path] or another address of apprise's into .farmx.yaml"


def notify(given: Mapping[str, Any], at: Surroundings) -> int:
    """Do what the options say; return the exit code."""
    homes = notifying.experiments(logroot(given["logroot"], given["config_file"], at))
    urls = _urls(homes, given["config_file"], at)
    if not urls and (given["test"] or given["flush"]):
        raise ConfigError(NOBODY)
    code = _test(urls, at) if given["test"] else 0
    if given["flush"]:
        tell(f"      {notifying.send(homes, given['config_file'], at, again=True)} sent")
    if not given["test"]:
        code = code or _wait(homes, given["flush"])
    if not given["test"] and not given["flush"]:
        for url in urls:
            show(f"tells  {notifying.shown(url)}")
        if not urls:
            tell(NOBODY)
    return code


def _urls(homes: list[str], config_file: str | None, at: Surroundings) -> tuple[str, ...]:
    """Whom the configuration of here tells, and then those whom experiments tell."""
    found = [notifying.routes(None, config_file, at), *notifying.by_routes(homes, config_file, at)]
    return tuple(dict.fromkeys(url for urls in found for url in urls))


def _test(urls: tuple[str, ...], at: Surroundings) -> int:
    post, code = notifying.apprise(), 0
    text = Text("farmx: a test", f"from {at.host}; messages about your runs come this way")
    for url in urls:
        problem = notifying.answer(url, text, post, at.environ)
        code = code or int(bool(problem))
        show(f"{notifying.shown(url)}  {problem or 'took it'}")
    return code


def _wait(homes: list[str], flushed: bool) -> int:
    """Say what waits; 1 where that should have been sent just now."""
    left = [message for home in homes for message in outbox.waiting(home)]
    for message in left:
        tried = f", {notifying.tried(message.tries)}" if message.tries else ""
        show(f"waits  {message.record.get('experiment')}: {message.record.get('event')}{tried}")
    return int(flushed and bool(left))
