"""What every farm must do, whatever its scheduler: a suite to inherit from, with a `site` that reaches the farm.

The commands that a farm calls stand on PATH before the real ones: they note each call, and fail when they are told to.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from commands import Commands, Done, hparams, read, runs
from launching import PATIENCE_S, until

from farmx.farms import base

# What a job says of an attempt that another has: alone on its node, or as a slot of a pool.
HELD = re.compile(r"(?P<run>\S+) +(1\.0 held:|0:\d\d) +taken by (?P<who>process \d+ on \S+)")
ENDED = ("done", "failed", "cancelled", "interrupted", "lost")
NOTE = 'printf "%s\\n" "$FARMX_ATTEMPT_DIR" >> {side}\n'
WAIT = "while [ ! -e {side}.go ]; do sleep 0.05; done\n"
# Notes the call and which submissions were recorded by then; fails when told so, after so many calls if it says that.
WATCHED = """#!/bin/sh
case " $* " in *" --help "* | *" --test-only "*) exec {real} "$@" ;; esac
{{ echo "$(ls {root}/*/.farmx/submissions/*/job.json 2>/dev/null | wc -l)"; }} >> {side}.{name}
if [ -e {side}.{name}.fails ] && [ "$(wc -l < {side}.{name})" -gt "$(cat {side}.{name}.fails)" ]; then
  echo "it refuses to say" >&2; exit 1
