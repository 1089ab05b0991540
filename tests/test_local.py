"""local: slots, the foreground and the pool of this machine, whatever is killed."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import PATIENCE_S, Place, end, exists, gone, number, output, python, script, state, until

from farmx import layout, processes, runner, whereabouts
from farmx.errors import FarmError
from farmx.farms import base, local, shares, worker
from farmx.farms.gpus import Gpu, Slot
from farmx.spec import Attempt, Job, Submission

# ---------------------------------------------------------------- running


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


FARM = """
from farmx.farms import local
from farmx.farms.gpus import Gpu, Slot
from farmx.processes import Inbox, Console
from farmx.spec import Job, Submission
import farmx.runner

class Told:
    tick_s = 60.0
    def say(self, *words):
        print(json.dumps(words), flush=True)
    def tick(self): pass
    def waiting(self, job, slot, why): self.say("waiting", os.path.basename(job.run), slot, why)
    def started(self, job, slot): self.say("started", os.path.basename(job.run), slot)
    def ended(self, job, slot, outcome): self.say("ended", os.path.basename(job.run), slot, outcome.state)
    def stopping(self, running, now): self.say("stopping", running, now)
    def held(self, waiting, why): self.say("held", waiting, why)

given = json.loads(sys.argv[1])
jobs = tuple(Job(*job) for job in given["jobs"])
submission = Submission("s", given["path"], jobs)
local.announce(submission)
with Inbox() as inbox:
    if given["slots"] is None:
        outcomes = local.foreground(submission, Told(), inbox, Console)
    else:
        places = [Slot(name, tuple(Gpu(*each) for each in gpus), idle) for name, gpus, idle in given["slots"]]
        outcomes = local.pool(submission, places, Told(), inbox)
