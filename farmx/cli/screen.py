"""What a person sees while a farm of this machine works; never decides anything."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from farmx import layout
from farmx.cli.surroundings import show, tell
from farmx.farms.base import Watch
from farmx.spec import Job, Progress, unseen

if TYPE_CHECKING:
    from farmx.farms.terminal import Seat
    from farmx.runner import Outcome

BAR_AFTER_S = 1.0
SHORTEST = 8  # characters of a command; less says nothing
LINE = 300  # characters of a command or of a log's last line, where no terminal says how many there are


def duration(seconds: float) -> str:
    """A time span for people: 0:05, 12:40, 55:00:03; 0:00 for one that clocks made negative."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(text: str, room: int) -> str:
    """`text` on one line of `room` characters: what cannot be printed is spelled out, what is too much left out.

    '' where there is no room worth the name.
    """
    if room < SHORTEST:
        return ""
    line = text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: room + 1])
    return line if len(line) <= room else line[: room - 1] + "…"


def alike(lines: Sequence[str]) -> int:
    """How many characters all of several commands begin with, up to an option or a word."""
    same = os.path.commonprefix(lines) if len(set(lines)) > 1 else ""
    option = same.rfind(" -")
    return (option if option > 0 else same.rfind(" ")) + 1


class Counts:
    """How the attempts of one command ended."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.states[outcome.state] += 1

    def told(self) -> str:
        """For people: '5 done, 1 failed'."""
        return ", ".join(f"{count} {state}" for state, count in self.states.items())


class Foreground(Watch):
    """One run after another, its output live: the command is printed as a shell takes it, then the program speaks."""

    tick_s = 60.0

    def __init__(self, commands: Mapping[str, str], put: Callable[[bytes, int], None]) -> None:
        """put: shows bytes on our output or errors (1, 2), after what programs said, and never waits."""
        self.counts = Counts()
        self._commands, self._put = commands, put

    def started(self, job: Job, slot: str) -> None:
        self._say(sys.stdout, self._commands.get(job.run, os.path.basename(job.run)))

    def ended(self, job: Job, slot: str, outcome: Outcome) -> None:
        self.counts.add(outcome)
        if outcome.state != "done":
            self._say(sys.stderr, f"{os.path.basename(job.run)} {outcome.state}: {outcome.note}")

    def held(self, waiting: int, why: str) -> None:
        self._say(sys.stderr, f"held  {waiting} not begun: {why}")

    def _say(self, stream: TextIO, text: str) -> None:
        if (to := _descriptor(stream)) in (1, 2):
            self._put(f"{text}\n".encode(stream.encoding, stream.errors or "strict"), to)
        else:
            (show if stream is sys.stdout else tell)(text)

    def waiting(self, job: Job, slot: str, why: str) -> None:
        return

    def stopping(self, running: int, now: bool) -> None:
        with suppress(OSError):  # a terminal that went away is why the program is asked; it gets its time
            if select.select([], [2], [], 0)[1]:  # nor does it wait for one that is stopped
                os.write(2, f"{stopping(running, now)}\n".encode())  # a signal's handler may stand inside a print

    def tick(self) -> None:
        return


def _descriptor(stream: TextIO) -> int:
    """Where it writes; -1 for a notebook's."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1


