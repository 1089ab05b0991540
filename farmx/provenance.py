"""Where the code of a launch came from: commit, branch, what was changed; never what a run uses (its snapshot does)."""

import os
from typing import Any

_DIFF_LIMIT = 1_000_000


def git(source: str) -> dict[str, Any]:
    """The commit, branch and uncommitted diff of the repository around `source`; {} outside one or before a commit."""
    if not in_repository(source):
        return {}
    try:
        from git import Repo  # imports slowly, and only a launch wants it
        from git.exc import GitError
    except ImportError:  # gitpython refuses to load on a machine without git
        return {}
    try:
        with Repo(source, search_parent_directories=True, expand_vars=False) as repo:
            branch = None if repo.head.is_detached else repo.active_branch.name
            diff = repo.git.diff("HEAD", "--no-ext-diff", "--no-color", env=_here(repo))
            return {"commit": repo.head.commit.hexsha, "branch": branch, "diff": diff[:_DIFF_LIMIT]}
    except (GitError, ValueError, OSError):
        return {}


def in_repository(source: str) -> bool:
    """Whether there is a .git in `source` or above, as git sees it; spares other projects gitpython, and git itself."""
    path = os.path.realpath(source)
    while not (found := os.path.lexists(os.path.join(path, ".git"))) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return found


def _here(repo: Any) -> dict[str, str]:
    """What makes git look at this repository, also inside a hook of another."""
    index, tree = os.path.join(repo.git_dir, "index"), str(repo.working_tree_dir or "")
    return {"GIT_DIR": str(repo.git_dir), "GIT_INDEX_FILE": index, "GIT_WORK_TREE": tree}
