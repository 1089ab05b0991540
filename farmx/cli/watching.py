"""farmx status --watch: the same on a terminal, again and again, as much of it as fits."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from farmx import status as states
from farmx.cli import looking
from farmx.cli.screen import short
from farmx.errors import UsageError
from farmx.spec import Run, State

EVERY_S = 2.0  # between two looks, at least
SHARE = 0.1  # of our time that looking may take, where it takes long
POLL_S = 0.25  # how soon a key or another size of the terminal is heeded
_STOPS = set(b"qQ\x04")  # the last is Ctrl-D
_ENDED = (State.DONE, State.PRUNED)
_STYLES = {State.RUNNING: "green", State.FAILED: "red", State.LOST: "red", State.DONE: "dim"}


def watch(names: Sequence[str], as_json: bool, root: str, cache: str | None) -> None:
    """Show how runs stand until q or Ctrl-C; then leave one line of it. Raises UsageError where no terminal is."""
    from rich.console import Console
    from rich.live import Live

    if as_json:
        raise UsageError("--watch and --json do not go together; take one of them")
    if not sys.stdout.isatty():
        raise UsageError("--watch needs a terminal; leave it out here")
    console = Console(highlight=False)
    if console.is_dumb_terminal:
        raise UsageError(f"--watch draws on the terminal, and TERM={os.environ['TERM']} cannot; leave it out here")
    looks: Mapping[str, states.Look] = {}
    try:
        looks = _look(names, root, cache)
        with Live(console=console, screen=True, auto_refresh=False) as live, _keys() as pressed:
            while True:
                begun = time.monotonic()
                looks = _look(names, root, cache)
                took = time.monotonic() - begun
                if not _shown(live, looks, max(EVERY_S, took / SHARE), pressed):
                    break
    except KeyboardInterrupt:
        pass
    print(looking.summary([run for each in looks.values() for run in each.runs], time.time()))


def _look(names: Sequence[str], root: str, cache: str | None) -> Mapping[str, states.Look]:
    return looking.look(names, root, cache) if names else states.every(root, cache)


def _shown(live: Any, looks: Mapping[str, states.Look], seconds: float, pressed: Any) -> bool:
    """Show it for so long, anew when the terminal changes; False as soon as q is pressed."""
    until, size, now = time.monotonic() + seconds, None, time.time()
    while time.monotonic() < until:
        if (wanted := live.console.size) != size:
            size = wanted
            live.update(_text(view(looks, now, size.width, size.height)), refresh=True)
        if pressed(min(POLL_S, max(0.0, until - time.monotonic()))):
            return False
    return True


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so long for a key and says whether it was q; the terminal is put back at the end."""
    if not sys.stdin.isatty():
        yield lambda seconds: time.sleep(seconds)
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def pressed(seconds: float) -> bool:
        ready, _, _ = select.select([keyboard], [], [], seconds)
        return bool(ready) and not _STOPS.isdisjoint(os.read(keyboard, 1024) or b"q")

    try:
        tty.setcbreak(keyboard)
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


# ---------------------------------------------------------------- what is seen


def view(looks: Mapping[str, states.Look], now: float, width: int, height: int) -> list[tuple[str, State | None]]:
    """The lines for a terminal of this size, each with the state of its run: counts, then runs that are not done,
    the newest first, as many as fit."""
    heads = looking.aligned([[os.path.basename(home), looking.summary(each.runs, now)] for home, each in looks.items()])
    problems = [f"unreadable: {problem}" for each in looks.values() for problem in each.problems]
    last = f"{time.strftime('%H:%M:%S', time.localtime(now))}  q ends"
    room = height - 1
    above = (*_cut(heads.splitlines(), max(1, room // 2), "experiment"), *_cut(problems, 2, "problem"))
    lines: list[tuple[str, State | None]] = [(line, None) for line in above]
    runs = sorted((run for each in looks.values() for run in each.runs if run.state not in _ENDED), key=_newest_first)
    room -= len(lines) + 2  # an empty line and the heads
    if runs and room > 0:
        shown = runs if len(runs) <= room else runs[: room - 1]
        cells = [looking.HEADS, *(looking.row(run, now, several=len(looks) > 1) for run in shown)]
        rows = looking.aligned([[*each[1:4], each[0], each[4]] for each in cells]).split("\n")  # names may be cut off
        lines += [("", None), (rows[0], None), *zip(rows[1:], (run.state for run in shown))]
        lines += [(f"and {len(runs) - len(shown):,} more", None)] if len(shown) < len(runs) else []
    return [(short(line, width) if line else "", state) for line, state in [*lines[:height - 1], (last, None)]]


def _cut(lines: Sequence[str], most: int, what: str) -> list[str]:
    return [*lines] if len(lines) <= most else [*lines[: most - 1], f"and {len(lines) - most + 1} {what}s more"]


def _newest_first(run: Run) -> tuple[float, str]:
    """Those begun last come first, those that nobody began last."""
    return -(run.attempts[-1].started or 0.0) if run.attempts else 0.0, run.name


def _text(lines: Sequence[tuple[str, State | None]]) -> Any:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop")
    for place, (line, state) in enumerate(lines):
        text.append("\n" * (place > 0) + line, style=_STYLES.get(state, "") if state else "")
    return text