print(json.dumps([outcome.state for outcome in outcomes]))
"""


def farm(place: Place, *runs: str, slots: object = 1, number: str = "1.0", own_session: bool = False,
         before: str = "", claimed: str | None = None, **more: object) -> subprocess.Popen:  # fmt: skip
    """A process that runs these in `slots` (a number of them, their list, or None for the foreground).

    before: what it does first.  claimed: which generation of which point each of them is.
    """
    handed = place.submission(*(Job(run, number) for run in runs), name=f"s{time.monotonic_ns()}")
    if claimed is not None:
        Path(handed.path, "claimed").write_text(claimed)
    places = [Slot(str(index)) for index in range(slots)] if isinstance(slots, int) else slots
    given = {"jobs": [list(job) for job in handed.jobs], "path": handed.path, "slots": places}
    return python(before + FARM, json.dumps(given), start_new_session=own_session, **more)


def finish(process: subprocess.Popen) -> tuple[list, list[str]]:
    """What its watch was told, in order, and how its jobs ended."""
    with process:
        *told, states = map(json.loads, process.stdout.read().splitlines())
    assert process.returncode == 0
    return told, states


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def owner(run: str) -> dict:
    return until(lambda: layout.read_or_none(f"{run}/attempts/1.0/owner.json", 1))


WAIT = "echo $$ > LOGDIR/ready; while [ ! -e LOGDIR/go ]; do sleep 0.01; done"


@pytest.mark.parametrize("slots", [None, 1, 2, 9])
def test_every_job_is_run_once_and_its_end_told(place, slots):
    runs = [place.shell(text, name) for name, text in (("a", "exit 0"), ("b", "exit 3"), ("c", "kill -9 $$"))]
    runner.take(place.run(name="d"), "1.0", {})
    runs.append(str(place.experiment / "d"))
    told, states = finish(farm(place, *runs, slots=slots))
    wanted = {"a": "done", "b": "failed", "c": "failed", "d": "held"}
    assert sorted(states) == sorted(wanted.values())
    assert sorted(words[1] for words in told if words[0] == "started") == ["a", "b", "c", "d"]
    assert {words[1]: words[3] for words in told if words[0] == "ended"} == wanted
    if slots in (None, 1):
        slot = "" if slots is None else "0"
        assert told == [each for name, state in wanted.items()
                        for each in (["started", name, slot], ["ended", name, slot, state])]  # fmt: skip
    assert [(end(run) or {}).get("state") for run in runs] == ["done", "failed", "failed", None]
    assert {word: owner(runs[0])[word] for word in ("farm", "submission")} == {"farm": "local", "submission": "s"}


UNREADABLE = "os.mkdir(json.loads(sys.argv[1])['path'] + '/claimed')\n"
CLAIMS = [  # what the submission says of the run -> what becomes of it
    ("{point}.1\n", "done"),
    ("", "done"),
    (None, "done"),
    ("p1-another.1\n", "held"),
    ("{point}.2\n", "held"),
]


@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize(("claimed", "state"), CLAIMS)
def test_a_run_that_has_the_name_of_a_deleted_one_is_not_begun_in_its_place(place, claimed, state, slots):
    run = place.run()
    point = layout.read_json(f"{run}/run.json", layout.RUN_FORMAT)["point"]
    more = {} if claimed is None else {"claimed": claimed.format(point=point)}
    told, states = finish(farm(place, run, slots=slots, **more))
    assert (states, told[-1][3], os.path.exists(f"{run}/attempts")) == ([state], state, state == "done")


@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize(("kept", "state"), [(True, "done"), (False, "interrupted")])
def test_a_run_that_was_renamed_while_it_waited_begins_and_a_copy_of_one_does_not(place, kept, state, slots):
    run, moved = place.run(), place.experiment / "it's; renamed ✓"
    point = layout.read_json(f"{run}/run.json", layout.RUN_FORMAT)["point"]
    (line,) = whereabouts.lines(whereabouts.inodes(str(place.experiment)), [(run, f"{point}.1")]).splitlines()
    shutil.copytree(run, place.experiment / "a-backup")
    if kept:
        os.rename(run, moved)
    else:
        shutil.rmtree(run)
    told, states = finish(farm(place, run, slots=slots, claimed=line))
    assert (states, told[-1][3], os.path.exists(f"{moved}/attempts")) == ([state], state, kept)
    assert not (place.experiment / "a-backup/attempts").exists()


@pytest.mark.parametrize("slots", [None, 1])
def test_whom_a_run_was_is_read_before_any_begins(place, slots):
    run = place.run()
    with farm(place, run, slots=slots, before=UNREADABLE, stderr=subprocess.PIPE) as process:
        assert process.stderr.read().splitlines()[-1].endswith("/claimed: cannot be read: Is a directory")
    assert (process.returncode, os.path.exists(f"{run}/attempts")) == (1, False)


FAILING_DISK = """
real = os.listdir
def failing(path="."):
    if str(path).endswith("submissions"):
        raise OSError(5, "Input/output error", path)
    return real(path)
