"""What logx writes to files line by line, and the numbers in it; never what the lines mean.

Imports no json, typing or re: a training script that only imports logx pays for it.
"""

from __future__ import annotations

import errno
import os
import time

from farmx import layout
from farmx.errors import LogxError, StageError

TYPE_CHECKING = False  # as typing's, which is not imported here
if TYPE_CHECKING:
    from typing import Any

SYNC_S = 5.0
TOO_LARGE = 1e300  # an int beyond it would become no float in a reader


class Lines:
    """A file to append lines to, each whole and with one write call; one thread at a time.

    Raises LogxError when it cannot be opened or written. After a line that was cut off, by a full disk or by the death
    of whoever wrote before us, the next one starts afresh.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._synced = 0.0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            size = os.fstat(self._fd).st_size
            self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise unwritable(path, error) from error
        self.empty = size == 0

    def append(self, line: bytes) -> None:
        """Add `line`, which ends in a newline; when this returns, it survives the death of the process."""
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                self._torn = True
                line = line[written:]
                written = os.write(self._fd, line)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._torn = False

    def sync(self, every_s: float = SYNC_S) -> None:
        """Make what was appended visible to other nodes, unless that was done less than `every_s` seconds ago."""
        now = time.monotonic()
        if now - self._synced < every_s:
            return
        self._synced = now
        try:
            os.fsync(self._fd)
            gone = os.fstat(self._fd).st_nlink == 0
        except OSError as error:
            if error.errno == errno.EINVAL:  # a device or a pipe: nothing to sync
                return
            raise unwritable(self._path, error) from error
        if gone:
            raise LogxError(f"{self._path}: was removed while it was written; what was logged there is lost")

    def close(self) -> None:
        """Sync, then let go of the file."""
        try:
            self.sync(every_s=0.0)
        finally:
            os.close(self._fd)


def number(value: Any, what: str) -> float:
    """`value` as an int or a float; of what has one element (a tensor, a numpy scalar), that.

    Raises LogxError, which begins with `what`.
    """
    if not isinstance(value, (int, float)) and hasattr(value, "item"):
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError) as error:
            raise LogxError(f"{what}: a {type(value).__name__} of one element is a number, this one is not") from error
    if isinstance(value, float):
        return float(value)
    if not hasattr(type(value), "__float__"):
        raise LogxError(f"{what}: {short(value)} is not a number")
    try:
        return int(value) if isinstance(value, int) and -TOO_LARGE < value < TOO_LARGE else float(value)
    except (OverflowError, ValueError, TypeError) as error:
        raise LogxError(f"{what}: {type(value).__name__} too large for a number") from error


def mapping(what: str, values: Any) -> dict[Any, Any]:
    """`values`, a dict or a Namespace of argparse's, as a dict. Raises LogxError, which begins with `what`."""
    try:
        return dict(values if hasattr(values, "keys") else getattr(values, "__dict__", values))
    except (TypeError, ValueError) as error:
        raise LogxError(f"{what}: {short(values)} is not a dict") from error


def short(value: Any) -> str:
    """`value` for a message of one line."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def unwritable(path: str, error: OSError) -> LogxError:
    """What to raise when `path` could not be written."""
    return LogxError(f"{path}: cannot be written: {error.strerror}")


def keep(path: str, values: dict[str, Any]) -> None:
    """Put `values` at `path` as json, unless there is something already. Raises LogxError."""
    if os.path.exists(path):
        return
    try:
        layout.write_json(path, values)
    except StageError as error:
        raise LogxError(str(error)) from error


def plain(value: Any) -> Any:
    """`value` as json can hold it; what it cannot, as text."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    try:
        return layout.number(number(value, ""))
    except LogxError:
        return str(value)
