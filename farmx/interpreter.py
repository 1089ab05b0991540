"""The Python that a run's command will use: its packages, those that are editable. Read from disk, never started."""

import ast
import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence

_FINDER_MAPPING = r"(?ms)^MAPPING\s*(?::[^=]*)?=\s*(\{.*?\})\s*$"


def site_packages(environ: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """Where the first Python that `words` name, else `python` in PATH, finds packages, in its order; [] for none."""
    named = next((word for word in words if os.path.basename(word).startswith("python")), "python")
    for name in (named, "python3"):
        program = shutil.which(name, path=environ.get("PATH"))
        if program:  # not resolved: a virtual environment's python is a link to the one it was made from
            prefix = os.path.dirname(os.path.dirname(os.path.abspath(program)))
            if os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
                return _folders(prefix, "lib/python3*/site-packages")
            users = _folders(os.path.join(environ.get("HOME", "/"), ".local"), "lib/python3*/site-packages")
            return [*users, *_folders(prefix, *_SITES)]
    return []


_SITES = ("local/lib/python3*/dist-packages", "lib/python3*/site-packages", "lib/python3*/dist-packages")


def _folders(prefix: str, *patterns: str) -> list[str]:
    return [path for each in patterns for path in sorted(glob.glob(os.path.join(glob.escape(prefix), each)))]


def packages(folders: Sequence[str]) -> dict[str, str]:
    """Installed distributions and their versions, as the names of their metadata say; of two the first counts."""
    found: dict[str, str] = {}
    for name in (name for folder in folders for name in _names(folder)):
        if name.endswith(".dist-info"):
            project, _, version = name.removesuffix(".dist-info").partition("-")
            found.setdefault(project, version)
    return dict(sorted(found.items()))


def import_roots(folders: Sequence[str], tree: str) -> tuple[str, ...]:
    """The directories inside `tree` from which editable installs import, relative to it, each once, in order."""
    found = (_inside(root, tree) for folder in folders for root in _editable(folder))
    return tuple(dict.fromkeys(root for root in found if root is not None))


def _inside(path: str, tree: str) -> str | None:
    """`path`, which may be known by a way through links, relative to `tree`; None when it is not inside."""
    relative = os.path.relpath(os.path.realpath(os.path.join(tree, path)), os.path.realpath(tree))
    return None if relative.partition(os.sep)[0] == os.pardir else relative


def pythonpath(roots: Sequence[str], words: Sequence[str], environ: Mapping[str, str], tree: str) -> tuple[str, ...]:
    """PYTHONPATH: `roots`, and what would be imported from the live `tree`, from the snapshot instead; each once.

    Import roots of editable installs come first, entries of the shell's own PYTHONPATH last. words: of the command.
    """
    installed = import_roots(site_packages(environ, words), tree)
    entries = [entry for entry in environ.get("PYTHONPATH", "").split(":") if entry]
    inside = [where for entry in entries if (where := _inside(entry, tree)) is not None]
    return tuple(dict.fromkeys((*_led(installed), *roots, *_led(inside))))


def _led(places: Sequence[str]) -> list[str]:
    return [os.path.normpath(os.path.join("LOGDIR/code", place)) for place in places]


def _editable(folder: str) -> Iterator[str]:
    """The directories that .pth files and setuptools' editable finders in `folder` add to the import path."""
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.pth"))):
        for line in _read(path).splitlines():
            if line.strip() and not line.startswith(("import ", "import\t", "#")) and "\0" not in line:
                yield os.path.join(folder, line.strip())
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "__editable__*_finder.py"))):
        for name, place in _mapping(_read(path)).items():
            yield os.path.normpath(os.path.join(place, *[os.pardir] * len(name.split("."))))


def _mapping(text: str) -> dict[str, str]:
    """Module -> its place, as the text of one of setuptools' finders says; {} when it says nothing of the kind."""
    match = re.search(_FINDER_MAPPING, text)
    try:
        found = ast.literal_eval(match[1]) if match else {}
    except (ValueError, SyntaxError):
        return {}
    return {str(name): place for name, place in found.items() if isinstance(place, str)} if type(found) is dict else {}


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
