"""logx where torch is loaded; skipped where it is not installed, which farmx never requires."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from test_pickles import Attack

from farmx.errors import LogxError
from farmx.logx import LogX

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def logx(tmp_path):
    made = LogX()
    made.initialize(tmp_path / "d")
    yield made
    made._close()


@pytest.fixture
def folder(logx):
    return Path(logx.logdir)


def last_row(folder: Path) -> dict:
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (lambda: torch.tensor(2.5), 2.5),
        (lambda: torch.tensor([[3]]), 3),
        (lambda: torch.tensor(True), 1),
        (lambda: torch.tensor(1.0, requires_grad=True) * 2, 2.0),
        (lambda: torch.tensor(float("nan")), "NaN"),
        (lambda: torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    ],
)
def test_a_tensor_of_one_element_is_a_number(logx, folder, value, told):
    logx.metric("val", {"x": value()}, torch.tensor(3))
    assert (last_row(folder)["step"], last_row(folder)["metrics"]) == (3, {"x": told})


def test_a_tensor_of_several_is_refused(logx):
    with pytest.raises(LogxError) as caught:
        logx.metric("val", {"x": torch.zeros(2)})
    assert str(caught.value) == "metric 'x': a Tensor of one element is a number, this one is not"


def test_a_checkpoint_is_torchs_and_comes_back(logx, folder):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2)).backward()
    optimizer.step()
    state = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "arch": "it's ✓", "epoch": 8}
    assert logx.save_model(state, torch.tensor(0.5), 7) is True
    loaded = torch.load(folder / "best_checkpoint_ep7.pth", weights_only=True)
    assert set(loaded) == {*state, "__metric"} and loaded["__metric"] == 0.5 and "__metric" not in state
    weights, meta = logx.load_model(logx.get_best_checkpoint())
    assert torch.equal(weights["weight"], model.weight) and (meta["arch"], meta["epoch"]) == ("it's ✓", 8)
    again = LogX()
    again.initialize(folder)
    torch.optim.Adam(model.parameters()).load_state_dict(again.resume()["optimizer"])
    again.metric("val", {})
    assert last_row(folder)["step"] == 8
    again._close()


def test_a_restart_whose_best_metric_was_a_numpy_scalar_works(logx, folder):
    logx.save_model({"state_dict": {}}, numpy.float64(0.5), 0)  # runx could not be initialized after this
    again = LogX()
    again.initialize(folder)
    assert again.save_model({"state_dict": {}}, numpy.float64(0.4), 1) is False
    again._close()


@pytest.mark.parametrize(
    ("metric", "known"), [(0.9, True), (numpy.float64(0.9), True), (torch.tensor(0.9), True), (Fraction(9, 10), False)]
)
def test_the_best_of_runx_itself_is_compared_with_or_kept(logx, folder, metric, known, capsys):
    torch.save({"state_dict": {}, "__metric": metric}, folder / "best_checkpoint_ep4.pth")
    assert logx.save_model({"state_dict": {}}, 0.5, 5) is not known
    assert (folder / "best_checkpoint_ep4.pth").exists()
    assert ("is not compared with, and stays" in capsys.readouterr().out) is not known


@pytest.mark.parametrize(
    "value",
    [
        numpy.float64(0.5),
        numpy.float32(0.5),
        numpy.int64(5),
        numpy.bool_(True),
        numpy.str_("ä"),
        numpy.ones((2, 3)),
        numpy.asfortranarray(numpy.ones((2, 3), "<f4")),
        numpy.array(["a", "ß"]),
        numpy.array(["2026-01-01"], "M8[D]"),
        numpy.zeros(2, [("a", "f4"), ("b", "i2")]),
        numpy.array([1, "a", None], dtype=object),
        numpy.dtype("f4"),
    ],
    ids=repr,
)
def test_arrays_and_scalars_of_numpy_are_plain_values_to_torch_too(logx, value):
    before = torch.serialization.get_safe_globals()
    logx.save_model({"state_dict": {}, "x": value, "rng": numpy.random.get_state()}, 0.5, 1)
    found = logx.resume()
    assert (type(found["x"]), repr(found["x"])) == (type(value), repr(value))
    assert (found["rng"][1] == numpy.random.get_state()[1]).all()
    assert torch.serialization.get_safe_globals() == before


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (Attack(), "posix.mkdir"),
        (numpy.array([Attack()], dtype=object), "posix.mkdir"),
        (numpy.load, "numpy.load"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_could_run_code_is_refused_and_not_taken_for_torn(logx, folder, monkeypatch, value, held, zipped):
    monkeypatch.chdir(folder)
    logx.save_model({"state_dict": {}}, 0.5, 1)
    path = folder / "last_checkpoint_ep1.pth"
    torch.save({"state_dict": {}, "x": value}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(LogxError) as caught:
        logx.resume()
    told = "and loading that can run code; logx.resume(weights_only=False) does it, if you trust the file"
    assert str(caught.value) == f"{path}: holds {held}, {told}"
    assert not (folder / "attacked").exists()


def test_what_torch_refuses_is_told_with_the_way_around(logx, folder):
    torch.save({"state_dict": {}, "args": Path("x")}, folder / "last_checkpoint_ep1.pth")
    path = folder / "last_checkpoint_ep1.pth"
    for call, way in [(logx.resume, "resume("), (lambda: logx.load_model(path), "load_model(path, ")]:
        with pytest.raises(LogxError) as caught:
            call()
        told = f"and loading that can run code; logx.{way}weights_only=False) does it, if you trust the file"
        assert str(caught.value) == f"{path}: holds pathlib.PosixPath, {told}"
    assert logx.load_model(path, weights_only=False) == ({}, {"args": Path("x")})


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_torn_file_is_passed_over(logx, folder, capsys, part, zipped):
    logx.save_model({"state_dict": {"w": torch.ones(1000)}}, 0.5, 1)
    torn = folder / "last_checkpoint_ep2.pth"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, torn, _use_new_zipfile_serialization=zipped)
    os.truncate(torn, int(torn.stat().st_size * part))
    (folder / "checkpoints.json").unlink()
    assert torch.equal(logx.resume()["state_dict"]["w"], torch.ones(1000))
    said = capsys.readouterr().out
    assert said.startswith(f"{torn}: torn") and said.count("\n") == 1


def test_a_checkpoint_pickled_without_torch_is_read_with_it_and_the_other_way_round_needs_torch(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}

    def program(code: str) -> str:
        code = f"from farmx.logx import logx\nlogx.initialize('d')\n{code}"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert program("logx.save_model({'state_dict': {'w': 1}}, 0.5, 0)") == ""
    assert program("import torch; print(logx.resume()['state_dict'])") == "{'w': 1}\n"
    assert program("import torch; logx.save_model({'state_dict': {'w': torch.ones(1)}}, 0.6, 1)") == ""
    assert program("print(logx.resume()['state_dict'])") == "{'w': tensor([1.])}\n"
    absent = "import sys; sys.modules['torch'] = None\nlogx.resume()"
    assert f"{tmp_path}/d/last_checkpoint_ep1.pth: was written by torch, which cannot be imported" in program(absent)


def test_a_full_disk_is_told_and_leaves_all_as_it_was(tmp_path):
    code = """
