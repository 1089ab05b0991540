"""Sweeps on a real Slurm, from the command line to the last record."""

import json
import os
import re
import shlex

import pytest
from launching import HOSTILE, PLACE, until
from test_slurm_words import REFUSED

from farms.site import PYTHON, Site, attempts
from farms.test_torchrun import documented
from farmx.farms import slurm_check, slurm_script, slurm_words

pytestmark = pytest.mark.farm

HELD = '{"hold": true}'  # Slurm keeps such a job waiting until it is released
GO = "wait(os.environ['SIDE'] + '.go')"


@pytest.fixture
def plain(slurm_plain, project):
    made = Site(project, slurm_plain)
    made.setup()
    yield made
    made.end()


# ---------------------------------------------------------------- queued, run, ended


@pytest.mark.parametrize("which", ["site", "plain"])
def test_a_sweep_is_queued_and_runs_to_its_end(request, which):
    site = request.getfixturevalue(which)
    site.sweep("note(n, attempt); sys.exit(n == '3')", "{n: [1, 2, 3]}")
    done = site.ok("sweep.yml")
    assert "farm  big (slurm)\n" in done.err and "      3 queued\n" in done.err
    assert site.ended() == ["done", "done", "failed"]
    assert sorted(site.notes()) == ["1 1", "2 1", "3 1"]
    assert site("sweep.yml").code == 0
    assert len(site.submissions()) == 1


def test_a_failed_run_that_is_retried_takes_todays_code(site):
    site.sweep("note(n, attempt); sys.exit(3)", "{n: 1}")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]
    site.sweep("note('mended', attempt)", "{n: 1}")
    site.ok("retry", "sweep")
    assert site.ended() == ["done"]
    assert site.notes() == ["1 1", "mended 2"]
    assert attempts(site.run()) == {"1.0": "failed", "2.0": "done"}


def test_equal_resources_share_an_array_and_different_ones_do_not(site):
    site.setup('{"hold": true, "array_parallelism": 2}')
    site.sweep("", "{n: [1, 2, 3], SUBMIT_JOB.PARTITION: [main, low]}")
    site.ok("sweep.yml")
    names = {site.name(each): each.name for each in site.submissions()}
    ask = ["squeue", "-h", f"--name={','.join(names)}", "-o", "%j|%P|%K|%k"]
    told = sorted(line.split("|") for line in site.slurm.says(*ask).splitlines())
    assert told == [[name, queue, "0-2%2", names[name]] for name, queue in zip(sorted(names), ("main", "low"))]
    assert [name.startswith("sweep.") for name in names] == [True, True]
    site.ok("cancel", "sweep")


def test_more_runs_than_an_array_may_hold_take_several(plain):
    plain.setup(HELD)
    plain.sweep("", "{n: " + str(list(range(103))) + "}")
    plain.ok("sweep.yml")
    assert [len((each / "runs").read_text().splitlines()) for each in plain.submissions()] == [101, 2]
    assert plain.states() == ["queued"] * 103
    plain.ok("cancel", "sweep")
    assert plain.states() == ["cancelled"] * 103
    until(lambda: not plain.alive())


def test_a_run_that_waits_or_runs_says_so(site):
    site.setup(HELD)
    site.sweep(f"note('began'); {GO}", "{n: 1}")
    site.ok("sweep.yml")
    assert site.states() == ["queued"]
    job = site.job()
    said = site.ok("why", "sweep").out.splitlines()
    assert said[0].endswith("queued: held by its user; scontrol release lets it go")
    assert said[1:3] == [f"      job {job} on big", f"next  scontrol release {job}"]
    assert [run["job"] for run in site.told()] == [job]
    site.slurm.run(*said[2].split()[1:])
    site.noted("began")
    assert site.states() == ["running"]
    assert f"      job {job} on big" in site.ok("why", "sweep").out.splitlines()
    site.go()
    assert site.ended() == ["done"]


def test_a_launch_from_inside_a_job_asks_for_what_the_sweep_says(site, tmp_path):
    site.setup('{"mem": null, "mem-per-cpu": 40}')
    site.sweep("note(os.environ.get('SLURM_NTASKS'), os.environ.get('RANK'))", "{n: 1}")
    line = f"farmx {shlex.quote(str(site.project.path / 'sweep.yml'))}"
    env = {**site.project.env, "RANK": "3", "SBATCH_PARTITION": "nosuch"}
    asked = ["--parsable", "--wait", "-n2", "--mem=100", "-p", "main", f"--output={tmp_path}/log", "--wrap", line]
    site.slurm.run("sbatch", f"--chdir={site.project.path}", *asked, **env)
    assert site.ended() == ["done"], (tmp_path / "log").read_text()
    assert site.notes() == ["None None"]


