"""CONTAINER: what it says, and the words that start a run's commands inside it; never starts anything.

Carried to nodes with the runner: standard library only.

    CONTAINER: {image: ~/torch.sif, mounts: [/data:/data:ro], runtime: apptainer, args: [--cleanenv]}

apptainer: launch.sh starts itself once more inside, so SETUP, ENV and the command are the same text in and out.
pyxis: srun starts launch.sh inside, from the words that the Slurm farm puts before every command.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farmx import layout
from farmx.errors import FarmxError, Wrong

APPTAINER, PYXIS = RUNTIMES = ("apptainer", "pyxis")
OLD_NAME = "singularity"
KEYS = ("image", "mounts", "runtime", "args")
MODES = ("ro", "rw")
INSIDE = "--inside"  # what launch.sh is told when the container is around it; no stage is called that
ENV_INSIDE = "FARMX_INSIDE"  # the same, where srun has started it there
# Of the machine, not of the image.
OUTER = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH")
# What a program is told by us, whatever an image sets or is cleaned away.
PASSED = (layout.ENV_RUN, layout.ENV_ATTEMPT, layout.ENV_ATTEMPT_DIR, layout.ENV_EXPERIMENT, layout.ENV_POINT,
          layout.ENV_STARTED, "PYTHONUNBUFFERED", "CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE", "LOCAL_RANK",
          "NODE_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # fmt: skip


# ---------------------------------------------------------------- what CONTAINER says


def read(told: Mapping[str, Any]) -> dict[str, Any]:
    """CONTAINER with every key, mounts as [HOST, INSIDE, 'ro' or 'rw']; {} for an empty one. Raises Wrong."""
    if not told:
        return {}
    image, runtime = told.get("image"), told.get("runtime") or APPTAINER
    if not isinstance(image, str) or not image.strip():
        raise Wrong("image is missing; write image: a path or an address", "image" if "image" in told else "")
    if runtime not in (*RUNTIMES, OLD_NAME):
        raise Wrong(f"{runtime!r} is not allowed; it must be {' or '.join(RUNTIMES)}", "runtime")
    return {
        "image": image.strip(),
        "mounts": [_mount(text) for text in _texts(told, "mounts")],
        "runtime": APPTAINER if runtime == OLD_NAME else runtime,
        "args": _texts(told, "args"),
    }


def _texts(told: Mapping[str, Any], key: str) -> list[str]:
    value = told.get(key) or []
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text for text in texts):
        raise Wrong(f"{value!r} is not allowed; it must be a text or a list of texts", key)
    return texts


def _mount(text: str) -> list[str]:
    host, *rest = text.split(":")
    inside, mode = (*rest, "", "")[:2]
    mode = mode or "rw"
    if not host.startswith(("/", "~", "$")) or (rest and not inside.startswith("/")) or len(rest) > 2:
        allowed = "HOST, HOST:INSIDE or HOST:INSIDE:ro, absolute paths both"
        raise Wrong(f"{text!r} is not allowed; write {allowed}", "mounts")
    if mode not in MODES:
        raise Wrong(f"{text!r}: {mode!r} is not allowed; it must be {' or '.join(MODES)}", "mounts")
    return [host, inside, mode]


def located(container: Mapping[str, Any], base: str, expand: Callable[[str], str]) -> dict[str, Any]:
    """CONTAINER with absolute paths. expand: replaces ~ and $VAR.  base: what a relative image starts from."""
    image = expand(container["image"])
    if _is_path(image, container["runtime"]):
        image = os.path.normpath(os.path.join(base, image))
    hosts = [os.path.normpath(expand(host)) for host, _, _ in container["mounts"]]
    mounts = [[host, inside or host, mode] for host, (_, inside, mode) in zip(hosts, container["mounts"])]
    return {**container, "image": image, "mounts": mounts}


def _is_path(image: str, runtime: str) -> bool:
    """Whether the image is a file or directory here, not an address; names of pyxis's registries look like paths."""
    if runtime == PYXIS:
        return image.startswith(("/", "./", "../"))
    return re.match(r"[a-z][a-z0-9+.-]*:", image) is None


def problem(container: Mapping[str, Any], here: bool, takes_pyxis: bool, environ: Mapping[str, str],
            mounted: Sequence[str]) -> str | None:  # fmt: skip
    """Why runs cannot be started in it; None when they can, or when only the nodes can tell. here: whether they run on
    this machine.  takes_pyxis: whether their farm starts containers of pyxis's.  mounted: what they see under its own
    path, the experiment directory and the live paths of the code."""
    if container["runtime"] == PYXIS:
        paths = [*mounted, *(path for mount in container["mounts"] for path in mount[:2])]
        if not takes_pyxis:
            return f"runtime {PYXIS} is a plugin of Slurm's srun, and this farm is not Slurm; use runtime: {APPTAINER}"
        odd = next((path for path in paths if re.search(r"[,:]", path)), None)
        return odd and f"{PYXIS} takes no ',' and no ':' in a path, and {odd!r} has one"
    if not here:
        return None
    import shutil  # spares who only reads the setting

    if not any(shutil.which(name, path=environ.get("PATH", os.defpath)) for name in (APPTAINER, OLD_NAME)):
        return f"there is neither {APPTAINER} nor {OLD_NAME} in PATH; install one, or launch on a farm that has it"
    if _is_path(container["image"], APPTAINER) and not os.path.exists(container["image"]):
        return f"there is no image {container['image']}"
    return None


