"""The Python that a run's command will use: its packages, those that are editable. Read from disk, never started."""

import ast
import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence

_FINDER_MAPPING = re.compile(r"^MAPPING\s*(?::[^=]*)?=\s*(\{.*?\})\s*$", re.MULTILINE | re.DOTALL)


def site_packages(environ: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """The site-packages directories of the first Python that `words` name, else of `python` in PATH; [] for none."""
    named = next((word for word in words if os.path.basename(word).startswith("python")), "python")
    for name in (named, "python3"):
        program = shutil.which(name, path=environ.get("PATH"))
        if program:  # not resolved: a virtual environment's python is a link to the one it was made from
            prefix = os.path.dirname(os.path.dirname(os.path.abspath(program)))
            return sorted(glob.glob(os.path.join(glob.escape(prefix), "lib", "python3*", "site-packages")))
    return []


def packages(folders: Sequence[str]) -> dict[str, str]:
    """Installed distributions and their versions, as the names of their metadata say."""
    found = {}
    for folder in folders:
        for name in os.listdir(folder):
            if name.endswith(".dist-info"):
                project, _, version = name.removesuffix(".dist-info").partition("-")
                found[project] = version
    return dict(sorted(found.items()))


def import_roots(folders: Sequence[str], tree: str) -> tuple[str, ...]:
    """The directories inside `tree` from which editable installs import, relative to it, each once, in order."""
    inside: dict[str, None] = {}
    for root in (root for folder in folders for root in _editable(folder)):
        relative = os.path.relpath(os.path.realpath(root), os.path.realpath(tree))
        if relative != os.pardir and not relative.startswith(os.pardir + os.sep):
            inside[relative] = None
    return tuple(inside)


def _editable(folder: str) -> Iterator[str]:
    """The directories that .pth files and setuptools' editable finders in `folder` add to the import path."""
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.pth"))):
        for line in _read(path).splitlines():
            if line.strip() and not line.startswith(("import ", "import\t", "#")):
                yield os.path.join(folder, line.strip())
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "__editable__*_finder.py"))):
        match = _FINDER_MAPPING.search(_read(path))
        for place in ast.literal_eval(match[1]).values() if match else ():
            yield os.path.dirname(place)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
