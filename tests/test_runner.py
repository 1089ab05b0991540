"""runner: who gets an attempt, the run's own code, what a program finds, how its end is told whatever happens."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from itertools import chain, repeat
from pathlib import Path

import pytest
from launching import (
    PLACE,
    ROOT,
    Place,
    end,
    events,
    execute,
    exists,
    finish,
    gone,
    number,
    output,
    python,
    script,
    start,
    state,
    tree,
    until,
)
from rights import ordinary_rights

from farmx import layout, outfit, processes, runner

FACTS = {"farm": "local", "submission": "s"}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def hostile(tmp_path):
    return Place(tmp_path / PLACE)


def owner(run: str, number: str = "1.0") -> dict:
    return json.loads(Path(run, "attempts", number, "owner.json").read_text())


# ---------------------------------------------------------------- taking an attempt


def test_of_twenty_processes_one_gets_the_attempt_and_the_others_hear_who(place):
    run = place.run()
    code = """
from farmx import runner
ready, go = os.pipe()
answers, told = os.pipe()
for _ in range(20):
    if os.fork() == 0:
        os.close(go)
        os.read(ready, 1)  # all begin when the parent closes its end
        taken, owner = runner.take(sys.argv[1], "1.0", {})
        os.write(told, json.dumps([os.getpid(), taken, owner["pid"]]).encode() + b"\\n")
        os._exit(0)
os.close(go)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
os.close(told)
print(os.fdopen(answers).read())
"""
    answers = [json.loads(line) for line in script(code, run).split("\n") if line]
    winners = [pid for pid, taken, _ in answers if taken == f"{run}/attempts/1.0"]
    losers = [holder for _, taken, holder in answers if taken is None]
    assert (len(answers), len(winners), losers) == (20, 1, winners * 19)
    assert os.listdir(f"{run}/attempts") == ["1.0"]
    assert sorted(os.listdir(f"{run}/attempts/1.0")) == [".end.json", "owner.json"]


def test_an_owner_says_who_where_and_since_when(place):
    run = place.run()
    before = time.time()
    taken, told = runner.take(run, "1.0", {"farm": "local", "submission": "x"})
    assert taken == f"{run}/attempts/1.0"
    started = told["started"]
    assert before <= started <= time.time()
    assert told == owner(run) == {
        "format": 1,
        "host": socket.gethostname(),
        "machine": processes.machine(),
        "boot": processes.boot_id(),
        "pid": os.getpid(),
        "birth": processes.birth(os.getpid()),
        "pids": os.readlink("/proc/self/ns/pid"),
        "path": taken,
        "started": started,
        "ordinal": 1,
        "farm": "local",
        "submission": "x",
    }  # fmt: skip


def test_an_attempt_that_is_taken_twice_is_not_given_again_even_to_its_owner(place):
    run = place.run()
    _, first = runner.take(run, "1.0", {})
    assert runner.take(run, "1.0", {}) == (None, first)
    assert os.listdir(f"{run}/attempts") == ["1.0"]


def refusing(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """No directory can be renamed from now on."""

    def refuse(source: str, *_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error), source)

    monkeypatch.setattr(os, "rename", refuse)


@pytest.mark.parametrize("error", [errno.EEXIST, errno.ENOTEMPTY, errno.EPERM])  # as sshfs says it
def test_an_attempt_that_somebody_has_is_not_given_in_whichever_words_the_file_system_says_so(
    place, monkeypatch, error
):
    run = place.run()
    _, first = runner.take(run, "1.0", {})
    refusing(monkeypatch, error)
    assert runner.take(run, "1.0", {}) == (None, first)
    assert os.listdir(f"{run}/attempts") == ["1.0"]


@pytest.mark.parametrize("error", [errno.EEXIST, errno.ENOTEMPTY])
def test_an_attempt_that_somebody_has_is_not_given_where_a_look_still_says_that_nothing_is_there(
    place, monkeypatch, error
):
    run = place.run()
    _, first = runner.take(run, "1.0", {})
    refusing(monkeypatch, error)
    monkeypatch.setattr(os.path, "isdir", lambda path: False)  # as NFS may, which remembers what was not there
    assert runner.take(run, "1.0", {}) == (None, first)
    assert os.listdir(f"{run}/attempts") == ["1.0"]


@pytest.mark.parametrize(("error", "had"), [(errno.EPERM, False), (errno.EACCES, False), (errno.EIO, False),
                                            (errno.EACCES, True), (errno.EIO, True)])  # fmt: skip
def test_an_attempt_that_cannot_be_made_is_an_error_where_nothing_says_that_somebody_has_it(
    place, monkeypatch, error, had
):
    run = place.run()
    if had:
        runner.take(run, "1.0", {})
    refusing(monkeypatch, error)
    with pytest.raises(OSError) as caught:
        runner.take(run, "1.0", {})
    assert caught.value.errno == error


@pytest.mark.parametrize("error", [errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT])
def test_a_rename_that_a_file_server_repeats_is_still_ours(place, monkeypatch, error):
    run = place.run()
    rename = os.rename

    def repeated(source: str, target: str, **more: object) -> None:
        rename(source, target, **more)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "rename", repeated)
    taken, told = runner.take(run, "1.0", {})
    assert taken == f"{run}/attempts/1.0" and owner(run) == told
    assert os.listdir(f"{run}/attempts") == ["1.0"]


REPEATED = """
from farmx import processes, runner
rename = os.rename
def repeated(source, target, **more):
    rename(source, target, **more)
    raise FileNotFoundError(2, "No such file or directory", source, None, target)
os.rename = repeated
with processes.Inbox() as inbox:
    print([runner.execute(sys.argv[1], number, {}, inbox)[:2] for number in ("1.0", "2.0")])
