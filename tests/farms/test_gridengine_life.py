"""Runs on a real Grid Engine that are cancelled, preempted, held, refused for their number, or packed."""

import json
import os
import shutil
import sys
from itertools import count

import images
import pytest
from commands import read
from launching import until

from farms.farmer import PYTHON, Farmer, farmer
from farms.fixtures import lack
from farms.gridengine import USER
from farms.test_gridengine_farm import go, names, waiting
from farmx import sites

pytestmark = pytest.mark.farm
NUMBER = count()
REQUEUE = "REQUEUE_CODE: 99\n"
# Told to end, it says so, saves and ends; its second attempt ends at once.
TOLD = """trap 'echo "told $FARMX_ATTEMPT" >> "{side}.told"; exit 0' TERM\n"""
SAVES = """if [ "$FARMX_ATTEMPT" -{test} ]; then while :; do sleep 0.1; done; fi"""


@pytest.fixture
def big(gridengine):
    return farmer(gridengine, f"{os.getpid()}.life.{next(NUMBER)}")


def saving(big: Farmer, hparams: str = "{n: [1]}", test: str = "lt 2") -> None:
    """A sweep whose program waits to be told to end, in the attempts of which `test` is true."""
    big.sweep(hparams, SAVES.format(test=test))
    prepend(big, TOLD.format(side=big.side))


def prepend(big: Farmer, text: str) -> None:
    """Let the program of the sweep do this before it notes that it has begun."""
    big.write("note.sh", text + (big.path / "note.sh").read_text())


def packed(big: Farmer, pack: str) -> None:
    big.write("sweep.yml", (big.path / "sweep.yml").read_text() + f"PACK: {pack}\n")


def told(big: Farmer) -> list[str]:
    path = big.side.with_name("side.told")
    return sorted(path.read_text().splitlines()) if path.exists() else []


def attempts(big: Farmer, place: int = 0) -> dict[str, str]:
    """Number -> how it ended, of a run by the value of n."""
    home = big.experiment / names(big)[place] / "attempts"
    return {path.name: read(path / "end.json")["state"] for path in sorted(home.iterdir())}


# ---------------------------------------------------------------- cancelled by their records alone


def test_without_cancel_cmd_what_runs_is_ended_and_what_waits_never_starts(big):
    big.configure("-l h_rt=300", cancel="")
    waiting(big, "{n: [1, 2, 3, 4, 5]}")
    prepend(big, f"trap 'echo told >> \"{big.side}.told\"; exit 0' TERM\n")
    big.ok("sweep.yml", "--first", "4")
    big.become(*["running"] * 4)
    big.ok("sweep.yml")
    big.become(*["running"] * 4, "queued")
    first, *_, last = names(big)
    until(lambda: len(big.starts()) == 4)
    none = "farm big has no CANCEL_CMD"
    assert sorted(line.split(maxsplit=1) for line in big.ok("cancel", first, last).out.splitlines()) == sorted([
        [first, f"asked to end; its runner will see that: {none}"],
        [last, f"cancelled; its job is still queued and will end at once: {none}"],
    ])  # fmt: skip
    big.become("cancelled", *["running"] * 3, "cancelled")
    assert told(big) == ["told"]
    go(big)
    assert big.ended() == ["cancelled", *["done"] * 3, "cancelled"]
    big.emptied()
    assert len(big.starts()) == 4


def test_no_later_stage_begins_of_a_run_that_was_cancelled_before_its_job_looked(big):
    big.configure("-l h_rt=300", cancel="")
    waiting(big, "{n: [1]}")
    first = (big.path / "sweep.yml").read_text().partition("CMD: ")[2].partition("\n")[0]
    stages = {name: f"sh -c 'echo {name} >> {big.side}.told'" for name in ("avg", "test")}
    big.write("sweep.yml", f"CMD: {json.dumps({'train': first, **stages})}\nHPARAMS: {{n: [1]}}\n")
    big.ok("sweep.yml")
    until(lambda: big.starts())
    big.ok("cancel", "sweep")
    go(big)
    assert big.ended() == ["cancelled"]
    assert (told(big), len(big.starts())) == ([], 1)


