"""GPUs shared by the pools of one machine: who uses which part of which, while they live; never which there are.

A slot of `0` wants all of GPU 0, each of two slots `0,0` half of it; the runs on a GPU never take more than all of it.
Who takes a part keeps a file of its own, locked, in a directory that all pools of this user meet in; the kernel lets go
of the lock when its process dies, however. Who must wait stands in line: nobody passes it, so pools take turns.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import NamedTuple, TypeVar

from farmx.errors import FarmError
from farmx.farms import gpus
from farmx.farms.gpus import Gpu, Slot

FOLDER = "FARMX_LOCKS"  # the environment's word for the directory, where /tmp is not the same for all
LOOKS_S = (0.1, 0.2, 0.5)  # between looks at who holds a GPU: a thousandth of a second each
ASKS_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between questions to nvidia-smi, which may take a second itself
TELL_AT = 3  # the look at which to tell of waiting: right after a run a GPU does not look idle
_ANY = "any"  # the line of those who take whatever is idle

Taken = TypeVar("Taken", "_Held", "Grip")


def folder() -> str:
    """The directory in which the pools of this user and machine meet, ours alone. Raises FarmError.

    Not below XDG_RUNTIME_DIR or TMPDIR: these differ between sessions, and the first is emptied at logout, which a
    pool survives.
    """
    path = os.environ.get(FOLDER) or f"/tmp/farmx-{os.getuid()}"
    if not os.path.isabs(path):
        raise FarmError(f"{FOLDER}: {path!r} would be another directory for each pool; give an absolute path")
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        told = os.lstat(path)
    except OSError as error:
        raise FarmError(f"{path}: pools share GPUs there: {error.strerror}; set {FOLDER} to a directory") from error
    if not stat.S_ISDIR(told.st_mode) or told.st_uid != os.getuid() or told.st_mode & 0o077:
        raise FarmError(f"{path}: pools share GPUs there, and it is not a directory of yours alone; "
                        f"remove it, chmod 700 it, or set {FOLDER} to another")  # fmt: skip
    return path


def check(slots: Sequence[Slot]) -> None:
    """Raises FarmError when these slots want GPUs that cannot be shared with other pools."""
    if any(slot.gpus or slot.idle for slot in slots):
        folder()


# ---------------------------------------------------------------- files and locks


def _locked(path: str, wait: bool) -> int | None:
    """The file at `path`, made where there is none, locked by us alone; None when others have it. Raises OSError."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        ours = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            ours = os.fstat(file).st_ino == os.stat(path).st_ino
            if ours:
                return file
        except BlockingIOError:
            return None
        except FileNotFoundError:  # who cleans /tmp, or who held it, took it away meanwhile
            continue
        finally:
            if not ours:
                os.close(file)


class _Held(NamedTuple):
    """A part of a GPU that we hold: the locked file that says so."""

    path: str
    file: int

    def close(self) -> None:
        """Let go of it."""
        with suppress(OSError):
            os.unlink(self.path)
        os.close(self.file)


class _Part(NamedTuple):
    """What somebody holds of a GPU. what: the run it is for."""

    share: int
    pid: int
    what: str


def _parts(home: str, key: str) -> Iterator[_Part]:
    """Who holds parts of a GPU; what the dead left is taken away. Only for who has locked the GPU's list."""
    for name in os.listdir(home):
        gpu, _, told = name.partition("@")
        share, _, who = told.partition("@")
        pid = who.partition("@")[0]
        if gpu != key or not (share.isdecimal() and pid.isdecimal()):
            continue
        path = os.path.join(home, name)
        with suppress(FileNotFoundError):  # its holder let go
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            except BlockingIOError:
                yield _Part(int(share), int(pid), os.read(file, 4096).decode(errors="replace"))
            finally:
                os.close(file)


def _take(home: str, gpu: Gpu, what: str) -> _Held | str:
    """1/share of the GPU; while others hold too much of it, who."""
    from fractions import Fraction  # spares workers without GPUs

    alone = _locked(os.path.join(home, f"{gpu.key}.list"), wait=True)
    assert alone is not None
    try:
        parts = list(_parts(home, gpu.key))
        if sum(Fraction(1, max(1, part.share)) for part in parts) > 1 - Fraction(1, gpu.share):
            return " and ".join(f"process {part.pid} uses it for {part.what}" for part in parts)
        # A container that has this directory, too, may have our pid.
        path = os.path.join(home, f"{gpu.key}@{gpu.share}@{os.getpid()}@{os.urandom(4).hex()}")
        file = _locked(path, wait=False)
        assert file is not None
        with suppress(OSError):  # the disk is full: this is for people, the lock is what counts
            os.write(file, os.fsencode(what))
        return _Held(path, file)
    finally:
        os.close(alone)


