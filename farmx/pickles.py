"""How a checkpoint is written and read: by torch where it is loaded, else by pickle, and with the same care.

Never runs what a file holds unless asked to, never imports torch but for a file of torch's.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

from farmx.errors import LogxError

# How files of torch begin: a zip archive, and before torch 1.6 a pickled number of its own.
_ZIP = b"PK\x03\x04"
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP_END = b"PK\x05\x06"
_ZIP_TAIL = 66_000  # the end of a zip archive's directory lies within

# What a pickle without code may name: containers, numbers and what numpy's arrays are made of.
_PLAIN = {
    "builtins": {"bytearray", "complex", "frozenset", "range", "set", "slice"},
    "collections": {"OrderedDict", "deque"},
    "_codecs": {"encode"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
}

# What reading a damaged file raises, in pickle and in torch.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    MemoryError,
    OverflowError,
)


class Torn(LogxError):
    """The file is not whole, or no checkpoint."""


def dump(content: Mapping[str, Any], file: BinaryIO) -> None:
    """Write `content` with torch where it is loaded, else with pickle. Raises OSError, and LogxError when it cannot."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None:
            torch.save(content, file)
        else:
            pickle.dump(content, file)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error.__context__, OSError):  # torch hides a full disk behind an assertion of its own
            raise error.__context__ from error
        raise LogxError(f"save_model: save_dict cannot be saved: {_line(error)}") from error


def load(path: str, weights_only: bool, what: str) -> Any:
    """What the checkpoint at `path` holds, tensors on the CPU.

    Raises Torn when it is missing or damaged, LogxError when torch is needed and absent, and when weights_only
    refuses it: then the message says which argument of `what` allows it.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(len(_OLD_TORCH))
            if not head.startswith((_ZIP, _OLD_TORCH)):
                file.seek(0)
                return _unpickled(file, path, weights_only, what)
            whole = not head.startswith(_ZIP) or _ends(file)
    except OSError as error:
        raise Torn(f"{path}: cannot be read: {error.strerror}") from error
    if not whole:
        raise Torn(f"{path}: torn")
    return _by_torch(path, head.startswith(_ZIP), weights_only, what)


def _ends(file: BinaryIO) -> bool:
    """Whether a zip archive has its end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ZIP_TAIL))
    return _ZIP_END in file.read()


def _unpickled(file: BinaryIO, path: str, weights_only: bool, what: str) -> Any:
    try:
        return _Plain(file).load() if weights_only else pickle.load(file)
    except _Refused as error:
        raise _refusal(path, str(error), what) from error
    except _DAMAGE as error:
        raise Torn(f"{path}: torn: {_line(error)}") from error


def _by_torch(path: str, zipped: bool, weights_only: bool, what: str) -> Any:
    try:
        import torch  # only who has such a file needs it
    except ImportError as error:
        raise LogxError(f"{path}: was written by torch, which cannot be imported here: {_line(error)}") from error
    try:
        with _arrays_too(torch):
            return torch.load(path, map_location="cpu", weights_only=weights_only)
    except _DAMAGE as error:
        if weights_only and _is_refusal(error, zipped):
            named = re.search(r"GLOBAL (\S+)", str(error))
            raise _refusal(path, named[1] if named else "more than tensors and plain values", what) from error
        raise Torn(f"{path}: torn: {_line(error)}") from error


def _arrays_too(torch: Any) -> AbstractContextManager[Any]:
    """In it torch, from 2.5 on, takes numpy's arrays and scalars, as _Plain does."""
    numpy = sys.modules.get("numpy")  # torch imports it where it is installed
    if numpy is None or not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    makers = [made.__reduce__()[0] for made in (numpy.zeros(1), numpy.float64(0))]
    kinds = {type(numpy.dtype(code)) for code in numpy.typecodes["All"]}
    known: AbstractContextManager[Any] = torch.serialization.safe_globals([numpy.ndarray, numpy.dtype, *makers, *kinds])
    return known


def _is_refusal(error: BaseException, zipped: bool) -> bool:
    """Whether torch refused what a file holds: an archive's sums show damage before anything in it is read."""
    return isinstance(error, pickle.UnpicklingError) and (zipped or "nsupported" in str(error))


def _refusal(path: str, held: str, what: str) -> LogxError:
    way = f"logx.{what}({'path, ' if what == 'load_model' else ''}weights_only=False)"
    return LogxError(f"{path}: holds {held}, and loading that can run code; {way} does it, if you trust the file")


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class _Refused(pickle.UnpicklingError):
    pass


class _Plain(pickle.Unpickler):
    """Loads containers, numbers, text and numpy's arrays; calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in _PLAIN.get(module, ()):
            raise _Refused(f"{module}.{name}")
        return super().find_class(module, name)
