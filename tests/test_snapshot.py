"""snapshot: which files are code, their copy, and the manifest that says whether a copy is still what it was."""

import hashlib
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from launching import tree, until
from rights import ordinary_rights

from farmx import layout, manifest, snapshot
from farmx.errors import ConfigError, StageError
from farmx.snapshot import Wish

ODD = [b"two words.py", b"it's", b'quote"d', b"$HOME", b"new\nline", "größe漢".encode(), b"back\\slash", b"tab\t",
       b"-n", b" lead", b"\xff\xfe", b";", b"#x"]  # fmt: skip


def write(root: Path, *names: str, text: str = "x\n") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def git(root: Path, *words: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "-c", "protocol.file.allow=always", *words], cwd=root, check=True, capture_output=True)


def repository(root: Path, *tracked: str) -> Path:
    git(root, "init", "-q")
    write(root, *tracked)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one", "--allow-empty")
    return root


def listed(root: Path, outside: tuple[Path, ...] = (), **wish: object) -> list[str]:
    """The names of files and links that a snapshot of `root` holds."""
    code = snapshot.listing(str(root), Wish(**wish), [str(path) for path in outside])
    return sorted((*code.files, *code.links))


def wrong(root: Path, outside: tuple[Path, ...] = (), **wish: object) -> str:
    with pytest.raises((StageError, ConfigError)) as caught:
        snapshot.listing(str(root), Wish(**wish), [str(path) for path in outside])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def take(root: Path, farmx: Path, **wish: object) -> snapshot.Snapshot:
    return snapshot.take(snapshot.listing(str(root), Wish(**wish), []), str(farmx))


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def farmx(tmp_path):
    path = tmp_path / ".farmx"
    (path / layout.SNAPSHOTS).mkdir(parents=True)
    return path


def made(farmx: Path) -> list[str]:
    """What stands in snapshots/."""
    return sorted(os.listdir(farmx / layout.SNAPSHOTS))


# ---------------------------------------------------------------- which files, in a repository


def test_git_tells_tracked_and_untracked_files_but_not_ignored_or_deleted_ones(source):
    repository(source, "a.py", "gone.py", "pkg/b.py", ".gitignore", "kept.log")
    (source / ".gitignore").write_text("*.log\nbuild/\n.env\n")
    write(source, "new.py", "pkg/new.py", "x.log", "build/o", ".env", ".hidden")
    (source / "gone.py").unlink()
    (source / "a.py").write_text("changed\n")
    assert listed(source) == [".gitignore", ".hidden", "a.py", "kept.log", "new.py", "pkg/b.py", "pkg/new.py"]


def test_the_directory_below_the_top_of_a_repository_is_all_there_is(source):
    repository(source, "top.py", "sub/a.py", ".gitignore")
    (source / ".gitignore").write_text("*.log\n")
    write(source, "sub/x.log", "sub/new.py")
    assert listed(source / "sub") == ["a.py", "new.py"]


def test_a_directory_that_its_repository_ignores_is_walked(source):
    repository(source, ".gitignore", "top.py")
    (source / ".gitignore").write_text("scratch\n")
    write(source, "scratch/a.py", "scratch/b/c.py")
    assert listed(source / "scratch") == ["a.py", "b/c.py"]


HOOK = {"GIT_DIR": "{top}/.git", "GIT_WORK_TREE": "{top}", "GIT_INDEX_FILE": "{top}/.git/index"}


@pytest.mark.parametrize("variables", [{}, HOOK], ids=["alone", "in a hook"])
def test_submodules_and_embedded_repositories_are_listed_by_their_own_git(source, tmp_path, monkeypatch, variables):
    library = repository(tmp_path / "library", "lib.py", ".gitignore", "deep/x.py")
    (library / ".gitignore").write_text("*.o\n")
    git(library, "commit", "-qam", "two")
    repository(source, "a.py")
    git(source, "submodule", "add", "-q", str(library), "third/library")
    repository(source / "embedded", "e.py", ".gitignore")
    (source / "embedded/.gitignore").write_text("*.o\n")
    write(source, "third/library/x.o", "third/library/new.py", "embedded/y.o", "embedded/pkg/new.py")
    for name, text in variables.items():
        monkeypatch.setenv(name, text.format(top=source))
    assert listed(source) == [
        ".gitmodules",
        "a.py",
        "embedded/.gitignore",
        "embedded/e.py",
        "embedded/pkg/new.py",
        "third/library/.gitignore",
        "third/library/deep/x.py",
        "third/library/lib.py",
        "third/library/new.py",
    ]


