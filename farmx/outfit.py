"""What a run's directory holds beside its record when its program begins; never how that is run.

Carried to nodes with the runner: standard library only.
"""

import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from farmx import layout

# ---------------------------------------------------------------- files


def whole(record: Mapping[str, Any]) -> bool:
    """Whether run.json has what is needed of it here and by the runner, whatever hand was at it.

    That of an earlier format has neither script nor hparams.
    """
    try:
        stages = [stage["name"] for stage in record["stages"]]
        texts = [record[name] for name in ("digest", "experiment", "point")] + [record["code"]["staging"], *stages]
    except (KeyError, TypeError):
        return False
    texts.append(record.get("script", ""))
    typed = all(isinstance(text, str) for text in texts) and isinstance(record.get("hparams", {}), dict)
    return bool(stages) and typed


def unfold(run: str, record: Mapping[str, Any]) -> str:
    """Make launch.sh and hparams.json say what run.json does; return the shell that launch.sh is written for.

    hparams.json is kept where there is one. What was staged by an earlier format has both, and a record of neither.
    """
    script_path, hparams_path = (os.path.join(run, name) for name in (layout.LAUNCH, layout.HPARAMS))
    script: str = record["script"] if "script" in record else _text(script_path)
    if "script" in record and not _says(script_path, script):
        _put(script_path, script, 0o777)
    if "hparams" in record and not os.path.lexists(hparams_path):
        _put(hparams_path, json.dumps(record["hparams"], indent=4) + "\n", 0o666)
    return script.partition("\n")[0].removeprefix("#!")


def _put(path: str, text: str, mode: int) -> None:
    """`text` at `path`, at once, in place of what a killed attempt left beside it; raises OSError."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.new")
    with suppress(FileNotFoundError):
        os.unlink(aside)
    layout.new(aside, text.encode("utf-8", "surrogateescape"), mode)
    layout.rename(aside, path, lambda: _says(path, text))


def _says(path: str, text: str) -> bool:
    try:
        return _text(path) == text
    except FileNotFoundError:
        return False


def _text(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return file.read().decode("utf-8", "surrogateescape")


# ---------------------------------------------------------------- the run's own code tree


def own_code(run: str, digest: str, staging: str) -> None:
    """Make `code` lead to this run's own tree of snapshot `digest`, made of links or copies, or to the snapshot itself.

    staging: 'link', 'copy' or 'share'.

    A tree that an earlier attempt built of the same snapshot is kept with all that the program wrote there; where links
    were asked for then and copies are now, the copies are another tree.
    """
    target = os.path.join(os.pardir, layout.FARMX, layout.SNAPSHOTS, digest, layout.TREE)
    if staging != "share":
        snapshot, name = os.path.join(run, target), digest
        if staging == "copy" and _linked(snapshot, os.path.join(run, layout.OWN_CODE, digest)):
            name = f"{digest}.copy"
        target = os.path.join(layout.OWN_CODE, name)
        _build(snapshot, os.path.join(run, target), _copy if staging == "copy" else _link)
    point(os.path.join(run, layout.CODE), target)


def _linked(snapshot: str, tree: str) -> bool:
    """Whether an earlier attempt built `tree` of links, before copies were asked for."""
    with suppress(OSError), os.scandir(snapshot) as entries:
        for name in (entry.name for entry in entries if entry.is_file(follow_symlinks=False)):
            with suppress(OSError):
                if os.path.samefile(os.path.join(snapshot, name), os.path.join(tree, name)):
                    return True
    return False


def _build(snapshot: str, tree: str, link: Callable[[str, str], None]) -> None:
    if os.path.isdir(tree):
        return
    aside = f"{tree}.{os.getpid()}"
    with suppress(FileExistsError):
        os.mkdir(os.path.dirname(tree))
    empty(aside)
    try:
        link_tree(snapshot, aside, link)
        os.rename(aside, tree)
    except OSError:
        remove(aside)
        if not os.path.isdir(tree):
            raise


def link_tree(source: str, target: str, link: Callable[[str, str], None]) -> None:
    """Fill the empty directory `target` with what is in `source`: files as `link` makes them, links as themselves."""
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)
            elif entry.is_dir():
                os.mkdir(path)
                link_tree(entry.path, path, link)
            else:
                link(entry.path, path)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in layout.NO_LINKS:
            raise
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    """A file of the run's own, to write to as its program likes."""
    import shutil  # loads three kinds of compression

    shutil.copy2(source, target)
    os.chmod(target, os.stat(target).st_mode | stat.S_IWUSR)


# ---------------------------------------------------------------- links and directories


def point(link: str, target: str) -> None:
    """Make the symlink `link` say `target`, at once."""
    try:
        os.symlink(target, link)
    except FileExistsError:
        _repoint(link, target)


def _repoint(link: str, target: str) -> None:
    if _leads(link, target):
        return
    aside = f"{link}.{os.getpid()}"
    if os.path.lexists(aside):
        os.unlink(aside)
    os.symlink(target, aside)
    layout.rename(aside, link, lambda: _leads(link, target))


def _leads(link: str, target: str) -> bool:
    try:
        return os.readlink(link) == target
    except OSError:
        return False


def empty(path: str) -> None:
    """A new directory, in place of one that a process of our name left there."""
    try:
        os.mkdir(path)
    except FileExistsError:
        remove(path)
        os.mkdir(path)


def remove(path: str) -> None:
    """The directory is gone, as far as we may."""
    import shutil  # loads three kinds of compression

    shutil.rmtree(path, ignore_errors=True)
