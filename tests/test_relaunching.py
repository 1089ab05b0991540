"""farmx retry: each run goes back to the farm that had it; never to this machine, where that was not asked for."""

import json

import pytest
from commands import Done, Project, key
from launching import until

CONFIG = """
big: {{SUBMIT_CMD: '{big} {{name}} {{script}}', STATUS_CMD: /bin/true}}
small: {{SUBMIT_CMD: '{small} {{name}} {{script}}', STATUS_CMD: /bin/true}}
"""
SUBMIT = '#!/bin/sh\necho "$(basename "$0") $1" >> "$SIDE.asked"\necho 7\n'  # what it takes is never begun


def configure(project: Project, text: str = CONFIG, farm: str = "") -> None:
    """Two farms that begin nothing and, asked, list nothing: what they took is lost. farm: FARM."""
    names = {}
    for name in ("big", "small"):
        path = project.path.parent / name
        path.write_text(SUBMIT)
        path.chmod(0o755)
        names[name] = str(path)
    project.write(".farmx.yaml", (f"FARM: {farm}\n" if farm else "") + text.format(**names))


def asked(project: Project) -> dict[str, int]:
    """Submit command -> how often it was called since this was asked last."""
    path = project.side.parent / f"{project.side.name}.asked"
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    names = [line.split()[0] for line in lines]
    return {name: names.count(name) for name in sorted(set(names))}


@pytest.fixture
def lost(project):
    """Two runs that were handed to the farm `big`, by --farm alone, and lost while they waited."""
    configure(project)
    project.ok("sweep.yml", "--farm", "big")
    assert (asked(project), project.again()) == ({"big": 2}, {(1, 1): "lost", (2, 1): "lost"})
    return project


def test_what_was_lost_while_it_waited_goes_back_to_its_farm(lost):
    done = lost.ok("retry", "sweep")
    assert "runs  2 again, 0 left alone\n      2 queued\n" in done.err
    assert (asked(lost), lost.starts()) == ({"big": 2}, [])


MAIL = "note  NOTIFY: slurm is Slurm's own mail, and farm {} sends none; name an address, as json://host\n"
ON = [(["-i"], MAIL.format("local")), (["--farm", "box"], MAIL.format("box")), (["--farm", "big"], "")]


@pytest.mark.parametrize(("where", "told"), ON)
def test_that_nobody_is_told_of_what_is_retried_on_this_machine_is_said(lost, where, told):
    lost.write(".farmx.yaml", lost.path.joinpath(".farmx.yaml").read_text() + "box: {EXECUTOR: local}\nNOTIFY: slurm\n")
    done = lost.ok("retry", "sweep", *where)
    assert "".join(line for line in done.err.splitlines(True) if line.startswith("note  ")) == told


def test_so_does_what_was_cancelled_while_it_waited(lost):
    lost.ok("cancel", "sweep")
    assert set(lost.again().values()) == {"cancelled"}
    lost.ok("retry", "sweep")
    assert (asked(lost), lost.starts()) == ({"big": 2}, [])


def test_a_cancel_of_what_waits_is_no_execution_that_the_program_could_go_on_from(lost):
    lost.ok("cancel", "sweep")
    lost.write("note.sh", 'echo "$(basename "$FARMX_ATTEMPT_DIR") $FARMX_ATTEMPT" >> "$SIDE"\n')
    lost.ok("retry", "sweep", "--code", "now", "-i")
    lost.ok("retry", "sweep", "--state", "done", "-i")
    assert lost.starts() == ["2.0 1", "2.0 1", "3.0 2", "3.0 2"]


def test_so_does_what_a_command_here_was_stopped_before(lost):
    lost.write("note.sh", 'kill -INT "$PPID"\nsleep 60\n')
    assert lost("retry", "sweep", "--code", "now", "-i").code == 130
    assert lost.again() == {(1, 1): "interrupted", (2, 1): "lost"}
    lost.ok("retry", "sweep", "--state", "lost")
    assert asked(lost) == {"big": 1}


def test_whatever_farm_the_file_names(lost):
    configure(lost, farm="small")
    lost.ok("retry", "sweep")
    assert asked(lost) == {"big": 2}