def test_a_submodule_that_was_not_checked_out_is_empty(source, tmp_path):
    repository(tmp_path / "library", "lib.py")
    repository(source, "a.py")
    git(source, "submodule", "add", "-q", str(tmp_path / "library"), "library")
    git(source, "commit", "-qm", "two")
    git(tmp_path, "clone", "-q", str(source), "clone")
    assert listed(tmp_path / "clone") == [".gitmodules", "a.py"]


def test_a_worktree_is_a_repository_too(source, tmp_path):
    repository(source, "a.py", ".gitignore")
    (source / ".gitignore").write_text("*.log\n")
    git(source, "commit", "-qam", "two")
    git(source, "worktree", "add", "-q", str(tmp_path / "tree"))
    write(tmp_path / "tree", "x.log", "new.py")
    assert listed(tmp_path / "tree") == [".gitignore", "a.py", "new.py"]


def test_a_file_in_conflict_is_listed_once(source):
    repository(source, "a.py")
    git(source, "checkout", "-qb", "other")
    write(source, "a.py", text="one\n")
    git(source, "commit", "-qam", "one")
    git(source, "checkout", "-q", "-")
    write(source, "a.py", text="two\n")
    git(source, "commit", "-qam", "two")
    subprocess.run(["git", "merge", "-q", "other"], cwd=source, capture_output=True)
    code = snapshot.listing(str(source), Wish(), [])
    assert code.files == ("a.py",)


@pytest.mark.parametrize("in_git", [True, False])
def test_any_name_is_listed_and_copied_byte_by_byte(source, farmx, in_git):
    source.mkdir()
    for name in ODD:
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(name)
    if in_git:
        git(source, "init", "-q")
    snap = take(source, farmx)
    copied = {os.fsencode(path.name): path.read_bytes() for path in Path(snap.path, layout.TREE).iterdir()}
    assert copied == {name: name for name in ODD}
    assert manifest.matches(snap.path)
    assert take(source, farmx) == snapshot.Snapshot(snap.digest, snap.path, new=False)


def test_a_broken_repository_is_one_line(source):
    repository(source, "a.py")
    (source / ".git/config").write_text("[nonsense\n")
    told = wrong(source)
    assert told.startswith(f"{source}: git cannot list the code: fatal: bad config line 1 in file")
    assert told.endswith("; mend the repository or its rights")


