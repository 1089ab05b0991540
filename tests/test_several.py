"""several: work is done in order and once, by one thread where it only computes and by many where it waits."""

import errno
import itertools
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from commands import claims, hparams
from launching import until
from typed import Typed, write

from farmx import several

MANY = several.SAMPLE + 40


def spun(item: int) -> tuple[int, str]:
    """Compute for as long as a slow piece of work waits."""
    began = time.thread_time()
    while time.thread_time() - began < 2 * several.SLOW_S:
        pass
    return item, threading.current_thread().name


class Waits:
    """Pieces of work that wait, the ones after the sample for one another: they end only when they are at once."""

    def __init__(self, together: int) -> None:
        self.barrier = threading.Barrier(together, timeout=60)
        self.threads: set[str] = set()
        self.done: list[int] = []

    def __call__(self, item: int) -> int:
        time.sleep(2 * several.SLOW_S)
        if item >= several.SAMPLE:
            self.barrier.wait()
        self.threads.add(threading.current_thread().name)
        self.done.append(item)
        return -item


def test_what_computes_is_done_one_after_another():
    here = threading.current_thread().name
    assert list(several.each(spun, range(MANY))) == [(item, here) for item in range(MANY)]


def test_what_waits_is_done_at_once_and_told_in_order():
    work = Waits(several.AT_ONCE)
    count = several.SAMPLE + 2 * several.AT_ONCE
    assert list(several.each(work, range(count))) == [-item for item in range(count)]
    assert sorted(work.done) == list(range(count))
    assert len(work.threads) == several.AT_ONCE + 1


def test_what_is_no_more_than_the_sample_needs_no_thread(monkeypatch):
    work = Waits(1)
    assert list(several.each(work, range(3))) == [0, -1, -2]
    assert work.threads == {threading.current_thread().name}


@pytest.mark.parametrize("place", [0, several.SAMPLE - 1, several.SAMPLE, MANY - 1])
@pytest.mark.parametrize("wait_s", [0, 2 * several.SLOW_S])
def test_an_exception_comes_in_its_turn(place, wait_s):
    def work(item: int) -> int:
        time.sleep(wait_s)
        if item >= place:
            raise OSError(item)
        return item

    found = []
    with pytest.raises(OSError) as caught:
        for each in several.each(work, range(MANY)):
            found.append(each)
    assert (found, caught.value.args) == (list(range(place)), (place,))


def test_after_an_exception_nothing_more_is_begun():
    begun = itertools.count()

    def work(item: int) -> None:
        next(begun)
        time.sleep(2 * several.SLOW_S)
        if item == several.SAMPLE:
            raise OSError

    with pytest.raises(OSError):
        list(several.each(work, range(20_000)))
    assert next(begun) < 5_000


def test_who_stops_listening_stops_the_work():
    begun = itertools.count()

    def work(item: int) -> None:
        next(begun)
        time.sleep(2 * several.SLOW_S)

    listening = several.each(work, range(20_000))
    for _ in range(several.SAMPLE + 1):
        next(listening)
    listening.close()
    assert next(begun) < 5_000


# ---------------------------------------------------------------- a launch on a file system that waits


COUNT = several.SAMPLE + 100


@pytest.fixture
def sweep(monkeypatch, capfd, tmp_path):
    """A sweep of COUNT runs for a farm that takes them all, on a file system that keeps each waiting."""
    real, fast = os.mkdir, several.SLOW_S

    def mkdir(path: str, *more: object, **others: object) -> None:
        time.sleep(2 * fast if "dir_fd" in others else 0)
        real(path, *more, **others)

    monkeypatch.setattr(os, "mkdir", mkdir)
    write(tmp_path / "p", {
        ".farmx.yaml": "FARM: big\nbig: {SUBMIT_CMD: 'true {script}', PACK: {runs: 1, each: 1000}}\n",
        "sweep.yml": f"CMD: 'true'\nHPARAMS: {{n: {list(range(COUNT))}}}\n",
    })  # fmt: skip
    return Typed(monkeypatch, capfd, tmp_path / "p")


