"""points/: which run holds which point; never how a run stands.

The claim excludes; run.json of a visible run is the truth. All points of a launch are claimed by one symlink, whose
name is the next number: who claims has seen all that was claimed before, and of two who do at once one fails.
"""

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from farmx import layout, processes, records, stage
from farmx.errors import RecordError, StageError

STALE_S = 24 * 3600.0  # what a launch that cannot be asked left this long ago belongs to nobody
_WITHOUT = "its file system has no symbolic links; set LOGROOT to a directory on another"  # EPERM, of symlink
_HIDDEN = "its file system does not tell where it leads; mount sshfs with -o no_contain_symlinks"  # EPERM, of readlink

Place = tuple[str, int]  # a point, by its identity, and a generation of it


class Holder(NamedTuple):
    """The newest generation of a point: `run` is the name of its directory, None once somebody deleted it.

    made: False while the launch that claimed it is at work, or was broken off, and there is no such run: whoever
    launches the point makes it.
    """

    generation: int
    run: str | None
    made: bool = True


def prepare(experiment: str) -> None:
    """Make the experiment's own directories. Raises StageError."""
    try:
        for name in (layout.SNAPSHOTS, layout.STAGING, layout.POINTS, layout.SUBMISSIONS, layout.LAUNCHES):
            os.makedirs(os.path.join(experiment, layout.FARMX, name), exist_ok=True)
    except OSError as error:
        why = f"cannot be made: {error.strerror}; set LOGROOT to a directory you can write"
        raise StageError(f"{experiment}: {why}") from error


def take(
    experiment: str, launch: str, wanted: Mapping[Place, str], begun: Mapping[Place, str] = {}
) -> dict[Place, str]:
    """Claim each place for the run of that name, all in one step; return the runs that `launch` is to make.

    Of `wanted` these are the ones that nobody claimed first. begun: places that another launch claimed and has not
    made; all of them, by the names that they have now, are ours, too: nobody is to bury them while we make them.
    While `launch` is at_work, who finds one missing makes it. Raises StageError.
    """
    while True:
        index = _index(experiment)
        ours = {place: run for place, run in wanted.items() if place not in index.runs}
        ours |= {place: index.runs.get(place, run) for place, run in begun.items()}
        if not ours or _publish(experiment, index.number, launch, ours, launch):
            return ours


def named_anew(experiment: str, launch: str, place: Place, was: str, name: str) -> str:
    """The name of a run that is still to be made, where another run has the one that it was to have: `name`, or the one
    that another launch gave it first. Raises StageError."""
    while True:
        index = _index(experiment)
        now = index.runs.get(place, was)
        if now != was or _publish(experiment, index.number, _anew(), {place: name}, launch):
            return name if now == was else now


def lead(experiment: str, runs: Mapping[Place, str]) -> None:
    """From now on each place leads to the run of that name, which is there. Raises StageError."""
    while runs and not _publish(experiment, _index(experiment).number, _anew(), runs):
        pass


def _anew() -> str:
    return f"{os.getpid()}.{os.urandom(4).hex()}"


def promised(experiment: str) -> dict[Place, str]:
    """Place -> the name of its run, of those that launches which are at work, or were broken off, are to make."""
    index = _index(experiment)
    return {place: index.runs[place] for place in index.begun}


def identities(experiment: str) -> set[str]:
    """The points that were ever claimed."""
    return {identity for identity, _ in _index(experiment).runs}


def holders(experiment: str) -> dict[str, Holder]:
    """The newest holder of every point.

    Follows renamed runs and claims what visible runs hold without a claim. Raises RecordError when a point misses its
    run and a run that no claim leads to cannot be read: it may be that one.
    """
    index = _index(experiment)
    newest: dict[str, int] = {}
    for identity, generation in index.runs:
        newest[identity] = max(generation, newest.get(identity, 0))
    visible = {name for name in layout.names(experiment) if not name.startswith(".")}
    found = {place[0]: _holder(experiment, place, index, visible) for place in newest.items()}
    return _heal(experiment, found, visible - set(index.runs.values()))


def _holder(experiment: str, place: Place, index: "_Index", visible: Collection[str]) -> Holder:
    run = index.runs[place]
    if place not in index.begun:
        return Holder(place[1], run if run in visible else None)
    made = run in visible and _identity(os.path.join(experiment, run), strict=True) == place  # not another of its name
    return Holder(place[1], run, made)


def holds(experiment: str, place: Place, run: str) -> bool:
    """Whether the run of this name says that it holds the place."""
    return _identity(os.path.join(experiment, run), strict=False) == place


