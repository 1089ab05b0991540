"""sweep: what a sweep file says, by runx's rules."""

import math
import re
import subprocess
import tracemalloc

import pytest

from farmx import shelltext, sweep, yaml12
from farmx.errors import SweepError
from farmx.spec import Goal, Point, Value
from farmx.yaml12 import Mark

README = """\
PYTHONPATH: LOGDIR/code:LOGDIR/code/lib
CMD: "python train.py"

HPARAMS: [
  {
   logdir: LOGDIR,
   adam: true,
   arch: alexnet,
   lr: [0.01, 0.02],
   epochs: 10,
   RUNX.TAG: 'alexnet',
  },
  {
   arch: resnet50,
   lr: [0.002, 0.005],
   RUNX.TAG: 'resnet50',
  },
  {
   RUNX.SKIP: true,
   arch: resnet50,
   lr: [0.002, 0.005],
   RUNX.TAG: 'resnet50',
  }
]
"""


def read(text, file="dir/sweep.yml"):
    return sweep.read(text, file)


def points_of(hparams):
    """The points of HPARAMS, as it stands after 'HPARAMS: '."""
    return list(sweep.points(read("CMD: a\nHPARAMS: " + hparams)))


def values_of(hparams):
    return [point.values for point in points_of(hparams)]


def lines_of(hparams):
    """The points as texts: what a person would read off them."""
    return [" ".join(f"{name}={value}" for name, value in point.values.items()) for point in points_of(hparams)]


def refusal(text):
    with pytest.raises(SweepError) as refused:
        read(text, "s.yml")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def number(data, spelled=None):
    return Value(data, (spelled or str(data),))


def text(data):
    return Value(data, (data,))


# ---------------------------------------------------------------- the file


def test_runxs_readme_gives_its_four_runs():
    found = read(README)
    shared = {"logdir": text("LOGDIR"), "adam": Value(True, ("true",))}
    rows = [("alexnet", 0.01), ("alexnet", 0.02), ("resnet50", 0.002), ("resnet50", 0.005)]
    assert list(sweep.points(found)) == [
        Point({**shared, "arch": text(arch), "lr": number(lr), "epochs": number(10)}, tag=arch) for arch, lr in rows
    ]
    assert [list(point.values) for point in sweep.points(found)] == [["logdir", "adam", "arch", "lr", "epochs"]] * 4
    assert (sweep.shape(found), sweep.count(found)) == ("2 + 2 + 2 grids, 2 skipped", 4)


def test_a_sweep_keeps_what_config_will_check():
    found = read("CMD: a\nx-base: {a: 010}\nENV: {A: 1}\nGOAL: acc\nHPARMS: {lr: 1}\n")
    assert found.settings.keys() == found.setting_marks.keys() == {"ENV", "HPARMS"}
    assert yaml12.plain(found.settings["HPARMS"]) == {"lr": 1}
    assert found.setting_marks["HPARMS"] == Mark("dir/sweep.yml", 5, 1)
    assert (found.file, found.name, found.warnings) == ("dir/sweep.yml", "sweep", ())


@pytest.mark.parametrize(
    ("file", "name"),
    [("sweep.yml", "sweep"), ("../a/my exp.yaml", "my exp"), ("noext", "noext"), ("a.b.yml", "a.b"), ("/x/é.yml", "é")],
)
def test_the_experiment_is_named_after_the_file(file, name):
    assert read("CMD: a", file).name == name


@pytest.mark.parametrize("hparams", ["", "HPARAMS:", "HPARAMS: {}", "HPARAMS: ~", "HPARAMS: [{}]"])
def test_no_hyperparameters_are_one_run(hparams):
    found = read(f"CMD: a\n{hparams}\n")
    assert (list(sweep.points(found)), sweep.count(found), sweep.shape(found)) == ([Point({})], 1, "1 run")


# ---------------------------------------------------------------- values

