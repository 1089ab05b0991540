"""templates/: sections that the reader takes, whose commands get every word as it is, and whose answers are read."""

import os
import re
from pathlib import Path

import pytest
from commands import read
from launching import PLACE as HOSTILE

from farmx import config, sites
from farmx.cli import there
from farmx.farms import base, command

KINDS = [kind for kind in sites.kinds() if kind not in ("local", "slurm")]
PLACE = HOSTILE.replace("$HOME", "$")  # LOGROOT takes $VAR
EXPERIMENT = "it's a 100% größe; $HOME"
NAME = "it_s_a_100__gr__e___HOME_{run}"
# Writes down its words, then says what the real one would; what it lists is in a file beside it.
FAKE = """#!/bin/sh
printf '%s\\0' "$(basename "$0")" "$@" >> "$HOLD/called"; printf '\\n\\0' >> "$HOLD/called"
cat "$HOLD/$(basename "$0")"
"""
# kind -> what submits, with what it says; what lists, with a line for each state; what cancels; the id.
SCHEDULERS = {
    "slurm-script": (
        ("sbatch", "42;cluster\n"),
        ("squeue", {"42 PENDING {name}": "queued", "42 RUNNING {name}": "running", "42 CONFIGURING {name}": "running",
                    "42 TIMEOUT {name}": "failed", "42 CANCELLED {name}": "cancelled", "42 RUNNING other": None}),
        ["scancel", "42"],
    ),
    "sge": (
        ("qsub", "42\n"),
        ("qstat", {"     42 0.55500 {name:.10} farmer       qw    11/21/2026 08:00:00     1": "queued",
                   "     42 0.55500 {name:.10} farmer       r     11/21/2026 08:00:00 all.q@host   1": "running",
                   "     42 0.55500 {name:.10} farmer       Eqw   11/21/2026 08:00:00     1": "failed",
                   "     42 0.55500 sweep_otte another      r     11/21/2026 08:00:00 all.q@host   1": None}),
        ["qdel", "42"],
    ),
    "lsf": (
        ("bsub", "Job <42> is submitted to queue <normal>.\n"),
        ("bjobs", {"42 PEND": "queued", "42 RUN": "running", "42 SSUSP": "running", "42 EXIT": "failed"}),
        ["bkill", "42"],
    ),
    "pbs": (
        ("qsub", "42.pbs2.example.org\n"),
        ("qstat", {"42.pbs2           sweep_otter_2026 me                       0 Q workq": "queued",
                   "42.pbs2           sweep_otter_2026 me                00:00:01 R workq": "running",
                   "42.pbs2           sweep_otter_2026 me                00:00:01 E workq": "running"}),
        ["qdel", "42"],
    ),
    "htcondor": (
        ("condor_submit", "42.0 - 42.0\n"),
        ("condor_q", {"42.0 1": "queued", "42.0 2": "running", "42.0 5": "queued", "42.0 3": "cancelled"}),
        ["condor_rm", "42"],
    ),
    "ngc": (
        ("ngc", "-----\n  Job Information\n    Id: 42\n    Name: 7\n-----\n"),
        ("ngc", {"Id,Status\n42,RUNNING": "running", '"42","QUEUED"': "queued", "42,FAILED": "failed",
                 "42,PENDING_TERMINATION": "running", "42,PREEMPTED": "queued", "42,KILLED_BY_ADMIN": "cancelled",
                 "42,RESOURCE_LIMIT_EXCEEDED": "failed"}),
        ["ngc", "batch", "kill", " 42"],
    ),
    "panda": (
        ("prun", "INFO : submit user.me.x/\nINFO : succeeded. new jediTaskID=42\n"),
        ("pbook", {"42 registered": "queued", "42 running": "running", "42 scouting": "running",
                   "42 broken": "failed"}),
        ["pbook", "-c", "kill([42])"],
    ),
}  # fmt: skip
ARGV = {
    "slurm-script": ["sbatch", "--parsable", "--no-requeue", "--job-name={name}", "--output={log}",
                     "--open-mode=append", "--signal=B:TERM@60", "--time=4:00:00", "--cpus-per-task=1", "--mem=4G",
                     "{script}"],
    "sge": ["qsub", "-terse", "-notify", "-r", "y", "-N", "{name}", "-o", "{log}", "-j", "y", "-q", "all.q", "-pe",
            "smp", "1", "-l", "s_rt=4:00:00", "-l", "h_rt=4:05:00", "{script}"],
    "lsf": ["bsub", "-J", "{name}", "-o", "{log}", "-q", "normal", "-n", "1", "-R", "span[hosts=1]", "-R",
            "rusage[mem=4G]", "-W", "240", "-wa", "USR2", "-wt", "2", "-Q", "99", "{command}"],
    "pbs": ["qsub", "-N", "{name}", "-o", "{log}", "-j", "oe", "-q", "workq", "-l", "select=1:ncpus=1:mem=4gb:ngpus=0",
            "-l", "walltime=4:00:00", "{script}"],
    "htcondor": ["condor_submit", "-terse", "universe=vanilla", "executable={script}", "output={log}", "error={log}",
                 "log={log}.condor", "batch_name={name}", "should_transfer_files=IF_NEEDED", "kill_sig=SIGUSR2",
                 "remove_kill_sig=SIGTERM", "on_exit_remove=ExitCode=!=99", "request_cpus=1", "request_memory=4GB",
                 "-queue", "1"],
    "panda": ["prun", "--outDS", "user.NICKNAME.{name}.TIME", "--exec", "{command}", "--noBuild", "--nCore", "1",
              "--memory", "4000"],
}  # fmt: skip

