"""Where each setting comes from: command line > environment > sweep file > configuration files > default.

The files, the first one that sets a key wins: `.farmx.yaml` of the project (this directory or the nearest parent up to
the repository's root), ~/.config/farmx/config.yaml, then runx's `.runx` of the project and ~/.config/runx.yml. In each
the section named after the farm comes before the top level of any. Never what a setting is used for.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import yaml12
from farmx.errors import ConfigError, FarmxError, NoFarmError, SweepError, nearest
from farmx.settings import BY_KEY, COMMAND, EXECUTORS, FARM_KEYS, KEYS, LOCAL, LOGROOT, TABLE, Bad
from farmx.yaml12 import Fields, Mark, Node, Scalar

PROJECT_FILE = ".farmx.yaml"
RUNX_FILE = ".runx"
ENVIRONMENT = {"LOGROOT": LOGROOT, "FARM": "FARMX_FARM"}
COMMAND_LINE = "command line"
DEFAULT = "default"
_MAPPINGS = [setting.key for setting in TABLE if setting.allowed.startswith("a mapping")]
_PLAIN_KEYS = [key for key in KEYS if key not in FARM_KEYS]


class Farm(NamedTuple):
    """A named place to run. executor: one of EXECUTORS, or what another package brings; '' when a section says neither
    EXECUTOR nor SUBMIT_CMD."""

    name: str
    executor: str
    submit_cmd: str | None
    resources: Mapping[str, Any]
    ngc_logroot: str | None
    workspace: str | None
    max_requeues: int = 3
    submit_parallel: int = 16
    job_id: str | None = None
    status_cmd: str | None = None
    status_line: str | None = None
    status: Mapping[str, str] = {}
    cancel_cmd: str | None = None
    pack: Mapping[str, int] = {}
    requeue_code: int | None = None
    options: Mapping[str, Any] = {}


class Config(NamedTuple):
    """Every setting. logroot: absolute.  pythonpath: None means LOGDIR/code.  code_max_mb: 10**6 bytes.

    origins: key -> where its value is from: 'command line', 'FARMX_LOGROOT', 'sweep.yml:4:1', '.farmx.yaml:2:1',
    'default'; RESOURCES and OPTIONS also by key, as 'RESOURCES.gpu'.
    """

    logroot: str
    farm: Farm
    code_ignore_patterns: tuple[str, ...]
    code_link: tuple[str, ...]
    code_include: tuple[str, ...]
    code_staging: str | None
    code_max_files: int
    code_max_mb: float
    env: Mapping[str, str]
    env_pass: tuple[str, ...]
    setup: str
    pythonpath: str | None
    arg_style: str
    origins: Mapping[str, str]
    retry: Mapping[str, Any] = {}
    breaker: int = 5
    sentinel: bool | None = None
    container: Mapping[str, Any] = {}
    notify: tuple[str, ...] = ()


class Source(NamedTuple):
    """A file to read. shown: as messages name it; runx: read as runx did, unknown keys left alone."""

    path: str
    shown: str
    runx: bool = False


class _Layer(NamedTuple):
    """Settings from one place. base: what a relative LOGROOT in it starts from."""

    nodes: Mapping[str, Node]
    origins: Mapping[str, str]
    base: str
    error: type[FarmxError] = ConfigError


class _File(NamedTuple):
    """One configuration file: its top level and its farms."""

    source: Source
    top: _Layer
    farms: Mapping[str, _Layer]


def compose(
    *,
    cwd: str,
    home: str,
    environ: Mapping[str, str],
    named: str | None = None,
    settings: Mapping[str, Node] | None = None,
    setting_marks: Mapping[str, Mark] | None = None,
    sweep_dir: str | None = None,
    own_keys: Sequence[str] = (),
    flags: Mapping[str, str] | None = None,
) -> Config:
    """Every setting, the strongest place's value each.

    named: the one configuration file to read, instead of all that would be found.  settings, setting_marks: the sweep
    file's other keys, of which `own_keys` are not settings but might have been meant; sweep_dir: what a relative
    LOGROOT in it starts from, cwd when not given.  flags: LOGROOT and FARM of the command line.
    Raises ConfigError, or SweepError for what stands in the sweep file; looks at every key of every file.
    """
    files = [_read(source) for source in find(cwd, home, environ, named)]
    sweep = _Layer(settings or {}, _told(setting_marks or {}), sweep_dir or cwd, SweepError)
    _check(sweep, (*own_keys, *KEYS))
    flagged = {key: (text, COMMAND_LINE) for key, text in (flags or {}).items()}
    exported = {key: (environ[name], name) for key, name in ENVIRONMENT.items() if environ.get(name)}
    strong, tops = [_given(flagged, cwd), _given(exported, cwd), sweep], [file.top for file in files]
    farm = _farm_name(strong + tops, files)
    layers = strong + [file.farms[farm] for file in files if farm in file.farms] + tops
    return _composed(layers, farm, cwd, home, environ)


def find(cwd: str, home: str, environ: Mapping[str, str], named: str | None = None) -> list[Source]:
    """The configuration files that exist, strongest first. Raises ConfigError when `named` does not exist."""
    if named is not None:
        path = os.path.join(cwd, named)
        if not os.path.isfile(path):
            raise ConfigError(f"{named}: there is no such configuration file; give -c an existing one")
        return [Source(path, named, "runx" in os.path.basename(path))]
    xdg = environ.get("XDG_CONFIG_HOME", "")
    user = xdg if os.path.isabs(xdg) else os.path.join(home, ".config")
    project = _project(cwd)
    candidates = [
        (_nearest(PROJECT_FILE, project), False),
        (os.path.join(user, "farmx", "config.yaml"), False),
        (_nearest(RUNX_FILE, project), True),
        (os.path.join(home, ".config", "runx.yml"), True),
    ]
    return [Source(path, _shown(path, cwd, home), runx) for path, runx in candidates if path and os.path.isfile(path)]


def _project(cwd: str) -> list[str]:
    """cwd and its parents up to the root of the repository; outside a repository only cwd."""
    folders = [cwd]
    while os.path.dirname(folders[-1]) != folders[-1]:
        folders.append(os.path.dirname(folders[-1]))
    root = next((i for i, folder in enumerate(folders) if os.path.exists(os.path.join(folder, ".git"))), 0)
    return folders[: root + 1]


def _nearest(name: str, folders: Sequence[str]) -> str | None:
    paths = (os.path.join(folder, name) for folder in folders)
    return next((path for path in paths if os.path.isfile(path)), None)


def _shown(path: str, cwd: str, home: str) -> str:
    """The path as a person would write it from cwd."""
    relative = os.path.relpath(path, cwd)
    if not relative.startswith(".." + os.sep) or not path.startswith(home + os.sep):
        return relative
    return min(relative, os.path.join("~", os.path.relpath(path, home)), key=len)


def _read(source: Source) -> _File:
    """A file, checked. Raises ConfigError."""
    base = os.path.dirname(source.path)
    try:
        with open(source.path, encoding="utf-8") as file:
            node = yaml12.parse(file.read(), source.shown, ConfigError)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{source.shown}: cannot be read: {reason}") from None
    if node is None or (isinstance(node, Scalar) and node.data is None):
        return _File(source, _Layer({}, {}, base), {})
    if not isinstance(node, Fields):
        raise ConfigError(f"{node.mark}: a configuration file is a mapping; write LOGROOT: <directory>")
    return _sorted_out(source, node, base)


def _sorted_out(source: Source, node: Fields, base: str) -> _File:
    """The settings and the farms of a file."""
    sections = {key: value for key, value in node.items.items() if key not in KEYS and isinstance(value, Fields)}
    farms = {key: value for key, value in sections.items() if source.runx or _is_farm(key, value)}
    for key in (key for key in sections if key not in farms and not key.startswith("x-")):
        no_farm = "; it is no setting, and no farm, whose section holds settings"
        about = nearest(key, KEYS) if _means(key, KEYS) else no_farm
        raise ConfigError(f"{node.marks[key]}: unknown key {key!r}{about}")
    top = {key: value for key, value in node.items.items() if key not in farms}
    layers = {key: _layer(value.items, value.marks, base, source.runx) for key, value in farms.items()}
    for name, layer in layers.items():
        _check_section(name, layer)
    return _File(source, _layer(top, node.marks, base, source.runx), layers)


def _is_farm(name: str, fields: Fields) -> bool:
    """Whether a mapping is a farm's section, which holds settings, perhaps misspelt; not a misspelt ENV."""
    if name.startswith("x-"):
        return False
    if not fields.items or any(key in KEYS for key in fields.items):
        return True
    return not _means(name, _MAPPINGS) and any(_means(key, KEYS) for key in fields.items)


