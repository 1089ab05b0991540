"""PACK: which runs share a job, and what is refused."""

import os

import pytest

from farmx import layout, packs
from farmx.errors import ConfigError
from farmx.farms import base, together
from farmx.packs import ALONE, Pack
from farmx.spec import Held, Job

MADE = [
    ({}, {}, Pack(1, 1)),
    ({"runs": 1}, {}, ALONE),
    ({"runs": 1}, {"nodes": 2}, ALONE),
    ({"runs": 4}, {}, Pack(4, 4)),
    ({"runs": 4, "each": 100}, {}, Pack(4, 100)),
    ({"runs": 1, "each": 9}, {"nodes": 1, "ntasks": None}, Pack(1, 9)),
    ({"per_gpu": 2}, {"gpus": 4}, Pack(8, 8)),
    ({"per_gpu": 2, "each": 50}, {"gpus": "a100:4"}, Pack(8, 50)),
    ({"per_gpu": 1}, {"gpus-per-node": 3}, Pack(3, 3)),
    ({"per_gpu": 1}, {"gres": "gpu:3"}, Pack(3, 3)),
    ({"per_gpu": 1}, {"gres": "lustre:1,gpu:h100:3"}, Pack(3, 3)),
    ({"per_gpu": 3}, {"gpu": 1}, Pack(3, 3)),
]
NO_GPUS = "it says per_gpu, and RESOURCES does not say how many GPUs a job has; write gpus there, or runs here"
REFUSED = [
    ({"per_gpu": 2}, {}, NO_GPUS),
    ({"per_gpu": 2}, {"gpus": 0}, NO_GPUS),
    ({"per_gpu": 2}, {"gres": "lustre:4"}, NO_GPUS),
    ({"per_gpu": 2, "each": 3}, {"gpus": 2},
     "each: 3 leaves some of the 4 slots of a job idle; it must be 4 or more"),
    ({"runs": 4}, {"nodes": 2},
     "runs of several tasks cannot share a job, and RESOURCES says nodes: 2; take out one of the two"),
    ({"runs": 4}, {"ntasks-per-node": "2"},
     "runs of several tasks cannot share a job, and RESOURCES says ntasks_per_node: 2; take out one of the two"),
    ({"runs": 4}, {"ntasks-per-gpu": 2},
     "runs of several tasks cannot share a job, and RESOURCES says ntasks_per_gpu: 2; take out one of the two"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "resources", "pack"), MADE)
def test_what_pack_makes_of_a_job(told, resources, pack):
    assert packs.of(told, resources) == pack


@pytest.mark.parametrize(("told", "resources", "problem"), REFUSED)
def test_what_does_not_fit_a_job_is_one_line(told, resources, problem):
    with pytest.raises(ConfigError) as caught:
        together.check(told, [{"gpus": 2}, resources], {"PACK": "sweep.yml:3:1"})
    assert str(caught.value) == f"sweep.yml:3:1: PACK: {problem}"


@pytest.mark.parametrize(("runs", "each", "jobs"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (8, 4, 2), (3, 1, 3)])
def test_each_run_is_in_one_job(runs, each, jobs):
    pack = Pack(2, each)
    assert pack.jobs(runs) == jobs
    places = [place for job in range(jobs) for place in pack.places(job)]
    assert places[:runs] == list(range(runs))
    assert [pack.job(place) for place in places] == [job for job in range(jobs) for _ in range(each)]


def test_a_record_says_its_pack_only_where_there_is_one():
    assert [packs.recorded(packs.record(pack)) for pack in (ALONE, Pack(4, 100))] == [ALONE, Pack(4, 100)]
    assert packs.record(ALONE) == {}
    assert packs.recorded({"pack": "nonsense"}) == ALONE


# ---------------------------------------------------------------- which jobs


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """What directories and lists of submissions were read since."""
    seen: list[str] = []
    names, runs = layout.names, layout.runs_of
    monkeypatch.setattr(layout, "names", lambda path: seen.append(os.path.relpath(path, tmp_path)) or names(path))
    monkeypatch.setattr(layout, "runs_of", lambda path: seen.append(os.path.basename(path)) or runs(path))
    return seen


def helds(home, pack: Pack, begun: dict[int, tuple[str, ...]], count: int, name: str = "one") -> list[Held]:
    """Of a submission in jobs of `pack`. begun: place -> the attempts of its run, which was queued as 2."""
    experiment = home / "it's $HOME;\ngröße"
    folder = experiment / layout.FARMX / layout.SUBMISSIONS
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [Job(str(experiment / f"{name}{place}"), "2.0") for place in range(count)]
    for place, numbers in begun.items():
        for number in numbers:
            os.makedirs(os.path.join(jobs[place].run, layout.ATTEMPTS, number))
    made = base.submission(str(folder), name, jobs)
    return [Held(made.path, place, 2, packs.record(pack), "7") for place in range(count)]


UNBEGUN = [
    # the pack, the attempts of which run, the runs whose job began none
    (ALONE, {}, [0, 1, 2, 3, 4]),
    (ALONE, {1: ("2.0",), 3: ("1.0",), 4: ("1.0", "2.0", "2.1")}, [0, 2, 3]),
    (Pack(1, 2), {1: ("2.0",), 3: ("1.0",)}, [2, 3, 4]),
    (Pack(2, 2), {4: ("2.0",)}, [0, 1, 2, 3]),
    (Pack(2, 9), {0: ("2.0",)}, []),
    (Pack(2, 9), {0: ("3.0",)}, [0, 1, 2, 3, 4]),  # a later job began it
]


@pytest.mark.parametrize(("pack", "begun", "places"), UNBEGUN)
def test_a_job_began_nothing_when_it_began_none_of_its_runs(tmp_path, pack, begun, places):
    assert [held.place for held in together.unbegun(helds(tmp_path, pack, begun, 5))] == places


@pytest.mark.parametrize("pack", [ALONE, Pack(2, 3), Pack(2, 99)])
def test_of_thousands_of_jobs_each_list_is_read_once_and_each_run_once(tmp_path, listed, pack):
    asked = helds(tmp_path, pack, {}, 12) + helds(tmp_path, pack, {}, 12, "two")
    listed.clear()
    assert together.unbegun(asked) == asked
    runs = [os.path.join("it's $HOME;\ngröße", f"{name}{each}", layout.ATTEMPTS) for name in ("one", "two")
            for each in range(12)]  # fmt: skip
    assert sorted(listed) == sorted(["one", "two", *runs])


@pytest.mark.parametrize("pack", [ALONE, Pack(2, 3), Pack(2, 99)])
def test_jobs_that_are_all_asked_for_are_ended_as_a_whole_and_no_run_is_looked_at(tmp_path, listed, pack):
    asked = helds(tmp_path, pack, {0: ("2.0",)}, 12)
    listed.clear()
    assert together.whole(asked) == asked
    assert listed == ["one"]


def test_a_job_that_holds_what_is_to_go_on_is_not_ended_as_a_whole(tmp_path):
    asked = helds(tmp_path, Pack(1, 2), {}, 4)
    assert [held.place for held in together.whole(asked[:3])] == [0, 1]