"""


def test_where_a_file_server_repeats_every_rename_a_run_is_executed_and_its_end_recorded(place):
    run = place.shell("exit 3")
    for name in (layout.LAUNCH, layout.HPARAMS):  # which the runner makes
        os.unlink(f"{run}/{name}")
    assert script(REPEATED, run) == "[('failed', 3), ('failed', 3)]\n"
    assert [end(run, number)["state"] for number in ("1.0", "2.0")] == ["failed", "failed"]
    assert os.readlink(f"{run}/output.log") == "attempts/2.0/main.log"


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EDQUOT])
def test_an_end_that_is_not_put_in_place_is_an_error_and_leaves_nothing_open(tmp_path, monkeypatch, error):
    (tmp_path / "end.json").write_text("another's\n")

    def refuse(source: str, target: str, **more: object) -> None:
        raise OSError(error, os.strerror(error), source)

    monkeypatch.setattr(os, "rename", refuse)
    before = os.listdir("/proc/self/fd")
    attempt = runner.Attempt(str(tmp_path), {"started": 1.5}, lambda: None)
    attempt.begin()
    with pytest.raises(OSError, match=re.escape(os.strerror(error))):
        attempt.end("done", code=0, signal=None, note="")
    assert os.listdir("/proc/self/fd") == before
    assert (tmp_path / "end.json").read_text() == "another's\n"


def test_an_attempt_whose_log_is_at_hand_under_no_name_leaves_nothing_open(place):
    run = place.run()
    os.makedirs(f"{run}/output.log/x")
    code = """
from farmx import processes, runner
with processes.Inbox() as inbox:
    before = len(os.listdir("/proc/self/fd"))
    for number in ("1.0", "2.0"):
        print(runner.execute(sys.argv[1], number, {}, inbox).state, len(os.listdir("/proc/self/fd")) - before)
