"""Where a foreground run shows: its log and whoever sits at the terminal; never what runs there."""

import fcntl
import os
import select
import signal
import sys
import termios
from contextlib import suppress
from typing import Any

from farmx.processes import Console

_CHUNK = 65536


def console() -> Console:
    """A pseudo-terminal where somebody sits at ours, so that pdb and progress bars work; else a plain copy."""
    try:
        seated = os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        seated = False
    return Terminal() if seated else Tee()


def _show(data: bytes) -> None:
    """Write to our own output; a reader that went away (`| head`) does not end the run."""
    with suppress(OSError):
        if sys.stdout:
            sys.stdout.flush()
        _write(1, data)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _move(source: int, log: int) -> int:
    """Move what a program said to its log and to our output; return how many bytes, 0 at the end.

    A full disk loses what the program said, never the run.
    """
    try:
        data = os.read(source, _CHUNK)
    except OSError:
        return 0
    with suppress(OSError):
        _write(log, data)
    _show(data)
    return len(data)


def _drain(source: int, log: int) -> None:
    """Move what is left of a program that has gone; what it left behind may talk on, and is not listened to."""
    left = 2 * _CHUNK  # more than a pipe or a terminal holds
    while left > 0 and select.select([source], [], [], 0)[0]:
        moved = _move(source, log)
        left = left - moved if moved else 0


class Tee(Console):
    """The program's output goes to its log and to ours; its input is ours."""

    def open(self, log: int) -> int:
        self._log = log
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        return self._writer

    def adopt(self) -> None:
        if os.isatty(0):  # a terminal that is not ours to read: we are in the background
            super().adopt()

    def descriptors(self) -> list[int]:
        return [self._reader]

    def pump(self, descriptor: int) -> None:
        _move(descriptor, self._log)

    def close(self) -> None:
        os.close(self._writer)
        _drain(self._reader, self._log)
        os.close(self._reader)


class Terminal(Console):
    """The program sits at a terminal of its own; what is typed goes there, what it shows goes here and into its log.

    Ctrl-C stays with us, Ctrl-\\ is the program's, Ctrl-Z is nobody's. Our terminal is put back as it was when the
    program has gone.
    """

    def open(self, log: int) -> int:
        self._log, self._hung_up = log, False
        self._typed = b""  # and not yet taken by the program
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
        return [self._master] if self._typed or self._hung_up else [self._master, 0]

    def pump(self, descriptor: int) -> None:
        if descriptor == self._master:
            _move(self._master, self._log)
            return
        with suppress(OSError):  # nobody is there any more; SIGHUP says so too
            self._typed = os.read(0, _CHUNK)
        self._hung_up = not self._typed

    def _hand_on(self) -> None:
        """Give the program what was typed, as much as it takes: one that does not read must not hold us up."""
        with suppress(BlockingIOError):
            while self._typed:
                self._typed = self._typed[os.write(self._master, self._typed) :]

    def close(self) -> None:
        _drain(self._master, self._log)
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
