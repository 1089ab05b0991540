"""What a farm starts on a node: from a submission and an index to an attempt, and what the scheduler is asked for it.

Carried there with runner; which scheduler it is, only the submission's job.json knows. There `node` says

    job, restarts           the variables that hold the job's id and how often it was restarted
    each                    the words that start a command once a task
    notice_s, grace_s       how long before the end NOTICE comes; how long a program has after a stop
    requeue, max_requeues   the command that, with the job's id, requeues it, and how often
    ask                     the command that, with the job's id, tells how it stands
    words                   (pattern, what it means: again, cancelled, evicted, time, memory) pairs: the first counts
                            that is found in that or in what the scheduler wrote into the job's own output; {next} in it
                            is the number of the next restart
    told                    the pattern by which that output tells that the program was signalled as we were
    tell                    the command that, with the job's id, asks all tasks of a program to end
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from farmx import layout, processes, runner
from farmx.processes import Inbox
from farmx.runner import Outcome

ASK_S = 15.0  # a scheduler that takes longer has no answer
OVER = ("done", "cancelled")  # what a scheduler may restart, and is not executed again


class Scheduler:
    """What holds the job that we are: asked how it stands, and to queue it again."""

    def __init__(self, node: Mapping[str, Any], run: str, queued: int) -> None:
        """queued: the first number of the attempt: those with it are one job, restarted."""
        self._node, self._run, self._queued = node, run, queued
        self.job = os.environ.get(str(node.get("job")), "")
        count = os.environ.get(str(node.get("restarts")), "")
        self.restarts = int(count) if count.isdecimal() else 0
        self._began = len(_printed())

    def held(self) -> str | None:
        """Why this restart is not to be executed, None when it is: another job has the attempt, or it is over.

        An attempt may be queued twice: restarts of the other job and ours have other numbers, so that both could begin.
        """
        for count in range(self.restarts):
            name = layout.attempt_name(self._queued, count)
            owner, end = (
                runner.read(os.path.join(self._run, layout.ATTEMPTS, name, record), layout.ATTEMPT_FORMAT) or {}
                for record in (layout.OWNER, layout.END)
            )
            if owner.get("job") not in (None, "", self.job):
                return f"attempt {name} is that of job {owner['job']}"
            if end.get("state") in OVER:
                return f"attempt {name} is {end['state']}"
        return None

    def judge(self, outcome: Outcome) -> Outcome:
        """What the end of a program was, when more is known of it than how it ended."""
        if outcome.state == "preempted":
            return self._again(outcome, "it was told that its time is up")
        if outcome.state in OVER:
            return outcome
        word = self._word()
        if word == "again":
            return outcome._replace(state="preempted", note="its job was stopped and is queued again")
        if word == "cancelled":
            return outcome._replace(state="cancelled", note="its job was cancelled")
        if word == "evicted":
            return outcome._replace(state="interrupted", note="others went first; its job is not queued again")
        if word == "time":
            return outcome._replace(state="failed", note="it reached its time limit")
        if word == "memory":
            return outcome._replace(state="failed", note=f"out of memory; {outcome.note}")
        return outcome

    def _again(self, outcome: Outcome, why: str) -> Outcome:
        most = int(self._node.get("max_requeues") or 0)
        if not self._node.get("requeue"):
            return outcome._replace(state="interrupted", note=f"{why}; this farm cannot be asked to queue it again")
        if self.requeues() >= most:
            return outcome._replace(state="failed", note=f"{why}, and it was requeued {most} times (MAX_REQUEUES)")
        return outcome._replace(again=True, note=f"{why}; its job is queued again")

    def requeues(self) -> int:
        """How many attempts of this job ended so that we requeued it."""
        home = os.path.join(self._run, layout.ATTEMPTS)
        numbers = [layout.attempt_name(self._queued, count) for count in range(self.restarts)]
        ends = (runner.read(os.path.join(home, name, layout.END), layout.ATTEMPT_FORMAT) for name in numbers)
        return sum((end or {}).get("again") is True for end in ends)

    def told(self) -> bool:
        """Whether the scheduler has asked our program to end, with us or now, in our place."""
        pattern, argv = self._node.get("told"), self._node.get("tell")
        if pattern and re.search(pattern, self._said()):
            return True
        return self._call(argv) is not None

    def _word(self) -> str | None:
        """How the job stands; None when nobody answers, or there is nothing to say."""
        told = f"{self._asked()}\n{self._said()}"
        following = str(self.restarts + 1)
        words = self._node.get("words") or ()
        return next((word for pattern, word in words if re.search(pattern.replace("{next}", following), told)), None)

    def _asked(self) -> str:
        return self._call(self._node.get("ask")) or ""

    def _call(self, argv: Sequence[str] | None) -> str | None:
        """What the command says of our job; None when it fails, or there is none such."""
        if not self.job or not argv:
            return None
        try:
            said = subprocess.run([*argv, self.job], capture_output=True, text=True, timeout=ASK_S, check=False)
        except (OSError, subprocess.SubprocessError):
            return None
        return said.stdout if said.returncode == 0 else None

    def _said(self) -> str:
        """What the scheduler wrote into our output since we began."""
        return _printed()[self._began :].decode(errors="replace")

    def requeue(self) -> str | None:
        """Ask for this job to be queued again; what went wrong, if it did. The scheduler may end us meanwhile."""
        argv = [*(self._node.get("requeue") or ()), self.job]
        try:
            said = subprocess.run(argv, capture_output=True, text=True, timeout=4 * ASK_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        return None if said.returncode == 0 else said.stderr.strip() or f"{argv[0]} exited {said.returncode}"


def _printed() -> bytes:
    """What the file holds that is our output; b"" when it is none."""
    try:
        with open("/proc/self/fd/2", "rb") as file:
            return file.read() if file.seekable() else b""
    except OSError:
        return b""


def main(argv: Sequence[str]) -> int:
    """Execute the attempt that SUBMISSION INDEX names; return the job's exit code: 0 for done, or others have it."""
    submission, index = argv
    job = layout.read_json(os.path.join(submission, layout.JOB), layout.JOB_FORMAT)
    name, (queued, _) = layout.runs_of(submission)[int(index)]
    run = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(submission))), name)
    node: Mapping[str, Any] = job.get("node") or {}
    scheduler = Scheduler(node, run, queued)
    number = layout.attempt_name(queued, scheduler.restarts)
    if why := scheduler.held():
        print(f"{name} {number} held: {why}", flush=True)
        return 0
    facts = {"farm": job["farm"], "submission": os.path.basename(submission), "index": int(index),
             "job": scheduler.job}  # fmt: skip
    notice_s = float(node.get("notice_s") or processes.BEAT_S)
    with Inbox(notice_s=notice_s, told=scheduler.told) as inbox:
        try:
            outcome = runner.execute(run, number, facts, inbox, each=node.get("each") or (), judge=scheduler.judge,
                                     grace_s=float(node.get("grace_s") or runner.GRACE_S))  # fmt: skip
        except FileNotFoundError as error:
            print(f"{run}: {error.filename} is gone: was the run moved or deleted while it waited?", file=sys.stderr)
            return 1
        print(f"{name} {number} {outcome.state}: {outcome.note}".rstrip(": "), flush=True)
        if outcome.again and (problem := scheduler.requeue()):
            print(f"{name} {number} was not queued again: {problem}", file=sys.stderr)
    return 0 if outcome.state in ("done", "held") else outcome.code or 1