@pytest.fixture
def two(lost):
    """The same, and three more runs of the experiment on the farm `small`."""
    lost.ok("cancel", "sweep")
    lost.sweep("{n: [1, 2, 3, 4, 5]}")
    lost.ok("sweep.yml", "--farm", "small")
    assert asked(lost) == {"small": 3}
    return lost


def test_the_runs_of_two_farms_go_each_to_its_own(two):
    done = two.ok("retry", "sweep")
    assert "runs  5 again, 0 left alone\n" in done.err
    assert asked(two) == {"big": 2, "small": 3}
    submissions = sorted((two.experiment / ".farmx" / "submissions").iterdir())[2:]
    told = {json.loads((path / "job.json").read_text())["farm"]: len((path / "runs").read_text().splitlines())
            for path in submissions}  # fmt: skip
    assert told == {"big": 2, "small": 3}


def test_what_one_farm_refuses_holds_up_no_other(two):
    (two.path.parent / "big").write_text("#!/bin/sh\necho no such queue >&2\nexit 1\n")
    done = two("retry", "sweep")
    *others, last = done.err.splitlines()
    assert (done.code, asked(two)) == (4, {"small": 3})
    assert "      3 queued" in others
    assert last.startswith(f"farmx: {two.path.parent}/big exited 1 for run ")
    (two.path.parent / "small").write_text("#!/bin/sh\necho no quota >&2\nexit 1\n")
    done = two("retry", "sweep", "--state", "staged,lost,cancelled")
    assert (done.code, done.err.count("no such queue"), done.err.count("refused  ")) == (4, 1, 1)
    assert "refused  " in done.err and ": no quota; " in done.err


@pytest.mark.parametrize("how", [[], ["-i"], ["-i", "--state", "done"]])
def test_a_farm_that_is_not_there_is_told_where_none_is_needed_too(project, how):
    project.write(".farmx.yaml", "box: {EXECUTOR: local}\n")
    project.ok("sweep.yml", "-j", "2")
    told = project("retry", "sweep", "--farm", "nope", *how)
    assert told.line(2) == "no farm named 'nope' in .farmx.yaml; known: box, local"
    assert project.ok("retry", "sweep", "--farm", "box").err.startswith("runs  0 again, 2 left alone\n")


@pytest.mark.parametrize("argv", [("--farm", "small"), ("--farm", "small", "--state", "lost,cancelled")])
def test_a_farm_that_is_named_takes_all(two, argv):
    two.ok("retry", "sweep", *argv)
    assert asked(two) == {"small": 5}


@pytest.mark.parametrize("argv", [("-i",), ("-j", "2"), ("-i", "--json")])
def test_here_is_only_where_that_is_asked_for(two, argv):
    two.ok("retry", "sweep", *argv)
    assert (asked(two), len(two.starts())) == ({}, 5)


def test_here_they_run_in_the_order_of_the_sweep_whatever_farm_had_which(two):
    two.ok("cancel", "sweep")
    (first,) = [run for run in two.runs() if key(run) == (1, 1)]
    two.ok("retry", str(first), "--farm", "small")
    two.write("note.sh", 'printf "%s " "$2" >> "$SIDE"\n')
    two.ok("retry", "sweep", "-i", "--code", "now", "--state", "lost,cancelled")
    assert two.side.read_text() == "1 2 3 4 5 "


def test_a_farm_that_the_configuration_has_no_more_is_one_line_before_anything_is_queued(two):
    configure(two, CONFIG[: CONFIG.index("small:")])
    told = "no farm named 'small' in .farmx.yaml; known: big, local; give --farm NAME, or -i to run here"
    assert two("retry", "sweep").line(2) == f"sweep: 3 runs to go back to small: {told}"
    assert (asked(two), two.starts(), len(list(two.experiment.glob("*/attempts/2.0")))) == ({}, [], 0)
    two.ok("retry", "sweep", "--state", "cancelled")
    assert asked(two) == {"big": 2}
    two.ok("retry", "sweep", "--state", "lost", "--farm", "big")
    assert asked(two) == {"big": 5}


