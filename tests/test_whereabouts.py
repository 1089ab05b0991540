"""Which run was queued, and where it is when its job begins, whatever somebody did to it by hand meanwhile."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farmx import whereabouts

CLAIM = "p1-a.2"
NEW = "it's; $HOME ✓\n2"


def made(experiment: Path, name: str, **more: object) -> str:
    path = experiment / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"format": 1, "point": "p1-a", "generation": 2, **more}))
    return str(path)


def another_at(experiment: Path, name: str) -> None:
    """The run is renamed, and another takes its name."""
    os.rename(experiment / name, experiment / NEW)
    made(experiment, name, point="p1-b")


def swapped(experiment: Path, name: str) -> None:
    another_at(experiment, name)
    os.rename(experiment / name, experiment / "third")
    os.rename(experiment / NEW, experiment / name)


def copied(experiment: Path, name: str) -> None:
    """Its copy is made while it is there: no directory can have its inode."""
    shutil.copytree(experiment / name, experiment / "a-backup")


def renamed(experiment: Path, name: str) -> None:
    os.rename(experiment / name, experiment / NEW)


def copied_and_deleted(experiment: Path, name: str) -> None:
    copied(experiment, name)
    shutil.rmtree(experiment / name)


def copied_and_renamed(experiment: Path, name: str) -> None:
    copied(experiment, name)
    renamed(experiment, name)


def hidden(experiment: Path, name: str) -> None:
    os.rename(experiment / name, experiment / ".gone")


def torn(experiment: Path, name: str) -> None:
    renamed(experiment, name)
    (experiment / NEW / "run.json").write_text('{"point": ')


def of_another_generation(experiment: Path, name: str) -> None:
    renamed(experiment, name)
    (experiment / NEW / "run.json").write_text('{"format": 1, "point": "p1-a", "generation": 3}')


@pytest.mark.parametrize(
    ("done", "where"),
    [(lambda *_: None, "one"), (copied, "one"), (swapped, "one"), (renamed, NEW), (another_at, NEW),
     (copied_and_renamed, NEW), (copied_and_deleted, "one"), (hidden, "one"), (torn, "one"),
     (of_another_generation, "one")],
)  # fmt: skip
def test_a_run_is_found_by_its_directory_and_nothing_else_is_taken_for_it(
    tmp_path: Path, done: Callable[[Path, str], None], where: str
) -> None:
    run = made(tmp_path, "one")
    (line,) = whereabouts.lines(whereabouts.inodes(str(tmp_path)), [(run, CLAIM)]).splitlines()
    assert line == f"{CLAIM} {os.stat(run).st_ino}"
    done(tmp_path, "one")
    assert whereabouts.found(run, line) == str(tmp_path / where)
    assert whereabouts.found(run, CLAIM) == run  # an earlier format says no inode
    assert whereabouts.found(run, "") == run


def test_what_holds_no_point_and_what_is_not_there_has_no_inode(tmp_path: Path) -> None:
    run = made(tmp_path, "one")
    assert whereabouts.lines(whereabouts.inodes(str(tmp_path)), [(run, ""), (f"{run}s", CLAIM)]) == f"\n{CLAIM}\n"
    assert whereabouts.lines(whereabouts.inodes(str(tmp_path / "none")), [(run, CLAIM)]) == f"{CLAIM}\n"


def test_a_run_that_is_gone_costs_one_listing_whatever_else_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path, "one")
    line = f"{CLAIM} {os.stat(run).st_ino}"
    for each in range(20):
        made(tmp_path, f"other {each}")
    shutil.rmtree(run)
    opened: list[str] = []
    monkeypatch.setattr(whereabouts.layout, "read_json", lambda path, newest: opened.append(path) or {})
    assert whereabouts.found(run, line) == run
    assert set(opened) == {f"{run}/run.json"}


@pytest.mark.parametrize(
    ("record", "line", "is_another"),
    [({"point": "p1-a", "generation": 2}, f"{CLAIM} 7", False), ({"point": "p1-a", "generation": 2}, CLAIM, False),
     ({"point": "p1-a", "generation": 3}, f"{CLAIM} 7", True), ({"point": "p1-b", "generation": 2}, CLAIM, True),
     ({"point": "p1-b", "generation": 2}, "", False), (None, f"{CLAIM} 7", False)],
)  # fmt: skip
def test_a_record_is_another_runs_by_its_point_and_generation(record: object, line: str, is_another: bool) -> None:
    assert whereabouts.another(record, line) is is_another
