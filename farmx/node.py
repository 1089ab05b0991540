"""What a farm starts on a node: from a submission and an index to an attempt, and what the scheduler is asked for it.

Carried there with runner; which scheduler it is, only the submission's job.json knows. There `node` says: `job` and
`restarts`, the variables that hold the job's id and how often it was restarted; `each`, the words that start a command
once a task; `notice_s`, how long before the end NOTICE comes; `requeue`, the command that, with the job's id, requeues
it, and `max_requeues`, how often; `ask`, the command that tells how the job stands, `answer` the pattern of its word,
and `words`, what those mean: cancelled, preempted, time, memory.
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


class Scheduler:
    """What holds the job that we are: asked how it stands, and to queue it again."""

    def __init__(self, node: Mapping[str, Any], run: str, queued: int) -> None:
        """queued: the first number of the attempt: those with it are one job, restarted."""
        self._node, self._run, self._queued = node, run, queued
        self.job = os.environ.get(str(node.get("job")), "")
        count = os.environ.get(str(node.get("restarts")), "")
        self.restarts = int(count) if count.isdecimal() else 0

    def judge(self, outcome: Outcome) -> Outcome:
        """What the end of a program was, when more is known of it than how it ended."""
        if outcome.state == "preempted":
            return self._again(outcome, "it was told that its time is up")
        if outcome.state in ("done", "cancelled"):
            return outcome
        word = self._word()
        if word == "cancelled":
            return outcome._replace(state="cancelled", note="its job was cancelled")
        if word == "preempted":
            return outcome._replace(state="preempted", note="others go first; its job is queued again")
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
        return outcome._replace(note=f"{why}; its job is queued again")

    def requeues(self) -> int:
        """How many attempts of this job ended so that we requeued it."""
        home = os.path.join(self._run, layout.ATTEMPTS)
        numbers = [layout.attempt_name(self._queued, count) for count in range(self.restarts)]
        ends = (runner.read(os.path.join(home, name, layout.END), layout.ATTEMPT_FORMAT) for name in numbers)
        return sum((end or {}).get("state") == "preempted" for end in ends)

    def _word(self) -> str | None:
        """Our word for how the job stands; None when nobody answers, or there is nothing to say."""
        argv, pattern = self._node.get("ask"), self._node.get("answer")
        if not argv or not pattern or not self.job:
            return None
        try:
            said = subprocess.run([*argv, self.job], capture_output=True, text=True, timeout=ASK_S, check=False).stdout
        except (OSError, subprocess.SubprocessError):
            return None
        found = re.search(pattern, said)
        words = self._node.get("words") or {}
        return words.get(found[1]) if found else None

    def requeue(self) -> str | None:
        """Ask for this job to be queued again; what went wrong, if it did. The scheduler may end us meanwhile."""
        argv = [*(self._node.get("requeue") or ()), self.job]
        try:
            said = subprocess.run(argv, capture_output=True, text=True, timeout=4 * ASK_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        return None if said.returncode == 0 else said.stderr.strip() or f"{argv[0]} exited {said.returncode}"


def main(argv: Sequence[str]) -> int:
    """Execute the attempt that SUBMISSION INDEX names; return the exit code of the job: 0 for done, or held by others."""
    submission, index = argv
    job = layout.read_json(os.path.join(submission, layout.JOB), layout.JOB_FORMAT)
    name, (queued, _) = layout.runs_of(submission)[int(index)]
    run = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(submission))), name)
    node: Mapping[str, Any] = job.get("node") or {}
    scheduler = Scheduler(node, run, queued)
    number = layout.attempt_name(queued, scheduler.restarts)
    facts = {"farm": job["farm"], "submission": os.path.basename(submission), "index": int(index),
             "job": scheduler.job}  # fmt: skip
    with Inbox(notice_s=float(node.get("notice_s") or processes.BEAT_S)) as inbox:
        try:
            outcome = runner.execute(run, number, facts, inbox, each=node.get("each") or (), judge=scheduler.judge)
        except FileNotFoundError as error:
            print(f"{run}: {error.filename} is gone: was the run moved or deleted while it waited?", file=sys.stderr)
            return 1
        print(f"{name} {number} {outcome.state}: {outcome.note}".rstrip(": "), flush=True)
        if outcome.state == "preempted" and inbox.noticed and (problem := scheduler.requeue()):
            print(f"{name} {number} was not queued again: {problem}", file=sys.stderr)
    return 0 if outcome.state in ("done", "held") else outcome.code or 1
