"""The commands as they are started: `python -m farmx`, and the scripts `farmx` and `sumx` that an install makes."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # built in: signal is a file more to look up
import atexit
import gc
import os
import sys

TYPE_CHECKING = False  # as typing's, which costs a lookup
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

gc.set_threshold(100_000, 20, 20)  # ten thousand runs are made to be kept: looking for garbage among them finds none
# Python looks first where it was started, or where the script is. A yaml.py or click.py there is not ours to import,
# and looking there would cost a lookup for every module.
_FIRST = os.curdir if __name__ == "__main__" else os.path.dirname(sys.argv[0])
if sys.path[:1] in ([""], [_FIRST]) or sys.path[:1] == [os.path.realpath(_FIRST)]:
    del sys.path[0]


def _heard_children() -> None:
    """Have the ends of children told, where the caller ignores them (some crons): else every one seems to exit with 0,
    and what a scheduler refused to be queued."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)


def _standard_streams() -> None:
    """Open what the caller closed (`<&-`, some crons): else the next file that is opened takes its place."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


_CONFIG, _SLURM = ".farmx.yaml", b"slurm"  # as config and layout have them, which take their time to load
# How options begin that make nothing, or run it here: -n, -i, -j too.
_NOT_THERE = ("--no-run", "--no_run", "--interactive", "--jobs", "--gpus")


def _seems_for_slurm(words: Sequence[str]) -> bool:
    """Whether a command line seems to be a launch on Slurm. A guess, before anything is loaded that knows: a wrong one
    costs a process that nobody asks, or the time that it would have saved."""
    first = next((word for word in words if word != "launch"), "")
    here = (word[:1] == "-" and (word.startswith(_NOT_THERE) or word[1:2] in ("n", "i", "j")) for word in words)
    if not first.endswith((".yml", ".yaml")) or any(here):
        return False
    config = "".join(words[words.index("-c") + 1 :][:1]) if "-c" in words else _CONFIG
    try:
        if not os.path.isfile(config):  # a pipe has nobody who writes, or what is read of it is gone
            return False
        with open(config, "rb") as file:
            return _SLURM in file.read()
    except OSError:
        return False


def _run(load: Callable[[], Callable[..., None]]) -> None:
    """Load the command and call it. A launch on Slurm has a child that loads submitit meanwhile."""
    if load.__name__ != "farmx" or not _seems_for_slurm(sys.argv[1:]):
        return load()(prog_name=load.__name__)
    from farmx.farms import beside  # only a launch

    with beside.child("submitit.slurm.slurm") as ask:
        return load()(prog_name=load.__name__, obj=ask)


def _command(load: Callable[[], Callable[..., None]]) -> Callable[[], None]:
    """What the script calls that an install makes: Ctrl-C ends it while its modules are still being loaded, too."""

    def command() -> None:
        code: object = None
        try:
            _heard_children()
            _standard_streams()
            _run(load)
        except KeyboardInterrupt:
            code = 130
        except SystemExit as end:
            code = end.code
        _end(code)
        raise SystemExit(code)

    return command


def _end(code: object) -> None:
    """End the process as Python does, but for freeing one by one what goes with it: a twentieth of what it takes.

    What others want done at the end is done. Nothing where Python has more to do: it says what cannot be written.
    """
    gc.freeze()  # nor need it look for garbage
    if sys.flags.inspect or sys.getprofile() or not isinstance(code, int | None):
        return
    if threads := sys.modules.get("threading"):
        threads._shutdown()
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit(code or 0)


@_command
def farmx() -> Callable[..., None]:
    """The command farmx; ends the process."""
    from farmx.cli.main import farmx as command  # after the path is clean, as below

    return command


@_command
def sumx() -> Callable[..., None]:
    """The command sumx; ends the process."""
    from farmx.cli.sumx import sumx as command

    return command


if __name__ == "__main__":
    farmx()
