"""outbox: an event is written down once and sent once, whoever sees it, sends it, or dies meanwhile."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from commands import project
from launching import Place, lost

from farmx import layout, notices, outbox, processes
from farmx.cli import notifying
from farmx.farms import base
from farmx.spec import Job

DEAD = {"host": processes.host(), "boot": processes.boot_id(), "pid": 2**22, "birth": "1", "format": 1}


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def handed(place: Place, *runs: str, name: str = "s") -> str:
    """A submission that is told of; its path."""
    made = place.submission(*(Job(run, "1.0") for run in runs), name=name)
    notices.want([made.path])
    return made.path


def ended(run: str, state: str, number: str = "1.0", **more: object) -> str:
    """Let an attempt of the run have ended so."""
    attempt = Path(run, layout.ATTEMPTS, number)
    attempt.mkdir(parents=True)
    (attempt / layout.END).write_text(json.dumps({"format": 1, "state": state, "started": 1.0, "ended": 2.0, **more}))
    return number


def events(place: Place) -> dict[str, dict]:
    home = Path(notices.outbox(str(place.experiment)))
    found = {path.stem: json.loads(path.read_text()) for path in home.glob("*.json")}
    shared = {"format": 1, "experiment": "sweep", "launch": "s"}
    assert all(shared.items() <= told.items() for told in found.values())
    return {name: {key: told[key] for key in told if key not in shared} for name, told in found.items()}


# ---------------------------------------------------------------- written down


@pytest.mark.parametrize("told", [{}, {"launch": "s"}, {"launch": 1, "submissions": ["s"]},
                                  {"launch": "s", "submissions": -1}, {"launch": "s", "submissions": [1]}])
def test_a_word_that_does_not_say_of_which_launch_it_is_ends_no_run_and_no_sender(place, told):
    run = place.run(name="one")
    path = handed(place, run)
    (Path(notices.outbox(str(place.experiment))) / "s.wanted").write_text(json.dumps({"format": 1, **told}))
    notices.note(path, run, ended(run, "failed"), "failed")
    outbox.settle(str(place.experiment))
    assert events(place) == {}


def test_the_last_attempt_that_ends_writes_the_end_down(place):
    one, two = place.run(name="one"), place.run(name="two")
    path = handed(place, one, two)
    notices.note(path, two, ended(two, "done"), "done")
    assert events(place) == {}
    notices.note(path, one, ended(one, "failed"), "failed")
    failed = {"event": "failed", "run": "one", "attempt": "1.0", "error": ""}
    assert events(place) == {"s.failed": failed, "s.ended": {"event": "ended", "counts": {"failed": 1, "done": 1}}}


QUEUED_AGAIN = [
    ({"again": True}, "again"),  # by its runner
    ({}, "preempted"),  # by its scheduler
]


@pytest.mark.parametrize(("more", "told"), QUEUED_AGAIN)
def test_what_is_queued_again_has_not_ended(place, more, told):
    one = place.run()
    path = handed(place, one)
    notices.note(path, one, ended(one, "preempted", **more), told)
    assert events(place) == {}
    notices.note(path, one, ended(one, "done", "1.1"), "done")
    assert events(place) == {"s.ended": {"event": "ended", "counts": {"done": 1}}}


@pytest.mark.parametrize(("more", "told"), QUEUED_AGAIN)
def test_what_never_came_back_and_was_queued_anew_holds_no_end_up(place, more, told):
    one, two = place.run(name="one"), place.run(name="two")
    path = handed(place, one, two)
    notices.note(path, one, ended(one, "preempted", **more), told)
    ended(one, "done", "2.0")  # by a retry
    notices.note(path, two, ended(two, "done"), "done")
    assert events(place) == {"s.ended": {"event": "ended", "counts": {"taken up again": 1, "done": 1}}}


def test_the_end_of_what_its_scheduler_was_to_queue_again_and_lost_is_told_by_who_looks(place):
    one = place.run()
    path = handed(place, one)
    notices.note(path, one, ended(one, "preempted"), "preempted")
    assert events(place) == {}
    Path(path, layout.JOB).write_text(json.dumps({**DEAD, "farm": "local", "executor": "local"}))
    outbox.settle(str(place.experiment))
    ((_, told),) = events(place).items()
    assert (told["event"], sum(told["counts"].values())) == ("ended", 1)


def test_the_arrays_of_one_launch_end_together(place):
    one, two = place.run(name="one"), place.run(name="two")
    paths = [place.submission(Job(run, "1.0"), name=name).path for run, name in ((one, "s"), (two, "s-2"))]
    notices.want(paths)
    notices.note(paths[1], two, ended(two, "done"), "done")
    assert events(place) == {}
    notices.note(paths[0], one, ended(one, "done"), "done")
    assert events(place) == {"s.ended": {"event": "ended", "counts": {"done": 2}}}


def test_without_a_wish_or_a_writable_disk_nothing_is_written_and_nothing_fails(place):
    one = place.run()
    path = place.submission(Job(one, "1.0")).path
    notices.note(path, one, ended(one, "failed"), "failed")
    assert not os.path.exists(notices.outbox(str(place.experiment)))
    notices.want([path])
    Path(notices.outbox(str(place.experiment)), "s" + layout.WANTED_SUFFIX).write_text("torn")
    notices.note(path, one, "1.0", "failed")
    assert events(place) == {}


def test_of_many_who_see_it_at_once_one_writes_it_down(place):
    os.makedirs(notices.outbox(str(place.experiment)))
    assert sum(at_once(lambda: notices.post(str(place.experiment), "s", "ended", {}))) == 1
    assert events(place) == {"s.ended": {"event": "ended"}}


def at_once(does, count: int = 16) -> list:
    """What `does` returns to each of many threads that begin together."""
    gate, found = threading.Barrier(count), []

    def one() -> None:
        gate.wait()
        found.append(does())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


# ---------------------------------------------------------------- claimed


@pytest.fixture
def message(place):
    """The experiment of one message, and how to look for what waits in it."""
    os.makedirs(notices.outbox(str(place.experiment)))
    notices.post(str(place.experiment), "s", "ended", {"counts": {"done": 1}})
    return lambda: outbox.waiting(str(place.experiment))


def test_what_waits_is_in_the_order_in_which_it_happens_and_what_a_newer_farmx_tells_comes_first(message, place):
    for event in ("held", "failed", "newer"):
        notices.post(str(place.experiment), "s", event, {})
    notices.post(str(place.experiment), "a", "ended", {})
    assert [found.name for found in message()][0] == "a.ended"
    assert sorted(found.name for found in message()[1:3]) == ["s.failed", "s.newer"]
    assert [found.name for found in message()[3:]] == ["s.held", "s.ended"]


def test_of_many_senders_one_gets_it_and_none_once_it_was_sent(message):
    (found,) = message()
    assert sum(at_once(found.claim)) == 1
    assert message() == []
    found.sent()
    assert message() == []
    assert sum(at_once(found.claim)) == 0


def test_one_that_was_sent_is_so_where_a_file_server_repeats_the_rename(message, monkeypatch):
    (found,) = message()
    assert found.claim()
    lost(monkeypatch, "rename", errno.ENOENT)
    found.sent()
    assert sorted(os.listdir(found.home)) == ["s.ended.json", "s.ended.sent"]


def test_one_that_could_not_be_sent_waits_with_its_tries(message, place):
    for tries in range(3):
        (found,) = message()
        assert notifying.fresh([str(place.experiment)]) == (tries == 0)
        assert (found.tries, found.reached, found.stuck) == (tries, ("a",) if tries else (), "")
        assert found.claim()
        found.kept(["a"])


def test_of_a_sender_that_died_it_is_taken_only_by_who_says_so(message, place):
    (found,) = message()
    Path(found.home, found.name + layout.CLAIM_SUFFIX).write_text(json.dumps(DEAD))
    (stuck,) = message()
    assert stuck.stuck != "" and not stuck.claim()
    assert not notifying.fresh([str(place.experiment)])  # nothing to look at again and again
    assert sum(at_once(lambda: stuck.claim(again=True))) == 1
    assert message() == []


@pytest.mark.parametrize(("age_s", "stuck"), [(-60, []), (base.SILENT_S - 60, []), (base.SILENT_S + 60, [True])])
def test_a_sender_on_another_host_is_taken_for_gone_once_it_is_silent(message, age_s, stuck):
    (found,) = message()
    path = Path(found.home, found.name + layout.CLAIM_SUFFIX)
    path.write_text(json.dumps({**DEAD, "host": "elsewhere"}))
    then = layout.now_at(found.home) - age_s
    os.utime(path, (then, then))
    assert [bool(each.stuck) for each in message()] == stuck


# ---------------------------------------------------------------- what nobody else saw


def test_a_pool_that_was_killed_ends_its_launch(place):
    one, two = place.run(name="one"), place.run(name="two")
    path = handed(place, one, two)
    ended(one, "done")
    outbox.settle(str(place.experiment))
    assert events(place) == {}  # it was not handed over yet
    Path(path, layout.JOB).write_text(json.dumps({**DEAD, "farm": "local", "executor": "local"}))
    outbox.settle(str(place.experiment))
    ((_, told),) = events(place).items()
    assert (told["event"], sum(told["counts"].values()), told["counts"]["done"]) == ("ended", 2, 1)


@pytest.mark.parametrize(("again", "tells"), [(["one"], ["s.ended", "t.ended"]), (["one", "two"], ["t.ended"])])
def test_an_end_is_not_told_whose_runs_a_later_submission_took_all(place, again, tells):
    """By a sentinel: all these ends are due as the last of them is."""
    runs = {name: place.run(name=name) for name in ("one", "two")}
    first = handed(place, *runs.values())
    for name, run in runs.items():
        notices.note(first, run, ended(run, "preempted" if name in again else "done", cause="oom"), "preempted")
    later = place.submission(*(Job(runs[name], "2.0") for name in again), name="t").path
    notices.want([later])
    for name in again:
        notices.note(later, runs[name], ended(runs[name], "done", "2.0"), "done")
    Path(first, layout.JOB).write_text(json.dumps({**DEAD, "farm": "local", "executor": "local"}))
    outbox.settle(str(place.experiment))
    assert [each.name for each in outbox.waiting(str(place.experiment))] == tells
    outbox.settle(str(place.experiment))
    assert not list(Path(notices.outbox(str(place.experiment))).glob(f"*{layout.WANTED_SUFFIX}"))


def test_what_was_told_or_deleted_is_not_looked_at_again(place):
    one = place.run()
    path = handed(place, one)
    notices.note(path, one, ended(one, "done"), "done")
    outbox.settle(str(place.experiment))
    assert sorted(os.listdir(notices.outbox(str(place.experiment)))) == ["s.ended.json"]


def test_a_message_that_may_have_been_sent_is_said_and_sent_on_demand(tmp_path, posting, post):
    told = project(tmp_path, posting)
    told.write(".farmx.yaml", "NOTIFY: file://$TOLD\n")
    post.down.write_text("")
    told.ok("sweep.yml", "-i")
    post.down.unlink()
    (found,) = outbox.waiting(str(told.experiment))
    Path(found.home, found.name + layout.CLAIM_SUFFIX).write_text(json.dumps(DEAD))
    said = "1 message may have been sent: its sender ended meanwhile; farmx notify --flush sends it again"
    assert told.ok("tend").err.splitlines()[0] == f"note  NOTIFY: {said}"
    assert post.told() == []
    notices.post(str(told.experiment), "newer", "ended", {"counts": {"done": 1}})  # is sent, and takes none along
    assert told.ok("tend").err.splitlines()[0] == f"note  NOTIFY: {said}"
    assert post.told() == ["sweep: 1 done|sumx sweep"]
    assert told.ok("notify", "--flush").err == "      1 sent\n"
    assert post.told() == ["sweep: 1 done|sumx sweep", "sweep: 2 done|sumx sweep"]
