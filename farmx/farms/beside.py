"""A child that does some of a launch's work while we do the rest; never what only one process may do.

It is a copy of this process, made before much of farmx is loaded. It holds no terminal, hears no Ctrl-C, and ends when
we do. Whatever becomes of it, who asks gets the same: what it does not answer is done here.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn, TypeAlias

Ask: TypeAlias = Callable[..., Callable[[], Any]]
HOLDS = 1 << 20  # bytes that an answer may have for who gives it not to wait until it is read
WAITING, LARGE = 8, 4096  # so many questions of so many bytes fit into a pipe: who asks does not wait for that


def here(function: Callable[..., Any], *given: Any) -> Callable[[], Any]:
    """What gives function(*given): the Ask of who has no child."""
    return lambda: function(*given)


@contextmanager
def child(first: str) -> Iterator[Ask]:
    """The Ask of a child that is there until the end of `with`: what gives the answer to a question put when it asked.

    first: the module that it loads first. Only for who has one thread, and hears of the ends of children. The function
    that is asked for is a module's; what it is given, and its answer, are plain: marshal takes them. The same is
    answered once.
    """
    (asked, ask), (answered, answer) = os.pipe(), os.pipe()
    with suppress(AttributeError, OSError):  # only Linux, and only as much as it lets its users have
        fcntl.fcntl(answer, fcntl.F_SETPIPE_SZ, HOLDS)
    try:
        pid = os.fork()
    except OSError:  # so many processes are there
        pid = None
    if pid == 0:
        try:
            os.close(ask)  # or it would wait for itself to ask
            os.close(answered)  # or to hear
            _serve(first, asked, answer)
        finally:
            os._exit(0)  # what it could say, and what is to be done at the end, is ours
    os.close(asked)
    os.close(answer)
    with open(ask, "wb", buffering=0) as questions, open(answered, "rb") as answers:
        try:
            yield _Child(questions.write, lambda: marshal.load(answers)).ask
        finally:
            if pid is not None:
                os.kill(pid, signal.SIGKILL)  # it may be at work that nobody waits for
                os.waitpid(pid, 0)


class _Child:
    def __init__(self, put: Callable[[bytes], Any], heard: Callable[[], Any]) -> None:
        self._put, self._heard = put, heard
        self._waiting: deque[bytes] = deque()
        self._known: dict[bytes, Any] = {}

    def ask(self, function: Callable[..., Any], *given: Any) -> Callable[[], Any]:
        question = b""
        with suppress(OSError, EOFError, ValueError, TypeError):  # it ended, or something is not plain
            question = marshal.dumps((function.__module__, function.__name__, given), 2)  # the same bytes each time
            if question not in self._known and question not in self._waiting and len(question) <= LARGE:
                while len(self._waiting) >= WAITING:
                    self._hear()
                self._put(question)
                self._waiting.append(question)
        return lambda: self._answer(question, lambda: function(*given))

    def _answer(self, question: bytes, otherwise: Callable[[], Any]) -> Any:
        with suppress(OSError, EOFError, ValueError, TypeError):  # it ended
            while question in self._waiting:
                self._hear()
        return self._known[question] if question in self._known else otherwise()

    def _hear(self) -> None:
        self._known[self._waiting[0]] = self._heard()
        self._waiting.popleft()


def _serve(first: str, asked: int, answer: int) -> NoReturn:
    """Answer until nobody is left who could ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    import_module(first)
    with open(asked, "rb") as questions, open(answer, "wb") as answers:
        while True:
            module, name, given = marshal.load(questions)
            marshal.dump(getattr(import_module(module), name)(*given), answers)
            answers.flush()