VALUES = [
    ("1e-3", Value(0.001, ("1e-3",))),
    ("1.0e-4", Value(0.0001, ("1.0e-4",))),
    ("010", Value(10, ("010",))),
    ("+5", Value(5, ("+5",))),
    ("5.", Value(5.0, ("5.",))),
    ("0x1F", Value(31, ("31",))),
    ("0o17", Value(15, ("15",))),
    (".inf", Value(math.inf, ("inf",))),
    ("-.inf", Value(-math.inf, ("-inf",))),
    ("true", Value(True, ("true",))),
    ("True", Value(True, ("true",))),
    ("FALSE", Value(False, ("false",))),
    ("'True'", Value("True", ("True",))),
    ('"False"', Value("False", ("False",))),
    ("null", Value(None, ())),
    ("~", Value(None, ())),
    ("None", Value(None, ())),
    ("", Value(None, ())),
    ("'None'", Value("None", ("None",))),
    ("'null'", Value("null", ("null",))),
    ("none", Value("none", ("none",))),
    ("''", Value("", ("",))),
    ("'1'", Value("1", ("1",))),
    ("'0x1F'", Value("0x1F", ("0x1F",))),
    ("on", Value("on", ("on",))),
    ("12:30:00", Value("12:30:00", ("12:30:00",))),
    ("LOGDIR/x", Value("LOGDIR/x", ("LOGDIR/x",))),
    ("it's $HOME; `ls` & \\ *", Value("it's $HOME; `ls` & \\ *", ("it's $HOME; `ls` & \\ *",))),
    ('"two\\nlines \\"x\\" é ☃"', Value('two\nlines "x" é ☃', ('two\nlines "x" é ☃',))),
    ("--dash", Value("--dash", ("--dash",))),
    ("x" * 10_000, Value("x" * 10_000, ("x" * 10_000,))),
    ("[[64, 6.40e+1]]", Value([64, 64.0], ("64", "6.40e+1"))),
    ("[[a b, 'c', 0x10]]", Value(["a b", "c", 16], ("a b", "c", "16"))),
    ("[[true, False, None, ~, '']]", Value([True, False, None, None, ""], ("true", "False", "None", "~", ""))),
    ("[[1, [2, [x, null]]]]", Value([1, [2, ["x", None]]], ("1", '[2, ["x", null]]'))),
    ("[[LOGDIR/a, [LOGDIR]]]", Value(["LOGDIR/a", ["LOGDIR"]], ("LOGDIR/a", '["LOGDIR"]'))),
    ("[[]]", Value([], ())),
]


@pytest.mark.parametrize(("spelled", "value"), VALUES, ids=[spelled[:30] for spelled, _ in VALUES])
def test_a_value_is_data_and_words(spelled, value):
    (found,) = values_of(f"\n  x: {spelled}\n")
    assert found == {"x": value}
    assert type(found["x"].data) is type(value.data)


def test_nan_is_passed_as_programs_read_it():
    (found,) = values_of("{x: .nan}")
    assert math.isnan(found["x"].data) and found["x"].words == ("nan",)


def test_an_empty_element_of_a_block_list_has_a_word():
    (found,) = values_of("\n  x:\n  -\n    -\n    - 1\n")
    assert found == {"x": Value([None, 1], ("null", "1"))}


