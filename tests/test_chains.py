"""The jobs of a run whose stages ask for resources of their own: which share one, their numbers, their submissions."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from commands import Project, read
from launching import Place, spec
from test_slurm_killed import run_all, slurm

from farmx import chains, node
from farmx.chains import Chain, Link
from farmx.farms import base
from farmx.spec import Attempt, Held, Job, Run, Stage, State, Submission

CPU, GPU = {"mem": 4, "gpus": 0}, {"mem": 4, "gpus": 2}


class Farm:
    """A farm that takes at most `most` runs at once."""

    def __init__(self, executor: str = "slurm", most: int = 100) -> None:
        self.executor, self.most = executor, most

    def batches(self, jobs):
        return base.alike(jobs, lambda resources: self.most)


LINKS = [
    ("slurm", [], [((), CPU)]),
    ("slurm", [("a", {}), ("b", {})], [(("a", "b"), CPU)]),
    ("slurm", [("a", {"gpus": 2}), ("b", {}), ("c", {})], [(("a",), GPU), (("b", "c"), CPU)]),
    ("slurm", [("a", {}), ("b", {"gpus": 2}), ("c", {"gpus": 2}), ("d", {})],
     [(("a",), CPU), (("b", "c"), GPU), (("d",), CPU)]),
    ("slurm", [("a", {}), ("b", {"gpus": 0})], [(("a", "b"), CPU)]),
    ("command", [("a", {"gpus": 2}), ("b", {}), ("c", {})], [(("a", "b", "c"), GPU)]),
    ("local", [("a", {}), ("b", {"gpus": 2})], [(("a", "b"), CPU)]),
]  # fmt: skip


@pytest.mark.parametrize(("executor", "stages", "made"), LINKS)
def test_stages_in_a_row_that_ask_for_the_same_share_a_job(executor, stages, made):
    assert chains.links_of(stages, CPU, Farm(executor)) == tuple(Link(*each) for each in made)


def run(attempts=(), held=()) -> Run:
    """A run with attempts of these numbers, and these held: (number, whether it waits for another)."""
    had = tuple(Attempt("/a", (number, 0), None, None) for number in attempts)
    return Run("r", "/x/r", "x", State.FAILED, {}, had, "p1-0", held=tuple(
        Held("/s", 0, number, {"after": "s"} if waits else {}) for number, waits in held))  # fmt: skip


NUMBERS = [
    (run(), 1),
    (run([1]), 2),
    (run([1], [(1, False)]), 2),
    (run([1], [(1, False), (2, True), (3, True)]), 4),  # what waited for 1 may wait yet
    (run([], [(1, False), (2, True)]), 1),  # nothing has begun: queued twice, each starts once
    (run([1], [(2, False), (3, True)]), 2),
    (run([1, 2], [(2, True), (3, True)]), 4),
    # 2 and 3 wait for 1, which failed, so a retry queued 4, 5 and 6, which wait yet
    (run([1], [(2, True), (3, True), (4, False), (5, True), (6, True)]), 4),
    (run([1, 4], [(2, True), (3, True), (4, False), (5, True), (6, True)]), 7),
]


@pytest.mark.parametrize(("there", "first"), NUMBERS)
def test_a_number_that_may_wait_for_what_failed_is_used_up(there, first):
    made = chains.chain_of(there, [Link(("a",), CPU), Link(("b",), GPU)])
    assert made.jobs == (Job("/x/r", f"{first}.0"), Job("/x/r", f"{first + 1}.0"))


def test_run_json_names_stages_only_where_there_is_a_choice():
    one, two = Link(("a", "b"), CPU), Link(("c",), GPU)
    assert chains.chain_of("/r", [one]).asked(()) == {}
    assert chains.chain_of("/r", [one]).asked(("b",)) == {"1": ("b",)}
    assert chains.chain_of("/r", [one, two]).asked(()) == {"1": ("a", "b"), "2": ("c",)}


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def long(place: Place, name: str) -> Chain:
    return chains.chain_of(str(place.experiment / name), [Link(("a",), CPU), Link(("b",), GPU), Link(("c",), CPU)])


def short(place: Place, name: str) -> Chain:
    return chains.chain_of(str(place.experiment / name), [Link((), CPU)])


def test_what_waits_has_the_index_of_what_it_waits_for(place):
    home = str(place.experiment / ".farmx/submissions")
    group = [long(place, "r1"), short(place, "s1"), long(place, "r2"), long(place, "r3")]
    made = chains.written(home, "s", Farm(most=2), group)

    def told(each: Submission) -> tuple[str, list[str], int, str]:
        return each.id, [f"{job.run[-2:]} {job.number}" for job in each.jobs], each.resources["gpus"], each.after

    assert list(map(told, made)) == [
        ("s", ["r1 1.0", "r2 1.0"], 0, ""),
        ("s-2", ["r1 2.0", "r2 2.0"], 2, "s"),
        ("s-3", ["r1 3.0", "r2 3.0"], 0, "s-2"),
        ("s-4", ["r3 1.0"], 0, ""),
        ("s-5", ["r3 2.0"], 2, "s-4"),
        ("s-6", ["r3 3.0"], 0, "s-5"),
        ("s-7", ["s1 1.0"], 0, ""),
    ]


def test_each_submission_says_of_which_point_its_runs_are_and_which_directories(place):
    home = str(place.experiment / ".farmx/submissions")
    there = run([1], [])._replace(path=str(place.experiment / "it's $HOME"), generation=3)
    links = [Link(("a",), CPU), Link(("b",), GPU)]
    group = [chains.chain_of(str(place.experiment / "new"), links, "p1-new.1"), chains.chain_of(there, links)]
    made = chains.written(home, "s", Farm(), group)
    assert [Path(each.path, "claimed").read_text() for each in made] == ["p1-new.1\np1-0.3\n"] * 2
    (place.experiment / "new").mkdir(parents=True)
    made = chains.written(home, "t", Farm(), group)
    inode = (place.experiment / "new").stat().st_ino
    assert [Path(each.path, "claimed").read_text() for each in made] == [f"p1-new.1 {inode}\np1-0.3\n"] * 2


def test_a_farm_that_chains_no_jobs_is_told_of():
    def of(train: dict, test: dict) -> list:
        stages = Stage("train", ("a",), resources=train), Stage("test", ("b",), resources=test)
        return [spec()._replace(stages=stages)]

    told = "this farm cannot make one job wait for another: all stages run in one, with the RESOURCES of train"
    assert chains.in_one(Farm("command"), of({}, {"gpus": 1})) == told
    assert [chains.in_one(Farm(name), of({}, {"gpus": 1})) for name in ("slurm", "local")] == ["", ""]
    assert chains.in_one(Farm("command"), of({"gpus": 1}, {})) == chains.in_one(Farm("command"), []) == ""


FIRST = "held: attempt 1.0, which comes before it, is not done"
ANEW = "held: the run was queued again without it"
BEFORE = [
    ("done", {"only": {"1": ["main"], "2": ["main"]}}, "done"),
    ("done", {"again": {"2": ["main"]}}, "done"),
    ("failed", {"only": {"2": ["main"]}}, FIRST),
    (None, {"only": {"2": ["main"]}}, FIRST),
    ("done", {}, ANEW),
    ("done", {"again": {"1": ["main"]}}, ANEW),  # farmx retry --stage of a chain of which nothing had begun
    ("done", {"only": {"3": ["main"]}}, ANEW),
]


@pytest.mark.parametrize(("state", "names", "said"), BEFORE)
def test_a_job_begins_only_after_the_one_it_waits_for_and_where_run_json_names_it(place, capfd, state, names, said):
    run = place.shell("true", "one")
    record = json.loads(Path(run, "run.json").read_text())
    Path(run, "run.json").write_text(json.dumps({**record, **names}))
    before = Path(run, "attempts/1.0")
    before.mkdir(parents=True)
    if state:
        (before / "end.json").write_text(json.dumps({"format": 1, "state": state, "started": 1.0, "ended": 2.0}))
    made = place.submission(Job(run, "2.0"), name="s-2")
    Path(made.path, "job.json").write_text(json.dumps({"format": 1, "farm": "big", "executor": "slurm", "after": "s"}))
    assert node.main([made.path, "0"]) == 0
    assert capfd.readouterr().out == f"one 2.0 {said}\n"
    assert Path(run, "attempts/2.0").exists() == (said == "done")


@pytest.mark.parametrize("wished", ["1.0", "1.1"])
def test_a_job_whose_run_was_cancelled_too_late_for_the_one_before_it_is_cancelled(place, capfd, wished):
    run = place.shell("true", "one")
    record = json.loads(Path(run, "run.json").read_text())
    Path(run, "run.json").write_text(json.dumps({**record, "only": {"2": ["main"]}}))
    for number, state in (("1.0", "preempted"), ("1.1", "done")):
        Path(run, "attempts", number).mkdir(parents=True)
        told = {"format": 1, "state": state, "started": 1.0, "ended": 2.0}
        Path(run, "attempts", number, "end.json").write_text(json.dumps(told))
    Path(run, "attempts", wished, "cancel").touch()
    made = place.submission(Job(run, "2.0"), name="s-2")
    Path(made.path, "job.json").write_text(json.dumps({"format": 1, "farm": "big", "executor": "slurm", "after": "s"}))
    assert node.main([made.path, "0"]) == 0
    assert capfd.readouterr().out == "one 2.0 held: attempt 1.1, which comes before it, was cancelled\n"
    end = json.loads(Path(run, "attempts/2.0/end.json").read_text())
    assert (end["state"], end["begun"]) == ("cancelled", False)


def handed(project: Project) -> list[tuple]:
    """What each submission holds, in order: the attempt, what it asks for, whether it waits for another."""
    paths = sorted((project.experiment / ".farmx" / "submissions").iterdir())
    jobs = [read(path / "job.json") for path in paths]
    numbers = [(path / "runs").read_text().split()[0] for path in paths]
    return [(number, job["resources"], "after" in job) for number, job in zip(numbers, jobs)]


@pytest.fixture
def queue(project, tmp_path, monkeypatch) -> Path:
    """What waits on the small Slurm that the project's farm is, in order."""
    home = slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    project.write(".farmx.yaml", f"FARM: big\nbig: {{EXECUTOR: slurm, RESOURCES: {json.dumps(CPU)}}}\n")
    return home / "queue"


