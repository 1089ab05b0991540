"""A launch that is killed, or told that the disk is full, at every one of its steps; and two launches at once."""

import re
import shlex
import shutil

import pytest
from commands import DENIED, FULL, KILL, LAUNCHER, OTHERS, Fault, Project, claims, read, staging

CHUNKS = 4  # of a walk, so that several processes share it
LEFT = {"staged", "interrupted", "done"}  # what a killed launch may leave


def steps(project: Project, chunk: int, how: str, *argv: str, who: str = LAUNCHER, reads: bool = False, begin=None):
    """Run the command with a fault at step chunk + 1, then, all from the begin, CHUNKS later, ...; yield each end.

    begin: what stands before the command, a project's LOGROOT that is copied.
    """
    step = chunk + 1
    while True:
        shutil.rmtree(project.root, ignore_errors=True)
        project.side.unlink(missing_ok=True)
        if begin:
            shutil.copytree(begin, project.root, symlinks=True)
        done = project(*argv, fault=Fault(str(project.root), step, how, who, reads))
        if done.steps < step:
            return
        yield step, done
        step += CHUNKS


def check_named(project: Project) -> None:
    """Status names every run that is there, each in a state that is no end but done; a claim leads to a whole run."""
    if not project.experiment.exists():
        assert project("status", "sweep").line(2).startswith("no experiment named 'sweep' in ")
        return
    states = project.states()
    assert sorted(states) == [path.name for path in project.runs()]
    assert set(states.values()) <= LEFT
    if (project.experiment / ".farmx" / "points").exists():
        assert set(claims(project.experiment).values()) <= {*states, *staging(project.experiment)}


def check_once(project: Project, generations: int = 1) -> None:
    """Each point has one run a generation, done, in one attempt; no attempt started twice."""
    both = {(n, generation): "done" for n in (1, 2) for generation in range(1, generations + 1)}
    assert project.again() == both
    assert len(project.runs()) == len(both)
    assert len(project.starts()) == len(set(project.starts()))
    for run in project.runs():
        ends = [read(path)["state"] for path in run.glob("attempts/*/end.json")]
        assert ends.count("done") == 1
        assert set(ends) <= {"done", "interrupted"}


# ---------------------------------------------------------------- killed


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize(
    "argv, who", [(("-i",), LAUNCHER), (("-j", "1"), LAUNCHER), (("-j", "1"), OTHERS)],
    ids=["the launcher", "the pool", "the worker"],
)  # fmt: skip
def test_killed_at_any_step_the_same_command_ends_with_each_point_done_once(project, argv, who, chunk):
    killed = 0
    for step, done in steps(project, chunk, KILL, "sweep.yml", *argv, who=who):
        assert done.code == (-9 if who == LAUNCHER else 1), (step, done)
        check_named(project)
        project.ok("sweep.yml", *argv)
        check_once(project)
        killed += 1
    assert killed > 5


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_an_again_killed_at_any_step_is_continued(project, tmp_path, chunk):
    project.ok("sweep.yml", "-i")
    begin = shutil.copytree(project.root, tmp_path / "begin", symlinks=True)
    for step, done in steps(project, chunk, KILL, "sweep.yml", "-i", "--again", begin=begin):
        assert done.code == -9, (step, done)
        check_named(project)
        ended = sum(generation == 2 and state == "done" for (_, generation), state in project.again().items())
        project.ok("sweep.yml", "-i", "--again")
        check_once(project, generations=3 if ended == 2 else 2)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_retry_killed_at_any_step_is_taken_up(project, tmp_path, chunk):
    project.sweep(cmd="sh fails.sh")
    project.write("fails.sh", "exit 3\n")
    assert project("sweep.yml", "-i").code == 1
    begin = shutil.copytree(project.root, tmp_path / "begin", symlinks=True)
    project.write("fails.sh", project.path.joinpath("note.sh").read_text())
    for step, done in steps(project, chunk, KILL, "retry", "sweep", begin=begin):
        assert done.code == -9, (step, done)
        assert set(project.states().values()) <= {"failed", *LEFT}
        project.ok("retry", "sweep")
        assert project.again() == {(1, 1): "done", (2, 1): "done"}
        assert len(project.starts()) == len(set(project.starts()))


# ---------------------------------------------------------------- told that it cannot


def check_told(done, typed: str) -> None:
    """A refusal is one line; an attempt that could not be made or kept says so, and what to type."""
    *_, last = done.err.splitlines()
    if done.code == 3:
        assert re.fullmatch(r"farmx: /.*: .*", last), done.err
    else:
        assert done.code == 1, done
        assert f"next  farmx {typed}  # goes on with what was interrupted" in done.err, done.err


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize(
    "argv, who, how",
    [
        (("-i",), LAUNCHER, FULL),
        (("-j", "1"), LAUNCHER, FULL),
        (("-j", "1"), OTHERS, FULL),
        (("-i",), LAUNCHER, DENIED),
    ],
    ids=["full, the launcher", "full, the pool", "full, the worker", "denied, the launcher"],
)
def test_a_step_that_is_refused_is_one_line_and_the_same_command_finishes(project, argv, who, how, chunk):
    for _, done in steps(project, chunk, how, "sweep.yml", *argv, who=who, reads=how == DENIED):
        if done.code:  # some steps the launch can do without
            check_told(done, shlex.join(("sweep.yml", *argv)))
        if project.experiment.exists():
            check_named(project)
        project.ok("sweep.yml", *argv)
        check_once(project)