# ---------------------------------------------------------------- refused


def test_a_wrong_value_is_refused_with_its_place_and_key_before_anything_is_made(site):
    site.sweep("", "{n: 1}", "RESOURCES:\n  mem: 50\n  ntasks: two\n")
    told = site("sweep.yml").line(2)
    assert told.endswith("sweep.yml:5:3: RESOURCES.ntasks 'two': sbatch says: "
                         'Invalid numeric value "two" for --ntasks.')  # fmt: skip
    assert not site.project.root.exists()


def test_what_no_node_has_is_told_with_its_place_and_key_also_where_a_stage_asks_for_it(site):
    site.project.write("sweep.yml", "CMD:\n  a: 'true'\n  b:\n    cmd: 'true'\n    RESOURCES:\n      gpus: 9\n")
    said = "sbatch says: Requested node configuration is not available"
    assert site("sweep.yml").line(2).endswith(f"sweep.yml:6:7: RESOURCES.gpus 9: {said}")
    assert not site.project.root.exists()


UNTOLD = {"hint": "nomultithread", "mem_bind": "none", "network": "x", "wait_all_nodes": 1, "ntasks_per_gpu": 1,
          "kill-on-invalid-dep": "yes", "acctg_freq": "task=1"}  # fmt: skip


def test_what_needs_no_look_into_the_help_of_sbatch_is_in_it(site):
    told = site.slurm.says("sbatch", "--help")
    names = slurm_check.COMMON - {slurm_script.PARALLEL}
    assert [name for name in sorted(names) if not re.search(rf"--{name.replace('_', '-')}\b", told)] == []


def test_options_that_the_help_of_sbatch_leaves_out_are_taken_and_a_misspelt_one_is_not(site):
    told = site.slurm.says("sbatch", "--help")
    assert not [name for name in UNTOLD if f"--{name.replace('_', '-')}=" in told]
    site.setup(json.dumps({"gpus": 1, **UNTOLD}))
    site.sweep("note(n)", "{n: 1}")
    site.ok("sweep.yml")
    assert site.ended() == ["done"]
    script = (site.submissions()[0] / "script").read_text()
    assert "#SBATCH --hint=nomultithread\n" in script and "#SBATCH --mem-bind=none\n" in script
    site.sweep("note(n)", "{n: 1}", "RESOURCES: {hnt: x}\n")
    assert site("sweep.yml").line(2).endswith("sweep.yml:3:13: RESOURCES.hnt is no option of sbatch; see sbatch --help")


def test_sbatch_says_of_each_wrong_value_what_the_table_has(site):
    asked = (["sbatch", "--test-only", f"--{option}", "--wrap=true"] for option in REFUSED)
    said = [slurm_words.reason(site.slurm.run(*argv, check=False).stderr) for argv in asked]
    assert dict(zip(REFUSED, said)) == REFUSED


# ---------------------------------------------------------------- names and values

SHOW = """
import json, os, sys
with open(os.environ["LOGDIR"] + "/told", "w") as told:
    json.dump([sys.argv[1:], os.environ["SECRET"]], told)
"""


@pytest.mark.parametrize("place", [PLACE.replace("$HOME", "$"), "100% %A"])
def test_any_value_reaches_the_program_from_a_logroot_of_any_name(site, tmp_path, place):
    root = tmp_path / place
    site.project.write("show.py", SHOW)
    site.project.sweep(json.dumps({"v": HOSTILE}), f"{PYTHON} show.py", "ENV_PASS: [SECRET]\n")
    experiment = "it's a 100% größe"
    site.ok("sweep.yml", "--logroot", str(root), "--exp-name", experiment, SECRET="; $HOME\n'")
    until(lambda: len(list(root.glob("*/*/attempts/*/end.json"))) == len(HOSTILE))
    told = [json.loads(each.read_text()) for each in root.glob("*/*/told")]
    key = json.dumps
    assert sorted(told, key=key) == sorted(([["--v", each], "; $HOME\n'"] for each in HOSTILE), key=key)


# ---------------------------------------------------------------- several tasks

