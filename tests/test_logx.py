import contextlib
import decimal
import fractions
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import pytest
from rights import ordinary_rights

from farmx import layout, lines
from farmx.errors import FarmxError, LogxError
from farmx.logx import LogX

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = ["a b", "it's \"x\"", "$HOME;ls", "two\nlines", "\r\n\t\0", "größe ✓ \u2028", "\ud800", "n" * 10_000, "-x"]


@pytest.fixture
def logx(monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    made = LogX()
    yield made
    with contextlib.suppress(LogxError):  # of a file that the test removed
        made._close()


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """An attempt that runs, and the environment of its program; -> its directory."""
    folder = tmp_path / "exp" / "athletic-wallaby" / "attempts" / "1.0"
    folder.mkdir(parents=True)
    monkeypatch.setenv("FARMX_RUN", str(folder.parent.parent))
    monkeypatch.setenv("FARMX_ATTEMPT_DIR", str(folder))
    return folder


def rows(folder: Path) -> list[tuple[str, float, dict]]:
    """(phase, step, metrics) of each line; the form of the line itself is checked."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [list(row) for row in found] == [["time", "phase", "step", "metrics"]] * len(found)
    return [(row["phase"], row["step"], row["metrics"]) for row in found]


def program(code: str, cwd: Path, code_wanted: int = 0, **env: str) -> str:
    """The output of a python of its own that ran `code`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == code_wanted, done.stderr
    return done.stdout + done.stderr


START = ("start", 0, {})


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    "code",
    [
        "from farmx.logx import logx",
        "from farmx import logx",
        "from farmx import logx; from farmx import logx",
        "from farmx.logx import logx; from farmx import logx",
        "from farmx import logx; from farmx.logx import logx",
        "import farmx.logx; from farmx import logx",
        "import farmx.logx; logx = farmx.logx",
        "import farmx; logx = farmx.logx; logx = farmx.logx",
        "import farmx.logx as logx",
    ],
)
def test_each_way_to_import_it_gives_the_same_log(code, tmp_path):
    use = "logx.initialize('d'); logx.metric('val', {'a': 1}); logx.tensorboard.add_text('a', 'b'); logx.msg(True)"
    same = "from farmx.logx import logx as one; print(logx.logdir == one.logdir)"
    assert program(f"{code}\n{use}\n{same}", tmp_path) == "True\nTrue\n"
    assert rows(tmp_path / "d") == [START, ("val", 0, {"a": 1})]


def test_what_the_module_has_not_is_no_attribute():
    import farmx.logx

    assert not hasattr(farmx.logx, "metrics") and not hasattr(farmx.logx, "__path__")


def test_importing_it_loads_nothing_but_the_smallest_modules(tmp_path):
    # errno is a part of Python itself; some environments have loaded it before.
    code = "import errno, sys; old = {*sys.modules, '__future__'}; import farmx.logx; print(*{*sys.modules} - old)"
    ours = {"farmx", "farmx.errors", "farmx.layout", "farmx.lines", "farmx.logdirs", "farmx.logx"}
    assert set(program(code, tmp_path).split()) == ours | {"atexit"}


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("phase", "canonical"),
    [(name, "train") for name in ("trn", "train", "training")]
    + [(name, "val") for name in ("val", "validate", "validation", "test")]
    + [(name, name) for name in ("TRAIN", "epoch", "warm up", *HOSTILE)],
)
def test_any_phase_is_recorded_and_those_of_runx_by_one_name(logx, tmp_path, phase, canonical):
    logx.initialize(tmp_path)
    logx.metric(phase, {"acc": 0.5}, 7)
    assert rows(tmp_path) == [START, (canonical, 7, {"acc": 0.5})]


class Tensor:
    """What a tensor of one element looks like to us."""

    def __init__(self, value):
        self._value = value

    def item(self):
        if self._value is None:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self._value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1, "1"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (-0.0, "-0.0"),
        (True, "1"),
        (10**299, str(10**299)),
        (10**301, "1e+301"),
        (float("nan"), '"NaN"'),
        (float("inf"), '"Infinity"'),
        (-float("inf"), '"-Infinity"'),
        (numpy.float32(0.5), "0.5"),
        (numpy.float64(0.1), "0.1"),
        (numpy.float64("nan"), '"NaN"'),
        (numpy.int64(3), "3"),
        (numpy.bool_(True), "1"),
        (numpy.array(2.5), "2.5"),
        (numpy.array([[4]]), "4"),
        (Tensor(2.5), "2.5"),
        (Tensor(float("inf")), '"Infinity"'),
        (decimal.Decimal("0.25"), "0.25"),
        (decimal.Decimal("NaN"), '"NaN"'),
        (fractions.Fraction(1, 4), "0.25"),
    ],
)
def test_a_value_is_recorded_as_the_number_it_is(logx, tmp_path, value, told):
    logx.initialize(tmp_path, no_timestamp=True)
    logx.metric("val", {"acc": value, "other": 1.5}, 0)
    line = f'{{"time": null, "phase": "val", "step": 0, "metrics": {{"acc": {told}, "other": 1.5}}}}\n'
    assert (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)[1:] == [line]