def test_a_farm_that_says_no_more_how_to_submit_is_one_line(lost):
    configure(lost, "big: {{RESOURCES: {{mem: 1}}}}\n")
    told = "farm 'big' has neither EXECUTOR nor SUBMIT_CMD; add one, or give -i to run here"
    assert lost("retry", "sweep").line(2) == told
    assert lost.starts() == []


def test_a_run_that_was_renamed_goes_back_by_the_records_of_its_attempts(project):
    configure(project)
    project.path.parent.joinpath("big").write_text('#!/bin/sh\nsh "$2" > /dev/null 2>&1\necho 7\n')
    project.sweep("{n: [1]}", "'false'")
    project.ok("sweep.yml", "--farm", "big")
    configure(project)
    (run,) = project.runs()
    run.rename(run.parent / "renamed")
    project.ok("retry", "sweep")
    assert asked(project) == {"big": 1}


def test_what_a_pool_without_a_section_had_goes_back_to_one_and_what_a_command_had_does_not(project):
    project.sweep("{n: [1]}", "'false'")
    project.ok("sweep.yml", "--farm", "local")
    assert "      1 queued\n" in project.ok("retry", "sweep").err
    assert "      1 failed\n" in project("retry", "sweep", "-i").err
    assert "      1 failed\n" in project("retry", "sweep").err


def test_what_a_dead_pool_had_and_never_began_goes_back_to_that_pool(project):
    project.write(".farmx.yaml", "box: {EXECUTOR: local}\n")
    project.sweep("{n: [1, 2, 3]}", "sh t.sh", "BREAKER: 1\n")
    project.write("t.sh", "echo bad; exit 2\n")
    project.ok("sweep.yml", "--farm", "box")
    assert project.again() == {(1, 1): "failed", (2, 1): "staged", (3, 1): "staged"}
    project.write("t.sh", "exit 0\n")
    assert "      3 queued\n" in project.ok("retry", "sweep", "--release").err
    assert set(project.again().values()) == {"done"}
    assert len(list((project.experiment / ".farmx" / "submissions").glob("*/pool.log"))) == 2


# ---------------------------------------------------------------- the last lines: what to type next


def nexts(done: Done) -> list[str]:
    return [line.removeprefix("next  ") for line in done.err.splitlines() if line.startswith("next  ")]


def test_what_a_farm_takes_again_is_followed_as_after_a_launch(lost):
    done = lost.ok("retry", "sweep")
    (first,) = (run.name for run in lost.runs() if json.loads((run / "run.json").read_text())["hparams"]["n"] == 1)
    assert nexts(done) == ["farmx status sweep", f"farmx logs -f sweep/{first}", "farmx cancel sweep", "sumx sweep"]
    assert nexts(done) == nexts(lost.ok("sweep.yml", "--farm", "big"))


def test_a_retry_here_ends_as_a_launch_here_does(project):
    project.sweep("{n: [1, 2]}", "sh t.sh")
    project.write("t.sh", "echo $FARMX_RUN; exit 3\n")
    failed = ["sumx sweep", "farmx retry sweep  # 2 failed or cancelled"]
    assert nexts(project("sweep.yml", "-i")) == failed
    done = project("retry", "sweep", "-j", "2")
    assert (done.code, nexts(done), done.err.splitlines()[-3]) == (1, failed, "      2 failed")
    project.write("t.sh", "exit 0\n")
    (one, _) = project.runs()
    assert nexts(project("retry", one.name)) == ["sumx sweep"]
    other = ["sumx sweep", "farmx retry sweep  # 1 failed or cancelled"]
    assert nexts(project("retry", "sweep", "--state", "done")) == other
    assert nexts(project("retry", "sweep", "--state", "lost")) == []


STOP = 'kill -INT "$PPID"\nsleep 60\n'  # what Ctrl-C does to a command in the foreground


@pytest.fixture
def stopped(project):
    """Three runs here, of which the first failed and the others are done; what is begun next is stopped."""
    project.sweep("{n: [1, 2, 3]}", "sh t.sh")
    project.write("t.sh", 'test "$2" != 1\n')
    project("sweep.yml", "-i")
    assert project.again() == {(1, 1): "failed", (2, 1): "done", (3, 1): "done"}
    project.write("t.sh", STOP)
    return project


