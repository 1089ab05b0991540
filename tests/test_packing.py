"""PACK on a farm that a command submits to: one call a job, and each run with its own record."""

import json
import os
from pathlib import Path

import pytest
from launching import end, output
from submitting import SUBMIT, calls, put, submission

FARM = """FARM: big
big: {SUBMIT_CMD: submit_job, SUBMIT_PARALLEL: 1, STATUS_CMD: 'state_of {ids}', CANCEL_CMD: 'end_of {ids}'}
"""
SCRIPTS = {
    "submit_job": SUBMIT,
    "state_of": '#!/bin/sh\ncat "$HOLD/states"\n',
    "end_of": '#!/bin/sh\necho "$@" >> "$HOLD/ended"\n',
}
SHOW = "sh -c 'echo $CUDA_VISIBLE_DEVICES; exit $1'"


@pytest.fixture
def hold(tmp_path, monkeypatch):
    path = put(tmp_path / "hold", monkeypatch, SCRIPTS)
    (path / "states").touch()
    return path


def pack(project, more="PACK: {runs: 2, each: 3}", values="[0, 1, 2, 3, 4]") -> None:
    project.write(".farmx.yaml", FARM)
    project.sweep(f"{{n: {values}}}", SHOW, f"ARG_STYLE: gnu\n{more}\n")


def work(hold: Path, number: int, **env: str) -> None:
    """Let the farm run a job."""
    told = calls(hold)[number - 1][-1]
    assert os.spawnvpe(os.P_WAIT, "sh", ["sh", "-c", told], {**os.environ, **env}) in (0, 1)


def states(project) -> list[str]:
    told = json.loads(project.ok("status", "sweep", "--json").out)["runs"]
    order = [line.partition(" ")[2] for line in (submission(project) / "runs").read_text().splitlines()]
    return [f"{run['state']}: {run['note']}" for run in sorted(told, key=lambda run: order.index(run["run"]))]


def test_a_job_is_submitted_for_each_block_of_runs(project, hold):
    pack(project)
    done = project.ok("sweep.yml")
    assert "      5 queued\n" in done.err
    assert (submission(project) / "queued").read_text() == "0-2 1\n3-4 2\n"
    assert json.loads((submission(project) / "job.json").read_text())["pack"] == {"slots": 2, "each": 3}
    assert sorted(path.name for path in submission(project).glob("*.sh")) == ["0.sh", "1.sh"]


def test_each_run_of_a_job_has_its_own_log_and_end_and_a_share_of_its_gpus(project, hold):
    pack(project)
    project.ok("sweep.yml")
    work(hold, 1, CUDA_VISIBLE_DEVICES="4,5")
    runs = [line.partition(" ")[2] for line in (submission(project) / "runs").read_text().splitlines()]
    homes = [str(project.experiment / run) for run in runs]
    assert [(told := end(home)) and (told["state"], told["code"]) for home in homes] == [
        ("done", 0), ("failed", 1), ("failed", 2), None, None,
    ]  # fmt: skip
    assert sorted(output(home) for home in homes[:3]) in (["4\n", "4\n", "5\n"], ["4\n", "5\n", "5\n"])


ANSWERS = [
    ("1 R\n", ["queued: waits for a slot"] * 3),
    ("1 Q\n", ["queued: farm big says Q"] * 3),
    ("1 EXIT\n",
     ["lost: farm big says EXIT of job 1, which failed before it could say why; the run had not begun"] * 3),
    ("1 DONE\n", ["lost: its job ended without recording an end"] * 3),
    ("", ["lost: its job left the queue and never began it"] * 3),
]


@pytest.mark.parametrize(("said", "told"), ANSWERS)
def test_what_the_farm_says_of_a_job_is_said_of_each_run_in_it(project, hold, said, told):
    pack(project, values="[0, 1, 2]")
    project.ok("sweep.yml")
    (hold / "states").write_text(said)
    assert states(project) == told


