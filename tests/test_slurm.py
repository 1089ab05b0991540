"""The Slurm farm with fakes of Slurm's commands: what they are called with, and what is made of what they say."""

import json
import os
import pwd
import subprocess
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from launching import PLACE, Place
from schedulers import Scheduler

from farmx import layout, processes, relaunch, status
from farmx.errors import ConfigError, FarmError
from farmx.farms import base, slurm, slurm_check, slurm_script
from farmx.farms.base import Answer
from farmx.spec import Held, Job, Run, State, Submission

SLOW = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return Scheduler(tmp_path / "bin", monkeypatch)


def farm(**more) -> slurm.Farm:
    origins = {"RESOURCES.partition": "a.yaml:3:5", "RESOURCES.partition 'cpux'": "s.yml:2:9"}  # that of a stage
    return slurm.Farm("big", origins, delays_s=(0.0, 0.0, 0.0), **more)


def submission(home: Path, count: int = 2, name: str = "id", **resources) -> Submission:
    place = Place(home)
    jobs = [Job(str(place.experiment / f"run{number}"), "1.0") for number in range(count)]
    return base.submission(str(place.experiment / ".farmx" / "submissions"), name, jobs, resources)


def submit(made: Submission, **more) -> list[int]:
    """Submit; how many were heard of."""
    heard: list[int] = []
    farm(**more).submit([made], lambda _, count: heard.append(count))
    return heard


@pytest.mark.parametrize(
    ("resources", "helped"), [({"time": 20}, []), ({"hint": "nomultithread"}, ["helped"]), ({"tme": 20}, ["helped"])]
)
def test_what_a_launch_needs_later_is_asked_for_as_its_resources_are_tried(fake, tmp_path, resources, helped):
    asked: list[str] = []

    def ask(function, *given):
        asked.append(function.__name__)
        return lambda: function(*given)

    big = farm(ask=ask)
    with suppress(ConfigError):
        big.check([{"time": 10}, resources])
    assert asked == [*helped, "tried", "tried", "configuration", "archive"]
    asked.clear()
    fake.says("sbatch", "7\n")
    big.submit([submission(tmp_path, time=10)], lambda *heard: None)
    assert {*asked} == {"configuration", "archive", "text"}


@pytest.mark.parametrize(
    ("more", "pack", "asked"),
    [({}, {}, ["tried"]), ({}, {"runs": 4}, []), ({"hint": "x"}, {}, ["helped", "tried"]),
     ({"hint": "x"}, {"runs": 4}, ["helped"])],
)  # fmt: skip
def test_what_is_likely_is_asked_for_in_the_words_in_which_it_is_needed(fake, more, pack, asked):
    """So that what was answered is known: with a PACK nobody knows yet what jobs will ask for."""
    ahead: list[tuple[str, tuple]] = []
    wanted = {"time": 10, "mem": "1G", **more}
    slurm_check.expect(lambda function, *given: ahead.append((function.__name__, given)), wanted, pack)
    needed: list[tuple[str, tuple]] = []

    def ask(function, *given):
        needed.append((function.__name__, given))
        return lambda: function(*given)

    farm(ask=ask, pack=pack).check([wanted])
    assert [name for name, _ in ahead] == asked
    assert ahead == needed[: len(ahead)]


# ---------------------------------------------------------------- refused before anything is made


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"partion": "x"}, "RESOURCES.partion is no option of sbatch; did you mean partition?"),
        ({"xyzzy": 1}, "RESOURCES.xyzzy is no option of sbatch; see sbatch --help"),
        ({"outpu": "x"}, "RESOURCES.outpu is no option of sbatch; see sbatch --help"),
        ({"partitio": "x"}, "RESOURCES.partitio is no option of sbatch; did you mean partition?"),
        ({"mem=4G": None}, "RESOURCES.mem=4G is no option of sbatch; write mem: 4G"),
        ({"time=5 --mem": 2}, "RESOURCES.time=5 --mem is no option of sbatch; write time: 5 --mem"),
        ({"-mem": 2}, "RESOURCES.-mem is no option of sbatch"),
        ({"array": "0-3"}, "RESOURCES.array is set by farmx itself; take it out"),
        ({"job-name": "x"}, "RESOURCES.job-name is set by farmx itself; take it out"),
        ({"clusters": "x"}, "RESOURCES.clusters: set SLURM_CLUSTERS in the environment, for all commands"),
        ({"array_parallelism": 0}, "RESOURCES.array_parallelism: 0 is not allowed; it must be a whole number above 0"),
        ({"array_parallelism": True},
         "RESOURCES.array_parallelism: True is not allowed; it must be a whole number above 0"),
        ({"partition": "a\nb"}, "a.yaml:3:5: RESOURCES.partition: sbatch takes no newline and no backslash; "
                                "write it without"),
        ({"partition": "LOGDIR/x"}, "a.yaml:3:5: RESOURCES.partition: LOGDIR is another directory for each run of "
                                     "an array; write a path"),
        ({"signal": "USR1@60"}, "RESOURCES.signal: 'USR1@60' is not allowed; it must be B:USR2@SECONDS: the runner "
                                "takes USR2 and sends the program SIGTERM"),
        ({"signal": "USR2"}, "RESOURCES.signal: 'USR2' is not allowed; it must be B:USR2@SECONDS: the runner takes "
                             "USR2 and sends the program SIGTERM"),
        ({"signal": "B:USR2@0"}, "RESOURCES.signal: 'B:USR2@0' is not allowed; a run is told at least a second before "
                                 "its end"),
        ({"signal": "B:USR2@120", "time": 1}, "RESOURCES.signal: 'B:USR2@120' is not allowed; with RESOURCES.time 1 a "
                                              "run would be told as it begins; write less, or take it out for half of "
                                              "that time"),
        ({"time": "0:60", "signal": "B:SIGUSR2@60"}, "RESOURCES.signal: 'B:SIGUSR2@60' is not allowed; with "
                                                     "RESOURCES.time '0:60' a run would be told as it begins; write "
                                                     "less, or take it out for half of that time"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_value_is_refused_with_the_nearest(fake, resources, said):
    fake.says("sbatch-test", call=1)
    fake.says("sbatch-test", "", "sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more information\n", 1)
    with pytest.raises(ConfigError) as error:
        farm().check([{"mem": 1}, resources])
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("resources", "looked"),
    [({"mem": 1, "cpus-per-task": 2, "array_parallelism": 2}, False), ({"mem": 1, "hint": "x"}, True)],
)
def test_the_help_of_sbatch_is_looked_into_for_what_is_seldom_asked_for_alone(fake, resources, looked):
    farm().check([resources])
    assert (fake.home / "sbatch-help.count").exists() is looked


def test_an_option_that_this_sbatch_lacks_is_refused_by_its_name(fake):
    fake.says("sbatch-help", "\n".join(f"  --{name}=x" for name in ("mem", "gres", "time")))
    fake.says("sbatch-test", "", "sbatch: unrecognized option '--gpus=1'\nTry \"sbatch --help\"\n", 1)
    with pytest.raises(ConfigError) as error:
        farm().check([{"gpus": 1}])
    assert str(error.value) == "RESOURCES.gpus is no option of sbatch; see sbatch --help"


