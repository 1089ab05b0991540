"""farmx sweep.yml -n says what a launch would refuse, where settings that only a launch acts on are there."""

import pytest
from typed import everything

FARM = "FARM: big\nbig: {SUBMIT_CMD: 'true {mem} {script}', RESOURCES: {mem: 64}}\n"
SLURM = "FARM: big\nbig: {EXECUTOR: slurm}\n"
HERE = (
    "is here but not in the snapshot of the code, so a run would not find it; name it in CODE_LINK (a live path) or "
    "CODE_INCLUDE (copied), or give an absolute path"
)
WRONG = [
    ("cat t.txt", "CODE_IGNORE_PATTERNS: '*.txt'", f"'t.txt' {HERE}"),
    ("sh note.sh", "CODE_LINK: [nowhere]", ...),
    ("sh note.sh", "ENV_PASS: [IT_IS_NOT_SET]",
     "ENV_PASS: IT_IS_NOT_SET is not set in this shell; export it or take it off the list"),
    ("sh note.sh", "RETRY: {time: x2}",
     "sweep.yml:3:1: RETRY: time: RESOURCES has no time that could grow; add it"),
    ("sh note.sh", "PACK: {per_gpu: 2}",
     "sweep.yml:3:1: PACK: it says per_gpu, and RESOURCES does not say how many GPUs a job has; write "
     "gpus there, or runs here"),
    ("sh note.sh", "PACK: {runs: 2}\nRESOURCES: {mem: 1, nodes: 2}",
     "sweep.yml:3:1: PACK: runs of several tasks cannot share a job, and RESOURCES says nodes: 2; "
     "take out one of the two"),
    ("sh note.sh", "CONTAINER: {image: x, runtime: pyxis}", ...),
    ("bin/no", "ENV_PASS: [HOME]", ...),
]  # fmt: skip


@pytest.mark.parametrize(("cmd", "setting", "told"), WRONG)
def test_what_a_launch_would_refuse_is_refused_and_nothing_is_printed(project, cmd, setting, told):
    project.write(".farmx.yaml", FARM)
    project.write("t.txt", "")
    project.sweep("{n: [1]}", cmd, f"{setting}\n")
    before = everything(project.path)
    refused = project("sweep.yml", "-n")
    assert refused == project("sweep.yml")
    assert (refused.code != 0, refused.out) == (True, "")
    assert refused.err == f"farmx: {told}\n" or (told is ... and refused.err.count("\n") == 1)
    assert everything(project.path) == before and not project.root.exists()


def test_where_the_runs_would_be_counts(project):
    project.write(".farmx.yaml", FARM)
    project.sweep("{n: [1]}", "trainer", "ENV_PASS: [HOME]\n")
    assert project.ok("sweep.yml", "-n").out == "trainer --n 1\n"
    told = "CMD: there is no program 'trainer' in PATH; is its environment active?"
    assert project("sweep.yml", "-n", "-i").line(2) == project("sweep.yml", "-n", "--farm", "local").line(2) == told


ELSEWHERE = [
    (FARM, "RETRY: {time: x2}"),
    (FARM, "PACK: {per_gpu: 2}"),
    (SLURM, "PACK: {runs: 2, each: 4}\nRETRY: {time: x2}"),
]


@pytest.mark.parametrize(("farm", "setting"), ELSEWHERE)
@pytest.mark.parametrize("how", [("-i",), ("-j", "1"), ("--farm", "local"), ("-n", "-i")], ids=" ".join)
def test_what_only_a_farm_elsewhere_cares_about_does_not_keep_a_sweep_from_running_here(project, farm, setting, how):
    project.write(".farmx.yaml", farm)
    cmd = "\n  a: sh note.sh {n}\n  b: {cmd: 'true', RESOURCES: {mem: 4}}" if farm is SLURM else "sh note.sh"
    project.sweep("{n: [1]}", cmd, f"{setting}\n")
    assert project("sweep.yml").code == project("sweep.yml", "-n").code == 2
    project.ok("sweep.yml", *how)


def test_of_several_stages_a_pack_is_for_the_job_of_the_first_that_is_to_run(project):
    project.write(".farmx.yaml", FARM)
    stages = "\n  a: {cmd: 'sh note.sh {n}', RESOURCES: {gpus: 2}}\n  b: 'true'"
    project.sweep("{n: [1]}", stages, "PACK: {per_gpu: 2}\n")
    project.ok("sweep.yml", "-n")
    assert "PACK: it says per_gpu" in project("sweep.yml", "-n", "--stage", "b").line(2)
    assert project("sweep.yml", "--stage", "b").line(2) == project("sweep.yml", "-n", "--stage", "b").line(2)


def test_a_plain_sweep_is_printed_without_a_look_at_the_code(project):
    project.write(".farmx.yaml", FARM)
    project.sweep("{n: [1]}", "trainer", "ENV: {A: LOGDIR}\n")
    assert project.ok("sweep.yml", "-n", "-i").out == "trainer --n 1\n"
