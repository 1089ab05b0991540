"""farmx tend, and a launch, do what RETRY says of runs that ended other than well; farmx retry gives what it says."""

import json
import os

import pytest
from commands import Project, read
from launching import until

from farmx.cli import tending
from farmx.spec import Surroundings

FAIL = 'printf "%s\\n" "$FARMX_ATTEMPT_DIR" >> "$SIDE"\n[ "$FARMX_ATTEMPT" -gt "$UNTIL" ]\n'
POOL = "FARM: pool\npool: {EXECUTOR: local}\n"


@pytest.fixture
def pool(project):
    """A project whose farm is a pool of this machine and whose program fails in its first $UNTIL attempts."""
    project.write("fail.sh", FAIL)
    project.write(".farmx.yaml", POOL)
    project.sweep("{n: [1, 2]}", "sh fail.sh", "RETRY: {error: 2}\n")
    return project


def states(project: Project) -> list[str]:
    told = json.loads(project.ok("status", "sweep", "--json").out)["runs"]
    return sorted(run["state"] for run in told)


def lines(project: Project, done) -> list[str]:
    """What a command printed, R for each run's name."""
    names = [run.name for run in project.runs()]
    return ["R".join(line.split(name)) for line in done.out.splitlines() for name in names if name in line]


# ---------------------------------------------------------------- tend


def test_tend_attempts_again_what_retry_covers_until_it_does_not(pool):
    pool.ok("sweep.yml", UNTIL="9")
    assert states(pool) == ["failed", "failed"]
    for attempt in (2, 3):
        done = pool.ok("tend", "sweep", UNTIL="9")
        assert lines(pool, done) == ["sweep/R  again: error"] * 2
        assert done.err == "      2 queued\n"
        assert len(pool.starts()) == 2 * attempt
    done = pool.ok("tend", UNTIL="9")
    assert (lines(pool, done), done.err) == (["sweep/R  left: error: 2 further attempts were made (RETRY)"] * 2, "")
    assert len(pool.starts()) == 6


def test_tend_leaves_what_ended_well_and_what_retry_does_not_speak_of(pool):
    pool.sweep("{n: [1, 2]}", "sh fail.sh", "RETRY: {oom: 2, node_fail: 2, time: 2, error: 0}\n")
    pool.ok("sweep.yml", UNTIL="9")
    pool.write("other.yml", "CMD: 'true'\nHPARAMS: {n: 1}\nRETRY: {error: 3}\n")
    pool.ok("other.yml", UNTIL="0")
    before = pool.starts()
    done = pool.ok("tend", UNTIL="9")
    assert (done.out, done.err) == ("", "nothing is due: no run failed or was lost that RETRY speaks of\n")
    assert (pool.ok("tend", "--json").out, pool.starts()) == ("[]\n", before)


def test_tend_as_json_says_what_was_done_and_why(pool):
    pool.sweep("{n: 1}", "sh fail.sh", "RETRY: {error: {it's: x2, max: 3}}\nRESOURCES: {jobs: 1}\n")
    pool.ok("sweep.yml", UNTIL="9")
    (run,) = pool.runs()
    why = "error: RESOURCES has no it's that could grow; add it"
    told = {"experiment": "sweep", "run": run.name, "again": False, "why": why}
    assert json.loads(pool.ok("tend", "sweep", "--json").out) == [told]
    record = read(run / "run.json")
    (run / "run.json").write_text(json.dumps({**record, "resources": {"it's": 2}, "retry": record["retry"]}))
    told = {**told, "again": True, "why": "error, it's 3", "resources": {"it's": 3}}
    done = pool("tend", "sweep", "--json", UNTIL="9")
    assert json.loads(done.out) == [told]


