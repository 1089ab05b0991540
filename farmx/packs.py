"""What PACK says, {runs: 4, each: 100}: how many runs a job holds, and which; pure, and never runs one.

A submission's runs are cut into blocks of `each`, in order: job j of it works through block j, so many at once as it
has slots. Carried to nodes: standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from farmx import needs
from farmx.errors import Wrong

RECORD = "pack"  # of job.json
WORDS = ("runs", "per_gpu", "each")
# Resources that say how many GPUs a job has, and how many tasks, spelled with underscores.
_COUNT = r"(?:[^,:]+:)?(\d+)"  # 4, a100:4
_GPUS = {"gpus": _COUNT, "gpus_per_node": _COUNT, "gpu": _COUNT, "ngpus": _COUNT,
         "gres": r"(?:.*,)?(?:gres/)?gpu(?::[^,:]+)?:(\d+)(?:,.*)?"}  # fmt: skip
_TASKS = ("nodes", "ntasks", "ntasks_per_node", "ntasks_per_gpu")


class Pack(NamedTuple):
    """slots: so many runs at once in a job.  each: how many runs it works through."""

    slots: int = 1
    each: int = 1

    def job(self, place: int) -> int:
        """Which of a submission's jobs the run at `place` is in."""
        return place // self.each

    def places(self, job: int) -> range:
        """The places of the runs that a job may hold; the last job of a submission has fewer."""
        return range(job * self.each, (job + 1) * self.each)

    def jobs(self, runs: int) -> int:
        """How many jobs hold so many runs."""
        return -(-runs // self.each)


ALONE = Pack()


def check(told: Mapping[str, Any]) -> None:
    """Raises Wrong for what cannot be meant, whatever a job asks for."""
    for key, value in told.items():
        if key not in WORDS:
            raise Wrong(f"{key!r} is nothing here; it must be {', '.join(WORDS[:-1])} or {WORDS[-1]}", key)
        if type(value) is not int or value < 1:
            raise Wrong(f"{key}: {value!r} is not allowed; it must be a whole number above 0", key)
    if ("runs" in told) == ("per_gpu" in told):
        raise Wrong("it must say runs or per_gpu, how many runs are at work at once, and not both")
    if "runs" in told:
        _full(told, told["runs"])


def of(told: Mapping[str, Any], resources: Mapping[str, Any]) -> Pack:
    """What a checked PACK makes of jobs that ask for `resources`. Raises Wrong."""
    if not told:
        return ALONE
    slots = told["runs"] if "runs" in told else told["per_gpu"] * _gpus(resources)
    _full(told, slots)
    made = Pack(slots, told.get("each", slots))
    if made != ALONE and (several := _several(resources)):
        raise Wrong(f"runs of several tasks cannot share a job, and RESOURCES says {several}; take out one of the two")
    return made


def _full(told: Mapping[str, Any], slots: int) -> None:
    if told.get("each", slots) < slots:
        raise Wrong(f"each: {told['each']} leaves some of the {slots} slots of a job idle; it must be {slots} or more",
                    "each")  # fmt: skip


def _gpus(resources: Mapping[str, Any]) -> int:
    """How many GPUs a job has. Raises Wrong where its resources do not say."""
    plain = needs.plainly(resources)
    for key, pattern in _GPUS.items():
        found = re.fullmatch(pattern, str(plain.get(key, "")))
        if found and int(found[1]) > 0:
            return int(found[1])
    raise Wrong("it says per_gpu, and RESOURCES does not say how many GPUs a job has; write gpus there, or runs here")


def _several(resources: Mapping[str, Any]) -> str:
    """What makes a job one of several tasks, '' where nothing does."""
    plain = needs.plainly(resources)
    return next((f"{key}: {plain[key]}" for key in _TASKS if str(plain.get(key, 1)) != "1"), "")


def record(pack: Pack) -> dict[str, Any]:
    """What job.json says of it: nothing of jobs of one run."""
    return {} if pack == ALONE else {RECORD: pack._asdict()}


def recorded(job: Mapping[str, Any]) -> Pack:
    """The pack of a submission, by its job.json."""
    told = job.get(RECORD)
    return Pack(int(told["slots"]), int(told["each"])) if isinstance(told, dict) else ALONE
