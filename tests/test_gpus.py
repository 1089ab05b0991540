"""gpus: the slots that -j, --gpus and RESOURCES ask for, and which GPUs nvidia-smi calls idle."""

import os
import sys

import pytest

from farmx.errors import ConfigError, FarmError, UsageError
from farmx.farms import gpus
from farmx.farms.gpus import Gpu, Slot


def gpu(*names: str, share: int = 1) -> Slot:
    """A slot of these GPUs, each known to all by its own name."""
    return Slot(f"gpu {'+'.join(names)}", tuple(Gpu(name, name.replace("/", "_"), share) for name in names))


SLOTS = [
    (None, None, [Slot("0")]),
    (1, None, [Slot("0")]),
    (3, None, [Slot("0"), Slot("1"), Slot("2")]),
    (None, "0", [gpu("0")]),
    (None, "0,1", [gpu("0"), gpu("1")]),
    (None, " 0 , 1 ", [gpu("0"), gpu("1")]),
    (None, "0+1,2+3", [gpu("0", "1"), gpu("2", "3")]),
    (None, "0,0", [gpu("0", share=2), gpu("0", share=2)]),
    (None, "0,00", [Slot("gpu 0", (Gpu("0", "0", 2),)), Slot("gpu 00", (Gpu("00", "0", 2),))]),
    (None, "0+0", [gpu("0")]),
    (None, "0+1,1", [Slot("gpu 0+1", (Gpu("0", "0"), Gpu("1", "1", 2))), gpu("1", share=2)]),
    (None, "10,3", [gpu("10"), gpu("3")]),
    (None, "GPU-8f1c,MIG-1/2", [gpu("GPU-8f1c"), gpu("MIG-1/2")]),
    (3, "0,1", [gpu("0", share=2), gpu("1"), gpu("0", share=2)]),
    (1, "0,1", [gpu("0")]),
]


