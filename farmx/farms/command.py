"""Any scheduler that a command submits to: SUBMIT_CMD called once a job; never decides what became of a run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from farmx import layout, packs
from farmx.errors import FarmError, FarmxError, where
from farmx.farms import base, carried, command_words, together
from farmx.farms.base import Batch
from farmx.farms.calls import Apart, Said, call, crowded, transient
from farmx.farms.command_asked import LINE, Asking, cancel, poll
from farmx.farms.command_words import Template
from farmx.spec import Job, Submission

if TYPE_CHECKING:
    import threading
    from concurrent.futures import Future

__all__ = ["LINE", "Asking", "Farm", "cancel", "poll"]  # a leaf has the last two

PARALLEL = 16  # submit commands at once
DELAYS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # between attempts to reach a scheduler that does not answer
NGC_ID = r'(?im)^\W*id\W+(\d+)'  # of the table, or json, that ngc prints
UPLOAD_S = 3600.0  # the code and the runs of an experiment go over a network
TICK_S = 1.0  # how long somebody who waits for submit commands hears nothing
# What schedulers call a job of theirs: Slurm, Grid Engine, PBS, LSF, NGC. One that says whether it was restarted.
JOBS = ["SLURM_JOB_ID", "JOB_ID", "PBS_JOBID", "LSB_JOBID", "NGC_JOB_ID"]
RESTARTED = ["RESTARTED"]
# Grid Engine's -notify sends these to every process of a job. The runner answers them and tells the program by SIGTERM;
# the program itself would die of them at once, and so would the runner before it can answer and when it has ended.
_DEAF = "trap '' USR1 USR2"
SHIELD = ["/bin/sh", "-c", f'{_DEAF}; exec "$@"', "sh"]
_WAITS = "what is called already is waited for; Ctrl-C again ends it, and whether a job was accepted is not known then"
_KEPT = "what was queued before is kept, the rest is staged: the same command goes on"
# A number that is a word: not the 5 of `pbs5`, nor what a name of ours has for a date.
_NUMBER = re.compile(r"(?<![\w.:-])\d+(?![\w:-])(?!\.\w)")


class _Full(FarmError):
    """A limit of submitted jobs is in the way; the message: what the farm says."""


class Farm(NamedTuple):
    """What SUBMIT_CMD reaches.

    origins: where each setting is from, for messages.  resources: of the configuration, by name all that SUBMIT_CMD
    may speak of.  job_id: a pattern whose first group is a job's id in what SUBMIT_CMD prints.  asking: how its jobs
    are asked.  pack: the setting.  code: by which a job asks to be run again, None where it cannot.  max_requeues: how
    often it does.  tell: takes a line for people who wait.
    """

    name: str
    submit_cmd: str
    origins: Mapping[str, str] = {}
    resources: Mapping[str, Any] = {}
    job_id: str | None = None
    parallel: int = PARALLEL
    asking: Asking = Asking()
    workspace: str | None = None
    ngc_logroot: str | None = None
    delays_s: Sequence[float] = DELAYS_S
    executor: str = layout.COMMAND
    pack: Mapping[str, Any] = {}
    code: int | None = None
    max_requeues: int = 3
    tell: Callable[[str], None] = lambda line: None

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Raises ConfigError for a SUBMIT_CMD that does not fit these resources, FarmError where there is no such."""
        template = self._template()
        every = {key: value for resources in (self.resources, *wanted) for key, value in resources.items()}
        command_words.check(template, self._where(), every, self.origins)
        self.asking.record(self.origins)
        together.check(self.pack, wanted, self.origins)
        path = template.env.get("PATH") or os.environ.get("PATH")
        if shutil.which(template.program(), path=path) is None:
            raise FarmError(f"there is no {template.program()} here; launch where it is, or choose another --farm")

    def _where(self) -> str:
        return where("SUBMIT_CMD", self.origins)

    def _template(self) -> Template:
        return command_words.read(self.submit_cmd, self._where())

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        """Jobs of equal resources together; each is submitted alone all the same."""
        return base.alike(jobs)

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """SUBMIT_CMD for each job, which holds one run, or as many as PACK says; several at once."""
        import threading  # these only for who submits
        from concurrent.futures import ThreadPoolExecutor

        for submission in submissions:
            self._record(submission)
        self._upload(submissions)
        stop = threading.Event()
        with Apart() as apart, _Breaks(stop, apart) as breaks, ThreadPoolExecutor(self.parallel) as pool:
            try:
                calls = {pool.submit(self._queue, submission, index, stop, apart): submission
                         for submission in submissions for index in range(self._count(submission))}  # fmt: skip
                queued, refused = _followed(calls, heard, breaks, self.tell)
            finally:
                stop.set()  # whatever ended us: what is called already is waited for and recorded, nothing more called
        if isinstance(refused, _Full):
            total = sum(len(submission.jobs) for submission in submissions)
            raise FarmError(f"farm {self.name}'s limit of submitted jobs is reached ({refused}): {total - queued} of "
                            f"{total} runs are not queued; the same command goes on when some have ended")  # fmt: skip
        if refused is not None:
            raise refused

    def _count(self, submission: Submission) -> int:
        """How many jobs hold its runs."""
        return packs.of(self.pack, submission.resources).jobs(len(submission.jobs))

    def _record(self, submission: Submission) -> None:
        """job.json, then a script for each index."""
        own: dict[str, Any] = {"ask": self.asking.record(self.origins)}
        if "name" in self._template().names():
            own["experiment"] = os.path.basename(_experiment(submission))
        if self._apart(_experiment(submission)):
            own["elsewhere"] = self.ngc_logroot
        base.record(submission, self, node(self.code, self.max_requeues), **own)
        seen = partial(self._seen, submission)
        text = carried.command(submission.path, "$index", seen)
        for index in range(self._count(submission)):
            layout.write(_script(submission, index), f"#!/bin/sh\n{_DEAF}\nindex={index}\n{text}\n", 0o777)

    def _seen(self, submission: Submission, path: str) -> str:
        """What a node calls a path below LOGROOT."""
        logroot = os.path.dirname(_experiment(submission))
        return os.path.join(self.ngc_logroot, os.path.relpath(path, logroot)) if self.ngc_logroot else path

    def _apart(self, experiment: str) -> bool:
        """Whether the farm has a LOGROOT of its own, so that no record that its jobs write is seen here."""
        return bool(self.ngc_logroot) and self.ngc_logroot != os.path.dirname(experiment)

    def _upload(self, submissions: Sequence[Submission]) -> None:
        """Put each experiment into the NGC workspace, as runx did, unless LOGROOT is in it. Raises FarmError."""
        template = self._template()
        if not self.workspace or not command_words.is_ngc(template.words()):
            return
        for experiment in dict.fromkeys(map(_experiment, submissions)):
            if not self._apart(experiment):
                continue
            argv = [template.program(), "workspace", "upload", "--source", experiment, "--destination",
                    os.path.basename(experiment), self.workspace]  # fmt: skip
            said = call(argv, env=template.env, timeout_s=UPLOAD_S)
            if said.code != 0:
                raise FarmError(f"ngc workspace upload exited {said.code}: {said.reason()}; nothing was queued, all is "
                                "staged: the same command goes on")  # fmt: skip

    def _queue(self, submission: Submission, index: int, stop: threading.Event, apart: Apart) -> int:
        """Submit one job and record it; how many runs it holds, 0 when the launch has stopped before.

        Raises FarmError, and stops it.
        """
        if stop.is_set():
            return 0
        places = packs.of(self.pack, submission.resources).places(index)
        first, end = places.start, min(places.stop, len(submission.jobs))
        try:
            said = self._call(submission, index, submission.jobs[first], stop, apart)
            if said is None:
                return 0
            name = self._name(said, submission.jobs[first])
            base.record_queued(submission.path, first, end - 1, name)
        except FarmxError:
            stop.set()
            raise
        return end - first

    def _call(
        self, submission: Submission, index: int, job: Job, stop: threading.Event, apart: Apart
    ) -> Said | None:
        """What SUBMIT_CMD said when it took the job; None when the launch stopped while the farm could not answer."""
        env, argv = command_words.fill(self._template(), self._own(submission, index, job), submission.resources)
        for delay_s in (*self.delays_s, None):
            said = call(argv, env=env, apart=apart)
            if said.code == 0:
                return said
            if crowded(said.error + said.output):
                raise _Full(said.reason())
            if delay_s is None or not transient(said.error + said.output):
                break
            if stop.wait(delay_s):
                return None
        run = os.path.basename(job.run)
        raise FarmError(f"{argv[0]} exited {said.code} for run {run}: {said.reason()}; {_KEPT}")

    def _name(self, said: Said, job: Job) -> str:
        """The job's id in what SUBMIT_CMD said."""
        pattern = self.job_id or (NGC_ID if command_words.is_ngc(self._template().words()) else None)
        if pattern is None:
            return last_word(said.output) or base.NAMELESS
        name = found_in(said.output, pattern) or found_in(said.error, pattern)
        if not name:
            raise FarmError(f"run {os.path.basename(job.run)}: SUBMIT_CMD exited 0, and JOB_ID '{pattern}' finds "
                            f"no id in what it said: {said.reason()}; the job may wait there; the same command queues "
                            "the run again, and it starts once")  # fmt: skip
        return name

    def _own(self, submission: Submission, index: int, job: Job) -> dict[str, str | None]:
        """What farmx knows of a job, by the names that SUBMIT_CMD may say; job: the first run that it holds."""
        seen = partial(self._seen, submission)
        run, script = job.run, seen(_script(submission, index))
        return {
            "name": command_words.job_name(run),
            "logdir": seen(run),
            "log": seen(os.path.join(submission.path, f"{index}{layout.LOG_SUFFIX}")),
            "script": script,
            "command": f"sh {shlex.quote(script)}",
            "experiment": os.path.basename(os.path.dirname(run)),
            "env_pass": ",".join(_passed(run)) or None,
            "workspace": self.workspace,
            "ngc_logroot": self.ngc_logroot,
            "requeue_code": None if self.code is None else str(self.code),
        }


