"""A farm that a command submits to: what is called and recorded, what a refusal leaves, how often a run starts."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from conftest import BIN
from launching import PATIENCE_S, Place, until
from submitting import calls, configure, submission

from farmx import status
from farmx.farms import base, command, command_words
from farmx.farms import calls as calls_of
from farmx.spec import Job, Submission

GPUS = "RESOURCES: {gpu: 2}"
KEPT = "what was queued before is kept, the rest is staged: the same command goes on"

@pytest.fixture
def big(project, hold):
    """A project whose farm is the submit command."""
    configure(project, more=GPUS)
    return project


def test_a_launch_submits_each_run_in_runxs_form_and_records_it(big, hold):
    done = big.ok("sweep.yml")
    at = submission(big)
    lines = (at / "runs").read_text().splitlines()
    assert sorted(calls(hold)) == sorted(
        ["--gpu", "2", "--name", f"sweep_{line[4:]}", "-c", f"sh {at}/{place}.sh"] for place, line in enumerate(lines)
    )
    assert sorted(line.split()[0] for line in (at / "queued").read_text().splitlines()) == ["0-0", "1-1"]
    assert sorted(line.split()[1] for line in (at / "queued").read_text().splitlines()) == ["1", "2"]
    record = json.loads((at / "job.json").read_text())
    assert {key: record[key] for key in ("format", "farm", "executor", "resources")} == {
        "format": 1, "farm": "big", "executor": "command", "resources": {"gpu": 2}}  # fmt: skip
    assert "farm  big (command)\n" in done.err and "      2 queued\n" in done.err
    assert set(big.states().values()) == {"queued"}


def test_what_is_submitted_runs_and_records_its_end(big, hold):
    (hold / "run").touch()
    big.ok("sweep.yml")
    assert (set(big.states().values()), len(big.starts())) == ({"done"}, 2)


def test_launching_again_leaves_what_is_queued_alone(big, hold):
    big.ok("sweep.yml")
    big.ok("sweep.yml")
    assert len(calls(hold)) == 2


def test_a_script_is_for_one_index_and_may_be_executed(big, hold):
    configure(big, "submit_job {script}", "")
    big.ok("sweep.yml")
    at = submission(big)
    assert sorted(calls(hold)) == [[f"{at}/0.sh"], [f"{at}/1.sh"]]
    assert all(os.access(at / f"{place}.sh", os.X_OK) for place in (0, 1))


def test_a_template_is_given_what_farmx_knows_of_each_job(big, hold):
    configure(big, "submit_job {experiment} {name} {logdir} {log} {script} {command}", "")
    big.sweep("{n: [1]}")
    big.ok("sweep.yml")
    (run,), at = big.runs(), submission(big)
    assert calls(hold) == [["sweep", f"sweep_{run.name}", str(run), f"{at}/0.log", f"{at}/0.sh", f"sh {at}/0.sh"]]


IGNORING = "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.execvp('farmx', sys.argv)"


@pytest.mark.parametrize("deaf", [False, True])
def test_a_refusal_is_heard_whether_the_caller_ignores_the_ends_of_children_or_not(big, deaf):
    configure(big, "'false'")
    argv = [sys.executable, "-c", IGNORING] if deaf else ["farmx"]
    done = subprocess.run([*argv, "sweep.yml"], cwd=big.path, env={**os.environ, **big.env}, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 4 and "farmx: false exited 1 for run " in done.stderr, done
    assert set(big.states().values()) == {"staged"}


def test_a_refusal_stops_the_launch_and_loses_nothing(big, hold):
    big.sweep("{n: [1, 2, 3, 4, 5]}")
    configure(big, more="SUBMIT_PARALLEL: 1")
    (hold / "most").write_text("2")
    done = big("sweep.yml")
    last = done.err.splitlines()[-1]
    assert done.code == 4
    assert last.startswith("farmx: submit_job exited 1 for run ")
    assert last.endswith(f": quota reached; {KEPT}")
    assert "      2 queued\n" in done.err
    assert sorted(big.states().values()) == ["queued"] * 2 + ["staged"] * 3
    assert len(calls(hold)) == 2
    (hold / "most").unlink()
    big.ok("sweep.yml")
    names = [call[call.index("--name") + 1] for call in calls(hold)]
    assert (len(names), len(set(names)), set(big.states().values())) == (5, 5, {"queued"})


def test_a_run_that_is_deleted_while_others_are_submitted_is_one_line(big, hold):
    configure(big, more="SUBMIT_PARALLEL: 1")
    submit = (hold / "submit_job").read_text()
    (hold / "submit_job").write_text(f"#!/usr/bin/env bash\nrm -rf {shlex.quote(str(big.experiment))}/[a-z]*\n{submit}")
    done = big("sweep.yml")
    assert done.code == 4
    last, run = done.err.splitlines()[-1], (submission(big) / "runs").read_text().split()[-1]
    gone = f"{big.experiment}/{run}/run.json is gone: was it moved or deleted meanwhile"
    assert last == f"farmx: run {run} is not queued: {gone}; {KEPT}"


def test_a_farm_that_cannot_answer_now_is_asked_again(big, hold):
    configure(big, more="SUBMIT_PARALLEL: 1")
    (hold / "busy").touch()
    big.ok("sweep.yml")
    assert len(calls(hold)) == 2


def test_no_more_submit_commands_run_at_once_than_the_farm_allows(big, hold):
    big.sweep(f"{{n: {list(range(8))}}}")
    (hold / "submit_job").write_text(
        '#!/usr/bin/env bash\nmkdir "$HOLD/at.$$"; ls -d "$HOLD"/at.* | wc -l >> "$HOLD/most"\n'
        'until [ "$(ls -d "$HOLD"/at.* | wc -l)" -ge 3 ] || [ -e "$HOLD/met" ]; do sleep 0.01; done\n'
        'touch "$HOLD/met"; sleep 0.1; rmdir "$HOLD/at.$$"; echo 1\n'
    )
    configure(big, more="SUBMIT_PARALLEL: 3")
    big.ok("sweep.yml")
    most = [int(line) for line in (hold / "most").read_text().split()]
    assert (len(most), max(most)) == (8, 3)


SLOW = '#!/bin/sh\necho x >> "$HOLD/taken"\nuntil [ -e "$HOLD/go" ]; do sleep 0.01; done\necho "job $$"\n'


WAITS = "what is called already is waited for; Ctrl-C again ends it, and whether a job was accepted is not known then"


@pytest.fixture
def taken(big, hold):
    """A launch as a process group of its own whose two submit commands have been accepted and have not said so."""
    (hold / "submit_job").write_text(SLOW)
    environ = {**os.environ, **big.env}
    process = subprocess.Popen([f"{BIN}/farmx", "sweep.yml"], cwd=big.path, env=environ, stdin=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, start_new_session=True, text=True)  # fmt: skip
    until(lambda: (hold / "taken").read_text() == "x\nx\n")
    with process:
        yield process
        (hold / "go").touch()


def test_what_is_accepted_when_ctrl_c_comes_is_waited_for_and_recorded(big, hold, taken):
    os.killpg(taken.pid, signal.SIGINT)
    while taken.stderr.readline() not in (f"      {WAITS}\n", ""):
        pass
    (hold / "go").touch()
    assert (taken.wait(PATIENCE_S), taken.stderr.read()) == (130, "      2 queued\n")
    assert list(big.states().values()) == ["queued", "queued"]


def test_a_second_ctrl_c_ends_submit_commands_that_never_answer(big, taken):
    os.killpg(taken.pid, signal.SIGINT)
    told = ""
    while told != f"      {WAITS}\n":
        told = taken.stderr.readline()
        assert told, "it ended at once"
    os.killpg(taken.pid, signal.SIGINT)
    assert (taken.wait(PATIENCE_S), list(big.states().values())) == (130, ["staged", "staged"])


def test_who_waits_for_slow_submit_commands_hears_that_none_has_ended(tmp_path, hold, monkeypatch):
    """So that a bar can tell how long that takes already."""
    monkeypatch.setattr(command, "TICK_S", 0.01)
    (hold / "submit_job").write_text('#!/bin/sh\nuntil [ -e "$HOLD/go" ]; do sleep 0.01; done\necho 7\n')
    run = Place(tmp_path).run()
    made = base.submission(str(tmp_path / "logs/sweep/.farmx/submissions"), "id", [Job(run, "1.0")])
    heard = []

    def hear(submission: Submission, queued: int) -> None:
        heard.append(queued)
        (hold / "go").touch()

    command.Farm("big", "submit_job {script}").submit([made], hear)
    assert (heard[0], heard[-1], sum(heard)) == (0, 1, 1)


def test_leading_variables_are_in_the_environment_of_the_submit_command(big, hold):
    (hold / "submit_job").write_text('#!/bin/sh\nprintf "%s\\n" "$WHO" "$N" >> "$HOLD/env"\necho 1\n')
    configure(big, "WHO='a b' N={gpu} submit_job {script}", GPUS)
    big.sweep("{n: [1]}")
    big.ok("sweep.yml")
    assert (hold / "env").read_text() == "a b\n2\n"


class Draco:
    """What draco's submit_job takes."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
        for name in ("name", "command", "logdir", "gpu", "image", "partition"):
            self.parser.add_argument(f"--{name}", required=name in ("name", "command", "logdir"))


