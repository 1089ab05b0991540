"""What a farm carries to its nodes: the runner as one file, and the command that starts it; never what it does."""

import hashlib
import marshal
import os
import shlex
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import util
from importlib.machinery import SourceFileLoader
from io import BytesIO

from farmx import layout

# With what they import: the standard library only.
MODULES = ("errors", "layout", "whereabouts", "processes", "stages", "outfit", "needs", "policy", "evidence", "breaker",
           "runner", "scheduler", "remedies", "notices", "containers", "packs", "packed", "node")  # fmt: skip
_UNCHECKED = (1).to_bytes(4, "little")
_MAIN = "import sys\nfrom farmx import node\nsys.exit(node.main(sys.argv[1:]))\n"


def runner(home: str, made: Callable[[], bytes] | None = None) -> str:
    """The runner in the directory `home` (.farmx), written once for each version of it and of Python; its path."""
    sources = _sources()
    told = hashlib.sha256(repr((sys.implementation.cache_tag, sources)).encode()).hexdigest()
    path = os.path.join(home, f"{layout.RUNNER}{told[:12]}.pyz")
    if not os.path.exists(path):
        layout.write_bytes(path, (made or archive)())
    return path


@lru_cache(maxsize=1)
def _sources() -> tuple[bytes, ...]:
    """The text of each of MODULES."""
    return tuple(map(_text, MODULES))


def _text(name: str) -> bytes:
    with open(_path(name), "rb") as file:
        return file.read()


def _path(name: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(layout.__file__)), f"{name}.py")


def archive() -> bytes:
    """The runner as one file: the modules as text, and compiled: else every job would compile them, which takes longer
    than Python's start.

    A Python of another version than this one takes the text.
    """
    import zipfile  # only who writes the first of its version

    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
        archive.writestr(zipfile.ZipInfo("farmx/__init__.py"), "")
        for name, source in zip(MODULES, _sources()):
            archive.writestr(zipfile.ZipInfo(f"farmx/{name}.py"), source)
            archive.writestr(zipfile.ZipInfo(f"farmx/{name}.pyc"), _compiled(name, source))
    return buffer.getvalue()


def _compiled(name: str, source: bytes) -> bytes:
    """A module as PEP 552 has it: hash-based, not checked against its text."""
    code = SourceFileLoader(f"farmx.{name}", _path(name)).get_code(f"farmx.{name}")
    return util.MAGIC_NUMBER + _UNCHECKED + util.source_hash(source) + marshal.dumps(code)


def command(
    submission: str, index: str, seen: Callable[[str], str] = str, made: Callable[[], bytes] | None = None
) -> str:
    """The shell text that executes an index (shell text, too) of the submission at the path `submission` on a node.

    seen: what a node calls a path of ours.  made: gives what archive() does.
    -I: a yaml.py in the current directory, or a PYTHONPATH, is not the runner's. -S: nor is what is installed, which
    takes longer to be found than the runner to begin. -X utf8: names are the same bytes here and there, whatever the
    node's locale. The Python is ours where the node has it, else its own.
    """
    path = runner(os.path.dirname(os.path.dirname(submission)), made)
    return (
        f"python={shlex.quote(sys.executable)}\n"
        '[ -x "$python" ] || python=python3\n'
        f'exec "$python" -I -S -X utf8 {shlex.quote(seen(path))} {shlex.quote(seen(submission))} {index}'
    )
