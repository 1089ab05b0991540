"""What this machine can launch on: schedulers, partitions, GPUs; and a configuration file for it. Never writes one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from farmx import farms
from farmx.errors import FarmError, UsageError, nearest
from farmx.farms import slurm_words
from farmx.farms.calls import call, user
from farmx.layout import LOCAL, SLURM

TEMPLATES = os.path.join(os.path.dirname(farms.__file__), "templates")
SUFFIX = ".yaml"
# The command that submits -> the kinds of farm that it may be, each with a command that only that one has.
COMMANDS = {
    "sbatch": {SLURM: "sinfo"},
    "qsub": {"sge": "qconf", "pbs": "pbsnodes"},
    "bsub": {"lsf": "bsub"},
    "condor_submit": {"htcondor": "condor_submit"},
    "prun": {"panda": "prun"},
    "ngc": {"ngc": "ngc"},
}
TIME_S = 4 * 3600  # what a run is given where its partition allows more
HEAD = """\
# Written by farmx init; every key: docs/config.md. `farmx sweep.yml -n` shows what would run, and makes nothing.

# Where runs go: ./runs when there is no such line. `~` and $VAR are replaced.{seen}
# LOGROOT: ~/farmx-runs

# The farm to submit to: the section below; --farm on the command line is stronger.
FARM: {farm}

"""


class Site(NamedTuple):
    """A place to launch on. kind: as --farm names it.  farm: as .farmx.yaml calls it.  facts: what was found, a line
    each.  text: that file."""

    kind: str
    farm: str
    facts: tuple[str, ...]
    text: str


class Partition(NamedTuple):
    """A partition of Slurm as sinfo tells it; limit: its time limit."""

    name: str
    default: bool
    up: bool
    limit: str
    nodes: str
    cpus: str
    memory_mb: str
    gres: str

    @property
    def gpus(self) -> str:
        """Its GPUs as Slurm writes them, `gpu:a100:8`; '' for none."""
        return ",".join(part.partition("(")[0] for part in self.gres.split(",") if part.startswith("gpu"))


def kinds() -> list[str]:
    """What --farm may say: every template, Slurm's own, and this machine."""
    names = [name.removesuffix(SUFFIX) for name in os.listdir(TEMPLATES) if name.endswith(SUFFIX)]
    return [LOCAL, SLURM, *sorted(names)]


def template(kind: str) -> str:
    """A commented section of .farmx.yaml; its first line says what tried it."""
    with open(os.path.join(TEMPLATES, kind + SUFFIX), encoding="utf-8") as file:
        return file.read()


def check(kind: str | None) -> None:
    """Raises UsageError for a kind of farm that is none."""
    if kind is not None and kind not in kinds():
        raise UsageError(f"--farm: there is no kind of farm {kind!r}{nearest(kind, kinds())}")


def site(kind: str | None, path: str | None) -> tuple[Site, tuple[str, ...]]:
    """(the site of this kind, or the best one that is here; the other kinds that are here).

    path: where commands are looked for. Raises UsageError for a kind that is none, FarmError for a Slurm that was asked
    for and does not answer.
    """
    check(kind)
    here = present(path)
    unanswered: tuple[str, ...] = ()
    if kind in (None, SLURM) and (kind or SLURM in here):
        try:
            return _slurm(), tuple(each for each in here if each != SLURM)
        except FarmError as error:
            if kind is not None:
                raise
            unanswered = (str(error),)
    found = [each for each in here if kind or each != SLURM]
    chosen = kind or next(iter(found), LOCAL)
    made = _local() if chosen == LOCAL else _templated(chosen, path)
    return made._replace(facts=(*unanswered, *made.facts)), tuple(each for each in found if each != chosen)


def present(path: str | None) -> list[str]:
    """The kinds of farm whose commands are here, the likeliest first."""
    found = []
    for command, meant in COMMANDS.items():
        if shutil.which(command, path=path):
            sure = [kind for kind, only in meant.items() if shutil.which(only, path=path)]
            found += sure or list(meant)[-1:]
    return found


def _file(farm: str, section: str, nodes: bool = True) -> str:
    return HEAD.format(farm=farm, seen=" The nodes of the farm must see it." if nodes else "") + section


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


# ---------------------------------------------------------------- this machine, and templates


def _local() -> Site:
    said = call(["nvidia-smi", "-L"])
    gpus = [re.sub(r" \(UUID.*", "", line) for line in said.output.splitlines() if said.code == 0 and "GPU " in line]
    ours = getattr(os, "sched_getaffinity", None)  # not everywhere
    cpus = len(ours(0)) if ours else os.cpu_count() or 1
    lines = ["# A pool of this machine: it outlives the terminal, and pools share the GPUs. docs/launching.md",
             "box:", f"  EXECUTOR: {LOCAL}", "  RESOURCES:"]  # fmt: skip
    if gpus:
        lines += ["    gpus: free # each run gets one idle GPU; '0,1' for these two, 2 for any two a run",
                  *(f"    #   {gpu}" for gpu in gpus), "    # jobs: 4 # so many runs at a time"]  # fmt: skip
    else:
        lines += [f"    jobs: 1 # so many runs at a time; this machine gives {cpus} CPUs"]
    many = f"{len(gpus)} GPU{'s' * (len(gpus) != 1)}"
    told = f"{many} ({gpus[0].partition(': ')[2]})" if gpus else "no GPU that nvidia-smi lists"
    text = _file("box", "\n".join([*lines, ""]), nodes=False)
    return Site(LOCAL, "box", (f"this machine, {cpus} CPUs and {told}",), text)


