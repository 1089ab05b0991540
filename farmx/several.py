"""Many small pieces of work that wait for a file system: one after another where it is fast, several at once where it
is slow; never what the work is."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

SAMPLE = 64  # pieces by which the rest are judged; fewer than these are not worth a thread
SLOW_S = 0.001  # of waiting a piece: a local disk is far below it, and a call to a network file system near it
AT_ONCE = 16


def each(work: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
    """work(item) for every item, in order.

    The first exception is raised in its turn; of what comes after it some may be done, and nothing more is begun.
    """
    waited = 0.0
    for item in items[:SAMPLE]:
        began = _idle_s()
        yield work(item)
        waited += _idle_s() - began
    if waited > SLOW_S * SAMPLE:
        yield from _at_once(work, items[SAMPLE:])
    else:
        yield from map(work, items[SAMPLE:])


def _idle_s() -> float:
    """A clock that stands while this thread computes."""
    return time.monotonic() - time.thread_time()


def _at_once(work: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
    from concurrent.futures import ThreadPoolExecutor  # spares who waits for nothing

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)
