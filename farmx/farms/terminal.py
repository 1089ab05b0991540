"""Where a foreground run shows: its log and whoever sits at the terminal; never what runs there.

The log is the truth, and what is shown a courtesy: nothing waits for a reader that pauses.
"""

import fcntl
import math
import os
import select
import signal
import stat
import termios
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from farmx.processes import Console

_CHUNK = 65536


# ---------------------------------------------------------------- who looks on


class _Part(NamedTuple):
    """What is yet to be shown on descriptor `to`: `text`, or these bytes of the file `log`.

    That is opened for each look: who is behind with a thousand runs has not a thousand files open.
    """

    to: int
    text: bytes
    log: str = ""
    begin: int = 0
    end: int = 0

    def next(self) -> bytes:
        """What comes first of it; b"" when it cannot be read any more: its run was renamed or deleted, a disk fails."""
        if not self.log:
            return self.text
        try:
            with open(self.log, "rb", buffering=0) as file:
                return os.pread(file.fileno(), min(_CHUNK, self.end - self.begin), self.begin)
        except OSError:
            return b""

    def after(self, count: int) -> "_Part":
        """What is left of it after so many bytes."""
        return self._replace(text=self.text[count:], begin=self.begin + count)

    def empty(self) -> bool:
        """Whether that was all of it."""
        return not self.text and self.begin >= self.end


class Seat:
    """Whoever sits at our terminal or reads our output, from run to run: what they have yet to see, what they typed.

    What they are behind with is shown later, in order; a program's words are read again from its log by then.
    """

    def __init__(self) -> None:
        self.typed = b""  # and not yet read by any program
        self._behind: deque[_Part] = deque()
        self._ends: dict[int, tuple[int, bool]] = {}
        self._lost = False  # whether some of what they were behind with is gone
        self._waker: select.epoll | None = None  # can be read once they take more
        self._wakes = 0  # where: 1, 2; 0 for nowhere

    def put(self, text: bytes, to: int) -> None:
        """Show what is said on our output or errors (1, 2)."""
        self.flush()
        left = text if self._behind else self._given(to, text)
        if left:
            self._behind.append(_Part(to, left))

    def show(self, said: bytes, log: int | None) -> None:
        """Show what a program said; log: what it was appended to last, None where that could not take it."""
        self.flush()
        left = len(said if self._behind else self._given(1, said))
        if not left or log is None:
            return
        end = os.lseek(log, 0, os.SEEK_CUR)
        with suppress(OSError):
            part = _Part(1, b"", os.readlink(f"/proc/self/fd/{log}"), end - left, end)
            last = self._behind[-1] if self._behind else None
            if last and (last.log, last.end) == (part.log, part.begin):
                self._behind[-1] = last._replace(end=end)
            else:
                self._behind.append(part)

    def flush(self) -> None:
        """Show as much of what they are behind with as they take now."""
        while self._behind:
            part = self._behind[0]
            said = part.next()
            left = self._given(part.to, said)
            self._behind[0] = part.after(len(said) - len(left))
            if left:
                return
            self._lost = self._lost or not said
            if not said or self._behind[0].empty():
                self._behind.popleft()

    def behind(self) -> bool:
        """Whether there is something that they have yet to see."""
        return bool(self._behind)

    def descriptors(self) -> list[int]:
        """What can be read once they take more; flush() then."""
        to = self._behind[0].to if self._behind else 0
        if to != self._wakes:
            self._wakes = to
            self._wake(to)
        return [self._waker.fileno()] if self._waker is not None else []

    def _wake(self, to: int) -> None:
        """Be woken once more is taken there, and nowhere else: where there is room it would be at once, for ever."""
        if self._waker is not None:
            self._waker.close()
            self._waker = None
        if to and hasattr(select, "epoll"):  # else they see more with what comes next
            self._waker = select.epoll()
            with suppress(OSError):
                self._waker.register(self._end(to)[0], select.EPOLLOUT)

    def close(self, patience_s: float | None) -> bool:
        """All runs have ended: wait until what is behind was taken; whether all that was ever behind was shown.

        patience_s: how long at most where nothing is taken; None for as long as it lasts, or to Ctrl-C.
        """
        try:
            while self._behind and _ready(self._end(self._behind[0].to)[0], select.POLLOUT, patience_s):
                self.flush()
            return not self._behind and not self._lost
        finally:
            self._behind.clear()
            self.descriptors()
            for end in (end for to, (end, _) in self._ends.items() if end != to):
                os.close(end)
            self._ends.clear()

    def _given(self, to: int, text: bytes) -> bytes:
        """Write as much as is taken now, or all where nobody is there any more (`| head`); what is left."""
        end, asks = self._end(to)
        try:
            while text and not (asks and not _ready(end, select.POLLOUT)):
                text = text[os.write(end, text[: select.PIPE_BUF] if asks else text) :]
        except BlockingIOError:
            return text
        except OSError:
            return b""
        return text

    def _end(self, to: int) -> tuple[int, bool]:
        if to not in self._ends:
            self._ends[to] = _end(to)
        return self._ends[to]