class _Errors:
    """Our errors as the file that a bar is drawn on, which is never waited for: see Seat."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        # A bar that is drawn stands in for sys.stderr.
        self.encoding, self._errors = sys.stderr.encoding, sys.stderr.errors or "strict"

    def write(self, text: str) -> int:
        self._seat.put(text.encode(self.encoding, self._errors), 2)
        return len(text)

    def flush(self) -> None:
        self._seat.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


class Pool(Watch):
    """START, DONE and FAIL lines, and on a terminal a bar below them with an estimate."""

    _WORDS = {"done": "DONE", "failed": "FAIL", "held": "HELD", "cancelled": "STOP", "interrupted": "STOP"}

    def __init__(self, jobs: int, labels: Mapping[str, str], width: int, seat: Seat | None = None) -> None:
        """width: of the longest slot name.  labels: what to show of a job when it starts.  seat: takes what is said on
        our errors, so that no run waits for who reads it."""
        self.counts = Counts()
        self._labels, self._width, self._alike = labels, width, alike([*labels.values()])
        self._seat = seat if _descriptor(sys.stderr) == 2 else None
        self._bar = bar("runs", jobs, self._seat and _Errors(self._seat)) if sys.stderr.isatty() else None
        self.tick()

    def started(self, job: Job, slot: str) -> None:
        room = self._bar.console.width if self._bar else LINE
        used = len(f"START  {slot:<{self._width}}  {os.path.basename(job.run)}  ")
        label = self._labels.get(job.run, "")
        differs = label if len(label) <= room - used else f"…{label[self._alike :]}" if self._alike else label
        self._line("START", slot, job, short(differs, room - used))

    def waiting(self, job: Job, slot: str, why: str) -> None:
        self._line("WAIT", slot, job, why)

    def ended(self, job: Job, slot: str, outcome: Outcome) -> None:
        self.counts.add(outcome)
        see = why(job.run) if outcome.state == "failed" else ""
        told = outcome.note if outcome.state != "cancelled" else outcome.note or "cancelled"
        self._line(self._WORDS[outcome.state], slot, job, f"{duration(outcome.seconds)}  {told}{see}".rstrip())
        if self._bar:
            with suppress(OSError):
                self._bar.advance(self._bar.task_ids[0])

    def held(self, waiting: int, why: str) -> None:
        self.say(f"HELD   {waiting} not begun: {why}")

    def stopping(self, running: int, now: bool) -> None:
        self.say(stopping(running, now))

    def tick(self) -> None:
        if self._seat:
            self._seat.flush()
        behind = self._seat is not None and self._seat.behind()
        if self._bar and not behind:
            with suppress(OSError):  # a terminal that went away stops no run
                self._bar.refresh()
        self.tick_s = 1.0 if self._bar or behind else 60.0

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            with suppress(OSError):
                self._bar.stop()

    def _line(self, word: str, slot: str, job: Job, text: str) -> None:
        self.say(f"{word:<5}  {slot:<{self._width}}  {os.path.basename(job.run)}  {text}".rstrip())

    def say(self, text: str) -> None:
        """One line."""
        if not self._bar:
            if self._seat:
                self._seat.put(f"{text}\n".encode(sys.stderr.encoding, sys.stderr.errors or "strict"), 2)
            else:
                tell(text)
            return
        with suppress(OSError):
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def why(run: str) -> str:
    """Where the log of a failed run is, and what it failed with: the error of its traceback, else its last line."""
    from farmx import evidence  # spares those whose runs end well

    path = os.path.join(run, layout.OUTPUT)
    lines = evidence.tail(path)
    if not lines:
        return ""
    trace = evidence.traceback(lines)
    last = (trace.error if trace else "") or evidence.last_line(lines) or "it said nothing"
    near = path
    with suppress(OSError):  # the code was snapshotted, so where the command was typed may be gone
        near = os.path.relpath(path) if os.getcwd() != os.sep else path
    return f"\n       {short(last, LINE)}\n       see {min(path, near, key=len)}"


def stopping(running: int, now: bool) -> str:
    """What to say when a signal came."""
    from farmx.runner import GRACE_S  # spares those who only look

    runs, have = (f"{running} runs", "have") if running != 1 else ("1 run", "has")
    if now:
        return f"killing {runs}"
    return f"stopping: {runs} {have} {GRACE_S:.0f} s to end; Ctrl-C again kills; the rest stays as it is"


def bar(what: str, total: int, errors: Any = None) -> Any:
    """A started progress bar on stderr, by way of `errors`, with an estimate. No thread draws it: the pool forks."""
    from rich.console import Console  # only a terminal wants a bar
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Times(ProgressColumn):
        """Time spent and, from the mean so far, left: rich's own goes by the last few, which end in pairs."""

        def render(self, task: Any) -> Text:
            spent = task.elapsed or 0.0
            left = spent / task.completed * task.remaining if task.completed else None
            return Text(duration(spent) + ("" if left is None else f", about {duration(left)} left"))

    whole = Column(no_wrap=True)  # the bar gives way on a narrow terminal
    columns = (TextColumn(what, table_column=whole), BarColumn(), MofNCompleteColumn(table_column=whole),
               Times(table_column=whole))  # fmt: skip
    progress = Progress(*columns, console=Console(file=errors, stderr=True), auto_refresh=False, transient=True)
    progress.add_task(what, total=total)
    progress.start()
    return progress


def later_bar(every: int = 1) -> tuple[Progress, Callable[[], None]]:
    """(progress, close): a bar that appears on a terminal once it has taken longer than a second, one for each thing
    that is done; drawn anew for each `every` more."""
    if not sys.stderr.isatty():
        return unseen, lambda: None
    begun = time.monotonic()
    shown: dict[str, Any] = {}

    def progress(what: str, made: int, total: int) -> None:
        if what not in shown and time.monotonic() - begun > BAR_AFTER_S:
            close()
            shown[what] = bar(what, total)
        if what in shown and (made % every == 0 or made == total):
            shown[what].update(shown[what].task_ids[0], completed=made, refresh=True)

    def close() -> None:
        for each in shown.values():
            each.stop()
        shown.clear()

    return progress, close