# ---------------------------------------------------------------- run again


def rescheduled(big: Farmer) -> None:
    big.farm.says("qmod", "-rj", *big.farm.jobs())


def suspended(big: Farmer) -> None:
    big.farm.says("qmod", "-sj", *big.farm.jobs())


WARNED = [
    ("its time is up", "-l s_rt=0:0:12", lambda big: None),
    ("rescheduled", "-r y", rescheduled),
    ("suspended", "-r y", suspended),
]


@pytest.mark.parametrize(("submit", "warn"), [row[1:] for row in WARNED], ids=[row[0] for row in WARNED])
def test_a_program_that_is_warned_has_its_grace_and_goes_on_in_the_next_attempt(big, submit, warn):
    big.configure(submit, REQUEUE)
    saving(big)
    big.ok("sweep.yml")
    until(lambda: big.starts())
    warn(big)
    assert big.ended() == ["done"]
    (name,) = names(big)
    assert (told(big), big.starts()) == (["told 1"], [f"{name}/1.0", f"{name}/1.1"])
    assert attempts(big) == {"1.0": "preempted", "1.1": "done"}
    end = read(big.experiment / name / "attempts/1.0/end.json")
    assert (end["note"], end["again"]) == ("it was told that its time is up; its job is queued again", True)


def test_at_its_last_limit_a_program_has_its_grace_and_the_next_launch_goes_on(big):
    big.configure("-l h_rt=0:0:12", REQUEUE)  # Grid Engine runs such a job again for no code
    saving(big)
    big.ok("sweep.yml")
    assert big.ended() == ["interrupted"]
    assert big.told()[0]["note"] == "preempted, and its job is not queued again"
    big.ok("sweep.yml")
    assert big.ended() == ["done"]
    assert (told(big), attempts(big)) == (["told 1"], {"1.0": "preempted", "2.0": "done"})


def test_the_template_has_a_run_go_on_when_its_time_is_up(big):
    text = sites.site("sge", os.environ["PATH"])[0].text
    big.write(".farmx.yaml", text.replace("s_rt: 4:00:00", "s_rt: 0:0:12") + f"LOGROOT: {big.root}\n")
    saving(big)
    big.ok("sweep.yml")
    assert big.ended() == ["done"]
    assert (told(big), attempts(big)) == (["told 1"], {"1.0": "preempted", "1.1": "done"})


def test_a_run_is_queued_again_so_often_and_then_has_failed(big):
    big.configure("-l s_rt=0:0:10", REQUEUE + "MAX_REQUEUES: 1\n")
    saving(big, test="lt 9")
    big.ok("sweep.yml")
    assert big.ended() == ["failed"]
    assert attempts(big) == {"1.0": "preempted", "1.1": "failed"}
    assert big.told()[0]["note"] == "it was told that its time is up, and it was requeued once (MAX_REQUEUES)"
    big.emptied()


def test_what_is_cancelled_while_it_is_warned_is_not_run_again(big):
    big.configure(more=REQUEUE)
    saving(big)
    big.ok("sweep.yml")
    until(lambda: big.starts())
    assert big.ok("cancel", "sweep").out.endswith("  asked to end\n")
    assert big.ended() == ["cancelled"]
    big.emptied()
    assert (told(big), attempts(big)) == (["told 1"], {"1.0": "cancelled"})


def test_a_programs_own_99_is_a_failure(big):
    big.configure(more=REQUEUE)
    big.sweep("{n: [99, 100]}", 'exit "$2"')
    big.ok("sweep.yml")
    assert big.ended() == ["failed", "failed"]
    big.emptied()
    assert len(big.starts()) == 2