def _means(word: str, known: list[str]) -> bool:
    """Whether somebody may have meant one of these."""
    return nearest(word, known).startswith("; did you mean")


def _layer(nodes: Mapping[str, Node], marks: Mapping[str, Mark], base: str, runx: bool) -> _Layer:
    """Checked settings; of a runx file those that we know."""
    kept = {key: node for key, node in nodes.items() if not key.startswith("x-") and (key in KEYS or not runx)}
    layer = _Layer(kept, _told({key: marks[key] for key in kept}), base)
    _check(layer, KEYS)
    return layer


def _told(marks: Mapping[str, Mark]) -> dict[str, str]:
    return {key: str(mark) for key, mark in marks.items()}


def _check(layer: _Layer, candidates: Sequence[str]) -> None:
    """Raise the layer's error for the first key that is no setting, or whose value its setting does not take."""
    for key, node in layer.nodes.items():
        if key not in KEYS:
            raise layer.error(f"{layer.origins[key]}: unknown key {key!r}{nearest(key, list(candidates))}")
        _value(key, node, layer.error)


def _value(key: str, node: Node, error: type[FarmxError]) -> Any:
    """What `node` means as the value of `key`; None for null, which is as if the key were not there."""
    if isinstance(node, Scalar) and node.data is None:
        return None
    try:
        return BY_KEY[key].read(node)
    except Bad as bad:
        at = bad.node or node
        problem = bad.problem or f"{yaml12.spelled(at)} is not allowed; it must be {BY_KEY[key].allowed}"
        raise error(f"{at.mark}: {key}: {problem}") from None