def test_a_run_that_waits_is_cancelled_without_its_job_and_the_last_one_with_it(project, hold):
    pack(project, values="[0, 1, 2]")
    project.ok("sweep.yml")
    (hold / "states").write_text("1 R\n")
    runs = [line.partition(" ")[2] for line in (submission(project) / "runs").read_text().splitlines()]
    project.ok("cancel", runs[0], runs[2])
    assert not (hold / "ended").exists()
    project.ok("cancel", runs[1])
    assert (hold / "ended").read_text() == "1\n"
    work(hold, 1)
    assert [end(str(project.experiment / run))["state"] for run in runs] == ["cancelled"] * 3


def test_what_a_dead_job_left_is_taken_up_by_the_next_launch_and_shares_a_job_again(project, hold):
    pack(project, values="[0, 1, 2, 3]")
    project.ok("sweep.yml")
    done = project.ok("sweep.yml")
    assert "runs  4: 4 taken up" in done.err
    assert len(calls(hold)) == 4


REFUSED = [
    ("PACK: {per_gpu: 2}", "sweep.yml:4:1: PACK: it says per_gpu, and RESOURCES does not say how many GPUs a job has; "
     "write gpus there, or runs here"),
    ("PACK: {runs: 2}\nRESOURCES: {nodes: 2}", "sweep.yml:4:1: PACK: runs of several tasks cannot share a job, and "
     "RESOURCES says nodes: 2; take out one of the two"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "problem"), REFUSED)
def test_a_pack_that_fits_no_job_is_refused_before_anything_is_made(project, hold, more, problem):
    pack(project, more)
    assert project("sweep.yml").line(2) == problem
    assert not project.root.exists()


def test_on_this_machine_a_pack_changes_nothing(project, hold):
    pack(project)
    done = project("sweep.yml", "-j", "2")
    assert done.code == 1
    assert sorted(project.states().values()) == ["done"] + ["failed"] * 4
    assert not (hold / "count").exists()


def test_a_stage_with_a_job_of_its_own_cannot_share_one(project, hold):
    project.write(".farmx.yaml", "FARM: big\nbig: {EXECUTOR: slurm, PACK: {runs: 4}}\n")
    project.write("sweep.yml", "CMD:\n  a: echo {n}\n  b: {cmd: echo, RESOURCES: {mem: 4}}\nHPARAMS: {n: [1, 2]}\n")
    assert project("sweep.yml").line(2) == (
        ".farmx.yaml:2:24: PACK: stage b has RESOURCES, and so a job of its own, which runs cannot share; take out one "
        "of the two, or write PACK: {runs: 1}"
    )
    assert not project.root.exists()


def test_a_retry_shares_jobs_as_the_launch_did(project, hold):
    pack(project, values="[1, 2, 3, 4]")
    project.ok("sweep.yml")
    work(hold, 1)
    work(hold, 2)
    project.ok("retry", "sweep")
    assert (hold / "count").read_text().count("x") == 4
    pack(project, "PACK: {runs: 4}", "[1, 2, 3, 4]")  # as the sweep file says today
    project.ok("retry", "sweep", "--state", "lost")
    assert (hold / "count").read_text().count("x") == 5


def test_tend_shares_jobs_as_the_launch_did(project, hold):
    pack(project, "PACK: {runs: 2, each: 4}\nRETRY: {error: 1}", "[1, 2, 3, 4, 5, 6]")
    project.ok("sweep.yml")
    work(hold, 1)
    work(hold, 2)
    assert project.ok("tend").err == "      6 queued\n"
    assert (hold / "count").read_text().count("x") == 4


def test_a_breaker_keeps_the_rest_of_a_job_from_beginning(project, hold):
    project.write(".farmx.yaml", FARM + "PACK: {runs: 1, each: 9}\nBREAKER: 2\n")
    project.sweep("{n: [1, 2, 3, 4]}", "sh -c 'echo no such option >&2; exit 2'")
    project.ok("sweep.yml")
    work(hold, 1)
    held = "staged: held: the first 2 runs failed with: no such option"
    assert states(project) == ["failed: main exited with 2"] * 2 + [held] * 2