def test_dracos_form_is_a_template(big, hold):
    configure(big, "submit_job {resources} --name {name} --command {command} --logdir {logdir}/gcf_log",
              'RESOURCES: {gpu: 2, image: "a b", partition: null}')  # fmt: skip
    big.sweep("{n: [1]}")
    big.ok("sweep.yml")
    (run,), (words,) = big.runs(), calls(hold)
    assert vars(Draco().parser.parse_args(words)) == {
        "name": f"sweep_{run.name}", "command": f"sh {submission(big)}/0.sh", "logdir": f"{run}/gcf_log", "gpu": "2",
        "image": "a b", "partition": None,
    }  # fmt: skip


CROWDED = [
    "Unable to run job: job rejected: only 2 jobs are allowed per user (current job count: 2).\nExiting.\n",
    "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state\n",
    "qsub: Maximum number of jobs already in queue for user MSG=total number of current user's jobs exceeds the "
    "queue limit: user me@here, queue batch\n",
    "ERROR: Number of submitted jobs would exceed MAX_JOBS_PER_OWNER\n",
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS "
    "policy (job submit limit, user's size and/or time limits)\n",
]


@pytest.mark.parametrize("said", CROWDED, ids=lambda said: said.split()[0])
def test_what_a_limit_keeps_out_is_told_and_the_same_command_goes_on_later(big, hold, said):
    big.sweep(f"{{n: {list(range(20))}}}")  # more than are submitted at once
    (hold / "most").write_text("2")
    (hold / "full").write_text(said)
    done = big("sweep.yml")
    reason = calls_of.Said(1, "", said).reason()
    assert (done.code, done.err.splitlines()[-2:]) == (4, [
        "      2 queued",
        f"farmx: farm big's limit of submitted jobs is reached ({reason}): 18 of 20 runs are not queued; the same "
        "command goes on when some have ended",
    ])  # fmt: skip
    assert sorted(big.states().values()) == ["queued"] * 2 + ["staged"] * 18
    (hold / "most").unlink()
    big.ok("sweep.yml")
    names = [call[call.index("--name") + 1] for call in calls(hold)]
    assert (len(names), len(set(names)), set(big.states().values())) == (20, 20, {"queued"})


