"""The code, kept once per distinct content: which files belong to it, and their copy under LOGROOT; never a run's."""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from farmx import layout, manifest, provenance
from farmx.errors import ConfigError, StageError
from farmx.spec import Progress, unseen

_NO_CODE = ("pyvenv.cfg", layout.FARMX)  # what a walk leaves out: virtual environments, experiments of any LOGROOT
# Set inside hooks of git; they name another repository than the one a directory lies in.
_GIT_LOCAL = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


class Wish(NamedTuple):
    """What a user says about the code. ignore, include: gitignore grammar; link: paths that stay live."""

    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    max_files: int = 20_000
    max_mb: float = 200.0


class Listing(NamedTuple):
    """The files of a source tree, relative to `root`, sorted, and what people should know about the choice.

    links: path -> the text of the symlink that stands there.  size: in bytes, of the files.
    """

    root: str
    files: tuple[str, ...]
    links: dict[str, str]
    size: int
    warnings: tuple[str, ...] = ()

    def has(self, path: str) -> bool:
        """Whether `path`, relative to the root, is in the snapshot, as a file, a link or a directory of either."""
        path = os.path.normpath(path)
        if path == "." or path in self.links or path in self.files:
            return True
        inside = path + os.sep
        return any(name.startswith(inside) for name in (*self.files, *self.links)) or any(
            path.startswith(link + os.sep) for link in self.links
        )

    def told(self) -> str:
        """For people: '412 files, 3.1 MB'."""
        return f"{counted(len(self.files) + len(self.links))}, {megabytes(self.size)}"


class Snapshot(NamedTuple):
    """A snapshot on disk. new: whether this launch made it. note: what people should know, '' for nothing."""

    digest: str
    path: str
    new: bool
    note: str = ""


def counted(files: int) -> str:
    """A number of files, for people."""
    return f"{files:,} file{'s' * (files != 1)}"


