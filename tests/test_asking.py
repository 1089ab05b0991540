"""Who looks at several experiments or names many runs calls a scheduler once, and reads each experiment once."""

import os
import shutil
from pathlib import Path

import pytest
from launching import Place
from schedulers import Scheduler
from typed import Typed

from farmx import layout, naming, status
from farmx.farms import base
from farmx.spec import Job, State

EXPERIMENTS = ("a", "b", "it's $HOME; größe")
RUNS = ("one", "two", "three")
QUEUED = (State.QUEUED, "others go before it")
POLL = "%K|%T|%r|%j"


@pytest.fixture
def root(tmp_path) -> Path:
    """Experiments whose runs wait in Slurm, each in an array of its own."""
    for number, name in enumerate(EXPERIMENTS):
        queued(Place(tmp_path, name), f"id{number}")
    return tmp_path / "logs"


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Scheduler:
    made = Scheduler(tmp_path / "bin", monkeypatch)
    lines = (f"{place}|PENDING|Priority|sweep.id{number}\n" for number in range(len(EXPERIMENTS)) for place in range(3))
    made.says("squeue", "".join(lines))
    return made


@pytest.fixture
def typed(root, fake, monkeypatch, capfd) -> Typed:
    monkeypatch.setenv("COLUMNS", "200")
    return Typed(monkeypatch, capfd, root.parent)


def queued(place: Place, name: str, executor: str = "slurm") -> None:
    made = place.submission(*[Job(place.run(name=run), "1.0") for run in RUNS], name=name)
    record = {"format": 1, "executor": executor, "farm": "big", "name": f"sweep.{name}", "user": "root"}
    layout.write_json(os.path.join(made.path, layout.JOB), record)
    base.record_queued(made.path, 0, len(RUNS) - 1, "7")


def states(looks: dict[str, status.Look]) -> dict[str, list[tuple[State, str]]]:
    return {os.path.basename(home): [(run.state, run.note) for run in look.runs] for home, look in looks.items()}


def polls(fake: Scheduler) -> int:
    return sum(POLL in words for words in fake.calls("squeue"))


def test_all_experiments_are_asked_for_in_one_call_and_not_again_at_once(root, fake, tmp_path):
    for _ in range(2):
        assert states(status.every(str(root), str(tmp_path / "cache"))) == {name: [QUEUED] * 3 for name in EXPERIMENTS}
    assert polls(fake) == 1


def test_who_asked_for_one_experiment_lets_the_answers_for_another_stand(root, fake, tmp_path):
    for name in EXPERIMENTS * 2:
        look = status.read(str(root), name, str(tmp_path / "cache"))
        assert [(run.state, run.note) for run in look.runs] == [QUEUED] * 3
    assert polls(fake) == len(EXPERIMENTS)


NAMED = [[f"{name}/{run}" for name in EXPERIMENTS for run in RUNS], list(EXPERIMENTS), ["a", "b/two", "b/one", "a/one"]]


@pytest.mark.parametrize("names", NAMED)
def test_what_is_named_is_asked_for_in_one_call_and_each_list_of_runs_is_read_once(root, fake, monkeypatch, names):
    read: list[str] = []
    held = base.held
    monkeypatch.setattr(base, "held", lambda path, record: read.append(path) or held(path, record))
    found = [(run.experiment, run.name, run.state, run.note) for run in naming.find(str(root), names)]
    meant = {name: RUNS if "/" not in name else (name.partition("/")[2],) for name in names}
    expected = [(name.partition("/")[0], run, *QUEUED) for name, runs in meant.items() for run in runs]
    assert found == list(dict.fromkeys(expected))
    assert (polls(fake), len(read)) == (1, len({name.partition("/")[0] for name in names}))


COMMANDS = ["farmx status", "farmx status --json", "farmx status a b", "farmx status a/one b/two a/three",
            "sumx a b", "farmx tend", "farmx tend a b/one", "farmx retry a/one a/two b/one",
            "farmx cancel a/one a/two b/one"]  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_polls_a_scheduler_once(typed, fake, line):
    said = typed(f"{line} --logroot logs")
    assert (said.code, said.err.count("Traceback"), polls(fake)) == (0, 0, 1)


def test_runs_are_shown_in_the_order_in_which_they_were_named(typed, fake):
    said = typed("farmx status --logroot logs b/two a/three b/one a")
    assert [line.split()[0] for line in said.out.splitlines()[1:-1]] == [
        "b/two", "b/one", "a/three", "a/one", "a/two",
    ]  # fmt: skip


def test_the_jobs_of_a_copied_experiment_are_known_in_both(root, fake):
    shutil.copytree(root / "a", root / "copy", symlinks=True)
    expected = {name: [QUEUED] * 3 for name in sorted((*EXPERIMENTS, "copy"))}
    assert states(status.every(str(root))) == expected


# ---------------------------------------------------------------- what cannot be asked, or read


UNASKED = "a submission was queued by an executor 'gone'; install what brings it, or upgrade farmx, to read it"


def test_a_farm_that_cannot_be_asked_is_unknown_and_keeps_nobody_from_the_others(root, fake, typed):
    queued(Place(root.parent, "c"), "id9", executor="gone")
    looks = status.every(str(root), None)
    assert states(looks) == {"a": [QUEUED] * 3, "b": [QUEUED] * 3, "c": [(State.UNKNOWN, UNASKED)] * 3,
                             EXPERIMENTS[2]: [QUEUED] * 3}  # fmt: skip
    for line in ("farmx status", "farmx status a c", "sumx a c"):
        said = typed(f"{line} --logroot logs")
        assert (said.code, said.err) == (0, ""), line
        assert "unknown" in said.out


@pytest.mark.parametrize("damage", ["{", None])
def test_an_experiment_that_cannot_be_read_is_a_problem_of_its_own(root, fake, typed, damage):
    folder = root / "b" / ".farmx" / "submissions"
    if damage is None:
        shutil.rmtree(folder)
        folder.symlink_to("submissions")
        problem = f"{folder}: cannot be read: Too many levels of symbolic links"
    else:
        (folder / "id1" / "job.json").write_text(damage)
        problem = f"{folder}/id1/job.json: cannot be read: it is not json; restore it or move it away"
    looks = status.every(str(root), None)
    assert states(looks) == {"a": [QUEUED] * 3, "b": [], EXPERIMENTS[2]: [QUEUED] * 3}
    assert {name: look.problems for name, look in looks.items() if look.problems} == {"b": (problem,)}
    said = typed(f"farmx status --logroot {root}")
    assert (said.code, said.err) == (0, f"unreadable: {problem}\n")
    assert said.out == (
        f"a                  3 runs: 3 queued; 0:00 spent\nb                  cannot be read\n"
        f"{EXPERIMENTS[2]}  3 runs: 3 queued; 0:00 spent\nin {root}\n"
    )
