"""Farms that need no scheduler keep the contract: a pool of this machine, a command beside a small fake queue, and
what another package brings."""

import os
from dataclasses import dataclass
from functools import partial

import own_farms  # noqa: F401  # by which the next is found
import pytest
import test_farmx_httpq as example
from commands import Commands
from submitting import put

from farmx.testing import Done, FarmContract, Site

# A queue of two slots: fsub takes a script, fstat lists, fdel ends.
JOB = """
echo q > "$HOLD/$1.new"; mv "$HOLD/$1.new" "$HOLD/$1.state"  # whole, whenever fstat reads it
trap 'rm -f "$HOLD/$1.state"; printf "%s" "$slot" 1<> "$HOLD/slots"' EXIT
trap 'exit 1' TERM
read -r -n 1 slot <> "$HOLD/slots"
echo r > "$HOLD/$1.new"; mv "$HOLD/$1.new" "$HOLD/$1.state"
"$2" > "$3" 2>&1
echo $? > "$HOLD/$1.code"
"""
COMMANDS = {
    "job": JOB,
    "fsub": 'exec 9>>"$HOLD/lock"; flock 9; echo x >&9; n=$(wc -l < "$HOLD/lock"); flock -u 9; exec 9>&-\n'
            'setsid "$HOLD/job" "$n" "$2" "$1" < /dev/null > /dev/null 2>&1 &\necho $! > "$HOLD/$n.pid"\n'
            'until [ -e "$HOLD/$n.state" ] || ! kill -0 $!; do sleep 0.01; done\necho "$n"',
    "fstat": 'for n; do said=$(cat "$HOLD/$n.state" 2>/dev/null) && echo "$n $said"; done; exit 0',
    "fdel": 'for n; do kill -TERM -- "-$(cat "$HOLD/$n.pid")"; done',
}  # fmt: skip


@dataclass
class Forked(Site):
    """Its commands are forks of a process that has farmx imported."""

    commands: Commands | None = None

    def run(self, *argv: str) -> Done:
        done = self.commands(*argv, cwd=self.project, env=self.env(), leave=True)
        return Done(done.code, done.out, done.err)


@pytest.fixture
def shell(tmp_path, monkeypatch, commands):
    """A site on that queue, by its section of .farmx.yaml."""
    scripts = {name: f"#!/usr/bin/env bash\n{text}\n" for name, text in COMMANDS.items()}
    hold = put(tmp_path / "hold", monkeypatch, scripts)

    def exits(job: str) -> set[str]:
        path = hold / f"{job}.code"
        return set(path.read_text().split()) if path.exists() else set()

    os.mkfifo(hold / "slots")
    slots = os.open(hold / "slots", os.O_RDWR)
    os.write(slots, b"12")  # who takes one puts it back
    yield partial(Forked, tmp_path / "site", submits="fsub", asks="fstat", ends="fdel", commands=commands, exits=exits)
    os.close(slots)


class TestCommand(FarmContract):
    @pytest.fixture
    def site(self, shell):
        return shell({"SUBMIT_CMD": "fsub {log} {script}", "STATUS_CMD": "fstat {ids}", "CANCEL_CMD": "fdel {ids}",
                      "STATUS": {"q": "queued"}}, refused={"dust": 1})  # fmt: skip


@dataclass
class ForkedHttpq(Forked, example.HttpqSite):
    """The example's site, likewise."""


queue = example.queue


class TestPlugin(example.TestHttpq):
    """The farm of another package, by the tests that it comes with."""

    @pytest.fixture
    def site(self, tmp_path, queue, own_farm, commands):
        return ForkedHttpq(tmp_path / "site", {}, queue=queue, commands=commands)


class TestPool(FarmContract):
    @pytest.fixture
    def site(self, tmp_path, commands):
        section = {"EXECUTOR": "local", "RESOURCES": {"jobs": 2}}
        return Forked(tmp_path / "site", section, commands=commands, refused={"jobs": "many"}, packs=False)
