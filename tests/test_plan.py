"""plan: the words of a point, what makes two points one, the names of runs."""

import collections
import os
import random
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from launching import HOSTILE, value

from farmx import plan, templates
from farmx.plan import Template
from farmx.spec import Goal, Point, RunSpec, Stage, Value


def point(tag: str | None = None, swept: dict | None = None, **values: object) -> Point:
    return Point(
        {name: value(data) for name, data in values.items()},
        tag,
        {name: value(data) for name, data in (swept or {}).items()},
    )


def template(words: str = "python t.py", **more: object) -> Template:
    return Template(**{"words": tuple(words.split()), "shell": None, "arg_style": "gnu", **more})


def identity(made: Point, given: Template | None = None) -> str:
    return plan.identity(plan.preimage(given or template(), made))


def commands(points: list[Point], given: Template | None = None) -> list[str]:
    return list(plan.commands(given or template(), iter(points)))


# ---------------------------------------------------------------- words

FLAGS = [
    # data, words, gnu, equals, hydra
    (0.1, ("0.1",), ["--k", "0.1"], ["--k=0.1"], ["k=0.1"]),
    (0.001, ("1e-3",), ["--k", "1e-3"], ["--k=1e-3"], ["k=1e-3"]),
    (-1, ("-1",), ["--k", "-1"], ["--k=-1"], ["k=-1"]),
    (True, ("true",), ["--k"], ["--k"], ["k=true"]),
    (False, ("false",), [], [], ["k=false"]),
    ("True", ("True",), ["--k", "True"], ["--k=True"], ["k=True"]),
    (None, (), [], [], []),
    ("", ("",), ["--k", ""], ["--k="], ["k="]),
    ("a b", ("a b",), ["--k", "a b"], ["--k=a b"], ["k=a b"]),
    ("--v", ("--v",), ["--k", "--v"], ["--k=--v"], ["k=--v"]),
    ([64, 64], ("64", "64"), ["--k", "64", "64"], ["--k=64", "--k=64"], ["k=[64,64]"]),
    (["a b", ""], ("a b", ""), ["--k", "a b", ""], ["--k=a b", "--k="], ["k=[a b,]"]),
    ([7], ("7",), ["--k", "7"], ["--k=7"], ["k=[7]"]),
]


@pytest.mark.parametrize("data, words, gnu, equals, hydra", FLAGS, ids=[repr(row[0]) for row in FLAGS])
def test_a_value_is_spelled_as_the_arg_style_says(data, words, gnu, equals, hydra):
    spelled = {style: list(plan.flag_words("k", Value(data, words), style)) for style in ("gnu", "equals", "hydra")}
    assert spelled == {"gnu": gnu, "equals": equals, "hydra": hydra}


@pytest.mark.parametrize("style, told", [("gnu", ["-k", "1"]), ("equals", ["-k=1"]), ("hydra", ["-k=1"])])
def test_a_key_that_has_its_dashes_keeps_them(style, told):
    assert list(plan.flag_words("-k", value(1), style)) == told


def test_a_stage_holds_the_words_of_the_command_then_the_values_in_file_order():
    (made,) = plan.stages_of(template(), point(b=2, a=1, c=True, d=False, e=None))
    assert made == Stage("main", ("python", "t.py", "--b", "2", "--a", "1", "--c"))


def test_a_command_of_shell_syntax_stays_text_and_its_values_stay_words():
    (made,) = plan.stages_of(template("", shell="cd x && python t.py"), point(a="it's"))
    assert made == Stage("main", ("--a", "it's"), "cd x && python t.py")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("style", ["gnu", "equals", "hydra"])
def test_a_printed_command_gives_a_shell_exactly_the_words_of_the_stage(style, text):
    made, given = point(a=text, b=[text, text]), template(f"python {'t.py'}", arg_style=style)
    (line,) = commands([made], given)
    assert tuple(shlex.split(line)) == plan.stages_of(given, made)[0].words


def test_a_printed_command_of_shell_syntax_begins_with_it_as_it_is():
    assert commands([point(a="b c")], template("", shell="X=$Y python t.py")) == ["X=$Y python t.py --a 'b c'"]


# ---------------------------------------------------------------- stages