FAILED = "farmx retry sweep  # 1 failed or cancelled"
GO_ON = [
    ((), 0, [], "", "the rest"),
    (("--state", "failed"), 0, [], " --state failed,interrupted", "the rest"),
    (("--state", "failed,interrupted"), 0, [], "", "the rest"),
    (("--state", "done"), 1, [FAILED], " --state interrupted", "what was interrupted"),
    (("--state", "done,failed"), 2, [], " --state failed,interrupted", "what was interrupted"),
    (("--state=done",), 1, [FAILED], " --state interrupted", "what was interrupted"),
    (("--stage", "main"), 2, [], " --stage main --state failed,interrupted", "what was interrupted"),
]


@pytest.mark.parametrize(("argv", "waiting", "left", "more", "what"), GO_ON)
def test_a_stopped_retry_says_what_did_not_begin_and_what_goes_on_and_does_nothing_twice(
    stopped, argv, waiting, left, more, what
):
    done = stopped("retry", "sweep", "--code", "now", *argv)
    typed = "farmx retry sweep --code now" + (more or "".join(f" {word}" for word in argv))
    counts = ", ".join(["1 interrupted", *[f"{waiting} not begun"] * bool(waiting)])
    assert (done.code, nexts(done)) == (130, ["sumx sweep", *left, f"{typed}  # goes on with {what}"])
    assert f"      {counts}\nnext  sumx sweep\n" in done.err
    stopped.write("t.sh", "exit 0\n")
    before = len(list(stopped.experiment.glob("*/attempts/*")))
    stopped.ok(*typed.split()[1:])
    assert len(list(stopped.experiment.glob("*/attempts/*"))) - before == 1


def test_what_goes_on_is_told_once_where_that_is_what_runs_again_what_failed(project):
    project.sweep(cmd="sh t.sh")
    project.write("t.sh", "exit 3\n")
    project("sweep.yml", "-i")
    project.write("t.sh", f'test "$2" = 1 && exit 3\n{STOP}')
    done = project("retry", "sweep")
    assert nexts(done) == ["sumx sweep", "farmx retry sweep  # goes on with the rest"]
    assert "      1 failed, 1 interrupted\n" in done.err


def test_what_is_cancelled_while_it_is_under_way_here_can_be_retried(project):
    project.sweep("{n: [1, 2]}", "sh t.sh")
    project.write("t.sh", "sleep 60\n")
    launched = project.behind("sweep.yml", "-j", "2")
    until(lambda: len(list(project.experiment.glob("*/attempts/1.0/main.log"))) == 2)
    project.ok("cancel", "sweep")
    assert launched.wait() == 0
    told = (project.path.parent / "behind").read_text().splitlines()
    assert told[-3:] == ["      2 cancelled", "next  sumx sweep", "next  farmx retry sweep  # 2 failed or cancelled"]


DELETES = '[ -e "$SIDE.go" ] || exit 1\nrm -rf "$FARMX_LOGROOT"/b/[a-z]*\n'


@pytest.mark.parametrize("here", ["-i", "-j1"])
def test_a_run_that_is_deleted_while_others_are_under_way_here_is_said_and_no_more(project, here):
    project.write("note.sh", DELETES)
    for name in "ab":
        project.write(f"{name}.yml", "CMD: sh note.sh\n")
        assert project(f"{name}.yml", "-i").code == 1
    project.side.with_name("side.go").touch()
    done = project("retry", "a", "b", here, "--code", "own")
    assert done.code == 1
    assert "its directory was moved or deleted while it waited" in done.err


def test_what_became_of_names_of_any_length_stands_one_below_the_other(lost):
    short, *_ = lost.runs()
    short.rename(short.parent / "a")
    told = lost.ok("cancel", "sweep").out.splitlines()
    (at,) = {len(line) - len(line.split(maxsplit=1)[1]) for line in told}
    assert (at, len(told)) == (max(len(run.name) for run in lost.runs()) + 2, len(lost.runs()))