NAMES = ["lr", "a.b", "-b", "+model.x", "a b", "it's", "$HOME", "é", "1", "no", "LOGDIR", "{x}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_taken_as_it_is(name):
    (found,) = values_of(f'{{"{name}": 1}}')
    assert found == {name: number(1)}


# ---------------------------------------------------------------- the product

AB = ["a=1 b=1", "a=1 b=2"]
PRODUCTS = [
    ("{a: [1, 2], b: [x, y]}", ["a=1 b=x", "a=1 b=y", "a=2 b=x", "a=2 b=y"]),
    ("{b: [x, y], a: [1, 2]}", ["b=x a=1", "b=x a=2", "b=y a=1", "b=y a=2"]),
    ("{a: [1], b: 2}", ["a=1 b=2"]),
    ("{a: [1, 1, 1.0]}", ["a=1", "a=1", "a=1.0"]),
    ("{a: [None, 1]}", ["a=", "a=1"]),
    ("{l: [[1, 2], 3, [4]]}", ["l=1 2", "l=3", "l=4"]),
    ("[{a: 1}]", ["a=1"]),
    ("[{a: 1, b: [1, 2]}, {c: 3, a: [5, 6]}]", [*AB, "a=5 b=1 c=3", "a=5 b=2 c=3", "a=6 b=1 c=3", "a=6 b=2 c=3"]),
    ("[{a: 1}, {b: 2}, {c: 3}]", ["a=1", "a=1 b=2", "a=1 c=3"]),
    ("[{a: [1, 2]}, {a: 3}]", ["a=1", "a=2", "a=3"]),
    ("[{a: 1}, {}]", ["a=1", "a=1"]),
    ("[{a: 1, b: 2}, {a: None}]", ["a=1 b=2", "a= b=2"]),
    ("[&x {a: 1, b: 2}, {<<: *x, b: 3}]", ["a=1 b=2", "a=1 b=3"]),
]


@pytest.mark.parametrize(("hparams", "lines"), PRODUCTS, ids=[hparams for hparams, _ in PRODUCTS])
def test_the_product_is_in_file_order_and_items_inherit_from_the_first(hparams, lines):
    assert lines_of(hparams) == lines
    assert sweep.count(read("CMD: a\nHPARAMS: " + hparams)) == len(lines)


def test_points_share_the_values_of_the_file():
    found = points_of("{a: [x, y], b: [1, 2]}")
    assert found[0].values["a"] is found[1].values["a"]


@pytest.mark.parametrize(
    ("hparams", "shape", "count"),
    [
        ("{a: 1}", "1 run", 1),
        ("{a: [1]}", "1 run", 1),
        ("{a: [1, 2], b: [1, 2, 3]}", "2 x 3 grid", 6),
        ("{a: [1, 2], b: 7, c: [1], d: [1, 2, 3]}", "2 x 3 grid", 6),
        ("[{a: [1, 2], b: [1, 2, 3]}, {a: 0, b: [1, 2, 3, 4]}]", "2 x 3 + 4 grids", 10),
        ("[{a: 1}, {a: 2}]", "1 + 1 grids", 2),
        ("{a: 1, RUNX.SKIP: true}", "1 run, 1 skipped", 0),
        ("{a: [1, 2, 3], RUNX.SKIP: [false, true]}", "3 x 2 grid, 3 skipped", 3),
        ("[{a: [1, 2], RUNX.SKIP: true}, {RUNX.SKIP: false}]", "2 + 2 grids, 2 skipped", 2),
        ("{RUNX.TAG: [a, b], SUBMIT_JOB.NODES: [1, 2]}", "2 x 2 grid", 4),
    ],
)
def test_the_shape_says_the_grids(hparams, shape, count):
    found = read("CMD: a\nHPARAMS: " + hparams)
    assert (sweep.shape(found), sweep.count(found), len(list(sweep.points(found)))) == (shape, count, count)


def test_a_huge_fan_out_is_counted_without_making_it():
    axes = ", ".join(f"k{i}: [{', '.join(map(str, range(10)))}]" for i in range(12))
    tracemalloc.start()
    found = read(f"CMD: a\nHPARAMS: {{{axes}}}")
    assert sweep.count(found) == 10**12
    next(sweep.points(found))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


# ---------------------------------------------------------------- magic keys


def special(hparams):
    """(values, tag, swept, resources) of each point, as texts."""

    def told(part):
        return " ".join(f"{name}={value}" for name, value in part.items())

    return [(told(one.values), one.tag, told(one.swept), told(one.resources)) for one in points_of(hparams)]


MAGIC = [
    ("{a: 1, RUNX.TAG: x}", [("a=1", "x", "", "")]),
    ("{a: 1, FARMX.TAG: 'x{a}'}", [("a=1", "x{a}", "", "")]),
    ("{a: 1, RUNX.TAG: 7}", [("a=1", "7", "", "")]),
    ("{a: 1, RUNX.TAG: None}", [("a=1", None, "", "")]),
    ("{a: 1, RUNX.TAG: ~}", [("a=1", None, "", "")]),
    ("{a: 1, RUNX.TAG: ''}", [("a=1", None, "", "")]),
    ("{a: 1, RUNX.TAG: [x]}", [("a=1", "x", "TAG=x", "")]),
    ("{a: 1, RUNX.TAG: [x, ~]}", [("a=1", "x", "TAG=x", ""), ("a=1", None, "TAG=", "")]),
    (
        "{RUNX.TAG: [x, y], a: [1, 2]}",
        [("a=1", "x", "TAG=x", ""), ("a=2", "x", "TAG=x", ""), ("a=1", "y", "TAG=y", ""), ("a=2", "y", "TAG=y", "")],
    ),
    (
        "{a: [1, 2], RUNX.TAG: [x, y]}",
        [("a=1", "x", "TAG=x", ""), ("a=1", "y", "TAG=y", ""), ("a=2", "x", "TAG=x", ""), ("a=2", "y", "TAG=y", "")],
    ),
    ("{a: 1, RUNX.SKIP: false}", [("a=1", None, "", "")]),
    ("{a: 1, FARMX.SKIP: true}", []),
    ("{RUNX.SKIP: [true, false], a: [1, 2]}", [("a=1", None, "", ""), ("a=2", None, "", "")]),
    ("{RUNX.SKIP: [true, true], a: [1, 2]}", []),
    ("{a: 1, SUBMIT_JOB.NODES: None}", [("a=1", None, "", "")]),
    ("{SUBMIT_JOB.NODES: [None, 2]}", [("", None, "nodes=", ""), ("", None, "nodes=2", "nodes=2")]),
    ("{a: 1, SUBMIT_JOB.NODES: 2}", [("a=1", None, "", "nodes=2")]),
    (
        "{SUBMIT_JOB.NODES: [1, 2], SUBMIT_JOB.PARTITION: gpu}",
        [("", None, "nodes=1", "nodes=1 partition=gpu"), ("", None, "nodes=2", "nodes=2 partition=gpu")],
    ),
    # nothing leaks from one item to the next, what the first says is inherited, either spelling overrides the other
    ("[{a: 1}, {RUNX.TAG: x}, {b: 2}]", [("a=1", None, "", ""), ("a=1", "x", "", ""), ("a=1 b=2", None, "", "")]),
    ("[{RUNX.TAG: x}, {b: 2}, {FARMX.TAG: y}]", [("", "x", "", ""), ("b=2", "x", "", ""), ("", "y", "", "")]),
    ("[{RUNX.TAG: x}, {FARMX.TAG: ~}]", [("", "x", "", ""), ("", None, "", "")]),
    ("[{RUNX.TAG: [x, y]}, {RUNX.TAG: z}]", [("", "x", "TAG=x", ""), ("", "y", "TAG=y", ""), ("", "z", "", "")]),
    ("[{a: 1}, {RUNX.SKIP: true}, {b: 2}]", [("a=1", None, "", ""), ("a=1 b=2", None, "", "")]),
    ("[{RUNX.SKIP: true}, {b: 2}, {FARMX.SKIP: false, c: 3}]", [("c=3", None, "", "")]),
    ("[{SUBMIT_JOB.NODES: 2}, {SUBMIT_JOB.NODES: 4}]", [("", None, "", "nodes=2"), ("", None, "", "nodes=4")]),
]


@pytest.mark.parametrize(("hparams", "expected"), MAGIC, ids=[hparams for hparams, _ in MAGIC])
def test_magic_keys_say_something_about_the_run_and_are_not_passed(hparams, expected):
    assert special(hparams) == expected


# ---------------------------------------------------------------- GOAL


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ("acc", Goal("val/acc", "max")),
        ("' acc '", Goal("val/acc", "max")),
        ("loss", Goal("val/loss", "min")),
        ("train/loss", Goal("train/loss", "min")),
        ("test/acc", Goal("val/acc", "max")),
        ("{metric: trn/acc, mode: min}", Goal("train/acc", "min")),
        ("{metric: acc, mode: min}", Goal("val/acc", "min")),
        ("{metric: test_loss}", Goal("val/test_loss", "min")),
        ("{metric: loss, mode: max}", Goal("val/loss", "max")),
    ],
)
def test_goal_names_a_metric_and_a_way(goal, expected):
    assert read(f"CMD: a\nGOAL: {goal}").goal == expected