def stages(*texts: str, **more: object) -> Template:
    """The template of a CMD that is a mapping, its stages a, b, ..."""
    made = [plan.StageTemplate(name, templates.read(text, "here")) for name, text in zip("abcdef", texts)]
    return template("", stages=tuple(made), **more)


def test_each_stage_is_its_template_filled_in_and_nothing_follows():
    given = stages("python t.py {lr} [adam]", "cd x && y {name} > LOGDIR/{_name}", "z", arg_style="equals")
    given = given._replace(stages=(*given.stages[:2], given.stages[2]._replace(resources={"gpus": 2}, form="f")))
    assert plan.stages_of(given, point(lr=0.1, adam=True, name="a b", seed=1)) == (
        Stage("a", ("python", "t.py", "0.1", "--adam")),
        Stage("b", (), "cd x && y 'a b' > LOGDIR/\"$_name\""),
        Stage("c", ("z",), None, "f", {"gpus": 2}),
    )


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("style", ["gnu", "equals", "hydra"])
def test_a_printed_stage_gives_a_shell_exactly_its_words(style, text):
    given = stages("python x{a} '{b}' {b} [a] [b] [gone] {{a}}", "z && {a}", arg_style=style)
    made = point(a=text, b=[text, text], gone=None)
    first, second = plan.stages_of(given, made)
    lines = list(plan.stage_lines(given, iter([made, made, point(a=1, b=2)])))
    assert len(lines) == 4
    assert shlex.split(lines[0]) == ["a", *first.words]
    assert lines[1] == f"b  {second.shell}"
    last = {"gnu": "--a 1 --b 2", "equals": "--a=1 --b=2", "hydra": "a=1 b=2"}[style]
    assert lines[2:] == [f"a  python x1 2 2 {last} '{{a}}'", "b  z && 1"]


def test_printed_stages_stand_behind_their_names():
    given = stages("x {n}", "y")
    given = given._replace(stages=(given.stages[0]._replace(name="train"), given.stages[1]))
    lines = list(plan.stage_lines(given, iter([point(n=1), point(n=2)])))
    assert lines == ["train  x 1", "b      y", "train  x 2", "b      y"]


SAME = [
    # the stages of two launches, whether they are one run
    (["x [a]", "y"], ["x [a]", "z {b}", "w"], True),
    (["x [a]"], ["x   [a]"], True),
    (["x [a]"], ["x {a}"], False),
    (["x [a] y"], ["x y [a]"], False),
    (["x LOGDIR {a}"], ["x {_output} {a}"], True),
    (["x '{{a}}'"], ["x '{a}'"], False),
    (["x && y {a}"], ["x && z {a}"], False),
]


@pytest.mark.parametrize(("one", "other", "same"), SAME)
def test_the_first_stages_template_is_part_of_what_a_run_is_and_later_ones_are_not(one, other, same):
    made = point(a=1, b=2)
    assert (identity(made, stages(*one)) == identity(made, stages(*other))) is same


GROWN = [
    # one command, the first stage it became, whether its runs are the same
    ("python t.py", "python t.py [a] [b]", True),
    ("python t.py", "python t.py [b] [a] [c]", True),
    ("python t.py", "python t.py [a]", False),
    ("python t.py", "python t.py [a] [b] --x", False),
    ("python t.py {a}", "python t.py {a} [a] [b]", False),
    ("python t.py", "python t.py", False),
]


@pytest.mark.parametrize(("cmd", "first", "same"), GROWN)
def test_one_command_that_becomes_the_first_stage_keeps_its_runs(cmd, first, same):
    made = point(a=1, b=2, c=None)
    assert (identity(made, template(cmd)) == identity(made, stages(first, "z"))) is same


def test_shell_text_that_becomes_the_first_stage_keeps_its_runs():
    assert identity(point(a=1), template("", shell="x && y")) == identity(point(a=1), stages("x && y  [a]", "z"))


def test_the_preimage_of_a_first_stage_is_its_template():
    made = stages("python t.py {a}", "z")
    assert plan.preimage(made, point(a=1)) == {"template": ["python", "t.py", "{a}"], "values": {"a": {"n": "1"}}}
    assert plan.preimage(stages("a && b {a}"), point(a=1))["template"] == "a && b {a}"