@pytest.mark.parametrize("conf", ["/it's $HOME/slurm.conf", ""])
def test_a_slurm_that_is_not_set_up_is_told_with_its_file_and_asked_nothing_more(fake, monkeypatch, conf):
    monkeypatch.setenv("SLURM_CONF", conf)
    said = "sbatch: error: cannot stat file\nsbatch: fatal: Unable to process configuration file\n"
    fake.says("sbatch-test", "", said, 1)
    with pytest.raises(FarmError) as error:
        farm().check([{"mem": 1, "time": 2}])
    said = "sbatch says: Unable to process configuration file; is Slurm set up here? SLURM_CONF: "
    assert str(error.value) == said + (conf or "not set")
    assert [(fake.home / f"sbatch-{name}.count").exists() for name in ("test", "help")] == [True, False]
    assert (fake.home / "sbatch-test.count").read_text() == "1\n"


@pytest.mark.parametrize(
    ("value", "asked"),
    [("nomultithread", "--hint=nomultithread"), (1, "--hint=1"), (["a b", 2], "--hint=a b,2"), (True, "--hint"),
     (None, "--hint")],
)  # fmt: skip
def test_an_option_that_the_help_of_sbatch_leaves_out_is_asked_for(fake, value, asked):
    farm().check([{"hint": value}])
    calls = (fake.home / "calls").read_text().split("\035")
    assert calls[1].split("\036")[:-1] == ["sbatch", "--test-only", asked]


def test_what_sbatch_refuses_is_blamed_on_the_key_with_what_there_is(fake):
    fake.says("sbatch-test", "", "sbatch: error: invalid partition specified: gpux\n"
                                 "allocation failure: Invalid partition name specified\n", 1)  # fmt: skip
    fake.says("sinfo", "gpu\ncpu\n")
    with pytest.raises(ConfigError) as error:
        farm().check([{"partition": "gpux", "mem": 1}])
    assert str(error.value) == (
        "a.yaml:3:5: RESOURCES.partition 'gpux': sbatch says: Invalid partition name specified; did you mean gpu?"
    )
    with pytest.raises(ConfigError) as error:
        farm().check([{"partition": "cpux"}])
    assert str(error.value) == (
        "s.yml:2:9: RESOURCES.partition 'cpux': sbatch says: Invalid partition name specified; did you mean cpu?"
    )


@pytest.mark.parametrize(("value", "end"), [("a10", "; did you mean a100?"), ("it's", "; known: a100, h100, ib")])
def test_a_feature_that_no_node_has_is_refused_with_the_nearest_of_those_that_there_are(fake, value, end):
    fake.says("sbatch-test", "", "allocation failure: Invalid feature specification\n", 1)
    fake.says("sinfo", "a100,ib\n(null)\nh100,ib\n")
    with pytest.raises(ConfigError) as error:
        farm().check([{"mem": 1, "constraint": value}])
    why = "sbatch says: Invalid feature specification"
    assert str(error.value) == f"RESOURCES.constraint {value!r}: {why}{end}"
    assert fake.calls("sinfo") == [["sinfo", "-h", "-o", "%f"]]


@pytest.mark.parametrize("said", [SLOW, "sbatch: error: Required node not available (down, drained or reserved)\n"])
def test_what_may_be_otherwise_later_is_not_refused(fake, said):
    fake.says("sbatch-test", "", said, 1)
    farm().check([{"partition": "gpu"}])


@pytest.mark.parametrize("states", ["idle drained", "down*", "mixed maint", "alloc drng@", "unknown"])
def test_what_nodes_that_are_away_may_do_later_is_not_refused(fake, states):
    fake.says("sbatch-test", "", "allocation failure: Requested node configuration is not available\n", 1)
    fake.says("sinfo", f"{states}\n")
    farm().check([{"gpus": 9}])


def test_what_no_node_has_is_refused_while_all_of_them_are_there(fake):
    fake.says("sbatch-test", "", "allocation failure: Requested node configuration is not available\n", 1)
    fake.says("sinfo", "idle allocated mixed completing reserved\n")
    with pytest.raises(ConfigError) as error:
        farm().check([{"gpus": 9}])
    assert str(error.value) == "farm 'big': RESOURCES: sbatch says: Requested node configuration is not available"
    assert fake.calls("sinfo") == [["sinfo", "-h", "-o", "%T"]]


@pytest.mark.parametrize("time", [3, "0:121", "UNLIMITED", 0, None])
def test_a_notice_that_is_shorter_than_the_limit_or_without_one_is_taken(fake, time):
    farm().check([{"signal": "B:USR2@120", "time": time}])


def test_what_sbatch_gives_no_key_for_is_blamed_on_the_one_without_which_it_would_take_the_rest(fake):
    fake.says("sbatch-test", "", "allocation failure: Requested node configuration is not available\n", 1, call=1)
    fake.says("sbatch-test", "", "allocation failure: Requested node configuration is not available\n", 1, call=2)
    with pytest.raises(ConfigError) as error:
        farm().check([{"mem": 1, "partition": "cpux", "gpus": 9}])
    why = "sbatch says: Requested node configuration is not available"
    assert str(error.value) == f"s.yml:2:9: RESOURCES.partition 'cpux': {why}; there are none"


def test_without_sbatch_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FarmError) as error:
        farm().check([{}])
    assert str(error.value) == (
        "there is no sbatch here; launch from a machine of the cluster, or choose another --farm"
    )


# ---------------------------------------------------------------- what sbatch is given

TEXT = """#!/bin/bash

# Parameters
#SBATCH --array=0-2%2
#SBATCH --constraint='a&b'
#SBATCH --exclusive
#SBATCH --gpus=8
#SBATCH --nice=0
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=B:USR2@60
#SBATCH --time=12:00:00

# command
trap '' USR2
run it
"""


def test_a_warning_that_comes_before_the_runner_can_take_it_ends_no_job():
    text = slurm_script.text("kill -USR2 $$; exec sh -c 'kill -USR2 $$; echo lives'", {"ntasks": 2}, 1)
    ran = subprocess.run(["bash", "-c", text], stdout=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stdout) == (0, "lives\n")


def test_a_script_says_what_the_sweep_says_and_nothing_else():
    resources = {"partition": "gpu", "gpus": 8, "time": "12:00:00", "array_parallelism": 2, "constraint": "a&b",
                 "exclusive": True, "qos": None, "hold": False, "nice": 0}  # fmt: skip
    assert slurm_script.text("run it", resources, 3, 2) == TEXT


def test_a_wckey_is_the_users_where_there_is_one():
    assert "wckey" not in slurm_script.text("run it", {"mem": 1}, 3)
    assert "\n#SBATCH --wckey=mine\n" in slurm_script.text("run it", {"wckey": "mine"}, 3)


@pytest.mark.parametrize(
    ("resources", "notice_s"),
    [({}, 60), ({"time": 1}, 30), ({"time": "0:10"}, 5), ({"time": "2:00:00"}, 60), ({"time": "soon"}, 60),
     ({"signal": "B:USR2@300"}, 300), ({"signal": "B:SIGUSR2@300", "time": 1}, 300)],
)  # fmt: skip
def test_a_program_is_told_before_its_limit_but_not_before_half_of_it(resources, notice_s):
    assert slurm_script.node(resources, 3, 30)["notice_s"] == notice_s


@pytest.mark.parametrize(
    ("config", "grace_s"),
    [("KillWait                = 30 sec\n", 25), ("KillWait                = 100 sec\n", 95),
     ("KillWait                = 4 sec\n", 2.0), ("", 25)],
)  # fmt: skip
def test_a_program_has_killwait_to_end_less_what_recording_its_end_takes(fake, tmp_path, config, grace_s):
    fake.says("config", config)
    fake.says("sbatch", "7\n")
    made = submission(tmp_path)
    submit(made)
    assert json.loads(Path(made.path, layout.JOB).read_text())["node"]["grace_s"] == grace_s


