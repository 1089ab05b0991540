"""Slurm: job arrays through sbatch, asked with squeue and sacct; never decides what to run or what became of a run.

Which job is ours its name tells, which holds the submission's id: so what was queued by a call whose answer nobody
heard is found, and a number that Slurm has given to another job since is never taken for ours.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from farmx import breaker, layout, packs, processes, records
from farmx.errors import FarmError, FarmxError
from farmx.farms import base, beside, carried, sentinel, slurm_check, slurm_left, slurm_script, slurm_words, together
from farmx.farms.base import Answer, Answers, Batch, Can
from farmx.farms.calls import call, here, transient, user
from farmx.farms.slurm_queue import Queue, job_name
from farmx.spec import Held, Job, State, Submission

DELAYS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # between attempts to reach a controller that does not answer
NAMED = 200  # names that one squeue or sacct is asked for; where there are more, ours are picked from all it lists
SKEW_S = 86400.0  # Slurm's clock may be behind ours
MAX_ARRAY, KILL_WAIT_S = 1001, 30  # Slurm's defaults
CAN = Can(chains=True, sentinels=True, pyxis=True, warns=True)
_LIFE = {State.QUEUED: 1, State.RUNNING: 2}
_TENDING = "farmx tend does what it would"


class Farm(NamedTuple):
    """A Slurm cluster, as the commands on this machine reach it.

    origins: where each setting is from, for messages.  max_requeues: how often the runner requeues a job.  pack: the
    setting.  tell: takes a line for people when Slurm keeps them waiting.  ask: has work done that takes its time.
    """

    name: str
    origins: Mapping[str, str] = {}
    max_requeues: int = 3
    delays_s: Sequence[float] = DELAYS_S
    executor: str = layout.SLURM
    pack: Mapping[str, Any] = {}
    tell: Callable[[str], None] = lambda line: None
    ask: beside.Ask = beside.here

    def check(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Raises ConfigError for resources that sbatch would refuse, FarmError where there is no sbatch."""
        alike = base.alike((Job("", ""), each) for each in wanted)
        together.check(self.pack, wanted, self.origins)
        asked = [slurm_script.placed(batch.resources, packs.of(self.pack, batch.resources)) for batch in alike]
        helped = self.ask(slurm_check.helped) if any(map(slurm_check.unusual, asked)) else slurm_check.helped
        answers = [self.ask(slurm_check.tried, each) for each in asked]
        for later in (configuration, carried.archive):  # what a launch needs then
            self.ask(later)
        slurm_check.check(self.name, self.origins, asked, helped, answers)

    def batches(self, jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Batch]:
        """Arrays of equal resources, none larger than MaxArraySize lets it be."""
        most = max(1, self._setting("MaxArraySize", MAX_ARRAY))
        return base.alike(jobs, lambda resources: most * packs.of(self.pack, resources).each)

    def submit(self, submissions: Sequence[Submission], heard: Callable[[Submission, int], None]) -> None:
        """One sbatch for each array, more where a limit lets in only parts of it, and one for its sentinel."""
        kill_wait_s = self._setting("KillWait", KILL_WAIT_S)
        tasks = [packs.of(self.pack, each.resources).jobs(len(each.jobs)) for each in submissions]
        shares, made = slurm_script.shares(list(zip(submissions, tasks))), self.ask(carried.archive)
        try:
            for submission, count in zip(submissions, tasks):
                command = carried.command(submission.path, slurm_script.INDEX, made=made)
                command = slurm_script.logged(submission.path) + command
                asked = slurm_script.placed(submission.resources, packs.of(self.pack, submission.resources))
                script = self.ask(slurm_script.text, command, asked, count, shares[submission.id].most)
                self._record(submission, kill_wait_s)
                layout.write(os.path.join(submission.path, layout.SCRIPT), script())
            self._fill(submissions, shares, heard)
        finally:
            _ended(submissions)

    def _fill(
        self,
        submissions: Sequence[Submission],
        shares: Mapping[str, slurm_script.Share],
        heard: Callable[[Submission, int], None],
    ) -> None:
        """Queue what is written down. Raises FarmError for what is not queued."""
        queue, unwatched = Queue(self.delays_s, self.tell, self.origins), ""
        left: list[Job] = []
        for submission in submissions:
            pack, behind = packs.of(self.pack, submission.resources), shares[submission.id].behind
            queued = self._queue(queue, submission, pack, heard, behind)
            left += submission.jobs[queued:]
            if queued < len(submission.jobs):
                base.shorten(submission, queued)
            arrays = queue.arrays(submission) if sentinel.wanted(submission.path) else []
            why = _watched(queue, submission.path, job_name(submission), arrays, submission.resources)
            unwatched = unwatched or why
        _complain(queue.limit, submissions, left, unwatched)

    def _queue(
        self,
        queue: Queue,
        submission: Submission,
        pack: packs.Pack,
        heard: Callable[[Submission, int], None] = lambda submission, queued: None,
        behind: str = "",
    ) -> int:
        """Queue and record as much of it as Slurm takes; how many of its jobs."""
        queued = 0
        for part in queue.fill(submission, pack.jobs(len(submission.jobs)), behind):
            first, queued = queued, min(part.end * pack.each, len(submission.jobs))
            base.record_queued(submission.path, first, queued - 1, part.array)
            if breaker.held(submission.path):  # who held the rest of the launch did not know this array
                call(["scontrol", "hold", part.array])
            heard(submission, queued - first)
        return queued

    def finish(self, experiment: str) -> None:
        """Queue what a killed launch left out behind jobs that it queued and that are still there. Raises FarmError."""
        found = slurm_left.out(experiment, time.time())
        for line in slurm_left.theirs(found):
            self.tell(line)
        with slurm_left.mine(found, time.time()) as left:
            if left:
                self._finish(left)

    def _finish(self, left: Sequence[slurm_left.Left]) -> None:
        there: dict[str, list[str]] = {}
        for array, name in set(_arrays([name for each in left for name in (each.name, each.before)], here())):
            there.setdefault(name, []).append(array)
        shares = slurm_script.shares([(each.submission, each.pack.jobs(len(each.submission.jobs))) for each in left])
        queue, count = Queue(self.delays_s, self.tell), 0
        tried: list[Submission] = []
        refused: list[Job] = []
        for each in left:
            if len(there.get(each.before, ())) == 1 and each.name not in there:
                queue.know(each.submission.after, there[each.before][0], each.pack.jobs(len(each.submission.jobs)))
            if queue.knows(each.submission.after) and each.name not in there:
                queued = self._queue(queue, each.submission, each.pack, behind=shares[each.submission.id].behind)
                if 0 < queued < len(each.submission.jobs):  # of which nothing is queued is tried as a whole again
                    base.shorten(each.submission, queued)
                tried.append(each.submission)
                refused += each.submission.jobs[queued:]
                count += queued
        if count:
            self.tell(_finished(count))
        _complain(queue.limit, tried, refused, "")

    def watch(self, experiment: str) -> None:
        """Queue the sentinels that arrays want and lack: who queued those was killed before. Raises FarmError."""
        wanting = _wanting(experiment)
        names = [*wanting, *map(sentinel.called, wanting)]
        if not wanting:
            return
        try:
            rows = list(_arrays(names, here()))
        except FarmError as error:
            raise FarmError(f"whether the runs have a sentinel cannot be asked: {error}; {_TENDING}") from None
        there: dict[str, list[str]] = {name: [] for name in names}
        for array, name in rows:
            there[name] += [array] if array not in there[name] else []
        lacking = [name for name in wanting if there[name] and not there[sentinel.called(name)]]
        for name in lacking:
            home, record = wanting[name]
            queue = Queue(self.delays_s, self.tell)
            if why := _watched(queue, home, name, there[name], record.get("resources") or {}):
                raise _no_sentinel(why)

    def _setting(self, name: str, default: int) -> int:
        """A number of Slurm's configuration."""
        found = re.search(rf"^{name}\s*=\s*(\d+)", self.ask(configuration)(), re.MULTILINE)
        return int(found[1]) if found else default

    def _record(self, submission: Submission, kill_wait_s: int) -> None:
        node = slurm_script.node(submission.resources, self.max_requeues, kill_wait_s)
        by = {"by": processes.this()} if submission.after else {}
        base.record(submission, self, node, user=user(), name=job_name(submission), cluster=here(), **by)