# ---------------------------------------------------------------- CMD

COMMANDS = [
    ("CMD: python train.py", "python train.py", ("python", "train.py")),
    ("CMD: >\n  python train.py\n", "python train.py", ("python", "train.py")),
    ("CMD: >\n  python\n  train.py\n\n\n", "python train.py", ("python", "train.py")),
    ("CMD: >\n  python x.py\n    --a\n    --b 2\n", "python x.py   --a   --b 2", ("python", "x.py", "--a", "--b", "2")),
    ("CMD: |\n  python train.py \\\n    --a 1\n", "python train.py   --a 1", ("python", "train.py", "--a", "1")),
    ('CMD: |\n  echo "two\n  lines"\n', 'echo "two\nlines"', ("echo", "two\nlines")),
    ("CMD: |\n  echo 'two \\\n  lines'\n", "echo 'two \\\nlines'", ("echo", "two \\\nlines")),
    ("CMD: |\n\n  python train.py\n\n\n", "python train.py", ("python", "train.py")),
    ("CMD: >\n  python\n\n  train.py\n", "python train.py", ("python", "train.py")),
    ('CMD: "python\n  train.py\\n"', "python train.py", ("python", "train.py")),
    ("CMD: sh -c 'a; b' \"it's\" a\\ b ''", "sh -c 'a; b' \"it's\" a\\ b ''", ("sh", "-c", "a; b", "it's", "a b", "")),
    ("CMD: true", "true", ("true",)),
    ("CMD: 'python x.py --name=é☃'", "python x.py --name=é☃", ("python", "x.py", "--name=é☃")),
    ("CMD: '\"\"'", '""', ("",)),
]