os.listdir = failing
"""


@pytest.mark.parametrize("slots", [None, 1])
def test_submissions_that_cannot_be_listed_stop_no_run(place, slots):
    runs = [place.shell("exit 3", name, breaker=1) for name in "ab"]
    told, states = finish(farm(place, *runs, slots=slots, before=FAILING_DISK))
    assert (states, [words[0] for words in told]) == (["failed", "failed"], ["started", "ended"] * 2)


def test_a_slot_gives_its_gpus_to_one_run_at_a_time_and_no_more_run_than_there_are_slots(place, tmp_path):
    text = ('echo "$CUDA_VISIBLE_DEVICES" > LOGDIR/gpu; mkdir "$SIDE/$CUDA_VISIBLE_DEVICES" || exit 1; sleep 0.03; '
            'rmdir "$SIDE/$CUDA_VISIBLE_DEVICES"')  # fmt: skip
    runs = [place.shell(text, name, env={"SIDE": str(tmp_path)}) for name in "abcdefgh"]
    slots = [Slot("gpu 0+1", (Gpu("0", "0"), Gpu("1", "1"))), Slot("gpu 2", (Gpu("2", "2"),))]
    told, states = finish(farm(place, *runs, slots=slots))
    assert states == ["done"] * 8
    used = {os.path.basename(run): Path(run, "gpu").read_text().strip() for run in runs}
    assert set(used.values()) == {"0,1", "2"}
    slots_used = {run: {"0,1": "gpu 0+1", "2": "gpu 2"}[gpus] for run, gpus in used.items()}
    assert {words[1]: words[2] for words in told if words[0] == "ended"} == slots_used


def nobody_waits() -> shares.Patience:
    return shares.Patience(lambda seconds: False, lambda why: None)


GPU_0 = Slot("gpu 0", (Gpu("0", "0"),))


def test_a_pool_that_ends_while_it_waits_for_a_gpu_leaves_its_runs_as_they_were(place):
    runs = [place.run(name=name) for name in "ab"]
    grip = shares.acquire(GPU_0, "sweep/x", nobody_waits())
    process = farm(place, *runs, slots=[GPU_0])
    waits = json.loads(process.stdout.readline())
    assert waits == ["waiting", "a", "gpu 0", f"process {os.getpid()} uses it for sweep/x"]
    process.terminate()
    assert finish(process) == ([["stopping", 1, False]], [])
    assert not any(os.path.exists(f"{run}/attempts") for run in runs)
    grip.close()
    assert finish(farm(place, *runs, slots=[GPU_0]))[1] == ["done", "done"]


def test_a_run_keeps_its_gpu_until_its_program_has_ended_and_no_longer(place):
    run = place.shell(WAIT)
    process = farm(place, run, slots=[GPU_0])
    exists(f"{run}/ready")
    assert shares.acquire(GPU_0, "sweep/x", nobody_waits()) is None
    Path(run, "go").touch()
    assert finish(process)[1] == ["done"]
    shares.acquire(GPU_0, "sweep/x", nobody_waits()).close()


def test_a_worker_that_is_killed_lets_go_of_its_gpu(place):
    runs = [place.shell(WAIT, "a"), place.run(name="b")]
    process = farm(place, *runs, slots=[GPU_0])
    exists(f"{runs[0]}/ready")
    os.kill(owner(runs[0])["pid"], signal.SIGKILL)
    assert finish(process)[1] == ["interrupted", "done"]


def test_locks_that_are_spoilt_while_a_pool_works_interrupt_its_runs(place, monkeypatch, tmp_path):
    (tmp_path / "locks").touch()
    monkeypatch.setenv("FARMX_LOCKS", str(tmp_path / "locks"))
    told, states = finish(farm(place, place.run(), slots=[GPU_0]))
    assert states == ["interrupted"] and told[0][:2] == ["ended", "one"]


def test_runs_of_a_pool_cannot_read_what_is_typed(place):
    run = place.shell("cat; echo end")
    assert finish(farm(place, run))[1] == ["done"]
    assert output(run) == "end\n"


def test_a_run_that_cannot_be_taken_does_not_stop_the_others(place):
    runs = [place.run(name=name) for name in "ab"]
    os.rename(runs[0], f"{runs[0]} renamed")
    for slots in (None, 1):
        told, states = finish(farm(place, *runs, slots=slots, number="2.0" if slots else "1.0"))
        assert states == ["interrupted", "done"]
    assert not os.path.exists(runs[0])


def test_the_record_of_a_submission_names_its_process_and_is_touched(place, tmp_path):
    handed = place.submission()
    job = local.announce(handed)
    path = Path(handed.path, layout.JOB)
    assert json.loads(path.read_text()) == job
    assert {name: job[name] for name in ("format", "farm", "pid")} == {"format": 1, "farm": "local", "pid": os.getpid()}
    assert base.submission_alive(handed.path, job)
    os.utime(path, (1, 1))
    worker.Handed(handed.id, handed.path, layout.LOCAL).beat()
    assert path.stat().st_mtime > 1
    path.unlink()
    worker.Handed(handed.id, handed.path, layout.LOCAL).beat()


# ---------------------------------------------------------------- killed


def test_a_worker_that_is_killed_is_replaced_and_the_rest_goes_on(place):
    runs = [place.shell(f"sh -c 'echo $$ > LOGDIR/child; exec sleep 100' & {WAIT}; kill %1", "a"),
            *(place.shell("true", name) for name in "bc")]  # fmt: skip
    process = farm(place, *runs)
    pids = [number(f"{runs[0]}/{name}") for name in ("ready", "child")]
    os.kill(owner(runs[0])["pid"], signal.SIGKILL)
    told, states = finish(process)
    assert states == ["interrupted", "done", "done"]
    assert told == [
        ["started", "a", "0"], ["ended", "a", "0", "interrupted"],
        ["started", "b", "0"], ["ended", "b", "0", "done"],
        ["started", "c", "0"], ["ended", "c", "0", "done"],
    ]  # fmt: skip
    for pid in pids:
        gone(pid)
    assert end(runs[0]) is None


def test_a_worker_that_is_killed_while_it_waits_costs_no_other(place):
    runs = [place.shell(WAIT, "a"), place.run(name="b")]
    process = farm(place, *runs, slots=2)
    exists(f"{runs[0]}/ready")
    while json.loads(process.stdout.readline())[:2] != ["ended", "b"]:
        continue
    busy = owner(runs[0])["pid"]
    for pid in children(process.pid):
        if pid != busy:
            os.kill(pid, signal.SIGKILL)
    Path(runs[0], "go").touch()
    assert sorted(finish(process)[1]) == ["done", "done"]


def test_a_pool_that_is_killed_takes_its_programs_along_and_they_are_interrupted(place):
    runs = [place.shell(f"trap 'echo bye; exit 0' TERM; {WAIT}", name) for name in "ab"] + [place.run(name="c")]
    process = farm(place, *runs, slots=2)
    for run in runs[:2]:
        exists(f"{run}/ready")
    process.kill()
    process.wait()
    process.stdout.close()  # its workers have it too
    assert [until(lambda run=run: end(run))["state"] for run in runs[:2]] == ["interrupted", "interrupted"]
    assert [output(run).endswith("bye\n") for run in runs[:2]] == [True, True]
    for run in runs[:2]:
        gone(owner(run)["pid"])
    assert not os.path.exists(f"{runs[2]}/attempts")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("slots", [None, 2])
def test_a_signal_ends_what_runs_and_what_has_not_begun_stays_staged(place, slots, name):
    runs = [place.shell(f"trap 'echo bye; exit 7' TERM; {WAIT}", each) for each in "abc"]
    process = farm(place, *runs, slots=slots)
    begun = runs[: slots or 1]
    for run in begun:
        exists(f"{run}/ready")
    process.send_signal(getattr(signal, name))
    told, states = finish(process)
    assert states == ["interrupted"] * len(begun)
    assert [end(run)["state"] for run in begun] == states
    assert [os.path.exists(f"{run}/attempts") for run in runs] == [run in begun for run in runs]
    assert [words for words in told if words[0] == "stopping"] == ([["stopping", 2, False]] if slots else [])


def test_a_second_signal_kills(place):
    runs = [place.shell(f"trap 'echo > LOGDIR/asked' TERM; {WAIT}", name) for name in "ab"]
    process = farm(place, *runs, slots=2)
    for run in runs:
        exists(f"{run}/ready")
    process.terminate()
    for run in runs:
        exists(f"{run}/asked")
    process.terminate()
    told, states = finish(process)
    assert states == ["interrupted"] * 2 and [end(run)["signal"] for run in runs] == ["SIGKILL"] * 2
    assert [words for words in told if words[0] == "stopping"] == [["stopping", 2, False], ["stopping", 2, True]]


def test_ctrl_c_which_the_terminal_sends_to_all_reaches_a_program_once(place):
    run = place.shell(f"trap 'echo asked; sleep 0.1; exit 7' TERM; {WAIT}")
    process = farm(place, run, own_session=True)
    exists(f"{run}/ready")
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process)[1] == ["interrupted"]
    assert end(run)["code"] == 7


def test_a_signal_the_moment_a_pool_begins_is_not_lost(place, tmp_path):
    """Whether it comes before, between or after the starts of the workers: nothing runs on for ever."""
    runs = [place.shell(WAIT, name) for name in "ab"]
    code = FARM.replace("with Inbox() as inbox:", """