@pytest.mark.parametrize(
    ("resources", "begin"),
    [({}, []), ({"nodes": 1, "ntasks": "1"}, []), ({"nodes": 2}, ["srun"]), ({"ntasks-per-node": 4}, ["srun"]),
     ({"nodes": 2, "cpus-per-task": 8}, ["srun"])],
)  # fmt: skip
def test_a_run_of_several_tasks_goes_through_srun(resources, begin):
    each = slurm_script.node(resources, 3, 30)["each"]
    assert each[:1] == begin
    assert ("--cpus-per-task=8" in each) == ("cpus-per-task" in resources)


@pytest.mark.parametrize(
    ("told", "counts"),
    [("3", ["3"]), ("12(x2)", ["12", "12"]), ("2,1", ["2", "1"]), ("4(x2),1", ["4", "4", "1"])],
)
def test_a_task_is_told_how_many_are_on_its_own_node(told, counts):
    each = slurm_script.node({"nodes": 2}, 3, 30)["each"]
    ranked = [*each[each.index("/bin/sh") :], "printenv", "LOCAL_WORLD_SIZE"]
    envs = ({**os.environ, "SLURM_STEP_TASKS_PER_NODE": told, "SLURM_NODEID": node} for node in "0123"[: len(counts)])
    assert [subprocess.check_output(ranked, env=env, text=True).strip() for env in envs] == counts


def test_arrays_are_of_equal_resources_and_no_longer_than_slurm_allows(fake):
    jobs = [(Job(str(number), "1.0"), {"mem": number % 2}) for number in range(204)]
    assert [(len(batch.jobs), batch.resources) for batch in farm().batches(jobs)] == [
        (101, {"mem": 0}), (1, {"mem": 0}), (101, {"mem": 1}), (1, {"mem": 1})
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "output"), [("plain", "{}/%a.log"), ("100% %A", "{}/%a.log"), ("back\\slash", "/dev/null"),
                          (PLACE, "/dev/null")]
)  # fmt: skip
def test_sbatch_is_told_all_names_on_its_command_line(fake, tmp_path, place, output):
    fake.says("sbatch", "7\n")
    made = submission(tmp_path / place, mem=5)
    assert submit(made) == [2]
    (words,) = fake.calls("sbatch")
    assert words == [
        "sbatch", "--parsable", "--job-name=sweep.id", "--comment=id", f"--chdir={made.path}",
        f"--output={output.format(made.path.replace('%', '%%'))}", "--open-mode=append", f"{made.path}/script",
    ]  # fmt: skip
    assert base.queued(made.path) == {0: "7", 1: "7"}
    record = json.loads(Path(made.path, layout.JOB).read_text())
    assert (record["executor"], record["name"], record["resources"]) == ("slurm", "sweep.id", {"mem": 5})
    script = Path(made.path, layout.SCRIPT).read_text()
    assert ('exec >>"$SLURM_ARRAY_TASK_ID".log' in script) == (output == "/dev/null")


def test_what_a_job_around_us_has_is_not_handed_down(fake, tmp_path, monkeypatch):
    inherited = {"SLURM_NTASKS": "2", "SBATCH_PARTITION": "x", "SLURM_JOB_ID": "1", "RANK": "3", "FARMX_ATTEMPT": "1",
                 "CUDA_VISIBLE_DEVICES": "0"}  # fmt: skip
    for name, value in {**inherited, "SLURM_CONF": "/c", "MINE": "1", "SLURM_JWT": "it's secret"}.items():
        monkeypatch.setenv(name, value)
    fake.says("sbatch", "7\n")
    submit(submission(tmp_path))
    env = fake.env("sbatch")
    assert {name: env.get(name) for name in (*inherited, "SLURM_CONF", "MINE", "SLURM_JWT")} == {
        **dict.fromkeys(inherited), "SLURM_CONF": "/c", "MINE": "1", "SLURM_JWT": "it's secret"
    }  # fmt: skip
    assert [path for path in tmp_path.rglob("*.json") if "it's secret" in path.read_text()] == []  # it is a login


# ---------------------------------------------------------------- no answer, refusals


@pytest.mark.parametrize("said", ["7\n", "7;cluster\n", "a word of the site\n7\n"])
def test_the_id_is_what_sbatch_prints(fake, tmp_path, said):
    fake.says("sbatch", said)
    made = submission(tmp_path)
    submit(made)
    assert base.queued(made.path) == {0: "7", 1: "7"}


def test_a_call_that_gives_no_answer_is_repeated(fake, tmp_path):
    fake.says("sbatch", "", SLOW, 1, call=1)
    fake.says("sbatch", "", SLOW, 1, call=2)
    fake.says("sbatch", "7\n")
    assert submit(submission(tmp_path)) == [2]
    assert len(fake.calls("sbatch")) == 3


def test_who_waits_for_slurm_is_told_so(fake, tmp_path):
    fake.says("sbatch", "", SLOW, 1, call=1)
    fake.says("sbatch", "7\n")
    told: list[str] = []
    slurm.Farm("big", delays_s=(0.0,), tell=told.append).submit([submission(tmp_path)], lambda made, queued: None)
    why = "Batch job submission failed: Socket timed out on send/recv operation"
    assert told == [f"Slurm does not answer ({why}); asking again in 0 s"]


def test_what_was_queued_without_an_answer_is_found_and_not_queued_again(fake, tmp_path):
    fake.says("sbatch", "", SLOW, 1)
    fake.says("squeue", "", "squeue: error: Unable to contact slurm controller\n", 1, call=1)
    fake.says("squeue", "9\n9\n")
    made = submission(tmp_path)
    assert submit(made) == [2]
    assert base.queued(made.path) == {0: "9", 1: "9"}
    assert len(fake.calls("sbatch")) == 1
    assert fake.calls("squeue")[1] == ["squeue", "-h", "-t", "all", "--name=sweep.id", "-o", "%F"]


@pytest.mark.parametrize(
    ("asked", "why", "named"),
    [
        ({"qos": "it's"}, "Invalid qos specification", "RESOURCES.qos: it's"),
        ({"partition": "gpux"}, "Invalid partition name specified", "a.yaml:3:5: RESOURCES.partition: gpux"),
        ({"partition": "cpux"}, "Invalid partition name specified", "s.yml:2:9: RESOURCES.partition: cpux"),  # stage
    ],
)
def test_a_value_that_only_the_call_that_queues_refuses_is_named(fake, tmp_path, asked, why, named):
    fake.says("sbatch", "", f"sbatch: error: Batch job submission failed: {why}\n", 1)
    with pytest.raises(FarmError) as error:
        submit(submission(tmp_path, count=1, mem=1, **asked))
    assert str(error.value) == (
        f"sbatch exited 1 for run run0: Batch job submission failed: {why} ({named}); what was queued before is kept, "
        "the rest is staged: the same command goes on"
    )