def test_an_exit_code_is_attempted_again_by_the_runner_in_its_own_job(big):
    big.configure(more=REQUEUE)
    big.sweep("{n: [1]}", 'exit $((FARMX_ATTEMPT < 3))', "RETRY: {error: 3}\n")
    big.ok("sweep.yml")
    assert big.ended() == ["done"]
    assert attempts(big) == {"1.0": "preempted", "1.1": "preempted", "1.2": "done"}
    assert len(big.queued()) == 1


# ---------------------------------------------------------------- held


def test_the_rest_is_held_by_its_own_jobs_and_let_go_with_todays_code(big):
    big.configure("-pe smp 4", "SUBMIT_PARALLEL: 1")  # one at a time, in order
    big.sweep("{n: [1, 2, 3, 4, 5]}", "echo 'no such option' >&2; exit 2", "BREAKER: 2\n")
    big.ok("sweep.yml")
    why = "held: the first 2 runs failed with: no such option"
    big.emptied()
    assert [(run["state"], run["note"]) for run in big.told()] == [("failed", "main exited with 2")] * 2 + [
        ("staged", why)] * 3  # fmt: skip
    assert len(big.starts()) == 2
    big.sweep("{n: [1, 2, 3, 4, 5]}", ":", "BREAKER: 2\n")
    assert "runs  5 again, 0 left alone\n" in big.ok("retry", "sweep", "--release").err
    assert big.ended() == ["done"] * 5


# ---------------------------------------------------------------- in error, or standing still


def test_a_job_in_error_has_failed_and_is_queued_anew_or_taken_out(big):
    gone = big.path.parent / "gone"
    big.configure(f"-wd {gone}")
    big.sweep("{n: [1, 2]}")
    big.ok("sweep.yml")
    big.become("failed", "failed")
    one, two = names(big)
    (path,) = (big.experiment / ".farmx/submissions").glob("*/runs")
    places = [line.partition(" ")[2] for line in path.read_text().splitlines()]
    jobs = {name: big.queued()[str(place)] for place, name in enumerate(places)}
    why = "farm big says Eqw of job {}, which failed before it could say why"
    assert [run["note"] for run in big.told()] == [why.format(jobs[name]) for name in (one, two)]
    assert f"failed: {why.format(jobs[one])}\n" in big.ok("why", one).out
    assert big.ok("cancel", two).out == f"{two}  cancelled\n"
    until(lambda: big.farm.jobs() == [jobs[one]])
    assert big.states() == ["failed", "cancelled"]
    big.configure()
    big.ok("retry", one)
    big.become("done", "cancelled")
    gone.mkdir()
    shutil.chown(gone, USER)
    big.farm.says("qmod", "-cj", jobs[one])  # somebody mends what was wrong: it finds its run begun, and ends
    big.emptied()
    assert (big.states(), big.starts()) == (["done", "cancelled"], [f"{one}/1.0"])


def test_what_is_suspended_says_so_and_ends_when_it_is_cancelled(big):
    waiting(big, "{n: [1, 2]}")
    big.ok("sweep.yml")
    until(lambda: len(big.starts()) == 2)
    big.farm.says("qmod", "-sj", *big.farm.jobs())
    until(lambda: [run["note"].partition(", ")[2] for run in big.told()] == ["farm big says s"] * 2)
    first, _ = names(big)
    assert big.states() == ["running", "running"]
    assert big.ok("cancel", first).out == f"{first}  asked to end\n"
    big.become("cancelled", "running")
    big.farm.says("qmod", "-usj", *big.farm.jobs())
    go(big)
    assert big.ended() == ["cancelled", "done"]


# ---------------------------------------------------------------- limits


@pytest.fixture
def few(big):
    """A user may have three jobs."""
    def limit(most: int) -> None:
        text = big.farm.run("qconf", "-sconf", user="root").stdout
        lines = [f"max_u_jobs {most}" if line.startswith("max_u_jobs") else line for line in text.splitlines()[1:]]
        path = big.farm.folder / "global"
        path.write_text("\n".join(lines) + "\n")
        big.farm.run("qconf", "-Mconf", str(path), user="root")

    limit(3)
    yield big
    limit(0)


