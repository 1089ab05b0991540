"""farmx notify: whom NOTIFY tells, whether a message reaches them, and what waits to be told."""

from collections.abc import Mapping
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
    code = _test(names, at) if given["test"] else 0
    if given["flush"]:
        tell(f"      {notifying.send(homes, given['config_file'], at, again=True)} sent")
    if not given["test"]:
        code = code or _wait(homes, given["flush"])
    if not given["test"] and not given["flush"]:
        for name in names:
            show(f"tells  {_shown(name)}")
        if not names:
            tell(NOBODY)
    return code


def _named(homes: list[str], config_file: str | None, at: Surroundings) -> tuple[str, ...]:
    """Whom the configuration of here names, and then those whom experiments name."""
    found = [notifying.named(None, config_file, at), *notifying.by_routes(homes, config_file, at)]
    return tuple(dict.fromkeys(name for names in found for name in names))


def _shown(name: str) -> str:
    return SLURMS_OWN if name == NOTIFY_SLURM else notifying.shown(name)


def _test(names: tuple[str, ...], at: Surroundings) -> int:
    urls, code = notifying.addresses(names), 0
    if len(urls) < len(names):
        show(f"{SLURMS_OWN}  not tried: only Slurm sends it")
    if not urls:
        return 0
    post = notifying.apprise()
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