FORMS = [
    # the templates of the stages of two launches, which stages have the same form
    (["x", "y", "z"], ["x", "y", "z"], [True, True, True]),
    (["x", "y", "z"], ["w", "y", "z"], [True, True, True]),
    (["x", "y", "z"], ["x", "Y", "z"], [True, False, False]),
    (["x", "y", "z"], ["x", "z", "y"], [True, False, False]),
    (["x", "y", "y"], ["x", "y", "w"], [True, True, False]),
]


@pytest.mark.parametrize(("one", "other", "same"), FORMS)
def test_a_later_stage_has_another_form_when_it_or_one_before_it_changed(one, other, same):
    assert [a == b for a, b in zip(plan.forms(one), plan.forms(other))] == same


def test_forms_never_change():
    # If this fails, every later stage that was ever run would be run again.
    assert plan.forms([("x",), ("y", "{a}"), "z && w"]) == ["", "8cccd29f2c83", "38231a55116f"]


def test_specs_hold_the_form_of_each_stage():
    (spec,) = plan.specs(stages("x", "y {a}"), iter([point(a=1)]))
    assert [stage.form for stage in spec.stages] == plan.forms([("x",), ("y", "{a}")])


# ---------------------------------------------------------------- identity

PIN = Point(
    {
        "lr": Value(0.001, ("1e-3",)),
        "seed": Value(1, ("1",)),
        "adam": Value(True, ("true",)),
        "name": Value("größe \n$HOME", ("größe \n$HOME",)),
        "layers": Value([64, "a", None, 1.5], ("64", "a", "null", "1.5")),
        "gone": Value(None, ()),
    },
    "a-tag",
    {"TAG": Value("a-tag", ("a-tag",))},
    {"nodes": Value(2, ("2",))},
)


def test_the_preimage_and_the_digest_of_a_point_never_change():
    # If this fails, every experiment that was ever launched would be launched again: give FORM a new name and re-key.
    image = plan.preimage(template("python t.py LOGDIR"), PIN)
    assert image == {
        "command": ["python", "t.py", "LOGDIR"],
        "values": {
            "adam": True,
            "layers": [{"n": "64"}, "a", None, {"n": "1.5"}],
            "lr": {"n": "0.001"},
            "name": "größe \n$HOME",
            "seed": {"n": "1"},
        },
        "swept": {"TAG": "a-tag"},
    }
    assert plan.identity(image) == "p1-8c53506cf77176c7ec1a"


CANONICAL = [
    (1, {"n": "1"}),
    (1.0, {"n": "1"}),
    (-0.0, {"n": "0"}),
    (1e22, {"n": "10000000000000000000000"}),
    (10**30, {"n": "1" + "0" * 30}),
    (0.1, {"n": "0.1"}),
    (1e-7, {"n": "1e-07"}),
    (float("inf"), {"n": "inf"}),
    (float("-inf"), {"n": "-inf"}),
    (float("nan"), {"n": "nan"}),
    (True, True),
    (False, False),
    (None, None),
    ("1", "1"),
    ("", ""),
    ([1, [1.0, "1"]], [{"n": "1"}, [{"n": "1"}, "1"]]),
]


@pytest.mark.parametrize("data, form", CANONICAL, ids=[repr(data) for data, _ in CANONICAL])
def test_the_canonical_form_of_a_value(data, form):
    assert plan.canonical(data) == form
    assert type(plan.canonical(data)) is type(form)  # True == 1


