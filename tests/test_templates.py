"""templates: what a stage's command says, and that every value arrives in it as it was written."""

import shlex
import subprocess
from functools import partial

import pytest
from launching import HOSTILE, value

from farmx import plan, templates
from farmx.errors import SweepError
from farmx.templates import FLAG, TEXT, VALUE, VARIABLE, Reference, Template


def flags(key: str, given, style: str = "gnu"):
    return plan.flag_words(key, given, style)


def words(text: str, style: str = "gnu", **values: object) -> list[str]:
    """The words of a template without shell syntax."""
    made = templates.read(text, "here")
    assert made.shell is None
    given = {name: value(data) for name, data in values.items()}
    return list(templates.words(made, given, partial(flags, style=style)))


def shell(text: str, **values: object) -> str:
    """The shell text of a template with shell syntax."""
    made = templates.read(text, "here")
    assert made.words == ()
    return templates.shell(made, {name: value(data) for name, data in values.items()}, flags)


def printed(text: str, **values: object) -> list[str]:
    """What bash hands to a program, for `text` in place of its arguments."""
    line = shell(f"true && printf '%s\\0' {text}", **values)
    done = subprocess.run(["bash", "-c", line], capture_output=True, env={"_name": "a run", "HOME": "/h"})
    assert (done.returncode, done.stderr) == (0, b""), line
    return done.stdout.decode().split("\0")[:-1]


