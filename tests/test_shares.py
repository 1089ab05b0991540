"""shares: who uses which part of a GPU; pools of one machine take turns, whatever dies."""

import errno
import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from launching import python, until

from farmx.errors import FarmError
from farmx.farms import shares
from farmx.farms.gpus import Gpu, Slot
from farmx.farms.shares import Patience

ONE, HALF = Slot("gpu 0", (Gpu("0", "0"),)), Slot("gpu 0", (Gpu("0", "0", 2),))
THIRD = Slot("gpu 0", (Gpu("0", "0", 3),))
NOBODY = Patience(lambda seconds: False, lambda why: None)

HOLD = """
import select
from farmx.farms import shares
from farmx.farms.gpus import Gpu, Slot
name, gpus, idle = json.loads(sys.argv[1])
slot = Slot(name, tuple(Gpu(*each) for each in gpus), idle)
def pause(seconds):
    select.select([], [], [], 0.01)
    return True
def tell(why):
    print("waits", flush=True)
while True:
    grip = shares.acquire(slot, sys.argv[2], shares.Patience(pause, tell))
    print(json.dumps([grip.name, dict(grip.env)]), flush=True)
    if not sys.stdin.readline():
        break
    grip.close()
"""


def holder(slot: Slot, what: str = "sweep/a") -> subprocess.Popen:
    """A process that takes the slot, and takes it anew at each line it reads."""
    return python(HOLD, json.dumps(slot), what, stdin=subprocess.PIPE)


def take(slot: Slot) -> shares.Grip | None:
    """The slot, if it can be had at once."""
    return shares.acquire(slot, "sweep/b", NOBODY)


def waits_for(slot: Slot) -> list[str]:
    """What is told of waiting for it; [] when it can be had."""
    told: list[str] = []
    grip = shares.acquire(slot, "sweep/b", Patience(lambda seconds: not told, told.append))
    if grip:
        grip.close()
    return told


