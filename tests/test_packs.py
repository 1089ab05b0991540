"""PACK: which runs share a job, and what is refused."""

import pytest

from farmx import packs
from farmx.errors import ConfigError
from farmx.farms import together
from farmx.packs import ALONE, Pack

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
