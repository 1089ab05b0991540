"""The examples, each run by the installed commands in a copy of its own, down to its table."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from launching import until
from own_farms import installed
from test_farmx_httpq import queue

__all__ = ["queue"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def example(tmp_path, monkeypatch):
    """example(name) -> a copy of it in a directory with a name that needs quoting."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # else threads of two runs at once burn their time in waiting

    def copy(name: str) -> Path:
        place = tmp_path / "it's a place" / name
        shutil.copytree(ROOT / "examples" / name, place, ignore=shutil.ignore_patterns("runs", "__pycache__"))
        return place

    return copy


def attempts(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.glob("runs/*/*/attempts/*"))


# ---------------------------------------------------------------- digits


def test_digits_trains_the_points_of_a_seed_and_a_value_added_later_and_sorts_the_table(example, shell):
    place = example("digits")
    sweep = place / "sweep.yml"
    assert len(shell("farmx sweep.yml -n", place).splitlines()) == 8
    # A quarter of the points: each loads scikit-learn.
    whole = sweep.read_text().replace("seed: [0, 1]", "seed: [1]").replace("[0.01, 0.1]", "0.1")
    sweep.write_text(whole.replace("[8, 64]", "64"))
    shell("farmx sweep.yml -i -j 2", place)
    first = attempts(place)
    sweep.write_text(whole)
    shell("farmx sweep.yml -i -j 2", place)
    every = attempts(place)
    assert (len(first), len(every)) == (1, 2) and set(first) < set(every)

    table = json.loads(shell("sumx sweep --sortwith acc --json", place))
    assert sorted(row["hidden"] for row in table) == [8, 64]
    best = [row["acc-best"] for row in table]
    assert best == sorted(best, reverse=True)
    assert best[0] > 0.95 and table[0]["hidden"] == 64
    assert [row["epoch"] for row in table] == [15] * 2

    shell("farmx sweep.yml -i -j 2", place)
    assert attempts(place) == every
    assert json.loads(shell("sumx sweep --sortwith acc --json", place)) == table


WAITS = """
        while epoch == 7 and __import__("os").path.exists({hold!r}):
            __import__("time").sleep(0.01)


if __name__"""


def test_digits_killed_goes_on_where_it_stopped_and_ends_as_if_it_had_not_been(example, shell):
    place = example("digits")
    sweep = place / "sweep.yml"
    sweep.write_text(re.sub(r"epochs: 15.*", "epochs: 40", sweep.read_text()))
    (hold := place.parent / "hold").touch()  # an epoch takes no time that a busy machine would notice
    train = (place / "train.py").read_text()
    (place / "train.py").write_text(train.replace("\n\n\nif __name__", WAITS.format(hold=str(hold))))
    launcher = subprocess.Popen(["farmx", "sweep.yml", "-i", "--first", "1"], cwd=place, stdin=subprocess.DEVNULL)
    until(lambda: [*place.glob("runs/sweep/*/last_checkpoint_ep7.pth")])
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    [log] = place.glob("runs/sweep/*/logging.log")
    assert len(log.read_text().splitlines()) == 7
    hold.unlink()

    shell("farmx sweep.yml -i --first 1", place)
    shell("farmx sweep.yml -i --first 1 --exp-name whole", place)
    whole, killed = (json.loads(shell(f"sumx {name} --sortwith acc --json", place)) for name in ("whole", "sweep"))
    timeless = {name: value for name, value in whole[0].items() if name not in ("run", "epoch_time")}
    assert {**killed[0], "run": None, "epoch_time": None} == {**timeless, "run": None, "epoch_time": None}
    said, unbroken = log.read_text().splitlines(), next(place.glob("runs/whole/*/logging.log")).read_text().splitlines()
    assert len(attempts(place)) == 3
    assert said[-1] == unbroken[-1] and len(said) <= len(unbroken) + 1  # at most the epoch it was killed in twice


# ---------------------------------------------------------------- a port from runx


def test_a_port_from_runx_changes_one_line():
    place = ROOT / "examples/runx_port"
    code = (place / "train.py").read_text()
    assert re.findall(r"^.*farmx.*$", code, re.MULTILINE) == [
        "from farmx.logx import logx  # was: from runx.logx import logx"
    ]
    assert "farmx" not in (place / "sweep.yml").read_text() + (place / ".runx").read_text()


