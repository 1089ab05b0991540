"""What every farm must do, whatever its scheduler: tests to inherit, for farmx's own farms and for those of others.

    class TestMyFarm(FarmContract):
        @pytest.fixture
        def site(self, tmp_path):
            return Site(tmp_path / "site", {"EXECUTOR": "mine"}, "mysub", "mystat", "mydel")

Each test is a person at a shell: it types farmx commands in a project whose FARM is yours, and looks at what came of
them on disk. Imports pytest, and is imported by nothing of farmx; docs/own-farm.md leads through it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from farmx.farms import base

PATIENCE_S = 90.0  # of every wait that is there to end a hang: less than a test has, more than any slow machine needs
REFUSAL = "it refuses to say"  # what a command, or a service, says that is told to refuse
ENDED = ("done", "failed", "cancelled", "interrupted", "lost")
# What a job says of an attempt that another has: alone on its node, or as a slot of a pool.
_HELD = re.compile(r"(?P<run>\S+) +(1\.0 held:|0:\d\d) +taken by (?P<who>process \d+ on \S+)")
_LOGROOT = "../it's a $(root); \"\\"  # which a shell that reads a path once too often makes another of
_NOTE = 'printf "%s\\n" "$FARMX_ATTEMPT_DIR" >> {side}\n'
_WAIT = "while [ ! -e {side}.go ]; do sleep 0.05; done\n"
# Kills the process that looks after it, the first time.
_KILL = """[ ! -e {side}.killed ] || exit 0
pid=$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' "$FARMX_ATTEMPT_DIR/owner.json")
touch {side}.killed
kill -KILL "$pid"
sleep 60
"""
# Notes the call and how many submissions were recorded by then; fails while it is told to.
_WATCHED = """#!/bin/sh
case " $* " in *" --help "* | *" --test-only "*) exec {real} "$@" ;; esac
{{ echo "$(ls {root}/*/.farmx/submissions/*/job.json 2>/dev/null | wc -l)"; }} >> {side}.{name}
if [ -e {side}.{name}.refuses ]; then echo {refusal} >&2; exit 1; fi
exec {real} "$@"
"""
T = TypeVar("T")


def until(fact: Callable[[], T], seconds: float = PATIENCE_S) -> T:
    """What `fact` returns as soon as that is true; an error of a file that is not there yet counts as false."""
    deadline = time.monotonic() + seconds
    while True:
        found, missing, began = None, None, time.monotonic()
        try:
            found = fact()
        except (FileNotFoundError, json.JSONDecodeError) as error:
            missing = error
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came true, in {seconds:.0f} s; at last: {missing or found!r}") from missing
        time.sleep(max(0.01, 2 * (time.monotonic() - began)))  # who asks often keeps from working what is waited for


class Done(NamedTuple):
    """How a command ended. code: negative for a signal."""

    code: int
    out: str
    err: str


@dataclass
class Site:
    """A project whose FARM is the one to be tested, and what is known of that.

    path: where to make it, a directory that does not exist yet and that the farm's nodes see.  section: the farm's part
    of .farmx.yaml.  submits, asks, ends: the commands in PATH that the farm calls to queue, to ask and to end jobs.
    None where it calls none: tests that count its calls, or have it refuse, are skipped then. For a farm that is
    reached otherwise, as by HTTP, they are any names, and a subclass says what `watch`, `calls`, `refuse` and `answer`
    do with them.  parallel: how many of its runs run at once; one more must wait.  environ: variables that farmx needs
    to reach it.  exits: of a job, by what `base.record_queued` was told, the exit codes that the farm knows, empty
    until it ended; None where nobody can tell.  refused: RESOURCES that the farm's `check` refuses, {} for none.
    other: RESOURCES that it takes and that are not those of the section, {} where it knows none.  packs: whether PACK
    has runs share its jobs.
    """

    path: Path
    section: Mapping[str, object]
    submits: str | None = None
    asks: str | None = None
    ends: str | None = None
    parallel: int = 2
    environ: Mapping[str, str] = field(default_factory=dict)
    exits: Callable[[str], set[str]] | None = None
    refused: Mapping[str, object] = field(default_factory=dict)
    other: Mapping[str, object] = field(default_factory=dict)
    packs: bool = True

    def __post_init__(self) -> None:
        self.project.mkdir(parents=True)
        self.write(".farmx.yaml", json.dumps({"LOGROOT": _LOGROOT, "FARM": "big", "big": self.section}))
        for name in (self.submits, self.asks, self.ends):
            if name is not None:
                self.watch(name)

    @property
    def project(self) -> Path:
        """Where commands are typed."""
        return self.path / "project"

    @property
    def experiment(self) -> Path:
        """The directory of the only experiment."""
        return self.project / _LOGROOT / "sweep"

    @property
    def side(self) -> str:
        """The file in which each start of a program leaves a line; others have its name and more."""
        return str(self.path / "side")

    # ------------------------------------------------------------ what the farm is asked

    def watch(self, name: str) -> None:
        """From now on note the farm's calls of `name`: put a command of that name before it in PATH."""
        real = subprocess.run(["which", name], capture_output=True, text=True, check=True, env=self.env()).stdout
        words = {"root": str(self.experiment.parent), "side": self.side, "real": real.strip(), "refusal": REFUSAL}
        script = self.path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(_WATCHED.format(**{key: shlex.quote(word) for key, word in words.items()}, name=name))
        script.chmod(0o755)

    def calls(self, name: str | None) -> list[int]:
        """How many submissions had been recorded at each call of `name`."""
        path = Path(f"{self.side}.{name}")
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def refuse(self, name: str) -> None:
        """From now on `name` does nothing, fails, and says REFUSAL."""
        Path(f"{self.side}.{name}.refuses").touch()

    def answer(self, name: str) -> None:
        """From now on it does what it should again."""
        Path(f"{self.side}.{name}.refuses").unlink()

    def recorded(self) -> int:
        """How many submissions have been recorded."""
        return len(list(self.experiment.glob(".farmx/submissions/*/job.json")))

    # ------------------------------------------------------------ what is typed

    def env(self) -> dict[str, str]:
        """A cache of its own for each command: what a farm said a moment ago is not what it says."""
        env = {**os.environ, **self.environ, "XDG_CACHE_HOME": str(self.path / uuid.uuid4().hex)}
        return {**env, "PATH": f"{self.path / 'bin'}{os.pathsep}{env['PATH']}"}

    def run(self, *argv: str) -> Done:
        """Run a farmx command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "farmx", *argv], cwd=self.project, env=self.env(), capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *argv: str) -> Done:
        done = self.run(*argv)
        assert "Traceback" not in done.err, done.err
        return done

    def ok(self, *argv: str) -> Done:
        """The command must end well."""
        done = self(*argv)
        assert done.code == 0, done.err + done.out
        return done

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.project / name).write_text(text)

    def sweep(self, hparams: object, program: str = "", waits: bool = False, **keys: object) -> None:
        """A sweep, with these keys, of a shell program that notes its start, waits for `go`, then does `program`."""
        self.program(program, waits)
        self.write("sweep.yml", json.dumps({"CMD": "sh note.sh", "HPARAMS": hparams, **keys}))

    def program(self, text: str = "", waits: bool = False) -> None:
        """What the runs do from now on."""
        side = {"side": shlex.quote(self.side)}
        self.write("note.sh", _NOTE.format(**side) + (_WAIT.format(**side) if waits else "") + text)

    def fill(self, program: str = "", **keys: object) -> None:
        """Launch as many runs as run at once, which wait for `go`, and one more; return when these have started."""
        self.sweep({"n": list(range(self.parallel + 1))}, program, waits=True, **keys)
        self.ok("sweep.yml")
        until(lambda: len(self.starts()) == self.parallel)

    def go(self) -> None:
        """Let the programs go on that wait, now and later."""
        Path(f"{self.side}.go").touch()

    def forget(self) -> None:
        """Take the farm out of the configuration: from now on it is reached by records alone."""
        self.write(".farmx.yaml", json.dumps({"LOGROOT": _LOGROOT}))

    # ------------------------------------------------------------ what came of it

    def told(self) -> list[dict[str, Any]]:
        """What status says of each run, by its first value."""
        found = json.loads(self.ok("status", "sweep", "--json").out)["runs"]
        return sorted(found, key=lambda run: list(self.record(run["run"])["hparams"].values()))

    def states(self) -> list[str]:
        """The state of each, by its first value."""
        return [run["state"] for run in self.told()]

    def names(self) -> list[str]:
        """What each is called, likewise."""
        return [run["run"] for run in self.told()]

    def become(self, *states: str) -> None:
        """Wait until these are their states."""
        until(lambda: self.states() == list(states))

    def ended(self) -> list[str]:
        """Their states once all have ended."""
        return until(lambda: now if set(now := self.states()) <= set(ENDED) else [])

    def starts(self) -> list[str]:
        """The attempts in which a program started, as RUN/ATTEMPT, in order."""
        lines = Path(self.side).read_text().splitlines() if Path(self.side).exists() else []
        return ["/".join(Path(line).parts[-3::2]) for line in lines]

    def started_once(self) -> bool:
        """Whether the program of each run started, and once."""
        return sorted(self.starts()) == sorted(f"{name}/1.0" for name in self.names())

    def record(self, run: str, name: str = "run.json") -> dict[str, Any]:
        """A record of a run."""
        told: dict[str, Any] = json.loads((self.experiment / run / name).read_text())
        return told

    def submissions(self) -> list[Path]:
        """The directories of what was handed over, oldest first."""
        return sorted((self.experiment / ".farmx/submissions").iterdir())

    def held(self, submission: Path) -> list[tuple[str, str]]:
        """(run, who has it) for each attempt that a job of this submission left to another."""
        said = "".join(path.read_text() for path in sorted(submission.glob("*.log")))
        return [(found["run"], found["who"]) for found in _HELD.finditer(said)]

    def owner(self, run: str) -> tuple[str, str]:
        """(run, who has its first attempt)."""
        owner = self.record(run, "attempts/1.0/owner.json")
        return run, f"process {owner['pid']} on {owner['host']}"


def _called(name: str | None) -> str:
    """A command that the farm calls; skips the test where there is none."""
    if name is None:
        pytest.skip("this site knows of no such call of the farm")
    return name


class FarmContract:
    """Inherit, give the fixture `site`, and all of these pass."""

    @pytest.fixture
    def site(self) -> Site:
        """Yours. A fresh one for each test."""
        raise NotImplementedError("your class has no fixture `site` that returns a farmx.testing.Site")

    # ------------------------------------------------------------ queuing

    def test_runs_record_how_they_ended_and_are_not_started_again(self, site: Site) -> None:
        site.sweep({"n": [0, 3]}, 'exit "$2"')
        site.ok("sweep.yml")
        assert site.ended() == ["done", "failed"]
        called = site.calls(site.submits)
        site("sweep.yml")
        assert site.calls(site.submits) == called
        assert site.started_once()

    def test_hostile_values_arrive_as_they_are(self, site: Site) -> None:
        values = ["two words", "it's", "$HOME", "$(date); x", "größe", '"', "a\nb", ""]
        site.sweep({"s": values}, 'printf "%s" "$2" > "$LOGDIR/value"\n')
        site.ok("sweep.yml")
        assert site.ended() == ["done"] * len(values)
        assert sorted((site.experiment / run / "value").read_text() for run in site.names()) == sorted(values)

    def test_a_submission_is_recorded_before_the_farm_is_called_and_each_job_after(self, site: Site) -> None:
        site.sweep({"n": [1, 2]})
        site.ok("sweep.yml")
        assert site.recorded() == 1
        if site.submits:
            assert site.calls(site.submits)[-1] == 1
            assert sorted(base.queued(str(site.submissions()[0]))) == [0, 1]
        assert site.ended() == ["done", "done"]

    def test_what_would_be_refused_is_said_before_anything_is_made(self, site: Site) -> None:
        if not site.refused:
            pytest.skip("this site knows of no resources that the farm refuses")
        site.sweep({"n": [1]}, RESOURCES=site.refused)
        done = site("sweep.yml")
        assert done.code in (2, 4) and done.err.startswith("farmx: ")
        assert (site.experiment.parent.exists(), site.calls(site.submits)) == (False, [])

    def test_a_refusal_loses_nothing_and_the_same_command_goes_on(self, site: Site) -> None:
        submits = _called(site.submits)
        site.sweep({"n": [1, 2, 3]})
        site.ok("sweep.yml", "--first", "1")
        site.refuse(submits)
        done = site("sweep.yml")
        assert (done.code, REFUSAL in done.err.splitlines()[-1]) == (4, True)
        site.answer(submits)
        assert sorted(site.states())[-2:] == ["staged", "staged"]
        site.ok("sweep.yml")
        assert site.ended() == ["done"] * 3
        assert site.started_once()

    def test_what_is_queued_twice_starts_once_and_the_other_says_who_has_it(self, site: Site) -> None:
        site.fill()
        (twice,) = (run["run"] for run in site.told() if run["state"] == "queued")
        before = site.calls(site.submits)
        (first,) = site.submissions()
        os.rename(first, site.path / "aside")  # as by a launcher that died before it wrote down what it queued
        site.ok("sweep.yml")
        (second,) = site.submissions()
        os.rename(site.path / "aside", first)
        assert len(site.calls(site.submits)) - len(before) == (1 if site.submits else 0)
        jobs = {job for path in (first, second) for job in base.queued(str(path)).values()}
        site.go()
        assert site.ended() == ["done"] * (site.parallel + 1)
        assert until(lambda: site.held(first) + site.held(second)) == [site.owner(twice)]
        assert site.started_once()
        if site.exits:
            assert [until(partial(site.exits, job)) for job in jobs] == [{"0"}] * len(jobs)

    def test_runs_that_share_a_job_each_have_their_own_end(self, site: Site) -> None:
        site.sweep({"n": [0, 3, 4]}, 'exit "$2"', PACK={"runs": 2})
        site.ok("sweep.yml")
        assert site.ended() == ["done", "failed", "failed"]
        assert site.started_once()
        if site.packs:
            owners = [site.record(run, "attempts/1.0/owner.json") for run in site.names()]
            assert [owner["index"] for owner in owners] == [0, 0, 1]

    def test_stages_run_in_order_and_none_begins_after_a_failed_one(self, site: Site) -> None:
        own = {"RESOURCES": site.other} if site.other else {}
        stages = {"first": "sh note.sh first {n}", "second": {"cmd": "sh note.sh second {n}", **own}}
        for values in ([0], [0, 3]):  # where the first stage of the one run waits, there is room for its second
            site.sweep({"n": values}, 'echo "$1" >> "$LOGDIR/began"; exit "$2"', waits=True, CMD=stages)
            site.ok("sweep.yml")
            until(site.starts)
            assert site.states()[0] == ("running" if values == [0] else "done")
            site.go()
            assert site.ended() == ["done", "failed"][: len(values)]
        began = [site.experiment / name / "began" for name in site.names()]
        assert [path.read_text().split() for path in began] == [["first", "second"], ["first"]]
        site.program('echo "$1" >> "$LOGDIR/began"')
        site.ok("retry", "sweep")
        site.become("done", "done")
        assert [path.read_text().split() for path in began] == [["first", "second"], ["first", "first", "second"]]

    def test_what_failed_is_run_again_by_a_retry(self, site: Site) -> None:
        site.sweep({"n": [1]}, "exit 3")
        site.ok("sweep.yml")
        assert site.ended() == ["failed"]
        site.program()
        site.ok("retry", "sweep")
        site.become("done")
        (name,) = site.names()
        assert site.starts() == [f"{name}/1.0", f"{name}/2.0"]

    def test_a_job_that_dies_without_a_word_is_found_and_a_retry_goes_on(self, site: Site) -> None:
        site.sweep({"n": [1]}, _KILL.format(side=shlex.quote(site.side)))
        site.ok("sweep.yml")
        until(lambda: Path(f"{site.side}.killed").exists())
        (name,) = site.names()
        os.utime(site.experiment / name / "attempts/1.0/heartbeat", (0, 0))  # as some minutes later
        assert site.ended()[0] in ("lost", "failed", "interrupted")
        site.ok("retry", "sweep")
        site.become("done")

    def test_what_a_breaker_holds_begins_once_it_is_released(self, site: Site) -> None:
        site.fill('echo "no such option" >&2; exit 2', BREAKER=1)
        site.go()
        until(lambda: site.states().count("failed") == site.parallel)
        (waits,) = until(lambda: [run["run"] for run in site.told() if run["note"].startswith("held: ")])
        assert len(site.starts()) == site.parallel
        site.program()
        site.ok("retry", "--release", "sweep")
        site.become(*["done"] * (site.parallel + 1))
        counts = {name: sum(start.startswith(f"{name}/") for start in site.starts()) for name in site.names()}
        assert counts == {name: 1 if name == waits else 2 for name in site.names()}

    # ------------------------------------------------------------ asking

    def test_status_asks_once_for_all_by_records_alone(self, site: Site) -> None:
        site.fill()
        site.forget()
        before = site.calls(site.asks)
        assert sorted(site.states()) == ["queued"] + ["running"] * site.parallel
        assert len(site.calls(site.asks)) - len(before) == (1 if site.asks else 0)
        site.go()
        assert site.ended() == ["done"] * (site.parallel + 1)

    def test_a_farm_that_cannot_answer_leaves_what_waits_unknown(self, site: Site) -> None:
        asks = _called(site.asks)
        site.fill()
        site.refuse(asks)
        told = [run for run in site.told() if run["state"] != "running"]
        assert [(run["state"], REFUSAL in run["note"]) for run in told] == [("unknown", True)]
        site.answer(asks)
        site.go()
        assert site.ended() == ["done"] * (site.parallel + 1)

    # ------------------------------------------------------------ ending

    def test_what_waits_and_what_runs_is_cancelled_by_one_call_by_records_alone(self, site: Site) -> None:
        site.fill()
        site.forget()
        before = site.calls(site.ends)
        site.ok("cancel", "sweep")
        assert len(site.calls(site.ends)) - len(before) == (1 if site.ends else 0)
        assert site.ended() == ["cancelled"] * (site.parallel + 1)
        site.go()
        assert len(site.starts()) == site.parallel

    def test_a_cancel_that_the_farm_refuses_is_told_and_what_waits_never_begins(self, site: Site) -> None:
        ends = _called(site.ends)
        site.fill()
        (waits,) = (run["run"] for run in site.told() if run["state"] == "queued")
        site.refuse(ends)
        assert site("cancel", "sweep").out.count(REFUSAL) == site.parallel + 1
        states = {run["run"]: run["state"] for run in site.told()}
        assert states.pop(waits) == "cancelled"
        assert set(states.values()) <= {"running", "cancelled"}  # whose runner saw the wish already
        site.answer(ends)
        site.ok("cancel", "sweep")
        assert site.ended() == ["cancelled"] * (site.parallel + 1)
        site.go()
        assert len(site.starts()) == site.parallel
