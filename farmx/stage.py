"""RunSpec -> run directory: its record, without which, whole, it is no run; never claims, never queues.

Words become text here and nowhere else.
"""

import errno
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from farmx import containers, interpreter, layout, needs, shelltext, whereabouts
from farmx.errors import ConfigError, RecordError, StageError
from farmx.spec import RunSpec, Stage
from farmx.stages import AGAIN, ONLY
from farmx.version import __version__

LOGDIR = re.compile(r"(?<!\$)(?<!\$\{)LOGDIR")  # not the variable that a user's own shell text names
SHARE_ABOVE = 2_000  # files: a tree of links a run costs more than it protects above this
SHELL_RECORD = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH")


class Shared(NamedTuple):
    """What all runs of a launch share. environ: of the launching shell.  code: how the next snapshot is to be made
    (run.json's `code`), with staging 'link', 'copy' or 'share'.  only: as ask's of the first attempts."""

    experiment: str
    sweep: str
    digest: str
    code: Mapping[str, Any]
    environ: Mapping[str, str]
    now: float
    only: Mapping[str, Sequence[str]] = {}


# ---------------------------------------------------------------- shell text


@lru_cache(maxsize=4096)  # ten thousand runs are made of some dozen words
def quote(text: str) -> str:
    """`text` as one shell word in which LOGDIR is the run's directory, whatever else it holds."""
    if layout.ENV_LOGDIR not in text:
        return shlex.quote(text)
    parts = LOGDIR.split(text)
    return '"$LOGDIR"'.join(shlex.quote(part) if part or len(parts) == 1 else "" for part in parts)


def shell_text(text: str) -> str:
    """Shell syntax of a user's with LOGDIR put in as the quotes around it need."""
    return shelltext.spliced(text, LOGDIR, lambda match, inside: _LOGDIR_IN[inside])


_LOGDIR_IN = {"": '"$LOGDIR"', "(": '"$LOGDIR"', '"': "${LOGDIR}", "'": "'\"$LOGDIR\"'", "$'": "'\"$LOGDIR\"$'"}


def command(stage: Mapping[str, Any]) -> str:
    """The command of a stage of run.json as shell text, $LOGDIR for the run's directory."""
    words = " ".join(map(quote, stage["words"]))
    return f"{shell_text(stage['shell'])} {words}".rstrip() if "shell" in stage else words