def reindex(experiment: str) -> None:
    """Lead each claim to a visible run that says it holds the point, where it leads to one that does not.

    That is so when runs were renamed to each other's names. Raises RecordError when a run cannot be read.
    """
    sayers: dict[Place, list[str]] = {}
    for name in sorted(name for name in layout.names(experiment) if not name.startswith(".")):
        sayers.setdefault(_identity(os.path.join(experiment, name), strict=True), []).append(name)
    claimed = _index(experiment).runs.items()
    lead(experiment, {place: sayers[place][0] for place, run in claimed if run not in sayers.get(place, [run])})


# ---------------------------------------------------------------- what is written down


class _Index(NamedTuple):
    """All that is claimed. runs: place -> the name of its run.  begun: place -> the launch that claimed it, where that
    has not made all of its runs.  number: what the next claims are called."""

    runs: dict[Place, str]
    begun: dict[Place, str]
    number: int


def _index(experiment: str) -> _Index:
    """Raises RecordError."""
    home, staging = _home(experiment), os.path.join(experiment, layout.FARMX, layout.STAGING)
    at_work = set(layout.names(staging))  # before, since who buries takes back claims first
    names = layout.names(home)
    at_work.update(layout.names(staging))  # and after, since who claims says first that it is at work
    numbers = sorted(int(name) for name in names if name.isdecimal())
    runs, begun = dict(_alone(home, names)), dict[Place, str]()
    for number in numbers:  # what is claimed anew leads to another run
        launch, claimed = _claimed(home, str(number))
        runs.update(claimed)
        if f"{layout.AT_WORK}{launch}" in at_work:
            begun.update(dict.fromkeys(claimed, launch))
        else:
            for place in begun.keys() & claimed.keys():
                del begun[place]
    held = {place: run for place, run in runs.items() if run}  # '': it was taken back
    return _Index(held, begun, max(numbers, default=0) + 1)


def _home(experiment: str) -> str:
    return os.path.join(experiment, layout.FARMX, layout.POINTS)


def _claimed(home: str, number: str) -> tuple[str, dict[Place, str]]:
    """The launch that claimed under this number, '' for none, and what."""
    path = os.path.join(home, number)
    try:
        if os.path.islink(path):  # a copy that follows links has the file itself
            path = os.path.join(home, _target(path) or number)
        told = layout.read_json(path, layout.POINTS_FORMAT)
    except FileNotFoundError:  # somebody removed it: the runs say what they hold
        return "", {}
    launch, runs = told.get("launch"), told.get("claims")
    if not (isinstance(launch, str) and isinstance(runs, dict) and all(isinstance(run, str) for run in runs.values())):
        raise RecordError(f"{path}: not a record of ours; restore it or move it away")
    pairs = ((_place(name), run) for name, run in runs.items())
    return launch, {place: run for place, run in pairs if place}


def _alone(home: str, names: Iterable[str]) -> Iterator[tuple[Place, str]]:
    """Claims as they once were: a symlink for each point."""
    for name in names:
        place = None if name.startswith(".") else _place(name)
        if place:
            yield place, os.path.basename(_target(os.path.join(home, name)))


def _place(name: str) -> Place | None:
    """What layout.claim_name made of it."""
    identity, _, generation = name.rpartition(".")
    return (identity, int(generation)) if identity and generation.isdecimal() else None


def _publish(experiment: str, number: int, name: str, claims: Mapping[Place, str], launch: str = "") -> bool:
    """Make these the claims of that number; False when others came first. name: of the file that says them."""
    home = _home(experiment)
    told = {layout.claim_name(*place): run for place, run in claims.items()}
    layout.write_json(
        os.path.join(home, f"{name}.json"), {"format": layout.POINTS_FORMAT, "launch": launch, "claims": told}
    )
    path = os.path.join(home, str(number))
    try:
        os.symlink(f"{name}.json", path)
    except FileExistsError:
        return _target(path) == f"{name}.json"  # NFS repeats calls: ours already
    except OSError as error:
        why = _WITHOUT if error.errno == errno.EPERM else error.strerror
        raise StageError(f"{path}: cannot be claimed: {why}") from error
    return True


