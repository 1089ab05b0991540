"""Whether sbatch would take RESOURCES, before anything is made; never queues a job."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from farmx import layout, needs
from farmx.errors import ConfigError, FarmError, nearest
from farmx.farms import slurm_script, slurm_words
from farmx.farms.calls import Said, call, here, transient

OURS = ("array", "chdir", "comment", "error", "help", "input", "job_name", "no_requeue", "open_mode", "output",
        "parsable", "requeue", "test_only", "usage", "version", "wait", "wrap")  # fmt: skip
CLUSTERS = ("cluster", "clusters")
# What sbatch is asked for most: for nothing else its help need not be looked into.
COMMON = frozenset(("account", "constraint", "cpus_per_task", "dependency", "exclude", "exclusive", "gpus",
                    "gpus_per_node", "gpus_per_task", "gres", "hold", "mail_type", "mail_user", "mem", "mem_per_cpu",
                    "mem_per_gpu", "nice", "nodelist", "nodes", "ntasks", "ntasks_per_node", "partition", "qos",
                    "reservation", "signal", "time", slurm_script.PARALLEL))  # fmt: skip


Answer: TypeAlias = Callable[[], tuple[int | None, str, str]]  # gives what sbatch says, as Said has it


def expect(ask: Callable[..., Answer], resources: Mapping[str, Any], pack: Mapping[str, Any]) -> None:
    """Jobs with these resources are likely: ask now what check() is to know of them. pack: the setting."""
    if unusual(resources):
        ask(helped)
    if not pack:
        ask(tried, resources)  # as slurm_script.placed has them, then


def check(farm: str, origins: Mapping[str, str], wanted: Sequence[Mapping[str, Any]], helped: Answer,
          answers: Sequence[Answer]) -> None:  # fmt: skip
    """Raises ConfigError for resources that sbatch would refuse, FarmError where there is no sbatch.

    farm: its name.  origins: where each setting is from, both for messages.  helped: gives what `helped` says.
    answers: what `tried` says of each.
    """
    options, asker = cache(lambda: _options(Said(*helped()))), _Check(farm, origins)
    for resources, answer in zip(wanted, answers):
        asker.names(resources, options() if unusual(resources) else COMMON)
        said = Said(*answer())
        if re.search("configuration (file|source)", said.error):
            conf = here()["SLURM_CONF"] or "not set"
            raise FarmError(f"sbatch says: {slurm_words.reason(said.error)}; is Slurm set up here? SLURM_CONF: {conf}")
        if said.code is None or "--help" in said.error:  # this sbatch may lack one that others have
            asker.names(resources, options())
        asker.values(resources, said)


def unusual(resources: Mapping[str, Any]) -> bool:
    """Whether it takes sbatch's help to tell whether all of them are options."""
    return not COMMON.issuperset(map(needs.plain, resources))


class _Check(NamedTuple):
    farm: str
    origins: Mapping[str, str]

    def names(self, resources: Mapping[str, Any], known: Collection[str]) -> None:
        for key, value in resources.items():
            name, told = needs.plain(key), slurm_words.resource(key, value, self.origins)
            if not re.fullmatch(r"[A-Za-z][\w-]*", key):
                word, _, given = key.partition("=")
                raise ConfigError(f"{told} is no option of sbatch" + (f"; write {word}: {given}" if given else ""))
            if name in CLUSTERS:
                raise ConfigError(f"{told}: set SLURM_CLUSTERS in the environment, for all commands")
            if name in OURS:
                raise ConfigError(f"{told} is set by farmx itself; take it out")
            if name not in known and name != slurm_script.PARALLEL and not _takes(name, value, known):
                raise ConfigError(f"{told} is no option of sbatch{_close(name, known)}")
            if name == slurm_script.PARALLEL and not (type(value) is int and value > 0):
                raise ConfigError(f"{told}: {value!r} is not allowed; it must be a whole number above 0")
            if any(character in str(value) for character in "\n\\"):
                raise ConfigError(f"{told}: sbatch takes no newline and no backslash; write it without")
            if layout.ENV_LOGDIR in str(value):
                raise ConfigError(f"{told}: LOGDIR is another directory for each run of an array; write a path")
            if name == "signal" and not re.fullmatch(r"B:(SIG)?USR2@\d+", str(value)):
                raise ConfigError(f"{told}: {value!r} is not allowed; it must be B:USR2@SECONDS: the "
                                  "runner takes USR2 and sends the program SIGTERM")  # fmt: skip
            if name == "signal":
                _notice(told, str(value), needs.plainly(resources).get("time"))

    def values(self, resources: Mapping[str, Any], said: Said) -> None:
        why = slurm_words.reason(said.error)
        if said.code == 0 or transient(said.error) or _for_now(said.error):
            return
        key = slurm_words.blamed(why, resources) or _culprit(resources)
        named = f"{slurm_words.resource(key, resources[key], self.origins)} {resources[key]!r}" if key else ""
        where = named or f"farm '{self.farm}': RESOURCES"
        raise ConfigError(f"{where}: sbatch says: {why}{_known(key, resources)}")