def recorded(record: Mapping[str, Any], pack: Mapping[str, Any], tell: Callable[[str], None]) -> Farm:
    """The farm that wrote this job.json, which says all of it. pack: as the setting."""
    most = int((record.get("node") or {}).get("max_requeues") or 0)
    return Farm(str(record.get("farm")), {}, most, pack=pack, tell=tell)


def _ended(submissions: Sequence[Submission]) -> None:
    """Take our process (`by`) out of the records of what waits for others and was not queued: we are done with it,
    though we may live on, and any launch may queue it."""
    for path in (each.path for each in submissions if each.after):
        if os.path.exists(os.path.join(path, layout.QUEUED)):
            continue
        with suppress(OSError, FarmxError):  # what ended us is told
            record = layout.read_json(os.path.join(path, layout.JOB), layout.JOB_FORMAT)
            record.pop("by", None)
            layout.write_json(os.path.join(path, layout.JOB), record)


def _finished(count: int) -> str:
    if count == 1:
        return "1 job of a launch that was cut short is queued behind the one that it waits for"
    return f"{count} jobs of a launch that was cut short are queued behind those that they wait for"


def _watched(queue: Queue, home: str, name: str, arrays: Sequence[str], resources: Mapping[str, Any]) -> str:
    """Queue the sentinel of these arrays of the submission at `home`; what sbatch has against it, '' for nothing."""
    if not arrays:
        return ""
    found, said = queue.once(sentinel.sbatch(home, arrays, name, resources), sentinel.called(name))
    return "" if found else slurm_words.reason(said.error or said.output)