# kind -> what its first line says of what took it, and the tests of farms that saw that; of the others none did.
VERIFIED = {
    "slurm-script": (
        "Slurm 22.05.8 took it: runs were submitted, listed, done and cancelled",
        "test_slurm_by_script_takes_runs_lists_and_cancels_them",
    ),
    "sge": (
        "Grid Engine 8.1.9 took it: runs were submitted, listed, done, cancelled, and run again when their time was up",
        "test_grid_engine_takes_runs_lists_and_cancels_them",
        "test_the_template_has_a_run_go_on_when_its_time_is_up",
    ),
    "htcondor": (
        "the submit description alone, by the parser of htcondor's Python bindings 25.14.1; no pool ran it",
        "test_htcondor_parses_what_condor_submit_is_given",
    ),
    "ngc": (
        "ngcsdk 3.64.4 parses these calls and prints what is read here; no server ran one",
        "test_ngcsdk_parses_what_ngc_is_called_with_and_prints_what_is_read",
    ),
    "panda": (
        "prun and pbook of panda-client 2.2.0 built, listed and killed a task on a test's server; no PanDA ran it",
        "test_prun_builds_the_task_and_pbook_lists_and_kills_it",
    ),
}
TESTS = Path(__file__).resolve().parent


@pytest.fixture
def hold(tmp_path, monkeypatch):
    made = tmp_path / "hold"
    made.mkdir()
    monkeypatch.setenv("HOLD", str(made))
    monkeypatch.setenv("PATH", f"{made}/bin", prepend=os.pathsep)
    return made


def fake(hold: Path, name: str, says: str) -> None:
    path = hold / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(FAKE)
    path.chmod(0o755)
    (hold / name).write_text(says)


def called(hold: Path) -> list[list[str]]:
    """The calls so far, in order, each as its words."""
    text = (hold / "called").read_text()
    return [call.strip("\0").split("\0") for call in text.split("\n\0")[:-1]]


def queue(project, hold: Path, kind: str) -> None:
    """Launch one run on the template as init writes it."""
    project.ok("init", "--farm", kind)
    project.sweep("{n: 1}")
    fake(hold, *SCHEDULERS[kind][0])
    project.ok("sweep.yml", "--logroot", str(project.path.parent / PLACE), "--exp-name", EXPERIMENT)


def test_there_is_a_scheduler_for_each():
    assert sorted(KINDS) == sorted(SCHEDULERS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_is_one_farm(kind, tmp_path):
    text = sites.template(kind)
    (tmp_path / ".farmx.yaml").write_text(text)
    made = config.compose(cwd=str(tmp_path), home="/nowhere", environ={}, flags={"FARM": kind})
    assert (made.farm.name, made.farm.executor) == (kind, "command")
    assert made.farm.status_cmd and made.farm.cancel_cmd and made.farm.job_id and made.farm.resources
    assert there.farm(made).executor == "command"


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_line_of_a_template_says_what_tests_of_farms_saw_take_it(kind):
    first = sites.template(kind).partition("\n")[0]
    if kind not in VERIFIED:
        assert first.startswith("# not verified")
        return
    said, *seen = VERIFIED[kind]
    assert first == f"# verified: {said}"
    farms = "".join(path.read_text() for path in sorted((TESTS / "farms").glob("test_*.py")))
    assert [name for name in seen if f"\ndef {name}(" not in farms] == []


@pytest.mark.parametrize("client", ["htcondor", "ngcsdk", "panda-client"])
def test_what_a_template_says_tried_it_is_the_client_that_the_tests_of_farms_install(client):
    makefile = (TESTS.parent / "Makefile").read_text()
    version = re.search(rf"^CLIENTS := .*\b{client}==(\S+)", makefile, re.MULTILINE)[1]
    first = sites.template({"ngcsdk": "ngc"}.get(client, client.partition("-")[0])).partition("\n")[0]
    assert first.startswith("# verified: ") and f" {version}" in re.sub("[;,]", " ", first)


@pytest.mark.parametrize("kind", ARGV)
def test_every_word_reaches_the_submit_command_whatever_things_are_called(project, hold, kind):
    queue(project, hold, kind)
    experiment = project.path.parent / PLACE / EXPERIMENT
    (submission,) = (experiment / ".farmx/submissions").iterdir()
    (run,) = [path.name for path in experiment.iterdir() if path.name[0] != "."]
    script = f"{submission}/0.sh"
    quoted = "'" + script.replace("'", "'\"'\"'") + "'"
    told = {"name": NAME.format(run=run), "log": f"{submission}/0.log", "script": script, "command": f"sh {quoted}"}
    (words,) = called(hold)
    if kind == "panda":
        set_, _, stamp = words[2].rpartition(".")
        words[2] = f"{set_}.TIME" if stamp.isdecimal() else words[2]
    assert words == [word.format(**told) for word in ARGV[kind]]
    assert (submission / "queued").read_text() == "0-0 42\n"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_scheduler_lists_is_understood_and_cancel_reaches_it(project, hold, kind):
    queue(project, hold, kind)
    (path,) = map(str, (project.path.parent / PLACE / EXPERIMENT / ".farmx/submissions").iterdir())
    ((_, held),) = base.held(path, read(Path(path) / "job.json"))
    (_, (lists, lines), cancels) = SCHEDULERS[kind]
    name = NAME.format(run=base.layout.runs_of(path)[0][0])
    told = {}
    for line in lines:
        fake(hold, lists, f"{line.format(name=name)}\n")
        answer = command.poll([held]).get((path, 0))
        told[line] = answer and answer.state.value
    assert told == lines
    fake(hold, lists, f"{next(iter(lines)).format(name=name)}\n")
    fake(hold, cancels[0], "")
    command.cancel([held])
    assert called(hold)[-1] == cancels