class _Breaks:
    """Counts Ctrl-C, which breaks into nothing meanwhile: the first calls no more, another ends what is called already.

    In a thread that hears none, or where somebody else answers it, that stays so.
    """

    def __init__(self, stop: threading.Event, apart: Apart) -> None:
        self.count = 0
        self._stop, self._apart = stop, apart
        self._ours = False

    def __enter__(self) -> _Breaks:
        import threading  # only for who submits

        main = threading.current_thread() is threading.main_thread()
        self._ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: object) -> None:
        self.count += 1
        self._stop.set()
        if self.count > 1:
            self._apart.end()


def _followed(
    calls: Mapping[Future[int], Submission],
    heard: Callable[[Submission, int], None],
    breaks: _Breaks,
    tell: Callable[[str], None],
) -> tuple[int, BaseException | None]:
    """Tell of each call as it ends, and each second that none did; how many runs are queued, and what was refused: a
    Ctrl-C counts as that."""
    from concurrent.futures import FIRST_COMPLETED, wait  # only for who submits

    queued, waiting = 0, set(calls)
    refused: BaseException | None = None
    while waiting:
        ended, waiting = wait(waiting, TICK_S, FIRST_COMPLETED)
        if breaks.count and not isinstance(refused, KeyboardInterrupt):
            refused = KeyboardInterrupt()
            tell(_WAITS)
        for done in ended:
            refused = _worse(refused, done.exception())
            count = 0 if done.exception() else done.result()
            queued += count
            heard(calls[done], count)
        if not ended:
            heard(next(iter(calls.values())), 0)
    return queued, KeyboardInterrupt() if breaks.count else refused


