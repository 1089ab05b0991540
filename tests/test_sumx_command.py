"""sumx from the command line to the table: several experiments, states, csv, json, what cannot be read, runx's own."""

import json
import os
from pathlib import Path

import pytest
from conftest import BIN
from typed import Typed, ran, write

TRAIN = """
import sys
from farmx.logx import logx
lr, seed = float(sys.argv[2]), int(sys.argv[4])
logx.initialize()
for epoch in range(2):
    logx.metric("val", {"acc": 0.5 + lr + seed / 8 - epoch / 16, "loss": lr}, epoch)
    if lr == 0.25 and seed:
        sys.exit("no more")
"""
SWEEP = "CMD: python t.py\nHPARAMS: {lr: [0.125, 0.25], seed: [0, 1]}\n"


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> Path:
    """Two experiments: `sweep` of four runs, one failed, `other` of one."""
    place = tmp_path_factory.mktemp("sumx")
    write(place, {"sweep.yml": SWEEP, "other.yml": SWEEP.replace("[0.125, 0.25]", "0.5"), "t.py": TRAIN})
    env = {"HOME": str(place), "PATH": f"{BIN}:{os.environ['PATH']}"}
    assert ran("farmx sweep.yml -j 2 --tag run --no-cooldir", place, **env).code == 1
    assert ran("farmx other.yml -i --tag run --no-cooldir --first 1", place, **env).code == 0
    write(place / "runs", {
        "old/curious-rattlesnake_2020.02.06_14.19/hparams.json": '{"lr": 0.1, "logdir": "x", "command": "python t.py"}',
        "old/curious-rattlesnake_2020.02.06_14.19/metrics.csv":
            "val,acc,90.5,epoch,0,timestamp,100.0\nval,acc,91.0,epoch,1,timestamp,160.0\n",
        "old/plain/hparams.json": '{"lr": 0.2}',
        "old/plain/metrics.csv": "val,acc,89,epoch,0\nval,acc,",
    })  # fmt: skip
    return place


@pytest.fixture
def typed(launched, monkeypatch, capfd) -> Typed:
    return Typed(monkeypatch, capfd, launched)


def cells(text: str) -> list[list[str]]:
    """The words of each line but the rule."""
    lines = text.splitlines()
    return [line.split() for line in (lines[0], *lines[2:])]


def test_best_first_with_the_state_where_not_all_are_done(typed):
    said = typed("sumx sweep --sortwith acc --ignore epoch_time")
    assert (said.code, said.err) == (0, "")
    assert cells(said.out) == [
        ["run", "state", "lr", "seed", "acc", "loss", "acc-best", "acc-epoch", "epoch"],
        ["run_4", "failed", "0.25", "1", "0.875", "0.25", "0.875", "0", "0"],
        ["run_2", "done", "0.125", "1", "0.6875", "0.125", "0.75", "0", "1"],
        ["run_3", "done", "0.25", "0", "0.6875", "0.25", "0.75", "0", "1"],
        ["run", "done", "0.125", "0", "0.5625", "0.125", "0.625", "0", "1"],
    ]


@pytest.mark.parametrize(
    ("how", "first"),
    [("--sortwith acc", "run_4"), ("-s acc --min", "run"), ("-s loss", "run"), ("-s val/loss --max", "run_3")],
)
def test_the_way_that_is_better_can_be_turned(typed, how, first):
    assert json.loads(typed(f"sumx sweep {how} --json").out)[0]["run"] == first


def test_json_and_csv_have_the_fields_of_the_table(typed, tmp_path):
    table = typed("sumx sweep -s acc")
    rows = json.loads(typed("sumx sweep -s acc --json").out)
    alone = typed("sumx sweep -s acc --csv -")
    both = typed(f"sumx sweep -s acc --csv {tmp_path}/table.csv")
    head = table.out.splitlines()[0].split()
    assert [list(row) for row in rows] == [head] * 4
    assert alone.out.splitlines()[0].split(",") == head
    assert [line.split(",")[0] for line in alone.out.splitlines()[1:]] == [row["run"] for row in rows]
    assert (tmp_path / "table.csv").read_text() == alone.out
    assert both.out == table.out
    assert rows[0]["acc"] == 0.875