def test_without_git_everything_is_walked_even_in_a_repository(source, monkeypatch, tmp_path):
    repository(source, "a.py", ".gitignore", "b.log")
    (source / ".gitignore").write_text("*.py\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert listed(source) == [".gitignore", "a.py", "b.log"]


# ---------------------------------------------------------------- which files, walked


def test_a_walk_leaves_out_caches_virtual_environments_and_the_repositories_own_files(source):
    write(source, "a.py", "a.pyc", "pkg/b.py", "pkg/__pycache__/b.pyc", "env/pyvenv.cfg", "env/lib/x.py", "data/d.bin")
    write(source, "other/.git/config", "other/o.py", ".hidden/h")
    assert listed(source) == [".hidden/h", "a.py", "data/d.bin", "other/o.py", "pkg/b.py"]


def test_what_is_neither_file_nor_link_nor_directory_is_left_out(source):
    write(source, "a.py")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
        assert listed(source) == ["a.py"]


@pytest.mark.parametrize("in_git", [True, False])
def test_logroot_in_the_tree_is_never_code(source, in_git):
    write(source, "a.py", "runs/sweep/one/metrics.csv", "runsome/b.py", "deep/runs/c.py")
    if in_git:
        git(source, "init", "-q")
    assert listed(source, (source / "runs",)) == ["a.py", "deep/runs/c.py", "runsome/b.py"]


@pytest.mark.parametrize("in_git", [True, False])
def test_what_farmx_remembers_is_never_code(source, monkeypatch, in_git):
    """Of a launch from the home directory."""
    write(source, ".cache/other", ".cache/farmx/runs/1.json", "x cache/farmx/a", "t.py")
    if in_git:
        git(source, "init", "-q")
    for name, text in (("HOME", str(source)), ("XDG_CACHE_HOME", "")):
        monkeypatch.setenv(name, text)
    assert listed(source) == [".cache/other", "t.py", "x cache/farmx/a"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(source / "x cache"))
    assert listed(source) == [".cache/farmx/runs/1.json", ".cache/other", "t.py"]


def test_logroot_in_the_tree_is_never_code_by_whatever_way_it_is_named(source, tmp_path):
    write(source, "a.py", "runs/sweep/one/metrics.csv")
    (tmp_path / "by").symlink_to(source)
    assert listed(source, (tmp_path / "by/runs",)) == ["a.py"]
    assert listed(tmp_path / "by", (source / "runs",)) == ["a.py"]


def test_a_logroot_that_leads_out_of_the_tree_by_a_link_leaves_the_link(source, tmp_path):
    write(source, "a.py")
    (tmp_path / "scratch").mkdir()
    (source / "runs").symlink_to(tmp_path / "scratch")
    assert listed(source, (source / "runs",)) == ["a.py"]


@pytest.mark.parametrize("in_git", [True, False])
def test_a_tree_inside_logroot_is_code_but_for_the_experiments_in_it(source, tmp_path, in_git):
    write(source, "a.py", "sweep/.farmx/points/x", "sweep/one/run.json", "sweeps/b.py")
    if in_git:
        git(source, "init", "-q")
    assert listed(source, (source,)) == ["a.py", "sweeps/b.py"]
    assert listed(source / "sweeps", (tmp_path,)) == ["b.py"]


# ---------------------------------------------------------------- what a user says

PATTERNS = [
    # patterns of gitignore, what is left of these:
    ([], ["a.py", "docs/a.md", "docs/b/c.md", "main.pth", "pkg/docs/d.md", "pkg/main.pth", "pkg/test_x.txt"]),
    (["*.pth"], ["a.py", "docs/a.md", "docs/b/c.md", "pkg/docs/d.md", "pkg/test_x.txt"]),
    (["/main.pth"], ["a.py", "docs/a.md", "docs/b/c.md", "pkg/docs/d.md", "pkg/main.pth", "pkg/test_x.txt"]),
    (["docs*", "test*"], ["a.py", "main.pth", "pkg/main.pth"]),
    (["docs/"], ["a.py", "main.pth", "pkg/main.pth", "pkg/test_x.txt"]),
    (["/docs"], ["a.py", "main.pth", "pkg/docs/d.md", "pkg/main.pth", "pkg/test_x.txt"]),
    (["docs/**/*.md", "!docs/a.md"],
     ["a.py", "docs/a.md", "main.pth", "pkg/docs/d.md", "pkg/main.pth", "pkg/test_x.txt"]),
    (["pkg/*", "!pkg/main.pth"], ["a.py", "docs/a.md", "docs/b/c.md", "main.pth", "pkg/main.pth"]),
    (["# a remark", ""],
     ["a.py", "docs/a.md", "docs/b/c.md", "main.pth", "pkg/docs/d.md", "pkg/main.pth", "pkg/test_x.txt"]),
]  # fmt: skip


@pytest.mark.parametrize("patterns, left", PATTERNS, ids=[",".join(row[0]) or "none" for row in PATTERNS])
@pytest.mark.parametrize("in_git", [True, False])
def test_ignore_patterns_are_gitignore_grammar(source, patterns, left, in_git):
    write(source, *PATTERNS[0][1])
    if in_git:
        git(source, "init", "-q")
    assert listed(source, ignore=tuple(patterns)) == left


@pytest.mark.parametrize("key", ["ignore", "include"])
@pytest.mark.parametrize("pattern", ["!", "\\"])
def test_a_pattern_that_is_none_is_one_line(source, key, pattern):
    write(source, "a.py")
    name = {"ignore": "CODE_IGNORE_PATTERNS", "include": "CODE_INCLUDE"}[key]
    assert wrong(source, **{key: ("*.o", pattern)}) == (
        f"{name}: '{pattern}' is no pattern; write it as in a .gitignore"
    )


@pytest.mark.parametrize(
    "patterns, told",
    [
        (("*.md",), ()),
        (("test*",), ("CODE_IGNORE_PATTERNS keeps test_a.py out of the snapshot",)),
        (("*.py",), ("CODE_IGNORE_PATTERNS keeps 3 .py files out of the snapshot, a.py among them",)),
    ],
)
def test_a_pattern_that_keeps_python_out_is_told(source, patterns, told):
    write(source, "a.py", "b.py", "test_a.py", "c.md")
    assert snapshot.listing(str(source), Wish(ignore=patterns), []).warnings == told


LACKING = "so runs do not have it; name in CODE_INCLUDE what they import"


@pytest.mark.parametrize(
    "ignore, wish, told",
    [
        ("*.log\ndata/\nenv/\n", {}, ()),
        ("lib.py\n", {}, (f"git ignores the Python code lib.py, {LACKING}",)),
        ("/models/\n", {}, (f"git ignores the Python code models/, {LACKING}",)),
        ("*.py\n", {}, (f"git ignores the Python code a.py and 5 more, {LACKING}",)),
        ("*.py\n", {"include": ("*.py",)}, ()),
        ("models\nlib.py\n", {"include": ("lib.py",), "link": ("models",)}, ()),
    ],
)
def test_python_code_that_git_ignores_is_told(source, ignore, wish, told):
    repository(source)
    write(source, "a.py", "lib.py", "models/__init__.py", "models/net.py", "data/x.py", "runs/y.py", "env/lib/z.py")
    (source / ".gitignore").write_text(f"{ignore}runs/\n")
    assert snapshot.listing(str(source), Wish(**wish), [str(source / "runs")]).warnings == told


def test_all_is_code_and_nothing_told_in_a_directory_that_its_repository_ignores(source):
    repository(source, ".gitignore")
    (source / ".gitignore").write_text("scratch\n")
    write(source, "scratch/__init__.py", "scratch/a.py")
    assert snapshot.listing(str(source / "scratch"), Wish(), []).warnings == ()


@pytest.mark.parametrize(
    ("inside", "looked_at", "asked"),
    [("source", "source", 2), ("source", "source/sub", 2), ("source", "link", 2), ("elsewhere", "source", 0)],
)
def test_git_is_asked_only_where_it_lists_the_code(source, tmp_path, monkeypatch, inside, looked_at, asked):
    repository(tmp_path / inside)
    write(source, "sub/a.py")
    (tmp_path / "link").symlink_to("source/sub")
    write(tmp_path, "bin/git")
    real, log = shutil.which("git"), tmp_path / "asked"
    (tmp_path / "bin/git").write_text(f'#!/bin/sh\necho "$1" >>{log}\nexec {real} "$@"\n')
    (tmp_path / "bin/git").chmod(0o755)
    log.touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    code = snapshot.listing(str(tmp_path / looked_at), Wish(), [])
    assert [os.path.basename(name) for name in code.files] == ["a.py"]
    assert log.read_text() == "ls-files\n" * asked


def test_an_include_that_means_nothing_is_told(source):
    repository(source, "a.py", ".gitignore", "data/x.csv", "runs/y")
    (source / ".gitignore").write_text("data\n")
    wish = Wish(include=("data/x.cvs", "*.csv", "a.py", "/none", "runs", "!*.so"))
    assert snapshot.listing(str(source), wish, [str(source / "runs")]).warnings == (
        f"CODE_INCLUDE: data/x.cvs brings in nothing of {source}",
        f"CODE_INCLUDE: /none brings in nothing of {source}",
        f"CODE_INCLUDE: runs brings in nothing of {source}",
    )


def test_include_brings_in_what_git_or_a_pattern_ignores(source):
    repository(source, "a.py", ".gitignore", "b.md")
    (source / ".gitignore").write_text("data/\n*.so\n")
    write(source, "data/small.csv", "data/large.bin", "fast.so", "data/sub/small.csv")
    assert listed(source, include=("*.csv", "/fast.so"), ignore=("*.md",)) == [
        ".gitignore",
        "a.py",
        "data/small.csv",
        "data/sub/small.csv",
        "fast.so",
    ]
    assert listed(source, include=("data/",), ignore=("*.md",), outside=(source / "data/sub",)) == [
        ".gitignore",
        "a.py",
        "data/large.bin",
        "data/small.csv",
    ]


def test_a_live_path_is_a_link_to_the_source_tree_and_nothing_below_it_is_copied(source, farmx):
    repository(source, "a.py", "data/set/x.bin", "pkg/b.py", "pkg/cache/y")
    snap = take(source, farmx, link=("data/", "pkg/cache"))
    assert tree(Path(snap.path, layout.TREE)) == {
        "a.py": "x\n",
        "data": f"-> {source}/data",
        "pkg/b.py": "x\n",
        "pkg/cache": f"-> {source}/pkg/cache",
    }
    assert manifest.matches(snap.path)


LINKS = [
    ("nothing", "CODE_LINK: nothing does not exist in {source}; name a path of the source tree"),
    ("../other", "CODE_LINK: ../other is not inside {source}; name a path of the source tree"),
    ("{source}", "CODE_LINK: {source} is not inside {source}; name a path of the source tree"),
    (".", "CODE_LINK: . is not inside {source}; name a path of the source tree"),
    ("/", "CODE_LINK: / is not inside {source}; name a path of the source tree"),
    ("pkg/way/in", "CODE_LINK: pkg/way/in is below pkg/way, which is a link; name that, or where it leads"),
]


@pytest.mark.parametrize("name, told", LINKS)
def test_a_live_path_is_inside_the_source_tree(source, tmp_path, name, told):
    write(source, "a.py", "pkg/set/in")
    (source / "pkg/way").symlink_to("set")
    write(tmp_path, "other")
    assert wrong(source, link=(name.format(source=source),)) == told.format(source=source)


@pytest.mark.parametrize("name", ["/etc/passwd", "../other", "a/../../other", "~/other", "{source}/b.bin"])
def test_what_is_included_is_inside_the_source_tree(source, tmp_path, name):
    write(source, "a.py", "b.bin")
    write(tmp_path, "other")
    pattern = name.format(source=source)
    told = f"CODE_INCLUDE: {pattern} is not a path below {source}; name one of the source tree, as seen from there"
    assert wrong(source, include=(pattern,)) == told


def test_what_is_included_may_begin_at_the_root_of_the_source_tree(source, farmx):
    repository(source, "a.py", ".gitignore", "etc/passwd", "x..y")
    (source / ".gitignore").write_text("etc\nx*\n")
    snap = take(source, farmx, include=("/etc/passwd", "/none", "x..y"))
    assert set(tree(Path(snap.path, layout.TREE))) == {".gitignore", "a.py", "etc/passwd", "x..y"}


def test_a_live_path_may_be_given_absolute(source, farmx):
    write(source, "a.py", "data/x")
    snap = take(source, farmx, link=(str(source / "data"),))
    assert tree(Path(snap.path, layout.TREE)) == {"a.py": "x\n", "data": f"-> {source}/data"}


def test_a_live_path_below_a_live_path_is_one_link(source, farmx):
    write(source, "a.py", "data/x/y")
    snap = take(source, farmx, link=("data/x", "data"))
    assert tree(Path(snap.path, layout.TREE)) == {"a.py": "x\n", "data": f"-> {source}/data"}


def test_a_live_path_that_leads_to_nothing_is_still_a_link(source, farmx):
    write(source, "a.py")
    (source / "data").symlink_to("/not/yet/mounted")
    snap = take(source, farmx, link=("data",))
    assert os.readlink(Path(snap.path, layout.TREE, "data")) == f"{source}/data"


@pytest.mark.parametrize(
    "path, there",
    [
        ("a.py", True), ("pkg", True), ("pkg/", True), ("pkg/b.py", True), ("./pkg/../a.py", True), (".", True),
        ("data", True), ("data/anything", True), ("link", True), ("pk", False), ("b.py", False), ("pkg/c", False),
    ],
)  # fmt: skip
def test_a_listing_tells_which_paths_runs_will_find(source, path, there):
    write(source, "a.py", "pkg/b.py", "data/x")
    (source / "link").symlink_to("a.py")
    code = snapshot.listing(str(source), Wish(link=("data",)), [])
    assert code.has(path) is there


# ---------------------------------------------------------------- the guard


def test_too_many_bytes_are_refused_and_the_largest_named(source, farmx):
    write(source, "a.py")
    write(source, "data/x", text="x" * 700_000)
    write(source, "data/y", text="x" * 700_000)
    write(source, "weights.bin", text="x" * 900_000)
    write(source, "tiny/a", "tiny/b")
    assert wrong(source, max_mb=2.0) == (
        "the code is 6 files, 2.3 MB, above the guard of 20,000 files and 2 MB; largest: data (1.4 MB), weights.bin "
        "(0.9 MB), tiny (0.0 kB); keep data out with CODE_IGNORE_PATTERNS or CODE_LINK, or raise CODE_MAX_FILES or "
        "CODE_MAX_MB"
    )
    assert listed(source, max_mb=2.31) and listed(source, max_mb=2.0, link=("data",))


def test_too_many_files_are_refused_and_where_most_are_named(source):
    write(source, "a.py", *(f"many/{index}" for index in range(8)))
    write(source, "large.bin", text="x" * 1000)
    assert wrong(source, max_files=9) == (
        "the code is 10 files, 1.0 kB, above the guard of 9 files and 200 MB; largest: many (8 files), a.py (1 file), "
        "large.bin (1 file); keep data out with CODE_IGNORE_PATTERNS or CODE_LINK, or raise CODE_MAX_FILES or "
        "CODE_MAX_MB"
    )
    assert len(listed(source, max_files=10)) == 10


@pytest.mark.parametrize(
    "sizes, told",
    [([], "0 files, 0.0 kB"), ([1], "1 file, 0.0 kB"), ([150_000] * 3, "3 files, 0.5 MB"), ([4200], "1 file, 4.2 kB")],
)
def test_a_listing_says_how_much_it_is(source, sizes, told):
    source.mkdir()
    for index, size in enumerate(sizes):
        write(source, f"f{index}", text="x" * size)
    assert snapshot.listing(str(source), Wish(), []).told() == told


# ---------------------------------------------------------------- the copy


def test_links_stay_links(source, farmx, tmp_path):
    write(source, "a.py", "pkg/b.py")
    write(tmp_path, "outside/data")
    links = {
        "inside": "a.py",
        "folder": "pkg",
        "pkg/up": "../a.py",
        "dangling": "nothing",
        "absolute": str(tmp_path / "outside"),
        "relative": "../outside/data",
        "pkg/relative": "../../outside",
        "loop": "loop",
    }
    for name, target in links.items():
        (source / name).symlink_to(target)
    copied = tree(Path(take(source, farmx).path, layout.TREE))
    assert copied == {
        "a.py": "x\n",
        "pkg/b.py": "x\n",
        **{name: f"-> {target}" for name, target in links.items()},
        "relative": f"-> {tmp_path}/outside/data",  # as a relative way out of the tree it would lead elsewhere
        "pkg/relative": f"-> {tmp_path}/outside",
    }


def test_files_are_read_only_and_executable_as_they_were(source, farmx):
    write(source, "a.py", "run.sh", "group.sh")
    (source / "run.sh").chmod(0o755)
    (source / "group.sh").chmod(0o610)
    (source / "a.py").chmod(0o600)
    code = Path(take(source, farmx).path, layout.TREE)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in code.iterdir()}
    assert modes == {"a.py": 0o444, "run.sh": 0o555, "group.sh": 0o444}