"""
    assert script(code, run) == "interrupted 0\ninterrupted 0\n"


def test_an_attempt_whose_owner_cannot_be_read_is_somebodys(place):
    run = place.run()
    os.makedirs(f"{run}/attempts/1.0/x")
    assert runner.take(run, "1.0", {}) == (None, {})


def test_what_a_killed_runner_left_half_made_is_no_attempt_and_counts_for_nothing(place):
    run = place.run()
    os.makedirs(f"{run}/attempts/.1.0.host.7.8")
    taken, told = runner.take(run, "1.0", {})
    assert taken and told["ordinal"] == 1


@pytest.mark.parametrize("late", ["1.0", "1.1"])
def test_what_a_scheduler_restarts_after_a_newer_attempt_has_begun_is_taken_by_nobody(place, late):
    run = place.run()
    _, newest = runner.take(run, "2.0", {})
    assert runner.take(run, late, {}) == (None, newest)
    assert os.listdir(f"{run}/attempts") == ["2.0"]


def test_attempts_are_counted_in_order_whatever_their_names(place):
    run = place.run()
    assert [runner.take(run, name, {})[1]["ordinal"] for name in ("1.0", "1.1", "3.0")] == [1, 2, 3]


def test_attempts_that_cannot_be_looked_at_are_not_newer(tmp_path):
    (tmp_path / "attempts").write_text("")
    assert runner.newer(str(tmp_path / "attempts" / "1.0")) is None
    (tmp_path / "attempts").unlink()
    assert runner.newer(str(tmp_path / "attempts" / "1.0")) is None
    (tmp_path / "attempts" / "2.0").mkdir(parents=True)
    assert runner.newer(str(tmp_path / "attempts" / "1.0")) == "2.0"


def test_a_run_that_somebody_deleted_is_not_made_again(place):
    run = place.run()
    shutil.rmtree(run)
    with pytest.raises(FileNotFoundError):
        runner.take(run, "1.0", {})
    assert not os.path.exists(run)


def test_a_program_that_begins_after_its_scheduler_asked_for_its_end_is_asked_by_us(place):
    """The scheduler told all processes of the job: this one was not there."""
    run = place.shell("exec sleep 100")
    with processes.Inbox(told=lambda: True) as inbox:
        os.kill(os.getpid(), signal.SIGTERM)
        outcome = runner.execute(run, "1.0", FACTS, inbox, grace_s=60.0)
    assert (outcome.state, outcome.signal) == ("interrupted", "SIGTERM")
    assert [row["signal"] for row in events(run) if row["event"] == "signalled"] == ["SIGTERM"]


def test_a_run_that_somebody_else_has_is_held(place):
    run = place.shell("touch LOGDIR/ran")
    runner.take(run, "1.0", {})
    outcome = execute(run)
    assert outcome == runner.Outcome("held", note=f"taken by process {os.getpid()} on {socket.gethostname()}")
    assert not os.path.exists(f"{run}/ran")


def test_an_attempt_that_a_newer_one_overtakes_as_it_is_taken_runs_nothing(place, monkeypatch):
    run, rename = place.shell("touch LOGDIR/ran"), os.rename

    def overtaken(source: str, target: str, **more: object) -> None:
        rename(source, target, **more)
        if target.endswith("attempts/1.0"):
            os.mkdir(f"{run}/attempts/2.0")

    monkeypatch.setattr(os, "rename", overtaken)
    with processes.Inbox() as inbox:
        outcome = runner.execute(run, "1.0", FACTS, inbox)
    assert (outcome.state, outcome.note) == ("interrupted", "attempt 2.0 of this run has begun")
    assert end(run) == {"format": 1, "state": "interrupted", "code": None, "signal": None, "note": outcome.note}
    assert not os.path.exists(f"{run}/ran")


# ---------------------------------------------------------------- the run's own code


def code_of(run: str) -> dict[str, str]:
    return tree(Path(run, layout.CODE).resolve())


def test_a_run_gets_a_tree_of_links_of_its_own(place):
    for name in ("pkg/deep/a.py", "run.sh"):
        (place.source / name).parent.mkdir(parents=True, exist_ok=True)
        (place.source / name).write_text("x\n")
    (place.source / "run.sh").chmod(0o755)
    (place.source / "dangling").symlink_to("nowhere")
    (place.source / "folder").symlink_to("pkg")
    run = place.run()
    snapshot = os.path.realpath(f"{run}/code")
    outfit.own_code(run, os.path.basename(os.path.dirname(snapshot)), "link")
    assert os.path.realpath(f"{run}/code").startswith(f"{run}/.code/")
    assert code_of(run) == tree(Path(snapshot))
    for name in ("pkg/deep/a.py", "run.sh", "t.py"):
        assert os.path.samefile(f"{run}/code/{name}", f"{snapshot}/{name}")
        assert not os.stat(f"{run}/code/{name}").st_mode & 0o222
    assert os.listdir(os.path.dirname(os.path.realpath(f"{run}/code"))) == [os.path.basename(os.path.dirname(snapshot))]


def test_what_a_program_writes_into_its_directory_stays_with_its_run(place):
    text = "echo $FARMX_ATTEMPT >> mine; mkdir -p sub; ls"
    one, two = place.shell(text, "one"), place.shell(text, "two")
    assert [execute(run).state for run in (one, two)] == ["done", "done"]
    assert execute(one, "2.0").state == "done"
    assert (Path(one, "code/mine").read_text(), Path(two, "code/mine").read_text()) == ("1\n2\n", "1\n")
    assert output(one).split() == ["mine", "sub", "t.py"]
    (digest,) = os.listdir(place.experiment / ".farmx/snapshots")
    assert os.listdir(place.experiment / ".farmx/snapshots" / digest / "code") == ["t.py"]


def test_the_code_of_a_new_snapshot_is_a_new_tree(place):
    run = place.run(("sh", "-c", "cat t.py; echo x > t2"))
    assert execute(run).state == "done"
    (place.source / "t.py").write_text("new\n")
    digest = place.snapshot()
    layout.write_json(f"{run}/run.json", {**json.loads(Path(run, "run.json").read_text()), "digest": digest})
    assert execute(run, "2.0").state == "done"
    assert output(run) == "new\n"
    assert len(os.listdir(f"{run}/.code")) == 2
    assert os.readlink(f"{run}/code") == f".code/{digest}"


def test_copies_that_are_asked_for_later_are_a_new_tree_that_is_kept(place):
    run = place.shell("echo $FARMX_ATTEMPT >> t.py; echo $FARMX_ATTEMPT >> mine")
    record = json.loads(Path(run, "run.json").read_text())
    snapshot = os.path.realpath(f"{run}/code")
    outfit.own_code(run, record["digest"], "link")
    before = tree(Path(snapshot))
    layout.write_json(f"{run}/run.json", {**record, "code": {**record["code"], "staging": "copy"}})
    assert [execute(run, number).state for number in ("1.0", "2.0")] == ["done", "done"]
    assert tree(Path(snapshot)) == before
    assert code_of(run) == {"t.py": before["t.py"] + "1\n2\n", "mine": "1\n2\n"}


def test_a_shared_snapshot_is_used_where_it_is(place):
    run = place.shell("cat t.py", staging="share")
    link = os.readlink(f"{run}/code")
    assert execute(run).state == "done"
    assert os.readlink(f"{run}/code") == link and not os.path.exists(f"{run}/.code")


@pytest.mark.parametrize("error", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.ENOSYS])
def test_where_links_fail_files_are_copied_with_their_rights(place, monkeypatch, error):
    (place.source / "run.sh").write_text("x\n")
    (place.source / "run.sh").chmod(0o755)
    run = place.run()

    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    snapshot = os.path.realpath(f"{run}/code")
    outfit.own_code(run, os.path.basename(os.path.dirname(snapshot)), "link")
    assert code_of(run) == tree(Path(snapshot))
    assert not os.path.samefile(f"{run}/code/t.py", f"{snapshot}/t.py")
    modes = {name: stat.S_IMODE(os.stat(f"{run}/code/{name}").st_mode) for name in ("run.sh", "t.py")}
    assert modes == {"run.sh": 0o755, "t.py": 0o644}  # its own: it may write them


def test_a_disk_that_fills_while_the_tree_is_built_leaves_no_tree(place, monkeypatch):
    run = place.run()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    digest = os.path.basename(os.path.dirname(os.path.realpath(f"{run}/code")))
    with pytest.raises(OSError, match="No space"):
        outfit.own_code(run, digest, "link")
    assert os.listdir(f"{run}/.code") == []
    monkeypatch.undo()
    outfit.own_code(run, digest, "link")
    assert code_of(run) == {"t.py": (place.source / "t.py").read_text()}


def test_a_snapshot_that_has_gone_interrupts_the_run_and_says_what_is_missing(place):
    run = place.run()
    snapshot = os.path.dirname(os.path.realpath(f"{run}/code"))
    shutil.rmtree(snapshot)
    outcome = execute(run)
    missing = f"{run}/../.farmx/snapshots/{os.path.basename(snapshot)}/code: No such file or directory"
    assert (outcome.state, outcome.note) == ("interrupted", missing)
    assert end(run) == {"format": 1, "state": "interrupted", "code": None, "signal": None, "note": missing}


# ---------------------------------------------------------------- what a program finds


def test_the_environment_of_a_program_is_exactly_this(hostile, monkeypatch):
    monkeypatch.setenv("INHERITED", "it's\n$HOME")
    monkeypatch.setenv("FARMX_RUN", "/an/outer/run")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    run = hostile.python(code, env={"MINE": "LOGDIR"})
    before = {"LC_CTYPE", "_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES"}  # set by shells, Python and readline
    assert execute(run, env={"CUDA_VISIBLE_DEVICES": "0,1"}).state == "done"
    told = json.loads(output(run))
    owner = json.loads(Path(run, "attempts/1.0/owner.json").read_text())
    assert {name: text for name, text in told.items() if name not in before} == {
        **{name: text for name, text in os.environ.items() if name not in before},
        "FARMX_RUN": run,
        "FARMX_ATTEMPT": "1",
        "FARMX_ATTEMPT_DIR": f"{run}/attempts/1.0",
        "FARMX_EXPERIMENT": "sweep",
        "FARMX_POINT": json.loads(Path(run, "run.json").read_text())["point"],
        "LOGDIR": run,
        "FARMX_STARTED": time.strftime("%Y%m%d.%H%M%S", time.localtime(owner["started"])),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": f"{run}/code",
        "MINE": run,
        "CUDA_VISIBLE_DEVICES": "0,1",
    }


def test_a_program_has_nothing_to_read_and_no_descriptor_of_ours(place):
    run = place.python("import os, sys; print(repr(sys.stdin.read()), sorted(os.listdir('/proc/self/fd'))[:-1])")
    assert execute(run).state == "done"
    assert output(run) == "'' ['0', '1', '2']\n"


def test_output_and_errors_go_to_the_log_in_order_and_the_newest_is_at_hand(place):
    run = place.shell("echo one; echo two >&2; echo three; exit $((FARMX_ATTEMPT - 1))")
    assert [execute(run, name).state for name in ("1.0", "2.0")] == ["done", "failed"]
    assert output(run) == "one\ntwo\nthree\n"
    assert os.readlink(f"{run}/output.log") == "attempts/2.0/main.log"
    assert Path(run, "attempts/1.0/main.log").read_text() == output(run)


# ---------------------------------------------------------------- how it ends

ENDS = [
    ("true", ("done", 0, None, "")),
    ("exit 3", ("failed", 3, None, "main exited with 3")),
    ("exit 255", ("failed", 255, None, "main exited with 255")),
    ("kill -TERM $$", ("failed", None, "SIGTERM", "main was ended by SIGTERM")),
    ("kill -KILL $$", ("failed", None, "SIGKILL", "main was ended by SIGKILL")),
    ("ulimit -c 0; kill -SEGV $$", ("failed", None, "SIGSEGV", "main was ended by SIGSEGV")),
    ("kill -40 $$", ("failed", None, "SIGRTMIN+6", "main was ended by SIGRTMIN+6")),
]


@pytest.mark.parametrize("text, told", ENDS, ids=[row[0] for row in ENDS])
def test_an_end_is_recorded_as_it_was(place, text, told):
    run = place.shell(text)
    outcome = execute(run)
    assert outcome._replace(seconds=0.0) == runner.Outcome(*told[:3], note=told[3])
    names = ("state", "code", "signal", "note")
    assert end(run) == {"format": 1, **dict(zip(names, told, strict=True))}
    record = json.loads(Path(run, "attempts/1.0/end.json").read_text())
    assert record["started"] == owner(run)["started"] <= record["ended"]
    first, last = events(run)
    assert {**first, "time": 0, "pid": 0} == {"time": 0, "event": "started", "stage": "main", "pid": 0}
    assert {**last, "time": 0, "cpu_s": 0, "max_rss_mb": 0} == {
        "time": 0, "event": "ended", "stage": "main", "code": told[1], "signal": told[2], "cpu_s": 0, "max_rss_mb": 0
    }  # fmt: skip
    assert sorted(os.listdir(f"{run}/attempts/1.0")) == [
        "end.json", "events.jsonl", "heartbeat", "main.log", "owner.json"
    ]  # fmt: skip


def test_what_cannot_be_started_has_failed_and_the_log_says_why(place):
    run = place.run(("no-such-program",))
    assert tuple(execute(run))[:3] == ("failed", 127, None)
    assert "no-such-program: not found" in output(run)


def test_a_shell_that_is_not_there_has_failed_and_the_log_says_why(place):
    run = place.run()
    change(run, script="#!/no/such/shell\n")
    assert tuple(execute(run))[:3] == ("failed", 127, None)
    assert output(run) == "/no/such/shell: No such file or directory\n"


def change(run: str, **record: object) -> None:
    told = json.loads(Path(run, "run.json").read_text())
    Path(run, "run.json").write_text(json.dumps({**told, **record}))


def test_a_run_that_waits_is_its_record_alone_and_the_runner_makes_the_rest(place):
    run = place.shell("cat LOGDIR/launch.sh LOGDIR/hparams.json #", hparams={"n": 1, "x": None})
    for name in ("launch.sh", "hparams.json", "code"):
        os.unlink(f"{run}/{name}")
    assert os.listdir(run) == ["run.json"]
    script = json.loads(Path(run, "run.json").read_text())["script"]
    assert execute(run).state == "done"
    assert output(run) == script + '{\n    "n": 1,\n    "x": null\n}\n'
    assert os.access(f"{run}/launch.sh", os.X_OK)
    made = [".code", "attempts", "code", "hparams.json", "launch.sh", "output.log", "run.json"]
    assert sorted(os.listdir(run)) == made


def test_launch_sh_is_made_anew_where_it_says_something_else_and_hparams_json_is_kept(place):
    run = place.run(("true",))
    script = json.loads(Path(run, "run.json").read_text())["script"]
    Path(run, "launch.sh").write_text(script[: len(script) // 2])
    Path(run, "hparams.json").write_text('{"mine": 1}')
    assert execute(run).state == "done"
    assert Path(run, "launch.sh").read_text() == script
    assert Path(run, "hparams.json").read_text() == '{"mine": 1}'
    made = os.stat(f"{run}/launch.sh").st_ino
    assert execute(run, "2.0").state == "done"
    assert os.stat(f"{run}/launch.sh").st_ino == made


def test_what_a_kill_left_of_them_is_replaced_by_the_next_attempt(place, tmp_path):
    run = place.run(("true",))
    for name in ("launch.sh", "hparams.json"):
        os.unlink(f"{run}/{name}")
    killed = "import os, sys; from farmx import layout, outfit; os.rename = lambda *_, **__: os.kill(os.getpid(), 9)\n"
    code = f"{killed}outfit.unfold(sys.argv[1], layout.read_json(sys.argv[1] + '/run.json', None))"
    assert subprocess.run([sys.executable, "-c", code, run]).returncode == -signal.SIGKILL
    assert len([name for name in os.listdir(run) if name.startswith(".launch.sh")]) == 1
    assert execute(run).state == "done"
    assert [name for name in os.listdir(run) if name.startswith(".")] == [".code"]


@pytest.mark.parametrize(("key", "nonsense"), [("script", 5), ("script", None), ("script", ["a"]), ("hparams", [1]),
                                               ("hparams", None), ("hparams", "x"), ("digest", 5)])  # fmt: skip
def test_a_record_that_does_not_say_what_to_run_interrupts_the_run(place, key, nonsense):
    run = place.run(("true",))
    change(run, **{key: nonsense})
    assert execute(run).state == "interrupted"
    assert end(run)["note"] == f"{run}/run.json does not say what to run"


def test_a_program_starts_where_nothing_may_be_executed(place):
    run = place.run(("true",))
    os.chmod(f"{run}/launch.sh", 0o644)
    assert execute(run).state == "done"


def test_what_a_script_holds_is_kept_to_the_byte(place):
    run = place.run(("printf", "%s", "a\r\nb\rc\udcff"))
    assert execute(run).state == "done"
    assert Path(run, "output.log").read_bytes() == b"a\r\nb\rc\xff"


@pytest.mark.parametrize(
    "text",
    ['{"format": 99}', "{", "[]", "", '{"format": 1}', '{"format": 1, "digest": "d", "code": {}, "stages": []}',
     '{"format": 1, "digest": 7, "code": {"staging": "link"}, "stages": [], "experiment": "e", "point": "p"}',
     '{"format": 1, "digest": "d", "code": {"staging": "link"}, "stages": 7, "experiment": "e", "point": "p"}'],
)  # fmt: skip
def test_a_run_whose_record_is_nonsense_ends_with_a_word_about_it(place, text):
    run = place.run()
    Path(run, "run.json").write_text(text)
    outcome = execute(run)
    assert outcome.state == "interrupted" and f"{run}/run.json" in outcome.note
    assert end(run)["note"] == outcome.note


# ---------------------------------------------------------------- stopping

WAIT = "echo ready > LOGDIR/ready; while :; do sleep 0.02; done"
HEED = f"trap 'echo bye; exit 7' TERM; {WAIT}"
IGNORE = f"trap '' TERM; {WAIT}"


def started(run: str, **given: object) -> subprocess.Popen:
    """A process that executes the first attempt; its program is ready."""
    process = start(run, **given)
    exists(f"{run}/ready")
    return process


STOPS = [
    # program, signals, grace, state, code, signal, signals passed on
    ("heeds", HEED, ["TERM"], 60, "interrupted", 7, None, ["SIGTERM"]),
    ("heeds and ends well", HEED.replace("7", "0"), ["INT"], 60, "interrupted", 0, None, ["SIGTERM"]),
    ("does not care", WAIT, ["HUP"], 60, "interrupted", None, "SIGTERM", ["SIGTERM"]),
    ("is cancelled", HEED, ["USR1"], 60, "cancelled", 7, None, ["SIGTERM"]),
    ("ignores", IGNORE, ["TERM"], 0.05, "interrupted", None, "SIGKILL", ["SIGTERM", "SIGKILL"]),
    ("ignores and is cancelled", IGNORE, ["USR1"], 0.05, "cancelled", None, "SIGKILL", ["SIGTERM", "SIGKILL"]),
    ("ignores and is killed", IGNORE, ["TERM", "INT"], 60, "interrupted", None, "SIGKILL", ["SIGTERM", "SIGKILL"]),
]


@pytest.mark.parametrize("text, signals, grace, state, code, name, told", [row[1:] for row in STOPS],
                         ids=[row[0] for row in STOPS])  # fmt: skip
def test_a_program_that_is_stopped(place, text, signals, grace, state, code, name, told):
    run = place.shell(text)
    process = started(run, grace_s=grace)
    if state == "cancelled":
        Path(run, "attempts/1.0/cancel").touch()
    for index, each in enumerate(signals):
        process.send_signal(getattr(signal, f"SIG{each}"))
        until(lambda index=index: [row for row in events(run) if row["event"] == "signalled"][index:])
    outcome = finish(process)
    assert (outcome.state, outcome.code, outcome.signal) == (state, code, name)
    assert [row["signal"] for row in events(run) if row["event"] == "signalled"] == told
    assert end(run)["state"] == state
    assert output(run).endswith("bye\n") == text.startswith("trap 'echo")


SHARED = [
    # what came or is on its way, as what the program then counts
    ({}, None),
    ({"stops": [signal.SIGTERM]}, "interrupted"),
    ({"overheard": True}, "interrupted"),
    ({"ending": lambda: True}, "interrupted"),
    ({"noticed": True}, None),  # for us alone
    ({"noticed": True, "warns": True}, "preempted"),
    ({"cancelled": True, "warns": True}, "preempted"),
    ({"cancelled": True}, None),
]


@pytest.mark.parametrize(("came", "state"), SHARED)
def test_a_program_that_ended_as_all_of_its_job_was_told_is_stopped_however_it_ended(came, state):
    inbox = processes.Inbox(notice_s=60.0)
    for name, value in came.items():
        setattr(inbox, name, value)
    for wished, expected in ((False, state), (True, "cancelled" if state else None)):
        stop = processes.Stop(0, 1.0, lambda number: None, lambda wished=wished: wished)
        stop.ended(inbox)
        assert stop.state == expected


@pytest.mark.parametrize("how", ["ends by itself", "is stopped"])
def test_children_in_the_group_end_with_their_program(place, how):
    child = "trap '' TERM HUP; echo $$ > \"$LOGDIR/child\"; while :; do sleep 0.02; done"
    program = f"sh -c '{child.replace(chr(39), chr(34))}' & until [ -s \"$LOGDIR/child\" ]; do sleep 0.01; done; "
    run = place.shell(program + ("exit 0" if how == "ends by itself" else WAIT.replace("LOGDIR", '"$LOGDIR"')))
    if how == "ends by itself":
        assert execute(run).state == "done"
    else:
        process = started(run)
        process.terminate()
        assert finish(process).state == "interrupted"
    gone(number(f"{run}/child"))


GROUPS = """
import signal
from farmx import processes, runner
killpg, seen = os.killpg, []
def noted(group, number):
    seen.append((signal.Signals(number).name, os.path.exists(f"/proc/{group}")))
    killpg(group, number)
