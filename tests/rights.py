"""No more rights than the modes of files give, for tests that root runs; without pytest, for what is forked."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Rights(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@contextmanager
def ordinary_rights() -> Iterator[None]:
    """Even as root, the modes of files count for this thread: nothing is read or written that they forbid."""
    if os.geteuid():
        yield
        return
    libc, header = ctypes.CDLL(None, use_errno=True), _Header(0x20080522, 0)
    before, now = (_Rights * 2)(), (_Rights * 2)()
    for sets in (before, now):
        assert libc.capget(ctypes.byref(header), sets) == 0
    now[0].effective &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(ctypes.byref(header), now) == 0
    try:
        yield
    finally:
        assert libc.capset(ctypes.byref(header), before) == 0