def _end(to: int) -> tuple[int, bool]:
    """A descriptor that writes where `to` does and does not wait; whether it may, so that it is to be asked first.

    Of all but files it is one of our own: `to` itself is shared, and whoever shares it may wait.
    """
    try:
        if stat.S_ISREG(os.fstat(to).st_mode):
            return to, False
        return os.open(f"/proc/self/fd/{to}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), False
    except OSError:  # a socket, a terminal of somebody else's
        return to, True


def _ready(descriptor: int, event: int, patience_s: float | None = 0.0) -> bool:
    """Whether that can be done there, or fails at once, within so long; None for as long as it takes."""
    poller = select.poll()  # which takes any number, unlike select
    poller.register(descriptor, event)
    return bool(poller.poll(None if patience_s is None else math.ceil(patience_s * 1000)))


# ---------------------------------------------------------------- where programs speak


def console(seat: Seat) -> Console:
    """A pseudo-terminal where somebody sits at ours, so that pdb and progress bars work; else a plain copy."""
    try:
        seated = os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        seated = False
    return Terminal(seat) if seated else Tee(seat)


def _move(source: int, log: int, seat: Seat) -> int:
    """Move what a program said to its log and to our output; return how many bytes, 0 at the end.

    A full disk loses what the program said, never the run.
    """
    try:
        data = os.read(source, _CHUNK)
    except OSError:
        return 0
    kept: int | None = log
    try:
        left = data
        while left:
            left = left[os.write(log, left) :]
    except OSError:
        kept = None
    seat.show(data, kept)
    return len(data)


def _drain(source: int, log: int, seat: Seat) -> None:
    """Move what is left of a program that has gone; what it left behind may talk on, and is not listened to."""
    left = 2 * _CHUNK  # more than a pipe or a terminal holds
    while left > 0 and _ready(source, select.POLLIN):
        moved = _move(source, log, seat)
        left = left - moved if moved else 0


class Tee(Console):
    """The program's output goes to its log and to ours; its input is ours."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    def open(self, log: int) -> int:
        self._log = log
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        return self._writer

    def adopt(self) -> None:
        if os.isatty(0):  # a terminal that is not ours to read: we are in the background
            super().adopt()

    def descriptors(self) -> list[int]:
        return [self._reader, *self._seat.descriptors()]

    def pump(self, descriptor: int) -> None:
        if descriptor == self._reader:
            _move(descriptor, self._log, self._seat)
        else:
            self._seat.flush()

    def close(self) -> None:
        os.close(self._writer)
        _drain(self._reader, self._log, self._seat)
        os.close(self._reader)


class Terminal(Console):
    """The program sits at a terminal of its own; what is typed goes there, what it shows goes here and into its log.

    Ctrl-C stays with us, Ctrl-\\ is the program's, Ctrl-Z is nobody's. Our terminal is put back as it was when the
    program has gone; what was typed and it did not read is for the next.
    """

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    def open(self, log: int) -> int:
        self._log, self._hung_up = log, False
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self._saved = termios.tcgetattr(0)
        _set(self._slave, _plain_output(termios.tcgetattr(0)))  # with the keys and the encoding of ours
        _set(0, _keys_as_typed(termios.tcgetattr(0)))
        self._resize()
        self._winch = signal.signal(signal.SIGWINCH, lambda *_: self._resize())
        return self._slave

    def _resize(self) -> None:
        with suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def adopt(self) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)
        os.dup2(self._slave, 0)

    def descriptors(self) -> list[int]:
        self._hand_on()
        heard = [] if self._seat.typed or self._hung_up else [0]
        return [self._master, *heard, *self._seat.descriptors()]

    def pump(self, descriptor: int) -> None:
        if descriptor == self._master:
            _move(self._master, self._log, self._seat)
        elif descriptor == 0:
            with suppress(OSError):  # nobody is there any more; SIGHUP says so too
                self._seat.typed = os.read(0, _CHUNK)
            self._hung_up = not self._seat.typed
        else:
            self._seat.flush()

    def _hand_on(self) -> None:
        """Give the program what was typed, as much as it takes: one that does not read must not hold us up."""
        with suppress(BlockingIOError):
            while self._seat.typed:
                self._seat.typed = self._seat.typed[os.write(self._master, self._seat.typed) :]

    def _unread(self) -> bytes:
        """What the program was given and did not read."""
        attributes, unread = termios.tcgetattr(self._slave), b""
        ends = attributes[6][termios.VEOF]
        attributes[3] &= ~termios.ICANON  # half a line can be read, too
        attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 0, 0
        _set(self._slave, attributes)
        while more := os.read(self._slave, _CHUNK):
            unread += more
        return unread.replace(b"\0", ends)  # so it holds the end of input

    def close(self) -> None:
        _drain(self._master, self._log, self._seat)
        with suppress(OSError, termios.error):
            self._seat.typed = self._unread() + self._seat.typed
        with suppress(OSError, termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
        signal.signal(signal.SIGWINCH, self._winch)
        os.close(self._master)
        os.close(self._slave)


def _set(descriptor: int, attributes: list[Any]) -> None:
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def _plain_output(attributes: list[Any]) -> list[Any]:
    """Line ends as the program writes them: our terminal turns them, the log keeps them. No key suspends."""
    attributes[1] &= ~termios.ONLCR
    attributes[6][termios.VSUSP] = b"\0"
    return attributes


def _keys_as_typed(attributes: list[Any]) -> list[Any]:
    """Each key at once and unseen: the program's terminal echoes, edits and sends signals. Only Ctrl-C is ours."""
    attributes[0] &= ~termios.ICRNL
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
    attributes[6][termios.VSUSP] = attributes[6][termios.VQUIT] = b"\0"
    return attributes