@pytest.mark.parametrize(
    ("said", "tries"),
    [("sbatch: error: Batch job submission failed: Invalid qos specification\n", 1), (SLOW, 4),
     ("sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
      "accounting/QOS policy (job submit limit, user's size and/or time limits)\n", 1)],
)  # fmt: skip
def test_a_refusal_loses_no_job_and_says_why(fake, tmp_path, said, tries):
    fake.says("sbatch", "7\n", call=1)
    fake.says("sbatch", "", said, 1)
    first, second = (submission(tmp_path, name=name) for name in ("one", "two"))
    heard: list[str] = []
    with pytest.raises(FarmError) as error:
        farm().submit([first, second], lambda made, _: heard.append(made.id))
    reason = said.splitlines()[-1].removeprefix("sbatch: error: ")
    assert str(error.value) == (
        f"sbatch exited 1 for 2 runs from run0 on: {reason}; what was queued before is kept, the rest is staged: the "
        "same command goes on"
    )
    assert heard == ["one"]
    assert (base.queued(first.path), base.queued(second.path)) == ({0: "7", 1: "7"}, {})
    assert len(fake.calls("sbatch")) == 1 + tries


# ---------------------------------------------------------------- limits of submitted jobs

# In place of sbatch: one that lets in so many jobs of each partition, and writes down what it was asked to queue.
LIMITED = """#!/usr/bin/env python3
import os, re, sys
home, words = os.path.dirname(sys.argv[0]), sys.argv[1:]
if "--help" in words or "--test-only" in words:
    sys.exit(print(open(home + "/sbatch-help.out").read()))
script = open(words[-1]).read()
array = next((word[8:] for word in words if word.startswith("--array=")), re.search("--array=(.*)", script)[1])
first, last = (int(each) for each in array.partition("%")[0].split("-"))
named = re.search("--partition=(.*)", script)
room = f"{home}/room.{named[1] if named else ''}"
left = int(open(room).read()) if os.path.exists(room) else 0
with open(home + "/asked", "a") as asked:
    fits = last - first < left
    after = "".join(word[13:] for word in words if word.startswith("--dependency="))
    print(array, after, "taken" if fits else "refused", file=asked)
if not fits:
    sys.exit("sbatch: error: AssocMaxSubmitJobLimit\\nsbatch: error: Batch job submission failed: Job violates policy")
open(room, "w").write(str(left - 1 - last + first))
print(len(open(home + "/asked").readlines()))
"""


def limit(fake: Scheduler, **room: int) -> None:
    """At most so many jobs are let into each partition; `any`: without one."""
    (fake.home / "sbatch").write_text(LIMITED)
    for name, count in room.items():
        (fake.home / f"room.{name.replace('any', '')}").write_text(str(count))


def asked(fake: Scheduler) -> list[str]:
    return (fake.home / "asked").read_text().splitlines()


def shortage(submissions: list[Submission], **more) -> str:
    """What submitting these is refused with."""
    with pytest.raises(FarmError) as error:
        farm(**more).submit(submissions, lambda *_: None)
    return str(error.value)


@pytest.mark.parametrize("room", [0, 1, 2, 5, 63, 64, 99])
def test_a_limit_lets_in_as_much_as_fits_and_the_rest_is_as_if_never_handed_over(fake, tmp_path, room):
    limit(fake, any=room)
    made = submission(tmp_path, 100)
    assert shortage([made]) == (
        f"Slurm's limit of submitted jobs is reached (AssocMaxSubmitJobLimit): {100 - room} of 100 runs are not "
        "queued; the same command goes on when some have ended"
    )
    queued = base.queued(made.path)
    assert sorted(queued) == list(range(room))
    assert layout.runs_of(made.path) == [(f"run{place}", (1, 0)) for place in range(room)]
    assert len(asked(fake)) <= 9
    taken = [line.split()[0].split("-") for line in asked(fake) if line.endswith("taken")]
    assert [place for first, last in taken for place in range(int(first), int(last) + 1)] == list(range(room))


def test_a_limit_of_one_partition_keeps_nobody_out_of_another(fake, tmp_path):
    limit(fake, a=1, b=2)
    made = [submission(tmp_path, 3, name, partition=name[0]) for name in ("a1", "a2", "b1")]
    assert shortage(made).endswith(": 3 of 3 runs are not queued; the same command goes on when some have ended")
    assert [len(base.queued(each.path)) for each in made] == [1, 0, 2]
    assert asked(fake) == ["0-2  refused", "0-0  taken", "1-1  refused", "0-2  refused", "0-0  taken", "1-1  taken"]


def test_an_array_of_which_few_may_run_at_once_is_not_made_two(fake, tmp_path):
    limit(fake, any=6)
    made = submission(tmp_path, 8, array_parallelism=2)
    shortage([made])
    assert asked(fake) == ["0-7%2  refused", "0-3%2  taken"]
    assert len(layout.runs_of(made.path)) == 4


def test_what_waits_for_others_is_queued_for_those_alone_that_are(fake, tmp_path):
    limit(fake, a=3, b=9)
    first = submission(tmp_path, 4, "first", partition="a")
    then = submission(tmp_path, 4, "then", partition="b")._replace(after="first")
    assert ": 1 of 4 runs are not queued" in shortage([first, then])
    assert asked(fake) == ["0-3  refused", "0-1  taken", "2-2  taken", "0-1 aftercorr:2 taken", "2-2 aftercorr:3 taken"]
    assert base.queued(then.path) == {0: "4", 1: "4", 2: "5"}


def test_packed_runs_are_counted_by_their_jobs(fake, tmp_path):
    limit(fake, any=2)
    made = submission(tmp_path, 10)
    assert ": 2 of 10 runs are not queued" in shortage([made], pack={"runs": 4})
    assert asked(fake) == ["0-2  refused", "0-0  taken", "1-1  taken"]
    assert sorted(base.queued(made.path)) == list(range(8))


CROWDED = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"


def test_a_cluster_that_takes_no_more_jobs_is_asked_once(fake, tmp_path):
    """Each time sbatch itself tries for two minutes."""
    fake.says("sbatch", "", CROWDED, 1)
    assert shortage([submission(tmp_path, 4), submission(tmp_path, 2, "later", partition="b")]) == (
        "Slurm's limit of submitted jobs is reached (MaxJobCount): 4 of 4 runs are not queued; the same command goes "
        "on when some have ended"
    )
    assert len(fake.calls("sbatch")) == 1


@pytest.mark.parametrize(("found", "queued"), [("9\n", {0: "9", 1: "9"}), ("", {})])
def test_a_call_that_ran_out_of_time_may_have_been_heard(fake, tmp_path, found, queued):
    fake.says("sbatch", "", CROWDED + "sbatch timed out after 120 s", 124)
    fake.says("squeue", found)
    made = submission(tmp_path)
    with nullcontext() if found else pytest.raises(FarmError):
        submit(made)
    assert base.queued(made.path) == queued


def test_a_limit_that_an_unheard_call_filled_is_not_taken_for_a_refusal(fake, tmp_path):
    fake.says("sbatch", "", SLOW, 1, call=1)
    fake.says("sbatch", "", "sbatch: error: AssocMaxSubmitJobLimit\n", 1)
    fake.says("squeue", "", call=1)
    fake.says("squeue", "9\n")
    made = submission(tmp_path)
    assert submit(made) == [2]
    assert base.queued(made.path) == {0: "9", 1: "9"}


# ---------------------------------------------------------------- asking


def helds(made: Submission, name: str | None = "7", **record) -> list[Held]:
    told = {"executor": "slurm", "name": f"sweep.{made.id}", "user": "root", "submitted": 1.0, **record}
    return [Held(made.path, place, 1, told, name) for place in range(len(made.jobs))]