def script(told: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """launch.sh of a run.json: environment, cd, the words. By hand it runs the program just as farmx does.

    environ: of the shell whose PATH and the like the program is to find again.
    """
    before, after = _around(told, _variables(told["stages"]), environ)
    return f"{before}{told['run']}{after}{_commands(told['stages'])}"


def _around(told: Mapping[str, Any], variables: Sequence[str] | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """What of launch.sh stands before the run's name, and between that and the commands: what runs of a launch share.

    variables: as _variables of the stages.
    """
    roots = ":".join(told["pythonpath"])
    program = "/bin/sh" if variables is None and not told["setup"] else "/bin/bash"
    found = [f"export {key}={shlex.quote(environ[key])}" for key in SHELL_RECORD if environ.get(key)]
    lines = [
        f" of experiment {_comment(told['experiment'])}, by farmx {__version__}; runs by hand too",
        'case $0 in */*) CDPATH= cd -- "${0%/*}" || exit 1 ;; esac',
        'export LOGDIR="$PWD"',
        *(containers.begin(told, program, found) if told.get("container") else found),
        *(f"export {key}={quote(value)}" for key, value in told["env"].items()),
        *([told["setup"]] if told["setup"] else []),
        *([f'export PYTHONPATH={quote(roots)}"${{PYTHONPATH:+:$PYTHONPATH}}"'] if roots else []),
        *(variables or ()),
        'cd -- "$LOGDIR"/code || exit 1\n',
    ]
    return f"#!{program}\n# run ", "\n".join(lines)


def _variables(stages: Sequence[Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Lines that set those of the variables that shell text of these stages names; None where none is shell text."""
    shells = [each["shell"] for each in stages if "shell" in each]
    if not shells:
        return None
    return tuple(line for name, line in _VARIABLES.items() if any(f"${name}" in each for each in shells))


# What templates.VARIABLES are.
_VARIABLES = {
    "_name": "_name=${LOGDIR##*/}",
    "_time": f"_time=${{{layout.ENV_STARTED}:-$(date +{layout.STARTED_FORM})}}",
}


def _commands(stages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join([_line(stages[0])] if len(stages) == 1 else _by_stage(stages)) + "\n"


def _line(stage: Mapping[str, Any]) -> str:
    return ("" if "shell" in stage else "exec ") + command(stage)


def _by_stage(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines that run the stage that the first argument names, without one all in order up to one that fails."""
    names = [stage["name"] for stage in stages]
    return [
        "stage() {",
        "case $1 in",
        *(line for stage in stages for line in (f"{stage['name']})", _line(stage), ";;")),
        f"*) echo \"launch.sh: no stage $1; stages: {' '.join(names)}\" >&2; exit 2 ;;",
        "esac",
        "}",
        'if [ $# -gt 0 ]; then stage "$1"; exit; fi',
        f"for each in {' '.join(names)}; do",
        '(stage "$each")',
        "code=$?",
        "[ $code -eq 0 ] || exit $code",
        "done",
    ]


def _comment(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- the run directory


def check_passed(names: Iterable[str], environ: Mapping[str, str]) -> None:
    """Raises ConfigError when `environ` lacks one of the variables that runs are to be passed: their values are kept
    nowhere."""
    missing = next((name for name in names if name not in environ), None)
    if missing:
        raise ConfigError(f"ENV_PASS: {missing} is not set in this shell; export it or take it off the list")


def text(spec: RunSpec, name: str, generation: int, shared: Shared) -> bytes:
    """run.json of a new run: what to run, and why it is this run and no other.

    The runner makes launch.sh of `script` and hparams.json of `hparams` when it begins: a run that waits is one file,
    and what it is to run is changed by one rename. `tag` and `staged`, when that was, are for who reads it: nothing of
    ours does.
    """
    stages = [_stage_record(stage) for stage in spec.stages]
    own = {
        "format": layout.RUN_FORMAT,
        "run": name,
        "point": spec.identity,
        "hparams": spec.hparams,
        "generation": generation,
        "identity": spec.preimage,
        "tag": spec.tag,
        "stages": stages,
        **({ONLY: {queued: list(names) for queued, names in shared.only.items()}} if shared.only else {}),
    }
    before, after = _alike(spec, shared, _variables(stages))
    return f"{_json(own)[:-1]}{before}{_inside(name)}{after}{_inside(_commands(stages))}\"}}\n".encode()


def _alike(spec: RunSpec, shared: Shared, variables: tuple[str, ...] | None) -> tuple[str, str]:
    """The json of what runs of a launch have alike: up to their name in `script`, and from there to the commands.

    Made once for the very same objects: it is most of the text of ten thousand runs.
    """
    told = (*spec[5:], *shared[:4], shared.now)
    key = (variables, *map(shared.environ.get, SHELL_RECORD), *map(id, told))
    found = _ALIKE.get(key)
    if found is None:
        if len(_ALIKE) >= _KINDS:  # several threads may have filled it
            _ALIKE.clear()
        record = _common(spec, shared)
        before, after = _around(record, variables, shared.environ)
        start = f', {_json(record)[1:-1]}, "script": "{_inside(before)}'
        found = _ALIKE[key] = told, (start, _inside(after))
    return found[1]


_KINDS = 64  # of resources, which HPARAMS may vary
_ALIKE: dict[tuple[Any, ...], tuple[tuple[Any, ...], tuple[str, str]]] = {}  # with what an id is of: it lives on


def _common(spec: RunSpec, shared: Shared) -> dict[str, Any]:
    return {
        "experiment": shared.experiment,
        **around(spec),
        "resources": spec.resources,
        "goal": {"metric": spec.goal.metric, "mode": spec.goal.mode} if spec.goal else None,
        "digest": shared.digest,
        "code": dict(shared.code),
        "sweep": shared.sweep,
        "staged": shared.now,
        **({layout.RETRY: dict(spec.retry)} if spec.retry else {}),
        **({"container": dict(spec.container)} if spec.container else {}),
        **({layout.BREAKS: spec.breaker} if spec.breaker else {}),
        **({layout.SENTINEL: True} if spec.sentinel else {}),
    }


_strict = json.JSONEncoder(allow_nan=False).encode


def _json(value: Any) -> str:
    try:
        return _strict(value)
    except ValueError:
        return _strict(sound(value))


def _inside(text: str) -> str:
    """`text` as it stands between the quotes of json."""
    return _strict(text)[1:-1]


def around(spec: RunSpec) -> dict[str, Any]:
    """What run.json says of what surrounds the program."""
    return {"env": dict(spec.env), "env_pass": list(spec.env_pass), "setup": spec.setup,
            "pythonpath": list(spec.pythonpath)}  # fmt: skip


def _stage_record(stage: Stage) -> dict[str, Any]:
    """form: what tells a changed command from this one; resources: what this stage asks for beside the run's."""
    told: dict[str, Any] = {"name": stage.name, "words": list(stage.words)}
    if stage.shell:
        told["shell"] = stage.shell
    if stage.form:
        told["form"] = stage.form
    if stage.resources:
        told["resources"] = sound(stage.resources)
    return told


def run(experiment: str, spec: RunSpec, name: str, generation: int, shared: Shared, home: int | None = None) -> None:
    """Make the run directory where it stays: an empty one is no run, nor is one with a torn run.json.

    Two new inodes: on a network file system each is several calls. home: a descriptor of the experiment directory, from
    which a path is shorter.  Raises StageError, with nothing left of it, and FileExistsError when there is something of
    that name, or somebody else made it meanwhile.
    """
    path = f"{experiment}/{name}"
    short = path if home is None else name
    told = text(spec, name, generation, shared)
    try:
        os.mkdir(short, dir_fd=home)
        try:
            layout.new(f"{short}/{layout.RUN}", told, home=home)
        except OSError:
            _unmake(path)
            raise
    except FileExistsError:
        raise
    except OSError as error:
        raise _not_staged(path, error) from error


def instead(experiment: str, spec: RunSpec, name: str, generation: int, shared: Shared, launch: str) -> None:
    """Make a run that another launch may be making, or was to make: it appears whole, by a rename that goes over no
    run, but over the empty directory of one that was begun.

    launch: the id of ours; no other makes what this one does. Raises as run does.
    """
    path = f"{experiment}/{name}"
    begun = f"{experiment}/{layout.making(launch, layout.claim_name(spec.identity, generation))}"
    told = text(spec, name, generation, shared)
    try:
        if whereabouts.is_begun(path):
            with suppress(FileNotFoundError):  # whoever writes it this moment writes into what is no more there
                os.unlink(f"{path}/{layout.RUN}")
        with suppress(FileExistsError):  # NFS repeats calls: ours
            os.mkdir(begun)
        layout.new(f"{begun}/{layout.RUN}", told)
        layout.rename(begun, path, lambda: layout.holds(f"{path}/{layout.RUN}", told))
    except OSError as error:
        shutil.rmtree(begun, ignore_errors=True)
        filled = error.errno in (errno.EEXIST, errno.ENOTEMPTY)  # else what was begun there is in nobody's way
        if os.path.lexists(path) and (filled or not whereabouts.is_begun(path)):
            raise FileExistsError(path) from error
        raise _not_staged(path, error) from error


def discard(path: str) -> None:
    """Remove a run directory that was begun by somebody who does not make it any more."""
    if whereabouts.is_begun(path):
        _unmake(path)


def _unmake(path: str) -> None:
    """Remove a run directory without a record, or with a torn one."""
    with suppress(OSError):
        if os.path.lexists(f"{path}/{layout.RUN}") and whereabouts.is_torn(f"{path}/{layout.RUN}"):
            layout.remove(f"{path}/{layout.RUN}")
        os.rmdir(path)


def _not_staged(path: str, error: OSError) -> StageError:
    return StageError(f"{path}: cannot be staged: {error.strerror}; what was staged before is kept")


def sound(value: Any) -> Any:
    """`value` with NaN and infinities as their words: bare they are not json."""
    if isinstance(value, Mapping):
        return {key: sound(each) for key, each in value.items()}
    if isinstance(value, list):
        return [sound(each) for each in value]
    return layout.number(value) if isinstance(value, float) else value


def recorded(run: str) -> dict[str, Any]:
    """run.json of the run directory at `run`. Raises RecordError, for a run that was deleted meanwhile, too."""
    path = os.path.join(run, layout.RUN)
    try:
        return layout.read_json(path, layout.RUN_FORMAT)
    except OSError as error:
        raise RecordError(f"{path}: it is gone: was the run moved or deleted meanwhile?") from error


def recipe(source: str, wish: Mapping[str, Any], staging: str | None, files: int) -> dict[str, Any]:
    """How the next snapshot is to be made, and each run's tree of one of so many files: run.json's `code`.

    wish: the fields of snapshot.Wish.  staging: 'link', 'copy', 'share', or None to go by the number of files.
    """
    return {"staging": staging or ("share" if files > SHARE_ABOVE else "link"), "source": source, **wish}


def renew(path: str, digest: str, environ: Mapping[str, str], stages: Sequence[Stage] = (),
          more: Mapping[str, Any] = {}) -> None:  # fmt: skip
    """Let the next attempt of the run at `path` use snapshot `digest` and this shell's PATH and the like,
    editable installs that it knows among them, and `stages` and what else `more` says of run.json in place of its own.

    run.json is the truth of which code it is, the runner follows it.
    """
    told = recorded(path)
    words, source = told["stages"][0]["words"][:4], told["code"]["source"]
    fresh = {**told, **more, "format": layout.RUN_FORMAT, "digest": digest}
    fresh["pythonpath"] = list(interpreter.pythonpath(fresh["pythonpath"], words, environ, source))
    if stages:
        fresh["stages"] = list(map(_stage_record, stages))
    fresh["script"] = script(fresh, environ)
    if fresh != told:
        layout.write_json(os.path.join(path, layout.RUN), fresh)


def set_retry(run: str, retry: Mapping[str, Any]) -> None:
    """Let the run at `run`, which is to be queued, be attempted again as today's RETRY says."""
    told = recorded(run)
    if told.get(layout.RETRY, {}) != retry:
        layout.write_json(os.path.join(run, layout.RUN), {**told, layout.RETRY: dict(retry)})


def set_resources(run: str, resources: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> None:
    """Let the run at `run`, which is to be queued, ask for today's RESOURCES. own: stage -> those of its own."""
    told = recorded(run)
    stages = [{**each, "resources": sound(own.get(each["name"], each.get("resources")))} for each in told["stages"]]
    stages = [each if each["resources"] else {key: each[key] for key in each if key != "resources"} for each in stages]
    fresh = {**told, "resources": sound(resources), "stages": stages}
    if fresh != told:
        layout.write_json(os.path.join(run, layout.RUN), fresh)


def asking(record: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """run.json, `record`, with the resources that are `asked` for from now on; so in a stage that has its own."""
    if not asked:
        return record
    stages = [_over(stage, asked) for stage in record["stages"]]
    return {**record, "resources": needs.merged(record.get("resources") or {}, asked), "stages": stages}


def _over(stage: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    own = stage.get("resources") or {}
    named = needs.spelled(own)
    ours = {key: value for key, value in asked.items() if needs.plain(key) in named}
    return {**stage, "resources": needs.merged(own, ours)} if ours else stage


def ask(run: str, asked: Mapping[str, Sequence[str]], key: str = ONLY) -> None:
    """Let attempts of the run at `run` that are to be queued run only these of the stages that are not done.

    asked: attempt (the number of its queuing) -> stages; all for one that is not in it.  key: AGAIN for done or not.
    """
    told = recorded(run)
    wanted = {key: {queued: list(names) for queued, names in asked.items()}} if asked else {}
    fresh = {**{key: value for key, value in told.items() if key not in (ONLY, AGAIN)}, **wanted}
    if fresh != told:
        layout.write_json(os.path.join(run, layout.RUN), fresh)