import os, resource, torch
from farmx.logx import logx
logx.initialize('d')
logx.save_model({'state_dict': {}}, 0.5, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try: logx.save_model({'state_dict': {'w': torch.ones(100_000)}}, 0.9, 1)
except Exception as error: print(type(error).__name__, error)
print(sorted(os.listdir('d')))"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    names = ["best_checkpoint_ep0.pth", "checkpoints.json", "last_checkpoint_ep0.pth", "logging.log", "metrics.jsonl"]
    told = f"{tmp_path}/d/last_checkpoint_ep1.pth: cannot be written: File too large"
    assert done.stdout.splitlines() == [f"LogxError {told}", str(names)], done.stderr


def test_the_proxy_is_torchs_summary_writer(tmp_path):
    code = """
import torch
from farmx.logx import logx
logx.initialize('d', tensorboard=True, hparams={'lr': 0.1})
logx.metric('val', {'acc': torch.tensor(0.5)}, 3)
logx.add_image('a', torch.zeros(3, 2, 2), 0)
logx.add_image('b', torch.zeros(2, 2, 3), 0)
logx.tensorboard.add_scalars('both', {'x': 1, 'y': 2}, 0)
logx.tensorboard.add_embedding(torch.zeros(2, 2))
print(type(logx._board).__name__)"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["SummaryWriter"], 0), done.stderr
    read = """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator('d'); events.Reload()
print([(one.step, one.value) for one in events.Scalars('val/acc')], sorted(events.Tags()['images']))"""
    done = subprocess.run([sys.executable, "-c", read], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "[(3, 0.5)] ['a', 'b']\n", done.stderr
