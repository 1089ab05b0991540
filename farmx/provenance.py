"""Where the code of a launch came from: commit, branch, what was changed; never what a run uses (its snapshot does)."""

from typing import Any

_DIFF_LIMIT = 1_000_000


def git(source: str) -> dict[str, Any]:
    """The commit, branch and uncommitted diff of the repository around `source`; {} outside one or before a commit."""
    try:
        from git import Repo  # imports slowly, and only a launch wants it
        from git.exc import GitError
    except ImportError:  # gitpython refuses to load on a machine without git
        return {}
    try:
        with Repo(source, search_parent_directories=True) as repo:
            branch = None if repo.head.is_detached else repo.active_branch.name
            diff = repo.git.diff("HEAD", "--no-ext-diff", "--no-color")
            return {"commit": repo.head.commit.hexsha, "branch": branch, "diff": diff[:_DIFF_LIMIT]}
    except (GitError, ValueError, OSError):
        return {}
