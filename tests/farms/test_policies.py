"""RETRY, the breaker and sentinels on a real Slurm."""

import json
import os
import shutil
import signal

import pytest
from commands import read
from launching import PLACE, until

from farms.site import PYTHON, Site, attempts

pytestmark = pytest.mark.farm


def tended(site: Site, *names: str) -> list[tuple[str, bool]]:
    """What tend says and does: (why, whether again) of each run."""
    return [(each["why"], each["again"]) for each in json.loads(site.ok("tend", *names, "--json").out)]


def stand(site: Site) -> list[tuple[str, str]]:
    """The state and the note of each run."""
    return [(run["state"], run["note"]) for run in site.told()]


def asked(site: Site, place: int) -> dict:
    return read(site.submissions()[place] / "job.json")["resources"]


# ---------------------------------------------------------------- RETRY


def test_a_run_that_used_too_much_memory_gets_more(site):
    site.setup('{"mem": "60M"}')
    eat = "x = b'x' * (100 << 20 if attempt == '1' else 1)\ntime.sleep(60 if attempt == '1' else 0)\nnote(n, attempt)\n"
    site.sweep(eat, "{n: [1]}", "RETRY: {oom: {mem: x1.5, max: 100M}}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]
    assert tended(site, "sweep") == [("oom, mem 90M", True)]
    assert tended(site, "sweep") == []
    assert site.ended() == ["done"]
    assert [asked(site, place)["mem"] for place in (0, 1)] == ["60M", "90M"]
    assert site.notes() == ["1 2"]


def test_a_stage_that_used_too_much_memory_gets_more_of_what_it_asks_for_itself(site):
    site.setup('{"mem": "60M"}')
    site.sweep("if sys.argv[1] == 'test' and attempt == '2':\n    x = b'x' * (200 << 20); time.sleep(60)\n"
               "note(sys.argv[1], attempt)")  # fmt: skip
    stages = {"train": f"{PYTHON} job.py train", "test": {"cmd": f"{PYTHON} job.py test", "RESOURCES": {"mem": "100M"}}}
    site.project.write("sweep.yml", f"CMD: {json.dumps(stages)}\nRETRY: {{oom: x2}}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]
    assert tended(site, "sweep") == [("oom, mem 200M", True)]
    assert site.ended() == ["done"]
    assert [asked(site, place)["mem"] for place in (0, 1, 2)] == ["60M", "100M", "200M"]
    assert site.notes() == ["train 1", "test 3"]


def test_an_exit_code_is_attempted_again_by_the_runner_in_its_own_job(site):
    site.sweep("note(n, attempt); sys.exit(attempt < '3')", "{n: [1]}", "RETRY: {error: 3}\n")
    site.ok("sweep.yml")
    for attempt in ("1", "2"):
        site.noted(f"1 {attempt}")
    assert site.ended() == ["done"]
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "preempted", "1.2": "done"}
    ends = [read(site.run() / "attempts" / name / "end.json") for name in ("1.0", "1.1")]
    assert [(end["cause"], end["again"], end["note"]) for end in ends] == [
        ("error", True, "main exited with 1; its job is queued again (RETRY error)")
    ] * 2
    assert len(site.submissions()) == 1


def test_when_its_attempts_are_used_up_it_has_failed(site):
    site.sweep("note(n, attempt); sys.exit(3)", "{n: [1]}", "RETRY: {error: 1}\n")
    site.ok("sweep.yml")
    site.noted("1 1")
    assert site.ended() == ["failed"]
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "failed"}
    assert tended(site) == [("error: 1 further attempt was made (RETRY)", False)]
    assert site.notes() == ["1 1", "1 2"]


def test_a_time_limit_is_doubled(site):
    site.setup('{"time": 1, "signal": "B:USR2@20"}')  # sent up to 30 s before that, and never as it begins
    site.sweep("note(n, attempt); time.sleep(300 if attempt == '1' else 0)", "{n: [1]}",
               "RETRY: {time: x2}\nMAX_REQUEUES: 0\n")  # fmt: skip
    site.ok("sweep.yml")
    assert site.ended(seconds=150) == ["failed"]
    assert tended(site) == [("time, time 2", True)]
    assert site.ended() == ["done"]
    assert [asked(site, place)["time"] for place in (0, 1)] == [1, 2]


