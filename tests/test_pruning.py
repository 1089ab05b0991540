"""launch --prune: what waits and left the sweep file is shown, then cancelled; nothing else is touched."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import Done, Project, hparams, read
from schedulers import Scheduler
from submitting import configure, put


@pytest.fixture
def waiting(project: Project) -> Project:
    """n: 1 done; 2, 3 staged; the file then holds 1 and 2."""
    project.sweep("{n: [1, 2, 3]}")
    project.ok("sweep.yml", "-i")
    for n, run in by_n(project).items():
        if n != 1:
            shutil.rmtree(run / "attempts")
    project.sweep("{n: [1, 2]}")
    return project


def by_n(project: Project) -> dict[int, Path]:
    return {hparams(run)["n"]: run for run in project.runs()}


def states(project: Project) -> dict[int, str]:
    told = project.states()
    return {n: told[run.name] for n, run in by_n(project).items()}


def test_what_waits_and_left_the_file_is_shown_and_cancelled(waiting):
    told = waiting("sweep.yml", "-i", "--prune", "-y")
    name = by_n(waiting)[3].name
    assert f"prune 1 waiting run left the sweep file:\n      {name}  staged  n=3\n      {name}  cancelled\n" in told.err
    assert states(waiting) == {1: "done", 2: "done", 3: "cancelled"}


def test_a_retry_of_the_experiment_leaves_what_it_cancelled_and_a_launch_takes_it_up_once_its_point_is_back(waiting):
    waiting.ok("sweep.yml", "-i", "--prune", "-y")
    name, end = by_n(waiting)[3].name, read(by_n(waiting)[3] / "attempts/1.0/end.json")
    assert (end["state"], end["cause"], end["note"]) == (
        "cancelled", "dropped", "its point left the sweep file (--prune)"
    )  # fmt: skip
    assert waiting.ok("retry", "sweep").err.splitlines()[:2] == [
        "runs  0 again, 3 left alone", "left  2 done (--state done runs them), 1 cancelled (--state cancelled runs it)",
    ]  # fmt: skip
    assert states(waiting) == {1: "done", 2: "done", 3: "cancelled"}
    for asked in (["sweep", "--state", "cancelled"], [name]):
        assert "runs  1 again" in waiting.ok("retry", *asked).err
        assert states(waiting) == {1: "done", 2: "done", 3: "done"}
        shutil.rmtree(by_n(waiting)[3] / "attempts")
        waiting.ok("sweep.yml", "-i", "--prune", "-y")
        assert states(waiting) == {1: "done", 2: "done", 3: "cancelled"}
    waiting.sweep("{n: [1, 2, 3]}")
    told = waiting.ok("sweep.yml", "-i").err
    assert "3: 2 done, 1 taken up" in told and "failed or cancelled" not in told
    assert states(waiting) == {1: "done", 2: "done", 3: "done"}


def test_what_is_told_to_type_next_says_that_it_takes_points_that_left_the_file_too(project):
    project.sweep("{n: [1, 2, 3]}", "sh note.sh", "ENV: {N: 0}\n")
    project.write("note.sh", "exit 1\n")
    assert project("sweep.yml", "-i").err.endswith("next  farmx retry sweep  # 3 failed or cancelled\n")
    for left, more in (("[1, 2]", "1 point outside this sweep counts"), ("[1]", "2 points outside this sweep count")):
        project.sweep(f"{{n: {left}}}", "sh note.sh", "ENV: {N: 0}\n")
        failed = f"{left.count(',') + 1} failed or cancelled; {more}, too"
        assert project("sweep.yml", "-i").err.endswith(f"next  farmx retry sweep  # {failed}\n")
    assert "3 again, 0 left alone" in project("retry", "sweep", "-i").err


def test_what_is_told_to_type_next_counts_nothing_that_it_cancelled(waiting):
    waiting.ok("sweep.yml", "-i", "--prune", "-y")
    waiting.write("note.sh", "exit 3\n")
    told = waiting("retry", "sweep", "--state", "done", "--code", "now").err
    assert told.endswith("next  sumx sweep\nnext  farmx retry sweep  # 2 failed or cancelled\n"), told
    assert states(waiting) == {1: "failed", 2: "failed", 3: "cancelled"}


@pytest.mark.parametrize("sure", ["-y", "--yes"])
def test_what_is_told_to_type_again_agrees_to_nothing(waiting, sure):
    waiting("sweep.yml", "-i", "--prune", sure)
    waiting.write("note.sh", ":\n")
    told = waiting.ok("sweep.yml", "--prune", "-i", sure)
    assert told.err.splitlines()[-1] == "next  farmx sweep.yml -i --again  # 2 made from other code: note.sh"


def test_without_a_terminal_nothing_is_cancelled_or_launched_unless_agreed(waiting):
    told = waiting("sweep.yml", "-i", "--prune")
    assert told.code == 2
    assert told.err.endswith("farmx: --prune would cancel 1 run; give -y if you mean it\n")
    assert states(waiting) == {1: "done", 2: "staged", 3: "staged"}


@pytest.mark.parametrize("fewer", ["--first 1", "--first 1 --tag t", "--first 1 --no-cooldir"])
def test_what_the_options_leave_out_has_not_left_the_file(waiting, fewer):
    told = waiting.ok("sweep.yml", "-i", "--prune", "-y", *fewer.split())
    assert "prune 1 waiting run left the sweep file:\n" in told.err
    assert states(waiting) == {1: "done", 2: "staged", 3: "cancelled"}


def test_a_point_that_another_file_of_the_experiment_holds_has_not_left_it(waiting):
    other = waiting.path / "it's other"
    other.mkdir()
    (other / "sweep.yml").write_text("CMD: sh note.sh\nHPARAMS: {n: [3]}\n")
    waiting.ok(f"{other}/sweep.yml", "-i")
    shutil.rmtree(by_n(waiting)[3] / "attempts")
    waiting.sweep("{n: [1]}")
    assert "prune 1 waiting run left" in waiting.ok("sweep.yml", "-n", "--prune").err
    told = waiting.ok("sweep.yml", "-i", "--prune", "-y")
    assert states(waiting) == {1: "done", 2: "cancelled", 3: "staged"}, told
    (other / "sweep.yml").write_text("CMD: [")
    waiting.sweep("{n: [4]}")
    why = f"--prune looks at {other}/sweep.yml, which this experiment was launched from, too: {other}/sweep.yml:2:1: "
    wrong = "expected a value here; quote it if it is text"
    assert waiting("sweep.yml", "-i", "--prune", "-y").line(2) == why + wrong
    shutil.rmtree(other)
    waiting.ok("sweep.yml", "-i", "--prune", "-y")
    assert states(waiting) == {1: "done", 2: "cancelled", 3: "cancelled", 4: "done"}


def test_another_file_of_the_experiment_is_read_as_it_was_launched(waiting):
    other = waiting.path / "it's other"
    other.mkdir()
    (other / "my conf.yml").write_text("near: {RESOURCES: {}}\n")
    (other / "sweep.yml").write_text("CMD: sh note.sh\nFARM: near\nHPARAMS: {n: [3]}\n")
    (other / "note.sh").write_text(":\n")
    waiting.ok("sweep.yml", "-i", "-c", "my conf.yml", cwd=other)
    shutil.rmtree(by_n(waiting)[3] / "attempts")
    waiting.sweep("{n: [1]}")
    waiting.ok("sweep.yml", "-i", "--prune", "-y")
    assert states(waiting) == {1: "done", 2: "cancelled", 3: "staged"}


def test_a_point_of_other_stages_has_not_left_the_file(project: Project):
    stages = "\n  a: sh note.sh {n}\n  b: sh note.sh"
    project.sweep(cmd=stages)
    project.ok("sweep.yml", "-i", "--stage", "a")
    project.sweep("{n: [2]}", cmd=stages)
    project.ok("sweep.yml", "-i", "--stage", "a", "--prune", "-y")
    assert states(project) == {1: "cancelled", 2: "staged"}


def test_without_a_run_it_is_shown_and_nothing_is_cancelled(waiting):
    told = waiting.ok("sweep.yml", "-n", "--prune")
    name = by_n(waiting)[3].name
    assert told == Done(0, "sh note.sh --n 1\nsh note.sh --n 2\n", f"2 grid: 2 runs\nprune 1 waiting run left the "
                        f"sweep file:\n      {name}  staged  n=3\n")  # fmt: skip
    assert states(waiting) == {1: "done", 2: "staged", 3: "staged"}


def test_without_a_run_and_an_experiment_there_is_nothing_to_show(project: Project):
    told = project.ok("sweep.yml", "-n", "--prune")
    assert told == Done(0, "sh note.sh --n 1\nsh note.sh --n 2\n", "2 grid: 2 runs\n")
    assert not project.root.exists()


WRONG = [
    ("CODE_LINK: [nope]\n", ["-i"],
     "CODE_LINK: nope does not exist in {cwd}; name a path of the source tree"),
    ("RESOURCES: {nope: 1}\n", ["--farm", "local"],
     "sweep.yml:3:13: RESOURCES.nope is nothing that this machine gives; known: gpus, jobs; -i or -j N run without "
     "RESOURCES"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "how", "problem"), WRONG, ids=["by the code", "by the farm"])
def test_a_launch_that_is_refused_has_cancelled_nothing(waiting, more, how, problem):
    waiting.sweep("{n: [1, 2]}", more=more)
    told = waiting("sweep.yml", "--prune", "-y", *how)
    assert told.line(2) == problem.format(cwd=waiting.path)
    assert states(waiting) == {1: "done", 2: "staged", 3: "staged"}


def test_what_may_be_wrong_with_the_launch_is_looked_at_once(waiting, tmp_path, monkeypatch):
    fake = Scheduler(tmp_path / "slurm", monkeypatch)
    fake.says("sbatch", "7\n")
    git = f'#!/bin/sh\ncase "$*" in *ls-files*) echo x >> {fake.home}/listed;; esac\nexec {shutil.which("git")} "$@"\n'
    (fake.home / "git").write_text(git)
    (fake.home / "git").chmod(0o755)
    subprocess.run(["git", "init", "-q"], cwd=waiting.path, check=True)
    waiting.write(".farmx.yaml", "FARM: big\nbig: {EXECUTOR: slurm, RESOURCES: {partition: gpu}}\n")

    def looks(*options: str) -> tuple[str, str]:
        for name in ("sbatch-test.count", "listed"):
            (fake.home / name).unlink(missing_ok=True)
        waiting.ok("sweep.yml", *options)
        return (fake.home / "sbatch-test.count").read_text(), (fake.home / "listed").read_text()

    pruned = looks("--prune", "-y")
    assert len(fake.calls("sbatch")) == 1 and states(waiting)[3] == "cancelled"
    assert pruned == looks() and pruned[0] == "1\n"


def test_what_ended_or_is_another_files_is_left(waiting):
    run = by_n(waiting)[3]
    record = read(run / "run.json")
    (run / "run.json").write_text(json.dumps({**record, "sweep": "/another/sweep.yml"}))
    waiting.sweep("{n: [2]}")
    told = waiting("sweep.yml", "-i", "--prune", "-y")
    assert "prune" not in told.err
    assert states(waiting) == {1: "done", 2: "done", 3: "staged"}


def test_an_unreadable_run_stops_it(waiting):
    (by_n(waiting)[3] / "run.json").write_text("{")
    told = waiting("sweep.yml", "-i", "--prune", "-y")
    assert told.code == 3
    assert "run.json" in told.err


# ---------------------------------------------------------------- on a farm

# Jobs are lines of a file, "ID STATE".
QUEUE = {
    "hand": 'echo x >> "$HOLD/count"; wc -l < "$HOLD/count"',
    "tell": 'cat "$HOLD/queue"',
    "end": 'echo "$*" >> "$HOLD/ended"; for id; do sed -i "/^$id /d" "$HOLD/queue"; done',
}


@pytest.fixture
def queued(project: Project, tmp_path, monkeypatch) -> Path:
    """n: 1, 2, 3 wait in the queue of a scheduler as its jobs 1, 2, 3, n: 4 runs; the file then holds 1. Its files."""
    hold = put(tmp_path / "hold", monkeypatch, {name: f"#!/bin/sh\n{text}\n" for name, text in QUEUE.items()})
    configure(project, "hand {script}", "SUBMIT_PARALLEL: 1\nSTATUS_CMD: tell\nCANCEL_CMD: end {ids}")
    project.sweep("{n: [1, 2, 3, 4]}")
    project.ok("sweep.yml")
    attempt = by_n(project)[4] / "attempts" / "1.0"
    attempt.mkdir(parents=True)
    (attempt / "owner.json").write_text(json.dumps({"format": 1, "started": 1.0, "host": "node", "job": "4"}))
    (attempt / "heartbeat").touch()
    (hold / "queue").write_text("1 PEND\n2 PEND\n3 PEND\n4 RUN\n")
    project.sweep("{n: [1]}")
    return hold


def test_what_waits_in_a_queue_leaves_it_and_what_runs_or_is_wanted_stays(queued, project: Project):
    assert states(project) == {1: "queued", 2: "queued", 3: "queued", 4: "running"}
    told = project.ok("sweep.yml", "--prune", "-y").err
    assert "prune 2 waiting runs left the sweep file:\n" in told
    assert ((queued / "queue").read_text(), (queued / "ended").read_text()) == ("1 PEND\n4 RUN\n", "2 3\n")
    assert states(project) == {1: "queued", 2: "cancelled", 3: "cancelled", 4: "running"}
    assert (queued / "count").read_text().count("x") == 4


def test_what_is_told_to_type_next_counts_nothing_that_left_the_queue(queued, project: Project):
    project.ok("sweep.yml", "--prune", "-y")
    (queued / "queue").write_text("1 PEND\n")
    ended = {"format": 1, "state": "failed", "code": 3, "cause": None, "note": None, "started": 1.0, "ended": 2.0}
    (by_n(project)[4] / "attempts/1.0/end.json").write_text(json.dumps(ended))
    told = project.ok("retry", "sweep").err
    assert "runs  1 again, 3 left alone\n" in told
    assert told.endswith("next  farmx cancel sweep\nnext  sumx sweep\n"), told


def test_what_is_not_agreed_to_stays_in_the_queue(queued, project: Project):
    told = project("sweep.yml", "--prune")
    assert (told.code, told.err.splitlines()[-1]) == (2, "farmx: --prune would cancel 2 runs; give -y if you mean it")
    assert (queued / "queue").read_text() == "1 PEND\n2 PEND\n3 PEND\n4 RUN\n"
