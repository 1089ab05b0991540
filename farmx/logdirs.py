"""Where a training script finds itself: its rank, its attempt, its directory; never what it logs there."""

from __future__ import annotations

import os

from farmx import layout
from farmx.errors import LogxError

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # the first that holds a number


def rank() -> int:
    """This process's rank among all of its program, as its launcher's environment tells it; 0 where none does."""
    for name in RANKS:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0


def attempt(logdir: str | os.PathLike[str] | None) -> str | None:
    """The attempt that this process is in and should log to; None outside of any.

    The environment alone proves nothing: a shell may have outlived its attempt, and a program that names another
    directory has nothing to do with the run that started it.
    """
    run, folder = os.environ.get(layout.ENV_RUN), os.environ.get(layout.ENV_ATTEMPT_DIR)
    if not run or not folder or os.path.exists(os.path.join(folder, layout.END)):
        return None
    if not _same(os.path.join(folder, os.pardir, os.pardir), run):
        return None
    return folder if logdir is None or _same(logdir, run) else None


def run() -> str:
    """The directory, absolute, of the run that attempt() found."""
    return os.path.abspath(os.environ[layout.ENV_RUN])


def unseen(folder: str) -> str | None:
    """The line for a program that logs to `folder`, inside its run but not where its table looks; None for others."""
    here = attempt(None)
    if here is None or os.path.exists(os.path.join(here, layout.METRICS)):
        return None
    places = (run(), os.path.join(run(), layout.CODE))  # the code may be shared, and elsewhere
    if not any(_within(folder, place) for place in places):
        return None
    path = os.path.join(folder, layout.OUTSIDE_METRICS)
    way = "without logdir, or with LOGDIR itself, logx.initialize() puts them there"
    return f"logx: metrics go to {path}, not into the table of this run; {way}"


def _within(folder: str, place: str) -> bool:
    return os.path.join(os.path.realpath(folder), "").startswith(os.path.join(os.path.realpath(place), ""))


def _same(one: str | os.PathLike[str], other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def outside(logdir: str | os.PathLike[str] | None, coolname: bool, make: bool) -> str:
    """The directory, absolute, of a program in no run; with `make` it is there afterwards. Raises LogxError.

    It is `logdir` where that is given. Else, without `make` and with coolname, it is the directory above: only who
    makes one knows its name.
    """
    root = os.environ.get(layout.ENV_LOGROOT) or "runs" if logdir is None else os.fspath(logdir)
    if not root:
        raise LogxError("initialize: logdir is empty; leave it out, or name a directory")
    coolname = coolname and logdir is None
    try:
        root = os.path.abspath(os.path.expanduser(root) if logdir is None else root)
        folder = root if coolname or logdir is not None else os.path.join(root, "default")
        if make:
            os.makedirs(folder, exist_ok=True)
        return _cool(folder) if coolname and make else folder
    except OSError as error:
        raise LogxError(f"{root}: cannot be made: {error.strerror}") from error


def _cool(root: str) -> str:
    import random  # spares all who name their directory

    import coolname

    # Names come from the generator the program may have seeded: they must neither follow from its seed nor move it on.
    state = random.getstate()
    random.seed()
    try:
        while True:
            folder = os.path.join(root, coolname.generate_slug(2))
            if _made(folder):
                return folder
    finally:
        random.setstate(state)


def _made(folder: str) -> bool:
    try:
        os.mkdir(folder)
    except FileExistsError:
        return False
    return True