TASK = """
keys = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"
note(*(os.environ[key] for key in keys), os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"].isdecimal())
from farmx.logx import logx
logx.initialize()
logx.metric("val", {"rank": int(os.environ["RANK"])})
"""


def test_srun_style_starts_the_command_once_a_task_with_its_rank_and_a_port_of_its_job(site):
    import socket

    ports = 'note("port", n, os.environ["MASTER_PORT"])\n'
    site.sweep(TASK + ports, "{n: [1, 2]}", "RESOURCES: {nodes: 2, ntasks: 3}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["done"] * 2
    ranks = [(0, 3, 0, 2, 0), (1, 3, 1, 2, 0), (2, 3, 0, 1, 1)]  # two tasks on one node, one on the other
    host, notes = socket.gethostname(), sorted(site.notes())
    assert notes[:6] == [" ".join(map(str, (*each, host, True))) for each in ranks for run in (1, 2)]
    (one, first), (two, second) = sorted({tuple(note.split()[1:]) for note in notes[6:]})  # a port for all of a run
    assert (len(notes), one, two, first != second) == (12, "1", "2", True)
    (rows,) = [each.read_text().splitlines() for each in site.run().glob("attempts/1.0/metrics.jsonl")]
    assert [json.loads(row)["metrics"] for row in rows] == [{}, {"rank": 0}]


LAUNCHER = """
import argparse, os
parser = argparse.ArgumentParser()
for option in ("nnodes", "node-rank", "nproc-per-node", "master-addr", "master-port"):
    parser.add_argument("--" + option)
parser.add_argument("script")
parser.add_argument("rest", nargs=argparse.REMAINDER)
asked = vars(parser.parse_args())
port, ours = asked.pop("master_port").isdecimal(), asked.pop("nproc_per_node")
for local in range(int(ours)):
    rank = int(asked["node_rank"]) * int(ours) + local
    with open(os.environ["SIDE"], "a") as side:
        print(rank, *asked.values(), port, os.environ["SLURMD_NODENAME"], file=side)
"""


def test_torchrun_style_starts_a_launcher_on_every_node(site):
    import socket

    site.project.write("torchrun.py", LAUNCHER)
    site.project.sweep("{n: 1}", documented(f"{PYTHON} torchrun.py"), "RESOURCES: {nodes: 2, cpus_per_task: 2}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["done"]
    place, given = socket.gethostname(), ["--n", "1"]
    assert sorted(site.notes()) == [
        f"{rank} 2 {rank // 2} {place} train.py {given} True {site.slurm.nodes[rank // 2]}" for rank in range(4)
    ]


SAVES = """
def save(*_):
    note(n, attempt, "told", os.environ.get("RANK"))
    time.sleep(float(os.environ["SLOW"]))
    note(n, attempt, "saved", os.environ.get("RANK"))
    sys.exit(0)
if attempt == "1":
    signal.signal(signal.SIGTERM, save)
    note(n, attempt, "began", os.environ.get("RANK"))
    time.sleep(300)
note(n, attempt, "went on", os.environ.get("RANK"))
"""


def test_each_task_is_told_once_and_has_its_grace_when_the_time_is_nearly_up(site):
    site.sweep(SAVES, "{n: 1}", "RESOURCES: {nodes: 2}\nENV: {SLOW: 8}\n")  # longer than KillWait
    site.ok("sweep.yml")
    site.noted("1 1 began 0", "1 1 began 1")
    site.slurm.run("scancel", "--batch", "--signal=USR2", site.job())
    site.noted("1 1 saved 0", "1 1 saved 1")
    assert site.ended() == ["done"]
    assert sorted(site.notes()) == sorted(
        f"1 {what} {rank}" for what in ("1 began", "1 told", "1 saved", "2 went on") for rank in (0, 1)
    )
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "done"}


# ---------------------------------------------------------------- cancelled


def test_what_is_cancelled_by_either_command_is_cancelled_and_can_be_retried(site):
    site.sweep(SAVES, "{n: [1, 2, 3, 4]}", "ENV: {SLOW: 0.5}\n")
    site.ok("sweep.yml", "--first", "2")
    site.noted("1 1 began None", "2 1 began None")
    site.setup(HELD)
    site.ok("sweep.yml", "--first", "4")
    one, two, three, four = (each["run"] for each in site.told())
    assert site.states() == ["running", "running", "queued", "queued"]
    site.ok("cancel", one, three)
    for run in (two, four):
        site.slurm.run("scancel", site.job(run))
    assert site.ended() == ["cancelled"] * 4
    until(lambda: not site.alive())
    assert sorted(site.notes()) == sorted(f"{n} 1 {what} None" for n in (1, 2) for what in ("began", "told", "saved"))
    assert site.states() == ["cancelled"] * 4
    assert len(site.submissions()) == 2
    site.ok("retry", one, four)
    site.slurm.run("scontrol", "release", site.job(four))
    site.noted("1 2 went on None", "4 1 began None")
    until(lambda: site.states() == ["done", "cancelled", "cancelled", "running"])
    assert attempts(site.named(one)) == {"1.0": "cancelled", "2.0": "done"}
    assert attempts(site.named(four)) == {"1.0": ""}  # the job that was cancelled before had not begun it


def test_what_ended_while_it_waited_goes_back_to_slurm_though_no_setting_names_it(site):
    site.setup(HELD)
    path = site.project.path / ".farmx.yaml"
    path.write_text(path.read_text().removeprefix("FARM: big\n"))
    site.sweep("note(n, attempt)", "{n: [1, 2, 3]}")
    site.ok("sweep.yml", "--farm", "big")
    one, two, _ = (each["run"] for each in site.told())
    site.ok("cancel", one)
    site.slurm.run("scancel", site.job(two))
    until(lambda: site.states() == ["cancelled", "cancelled", "queued"])
    assert "      2 queued\n" in site.ok("retry", "sweep").err
    site.ok("cancel", two)
    site.slurm.run("scontrol", "release", site.job(one))
    until(lambda: site.states() == ["done", "cancelled", "queued"])
    assert site.notes() == ["1 1"]
    assert attempts(site.named(one)) == {"1.0": "cancelled", "2.0": "done"}


def test_what_left_the_sweep_file_leaves_the_queue_and_what_runs_or_is_wanted_stays(site):
    site.sweep(GO, "{n: [1, 2]}")
    site.ok("sweep.yml")
    until(lambda: site.states() == ["running"] * 2)
    site.setup(HELD)
    site.sweep(GO, "{n: [1, 2, 3, 4, 5]}")
    site.ok("sweep.yml")
    first, second = (site.name(each) for each in site.submissions())
    assert sorted(site.alive()) == sorted([f"{first} 0", f"{first} 1", *(f"{second} {place}" for place in range(3))])
    site.sweep(GO, "{n: [1, 4]}")
    told = site.ok("sweep.yml", "--prune", "-y").err
    assert "prune 2 waiting runs left the sweep file:\n" in told
    until(lambda: sorted(site.alive()) == sorted([f"{first} 0", f"{first} 1", f"{second} 1"]))
    assert site.states() == ["running", "running", "cancelled", "queued", "cancelled"]
    assert len(site.submissions()) == 2


# ---------------------------------------------------------------- read and removed

SAYS = "print('{code}', n, flush=True)\nif n in '34': " + GO + "\nprint('over'); sys.exit(n == '2')\n"


def test_logs_of_what_waits_runs_and_ended_and_clean_removes_only_what_ended(site):
    site.sweep(SAYS.format(code="old"), "{n: [1, 2]}")
    site.ok("sweep.yml")
    assert site.ended() == ["done", "failed"]
    site.sweep(SAYS.format(code="newer"), "{n: [1, 2, 3]}")
    site.ok("sweep.yml")
    until(lambda: site.states() == ["done", "failed", "running"])
    site.setup(HELD)
    site.sweep(SAYS.format(code="newest"), "{n: [1, 2, 3, 4]}")
    site.ok("sweep.yml")
    assert site.states() == ["done", "failed", "running", "queued"]
    one, two, three, four = (each["run"] for each in site.told())
    assert [site.ok("logs", run).out for run in (one, two)] == ["old 1\nover\n", "old 2\nover\n"]
    assert until(lambda: site.ok("logs", three).out) == "newer 3\n"
    nothing = site.ok("logs", four)
    why = "held by its user; scontrol release lets it go"
    assert nothing.out == ""
    assert nothing.err == f"{four} has printed nothing, it is queued: {why}; -f waits for it\n"

    alive = until(lambda: found if len(found := sorted(site.alive())) == 2 else [])  # the jobs of what ended are gone
    snapshots = site.project.experiment / ".farmx" / "snapshots"
    for snapshot in snapshots.iterdir():
        os.utime(snapshot, (0, 0))  # one that is younger than a day stays
    assert site.ok("clean", "-y", three, four).out == "nothing to remove\n"
    assert site.ok("clean", "-y", "--failed", "sweep").err.endswith("left    1 running, 1 queued\nremoved 1 of 1\n")
    assert [run.name for run in site.project.runs()] == sorted([one, three, four])
    assert site.ok("clean", "-y", "--snapshots", "sweep").out == "nothing to remove\n"  # each is a run's that is there
    assert site.ok("clean", "-y", "sweep").err.endswith("left    1 running, 1 queued\nremoved 1 of 1\n")
    assert [run.name for run in site.project.runs()] == sorted([three, four])
    assert site.ok("clean", "-y", "--snapshots", "sweep").err.endswith("removed 1 of 1\n")
    assert (len(list(snapshots.iterdir())), sorted(site.alive())) == (2, alive)
    assert site.states() == ["running", "queued"]

    site.go()
    site.slurm.run("scontrol", "release", site.job(four))
    assert [site.ok("logs", "-f", run).out for run in (three, four)] == ["newer 3\nover\n", "newest 4\nover\n"]
    assert site.states() == ["done", "done"]


def test_runs_whose_experiment_was_moved_while_they_waited_say_so_and_go_on_where_it_is(site):
    site.setup(HELD)
    site.sweep("note(n, attempt)", "{n: [1, 2]}")
    site.ok("sweep.yml")
    job, moved = site.job().partition("_")[0], site.project.root / "moved"
    site.project.experiment.rename(moved)
    site.slurm.run("scontrol", "release", job)
    assert site.ended("moved") == ["failed"] * 2
    why = "its node could not begin its job: does it see LOGROOT, and was that or the experiment moved?"
    assert [run["note"] for run in site.told("moved")] == [why] * 2
    site.setup()
    site.ok("retry", "moved", "-r", "hold=")
    assert site.ended("moved") == ["done"] * 2
    assert sorted(site.notes()) == ["1 1", "2 1"]


def test_runs_that_were_renamed_while_they_waited_begin_under_their_new_names(site):
    site.setup(HELD)
    site.sweep("note(n, os.path.basename(os.environ['FARMX_RUN']))", "{n: [1, 2]}")
    site.ok("sweep.yml")
    job, one = site.job().partition("_")[0], site.told()[0]["run"]
    site.named(one).rename(site.named("it's; $HOME ✓"))
    site.slurm.run("scontrol", "release", job)
    assert site.ended() == ["done"] * 2
    assert sorted(site.notes()) == ["1 it's; $HOME ✓", f"2 {site.told()[1]['run']}"]
    assert "2 done" in site.ok("sweep.yml").err


AWAY = {  # which of them Slurm says depends on what else waits
    "a node that it needs is down, drained or reserved",
    "its nodes are down, drained or kept for a partition that goes first",
}


def test_a_launch_while_all_nodes_are_drained_is_queued_and_a_wrong_one_is_told_by_slurm(site):
    nodes = ",".join(site.slurm.nodes)
    site.slurm.run("scontrol", "update", f"nodename={nodes}", "state=drain", "reason=test")
    try:
        site.sweep("note(n, attempt)", "{n: [1, 2]}")
        site.ok("sweep.yml")
        until(lambda: {run["note"] for run in site.told()} <= AWAY)
        site.setup('{"gpus_per_node": 9}')
        wrong = site("sweep.yml", "--exp-name", "other")
        assert (wrong.code, wrong.err.count("Requested node configuration is not available; what was")) == (4, 1)
    finally:
        site.slurm.run("scontrol", "update", f"nodename={nodes}", "state=resume")
    assert site.ended() == ["done"] * 2


# ---------------------------------------------------------------- preempted, requeued, out of time


def test_a_preempted_run_is_told_waits_as_preempted_and_goes_on_as_its_second_attempt(site):
    site.setup('{"partition": "low", "exclusive": true}')
    site.sweep(SAVES, "{n: 1}", "ENV: {SLOW: 0.5}\n")
    site.ok("sweep.yml")
    site.noted("1 1 began None")
    site.slurm.run("sbatch", "-p", "high", "-N2", "--exclusive", "--output=/dev/null", "--wrap",
                   f"until [ -e {shlex.quote(str(site.project.side))}.go ]; do sleep 0.1; done")  # fmt: skip
    site.noted("1 1 saved None")
    until(lambda: site.states() == ["preempted"])
    assert site("sweep.yml").code == 0  # touches it not
    site.go()
    assert site.ended() == ["done"]
    assert site.notes() == ["1 1 began None", "1 1 told None", "1 1 saved None", "1 2 went on None"]
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "done"}
    assert len(site.submissions()) == 1