def test_what_a_limit_keeps_out_is_told_and_queued_by_the_same_command_later(few):
    waiting(few, "{n: [1, 2, 3, 4, 5]}")
    done = few("sweep.yml")
    assert done.code == 4
    assert "      3 queued\n" in done.err
    assert done.err.splitlines()[-1].startswith("farmx: farm big's limit of submitted jobs is reached (")
    assert done.err.splitlines()[-1].endswith(
        "): 2 of 5 runs are not queued; the same command goes on when some have ended"
    )
    assert few.states().count("staged") == 2
    go(few)
    until(lambda: sorted(few.states()) == ["done"] * 3 + ["staged"] * 2)
    few.emptied()
    few.ok("sweep.yml")
    assert few.ended() == ["done"] * 5
    assert len(few.starts()) == 5


# ---------------------------------------------------------------- several runs in one job


def test_a_job_holds_several_runs_and_comes_back_once_for_those_that_are_left(big):
    big.configure("-l s_rt=0:0:30", REQUEUE)
    saving(big, "{n: [1, 2, 3, 4]}", 'lt 2 ] && [ "$2" -lt 3')
    packed(big, "{runs: 2, each: 4}")
    big.ok("sweep.yml")
    big.become("running", "running", "queued", "queued")
    assert big.told()[2]["note"] == "waits for a slot"
    assert big.ended() == ["done"] * 4
    assert told(big) == ["told 1", "told 1"]
    again = {"1.0": "preempted", "1.1": "done"}
    assert [attempts(big, place) for place in range(4)] == [again, again, {"1.0": "done"}, {"1.0": "done"}]
    assert set(big.queued()) == {"0"}


def test_cancel_ends_one_run_of_a_packed_job_and_leaves_the_others(big):
    waiting(big, "{n: [1, 2, 3]}")
    packed(big, "{runs: 2, each: 3}")
    big.ok("sweep.yml")
    until(lambda: len(big.starts()) == 2)
    assert big.ok("cancel", names(big)[0]).out.endswith("  asked to end\n")
    until(lambda: len(big.starts()) == 3)
    assert big.states() == ["cancelled", "running", "running"]
    go(big)
    assert big.ended() == ["cancelled", "done", "done"]


def test_cancel_of_all_that_a_job_holds_ends_the_job(big):
    saving(big, "{n: [1, 2, 3]}")
    packed(big, "{runs: 2, each: 3}")
    big.ok("sweep.yml")
    until(lambda: len(big.starts()) == 2)
    big.ok("cancel", "sweep")
    assert big.ended() == ["cancelled"] * 3
    big.emptied()
    assert (told(big), len(big.starts())) == (["told 1", "told 1"], 2)


# ---------------------------------------------------------------- in an image


def test_a_program_in_a_container_is_warned_and_goes_on_in_the_next_attempt(big):
    if not images.possible():
        lack("no mount namespaces here")
    big.configure("-l s_rt=0:0:12", REQUEUE)
    home = big.path.parent
    runtime = images.Runtime(home / "it's a runtime")
    apptainer = runtime.bin / "apptainer"
    apptainer.write_text(apptainer.read_text().replace(sys.executable, PYTHON))
    for path in (runtime.bin.parent, runtime.bin, apptainer):
        shutil.chown(path, USER)
    saving(big)
    image = {"image": "$IMAGE", "mounts": [str(home)]}
    big.write("sweep.yml", (big.path / "sweep.yml").read_text() + f"CONTAINER: {json.dumps(image)}\n")
    big.ok("sweep.yml", PATH=f"{runtime.bin}:{big.env()['PATH']}", IMAGE=str(runtime.image))
    assert big.ended() == ["done"]
    assert (told(big), attempts(big)) == (["told 1"], {"1.0": "preempted", "1.1": "done"})
    assert [call["image"] for call in runtime.calls()] == [str(runtime.image)] * 2
