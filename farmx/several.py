"""Many small pieces of work that wait for a file system: one after another where it is fast, several at once where it
is slow; never what the work is."""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

SAMPLE = 64  # pieces by which the rest are judged; fewer than these are not worth a thread
SLOW_S = 0.001  # of waiting a piece: a local disk is far below it, and a call to a network file system near it
AT_ONCE = 16
_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # which only Linux has


def each(work: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
    """work(item) for every item, in order.

    The first exception is raised in its turn; of what comes after it some may be done, and nothing more is begun.
    """
    idle_s, waits = 0.0, 0
    for item in items[:SAMPLE]:
        before = _waited()
        yield work(item)
        after = _waited()
        idle_s, waits = idle_s + after[0] - before[0], waits + after[1] - before[1]
    if idle_s > SLOW_S * SAMPLE and waits >= SAMPLE:
        yield from _at_once(work, items[SAMPLE:])
    else:
        yield from map(work, items[SAMPLE:])


def _waited() -> tuple[float, int]:
    """(a clock that stands while this thread computes, how often it gave up its processor to wait for something).

    On a busy machine the clock runs, but what takes the processor away is not waited for.
    """
    waits = resource.getrusage(_THREAD).ru_nvcsw
    return time.monotonic() - time.thread_time(), waits


def _at_once(work: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
    from concurrent.futures import ThreadPoolExecutor  # spares who waits for nothing

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)