@pytest.mark.parametrize(("file", "cmd", "words"), COMMANDS, ids=[file for file, _, _ in COMMANDS])
def test_cmd_is_words_and_its_newlines_are_blanks(file, cmd, words):
    found = read(file)
    assert (found.cmd, shelltext.words(found.cmd, found.file), shelltext.shell_syntax(found.cmd)) == (cmd, words, False)


@pytest.mark.parametrize("cmd", ["a && b", "A=1 a", "a | b", "a $HOME", "echo $'it\\'s'"])
def test_shell_syntax_in_cmd_is_allowed(cmd):
    assert read("CMD: |\n  " + cmd).cmd == cmd


@pytest.mark.parametrize("operator", ["&&", "||", "|", ";", "&"])
def test_a_line_that_ends_with_an_operator_goes_on_as_in_a_shell(operator):
    assert read(f"CMD: |\n  cd x {operator} \n\n  python t.py\n").cmd == f"cd x {operator}   python t.py"


JOINED = [
    "for i in 1 2; do\n  echo $i;\ndone; echo end",
    "(\ncd /tmp;\npwd\n) ||\necho no; echo end",
    "{\necho a; echo b; } &&\necho c",
    "f() {\necho f; }; f",
    "if false; then\necho a;\nelse\necho b;\nfi; echo end",
    "case x in\n(y) echo a;;\nx) echo b\n;;\nesac; echo end",
    "while false; do\n:;\ndone; echo $(\necho é 'a\nb')",
]


@pytest.mark.parametrize("lines", JOINED)
def test_lines_that_a_shell_reads_the_same_when_they_are_one_are_joined(lines):
    cmd = read("CMD: |\n  " + lines.replace("\n", "\n  ")).cmd
    assert cmd == re.sub("\n(?!b'\\))", " ", lines)
    asked, given = (subprocess.run(["bash", "-c", each], capture_output=True, text=True) for each in (lines, cmd))
    assert (given.returncode, given.stdout, given.stderr) == (0, asked.stdout, "")


@pytest.mark.parametrize("operator", ["&&", "||", "|"])
def test_a_line_may_begin_with_an_operator_though_a_shell_has_it_end_the_line_before(operator):
    assert read(f"CMD: |\n  cd x\n  {operator} python t.py\n").cmd == f"cd x {operator} python t.py"


# ---------------------------------------------------------------- warnings

QUOTED_NONE = "'None' in quotes is text here; runx left the argument out, as None does"
T = "2020-01-02T10:00:00"
WARNED = [
    ("{a: 010}", ["sweep.yml:2:14: 010 is 10 here; runx read 8"]),
    ("{a: on}", ["sweep.yml:2:14: on is the string 'on' here; runx read true"]),
    ("{a: [1, no]}", ["sweep.yml:2:18: no is the string 'no' here; runx read false"]),
    ("{a: 12:30:00}", ["sweep.yml:2:14: 12:30:00 is the string '12:30:00' here; runx read 45000"]),
    ("{a: 1_000}", ["sweep.yml:2:14: 1_000 is the string '1_000' here; runx read 1000"]),
    ("{a: 0o17}", ["sweep.yml:2:14: 0o17 is 15 here; runx read the string '0o17'"]),
    (
        "{a: 2020-01-02T10:00:00}",
        [f"sweep.yml:2:14: {T} is the string '{T}' here; runx read 2020-01-02 10:00:00"],
    ),
    ("{a: [[0b1]]}", ["sweep.yml:2:16: 0b1 is the string '0b1' here; runx read 1"]),
    ("{a: [&x on, *x]}", ["sweep.yml:2:15: on is the string 'on' here; runx read true"]),
    ("{a: 'None'}", [f"sweep.yml:2:14: {QUOTED_NONE}"]),
    ("[{a: [1, 'None']}]", [f"sweep.yml:2:19: {QUOTED_NONE}"]),
    ("{a: [1e-3, 1.0e-3, 08, 2020-01-02, .nan, .inf, 0x1F, true, None, ~, y, 'on', '010', [['None']]]}", []),
]


