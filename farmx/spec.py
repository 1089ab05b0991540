"""The frozen values that flow from a sweep file to a table; never where they are kept or what is done with them."""

import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

Progress = Callable[[str, int, int], None]  # called with what is being done, and how many of how many are


def unseen(what: str, made: int, total: int) -> None:
    """A Progress that nobody looks at."""


class Value(NamedTuple):
    """One value of a hyperparameter, as data and as the sweep file spells it.

    data: None, bool, int, float, str or a list of these: what Python and json see.
    words: one text a scalar, one an element of a list, numbers spelled as in the file; () for None.
    """

    data: Any
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


class Point(NamedTuple):
    """One combination of values.

    values: what goes on the command line, in that order.
    tag: the text in front of the run's name, None for none; `{param}` is still to be filled in.
    swept: what tells points apart beside the values: the tag or the resources that a list in HPARAMS varies.
    resources: what HPARAMS moved to RESOURCES for this point (nodes, partition).
    """

    values: Mapping[str, Value]
    tag: str | None = None
    swept: Mapping[str, Value] = {}
    resources: Mapping[str, Value] = {}


class State(str, Enum):
    """How a run stands; the closed list."""

    STAGED = "staged"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # its launcher or pool ended
    PREEMPTED = "preempted"  # between attempts
    LOST = "lost"
    PRUNED = "pruned"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


class Goal(NamedTuple):
    """Which metric matters (its full name, phase/name) and which way is better ('min' or 'max')."""

    metric: str
    mode: str

    def __str__(self) -> str:
        return f"{self.metric}, {'lower' if self.mode == 'min' else 'higher'} is better"

    def better(self, value: float, best: float | None) -> bool:
        """Whether `value` beats `best`, strictly; a NaN never does, any number beats None."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        return value > best if self.mode == "max" else value < best


# What is better when smaller, as words of a name; and `loss` anywhere in it, as runx went by, but not `lossless_acc`.
LOSS_LIKE = ("err", "error", "cost", "regret", "ce", "bce", "nll", "ppl", "perplexity", "perplexities", "mse", "rmse",
             "mae", "mape", "wer", "cer", "eer", "ece", "fid")  # fmt: skip
_LOSS = "loss(?!less)|cross.?entropy"
_LOSS_WORD = f"(train|trn|val|test)?({'|'.join(LOSS_LIKE)})s?"
_WORD = "[A-Z]+s?(?![a-z])|[A-Z]?[a-z]+"  # of snake_case, camelCase and top1err


def metric_name(name: str) -> str:
    """The full name of a metric, its phase as logx has it: `acc` is `val/acc`, `trn/loss` is `train/loss`."""
    from farmx import layout  # spares a -n without a GOAL

    phase, slash, bare = name.partition("/")
    return f"{layout.PHASES.get(phase, phase)}/{bare}" if slash else f"val/{name}"


def goal_of(name: str, mode: str | None = None) -> Goal:
    """The goal for a metric by name; without a mode, a loss-like name is better when smaller."""
    return Goal(metric_name(name), mode or ("min" if _loss_like(name) else "max"))


def _loss_like(name: str) -> bool:
    words = re.findall(_WORD, name)
    return bool(re.search(_LOSS, name.lower())) or any(re.fullmatch(_LOSS_WORD, word.lower()) for word in words)


class Stage(NamedTuple):
    """One named command of a run; in all of it LOGDIR still stands for the run's directory.

    words: the argv; when `shell` is set, what follows that text of shell syntax (`a && b`, `X=1 python t.py`).
    form: what tells a changed command from an earlier one, '' for a first stage.  resources: its own, which go over
    those of the run.
    """

    name: str
    words: tuple[str, ...]
    shell: str | None = None
    form: str = ""
    resources: Mapping[str, Any] = {}


class RunSpec(NamedTuple):
    """All that a run directory is made from but its name and the snapshot of the code.

    identity: the digest of `preimage`; two points with one identity are one run.
    env, pythonpath, stages: LOGDIR in them still stands for the run's directory.  retry: the setting, as policy reads
    it.  breaker, sentinel: the settings.
    """

    identity: str
    preimage: Mapping[str, Any]
    stages: tuple[Stage, ...]
    hparams: Mapping[str, Any]
    tag: str | None
    env: Mapping[str, str]
    env_pass: tuple[str, ...]
    setup: str
    pythonpath: tuple[str, ...]
    resources: Mapping[str, Any]
    goal: Goal | None
    retry: Mapping[str, Any] = {}
    container: Mapping[str, Any] = {}
    breaker: int = 0
    sentinel: bool = False


class Attempt(NamedTuple):
    """One execution of a run, as its directory tells it. Times are seconds since the epoch.

    number: (queued by us, restarted by the scheduler); attempts of a run are in this order.
    owner, end: the records, None when there is none yet. Of one that has ended no more than `started` of its owner need
    be there.
    """

    path: str
    number: tuple[int, int]
    owner: Mapping[str, Any] | None
    end: Mapping[str, Any] | None

    @property
    def started(self) -> float | None:
        """When the runner took it."""
        return self.owner.get("started") if self.owner else None

    @property
    def ended(self) -> float | None:
        """When its end was recorded; None while it runs or when its runner died."""
        return self.end.get("ended") if self.end else None

    @property
    def begun(self) -> bool:
        """Whether somebody took it to execute it, and not only to keep it from beginning."""
        return not self.end or self.end.get("begun") is not False


class Held(NamedTuple):
    """Index `place` of a submission that a farm was handed: it is to be attempt `number` (queued by us) of some run.

    submission: its directory.  record: its job.json.  name: what the farm calls it, or the array that it is in; None
    while the farm did not say.
    """

    submission: str
    place: int
    number: int
    record: Mapping[str, Any]
    name: str | None = None


class Standing(NamedTuple):
    """A stage of a run and whether its newest attempt left it done. form: as Stage's."""

    name: str
    form: str
    done: bool