def test_a_requeue_by_hand_is_a_new_attempt_while_it_runs_and_nothing_once_it_is_done(site):
    site.sweep(SAVES, "{n: 1}", "ENV: {SLOW: 0.1}\n")
    site.ok("sweep.yml")
    site.noted("1 1 began None")
    job = site.job()
    site.slurm.run("scontrol", "requeue", job)
    assert site.ended() == ["done"]
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "done"}
    until(lambda: not site.alive())
    site.slurm.run("scontrol", "requeue", job)
    (log,) = site.submissions()[0].glob("0.log")
    until(lambda: log.read_text().endswith(f"{site.run().name} 1.2 held: attempt 1.1 is done\n"))
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "done"}
    assert site.states() == ["done"]


HEEDS = """trap 'exit 0' TERM; echo began $FARMX_ATTEMPT >>"$SIDE"; [ $FARMX_ATTEMPT = 2 ] || { sleep 300 & wait; }"""


def test_a_program_that_ends_well_as_soon_as_it_is_told_is_not_done(site):
    site.setup()
    site.project.sweep("{n: [1, 2, 3, 4]}", f"sh -c {shlex.quote(HEEDS)}")
    site.ok("sweep.yml")
    until(lambda: site.notes() == ["began 1"] * 4)
    site.slurm.run("scontrol", "requeue", site.job().partition("_")[0])
    assert site.ended() == ["done"] * 4
    assert [attempts(run) for run in site.project.runs()] == [{"1.0": "preempted", "1.1": "done"}] * 4
    assert site.notes() == ["began 1"] * 4 + ["began 2"] * 4


