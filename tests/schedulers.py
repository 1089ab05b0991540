"""The commands of a scheduler as small executables: they write down how they were called and say what they are told."""

import os
from pathlib import Path

SCRIPT = """#!/bin/sh
name={name}
case "$*" in *--help*) name=sbatch-help;; *--test-only*) name=sbatch-test;; "show config") name=config;; esac
n=$(($(cat {home}/$name.count 2>/dev/null || echo 0) + 1))
echo $n >{home}/$name.count
for word in {name} "$@"; do printf '%s\\036' "$word"; done >>{home}/calls
printf '\\035' >>{home}/calls
env >{home}/$name.env
cat >{home}/$name.in
says={home}/$name.$n
[ -e $says.code ] || says={home}/$name
[ -e $says.code ] || exit 0
cat $says.out
cat $says.err >&2
exit "$(cat $says.code)"
"""
HELP = "\n".join(f"      --{name}=x   y" for name in (
    "account", "array", "clusters", "comment", "constraint", "cpus-per-task", "gpus", "hold", "mem", "nodes", "ntasks",
    "output", "partition", "qos", "requeue", "signal", "time"
))  # fmt: skip


class Scheduler:
    """Fakes of Slurm's commands, first in PATH."""

    def __init__(self, home: Path, monkeypatch, *names: str) -> None:
        self.home, self._names = home, names or ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo")
        home.mkdir()
        self.again()
        monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
        self.says("sbatch-help", HELP)
        self.says("config", "KillWait                = 30 sec\nMaxArraySize            = 101\n")

    def again(self) -> None:
        """Put the commands there, in place of what a test made of them."""
        for name in self._names:
            (self.home / name).write_text(SCRIPT.format(name=name, home=self.home))
            (self.home / name).chmod(0o755)

    def says(self, name: str, out: str = "", err: str = "", code: int = 0, call: int | None = None) -> None:
        """What a command says: at that call, counted from 1, or whenever nothing else is said."""
        stem = self.home / (name if call is None else f"{name}.{call}")
        for suffix, text in (("out", out), ("err", err), ("code", str(code))):
            stem.with_name(f"{stem.name}.{suffix}").write_text(text)

    def calls(self, name: str | None = None) -> list[list[str]]:
        """How the commands, or one of them, were called; calls for help and tries left out."""
        text = (self.home / "calls").read_text() if (self.home / "calls").exists() else ""
        found = [call.split("\036")[:-1] for call in text.split("\035")[:-1]]
        asked = [words for words in found if {"--help", "--test-only"} & {*words} or words[1:] == ["show", "config"]]
        return [words for words in found if words not in asked and name in (None, words[0])]

    def env(self, name: str) -> dict[str, str]:
        """The environment of its last call."""
        return dict(line.partition("=")[::2] for line in (self.home / f"{name}.env").read_text().splitlines())