SAME = [
    ("spelling of a number", point(a=Value), point(a=Value)),
    ("order of the keys", point(a=1, b=2), point(b=2, a=1)),
    ("None is not set", point(a=1, b=None), point(a=1)),
    ("a swept tag that is none", point(a=1, swept={"TAG": None}), point(a=1)),
    ("a tag that is not swept", point("x", a=1), point("y", a=1)),
    ("a whole float and an int", point(a=1.0), point(a=1)),
    ("minus zero", point(a=-0.0), point(a=0)),
    ("a list of numbers", point(a=[1, 2.0]), point(a=[1.0, 2])),
]
SAME[0] = ("spelling of a number", Point({"a": Value(0.001, ("1e-3",))}), Point({"a": Value(0.001, ("1.0e-3",))}))
OTHER = [
    ("a number and its text", point(a=1), point(a="1")),
    ("true and the text True", point(a=True), point(a="True")),
    ("true and 1", point(a=True), point(a=1)),
    ("false and 0", point(a=False), point(a=0)),
    ("false and not set", point(a=False), point()),
    ("empty and not set", point(a=""), point()),
    ("a list of one and its element", point(a=[1]), point(a=1)),
    ("the order of a list", point(a=[1, 2]), point(a=[2, 1])),
    ("a list and its text", point(a=[1, 2]), point(a="[1, 2]")),
    ("none in a list", point(a=[1, None]), point(a=[1])),
    ("a name", point(a=1), point(b=1)),
    ("a name with dashes", point(a=1), Point({"-a": value(1)})),
    ("a swept tag", point("x", {"TAG": "x"}, a=1), point("y", {"TAG": "y"}, a=1)),
    ("a swept tag and none", point("x", {"TAG": "x"}, a=1), point(a=1)),
    ("a swept resource", point(swept={"nodes": 1}), point(swept={"nodes": 2})),
    ("a swept resource and a value of its name", point(swept={"nodes": 1}), point(nodes=1)),
    ("large whole numbers", point(a=2**60), point(a=2**60 + 1)),
    ("near floats", point(a=0.1), point(a=0.1 + 2**-55)),
]


