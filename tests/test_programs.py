"""programs: what a run would not find is refused or told before anything is made, as far as that can be told."""

import pytest
from launching import spec

from farmx import programs

FARM = "FARM: big\nbig: {SUBMIT_CMD: 'true {script}'}\n"
NOTE = "note  CMD: there is no program '{}' in PATH here; runs find it only where their nodes have it"


@pytest.mark.parametrize("word", ["trainer", "/opt/it's nowhere/trainer"])
def test_a_program_that_only_nodes_may_have_is_told_and_launched_elsewhere(project, word):
    project.write(".farmx.yaml", FARM)
    project.sweep("{n: [1]}", f'"\\"{word}\\""')
    done = project.ok("sweep.yml")
    assert [line for line in done.err.splitlines() if line.startswith("note")] == [NOTE.format(word)]
    assert len(project.runs()) == 1


SRUNS = [
    # what srun --help prints, its exit code -> whether that is told
    ("  --container=PATH  of OCI", 0, True),
    ("  --container-image=[USER@][REGISTRY#]IMAGE  of pyxis", 0, False),
    ("Could not establish a configuration source", 1, False),  # it says nothing of the plugin
]


@pytest.mark.parametrize(("told", "code", "lacks"), SRUNS)
def test_an_srun_without_the_plugin_of_the_container_is_told(tmp_path, told, code, lacks):
    srun = tmp_path / "bin ü/srun"
    srun.parent.mkdir()
    srun.write_text(f"#!/bin/sh\n[ \"$*\" = --help ] && echo '{told}'\nexit {code}\n")
    srun.chmod(0o755)
    inside = {"image": "x", "runtime": "pyxis", "mounts": [], "args": []}
    specs = [spec(hparams={"n": n})._replace(container=inside) for n in (1, 2)]
    note = "CONTAINER: srun here has no --container-image: where nodes lack the plugin pyxis, too, each run will fail"
    assert [*programs.unplugged(specs, {"PATH": str(srun.parent)})] == [note] * lacks
    assert [*programs.unplugged(specs, {"PATH": str(tmp_path)})] == []  # nodes may have one
    assert [*programs.unplugged([spec(), spec()._replace(container={**inside, "runtime": "apptainer"})],
                                {"PATH": str(srun.parent)})] == []  # fmt: skip


@pytest.mark.parametrize("how", [("-i",), ("--farm", "local")])
def test_here_it_is_refused(project, how):
    project.write(".farmx.yaml", FARM)
    project.sweep("{n: [1]}", "trainer")
    told = "CMD: there is no program 'trainer' in PATH; is its environment active?"
    assert project("sweep.yml", *how).line(2) == told
    assert not project.root.exists()


@pytest.mark.parametrize("progs", ["[sh, trainer]", "[trainer, sh]", "[sh, sh, trainer]"])
def test_the_programs_of_all_points_are_looked_for(project, progs):
    project.write(".farmx.yaml", FARM)
    project.write("sweep.yml", f"CMD:\n  train: '{{prog}} note.sh'\nHPARAMS: {{prog: {progs}}}\n")
    told = "CMD: there is no program 'trainer' in PATH; is its environment active?"
    assert project("sweep.yml", "-i").line(2) == told
    assert not project.root.exists()
    assert NOTE.format("trainer") in project.ok("sweep.yml").err.splitlines()


def test_a_path_into_the_code_that_is_not_there_is_refused_everywhere(project):
    project.write(".farmx.yaml", FARM)
    project.sweep("{n: [1]}", "bin/trainer")
    told = f"CMD: there is no program 'bin/trainer' in the code, which is {project.path}"
    assert project("sweep.yml").line(2) == project("sweep.yml", "-i").line(2) == told
    assert not project.root.exists()


@pytest.mark.parametrize("more", ["ENV: {PATH: /opt/bin}", "SETUP: module load trainer", "CONTAINER: {image: x.sif}"])
def test_what_may_bring_it_is_believed(project, more):
    project.write(".farmx.yaml", FARM)
    project.write("x.sif", "")
    project.sweep("{n: [1]}", "trainer", f"{more}\n")
    assert "program" not in project("sweep.yml").err