def _check_section(name: str, layer: _Layer) -> None:
    for key in ("FARM", "SUBMIT_CMD", "EXECUTOR") if name == LOCAL else ("FARM",):
        if key in layer.nodes:
            built_in = ", which is built in and runs here" if name == LOCAL else ""
            raise ConfigError(f"{layer.origins[key]}: {key} has no place in the farm {name}{built_in}; take it out")
    if "OPTIONS" in layer.nodes and "EXECUTOR" in layer.nodes:
        executor = _value("EXECUTOR", layer.nodes["EXECUTOR"], ConfigError)
        if executor in EXECUTORS:
            raise ConfigError(f"{layer.origins['OPTIONS']}: OPTIONS are for a farm of another package, and EXECUTOR "
                              f"{executor} is farmx's own; take them out")  # fmt: skip


def _given(values: Mapping[str, tuple[str, str]], base: str) -> _Layer:
    """Settings that are plain texts: key -> (text, origin)."""
    nodes = {key: Scalar(text, text, Mark(origin), True) for key, (text, origin) in values.items()}
    layer = _Layer(nodes, {key: origin for key, (_, origin) in values.items()}, base)
    _check(layer, KEYS)
    return layer


def _setting(key: str, layers: Sequence[_Layer]) -> Iterator[tuple[Any, _Layer]]:
    """The values of `key`, strongest first, with their layers."""
    for layer in layers:
        value = _value(key, layer.nodes[key], layer.error) if key in layer.nodes else None
        if value is not None:
            yield value, layer


