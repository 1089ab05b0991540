"""shelltext: what is words, what is shell, and in which quotes a place stands."""

import re
import shlex
import subprocess

import pytest
from launching import HOSTILE

from farmx import shelltext
from farmx.errors import SweepError

SHELL = [
    "a && b", "a; b", "a | b", "a > log", "python x.py < in", "(a)", "a $HOME", 'a "$HOME"', "a `pwd`", 'a "`pwd`"',
    "a *.py", "a x?", "a x[1]", "A=1 python x.py", "A= python", "PATH+=:x a", "~/bin/a", "a ~/x", "a --x=~/d", "cd x",
    "exec python x.py", ". env.sh", "source env.sh", "! a", "{ a; }", "time a", "ulimit -n", "a 'x' $y", "a $'x\\'y'",
]  # fmt: skip
WORDS = [
    "a 'b && c'", 'a "b; c"', "a \\$HOME", "a '$HOME'", "a \\; b", "python x.py --a=1", "a b=c", "a~b", "cdx y",
    "timeit", "a cd", "./run.sh", "python -c 'import os; print(os.environ)'", "a {b,c}", "a !b", "a %x", "a @x",
    "a b#c", "executor", ".venv/bin/python x.py",
]  # fmt: skip


@pytest.mark.parametrize("cmd", SHELL)
def test_what_only_a_shell_understands_is_told(cmd):
    assert shelltext.shell_syntax(cmd) is True


@pytest.mark.parametrize("cmd", WORDS)
def test_plain_words_need_no_shell(cmd):
    assert shelltext.shell_syntax(cmd) is False


@pytest.mark.parametrize("cmd", ["a 'b", 'a "b', "a b\\"])
def test_words_refuse_an_open_quote(cmd):
    with pytest.raises(SweepError, match="^here: no (closing quotation|escaped character); quote it as in a "):
        shelltext.words(cmd, "here")


# ---------------------------------------------------------------- quotes

PLACES = [
    # text in which @ marks places, what each stands in
    ("@ a@b", ["", ""]),
    ("'@' @", ["'", ""]),
    ('"@" @', ['"', ""]),
    ('"it\'s @" @', ['"', ""]),
    ("'\"' @ '\"@'", ["", "'"]),
    ("$'it\\'s @' @", ["$'", ""]),
    ("'a\\' @", [""]),
    ('"a\\" @" @', ['"', ""]),
    ("$(a '@' @) @", ["'", "(", ""]),
    ('"$(a "@" @) @" @', ['"', "(", '"', ""]),
    ("(a; @) @", ["(", ""]),
    ("'\n@' größe@", ["'", ""]),
]


@pytest.mark.parametrize(("text", "inside"), PLACES, ids=[row[0] for row in PLACES])
def test_each_place_is_known_by_the_quotes_around_it(text, inside):
    found = []
    assert shelltext.spliced(text, re.compile("@"), lambda match, place: found.append(place) or match[0]) == text
    assert found == inside


def test_an_escaped_mark_is_none():
    assert shelltext.spliced("\\@ '\\@' \\\\@", re.compile("@"), lambda match, place: "X") == "\\@ '\\X' \\\\X"


FRAMES = ["%s", "a%sb", "'%s'", "'a %s b'", '"%s"', '"a %s $HOME"', "$'a\\n%s'", "$(printf %%s %s)x", '"$(echo "a%s")"']


@pytest.mark.parametrize("frame", FRAMES)
def test_a_token_arrives_unchanged_in_whatever_quotes_it_is_put(frame):
    def told(token: str) -> str:
        line = shelltext.spliced(frame % "@", re.compile("@"), lambda match, inside: shelltext.inserted(token, inside))
        done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, env={"HOME": "h"})
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    around = told("@").split("@")
    for text in (each for each in HOSTILE if not each.endswith("\n") and "*" not in each):  # $( ) drops a last newline
        if "$(" in frame and not frame.startswith('"') and re.search(r"\s|^$", text):
            continue  # bash splits it into words, as it would split what a user writes there
        assert told(shlex.quote(text)) == text.join(around)
