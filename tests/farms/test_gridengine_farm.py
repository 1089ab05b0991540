"""A sweep on a real Grid Engine, by an ordinary user: launched, watched, cancelled, retried, lost and found."""

import json
import os
import signal
from itertools import count

import pytest
from commands import read
from launching import PLACE, gone, until

from farms.farmer import Farmer, farmer

pytestmark = pytest.mark.farm
NUMBER = count()
WAIT = 'while [ ! -e "$GO" ]; do sleep 0.1; done'
# A qsub that says when it is called; the second one hangs, before or after it queued, until it may go on.
SLOW = """#!/bin/sh
echo "$$" >> "{side}.called"
hang() {{ [ "$(wc -l < "{side}.called")" -ne 2 ] || until [ -e "{side}.go" ]; do sleep 0.05; done; }}
{before}
/usr/bin/qsub "$@"
code=$?
{after}
exit $code
"""


@pytest.fixture
def big(gridengine):
    return farmer(gridengine, f"{os.getpid()}.{next(NUMBER)}")


def waiting(big: Farmer, hparams: str, program: str = "") -> None:
    """A sweep whose programs wait for the file go beside the project, then do `program`."""
    big.sweep(hparams, WAIT.replace("$GO", str(big.side) + ".go") + "\n" + program)


def go(big: Farmer) -> None:
    big.side.with_name("side.go").touch()


def names(big: Farmer) -> list[str]:
    """The runs by the value of n."""
    return [run["run"] for run in big.told()]


def test_runs_are_queued_and_record_how_they_ended(big):
    big.sweep("{n: [0, 3]}", 'exit "$2"')
    done = big.ok("sweep.yml")
    assert "farm  big (command)\n" in done.err and "      2 queued\n" in done.err
    assert all(job.isdecimal() for job in big.queued().values())
    assert big.ended() == ["done", "failed"]
    assert [run["note"] for run in big.told()] == ["", "main exited with 3"]
    assert len(big.starts()) == 2
    (place,) = (big.experiment / ".farmx/submissions").iterdir()
    lines = ["1.0 done\n", "1.0 failed: main exited with 3\n"]  # which a job prints once its run has ended
    until(lambda: sorted((place / f"{index}.log").read_text().partition(" ")[2] for index in (0, 1)) == lines)


def test_status_tells_what_waits_and_what_runs(big):
    waiting(big, "{n: [1, 2, 3, 4, 5, 6]}")
    big.ok("sweep.yml", "--first", "4")
    big.become(*["running"] * 4)
    big.ok("sweep.yml")
    big.become(*["running"] * 4, "queued", "queued")
    go(big)
    assert big.ended() == ["done"] * 6
    assert len(big.starts()) == 6


def test_a_retry_runs_what_failed_once_more(big):
    big.sweep("{n: [1, 2]}", 'exit $((FARMX_ATTEMPT == 1 && $2 == 2))')
    big.ok("sweep.yml")
    assert big.ended() == ["done", "failed"]
    big.ok("retry", "sweep")
    assert big.ended() == ["done", "done"]
    first, second = names(big)
    assert sorted(big.starts()) == sorted([f"{first}/1.0", f"{second}/1.0", f"{second}/2.0"])


def test_what_runs_and_what_waits_is_cancelled(big):
    waiting(big, "{n: [1, 2, 3, 4, 5]}")
    big.ok("sweep.yml", "--first", "4")
    big.become(*["running"] * 4)
    big.ok("sweep.yml")
    big.become(*["running"] * 4, "queued")
    until(lambda: len(big.starts()) == 4)
    first, *_, last = names(big)
    big.ok("cancel", first, last)
    big.become("cancelled", *["running"] * 3, "cancelled")
    until(lambda: len(big.farm.jobs()) == 3)
    end = read(big.experiment / first / "attempts/1.0/end.json")
    assert (end["state"], end["signal"]) == ("cancelled", "SIGTERM")
    go(big)
    assert big.ended() == ["cancelled", *["done"] * 3, "cancelled"]
    assert len(big.starts()) == 4


def test_a_job_that_is_gone_makes_no_line_of_a_cancel_false(big):
    waiting(big, "{n: [1, 2, 3, 4, 5, 6]}")
    big.ok("sweep.yml", "--first", "4")
    big.become(*["running"] * 4)
    before = set(big.farm.jobs())
    big.ok("sweep.yml")
    big.become(*["running"] * 4, "queued", "queued")
    gone = min(set(big.farm.jobs()) - before)
    big.farm.says("qdel", gone)
    until(lambda: gone not in big.farm.jobs())
    told = dict(line.split("  ", 1) for line in big.ok("cancel", "sweep").out.splitlines())
    assert [told[name].strip() for name in names(big)] == ["asked to end"] * 4 + ["cancelled"] * 2
    assert big.ended() == ["cancelled"] * 6
    until(lambda: not big.farm.jobs())


