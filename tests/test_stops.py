"""A stop, a notice or a cancel at any step of a program's start ends the program, and not by a KILL.

A scheduler that stops a job signals every process that it has at that moment, each once. What the job forks a moment
later was told nothing: the one that forks it has to tell it. Each line of that is a step, in each of the processes.
"""

import json

import pytest
from faults import part
from launching import Place, script

WALK = """
from pathlib import Path
from farmx import packed, processes, runner
from farmx.processes import Inbox

run, packs, depth, name, first, stride = json.loads(sys.argv[1])
number = getattr(signal, name)
TRACED = {"work", "_begun", "_begin", "_live", "ready", "execute", "_run_stage", "spawn", "_become"}
FILES = ("packed.py", "runner.py", "processes.py", "<string>")
here = lines = 0


def family(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def forked():
    global here
    here += 1


def strike():
    if os.path.exists(f"{run}/attempts/{step}.0/end.json"):  # all that is left has nothing to do with a start
        return
    Path(run, "struck").touch()
    if number == processes.CANCEL:
        Path(run, f"attempts/{step}.0/cancel").touch()
    others = family(job) if number == signal.SIGTERM else [job]
    for pid in sorted(others, key=lambda pid: pid == os.getpid()):  # ourselves last
        os.kill(pid, number)


def trace(frame, event, _):
    global lines
    if frame.f_code.co_name == "supervise":
        sys.settrace(None)
        return None
    if os.path.basename(frame.f_code.co_filename) not in FILES or frame.f_code.co_name not in TRACED:
        return None
    if number == processes.CANCEL and not os.path.exists(f"{run}/attempts/{step}.0"):
        return trace  # nobody can name it yet
    if event == "line" and here == depth:
        lines += 1
        if lines == step:
            strike()
    return trace


class Held:
    def execute(self, env, ready):
        with Inbox(notice_s=60.0, told=lambda: number == signal.SIGTERM) as inbox:
            ready(inbox)
            return runner.execute(run, f"{step}.0", {}, inbox, grace_s=5.0)

    def cancelled(self):
        return False

    def left(self, pid, status):
        raise AssertionError


def packed_job():
    with Inbox(notice_s=60.0) as inbox:
        outcomes, waiting = packed.work([Held()], [{}], inbox)
        return outcomes[0] if outcomes else runner.Outcome("left", waiting)


step = first + 1 - stride
while step <= 0 or os.path.exists(f"{run}/struck"):
    step += stride
    if os.path.exists(f"{run}/struck"):
        os.unlink(f"{run}/struck")
    if os.fork() == 0:
        job = os.getpid()
        os.register_at_fork(after_in_child=forked)
        sys.settrace(trace)
        outcome = packed_job() if packs else Held().execute({}, lambda inbox: None)
        sys.settrace(None)
        print(json.dumps([outcome.state, outcome.code]), flush=True)
        os._exit(0)
    if os.WIFSIGNALED(os.wait()[1]):
        print(json.dumps(["gone", None]), flush=True)  # before it could hear anything
"""
PROGRAM = "trap 'exit 7' TERM; for i in $(seq 20); do sleep 0.025; done"
JOBS = [
    (False, 0, "SIGTERM", 20), (True, 0, "SIGTERM", 10), (True, 1, "SIGTERM", 30), (True, 2, "SIGTERM", 10),
    (False, 0, "SIGUSR2", 20), (True, 0, "SIGUSR2", 10), (False, 0, "SIGUSR1", 20),
]  # fmt: skip


@pytest.mark.parametrize(("packed", "depth", "number", "least"), JOBS)
def test_a_stop_at_any_step_of_a_start_reaches_the_program(tmp_path, packed, depth, number, least):
    run = Place(tmp_path).shell(PROGRAM)
    first, stride = part(3)
    told = json.dumps([run, packed, depth, number, first, stride])
    *struck, last = map(json.loads, script(WALK, told).splitlines())
    assert last == ["done", 0]  # nothing was struck
    assert len(struck) >= least // stride
    assert [first + 1 + stride * place for place, (_, code) in enumerate(struck) if code == 0] == []