def test_several_experiments_are_one_table_each_run_once(typed):
    said = typed("sumx other sweep other runs/other --json --ignore epoch_time,loss")
    named = [(row["experiment"], row["run"], row["lr"]) for row in json.loads(said.out)]
    assert named == [
        ("other", "run", 0.5), ("sweep", "run", 0.125), ("sweep", "run_2", 0.125), ("sweep", "run_3", 0.25),
        ("sweep", "run_4", 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["sweep", "sweep/", "runs/sweep", "./runs/sweep/", "HERE/runs/sweep"])
def test_an_experiment_may_be_a_path(typed, name):
    assert typed(f"sumx {name}".replace("HERE", str(typed.cwd))) == typed("sumx sweep")


def test_an_experiment_may_be_shortened_while_it_is_unique(typed):
    assert typed("sumx sw --json") == typed("sumx sweep --json")
    assert typed("sumx o") == (2, "", "sumx: 'o' may be old or other; type more of it\n")


def test_a_path_means_the_same_from_elsewhere(typed, launched, monkeypatch):
    monkeypatch.setenv("FARMX_LOGROOT", str(launched / "runs"))
    expected = typed("sumx sweep")
    for cwd, name in ((launched / "runs", "./sweep"), (launched / "runs" / "sweep", "."), (Path("/"), "sweep")):
        typed.cwd = cwd
        assert typed(f"sumx {name}") == expected


def test_results_of_runx_are_read(typed):
    assert typed("sumx old -s acc") == (
        0,
        "run                                    lr  acc  acc-best  acc-epoch  epoch  epoch_time\n"
        "------------------------------------  ---  ---  --------  ---------  -----  ----------\n"
        "curious-rattlesnake_2020.02.06_14.19  0.1   91        91          1      1        1:00\n"
        "plain                                 0.2   89        89          0      0\n",
        "",  # a line without its end is one that is being written
    )
    rows = json.loads(typed("sumx old -s acc --json").out)
    assert [(row["run"], row["lr"], row["acc"], row["epoch"], row["epoch_time"]) for row in rows] == [
        ("curious-rattlesnake_2020.02.06_14.19", 0.1, 91.0, 1, 60.0),
        ("plain", 0.2, 89, 0, None),
    ]


def test_names_stay_whole_however_long(tmp_path, monkeypatch, capfd):
    name = "a-tag-with-every-hyperparameter-lr-0.001-seed-0_brawny-albatross_2026.11.21_05.36"
    write(tmp_path / "runs/sweep", {f"{name}/hparams.json": '{"a": 1}', "short/hparams.json": '{"a": 2}'})
    out = Typed(monkeypatch, capfd, tmp_path)("sumx sweep").out
    assert [line.split()[0] for line in out.splitlines()[2:]] == [name, "short"]


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, capfd):
    write(tmp_path / "runs/sweep", {"a/run.json": "{", "b/hparams.json": "3", "c/hparams.json": '{"lr": 1}'})
    said = Typed(monkeypatch, capfd, tmp_path)("sumx sweep --json")
    assert [row["run"] for row in json.loads(said.out)] == ["c"]
    home = tmp_path / "runs" / "sweep"
    assert said.err == (
        f"2 runs unreadable: {home}/a/run.json: cannot be read: it is not json; restore it or move it away; "
        f"{home}/b/hparams.json: not a record of ours; restore it or move it away\n"
    )


MISTAKES = [
    ("sumx sweep -s ac", "no run has a metric 'ac'; did you mean acc? known: acc, loss"),
    ("sumx sweep -s zzz", "no run has a metric 'zzz'; known: acc, loss"),
    ("sumx ./runs", "HERE/runs holds no runs; name an experiment; known: old, other, sweep"),
    ("sumx .", "HERE holds no runs; name an experiment; known: old, other, sweep"),
    ("sumx ''", "no experiment named '' in HERE/runs; known: old, other, sweep"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_one_line(typed, line, message):
    assert typed(line) == (2, "", f"sumx: {message}\n".replace("HERE", str(typed.cwd)))