def _target(path: str) -> str:
    """Where a symlink leads, '' when it has just gone."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        told = _HIDDEN if error.errno == errno.EPERM else f"not a claim of ours ({error.strerror}); move it away"
        raise RecordError(f"{path}: {told}") from error


def _heal(experiment: str, found: dict[str, Holder], unclaimed: set[str]) -> dict[str, Holder]:
    """Give the visible runs that no claim leads to their points: somebody renamed them, or lost the claims."""
    missing = any(holder.run is None or not holder.made for holder in found.values())
    healed = {}
    for name in sorted(unclaimed):
        identity, generation = _identity(os.path.join(experiment, name), strict=missing)
        holder = found.get(identity, Holder(0, None))
        there = holder.run is not None and holder.made
        if identity and (generation > holder.generation or (generation == holder.generation and not there)):
            found[identity] = Holder(generation, name)
            healed[identity, generation] = name
    lead(experiment, healed)
    return found


def _identity(path: str, strict: bool) -> Place:
    """The point and the generation that a run says it is; ('', 0) for what is no run of ours."""
    try:
        record = records.run_of(path) or {}
    except RecordError:
        if strict:
            raise
        record = {}
    identity, generation = record.get("point"), record.get("generation")
    return (identity, generation) if isinstance(identity, str) and isinstance(generation, int) else ("", 0)


# ---------------------------------------------------------------- who is at work


@contextmanager
def at_work(experiment: str, launch: str) -> Iterator[None]:
    """While this lasts, staging/ says which process makes the runs of `launch`; afterwards, too, when it was broken
    off: what it claimed and has not made is to be made."""
    path = os.path.join(experiment, layout.FARMX, layout.STAGING, f"{layout.AT_WORK}{launch}")
    layout.write_json(path, {"format": layout.LAUNCH_FORMAT, **processes.this()})
    yield
    layout.remove(path)


def sweep_staging(experiment: str) -> None:
    """Remove what dead launches left behind and nobody goes on with: half a copy of the code, the probe of
    layout.now_at, runs as an earlier farmx staged them. Only what is old goes: a younger one may be at
    work right now."""
    staging, snapshots = (os.path.join(experiment, layout.FARMX, name) for name in (layout.STAGING, layout.SNAPSHOTS))
    now = layout.now_at(staging)
    paths = [os.path.join(staging, name) for name in layout.names(staging) if not name.startswith(layout.AT_WORK)]
    paths += [os.path.join(snapshots, name) for name in layout.names(snapshots) if name.startswith(".")]
    for path in paths:
        if _old(path, now):
            _remove(path)


def bury(experiment: str) -> None:
    """Nobody holds what launches that are known to have ended have not made, or of which nobody can tell and that were
    at work a day ago: it was never there. Call it once all that is wanted of them is made."""
    staging = os.path.join(experiment, layout.FARMX, layout.STAGING)
    names = [name for name in layout.names(staging) if name.startswith(layout.AT_WORK)]
    now = layout.now_at(staging) if names else 0.0
    over = (name for name in names if _over(os.path.join(staging, name), now))
    dead = [name.removeprefix(layout.AT_WORK) for name in over]
    if dead:
        _free(experiment, dead)
    begun = tuple(map(layout.making, dead))
    for name in layout.names(experiment) if dead else ():
        if name.startswith(begun):
            _remove(os.path.join(experiment, name))
    for launch in dead:
        layout.remove(os.path.join(staging, f"{layout.AT_WORK}{launch}"))


def _free(experiment: str, launches: Collection[str]) -> None:
    """Take back the claims of these launches whose runs are not there, unless another took them meanwhile; nothing is
    left of a run that was begun."""
    while True:
        index, there = _index(experiment), set(layout.names(experiment))
        places = [place for place, launch in index.begun.items() if launch in launches]
        gone = {place: "" for place in places if not _may_be(experiment, place, index.runs[place], there)}
        if not gone or _publish(experiment, index.number, _anew(), gone):
            break
    for run in {index.runs[place] for place in gone} & there:
        stage.discard(os.path.join(experiment, run))


def _may_be(experiment: str, place: Place, run: str, there: Collection[str]) -> bool:
    """Whether the run of this name is that of the place, as far as can be read."""
    try:
        return run in there and _identity(os.path.join(experiment, run), strict=True) == place
    except RecordError:
        return True


def _over(path: str, now: float) -> bool:
    record = layout.read_or_none(path, layout.LAUNCH_FORMAT)  # None: it ended well just now, or nobody can tell
    alive = None if record is None else processes.alive(record)
    return _old(path, now) if alive is None else not alive


def _old(path: str, now: float) -> bool:
    try:
        return now - os.lstat(path).st_mtime > STALE_S
    except FileNotFoundError:  # it ended well just now
        return False


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        layout.remove(path)