def test_files_follow_the_umask(source, farmx):
    write(source, "a.py")
    before = os.umask(0o077)
    try:
        snap = take(source, farmx)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(os.path.join(snap.path, layout.TREE, "a.py")).st_mode) == 0o400


def test_a_snapshot_is_its_files_and_a_manifest_and_nothing_else(source, farmx):
    write(source, "b.py", "a/x.py")
    (source / "l").symlink_to("b.py")
    snap = take(source, farmx)
    digest = hashlib.sha256(b"x\n").hexdigest()
    manifest = f'["a/x.py", "f", 2, "{digest}"]\n["b.py", "f", 2, "{digest}"]\n["l", "l", "b.py"]\n'
    assert tree(Path(snap.path)) == {
        "manifest": manifest, "code/a/x.py": "x\n", "code/b.py": "x\n", "code/l": "-> b.py"
    }  # fmt: skip
    assert snap.digest == os.path.basename(snap.path) == hashlib.sha256(manifest.encode()).hexdigest()[:24]
    assert made(farmx) == [snap.digest]


def test_equal_content_is_one_snapshot_whatever_else_differs(source, farmx, tmp_path):
    write(source, "a.py", "pkg/b.py")
    first = take(source, farmx)
    other = tmp_path / "other"
    shutil.copytree(source, other)
    git(other, "init", "-q")
    os.utime(other / "a.py", (1, 1))
    (other / "a.py").chmod(0o640)
    (other / "empty").mkdir()
    assert take(other, farmx) == snapshot.Snapshot(first.digest, first.path, new=False)
    assert made(farmx) == [first.digest]