@pytest.mark.parametrize("one, other", [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_these_points_are_one_run(one, other):
    assert identity(one) == identity(other)
    assert len(commands([one, other])) == 1


@pytest.mark.parametrize("one, other", [row[1:] for row in OTHER], ids=[row[0] for row in OTHER])
def test_these_points_are_two_runs(one, other):
    assert identity(one) != identity(other)
    assert len(commands([one, other])) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"arg_style": "hydra"},
        {"env": {"A": "1"}},
        {"env_pass": ("TOKEN",)},
        {"setup": "module load cuda"},
        {"pythonpath": ("lib",)},
        {"resources": {"nodes": 4}},
        {"tag": "t"},
        {"goal": Goal("val/acc", "max")},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_is_neither_value_nor_command_makes_no_other_point(more):
    assert identity(PIN, template(**more)) == identity(PIN)


@pytest.mark.parametrize(
    "other",
    [template("python t.py -v"), template("python u.py"), template("", shell="python t.py"), template("python 't.py'")],
    ids=["a word more", "another word", "shell text", "quotes as words"],
)
def test_another_command_makes_another_point(other):
    assert identity(PIN, other) != identity(PIN)


def test_a_surrogate_of_an_undecodable_byte_has_an_identity():
    assert re.fullmatch(r"p1-[0-9a-f]{20}", identity(point(a="\udcff")))


def random_points(seed: int, count: int) -> list[Point]:
    """Points of few distinct values, so that many are equal, as spelled and as swept in several ways."""
    draw = random.Random(seed)
    data = [None, True, False, 0, 1, 1.0, -1, "1", "", "true", "a b", 0.1, [1, 2], [1.0, 2.0], [], [None], ["1", "2"]]
    values = [value(each) for each in data] + [Value(0.1, ("1e-1",)), Value(1, ("1.",))]

    def some(names: str, most: int) -> dict[str, Value]:
        return {name: draw.choice(values) for name in draw.sample(names, draw.randint(0, most))}

    return [Point(some("abc", 2), draw.choice([None, "x"]), some("TN", 1)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_commands_leaves_out_a_point_exactly_when_specs_does(seed):
    points = random_points(seed, 1500)
    given = template()
    specs = list(plan.specs(given, iter(points)))
    assert len(specs) < len(points) / 2
    assert [shlex.split(line) for line in commands(points)] == [list(spec.stages[0].words) for spec in specs]
    assert len({spec.identity for spec in specs}) == len(specs)


def test_of_equal_points_the_first_is_the_spec():
    first = Point({"a": Value(0.001, ("1e-3",))}, "one")
    second = Point({"a": Value(0.001, ("0.001",))}, "two")
    given = template(goal=Goal("val/acc", "max"), env={"E": "LOGDIR"}, env_pass=("P",), setup="S", pythonpath=("p",),
                     resources={"nodes": 1, "mem": 2})  # fmt: skip
    assert list(plan.specs(given, iter([first, second]))) == [
        RunSpec(
            identity=identity(first),
            preimage=plan.preimage(given, first),
            stages=(Stage("main", ("python", "t.py", "--a", "1e-3")),),
            hparams={"a": 0.001},
            tag="one",
            env={"E": "LOGDIR"},
            env_pass=("P",),
            setup="S",
            pythonpath=("p",),
            resources={"nodes": 1, "mem": 2},
            goal=Goal("val/acc", "max"),
        )
    ]


def test_hparams_tell_every_value_as_data_and_resources_of_a_point_win():
    made = Point({"a": value([1, "x"]), "b": value(None), "c": value(False)}, None, {}, {"nodes": value(3)})
    (spec,) = plan.specs(template(resources={"nodes": 1, "mem": 2}), iter([made]))
    assert spec.hparams == {"a": [1, "x"], "b": None, "c": False}
    assert spec.resources == {"nodes": 3, "mem": 2}


def test_what_asks_for_the_same_is_looked_at_once_and_what_does_not_is_not_taken_for_it():
    own, more, common = value(1), value(2), {"nodes": 9, "mem": 2}
    asked = [{}, {"nodes": own}, {"nodes": own}, {"nodes": more}, {"mem": own}, {}, {"nodes": own, "mem": more},
             {"nodes": more, "mem": own}]  # fmt: skip
    points = [Point({"a": value(each)}, None, {}, dict(asks)) for each, asks in enumerate(asked)]
    specs = list(plan.specs(template(resources=common), iter(points)))
    assert [spec.resources for spec in specs] == [
        {**common, **{name: each.data for name, each in asks.items()}} for asks in asked]  # fmt: skip
    assert [spec.hparams["a"] for spec in plan.kinds(specs)] == [5, 2, 3, 4, 6, 7]
    none, gpu = dict[str, object](), {"gpus": 1}
    staged = [specs[0]._replace(stages=tuple(Stage(str(place), (), resources=each) for each in pair))
              for place, pair in enumerate([(none, none), (gpu, none), (none, gpu), (gpu, none)])]  # fmt: skip
    assert plan.kinds(staged) == [staged[0], staged[3], staged[2]]
    assert plan.kinds([]) == []


# ---------------------------------------------------------------- tags

TAGS = [
    ("plain", "plain"),
    ("lr{lr}", "lr1e-3"),
    ("{lr}_{layers}", "1e-3_64-32"),
    ("{other}", "other"),
    ("{lr", "lr"),
    ("a b/c\nd", "a-b-c-d"),
    ("../..", None),
    ("...", None),
    ("/", None),
    ("", None),
    ("$HOME;rm -rf *", "HOME-rm--rf"),
    (".hidden", "hidden"),
    ("-n", "n"),
    ("größe漢字", "größe漢字"),
    ("'q'\"", "q"),
    ("k=v,w@1.0+x", "k=v,w@1.0+x"),
    ("\udcff", None),
    ("x" * 300, "x" * 100),
    ("{name}", "it-s-a-b"),
]


@pytest.mark.parametrize("tag, told", TAGS, ids=[repr(tag[:20]) for tag, _ in TAGS])
def test_a_tag_is_filled_in_and_made_fit_for_a_directory(tag, told):
    made = Point({"lr": Value(0.001, ("1e-3",)), "layers": value([64, 32]), "name": value("it's\na/b")}, tag)
    (spec,) = plan.specs(template(), iter([made]))
    assert spec.tag == told


def test_the_tag_of_the_command_line_is_for_points_without_one():
    specs = plan.specs(template(tag="all-{a}"), iter([point(a=1), point("mine", a=2)]))
    assert [spec.tag for spec in specs] == ["all-1", "mine"]


# ---------------------------------------------------------------- names

COOL = re.compile(r"[a-z]+-[a-z]+_2020\.02\.06_14\.19")
NOON = 1580998740.0  # 2020-02-06 14:19 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def names(tags: list[str | None], taken: object = (), cool: bool = True, seed: str = "s") -> list[str]:
    source = plan.Names(taken, NOON, seed, cool)
    return [source.next(tag) for tag in tags]


def test_a_name_is_tag_slug_and_minute():
    plain, tagged = names([None, "tag"])
    assert COOL.fullmatch(plain)
    assert tagged.startswith("tag_") and COOL.fullmatch(tagged.removeprefix("tag_"))


def test_names_follow_from_the_seed_alone():
    random.seed(1)
    one = names([None] * 5)
    random.seed(2)
    assert names([None] * 5) == one != names([None] * 5, seed="t")


def test_names_move_no_other_generator_on():
    random.seed(7)
    state = random.getstate()
    names([None] * 5)
    assert random.getstate() == state


def test_no_name_is_taken_or_given_twice():
    first = names([None] * 50)
    second = names([None] * 50, taken=set(first[::2]))
    assert len(set(first)) == 50 and len(set(second)) == 50
    assert not set(second) & set(first[::2])


@pytest.mark.parametrize(
    "tags, taken, told",
    [
        (["t"], [], ["t"]),
        (["t", "t", "t"], [], ["t", "t_2", "t_3"]),
        (["t", "t"], ["t", "t_3"], ["t_2", "t_4"]),
        ([None, None], [], ["run", "run_2"]),
        ([None], ["run"], ["run_2"]),
        (["_x", "=y", "+z"], [], ["run_x", "run=y", "run+z"]),
        (["a", "a_2", "a"], [], ["a", "a_2", "a_3"]),
        (["漢"], [], ["漢"]),
    ],
)
def test_without_cool_names_a_name_is_the_bare_tag_and_a_number_when_it_is_taken(tags, taken, told):
    assert names(tags, taken, cool=False) == told


@pytest.mark.parametrize("cool", [True, False])
@pytest.mark.parametrize("tag", [*HOSTILE, "_x", "@x", "漢" * 300, "😀" * 300, ".." * 60, "{a}" * 200])
def test_any_tag_gives_a_name_that_is_one_directory_and_begins_with_a_letter_or_digit(tmp_path, tag, cool):
    made = [Point({"a": value("/." + "ü" * 150)}, tag), point(b=1)]
    tags = [spec.tag for spec in plan.specs(template(), iter(made))]
    for name in names(tags, cool=cool):
        (tmp_path / name).mkdir()
        assert name[0].isalnum() and not re.search(r"[\s/'\"$;*\\]", name)
        assert len(os.fsencode(name)) <= 200  # room for what is written beside it


def test_threads_that_ask_at_once_get_each_a_name_of_its_own():
    for cool in (True, False):
        source = plan.Names((), NOON, "s", cool)
        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(lambda _, source=source: source.next("t"), range(2000)))) == 2000


def test_the_words_are_those_that_coolname_draws():
    import coolname

    lists = [[list(words) for words in zip(*(coolname.generate(2) for _ in range(5000)), strict=True)]]
    adjectives, nouns = plan._words()
    assert [set(adjectives) >= set(lists[0][0]), set(nouns) >= set(lists[0][1])] == [True, True]
    assert len(adjectives) * len(nouns) == pytest.approx(coolname.get_combinations_count(2), rel=0.01)
    drawn = [tuple(name.split("_")[0].split("-")) for name in names([None] * 5000)]
    assert all(first in adjectives and then in nouns and first[:4] != then[:4] for first, then in drawn)
    assert max(collections.Counter(drawn).values()) == 1


def test_more_runs_in_a_minute_than_there_are_slugs_still_get_names(tmp_path, monkeypatch):
    (tmp_path / "coolname/data").mkdir(parents=True)
    (tmp_path / "coolname/__init__.py").touch()
    (tmp_path / "coolname/data/__init__.py").write_text(
        "config = {'an': {'lists': ['a', 'n']}, 'a': {'lists': ['b']}, 'b': {'words': ['red', 'foxy']},"
        " 'n': {'words': ['fox', 'foxyfox']}}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "coolname", raising=False)
    made = names([None] * 5)
    cool = {f"{slug}_2020.02.06_14.19" for slug in ("red-fox", "red-foxyfox", "foxy-fox")}
    assert [set(made[:3]), made[3:]] == [cool, ["run", "run_2"]]