def told(place: Typed) -> list[tuple[int, str]]:
    """(value, state) of every run, in order."""
    runs = json.loads(place("farmx status sweep --json").out)["runs"]
    home = place.cwd / "runs/sweep"
    return sorted((hparams(home / run["run"])["n"], run["state"]) for run in runs)


def named(place: Typed) -> list[str]:
    """The names of the runs."""
    return [path.parent.name for path in (place.cwd / "runs/sweep").glob("*/run.json")]


def test_runs_that_are_staged_at_once_are_each_point_once(sweep):
    said = sweep("farmx sweep.yml")
    assert (said.code, f"runs  {COUNT}: {COUNT} new" in said.err) == (0, True), said.err
    assert told(sweep) == [(n, "queued") for n in range(COUNT)]
    assert os.listdir(sweep.cwd / "runs/sweep/.farmx/staging") == []
    assert sorted(claims(sweep.cwd / "runs/sweep").values()) == sorted(named(sweep))
    assert f"{COUNT} queued" in sweep("farmx sweep.yml").err


def test_a_disk_that_fills_while_runs_are_staged_at_once_is_one_line_and_the_same_command_goes_on(sweep, monkeypatch):
    real, left = os.mkdir, itertools.count(several.SAMPLE + 20, -1)

    def mkdir(path: str, *more: object, **others: object) -> None:
        if "dir_fd" in others and next(left) <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, *more, **others)

    with monkeypatch.context() as full:
        full.setattr(os, "mkdir", mkdir)
        said = sweep("farmx sweep.yml")
    assert (said.code, said.err.count("\n"), "No space left on device" in said.err) == (3, 1, True), said.err
    assert sweep("farmx sweep.yml").code == 0
    assert told(sweep) == [(n, "queued") for n in range(COUNT)]


# Slow enough that the sample tells, and that two launches meet.
SLOW = """
import glob, os, sys, time
mkdir, most = os.mkdir, int(sys.argv[1])
def slow(path, *more, **others):
    time.sleep(0.003 if "dir_fd" in others else 0)
    while "dir_fd" in others and most and len(glob.glob("runs/sweep/*/run.json")) > most:
        time.sleep(0.01)
    mkdir(path, *more, **others)
os.mkdir, sys.argv = slow, ["farmx", "sweep.yml"]
from farmx.__main__ import farmx
farmx()
"""


def launched(place: Typed, most: int = 0) -> subprocess.Popen[str]:
    """most: once more runs than that are there it stands still, but for what is under way; 0 for never."""
    return subprocess.Popen([sys.executable, "-c", SLOW, str(most)], cwd=place.cwd, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def submitted(place: Typed) -> set[str]:
    """The attempts that a farm was handed, some of them perhaps twice, which is harmless."""
    files = (place.cwd / "runs/sweep/.farmx/submissions").glob("*/runs")
    return {line for file in files for line in file.read_text().splitlines()}


def check_once(place: Typed) -> None:
    home = place.cwd / "runs/sweep"
    assert told(place) == [(n, "queued") for n in range(COUNT)]
    assert submitted(place) == {f"1.0 {path.parent.name}" for path in home.glob("*/run.json")}
    assert sorted(claims(home).values()) == sorted(named(place))
    assert os.listdir(home / ".farmx/staging") == []


def test_two_launches_that_stage_at_once_make_each_run_once(sweep):
    both = [launched(sweep), launched(sweep)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [f"runs  {COUNT}: " in text for text in said] == [True, True], said  # what the other took is counted
    assert len(told(sweep)) == COUNT
    assert sweep("farmx sweep.yml").code == 0
    check_once(sweep)


def test_a_launch_that_is_killed_while_it_stages_at_once_is_finished_by_the_same_command(sweep):
    process = launched(sweep, several.SAMPLE + 20)
    home = sweep.cwd / "runs/sweep"
    until(lambda: len(list(home.glob("*/run.json"))) > several.SAMPLE + 20)
    process.kill()
    process.communicate()
    assert several.SAMPLE < len(list(home.glob("*/run.json"))) < COUNT
    assert sweep("farmx sweep.yml").code == 0
    check_once(sweep)