CHANGES = [
    ("content", lambda root: (root / "a.py").write_text("y\n")),
    ("rights", lambda root: (root / "a.py").chmod(0o755)),
    ("a name", lambda root: (root / "a.py").rename(root / "b.py")),
    ("a new file", lambda root: (root / "b.py").touch()),
    ("a file less", lambda root: (root / "c.py").unlink()),
    ("a link's text", lambda root: ((root / "l").unlink(), (root / "l").symlink_to("c.py"))),
    ("a link that became a file", lambda root: ((root / "l").unlink(), (root / "l").write_text("x\n"))),
]


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_other_content_is_another_snapshot(source, farmx, change):
    write(source, "a.py", "c.py")
    (source / "l").symlink_to("a.py")
    first = take(source, farmx)
    change(source)
    second = take(source, farmx)
    assert second.new and not second.note
    assert made(farmx) == sorted([first.digest, second.digest])
    assert manifest.matches(first.path) and manifest.matches(second.path)


def test_an_empty_tree_is_a_snapshot(source, farmx):
    source.mkdir()
    snap = take(source, farmx)
    assert tree(Path(snap.path)) == {"manifest": ""}
    assert os.path.isdir(os.path.join(snap.path, layout.TREE)) and manifest.matches(snap.path)


def tamper(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)
    path.chmod(0o444)