def test_a_run_that_is_cancelled_while_its_time_is_nearly_up_is_not_queued_again(site):
    site.sweep("signal.signal(signal.SIGTERM, lambda *_: note('told'))\nnote('began')\ntime.sleep(300)", "{n: 1}")
    site.ok("sweep.yml")
    site.noted("began")
    site.slurm.run("scancel", "--batch", "--signal=USR2", site.job())
    site.noted("told")
    site.slurm.run("scancel", site.job())
    assert site.ended() == ["cancelled"]
    until(lambda: not site.alive())
    assert attempts(site.run()) == {"1.0": "cancelled"}


RESUMES = """
import torch
from farmx.logx import logx
logx.initialize()
kept = logx.resume()
begin = kept["epoch"] + 1 if kept else 0
note(attempt, "from", begin)
for epoch in range(begin, 4):
    logx.metric("val", {"acc": epoch}, epoch)
    logx.save_model({"epoch": epoch, "state_dict": {}}, metric=epoch, epoch=epoch)
    if epoch == int(attempt):
        note(attempt, "waits")
        time.sleep(300)
"""
TORCH = """
import pickle
__version__ = "2.0.0"
def save(content, file):
    file.write(pickle.dumps(content))
def load(path, **how):
    with open(path, "rb") as file:
        return pickle.load(file)
"""