def test_all_submissions_are_asked_for_in_one_call(fake, tmp_path):
    fake.says("squeue", "0|PENDING|Priority|sweep.one\n1|RUNNING|None|sweep.one\n0|PENDING|Resources|sweep.two\n"
                        "0|RUNNING|None|other\n1|COMPLETED|None|sweep.two\n")  # fmt: skip
    one, two = submission(tmp_path, name="one"), submission(tmp_path, name="two")
    assert slurm.poll([*helds(one), *helds(two)]) == {
        (one.path, 0): Answer(State.QUEUED, "others go before it"),
        (one.path, 1): Answer(State.RUNNING, ""),
        (two.path, 0): Answer(State.QUEUED, "waits for nodes to be free"),
        (two.path, 1): Answer(State.UNKNOWN, "its job ended well, and its record cannot be seen from here yet"),
    }
    assert fake.calls() == [
        ["squeue", "-h", "-r", "-t", "all", "-u", "root", "--name=sweep.one,sweep.two", "-o", "%K|%T|%r|%j"]
    ]


def test_of_an_array_that_is_queued_twice_the_job_with_most_life_counts(fake, tmp_path):
    rows = ["0|RUNNING|None", "0|CANCELLED|None", "1|COMPLETED|None", "1|PENDING|Priority", "1|CANCELLED|None",
            "2|PENDING|Priority", "2|RUNNING|None", "2|PENDING|Priority", "3|FAILED|None"]  # fmt: skip
    fake.says("squeue", "".join(f"{row}|sweep.id\n" for row in rows))
    made = submission(tmp_path, count=4)
    assert {place: answer.state for (_, place), answer in slurm.poll(helds(made)).items()} == {
        0: State.RUNNING, 1: State.QUEUED, 2: State.RUNNING, 3: State.FAILED
    }  # fmt: skip


@pytest.mark.parametrize(("queued", "state"), [(False, None), (True, State.FAILED)])
def test_an_array_that_sbatch_refused_is_none_though_squeue_lists_it(fake, tmp_path, queued, state):
    fake.says("squeue", "0|FAILED|BadConstraints|sweep.id\n1|PENDING|BadConstraints|sweep.id\n")
    made = submission(tmp_path)
    if queued:
        base.record_queued(made.path, 0, 1, "7")
    told = slurm.poll(helds(made, "7" if queued else None))
    expected = {0: state, 1: State.QUEUED}
    assert {place: answer.state for (_, place), answer in told.items()} == {
        place: state for place, state in expected.items() if state
    }


def test_what_ended_a_job_that_squeue_says_only_failed_to_launch_its_exit_code_tells(fake, tmp_path):
    rows = [f"{place}|FAILED|JobLaunchFailure|sweep.id\n" for place in range(4)]
    fake.says("squeue", "".join([*rows, "4|RUNNING|None|sweep.id\n", "0|FAILED|JobLaunchFailure|other\n"]), call=1)
    fake.says("squeue", "".join(f"{place}|FAILED|{code}|sweep.id    \n" for place, code in ((0, 9), (1, 53), (2, 256))))
    made = submission(tmp_path, count=5)
    told = slurm.poll(helds(made))
    assert [told[made.path, place].note for place in range(5)] == [
        "its job was killed (SIGKILL)",
        "its node could not begin its job: does it see LOGROOT, and was that or the experiment moved?",
        "its job failed before it could say why",
        "its job was killed, or its node could not begin it",
        "",
    ]
    asked = ["squeue", "-h", "-r", "-t", "F", "--name=sweep.id", "-O", "ArrayTaskID:|,State:|,exit_code:|,Name:"]
    assert fake.calls()[1] == asked


def test_sacct_is_asked_for_what_squeue_has_forgotten_and_its_old_news_do_not_count(fake, tmp_path):
    made = submission(tmp_path, count=5)
    fake.says("squeue", "0|RUNNING|None|sweep.id\n")
    fake.says("sacct", "7_0|PENDING|None|sweep.id\n7_1|CANCELLED by 0|None|sweep.id\n7_2|NODE_FAIL|None|sweep.id\n"
                       "7_3|RUNNING|None|sweep.id\n7_[4]|OUT_OF_MEMORY|None|sweep.id\n")  # fmt: skip
    assert slurm.poll(helds(made)) == {
        (made.path, 0): Answer(State.RUNNING, ""),
        (made.path, 1): Answer(State.CANCELLED, "its job was cancelled"),
        (made.path, 2): Answer(State.LOST, "its node failed"),
        (made.path, 3): Answer(State.CANCELLED, "its job was cancelled while it waited"),
        (made.path, 4): Answer(State.FAILED, "out of memory"),
    }
    said = fake.calls("sacct")[0]  # without states it leaves out what was cancelled before it could have begun
    assert said[said.index("-S") + 2 :] == [
        "-E", "now", "--name=sweep.id", "-o", "JobID,State,ExitCode,JobName",
        "--state=BF,CA,CD,DL,F,NF,OOM,PD,PR,R,RQ,RS,RV,S,TO",
    ]  # fmt: skip


REFUSED = [
    # what sacct has against the question, what it says to one without states -> what is known, how often it is asked
    ("sacct: fatal: unrecognized job state value\n", "7_0|OUT_OF_MEMORY|0:125|sweep.id\n", [State.FAILED], 2),
    ("Slurm accounting storage is disabled\n", None, [], 2),
    ("sacct: error: slurmdbd: Connection refused\n", "7_0|OUT_OF_MEMORY|0:125|sweep.id\n", [], 1),
]


@pytest.mark.parametrize(("why", "then", "states", "times"), REFUSED)
def test_a_sacct_that_refuses_is_asked_once_more_without_states(fake, tmp_path, why, then, states, times):
    made = submission(tmp_path, count=1)
    fake.says("sacct", "7_0|COMPL", why, 1)
    if then is not None:
        fake.says("sacct", then, call=2)
    assert [answer.state for answer in slurm.poll(helds(made)).values()] == states
    asked = fake.calls("sacct")
    assert len(asked) == times
    assert asked[1:] == [[word for word in asked[0] if not word.startswith("--state=")]] * (times - 1)


def test_a_job_that_left_its_array_before_it_began_was_cancelled_and_one_that_began_is_not_known(fake, tmp_path):
    made = submission(tmp_path, count=3)
    os.makedirs(os.path.join(made.jobs[1].run, "attempts", "1.0"))
    fake.says("squeue", "0|RUNNING|None|sweep.id\n")
    fake.says("sacct", "", "Slurm accounting storage is disabled\n", 1)
    assert slurm.poll(helds(made)) == {
        (made.path, 0): Answer(State.RUNNING, ""),
        (made.path, 2): Answer(State.CANCELLED, "its job was cancelled while it waited"),
    }


def test_an_array_that_slurm_has_forgotten_is_not_listed(fake, tmp_path):
    fake.says("sacct", "", "Slurm accounting storage is disabled\n", 1)
    assert slurm.poll(helds(submission(tmp_path))) == {}
    assert slurm.poll(helds(submission(tmp_path, name="never"), None)) == {}


def test_who_cannot_be_asked_makes_nothing_lost(fake, tmp_path):
    made = submission(tmp_path, count=1)
    fake.says("squeue", "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", 1)
    note = "Slurm cannot be asked: slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    assert slurm.poll(helds(made)) == {(made.path, 0): Answer(State.UNKNOWN, note)}