# ---------------------------------------------------------------- launch.sh


def begin(told: Mapping[str, Any], shell: str, record: Sequence[str]) -> list[str]:
    """The lines of launch.sh that lead into the container, where LOGDIR is set and nothing else; what follows them is
    run inside.

    told: run.json.  shell: the one that launch.sh is for.  record: lines that export what the runtime is found by.
    """
    if told["container"]["runtime"] == PYXIS:
        return [f'[ "${ENV_INSIDE}" = {PYXIS} ] || {{ echo "launch.sh: this run is for a container of {PYXIS}: '
                'launch it on Slurm" >&2; exit 1; }', f"unset {ENV_INSIDE}"]  # fmt: skip
    return [
        f'if [ "$1" != {INSIDE} ]; then',
        *record,
        f"unset {' '.join(OUTER)}",
        *_FIND,
        f"for name in {' '.join((*PASSED, *told['env_pass']))}; do",
        'eval "[ -z \\"\\${$name+x}\\" ] || export \\"$prefix$name=\\$$name\\""',
        "done",
        " ".join(["set --", *map(shlex.quote, (*_options(told), told["container"]["image"])), shell,
                  '"$LOGDIR"/launch.sh', INSIDE, '"$@"']),
        " ".join(["for path in", *map(shlex.quote, links(told["code"])), *_HOMES]),
        *_MOUNT,
        "fi",
        "shift",
    ]  # fmt: skip


_FIND = (
    "runtime=$(command -v apptainer || command -v singularity) || {",
    'echo "launch.sh: neither apptainer nor singularity is in PATH" >&2; exit 127; }',
    "case $runtime in *apptainer) prefix=APPTAINERENV_ ;; *) prefix=SINGULARITYENV_ ;; esac",
    'export "${prefix%ENV_}_NO_EVAL=1"',  # it would read our values as shell text
)
# The experiment is there under the path that LOGDIR says, and under that which symlinks on the way to it lead to.
_HOMES = ('"${LOGDIR%/*}"', '"$(cd -P -- "${LOGDIR%/*}" && pwd -P)"; do')
_MOUNT = (
    '[ -e "$path" ] && [ "$path" != "$before" ] || continue',
    "before=$path",
    "quoted=$(printf %s \"$path\" | sed 's/\"/\"\"/g')",
    'set -- --mount "type=bind,\\"source=$quoted\\",\\"destination=$quoted\\"" "$@"',
    "done",
    '[ ! -e /dev/nvidiactl ] || set -- --nv "$@"',
    'exec "$runtime" exec --pwd "$LOGDIR"/code "$@"',
)


def links(code: Mapping[str, Any]) -> list[str]:
    """The live paths that the code has links to; code: of run.json."""
    return [os.path.normpath(os.path.join(code["source"], path)) for path in code.get("link") or ()]


def _options(told: Mapping[str, Any]) -> list[str]:
    container = told["container"]
    mounts = (
        word
        for host, inside, mode in container["mounts"]
        for word in ("--mount", ",".join(["type=bind", _field("source", host), _field("destination", inside),
                                          *(["ro"] if mode == "ro" else [])]))
    )  # fmt: skip
    return [*mounts, *container["args"]]


def _field(key: str, path: str) -> str:
    """As --mount reads it, a line of csv; --bind would split at every comma and colon."""
    return '"{}={}"'.format(key, path.replace('"', '""'))


def around(node: Mapping[str, Any], run: str) -> Mapping[str, Any]:
    """What a node needs to know (see farmx.node) where srun starts the commands of the run at `run`: as the scheduler
    made our job several tasks, or in a container.

    contained: the words before pyxis's options, those after them, and how a program there is asked to end.
    """
    spread = node.get("spread") or {}
    counts = (os.environ.get(name) for name in spread.get("by") or ())
    if next(filter(None, counts), "1") != "1":
        node = {**node, **spread}
    try:
        told = layout.read_json(os.path.join(run, layout.RUN), layout.RUN_FORMAT)
    except (OSError, FarmxError):
        return node  # the runner finds that, too, and says so
    words = node.get("contained")
    if not words or (told.get("container") or {}).get("runtime") != PYXIS:
        return node
    return {**node, "each": [*words["start"], *pyxis(told, run), *words["task"]], "tell": words["tell"]}


def pyxis(told: Mapping[str, Any], run: str) -> list[str]:
    """The options of srun that put the run at `run`, whose run.json is `told`, into its container."""
    container = told["container"]
    home = os.path.dirname(run)
    mounts = [[home, home, "rw"], *([path, path, "rw"] for path in links(told["code"])), *container["mounts"]]
    texts = [":".join(mount[:2] if mount[2] == "rw" else mount) for mount in mounts]
    return [
        f"--container-image={container['image']}",
        f"--container-mounts={','.join(texts)}",
        f"--container-workdir={run}",
        f"--container-env={','.join((*PASSED, *told['env_pass']))}",
        *container["args"],
    ]