@pytest.fixture(autouse=True)
def nvidia(tmp_path, monkeypatch):
    """Make an nvidia-smi that says this, and nothing else in PATH; first there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def say(text: str, code: int = 0) -> None:
        path, asked = tmp_path / "nvidia-smi", str(tmp_path / "asked")
        body = f"open({asked!r}, 'w').write(' '.join(sys.argv[1:]))\nsys.stdout.write({text!r})\nsys.exit({code})\n"
        path.write_text(f"#!{sys.executable} -IS\nimport sys\n{body}")
        path.chmod(0o755)

    return say


@pytest.mark.parametrize("count, named, told", SLOTS, ids=[f"-j {row[0]} --gpus {row[1]}" for row in SLOTS])
def test_the_slots_that_a_command_asks_for(count, named, told):
    assert list(gpus.slots(count, named)) == told


@pytest.mark.parametrize("count", [0, -1])
def test_a_pool_of_no_slots_is_refused(count):
    with pytest.raises(UsageError) as caught:
        gpus.slots(count, None)
    assert str(caught.value) == f"-j {count}: a pool has at least one slot; give -j 1 or more"


WRONG = [("", ""), (",", ""), ("0,", ""), ("0,,1", ""), ("x", "x"), ("-1", "-1"), ("0+", "0+"), ("0+x,1", "0+x"),
         ("1.5", "1.5"), ("0 1", "0 1"), ("²", "²"), ("Free", "Free"), ("free,0", "free"), ("0;rm", "0;rm"),
         ("GPU-", "GPU-"), ("GPU-../x", "GPU-../x"), ("MIG-a@b", "MIG-a@b")]  # fmt: skip


@pytest.mark.parametrize("named, wrong", WRONG)
def test_what_is_no_gpu_is_refused(named, wrong):
    with pytest.raises(UsageError) as caught:
        gpus.slots(None, named)
    assert str(caught.value) == f"--gpus {named!r}: '{wrong}' is no GPU; give 0,1 or 0+1,2+3 or free"


# ---------------------------------------------------------------- RESOURCES

EIGHT = "".join(f"{index}, 0, 100, 0\n" for index in range(8))
RESOURCES = [
    ({}, [Slot("0")]),
    ({"jobs": 2}, [Slot("0"), Slot("1")]),
    ({"jobs": None, "gpus": None}, [Slot("0")]),
    ({"gpus": "0,1"}, [gpu("0"), gpu("1")]),
    ({"gpus": "0"}, [gpu("0")]),
    ({"gpus": "0,1", "jobs": 4}, [gpu("0", share=2), gpu("1", share=2)] * 2),
    ({"gpus": "free"}, [Slot("gpu", (), 1)] * 8),
    ({"gpus": 1}, [Slot("gpu", (), 1)] * 8),
    ({"gpus": 3}, [Slot("gpu", (), 3)] * 2),
    ({"gpus": 2, "jobs": 3}, [Slot("gpu", (), 2)] * 3),
    ({"gpus": 2, "jobs": 9}, [Slot("gpu", (), 2)] * 4),
]


@pytest.mark.parametrize("resources, told", RESOURCES, ids=[str(row[0]) for row in RESOURCES])
def test_the_slots_of_a_farm_of_this_machine(nvidia, resources, told):
    nvidia(EIGHT)
    assert list(gpus.configured(resources, {})) == told


AT = ".farmx.yaml:2:7"
ALLOWED = "write '0,1' or '0+1,2+3' for these GPUs, free for one idle GPU a run, 2 for two"
REFUSED = [
    ("gpu", 1, "nothing that this machine gives; did you mean gpus?; -i or -j N run without RESOURCES"),
    ("partition", "a", "nothing that this machine gives; known: gpus, jobs; -i or -j N run without RESOURCES"),
    ("jobs", 0, "0 is not allowed; it must be a whole number above 0"),
    ("jobs", "4", "'4' is not allowed; it must be a whole number above 0"),
    ("jobs", True, "True is not allowed; it must be a whole number above 0"),
    ("gpus", 0, f"0 is not allowed; {ALLOWED}"),
    ("gpus", [0, 1], f"[0, 1] is not allowed; {ALLOWED}"),
    ("gpus", True, f"True is not allowed; {ALLOWED}"),
    ("gpus", "fre", f"'fre': 'fre' is no GPU; {ALLOWED}"),
    ("gpus", "", f"'': '' is no GPU; {ALLOWED}"),
]


@pytest.mark.parametrize("key, value, told", REFUSED, ids=[f"{row[0]}: {row[1]!r}" for row in REFUSED])
def test_resources_that_this_machine_does_not_know_are_refused(key, value, told):
    with pytest.raises(ConfigError) as caught:
        gpus.configured({key: value}, {f"RESOURCES.{key}": AT})
    between = " is " if told.startswith("nothing") else ": "
    assert str(caught.value) == f"{AT}: RESOURCES.{key}{between}{told}"


def test_more_gpus_a_run_than_there_are_are_refused(nvidia):
    nvidia("0, 0, 100, 0\n")
    with pytest.raises(FarmError) as caught:
        gpus.configured({"gpus": 2}, {})
    assert str(caught.value) == f"RESOURCES.gpus: 2: this machine has fewer GPUs; {ALLOWED}"


# ---------------------------------------------------------------- nvidia-smi

IDLE = [
    # index, memory used, total, utilization
    ("0, 0, 143771, 0\n", ["0"]),
    ("0, 0, 143771, 0\n1, 7000, 143771, 0\n2, 7300, 143771, 0\n3, 5, 143771, 98\n", ["0", "1"]),
    ("0, 90000, 143771, 100\n1, 3, 143771, [N/A]\n", ["1"]),
    ("0, [N/A], [N/A], 0\n1, [N/A], [N/A], 50\n", ["0"]),
    ("\n 10 ,0,  143771, 4 \r\n\n", ["10"]),
    ("0, 90000, 143771, 100\n", []),
]


@pytest.mark.parametrize("text, told", IDLE, ids=[repr(row[0]) for row in IDLE])
def test_the_gpus_that_are_idle_as_nvidia_smi_counts_them(nvidia, tmp_path, text, told):
    nvidia(text)
    assert gpus.idle() == told
    assert (tmp_path / "asked").read_text() == (
        "--query-gpu=index,memory.used,memory.total,utilization.gpu --format=csv,noheader,nounits"
    )


def test_free_is_a_slot_for_each_gpu_there_is_idle_now_or_not(nvidia):
    nvidia("0, 90000, 100000, 100\n1, 0, 100000, 0\n")
    assert list(gpus.slots(None, " free ")) == [Slot("gpu", (), 1)] * 2
    assert list(gpus.slots(1, "free")) == [Slot("gpu", (), 1)]
    assert list(gpus.slots(9, "free")) == [Slot("gpu", (), 1)] * 2


SAID = [
    ("No devices were found\n", "nvidia-smi said 'No devices were found'; name the GPUs: '0,1'"),
    ("0, 1, 2\n", "nvidia-smi said '0, 1, 2'; name the GPUs: '0,1'"),
    ("0, 0, 1, 0\nUnable to determine the device handle for GPU0\n",
     "nvidia-smi said 'Unable to determine the device handle for GPU0'; name the GPUs: '0,1'"),
    ("", "this machine has fewer GPUs; give 0,1 or 0+1,2+3 or free"),
]  # fmt: skip


@pytest.mark.parametrize("text, told", SAID, ids=[repr(row[0]) for row in SAID])
def test_where_the_gpus_cannot_be_listed_the_user_is_to_name_them(nvidia, text, told):
    nvidia(text)
    with pytest.raises(FarmError) as caught:
        gpus.slots(None, "free")
    assert str(caught.value) == f"--gpus 'free': {told}"


def test_where_nvidia_smi_fails_or_is_missing_the_user_is_to_name_them(nvidia):
    with pytest.raises(FarmError) as caught:
        gpus.slots(None, "free")
    assert str(caught.value) == "--gpus 'free': there is no nvidia-smi to ask; name the GPUs: '0,1'"
    nvidia("NVIDIA-SMI has failed\n", 9)
    with pytest.raises(FarmError) as caught:
        gpus.slots(None, "free")
    assert str(caught.value).startswith("--gpus 'free': nvidia-smi cannot list the GPUs (")
    assert "\n" not in str(caught.value)


NAMES = [("GPU-aaaa-1", "0"), ("GPU-aab", "1"), ("GPU-aa", "GPU-aa"), ("GPU-c", "GPU-c"), ("MIG-GPU-aaaa-1/2/0", None)]


@pytest.mark.parametrize("name, key", NAMES)
def test_a_gpu_named_by_its_uuid_or_the_begin_of_it_is_the_one_of_its_index(nvidia, name, key):
    nvidia("0, GPU-aaaa-1\n1, GPU-aabb-2\n")
    assert gpus.slots(None, name) == (Slot(f"gpu {name}", (Gpu(name, key or name.replace("/", "_")),)),)


def test_indices_ask_nobody(tmp_path, nvidia):
    nvidia("0, GPU-aaaa-1\n")
    gpus.slots(None, "0,1")
    assert not os.path.exists(tmp_path / "asked")