class Grip:
    """What a worker holds while it runs an attempt. name: of its slot, for people.  env: what CUDA is to see."""

    def __init__(self, name: str, env: Mapping[str, str], held: Sequence[_Held] = ()) -> None:
        self.name, self.env, self._held = name, env, list(held)

    def touch(self) -> None:
        """Let nobody who cleans /tmp think that this is old."""
        for each in self._held:
            with suppress(OSError):
                os.utime(each.file)

    def close(self) -> None:
        """Let go of it all."""
        while self._held:
            self._held.pop().close()


# ---------------------------------------------------------------- taking turns


class Patience(NamedTuple):
    """How somebody waits. pause: sleeps so long, and says whether to go on waiting.  tell: told what for, once."""

    pause: Callable[[float], bool]
    tell: Callable[[str], None]


def acquire(slot: Slot, what: str, patience: Patience) -> Grip | None:
    """What the slot needs, once it is free; None when there is no sense in waiting any more.

    what: the run it is for. Several GPUs are taken in an order that is the same for all pools, so that no two wait for
    each other; of idle ones all at once or none. Raises FarmError, OSError.
    """
    if not slot.gpus and not slot.idle:
        return Grip(slot.name, {})
    home = folder()
    if slot.idle:
        return _in_turn(home, _ANY, partial(_idle, home, slot.idle, what), patience, ASKS_S)
    held: list[_Held] = []
    try:
        for gpu in sorted(slot.gpus, key=lambda gpu: gpu.key):
            if one := _in_turn(home, gpu.key, partial(_take, home, gpu, what), patience, LOOKS_S):
                held.append(one)
            else:
                return None
        grip = Grip(slot.name, {"CUDA_VISIBLE_DEVICES": ",".join(gpu.name for gpu in slot.gpus)}, held)
        held = []
        return grip
    finally:
        Grip(slot.name, {}, held).close()  # what was not enough


def _in_turn(
    home: str, key: str, take: Callable[[], Taken | str], patience: Patience, delays_s: Sequence[float]
) -> Taken | None:
    """What `take` returns when it is our turn and nobody holds it; None when there is no sense in waiting any more."""
    line: int | None = None
    try:
        for look in count():
            line = line if line is not None else _locked(os.path.join(home, f"{key}.line"), wait=False)
            taken = "others wait before it" if line is None else take()
            if not isinstance(taken, str):
                return taken
            if look == TELL_AT:
                patience.tell(taken)
            if not patience.pause(delays_s[min(look, len(delays_s) - 1)]):
                break
        return None
    finally:
        if line is not None:
            os.close(line)


def _idle(home: str, number: int, what: str) -> Grip | str:
    """So many GPUs that are idle and that no pool holds or waits for, all of each; why not, while there are not."""
    try:
        idle = gpus.idle()
    except FarmError as error:
        return str(error)
    held: dict[str, _Held] = {}
    try:
        for index in idle:
            one = _unawaited(home, index, what) if len(held) < number else None
            if one is not None:
                held[index] = one
        if len(held) < number:
            return "no GPU is idle" if number == 1 else f"fewer than {number} GPUs are idle"
        env = {"CUDA_VISIBLE_DEVICES": ",".join(held), **gpus.ORDER}
        grip = Grip(f"gpu {'+'.join(held)}", env, list(held.values()))
        held = {}
        return grip
    finally:
        Grip("", {}, list(held.values())).close()  # what was not enough


def _unawaited(home: str, index: str, what: str) -> _Held | None:
    """All of the GPU, unless somebody holds or waits for it."""
    line = _locked(os.path.join(home, f"{index}.line"), wait=False)
    if line is None:
        return None
    try:
        one = _take(home, Gpu(index, index), what)
        return None if isinstance(one, str) else one
    finally:
        os.close(line)
