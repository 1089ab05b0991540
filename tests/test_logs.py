"""farmx logs: what a run printed, byte by byte, whichever stages and attempts it had; followed to the run's end."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attempts import attempt, ended, staged
from conftest import BIN
from launching import HOSTILE, PATIENCE_S, Place, until
from typed import Typed, write

from farmx import logs, naming
from farmx.farms import local
from farmx.spec import Job, Run, State

BINARY = bytes(range(256)) * 3


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FARMX_LOGROOT", str(tmp_path / "logs"))
    return Place(tmp_path)


@pytest.fixture
def typed(place, monkeypatch, capfd, tmp_path) -> Typed:
    return Typed(monkeypatch, capfd, tmp_path)


# ---------------------------------------------------------------- to the end


def test_the_newest_attempt_is_printed_all_stages_in_their_order(place, typed):
    run = staged(place, "train", "avg")
    attempt(run, "1.0", {"train": b"old\n"}, "failed")
    attempt(run, "2.0", {"avg": b"second\n", "train": b"first\n"})
    assert typed("farmx logs one") == (
        0, "first\nsecond\n", "==> attempt 2.0, train\n==> attempt 2.0, avg\n"
    )  # fmt: skip


CAME = [
    # the attempts with their logs and ends, oldest first -> what is printed without --stage
    ([("1.0", ("train", "avg"), "failed"), ("2.0", ("avg",), "done")], ["1.0 train", "2.0 avg"]),
    ([("1.0", ("train",), "done"), ("2.0", ("avg",), "failed"), ("3.0", ("avg", "test"), None)],
     ["1.0 train", "3.0 avg", "3.0 test"]),
    ([("1.0", ("train",), "preempted"), ("1.1", ("train",), "done"), ("2.0", ("test",), "preempted"),
      ("2.1", ("test",), None)], ["1.1 train", "2.1 test"]),
    ([("1.0", ("train", "avg", "test"), "done"), ("2.0", ("train",), None)], ["2.0 train"]),
    ([("1.0", ("train",), "done"), ("2.0", (), "cancelled")], ["1.0 train"]),
    ([("1.0", ("train",), "failed"), ("2.0", (), None)], []),
    ([("1.0", ("more", "train"), "done"), ("2.0", ("test",), "done"), ("3.0", ("more",), "done")], ["3.0 more"]),
]  # fmt: skip


@pytest.mark.parametrize("made, printed", CAME)
@pytest.mark.parametrize("stage", [None, "train", "test"])
@pytest.mark.parametrize("option", ["", " -f"])
def test_what_is_printed_is_how_the_run_came_to_where_it_is(place, typed, at_once, made, printed, stage, option):
    run = staged(place, "train", "avg", "test")
    for number, logs_of, end in made:
        attempt(run, number, {name: f"{number} {name}\n".encode() for name in logs_of}, end)
    if option and made[-1][2] is None:
        ended(run / "attempts" / made[-1][0], "done")
        printed = printed or ["1.0 train"]
    lines = [line for line in printed if stage in (None, line.split()[1])]
    assert typed("farmx logs one" + (f" --stage {stage}" if stage else "") + option).out.splitlines() == lines


ASKED = [

    ("--stage train", "a\n"),
    ("--stage avg", "b"),
    ("--attempt 1.0", "old\n"),
    ("--attempt 1", "restarted\n"),
    ("--attempt 1.1", "restarted\n"),
    ("--attempt 1 --stage train", "restarted\n"),
]


@pytest.mark.parametrize("options, said", ASKED)
def test_one_stage_and_one_attempt_can_be_asked_for(place, typed, options, said):
    run = staged(place, "train", "avg")
    attempt(run, "1.0", {"train": b"old\n"}, "preempted")
    attempt(run, "1.1", {"train": b"restarted\n"}, "failed")
    attempt(run, "2.0", {"train": b"a\n", "avg": b"b"})
    assert typed(f"farmx logs one {options}") == (0, said, "")


WRONG = [
    ("--stage tran", "--stage: one has no stage 'tran'; did you mean train?"),
    ("--attempt 3.0", "--attempt: one has no attempt '3.0'; it has 1.0"),
    ("--attempt x", "--attempt: one has no attempt 'x'; it has 1.0"),
    ("--attempt ../../two/attempts/1.0", "--attempt: one has no attempt '../../two/attempts/1.0'; it has 1.0"),
]


@pytest.mark.parametrize("options, line", WRONG)
@pytest.mark.parametrize("more", ["", "-f", "--json"])
def test_what_the_run_does_not_have_is_one_line(place, typed, options, line, more):
    attempt(staged(place, "train", "avg"), "1.0", {"train": b"x"})
    assert typed(f"farmx logs one {options} {more}") == (2, "", f"farmx: {line}\n")


@pytest.mark.parametrize("output", [BINARY, b"\n\n", b"no newline", "größe 漢字\n".encode(), b"\xff\xfe\r\x1b[0m"])
def test_a_log_is_printed_as_it_is(place, output):
    attempt(staged(place), "1.0", {"main": output})
    done = subprocess.run([BIN / "farmx", "logs", "one"], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (output, b"")


def test_a_log_larger_than_memory_is_streamed(place):
    """Ten GB of nothing, read by a process that may have 400 MB in all."""
    path = attempt(staged(place), "1.0", {"main": b""}) / "main.log"
    os.truncate(path, 10 << 30)
    line = f"ulimit -v 400000; '{BIN}/farmx' logs one | head -c 100000000 | wc -c"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("100000000", "")


def test_a_reader_that_has_enough_is_no_error(place):
    attempt(staged(place), "1.0", {"main": b"line\n" * 1_000_000})
    line = f"'{BIN}/farmx' logs one | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("line\n0\n", "")


def test_a_stage_that_run_json_does_not_know_comes_last(place):
    run = staged(place, "train")
    attempt(run, "1.0", {"another": b"", "train": b"", "0": b""})
    assert [log.stage for log in logs.of(str(run), "1.0")] == ["train", "0", "another"]


def test_a_run_that_has_said_nothing_says_how_it_stands(place, typed):
    staged(place)
    assert typed("farmx logs one") == (0, "", "one has printed nothing, it is staged: not started; -f waits for it\n")
    attempt(place.experiment / "one", "1.0", {}, "cancelled")
    assert typed("farmx logs one") == (0, "", "one has printed nothing, it is cancelled\n")


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.strip() and "/" not in name and len(name) < 99])
def test_a_run_of_any_name_is_found(place, name):
    attempt(staged(place, name=name), "1.0", {"main": b"said\n"})
    done = subprocess.run([BIN / "farmx", "logs", "--", name], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("said\n", "")


def test_json_says_which_logs_there_are(place, typed):
    path = attempt(staged(place, "train", "avg"), "1.0", {"train": b"abc", "avg": b""})
    said = typed("farmx logs one --json")
    assert json.loads(said.out) == [
        {"attempt": "1.0", "stage": "train", "path": str(path / "train.log"), "bytes": 3},
        {"attempt": "1.0", "stage": "avg", "path": str(path / "avg.log"), "bytes": 0},
    ]


def test_a_log_whose_size_cannot_be_told_is_one_line(place, typed, monkeypatch):
    path = attempt(staged(place), "1.0", {"main": b"abc"}) / "main.log"
    real = os.path.getsize

    def failing(asked):
        if asked == str(path):
            raise OSError(5, "Input/output error", asked)
        return real(asked)

    monkeypatch.setattr(os.path, "getsize", failing)
    assert typed("farmx logs one --json") == (3, "", f"farmx: {path}: cannot be read: Input/output error\n")


def test_a_log_that_cannot_be_read_is_one_line(place, typed):
    path = attempt(staged(place), "1.0", {}) / "main.log"
    path.mkdir()
    assert typed("farmx logs one") == (3, "", f"farmx: {path}: cannot be read: Is a directory\n")


def test_an_experiment_of_one_run_stands_for_it_and_of_several_names_them(place, typed):
    attempt(staged(place), "1.0", {"main": b"said\n"})
    assert typed("farmx logs sweep").out == "said\n"
    for name in ("two", "three"):
        staged(place, name=name)
    line = "farmx: 'sweep' is an experiment of 3 runs; name one of them: sweep/one, sweep/three, ...\n"
    assert typed("farmx logs sweep") == (2, "", line)


# ---------------------------------------------------------------- a file under our hands


def read(tail: logs.Tail) -> tuple[bytes, list[str]]:
    told: list[str] = []
    return b"".join(tail.pieces(told.append)), told


def test_a_log_is_read_from_where_it_was_left(tmp_path):
    path = tmp_path / "a.log"
    tail = logs.Tail(str(path))
    assert read(tail) == (b"", [])
    for text in (b"one", b"", b"two\n"):
        with path.open("ab") as file:
            file.write(text)
        assert read(tail) == (text, [])


def test_a_log_that_was_cut_short_or_replaced_is_read_from_its_begin(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"a long line\n")
    tail = logs.Tail(str(path))
    assert read(tail) == (b"a long line\n", [])
    os.truncate(path, 0)
    assert read(tail) == (b"", [f"{path} was cut short; from its begin:"])
    path.write_bytes(b"again\n")
    assert read(tail) == (b"again\n", [])
    (tmp_path / "new").write_bytes(b"a line that is longer than the file before\n")
    os.replace(tmp_path / "new", path)
    assert read(tail) == (b"a line that is longer than the file before\n", [f"{path} was replaced; from its begin:"])
    path.unlink()
    assert read(tail) == (b"", [])


def test_a_pipe_in_a_logs_place_makes_nobody_wait(tmp_path):
    os.mkfifo(tmp_path / "a.log")
    assert read(logs.Tail(str(tmp_path / "a.log"))) == (b"", [])


# ---------------------------------------------------------------- followed


class Played:
    """A run that changes each time somebody looks how it stands; the last step leaves it as it is."""

    def __init__(self, run: Path, steps: list[Callable[[], object]]) -> None:
        self.run, self._steps, self.told = run, iter(steps), []

    def __call__(self) -> Run:
        next(self._steps, lambda: None)()
        (found,) = naming.read(naming.Named(str(self.run.parent), self.run.name)).runs
        return found

    def follow(self, stage: str | None = None, only: str | None = None) -> Iterator[bytes]:
        return logs.follow(logs.Reader(self.told.append), self, stage, only, self.told.append)


@pytest.fixture
def at_once(monkeypatch):
    """Looks follow upon each other."""
    monkeypatch.setattr(logs, "POLL_S", 0.0)
    monkeypatch.setattr(logs, "LOOK_S", -1.0)


def test_a_run_is_followed_over_stages_and_attempts_until_it_has_ended(place, at_once):
    run = staged(place, "train", "avg")
    first, second = run / "attempts/1.0", run / "attempts/2.0"

    def more(path: Path, text: bytes) -> None:
        with path.open("ab") as file:
            file.write(text)

    played = Played(run, [
        lambda: None,
        lambda: attempt(run, "1.0", {"train": b"a"}, None),
        lambda: more(first / "train.log", b"b\n"),
        lambda: more(first / "avg.log", b"c\n"),
        lambda: (local.announce(place.submission(Job(str(run), "2.0"))), ended(first, "failed"),
                 more(first / "avg.log", b"last\n")),
        lambda: attempt(run, "2.0", {"train": b"A\n"}, None),
        lambda: (more(second / "avg.log", b"B\n"), ended(second, "done")),
    ])  # fmt: skip
    assert b"".join(played.follow()) == b"ab\nc\nlast\nA\nB\n"
    assert played.told == [
        "one is staged: not started; waiting for it, Ctrl-C ends",
        "==> attempt 1.0, avg", "==> attempt 2.0, train", "==> attempt 2.0, avg",
    ]  # fmt: skip


def test_of_a_followed_run_one_stage_can_be_asked_for(place, at_once):
    run = staged(place, "train", "avg")
    played = Played(run, [lambda: attempt(run, "1.0", {"train": b"a", "avg": b"b"}, None),
                          lambda: ended(run / "attempts/1.0", "done")])  # fmt: skip
    assert (b"".join(played.follow(stage="avg")), played.told) == (b"b", [])


def test_how_a_run_stands_is_looked_at_when_an_attempt_ends_and_else_seldom(place, monkeypatch):
    """Each look may ask a scheduler: of a hundred polls in which nothing ends none does, though one ended before."""
    monkeypatch.setattr(logs, "LOOK_S", 1e9)
    run = staged(place)
    attempt(run, "1.0", {"main": b"first\n"}, "failed")
    local.announce(place.submission(Job(str(run), "2.0")))
    looks, polls = [], []
    played = Played(run, [])

    def sleep(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 100:
            attempt(run, "2.0", {"main": b"second\n"}, "done")

    def stand() -> Run:
        looks.append(len(polls))
        return played()

    monkeypatch.setattr(logs.time, "sleep", sleep)
    read = logs.follow(logs.Reader(played.told.append), stand, None, None, played.told.append)
    assert b"".join(read) == b"first\nsecond\n"
    assert looks == [0, 1, 100]


def test_an_attempt_that_is_followed_alone_ends_with_it(place, at_once):
    run = staged(place)
    attempt(run, "1.0", {"main": b"first\n"}, None)
    attempt(run, "2.0", {"main": b"second\n"}, None)
    assert b"".join(Played(run, []).follow(only="1.0")) == b"first\n"
    played = Played(run, [lambda: None, lambda: ended(run / "attempts/2.0", "failed")])
    assert b"".join(played.follow(only="2.0")) == b"second\n"


@pytest.mark.parametrize("state", [state for state in State if state not in logs.GOING])
def test_whatever_has_ended_is_printed_once(place, at_once, state):
    run = staged(place)
    attempt(run, "1.0", {"main": b"said\n"}, str(state))
    played = Played(run, [])
    assert (b"".join(played.follow()), played.told) == (b"said\n", [])


FOREIGN = {
    "": ("", "runx has printed nothing, it is unknown: not launched by farmx\n"),
    " -f": ("", "runx unknown: not launched by farmx\n"),
}


@pytest.mark.parametrize("option", FOREIGN)
def test_a_run_that_farmx_did_not_launch_is_waited_for_by_nobody(place, typed, monkeypatch, option):
    """Nothing ever says that it has ended."""
    monkeypatch.setattr(logs.time, "sleep", lambda seconds: pytest.fail("it waits"))
    write(place.experiment, {"runx/hparams.json": "{}"})
    assert typed(f"farmx logs runx{option}") == (0, *FOREIGN[option])


def test_a_run_is_followed_from_another_terminal_to_its_end(tmp_path):
    go = tmp_path / "go"
    write(tmp_path, {"sweep.yml": "CMD: sh t.sh\n", "t.sh": f"echo begun; while [ ! -e '{go}' ]; do sleep 0.05; done\n"
                     "echo ended; exit 3\n"})  # fmt: skip
    quiet = {"cwd": tmp_path, "stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen([BIN / "farmx", "sweep.yml", "-j", "1", "--tag", "run", "--no-cooldir"], **quiet) as pool:
        until(lambda: (tmp_path / "runs/sweep/run/output.log").read_bytes())
        stopped = subprocess.Popen([BIN / "farmx", "logs", "-f", "run"], stdout=subprocess.PIPE, **quiet)
        assert stopped.stdout.readline() == b"begun\n"
        stopped.send_signal(signal.SIGINT)
        assert stopped.communicate(timeout=PATIENCE_S) == (b"", b"")
        assert stopped.returncode == 130
        follower = subprocess.Popen([BIN / "farmx", "logs", "-f", "run"], stdout=subprocess.PIPE, **quiet)
        assert follower.stdout.readline() == b"begun\n"
        go.touch()
        assert follower.communicate(timeout=PATIENCE_S) == (b"ended\n", b"run failed: main exited with 3\n")
        assert follower.returncode == 0
        pool.communicate(timeout=PATIENCE_S)


def test_a_run_that_is_deleted_while_it_is_followed_is_told(place, monkeypatch, at_once, typed):
    run = staged(place)
    attempt(run, "1.0", {"main": b"said\n"}, None)
    read = logs.stages
    calls = []

    def stages(path: str) -> list[str]:
        calls.append(path)
        if len(calls) > 2:
            shutil.rmtree(path, ignore_errors=True)
        return read(path)

    monkeypatch.setattr(logs, "stages", stages)
    said = typed("farmx logs -f one")
    assert (said.code, said.out, said.err) == (2, "said\n", f"farmx: {run} is gone: somebody renamed or deleted it\n")
