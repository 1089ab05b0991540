"""What only a process knows of itself: cwd, home, user, the clock; and how an error becomes a line and an exit code."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from farmx.errors import FarmxError, RecordError, UsageError

MAX_RUNS = 1000  # more are not launched unless somebody says so
SHOWN = 20  # runs that are named one by one before they go
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what a disk has against our output
_ANYTHING = "farmx.shown"  # our error handler

if TYPE_CHECKING:
    from types import TracebackType

    from farmx.spec import Surroundings

Function = TypeVar("Function", bound=Callable[..., Any])


def surroundings() -> Surroundings:
    """This process's own. Raises UsageError when its directory has vanished."""
    from farmx.spec import Surroundings  # spares a --help

    try:
        cwd = os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current directory no longer exists; cd to one that does") from None
    return Surroundings(
        cwd=cwd,
        home=os.path.expanduser("~"),
        environ=dict(os.environ),
        now=time.time(),
        host=os.uname().nodename,
        argv=tuple(sys.argv),
    )


def logroot(given: str | None, config_file: str | None, at: Surroundings) -> str:
    """LOGROOT as every setting says it. Raises ConfigError."""
    from farmx import config  # spares a --help

    flags = {} if given is None else {"LOGROOT": given}
    return config.compose(cwd=at.cwd, home=at.home, environ=at.environ, named=config_file, flags=flags).logroot


def results(given: str | None, config_file: str | None, at: Surroundings) -> str:
    """Where the metrics of runs are: LOGROOT, or NGC_LOGROOT of the farm in use where that is mounted here."""
    from farmx import config  # spares a --help

    if given is None:
        farm = config.compose(cwd=at.cwd, home=at.home, environ=at.environ, named=config_file).farm
        if farm.ngc_logroot and os.path.isdir(farm.ngc_logroot):
            return farm.ngc_logroot
    return logroot(given, config_file, at)


def located(name: str, at: Surroundings) -> str:
    """An EXPERIMENT or RUN as it was typed: where that is a path from the current directory, the path, absolute.

    A name with nothing but a / behind it, as Tab completes directories, is a path where an experiment or a run is.
    """
    path, bare = os.path.join(at.cwd, name), name.rstrip(os.sep)
    typed_path = os.sep in bare or name in (os.curdir, os.pardir) or (bare != name and _holds_runs(path))
    return os.path.normpath(path) if typed_path and os.path.isdir(path) else bare


def _holds_runs(path: str) -> bool:
    from farmx import layout  # spares a --help

    return any(os.path.lexists(os.path.join(path, mark)) for mark in (layout.FARMX, *layout.RUN_MARKS))


def from_here(path: str, at: Surroundings) -> str:
    """An experiment's or a run's path as it is to be typed: never like a name."""
    short = os.path.relpath(path, at.cwd)
    return short if os.sep in short or short in (os.curdir, os.pardir) else os.path.join(os.curdir, short)


def unattended() -> bool:
    """Whether nobody sees what a shortened name has come to mean: who acts takes whole names then."""
    return not sys.stdin.isatty()


def import_path() -> list[str]:
    """Where a process of ours in another directory finds what we import; farmx also where a hook found it for us."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [*(os.path.abspath(path) for path in sys.path if path), ours]


def begin(module: str) -> str:
    """The Python that starts main() of a module of cli in a fresh process, with what a line of json on stdin says.

    `path` in that is import_path(). Ours may have threads, open files and the memory of whoever called launch().
    """
    return ("import json, sys; given = json.loads(sys.stdin.readline()); sys.path[:] = given['path']; "
            f"from farmx.cli import {module}; {module}.main(given)")  # fmt: skip


def tell(text: str) -> None:
    """A line for people."""
    _say(sys.stderr, text)


def show(text: str) -> None:
    """A line of what was asked for."""
    _say(sys.stdout, text)


def _say(stream: TextIO, text: str) -> None:
    """Print; that a reader or a terminal went away stops no run."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def left_out(problems: Sequence[str]) -> int:
    """Say which runs cannot be read, and so are left as they are; the exit code that this calls for."""
    for problem in problems:
        tell(f"left alone: {problem}")
    return RecordError.exit_code if problems else 0


def user() -> str:
    """The name of who runs this."""
    import getpass  # spares all but launches

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return str(os.getuid())


def _program() -> str:
    """The command that was typed: farmx or sumx."""
    import click  # farmx from Python does without it

    context = click.get_current_context(silent=True)
    return (context and context.find_root().info_name) or "farmx"


def one_line(function: Function) -> Function:
    """A command whose user errors end in one line on stderr and their exit code; Ctrl-C ends in 130."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _show_anything(sys.stdout)
        _show_anything(sys.stderr)
        sys.excepthook = _bug
        try:
            made = function(*args, **kwargs)
            sys.stdout.flush()
            return made
        except FarmxError as error:
            print(f"{_program()}: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except OSError as error:
            if _theirs(error):  # click takes a broken pipe of anybody's for one of ours
                _bug(type(error), error, error.__traceback__)
                sys.exit(1)
            if error.filename is not None or error.errno not in (errno.EPIPE, *_FULL):  # a bug of ours
                raise
            if error.errno != errno.EPIPE:  # else `| head` has enough
                print(f"{_program()}: the output cannot be written: {error.strerror}", file=sys.stderr)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(int(error.errno != errno.EPIPE))
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped  # type: ignore[return-value]


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Its traceback, and then whose it is where that is not us."""
    sys.__excepthook__(kind, error, trace)
    if said := _theirs(error):
        print(f"{_program()}: {said}", file=sys.stderr)


def _theirs(error: BaseException) -> FarmxError | None:
    from farmx import farms  # spares who meets no bug

    return farms.theirs(error)


def _show_anything(stream: TextIO) -> None:
    """Let no text fail: a name that is no text is shown as it is, what the terminal's encoding lacks is spelled out."""
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error(_ANYTHING, _shown)
        stream.reconfigure(errors=_ANYTHING if stream.encoding.lower() == "utf-8" else "backslashreplace")


def _shown(error: UnicodeError) -> tuple[str | bytes, int]:
    """The bytes of a name that is no text; what is no character at all (half of a pair, in a record) spelled out."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)