os.killpg = noted
with processes.Inbox() as inbox:
    print("ready", flush=True)
    outcome = runner.execute(sys.argv[1], "1.0", {}, inbox)
print(outcome.state, seen)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_group_is_killed_while_its_number_is_still_that_of_its_program(place, stopped):
    run = place.shell(f"trap 'exit 7' TERM; {WAIT}" if stopped else "exit 0")
    with python(GROUPS, run) as process:
        assert process.stdout.readline() == "ready\n"
        if stopped:
            exists(f"{run}/ready")
            process.terminate()
        told = process.stdout.read()
    asked = [("SIGTERM", True), ("SIGCONT", True)] if stopped else []
    assert told == f"{'interrupted' if stopped else 'done'} {[*asked, ('SIGKILL', True)]}\n"


def test_only_what_an_attempt_and_those_before_it_started_is_cleared(place):
    run = place.run()
    names = ("1.0", "1.1", "1.2", "1.10", "2.0", "11.1")
    paths = [runner.take(run, name, {})[0] for name in names]
    shutil.rmtree(f"{run}/attempts/1.1")  # of which nobody knows more than its name
    moved = f"{run} moved"
    os.rename(run, moved)
    inside, own = f"{paths[1]}/logs/e/r/attempts/9.0", f"{moved}/attempts/1.1"
    started = [subprocess.Popen(["sleep", "100"], env={"FARMX_ATTEMPT_DIR": each}) for each in (*paths, inside, own)]
    try:
        for each in started:
            until(lambda each=each: b"sleep" in Path(f"/proc/{each.pid}/cmdline").read_bytes())
        runner.clear(own)
        assert started[0].wait() == started[-1].wait() == -signal.SIGKILL
        assert [each.poll() for each in started[1:-1]] == [None] * 6
    finally:
        for each in started:
            each.kill()
            each.wait()