def _farm_name(layers: Sequence[_Layer], files: Sequence[_File]) -> str:
    """The farm to use. Raises NoFarmError when no file has a section for it."""
    known = sorted({LOCAL}.union(*(file.farms for file in files)))
    for name, layer in _setting("FARM", layers):
        if name in known:
            return str(name)
        origin = layer.origins["FARM"]
        where = " or ".join(file.source.shown for file in files) or "any configuration file"
        problem = f"no farm named {name!r} in {where}; known: {', '.join(known)}"
        raise NoFarmError(problem if origin == COMMAND_LINE else f"{origin}: {problem}")
    return LOCAL


def _composed(layers: Sequence[_Layer], farm: str, cwd: str, home: str, environ: Mapping[str, str]) -> Config:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in TABLE:
        found = next(_setting(setting.key, layers), None)
        values[setting.key] = setting.default if found is None else found[0]
        origins[setting.key] = DEFAULT if found is None else found[1].origins[setting.key]
    for name, over in _MERGED.items():
        values[name] = {}
        for value, layer in reversed(list(_setting(name, layers))):
            values[name] = over(values[name], value)
            marks = getattr(layer.nodes[name], "marks", {})
            origins.update({f"{name}.{key}": str(mark) for key, mark in marks.items()})
    return Config(
        logroot=_logroot(layers, cwd, home, environ),
        farm=_farm(farm, values, origins),
        container=_container(layers, home, environ),
        origins=origins,
        **{key.lower(): values[key] for key in _PLAIN_KEYS if key != "CONTAINER"},
    )


def _over(resources: dict[str, Any], own: dict[str, Any]) -> Mapping[str, Any]:
    if not resources:
        return own
    from farmx import needs  # spares a -n

    return needs.over(resources, own)


def _with(options: dict[str, Any], own: dict[str, Any]) -> Mapping[str, Any]:
    return {**options, **own}


_MERGED = {"RESOURCES": _over, "OPTIONS": _with}


def _farm(name: str, values: Mapping[str, Any], origins: Mapping[str, str]) -> Farm:
    command = values["SUBMIT_CMD"]
    executor = LOCAL if name == LOCAL else values["EXECUTOR"] or (COMMAND if command else "")
    if executor == COMMAND and not command:
        raise ConfigError(f"{origins['EXECUTOR']}: the farm {name} has EXECUTOR command and no SUBMIT_CMD; add it")
    fields = {key.lower(): values[key] for key in FARM_KEYS if key.lower() in Farm._fields}
    return Farm(**{**fields, "name": name, "executor": executor})


def _logroot(layers: Sequence[_Layer], cwd: str, home: str, environ: Mapping[str, str]) -> str:
    """LOGROOT as an absolute path, `~` and $VAR replaced."""
    for value, layer in _setting("LOGROOT", layers):
        where = f"{layer.origins['LOGROOT']}: LOGROOT"
        return os.path.normpath(os.path.join(cwd, layer.base, _expanded(value, home, environ, where, layer.error)))
    return os.path.join(cwd, "runs")


def _container(layers: Sequence[_Layer], home: str, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """CONTAINER with absolute paths, `~` and $VAR replaced."""
    value, layer = next(_setting("CONTAINER", layers), ({}, None))
    if not value or layer is None:
        return {}
    from farmx import containers  # spares who has none

    where = f"{layer.origins['CONTAINER']}: CONTAINER"
    return containers.located(value, layer.base, lambda path: _expanded(path, home, environ, where, layer.error))


def _expanded(path: str, home: str, environ: Mapping[str, str], where: str, error: type[FarmxError]) -> str:
    def variable(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not environ.get(name):
            raise error(f"{where}: ${name} is not set; export it, or write the path")
        return environ[name]

    if re.match(r"~(?!/|$)", path):
        raise error(f"{where}: {path!r}: only ~ and ~/ are replaced; write the path")
    tilde = home + path[1:] if path.startswith("~") else path
    return re.sub(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", variable, tilde)
