"""farmx sweep.yml -n says what a launch would refuse, where settings that only a launch acts on are there."""

import pytest
from typed import everything

FARM = "FARM: big\nbig: {SUBMIT_CMD: 'true {mem} {script}', RESOURCES: {mem: 64}}\n"
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


def test_a_plain_sweep_is_printed_without_a_look_at_the_code(project):
    project.write(".farmx.yaml", FARM)
    project.sweep("{n: [1]}", "trainer", "ENV: {A: LOGDIR}\n")
    assert project.ok("sweep.yml", "-n", "-i").out == "trainer --n 1\n"