def test_the_cluster_that_a_job_was_submitted_to_is_asked(fake, tmp_path, monkeypatch):
    conf = tmp_path / "there.conf"
    conf.touch()
    monkeypatch.setenv("SLURM_CONF", "/here")
    made = submission(tmp_path, count=1)
    for named, asked in ((str(conf), str(conf)), ("/run/only/on/nodes", "/here"), ("", None)):
        slurm.poll(helds(made, cluster={"SLURM_CONF": named, "SLURM_CLUSTERS": ""}))
        assert fake.env("squeue").get("SLURM_CONF") == asked


# ---------------------------------------------------------------- cancel


def test_jobs_are_cancelled_by_name_in_one_call(fake, tmp_path):
    one, two, gone = (submission(tmp_path, count=4, name=name) for name in ("one", "two", "gone"))
    fake.says("squeue", "8|sweep.one\n8|sweep.one\n9|sweep.two\n7|other\n")
    slurm.cancel([*helds(one)[:2], helds(one)[3], helds(two, None)[2], *helds(gone)])
    assert fake.calls("scancel") == [["scancel", "8_[0-1,3]", "9_[2]"]]


def test_a_number_that_another_job_has_now_is_not_cancelled(fake, tmp_path):
    fake.says("squeue", "7|other\n")
    slurm.cancel(helds(submission(tmp_path), "7"))
    assert fake.calls("scancel") == []


def test_who_cannot_see_the_jobs_of_another_user_is_told_that_these_are_not_cancelled(fake, tmp_path, monkeypatch):
    """Where PrivateData hides them they may be there, or gone."""
    mine, theirs = submission(tmp_path, name="mine"), submission(tmp_path, name="theirs")
    fake.says("squeue", "8|sweep.mine\n")
    monkeypatch.setattr(os, "getuid", lambda: 1)
    told = {"user": pwd.getpwuid(1).pw_name}
    slurm.cancel([*helds(mine, **told), *helds(submission(tmp_path, name="gone"), **told)])
    with pytest.raises(FarmError, match=r"^only root can ask for it$"):
        slurm.cancel([*helds(mine, **told), *helds(theirs)])
    assert fake.calls("scancel") == [["scancel", "8_[0-1]"]] * 2
    slurm.cancel(helds(theirs, None))  # of which nothing says that Slurm ever had it
    monkeypatch.setattr(os, "getuid", lambda: 0)
    slurm.cancel(helds(theirs, user="somebody"))  # root sees all


def test_what_has_ended_is_no_error_and_what_cannot_be_asked_is(fake, tmp_path):
    made = submission(tmp_path)
    fake.says("squeue", "8|sweep.id\n")
    fake.says("scancel", "", "scancel: error: Kill job error on job id 8_0: Invalid job id specified\n", 1)
    slurm.cancel(helds(made))
    fake.says("scancel", "", "scancel: error: Access/permission denied\n", 1)
    with pytest.raises(FarmError, match=r"^scancel: Access/permission denied$"):
        slurm.cancel(helds(made))
    fake.says("squeue", "", "squeue: error: Unable to contact slurm controller\n", 1)
    with pytest.raises(FarmError, match=r"^squeue: Unable to contact slurm controller$"):
        slurm.cancel(helds(made))


def test_a_run_queued_anew_is_queued_though_the_job_of_its_lost_attempt_is_remembered(fake, tmp_path):
    place = Place(tmp_path)
    run = place.run()
    os.makedirs(os.path.join(run, "attempts", "1.0"))
    home = str(place.experiment / ".farmx" / "submissions")
    for number, name in ((1, "one"), (2, "two")):
        made = base.submission(home, name, [Job(run, f"{number}.0")])
        record = {"format": 1, "executor": "slurm", "farm": "big", "name": f"sweep.{name}", "user": "root"}
        layout.write_json(os.path.join(made.path, layout.JOB), record)
        base.record_queued(made.path, 0, 0, str(number))
    fake.says("sacct", "", "Slurm accounting storage is disabled\n", 1)
    fake.says("squeue", "0|PENDING|Priority|sweep.two\n")
    (told,) = status.of(str(place.experiment), ["one"]).runs
    assert (told.state, told.note) == (State.QUEUED, "others go before it")


NEVER = "not started, and the scheduler does not list it: probably cancelled"


@pytest.mark.parametrize(("more", "state", "note"), [
    ({}, State.LOST, NEVER), ({"node": {"fence": False}}, State.LOST, NEVER),
    ({"pack": {"slots": 1, "each": 1}}, State.LOST, NEVER),
    ({"node": {"fence": True}}, State.STAGED, "held: it's $HOME"),
    ({"pack": {"slots": 2, "each": 4}}, State.STAGED, "held: it's $HOME"),
])  # fmt: skip
def test_a_job_that_has_gone_is_held_by_a_breaker_where_it_was_the_job_that_looked_for_one(
    fake, tmp_path, more, state, note
):
    place = Place(tmp_path)
    made = place.submission(Job(place.run(), "1.0"))
    record = {"format": 1, "executor": "slurm", "farm": "big", "name": "sweep.s", "user": "root", **more}
    layout.write_json(os.path.join(made.path, layout.JOB), record)
    base.record_queued(made.path, 0, 0, "7")
    layout.write_json(os.path.join(made.path, layout.BREAKER), {"format": 1, "held": True, "why": "it's $HOME"})
    fake.says("sacct", "", "Slurm accounting storage is disabled\n", 1)
    fake.says("squeue", "")
    (told,) = status.of(str(place.experiment), ["one"]).runs
    assert (told.state, told.note) == (state, note)


def test_each_array_that_is_held_is_let_go_by_one_call(fake, tmp_path):
    fake.says("squeue", "8|sweep.id\n8|sweep.id\n9|sweep.id\n7|other\n")
    slurm.release(helds(submission(tmp_path))[0])
    assert fake.calls("scontrol") == [["scontrol", "release", "8"], ["scontrol", "release", "9"]]


def test_what_has_ended_need_not_be_let_go(fake, tmp_path):
    fake.says("squeue", "8|sweep.id\n9|sweep.id\n")
    fake.says("scontrol", "", "0: Job has already finished\n", 1)
    slurm.release(helds(submission(tmp_path))[0])
    assert fake.calls("scontrol") == [["scontrol", "release", "8"], ["scontrol", "release", "9"]]


def test_what_slurm_refuses_to_let_go_is_told_and_is_held_until_it_is_asked_for_again(fake, tmp_path):
    place = Place(tmp_path)
    made = place.submission(Job(place.run(), "1.0"))
    record = {"format": 1, "executor": "slurm", "farm": "big", "name": "sweep.s", "user": "root"}
    layout.write_json(os.path.join(made.path, layout.JOB), record)
    base.record_queued(made.path, 0, 0, "7")
    layout.write_json(os.path.join(made.path, layout.BREAKER), {"format": 1, "held": True, "why": "it's $HOME"})
    fake.says("squeue", "7|sweep.s\n0|PENDING|JobHeldUser|sweep.s\n")
    fake.says("scontrol", "", "Access/permission denied for job 7\nslurm_update error: Access denied\n", 1, call=1)

    def found() -> list[Run]:
        return list(status.of(str(place.experiment), ["one"]).runs)

    with pytest.raises(FarmError) as error:
        relaunch.let_go(found(), "own", {}, pytest.fail)
    assert str(error.value) == "scontrol: slurm_update error: Access denied"
    assert [run.note for run in found()] == ["held: it's $HOME"]
    relaunch.let_go(found(), "own", {}, pytest.fail)
    assert [run.note for run in found()] == ["held by its user; scontrol release lets it go"]  # as Slurm still says


