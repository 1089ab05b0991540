"""What acts on runs that are there has the settings of the newest launch: its sweep file's, its configuration's."""

import json

import pytest
from commands import Project, project

FARM = "FARM: big\nbig: {{SUBMIT_CMD: '{} {{script}}'}}\n"
SUBMIT = '#!/bin/sh\necho "$0" >> "$SIDE.asked"\nsh "$1" > /dev/null 2>&1\necho 7\n'


def submit(project: Project, name: str = "submit") -> str:
    """A SUBMIT_CMD that runs the job at once and notes its own name."""
    path = project.write(name, SUBMIT)
    path.chmod(0o755)
    return str(path)


def asked(project: Project) -> list[str]:
    path = project.side.parent / f"{project.side.name}.asked"
    return [line.rpartition("/")[2] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def far(tmp_path):
    """A directory that has nothing to do with the project."""
    path = tmp_path / "it's $HOME; far"
    path.mkdir()
    return path


@pytest.fixture
def failed(project):
    """A project whose sweep of one point was launched on its farm, and failed."""
    project.write(".farmx.yaml", FARM.format(submit(project)))
    project.sweep("{n: [1]}", "'false'", "RETRY: {error: 1}\n")
    project.ok("sweep.yml")
    assert asked(project) == ["submit"]
    return project


# ---------------------------------------------------------------- from another directory


@pytest.mark.parametrize("command", ["retry", "tend"])
def test_a_path_alone_is_enough_from_anywhere(failed, far, command):
    failed.ok(command, str(failed.experiment), cwd=far, FARMX_LOGROOT="")
    assert asked(failed) == ["submit", "submit"]
    assert list(far.iterdir()) == []


def test_a_run_or_a_logroot_is_enough_from_anywhere(failed, far):
    (run,) = failed.runs()
    failed.ok("retry", str(run), cwd=far, FARMX_LOGROOT="")
    failed.ok("retry", "sweep", "--logroot", str(failed.root), cwd=far, FARMX_LOGROOT="")
    assert asked(failed) == ["submit"] * 3


def test_the_file_that_c_named_at_the_launch_is_read_again_and_c_is_stronger(project, far):
    (far / "c.yaml").write_text(FARM.format(submit(project)))
    (project.path / "d.yaml").write_text(FARM.format(submit(project, "other")))
    project.sweep("{n: [1]}", "'false'")
    project.ok("sweep.yml", "-c", str(far / "c.yaml"))
    project.ok("retry", "sweep")
    project.ok("retry", "sweep", "-c", "d.yaml")
    assert asked(project) == ["submit", "submit", "other"]
    project.ok("retry", str(project.experiment), "-c", "../project/d.yaml", cwd=far)
    assert asked(project)[3:] == ["other"]
    (far / "c.yaml").unlink()
    told = f"{far}/c.yaml: there is no such configuration file; give -c an existing one"
    assert project("retry", "sweep").line(2) == told


def test_where_the_project_is_gone_the_settings_of_here_are_used(failed, far):
    moved = failed.path.rename(failed.path.parent / "moved")
    (far / ".farmx.yaml").write_text(FARM.format((moved / "submit").rename(moved / "other")))
    failed.ok("retry", str(failed.experiment), "--code", "own", cwd=far)
    assert asked(failed) == ["submit", "other"]


# ---------------------------------------------------------------- what only the sweep file has


@pytest.fixture
def own(project):
    """The same, where the sweep file has the farm's SUBMIT_CMD."""
    project.write(".farmx.yaml", FARM.format("/bin/false"))
    project.sweep("{n: [1]}", "'false'", f"SUBMIT_CMD: {submit(project)} {{script}}\n")
    project.ok("sweep.yml")
    return project


def test_a_retry_has_what_only_the_sweep_file_has(own):
    own.ok("retry", "sweep")
    own.sweep("{n: [1]}", "'false'", f"SUBMIT_CMD: {submit(own, 'today')} {{script}}\n")
    own.ok("retry", "sweep")
    assert asked(own) == ["submit", "submit", "today"]


@pytest.mark.parametrize("text", [None, "HPARAMS: [\n", "CMD: 'false'\nSUBMIT_CMD: [no]\n"])
def test_of_a_sweep_file_that_is_gone_or_wrong_it_has_what_was_launched(own, text):
    (own.path / "sweep.yml").unlink() if text is None else own.write("sweep.yml", text)
    own.ok("retry", "sweep")
    assert asked(own) == ["submit", "submit"]


def test_another_experiments_settings_are_its_own(own):
    own.write("other.yml", f"CMD: 'false'\nSUBMIT_CMD: {submit(own, 'other')} {{script}}\nRETRY: {{error: 1}}\n")
    own.ok("other.yml")
    own.sweep("{n: [1]}", "'false'", f"SUBMIT_CMD: {submit(own)} {{script}}\nRETRY: {{error: 1}}\n")
    own.ok("sweep.yml", "--again")
    own.ok("tend")
    assert sorted(asked(own)) == ["other"] * 2 + ["submit"] * 3


@pytest.fixture
def two(own):
    """Two experiments on one farm, each with a SUBMIT_CMD of its own."""
    own.write("other.yml", f"CMD: 'false'\nSUBMIT_CMD: {submit(own, 'other')} {{script}}\n")
    own.ok("other.yml")
    return own


def test_a_retry_of_several_experiments_has_the_settings_of_each(two):
    done = two.ok("retry", "sweep", "other")
    assert asked(two) == ["submit", "other", "submit", "other"]
    assert "runs  2 again, 0 left alone\n" in done.err
    assert len(json.loads(two.ok("retry", "other", "sweep", "--json").out)["queued"]) == 2
    assert asked(two)[4:] == ["other", "submit"]
    assert two("retry", "sweep", "other", "-i").code == 1
    assert len(asked(two)) == 6


def test_what_is_wrong_with_the_settings_of_one_keeps_all_from_being_queued(two):
    two.write("other.yml", "CMD: 'false'\nSUBMIT_CMD: 'true {mem}'\n")
    assert "SUBMIT_CMD" in two("retry", "sweep", "other").line(2)
    assert len(asked(two)) == 2


def test_todays_retry_is_that_of_the_newest_launch_for_all_that_may_want_it(project):
    project.write(".farmx.yaml", "FARM: pool\npool: {EXECUTOR: local}\n")
    project.sweep("{n: [1, 2]}", "sh -c 'exit $1' sh")
    project.write("t.sh", 'exit "$2"')
    project.sweep("{n: [0, 2]}", "sh t.sh")
    project.ok("sweep.yml")
    project.sweep("{n: [0, 2]}", "sh t.sh", "RETRY: {node_fail: 1}\n")
    note = "note  RETRY changed since the last launch; runs that are there go by it unless they are done\n"
    assert note in project.ok("sweep.yml").err
    told = {json.loads((run / "hparams.json").read_text())["n"]: json.loads((run / "run.json").read_text()).get("retry")
            for run in project.runs()}  # fmt: skip
    assert told == {0: None, 2: {"node_fail": 1}}


# ---------------------------------------------------------------- NOTIFY


@pytest.fixture
def told(tmp_path, posting, post):
    """A project whose sweep file, and nothing else, has a NOTIFY."""
    made = project(tmp_path, posting)
    made.write(".farmx.yaml", "FARM: pool\npool: {EXECUTOR: local}\n")
    made.sweep("{n: [1]}", "'false'", "NOTIFY: file://$TOLD\nRETRY: {error: 1}\n")
    made.ok("sweep.yml")
    post.path.unlink()
    return made


@pytest.mark.parametrize("command", [("retry", "sweep", "-i"), ("tend",)], ids=" ".join)
def test_what_is_queued_again_is_told_to_whom_the_sweep_file_says(told, post, command):
    told(*command)
    assert post.told()[-1:] == ["sweep: 1 failed|sumx sweep|farmx retry sweep"]


def test_what_waits_is_sent_to_whom_its_own_sweep_file_says(told, post, tmp_path):
    other = tmp_path / "other"
    told.write("other.yml", f"CMD: 'false'\nNOTIFY: file://{other}\n")
    post.down.write_text("")
    (tmp_path / "other.down").write_text("")
    told("sweep.yml", "-i", "--again")
    told("other.yml", "-i")
    waits = [line for line in told.ok("notify").out.splitlines() if line.startswith("waits")]
    assert [line.partition(",")[0] for line in waits] == [
        "waits  other: failed", "waits  other: ended", "waits  sweep: failed", "waits  sweep: ended"
    ]  # fmt: skip
    assert told.ok("notify").out.splitlines()[4:] == ["tells  file://...", "tells  file://..."]
    post.down.unlink()
    (tmp_path / "other.down").unlink()
    assert told.ok("notify", "--flush").err == "      4 sent\n"
    assert [line.partition("|")[0] for line in other.read_text().splitlines()][1:] == ["other: 1 failed"]
    assert [line.partition("|")[0] for line in post.told()][1:] == ["sweep: 1 failed"]