fi
exec {real} "$@"
"""


@dataclass
class Site:
    """A project on a farm. section: its part of .farmx.yaml.  submits, asks, ends: the commands it calls, None where
    it calls none.  parallel: how many of its runs run at once.  commands: what farmx is forked from, None where each is
    a process of its own.  exits: the exit codes that the farm knows of a job, empty until it ended; None where its jobs
    have none."""

    path: Path
    section: Mapping[str, object]
    submits: str | None = None
    asks: str | None = None
    ends: str | None = None
    parallel: int = 2
    environ: Mapping[str, str] = field(default_factory=dict)
    commands: Commands | None = None
    exits: Callable[[str], set[str]] | None = None

    def __post_init__(self) -> None:
        self.project.mkdir(parents=True)
        self.write(".farmx.yaml", json.dumps({"LOGROOT": "../root", "FARM": "big", "big": self.section}))
        for name in (self.submits, self.asks, self.ends):
            if name is not None:
                self._watch(name)

    @property
    def project(self) -> Path:
        return self.path / "project"

    @property
    def experiment(self) -> Path:
        return self.path / "root" / "sweep"

    @property
    def side(self) -> str:
        return str(self.path / "side")

    def _watch(self, name: str) -> None:
        real = subprocess.run(["which", name], capture_output=True, text=True, check=True, env=self.env()).stdout
        quoted = {"root": shlex.quote(str(self.path / "root")), "side": shlex.quote(self.side)}
        script = self.path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(WATCHED.format(**quoted, name=name, real=shlex.quote(real.strip())))
        script.chmod(0o755)

    def env(self) -> dict[str, str]:
        """A cache of its own for each command: what a farm said a moment ago is not what it says."""
        env = {**os.environ, **self.environ, "XDG_CACHE_HOME": str(self.path / uuid.uuid4().hex)}
        return {**env, "PATH": f"{self.path / 'bin'}{os.pathsep}{env['PATH']}"}

    def __call__(self, *argv: str) -> Done:
        if self.commands:
            done = self.commands(*argv, cwd=self.project, env=self.env(), leave=True)
        else:
            real = self.run(*argv)
            done = Done(real.returncode, real.stdout, real.stderr)
        assert "Traceback" not in done.err, done.err
        return done

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "farmx", *argv], cwd=self.project, env=self.env(), capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=PATIENCE_S,
        )  # fmt: skip

    def ok(self, *argv: str) -> Done:
        done = self(*argv)
        assert done.code == 0, done.err + done.out
        return done

    def write(self, name: str, text: str) -> None:
        (self.project / name).write_text(text)

    def sweep(self, hparams: object, program: str = "", waits: bool = False) -> None:
        """A sweep of a shell program that notes its start, waits for `go`, then does `program`."""
        side = {"side": shlex.quote(self.side)}
        self.write("note.sh", NOTE.format(**side) + (WAIT.format(**side) if waits else "") + program)
        self.write("sweep.yml", json.dumps({"CMD": "sh note.sh", "HPARAMS": hparams}))

    def go(self) -> None:
        Path(f"{self.side}.go").touch()

    def calls(self, name: str | None) -> int:
        path = Path(f"{self.side}.{name}")
        return len(path.read_text().splitlines()) if path.exists() else 0

    def fails(self, name: str, after: int | None) -> None:
        """Let the command fail after so many calls in all; None: not any more."""
        path = Path(f"{self.side}.{name}.fails")
        path.unlink(missing_ok=True) if after is None else path.write_text(str(after))

    def told(self) -> list[dict]:
        """What status says of each run, by its first value."""
        found = json.loads(self.ok("status", "sweep", "--json").out)["runs"]
        return sorted(found, key=lambda run: list(hparams(self.experiment / run["run"]).values()))

    def submissions(self) -> list[Path]:
        return sorted((self.experiment / ".farmx/submissions").iterdir())

    def held(self, submission: Path) -> list[tuple[str, str]]:
        """(run, who has it) for each attempt that a job of this submission left to another."""
        said = "".join(path.read_text() for path in sorted(submission.glob("*.log")))
        return [(found["run"], found["who"]) for found in HELD.finditer(said)]

    def owner(self, run: str) -> tuple[str, str]:
        """(run, who has its first attempt)."""
        owner = read(self.experiment / run / "attempts/1.0/owner.json")
        return run, f"process {owner['pid']} on {owner['host']}"

    def states(self) -> list[str]:
        return [run["state"] for run in self.told()]

    def names(self) -> list[str]:
        return [run["run"] for run in self.told()]

    def become(self, *states: str) -> None:
        until(lambda: self.states() == list(states))

    def ended(self) -> list[str]:
        return until(lambda: now if set(now := self.states()) <= set(ENDED) else None)

    def starts(self) -> list[str]:
        """The attempts in which a program started, as RUN/ATTEMPT, in order."""
        lines = Path(self.side).read_text().splitlines() if Path(self.side).exists() else []
        return ["/".join(Path(line).parts[-3::2]) for line in lines]


class FarmContract:
    """Inherit, and give a fixture `site`."""

    def test_runs_record_how_they_ended_and_are_not_started_again(self, site):
        site.sweep({"n": [0, 3]}, 'exit "$2"')
        site.ok("sweep.yml")
        assert site.ended() == ["done", "failed"]
        site("sweep.yml")
        assert sorted(site.starts()) == sorted(f"{name}/1.0" for name in site.names())

    def test_a_submission_is_recorded_before_the_farm_is_called(self, site):
        site.sweep({"n": [1]})
        site.ok("sweep.yml")
        assert len(list(site.experiment.glob(".farmx/submissions/*/job.json"))) == 1
        if site.submits:
            assert Path(f"{site.side}.{site.submits}").read_text().split()[-1] == "1"
        assert site.ended() == ["done"]

    def test_a_refusal_loses_nothing_and_the_same_command_goes_on(self, site):
        if not site.submits:
            return
        site.sweep({"n": [1, 2, 3]})
        site.ok("sweep.yml", "--first", "1")
        site.fails(site.submits, site.calls(site.submits))
        done = site("sweep.yml")
        assert (done.code, "it refuses to say" in done.err.splitlines()[-1]) == (4, True)
        site.fails(site.submits, None)
        assert sorted(site.states())[-2:] == ["staged", "staged"]
        site.ok("sweep.yml")
        assert site.ended() == ["done"] * 3
        assert sorted(site.starts()) == sorted(f"{name}/1.0" for name in site.names())

    def test_what_is_queued_twice_starts_once_and_the_other_says_who_has_it(self, site):
        site.sweep({"n": list(range(site.parallel + 1))}, waits=True)
        site.ok("sweep.yml")
        until(lambda: len(site.starts()) == site.parallel)
        (twice,) = (run["run"] for run in site.told() if run["state"] == "queued")
        before = site.calls(site.submits)
        (first,) = site.submissions()
        os.rename(first, site.path / "aside")  # as by a launcher that died before it wrote down what it queued
        site.ok("sweep.yml")
        (second,) = site.submissions()
        os.rename(site.path / "aside", first)
        assert site.calls(site.submits) - before == (1 if site.submits else 0)
        jobs = {job for path in (first, second) for job in base.queued(str(path)).values()}
        site.go()
        assert site.ended() == ["done"] * (site.parallel + 1)
        assert until(lambda: site.held(first) + site.held(second)) == [site.owner(twice)]
        assert sorted(site.starts()) == sorted(f"{name}/1.0" for name in site.names())
        if site.exits:
            assert [until(partial(site.exits, job)) for job in jobs] == [{"0"}] * len(jobs)

    def test_status_asks_once_for_all(self, site):
        site.sweep({"n": list(range(site.parallel + 1))}, waits=True)
        site.ok("sweep.yml")
        until(lambda: len(site.starts()) == site.parallel)
        before = site.calls(site.asks)
        assert sorted(site.states()) == ["queued"] + ["running"] * site.parallel
        assert site.calls(site.asks) - before == (1 if site.asks else 0)
        site.go()
        assert site.ended() == ["done"] * (site.parallel + 1)

    def test_a_farm_that_cannot_answer_leaves_what_waits_unknown(self, site):
        if not site.asks:
            return
        site.sweep({"n": list(range(site.parallel + 1))}, waits=True)
        site.ok("sweep.yml")
        until(lambda: len(site.starts()) == site.parallel)
        site.fails(site.asks, 0)
        told = [run for run in site.told() if run["state"] != "running"]
        assert [(run["state"], "it refuses to say" in run["note"]) for run in told] == [("unknown", True)]
        site.fails(site.asks, None)
        site.go()
        assert site.ended() == ["done"] * (site.parallel + 1)

    def test_what_waits_and_what_runs_is_cancelled_by_one_call(self, site):
        site.sweep({"n": list(range(site.parallel + 1))}, waits=True)
        site.ok("sweep.yml")
        until(lambda: len(site.starts()) == site.parallel)
        before = site.calls(site.ends)
        site.ok("cancel", "sweep")
        assert site.calls(site.ends) - before == (1 if site.ends else 0)
        assert site.ended() == ["cancelled"] * (site.parallel + 1)
        site.go()
        assert len(site.starts()) == site.parallel

    def test_hostile_values_arrive_as_they_are(self, site):
        values = ["two words", "it's", "$HOME", "$(date); x", "größe", '"', "a\nb", ""]
        site.sweep({"s": values}, 'printf "%s" "$2" > "$LOGDIR/value"\n')
        site.ok("sweep.yml")
        assert site.ended() == ["done"] * len(values)
        assert sorted((run / "value").read_text() for run in runs(site.experiment)) == sorted(values)
