"""Job arrays through sbatch: each queued once whatever becomes of the call, and as much of one as Slurm's limit of
submitted jobs lets in; never what a job does.

Which job is ours its name tells, which holds the submission's id: so what was queued by a call whose answer nobody
heard is found.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from farmx import layout, needs
from farmx.errors import FarmError
from farmx.farms import slurm_script, slurm_words
from farmx.farms.calls import ALL, TIMED_OUT, Said, call, limited, transient
from farmx.spec import Submission

COUNTED = ("partition", "qos", "account", "reservation")  # what limits are set for


class Part(NamedTuple):
    """Jobs of a submission that are queued as one array. first, end: their indices, without `end`.  array: its id."""

    first: int
    end: int
    array: str


class Queue:
    """The arrays of a launch, queued one after the other. limit: what Slurm calls the limit that was reached, or ''."""

    def __init__(
        self,
        delays_s: Sequence[float],
        tell: Callable[[str], None] = lambda line: None,
        origins: Mapping[str, str] = {},
    ) -> None:
        """delays_s: between attempts to reach a controller that does not answer.  tell: why it takes so long.  origins:
        where each resource is from."""
        self._delays_s, self._tell, self._origins, self.limit = delays_s, tell, origins, ""
        self._full: set[str] = set()
        self._parts: dict[str, list[Part]] = {}
        self._behind: dict[str, list[str]] = {}

    def fill(self, submission: Submission, jobs: int, behind: str = "") -> Iterator[Part]:
        """Queue its jobs, the first of them where a limit lets in no more; yield each array as soon as it is queued.

        Those that wait for others are queued for what was queued of these. behind: the submission of this id has to
        end first, however it does. Raises FarmError.
        """
        self._behind[submission.id] = [part.array for part in self._parts.get(behind, ())]
        parts = self._parts.setdefault(submission.id, [])
        for before in self._parts[submission.after] if submission.after else [Part(0, jobs, "")]:
            for part in self._filled(submission, before, jobs):
                parts.append(part)
                yield part
            if not parts or parts[-1].end < before.end:
                return

    def know(self, submission: str, array: str, jobs: int) -> None:
        """The submission of this id was queued before, whole, as this array."""
        self._parts[submission] = [Part(0, jobs, array)]

    def knows(self, submission: str) -> bool:
        """Whether others may wait for the submission of this id."""
        return submission in self._parts

    def arrays(self, submission: Submission) -> list[str]:
        """The ids of its arrays, in order."""
        return [part.array for part in self._parts[submission.id]]

    def _filled(self, submission: Submission, wanted: Part, jobs: int) -> Iterator[Part]:
        """wanted: of which jobs, and the array that they wait for. What is refused whole is halved until it is one."""
        done, end, refused = wanted.first, wanted.end, wanted.end + 1
        key = repr([needs.plainly(submission.resources).get(name) for name in COUNTED])
        while done < end and key not in self._full and self.limit != ALL:  # to be told that takes minutes each time
            array = self._queue(submission, Part(done, end, wanted.array), jobs)
            if array is not None:
                yield Part(done, end, array)
            done, refused = (done, end) if array is None else (end, refused)
            end = min((done + refused) // 2, wanted.end)
            # A second array would have its own share of what may run at once.
            share = array is not None and slurm_script.parallel(submission.resources) is not None
            if done < wanted.end and (done == end or share):
                self._full.add(key)

    def _queue(self, submission: Submission, wanted: Part, jobs: int) -> str | None:
        """The id of the array, queued now or by a call that gave no answer; None where a limit is in its way."""
        argv = _sbatch(submission, wanted, jobs, self._behind[submission.id])
        found, said = self.once(argv, job_name(submission), self.arrays(submission))
        if found:
            return found
        self.limit = limited(said.error) or self.limit
        if limited(said.error):
            return None
        why = slurm_words.reason(said.error or said.output)
        # Other words name several things, of which one is meant.
        key = slurm_words.blamed(why, submission.resources) if "Invalid " in why else None
        value = submission.resources[key] if key else None
        asked = f" ({slurm_words.resource(key, value, self._origins)}: {slurm_script.said(value)})" if key else ""
        raise FarmError(f"sbatch exited {said.code} for {_runs(submission)}: {why}{asked}; "
                        "what was queued before is kept, the rest is staged: the same command goes on")  # fmt: skip

    def once(self, argv: Sequence[str], name: str, known: Collection[str] = ()) -> tuple[str | None, Said]:
        """Queue the job of this name by sbatch, unless a call that gave no answer did.

        Returns its id, None where it is refused, and what sbatch said last. known: ids of other jobs of that name.
        """
        said = call(argv)
        heard = said.code != TIMED_OUT
        for delay_s in self._delays_s:
            if said.code == 0 or limited(said.error) or not transient(said.error):
                break
            heard = False
            self._tell(f"Slurm does not answer ({slurm_words.reason(said.error)}); asking again in {delay_s:.0f} s")
            time.sleep(delay_s)
            answered, found = _found(name, known)
            if found:
                return found, said
            said = call(argv) if answered else said  # who cannot say whether it is queued is not asked to queue it
        if said.code == 0 or not heard or (transient(said.error) and not limited(said.error)):
            return _id(said.output) or _found(name, known)[1], said
        return None, said


# ---------------------------------------------------------------- what sbatch is given


def _sbatch(submission: Submission, wanted: Part, jobs: int, behind: Sequence[str]) -> list[str]:
    """The call. What may hold any character stands here: a line of the script loses some."""
    script = os.path.join(submission.path, layout.SCRIPT)
    whole = (wanted.first, wanted.end) == (0, jobs)
    depends = _depends(submission, wanted.array, behind)
    return [
        "sbatch",
        "--parsable",
        f"--job-name={job_name(submission)}",
        f"--comment={submission.id}",
        f"--chdir={submission.path}",
        f"--output={slurm_script.output(submission.path)}",
        "--open-mode=append",
        *([] if whole else [f"--array={slurm_script.array(wanted.first, wanted.end, _most(script))}"]),
        *([f"--dependency={depends}"] if depends else []),
        *(["--kill-on-invalid-dep=yes"] if wanted.array else []),
        script,
    ]


def _most(script: str) -> int | None:
    with open(script, encoding="utf-8", errors="surrogateescape") as file:
        return slurm_script.most(file.read())


def _depends(submission: Submission, after: str, behind: Sequence[str]) -> str:
    """What its jobs wait for, beside what RESOURCES says; '' for nothing else."""
    ours = [f"aftercorr:{after}"] * bool(after) + [f"afterany:{':'.join(behind)}"] * bool(behind)
    return ",".join(filter(None, (slurm_script.said(submission.resources.get("dependency")), *ours))) if ours else ""


def job_name(submission: Submission) -> str:
    """The experiment, for people, and the submission, by which the job is found again."""
    experiment = os.path.basename(layout.experiment_of(submission.path))
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', experiment)[:80]}.{submission.id}"


def _runs(submission: Submission) -> str:
    first = os.path.basename(submission.jobs[0].run)
    return f"run {first}" if len(submission.jobs) == 1 else f"{len(submission.jobs)} runs from {first} on"


# ---------------------------------------------------------------- what Slurm says


def _id(output: str) -> str | None:
    """The id that sbatch prints, perhaps with its cluster; a plugin of the site may say something before."""
    found = re.findall(r"^(\d+)(?:;.*)?$", output, re.MULTILINE)
    return found[-1] if found else None


def _found(name: str, known: Collection[str]) -> tuple[bool, str | None]:
    """(whether Slurm answered, the id of an array of this name that is not known, if there is one)."""
    said = call(["squeue", "-h", "-t", "all", f"--name={name}", "-o", "%F"])
    found = [array for array in said.output.split() if array not in known] if said.code == 0 else []
    return said.code == 0, found[0] if found else None