def test_a_port_from_runx_prints_the_commands_runx_would(example, shell):
    place = example("runx_port")
    assert shell("farmx sweep.yml -n", place).splitlines() == [
        "python train.py --logdir LOGDIR --arch linear --lr 0.1 --epochs 10 --standardize",
        "python train.py --logdir LOGDIR --arch linear --lr 0.5 --epochs 10 --standardize",
        "python train.py --logdir LOGDIR --arch square --lr 0.1 --epochs 10 --standardize",
        "python train.py --logdir LOGDIR --arch square --lr 0.1 --epochs 10",
        "python train.py --logdir LOGDIR --arch square --lr 0.5 --epochs 10 --standardize",
        "python train.py --logdir LOGDIR --arch square --lr 0.5 --epochs 10",
    ]
    assert not (place / "runs").exists()


def test_a_port_from_runx_leaves_runxs_files_and_a_table(example, shell):
    place = example("runx_port")
    shell("farmx sweep.yml -i", place)
    runs = sorted(path for path in (place / "runs/sweep").iterdir() if not path.name.startswith("."))
    assert [path.name.split("_")[0] for path in runs] == ["linear"] * 2 + ["square"] * 4
    for run in runs:
        assert len(list(run.glob("best_checkpoint_ep*.pth"))) == 1
        assert [path.name for path in run.glob("last_checkpoint_ep*.pth")] == ["last_checkpoint_ep9.pth"]
        assert list(run.glob("events.out.tfevents.*"))
        assert (run / "logging.log").read_text().startswith("arguments: Namespace(")
    table = json.loads(shell("sumx sweep --sortwith accuracy --json", place))
    assert [row["arch"] for row in table][:2] == ["square", "square"]
    best = [row["accuracy-best"] for row in table]
    assert len(best) == 6 and best == sorted(best, reverse=True)


# ---------------------------------------------------------------- a program that knows nothing


def test_a_bare_program_gets_its_words_and_its_output_is_kept(example, shell):
    place = example("bare")
    shown = shell("farmx sweep.yml -i", place)
    last = {"3": "step 3: 1.4142156862745097", "20": "step 20: 1.414213562373095"}
    said = {}
    for run in (place / "runs/sweep").glob("[a-z]*"):
        values = json.loads((run / "hparams.json").read_text())
        said[values["of"], values["steps"]] = (run / "output.log").read_text().splitlines()
    assert sorted(said) == [(2, 3), (2, 20), (1e6, 3), (1e6, 20)]
    assert {key: (len(lines), lines[-1]) for key, lines in said.items()} == {
        key: (key[1] + 1, "it's $HOME; or not") for key in said
    }
    assert {steps: said[2, int(steps)][-2] for steps in last} == last
    assert shown.count("it's $HOME; or not\n") == 4
    assert len(shell("sumx sweep", place).splitlines()) >= 5


def test_a_line_of_shell_is_a_program_too(example, shell):
    place = example("bare")
    shell("farmx shell.yml -j 2", place)
    said = {}
    for run in (place / "runs/shell").glob("[a-z]*"):
        counts = (run / "counts").read_text().splitlines()
        said[json.loads((run / "hparams.json").read_text())["lines"]] = (run / "output.log").read_text().splitlines()
        assert sum(int(line.split()[0]) for line in counts) == len((place / "words.txt").read_text().split())
    assert said == {1: counts[:1], 3: counts[:3]}


# ---------------------------------------------------------------- a farm of one's own


def test_a_farm_of_ones_own_runs_the_sweep_beside_it(example, shell, monkeypatch, queue):
    place = example("own_farm")
    installed(place, "farmx-httpq", "httpq = farmx_httpq")
    monkeypatch.setenv("PYTHONPATH", str(place))
    settings = place / ".farmx.yaml"
    settings.write_text(settings.read_text().replace("http://127.0.0.1:8765", queue.url))
    shell("farmx sweep.yml", place)
    until(lambda: "4 runs: 4 done" in shell("farmx status sweep", place))
    said = sorted(path.read_text() for path in place.glob("runs/sweep/*/output.log"))
    assert said == [f"--lr {lr} --seed {seed}\n" for lr in ("0.01", "0.1") for seed in (0, 1)]


def test_every_example_has_its_tests():
    shown = re.findall(r"\| \[(\w+)\]", (ROOT / "examples/README.md").read_text())
    there = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())
    assert sorted(shown) == there
    assert set(re.findall(r'example\("(\w+)"\)', Path(__file__).read_text())) == set(there)
