"""Every error a user can cause, each with the exit code its command ends with; never a bug of ours.

    FarmxError              1   any of these
    ├── UsageError          2   the command line asks for what does not exist or does not fit together
    ├── ConfigError         2   a configuration file, or a setting from elsewhere, is wrong
    │   └── NoFarmError     2   no configuration file has a section for the farm that is named
    ├── SweepError          2   the sweep file is wrong
    ├── RecordError         3   a file under LOGROOT is not what we once wrote there
    ├── StageError          3   code or a run directory cannot be written: disk, rights, size guard
    ├── FarmError           4   the farm refused or cannot be reached
    └── LogxError           1   a training script gave logx what it cannot take, or its directory does not work

Exit code 1 also says that a run failed, 130 that Ctrl-C ended the command. The message is one line: where, what is
wrong, what is allowed or what to do.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in layout
if TYPE_CHECKING:
    from collections.abc import Mapping


class FarmxError(Exception):
    """A user's mistake or surroundings that do not work; `str()` is the one line to show."""

    exit_code = 1


class UsageError(FarmxError):
    """The command line asks for what does not exist or does not fit together."""

    exit_code = 2


class ConfigError(FarmxError):
    """A configuration file, or a setting given elsewhere, is wrong."""

    exit_code = 2


class NoFarmError(ConfigError):
    """No configuration file has a section for the farm that is named."""


class SweepError(FarmxError):
    """The sweep file is wrong."""

    exit_code = 2


class RecordError(FarmxError):
    """A file under LOGROOT is not what we once wrote there."""

    exit_code = 3


class StageError(FarmxError):
    """Code or a run directory cannot be written."""

    exit_code = 3


class FarmError(FarmxError):
    """The farm refused, or cannot be reached."""

    exit_code = 4


class LogxError(FarmxError, ValueError, TypeError):
    """A training script gave logx what it cannot take, or the directory logx writes to does not work."""


class Wrong(Exception):
    """What is wrong with a setting that is a mapping, and what to do; who knows its place makes that a FarmxError.

    key: of the mapping, '' for all of it.
    """

    def __init__(self, problem: str, key: str = "") -> None:
        super().__init__(problem)
        self.key = key


KNOWN_AT_MOST = 50  # names that a message lists


def nearest(word: str, known: list[str]) -> str:
    """The end of a message about an unknown `word`: '; did you mean X?' or '; known: a, b', never empty."""
    import difflib  # only a mistake pays for it

    close = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    for name in known:
        if close and name.lower() == close[0]:
            return f"; did you mean {name}?"
    more = f" and {len(known) - KNOWN_AT_MOST} more" if len(known) > KNOWN_AT_MOST else ""
    return "; known: " + ", ".join(sorted(known)[:KNOWN_AT_MOST]) + more if known else "; there are none"


def where(setting: str, origins: Mapping[str, str]) -> str:
    """How a message about a setting begins: `.farmx.yaml:2:1: PACK`, or `PACK` where nobody knows its origin."""
    return f"{origins[setting]}: {setting}" if setting in origins else setting