TAMPERED = [
    ("changed, of one size", lambda code: tamper(code / "a.py", "y\n")),
    ("removed", lambda code: (code / "a.py").unlink()),
    ("added", lambda code: (code / "new.py").touch()),
    ("executable", lambda code: (code / "a.py").chmod(0o555)),
    ("a file for a link", lambda code: ((code / "l").unlink(), (code / "l").write_text("x\n"))),
    ("a directory for a file", lambda code: ((code / "a.py").unlink(), (code / "a.py").mkdir())),
    ("no tree", lambda code: shutil.rmtree(code)),
    ("no manifest", lambda code: (code.parent / "manifest").unlink()),
    ("a torn manifest", lambda code: (code.parent / "manifest").write_text('["a.py"')),
    ("a manifest that is no text", lambda code: (code.parent / "manifest").write_bytes(b"\xff")),
]


@pytest.mark.parametrize("change", [row[1] for row in TAMPERED], ids=[row[0] for row in TAMPERED])
def test_a_snapshot_that_no_longer_matches_is_left_and_told_and_never_used_again(source, farmx, change):
    write(source, "a.py", "pkg/b.py")
    (source / "l").symlink_to("a.py")
    first = take(source, farmx)
    change(Path(first.path, layout.TREE))
    as_left = tree(Path(first.path)) if "manifest" in os.listdir(first.path) else None
    note = f"snapshot {first.digest} no longer matches its manifest; it is left alone and not used again"
    second = take(source, farmx)
    assert second == snapshot.Snapshot(f"{first.digest}.2", f"{first.path}.2", new=True, note=note)
    assert manifest.matches(second.path) and not manifest.matches(first.path)
    assert take(source, farmx) == snapshot.Snapshot(second.digest, second.path, new=False, note=note)
    if as_left is not None:
        assert tree(Path(first.path)) == as_left


