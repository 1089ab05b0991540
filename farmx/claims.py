"""points/: which run holds which point; never how a run stands.

The claim excludes; run.json of a visible run is the truth.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from farmx import layout, processes, stage
from farmx.errors import RecordError, StageError

STALE_S = 24 * 3600.0  # an unclaimed run in staging/ this old belongs to nobody
_WITHOUT = "its file system has no symbolic links; set LOGROOT to a directory on another"  # EPERM, of symlink
_HIDDEN = "its file system does not tell where it leads; mount sshfs with -o no_contain_symlinks"  # EPERM, of readlink


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
    path = layout.claim(experiment, identity, generation)
    try:
        os.symlink(f"{os.pardir}/{os.pardir}/{run}", path)
    except FileExistsError:
        # NFS repeats calls: ours already. One of that name that is in place is another launch's.
        return _target(path) == run and not os.path.lexists(os.path.join(experiment, run))
    except OSError as error:
        why = _WITHOUT if error.errno == errno.EPERM else error.strerror
        raise StageError(f"{path}: cannot be claimed: {why}") from error
    return True


def hold(experiment: str, identity: str, generation: int, run: str) -> bool:
    """Claim the point for the staged run `run` and put the run in place; False when another run holds the point.

    Raises StageError when the run cannot be put in place, FileExistsError when its name was taken meanwhile; the point
    is then free again.
    """
    if not claim(experiment, identity, generation, run):
        return False
    try:
        if not stage.settle(experiment, run):
            raise StageError(f"{layout.staged(experiment, run)}: somebody removed it; launch again")
        return True
    except (StageError, FileExistsError):
        os.unlink(layout.claim(experiment, identity, generation))
        raise


def holders(experiment: str) -> dict[str, Holder]:
    """The newest holder of every point.

    Finishes claims that a crash left half done, follows renamed runs and claims what visible runs hold without one.
    Raises RecordError when a point misses its run and a run that no claim leads to cannot be read: it may be that one.
    """
    targets = {place: _target(layout.claim(experiment, *place)) for place in _claims(experiment)}
    newest: dict[str, int] = {}
    for identity, generation in targets:
        newest[identity] = max(generation, newest.get(identity, 0))
    visible = {name for name in layout.names(experiment) if not name.startswith(".")}
    found = {}
    for place in newest.items():
        run = targets[place]
        found[place[0]] = Holder(place[1], run if run and (run in visible or stage.settle(experiment, run)) else None)
    return _heal(experiment, found, visible - set(targets.values()))


def reindex(experiment: str) -> None:
    """Lead each claim to a visible run that says it holds the point, where it leads to one that does not.

    That is so when runs were renamed to each other's names. Raises RecordError when a run cannot be read.
    """
    sayers: dict[tuple[str, int], list[str]] = {}
    for name in sorted(name for name in layout.names(experiment) if not name.startswith(".")):
        sayers.setdefault(_identity(os.path.join(experiment, name), strict=True), []).append(name)
    for place in _claims(experiment):
        runs = sayers.get(place, [])
        if runs and _target(layout.claim(experiment, *place)) not in runs:
            _repoint(experiment, *place, runs[0])


def _claims(experiment: str) -> Iterable[tuple[str, int]]:
    for name in layout.names(os.path.join(experiment, layout.FARMX, layout.POINTS)):
        identity, _, generation = name.rpartition(".")
        if identity and not name.startswith(".") and generation.isdecimal():
            yield identity, int(generation)


def _target(path: str) -> str:
    """The run that a claim leads to, '' when the claim has just gone."""
    try:
        return os.path.basename(os.readlink(path))
    except FileNotFoundError:
        return ""
    except OSError as error:
        told = _HIDDEN if error.errno == errno.EPERM else f"not a claim of ours ({error.strerror}); move it away"
        raise RecordError(f"{path}: {told}") from error


def _heal(experiment: str, found: dict[str, Holder], unclaimed: set[str]) -> dict[str, Holder]:
    """Give the visible runs that no claim leads to their points: somebody renamed them, or lost the claims."""
    missing = any(holder.run is None for holder in found.values())
    for name in sorted(unclaimed):
        identity, generation = _identity(os.path.join(experiment, name), strict=missing)
        holder = found.get(identity, Holder(0, None))
        if not identity or generation < holder.generation or (holder.run and generation == holder.generation):
            continue
        if generation == holder.generation:
            _repoint(experiment, identity, generation, name)
        else:
            claim(experiment, identity, generation, name)
        found[identity] = Holder(generation, name)
    return found


def _identity(path: str, strict: bool) -> tuple[str, int]:
    """The point and the generation that a run says it is; ('', 0) for what is no run of ours."""
    try:
        record = layout.read_json(os.path.join(path, layout.RUN), layout.RUN_FORMAT)
    except RecordError:
        if strict:
            raise
        return "", 0
    except OSError:
        return "", 0
    identity, generation = record.get("point"), record.get("generation")
    return (identity, generation) if isinstance(identity, str) and isinstance(generation, int) else ("", 0)


def _repoint(experiment: str, identity: str, generation: int, run: str) -> None:
    path = layout.claim(experiment, identity, generation)
    temporary = layout.aside(path)
    try:
        with suppress(FileExistsError):  # NFS repeats calls: nobody else has that name
            os.symlink(os.path.join(os.pardir, os.pardir, run), temporary)
        layout.move(temporary, path)
    except OSError as error:
        raise StageError(f"{path}: cannot be claimed: {error.strerror}") from error


@contextmanager
def at_work(experiment: str, launch: str) -> Iterator[None]:
    """While this lasts, staging/ says which process stages there; afterwards, too, when it was broken off."""
    path = layout.staged(experiment, f"{layout.AT_WORK}{launch}")
    with suppress(StageError):  # who cannot write there says so of the first run
        layout.write_json(path, {"format": layout.LAUNCH_FORMAT, **processes.this()})
    yield
    layout.remove(path)


def sweep_staging(experiment: str) -> None:
    """Remove what dead launches left behind: runs nobody claimed, and half a copy of the code.

    Of runs all go when every launch that says it is at work is known to have ended. Else only what is old goes: a
    younger one may be at work right now.
    """
    staging, snapshots = (os.path.join(experiment, layout.FARMX, name) for name in (layout.STAGING, layout.SNAPSHOTS))
    names = layout.names(staging)
    dead = _dead(staging)  # looked for later than what they left: whoever begins meanwhile left none of it
    now = layout.now_at(staging)
    known = {*dead, *(name for name in names if dead and not name.startswith("."))}
    paths = [os.path.join(staging, name) for name in (*names, *dead)]
    paths += [os.path.join(snapshots, name) for name in layout.names(snapshots) if name.startswith(".")]
    for path in dict.fromkeys(paths):
        if os.path.basename(path) in known or _old(path, now):
            _remove(path)


def _dead(staging: str) -> list[str]:
    """What launches left that say they are at work, when all are known to have ended; else []."""
    names = [name for name in layout.names(staging) if name.startswith(layout.AT_WORK)]
    return names if all(_ended(os.path.join(staging, name)) for name in names) else []


def _ended(path: str) -> bool:
    record = layout.read_or_none(path, layout.LAUNCH_FORMAT)  # None: it ended well just now, or nobody can tell
    return record is not None and processes.alive(record) is False


def _old(path: str, now: float) -> bool:
    try:
        return now - os.lstat(path).st_mtime > STALE_S
    except FileNotFoundError:  # another launch put its run in place
        return False


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        layout.remove(path)
