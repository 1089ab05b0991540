"""The words of commands that are paths or programs: what a run would not find is told before anything is made."""

import os
import shlex
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from farmx import containers, farms, layout
from farmx.errors import ConfigError, UsageError
from farmx.snapshot import Listing
from farmx.spec import RunSpec, Stage


def check_paths(specs: Sequence[RunSpec], source: str, code: Listing) -> None:
    """Raises UsageError for a word that is a path here and will be none where the run starts."""
    here = set(os.listdir(source))
    values = dict.fromkeys(each for spec in specs for each in spec.env.values())
    for word in _path_words([*_all_words(specs), *values]):
        if _exists(source, word, here) and not code.has(word):
            raise UsageError(
                f"'{word}' is here but not in the snapshot of the code, so a run would not find it; name it in "
                "CODE_LINK (a live path) or CODE_INCLUDE (copied), or give an absolute path"
            )


def _exists(source: str, word: str, here: Collection[str]) -> bool:
    """Whether `word` is a path in the directory `source`, which holds `here`: ten thousand values are no lookups."""
    return word in here if os.sep not in word else os.path.lexists(os.path.join(source, word))


def _all_words(specs: Sequence[RunSpec]) -> dict[str, None]:
    """Each word of these commands once, in order."""
    return dict.fromkeys(word for spec in specs for each in spec.stages for word in _words(each))


def _words(stage: Stage) -> tuple[str, ...]:
    """All words of a stage, those of its shell text as far as they can be told apart."""
    try:
        return (*shlex.split(stage.shell), *stage.words) if stage.shell else stage.words
    except ValueError:
        return stage.words


def bare(specs: Sequence[RunSpec], source: str, code: Listing) -> Iterator[str]:
    """Notes on words that are paths here or just words: nobody can tell, so they are not refused."""
    for word in sorted(set(os.listdir(source)).intersection(_all_words(specs))):
        if word[0] not in "-." and not code.has(word):
            yield f"'{word}' is here but not in the snapshot; if the program means that path, name it in CODE_LINK"


def check_first(specs: Sequence[RunSpec], source: str, environ: Mapping[str, str], code: Listing, here: bool) -> None:
    """Raises UsageError for a command whose program is not there, as far as that can be told without running SETUP.

    here: whether the runs find in PATH what we find, nodes may have more.
    """
    for word in _first_words(specs):
        if _in_code(word) and not code.has(word):
            raise UsageError(f"CMD: there is no program '{word}' in the code, which is {source}")
    for word in _absent(specs, environ) if here else ():
        raise UsageError(f"CMD: there is no program '{word}' in PATH; is its environment active?")


def elsewhere(specs: Sequence[RunSpec], environ: Mapping[str, str], here: bool) -> Iterator[str]:
    """Notes on programs that are not here, where that need not be wrong."""
    for word in _absent(specs, environ) if not here else ():
        yield f"CMD: there is no program '{word}' in PATH here; runs find it only where their nodes have it"


def _first_words(specs: Sequence[RunSpec]) -> Iterator[str]:
    """The words that name programs, each once; none where something else may bring them."""
    alone = (spec for spec in specs if not (spec.setup or spec.container or "PATH" in spec.env))
    yield from dict.fromkeys(each.words[0] for spec in alone for each in spec.stages if each.shell is None)


def _in_code(word: str) -> bool:
    return os.sep in word and not os.path.isabs(word) and "LOGDIR" not in word


def _absent(specs: Sequence[RunSpec], environ: Mapping[str, str]) -> Iterator[str]:
    """The programs that are neither in PATH nor paths into the code."""
    path = environ.get("PATH", os.defpath)
    for word in _first_words(specs):
        if not _in_code(word) and "LOGDIR" not in word and shutil.which(word, path=path) is None:
            yield word


def check_containers(specs: Sequence[RunSpec], executor: str, environ: Mapping[str, str], experiment: str,
                     code: Mapping[str, Any]) -> None:  # fmt: skip
    """Raises ConfigError where a farm of this kind cannot start runs of the experiment directory in their container.

    code: its source and the live paths in it, as run.json says them.
    """
    for container in {repr(spec.container): spec.container for spec in specs}.values():
        if problem := misfit(container, executor, environ, experiment, code):
            raise ConfigError(f"CONTAINER: {problem}")


def misfit(container: Mapping[str, Any], executor: str, environ: Mapping[str, str], experiment: str,
           code: Mapping[str, Any]) -> str | None:  # fmt: skip
    """Why such a farm cannot start runs of the experiment directory in the container, as containers.problem; None for
    no container."""
    if not container:
        return None
    here, takes_pyxis = executor == layout.LOCAL, farms.can(executor).pyxis
    return containers.problem(container, here, takes_pyxis, environ, [experiment, *containers.links(code)])


def unplugged(specs: Sequence[RunSpec], environ: Mapping[str, str]) -> Iterator[str]:
    """A note where runs are for containers of pyxis and the srun that is here has no such plugin: nodes may have it."""
    srun = shutil.which("srun", path=environ.get("PATH", os.defpath))
    if not srun or not any(spec.container.get("runtime") == containers.PYXIS for spec in specs):
        return
    import subprocess  # only for such containers

    said = subprocess.run([srun, "--help"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if said.returncode == 0 and b"--container-image" not in said.stdout:
        yield ("CONTAINER: srun here has no --container-image: where nodes lack the plugin pyxis, too, each run will "
               "fail")  # fmt: skip


def _path_words(texts: Iterable[str]) -> Iterator[str]:
    """What may be a path in these words."""
    for text in texts:
        for part in (text, text.partition("=")[2]):
            looks = os.sep in part or (os.path.extsep in part and not part.startswith("."))
            if looks and not os.path.isabs(part) and "\0" not in part and len(part) < 1000:
                yield part