AWAY = "setsid sh -c 'echo $$ > $LOGDIR/away; exec sleep 100' & until [ -s $LOGDIR/away ]; do sleep 0.01; done; "


def test_what_went_to_a_session_of_its_own_ends_with_a_run_that_is_stopped(place):
    run = place.shell(AWAY + 'echo > "$LOGDIR/ready"; sleep 100')
    process = started(run)
    process.terminate()
    assert finish(process).state == "interrupted"
    gone(number(f"{run}/away"))


def test_a_program_dies_with_its_runner_and_what_it_left_behind_with_the_next_attempt(place):
    run = place.shell(AWAY + 'echo $$ > "$LOGDIR/ready"; [ "$FARMX_ATTEMPT" = 2 ] || sleep 100')
    process = started(run)
    program, away = number(f"{run}/ready"), number(f"{run}/away")
    process.kill()
    process.communicate()
    gone(program)
    assert end(run) is None and state(away) not in ("", "Z")
    os.unlink(f"{run}/away")
    other = subprocess.Popen(["sleep", "100"], env={"FARMX_ATTEMPT_DIR": f"{run}s/attempts/1.0"})
    try:
        assert execute(run, "2.0").state == "done"
        gone(away)
        assert end(run) is None and end(run, "2.0")["state"] == "done"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        os.kill(number(f"{run}/away"), signal.SIGKILL)


