"""Where a foreground run shows: its log and whoever sits at the terminal; never what runs there."""

import fcntl
import os
import signal
import sys
import termios
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
    sys.stdout.flush()
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return


def _keep(log: int, data: bytes) -> None:
    """Write to the log; a full disk loses what the program said, never the run."""
    try:
        while data:
            data = data[os.write(log, data) :]
    except OSError:
        return


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
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        _keep(self._log, data)
        _show(data)

    def close(self) -> None:
        os.close(self._writer)
        while _readable(self._reader):
            self.pump(self._reader)
        os.close(self._reader)


def _readable(descriptor: int) -> bool:
    """Whether there is something to read; the end of the stream is not something."""
    count = bytearray(4)
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, count)
    except OSError:
        return False
    return any(count)


class Terminal(Console):
    """The program sits at a terminal of its own; what is typed goes there, what it shows goes here and into its log.

    Ctrl-C stays with us, Ctrl-Z is nobody's. Our terminal is put back as it was when the program has gone.
    """

    def open(self, log: int) -> int:
        self._log, self._typed = log, True
        self._master, self._slave = os.openpty()
        self._saved = termios.tcgetattr(0)
        _set(self._slave, _plain_output(termios.tcgetattr(self._slave)))
        _set(0, _keys_as_typed(termios.tcgetattr(0)))
        self._resize()
        self._winch = signal.signal(signal.SIGWINCH, lambda *_: self._resize())
        return self._slave

    def _resize(self) -> None:
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def adopt(self) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)
        os.dup2(self._slave, 0)

    def descriptors(self) -> list[int]:
        return [self._master, 0] if self._typed else [self._master]

    def pump(self, descriptor: int) -> None:
        data = os.read(descriptor, _CHUNK)
        if descriptor == 0:
            self._typed = bool(data)
            os.write(self._master, data)
        else:
            _keep(self._log, data)
            _show(data)

    def close(self) -> None:
        while _readable(self._master):
            self.pump(self._master)
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
    """Each key at once and unseen: the program's terminal echoes and edits. Ctrl-C still interrupts us."""
    attributes[0] &= ~termios.ICRNL
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
    attributes[6][termios.VSUSP] = b"\0"
    return attributes