start = os.posix_spawn
def signalled(*words, **more):
    pid = start(*words, **more)
    os.kill(os.getpid(), 15)  # as early as can be: the worker has not run a line yet
    return pid
os.posix_spawn = signalled
with Inbox() as inbox:""")
    handed = place.submission(*(Job(run, "1.0") for run in runs))
    given = {"jobs": [list(job) for job in handed.jobs], "path": handed.path, "slots": [["0", [], 0], ["1", [], 0]]}
    told, states = finish(python(code, json.dumps(given)))
    assert set(states) <= {"interrupted"}
    assert not [run for run in runs if os.path.exists(f"{run}/go")]


def test_a_worker_that_is_stopped_before_its_first_line_leaves_its_run_as_it_was(place):
    run = place.shell(WAIT)
    handed = place.submission(Job(run, "1.0"))
    code = """
import signal
from farmx.farms.gpus import Slot
from farmx.farms.worker import Handed, Worker
from farmx.spec import Job
given = json.loads(sys.argv[1])
start = os.posix_spawn
def stopped(*words, **more):
    pid = start(*words, **more)
    os.kill(pid, signal.SIGTERM)
    return pid
os.posix_spawn = stopped
worker = Worker(Slot("0"), Handed("s", given[1], "local"))
worker.start(Job(*given[0]))
print(worker.hear(), worker.hear())
worker.close()
"""
    told, _ = python(code, json.dumps([[run, "1.0"], handed.path])).communicate(timeout=PATIENCE_S)
    assert told == "[['left']] None\n"
    assert not os.path.exists(f"{run}/attempts")


def test_what_the_pools_own_process_was_about_to_print_is_printed_once(place):
    run = place.run()
    process = farm(place, run)
    finish(process)
    code = FARM.replace("given = json", "sys.stdout.write('mine\\n')\ngiven = json").replace(", flush=True", "")
    runs = [place.run(name=name) for name in "xy"]
    handed = place.submission(*(Job(run, "1.0") for run in runs))
    given = {"jobs": [list(job) for job in handed.jobs], "path": handed.path, "slots": [["0", [], 0], ["1", [], 0]]}
    with python(code, json.dumps(given)) as process:
        assert process.stdout.read().count("mine\n") == 1


def test_a_bug_in_a_worker_keeps_its_traceback(place):
    run = place.run()
    handed = place.submission(Job(run, "1.0"))
    slots = [["gpu 0", [["0", "0", "x"]], 0]]  # nobody makes such a GPU
    given = {"jobs": [[run, "1.0"]], "path": handed.path, "slots": slots}
    with python(FARM, json.dumps(given), stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.read().splitlines()[-1]) == ["interrupted"]
        assert "TypeError: both arguments should be Rational instances" in process.stderr.read()


def test_a_worker_imports_nothing_that_lies_around(place, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('not ours')\n")
    monkeypatch.chdir(tmp_path)
    run = place.run(name="größe \udcff 'x' $HOME; é\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    hired = worker.Worker(Slot("0"), worker.Handed("s", place.submission().path, "local"))
    hired.start(Job(run, "1.0"))
    said = [hired.hear()]
    while said[-1] and said[-1][-1][0] != worker.ENDED:
        said.append(hired.hear())
    hired.close()
    assert [line[0] for lines in said for line in lines] == [worker.BEGINS, worker.ENDED]
    assert end(run)["state"] == "done"


def test_a_worker_that_cannot_be_started_is_told(monkeypatch, tmp_path):
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(FarmError) as caught:
        worker.Worker(Slot("0"), worker.Handed("s", str(tmp_path), "local"))
    assert str(caught.value) == f"{tmp_path}/gone: a worker of the pool cannot be started: No such file or directory"
    assert len(os.listdir("/proc/self/fd")) == len(before)


SCARCE = """
import resource
most = max(map(int, os.listdir("/proc/self/fd"))) + 32
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
"""


def test_a_pool_that_cannot_have_all_of_its_workers_does_with_those_it_has(place):
    names = [f"n{index:02}" for index in range(24)]
    told, states = finish(farm(place, *(place.run(name=name) for name in names), slots=24, before=SCARCE))
    assert states == ["done"] * 24
    (waits,) = (words for words in told if words[0] == "waiting")
    why = f"{sys.executable}: a worker of the pool cannot be started: Too many open files"
    assert waits == ["waiting", f"n{int(waits[2]):02}", waits[2], why]


def test_where_nothing_limits_how_many_files_are_open_a_worker_is_started(monkeypatch, tmp_path):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    hired = worker.Worker(Slot("0"), worker.Handed("s", str(tmp_path), "local"))
    hired.close()
    gone(hired.pid)


def test_a_pool_of_more_workers_than_a_select_takes_hears_them_all():
    with processes.Inbox() as inbox:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        reader, writer = os.pipe()
        high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1500)
        try:
            assert inbox.wait([high], 0) == []
            os.write(writer, b"x")
            assert inbox.wait([reader, high], 60) == [reader, high]
            os.close(writer)
            assert inbox.wait([high], 60) == [high]
        finally:
            for each in (reader, high):
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---------------------------------------------------------------- a worker that goes


def worker_of(process: subprocess.Popen) -> int:
    """The only worker of a pool, once it is there."""
    (pid,) = until(lambda: children(process.pid))
    return pid


def test_a_worker_that_is_told_to_end_costs_the_run_it_had_and_no_other(place):
    runs = [place.shell(WAIT, "a"), *(place.run(name=name) for name in "bcde")]
    process = farm(place, *runs)
    exists(f"{runs[0]}/ready")
    os.kill(owner(runs[0])["pid"], signal.SIGTERM)
    told, states = finish(process)
    assert states == ["interrupted", *["done"] * 4]
    ends = {"a": "interrupted", "b": "done", "c": "done", "d": "done", "e": "done"}
    assert told == [each for name, state in ends.items()
                    for each in (["started", name, "0"], ["ended", name, "0", state])]  # fmt: skip


def test_a_worker_that_goes_harms_no_run_of_another_pool(place):
    runs = [place.shell(WAIT, name) for name in "ab"]
    other = farm(place, runs[1])
    process = farm(place, *runs)
    for run in runs:
        exists(f"{run}/ready")
    os.kill(owner(runs[0])["pid"], signal.SIGTERM)
    assert finish(process)[1] == ["interrupted", "held"]
    Path(runs[1], "go").touch()
    assert finish(other)[1] == ["done"]


STOPPED = "start = os.posix_spawn\ndef stopped(*words, **more):\n    pid = start(*words, **more)\n"
STOPPED += "    os.kill(pid, signal.SIGSTOP)\n    return pid\nos.posix_spawn = stopped\n"


def test_a_worker_that_is_killed_before_it_has_its_run_harms_nobody_who_has_that(place):
    run = place.shell(WAIT)
    other = farm(place, run)
    exists(f"{run}/ready")
    process = farm(place, run, before=STOPPED)
    worker = worker_of(process)
    until(lambda: state(worker) == "T")
    os.kill(worker, signal.SIGKILL)
    assert finish(process)[1] == ["interrupted"]
    Path(run, "go").touch()
    assert finish(other)[1] == ["done"]


def test_a_worker_that_is_told_to_end_while_it_waits_for_a_gpu_is_replaced_and_its_run_waits_on(place):
    run, grip = place.run(), shares.acquire(GPU_0, "sweep/x", nobody_waits())
    process = farm(place, run, slots=[GPU_0])
    waits = ["waiting", "one", "gpu 0", f"process {os.getpid()} uses it for sweep/x"]
    assert json.loads(process.stdout.readline()) == waits
    os.kill(worker_of(process), signal.SIGTERM)
    assert json.loads(process.stdout.readline()) == waits
    grip.close()
    assert finish(process) == ([["started", "one", "gpu 0"], ["ended", "one", "gpu 0", "done"]], ["done"])


UNSEEN = """
import errno
listed = os.listdir
def refused(path="."):
    if path == "/proc":
        raise PermissionError(errno.EACCES, "processes are nobody's business", path)
    return listed(path)
