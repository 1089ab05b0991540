"""Every format ever written stays readable: tests/data has a record of each, as it was written then."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typed import Typed

from farmx import breaker, claims, layout, outbox, records, status

DATA = Path(__file__).parent / "data"
LAUNCH = "launch-1/sweep/.farmx"
RECORDS = {
    ("RUN", 1): "run-1/sweep/one/run.json",
    ("RUN", 2): "launch-1/sweep/r/run.json",
    ("POINTS", 1): "points-1/sweep/.farmx/points/1",
    ("JOB", 1): f"{LAUNCH}/submissions/*/job.json",
    ("LAUNCH", 1): f"{LAUNCH}/launches/*.json",
    ("BREAKER", 1): f"{LAUNCH}/submissions/*/breaker.json",
    ("ATTEMPT", 1): "launch-1/sweep/r*/attempts/1.0/[eo][nw]*.json",
    ("CHECKPOINTS", 1): "launch-1/sweep/r/checkpoints.json",
    ("OUTBOX", 1): f"{LAUNCH}/outbox/*",
}


def test_there_is_a_record_of_every_format():
    formats = {name[: -len("_FORMAT")]: getattr(layout, name) for name in vars(layout) if name.endswith("_FORMAT")}
    assert sorted(RECORDS) == sorted((name, each) for name, newest in formats.items() for each in range(1, newest + 1))


@pytest.mark.parametrize(("record", "place"), RECORDS.items(), ids=[f"{name} {each}" for name, each in RECORDS])
def test_each_says_its_format(record, place):
    paths = list(DATA.glob(place))
    assert paths
    assert {json.loads(path.read_text())["format"] for path in paths} == {record[1]}


@pytest.fixture
def typed(monkeypatch, capfd, tmp_path):
    """A directory with the experiment that was launched then."""
    shutil.copytree(DATA / "launch-1", tmp_path / "runs", symlinks=True)
    return Typed(monkeypatch, capfd, tmp_path)


def test_a_launch_of_then_is_read(typed):
    home = typed.cwd / "runs/sweep"
    found = {run.name: (run.state.value, run.hparams, run.note) for run in status.of(str(home), ["r", "r_2"]).runs}
    assert found == {"r": ("done", {"n": 1}, ""), "r_2": ("failed", {"n": 2}, "main exited with 1")}
    (launch,) = records.launches(str(home))
    assert launch["argv"][1:] == ["sweep.yml", "-j", "1", "--no-cooldir", "--tag", "r"]
    assert launch["counts"] == {"new": 4}
    (submission,) = (home / ".farmx/submissions").iterdir()
    assert layout.runs_of(str(submission)) == [("r", (1, 0)), ("r_2", (1, 0))]
    assert breaker.held(str(submission)) == ""
    assert sorted(message.record["event"] for message in outbox.waiting(str(home))) == ["ended", "failed"]
    table = typed("sumx sweep").out.splitlines()
    assert [re.split(r"\s{2,}", line)[:3] for line in table[2:4]] == [["r", "done", "1"], ["r_2", "failed", "2"]]
    assert "ValueError: bad data" in typed("farmx why r_2").out


def test_a_run_of_then_is_attempted_again(typed):
    done = typed("farmx retry sweep --code own --state failed -i")
    assert (done.code, "FAIL" in done.err or "failed" in done.err) == (1, True), done.err
    assert json.loads((typed.cwd / "runs/sweep/r_2/attempts/2.0/end.json").read_text())["state"] == "failed"


HELD = [  # an experiment of then -> who holds its points; launch-1 has a symlink for each
    ("launch-1", {"p1-5750bcff953bb161a698": "r_2", "p1-7e280cb614b165248c89": "r"}),
    ("points-1", {"p1-7e280cb614b165248c89": "r", "p1-0123456789abcdef0123": None}),
]


@pytest.mark.parametrize(("name", "runs"), HELD)
def test_the_claims_of_then_are_followed(name, runs):
    assert {identity: holder.run for identity, holder in claims.holders(str(DATA / name / "sweep")).items()} == runs