def test_slurm_is_asked_for_its_configuration_once_however_many_arrays_there_are(fake, tmp_path):
    for call in (1, 2, 3):
        fake.says("sbatch", f"{call}\n", call=call)
    farm().submit([submission(tmp_path, name=name) for name in ("one", "two", "three")], lambda *heard: None)
    assert (fake.home / "config.count").read_text() == "1\n"


def test_a_list_is_joined_by_commas_wherever_it_is_told(fake, tmp_path):
    fake.says("sbatch", "7\n")
    made = submission(tmp_path, partition=["a", "b"], dependency=["afterok:1", "afterok:2"])
    Path(made.jobs[0].run).mkdir()
    layout.write_json(os.path.join(made.jobs[0].run, layout.RUN), {"format": 1, layout.SENTINEL: True})
    later = base.submission(os.path.dirname(made.path), "later", made.jobs, made.resources)._replace(after="id")
    farm().submit([made, later], lambda *heard: None)
    first, behind, second, _ = fake.calls("sbatch")
    assert "--partition=a,b" in behind
    assert "--dependency=afterok:1,afterok:2,aftercorr:7" in second
    assert "#SBATCH --partition=a,b\n" in Path(first[-1]).read_text()


def test_an_array_that_is_queued_while_the_rest_of_its_launch_is_held_is_held(fake, tmp_path):
    made = submission(tmp_path)
    told = {"format": layout.BREAKER_FORMAT, "held": True, "why": "the first run failed with: no"}
    layout.write_json(os.path.join(made.path, layout.BREAKER), told)
    fake.says("sbatch", "7\n")
    assert submit(made) == [2]
    assert fake.calls("scontrol") == [["scontrol", "hold", "7"]]
    assert submit(submission(tmp_path, name="other")) == [2]
    assert len(fake.calls("scontrol")) == 1


# ---------------------------------------------------------------- sentinels


def wants_sentinel(home: Path, name: str = "id", wanted: bool = True, **more) -> Submission:
    """A submission of runs that were staged with SENTINEL."""
    made = submission(home, name=name, partition="a", **more)
    for job in made.jobs:
        Path(job.run).mkdir(exist_ok=True)
        layout.write_json(os.path.join(job.run, layout.RUN), {"format": 1, layout.SENTINEL: wanted})
    return made


@pytest.mark.parametrize(("found", "calls"), [("", 3), ("8\n", 2)], ids=["not queued", "queued and not heard"])
def test_a_sentinel_is_asked_for_as_patiently_as_an_array_and_queued_once(fake, tmp_path, found, calls):
    fake.says("sbatch", "7\n", call=1)
    fake.says("sbatch", "", SLOW, 1, call=2)
    fake.says("sbatch", "8\n", call=3)
    fake.says("squeue", found)
    assert submit(wants_sentinel(tmp_path)) == [2]
    sent = fake.calls("sbatch")
    assert [words[-1].rpartition("/")[2] for words in sent] == ["script", "tend", "tend"][:calls]
    assert [words for words in fake.calls("squeue") if "--name=sweep.id.tend" in words]


def test_a_sentinel_is_where_and_on_the_account_that_its_runs_are_and_else_asks_for_its_own(fake, tmp_path):
    fake.says("sbatch", "7\n", call=1)
    fake.says("sbatch", "8\n", call=2)
    wanted = {"account": "it's $HOME", "qos": ["low", "free"], "reservation": "größe"}
    made = wants_sentinel(tmp_path, **wanted, mem=9, nodes=2, constraint="ib")
    assert submit(made) == [2]
    assert fake.calls("sbatch")[1] == [
        "sbatch", "--parsable", "--job-name=sweep.id.tend", "--dependency=afterany:7", f"--chdir={made.path}",
        "--output=/dev/null", "--ntasks=1", "--mem=500", "--time=30", "--partition=a", "--account=it's $HOME",
        "--qos=low,free", "--reservation=größe", f"{made.path}/tend",
    ]  # fmt: skip


def test_a_sentinel_that_slurm_never_takes_is_told(fake, tmp_path):
    fake.says("sbatch", "7\n", call=1)
    fake.says("sbatch", "", SLOW, 1)
    with pytest.raises(FarmError) as error:
        submit(wants_sentinel(tmp_path))
    assert str(error.value) == (
        "the runs are queued, and their sentinel is not: Batch job submission failed: "
        "Socket timed out on send/recv operation; farmx tend does what it would"
    )
    assert len(fake.calls("sbatch")) == 5


QUEUES = [
    ("7|sweep.id\n", ["afterany:7"]),
    ("7|sweep.id\n7|sweep.id\n9|sweep.id\n5|other.id\n", ["afterany:7:9"]),
    ("7|sweep.id\n8|sweep.id.tend\n", []),
    ("7|other.id\n", []),
    ("", []),
]


@pytest.mark.parametrize(("queue", "behind"), QUEUES)
def test_a_sentinel_that_a_killed_launch_left_out_is_queued_while_its_runs_are_there(fake, tmp_path, queue, behind):
    for name in ("id", "other"):
        fake.says("sbatch", "7\n")
        submit(wants_sentinel(tmp_path, name, wanted=name == "id"))  # the same runs: the last word counts
    made = wants_sentinel(tmp_path, "idle")
    fake.says("squeue", queue)
    known = len(fake.calls("sbatch"))
    farm().watch(layout.experiment_of(made.path))
    sent = fake.calls("sbatch")[known:]
    assert [word.partition("=")[2] for words in sent for word in words if "--dependency" in word] == behind
    assert [words[-1] for words in sent] == [os.path.join(os.path.dirname(made.path), "id", "tend")] * len(behind)
    assert all("--partition=a" in words for words in sent)


def test_where_no_run_wants_one_nobody_is_asked_for_sentinels(fake, tmp_path):
    fake.says("sbatch", "7\n")
    made = wants_sentinel(tmp_path, wanted=False)
    submit(made)
    farm().watch(layout.experiment_of(made.path))
    assert fake.calls("squeue") == []
    assert len(fake.calls("sbatch")) == 1


def test_where_slurm_cannot_say_which_sentinels_there_are_that_is_told(fake, tmp_path):
    fake.says("sbatch", "7\n")
    made = wants_sentinel(tmp_path)
    submit(made)
    fake.says("squeue", "", "slurm_load_jobs error: Unable to contact slurm controller\n", 1)
    with pytest.raises(FarmError, match="^whether the runs have a sentinel cannot be asked: .*; farmx tend does"):
        farm().watch(layout.experiment_of(made.path))


# ---------------------------------------------------------------- what a killed launch left out


def chain(home: Path, fake: Scheduler) -> tuple[Submission, Submission]:
    """Two submissions of the same runs, one after the other: the second was not queued."""
    first = submission(home)
    later = [Job(job.run, "2.0") for job in first.jobs]
    second = base.submission(os.path.dirname(first.path), "id-2", later, {"mem": 4})._replace(after="id")
    fake.says("sbatch", "7\n", call=1)
    fake.says("sbatch", "", "sbatch: error: no\n", 1, call=2)
    with pytest.raises(FarmError, match="^sbatch exited 1 for 2 runs from run0 on: no; what was queued before is kept"):
        farm().submit([first, second], lambda *heard: None)
    return first, second