def _notice(told: str, signal: str, time: Any) -> None:
    """Raises ConfigError for a `signal` that leaves a program no time before it is told, or none after."""
    notice_s, limit_s = int(signal.rpartition("@")[2]), slurm_words.seconds(str(time))
    if notice_s == 0:
        raise ConfigError(f"{told}: {signal!r} is not allowed; a run is told at least a second before its end")
    if limit_s and notice_s >= limit_s:
        raise ConfigError(f"{told}: {signal!r} is not allowed; with RESOURCES.time {time!r} a run would be told as it "
                          "begins; write less, or take it out for half of that time")  # fmt: skip


def tried(resources: Mapping[str, Any]) -> tuple[int | None, str, str]:
    """What sbatch says of them, as Said has it."""
    said = call(["sbatch", "--test-only"], text=slurm_script.text("true", resources, 1))
    return said.code, said.output, said.error


def _takes(name: str, value: Any, known: Collection[str]) -> bool:
    """Whether sbatch takes an option that its help leaves out, as it does hint; the begin of another is none."""
    if any(each.startswith(name) for each in (*known, *OURS, *CLUSTERS)):
        return False
    flag = value is None or isinstance(value, bool)
    option = f"--{name.replace('_', '-')}" + ("" if flag else f"={slurm_script.said(value)}")
    said = call(["sbatch", "--test-only", option], text="#!/bin/sh\n")
    return said.code is not None and "unrecognized option" not in said.error


def _culprit(resources: Mapping[str, Any]) -> str | None:
    """The first key without which sbatch would take them; it names none itself where no node has what is wanted."""
    without = ({name: resources[name] for name in resources if name != key} for key in resources)
    return next((key for key, rest in zip(resources, without) if tried(rest)[0] == 0), None)


def helped() -> tuple[int | None, str, str]:
    """What sbatch says of its options, as Said has it."""
    said = call(["sbatch", "--help"])
    return said.code, said.output, said.error


def _options(said: Said) -> list[str]:
    """Every option of this sbatch, spelled with underscores."""
    if said.code is None:
        raise FarmError("there is no sbatch here; launch from a machine of the cluster, or choose another --farm")
    found = re.findall(r"--([a-z][a-z0-9-]+)", said.output)
    if not found:
        raise FarmError(f"sbatch --help says no options but: {slurm_words.reason(said.error)}; is Slurm set up here?")
    return sorted(set(map(needs.plain, found)) - {*OURS, *CLUSTERS})


def _close(name: str, known: Collection[str]) -> str:
    """The end of a message about a name that is no option; all of them would be two screens."""
    told = nearest(name, list(known))
    return told if "mean" in told else "; see sbatch --help"


def _for_now(error: str) -> bool:
    """Whether sbatch, which would queue the job all the same, may mean that nodes are down or drained at the moment.

    It says that of nodes that do not exist, too; then the call that is to queue the job says so once more.
    """
    if "configuration is not available" not in error:
        return "down, drained or reserved" in error
    return any(map(slurm_words.away, call(["sinfo", "-h", "-o", "%T"]).output.split()))


def _known(key: str | None, resources: Mapping[str, Any]) -> str:
    """The end of a message: what would have been allowed, where Slurm says that."""
    column = {"partition": "%R", "constraint": "%f"}.get(needs.plain(key or ""))
    if key is None or column is None:
        return ""
    rows = call(["sinfo", "-h", "-o", column]).output.split()
    names = sorted({name for row in rows for name in row.split(",") if name != "(null)"})
    return nearest(str(resources[key]), names)