def test_pythons_own_caches_in_a_shared_snapshot_do_not_spoil_it(source, farmx):
    write(source, "a.py", "pkg/b.py")
    snap = take(source, farmx)
    write(Path(snap.path, layout.TREE), "__pycache__/a.cpython-311.pyc", "pkg/__pycache__/b.cpython-311.pyc")
    assert take(source, farmx) == snapshot.Snapshot(snap.digest, snap.path, new=False)


def test_a_file_that_changes_after_it_was_hashed_is_in_the_manifest_as_it_was_copied(source, farmx, monkeypatch):
    write(source, "a.py", "b.py")
    code = snapshot.listing(str(source), Wish(), [])
    rename, changed = os.mkdir, []

    def mkdir(path: str, *more: object) -> None:  # the first thing a copy does, after all was hashed
        if not changed and "snapshots" in os.fspath(path):
            changed.append(write(source, "a.py", text="while copying\n"))
        rename(path, *more)

    monkeypatch.setattr(os, "mkdir", mkdir)
    snap = snapshot.take(code, str(farmx))
    assert Path(snap.path, layout.TREE, "a.py").read_text() == "while copying\n"
    assert manifest.matches(snap.path)
    monkeypatch.undo()
    assert take(source, farmx) == snapshot.Snapshot(snap.digest, snap.path, new=False)


def test_a_file_that_grows_as_fast_as_it_is_copied_is_kept_as_it_was_when_that_began(source, farmx, monkeypatch):
    write(source, "a.log", text="x" * 10)
    written = os.write

    def write_and_grow(descriptor: int, data: bytes) -> int:
        with (source / "a.log").open("a") as log:
            log.write("y" * 10)
            assert log.tell() < 100, "the copy has no end"
        return written(descriptor, data)

    monkeypatch.setattr(os, "write", write_and_grow)
    snap = take(source, farmx)
    assert Path(snap.path, "code/a.log").read_text() == "x" * 10
    assert manifest.matches(snap.path)


def test_of_a_file_that_holds_more_than_it_says_no_more_is_read_to_compare_it():
    nothing = hashlib.sha256().hexdigest()
    assert Path("/proc/version").read_text() and Path("/proc/version").stat().st_size == 0
    assert manifest.of("/proc", ["version"], {}) == manifest.file_line("version", 0o444, 0, nothing)