def test_logs_of_what_waits_runs_and_ended_and_clean_removes_only_what_ended(big):
    text = 'echo "{code} $2"\n[ "$2" = 1 ] && exit 1\n' + WAIT.replace("$GO", str(big.side) + ".go") + "\necho over"
    big.sweep("{n: [1]}", text.format(code="old"))
    big.ok("sweep.yml")
    assert big.ended() == ["failed"]
    big.sweep("{n: [1, 2]}", text.format(code="new"))
    big.ok("sweep.yml")
    big.become("failed", "running")
    big.configure("-h")
    big.sweep("{n: [1, 2, 3]}", text.format(code="new"))
    big.ok("sweep.yml")
    big.become("failed", "running", "queued")
    one, two, three = names(big)
    assert big.ok("logs", one).out == "old 1\n"
    assert until(lambda: big.ok("logs", two).out) == "new 2\n"
    nothing = big.ok("logs", three)
    assert (nothing.out, nothing.err.startswith(f"{three} has printed nothing, it is queued: ")) == ("", True)

    for snapshot in (big.experiment / ".farmx" / "snapshots").iterdir():
        os.utime(snapshot, (0, 0))  # one that is younger than a day stays
    jobs = until(lambda: found if len(found := sorted(big.farm.jobs())) == 2 else [])  # that of what failed has gone
    told = big.ok("clean", "-y", "--failed", "--snapshots", "sweep")
    assert told.err.endswith("left    1 running, 1 queued\nremoved 2 of 2\n")
    assert [run.name for run in big.runs()] == sorted([two, three])
    assert (big.states(), sorted(big.farm.jobs())) == (["running", "queued"], jobs)
    assert big.ok("clean", "-y", "sweep", two, three).out == "nothing to remove\n"

    go(big)
    big.farm.says("qrls", *jobs)
    assert [big.ok("logs", "-f", run).out for run in (two, three)] == ["new 2\nover\n", "new 3\nover\n"]
    assert big.ended() == ["done", "done"]


def test_a_program_that_the_scheduler_ends_has_its_notice(big):
    waiting(big, "{n: [1]}")
    program = (big.path / "note.sh").read_text()
    big.write("note.sh", f"trap 'echo told >> \"{big.side}.told\"; exit 0' TERM\n{program}")
    big.ok("sweep.yml")
    big.become("running")
    until(lambda: big.starts())
    big.farm.says("qdel", *big.queued().values())
    assert big.ended() == ["interrupted"]
    assert big.side.with_name("side.told").read_text() == "told\n"


def test_a_job_that_vanished_is_lost_and_the_same_command_runs_it_again(big):
    waiting(big, "{n: [1]}")
    big.ok("sweep.yml")
    big.become("running")
    (name,) = names(big)
    until(lambda: big.starts())
    owner = read(big.experiment / name / "attempts/1.0/owner.json")
    os.kill(owner["pid"], signal.SIGKILL)
    big.emptied()
    os.utime(big.experiment / name / "attempts/1.0/heartbeat", (0, 0))
    big.become("lost")
    go(big)
    big.ok("sweep.yml")
    assert big.ended() == ["done"]
    assert big.starts() == [f"{name}/1.0", f"{name}/2.0"]


def test_a_refusal_of_qsub_is_told_and_loses_nothing(big):
    big.configure("-q nowhere.q")
    done = big("sweep.yml")
    assert done.code == 4
    assert 'Job was rejected because job requests unknown queue "nowhere.q"' in done.err.splitlines()[-1]
    assert big.states() == ["staged", "staged"]
    big.configure()
    big.ok("sweep.yml")
    assert big.ended() == ["done", "done"]


@pytest.mark.parametrize(("before", "after"), [("hang", ""), ("", "hang")], ids=["before it queued", "after"])
def test_a_killed_launch_is_finished_by_the_same_command_and_starts_each_run_once(big, before, after):
    big.sweep("{n: [1, 2, 3]}")
    big.configure(more="SUBMIT_PARALLEL: 1")
    (big.path.parent / "bin").mkdir()
    slow = big.path.parent / "bin/qsub"
    calls = big.side.with_name("side.called")
    slow.write_text(SLOW.format(side=big.side, before=before, after=after))
    slow.chmod(0o755)
    path = f"{slow.parent}:{os.environ['PATH']}"
    launch = big.behind("sweep.yml", PATH=path)
    until(lambda: len(calls.read_text().split()) == 2 and len(big.queued()) == 1)
    if after:
        until(lambda: len(big.farm.jobs()) + len(big.starts()) >= 2)
    big.kill(launch)  # one is recorded, one hangs, one was never called
    big.ok("sweep.yml")
    assert big.ended() == ["done"] * 3
    go(big)
    gone(int(calls.read_text().split()[1]))  # now what hung before it queued is queued, too
    big.emptied()
    assert sorted(big.starts()) == sorted(f"{name}/1.0" for name in names(big))


# Grid Engine replaces variables in -o, ends it at a newline and takes a colon for the end of a host.
@pytest.mark.parametrize("output, place", [("{log}", "it's \"a\\b\"; größe"), ("/dev/null", PLACE)],
                         ids=["with a log", "without"])  # fmt: skip
def test_hostile_names_and_values_arrive_as_they_are(gridengine, output, place):
    big = farmer(gridengine, f"{os.getpid()}.{next(NUMBER)} {place}")
    values = ["two words", "it's", "$HOME", "$(date); x", "größe", '"', "a\nb"]
    big.write("t.py", "import json, os, sys\njson.dump(sys.argv[1:], open(os.environ['LOGDIR'] + '/argv', 'w'))\n")
    big.write("sweep.yml", f"CMD: python3 t.py\nHPARAMS: {{s: {json.dumps(values)}}}\n")
    big.configure("-ac {note}", "RESOURCES: {note: \"v=it's a $HOME; value\"}", output)
    big.ok("sweep.yml")
    assert big.ended() == ["done"] * len(values)
    assert sorted(read(run / "argv")[1] for run in big.runs()) == sorted(values)
