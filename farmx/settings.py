"""The table of settings: each key, what it is for, what it takes, how a value is read; never where one is from."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from farmx import yaml12
from farmx.errors import Wrong, nearest
from farmx.yaml12 import Fields, Items, Node, Scalar

if TYPE_CHECKING:  # spares everybody
    from importlib.metadata import EntryPoint

# As in layout, which a -n does not load: a test compares them.
LOCAL = "local"
SLURM = "slurm"
COMMAND = "command"
EXECUTORS = (LOCAL, SLURM, COMMAND)
LOGROOT = "FARMX_LOGROOT"
NOTIFY_SLURM = "slurm"  # of NOTIFY: Slurm's own mail
PLUGINS = "farmx.farms"  # the entry points by which other packages add to these: the name -> the leaf, a module
FARM_STATES = ("queued", "running", "done", "failed", "cancelled")  # what a farm may say of a job


class Setting(NamedTuple):
    """One row of the table. read: a node -> its value, or Bad; allowed: the same for people, also in messages."""

    key: str
    help: str
    allowed: str
    read: Callable[[Node], Any]
    default: Any = None


class Bad(Exception):
    """A value that its setting does not take; node: the part that is wrong, the whole by default."""

    def __init__(self, problem: str = "", node: Node | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.node = node


# How the values of the table are read: each takes a node that is not null and returns the value, or raises Bad.


def _text(node: Node) -> str:
    if not isinstance(node, Scalar) or node.data is None or isinstance(node.data, bool) or not node.text.strip():
        raise Bad(node=node)
    return node.text.strip()


def _texts(node: Node) -> tuple[str, ...]:
    if isinstance(node, Items):
        return tuple(_text(item) for item in node.items)
    return () if isinstance(node, Scalar) and node.text == "" else (_text(node),)


def _joined(separator: str) -> Callable[[Node], str]:
    return lambda node: separator.join(_texts(node))


def _comma_list(node: Node) -> tuple[str, ...]:
    """runx's `a, b`, or a list whose texts may hold commas."""
    if isinstance(node, Items):
        return _texts(node)
    return tuple(word for text in _texts(node) for word in map(str.strip, text.split(",")) if word)


def _choice(*allowed: str) -> Callable[[Node], str]:
    def read(node: Node) -> str:
        text = _text(node)
        if text not in allowed:
            close = nearest(text, list(allowed))
            told = f"{text!r} is not allowed; it must be {_either(allowed)}"
            raise Bad(told + (close if close.startswith("; did") else ""), node)
        return text

    return read


def plugins() -> "tuple[EntryPoint, ...]":
    """What other packages bring, by the names that EXECUTOR may say; ours are never theirs."""
    from importlib.metadata import entry_points  # looks through all that is installed: only for a name that is not ours

    return tuple(each for each in entry_points(group=PLUGINS) if each.name not in EXECUTORS)


def _executor(node: Node) -> str:
    name = _text(node)
    if name in EXECUTORS:
        return name
    known = [*EXECUTORS, *sorted({each.name for each in plugins()})]
    if name in known:
        return name
    close = nearest(name, known)
    hint = close if close.startswith("; did") else "; or install the package that brings it"
    raise Bad(f"{name!r} is not allowed; it must be {_either(known)}{hint}", node)


def _options(node: Node) -> dict[str, Any]:
    if not isinstance(node, Fields):
        raise Bad
    options: dict[str, Any] = yaml12.plain(node)
    return options


def _either(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]


def _number(fits: Callable[[float], bool], *kinds: type) -> Callable[[Node], Any]:
    def read(node: Node) -> Any:
        data = node.data if isinstance(node, Scalar) else None
        if type(data) not in kinds or not isinstance(data, (int, float)) or not fits(data):
            raise Bad(node=node)
        return data

    return read


_from_0 = _number(lambda count: count >= 0, int)
_above_0 = _number(lambda count: count > 0, int)
_size = _number(lambda size: 0 < size < float("inf"), int, float)
_code = _number(lambda code: 0 < code < 256, int)


