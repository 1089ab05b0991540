"""What a snapshot's files are: a line each in its manifest, by which its content is known and checked; never copies."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import FileIO

from farmx import layout
from farmx.errors import StageError

NEVER = (".git", "__pycache__")  # in no snapshot
CHUNK = 1 << 20  # bytes read at once
_CMD = rb"""(\xef\xbb\xbf)?["']?CMD["']?\s*:"""  # a line of a sweep file begins so, in each of them
_UNREADABLE = (OSError, ValueError, RecursionError)  # of a manifest that is gone, or damaged


def file_line(name: str, mode: int, size: int, digest: str) -> str:
    """What a manifest says of a file. digest: sha256 of its content, in hexadecimal."""
    return json.dumps([name, "x" if mode & stat.S_IXUSR else "f", size, digest]) + "\n"


def link_line(name: str, text: str) -> str:
    """What a manifest says of a symbolic link."""
    return json.dumps([name, "l", text]) + "\n"


def digest_of(manifest: str) -> str:
    """The name of the content that a manifest describes."""
    return hashlib.sha256(manifest.encode()).hexdigest()[:24]


def of(root: str, files: Iterable[str], links: Mapping[str, str]) -> str:
    """The manifest of a tree: its files, and its links with what they point to. Raises StageError."""
    lines = [_line(root, name) for name in files]
    return "".join(sorted(lines + [link_line(name, text) for name, text in links.items()]))


def _line(root: str, name: str) -> str:
    path = os.path.join(root, name)
    try:
        with opened(path) as file:
            told = os.fstat(file.fileno())
            digest = hashlib.sha256()
            for chunk in chunks(file, told.st_size):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    return file_line(name, told.st_mode, told.st_size, digest.hexdigest())


def opened(path: str) -> FileIO:
    """The file, for reading. Raises StageError."""
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error


def chunks(file: FileIO, size: int) -> Iterator[bytes]:
    """What is in the file up to `size`: one that grows as fast as it is read has no end."""
    while size > 0 and (chunk := file.read(min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


def _unreadable(path: str, error: OSError) -> StageError:
    return StageError(f"{path}: cannot be read for the snapshot: {error.strerror}")


def matches(snapshot: str, through: Callable[[Sequence[str]], Iterable[str]] = iter) -> bool:
    """Whether a snapshot holds exactly what its manifest says, file by file and byte by byte.

    through: passes on the names of its files, for who wants to see how far this is.
    """
    tree = os.path.join(snapshot, layout.TREE)
    try:
        with open(os.path.join(snapshot, layout.MANIFEST), encoding="utf-8") as file:
            manifest = file.read()
        found = [_found_line(tree, name) for name in through([*_everything(tree)])]
    except (OSError, ValueError, StageError):  # ValueError: bytes that are no text
        return False
    return "".join(sorted(found)) == manifest


def _found_line(tree: str, name: str) -> str:
    path = os.path.join(tree, name)
    return link_line(name, os.readlink(path)) if os.path.islink(path) else _line(tree, name)


def _everything(root: str, below: str = "") -> Iterator[str]:
    with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
            name = os.path.join(below, entry.name)
            if not entry.is_dir(follow_symlinks=False):
                yield name
            elif entry.name not in NEVER:  # Python leaves its caches where runs share a snapshot
                yield from _everything(root, name)


def differing(farmx: str, one: str, other: str, but: Collection[str]) -> list[str]:
    """The files that two snapshots do not share, Python's first, then by name; sweep files and `but` are left out.

    [] where one of the two can no longer be read.
    """
    paths = [os.path.join(farmx, layout.SNAPSHOTS, digest) for digest in (one, other)]
    try:
        lines = [_lines(path, but) for path in paths]
        theirs = [_without_sweeps(path, each - other) for path, each, other in zip(paths, lines, reversed(lines))]
        names = {_named(line) for each in theirs for line in each}
    except _UNREADABLE:
        return []
    return sorted(names, key=lambda name: (not name.endswith(".py"), name))


def _named(line: str) -> str:
    """The file that a line of a manifest is about. Raises ValueError for what is no such line."""
    told = json.loads(line)
    if not (isinstance(told, list) and told and isinstance(told[0], str)):
        raise ValueError(line)
    return told[0]


def alike(snapshots: Mapping[str, str], but: Collection[str]) -> dict[str, str]:
    """Digest -> the first whose snapshot holds the same files, sweep files and `but` left out.

    snapshots: digest -> directory.  One that can no longer be read is like no other.
    """
    lines: dict[str, frozenset[str]] = {}
    for digest, path in snapshots.items():
        with suppress(*_UNREADABLE):
            lines[digest] = _lines(path, but)
    shared = frozenset.intersection(*lines.values()) if lines else frozenset()
    found, first = {digest: digest for digest in snapshots}, dict[frozenset[str], str]()
    for digest, each in lines.items():
        with suppress(*_UNREADABLE):
            found[digest] = first.setdefault(_without_sweeps(snapshots[digest], each - shared), digest)
    return found


def _without_sweeps(snapshot: str, lines: frozenset[str]) -> frozenset[str]:
    """These lines of its manifest but those of sweep files, which say what to run and are no part of what runs."""
    return frozenset(line for line in lines if not _is_sweep(os.path.join(snapshot, layout.TREE, _named(line))))


def _is_sweep(path: str) -> bool:
    if not path.endswith((".yml", ".yaml")):
        return False
    try:
        with open(path, "rb") as file:
            return any(re.match(_CMD, line) for line in file)
    except OSError:  # a link that leads nowhere, a file that is gone
        return False


def _lines(snapshot: str, but: Collection[str]) -> frozenset[str]:
    begins = tuple(f"[{json.dumps(name)}," for name in but)
    with open(os.path.join(snapshot, layout.MANIFEST), encoding="utf-8") as file:
        return frozenset(line for line in file if not line.startswith(begins))