def test_a_run_whose_time_is_up_resumes_until_it_has_been_requeued_often_enough(site):
    site.setup(more="MAX_REQUEUES: 2\n")
    site.project.write("torch.py", TORCH)
    site.sweep(RESUMES, "{n: 1}")
    site.ok("sweep.yml")
    for attempt, told in ((1, "1 from 0"), (2, "2 from 2"), (3, "3 from 3")):
        site.noted(told, f"{attempt} waits")
        site.slurm.run("scancel", "--batch", "--signal=USR2", site.job())
    assert site.ended() == ["failed"]
    (told,) = site.told()
    assert told["note"] == "it was told that its time is up, and it was requeued twice (MAX_REQUEUES)"
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "preempted", "1.2": "failed"}


def test_before_its_time_limit_a_run_is_told_and_queued_again(plain):
    plain.setup('{"time": 1, "signal": "B:USR2@20"}', more="MAX_REQUEUES: 1\n")  # sent up to 30 s before that
    plain.sweep(SAVES, "{n: 1}", "ENV: {SLOW: 0.1}\n")
    plain.ok("sweep.yml")
    plain.noted("1 1 saved None")
    assert plain.ended() == ["done"]
    assert attempts(plain.run()) == {"1.0": "preempted", "1.1": "done"}