def _templated(kind: str, path: str | None) -> Site:
    text = template(kind)
    first = text.splitlines()[0].removeprefix("# ")
    farm = next(line.partition(":")[0] for line in text.splitlines() if re.match(r"\w[\w-]*:$", line))
    known = ((each, meant[kind]) for each, meant in COMMANDS.items() if kind in meant)
    command, only = next(known, ("sbatch", "sbatch"))  # slurm-script: COMMANDS has Slurm's own in its place
    lacks = next((each for each in (command, only) if shutil.which(each, path=path) is None), None)
    facts = [f"the template for {kind}: {lacks} is not here" if lacks else f"{command} is here", first]
    return Site(kind, farm, tuple(facts), _file(farm, text))


# ---------------------------------------------------------------- Slurm


def _slurm() -> Site:
    partitions = _partitions()
    shown = call(["scontrol", "show", "config"]).output
    version = call(["sinfo", "--version"]).output.split()[-1:] or ["?"]
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    most = found[1] if found else "?"
    chosen = _chosen(partitions)
    count = len({each.name for each in partitions})
    facts = [f"Slurm {version[0]}, {count} partition{'s' * (count > 1)}", *_table(partitions),
             f"arrays of at most {most} runs (MaxArraySize); what is larger is split"]  # fmt: skip
    accounts = _accounts()
    facts += [f"your accounts: {accounts}"] if accounts else []
    lines = [*(f"# {fact}" for fact in facts), f"{SLURM}:", f"  EXECUTOR: {SLURM}", "  RESOURCES: # options of sbatch",
             *_resources(partitions, chosen, accounts)]  # fmt: skip
    return Site(SLURM, SLURM, tuple(facts), _file(SLURM, "\n".join([*lines, ""])))


def _partitions() -> list[Partition]:
    """Those that sinfo tells, one for each kind of node in it. Raises FarmError."""
    said = call(["sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m|%G"])
    rows = [line.split("|") for line in said.output.splitlines() if line.count("|") == 6]
    if said.code != 0 or not rows:
        why = said.reason() if said.code != 0 else "sinfo: it lists no partition"
        raise FarmError(f"Slurm cannot be asked: {why}")
    return [Partition(name.rstrip("*"), name.endswith("*"), up == "up", *rest) for name, up, *rest in rows]


def _chosen(partitions: Sequence[Partition]) -> Partition:
    """The default partition, else the first that takes jobs."""
    default = [each for each in partitions if each.default]
    return next((each for each in (*default, *partitions) if each.up), partitions[0])


def _table(partitions: Sequence[Partition]) -> list[str]:
    head = ("  partition", "time limit", "nodes", "CPUs", "memory MB", "GPUs a node", "")
    rows = [(f"  {each.name}", each.limit, each.nodes, each.cpus, each.memory_mb, each.gpus or "-",
             ", ".join(["default"] * each.default + ["down"] * (not each.up))) for each in partitions]  # fmt: skip
    return _rows([head, *rows])


def _accounts() -> str:
    """The user's accounts with their QOS; '' where there is no accounting, or none."""
    said = call(["sacctmgr", "-nP", "show", "assoc", f"user={user()}", "format=account,qos"])
    rows = dict(line.split("|", 1) for line in said.output.splitlines() if said.code == 0 and "|" in line)
    return ", ".join(f"{account} (qos {qos})" if qos else account for account, qos in rows.items())


def _resources(partitions: Sequence[Partition], chosen: Partition, accounts: str) -> list[str]:
    names = ", ".join(dict.fromkeys(each.name for each in partitions if each.up))
    limit_s = slurm_words.seconds(chosen.limit)
    short = limit_s is not None and limit_s < TIME_S
    limit = f"{chosen.name} has no limit" if limit_s is None else f"the limit of {chosen.name}: {chosen.limit}"
    gpus = next((each for each in (chosen, *partitions) if each.gpus), None)
    lines = [
        f"    partition: {chosen.name} # {names}",
        f"    time: {chosen.limit if short else '4:00:00'} # {limit}",
        f"    cpus_per_task: 1 # nodes of {chosen.name} have {chosen.cpus}",
        f"    # mem: 8G # nodes of {chosen.name} have {chosen.memory_mb} MB",
    ]
    if gpus:
        lines.append(f"    {'' if gpus is chosen else '# '}gpus: 1 # {gpus.name}: {gpus.gpus} a node")
    lines += [f"    # account: NAME # {accounts}", "    # qos: NAME"] if accounts else []
    return [*lines, "    # array_parallelism: 20 # of a launch at most so many jobs at once"]


