"""The GPUs of this machine: the slots that people ask for, and which GPUs are idle now; never who holds one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from farmx.errors import ConfigError, FarmError, FarmxError, UsageError, nearest, where

WORDS = ("jobs", "gpus")  # what RESOURCES of a farm with EXECUTOR local may say
FREE = "free"
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # nvidia-smi's; CUDA's own is by speed
_QUERY = "index,memory.used,memory.total,utilization.gpu"


class Gpu(NamedTuple):
    """A GPU, or a MIG instance of one, as a slot wants it.

    name: what CUDA calls it.  key: what all pools of this machine call it.  share: so many slots of the pool share it.
    """

    name: str
    key: str
    share: int = 1


class Slot(NamedTuple):
    """One place in a pool. name: for people.  gpus: those it always uses.

    idle: how many idle GPUs it takes in place of these, whenever a run begins.
    """

    name: str
    gpus: tuple[Gpu, ...] = ()
    idle: int = 0

    @property
    def width(self) -> int:
        """How many characters the names of its runs' GPUs take."""
        return len(self.name) + self.idle * len(" 0")


def slot_of(told: Sequence[Any]) -> Slot:
    """A slot that came as json."""
    name, gpus, idle = told
    return Slot(name, tuple(Gpu(*each) for each in gpus), idle)


class _Asked(NamedTuple):
    """Who asked for GPUs, for messages: where, which error it is, what to give instead."""

    where: str
    error: type[FarmxError]
    instead: str


def slots(count: int | None, gpus: str | None) -> tuple[Slot, ...]:
    """The slots that -j and --gpus ask for: `0,1` two, `0+1,2+3` two of two GPUs, `0,0` two on one, `free` any idle.

    With both, `count` slots that share the GPUs in turn. Raises UsageError, FarmError when GPUs cannot be listed.
    """
    if count is not None and count < 1:
        raise UsageError(f"-j {count}: a pool has at least one slot; give -j 1 or more")
    if gpus is None:
        return _plain(count)
    asked = _Asked(f"--gpus {gpus!r}", UsageError, "give 0,1 or 0+1,2+3 or free")
    return _idle_slots(count, 1, asked) if gpus.strip() == FREE else _named(count, gpus, asked)


def configured(resources: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[Slot, ...]:
    """The slots that RESOURCES of a farm of this machine asks for: {jobs: 4, gpus: '0,1', free or a number a run}.

    origins: where each key is from. Raises ConfigError, FarmError when GPUs cannot be listed.
    """
    for key in (key for key in resources if key not in WORDS):
        told = f"{where(f'RESOURCES.{key}', origins)} is nothing that this machine gives{nearest(key, list(WORDS))}"
        raise ConfigError(f"{told}; -i or -j N run without RESOURCES")
    count, gpus = resources.get("jobs"), resources.get("gpus")
    if count is not None and not (type(count) is int and count > 0):
        told = f"{where('RESOURCES.jobs', origins)}: {count!r}"
        raise ConfigError(f"{told} is not allowed; it must be a whole number above 0")
    if gpus is None:
        return _plain(count)
    number = type(gpus) is int and gpus > 0
    asked = _Asked(f"{where('RESOURCES.gpus', origins)}: {gpus!r}", ConfigError,
                   "write '0,1' or '0+1,2+3' for these GPUs, free for one idle GPU a run, 2 for two")  # fmt: skip
    if number or str(gpus).strip() == FREE:
        return _idle_slots(count, gpus if number else 1, asked)
    if not isinstance(gpus, str):
        raise ConfigError(f"{asked.where} is not allowed; {asked.instead}")
    return _named(count, gpus, asked)


def _plain(count: int | None) -> tuple[Slot, ...]:
    return tuple(Slot(str(index)) for index in range(count or 1))


def _named(count: int | None, gpus: str, asked: _Asked) -> tuple[Slot, ...]:
    groups = [group.strip() for group in gpus.split(",")]
    for group in groups:
        if not all(map(_is_gpu, group.split("+"))):
            raise asked.error(f"{asked.where}: '{group}' is no GPU; {asked.instead}")
    chosen = [list(dict.fromkeys(groups[index % len(groups)].split("+"))) for index in range(count or len(groups))]
    keys = _keys([name for names in chosen for name in names])
    shares = Counter(keys[name] for names in chosen for name in names)
    return tuple(
        Slot(f"gpu {'+'.join(names)}", tuple(Gpu(name, keys[name], shares[keys[name]]) for name in names))
        for names in chosen
    )


def _is_gpu(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,4}|(GPU|MIG)-[0-9A-Za-z/-]{1,100}", text))


def _idle_slots(count: int | None, each: int, asked: _Asked) -> tuple[Slot, ...]:
    """As many slots as this machine has GPUs for, or `count`; which GPUs, is looked up when a run begins."""
    try:
        there = len(_listed(_QUERY)) // each
    except FarmError as error:
        raise FarmError(f"{asked.where}: {error}; name the GPUs: '0,1'") from None
    if not there:
        raise FarmError(f"{asked.where}: this machine has fewer GPUs; {asked.instead}")
    return tuple(Slot("gpu", (), each) for _ in range(min(count or there, there)))


# ---------------------------------------------------------------- nvidia-smi


def idle() -> list[str]:
    """The GPUs on which nothing computes and that hold less than 5 % of their memory, by index. Raises FarmError."""
    return [index for index, *told in _listed(_QUERY) if _is_idle(*map(_number, told))]


def _is_idle(used: float, total: float, busy: float) -> bool:
    return used <= 0.05 * total and busy < 5


def _keys(names: Sequence[str]) -> dict[str, str]:
    """What all pools call these: a GPU that is named by its UUID, or the begin of one, is the one of its index."""
    by_uuid: dict[str, str] = {}
    if any(name.startswith("GPU-") for name in names):
        try:
            by_uuid = {uuid: index for index, uuid in _listed("index,uuid")}
        except FarmError:  # nobody can tell: then it is only known by this name
            by_uuid = {}
    return {name: _key(name, by_uuid) for name in names}


def _key(name: str, by_uuid: Mapping[str, str]) -> str:
    if name.isdecimal():
        return str(int(name))
    found = [index for uuid, index in by_uuid.items() if uuid.startswith(name)]
    return found[0] if len(found) == 1 else name.replace("/", "_")


def _listed(columns: str) -> list[list[str]]:
    """What nvidia-smi says of each GPU in these columns, the index first. Raises FarmError."""
    import subprocess  # only pools that look for GPUs

    asked = ["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        raise FarmError("there is no nvidia-smi to ask") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise FarmError(f"nvidia-smi cannot list the GPUs ({error})") from error
    return [_row(line.strip(), columns.count(",") + 1) for line in told.splitlines() if line.strip()]


def _row(line: str, columns: int) -> list[str]:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != columns or not cells[0].isdecimal():
        raise FarmError(f"nvidia-smi said {line!r}")
    return cells


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "[N/A]" under MIG, and for memory that the GPU shares with the processor
        return 0.0
