"""CONTAINER: commands run inside, with all that they are told; what is wrong with it is said before."""

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import images
import pytest
from commands import Project, read
from launching import HOSTILE, PLACE, Place, end, execute, exists, finish, output, script, start

from farmx import containers, layout, programs, snapshot
from farmx.farms import slurm_script
from farmx.spec import Job

pytestmark = pytest.mark.skipif(not images.possible(), reason="no mount namespaces here")
SHOW = ["sh", "-c", 'pwd; for each; do printf "<%s>\\n" "$each"; done', "sh"]
NV = ["--nv"] if os.path.exists("/dev/nvidiactl") else []
ENVIRON = ["/usr/bin/python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / PLACE)


@pytest.fixture
def runtime(tmp_path, monkeypatch) -> images.Runtime:
    return used(images.Runtime(tmp_path / "runtime"), monkeypatch)


def used(runtime: images.Runtime, monkeypatch) -> images.Runtime:
    monkeypatch.setenv("PATH", runtime.path)
    return runtime


def container(runtime: images.Runtime, *mounts: list[str], args: list[str] | None = None) -> dict:
    return {"image": str(runtime.image), "mounts": list(mounts), "runtime": "apptainer", "args": args or []}


def lines(run: str) -> list[str]:
    return output(run).split("\n")[:-1]


# ---------------------------------------------------------------- inside


def test_a_command_arrives_inside_as_it_was_written(place, runtime):
    words = [each for each in HOSTILE if len(each) < 100]
    run = place.run((*SHOW, *words), container=container(runtime))
    assert execute(run).state == "done", output(run)
    shown = "\n".join(f"<{word}>" for word in words)
    assert output(run) == f"{run}/code\n{shown}\n"
    (call,) = runtime.calls()
    home = str(place.experiment)
    assert call == {
        "options": NV,
        "mounts": [{"type": "bind", "source": home, "destination": home}],
        "pwd": f"{run}/code",
        "image": str(runtime.image),
        "words": ["/bin/sh", f"{run}/launch.sh", "--inside", "main"],
    }


def test_the_program_is_told_what_it_is_told_outside_and_finds_the_images_own(place, runtime, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/of/the/machine")
    monkeypatch.setenv("PYTHONPATH", "/of/the/machine")
    monkeypatch.setenv("SECRET", "it's $HOME; \"$(date)\"\nüber")
    hostile, setup = "it's $HOME; \"x\"\n`date`", 'export B="<$A>" PATH=$PATH:/set'
    given = {"env": {"A": hostile}, "env_pass": ("SECRET",), "setup": setup}
    run = place.run((*ENVIRON, "LOGDIR"), container=container(runtime), **given)
    assert execute(run, env={"CUDA_VISIBLE_DEVICES": "3", "RANK": "0"}).state == "done", output(run)
    env = json.loads(output(run))
    sought = ["A", "B", "SECRET", "PYTHONPATH", "PATH", "LOGDIR", "FARMX_RUN", "FARMX_ATTEMPT", "FARMX_ATTEMPT_DIR",
              "FARMX_EXPERIMENT", "RANK", "CUDA_VISIBLE_DEVICES", "VIRTUAL_ENV", "CONDA_PREFIX"]  # fmt: skip
    assert {name: env.get(name) for name in sought} == {
        "A": hostile,
        "B": f"<{hostile}>",
        "SECRET": os.environ["SECRET"],
        "PYTHONPATH": f"{run}/code",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/image:/set",
        "LOGDIR": run,
        "FARMX_RUN": run,
        "FARMX_ATTEMPT": "1",
        "FARMX_ATTEMPT_DIR": f"{run}/attempts/1.0",
        "FARMX_EXPERIMENT": "sweep",
        "RANK": "0",
        "CUDA_VISIBLE_DEVICES": "3",
        "VIRTUAL_ENV": None,
        "CONDA_PREFIX": None,
    }


@pytest.mark.parametrize("name", ["apptainer", "singularity"])
def test_what_an_image_sets_or_cleanenv_drops_reaches_the_program_all_the_same(place, tmp_path, monkeypatch, name):
    names = ("SECRET", "RANK", "FARMX_RUN")
    runtime = used(images.Runtime(tmp_path / "other", name, **dict.fromkeys((*names, "A"), "the image's")), monkeypatch)
    monkeypatch.setenv("SECRET", "$HOME\"'")
    inside = container(runtime, args=["--cleanenv"])
    run = place.run(tuple(ENVIRON), container=inside, env_pass=("SECRET",), env={"A": "x"})
    assert execute(run, env={"RANK": "7"}).state == "done", output(run)
    env = json.loads(output(run))
    assert [env[each] for each in (*names, "A")] == ["$HOME\"'", "7", run, "x"]
    assert runtime.calls()[0]["options"] == [*NV, "--cleanenv"]


def test_the_code_the_experiment_and_what_is_mounted_are_there_and_nothing_else(place, runtime, tmp_path):
    data = tmp_path / 'data, "of": all; $HOME'
    data.mkdir()
    (data / "x").write_text("42")
    mounts = [[str(data), "/in side", "ro"], [str(data), str(data), "rw"]]
    text = f"""
        cat t.py && cat "/in side/x" {shlex.quote(str(data))}/x && ls "$LOGDIR"/../.farmx/snapshots | wc -l
        echo kept > "$LOGDIR"/kept; echo mine >> t2; echo new > {shlex.quote(str(data))}/new
        echo no > "/in side/no" || echo read-only
        ls {shlex.quote(str(place.source))} || echo not there
    """
    run = place.shell(text, container=container(runtime, *mounts))
    assert execute(run).state == "done", output(run)
    told = [line for line in lines(run) if not line.startswith(("sh: ", "ls: "))]
    assert told == ["import sys", "print(*sys.argv[1:])", "42421", "read-only", "not there"]
    assert (Path(run, "kept").read_text(), (data / "new").read_text()) == ("kept\n", "new\n")
    assert Path(run, "code", "t2").read_text() == "mine\n"


# A machine with a GPU, for what follows the name of an empty directory.
GPU = """
set -e
mount -t tmpfs tmpfs "$1"; cd "$1"; shift
touch nvidiactl null; mount --bind /dev/null null; mount --rbind . /dev; cd /
exec "$@"
"""


def test_gpus_are_there_where_the_node_has_any(place, runtime, tmp_path):
    run = place.run(container=container(runtime, args=["--cleanenv"]))
    (tmp_path / "dev").mkdir()
    argv = ["unshare", "-rm", "sh", "-c", GPU, "sh", tmp_path / "dev", f"{run}/launch.sh"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = runtime.calls()
    assert call["options"] == ["--nv", "--cleanenv"]


def test_signals_reach_the_program(place, runtime):
    text = "trap 'echo asked; exit 3' TERM; echo > \"$LOGDIR\"/ready; while :; do sleep 0.05; done"
    run = place.shell(text, container=container(runtime))
    process = start(run)
    exists(f"{run}/ready")
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert (end(run)["state"], end(run)["code"], lines(run)[-1]) == ("interrupted", 3, "asked")


def test_launch_sh_runs_by_hand_from_anywhere_and_after_the_run_was_moved(place, runtime):
    run = place.run((*SHOW, "LOGDIR/x y"), container=container(runtime))
    moved = place.experiment / "moved it's"
    os.rename(run, moved)
    done = subprocess.run([moved / "launch.sh"], capture_output=True, text=True, cwd="/")
    assert (done.stdout, done.stderr) == (f"{moved}/code\n<{moved}/x y>\n", "")


def test_without_a_runtime_the_run_says_so(place, runtime):
    run = place.run(container=container(runtime))
    os.unlink(runtime.bin / "apptainer")
    assert execute(run)[:2] == ("failed", 127)
    assert output(run) == "launch.sh: neither apptainer nor singularity is in PATH\n"


# ---------------------------------------------------------------- a launch


def contained(project: Project, runtime: images.Runtime, more: str = "", container: str = "") -> dict[str, str]:
    """Write a sweep that runs in the image; return what its command needs."""
    project.sweep(cmd="sh note.sh", more=f"CONTAINER: {{image: '$IMAGE', mounts: [$OUTSIDE]{container}}}\n{more}")
    return {"PATH": runtime.path, "IMAGE": str(runtime.image), "OUTSIDE": str(project.path.parent)}


def test_a_launch_runs_inside_and_what_n_prints_and_identity_do_not_say_so(project, runtime):
    env = contained(project, runtime)
    plain = project.ok("sweep.yml", "-n", **env)
    project.ok("sweep.yml", "-i", **env)
    assert sorted(project.starts()) == [f"sweep/{run.name}/1.0" for run in project.runs()]
    assert [call["image"] for call in runtime.calls()] == [str(runtime.image)] * 2
    project.sweep()
    assert project.ok("sweep.yml", "-n") == plain
    done = project.ok("sweep.yml", "-i")
    assert "2 done" in done.err
    assert "note  CONTAINER changed since the last launch; runs that are there keep" in done.err


@pytest.mark.parametrize("staging", ["link", "copy", "share"])
def test_shell_text_and_live_paths_work_inside(project, runtime, staging):
    (project.path / "data").mkdir()
    project.write("data/x", "live\n")
    env = contained(project, runtime, f"CODE_LINK: data\nCODE_STAGING: {staging}\n")
    text = (project.path / "sweep.yml").read_text().replace("sh note.sh", "sh note.sh && cat data/x && echo")
    project.write("sweep.yml", text.replace("[$OUTSIDE]", "[]"))
    project.ok("sweep.yml", "-i", **{**env, "SIDE": "/dev/stdout"})
    for run in project.runs():
        assert output(str(run)) == f"{run}/attempts/1.0\nlive\n--n {read(run / 'hparams.json')['n']}\n"
    assert {call["words"][0] for call in runtime.calls()} == {"/bin/bash"}


def test_a_retry_runs_in_what_the_run_was_staged_with(project, runtime):
    env = contained(project, runtime)
    project.write("note.sh", "exit 3\n")
    project("sweep.yml", "-i", **env)
    project.write("note.sh", "exit 0\n")
    project.sweep()
    refused = project("retry", "sweep", "-i", **{**env, "PATH": "/usr/bin:/bin"}).line(2)
    why = "there is neither apptainer nor singularity in PATH; install one, or launch on a farm that has it"
    assert refused.partition(": ")[2] == f"CONTAINER: {why}"
    assert "2 done" in project.ok("retry", "sweep", "-i", **env).err
    assert len(runtime.calls()) == 4


REFUSED = [  # what else CONTAINER says, how the surroundings differ, what is said
    ("", {"PATH": "/usr/bin:/bin"},
     "there is neither apptainer nor singularity in PATH; install one, or launch on a farm that has it"),
    ("", {"IMAGE": "/no/it's.sif"}, "there is no image /no/it's.sif"),
    (", runtime: pyxis", {}, "runtime pyxis is a plugin of Slurm's srun, and this farm is not Slurm; "
                             "use runtime: apptainer"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "differs", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_what_cannot_run_here_is_told_before_anything_is_made(project, runtime, container, differs, said):
    env = contained(project, runtime, container=container)
    assert project("sweep.yml", "-i", **{**env, **differs}).line(2) == f"CONTAINER: {said}"
    assert not project.root.exists()


def test_an_address_is_not_looked_for_as_a_file(project, runtime):
    env = contained(project, runtime)
    project.ok("sweep.yml", "-i", **{**env, "IMAGE": "docker://org/image:tag"})
    assert {call["image"] for call in runtime.calls()} == {"docker://org/image:tag"}


# ---------------------------------------------------------------- pyxis

NODE = """
from farmx import node
print(json.dumps(node.Held(**json.loads(sys.argv[1])).execute()))
"""


def on_slurm(place: Place, run: str, resources: dict) -> str:
    """Execute the run as a node of Slurm does; return its state."""
    submission = place.submission(Job(run, "1.0"))
    record = {"format": 1, "farm": "big", "node": slurm_script.node(resources, 3, 30)}
    Path(submission.path, layout.JOB).write_text(json.dumps(record))
    held = {"home": submission.path, "job": record, "log": 0, "place": 0, "run": run, "queued": 1}
    return json.loads(script(NODE, json.dumps(held)).splitlines()[-1])[0]


@pytest.mark.parametrize("resources", [{}, {"ntasks": 2, "cpus_per_task": 3}], ids=str)
def test_pyxis_starts_launch_sh_inside(tmp_path, runtime, monkeypatch, resources):
    images.pyxis(runtime)
    place = Place(tmp_path / "it's a place")
    place.wish = snapshot.Wish(link=("data",))
    (place.source / "data").mkdir()
    (place.source / "data/x").write_text("live")
    monkeypatch.setenv("SECRET", "it's $HOME")
    monkeypatch.setenv("SLURM_PROCID", "5")
    monkeypatch.setenv("PYTHONPATH", "/of/the/machine")
    inside = {**container(runtime, ["/etc", "/in side", "ro"]), "runtime": "pyxis", "image": "org#image:tag"}
    run = place.run(tuple(ENVIRON), container=inside, env={"A": "x y"}, env_pass=("SECRET",),
                    setup="export B=$A LIVE=$(cat code/data/x)")  # fmt: skip
    assert on_slurm(place, run, resources) == "done", output(run)
    env = json.loads(output(run))
    tasks = {"RANK": "5", "SRUN": "--kill-on-bad-exit=1 --export=ALL --cpus-per-task=3"} if resources else {}
    sought = {"A": "x y", "B": "x y", "LIVE": "live", "SECRET": "it's $HOME", "PYTHONPATH": f"{run}/code",
              "LOGDIR": run, "PATH": "/usr/local/bin:/usr/bin:/bin:/image", "SRUN": "--kill-on-bad-exit=1 --export=ALL",
              **tasks}  # fmt: skip
    assert {name: env.get(name) for name in sought} == sought
    assert "FARMX_INSIDE" not in env
    (call,) = runtime.calls()
    home, live = str(place.experiment), str(place.source / "data")
    assert (call["image"], call["pwd"], [(each["source"], each["destination"]) for each in call["mounts"]]) == (
        "org#image:tag",
        run,
        [(home, home), (live, live), ("/etc", "/in side")],
    )


def test_a_run_for_pyxis_does_not_begin_outside_of_it(place):
    run = place.run(container={"image": "x", "mounts": [], "runtime": "pyxis", "args": []})
    assert execute(run)[:2] == ("failed", 1)
    assert output(run) == "launch.sh: this run is for a container of pyxis: launch it on Slurm\n"


PROBLEMS = [  # the container's runtime and mounts, CODE_LINK, the kind of farm, what is wrong
    ("apptainer", [], ["d,x"], "slurm", None),
    ("apptainer", [["/a,b", "/c:d", "ro"]], [], "command", None),
    ("pyxis", [["/a", "/b", "ro"]], ["d"], "slurm", None),
    ("pyxis", [], [], "command", "runtime pyxis is a plugin of Slurm's srun, and this farm is not Slurm; use runtime: "
                             "apptainer"),
    ("pyxis", [["/a,b", "/a", "ro"]], [], "slurm", "pyxis takes no ',' and no ':' in a path, and '/a,b' has one"),
    ("pyxis", [], ["d", "d,x"], "slurm", "pyxis takes no ',' and no ':' in a path, and '/src/d,x' has one"),
]  # fmt: skip


@pytest.mark.parametrize(("runtime", "mounts", "link", "executor", "problem"), PROBLEMS)
def test_what_a_farm_cannot_do_is_known(runtime, mounts, link, executor, problem):
    code = {"source": "/src", "link": link}
    told = {"image": "/no/image", "mounts": mounts, "runtime": runtime, "args": []}
    assert programs.misfit(told, executor, {"PATH": "/no"}, "/logs/it's", code) == problem


# What Slurm says of a job -> whether its program is started once a task.
COUNTED = [
    ({}, False),
    ({"SLURM_JOB_NUM_NODES": "1", "SLURM_TASKS_PER_NODE": "1"}, False),
    ({"SLURM_JOB_NUM_NODES": "1", "SLURM_TASKS_PER_NODE": "64"}, False),  # a whole node, by --exclusive
    ({"SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "1", "SLURM_TASKS_PER_NODE": "1"}, False),
    ({"SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "2", "SLURM_TASKS_PER_NODE": "2"}, True),
    ({"SLURM_JOB_NUM_NODES": "2", "SLURM_TASKS_PER_NODE": "1(x2)"}, True),
]


@pytest.mark.parametrize(("told", "several"), COUNTED)
def test_a_program_is_started_once_a_task_where_slurm_made_its_job_several(tmp_path, monkeypatch, told, several):
    for name in ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES", "SLURM_TASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    node = slurm_script.node({"exclusive": True}, 3, 30)
    made = containers.around(node, str(tmp_path))
    wanted = node["spread"] if several else node
    assert (made["each"], made["tell"]) == (wanted["each"], wanted["tell"])
    assert bool(made["each"]) is several