def test_a_warning_that_came_before_an_attempt_is_for_it(place):
    run = place.shell("trap 'exit 3' TERM; while :; do sleep 0.1; done")
    code = """
import os, signal
from farmx import processes, runner
with processes.Inbox(notice_s=60.0, warns=True) as inbox:
    os.kill(os.getpid(), signal.SIGUSR1)
    print(runner.execute(sys.argv[1], "1.0", {}, inbox).state)
"""
    assert script(code, run) == "preempted\n"


def test_a_program_ignores_no_request_that_its_runner_was_started_to_ignore(place):
    run = place.shell("grep SigIgn /proc/$$/status")
    code = """
import signal
from farmx import processes, runner
for number in processes.REQUESTS:
    signal.signal(number, signal.SIG_IGN)
with processes.Inbox() as inbox:
    runner.execute(sys.argv[1], "1.0", {}, inbox)
"""
    script(code, run)
    ignored = int(output(run).split()[1], 16)
    assert [number for number in processes.REQUESTS if ignored >> number - 1 & 1] == []


def test_a_cancel_that_came_before_an_attempt_is_not_for_it(place):
    run = place.shell("true")
    code = """
from farmx import processes, runner
with processes.Inbox() as inbox:
    inbox.cancelled = True
    print(runner.execute(sys.argv[1], "1.0", {}, inbox).state)
"""
    assert script(code, run) == "done\n"


def test_a_console_that_fails_leaves_no_program_behind(place):
    run = place.shell('echo $$ > "$LOGDIR/ready"; exec sleep 100')
    code = """
from farmx import processes, runner
class Broken(processes.Console):
    def descriptors(self):
        ready = sys.argv[1] + "/ready"
        return [0] if os.path.exists(ready) and os.path.getsize(ready) else []
    def pump(self, descriptor):
        raise OSError(5, "Input/output error")
processes.BEAT_S = 0.01
with processes.Inbox() as inbox:
    print(*runner.execute(sys.argv[1], "1.0", {}, inbox, Broken())[:3])
    os.kill(int(open(sys.argv[1] + "/ready").read()), 0)
    print(os.waitpid(-1, 0)[1])
"""
    assert script(code, run) == "interrupted None None\n9\n"
    gone(number(f"{run}/ready"))


def test_a_stage_is_told_to_have_begun_before_its_program_can_log_anything(place):
    run = place.run()
    code = """
import time
from farmx import processes, runner
class Timed(processes.Console):
    def adopt(self):
        with open(sys.argv[1] + "/begins", "w") as file:
            file.write(repr(time.time()))
        super().adopt()
with processes.Inbox() as inbox:
    print(runner.execute(sys.argv[1], "1.0", {}, inbox, Timed()).state)
"""
    assert script(code, run) == "done\n"
    (begun,) = [row["time"] for row in events(run) if row["event"] == "started"]
    assert begun <= float(Path(run, "begins").read_text())