def end(process: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


def test_a_slot_without_gpus_waits_for_nobody_and_makes_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FARMX_LOCKS", str(tmp_path / "locks"))
    assert take(Slot("0")).env == {}
    assert not (tmp_path / "locks").exists()


def test_a_gpu_is_one_process_s_until_that_dies_however():
    for number in (signal.SIGTERM, signal.SIGKILL):
        other = holder(ONE)
        assert json.loads(other.stdout.readline()) == ["gpu 0", {"CUDA_VISIBLE_DEVICES": "0"}]
        assert waits_for(ONE) == [f"process {other.pid} uses it for sweep/a"]
        assert waits_for(Slot("gpu 1", (Gpu("1", "1"),))) == []
        end(other, number)
        assert waits_for(ONE) == []


PARTS = [
    # held, wanted, whether it can be had
    ([HALF], HALF, True),
    ([HALF, HALF], HALF, False),
    ([HALF], ONE, False),
    ([ONE], HALF, False),
    ([THIRD, THIRD], THIRD, True),
    ([THIRD, THIRD], HALF, False),
    ([HALF], THIRD, True),
    ([HALF, THIRD], THIRD, False),
]


@pytest.mark.parametrize("held, wanted, had", PARTS)
def test_the_runs_on_a_gpu_never_take_more_than_all_of_it(held, wanted, had):
    grips = [take(slot) for slot in held]
    assert all(grips)
    assert (waits_for(wanted) == []) is had
    for grip in grips:
        grip.close()
    assert waits_for(wanted) == []


def test_two_that_both_want_a_gpu_take_turns():
    home, turns = Path(shares.folder()), []
    with holder(ONE, "sweep/a") as a, holder(ONE, "sweep/b") as b:
        ready = until(lambda: next((each for each in (a, b) if list(home.glob(f"0@1@{each.pid}@*"))), None))
        waiting = b if ready is a else a
        assert json.loads(ready.stdout.readline())[0] == "gpu 0"
        assert waiting.stdout.readline() == "waits\n"
        for _ in range(6):
            ready.stdin.write("\n")  # lets go, and wants it again at once
            ready.stdin.flush()
            assert ready.stdout.readline() == "waits\n"
            assert json.loads(waiting.stdout.readline())[0] == "gpu 0"
            turns.append(waiting.pid)
            ready, waiting = waiting, ready
        assert turns == [turns[0], turns[1]] * 3 and turns[0] != turns[1]
        for process in (a, b):
            process.kill()


def test_who_wants_all_of_a_gpu_is_not_passed_by_those_who_share_it():
    grips = [take(HALF), take(HALF)]
    with holder(ONE) as whole:
        assert whole.stdout.readline() == "waits\n"
        grips[0].close()
        assert waits_for(HALF) == ["others wait before it"]
        grips[1].close()
        assert json.loads(whole.stdout.readline())[0] == "gpu 0"
        whole.kill()


def test_several_gpus_are_had_together_and_what_is_not_enough_is_let_go():
    both = Slot("gpu 1+0", (Gpu("1", "1"), Gpu("0", "0")))
    one = take(Slot("gpu 1", (Gpu("1", "1"),)))
    assert waits_for(both) == [f"process {os.getpid()} uses it for sweep/b"]
    assert waits_for(ONE) == []
    one.close()
    grip = take(both)
    assert (grip.name, dict(grip.env)) == ("gpu 1+0", {"CUDA_VISIBLE_DEVICES": "1,0"})
    assert waits_for(ONE) == [f"process {os.getpid()} uses it for sweep/b"]
    grip.close()
    assert sorted(path.suffix for path in Path(shares.folder()).iterdir()) == [".line", ".line", ".list", ".list"]


@pytest.mark.parametrize("name", ["0@x@1", "0@1@x", "0@1", "0", "0@@"])
def test_what_others_leave_among_the_locks_is_nobodys_part_of_a_gpu(name):
    take(ONE).close()
    Path(shares.folder(), name).touch()
    take(ONE).close()
    assert Path(shares.folder(), name).exists()


def test_what_is_held_is_kept_young_and_its_loss_by_a_cleaner_is_no_error():
    grip = take(ONE)
    (path,) = Path(shares.folder()).glob("0@*")
    os.utime(path, (1, 1))
    grip.touch()
    assert path.stat().st_mtime > 1
    path.unlink()
    grip.touch()
    grip.close()


def test_on_a_full_disk_a_gpu_is_had_and_let_go_without_a_word_of_what_for():
    mine = take(Slot("gpu 1", (Gpu("1", "1"),)))  # its directory is there
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # a file is made, nothing goes into it
    try:
        grip = take(ONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    mine.close()
    assert waits_for(ONE) == [f"process {os.getpid()} uses it for "]
    grip.close()
    assert waits_for(ONE) == []


def test_a_file_system_without_locks_is_said_and_leaves_no_file_open(monkeypatch):
    def none(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    take(ONE).close()  # its directory is there
    before = sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError, match="No locks available"):
        take(ONE)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_file_that_nobody_understands_is_nobody_s():
    for name in ("0@", "0@x@1", "0@1@x", "0@1", "@@"):
        Path(shares.folder(), name).touch()
    assert waits_for(ONE) == []


# ---------------------------------------------------------------- idle ones


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """Make an nvidia-smi that says what stands in a file; say(*rows) writes that."""
    path, rows = tmp_path / "bin" / "nvidia-smi", tmp_path / "rows"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\nexec cat '{rows}'\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)

    def say(*used: int) -> None:
        (tmp_path / "new").write_text("".join(f"{index}, {each}, 100, 0\n" for index, each in enumerate(used)))
        (tmp_path / "new").rename(rows)

    return say


def test_idle_ones_are_those_that_neither_a_pool_nor_anybody_else_uses(nvidia):
    nvidia(0, 90, 0, 0)
    first, second = take(Slot("gpu", (), 1)), take(ONE)
    assert (first.name, first.env) == ("gpu 0", {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert second is None
    pair = take(Slot("gpu", (), 2))
    assert (pair.name, pair.env["CUDA_VISIBLE_DEVICES"]) == ("gpu 2+3", "2,3")
    assert take(Slot("gpu", (), 1)) is None
    nvidia(0, 0, 0, 0)
    assert take(Slot("gpu", (), 1)).name == "gpu 1"


def test_who_wants_several_holds_none_while_they_are_not_there(nvidia):
    nvidia(0, 90)
    with holder(Slot("gpu", (), 2)) as two:
        assert two.stdout.readline() == "waits\n"
        assert take(ONE)
        two.kill()


def test_who_is_refused_one_of_several_holds_none_of_them(nvidia):
    nvidia(0, 0)
    home = Path(shares.folder())
    (home / "1.list").mkdir()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(IsADirectoryError):
        take(Slot("gpu", (), 2))
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert list(home.glob("0@*")) == []
    (home / "1.list").rmdir()
    assert take(Slot("gpu", (), 2)).name == "gpu 0+1"


def test_who_waits_for_an_idle_one_gets_it_when_others_programs_have_gone(nvidia):
    nvidia(90)
    with holder(Slot("gpu", (), 1)) as waiting:
        assert waiting.stdout.readline() == "waits\n"
        nvidia(0)
        assert json.loads(waiting.stdout.readline())[0] == "gpu 0"
        waiting.kill()


def test_nobody_takes_as_idle_what_somebody_waits_for(nvidia):
    nvidia(0)
    half, passed = take(HALF), []

    def pause(seconds: float) -> bool:
        half.close()  # whoever else looks now finds a GPU that nobody holds
        passed.append(take(Slot("gpu", (), 1)))
        return len(passed) == 1

    had = shares.acquire(ONE, "sweep/a", Patience(pause, lambda why: None))
    assert passed == [None]
    assert had.name == "gpu 0"
    had.close()
    assert take(Slot("gpu", (), 1)).name == "gpu 0"


def test_an_nvidia_smi_that_fails_for_a_while_is_waited_for(nvidia, tmp_path):
    with holder(Slot("gpu", (), 1)) as waiting:
        assert waiting.stdout.readline() == "waits\n"
        nvidia(0)
        assert json.loads(waiting.stdout.readline())[0] == "gpu 0"
        waiting.kill()


# ---------------------------------------------------------------- the directory


def test_the_directory_is_ours_alone_and_the_same_in_every_session(monkeypatch, tmp_path):
    monkeypatch.setenv("FARMX_LOCKS", str(tmp_path / "locks"))
    os.umask(os.umask(0o077))
    assert stat.S_IMODE(os.stat(shares.folder()).st_mode) == 0o700
    monkeypatch.delenv("FARMX_LOCKS")
    for name in ("TMPDIR", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    assert shares.folder() == f"/tmp/farmx-{os.getuid()}"


def wrong_mode(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def link(path: Path) -> None:
    (path.parent / "other").mkdir(mode=0o700)
    path.symlink_to("other")


@pytest.mark.parametrize("make", [wrong_mode, link, Path.touch])
def test_a_directory_that_others_might_write_to_is_refused(monkeypatch, tmp_path, make):
    path = tmp_path / "locks"
    make(path)
    monkeypatch.setenv("FARMX_LOCKS", str(path))
    with pytest.raises(FarmError) as caught:
        shares.check([Slot("0"), ONE])
    assert str(caught.value) == (
        f"{path}: pools share GPUs there, and it is not a directory of yours alone; remove it, chmod 700 it, or set "
        "FARMX_LOCKS to another"
    )
    shares.check([Slot("0")])


def test_a_relative_directory_is_refused(monkeypatch):
    monkeypatch.setenv("FARMX_LOCKS", "locks")
    with pytest.raises(FarmError) as caught:
        shares.folder()
    assert str(caught.value) == "FARMX_LOCKS: 'locks' would be another directory for each pool; give an absolute path"


def test_a_directory_that_cannot_be_made_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("FARMX_LOCKS", str(tmp_path / "none" / "locks"))
    with pytest.raises(FarmError) as caught:
        shares.folder()
    assert str(caught.value) == (
        f"{tmp_path}/none/locks: pools share GPUs there: No such file or directory; set FARMX_LOCKS to a directory"
    )
