"""What the runner itself does about a run that failed, by RETRY and BREAKER; never without its scheduler.

Carried to nodes with node: standard library only.
"""

import os
import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from farmx import breaker, evidence, layout, needs, policy, runner, stages
from farmx.runner import Outcome

_ENDED = (128 + signal.SIGTERM, 128 + signal.SIGKILL)  # the codes of tasks that were ended because another failed
_SIGNALLED = {signal.strsignal(number): 128 + number for number in signal.valid_signals()}


def of_runner(pid: int, status: int) -> Outcome:
    """What it makes of an attempt that its runner, process `pid`, ended with this wait status and recorded no end.

    In a job that lives on it was killed for itself, as its program might have been: as a rule for want of memory.
    """
    if not os.WIFSIGNALED(status):
        return Outcome("interrupted", note="its runner broke off; its job printed why")
    name = runner.signal_name(os.WTERMSIG(status))
    cause = "oom" if name == "SIGKILL" and evidence.killed_by_kernel([pid]) else None
    return Outcome("failed", None, name, note=f"its runner was ended by {name}", cause=cause)


def of_job(
    run: str,
    numbers: Sequence[str],
    causes: Sequence[str | None],
    stages_told: Sequence[Mapping[str, Any]],
    resources: Mapping[str, Any],
) -> list[str | None]:
    """The causes of a run's attempts, None in place of those that do not count for the stage at which it goes on.

    A stage that asks for other resources is a job of its own, and what ended that job says nothing of this one.
    numbers: the attempts that the first of the causes belong to.  stages_told, resources: of run.json.
    """
    wants = [needs.over(resources, each.get("resources") or {}) for each in stages_told]
    if all(each == wants[0] for each in wants):
        return list(causes)
    at = [wants[place] for place in stages.reached(run, numbers, stages_told)]
    own = [cause if each == at[-1] else None for each, cause in zip(at, causes)]
    return own + list(causes[len(own) :])


class Remedy(NamedTuple):
    """Of attempt `number` of the run directory `run`, in the submission directory `submission`.

    requeues: whether its job can be queued again by us.  first: the pattern by which its log tells how the task ended
    that failed first; None where it has one task.
    """

    submission: str
    run: str
    number: str
    requeues: bool
    first: str | None = None

    def judge(self, outcome: Outcome) -> Outcome:
        """An end with its cause; preempted where RETRY gives it another attempt with what its job has.

        What is to grow is for somebody else to submit anew.
        """
        if outcome.state != "failed":
            return outcome
        if outcome.cause is None:
            outcome = self._as_first(outcome)
            outcome = outcome._replace(cause=self._cause(outcome))
        record = layout.read_or_none(os.path.join(self.run, layout.RUN), layout.RUN_FORMAT) or {}
        told, resources = record.get(layout.RETRY) or {}, record.get("resources") or {}
        if not (told and self.requeues and outcome.cause) or breaker.held(self.submission):
            return outcome
        *before, _ = self._causes(outcome.cause, record)
        verdict = policy.verdict(told, [*before, outcome.cause], resources)
        if not verdict.again or verdict.resources != policy.raised(told, before, resources):
            return outcome
        note = f"{outcome.note}; its job is queued again (RETRY {outcome.cause})"
        return outcome._replace(state="preempted", again=True, note=note)

    def held(self, outcome: Outcome) -> str | None:
        """After an end was recorded: why the rest of the submission is to be held by us, None when it is not."""
        if breaker.failed(outcome.state, outcome.cause):
            return breaker.after(self.submission, self.run)
        # It changes nothing about the first runs: to look through them at each such end is runs times runs.
        return breaker.held(self.submission) or None if outcome.state == "failed" else None

    def _cause(self, outcome: Outcome) -> str | None:
        """What its log says; None after a KILL, of which the scheduler may say more once we are gone."""
        if outcome.killed():
            return None
        return "oom" if evidence.out_of_memory(self._log()) else "error"

    def _as_first(self, outcome: Outcome) -> Outcome:
        """The end of the task that failed first, where the code is that of those that were ended for that.

        Where its scheduler says there why it ended them itself, none failed.
        """
        if self.first is None or outcome.code not in _ENDED:
            return outcome
        lines = self._log()
        found = next(filter(None, (re.search(self.first, line) for line in lines)), None)
        if found is None or evidence.farm_word(evidence.of_farm(lines))[0]:
            return outcome
        code = int(found[1]) if found[1] else _SIGNALLED.get(found[2], outcome.code)
        return outcome._replace(code=code, note=f"{outcome.note.removesuffix(str(outcome.code))}{code}")

    def _log(self) -> list[str]:
        """The end of the log of the stage that it ended in."""
        return evidence.newest_log(os.path.join(self.run, layout.ATTEMPTS, self.number))

    def _causes(self, cause: str, record: Mapping[str, Any]) -> list[str | None]:
        """The causes of the attempts up to this one, as far as their records tell and they count here."""
        home, mine = os.path.join(self.run, layout.ATTEMPTS), layout.attempt_number(self.number) or (0, 0)
        before = [layout.attempt_name(*number) for number in layout.attempt_numbers(self.run) if number < mine]
        ends = [layout.of_attempt(os.path.join(home, name), layout.END) for name in before]
        causes = [*("node_fail" if end is None else end.get("cause") for end in ends), cause]
        stages_told, resources = record.get("stages") or (), record.get("resources") or {}
        return of_job(self.run, [*before, self.number], causes, stages_told, resources)