@pytest.mark.parametrize(("words", "first", "left"), [
    ([], [("1.0", CPU, False), ("2.0", GPU, True)], [("3.0", GPU, False)]),
    (["--stage", "train"], [("1.0", CPU, False)], [("2.0", CPU, False), ("3.0", GPU, True)]),
])  # fmt: skip
def test_a_launch_asks_for_the_stages_that_are_to_come_each_with_its_own_resources(project, queue, words, first, left):
    test = '{cmd: "true", RESOURCES: {gpus: 2}}'
    project.sweep("{n: [1]}", f"{{train: '. ./note.sh', look: 'true', test: {test}}}")
    project.ok("sweep.yml", *words)
    assert handed(project) == first
    queue.write_text(queue.read_text().splitlines(keepends=True)[0])
    run_all(queue.parent, project.env)
    queue.write_text("")  # what waited was cancelled
    project.ok("sweep.yml")
    assert handed(project)[len(first) :] == left


def test_a_launch_goes_on_with_the_stage_that_failed_where_retry_gives_that_more(project, queue):
    test = '{cmd: "exit 3", RESOURCES: {mem: 6}}'
    project.sweep("{n: [1]}", f"{{train: '. ./note.sh', test: {test}}}", "RETRY: {error: {mem: x2}}\n")
    project.ok("sweep.yml")
    with pytest.raises(subprocess.CalledProcessError):  # of the second job
        run_all(queue.parent, project.env)
    queue.write_text("")
    project.ok("sweep.yml")
    assert handed(project)[2:] == [("3.0", {"mem": 12, "gpus": 0}, False)]
    assert project.starts() == [f"sweep/{project.runs()[0].name}/1.0"]
