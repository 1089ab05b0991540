"""layout: what stands on disk after a file server repeated a call, knows no links, or has no room."""

import errno
import os
import time
from pathlib import Path

import pytest
from launching import lost

from farmx import layout
from farmx.errors import StageError


def refused(monkeypatch: pytest.MonkeyPatch, call: str, error: int) -> None:
    """From now on this call is an error, and does nothing."""

    def refuse(*paths: object, **more: object) -> None:
        raise OSError(error, os.strerror(error), *paths[:1])

    monkeypatch.setattr(os, call, refuse)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_whose_rename_a_server_repeats_is_written(tmp_path, monkeypatch, before):
    path = tmp_path / "größe $HOME; '"
    if before is not None:
        path.write_text(before)
    lost(monkeypatch, "rename", errno.ENOENT)
    layout.write(str(path), "new\n")
    assert [(each, each.read_text()) for each in tmp_path.iterdir()] == [(path, "new\n")]


def test_a_file_that_went_before_its_rename_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("old")
    refused(monkeypatch, "rename", errno.ENOENT)
    with pytest.raises(StageError) as caught:
        layout.write(str(path), "new")
    assert str(caught.value) == f"{path}: cannot be written: No such file or directory"
    assert [(each, each.read_text()) for each in tmp_path.iterdir()] == [(path, "old")]


def test_what_is_no_answer_of_a_repeated_call_is_not_looked_into(tmp_path, monkeypatch):
    refused(monkeypatch, "rename", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        layout.rename(str(tmp_path / "a"), str(tmp_path / "b"), lambda: pytest.fail("asked"))


LINKS = [  # what the file system says of a link, what it does, whether the record is there: made, error
    (None, False, True, None),
    (None, True, False, None),
    (errno.EPERM, False, True, None),
    (errno.EPERM, True, False, None),
    (errno.ENOSYS, False, True, None),
    (errno.EDQUOT, False, None, "Disk quota exceeded"),
    (errno.EDQUOT, True, None, "Disk quota exceeded"),
    (errno.EIO, True, None, "Input/output error"),
]


@pytest.mark.parametrize("error, there, made, why", LINKS)
def test_a_record_is_made_once_whatever_the_file_system_says_of_links(tmp_path, monkeypatch, error, there, made, why):
    path = tmp_path / "breaker.json"
    if there:
        path.write_text('{"held": false}\n')
    if error is not None:
        refused(monkeypatch, "link", error)
    if why is None:
        assert layout.make_json(str(path), {"held": True}) is made
    else:
        with pytest.raises(StageError) as caught:
            layout.make_json(str(path), {"held": True})
        assert str(caught.value) == f"{path}: cannot be written: {why}"
    text = '{"held": true}\n' if made else '{"held": false}\n' if there else None
    assert {each: each.read_text() for each in tmp_path.iterdir()} == ({path: text} if text else {})


def test_a_record_whose_link_a_server_repeats_is_ours(tmp_path, monkeypatch):
    lost(monkeypatch, "link", errno.EEXIST)
    assert layout.make_json(str(tmp_path / "x"), {"a": 1}) is True
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_record_that_cannot_be_put_in_place_without_links_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "x"
    refused(monkeypatch, "link", errno.EPERM)
    rename = os.rename

    def full(source: str, target: str, **more: object) -> None:
        if Path(target) == path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        rename(source, target, **more)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(StageError) as caught:
        layout.make_json(str(path), {"a": 1})
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_what_time_it_is_a_file_system_tells_and_our_clock_where_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 5.0)
    (tmp_path / "before").touch()
    now = layout.now_at(str(tmp_path))
    (tmp_path / "after").touch()
    assert (tmp_path / "before").stat().st_mtime <= now <= (tmp_path / "after").stat().st_mtime
    assert layout.now_at(str(tmp_path / "none")) == 5.0
    assert sorted(os.listdir(tmp_path)) == ["after", "before"]
