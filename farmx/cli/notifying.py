"""NOTIFY: who is told of what became of a launch; sends what waits, keeps what cannot be sent, delays no run."""

import hashlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeAlias

from farmx import compose, layout, notices, outbox, status
from farmx.cli.surroundings import begin, import_path, logroot, tell
from farmx.errors import ConfigError, FarmxError
from farmx.farms import base
from farmx.farms.base import Farm
from farmx.outbox import Message
from farmx.settings import NOTIFY_SLURM
from farmx.spec import Submission, Surroundings

if TYPE_CHECKING:  # spares who sends nothing
    from farmx.messages import Text

MISSING = "apprise, which sends messages, is not installed: pip install 'farmx[notify]'"
POLLS_S = (0.1, 0.2, 0.5, 1.0, 2.0)  # between looks, then the last again: a short launch is told of when it ends
WAIT_S = 20.0  # for the last messages of a launch in the foreground
Post: TypeAlias = "Callable[[str, Text], str]"  # sends to one address; what went wrong, '' for nothing


def routes(experiment: str | None, config_file: str | None, at: Surroundings) -> tuple[str, ...]:
    """Whom we tell of an experiment directory, by its newest launch; without one by the configuration of here."""
    return addresses(named(experiment, config_file, at))


def named(experiment: str | None, config_file: str | None, at: Surroundings) -> tuple[str, ...]:
    """Whom NOTIFY names there; Slurm's own mail may be among them."""
    return compose.settled(experiment, at, config_file).notify


def addresses(names: Iterable[str]) -> tuple[str, ...]:
    """Those of them that we tell."""
    return tuple(name for name in names if name != NOTIFY_SLURM)


def by_routes(homes: Iterable[str], config_file: str | None, at: Surroundings) -> dict[tuple[str, ...], list[str]]:
    """Whom NOTIFY names -> the experiment directories they are told of; one with wrong settings is said and left."""
    found: dict[tuple[str, ...], list[str]] = {}
    for home in homes:
        try:
            found.setdefault(named(home, config_file, at), []).append(home)
        except FarmxError as error:
            tell(f"note  NOTIFY: {os.path.basename(home)}: {error}")
    return found


def act(given: Mapping[str, Any], at: Surroundings) -> None:
    """Send what waits in LOGROOT, as every command does that acts."""
    send(experiments(logroot(given["logroot"], given["config_file"], at)), given["config_file"], at)


def send(homes: Iterable[str], config_file: str | None, at: Surroundings, again: bool = False) -> int:
    """Send what waits in these experiment directories, each to its own addresses; as flush."""
    due = by_routes(filter(outbox.due, homes), config_file, at)
    return sum(flush(group, addresses(names), at.environ, again) for names, group in due.items())


# ---------------------------------------------------------------- one address


def apprise() -> Post:
    """What sends by apprise. Raises ConfigError where that is missing."""
    try:
        from apprise import Apprise, LogCapture, logging  # only who sends; half a second
    except ImportError:
        raise ConfigError(MISSING) from None

    def post(url: str, text: "Text") -> str:
        with LogCapture(level=logging.WARNING) as said:
            route = Apprise()
            if not route.add(url):
                return "it is no address that apprise knows"
            if route.notify(title=text.title, body=text.body):
                return ""
            lines = said.getvalue().strip().splitlines()
        return lines[-1].rpartition(" - ")[2] if lines else "it gave no reason"

    return post


def shown(url: str) -> str:
    """An address without what is secret in it."""
    return f"{url.partition('://')[0]}://..." if "://" in url else "..."