def test_how_far_it_is_is_told_file_by_file(source, farmx):
    write(source, "a.py", "b.py", "c.py")
    os.symlink("a.py", source / "link")
    heard: list[tuple[str, int, int]] = []

    def looked(files: int) -> list[str]:
        heard.clear()
        code = snapshot.listing(str(source), Wish(), [], lambda *told: heard.append(told))
        snapshot.take(code, str(farmx), lambda *told: heard.append(told))
        whats = list(dict.fromkeys(what for what, _, _ in heard))
        counts = {"checking its copy": 4}  # links, too
        whole = [(what, n, counts.get(what, files)) for what in whats for n in range(1, counts.get(what, files) + 1)]
        assert heard == whole
        return whats

    assert looked(3) == ["listing the code", "copying the code"]
    assert looked(3) == ["listing the code", "reading the code", "checking its copy"]
    write(source, "d.py")
    assert looked(4) == ["listing the code", "reading the code", "copying the code"]


def test_two_that_snapshot_at_once_share_one(source, farmx):
    write(source, *(f"f{index}.py" for index in range(50)))
    code = snapshot.listing(str(source), Wish(), [])
    gate, taken = threading.Barrier(8), []

    def one() -> None:
        gate.wait()
        taken.append(snapshot.take(code, str(farmx)))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {snap.digest for snap in taken} == set(made(farmx))
    assert len(made(farmx)) == 1 and manifest.matches(taken[0].path)


# ---------------------------------------------------------------- faults


def test_a_file_that_cannot_be_read_is_one_line_and_leaves_nothing(source, farmx):
    write(source, "a.py", "secret.py")
    (source / "secret.py").chmod(0)
    with ordinary_rights(), pytest.raises(StageError) as caught:
        take(source, farmx)
    assert str(caught.value) == f"{source}/secret.py: cannot be read for the snapshot: Permission denied"
    assert made(farmx) == []


def test_a_directory_that_cannot_be_read_is_one_line(source):
    write(source, "a.py", "secret/b.py")
    (source / "secret").chmod(0)
    with ordinary_rights():
        told = wrong(source)
    (source / "secret").chmod(0o755)
    why = f"Permission denied; the code is all of {source}: call farmx in the project"
    assert told == f"{source}/secret: cannot be read for the snapshot: {why}"


def test_a_source_that_has_gone_is_one_line(source):
    why = f"No such file or directory; the code is all of {source}: call farmx in the project"
    assert wrong(source) == f"{source}/: cannot be read for the snapshot: {why}"


def test_a_file_that_vanishes_before_it_is_hashed_is_one_line(source, farmx):
    write(source, "a.py")
    code = snapshot.listing(str(source), Wish(), [])
    (source / "a.py").unlink()
    with pytest.raises(StageError) as caught:
        snapshot.take(code, str(farmx))
    assert str(caught.value) == f"{source}/a.py: cannot be read for the snapshot: No such file or directory"


def test_a_place_that_cannot_be_written_is_one_line(source, farmx):
    write(source, "a.py")
    (farmx / layout.SNAPSHOTS).chmod(0o555)
    with ordinary_rights(), pytest.raises(StageError) as caught:
        take(source, farmx)
    told = str(caught.value)
    assert told.startswith(f"{farmx}/snapshots: the code cannot be copied: Permission denied: {farmx}/snapshots/.new.")


def test_a_disk_that_is_full_leaves_no_half_snapshot_and_the_next_time_goes_well(source, farmx):
    write(source, "a.py")
    write(source, "b.py", text="x" * 50_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StageError) as caught:
            take(source, farmx)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == f"{farmx}/snapshots: the code cannot be copied: File too large"
    assert made(farmx) == []
    snap = take(source, farmx)
    assert snap.new and manifest.matches(snap.path)


def test_a_launcher_killed_while_it_copies_leaves_nothing_that_is_used(source, farmx):
    write(source, "a.py")
    os.mkfifo(source / "b.py")  # a file that never ends, once the listing took it for one
    code = f"""
import os, stat
from farmx import snapshot
code = snapshot.Listing({str(source)!r}, ("a.py", "b.py"), {{}}, 4)
snapshot._copy(code, {str(farmx / layout.SNAPSHOTS)!r})
"""
    child = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: list(farmx.glob("snapshots/.new.*/code/a.py")))
    child.kill()
    child.wait()
    (source / "b.py").unlink()
    write(source, "b.py")
    snap = take(source, farmx)
    assert snap.new and not snap.note and manifest.matches(snap.path)
    assert [name for name in made(farmx) if not name.startswith(".")] == [snap.digest]
