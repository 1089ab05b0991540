"""What a farm carries to its nodes: the runner as one file, and the command that starts it; never what it does."""

import hashlib
import os
import shlex
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO

from farmx import layout

# With what they import: the standard library only.
MODULES = ("errors", "layout", "processes", "stages", "outfit", "needs", "policy", "evidence", "breaker", "runner",
           "remedies", "notices", "containers", "packs", "packed", "node")  # fmt: skip
_MAIN = "import sys\nfrom farmx import node\nsys.exit(node.main(sys.argv[1:]))\n"


def runner(home: str) -> str:
    """The runner in the directory `home` (.farmx), written once for each version of it; return its path."""
    content = _zip()
    path = os.path.join(home, f"{layout.RUNNER}-{hashlib.sha256(content).hexdigest()[:12]}.pyz")
    if not os.path.exists(path):
        layout.write_bytes(path, content)
    return path


def _zip() -> bytes:
    """Always the same bytes for the same modules."""
    folder, buffer = os.path.dirname(os.path.abspath(layout.__file__)), BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
        archive.writestr(zipfile.ZipInfo("farmx/__init__.py"), "")
        for name in MODULES:
            with open(os.path.join(folder, f"{name}.py"), "rb") as file:
                archive.writestr(zipfile.ZipInfo(f"farmx/{name}.py"), file.read())
    return buffer.getvalue()


def command(submission: str, index: str, seen: Callable[[str], str] = str) -> str:
    """The shell text that executes an index (shell text, too) of the submission at the path `submission` on a node.

    seen: what a node calls a path of ours.
    -I: a yaml.py in the current directory, or a PYTHONPATH, is not the runner's. -X utf8: names are the same bytes here
    and there, whatever the node's locale. The Python is ours where the node has it, else its own.
    """
    path = runner(os.path.dirname(os.path.dirname(submission)))
    return (
        f"python={shlex.quote(sys.executable)}\n"
        '[ -x "$python" ] || python=python3\n'
        f'exec "$python" -I -X utf8 {shlex.quote(seen(path))} {shlex.quote(seen(submission))} {index}'
    )