def _worse(one: BaseException | None, other: BaseException | None) -> BaseException | None:
    """Which of two refusals to tell of: the first, unless only that says no more than that a limit is reached."""
    return other if one is None or (isinstance(one, _Full) and other is not None) else one


# ---------------------------------------------------------------- what a job is called, and told


def node(code: int | None, max_requeues: int) -> dict[str, Any]:
    """What a node needs to know of the scheduler, as farmx.node reads it."""
    from farmx.farms import slurm_script  # spares who only looks

    # Slurm's, into the output of a job that sbatch queued: there it does not say whether one that gave way comes back.
    slurms = [each for each in slurm_script.WORDS if each[1] != "evicted"]
    own = {"words": slurms, "told": slurm_script.TOLD}
    return base.node(max_requeues, code, job=JOBS, restarted=RESTARTED, each=SHIELD, **own)


def _passed(run: str) -> list[str]:
    """The names of the variables that the run is passed. Raises FarmxError."""
    path = os.path.join(run, layout.RUN)
    try:
        told: list[str] = layout.read_json(path, layout.RUN_FORMAT)["env_pass"]
    except OSError as error:
        gone = f"{path} is gone: was it moved or deleted meanwhile"
        raise FarmError(f"run {os.path.basename(run)} is not queued: {gone}; {_KEPT}") from error
    return told


def _script(submission: Submission, index: int) -> str:
    return os.path.join(submission.path, f"{index}{layout.SCRIPT_SUFFIX}")


def _experiment(submission: Submission) -> str:
    return layout.experiment_of(submission.path)


def found_in(output: str, pattern: str) -> str:
    """A job's id by JOB_ID, '' where there is none; a part of a number is none: it would be another job's."""
    found = re.search(pattern, output)
    if found is None or found[1] is None:
        return ""
    cut = any(re.fullmatch(r"\d\d", output[max(0, place - 1) : place + 1]) for place in found.span(1))
    return "" if cut else " ".join(found[1].split())


def last_word(output: str) -> str:
    """A job's id where nobody says how to find it: the last number that stands alone, else the last word, or ''."""
    numbers = _NUMBER.findall(output)
    return (numbers or output.split() or [""])[-1]
