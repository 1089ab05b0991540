"""provenance: commit, branch and diff of the code that was launched."""

import subprocess
import sys
from pathlib import Path

import pytest

from farmx import provenance


def git(root: Path, *words: str) -> str:
    root.mkdir(exist_ok=True)
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    git(root, "init", "-q", "-b", "trunk/größe")
    (root / "a.py").write_text("one\n")
    (root / "sub").mkdir()
    (root / "sub/b.py").write_text("one\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    return root


@pytest.mark.parametrize("below", [".", "sub"])
def test_a_clean_tree_is_its_commit_and_branch(source, below):
    commit = git(source, "rev-parse", "HEAD")
    assert provenance.git(str(source / below)) == {"commit": commit, "branch": "trunk/größe", "diff": ""}


def test_what_was_changed_and_staged_is_the_diff_and_what_is_untracked_is_not(source):
    (source / "a.py").write_text("größe\n")
    (source / "sub/b.py").unlink()
    (source / "new.py").write_text("staged\n")
    git(source, "add", "new.py")
    (source / "other.py").write_text("untracked\n")
    git(source, "config", "color.ui", "always")
    git(source, "config", "diff.external", "false")
    diff = provenance.git(str(source))["diff"]
    assert [line for line in diff.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "-one", "+größe", "+staged", "-one"
    ]  # fmt: skip
    patched = source.parent / "patched"
    git(source.parent, "clone", "-q", str(source), str(patched))
    subprocess.run(["git", "apply"], cwd=patched, input=diff + "\n", text=True, check=True)
    assert {path.name: path.read_text() for path in patched.glob("*.py")} == {"a.py": "größe\n", "new.py": "staged\n"}


def test_without_a_branch_there_is_the_commit(source):
    git(source, "checkout", "-q", "--detach")
    assert provenance.git(str(source))["branch"] is None


def test_bytes_that_are_no_text_do_not_stop_a_launch(source):
    (source / "a.py").write_bytes(b"\xff\xfe\n")
    assert "-one" in provenance.git(str(source))["diff"]


def test_a_diff_is_kept_up_to_a_size(source):
    (source / "a.py").write_text("x" * 2_000_000)
    assert len(provenance.git(str(source))["diff"]) == 1_000_000


def test_a_hook_of_another_repository_does_not_matter(source, tmp_path, monkeypatch):
    git(tmp_path / "other", "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    (source / "a.py").write_text("two\n")
    assert provenance.git(str(source))["diff"].endswith("-one\n+two")


NOTHING = {
    "no repository": lambda root: root.mkdir(),
    "no commit yet": lambda root: git(root, "init", "-q"),
    "no directory": lambda root: None,
    "a broken repository": lambda root: (git(root, "init", "-q"), (root / ".git/config").write_text("[x\n")),
    "a broken head": lambda root: (git(root, "init", "-q"), (root / ".git/HEAD").write_text("nonsense\n")),
    "an empty .git": lambda root: (root / ".git").mkdir(parents=True),
}


@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING)
def test_there_is_nothing_to_tell(tmp_path, make):
    make(tmp_path / "source")
    assert provenance.git(str(tmp_path / "source")) == {}


def test_a_machine_without_git_has_nothing_to_tell(source, tmp_path):
    code = f"from farmx import provenance\nassert provenance.git({str(source)!r}) == {{}}"
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