def test_a_run_whose_runner_was_killed_is_queued_anew_as_often_as_retry_says(site):
    site.sweep("note(n, attempt); time.sleep(300)", "{n: [1]}", "RETRY: {node_fail: 1}\n")
    site.ok("sweep.yml")
    for attempt in (1, 2):
        site.noted(f"1 {attempt}")
        owner = read(site.run() / f"attempts/{attempt}.0/owner.json")
        os.kill(owner["pid"], signal.SIGKILL)
        assert site.ended() == ["failed"]
        again = [("node_fail", True)] if attempt == 1 else [("node_fail: 1 further attempt was made (RETRY)", False)]
        assert tended(site) == again
    assert site.notes() == ["1 1", "1 2"]


# ---------------------------------------------------------------- the breaker


def test_the_rest_of_an_array_is_held_and_let_go_with_todays_code(site):
    site.setup('{"array_parallelism": 1}')
    site.sweep("note(n); raise KeyError('it\\'s $HOME; größe')", "{n: [1, 2, 3, 4, 5, 6]}", "BREAKER: 3\n")
    site.ok("sweep.yml")
    why = "held: the first 3 runs failed with: KeyError: \"it's $HOME; größe\" (job.py:10)"
    until(lambda: stand(site) == [("failed", "main exited with 1")] * 3 + [("queued", why)] * 3)
    said = site("sweep.yml").err
    assert f"held  3: {why.removeprefix('held: ')}\n" in said
    assert "next  farmx retry --release sweep  # once that is mended: they and what failed, with today's code\n" in said
    site.sweep("note(n, 'mended')", "{n: [1, 2, 3, 4, 5, 6]}", "BREAKER: 3\n")
    done = site.ok("retry", "sweep", "--release")
    assert "      3 let go\n" in done.err and "runs  3 again, 0 left alone\n" in done.err
    assert site.ended() == ["done"] * 6
    assert sorted(site.notes()) == sorted(["1", "2", "3", *(f"{n} mended" for n in range(1, 7))])


def test_what_retry_queued_again_is_held_with_the_rest_and_let_go_with_todays_code(site):
    site.setup('{"array_parallelism": 1}')
    more = "BREAKER: 2\nRETRY: {error: 1}\n"
    site.sweep("note(n, attempt); raise KeyError('lr')", "{n: [1, 2, 3]}", more)
    site.ok("sweep.yml")
    held = "held: the first 2 runs failed with: KeyError: 'lr' (job.py:10)"
    until(lambda: stand(site) == [("preempted", held), ("preempted", held), ("queued", held)])
    site.sweep("note(n, 'mended', attempt)", "{n: [1, 2, 3]}", more)
    done = site.ok("retry", "sweep", "--release")
    assert "      3 let go\n" in done.err and "runs  0 again, 0 left alone\n" in done.err
    assert site.ended() == ["done"] * 3
    assert sorted(site.notes()) == ["1 1", "1 mended 2", "2 1", "2 mended 2", "3 mended 1"]


HOLDS = {
    "refused": ('echo "no controller" >&2; exit 1', ["staged"] * 3),
    "its runner killed": ('[ -e "$0.once" ] || { touch "$0.once"; exec kill -9 $PPID; }', ["staged"] + ["queued"] * 2),
}


@pytest.mark.parametrize(("hold", "rest"), HOLDS.values(), ids=HOLDS)
def test_where_a_hold_fails_what_it_should_hold_begins_nothing_and_can_be_let_go(site, tmp_path, hold, rest):
    fake = tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nif [ "$1" = hold ]; then {hold}; fi\nexec {shutil.which("scontrol")} "$@"\n')
    fake.chmod(0o755)
    site.setup('{"array_parallelism": 1}')
    site.sweep("note(n); raise KeyError('lr')", "{n: [1, 2, 3, 4, 5, 6]}", "BREAKER: 3\n")
    site.ok("sweep.yml", PATH=f"{fake.parent}:{os.environ['PATH']}")
    why = "held: the first 3 runs failed with: KeyError: 'lr' (job.py:10)"
    until(lambda: stand(site) == [("failed", "main exited with 1")] * 3 + [(state, why) for state in rest])
    assert site.notes() == ["1", "2", "3"]
    site.sweep("note(n, 'mended')", "{n: [1, 2, 3, 4, 5, 6]}", "BREAKER: 3\n")
    site.ok("retry", "sweep", "--release")
    assert site.ended() == ["done"] * 6
    assert sorted(site.notes()) == sorted(["1", "2", "3", *(f"{n} mended" for n in range(1, 7))])