REFUSED = [
    ("nowhere", "", 4, "there is no nowhere here; launch where it is, or choose another --farm"),
    ("'submit_job {gpus} {script}'", "RESOURCES: {gpu: 2}", 2,
     ".farmx.yaml:3:3: SUBMIT_CMD: {gpus} is no resource and none of farmx's; did you mean gpu?; {{gpus}} is that "
     "text"),
    ("'submit_job {script}'", "RESOURCES: {gpu: 2}", 2,
     ".farmx.yaml:4:15: RESOURCES.gpu: SUBMIT_CMD does not say {gpu}, so no job would get it; write it there, or "
     "{resources} for all"),
]  # fmt: skip


@pytest.mark.parametrize(("submit", "more", "code", "problem"), REFUSED)
def test_what_would_be_refused_is_told_before_anything_is_made(big, hold, submit, more, code, problem):
    configure(big, submit, more)
    assert big("sweep.yml").line(code) == problem
    assert (calls(hold), big.experiment.exists()) == ([], False)


SAID = [
    ("", "Unable to run job: no queue.\nExiting.\n", "Unable to run job: no queue."),
    ("no memory for this\n", "", "no memory for this"),
    ("what it does\n", "denied\n", "denied"),
    ('denied: job "33" does not exist\nfarmer has registered the job 34 for deletion\n', "",
     'denied: job "33" does not exist'),
    ("denied\n", "error: no such queue\nwhat it does\n", "error: no such queue"),
    (" \n", "", "it gave no reason"),
]


@pytest.mark.parametrize(("output", "error", "reason"), SAID)
def test_a_reason_is_the_last_line_that_says_something_an_error_before_others(output, error, reason):
    assert calls_of.Said(1, output, error).reason() == reason


# ---------------------------------------------------------------- what a job is called

