"""Shell text as it is read: its words, its quotes, what in it only a shell understands; never what is to be run."""

import re
import shlex
from collections.abc import Callable

from farmx.errors import SweepError

# One piece of a command line: quoted texts, an escaped character, a newline.
_PIECE = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|\n", re.DOTALL)
_SHELL = re.compile(
    r"[;&|<>$`()*?\[]|(?:^|[\s=:])~|^\s*[A-Za-z_]\w*\+?="
    r"|^\s*(?:[.:!{]|case|cd|eval|exec|exit|export|for|function|if|set|source|time|trap|ulimit|umask|until|while)(?!\S)"
)

# How a line ends that a shell reads the same when the next one stands behind it: with an operator, or where a command
# is to begin. And how such a next line begins.
_GOES_ON = r"(?:[;&|(]|(?:^|[;&|(){])\s*(?:do|then|else|\{)|\bcase\s+\S+\s+in)$"
_GOES_WITH = (")", ";", "&", "|")


def words(cmd: str, where: str) -> tuple[str, ...]:
    """A command as the words of a POSIX shell, quotes taken away, nothing expanded, newlines as blanks.

    Raises SweepError, beginning with `where`, when a quote is not closed.
    """
    try:
        return tuple(shlex.split(one_line(cmd)))
    except ValueError as problem:
        raise SweepError(f"{where}: {str(problem).lower()}; quote it as in a shell") from None


def shell_syntax(cmd: str) -> bool:
    """Whether `cmd` says something to a shell that its words alone do not: operators, expansions, `A=1 command`."""
    return bool(_SHELL.search(bare(cmd)))


def bare(cmd: str) -> str:
    """`cmd` without what quotes hide from a shell; `$` and backquotes are not hidden by double quotes."""
    return _PIECE.sub(lambda piece: "_" + "".join(re.findall(r"[$`]", piece[0] if piece[0][0] == '"' else "")), cmd)


def one_line(cmd: str) -> str:
    """`cmd` with a blank for each newline outside quotes, and nothing for one that is escaped."""

    def piece(match: re.Match[str]) -> str:
        found = match[0]
        if found == "\n":
            return " "
        return found.replace("\\\n", "") if found[0] != "'" else found

    return _PIECE.sub(piece, cmd).strip()


def second_command(cmd: str) -> str:
    """The first line of `cmd` that a shell would take for another command, and `one_line` does not; '' for none."""
    for found in _PIECE.finditer(cmd):
        before, after = bare(one_line(cmd[: found.start()])), cmd[found.end() :].strip()
        if found[0] == "\n" and before and after and not (re.search(_GOES_ON, before) or after.startswith(_GOES_WITH)):
            return after.partition("\n")[0]
    return ""


def how_on_one_line(cmd: str) -> str:
    """The end of a message about such a line: what to write instead."""
    if "<<" in bare(cmd):
        return "a here-document (<<) has no place on one line: put it into a script file and run that"
    return ("end that line with \\ for one command (or write > in place of |), with ; or && for two, or write a "
            "mapping of stages or SETUP")  # fmt: skip


# ---------------------------------------------------------------- what stands in which quotes


def spliced(text: str, mark: re.Pattern[str], put: Callable[[re.Match[str], str], str]) -> str:
    """`text` with put(match, inside) for each match of `mark`.

    inside: what the match stands in: '' or '(' (of `$(` too) for nothing that quotes, else the quote: ', " or $'.
    """
    out, inside, place = [], [""], 0
    while place < len(text):
        match = mark.match(text, place)
        piece = match[0] if match else _piece(text, place, inside[-1])
        place += len(piece)
        out.append(put(match, inside[-1]) if match else piece)
        if match:
            continue
        if piece == _CLOSES.get(inside[-1]):
            inside.pop()
        elif piece in _OPENS[inside[-1]]:
            inside.append("(" if piece == "$(" else piece)
    return "".join(out)


def inserted(token: str, inside: str) -> str:
    """`token`, quoted as it needs to be on its own, for a place in text that stands `inside` quotes."""
    opening = inside if inside in _QUOTES else ""
    return f"{opening[-1:]}{token}{opening}"


_QUOTES = ("'", '"', "$'")
_OPENS = {"": ("'", '"', "$'", "(", "$("), "(": ("'", '"', "$'", "(", "$("), '"': ("$(",), "'": (), "$'": ()}
_CLOSES = {"(": ")", '"': '"', "'": "'", "$'": "'"}


def _piece(text: str, place: int, inside: str) -> str:
    """What is read at once: an escaped character, `$(`, `$'`, else one character."""
    pair = text[place : place + 2]
    escaped = pair[0] == "\\" and inside != "'"  # between single quotes a backslash is itself
    return pair if escaped or pair in _OPENS[inside] else pair[0]
