"""What a farm starts on a node: from a submission and an index to one attempt, or to those that share a job.

Carried there with runner; which scheduler it is, only the submission's job.json knows. There `node` says

    job, restarts           the variables that hold the job's id (or a list of such) and how often it was restarted
    task                    the variables of the array's id and of our index in it, which name us as ID_INDEX where they
                            are set: of an array the last job has the array's own id, and all would be meant
    restarted               in place of that: the variables of which one tells that it was restarted, not how often
    each                    the words that start a command once a task
    spread                  such, and tell, where the first that is set of the variables `by` says that it has several
    notice_s, grace_s       how long before the end NOTICE comes; how long a program has after a stop
    requeue, max_requeues   the command that, with the job's id, requeues it, and how often
    code                    in place of that: the exit code by which a job asks for it, None for none; others are 0, 1
    look_s                  how often a wish to cancel a run is looked for in its directory
    fence                   whether a job that begins looks whether a breaker holds it, and then ends at once
    ask                     the command that, with the job's id, tells how it stands
    words                   (pattern, what it means: again, cancelled, evicted, time, memory) pairs: the first counts
                            that is found in that or in what the scheduler wrote into the job's own output; {next} in it
                            is the number of the next restart
    told                    the pattern by which that output tells that the program was signalled as we were
    first                   the pattern by which the log of a program that `each` started tells how its tasks failed,
                            from the first on: its groups are the code, and what strsignal(3) calls the signal
    tell                    the command that, with the job's id, asks all tasks of a program to end
    arrays, hold, release   the command that, with the name of jobs (job.json has that of ours), tells the ids of the
                            arrays that have it, and those that, with such an id, hold what waits of it and let it go: a
                            recorded id may be that of another job by now
    held                    the pattern in what hold says when it fails and has held what there is to hold
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from farmx import breaker, containers, layout, notices, packed, packs, processes, remedies, runner, stages, whereabouts
from farmx.errors import RecordError, StageError
from farmx.processes import Inbox
from farmx.remedies import Remedy
from farmx.runner import Outcome
from farmx.scheduler import OVER, OVER_PACKED, Scheduler, restarts

ENDED_WELL = ("done", "held")


class Held(NamedTuple):
    """A run that the job holds: index `place` of the submission at `home`, with its job.json.

    log: the scheduler's index, which names the job's output.  restarts: of the job.  packed: whether it holds others,
    too.  claim: what the submission says of which run it is, '' where it does not.
    """

    home: str
    job: Mapping[str, Any]
    log: int
    place: int
    run: str
    queued: int
    restarts: int = 0
    packed: bool = False
    claim: str = ""

    def execute(self, env: Mapping[str, str] = {}, ready: Callable[[Inbox], None] = lambda inbox: None) -> Outcome:
        """Execute its attempt and have the job queued again where that is ours alone to do; say how it went."""
        node = containers.around(self.job.get("node") or {}, self.run)
        scheduler = Scheduler(node, self.run, self.queued, OVER_PACKED if self.packed else OVER)
        try:
            if why := scheduler.held() or self._early(scheduler):
                self._say(f"held: {why}")
                return Outcome("held", note=why)
        except RecordError as error:  # a file system that stumbles
            return self._kept_from(error)
        requeues = bool(node.get("requeue") and scheduler.job) or node.get("code") is not None
        first = node.get("first") if node.get("each") else None
        remedy = Remedy(self.home, self.run, self.number, requeues, first)
        facts = {"farm": self.job["farm"], "submission": os.path.basename(self.home), "index": self.log,
                 "job": scheduler.job}  # fmt: skip
        with _inbox(node, scheduler) as inbox:
            ready(inbox)
            try:
                outcome = runner.execute(self.run, self.number, facts, inbox, env=env, each=node.get("each") or (),
                                         judge=lambda outcome: remedy.judge(scheduler.judge(outcome)),
                                         grace_s=float(node.get("grace_s") or runner.GRACE_S))  # fmt: skip
            except FileNotFoundError as error:
                why = f"{error.filename} is gone: was the run moved or deleted while it waited?"
                _complain(f"{self.run}: {why}")
                return Outcome("interrupted", note=why)
            except (OSError, StageError) as error:  # it was not taken, or its end not recorded in its place
                return self._kept_from(error)
            self._say(f"{outcome.state}: {outcome.note}".rstrip(": "))
            if (node.get("hold") or node.get("fence") or self.packed) and (why := remedy.held(outcome)):
                self._hold(scheduler, why)  # before we are queued again, so that we are held, too
            notices.note(self.home, self.run, self.number, "again" if outcome.again else outcome.state)
            by_us = outcome.again and node.get("requeue") and not self.packed
            if by_us and not scheduler.ended_by_others() and (problem := scheduler.requeue()):
                _complain(f"{os.path.basename(self.run)} {self.number} was not queued again: {problem}")
        return outcome

    def _hold(self, scheduler: Scheduler, why: str) -> None:
        """Have the rest held, unless that was done: who found out may have died, or nobody answered then."""
        if breaker.farm_holds(self.home):
            return
        try:
            breaker.spread(self.home)
            if held := scheduler.hold(self.home):
                breaker.note_farm_holds(self.home)
        except RecordError:
            held = False
        if held:
            self._say(f"holds the rest: {why}")
        else:
            self._say(f"cannot hold the rest, which ends as it begins: {why}")

    def _early(self, scheduler: Scheduler) -> str | None:
        """Why it must not begin, None where it may. Raises RecordError.

        Another run has its name; or the breaker holds it; or the job that it waits for did not end well, whatever the
        scheduler made of that, or was to be cancelled; or the run was queued again without this job.
        """
        record = layout.read_or_none(os.path.join(self.run, layout.RUN), layout.RUN_FORMAT)
        if whereabouts.another(record, self.claim):
            return whereabouts.ANOTHER
        if why := self.kept():
            self._hold(scheduler, why)
            return why
        if layout.AFTER not in self.job:
            return None
        before = [number for number in layout.attempt_numbers(self.run) if number[0] == self.queued - 1]
        name = layout.attempt_name(*max(before, default=(self.queued - 1, 0)))
        attempts = os.path.join(self.run, layout.ATTEMPTS)
        end = layout.of_attempt(os.path.join(attempts, name), layout.END) or {}
        if end.get("state") != "done":
            return f"attempt {name}, which comes before it, is not done"
        if any(layout.wished(os.path.join(attempts, layout.attempt_name(*number))) for number in before):
            with suppress(OSError):  # too late for that, not for us
                runner.close(self.run, self.number)
            return f"attempt {name}, which comes before it, was cancelled"
        return None if record is None or stages.named(record, self.number) else "the run was queued again without it"

    def _kept_from(self, error: Exception) -> Outcome:
        """What becomes of it where a file system does not let it begin, or end in its place."""
        why = _what(error, self.run)
        _complain(why)
        return self._broke_off(os.getpid(), Outcome("interrupted", note=why))

    def kept(self) -> str:
        """Why the breaker keeps it from beginning, '' where it does not; that its job ended for that is recorded."""
        why = breaker.bars(self.home) if (self.job.get("node") or {}).get("fence") else ""
        if why:
            breaker.mark(self.home, self.place)
        return why

    @property
    def number(self) -> str:
        """The attempt that it is to be."""
        return layout.attempt_name(self.queued, self.restarts)

    def _say(self, text: str) -> None:
        processes.say(f"{os.path.basename(self.run)} {self.number} {text}", 1)

    def cancelled(self) -> bool:
        """Whether somebody asked for its end."""
        return layout.wished(self._attempt())

    def left(self, pid: int, status: int) -> Outcome:
        """Record the end that process `pid` did not, which ended with that wait status."""
        return self._broke_off(pid, remedies.of_runner(pid, status))

    def _broke_off(self, pid: int, outcome: Outcome) -> Outcome:
        """Record what became of the attempt, where process `pid` took it and recorded no end."""
        owner = runner.owned(self._attempt(), pid)
        end = os.path.join(self._attempt(), layout.END)
        if owner is None or os.path.isfile(end):
            return outcome
        with suppress(OSError, RecordError):  # what it left cannot be looked for; the other runs go on
            runner.clear(self._attempt())
        told = {"code": None, "signal": outcome.signal, "note": outcome.note}
        told |= {"cause": outcome.cause} if outcome.cause else {}
        try:
            _record(end, runner.end_record(owner, outcome.state, **told))
        except StageError as error:  # a full disk: the others go on
            _complain(f"{os.path.basename(self.run)} {self.number}: {error}")
        self._say(f"{outcome.state}: {outcome.note}")
        notices.note(self.home, self.run, self.number, outcome.state)
        return outcome

    def _attempt(self) -> str:
        return os.path.join(self.run, layout.ATTEMPTS, self.number)


def _record(end: str, record: Mapping[str, Any]) -> None:
    """Record how an attempt of ours ended. Raises StageError."""
    try:
        runner.record_end(os.path.dirname(end), record)
    except OSError:  # its runner may have broken off at just that
        layout.write_json(end, dict(record))


def main(argv: Sequence[str]) -> int:
    """Execute what SUBMISSION INDEX names; return the job's exit code: 0 for done, or others have it."""
    home, index = argv
    try:
        job, runs = layout.read_json(os.path.join(home, layout.JOB), layout.JOB_FORMAT), layout.runs_of(home)
        claims = layout.read_lines(os.path.join(home, layout.CLAIMED))
    except (OSError, RecordError) as error:
        _complain(_what(error, home))
        return 1
    pack, node = packs.recorded(job), job.get("node") or {}
    experiment, held = layout.experiment_of(home), list[Held]()
    for place in (place for place in pack.places(int(index)) if place < len(runs)):
        (name, (queued, _)), claim = runs[place], claims[place] if place < len(claims) else ""
        run = whereabouts.found(os.path.join(experiment, name), claim)
        held.append(Held(home, job, int(index), place, run, queued, restarts(node, run, queued), pack != packs.ALONE,
                         claim))  # fmt: skip
    if not held:
        path = os.path.join(home, layout.RUNS)
        _complain(f"{path}: no run stands there for index {index}: was it changed, or is it not here yet? launch again")
        return 1
    if pack != packs.ALONE:
        return _together(held, pack.slots)
    outcome = held[0].execute()
    return _code(node, outcome.again, 0 if outcome.state in ENDED_WELL else outcome.code or 1)