FILLED = [
    # template, values, words
    ("a {x}", {"x": "b c"}, ["a", "b c"]),
    ("a data/{x}.bin", {"x": "it's"}, ["a", "data/it's.bin"]),
    ("a '{x}' \"{x}\"", {"x": "b c"}, ["a", "b c", "b c"]),
    ("a -c 'print({x})'", {"x": 0.1}, ["a", "-c", "print(0.1)"]),
    ("a {x}{y}", {"x": 1, "y": 2}, ["a", "12"]),
    ("{x} b", {"x": "python 3"}, ["python 3", "b"]),
    ("a {x} b", {"x": None}, ["a", "b"]),
    ("a x{x} '{x}'", {"x": None}, ["a", "x", ""]),
    ("a {x}", {"x": [64, "b c"]}, ["a", "64", "b c"]),
    ("a '{x}' x{x}", {"x": [64, 65]}, ["a", "64 65", "x64 65"]),
    ("a {x}", {"x": ""}, ["a", ""]),
    ("a {x} {y}", {"x": True, "y": False}, ["a", "true", "false"]),
    ("a [x] [y] [z]", {"x": True, "y": False, "z": None}, ["a", "--x"]),
    ("a [x] b", {"x": [1, 2]}, ["a", "--x", "1", "2", "b"]),
    ("a [x] {x}", {"x": 1}, ["a", "--x", "1", "1"]),
    ("a [x]", {}, ["a"]),
    ("a [-x] [early-stop] [optim.lr]", {"-x": 1, "early-stop": True, "optim.lr": 2},
     ["a", "-x", "1", "--early-stop", "--optim.lr", "2"]),
    ("a\n  [x]\n", {"x": 1}, ["a", "--x", "1"]),
    ("a {_output}/m.pt", {}, ["a", "LOGDIR/m.pt"]),
    ("a {{x}} '{{x}}' {} {a,b} {a: 1} {a", {"x": 1}, ["a", "{x}", "{x}", "{}", "{a,b}", "{a:", "1}", "{a"]),
    ("a {{{x}}} {{{{x}}}}", {"x": 1}, ["a", "{{x}}", "{{{x}}}"]),
    ("a '[[x]]' '[x y]' \\{x}", {"x": 1}, ["a", "[x]", "[x y]", "{x}"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values", "told"), FILLED, ids=[row[0] for row in FILLED])
def test_a_template_becomes_words(text, values, told):
    assert words(text, **values) == told


@pytest.mark.parametrize(("style", "told"), [("equals", ["a", "--x=1", "--b"]), ("hydra", ["a", "x=1", "b=true"])])
def test_a_flag_is_spelled_as_arg_style_says_and_a_value_is_not(style, told):
    assert words("a [x] [b]", style, x=1, b=True) == told
    assert words("a {x} {b}", style, x=1, b=True) == ["a", "1", "true"]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_value_arrives_in_words_as_it_was_written(text):
    assert words("a {x} '{x}' b{x} [x]", x=text) == ["a", text, text, "b" + text, "--x", text]
    assert words("a {x}", x=[text, text]) == ["a", text, text]
    assert words("a {x}", x="{y} [y] {_output}", y="never") == ["a", "{y} [y] {_output}"]


@pytest.mark.parametrize("text", [each for each in HOSTILE if len(each) < 1000])
def test_every_value_arrives_through_a_shell_as_it_was_written(text):
    told = printed("{x} '{x}' \"{x}\" b{x} $'{x}' 'c {x}' \"$HOME{x}\" [x] \"$(printf '%sz' {x})\"", x=text)
    assert told == [text, text, text, "b" + text, text, "c " + text, "/h" + text, "--x", text, text + "z"]


SHELL = [
    # template after `true && printf '%s\0'`, values, what the program gets
    ("a{x}", {"x": [1, "b c"]}, ["a1 b c"]),
    ("{x} '{x}'", {"x": [1, "b c"]}, ["1", "b c", "1 b c"]),
    ("a {x} b{x} '{x}' \"{x}\"", {"x": None}, ["a", "b", "", ""]),
    ("a;true [x]", {"x": 1}, ["a"]),
    ("a [x]&&true", {"x": "$HOME"}, ["a", "--x", "$HOME"]),
    ("{_name} '{_name}' \"x{_name}\"", {}, ["a run", "a run", "xa run"]),
    ("${HOME} \"${HOME}\" ${HOME:+[x]} {{x}} '[[x]]' $((3+{x}))", {"x": 1}, ["/h", "/h", "[x]", "{x}", "[x]", "4"]),
]


@pytest.mark.parametrize(("text", "values", "told"), SHELL, ids=[row[0] for row in SHELL])
def test_a_template_of_shell_syntax_stays_shell(text, values, told):
    assert printed(text, **values) == told


def test_logdir_stays_the_word():
    assert shell("a && b {_output}/x '{_output}' {x}", x="LOGDIR/y") == "a && b LOGDIR/x 'LOGDIR' LOGDIR/y"


@pytest.mark.parametrize(("text", "told"), [("a {_name}", 'a "$_name"'), ("a '{_time}.log'", "a ''\"$_time\"'.log'")])
def test_what_is_known_only_when_it_starts_is_a_variable_of_launch_sh(text, told):
    assert shell(text) == told


def test_a_template_tells_what_it_refers_to_and_what_it_says():
    made = templates.read("a  x{x} [y] {{z}} {_output}", "here")
    x, y = Reference(VALUE, "x", "{x}", "", False), Reference(FLAG, "y", "[y]", "", True)
    z = Reference(TEXT, "{z}", "{{z}}", "", True)
    assert made == Template((("a",), ("x", x), (y,), (z,), ("LOGDIR",)))
    assert list(made.references()) == [x, y]
    assert made.source() == ("a", "x{x}", "[y]", "{{z}}", "LOGDIR")
    assert made.program() == ("a",)
    made = templates.read("a && {x} {_time}", "here")
    assert [each.kind for each in made.references()] == [VALUE, VARIABLE]
    assert made.source() == "a && {x} {_time}"
    assert made.program() == ()


WITHOUT = [
    ("a b [x] [y]", ("a", "b"), ("y", "x")),
    ("a [x] b", ("a", "[x]", "b"), ()),
    ("a {x} [y]", ("a", "{x}"), ("y",)),
    ("a && b [x]  [y]", "a && b", ("y", "x")),
    ("a [x] && b", "a [x] && b", ()),
]


@pytest.mark.parametrize(("text", "source", "names"), WITHOUT, ids=[row[0] for row in WITHOUT])
def test_flags_at_the_end_can_be_taken_off(text, source, names):
    base, taken = templates.without_flags(templates.read(text, "here"))
    assert (base.source(), taken) == (source, names)


ALONE = "must be a word of its own, outside quotes; {y} is its value alone, [[y]] the text [y]"
REFUSED = [
    ("a x[y]", f"here: [y] {ALONE}"),
    ("a '[y]'", f"here: [y] {ALONE}"),
    ("a && b \"[y]\"", f"here: [y] {ALONE}"),
    ("a `b {y}`", "here: {y} beside backquotes; write $(...) for them"),
    ("a 'b", "here: no closing quotation; quote it as in a shell"),
]


@pytest.mark.parametrize(("text", "told"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_filled_in_is_refused(text, told):
    with pytest.raises(SweepError) as error:
        templates.read(text, "here")
    assert str(error.value) == told


UNKNOWN = [
    ("{larr}", "{larr} names no hyperparameter; did you mean lr?; {{larr}} is that text itself"),
    ("[sed]", "[sed] names no hyperparameter; did you mean seed?; [[sed]] is that text itself"),
    ("{_outptu}", "{_outptu} names no hyperparameter; did you mean _output?; {{_outptu}} is that text itself"),
    ("[zzz]", "[zzz] names no hyperparameter; known: lr, seed; [[zzz]] is that text itself"),
]


@pytest.mark.parametrize(("text", "told"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_a_reference_to_nothing_is_told_with_the_nearest(text, told):
    (only,) = templates.read(f"a {text}", "here").references()
    assert templates.unknown(only, ["lr", "seed"]) == told


def test_shlex_reads_what_is_printed():
    assert shlex.split(shell("a && b {x}", x="c d")) == ["a", "&&", "b", "c d"]