def filled(url: str, environ: Mapping[str, str]) -> str:
    """The address with each $VAR replaced. Raises ConfigError."""

    def variable(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not environ.get(name):
            raise ConfigError(f"${name} is not set")
        return environ[name]

    return re.sub(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", variable, url)


def tried(tries: int) -> str:
    """'tried once'."""
    return "tried once" if tries == 1 else f"tried {tries} times"


def answer(url: str, text: "Text", post: Post, environ: Mapping[str, str]) -> str:
    """Send to one address; what went wrong, without its secrets, '' for nothing."""
    try:
        address = filled(url, environ)
        problem = post(address, text)
    except ConfigError as error:
        return str(error)
    rest = address.partition("://")[2]
    for secret in sorted({address, rest, *re.split(r"[/:@?&=]+", rest)}, key=len, reverse=True):
        problem = problem.replace(secret, "...") if len(secret) > 5 else problem
    return problem


# ---------------------------------------------------------------- what waits


def flush(experiments: Iterable[str], urls: Sequence[str], environ: Mapping[str, str], again: bool = False,
          quiet: bool = False) -> int:  # fmt: skip
    """Send what waits in these experiment directories; say what cannot be sent; return how many were sent.

    again: also what a sender that died may have sent.  quiet: say nothing.  The first message that reaches nobody ends
    it: there is no route. Nothing that goes wrong is an error of the command that sends.
    """
    if not urls:
        return 0
    try:
        count, lines = _flush(list(experiments), urls, environ, again)
    except (OSError, FarmxError) as error:
        count, lines = 0, [str(error)]
    for line in lines if not quiet else ():
        tell(f"note  NOTIFY: {line}")
    return count


def _flush(experiments: Sequence[str], urls: Sequence[str], environ: Mapping[str, str],
           again: bool) -> tuple[int, list[str]]:  # fmt: skip
    for experiment in experiments:
        outbox.settle(experiment)
    due = [message for experiment in experiments for message in outbox.waiting(experiment)]
    stuck = 0 if again else sum(bool(message.stuck) for message in due)
    lines = [f"{_messages(stuck)} may have been sent: its sender ended meanwhile; farmx notify --flush sends it again"]
    if len(due) == stuck:
        return 0, lines if stuck else []
    try:
        post = apprise()
    except ConfigError as error:
        return 0, [f"{_messages(len(due) - stuck)} kept: {error}"]
    count, problem = _send(due, urls, post, environ, again)
    kept = f"{_messages(len(due) - count - stuck)} kept in {layout.FARMX}/{layout.OUTBOX}: {problem}"
    return count, [*(lines if stuck else []), *([kept] if problem else [])]


def _messages(count: int) -> str:
    return f"{count} message{'s' * (count != 1)}"


def _send(due: Sequence[Message], urls: Sequence[str], post: Post, environ: Mapping[str, str],
          again: bool) -> tuple[int, str]:  # fmt: skip
    """How many were sent, and why the first was not that reached nobody."""
    from farmx import messages  # spares who sends nothing

    count, why = 0, ""
    cache = layout.cache_folder(os.path.expanduser("~"), environ)
    for message in due:
        if not message.claim(again):
            continue
        text = messages.text(message.experiment, message.record, cache, time.time())
        reached, problems = list(message.reached), []
        for url in urls:
            digest = hashlib.sha256(f"{message.name} {url}".encode(errors="surrogatepass")).hexdigest()[:12]
            if digest in reached:
                continue
            problem = answer(url, text, post, environ)
            if problem:
                problems.append(f"{shown(url)}: {problem} ({tried(message.tries + 1)})")
            else:
                reached.append(digest)
        if not problems:
            message.sent()
            count += 1
            continue
        message.kept(reached)
        why = problems[0]
        if len(reached) == len(message.reached):
            break
    return count, why


def experiments(root: str) -> list[str]:
    """The directories of all experiments of LOGROOT that have an outbox."""
    homes = (os.path.join(root, name) for name in status.experiments(root))
    return [home for home in homes if os.path.isdir(notices.outbox(home))]


# ---------------------------------------------------------------- while a launch runs


def telling(farm: Farm, urls: Sequence[str]) -> Farm:
    """`farm`, its user told of what becomes of what it is handed; itself where nobody is to be told."""
    return _Told(farm, urls) if urls else farm


class _Told:
    """Another farm, with a word left for whoever sees what there is to tell. On this machine that is a process of its
    own, which sends it at once: neither runs nor the pool wait for an address that does not answer."""

    def __init__(self, farm: Farm, urls: Sequence[str]) -> None:
        self._farm, self._urls = farm, urls
        self.executor = farm.executor
        self.check, self.batches = farm.check, farm.batches
        self.finish, self.watch = (getattr(farm, name, None) for name in ("finish", "watch"))

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """As the farm does."""
        notices.want(submission.path for submission in submissions)
        if self.executor != layout.LOCAL:
            self._farm.submit(submissions, heard)
            return
        detached = not hasattr(self._farm, "counts")
        sender = None if detached else _started(submissions, self._urls, None)
        try:
            self._farm.submit(submissions, heard)
        finally:
            if detached:
                _started(submissions, self._urls, os.path.join(submissions[0].path, layout.POOL_LOG))
            elif sender:
                _finish(sender)


def _started(submissions: Sequence[Submission], urls: Sequence[str], log: str | None) -> subprocess.Popen[bytes] | None:
    """The process that sends; None where none can be started, which is said and is no error of the launch."""
    try:
        return _start(submissions, urls, log)
    except OSError as error:
        tell(f"note  NOTIFY: its sender cannot be started: {error.strerror}; what there is to tell is kept")
        return None


def _start(submissions: Sequence[Submission], urls: Sequence[str], log: str | None) -> subprocess.Popen[bytes]:
    """The process that sends. log: where it says what it cannot, once the pool that it watches has ended; without one
    the launch ends when its stdin does, and it says so on our stderr."""
    told = {"path": import_path(), "paths": [each.path for each in submissions], "urls": urls, "alone": log is not None}
    stderr = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    argv = [sys.executable, "-I", "-c", begin("notifying")]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr, cwd=os.sep,
                               start_new_session=True)  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.flush()
    if stderr is not None:
        os.close(stderr)
        process.stdin.close()
    return process


def _finish(sender: subprocess.Popen[bytes]) -> None:
    """Let it send the last; it goes on without us where that takes long."""
    assert sender.stdin is not None
    sender.stdin.close()
    try:
        sender.wait(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        tell("note  NOTIFY: an address takes its time; what it does not take is kept")


def main(given: Mapping[str, Any]) -> None:
    """The life of the process that sends."""
    paths, urls, environ = given["paths"], given["urls"], dict(os.environ)
    homes = sorted({layout.experiment_of(path) for path in paths})
    pauses = chain(POLLS_S, repeat(POLLS_S[-1]))
    while _goes_on(paths, given["alone"], next(pauses)):
        if fresh(homes):
            flush(homes, urls, environ, quiet=True)
    for home in homes:
        outbox.settle(home, {os.path.basename(path) for path in paths})
    flush(homes, urls, environ)


def fresh(homes: Iterable[str]) -> bool:
    """Whether a message waits in these experiment directories that nobody tried to send."""
    return any(message.tries == 0 and not message.stuck for home in homes for message in outbox.waiting(home))


def _goes_on(paths: Sequence[str], alone: bool, pause_s: float) -> bool:
    """Wait a little; whether the launch goes on."""
    if not alone:
        return not select.select([sys.stdin.buffer], [], [], pause_s)[0]
    time.sleep(pause_s)
    return any(_alive(path) for path in paths)


def _alive(path: str) -> bool:
    return base.submission_alive(path, layout.read_or_none(os.path.join(path, layout.JOB), layout.JOB_FORMAT) or {})