os.listdir = refused
"""


def test_what_goes_wrong_about_a_worker_that_was_killed_is_told_and_ends_the_others(place):
    runs = [place.shell(WAIT, name) for name in "ab"]
    process = farm(place, *runs, slots=2, before=UNSEEN, stderr=subprocess.PIPE)
    for run in runs:
        exists(f"{run}/ready")
    os.kill(owner(runs[0])["pid"], signal.SIGKILL)
    with process:
        told = process.stderr.read().splitlines()
    assert told[-1] == "PermissionError: [Errno 13] processes are nobody's business: '/proc'"
    assert "During handling of the above exception, another exception occurred:" not in told
    assert end(runs[1])["state"] == "interrupted"


def test_a_pool_says_twice_a_beat_that_it_holds_its_submission_though_nothing_happens(place):
    run = place.shell(WAIT)
    process = farm(place, run, before="import farmx.processes\nfarmx.processes.BEAT_S = 0.02\n")
    exists(f"{run}/ready")
    (record,) = place.experiment.glob(".farmx/submissions/*/job.json")
    for _ in range(4):  # the first may have been due when the run began
        os.utime(record, (1, 1))
        until(lambda: record.stat().st_mtime > 1)
    Path(run, "go").touch()
    assert finish(process)[1] == ["done"]


def test_a_worker_for_which_there_are_no_pipes_is_told_and_leaves_none(tmp_path):
    code = """