# ---------------------------------------------------------------- the heart and the disk


def test_a_heart_beats_from_the_first_moment_and_its_pulse_with_it(place):
    run = place.shell("until [ -e LOGDIR/go ]; do sleep 0.01; done")
    process = start(run, beat_s=0.01)
    heart = Path(run, "attempts/1.0/heartbeat")
    exists(heart)
    os.utime(heart, (1, 1))
    until(lambda: heart.stat().st_mtime > 1)
    Path(run, "go").touch()
    assert finish(process).state == "done"
    assert heart.read_bytes() == b""


def test_the_program_of_a_run_that_is_deleted_meanwhile_ends(place, tmp_path):
    side = tmp_path / "side"
    run = place.shell(f"trap '' TERM; echo $$ > '{side}'; while :; do sleep 0.02; done")
    process = start(run, beat_s=0.01)
    exists(str(side))
    pid = number(side)
    shutil.rmtree(run)
    gone(pid)
    with process:
        assert process.stdout.read() == ""
    assert (process.returncode, os.path.exists(run)) == (1, False)


LINKS = [
    ("links", [2, 2], 0, True),
    ("no links any more", [2, 0], 0, False),
    ("no links ever", [0, 0], 0, True),
    ("a stale handle, and nothing there", [2, errno.ESTALE], errno.ENOENT, False),
    ("a stale handle, and it is there", [2, errno.ESTALE], 0, True),
    ("a server that is replaced", [2, errno.ESTALE], errno.ESTALE, True),
]


@pytest.mark.parametrize(("links", "path", "beats"), [row[1:] for row in LINKS], ids=[row[0] for row in LINKS])
def test_only_what_a_file_system_says_is_deleted_is(tmp_path, monkeypatch, links, path, beats):
    home, told = tmp_path / "attempts/1.0", chain(links, repeat(links[-1]))
    home.mkdir(parents=True)

    def fstat(descriptor: int) -> os.stat_result:
        said = next(told)
        if said == errno.ESTALE:
            raise OSError(said, os.strerror(said))
        return os.stat_result((0o40755, 1, 1, said, 0, 0, 0, 0, 0, 0))

    def lstat(path_: str) -> None:
        if path:
            raise OSError(path, os.strerror(path))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", fstat)
        patched.setattr(os, "lstat", lstat)
        attempt = runner.Attempt(str(home), {"started": 1.5}, lambda: None)
        assert attempt.beat() is beats
    attempt.end("done")


def test_a_run_whose_directory_is_renamed_meanwhile_still_records_its_end(place):
    run = place.shell("echo > ready; until [ -e go ]; do sleep 0.01; done; exit 3")
    process = start(run, beat_s=0.01)
    exists(f"{run}/code/ready")
    other = f"{run} renamed"
    os.rename(run, other)
    heart = Path(other, "attempts/1.0/heartbeat")
    os.utime(heart, (1, 1))
    until(lambda: heart.stat().st_mtime > 1)
    Path(other, "code/go").touch()
    assert finish(process).state == "failed"
    assert end(other) == {"format": 1, "state": "failed", "code": 3, "signal": None, "note": "main exited with 3"}


@pytest.mark.parametrize(
    ("how", "state"), [("kill -TERM $$", "cancelled"), ("exit 143", "cancelled"), ("exit 0", "done")]
)
def test_a_program_that_hears_of_its_cancellation_before_its_runner_does_is_cancelled(place, how, state):
    run = place.shell(f'touch "$FARMX_ATTEMPT_DIR/cancel"; {how}')
    assert execute(run).state == state
    assert end(run)["state"] == state


@pytest.mark.parametrize("renamed", [False, True])
def test_a_wish_to_cancel_that_no_signal_tells_of_is_found_wherever_the_run_is_by_now(place, renamed):
    run = place.shell(HEED)
    process = started(run, look_s=0.05)
    if renamed:
        os.rename(run, run := f"{run}.renamed")
    Path(run, "attempts/1.0/cancel").touch()
    assert finish(process).state == "cancelled"
    assert [row["signal"] for row in events(run) if row["event"] == "signalled"] == ["SIGTERM"]
    assert end(run)["state"] == "cancelled"


@pytest.mark.parametrize(("number", "wished", "told", "state"), [
    ("1.2", "1.1", "TERM", "cancelled"), ("1.2", "1.0", None, "cancelled"), ("2.0", "1.0", "TERM", "interrupted"),
    ("1.0", "1.1", "TERM", "interrupted"),
])  # fmt: skip
def test_a_wish_for_an_attempt_whose_job_was_restarted_meanwhile_is_for_the_one_that_it_runs(
    place, number, wished, told, state
):
    run = place.shell(HEED)
    process = start(run, number, look_s=60.0 if told else 0.05)
    exists(f"{run}/ready")
    Path(run, "attempts", wished).mkdir()
    Path(run, "attempts", wished, "cancel").touch()
    if told:
        process.send_signal(getattr(signal, f"SIG{told}"))
    assert finish(process).state == state
    assert end(run, number)["state"] == state


def test_a_wish_for_a_run_that_took_the_place_of_ours_is_not_for_us(place):
    run = place.shell("trap 'exit 7' TERM; echo > LOGDIR/ready; until [ -e go ]; do sleep 0.02; done")
    process = started(run, look_s=0.02, beat_s=0.02)
    os.rename(run, ours := f"{run}.renamed")
    Path(run, "attempts/1.0").mkdir(parents=True)
    Path(run, "attempts/1.0/cancel").touch()
    heart = Path(ours, "attempts/1.0/heartbeat")
    os.utime(heart, (1, 1))
    until(lambda: heart.stat().st_mtime > 1)  # it looks before it beats
    Path(ours, "code/go").touch()
    assert finish(process).state == "done"


@pytest.mark.parametrize("renamed", [False, True])
def test_a_newer_attempt_ends_the_program_wherever_the_run_is_by_now(place, renamed):
    run = place.shell("echo > LOGDIR/ready; sleep 99")
    process = started(run, beat_s=0.02)
    if renamed:
        os.rename(run, run := f"{run}.renamed")
    Path(run, "attempts/2.0").mkdir()
    assert finish(process).state == "interrupted"
    assert [row["signal"] for row in events(run) if row["event"] == "signalled"][:1] == ["SIGTERM"]  # has no grace