@pytest.mark.parametrize(
    ("phase", "metrics", "epoch", "message"),
    [
        ("val", {"acc": "0.5"}, 0, "metric 'acc': '0.5' is not a number"),
        ("val", {"acc": None}, 0, "metric 'acc': None is not a number"),
        ("val", {"acc": [0.5]}, 0, "metric 'acc': [0.5] is not a number"),
        ("val", {"acc": 1j}, 0, "metric 'acc': 1j is not a number"),
        ("val", {"acc": numpy.complex64(1)}, 0, "metric 'acc': (1+0j) is not a number"),
        ("val", {"acc": "x" * 100}, 0, "metric 'acc': a str is not a number"),
        ("val", {"a\nb": None}, 0, "metric 'a\\nb': None is not a number"),
        (
            "val",
            {"acc": numpy.zeros(2)},
            0,
            "metric 'acc': a ndarray of one element is a number, this one is not",
        ),
        ("val", {"acc": Tensor(None)}, 0, "metric 'acc': a Tensor of one element is a number, this one is not"),
        ("val", {"acc": 10**400}, 0, "metric 'acc': int too large for a number"),
        ("val", {"acc": -(10**5000)}, 0, "metric 'acc': int too large for a number"),
        ("val", {3: 0.5}, 0, "metric: the name 3 is not a string"),
        ("val", {None: 0.5}, 0, "metric: the name None is not a string"),
        ("val", [1, 2], 0, "metric: [1, 2] is not a dict"),
        ("val", 0.5, 0, "metric: 0.5 is not a dict"),
        ("val", {"acc": 1}, "3", "metric: epoch: '3' is not a number"),
        ("val", {"acc": 1}, float("nan"), "metric: epoch nan is not a number to count with"),
        ("start", {"acc": 1}, 0, "metric: the phase 'start' is logx's own; any other name will do"),
        ("", {"acc": 1}, 0, "metric: phase '' must be a name such as 'train' or 'val'"),
        (None, {"acc": 1}, 0, "metric: phase None must be a name such as 'train' or 'val'"),
        (["val"], {"acc": 1}, 0, "metric: phase ['val'] must be a name such as 'train' or 'val'"),
    ],
)
def test_what_cannot_be_recorded_is_refused_in_one_line(logx, tmp_path, phase, metrics, epoch, message):
    logx.initialize(tmp_path)
    with pytest.raises(LogxError) as caught:
        logx.metric(phase, metrics, epoch)
    assert str(caught.value) == message
    assert isinstance(caught.value, (FarmxError, TypeError, ValueError))
    assert rows(tmp_path) == [START]
    logx.metric("val", {"acc": 1})
    assert rows(tmp_path) == [START, ("val", 0, {"acc": 1})]


def test_names_arrive_as_they_are_and_each_row_is_one_line(logx, tmp_path):
    logx.initialize(tmp_path)
    metrics = {name: float(i) for i, name in enumerate([*HOSTILE, "", "epoch", "val", "timestamp"])}
    logx.metric("val", metrics, 0)
    logx.metric("val", {}, 1)
    assert rows(tmp_path) == [START, ("val", 0, metrics), ("val", 1, {})]