import resource
from farmx.errors import FarmError
from farmx.farms.gpus import Slot
from farmx.farms.worker import Handed, Worker
before = os.listdir("/proc/self/fd")
for more in range(4):
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + more, 4096))
    try:
        Worker(Slot("0"), Handed("s", sys.argv[1], "local"))
    except FarmError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
print(len(os.listdir("/proc/self/fd")) - len(before))
"""
    *told, left = script(code, str(tmp_path)).splitlines()
    assert (told, left) == ([f"{sys.executable}: a worker of the pool cannot be started: Too many open files"] * 4, "0")


# ---------------------------------------------------------------- cancel


def test_cancel_ends_the_run_it_names_and_the_pool_goes_on(place):
    runs = [place.shell(WAIT, "a"), place.run(name="b")]
    process = farm(place, *runs)
    exists(f"{runs[0]}/ready")
    local.cancel(Attempt(f"{runs[0]}/attempts/1.0", (1, 0), owner(runs[0]), None))
    told, states = finish(process)
    assert states == ["cancelled", "done"] and end(runs[0])["state"] == "cancelled"


@pytest.mark.parametrize("change", [{"birth": "1"}, {"boot": "x"}, {"pid": None}])
def test_cancel_asks_nobody_but_the_owner(tmp_path, change):
    with processes.Inbox() as inbox:
        local.cancel(Attempt(str(tmp_path), (1, 0), {**processes.this(), **change}, None))
        inbox.wait([], 0)
        assert not inbox.cancelled
        local.cancel(Attempt(str(tmp_path), (1, 0), processes.this(), None))
        assert inbox.cancelled


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"pids": "pid:[1]"}])
def test_cancel_leaves_word_for_an_owner_on_another_host_or_in_a_container(tmp_path, change):
    owner = {**processes.this(), **change}
    with processes.Inbox() as inbox:
        local.cancel(Attempt(str(tmp_path), (1, 0), owner, None))
        assert not inbox.cancelled
    assert [path.name for path in tmp_path.iterdir()] == [layout.CANCEL]


def test_cancel_that_can_leave_no_word_says_so(tmp_path):
    with pytest.raises(FarmError) as caught:
        local.cancel(Attempt(str(tmp_path / "gone"), (1, 0), processes.this(), None))
    assert str(caught.value) == f"{tmp_path}/gone/cancel: No such file or directory"


def test_a_cancel_that_comes_when_its_run_has_ended_ends_no_other(place):
    runs = [place.run(name="a"), place.shell(WAIT, "b")]
    process = farm(place, *runs)
    exists(f"{runs[1]}/ready")
    late = owner(runs[1])  # the worker that a was in is at b by now
    local.cancel(Attempt(f"{runs[0]}/attempts/1.0", (1, 0), late, None))
    Path(runs[1], "go").touch()
    told, states = finish(process)
    assert states == ["done", "done"]


def test_a_submission_is_written_before_anybody_is_called(place):
    runs = [place.run(name=name) for name in ("a", "größe-ü")]
    handed = place.submission(Job(runs[0], "1.0"), Job(runs[1], "12.3"))
    assert handed == Submission("s", f"{place.experiment}/.farmx/submissions/s", handed.jobs)
    assert Path(handed.path, "runs").read_text() == "1.0 a\n12.3 größe-ü\n"
    assert layout.runs_of(handed.path) == [("a", (1, 0)), ("größe-ü", (12, 3))]