def _wanting(experiment: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Its submissions whose runs want a sentinel: the name of the arrays -> (its directory, its job.json)."""
    home = os.path.join(experiment, layout.FARMX, layout.SUBMISSIONS)
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for path in layout.submissions(home):
        record = records.job(path) if sentinel.wanted(path) else None
        if record and record.get("executor") == layout.SLURM and record.get("cluster") == here():
            found[str(record.get("name"))] = path, record
    return found


def _complain(limit: str, submissions: Sequence[Submission], left: Sequence[Job], unwatched: str) -> None:
    """Raises FarmError for the jobs that a limit kept out, or a sentinel that sbatch refused."""
    runs = {job.run for each in submissions for job in each.jobs}
    whole = " to their last stage" if any(each.after for each in submissions) else ""
    if left:
        raise FarmError(f"Slurm's limit of submitted jobs is reached ({limit}): {len({job.run for job in left})} of "
                        f"{len(runs)} runs are not queued{whole}; the same command goes on when some have ended")
    if unwatched:
        raise _no_sentinel(unwatched)


def _no_sentinel(why: str) -> FarmError:
    return FarmError(f"the runs are queued, and their sentinel is not: {why}; {_TENDING}")


# ---------------------------------------------------------------- what Slurm knows


_WHICH = ("PATH", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")


def configuration() -> str:
    """What Slurm says of itself."""
    return _configuration(*map(os.environ.get, _WHICH))


@lru_cache(maxsize=1)  # a launch asks for two of its numbers
def _configuration(*which: str | None) -> str:
    """What the Slurm that these variables lead to says of itself."""
    return call(["scontrol", "show", "config"]).output


# ---------------------------------------------------------------- asking


def poll(helds: Sequence[Held]) -> Answers:
    """What squeue says of each, in one call; for those it has forgotten, what sacct says, where there is accounting."""
    answers: dict[tuple[str, int], Answer] = {}
    for cluster, group in _by_cluster(helds):
        answers.update(_polled(group, cluster))
    return answers


def _by_cluster(helds: Sequence[Held]) -> Iterator[tuple[Mapping[str, str], Sequence[Held]]]:
    """Who was submitted to the same place is asked together; nearly always that is all."""
    groups: dict[str, list[Held]] = {}
    for held in helds:
        groups.setdefault(repr(held.record.get("cluster")), []).append(held)
    for group in groups.values():
        yield group[0].record.get("cluster") or here(), group


def _polled(helds: Sequence[Held], cluster: Mapping[str, str]) -> Answers:
    names = {str(held.record.get("name")): held for held in helds}
    users = ",".join(sorted({str(held.record.get("user")) for held in helds}))
    ask = ["squeue", "-h", "-r", "-t", "all", "-u", users, *_by_name(names), "-o", "%K|%T|%r|%j"]
    said = call(ask, cluster=cluster)
    if said.code != 0:
        why = f"Slurm cannot be asked: {slurm_words.reason(said.error)}"
        note = why if said.code is not None else "there is no squeue here"
        return {(held.submission, held.place): Answer(State.UNKNOWN, note) for held in helds}
    rows = [row for row in _cleared(_rows(said.output), names, cluster) if not _refused(row, names)]
    answers = dict(_answers(names, rows))
    forgotten = [held for held in helds if held.name is not None and (held.submission, held.place) not in answers]
    if not forgotten:
        return answers
    rows += _accounted(forgotten, names, users, cluster)
    listed = {names[row[3]].submission for row in rows if row[3] in names}
    return {**_hidden(forgotten), **_vanished(forgotten, listed), **dict(_answers(names, rows))}


def _rows(output: str) -> list[list[str]]:
    """index, state, reason and name, a line each."""
    return [row for row in (line.split("|", 3) for line in output.splitlines()) if len(row) == 4]


def _cleared(rows: list[list[str]], names: Collection[str], cluster: Mapping[str, str]) -> list[list[str]]:
    """The rows, with exit codes for reasons, as sacct has them, where only these tell what became of a job."""
    wanted = sorted({row[3] for row in rows if row[2] == slurm_words.UNCLEAR}.intersection(names))
    if not wanted:
        return rows
    ask = ["squeue", "-h", "-r", "-t", "F", f"--name={','.join(wanted)}", "-O"]
    said = call([*ask, "ArrayTaskID:|,State:|,exit_code:|,Name:"], cluster=cluster)
    codes = {(index, name.strip()): code for index, _, code, name in _rows(said.output if said.code == 0 else "")}
    told = [codes.get((index, name)) if reason == slurm_words.UNCLEAR else None for index, _, reason, name in rows]
    return [[*row[:2], slurm_words.exit_code(code), row[3]] if code else row for row, code in zip(rows, told)]


def _refused(row: Sequence[str], names: Mapping[str, Held]) -> bool:
    """Whether it is of a job that sbatch refused, which Slurm lists for some minutes as one that failed."""
    if row[1:3] != ["FAILED", slurm_words.REFUSED] or row[3] not in names:  # nearly all: nothing is looked up
        return False
    return not os.path.exists(os.path.join(names[row[3]].submission, layout.QUEUED))


def _vanished(helds: Sequence[Held], arrays: Collection[str]) -> Answers:
    """Of these arrays, the jobs that began nothing: of one that is cancelled while it waits Slurm keeps no trace."""
    note = "its job was cancelled while it waited"
    left = together.unbegun([held for held in helds if held.submission in arrays])
    return {(held.submission, held.place): Answer(State.CANCELLED, note) for held in left}


def _hidden(helds: Sequence[Held]) -> Answers:
    """Jobs of others that we are not told of: they may be gone, or hidden from us."""
    me = user()
    return {
        (held.submission, held.place): Answer(State.UNKNOWN, f"only {held.record.get('user')} can ask for it")
        for held in helds
        if held.name is not None and held.record.get("user") != me and os.getuid() != 0
    }


def _answers(names: Mapping[str, Held], rows: Iterable[list[str]]) -> Iterator[tuple[tuple[str, int], Answer]]:
    """Of an index whose array was queued twice (its other job ends at once) the answer with most life comes last."""
    told = [(slurm_words.answer(state, reason), indices, name) for indices, state, reason, name in rows]
    for answer, indices, name in sorted(told, key=lambda each: _LIFE.get(each[0].state, 0)):
        for index in slurm_words.indices(indices) if name in names else ():
            for place in packs.recorded(names[name].record).places(index):
                yield (names[name].submission, place), answer


def _accounted(
    helds: Sequence[Held], names: Mapping[str, Held], users: str, cluster: Mapping[str, str]
) -> list[list[str]]:
    """What sacct says of jobs that squeue has forgotten, in squeue's form, their exit codes as reasons; [] without
    accounting.

    What it says of jobs that wait or run is old: squeue would know them.
    """
    wanted = {held.submission for held in helds}
    since = min(float(held.record.get("submitted") or 0.0) for held in helds)
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - SKEW_S))
    by_name = _by_name([name for name, held in names.items() if held.submission in wanted])
    window = ["-S", start, "-E", "now"]
    ask = ["sacct", "-n", "-P", "-X", "-u", users, *window, *by_name, "-o", "JobID,State,ExitCode,JobName"]
    # Without states what was cancelled before it could have begun is left out.
    said = call([*ask, f"--state={slurm_words.STATES}"], cluster=cluster)
    if said.code != 0 and not transient(said.error):  # a Slurm of another age may know one of them by no such word
        said = call(ask, cluster=cluster)
    rows = _rows(said.output) if said.code == 0 else []
    ended = [row for row in rows if slurm_words.answer(row[1], row[2]).state not in (State.QUEUED, State.RUNNING)]
    return [[row[0].partition("_")[2], *row[1:]] for row in ended]


# ---------------------------------------------------------------- cancel


def cancel(helds: Sequence[Held]) -> None:
    """End these jobs, waiting or running, in one call. Raises FarmError; what has ended already is no error."""
    for cluster, group in _by_cluster(helds):
        _cancel(group, cluster)


def _cancel(helds: Sequence[Held], cluster: Mapping[str, str]) -> None:
    wanted: dict[str, list[int]] = {}
    for held in helds:
        # By its name: Slurm may have given the number that was recorded to another job since.
        wanted.setdefault(str(held.record.get("name")), []).append(packs.recorded(held.record).job(held.place))
    jobs = dict(_arrays(wanted, cluster))
    if jobs:
        said = call(["scancel", *(f"{job}_[{_ranges(wanted[name])}]" for job, name in jobs.items())], cluster=cluster)
        if said.code != 0 and not any(word in said.error for word in ("Invalid job id", "already completed")):
            raise FarmError(f"scancel: {slurm_words.reason(said.error)}")
    for unseen in _hidden([held for held in helds if held.record.get("name") not in jobs.values()]).values():
        raise FarmError(unseen.note)


def release(held: Held) -> None:
    """Let begin what is held of its array. Raises FarmError."""
    cluster = held.record.get("cluster") or here()
    for job in dict(_arrays([str(held.record.get("name"))], cluster)):
        said = call(["scontrol", "release", job], cluster=cluster)
        if said.code != 0 and slurm_script.OVER not in said.error:
            raise FarmError(f"scontrol: {slurm_words.reason(said.error)}")


# ---------------------------------------------------------------- drill


def warn(record: Mapping[str, Any], job: str) -> None:
    """Tell the job what Slurm tells one whose time is nearly up. Raises FarmError."""
    said = call(["scancel", "--batch", "--signal=USR2", job], cluster=record.get("cluster"))
    if said.code != 0:
        raise FarmError(f"scancel --batch --signal=USR2 {job}: {said.reason()}")


def hurry(record: Mapping[str, Any], job: str) -> None:
    """Ask for a job that is queued again to begin now: by itself it waits for two minutes."""
    call(["scontrol", "update", f"JobId={job}", "StartTime=now"], cluster=record.get("cluster"))


# ---------------------------------------------------------------- names


def _arrays(names: Collection[str], cluster: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(id, name) of each array in the queue that has one of these names, once a line of squeue. Raises FarmError."""
    said = call(["squeue", "-h", *_by_name(names), "-o", "%F|%j"], cluster=cluster)
    if said.code is None:
        raise FarmError("there is no squeue here; do this on a machine of the cluster")
    if said.code != 0:
        raise FarmError(f"squeue: {slurm_words.reason(said.error)}")
    rows = (line.partition("|") for line in said.output.splitlines())
    yield from ((job, name) for job, _, name in rows if name in names)


def _by_name(names: Collection[str]) -> list[str]:
    """What has squeue or sacct list the jobs of these names alone, where they are not too many for that."""
    return [f"--name={','.join(sorted(names))}"] if len(names) <= NAMED else []


def _ranges(places: Sequence[int]) -> str:
    """0,1,2,5 as Slurm writes it: 0-2,5."""
    parts: list[list[int]] = []
    for place in sorted(set(places)):
        if parts and place == parts[-1][1] + 1:
            parts[-1][1] = place
        else:
            parts.append([place, place])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