LAST = [
    ("12\n", "12"),
    ("Submitted batch job 42\n", "42"),
    ('Your job 12 ("sweep_brave-otter_2026.11.21_05.34") has been submitted\n', "12"),
    ("Job <123> is submitted to default queue <normal>.\n", "123"),
    ("Submitting job(s).\n1 job(s) submitted to cluster 57.\n", "57"),
    ("123.pbs2.example.org\n", "123.pbs2.example.org"),
    ("a note\nabc-7\n", "abc-7"),
    ("", ""),
    ("\n \n", ""),
]


@pytest.mark.parametrize(("output", "name"), LAST)
def test_a_jobs_id_is_the_last_number_that_stands_alone_else_the_last_word(output, name):
    assert command.last_word(output) == name


FOUND = [
    ("Your job 12 is queued", r"job (\d+)", "12"),
    ("job 12, then job 13", r"job (\d+)", "12"),  # of several the first
    ("12\n", r"(\d+)", "12"),
    ("12.1-5:1\n", r"(\d+)", "12"),
    ("<x 12 \t 3>", "<(.*)>", "x 12 3"),
    ("no job", r"(\d+)", ""),
    ("12", r"(x)?\d+", ""),
    ("x", "(.*?)x", ""),
    ("a   b", r"(\s+)", ""),
    ("12", r"(\d)", ""),  # 1 may be another's job
    ("12", r"\d(\d)", ""),
    ("120", r"1(2)0", ""),
    ("it's größe 12", r"größe (.+)$", "12"),
]


@pytest.mark.parametrize(("output", "pattern", "name"), FOUND)
def test_job_id_finds_the_first_whole_id(output, pattern, name):
    assert command.found_in(output, pattern) == name


def test_a_job_whose_id_job_id_does_not_find_stops_the_launch_and_is_named(big, hold):
    configure(big, more=r"JOB_ID: 'nr (\d+)'")
    done = big("sweep.yml", "--first", "1")
    why = r"SUBMIT_CMD exited 0, and JOB_ID 'nr (\d+)' finds no id in what it said: job 1 is queued"
    told = f"farmx: run {big.runs()[0].name}: {why}; the job may wait there; the same command queues the run again, "
    assert done.err.splitlines()[-1] == f"{told}and it starts once"
    assert len(calls(hold)) == 1
    (hold / "run").touch()
    configure(big, more=r"JOB_ID: 'job (\d+)'")
    big.ok("sweep.yml")
    assert set(big.states().values()) == {"done"}


JOB_NAMES = [
    ("/l/sweep/brave-otter_2026.11.21_05.34", "sweep_brave-otter_2026.11.21_05.34"),
    ("/l/3d/tag=1,2+a", "exp_3d_tag=1_2+a"),
    ("/l/it's $HOME;\n größe/größe", "it_s__HOME___gr__e_gr__e"),
    ("/l/-x/a", "exp_-x_a"),
]


@pytest.mark.parametrize(("run", "name"), JOB_NAMES)
def test_a_jobs_name_is_the_experiments_and_the_runs(run, name):
    assert command_words.job_name(run) == name


@pytest.mark.parametrize(("submit", "experiment"), [
    ("submit_job", "sweep"), ("submit_job -N {name} {script}", "sweep"), ("submit_job -N mine {script}", None),
])  # fmt: skip
def test_what_jobs_are_named_after_is_recorded_where_submit_cmd_names_them(big, submit, experiment):
    configure(big, submit, "")
    big.ok("sweep.yml")
    assert json.loads((submission(big) / "job.json").read_text()).get("experiment") == experiment


def test_a_submit_command_that_says_nothing_has_taken_the_job(big, hold):
    (hold / "said").touch()
    big.ok("sweep.yml")
    assert (submission(big) / "queued").read_text().split() in (["0-0", "?", "1-1", "?"], ["1-1", "?", "0-0", "?"])


# ---------------------------------------------------------------- NGC

NGC = """#!/usr/bin/env bash
printf '%s\\0' "$@" >> "$HOLD/calls"; printf '\\n\\0' >> "$HOLD/calls"
if [ "$1" = workspace ]; then
  [ -e "$HOLD/refuse" ] && { echo "no such workspace" >&2; exit 1; }
  mkdir -p "$MOUNT/$6" && cp -a "$4/." "$MOUNT/$6"
else
  echo "----"; echo " Id: 71"; echo " Arrayed: 0"
  while [ "$1" != --commandline ]; do shift; done
  bash -c "$2" > "$HOLD/out" 2>&1 < /dev/null
fi
"""