def _code(node: Mapping[str, Any], again: bool, code: int) -> int:
    """What a job ends with. Where nobody asked for that, a program's own code must not mean anything to a scheduler."""
    if "code" not in node:
        return code
    return int(node["code"]) if again and node["code"] is not None else min(code, 1)


def _inbox(node: Mapping[str, Any], scheduler: Scheduler) -> Inbox:
    """What our scheduler sends; one that is asked by an exit code sends CANCEL, too, before it takes the node."""
    notice_s, look_s = (float(node.get(name) or processes.BEAT_S) for name in ("notice_s", "look_s"))
    warns = node.get("code") is not None
    return Inbox(notice_s=notice_s, told=scheduler.told, ending=scheduler.ending, warns=warns, look_s=look_s)


def _what(error: Exception, path: str) -> str:
    """What went wrong, in one line that names a file."""
    return f"{error.filename or path}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _complain(text: str) -> None:
    """Say it in the job's log, where those look whose job broke off."""
    processes.say(text, 2)


def _together(held: Sequence[Held], slots: int) -> int:
    """Execute the runs of a job that holds several; one that fails stops nothing."""
    node: Mapping[str, Any] = held[0].job.get("node") or {}
    scheduler = Scheduler(node, held[0].run, held[0].queued)
    with _inbox(node, scheduler) as inbox:
        shares = packed.shares(slots, os.environ)
        outcomes, waiting = packed.work(held, shares, inbox, lambda: bool(breaker.bars(held[0].home)), _complain)
        again = any(outcome.again for outcome in outcomes) or (inbox.noticed and waiting and node.get("max_requeues"))
        by_us = again and node.get("requeue") and not scheduler.ended_by_others()
        if by_us and (problem := scheduler.requeue()):
            _complain(f"the job was not queued again: {problem}")
    for run in held[len(held) - waiting :] if not again else ():
        run.kept()
    well = not waiting and all(outcome.state in ENDED_WELL for outcome in outcomes)
    return _code(node, bool(again), 0 if well else 1)
