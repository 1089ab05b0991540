import collections
import math
import os
import pickle
import sys
from pathlib import Path, PosixPath

import numpy
import pytest

from farmx import pickles
from farmx.errors import LogxError
from farmx.pickles import Torn

pytestmark = pytest.mark.usefixtures("torchless")

NAN = math.nan


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "ä ✓", b"\0", (1, (2,)), {3}, 1j, 10**50]},
        collections.OrderedDict(a=1),
        collections.deque([1]),
        bytearray(b"x"),
        slice(1, 2),
        NAN,
    ],
    ids=str,
)
def test_plain_values_come_back(tmp_path, value):
    path = tmp_path / "x.pth"
    with path.open("wb") as file:
        pickles.dump({"value": value}, file)
    assert str(pickles.load(str(path), True, "load_model")) == str({"value": value})


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["<f4", "i8", "?", "<U3", "S2", "M8[s]", "c16"])
def test_arrays_of_numpy_come_back(tmp_path, protocol, kind):
    path = tmp_path / "x.pth"
    array = numpy.zeros((2, 3), kind)
    path.write_bytes(pickle.dumps([array, array[0, 0], numpy.dtype(kind)], protocol=protocol))
    one, scalar, dtype = pickles.load(str(path), True, "load_model")
    assert (one.tolist(), one.dtype, scalar == array[0, 0], dtype) == (array.tolist(), array.dtype, True, array.dtype)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (Attack(), "posix.mkdir"),
        ({"x": [Attack()]}, "posix.mkdir"),
        (Path("x"), f"{PosixPath.__module__}.PosixPath"),
        (eval, "builtins.eval"),
        (numpy.array([Attack()], dtype=object), "posix.mkdir"),
        (numpy.load, "numpy.load"),
    ],
)
@pytest.mark.parametrize("what", ["load_model", "resume"])
def test_what_could_run_code_is_refused_and_the_way_around_told(tmp_path, monkeypatch, value, held, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pth").write_bytes(pickle.dumps(value))
    with pytest.raises(LogxError) as caught:
        pickles.load("x.pth", True, what)
    way = {"load_model": "path, weights_only=False", "resume": "weights_only=False"}[what]
    told = f"and loading that can run code; logx.{what}({way}) does it, if you trust the file"
    assert str(caught.value) == f"x.pth: holds {held}, {told}"
    assert not isinstance(caught.value, Torn) and os.listdir() == ["x.pth"]


def test_what_is_trusted_is_loaded_whatever_it_is(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Path("a")))
    assert pickles.load(str(tmp_path / "x.pth"), False, "resume") == Path("a")


@pytest.mark.parametrize("size", [0, 1, 5, 20, 40])
def test_a_torn_pickle_is_told_as_such(tmp_path, size):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"state_dict": {"w": 1}, "epoch": 1})[:size])
    for weights_only in (True, False):
        with pytest.raises(Torn, match=r"^[^\n]*x\.pth: torn: [^\n]+$"):
            pickles.load(str(path), weights_only, "resume")


@pytest.mark.parametrize("garbage", [b"garbage", b"\x80\x04", b"\x80\xff", b"(lp0\n", b"cos\nsystem", b"\xff" * 99])
def test_what_is_no_pickle_is_torn(tmp_path, garbage):
    (tmp_path / "x.pth").write_bytes(garbage)
    with pytest.raises(Torn):
        pickles.load(str(tmp_path / "x.pth"), True, "resume")


@pytest.mark.parametrize(("name", "why"), [("none.pth", "No such file or directory"), (".", "Is a directory")])
def test_what_is_not_there_is_told(tmp_path, name, why):
    with pytest.raises(LogxError) as caught:
        pickles.load(str(tmp_path / name), True, "load_model")
    assert str(caught.value) == f"{tmp_path / name}: cannot be read: {why}"


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."])
def test_a_file_of_torch_needs_torch(tmp_path, monkeypatch, head):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.pth").write_bytes(head + b"..." + b"PK\x05\x06" + b"\0" * 18)
    with pytest.raises(LogxError) as caught:
        pickles.load(str(tmp_path / "x.pth"), True, "load_model")
    told = "was written by torch, which cannot be imported here: import of torch halted; None in sys.modules"
    assert str(caught.value) == f"{tmp_path}/x.pth: {told}"


def test_a_torn_file_of_torch_is_torn_without_torch_too(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    with pytest.raises(Torn, match=r"x\.pth: torn$"):
        pickles.load(str(tmp_path / "x.pth"), True, "load_model")
