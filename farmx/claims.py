"""points/: which run holds which point; never how a run stands.

The claim excludes; run.json of a visible run is the truth.
"""

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from farmx import layout, stage
from farmx.errors import RecordError, StageError

STALE_S = 24 * 3600.0  # an unclaimed run in staging/ this old belongs to nobody


class Holder(NamedTuple):
    """The newest generation of a point: `run` is the name of its directory, None once somebody deleted it."""

    generation: int
    run: str | None


def prepare(experiment: str) -> None:
    """Make the experiment's own directories. Raises StageError."""
    try:
        for name in (layout.SNAPSHOTS, layout.STAGING, layout.POINTS, layout.SUBMISSIONS, layout.LAUNCHES):
            os.makedirs(os.path.join(experiment, layout.FARMX, name), exist_ok=True)
    except OSError as error:
        why = f"cannot be made: {error.strerror}; set LOGROOT to a directory you can write"
        raise StageError(f"{experiment}: {why}") from error


def claim(experiment: str, identity: str, generation: int, run: str) -> bool:
    """Say that `run` holds this generation of the point; False when another run already does."""
    path = _path(experiment, identity, generation)
    try:
        os.symlink(os.path.join(os.pardir, os.pardir, run), path)
    except FileExistsError:
        return os.path.basename(os.readlink(path)) == run  # NFS repeats calls: ours already
    except OSError as error:
        raise StageError(f"{path}: cannot be claimed: {error.strerror}") from error
    return True


def hold(experiment: str, identity: str, generation: int, run: str) -> bool:
    """Claim the point for the staged run `run` and put the run in place; False when another run holds the point.

    Raises StageError when the run cannot be put in place; the point is then free again.
    """
    if not claim(experiment, identity, generation, run):
        return False
    try:
        return stage.settle(experiment, run)
    except StageError:
        os.unlink(_path(experiment, identity, generation))
        raise


def holders(experiment: str) -> dict[str, Holder]:
    """The newest holder of every point; finishes claims that a crash left half done and follows renamed runs."""
    newest: dict[str, tuple[int, str]] = {}
    for identity, generation in _claims(experiment):
        if generation > newest.get(identity, (0, ""))[0]:
            newest[identity] = (generation, "")
    visible = _visible(experiment)
    found = {key: Holder(each, _follow(experiment, key, each, visible)) for key, (each, _) in newest.items()}
    return _heal(experiment, found, visible)


def _path(experiment: str, identity: str, generation: int) -> str:
    return os.path.join(experiment, layout.FARMX, layout.POINTS, f"{identity}.{generation}")


def _claims(experiment: str) -> Iterable[tuple[str, int]]:
    try:
        names = os.listdir(os.path.join(experiment, layout.FARMX, layout.POINTS))
    except FileNotFoundError:
        return
    for name in names:
        identity, _, generation = name.rpartition(".")
        if identity and generation.isdigit():
            yield identity, int(generation)


def _visible(experiment: str) -> set[str]:
    try:
        return {name for name in os.listdir(experiment) if not name.startswith(".")}
    except FileNotFoundError:
        return set()


def _follow(experiment: str, identity: str, generation: int, visible: set[str]) -> str | None:
    """The run that a claim leads to; None when no run of that name is there any more."""
    run = os.path.basename(os.readlink(_path(experiment, identity, generation)))
    if run in visible or stage.settle(experiment, run):
        return run
    return None


def _heal(experiment: str, found: Mapping[str, Holder], visible: set[str]) -> dict[str, Holder]:
    """Look for the runs that claims miss among those that no claim leads to: somebody renamed them."""
    missing = {key for key, holder in found.items() if holder.run is None}
    healed = dict(found)
    if not missing:
        return healed
    for name in sorted(visible - {holder.run for holder in found.values() if holder.run}):
        identity, generation = _identity(os.path.join(experiment, name))
        if identity in missing and found[identity].generation == generation:
            _repoint(experiment, identity, generation, name)
            healed[identity] = Holder(generation, name)
            missing.discard(identity)
    return healed


def _identity(path: str) -> tuple[str, int]:
    try:
        record = layout.read_json(os.path.join(path, layout.RUN), layout.RUN_FORMAT)
    except (OSError, RecordError):
        return "", 0
    return str(record.get("point", "")), int(record.get("generation", 0))


def _repoint(experiment: str, identity: str, generation: int, run: str) -> None:
    path = _path(experiment, identity, generation)
    temporary = layout.aside(path)
    os.symlink(os.path.join(os.pardir, os.pardir, run), temporary)
    os.rename(temporary, path)


def sweep_staging(experiment: str) -> None:
    """Remove what launches that died long ago staged and never claimed; a younger one may be at work right now."""
    home = os.path.join(experiment, layout.FARMX, layout.STAGING)
    probe = layout.aside(os.path.join(home, "now"))
    try:
        os.mkdir(probe)  # its time is the file system's, whatever our clock says
        now = os.stat(probe).st_mtime
        os.rmdir(probe)
    except OSError:
        now = time.time()
    for entry in os.scandir(home):
        if now - entry.stat(follow_symlinks=False).st_mtime > STALE_S:
            shutil.rmtree(entry.path, ignore_errors=True)