def test_two_at_once_attempt_each_run_once(pool):
    pool.sweep("{n: [1, 2, 3, 4]}", "sh fail.sh", "RETRY: {error: 9}\n")
    pool.ok("sweep.yml", UNTIL="9")
    both = [pool.behind("tend", "sweep", UNTIL="1") for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    until(lambda: states(pool) == ["done"] * 4)
    assert sorted(each.rpartition("/")[2] for each in pool.starts()) == ["1.0"] * 4 + ["2.0"] * 4


def test_what_one_farm_refuses_holds_up_no_other(pool):
    pool.ok("sweep.yml", UNTIL="9")
    pool.write(".farmx.yaml", POOL + "other: {EXECUTOR: local}\n")
    pool.write("other.yml", "CMD: sh fail.sh\nHPARAMS: {n: [3]}\nRETRY: {error: 2}\n")
    pool.ok("other.yml", "--farm", "other", UNTIL="9")
    pool.write(".farmx.yaml", "FARM: other\nother: {EXECUTOR: local}\n")
    done = pool("tend", UNTIL="9")
    assert done.code == 2
    assert done.err == "      1 queued\npool: no farm named 'pool' in .farmx.yaml; known: local, other\n"
    assert len(pool.starts()) == 4


def test_an_experiment_that_cannot_be_read_holds_up_no_other(pool):
    pool.ok("sweep.yml", UNTIL="9")
    torn = pool.root / "a torn; one" / "run"
    torn.mkdir(parents=True)
    (torn.parent / ".farmx").mkdir()
    (torn / "run.json").write_text("{")
    done = pool("tend", UNTIL="1")
    assert (done.code, states(pool)) == (3, ["done", "done"])
    told = f"left alone: {torn}/run.json: cannot be read: it is not json; restore it or move it away\n"
    assert done.err == f"{told}      2 queued\n"
    for names in ([], ["a torn; one"]):
        done = pool("tend", *names)
        assert (done.code, done.out, done.err) == (3, "", told)


def test_a_run_that_cannot_be_read_is_left_alone_and_the_others_of_its_experiment_are_not(pool):
    pool.ok("sweep.yml", UNTIL="9")
    torn, other = pool.runs()
    (torn / "run.json").write_text("{")
    done = pool("tend", "sweep", UNTIL="1")
    told = f"left alone: {torn}/run.json: cannot be read: it is not json; restore it or move it away\n"
    assert (done.code, done.out, done.err) == (3, f"sweep/{other.name}  again: error\n", f"{told}      1 queued\n")
    assert [each.rpartition("/")[0] for each in pool.starts()[2:]] == [f"sweep/{other.name}"]


@pytest.mark.parametrize("farm", ["big", "it's; gone"])
def test_who_waits_for_slurm_is_told_as_at_launch_whatever_the_settings_say(tmp_path, capsys, farm):
    at = Surroundings(cwd=str(tmp_path), home=str(tmp_path), environ={}, now=0.0, host="h", argv=())
    record = {"executor": "slurm", "farm": farm, "node": {"max_requeues": 5}}
    made = tending._farm(record, {"jobs": 2}, str(tmp_path), None, at)
    assert (made.name, made.max_requeues, made.pack) == (farm, 5, {"jobs": 2})
    made.tell("Slurm does not answer")
    assert capsys.readouterr().err == "      Slurm does not answer\n"


def test_a_retried_run_keeps_its_code(pool):
    pool.ok("sweep.yml", UNTIL="9")
    pool.write("fail.sh", "exit 0\n")
    pool.ok("tend", UNTIL="9")
    assert states(pool) == ["failed", "failed"]


KILLED = [
    (("--farm", "pool"), "sh eat.sh"),
    (("-i",), "sh eat.sh"),
    (("--farm", "pool"), "mkdir -p x && sh eat.sh"),  # the shell's child is killed, not what the runner started
    (("-i",), "sh eat.sh $HOME; exit $?"),
]


@pytest.mark.parametrize(("here", "cmd"), KILLED)
@pytest.mark.parametrize(("kernel", "due"), [('cat "$SIDE.kernel"', ["sweep/R  again: oom"]), ("exit 1", [])])
def test_what_this_machines_kernel_killed_for_memory_is_attempted_again_as_that(pool, tmp_path, here, cmd, kernel, due):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dmesg").write_text(f"#!/bin/sh\n{kernel}\n")
    (tools / "dmesg").chmod(0o755)
    pool.write("eat.sh", 'echo "Memory cgroup out of memory: Killed process $$ (sh)" > "$SIDE.kernel"; kill -KILL $$\n')
    pool.sweep("{n: 1}", cmd, "RETRY: {oom: 2, error: 0}\n")
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    pool("sweep.yml", *here, PATH=path)
    assert states(pool) == ["failed"]
    assert lines(pool, pool.ok("tend", "sweep")) == due  # whoever asks, though no kernel tells it any more


# ---------------------------------------------------------------- launch and retry


def test_the_next_launch_attempts_again_what_todays_retry_covers(pool):
    pool.sweep("{n: [1, 2]}", "sh fail.sh")
    pool.ok("sweep.yml", UNTIL="9")
    assert "runs  2: 2 failed  in" in pool.ok("sweep.yml", UNTIL="9").err
    pool.sweep("{n: [1, 2]}", "sh fail.sh", "RETRY: {error: 1}\n")
    assert pool.ok("tend", "sweep").out == ""  # only a launch writes it into the runs
    assert "runs  2: 2 retried (error)  in" in pool.ok("sweep.yml", UNTIL="9").err
    assert [read(run / "run.json")["retry"] for run in pool.runs()] == [{"error": 1}] * 2
    assert "runs  2: 2 failed  in" in pool.ok("sweep.yml", UNTIL="9").err
    assert len(pool.starts()) == 4


def test_a_launch_here_does_it_too(project):
    project.write("fail.sh", FAIL)
    project.sweep("{n: 1}", "sh fail.sh", "RETRY: {error: 1}\n")
    assert project("sweep.yml", "-i", UNTIL="1").code == 1
    done = project("sweep.yml", "-i", UNTIL="1")
    assert (done.code, "runs  1: 1 retried (error)  in" in done.err) == (0, True)


def test_what_is_to_grow_and_is_not_asked_for_is_one_line_and_nothing_is_made(pool):
    pool.write(".farmx.yaml", "FARM: big\nbig: {SUBMIT_CMD: 'true', RESOURCES: {mem: 64}}\n")
    for retry, told in (
        ("{time: x2}", "time: RESOURCES has no time that could grow; add it"),
        ("{oom: {mem: x2, max: 32}}", "oom: max 32 is below RESOURCES.mem, which is 64"),
        ("{oom: {mem: x2, max: 32G}}", "oom: max 32G and RESOURCES.mem 64 cannot be compared; write both alike"),
    ):
        pool.sweep("{n: 1}", "sh fail.sh", f"RETRY: {retry}\n")
        assert pool("sweep.yml").line(2) == f"sweep.yml:3:1: RETRY: {told}"
    assert not pool.root.exists()


def test_of_stages_each_is_to_have_what_is_to_grow(pool):
    pool.write(".farmx.yaml", "FARM: big\nbig: {SUBMIT_CMD: 'submit {script}', RESOURCES: {}}\n")
    stages = "CMD:\n  a: {cmd: 'true', RESOURCES: {mem: 1}}\n  b: %s\nRETRY: {oom: x2}\n"
    pool.write("sweep.yml", stages % "{cmd: 'true', RESOURCES: {time: 5}}")
    told = "oom: RESOURCES has no mem that could grow; add it"
    assert pool("sweep.yml").line(2) == f"sweep.yml:4:1: RETRY: stage b: {told}"
    pool.write("sweep.yml", stages % "'true'")
    assert pool("sweep.yml").line(2) == f"sweep.yml:4:1: RETRY: {told}"
    assert not pool.root.exists()


SUBMIT = """#!/bin/sh
echo "$@" >> "$SIDE.asked"
sh "$3" > /dev/null 2>&1
echo 7
"""


def test_a_submit_command_is_asked_for_what_has_grown(project):
    submit = project.write("submit", SUBMIT)
    submit.chmod(0o755)
    farm = f"FARM: big\nbig:\n  SUBMIT_CMD: '{submit} {{mem}} {{queue}} {{script}}'\n"
    project.write(".farmx.yaml", f"{farm}  RESOURCES: {{mem: 64, queue: it's}}\n")
    project.write("eat.sh", "[ $FARMX_ATTEMPT -gt 2 ] || { echo MemoryError; exit 1; }\n")
    project.sweep("{n: 1}", "sh eat.sh", "RETRY: {oom: {mem: x1.5, max: 100}}\n")
    project.ok("sweep.yml")
    assert lines(project, project.ok("tend")) == ["sweep/R  again: oom, mem 96"]
    project.ok("retry", "sweep", "--code", "own")
    assert states(project) == ["done"]
    asked = (project.side.parent / f"{project.side.name}.asked").read_text().splitlines()
    assert [line.split()[:2] for line in asked] == [["64", "it's"], ["96", "it's"], ["100", "it's"]]


@pytest.mark.parametrize("again", ["tend", "sweep.yml"])
def test_a_later_stage_grows_from_what_it_asks_for_itself(project, again):
    submit = project.write("submit", SUBMIT.replace("$3", "$2"))
    submit.chmod(0o755)
    project.write(".farmx.yaml", f"FARM: big\nbig: {{SUBMIT_CMD: '{submit} {{mem}} {{script}}'}}\n")
    project.write("eat.sh", "[ $FARMX_ATTEMPT -gt 1 ] || { echo MemoryError; exit 1; }\n")
    project.write("sweep.yml", "CMD:\n  train: {cmd: 'true', RESOURCES: {mem: 64}}\n"
                  "  test: {cmd: sh eat.sh, RESOURCES: {mem: 10}}\nRETRY: {oom: x2}\n")  # fmt: skip
    project.ok("sweep.yml")
    done = project.ok(again)
    assert "oom, mem 20" in done.out + done.err
    assert states(project) == ["done"]
    asked = (project.side.parent / f"{project.side.name}.asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["64", "20"]


# ---------------------------------------------------------------- what is said of it


def test_why_says_what_tend_would_do_and_how_what_is_held_goes_on(pool):
    pool.sweep("{n: [1, 2]}", "sh fail.sh", "RETRY: {error: 1}\n")
    pool.ok("sweep.yml", UNTIL="9")
    name = pool.runs()[0].name
    assert f"next  farmx tend sweep/{name}  # does what RETRY says: error\n" in pool.ok("why", name).out
    pool.ok("tend", f"sweep/{name}", UNTIL="9")
    assert "farmx tend" not in pool.ok("why", name).out
    pool.write("fail.sh", "echo it is not there; exit 127\n")
    pool.sweep("{n: [5, 6]}", "sh fail.sh", "BREAKER: 1\n")
    pool.ok("sweep.yml")
    told = json.loads(pool.ok("status", "sweep", "--json").out)["runs"]
    (held,) = [run for run in told if run["state"] == "staged"]
    said = pool.ok("why", held["run"]).out
    assert f"sweep/{held['run']}  staged: held: the first run failed with: it is not there\n" in said
    nexts = [line for line in said.splitlines() if line.startswith("next")]
    assert nexts == ["next  farmx retry --release sweep  # once that is mended"]