def test_the_arrays_of_a_launch_count_together_and_are_held_together(site):
    site.setup('{"array_parallelism": 1}')
    program = "note(n)\nif n == '5': wait(os.environ['SIDE'] + '.go')\nraise KeyError('lr')"
    arrays = "[{n: [1, 2, 3, 4], SUBMIT_JOB.PARTITION: main}, {n: [5, 6], SUBMIT_JOB.PARTITION: low}]"
    site.sweep(program, arrays, "BREAKER: 3\n")
    site.ok("sweep.yml")
    assert len(site.submissions()) == 2
    site.noted("5")
    held = [False] * 3 + [True, False, True]
    until(lambda: [run["note"].startswith("held: the first 3 runs") for run in site.told()] == held)
    site.go()
    until(lambda: site.states() == ["failed"] * 3 + ["queued", "failed", "queued"])
    site.sweep("note(n, 'mended')", arrays, "BREAKER: 3\n")
    assert "      2 let go\n" in site.ok("retry", "sweep", "--release").err
    assert site.ended() == ["done"] * 6


def test_what_is_held_can_be_cancelled(site):
    site.setup('{"array_parallelism": 1}')
    site.sweep("sys.exit('no')", "{n: [1, 2, 3]}", "BREAKER: 1\n")
    site.project.write("job.py", "raise SystemError\n")
    site.ok("sweep.yml")
    until(lambda: [run["state"] for run in site.told()] == ["failed", "queued", "queued"])
    site.ok("cancel", "sweep")
    assert site.ended() == ["failed", "cancelled", "cancelled"]


# ---------------------------------------------------------------- sentinels


def sentinels(site: Site) -> list[str]:
    """The states of the sentinels of all submissions, '' where there was none."""
    names = [f"{site.name(each)}.tend" for each in site.submissions()]
    return [site.slurm.says("squeue", "-h", "-t", "all", f"--name={name}", "-o", "%T %P") for name in names]


@pytest.mark.parametrize("root", ["root", PLACE.replace("$", ""), "100% %A"])
def test_a_sentinel_does_what_retry_says_and_what_it_queues_has_its_own(site, tmp_path, root):
    site.setup('{"mem": "60M", "partition": "low"}')
    site.sweep("note(n, attempt); sys.exit(attempt == '1')", "{n: [1]}",
               "RETRY: {error: {mem: x1.5}}\nSENTINEL: true\n")  # fmt: skip
    site.ok("sweep.yml", FARMX_LOGROOT=str(tmp_path / root))
    site.noted("1 2")
    home = tmp_path / root / "sweep" / ".farmx" / "submissions"
    first, second = sorted(home.iterdir())
    assert until(lambda: (second / "tend.log").read_text()) == NOTHING
    line, count = until(lambda: said if len(said := (first / "tend.log").read_text().splitlines()) == 2 else [])
    assert (line.partition("  ")[2], count) == ("again: error, mem 90M", "      1 queued")
    assert [read(each / "job.json")["resources"] for each in (first, second)] == [
        {"mem": mem, "cpus-per-task": 1, "partition": "low"} for mem in ("60M", "90M")
    ]
    assert [site.slurm.says("squeue", "-h", "-t", "all", f"--name={site.name(each)}.tend", "-o", "%P")
            for each in (first, second)] == ["low", "low"]  # fmt: skip


NOTHING = "nothing is due: no run failed or was lost that RETRY speaks of\n"


def test_without_one_there_is_none(site):
    site.sweep("sys.exit(3)", "{n: [1]}", "RETRY: {node_fail: 1}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]
    assert sentinels(site) == [""]


def test_a_sentinel_that_is_refused_is_told_and_the_runs_are_queued(site, tmp_path):
    refuse = tmp_path / "bin" / "sbatch"
    refuse.parent.mkdir()
    refuse.write_text(f"#!/bin/sh\ncase \"$*\" in *.tend*) echo \"sbatch: error: no; it's full\" >&2; exit 1;; esac\n"
                      f"exec {shutil.which('sbatch')} \"$@\"\n")  # fmt: skip
    refuse.chmod(0o755)
    site.sweep("note(n); wait(os.environ['SIDE'] + '.go')", "{n: [1, 2]}", "SENTINEL: true\n")
    done = site("sweep.yml", PATH=f"{refuse.parent}:{os.environ['PATH']}")
    told = "the runs are queued, and their sentinel is not: no; it's full; farmx tend does what it would\n"
    assert (done.code, done.err.endswith(f"      2 queued\nfarmx: {told}")) == (4, True)
    assert sentinels(site) == [""]
    for _ in range(2):  # the same command puts one there, once
        site.ok("sweep.yml")
        assert sentinels(site) == ["PENDING main"]
    site.go()
    assert site.ended() == ["done", "done"]