def test_an_attempt_of_a_run_that_took_the_place_of_ours_is_none_of_ours(place):
    run = place.shell("trap 'exit 7' TERM; echo > LOGDIR/ready; until [ -e go ]; do sleep 0.02; done")
    process = started(run, beat_s=0.02)
    os.rename(run, ours := f"{run}.renamed")
    Path(run, "attempts/2.0").mkdir(parents=True)
    heart = Path(ours, "attempts/1.0/heartbeat")
    for _ in range(2):  # it beats, then looks
        os.utime(heart, (1, 1))
        until(lambda: heart.stat().st_mtime > 1)
    Path(ours, "code/go").touch()
    assert finish(process).state == "done"


def test_a_wish_that_comes_while_a_run_is_preempted_cancels_it(place):
    run = place.shell('trap \'touch "$FARMX_ATTEMPT_DIR/cancel"; exit 0\' TERM; echo > LOGDIR/ready; sleep 9 & wait')
    process = started(run, notice_s=60)
    process.send_signal(signal.SIGUSR2)
    assert finish(process).state == "cancelled"


WISHED = """
from farmx import processes, runner
def full(path, *more, **named):
    raise OSError(28, "No space left on device", path)
def judge(outcome):
    open(os.path.join(sys.argv[1], "attempts", "1.0", "cancel"), "w").close()
    os.mkdir = full
    return outcome._replace(state="preempted", again=True, note="its job is queued again")
with processes.Inbox() as inbox:
    print(runner.execute(sys.argv[1], "1.0", {}, inbox, judge=judge)._replace(seconds=0.0))
"""


def test_a_recorded_end_stands_where_a_full_disk_keeps_the_next_attempt_from_being_cancelled(place):
    run = place.shell("exit 3")
    told = runner.Outcome("preempted", 3, note="its job is queued again", again=True)
    assert script(WISHED, run) == f"{told}\n"
    assert (end(run)["state"], os.listdir(f"{run}/attempts")) == ("preempted", ["1.0"])


def test_a_run_that_is_deleted_meanwhile_is_one_line(place):
    run = place.shell('echo > "$LOGDIR/ready"; exec sleep 100')
    process = started(run)
    shutil.rmtree(run)
    process.terminate()
    with process:
        told = process.stdout.read()
    assert not os.path.exists(run)
    assert process.returncode == 1 and told == ""


FULL = """
import subprocess
from pathlib import Path
from launching import Place, end, output
from farmx import processes, runner
home = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", home], check=True)
place = Place(home)
run = place.shell("yes > LOGDIR/filled; echo lost; exit 5", name=sys.argv[2])
with processes.Inbox() as inbox:
    outcome = runner.execute(run, "1.0", {"farm": "x"}, inbox)
print(json.dumps([outcome[:3], end(run), output(run)]))
"""


@pytest.mark.parametrize("name", ["one", "x" * 200, "größe" * 20])
def test_a_disk_that_the_program_filled_still_takes_the_end(tmp_path, name):
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    begin = f"import json, os, sys\nsys.path[:0] = [{ROOT!r}, {ROOT + '/tests'!r}]\n"
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", begin + FULL, tmp_path, name], capture_output=True, text=True
    )
    outcome, ended, log = json.loads(done.stdout or pytest.fail(done.stderr))
    assert outcome == ["failed", 5, None] and log == ""
    assert ended == {"format": 1, "state": "failed", "code": 5, "signal": None, "note": "main exited with 5"}


def test_an_end_fits_into_the_space_kept_for_it_whatever_it_says(tmp_path):
    attempt = runner.Attempt(str(tmp_path), {"started": 1.5}, lambda: None)
    reserved = len(runner.END_RESERVE)
    attempt.end("interrupted", code=None, signal=None, note="größe 漢字 😀" * 1000)
    assert os.stat(tmp_path / "end.json").st_size <= reserved
    told = json.loads((tmp_path / "end.json").read_text())
    assert told["state"] == "interrupted" and told["note"].startswith("größe 漢字 😀größe")


def test_an_end_without_a_note_too_long_is_said_in_full(tmp_path):
    attempt = runner.Attempt(str(tmp_path), {"started": 1.5}, lambda: None)
    attempt.end("failed", code=1, signal=None, note="x" * 500)
    assert json.loads((tmp_path / "end.json").read_text())["note"] == "x" * 500


# ---------------------------------------------------------------- small things


def test_a_link_is_pointed_at_once_and_over_leftovers(tmp_path):
    link = str(tmp_path / "link")
    outfit.point(link, "one")
    number = os.lstat(link).st_ino
    outfit.point(link, "one")
    assert os.lstat(link).st_ino == number
    os.symlink("left", f"{link}.{os.getpid()}")
    outfit.point(link, "two")
    assert (os.readlink(link), os.listdir(tmp_path)) == ("two", ["link"])


@pytest.mark.parametrize("text", ["{", "[1]", '{"format": 2}', None])
def test_a_record_that_cannot_be_read_is_none(tmp_path, text):
    if text is not None:
        (tmp_path / "x").write_text(text)
    assert layout.read_or_none(str(tmp_path / "x"), 1) is None


def test_copied_code_is_the_runs_own_to_write(place):
    text = "open('own.txt', 'a').write('dirty\\n'); print(open('own.txt').read())"
    (place.source / "own.txt").write_text("base\n")
    runs = [place.python(text, name=name, staging="copy") for name in ("one", "two")]
    with ordinary_rights():
        assert [execute(run).state for run in runs] == ["done", "done"]
    assert [output(run).split() for run in runs] == [["base", "dirty"]] * 2
    (digest,) = os.listdir(place.experiment / ".farmx/snapshots")
    assert (place.experiment / ".farmx/snapshots" / digest / "code/own.txt").read_text() == "base\n"