@pytest.fixture
def cloud(project, hold, tmp_path, monkeypatch):
    """A project on an NGC whose workspace is mounted beside it."""
    (hold / "ngc").write_text(NGC)
    (hold / "ngc").chmod(0o755)
    monkeypatch.setenv("MOUNT", str(tmp_path / "it's mounted"))
    more = f'NGC_LOGROOT: "{tmp_path}/it\'s mounted"\nWORKSPACE: ws\nRESOURCES: {{ace: a}}'
    configure(project, "ngc batch run", more)
    project.sweep("{n: [1]}")
    return project


def test_ngc_gets_the_experiment_and_a_command_with_the_paths_of_its_workspace(cloud, hold, tmp_path):
    cloud.ok("sweep.yml")
    (name,) = (run.name for run in cloud.runs())
    upload, batch = calls(hold)
    mount = tmp_path / "it's mounted"
    script = mount / submission(cloud).relative_to(cloud.root) / "0.sh"
    assert upload == ["workspace", "upload", "--source", str(cloud.experiment), "--destination", "sweep", "ws"]
    assert batch == ["batch", "run", "--ace", "a", "--name", f"sweep_{name}", "--commandline",
                     f"sh {shlex.quote(str(script))}", "--workspace", f"ws:{mount}:RW"]  # fmt: skip
    assert (submission(cloud) / "queued").read_text() == "0-0 71\n"
    end = json.loads((mount / "sweep" / name / "attempts/1.0/end.json").read_text())
    assert (end["state"], cloud.side.read_text()) == ("done", f"{mount}/sweep/{name}/attempts/1.0\n")
    assert cloud.states() == {name: "queued"}  # as far as LOGROOT knows
    cloud.ok("sweep.yml")
    assert len(calls(hold)) == 2


@pytest.mark.parametrize(("lists", "state", "note"), [
    ("", "unknown", "its records are in {mount}"),  # where they are nobody here sees how it ended
    ("71 DONE", "done", "farm big says DONE"),
])  # fmt: skip
def test_a_run_whose_records_are_in_the_workspace_is_never_lost(cloud, hold, tmp_path, lists, state, note):
    configured = (cloud.path / ".farmx.yaml").read_text()
    cloud.write(".farmx.yaml", f"{configured}  STATUS_CMD: echo '{lists}'\n")
    cloud.ok("sweep.yml")
    (run,) = json.loads(cloud.ok("status", "sweep", "--json").out)["runs"]
    assert (run["state"], run["note"]) == (state, note.format(mount=tmp_path / "it's mounted"))
    cloud.ok("sweep.yml")
    assert [call[0] for call in calls(hold)] == ["workspace", "batch"]


def test_where_logroot_is_in_the_workspace_nothing_is_uploaded_and_its_records_count(cloud, hold, tmp_path):
    (hold / "ngc").write_text("#!/bin/sh\necho \"$1\" >> \"$HOLD/calls\"; echo ' Id: 71'\n")
    configured = (cloud.path / ".farmx.yaml").read_text()
    cloud.write(".farmx.yaml", f"{configured}  STATUS_CMD: 'true'\n")
    mounted = ("--logroot", str(tmp_path / "it's mounted"))
    cloud.ok("sweep.yml", *mounted)
    assert (hold / "calls").read_text() == "batch\n"
    (run,) = json.loads(cloud.ok("status", "sweep", *mounted, "--json").out)["runs"]
    assert (run["state"], run["note"]) == ("lost", status.UNLISTED)


def test_sumx_reads_the_workspace_where_it_is_mounted(cloud, tmp_path):
    cloud.write("note.sh", 'echo \'{"time": 1, "phase": "val", "step": 1, "metrics": {"acc": 0.5}}\' '
                           '>> "$FARMX_ATTEMPT_DIR/metrics.jsonl"\n')  # fmt: skip
    cloud.ok("sweep.yml")
    done = subprocess.run(["sumx", "sweep", "--json"], cwd=cloud.path, capture_output=True, text=True)
    (row,) = json.loads(done.stdout)
    assert row["acc"] == 0.5


def test_a_workspace_that_cannot_be_written_queues_nothing(cloud, hold):
    (hold / "refuse").touch()
    done = cloud("sweep.yml")
    assert done.code == 4
    assert done.err.splitlines()[-1] == (
        "farmx: ngc workspace upload exited 1: no such workspace; nothing was queued, all is staged: the same command "
        "goes on"
    )
    assert set(cloud.states().values()) == {"staged"}
    (hold / "refuse").unlink()
    cloud.ok("sweep.yml")
    assert (set(cloud.states().values()), len(cloud.starts())) == ({"queued"}, 1)
