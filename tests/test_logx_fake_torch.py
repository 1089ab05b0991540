"""logx beside a torch that is loaded, where none is installed: a small package of that name, which tells its calls.

What it answers is what torch 2.13 does; tests/test_logx_torch.py asks that itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typed import write

ROOT = Path(__file__).resolve().parent.parent

TORCH = {
    "torch/__init__.py": r'''
import io, json, os, pickle, zipfile

def told(*call):
    with open("calls", "a") as file:
        file.write(json.dumps(call) + "\n")

told("import")

from torch import serialization

def save(content, file):
    told("save", content["epoch"])
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(content))
    try:
        file.write(whole.getvalue())
    except OSError:
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 19968 vs 19862")

def load(path, map_location=None, weights_only=False):  # what is not asked for is what torch 1.13 to 2.5 did
    told("load", os.path.basename(path), map_location, weights_only)
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read("data.pkl")
    except (zipfile.BadZipFile, KeyError):
        raise RuntimeError("[enforce fail at inline_container.cc:171] . archive does not contain any files")
    if weights_only and b"posix" in data:
        raise pickle.UnpicklingError(
            "Weights only load failed. In PyTorch 2.6, we changed ...\n\n"
            "Trying to load unsupported GLOBAL posix.mkdir whose module posix is blocked.\n\nCheck the ..."
        )
    if weights_only and b"pathlib" in data:
        raise pickle.UnpicklingError(
            "Weights only load failed. This file can still be loaded, to do so you have two options, \x1b[1mdo those "
            "steps only if you trust the source of the checkpoint\x1b[0m. \n\t(1) In PyTorch 2.6, we changed ...\n\t"
            "WeightsUnpickler error: Unsupported global: GLOBAL pathlib.PosixPath was not an allowed global by default."
            " Please use `torch.serialization.add_safe_globals([pathlib.PosixPath])` or ..."
        )
    return pickle.loads(data)
''',
    "torch/serialization.py": """
class safe_globals:
    def __init__(self, known):
        self.known = known

    def __enter__(self):
        from torch import told
        told("known", sorted(each.__module__ + "." + each.__name__ for each in self.known))

    def __exit__(self, *_):
        pass
""",
    "torch/utils/__init__.py": "",
    "torch/utils/tensorboard.py": """
from torch import told

class SummaryWriter:
    def __init__(self, folder):
        told("SummaryWriter", folder)

    def __getattr__(self, name):
        return lambda *args, **kwargs: told(name, args, kwargs)
""",
}


@pytest.fixture
def program(tmp_path):
    """program(code) -> what a python printed that found this torch and ran `code`, and the calls torch had of it."""
    write(tmp_path / "packages", TORCH)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}/packages", "PYTHONWARNINGS": "ignore"}

    def run(code: str) -> tuple[str, list]:
        words = [sys.executable, "-c", f"from farmx.logx import logx\n{code}"]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        calls = tmp_path / "calls"
        return done.stdout, [json.loads(call) for call in calls.read_text().splitlines()] if calls.exists() else []

    return run


SAVED = {"epoch": 3, "state_dict": {"w": 1}, "__metric": 0.5}


@pytest.mark.parametrize(
    ("asked", "weights_only"), [("", True), ("weights_only=True", True), ("weights_only=False", False)]
)
def test_a_checkpoint_is_torchs_and_is_loaded_to_the_cpu_as_carefully_as_asked(program, asked, weights_only):
    told, calls = program(f"""
import torch
logx.initialize('d')
logx.save_model({{'state_dict': {{'w': 1}}}}, 0.5, 3)
print(open('d/last_checkpoint_ep3.pth', 'rb').read(4))
print(logx.resume({asked}))
print(logx.load_model('d/best_checkpoint_ep3.pth', {asked}))""")
    assert told == f"{b'PK' + bytes([3, 4])}\n{SAVED}\n{({'w': 1}, {'epoch': 3, '__metric': 0.5})}\n"
    loads = [["load", f"{kind}_checkpoint_ep3.pth", "cpu", weights_only] for kind in ("last", "best")]
    assert calls == [["import"], ["save", 3], *loads]


def test_torch_is_not_imported_where_the_program_has_not(program):
    told, calls = program("""
