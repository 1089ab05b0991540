"""The scheduler that holds the job that we are: asked how that stands, to queue it again, to hold what else waits.

Carried to nodes with node, which tells what the mapping `node` of a submission's job.json says. Standard library only.
"""

import itertools
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from farmx import breaker, layout, runner
from farmx.errors import RecordError
from farmx.runner import Outcome

ASK_S = 15.0  # a scheduler that takes longer has no answer
OVER = ("done", "cancelled")  # what a scheduler may restart, and is not executed again
OVER_PACKED = (*OVER, "failed", "pruned")  # where it restarted the job for the sake of others
OURS = (None, "time")  # what is said of a job whose time is up and that is ours to have queued again
_TIMES = {1: "once", 2: "twice"}


class Scheduler:
    """What holds the job that we are: asked how it stands, and to queue it again."""

    def __init__(self, node: Mapping[str, Any], run: str, queued: int, over: Sequence[str] = OVER) -> None:
        """queued: the first number of the attempt: those with it are one job, restarted.  over: ends that stand."""
        self._node, self._run, self._queued, self._over = node, run, queued, over
        self.job = _job(node)
        self.restarts = restarts(node, run, queued)
        # What is in our output before the first start is of this start: Slurm writes that it ends us, then signals.
        self._began = len(_printed()) if self.restarts else 0

    def held(self) -> str | None:
        """Why this restart is not to be executed, None when it is: another job has the attempt, or it is over.

        An attempt may be queued twice: restarts of the other job and ours have other numbers, so that both could begin.
        """
        for count in range(self.restarts):
            name = layout.attempt_name(self._queued, count)
            place = os.path.join(self._run, layout.ATTEMPTS, name)
            owner, end = (layout.of_attempt(place, record) or {} for record in (layout.OWNER, layout.END))
            if owner.get("job") not in (None, "", self.job):
                return f"attempt {name} is that of job {owner['job']}"
            if end.get("state") in self._over:
                return f"attempt {name} is {end['state']}"
            if layout.wished(place):  # too late for it, not for us
                with suppress(OSError):
                    runner.close(self._run, layout.attempt_name(self._queued, self.restarts))
                return f"attempt {name} was cancelled"
        return None

    def judge(self, outcome: Outcome) -> Outcome:
        """What the end of a program was, when more is known of it than how it ended."""
        if outcome.state in OVER:
            return outcome
        word = self.word() if outcome.state != "preempted" or self.ending() else None
        if outcome.state == "preempted" and word in OURS:
            return self._again(outcome, "it was told that its time is up")
        if word == "again":
            return outcome._replace(state="preempted", note="its job was stopped and is queued again")
        if word == "cancelled":
            return outcome._replace(state="cancelled", note="its job was cancelled")
        if word == "evicted":
            return outcome._replace(state="interrupted", note="others went first; its job is not queued again")
        if word == "time":
            return outcome._replace(state="failed", note="it reached its time limit", cause="time")
        if word == "memory":
            return outcome._replace(state="failed", note=f"out of memory; {outcome.note}", cause="oom")
        return outcome

    def _again(self, outcome: Outcome, why: str) -> Outcome:
        most = int(self._node.get("max_requeues") or 0)
        if not _requeues(self._node):
            return outcome._replace(state="interrupted", note=f"{why}; this farm cannot be asked to queue it again")
        if self.requeues() >= most:
            note = f"{why}, and it was requeued {_TIMES.get(most, f'{most} times')} (MAX_REQUEUES)"
            return outcome._replace(state="failed", note=note, cause="time")
        return outcome._replace(again=True, note=f"{why}; its job is queued again")

    def requeues(self) -> int:
        """How many attempts of this job ended so that we requeued it, those left out that RETRY gave."""
        home = os.path.join(self._run, layout.ATTEMPTS)
        numbers = [layout.attempt_name(self._queued, count) for count in range(self.restarts)]
        ends = (layout.of_attempt(os.path.join(home, name), layout.END) for name in numbers)
        return sum(end is not None and end.get("again") is True and "cause" not in end for end in ends)

    def told(self) -> bool:
        """Whether the scheduler has asked our program to end, with us or now, in our place."""
        return self.ending() or self._call(self._node.get("tell")) is not None

    def ending(self) -> bool:
        """Whether the scheduler wrote that it signals all processes of the job: it does so before the first of them."""
        pattern = self._node.get("told")
        return bool(pattern and re.search(pattern, self._said()))

    def ended_by_others(self) -> bool:
        """Whether somebody ended the job who does not want it queued again by us."""
        return self.ending() and self.word() not in OURS

    def word(self) -> str | None:
        """How the job stands; None when nobody answers, or there is nothing to say."""
        told = f"{self._call(self._node.get('ask')) or ''}\n{self._said()}"
        following = str(self.restarts + 1)
        words = self._node.get("words") or ()
        return next((word for pattern, word in words if re.search(pattern.replace("{next}", following), told)), None)

    def hold(self, submission: str) -> bool:
        """Ask for what waits to be held: of our submission, and of what else was queued that is held with it.

        Whether it is: False where it must be asked for once more.
        """
        if not self._node.get("hold") or not breaker.bars(submission):
            return True
        try:
            barred = list(filter(breaker.bars, breaker.counted_with(submission)))
            jobs = [layout.read_json(os.path.join(path, layout.JOB), layout.JOB_FORMAT) for path in barred]
        except (OSError, RecordError):
            return False
        names = [str(job.get("name")) for job in jobs]
        held = [self._all("hold", name) for name in names]  # each is asked, whatever was said of another
        for name in (name for path, name in zip(barred, names) if not breaker.bars(path)):
            self._all("release", name)  # somebody let it go meanwhile, and may have been before us
        return all(held)

    def _all(self, word: str, name: str) -> bool:
        """Whether that was done to every array whose jobs have this name. word: hold or release."""
        found = _run(self._node.get("arrays"), name)
        if found is None or found.returncode != 0:
            return False
        said = [_run(self._node.get(word), array) for array in sorted(set(found.stdout.split()))]
        over = str(self._node.get("held") or "(?!)")
        return all(each is not None and (each.returncode == 0 or re.search(over, each.stderr)) for each in said)

    def _call(self, argv: Sequence[str] | None) -> str | None:
        """What the command says of our job; None when it fails, or there is none such."""
        said = _run(argv, self.job)
        return said.stdout if said is not None and said.returncode == 0 else None

    def _said(self) -> str:
        """What the scheduler wrote into our output of this start."""
        return _printed()[self._began :].decode(errors="replace")

    def requeue(self) -> str | None:
        """Ask for this job to be queued again; what went wrong, if it did. The scheduler may end us meanwhile."""
        argv = [*(self._node.get("requeue") or ()), self.job]
        try:
            said = subprocess.run(argv, capture_output=True, errors="replace", timeout=4 * ASK_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        return None if said.returncode == 0 else said.stderr.strip() or f"{argv[0]} exited {said.returncode}"


def _run(argv: Sequence[str] | None, job: str) -> "subprocess.CompletedProcess[str] | None":
    """What the command says of a job; None when it does not answer, or there is none such."""
    if not job or not argv:
        return None
    try:
        return subprocess.run([*argv, job], capture_output=True, errors="replace", timeout=ASK_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None


def _requeues(node: Mapping[str, Any]) -> bool:
    """Whether a job can be queued again by us."""
    return bool(node.get("requeue")) or node.get("code") is not None


def _job(node: Mapping[str, Any]) -> str:
    """What the scheduler calls the job that we are, and no other, '' where it does not say."""
    task = [os.environ.get(str(name), "") for name in node.get("task") or ()]
    if task and all(task):
        return "_".join(task)
    names = node.get("job")
    found = (os.environ.get(str(name)) for name in (names if isinstance(names, list) else [names]))
    return next(filter(None, found), "")


def restarts(node: Mapping[str, Any], run: str, queued: int) -> int:
    """How often the scheduler has restarted the job that we are, counted by the attempts where it does not say."""
    if "code" in node:
        again = any(os.environ.get(str(name), "0") not in ("", "0") for name in node.get("restarted") or ())
        job = _job(node) if again else ""
        return next(count for count in itertools.count() if not _left(run, layout.attempt_name(queued, count), job))
    told = os.environ.get(str(node.get("restarts")), "")
    return int(told) if told.isdecimal() else 0


def _left(run: str, number: str, job: str) -> bool:
    """Whether the attempt ended so that another is to follow it, or is one that `job`, restarted, had no time to end.

    job: '' for one that was not.
    """
    place = os.path.join(run, layout.ATTEMPTS, number)
    owner, end = (layout.of_attempt(place, name) for name in (layout.OWNER, layout.END))
    if end is not None and end.get("state") != "interrupted":
        return end.get("state") == "preempted"
    return bool(job) and (owner or {}).get("job") == job


def _printed() -> bytes:
    """What the file holds that is our output; b"" when it is none."""
    try:
        with open("/proc/self/fd/2", "rb") as file:
            return file.read() if file.seekable() else b""
    except OSError:
        return b""