def megabytes(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


# ---------------------------------------------------------------- which files


def listing(root: str, wish: Wish, outside: Sequence[str], progress: Progress = unseen) -> Listing:
    """The files of `root` that a run gets: what git lists there, else a walk, minus ignored, plus included and links.

    outside: absolute paths that are never code (LOGROOT); where one holds the tree itself, the experiments in it are
    not. Raises StageError above the size guard, naming the largest, and for what cannot be read; ConfigError for a
    pattern that is none, a CODE_INCLUDE that lies elsewhere and a CODE_LINK that does so or does not exist.
    """
    try:
        listed = _from_git(root) if provenance.in_repository(root) else None
        names = listed or list(_walk(root))  # no repository, or a directory that its repository ignores
    except OSError as error:
        why = f"{error.filename}: cannot be read for the snapshot: {error.strerror}"
        raise StageError(f"{why}; the code is all of {root}: call farmx in the project") from error
    ours = layout.cache_folder(os.path.expanduser("~"), os.environ)  # of a launch from the home directory
    logs, live = _logs(root, (*outside, ours)), _live(root, wish.link)
    names = [name for name in names if not _never(name) and not _below(name, logs)]
    kept, warnings = _ignored(names, wish.ignore)
    included = _included(root, wish.include, logs)
    kept += sorted(included - set(kept))
    warnings += (*_idle(root, wish.include, included), *(_unlisted(root, kept, (*logs, *live)) if listed else ()))
    kept = [name for name in kept if not _below(name, tuple(live))]
    links = {name: _link_text(root, name) for name in kept if os.path.islink(os.path.join(root, name))}
    files = _told(sorted(set(kept) - set(links)), "listing the code", progress)
    sizes = {name: size for name in files if (size := _file_size(root, name)) is not None}
    _guard(sizes, wish)
    links.update(live)
    return Listing(root, tuple(sizes), links, sum(sizes.values()), warnings)


def _git(root: str, *which: str) -> list[str] | None:
    """What `git ls-files` names below `root`; None outside a repository."""
    command = ["git", "ls-files", "-z", "--others", "--exclude-standard", *which]
    environ = {name: text for name, text in os.environ.items() if name not in _GIT_LOCAL}
    try:
        told = subprocess.run(command, cwd=root, capture_output=True, env={**environ, "LC_ALL": "C"})
    except FileNotFoundError:
        return None
    if told.returncode:
        if b"not a git repository" in told.stderr:
            return None
        raise StageError(f"{root}: git cannot list the code: {_mend(os.fsdecode(told.stderr).strip())}")
    return [name for name in os.fsdecode(told.stdout).split("\0") if name]


def _from_git(root: str) -> list[str] | None:
    """What git lists below `root`, tracked or not and not ignored, through submodules; None outside a repository."""
    listed = _git(root, "--cached")
    if listed is None:
        return None
    names: dict[str, None] = {}
    for name in listed:
        path = os.path.join(root, name.rstrip("/"))
        if not os.path.lexists(path):
            continue
        if os.path.isdir(path) and not os.path.islink(path):  # a submodule or an embedded repository: its own git
            inner = _from_git(path) if os.path.exists(os.path.join(path, ".git")) else None
            below = inner if inner is not None else list(_walk(path))
            names.update(dict.fromkeys(os.path.join(name.rstrip("/"), each) for each in below))
        else:
            names[name] = None
    return list(names)


def _unlisted(root: str, kept: Sequence[str], elsewhere: Sequence[str]) -> Iterator[str]:
    """A warning of Python code that git ignores: here it can be imported, in a run it cannot.

    Of a directory that git ignores as a whole no more than its __init__.py is looked for, it may hold anything.
    """
    have, lacking = {*kept}, dict[str, str]()
    for name in _git(root, "--ignored", "--directory") or ():
        code = os.path.normpath(os.path.join(name, "__init__.py") if name.endswith("/") else name)
        if code.endswith(".py") and code not in have and not _below(code, elsewhere):
            lacking.update({code: name} if os.path.lexists(os.path.join(root, code)) else {})
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        first = lacking[min(lacking)]
        yield (f"git ignores the Python code {first}{more}, so runs do not have it; name in CODE_INCLUDE what they "
               "import")  # fmt: skip


def _mend(told: str) -> str:
    """What git said, with the command that it advises where it knows one."""
    command = next((line.strip() for line in told.splitlines() if line.strip().startswith("git config")), None)
    why = told.partition("\n")[0]
    return f"{why}; if you trust it: {command}" if command else f"{why}; mend the repository or its rights"


def _walk(root: str, below: str = "") -> Iterator[str]:
    with os.scandir(os.path.join(root, below)) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            name = os.path.join(below, entry.name)
            if entry.name in manifest.NEVER or entry.name.endswith(".pyc"):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield name
            elif not any(os.path.exists(os.path.join(entry.path, mark)) for mark in _NO_CODE):
                yield from _walk(root, name)


def _never(name: str) -> bool:
    return any(part in manifest.NEVER for part in name.split(os.sep))


def _logs(root: str, outside: Sequence[str]) -> list[str]:
    """What of `outside` lies in the tree, relative to it, by whatever links it is named."""
    real = os.path.realpath(root)
    tops = [os.path.relpath(each, root) for each in outside]
    tops += [os.path.relpath(os.path.realpath(each), real) for each in outside]
    if os.curdir in tops:
        tops += [name for name in os.listdir(root) if os.path.isdir(os.path.join(root, name, layout.FARMX))]
    return [top for top in tops if _inside(top)]


def _inside(relative: str) -> bool:
    return relative != os.curdir and not _below(relative, [os.pardir])


def _below(path: str, tops: Sequence[str]) -> bool:
    path = os.path.normpath(path)
    return any(path == (top := os.path.normpath(each)) or path.startswith(top + os.sep) for each in tops)


def _ignored(names: list[str], patterns: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The names that no pattern takes away, and a warning when one takes Python code."""
    if not patterns:
        return names, ()
    gone = set(_matching("CODE_IGNORE_PATTERNS", patterns, names))
    python = sorted(name for name in gone if name.endswith(".py"))
    many = f", {python[0]} among them" if len(python) > 1 else ""
    kept = counted(len(python)).replace(" ", " .py ") if many else "".join(python)
    warnings = (f"CODE_IGNORE_PATTERNS keeps {kept} out of the snapshot{many}",) if python else ()
    return [name for name in names if name not in gone], warnings


def _matching(key: str, patterns: Sequence[str], names: Iterable[str]) -> Iterable[str]:
    from pathspec import GitIgnoreSpec  # only a project with patterns pays for it

    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError:
            raise ConfigError(f"{key}: '{pattern}' is no pattern; write it as in a .gitignore") from None
    return GitIgnoreSpec.from_lines(patterns).match_files(names)


def _included(root: str, patterns: Sequence[str], logs: Sequence[str]) -> set[str]:
    """What the patterns mean, of what is there."""
    if not patterns:
        return set()
    for pattern in patterns:
        elsewhere = os.path.lexists(pattern) and not os.path.lexists(root + pattern)  # /x is the tree's own, too
        if {"..", "~"} & set(pattern.split("/")) or (pattern.startswith("/") and elsewhere):
            why = f"{pattern} is not a path below {root}; name one of the source tree, as seen from there"
            raise ConfigError(f"CODE_INCLUDE: {why}")
    names = (name for name in _walk(root) if not _below(name, logs))
    return set(_matching("CODE_INCLUDE", patterns, names))


def _idle(root: str, patterns: Sequence[str], included: set[str]) -> Iterator[str]:
    """A warning for each pattern of CODE_INCLUDE that brings in nothing; one that begins with ! takes away."""
    for pattern in patterns:
        if not pattern.startswith("!") and not any(_matching("CODE_INCLUDE", [pattern], included)):
            yield f"CODE_INCLUDE: {pattern} brings in nothing of {root}"


def _link_text(root: str, name: str) -> str:
    """What the copied link says: it leads inside the copy where it led inside the tree, absolute where outside."""
    text, home = os.readlink(os.path.join(root, name)), os.path.join(root, os.path.dirname(name))
    target = os.path.normpath(os.path.join(home, text))
    if not _below(target, [root]):
        return target
    return os.path.relpath(target, home) if os.path.isabs(text) else text


def _live(root: str, links: Sequence[str]) -> dict[str, str]:
    """Each live path, relative to the root -> absolute; one below another is part of that."""
    found = {}
    for name in links:
        path = os.path.normpath(os.path.join(root, name))
        relative = os.path.relpath(path, root)
        if not _inside(relative) or not os.path.lexists(path):
            why = "does not exist in" if _inside(relative) else "is not inside"
            raise ConfigError(f"CODE_LINK: {name} {why} {root}; name a path of the source tree")
        above = [relative[:end] for end, char in enumerate(relative) if char == os.sep]
        if link := next((each for each in above if os.path.islink(os.path.join(root, each))), None):
            raise ConfigError(f"CODE_LINK: {name} is below {link}, which is a link; name that, or where it leads")
        found[relative] = path
    return {name: path for name, path in found.items() if not _below(os.path.dirname(name), tuple(found))}


def _file_size(root: str, name: str) -> int | None:
    """None for what is neither file nor link (a socket, a pipe) or has gone meanwhile."""
    try:
        told = os.stat(os.path.join(root, name))
    except OSError:
        return None
    return told.st_size if stat.S_ISREG(told.st_mode) else None


def _guard(sizes: dict[str, int], wish: Wish) -> None:
    total = sum(sizes.values())
    if len(sizes) <= wish.max_files and total <= wish.max_mb * 1e6:
        return
    heavy = total > wish.max_mb * 1e6
    tops: dict[str, int] = {}
    for name, size in sizes.items():
        top = name.split(os.sep, 1)[0]
        tops[top] = tops.get(top, 0) + (size if heavy else 1)
    largest = sorted(tops, key=lambda top: -tops[top])[:3]
    named = ", ".join(f"{top} ({(megabytes if heavy else counted)(tops[top])})" for top in largest)
    raise StageError(
        f"the code is {counted(len(sizes))}, {megabytes(total)}, above the guard of {wish.max_files:,} files and "
        f"{wish.max_mb:g} MB; largest: {named}; keep data out with CODE_IGNORE_PATTERNS or CODE_LINK, or raise "
        "CODE_MAX_FILES or CODE_MAX_MB"
    )


# ---------------------------------------------------------------- the copy


def take(code: Listing, farmx: str, progress: Progress = unseen) -> Snapshot:
    """Make sure that LOGROOT holds the content of `code`; return where. `farmx`: the experiment's .farmx directory.

    Afterwards snapshots/<digest>/ holds read-only files that match their manifest. A snapshot of the same content is
    used again after its files were compared with the manifest; one that no longer matches is left and told.
    """
    home = os.path.join(farmx, layout.SNAPSHOTS)
    # The first of an experiment is copied right away: reading all files to look for it would cost half as much again.
    existing, note = _find(home, code, progress) if layout.names(home) else (None, "")
    if existing:
        with suppress(OSError):
            os.utime(os.path.join(home, existing))  # clean leaves what was asked for of late
        return Snapshot(existing, os.path.join(home, existing), new=False, note=note)
    try:
        made = _copy(code, home, progress)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise StageError(f"{home}: the code cannot be copied: {error.strerror}{where}") from error
    return Snapshot(made, os.path.join(home, made), new=True, note=note)


def _told(names: Sequence[str], what: str, progress: Progress) -> Iterator[str]:
    """The names, and of each that it was dealt with."""
    for made, name in enumerate(names, 1):
        yield name
        progress(what, made, len(names))


def _find(home: str, code: Listing, progress: Progress) -> tuple[str | None, str]:
    """The snapshot of this content that still matches its manifest, if any, and a word about those that do not."""
    files = _told(code.files, "reading the code", progress)
    digest = manifest.digest_of(manifest.of(code.root, files, code.links))
    note, name, count = "", digest, 1
    while os.path.isdir(os.path.join(home, name)):
        if manifest.matches(os.path.join(home, name), lambda names: _told(names, "checking its copy", progress)):
            return name, note
        note = f"snapshot {name} no longer matches its manifest; it is left alone and not used again"
        count += 1
        name = f"{digest}.{count}"
    return None, note


def _copy(code: Listing, home: str, progress: Progress = unseen) -> str:
    """Copy aside and give the copy its name, which is returned; nothing is left of a copy that failed."""
    aside = layout.aside(os.path.join(home, "new"))
    try:
        return _settle(aside, home, _fill(code, os.path.join(aside, layout.TREE), progress))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(code: Listing, tree: str, progress: Progress) -> str:
    """Make `tree` and all that is in it; return the manifest of what it holds."""
    os.makedirs(tree)
    lines = []
    made = {tree}
    for name in (*code.files, *code.links):
        folder = os.path.dirname(os.path.join(tree, name))
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
    for name in _told(code.files, "copying the code", progress):
        lines.append(_copy_file(os.path.join(code.root, name), os.path.join(tree, name), name))
    for name, text in code.links.items():
        os.symlink(text, os.path.join(tree, name))
        lines.append(manifest.link_line(name, text))
    return "".join(sorted(lines))


def _settle(aside: str, home: str, lines: str) -> str:
    """Give the copy its name; an equal one that somebody made meanwhile wins."""
    with open(os.path.join(aside, layout.MANIFEST), "w", encoding="utf-8") as file:
        file.write(lines)
    digest, count = manifest.digest_of(lines), 1
    name = digest
    while True:
        try:
            os.rename(aside, os.path.join(home, name))
            return name
        except OSError:
            if not os.path.isdir(os.path.join(home, name)):
                raise
        if manifest.matches(os.path.join(home, name)):
            return name
        count += 1
        name = f"{digest}.{count}"


def _copy_file(source: str, target: str, name: str) -> str:
    """Copy, hashing on the way, so that the manifest says what the copy holds and not what the source became."""
    digest, size = hashlib.sha256(), 0
    with manifest.opened(source) as reader:
        told = os.fstat(reader.fileno())
        mode = 0o555 if told.st_mode & stat.S_IXUSR else 0o444
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            for chunk in manifest.chunks(reader, told.st_size):
                digest.update(chunk)
                size += len(chunk)
                _write_all(writer, chunk)
        finally:
            os.close(writer)
    return manifest.file_line(name, told.st_mode, size, digest.hexdigest())


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