class Run(NamedTuple):
    """A run directory, read back.

    hparams: what run.json says, or hparams.json where that does not; {} when neither does.  digest: of its
    snapshot, None when unknown (runx, logx outside a launch).  identity: None likewise.  attempts: oldest first.
    goal: of the launch that made it; see status.aimed for today's.
    note: why the state is what it is, for people.  generation: how often its point had been launched anew, from 1.
    held: what farms were handed for its newest attempt, while it has not ended.  stages: in order, none done while
    it is under way.  swept: the resources that HPARAMS varies.  command: what the values follow, for people.
    """

    name: str
    path: str
    experiment: str
    state: State
    hparams: Mapping[str, Any]
    attempts: tuple[Attempt, ...] = ()
    identity: str | None = None
    digest: str | None = None
    goal: Goal | None = None
    note: str = ""
    generation: int = 1
    held: tuple[Held, ...] = ()
    stages: tuple[Standing, ...] = ()
    swept: Mapping[str, Any] = {}
    command: str = ""

    @property
    def reached(self) -> str:
        """The stage at which it goes on, the first that is not done; '' where all are."""
        return next((stage.name for stage in self.stages if not stage.done), "")


class Job(NamedTuple):
    """One attempt to make: the run directory's path and the attempt's number, `2.0`."""

    run: str
    number: str


class Submission(NamedTuple):
    """One thing handed to a farm. path: its directory.  jobs: index i of the submission is jobs[i], and each wants
    `resources`.  after: the submission, by its id, whose job of the same index must have ended well before, '' for
    none."""

    id: str
    path: str
    jobs: tuple[Job, ...]
    resources: Mapping[str, Any] = {}
    after: str = ""


class Surroundings(NamedTuple):
    """What only the command line knows. now: seconds since the epoch."""

    cwd: str
    home: str
    environ: Mapping[str, str]
    now: float
    host: str = ""
    argv: tuple[str, ...] = ()
