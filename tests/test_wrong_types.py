"""Records of which something is of another kind than anybody wrote: every field of every record, and commands that look
at it: a line that says so, or the run as it stands otherwise; never a traceback.

Of each field one wrong value in turn, and of every other field, other ones each day; FARMX_STEPS=all has every field.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Commands, Project, project
from faults import part
from typed import Typed

from farmx import processes

SUBMIT = "#!/bin/sh\necho 7\n"
CONFIG = """\
LOGROOT: ../root
RETRY: {{error: 1, node_fail: 2, oom: {{mem: x2}}}}
RESOURCES: {{mem: 1G}}
BREAKER: 2
ENV: {{A: it's}}
big: {{SUBMIT_CMD: '{submit} {{name}} {{mem}} {{script}}', STATUS_CMD: /bin/true, PACK: {{runs: 2}}}}
"""
HELD = "CMD: sh fail.sh\nHPARAMS: {n: [1, 2, 3]}\nNOTIFY: [json://$NOWHERE/]\n"
DEAD = {"format": 1, "host": processes.host(), "boot": processes.boot_id(), "pid": 2**22, "birth": "1"}
WORK = ". ./note.sh; case $2 in 2) exit 3;; 3) kill -9 $PPID;; esac\n"
WRONG = [None, "x", -1, [], ["x"], {"a": 1}, True, 10**30, "\ud800"]


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> Iterator[Project]:
    """sweep: a run done, one failed and one interrupted, of a pool; more: two that a farm took and lost; held: one that
    a breaker holds, of which two events wait to be told: one could not be sent, the sender of the other died."""
    path = tmp_path_factory.mktemp("launched")
    with Commands() as commands:
        made = project(path, commands)
        (path / "submit").write_text(SUBMIT)
        (path / "submit").chmod(0o755)
        made.write(".farmx.yaml", CONFIG.format(submit=path / "submit"))
        made.sweep("{n: [1, 2, 3]}", "{train: 'sh work.sh [n]', test: 'true'}", "GOAL: acc\n")
        made.write("more.yml", "CMD: 'true'\nHPARAMS: {n: [1, 2]}\n")
        made.write("work.sh", WORK)
        assert made("sweep.yml", "-j", "1", "--tag", "{n}", "--no-cooldir").code == 1
        made.ok("more.yml", "--farm", "big", "--tag", "{n}", "--no-cooldir")
        made.write("fail.sh", "echo it is not there; exit 2\n")
        made.write("held.yml", HELD)
        assert made("held.yml", "-j", "1", "--tag", "{n}", "--no-cooldir").code == 1
        (event,) = (made.root / "held/.farmx/outbox").glob("*.held.json")
        event.with_suffix(".claim").write_text(json.dumps(DEAD))
        yield made


RECORDS = [
    "sweep/3/attempts/1.0/owner.json",
    "sweep/2/attempts/1.0/owner.json",
    "sweep/2/attempts/1.0/end.json",
    "sweep/1/attempts/1.0/end.json",
    "sweep/2/attempts/1.0/events.jsonl",
    "sweep/2/run.json",
    "more/1/run.json",
    "sweep/.farmx/submissions/*/job.json",
    "sweep/.farmx/launches/*.json",
    "more/.farmx/submissions/*/job.json",
    "held/.farmx/submissions/*/breaker.json",
    "held/.farmx/outbox/*.wanted",
    "held/.farmx/outbox/*.failed.json",
    "held/.farmx/outbox/*.failed.tries",
    "held/.farmx/outbox/*.held.json",
    "held/.farmx/outbox/*.held.claim",
]
LOOKS = ["farmx status {0}", "farmx status {0} --json", "farmx why {0}/{1}", "sumx {0}", "farmx tend {0}",
         "farmx cancel {0}"]  # fmt: skip
TOLD = ["farmx notify --json", "farmx notify --flush"]  # of what waits


def fields(record: object, path: tuple = ()) -> Iterator[tuple]:
    """The places of all that a record holds, two levels deep; of packages there are many, all alike."""
    inner = record.items() if isinstance(record, dict) else enumerate(record[:1]) if isinstance(record, list) else ()
    for key, value in inner:
        yield (*path, key)
        if not path and key != "packages":
            yield from fields(value, (*path, key))


def put(record: object, path: tuple, value: object) -> object:
    """The record with `value` there."""
    made = at = json.loads(json.dumps(record))
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


def made(experiment: Path) -> list[str]:
    """What a command that acts makes."""
    patterns = (".farmx/submissions/*", ".farmx/outbox/*", "*/attempts/*", "*/attempts/*/cancel")
    return sorted(str(path) for pattern in patterns for path in experiment.glob(pattern))


@pytest.mark.parametrize("name", RECORDS)
def test_a_field_of_another_kind_is_no_traceback(launched, monkeypatch, capfd, tmp_path, name):
    """Typed lets what a command raises through."""
    for each in ("project", "root"):
        shutil.copytree(launched.path.parent / each, tmp_path / each, symlinks=True)
    typed = Typed(monkeypatch, capfd, tmp_path / "project")
    (record,) = (tmp_path / "root").glob(name)
    lines, text = record.name.endswith(".jsonl"), record.read_text()
    told = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    experiment, run = name.split("/")[:2]
    looks = [line.format(experiment, run if run.isdigit() else "1") for line in LOOKS]
    looks += TOLD if experiment == "held" else []
    before = made(tmp_path / "root" / experiment)
    first, stride = part(2)
    for place, path in list(enumerate(fields(told)))[first::stride]:
        value = WRONG[place % len(WRONG)]
        wrong = put(told, path, value)
        record.write_text("".join(f"{json.dumps(row)}\n" for row in wrong) if lines else json.dumps(wrong))
        for line in looks:
            assert typed(line).code in (0, 1, 2, 3, 4), (path, value, line)
            if made(tmp_path / "root" / experiment) != before:
                shutil.rmtree(tmp_path / "root" / experiment)
                shutil.copytree(launched.root / experiment, tmp_path / "root" / experiment, symlinks=True)