def test_the_time_of_a_row_is_that_of_the_call(logx, tmp_path):
    before = time.time()
    logx.initialize(tmp_path)
    logx.metric("val", {})
    times = [json.loads(line)["time"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    after = time.time()
    assert sorted([before, *times, after]) == [before, *times, after] and len(times) == 2


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [
        ([None, None, None], [0, 1, 2]),
        ([5, None, None], [5, 6, 7]),
        ([0, None, 3, None], [0, 1, 3, 4]),
        ([2, 1, None], [2, 1, 2]),
        ([0.5, None], [0.5, 1]),
        ([numpy.int64(4), None], [4, 5]),
        ([Tensor(3), None], [3, 4]),
        ([True], [1]),
        ([-1, None], [-1, 0]),
    ],
)
def test_steps_are_numbered_from_the_last_one_on(logx, tmp_path, epochs, steps):
    logx.initialize(tmp_path)
    for epoch in epochs:
        logx.metric("val", {}, epoch)
    assert rows(tmp_path) == [START, *(("val", step, {}) for step in steps)]


def test_each_phase_has_its_own_numbers_and_aliases_share_them(logx, tmp_path):
    logx.initialize(tmp_path)
    for phase in ("train", "val", "trn", "test", "other", "training"):
        logx.metric(phase, {})
    told = [("train", 0), ("val", 0), ("train", 1), ("val", 1), ("other", 0), ("train", 2)]
    assert rows(tmp_path) == [START, *((phase, step, {}) for phase, step in told)]


# ---------------------------------------------------------------- the file


def test_a_metric_is_one_write_call(logx, tmp_path, monkeypatch):
    logx.initialize(tmp_path)
    wrote = []
    monkeypatch.setattr(os, "write", lambda fd, line, write=os.write: wrote.append(line) or write(fd, line))
    logx.metric("val", {"a": 1}, 0)
    logx.metric("val", {"a": float("nan")}, 1)
    assert b"".join(wrote) == b"".join((tmp_path / "metrics.jsonl").read_bytes().splitlines(True)[1:])
    assert len(wrote) == 2


def test_every_row_whose_call_returned_survives_sigkill(tmp_path):
    code = """
import os, signal
from farmx.logx import logx
logx.initialize('d')
for i in range(100): logx.metric('train', {'i': i})
os.kill(os.getpid(), signal.SIGKILL)"""
    program(code, tmp_path, code_wanted=-9)
    assert rows(tmp_path / "d") == [START, *(("train", i, {"i": i}) for i in range(100))]


@pytest.mark.parametrize("tail", [b'{"time": 1, "pha', b"\xff", b"{}"])
def test_a_torn_tail_costs_no_row_that_follows(logx, tmp_path, tail):
    (tmp_path / "metrics.jsonl").write_bytes(tail)
    (tmp_path / "logging.log").write_bytes(tail)
    logx.initialize(tmp_path, no_timestamp=True)
    logx.metric("val", {})
    logx.msg("hello")
    row = b'{"time": null, "phase": "%s", "step": 0, "metrics": {}}\n'
    assert (tmp_path / "metrics.jsonl").read_bytes() == tail + b"\n" + row % b"start" + row % b"val"
    assert (tmp_path / "logging.log").read_bytes() == tail + b"\nhello\n"


def test_a_full_disk_is_told_and_tears_no_row_that_follows(tmp_path):
    # The limit makes the kernel write a part of the row, then refuse the rest, as a full disk does.
    code = """
import os, resource
from farmx.logx import logx
logx.initialize('d')
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize('d/metrics.jsonl') + 10, hard))
for _ in range(2):
    try: logx.metric('val', {'lost': 1})
    except Exception as error: print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
logx.metric('val', {'kept': 1})"""
    told = f"LogxError {tmp_path}/d/metrics.jsonl: cannot be written: File too large\n"
    assert program(code, tmp_path) == told * 2
    lines_ = (tmp_path / "d" / "metrics.jsonl").read_bytes().splitlines()
    assert len(lines_) == 3 and lines_[1] == b'{"time": 1'[:10]
    assert json.loads(lines_[2])["metrics"] == {"kept": 1} and json.loads(lines_[2])["step"] == 0


def test_rows_of_many_threads_are_whole_and_numbered_once(logx, tmp_path):
    logx.initialize(tmp_path)

    def work():
        for _ in range(200):
            logx.metric("train", {"x": 0.5})

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert rows(tmp_path) == [START, *(("train", step, {"x": 0.5}) for step in range(1600))]


def test_rows_reach_other_nodes_at_most_five_seconds_apart_and_at_the_end(tmp_path, monkeypatch):
    synced, now = [], [100.0]
    monkeypatch.setattr(os, "fsync", lambda fd, fsync=os.fsync: synced.append(now[0]) or fsync(fd))
    monkeypatch.setattr(lines.time, "monotonic", lambda: now[0])
    file = lines.Lines(str(tmp_path / "f"))
    for now[0] in (100.0, 101.0, 104.9, 105.0, 109.9, 110.1, 111.0):
        file.append(b"x\n")
        file.sync()
    now[0] = 111.5
    file.close()
    assert synced == [100.0, 105.0, 110.1, 111.5]


def test_what_was_logged_reaches_other_nodes_as_a_program_begins_and_at_its_end(tmp_path):
    # The clock of the five seconds stands still, so that all between begin and end comes too early.
    code = """
import atexit, os, time
synced, time.monotonic, fsync = [], lambda: 1e6, os.fsync
os.fsync = lambda fd: (fsync(fd), synced.append(f"{os.readlink(f'/proc/self/fd/{fd}')} {os.fstat(fd).st_size}"))
atexit.register(lambda: print(*synced, sep='\\n'))
from farmx.logx import logx
logx.initialize('d', no_timestamp=True)
for _ in range(3): logx.metric('val', {})
logx.msg('bye')"""
    told = program(code, tmp_path)
    metrics, log = tmp_path / "d" / "metrics.jsonl", tmp_path / "d" / "logging.log"
    first = len(metrics.read_bytes().splitlines(keepends=True)[0])
    ends = [f"{path} {path.stat().st_size}" for path in (metrics, log)]
    assert told.splitlines() == ["bye", f"{metrics} {first}", *ends]


def test_a_directory_removed_under_it_is_told(logx, tmp_path, monkeypatch):
    folder = tmp_path / "d"
    logx.initialize(folder)
    (folder / "metrics.jsonl").unlink()
    monkeypatch.setattr(lines.time, "monotonic", lambda: 1e9)
    with pytest.raises(LogxError) as caught:
        logx.metric("val", {"a": 1})
    told = "was removed while it was written; what was logged there is lost"
    assert str(caught.value) == f"{folder}/metrics.jsonl: {told}"


@pytest.mark.parametrize("way", ["sys.exit(0)", "pass", "raise SystemExit(0)", "os._exit(0)"])
def test_a_forked_worker_that_logs_nothing_adds_nothing(tmp_path, way):
    code = f"""
import os, sys
from farmx.logx import logx
logx.initialize('d', tensorboard=True, eager_flush=False)
logx.metric('val', {{'a': 1}}, 0)
with logx.suspend_flush(): logx.add_scalar('later', 1, 0)
parent = os.getpid()
pid = os.fork()
if pid: os.waitpid(pid, 0); logx.metric('val', {{'a': 2}}, 1)
elif {way!r} != 'pass': {way}"""
    assert program(code, tmp_path, PYTHONWARNINGS="ignore") == ""
    assert rows(tmp_path / "d") == [START, ("val", 0, {"a": 1}), ("val", 1, {"a": 2})]
    assert len(list((tmp_path / "d").glob("events*"))) == 1


def test_a_forked_child_may_log_and_draw(tmp_path):
    code = """
import os
from farmx.logx import logx
logx.initialize('d', tensorboard=True)
logx.add_scalar('parent', 1, 0)
if os.fork() == 0:
    logx.metric('val', {'a': 1})
    os._exit(0)
print(os.wait()[1])"""
    assert program(code, tmp_path, PYTHONWARNINGS="ignore") == "0\n"
    assert rows(tmp_path / "d") == [START, ("val", 0, {"a": 1})]
    assert len(list((tmp_path / "d").glob("events*"))) == 2


def test_what_runs_at_exit_after_logx_may_still_log(attempt, tmp_path):
    code = """
import atexit
from farmx.logx import logx
atexit.register(lambda: (logx.metric('val', {'a': 2}), logx.add_scalar('late', 1, 0), logx.msg('bye')))
logx.initialize(tensorboard=True)
logx.metric('val', {'a': 1})"""
    assert program(code, tmp_path, PYTHONWARNINGS="ignore") == "bye\n"
    assert rows(attempt) == [START, ("val", 0, {"a": 1}), ("val", 1, {"a": 2})]


def test_a_directory_removed_before_the_end_is_told_in_one_line(tmp_path):
    code = "import shutil\nfrom farmx.logx import logx\nlogx.initialize('d')\nshutil.rmtree('d')"
    told = "was removed while it was written; what was logged there is lost"
    assert program(code, tmp_path) == f"logx: {tmp_path}/d/metrics.jsonl: {told}\n"


# ---------------------------------------------------------------- where


def test_inside_a_run_each_file_has_its_place(logx, attempt, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (attempt.parent.parent / "hparams.json").write_text('{"lr": 1}')
    logx.initialize(coolname=True, hparams={"lr": 0.1, "name": "it's"})
    logx.metric("val", {"acc": 0.9})
    logx.msg("hello")
    logx.save_model({"state_dict": {}}, 0.9, 0)
    run = attempt.parent.parent
    assert logx.logdir == str(run)
    assert sorted(path.name for path in attempt.iterdir()) == ["args.json", "metrics.jsonl"]
    checkpoints = ["best_checkpoint_ep0.pth", "checkpoints.json"]
    there = ["attempts", *checkpoints, "hparams.json", "last_checkpoint_ep0.pth", "logging.log"]
    assert sorted(path.name for path in run.iterdir()) == there
    assert os.listdir(tmp_path) == ["exp"] and os.listdir(tmp_path / "exp") == ["athletic-wallaby"]
    assert rows(attempt) == [START, ("val", 0, {"acc": 0.9})]
    assert json.loads((attempt / "args.json").read_text()) == {"lr": 0.1, "name": "it's"}
    assert (run / "hparams.json").read_text() == '{"lr": 1}'


@pytest.mark.parametrize(
    ("change", "logdir", "inside"),
    [
        ("pass", None, True),
        ("pass", "{run}", True),
        ("pass", "{run}/", True),
        ("pass", "{run}/../athletic-wallaby", True),
        ("pass", "link", True),
        ("pass", "other", False),
        ("pass", "{run}/sub", False),
        ("(attempt / 'end.json').write_text('{{}}')", None, False),
        ("(attempt / 'end.json').write_text('{{}}')", "{run}", False),
        ("attempt.rmdir()", None, False),
        ("monkeypatch.delenv('FARMX_RUN')", None, False),
        ("monkeypatch.delenv('FARMX_ATTEMPT_DIR')", None, False),
        ("monkeypatch.setenv('FARMX_RUN', '')", None, False),
        ("monkeypatch.setenv('FARMX_RUN', str(attempt.parents[2]))", None, False),
    ],
)
def test_only_a_program_of_a_running_attempt_logs_into_it(
    logx, attempt, tmp_path, monkeypatch, change, logdir, inside
):
    # Outside are: a shell that outlived its attempt, a program that names another directory, half an environment.
    run = attempt.parent.parent
    (tmp_path / "link").symlink_to(run)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(change.format(), {"attempt": attempt, "monkeypatch": monkeypatch})
    logx.initialize(logdir.format(run=run) if logdir else None)
    logx.metric("val", {})
    assert (attempt / "metrics.jsonl").exists() == inside
    outside = tmp_path / (logdir.format(run=run) if logdir else "runs/default")
    assert (outside / "metrics.jsonl").exists() == (not inside)


@pytest.mark.parametrize(
    ("cwd", "logdir", "told"),
    [
        ("{run}/code", "{run}/out", "{run}/out"),
        ("{run}/code", "./out", "{run}/.code/d1gest/out"),
        ("{run}/code", ".", "{run}/.code/d1gest"),
        ("{shared}/code", "./it's \"$HOME\"; größe", "{exp}/.farmx/snapshots/d1gest/code/it's \"$HOME\"; größe"),
        ("{shared}/code", ".", "{exp}/.farmx/snapshots/d1gest/code"),
        ("{run}/code", "link/out", "{run}/.code/d1gest/link/out"),
        ("{exp}", "alias/out", "{exp}/alias/out"),
        ("{run}/code", "{run}/away/out", None),
        ("{run}/code", "{run}", None),
        ("{run}/code", "{run}/attempts/1.0", None),
        ("{run}/code", "{run}2", None),
        ("{run}/code", "{exp}/out", None),
        ("{run}/code", "../../out", "{run}/out"),
        ("{run}/code", "../../../out", None),
        ("{exp}", "out", None),
    ],
)
@pytest.mark.parametrize("state", ["running", "has metrics", "ended", "rank 1"])
def test_metrics_that_go_into_the_run_but_not_to_its_table_are_told(
    logx, attempt, monkeypatch, capfd, cwd, logdir, told, state
):
    run, exp = attempt.parent.parent, attempt.parents[2]
    places = {"run": run, "exp": exp, "shared": exp / "shared"}
    (run / ".code" / "d1gest").mkdir(parents=True)
    (run / "code").symlink_to(".code/d1gest")
    (run / "code" / "link").symlink_to(run)
    (exp / "alias").symlink_to(run)
    (run / "away").symlink_to(exp)
    (exp / ".farmx" / "snapshots" / "d1gest" / "code").mkdir(parents=True)
    if "shared" in cwd:
        attempt = exp / "shared" / "attempts" / "1.0"
        attempt.mkdir(parents=True)
        (exp / "shared" / "code").symlink_to("../.farmx/snapshots/d1gest/code")
        monkeypatch.setenv("FARMX_RUN", str(exp / "shared"))
        monkeypatch.setenv("FARMX_ATTEMPT_DIR", str(attempt))
    if state in ("has metrics", "ended"):
        (attempt / {"has metrics": layout.METRICS, "ended": layout.END}[state]).touch()
    monkeypatch.chdir(cwd.format(**places))
    logx.initialize(logdir.format(**places), global_rank=1 if state == "rank 1" else 0)
    way = "without logdir, or with LOGDIR itself, logx.initialize() puts them there"
    line = f"logx: metrics go to {(told or '').format(**places)}/metrics.jsonl, not into the table of this run; {way}\n"
    assert capfd.readouterr() == ("", line if told and state == "running" else "")


def test_a_nested_program_that_names_its_directory_leaves_the_run_alone(attempt, tmp_path):
    code = """
import subprocess, sys
from farmx.logx import logx
logx.metric('val', {'outer': 1})
inner = "from farmx.logx import logx; logx.initialize('inner', hparams={'a': 1}); logx.metric('val', {'inner': 1})"
subprocess.run([sys.executable, '-c', inner], check=True)
logx.metric('val', {'outer': 2})"""
    program(code, tmp_path)
    assert rows(attempt) == [START, ("val", 0, {"outer": 1}), ("val", 1, {"outer": 2})]
    assert rows(tmp_path / "inner") == [START, ("val", 0, {"inner": 1})]
    assert sorted(path.name for path in attempt.iterdir()) == ["metrics.jsonl"]


def test_a_later_program_of_an_attempt_goes_on_numbering(attempt, tmp_path):
    loop = "for i in range(3): logx.metric('train', {}); logx.metric('val', {}, i)"
    program(f"from farmx.logx import logx\n{loop}", tmp_path)
    with (attempt / "metrics.jsonl").open("a") as file:
        file.write('{"time": 1, "phase": "val", "st')
    program("from farmx.logx import logx\nlogx.metric('test', {'final': 1}); logx.metric('extra', {})", tmp_path)
    raw = (attempt / "metrics.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in raw[-2:]]
    assert [(row["phase"], row["step"]) for row in told] == [("val", 3), ("extra", 0)]
    assert len(raw) == 1 + 6 + 1 + 1 + 2


@pytest.mark.parametrize(
    ("arguments", "env", "made"),
    [
        ({}, {}, "runs/default"),
        ({}, {"FARMX_LOGROOT": "elsewhere"}, "elsewhere/default"),
        ({}, {"FARMX_LOGROOT": "~/logs"}, "{home}/logs/default"),
        ({}, {"FARMX_LOGROOT": ""}, "runs/default"),
        ({"logdir": "a/b c/$HOME"}, {}, "a/b c/$HOME"),
        ({"logdir": Path("p")}, {"FARMX_LOGROOT": "elsewhere"}, "p"),
        ({"coolname": True}, {}, "runs/*-*"),
        ({"coolname": True}, {"FARMX_LOGROOT": "elsewhere"}, "elsewhere/*-*"),
        ({"logdir": "d", "coolname": True}, {"FARMX_LOGROOT": "elsewhere"}, "d"),
    ],
)
def test_outside_a_run_the_directory_is_as_asked(logx, tmp_path, monkeypatch, home, arguments, env, made):
    monkeypatch.chdir(tmp_path)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    logx.initialize(**arguments)
    assert Path(logx.logdir).match(made.format(home=home)) and os.path.isabs(logx.logdir)
    assert sorted(os.listdir(logx.logdir)) == ["logging.log", "metrics.jsonl"]


def test_a_script_that_names_its_directory_finds_there_what_it_saved_also_where_it_asks_for_a_cool_name(logx, tmp_path):
    for epoch in (0, 1):
        logx.initialize(tmp_path / "d", coolname=True)
        assert (logx.resume() or {"epoch": -1})["epoch"] == epoch - 1
        logx.save_model({}, 0.5, epoch)
    assert logx.get_best_checkpoint() == str(tmp_path / "d" / "best_checkpoint_ep0.pth")


def test_cool_names_neither_follow_the_seed_nor_move_it(logx, tmp_path, monkeypatch):
    import random

    monkeypatch.chdir(tmp_path)
    found = set()
    for _ in range(3):
        random.seed(0)
        logx.initialize(coolname=True)
        found.add((logx.logdir, random.random()))
    assert len({logdir for logdir, _ in found}) == 3 and len({drawn for _, drawn in found}) == 1


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
def test_other_ranks_are_silent_and_create_nothing(logx, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv(name, "3")
    folder = tmp_path / "d"
    logx.initialize(folder, hparams={"a": 1}, tensorboard=True)
    logx.metric("val", {"a": 1})
    logx.msg("hello")
    logx.add_scalar("a", 1, 0)
    logx.add_image("a", [[0]], 0)
    logx.tensorboard.add_anything(1)
    with logx.suspend_flush():
        assert logx.save_model({}, 1.0, 0) is None
    assert (logx.rank0, logx.logdir, capsys.readouterr().out, folder.exists()) == (False, str(folder), "", False)


@pytest.mark.parametrize(
    ("env", "rank0"),
    [
        ({"RANK": "0", "SLURM_PROCID": "1"}, True),
        ({"RANK": "1", "SLURM_PROCID": "0"}, False),
        ({"RANK": "high", "SLURM_PROCID": "0"}, True),
        ({"RANK": "", "PMI_RANK": "2"}, False),
        ({}, True),
    ],
)
def test_the_nearest_launcher_tells_the_rank(logx, tmp_path, monkeypatch, env, rank0):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    logx.initialize(tmp_path / "d")
    assert logx.rank0 == rank0
    logx.initialize(tmp_path / "e", global_rank=0)
    assert logx.rank0
    logx.initialize(tmp_path / "f", False, None, False, False, 1)
    assert not logx.rank0 and not (tmp_path / "f").exists()


def test_other_ranks_inside_a_run_need_no_initialize_and_can_resume(logx, attempt, monkeypatch):
    writer = LogX()
    writer.save_model({"state_dict": {"w": 1}}, 0.5, 4)
    writer._close()
    before = sorted(os.listdir(attempt.parent.parent))
    monkeypatch.setenv("RANK", "1")
    assert logx.resume() == {"epoch": 4, "state_dict": {"w": 1}, "__metric": 0.5}
    assert logx.get_best_checkpoint() == str(attempt.parent.parent / "best_checkpoint_ep4.pth")
    assert sorted(os.listdir(attempt.parent.parent)) == before


@pytest.mark.parametrize(
    ("logdir", "message"),
    [
        ("", "initialize: logdir is empty; leave it out, or name a directory"),
        ("{tmp}/file", "{tmp}/file: cannot be made: File exists"),
        ("{tmp}/file/d", "{tmp}/file/d: cannot be made: Not a directory"),
        ("/proc/farmx", "/proc/farmx: cannot be made: No such file or directory"),
        ("{tmp}/taken", "{tmp}/taken/metrics.jsonl: cannot be written: Is a directory"),
        ("{tmp}/full", "{tmp}/full/metrics.jsonl: cannot be written: No space left on device"),
    ],
)
def test_a_directory_that_does_not_work_is_told_at_initialize(logx, tmp_path, logdir, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "metrics.jsonl").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(LogxError) as caught:
        logx.initialize(logdir.format(tmp=tmp_path))
    assert str(caught.value) == message.format(tmp=tmp_path)
    assert not logx.initialized


@pytest.mark.parametrize("hparams, name", [(None, "metrics.jsonl"), ({"a": 1}, "hparams.json")])
def test_a_read_only_directory_is_told_at_initialize(logx, tmp_path, hparams, name):
    tmp_path.chmod(0o500)
    with ordinary_rights(), pytest.raises(LogxError) as caught:
        logx.initialize(tmp_path, hparams=hparams)
    assert str(caught.value) == f"{tmp_path}/{name}: cannot be written: Permission denied"
    assert (logx.initialized, os.listdir(tmp_path)) == (False, [])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("metric", ("val", {})),
        ("msg", ("x",)),
        ("add_scalar", ("x", 1, 0)),
        ("add_image", ("x", [[1]], 0)),
        ("save_model", ({}, 1.0, 0)),
        ("resume", ()),
        ("get_best_checkpoint", ()),
    ],
)
def test_before_initialize_a_call_works_inside_a_run_and_is_told_elsewhere(logx, attempt, monkeypatch, name, arguments):
    inside = LogX()
    getattr(inside, name)(*arguments)
    assert inside.initialized
    inside._close()
    monkeypatch.delenv("FARMX_RUN")
    what = {"add_scalar": "tensorboard.add_scalar"}.get(name, name)
    with pytest.raises(LogxError) as caught:
        getattr(logx, name)(*arguments)
    assert str(caught.value) == f"logx.{what}: logx.initialize() comes first"


def test_a_restart_outside_a_launch_appends_a_start_row_and_counts_from_zero(logx, tmp_path):
    for _ in range(2):
        logx.initialize(tmp_path)
        logx.metric("val", {})
        logx.metric("val", {})
    once = [START, ("val", 0, {}), ("val", 1, {})]
    assert rows(tmp_path) == once * 2


# ---------------------------------------------------------------- hparams, messages


class Namespace:
    def __init__(self, **values):
        self.__dict__.update(values)


@pytest.mark.parametrize(
    ("hparams", "told"),
    [
        ({"lr": 0.1, "flag": True, "none": None, "name": "x"}, {"lr": 0.1, "flag": True, "none": None, "name": "x"}),
        (Namespace(lr=0.1, layers=[64, 64]), {"lr": 0.1, "layers": [64, 64]}),
        ({"t": (1, 2), "d": {1: numpy.float32(0.5)}}, {"t": [1, 2], "d": {"1": 0.5}}),
        ({"nan": float("nan"), "inf": numpy.float64("-inf")}, {"nan": "NaN", "inf": "-Infinity"}),
        ({"path": Path("a b"), "kind": int}, {"path": "a b", "kind": "<class 'int'>"}),
        ({name: name for name in HOSTILE}, {name: name for name in HOSTILE}),
        ({}, {}),
    ],
)
def test_hparams_are_kept_as_json_once(logx, tmp_path, hparams, told):
    logx.initialize(tmp_path, hparams=hparams)
    logx.initialize(tmp_path, hparams={"other": 1})
    assert json.loads((tmp_path / "hparams.json").read_text()) == told


@pytest.mark.parametrize(("hparams", "shown"), [("lr=1", "'lr=1'"), (3, "3"), ([1], "[1]")])
def test_hparams_that_are_no_dict_are_refused_before_anything_is_made(logx, tmp_path, hparams, shown):
    with pytest.raises(LogxError) as caught:
        logx.initialize(tmp_path / "d", hparams=hparams)
    assert str(caught.value) == f"initialize: hparams: {shown} is not a dict"
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("msg", "told"), [("hello", "hello"), (3, "3"), ({"a": None}, "{'a': None}"), ("ä ✓\nb", "ä ✓\nb"), ("", "")]
)
def test_a_message_is_printed_and_kept(logx, tmp_path, capsys, msg, told):
    logx.initialize(tmp_path)
    logx.msg(msg)
    logx.msg("end")
    assert capsys.readouterr().out == f"{told}\nend\n"
    assert (tmp_path / "logging.log").read_text(encoding="utf-8") == f"{told}\nend\n"


# ---------------------------------------------------------------- flushing, resume


@pytest.mark.parametrize("flush_at_end", [True, False])
def test_suspension_ends_however_its_block_does(logx, tmp_path, flush_at_end):
    logx.initialize(tmp_path)
    with pytest.raises(KeyError), logx.suspend_flush(flush_at_end):
        assert not logx.eager_flush
        raise KeyError
    assert logx.eager_flush


@pytest.mark.parametrize(
    ("order", "after"),
    [
        (("train", "train", "val", "save"), {"train": 6, "val": 3}),
        (("train", "train", "save", "val"), {"train": 6, "val": 3}),
        (("save", "new"), {"new": 3}),
        (("save", "train"), {"new": 3}),  # a phase that only the second attempt has
    ],
)
def test_after_a_resume_steps_go_on_past_the_saved_epoch(logx, attempt, order, after):
    for epoch in range(3):
        for what in order:
            if what == "save":
                logx.save_model({"state_dict": {}}, 0.5, epoch)
            elif not (epoch == 2 and order[-1] == what):  # killed after the last save
                logx.metric(what, {})
    logx._close()
    again = LogX()
    assert again.resume() is not None
    for phase in after:
        again.metric(phase, {})
    again._close()
    assert {phase: step for phase, step, _ in rows(attempt)[-len(after) :]} == after


def test_resume_without_a_checkpoint_is_none_and_changes_nothing(logx, tmp_path):
    logx.initialize(tmp_path)
    assert logx.resume() is None
    logx.metric("val", {})
    assert rows(tmp_path) == [START, ("val", 0, {})]


def test_the_names_on_disk_are_those_of_the_layout(logx, tmp_path):
    logx.initialize(tmp_path, hparams={"a": 1})
    logx.save_model({}, 1.0, 0)
    names = {layout.OUTSIDE_METRICS, layout.LOGGING, layout.HPARAMS, layout.CHECKPOINTS}
    assert {path.name for path in tmp_path.iterdir()} == names | {"last_checkpoint_ep0.pth", "best_checkpoint_ep0.pth"}


@pytest.mark.parametrize(
    ("epoch", "metric", "message"),
    [
        (1.5, 0.5, "save_model: epoch 1.5 must be a whole number from 0 on"),
        (-1, 0.5, "save_model: epoch -1 must be a whole number from 0 on"),
        ("1", 0.5, "save_model: epoch: '1' is not a number"),
        (1, "x", "save_model: metric: 'x' is not a number"),
        (1, None, "save_model: metric: None is not a number"),
    ],
)
def test_save_model_refuses_what_it_cannot_name_or_compare(logx, tmp_path, epoch, metric, message):
    logx.initialize(tmp_path)
    with pytest.raises(LogxError) as caught:
        logx.save_model({}, metric, epoch)
    assert str(caught.value) == message
    assert list(tmp_path.glob("*checkpoint*")) == []


def test_a_keep_of_none_is_one_and_of_zero_is_refused(logx, tmp_path):
    def names() -> list[str]:
        return sorted(path.name.removesuffix(".pth").replace("_checkpoint_ep", "") for path in tmp_path.glob("*.pth"))

    logx.initialize(tmp_path)
    for epoch in range(3):
        logx.save_model({}, epoch, epoch, keep=2)
    with pytest.raises(LogxError) as caught:
        logx.save_model({}, 0.5, 3, keep=0)
    assert str(caught.value) == "save_model: keep=0 must be a whole number from 1 on"
    assert names() == ["best1", "best2", "last2"]
    logx.save_model({}, 0.5, 3, keep=None)
    assert names() == ["best2", "last3"]


def test_save_model_takes_what_a_script_has_at_hand_and_leaves_it_alone(logx, tmp_path):
    logx.initialize(tmp_path)
    state = {"state_dict": {"w": [1.0]}, "epoch": 8}
    assert logx.save_model(state, numpy.float32(0.5), numpy.int64(7), True, True) is True
    assert state == {"state_dict": {"w": [1.0]}, "epoch": 8}
    loaded = logx.load_model(tmp_path / "last_checkpoint_ep7.pth")
    assert loaded == ({"w": [1.0]}, {"epoch": 8, "__metric": 0.5})
    with pytest.raises(LogxError, match=r"^save_model: \[1\] is not a dict$"):
        logx.save_model([1], 0.5, 0)


@pytest.mark.parametrize(
    ("metric", "best", "higher", "better"),
    [
        (1, None, True, True),
        (1, None, False, True),
        (2, 1, True, True),
        (1, 1, True, False),
        (1, 2, True, False),
        (1, 2, False, True),
        (2, 1, False, False),
        (float("nan"), None, True, False),
        (float("nan"), 1, False, False),
        (1, float("nan"), True, True),
    ],
)
def test_better_is_strictly_better_and_never_nan(metric, best, higher, better):
    assert LogX.is_better(metric, best, higher) is better