@pytest.mark.parametrize(("hparams", "warnings"), WARNED, ids=[hparams for hparams, _ in WARNED])
def test_a_value_that_runx_read_differently_is_warned_of(hparams, warnings):
    assert list(read("CMD: a\nHPARAMS: " + hparams, "sweep.yml").warnings) == warnings


def test_other_keys_are_warned_of_and_anchors_alone_are_not():
    found = read("CMD: a\nx-a: &x {a: on}\nx-b: {b: on}\nENV: {A: 010}\nHPARAMS: {<<: *x}\n", "sweep.yml")
    assert found.warnings == (
        "sweep.yml:4:10: 010 is 10 here; runx read 8",
        "sweep.yml:2:13: on is the string 'on' here; runx read true",
    )


# ---------------------------------------------------------------- what is wrong

LINES = (
    "has several lines, and {!r} would be words of the line before it; end that line with \\ for one command "
    "(or write > in place of |), with ; or && for two, or write a mapping of stages or SETUP"
)
HERE = (
    "has several lines, and {!r} would be words of the line before it; a here-document (<<) has no place on one line: "
    "put it into a script file and run that"
)
REFUSED = [
    ("", "s.yml: the file is empty; write at least CMD: <command>"),
    ("# only a comment", "s.yml: the file is empty; write at least CMD: <command>"),
    ("---\n", "s.yml: the file is empty; write at least CMD: <command>"),
    ("python x.py", "s.yml:1:1: a sweep file is a mapping; write CMD: <command> and HPARAMS: <name>: <values>"),
    ("[1]", "s.yml:1:1: a sweep file is a mapping; write CMD: <command> and HPARAMS: <name>: <values>"),
    ("CMD: [", "s.yml:2:1: expected a value here; quote it if it is text"),
    ("CMD: a\nCMD: b", "s.yml:2:1: 'CMD' is written twice, first at line 1; keep one"),
    # CMD
    ("HPARAMS: {lr: 1}", "s.yml: there is no CMD; write CMD: <command>"),
    ("\ncmd: a", "s.yml:2:1: unknown key 'cmd'; did you mean CMD?"),
    ("HPARAMS: {}\nCDM: a", "s.yml:2:1: unknown key 'CDM'; did you mean CMD?"),
    ("CMD:", "s.yml:1:5: CMD is empty; write CMD: <command>"),
    ("CMD: ' '", "s.yml:1:6: CMD is empty; write CMD: <command>"),
    ("CMD: [python]", "s.yml:1:6: CMD must be one command, not a list; write CMD: <command>, or a mapping of stages"),
    ("CMD: echo it's", "s.yml:1:6: CMD: no closing quotation; quote it as in a shell"),
    ("CMD: echo it's && b", "s.yml:1:6: CMD: no closing quotation; quote it as in a shell"),
    ("CMD: a\\", "s.yml:1:6: CMD: no escaped character; quote it as in a shell"),
    (
        "CMD: 'a # b'",
        "s.yml:1:6: CMD holds a comment (#), which would swallow the values; quote the # or leave the comment out",
    ),
    ("CMD: |\n  sh setup.sh\n  python a.py", f"s.yml:1:6: CMD {LINES.format('python a.py')}"),
    ("CMD: |\n  python a.py\n    --lr 1", f"s.yml:1:6: CMD {LINES.format('--lr 1')}"),
    ("CMD: |\n  a \\\n    --b 'c\n  d'\n\n  é $HOME", f"s.yml:1:6: CMD {LINES.format('é $HOME')}"),
    ("CMD: |\n  a &&\n\n  b \\\\\n  c\n  d", f"s.yml:1:6: CMD {LINES.format('c')}"),
    ("CMD: |\n  python - <<EOF\n  print(1)\n  EOF", f"s.yml:1:6: CMD {HERE.format('print(1)')}"),
    ("CMD: |\n  echo '<<'\n  b", f"s.yml:1:6: CMD {LINES.format('b')}"),
    ('CMD: "a\\nb"', f"s.yml:1:6: CMD {LINES.format('b')}"),
    ("CMD:\n  one: a\n  two: |\n    b\n    c\n", f"s.yml:3:8: two {LINES.format('c')}"),
    ("CMD: |\n  for i in 1 2\n  do\n  a; done", f"s.yml:1:6: CMD {LINES.format('do')}"),
    ("CMD: |\n  if a; then b\n  else c; fi", f"s.yml:1:6: CMD {LINES.format('else c; fi')}"),
    ("CMD: |\n  for i in 1; do a; done\n  b", f"s.yml:1:6: CMD {LINES.format('b')}"),
    ("CMD: |\n  echo do\n  b", f"s.yml:1:6: CMD {LINES.format('b')}"),
    ("CMD: |\n  echo {\n  b", f"s.yml:1:6: CMD {LINES.format('b')}"),
    ("CMD: |\n  find . -exec rm {} \\;\n  b", f"s.yml:1:6: CMD {LINES.format('b')}"),
    ("CMD: |\n  echo 'a;'\n  b", f"s.yml:1:6: CMD {LINES.format('b')}"),
    ("CMD: |\n  for i in\n  b", f"s.yml:1:6: CMD {LINES.format('b')}"),
    ("CMD: a &", "s.yml:1:6: CMD ends with &, so the values would be a command of their own; leave it out"),
    ("CMD: 'a ;'", "s.yml:1:6: CMD ends with ;, so the values would be a command of their own; leave it out"),
    # HPARAMS
    ("CMD: a\nHPARAMS: 3", "s.yml:2:10: HPARAMS takes <name>: <values>, or a list of such mappings; this is '3'"),
    ("CMD: a\nHPARAMS: lr", "s.yml:2:10: HPARAMS takes <name>: <values>, or a list of such mappings; this is 'lr'"),
    (
        "CMD: a\nHPARAMS: [{}, [1]]",
        "s.yml:2:15: HPARAMS takes <name>: <values>, or a list of such mappings; this is a list",
    ),
    (
        "CMD: a\nHPARAMS: [{}, ~]",
        "s.yml:2:15: HPARAMS takes <name>: <values>, or a list of such mappings; this is '~'",
    ),
    ("CMD: a\nHPARAMS: []", "s.yml:2:10: HPARAMS is an empty list; leave HPARAMS out for a single run"),
    (
        "CMD: a\nHPARAMS: {lr: []}",
        "s.yml:2:15: lr is an empty list, which is no run at all; give it values, or None to leave it out",
    ),
    (
        "CMD: a\nHPARAMS: {RUNX.TAG: []}",
        "s.yml:2:21: RUNX.TAG is an empty list, which is no run at all; give it values, or None to leave it out",
    ),
    (
        "CMD: a\nHPARAMS: {lr: {min: 0}}",
        "s.yml:2:15: lr holds a mapping; a value is text, a number, true, false, None or a list of these",
    ),
    (
        "CMD: a\nHPARAMS: {lr: [1, {a: 0}]}",
        "s.yml:2:19: lr holds a mapping; a value is text, a number, true, false, None or a list of these",
    ),
    (
        "CMD: a\nHPARAMS: {lr: [[[{a: 0}]]]}",
        "s.yml:2:18: lr holds a mapping; a value is text, a number, true, false, None or a list of these",
    ),
    ("CMD: a\nHPARAMS: {lr: 1, lr: 2}", "s.yml:2:18: 'lr' is written twice, first at line 2; keep one"),
    ("CMD: a\nHPARAMS: {'': 1}", "s.yml:2:11: '' names no hyperparameter; write a name"),
    ("CMD: a\nHPARAMS: {--: 1}", "s.yml:2:11: '--' names no hyperparameter; write a name"),
    # magic keys
    ("CMD: a\nHPARAMS: {RUNX.TGA: x}", "s.yml:2:11: unknown key 'RUNX.TGA' in HPARAMS; did you mean RUNX.TAG?"),
    ("CMD: a\nHPARAMS: {FARMX.SKP: x}", "s.yml:2:11: unknown key 'FARMX.SKP' in HPARAMS; did you mean FARMX.SKIP?"),
    ("CMD: a\nHPARAMS: {runx.tag: x}", "s.yml:2:11: unknown key 'runx.tag' in HPARAMS; did you mean RUNX.TAG?"),
    (
        "CMD: a\nHPARAMS: {SUBMIT_JOB.NODE: 1}",
        "s.yml:2:11: unknown key 'SUBMIT_JOB.NODE' in HPARAMS; did you mean SUBMIT_JOB.NODES?",
    ),
    (
        "CMD: a\nHPARAMS: {FARMX.ZZZZZZZZZZZZZZZ: 1}",
        "s.yml:2:11: unknown key 'FARMX.ZZZZZZZZZZZZZZZ' in HPARAMS; "
        "known: FARMX.SKIP, FARMX.TAG, RUNX.SKIP, RUNX.TAG, SUBMIT_JOB.NODES, SUBMIT_JOB.PARTITION",
    ),
    ("CMD: a\nHPARAMS: {RUNX.TAG: x, FARMX.TAG: y}", "s.yml:2:24: RUNX.TAG and FARMX.TAG are the same; keep one"),
    (
        "CMD: a\nHPARAMS: {RUNX.TAG: {lr}, lr: 1}",
        "s.yml:2:21: RUNX.TAG is a mapping; it must be text or a list of texts, braces in quotes: '{lr}'",
    ),
    (
        "CMD: a\nHPARAMS: {RUNX.TAG: [[x]]}",
        "s.yml:2:22: RUNX.TAG is a list; it must be text or a list of texts, braces in quotes: '{lr}'",
    ),
    (
        "CMD: a\nHPARAMS: {RUNX.TAG: '{lrr}', lr: 1}",
        "s.yml:2:11: the tag '{lrr}' names no hyperparameter 'lrr'; did you mean lr?",
    ),
    ("CMD: a\nHPARAMS: {RUNX.TAG: '{}', lr: 1}", "s.yml:2:11: the tag '{}' names no hyperparameter ''; known: lr"),
    (
        "CMD: a\nHPARAMS: {RUNX.TAG: [a, '{lr}']}",
        "s.yml:2:11: the tag '{lr}' names no hyperparameter 'lr'; there are none",
    ),
    (
        "CMD: a\nHPARAMS: [{a: 1}, {RUNX.TAG: '{b}'}, {b: 1}]",
        "s.yml:2:20: the tag '{b}' names no hyperparameter 'b'; known: a",
    ),
    (
        "CMD: a\nHPARAMS: {RUNX.SKIP: 'false'}",
        "s.yml:2:22: RUNX.SKIP is 'false'; it must be true or false, without quotes, or a list of these",
    ),
    (
        "CMD: a\nHPARAMS: {FARMX.SKIP: [true, yes]}",
        "s.yml:2:30: FARMX.SKIP is 'yes'; it must be true or false, without quotes, or a list of these",
    ),
    (
        "CMD: a\nHPARAMS: {RUNX.SKIP: 1}",
        "s.yml:2:22: RUNX.SKIP is '1'; it must be true or false, without quotes, or a list of these",
    ),
    (
        "CMD: a\nHPARAMS: {SUBMIT_JOB.NODES: true}",
        "s.yml:2:29: SUBMIT_JOB.NODES is 'true'; it must be text, a number or a list of these",
    ),
    (
        "CMD: a\nHPARAMS: {SUBMIT_JOB.NODES: {a: 1}}",
        "s.yml:2:29: SUBMIT_JOB.NODES is a mapping; it must be text, a number or a list of these",
    ),
    # GOAL
    (
        "CMD: a\nHPARAMS: {RUNX.SKIP: [[true]]}",
        "s.yml:2:23: RUNX.SKIP is a list; it must be true or false, without quotes, or a list of these",
    ),
    ("CMD: a\nGOAL:", "s.yml:2:6: GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}"),
    ("CMD: a\nGOAL: ' '", "s.yml:2:7: GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}"),
    ("CMD: a\nGOAL: [acc]", "s.yml:2:7: GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}"),
    ("CMD: a\nGOAL: {}", "s.yml:2:7: GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}"),
    (
        "CMD: a\nGOAL: {metric: 3}",
        "s.yml:2:16: GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}",
    ),
    ("CMD: a\nGOAL: {metric: acc, mode: top}", "s.yml:2:27: the mode of GOAL is 'top'; it must be min or max"),
    ("CMD: a\nGOAL: {metric: acc, mode: [min]}", "s.yml:2:27: the mode of GOAL is a list; it must be min or max"),
    ("CMD: a\nGOAL: {metrc: acc}", "s.yml:2:8: unknown key 'metrc' in GOAL; did you mean metric?"),
]


@pytest.mark.parametrize(("file", "message"), REFUSED, ids=[file[:50] for file, _ in REFUSED])
def test_what_is_wrong_is_one_line_with_its_place(file, message):
    assert refusal(file) == message


def test_nothing_is_wrong_with_a_hostile_file_name():
    with pytest.raises(SweepError, match=r"^a b/it's; \$HOME é\.yml:1:5: CMD is empty"):
        read("CMD:", "a b/it's; $HOME é.yml")
