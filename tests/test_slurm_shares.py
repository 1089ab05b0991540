"""array_parallelism where a launch needs several arrays: all of them together keep to it."""

import os
from pathlib import Path

import pytest
from launching import Place
from schedulers import Scheduler

from farmx import layout
from farmx.farms import base, slurm, slurm_script
from farmx.farms.slurm_queue import job_name
from farmx.farms.slurm_script import Share
from farmx.spec import Job, Submission

BIG = 1000


def made(name: str, count: int, after: str = "", **resources: object) -> tuple[Submission, int]:
    return Submission(name, f"/{name}", (), resources, after), count


def named(limit: int | None, *counts: int) -> list[tuple[Submission, int]]:
    """Arrays a, b, ... of so many jobs each."""
    return [made(name, count, array_parallelism=limit) for name, count in zip("abcdefgh", counts)]


@pytest.mark.parametrize(
    ("limit", "counts", "shares"),
    [
        (None, (BIG, BIG), [(None, ""), (None, "")]),
        (2, (8,), [(2, "")]),
        (2, (2,), [(2, "")]),
        (20, (BIG, BIG, BIG // 2), [(8, ""), (8, ""), (4, "")]),
        (4, (3, 3, 2), [(2, ""), (1, ""), (1, "")]),
        (4, (BIG, 1, 1, 1), [(1, "")] * 4),
        (3, (BIG, 1), [(2, ""), (1, "")]),
        (99, (3, 3, 2), [(3, ""), (3, ""), (2, "")]),  # no more than there are
        (3, (3, 3, 2), [(1, "")] * 3),
        (2, (3, 3, 2), [(1, ""), (1, ""), (1, "a")]),
        (2, (3, 3, 3, 3, 1), [(1, ""), (1, ""), (1, "a"), (1, "b"), (1, "c")]),
        (1, (3, 3, 2), [(1, ""), (1, "a"), (1, "b")]),
    ],
)
def test_arrays_of_equal_resources_share_what_may_run_at_once(limit, counts, shares):
    wanted = {name: Share(*share) for name, share in zip("abcdefgh", shares)}
    assert slurm_script.shares(named(limit, *counts)) == wanted


def test_other_resources_and_later_stages_have_their_own():
    limit = {"array-parallelism": 1}
    told = slurm_script.shares([
        made("a", 3, **limit), made("a2", 3, "a", **limit), made("b", 3, **limit, mem=1), made("c", 3, **limit),
        made("c2", 3, "c", **limit), made("d", 3), made("c3", 3, "c2", **limit),
    ])  # fmt: skip
    assert told == {"a": Share(1), "a2": Share(1), "b": Share(1), "c": Share(1, "a"), "c2": Share(1, "a2"),
                    "d": Share(None), "c3": Share(1)}  # fmt: skip


# ---------------------------------------------------------------- what sbatch is given


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return Scheduler(tmp_path / "bin", monkeypatch)


def submissions(home: Path, *counts: int, **resources: object) -> list[Submission]:
    place = Place(home)
    folder = str(place.experiment / ".farmx" / "submissions")
    jobs = [[Job(str(place.experiment / f"{name}{each}"), "1.0") for each in range(count)]
            for name, count in zip("abcd", counts)]  # fmt: skip
    return [base.submission(folder, name, each, resources) for name, each in zip("abcd", jobs)]


def submit(submissions: list[Submission]) -> list[str]:
    """What the script of each says of --array."""
    slurm.Farm("big", delays_s=(0.0,)).submit(submissions, lambda *heard: None)
    scripts = [Path(each.path, layout.SCRIPT).read_text().splitlines() for each in submissions]
    return [line.removeprefix("#SBATCH --array=") for lines in scripts for line in lines if "--array=" in line]


def waits(fake: Scheduler) -> list[list[str]]:
    """What each call of sbatch said of other jobs, and of a part of its own."""
    words = ("--dependency", "--kill", "--array")
    return [[word for word in call if word.startswith(words)] for call in fake.calls("sbatch")]


LIMIT = "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"


def answers(fake: Scheduler, *codes: int) -> None:
    """Each call of sbatch makes array 10, 20, ..., or is refused."""
    for number, code in enumerate(codes, start=1):
        fake.says("sbatch", "" if code else f"{number}0\n", LIMIT if code else "", code, number)


def test_as_many_as_the_limit_have_parts_of_it(fake, tmp_path):
    answers(fake, 0, 0, 0)
    assert submit(submissions(tmp_path, 3, 3, 2, array_parallelism=4)) == ["0-2%2", "0-2%1", "0-1%1"]
    assert waits(fake) == [[], [], []]


def test_more_than_the_limit_wait_for_one_another_row_by_row_and_for_what_the_user_says(fake, tmp_path):
    answers(fake, 0, 0, 0)
    told = submit(submissions(tmp_path, 3, 3, 2, array_parallelism=2, dependency="afterok:7"))
    assert told == ["0-2%1", "0-2%1", "0-1%1"]
    assert waits(fake) == [[], [], ["--dependency=afterok:7,afterany:10"]]


def test_one_that_waits_for_the_stage_before_it_waits_for_its_row_too(fake, tmp_path):
    answers(fake, 0, 0, 0, 0)
    a, b, c, d = submissions(tmp_path, 2, 2, 2, 2, array_parallelism=1)
    submit([a, b, c._replace(after="a"), d._replace(after="b")])
    kill = "--kill-on-invalid-dep=yes"
    assert waits(fake) == [[], ["--dependency=afterany:10"], ["--dependency=aftercorr:10", kill],
                           ["--dependency=aftercorr:20,afterany:30", kill]]  # fmt: skip


def test_a_part_that_a_limit_lets_in_keeps_to_the_share_of_its_array(fake, tmp_path):
    answers(fake, 0, 1, 0)
    made = submissions(tmp_path, 3, 3, 2, array_parallelism=4)
    with pytest.raises(slurm.FarmError, match="4 of 8 runs are not queued"):
        submit(made)
    assert waits(fake) == [[], [], ["--array=0-0%1"]]


def test_what_a_killed_launch_left_out_keeps_to_it_too(fake, tmp_path):
    answers(fake, 0, 0)
    fake.says("sbatch", "", "sbatch: error: no\n", 1, call=3)
    a, b, *_ = submissions(tmp_path, 2, 2, array_parallelism=1)
    c, d = (base.submission(os.path.dirname(a.path), f"{each.id}-2", [Job(job.run, "2.0") for job in each.jobs],
                            each.resources)._replace(after=each.id) for each in (a, b))  # fmt: skip
    with pytest.raises(slurm.FarmError):
        submit([a, b, c, d])
    fake.says("squeue", f"10|{job_name(a)}\n20|{job_name(b)}\n")
    fake.says("sbatch", "40\n", call=4)
    fake.says("sbatch", "50\n", call=5)
    slurm.Farm("big", delays_s=(0.0,)).finish(layout.experiment_of(a.path))
    kill = "--kill-on-invalid-dep=yes"
    assert waits(fake)[3:] == [["--dependency=aftercorr:10", kill], ["--dependency=aftercorr:20,afterany:40", kill]]