LEFT_OUT = [
    ("7|sweep.id\n", None, "aftercorr:7"),
    ("7|sweep.id\n8|sweep.id-2\n", None, None),  # it was queued, and nobody heard of it
    ("", None, None),  # what it would wait for is gone
    ("5|sweep.other\n", None, None),
    ("7|sweep.id\n", "3.0", None),  # one of its runs was queued once more
]


@pytest.mark.parametrize(("queue", "newer", "waits"), LEFT_OUT)
def test_a_later_stage_that_was_left_out_is_queued_behind_the_one_that_is_there(fake, tmp_path, queue, newer, waits):
    first, second = chain(tmp_path, fake)
    if newer:
        base.submission(os.path.dirname(first.path), "anew", [Job(first.jobs[1].run, newer)])
    fake.says("squeue", queue)
    fake.says("sbatch", "9\n")
    told: list[str] = []
    for _ in range(2):
        farm(tell=told.append).finish(layout.experiment_of(first.path))
    sent = fake.calls("sbatch")[2:]
    dependencies = [word.partition("=")[2] for words in sent for word in words if word.startswith("--dependency")]
    assert dependencies == ([waits] if waits else [])
    assert [words[-1] for words in sent] == [os.path.join(second.path, "script")] * bool(waits)
    assert base.queued(second.path) == ({0: "9", 1: "9"} if waits else {})
    assert told == ["2 jobs of a launch that was cut short are queued behind those that they wait for"] * bool(waits)


def test_what_a_launch_at_work_has_yet_to_queue_is_left_to_it(fake, tmp_path):
    first = submission(tmp_path)
    later = [Job(job.run, "2.0") for job in first.jobs]
    second = base.submission(os.path.dirname(first.path), "id-2", later, {"mem": 4})._replace(after="id")
    fake.says("squeue", "7|sweep.id\n")
    fake.says("sbatch", "9\n")
    fake.says("sbatch", "7\n", call=1)
    told: list[str] = []

    def heard(made: Submission, count: int) -> None:
        farm(tell=told.append).finish(layout.experiment_of(first.path))  # the same command, typed again

    farm().submit([first, second], heard)
    assert [os.path.dirname(words[-1]) for words in fake.calls("sbatch")] == [first.path, second.path]
    assert told == [f"2 jobs are left to a launch that is at work, process {os.getpid()} of {processes.host()}"]


def test_of_two_launches_that_find_the_same_dead_one_only_one_queues_what_it_left_out(fake, tmp_path):
    first, second = chain(tmp_path, fake)
    (fake.home / "squeue").write_text("#!/bin/sh\ncase $* in *%j*) echo '7|sweep.id';; esac\n")
    fake.says("sbatch", "", SLOW, 1, call=3)
    fake.says("sbatch", "9\n")
    told: list[str] = []

    def meanwhile(line: str) -> None:
        told.append(line)
        if "does not answer" in line:
            farm(tell=told.append).finish(layout.experiment_of(first.path))

    for _ in range(2):
        farm(tell=meanwhile).finish(layout.experiment_of(first.path))
    ours = f"process {os.getpid()} of {processes.host()}"
    assert [words[-1] for words in fake.calls("sbatch")[2:]] == [os.path.join(second.path, "script")] * 2
    assert told[1:] == [f"2 jobs are left to a launch that is at work, {ours}",
                        "2 jobs of a launch that was cut short are queued behind those that they wait for"]  # fmt: skip
    assert sorted(os.listdir(second.path)) == ["job.json", "queued", "runs", "script"]


OURS = {**processes.this(), "boot": "before"}
FAR = {**processes.this(), "host": "it's far"}
CLAIMS = [  # who claimed it, before -> whether it is queued for them
    ([OURS], True),
    ([OURS, OURS], True),
    ([OURS, processes.this()], False),
    ([processes.this(), OURS], True),
    ([FAR], False),
]


@pytest.mark.parametrize(("claims", "queued"), CLAIMS)
def test_who_was_killed_while_it_queued_what_another_left_out_is_followed_by_the_next(fake, tmp_path, claims, queued):
    first, second = chain(tmp_path, fake)
    for number, by in enumerate(claims, 1):
        Path(second.path, f"finish.{number}").write_text(json.dumps({"format": 1, "by": by, "submitted": time.time()}))
    fake.says("squeue", "7|sweep.id\n")
    fake.says("sbatch", "9\n")
    farm().finish(layout.experiment_of(first.path))
    assert base.queued(second.path) == ({0: "9", 1: "9"} if queued else {})


AT_WORK = [  # who wrote it down, how long ago -> whether it is queued for them
    (None, 0, True),
    (OURS, 0, True),
    (processes.this(), 9e9, False),
    (FAR, 0, False),
    (FAR, 7200, True),
]


@pytest.mark.parametrize(("by", "ago_s", "queued"), AT_WORK)
def test_a_launch_that_nobody_can_look_at_has_an_hour(fake, tmp_path, by, ago_s, queued):
    first, second = chain(tmp_path, fake)
    path = Path(second.path) / "job.json"
    record = json.loads(path.read_text())
    assert "by" not in record  # it has ended, though its process lives
    path.write_text(json.dumps({**record, "by": by, "submitted": time.time() - ago_s}))
    fake.says("squeue", "7|sweep.id\n")
    fake.says("sbatch", "9\n")
    farm().finish(layout.experiment_of(first.path))
    assert base.queued(second.path) == ({0: "9", 1: "9"} if queued else {})


LIMIT = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates a limit\n"
FULL = ("Slurm's limit of submitted jobs is reached (QOSMaxSubmitJobPerUserLimit): {} of 2 runs are not queued "
        "to their last stage; the same command goes on when some have ended")  # fmt: skip


def test_a_limit_that_leaves_room_for_one_is_told_and_the_record_says_which_was_queued(fake, tmp_path):
    first, second = chain(tmp_path, fake)
    fake.says("squeue", "7|sweep.id\n")
    fake.says("sbatch", "", LIMIT, 1)
    fake.says("sbatch", "9\n", call=4)
    told: list[str] = []
    with pytest.raises(FarmError) as error:
        farm(tell=told.append).finish(layout.experiment_of(first.path))
    assert str(error.value) == FULL.format(1)
    assert told == ["1 job of a launch that was cut short is queued behind the one that it waits for"]
    assert (layout.runs_of(second.path), base.queued(second.path)) == (
        [(os.path.basename(second.jobs[0].run), (2, 0))], {0: "9"}
    )  # fmt: skip


def test_what_a_limit_keeps_out_whole_is_told_each_time_until_there_is_room(fake, tmp_path):
    first, second = chain(tmp_path, fake)
    fake.says("squeue", "7|sweep.id\n")
    fake.says("sbatch", "", LIMIT, 1)
    told: list[str] = []
    for _ in range(2):
        with pytest.raises(FarmError) as error:
            farm(tell=told.append).finish(layout.experiment_of(first.path))
        assert str(error.value) == FULL.format(2)
    fake.says("sbatch", "9\n")
    farm(tell=told.append).finish(layout.experiment_of(first.path))
    assert told == ["2 jobs of a launch that was cut short are queued behind those that they wait for"]
    assert base.queued(second.path) == {0: "9", 1: "9"}


def test_where_nothing_was_left_out_nobody_is_asked(fake, tmp_path):
    fake.says("sbatch", "7\n")
    made = submission(tmp_path)
    submit(made)
    farm().finish(layout.experiment_of(made.path))
    farm().finish(str(tmp_path / "no such experiment"))
    assert fake.calls("squeue") == []