logx.initialize('d', tensorboard=True)
logx.metric('val', {'acc': 0.5}, 0)
logx.save_model({'state_dict': {'w': 1}}, 0.5, 3)
print(logx.resume())""")
    assert (told, calls) == (f"{SAVED}\n", [])


def test_a_checkpoint_of_torchs_has_it_imported(program):
    program("import torch; logx.initialize('d'); logx.save_model({'state_dict': {'w': 1}}, 0.5, 3)")
    told, calls = program("logx.initialize('d'); print(logx.resume())")
    load = ["load", "last_checkpoint_ep3.pth", "cpu", True]
    assert (told, calls) == (f"{SAVED}\n", [["import"], ["save", 3], ["import"], load])


def test_what_torch_refuses_is_told_with_its_name_and_the_way_around(program, tmp_path):
    told, _ = program("""
import pathlib, torch
logx.initialize('d')
logx.save_model({'state_dict': {}, 'f': pathlib.Path('x')}, 0.5, 3)
path = 'd/last_checkpoint_ep3.pth'
for call in (logx.resume, lambda: logx.load_model(path)):
    try: call()
    except Exception as error: print(type(error).__name__, error)
print(logx.load_model(path, weights_only=False))""")
    held = "d/last_checkpoint_ep3.pth: holds pathlib.PosixPath, and loading that can run code; logx"
    assert told.splitlines() == [
        f"LogxError {tmp_path}/{held}.resume(weights_only=False) does it, if you trust the file",
        f"LogxError {held}.load_model(path, weights_only=False) does it, if you trust the file",
        str(({}, {"epoch": 3, "f": Path("x"), "__metric": 0.5})),
    ]


def test_what_torch_will_never_allow_is_refused_too_and_not_torn(program, tmp_path):
    told, _ = program("""
import os, torch
class Attack:
    def __reduce__(self):
        return os.mkdir, ('attacked',)
logx.initialize('d')
logx.save_model({'state_dict': {'w': Attack()}}, 0.5, 3)
try: logx.resume()
except Exception as error: print(type(error).__name__, error)""")
    held = "d/last_checkpoint_ep3.pth: holds posix.mkdir, and loading that can run code; logx"
    assert told == f"LogxError {tmp_path}/{held}.resume(weights_only=False) does it, if you trust the file\n"


def test_where_numpy_is_its_arrays_and_scalars_are_plain_values_to_torch(program):
    _, calls = program("""
import numpy, torch
logx.initialize('d')
logx.save_model({'state_dict': {'w': 1}}, 0.5, 3)
logx.resume()""")
    made = {"_reconstruct", "scalar", "ndarray", "dtype", "Float64DType", "BoolDType", "StrDType", "DateTime64DType"}
    (known,) = (names for call, *names in calls if call == "known")
    assert made <= {name.rpartition(".")[2] for name in known[0]}
    assert {name.partition(".")[0] for name in known[0]} == {"numpy"}


def test_what_torch_cannot_read_is_torn_and_passed_over(program, tmp_path):
    told, _ = program("""
import torch
logx.initialize('d')
logx.save_model({'state_dict': {'w': 1}}, 0.5, 3)
open('d/last_checkpoint_ep4.pth', 'wb').write(b'PK' + bytes([3, 4]) + b'x' * 99 + b'PK' + bytes([5, 6] + [0] * 18))
import os; os.unlink('d/checkpoints.json')
print(logx.resume())""")
    why = "torn: [enforce fail at inline_container.cc:171] . archive does not contain any files"
    over = "taking the next older checkpoint, if there is one"
    assert told == f"{tmp_path}/d/last_checkpoint_ep4.pth: {why}; {over}\n{SAVED}\n"


def test_a_full_disk_that_torch_hides_is_told_as_one(program, tmp_path):
    told, _ = program("""
import os, resource, torch
logx.initialize('d')
logx.save_model({'state_dict': {'w': 1}}, 0.5, 3)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try: logx.save_model({'state_dict': 'x' * 20_000}, 0.9, 4)
except Exception as error: print(type(error).__name__, error)
print(logx.resume())""")
    why = f"{tmp_path}/d/last_checkpoint_ep4.pth: cannot be written: File too large"
    assert told == f"LogxError {why}\n{SAVED}\n"


def test_what_is_drawn_goes_to_torchs_summary_writer_with_all_its_methods(program, tmp_path):
    told, calls = program("""
import torch
logx.initialize('d', tensorboard=True)
logx.metric('trn', {'loss': 0.5}, 3)
logx.tensorboard.add_graph('model', verbose=True)""")
    flush = ["flush", [], {}]
    assert calls[0:2] == [["import"], ["SummaryWriter", f"{tmp_path}/d"]] and told == ""
    assert [call for call in calls[2:] if call != flush] == [
        ["add_scalar", ["trn/loss", 0.5, 3], {}],
        ["add_graph", ["model"], {"verbose": True}],
        ["close", [], {}],
    ]
    assert calls.count(flush) == 2