def _name(name: str, node: Node) -> str:
    """The name of an environment variable that is a user's to set."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise Bad(f"{name!r} is no name of a variable; it must be letters, digits and _", node)
    if name.startswith("FARMX_") or name == "LOGDIR":
        raise Bad(f"{name} is set by farmx itself; choose another name", node)
    if name == "PYTHONPATH":
        raise Bad("PYTHONPATH is a setting of its own; write PYTHONPATH: at the top level", node)
    return name


def _names(node: Node) -> tuple[str, ...]:
    if isinstance(node, Items):
        return tuple(_name(_text(item), item) for item in node.items)
    return tuple(_name(word, node) for word in _comma_list(node))


def _environ(node: Node) -> dict[str, str]:
    if not isinstance(node, Fields):
        raise Bad
    for key, mark in node.marks.items():
        _name(key, Scalar(key, key, mark, True))
    return {key: _variable(key, value) for key, value in node.items.items()}


def _variable(key: str, node: Node) -> str:
    if not isinstance(node, Scalar) or (node.data is None and not node.quoted):
        problem = "nothing" if isinstance(node, Scalar) else yaml12.spelled(node)
        raise Bad(f"{key} is {problem}; it must be text or a number, '' for an empty one", node)
    return node.text


def _resources(node: Node) -> dict[str, Any]:
    if not isinstance(node, Fields):
        raise Bad
    for key, value in node.items.items():
        for item in value.items if isinstance(value, Items) else (value,):
            if not isinstance(item, Scalar):
                raise Bad(f"{key} holds {yaml12.spelled(item)}; it takes text, numbers, true, false and lists", item)
    resources: dict[str, Any] = yaml12.plain(node)
    if any("-" in key for key in resources):
        _check_spellings(node)
    return resources


def _check_spellings(node: Fields) -> None:
    from farmx import needs  # spares a -n

    first: dict[str, str] = {}
    for key in node.items:
        other = first.setdefault(needs.plain(key), key)
        if other != key:
            raise Bad(f"{other} and {key} are one name; keep one", _at(key, node))


def _pattern(*groups: str) -> Callable[[Node], str]:
    """A regular expression with these groups; without any named, with one at least."""

    def read(node: Node) -> str:
        text = _text(node)
        try:
            found = re.compile(text)
        except re.error as error:
            raise Bad(f"{text!r} is no regular expression: {error}", node) from None
        if not found.groups or any(group not in found.groupindex for group in groups):
            raise Bad(node=node)
        return text

    return read


def _state_words(node: Node) -> dict[str, str]:
    if not isinstance(node, Fields):
        raise Bad
    return {key: _choice(*FARM_STATES)(value) for key, value in node.items.items()}


def _retry(node: Node) -> dict[str, Any]:
    """RETRY as policy reads it, checked."""
    from farmx import policy  # spares who has no RETRY

    if not isinstance(node, Fields):
        raise Bad
    for cause, value in node.items.items():
        if cause not in policy.CAUSES:
            raise Bad(f"there is no cause {cause!r}{nearest(cause, list(policy.CAUSES))}", _at(cause, node))
        try:
            policy.rule(cause, yaml12.plain(value))
        except Wrong as wrong:
            inner = value.items[wrong.key] if isinstance(value, Fields) and wrong.key else value
            raise Bad(f"{cause}: {wrong}", inner) from None
    retry: dict[str, Any] = yaml12.plain(node)
    return retry


def _pack(node: Node) -> dict[str, int]:
    if not isinstance(node, Fields):
        raise Bad
    from farmx import packs  # spares who has no PACK

    told: dict[str, int] = yaml12.plain(node)
    try:
        packs.check(told)
    except Wrong as wrong:
        raise Bad(str(wrong), _at(wrong.key, node) if wrong.key else node) from None
    return told


def _container(node: Node) -> dict[str, Any]:
    """CONTAINER as containers reads it."""
    from farmx import containers  # spares who has none

    if not isinstance(node, Fields):
        raise Bad
    for key in node.items:
        if key not in containers.KEYS:
            raise Bad(f"there is no {key!r}{nearest(key, list(containers.KEYS))}", _at(key, node))
    try:
        return containers.read(yaml12.plain(node))
    except Wrong as wrong:
        raise Bad(str(wrong), node.items[wrong.key] if wrong.key else node) from None


def _addresses(node: Node) -> tuple[str, ...]:
    """Addresses to send to, never shown: they hold secrets."""
    try:
        texts = _texts(node)
    except Bad:
        allowed = "an address of apprise's, slurm, or a list"
        raise Bad(f"what stands here is not allowed; it must be {allowed}", node) from None
    for text in texts:
        if text != NOTIFY_SLURM and "://" not in text and not text.startswith("$"):
            raise Bad("an address begins with what takes it, as json://host or mailto://; or write slurm", node)
    return texts


def _at(key: str, node: Fields) -> Node:
    """Where a key stands."""
    return Scalar(key, key, node.marks[key], True)


def _truth(node: Node) -> bool:
    if not isinstance(node, Scalar) or not isinstance(node.data, bool):
        raise Bad(node=node)
    return node.data


TABLE = (
    Setting("LOGROOT", "where runs go; relative to the file that sets it", "a path", _text, "runs"),
    Setting("FARM", "the farm to submit to: a section of a configuration file, or local", "a name", _text, LOCAL),
    Setting("EXECUTOR", "how the farm is reached", _either(EXECUTORS), _executor),
    Setting("OPTIONS", "what the farm of another package is to know; merged by key", "a mapping", _options),
    Setting("SUBMIT_CMD", "the command that submits a job to the farm", "a command", _text),
    Setting("SUBMIT_PARALLEL", "how many submit commands run at once", "a whole number above 0", _above_0, 16),
    Setting("JOB_ID", "where a job's id is in what SUBMIT_CMD prints", "a regular expression with a group", _pattern()),
    Setting("STATUS_CMD", "the command that tells how jobs stand, {ids} for which", "a command", _text),
    Setting("STATUS_LINE", "how a line of what STATUS_CMD prints is read",
            "a regular expression with groups named id and state", _pattern("id", "state")),
    Setting("STATUS", "what the farm's words for states mean", f"a mapping of its words to {_either(FARM_STATES)}",
            _state_words, {}),
    Setting("CANCEL_CMD", "the command that ends jobs, {ids} for which", "a command", _text),
    Setting("RESOURCES", "what a run asks of the farm; merged by key", "a mapping", _resources),
    Setting("CODE_IGNORE_PATTERNS", "what to leave out of snapshots", "a comma list or a list", _comma_list, ()),
    Setting("CODE_LINK", "live paths that runs see in their code, such as data", "a path or a list", _texts, ()),
    Setting("CODE_INCLUDE", "ignored paths to put into snapshots all the same", "a path or a list", _texts, ()),
    Setting("CODE_STAGING", "whether a run has its own tree", "link, copy or share", _choice("link", "copy", "share")),
    Setting("CODE_MAX_FILES", "refuse a snapshot of more files", "a whole number above 0", _above_0, 20_000),
    Setting("CODE_MAX_MB", "refuse a snapshot of more megabytes", "a number above 0", _size, 200.0),
    Setting("ENV", "variables for the program", "a mapping of names to texts", _environ, {}),
    Setting("ENV_PASS", "variables passed on by name, never written down", "a comma list or a list", _names, ()),
    Setting("SETUP", "shell lines before the program", "text or a list of lines", _joined("\n"), ""),
    Setting("PYTHONPATH", "import roots in place of LOGDIR/code", "a colon list or a list", _joined(":")),
    Setting("CONTAINER", "the image that every command runs in", "a mapping of image, mounts, runtime and args",
            _container, {}),
    Setting("ARG_STYLE", "how values are spelled", "gnu, equals or hydra", _choice("gnu", "equals", "hydra"), "gnu"),
    Setting("RETRY", "which ends of a run call for another attempt",
            "a mapping of oom, node_fail, time or error to what they are given", _retry, {}),
    Setting("BREAKER", "how many first runs that fail alike hold the rest", "a whole number, 0 for never", _from_0, 5),
    Setting("SENTINEL", "whether a job of its own does what RETRY says when the runs have ended", "true or false",
            _truth),
    Setting("NOTIFY", "who is told when a launch has ended, fails first or is held",
            "an address of apprise's, slurm, or a list", _addresses, ()),
    Setting("MAX_REQUEUES", "how often a run whose time is up is queued again by itself", "a whole number, 0 for never",
            _from_0, 3),
    Setting("REQUEUE_CODE", "the exit code by which a job asks the scheduler to run it again",
            "a whole number from 1 to 255", _code),
    Setting("PACK", "how many runs share a job of the farm",
            "a mapping of runs or per_gpu, and each, to whole numbers", _pack, {}),
    Setting("NGC_LOGROOT", "where the farm sees LOGROOT", "a path", _text),
    Setting("WORKSPACE", "the NGC workspace that holds NGC_LOGROOT", "a name", _text),
)
BY_KEY = {setting.key: setting for setting in TABLE}
KEYS = [setting.key for setting in TABLE]
OF_COMMANDS = ("SUBMIT_CMD", "SUBMIT_PARALLEL", "JOB_ID", "STATUS_CMD", "STATUS_LINE", "STATUS", "CANCEL_CMD",
               "REQUEUE_CODE", "NGC_LOGROOT", "WORKSPACE")  # fmt: skip
FARM_KEYS = ("LOGROOT", "FARM", "EXECUTOR", "OPTIONS", "RESOURCES", "PACK", "MAX_REQUEUES", *OF_COMMANDS)
