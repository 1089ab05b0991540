"""yaml12: what the text of a yaml file means and where it stands."""

import datetime
import math

import pytest
import yaml

from farmx import yaml12
from farmx.errors import ConfigError, SweepError
from farmx.yaml12 import Fields, Items, Mark, Scalar


@pytest.fixture(params=["fast", "slow"], autouse=True)
def parser(request, monkeypatch):
    """Both of PyYAML's parsers: the C one and the one that stands in where it is absent."""
    if request.param == "slow":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    yaml12._composer.cache_clear()
    yield request.param
    yaml12._composer.cache_clear()


def read(text):
    return yaml12.parse(text, "sweep.yml", SweepError)


def data(text):
    return yaml12.plain(read(text))


def refusal(text):
    with pytest.raises(SweepError) as refused:
        read(text)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_parser_under_test_is_the_one_that_was_asked_for(parser):
    assert issubclass(yaml12._composer(), yaml.CSafeLoader) is (parser == "fast")


SCALARS = [
    ("", None),
    ("~", None),
    ("null", None),
    ("Null", None),
    ("NULL", None),
    ("nULL", "nULL"),
    ("None", "None"),
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("false", False),
    ("False", False),
    ("FALSE", False),
    ("tRUE", "tRUE"),
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("Off", "Off"),
    ("y", "y"),
    ("0", 0),
    ("-0", 0),
    ("+12", 12),
    ("010", 10),
    ("08", 8),
    ("0o17", 15),
    ("0o18", "0o18"),
    ("0x1F", 31),
    ("-0x1F", "-0x1F"),
    ("0X1F", "0X1F"),
    ("0b11", "0b11"),
    ("1_000", "1_000"),
    ("1e-3", 0.001),
    ("1.0e-3", 0.001),
    ("1E3", 1000.0),
    ("1e", "1e"),
    (".5", 0.5),
    ("-.5", -0.5),
    ("5.", 5.0),
    (".", "."),
    ("-", "-"),
    ("1.2.3", "1.2.3"),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("+.Inf", math.inf),
    ("inf", "inf"),
    ("nan", "nan"),
    ("12:30:00", "12:30:00"),
    ("1:30", "1:30"),
    ("2020-01-02", "2020-01-02"),
    ("=", "="),
    ("<<", "<<"),
    ("1 000", "1 000"),
    ("\u0661", "\u0661"),
    ("1\n", "1\n"),
    ("9" * 3000, int("9" * 3000)),
    ("9" * 10_000, "9" * 10_000),
]


@pytest.mark.parametrize(("text", "expected"), SCALARS, ids=[repr(text)[:20] for text, _ in SCALARS])
def test_an_unquoted_scalar_is_what_the_core_schema_says(text, expected):
    found = yaml12.scalar(text)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_a_number(text):
    assert math.isnan(yaml12.scalar(text))


def test_a_scalar_keeps_its_spelling_and_place():
    node = read("lr: [1e-3, '1e-3', \"on\", !!str 3, !!float 3]\ntext: |\n  7\n")
    assert node == Fields(
        {
            "lr": Items(
                (
                    Scalar(0.001, "1e-3", Mark("sweep.yml", 1, 6), False),
                    Scalar("1e-3", "1e-3", Mark("sweep.yml", 1, 12), True),
                    Scalar("on", "on", Mark("sweep.yml", 1, 20), True),
                    Scalar("3", "3", Mark("sweep.yml", 1, 26), True),
                    Scalar(3.0, "3", Mark("sweep.yml", 1, 35), False),
                ),
                Mark("sweep.yml", 1, 5),
            ),
            "text": Scalar("7\n", "7\n", Mark("sweep.yml", 2, 7), True),
        },
        {"lr": Mark("sweep.yml", 1, 1), "text": Mark("sweep.yml", 2, 1)},
        Mark("sweep.yml", 1, 1),
    )


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        (Mark("sweep.yml", 3, 1), "sweep.yml:3:1"),
        (Mark("a b.yml", 10, 20), "a b.yml:10:20"),
        (Mark("command line"), "command line"),
    ],
)
def test_a_mark_prints_as_editors_read_it(mark, told):
    assert str(mark) == told


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "\ufeff"])
def test_an_empty_document_is_none(text):
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("\ufeffa: 1", {"a": 1}),
        ("%YAML 1.1\n---\na: 010", {"a": 10}),
        ("1: a\ntrue: b\n~: c\n1.50: d", {"1": "a", "true": "b", "~": "c", "1.50": "d"}),
        ("é ü: '☃ $HOME; \"x\"'", {"é ü": '☃ $HOME; "x"'}),
        ("a: it's", {"a": "it's"}),
        ('a: "two\\nlines"', {"a": "two\nlines"}),
        ("a: >\n  python x.py\n  --b\n", {"a": "python x.py --b\n"}),
        ("[[1, [2]], {a: ~}]", [[1, [2]], {"a": None}]),
        ("[!!int 3, !!bool true, !!null '', !!seq [1], !!map {}]", [3, True, None, [1], {}]),
    ],
)
def test_yaml_is_read_as_plain_data(text, expected):
    assert data(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("x-base: &b {lr: 1, bs: 2}\nh: {<<: *b, lr: 3}", {"x-base": {"lr": 1, "bs": 2}, "h": {"lr": 3, "bs": 2}}),
        ("h: {lr: 3, <<: {lr: 1, bs: 2}}", {"h": {"lr": 3, "bs": 2}}),
        ("h: {<<: [{a: 1}, {a: 2, b: 3}]}", {"h": {"a": 1, "b": 3}}),
        ("[&a {x: 1}, &b {<<: *a, y: 2}, {<<: *b}]", [{"x": 1}, {"x": 1, "y": 2}, {"x": 1, "y": 2}]),
        ("'<<': 3", {"<<": 3}),
    ],
)
def test_anchors_and_merges_work(text, expected):
    assert data(text) == expected


def test_merged_keys_come_first_in_the_order_of_pyyaml():
    text = "h: {z: 1, <<: [{a: 1, b: 2}, {c: 3, a: 9}], b: 5}"
    assert list(data(text)["h"].items()) == list(yaml.safe_load(text)["h"].items())


def test_a_merged_value_stands_where_it_was_written():
    node = read("x: &x\n  lr: 1\nh:\n  <<: *x\n")
    assert (node.items["h"].marks["lr"], node.items["h"].items["lr"].mark.line) == (Mark("sweep.yml", 2, 3), 2)


def test_an_alias_is_read_once_however_often_it_is_used():
    text = "k0: &k0 [on]\n" + "".join(f"k{i + 1}: &k{i + 1} [*k{i}, *k{i}]\n" for i in range(60))
    node = read(text)
    assert node.items["k60"].items[0] is node.items["k60"].items[1]
    assert [old for _, old in yaml12.readings_1_1(node)] == [True]


REFUSED = [
    ("a: 1\na: 2\n", "sweep.yml:2:1: 'a' is written twice, first at line 1; keep one"),
    ("a: {'b': 1, b: 2}", "sweep.yml:1:13: 'b' is written twice, first at line 1; keep one"),
    ("a: {1: 1, '1': 2}", "sweep.yml:1:11: '1' is written twice, first at line 1; keep one"),
    ("a: 1\n\tb: 2\n", "sweep.yml:2:1: a tab cannot indent; use spaces"),
    ("a:\n\t- b\n", "sweep.yml:2:1: a tab cannot indent; use spaces"),
    ("a: [1, 2\nb: 3\n", "sweep.yml:1:4: the [ opened here is never closed, or a comma is missing after it"),
    ("a: {x: 1\n", "sweep.yml:1:4: the { opened here is never closed, or a comma is missing after it"),
    ("a: 'it's'\n", "sweep.yml:1:8: expected a key here; mend the indentation or the brackets above"),
    ("a: 'x\nb: 2\n", "sweep.yml:1:4: the quote opened here is never closed"),
    ('a: "x\nb: 2\n', "sweep.yml:1:4: the quote opened here is never closed"),
    ("a: b: c\n", "sweep.yml:1:5: a ':' cannot stand here; quote the value or mend the indentation"),
    ("a: 1\n  b: 2\n", "sweep.yml:2:4: a ':' cannot stand here; quote the value or mend the indentation"),
    ("é: b: c\n", "sweep.yml:1:5: a ':' cannot stand here; quote the value or mend the indentation"),
    ("a: 1\nb\n", "sweep.yml:3:1: a ':' is missing after a key; write key: value"),
    ("a: *foo\n", "sweep.yml:1:4: *foo names no anchor above it; define it with & first"),
    ("a: [*foo]\n", "sweep.yml:1:5: *foo names no anchor above it; define it with & first"),
    ("a: &x 1\nb: &x 2\n", "sweep.yml:2:4: this anchor's name is taken; choose another"),
    ("a: &x [*x]\n", "sweep.yml:1:4: an anchor cannot contain itself"),
    ("a: &x {<<: *x}\n", "sweep.yml:1:4: an anchor cannot contain itself"),
    ("a: @x\n", "sweep.yml:1:4: a value cannot start with @; quote it"),
    ("a: `x`\n", "sweep.yml:1:4: a value cannot start with `; quote it"),
    ("a: %x\n", "sweep.yml:1:4: a value cannot start with %; quote it"),
    ("a: , b", "sweep.yml:1:4: expected a value here; quote it if it is text"),
    ("- a\nb: 2", "sweep.yml:2:1: expected another '-' item here; mend the indentation"),
    ("a: 1\n\n- b\n", "sweep.yml:3:1: expected a key here; mend the indentation or the brackets above"),
    ("---\na\n---\nb\n", "sweep.yml:3:1: a second document begins here; keep one in the file"),
    ("a: x\x07y\n", "sweep.yml:1:5: the character U+0007 cannot stand in yaml; remove it"),
    ("a: 1\né: x\x00\n", "sweep.yml:2:5: the character U+0000 cannot stand in yaml; remove it"),
    ("a: x\udcffy\n", "sweep.yml:1:5: the character U+DCFF cannot stand in yaml; remove it"),
    ('a: "x\\0y"', "sweep.yml:1:4: a NUL character cannot be passed to a program"),
    ("a: !foo 3\n", "sweep.yml:1:4: unknown tag !foo; leave it out"),
    ("a: !!python/name:os.system ''\n", "sweep.yml:1:4: unknown tag !!python/name:os.system; leave it out"),
    ("a: !!set {b}\n", "sweep.yml:1:4: unknown tag !!set; leave it out"),
    ("a: !!int x\n", "sweep.yml:1:4: 'x' is no int"),
    ("a: !!float x\n", "sweep.yml:1:4: 'x' is no float"),
    ("? [a]\n: b\n", "sweep.yml:1:3: a key must be text, not a list or a mapping; quote it"),
    ("{a: 1}: b\n", "sweep.yml:1:1: a key must be text, not a list or a mapping; quote it"),
    ("<<: 3\n", "sweep.yml:1:5: << takes a mapping or a list of mappings"),
    ("<<: [{}, 3]\n", "sweep.yml:1:10: << takes a mapping or a list of mappings"),
    ("a: " + "[" * 900 + "]" * 900, "sweep.yml: nested too deeply"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[repr(text)[:24] for text, _ in REFUSED])
def test_what_is_wrong_is_one_line_with_its_place(text, message):
    assert refusal(text) == message


def test_an_unknown_escape_is_told_in_the_quote():
    assert refusal('a: "\\q"').split(": ", 1)[1] == 'unknown escape in "..."; write \\\\ for a backslash or use \'...\''


@pytest.mark.parametrize("text", ["a: >3x\n  b", "a: &\n"])
def test_a_rare_syntax_error_says_what_the_parser_said(text):
    assert refusal(text).startswith("sweep.yml:1:") and refusal(text).endswith("; this is not yaml")


def test_the_caller_chooses_the_error():
    with pytest.raises(ConfigError, match="^.farmx.yaml:1:4: "):
        yaml12.parse("a: [1", ".farmx.yaml", ConfigError)


READINGS = [
    ("010", 8),
    ("-010", -8),
    ("on", True),
    ("No", False),
    ("yes", True),
    ("1_000", 1000),
    ("0b11", 3),
    ("12:30:00", 45000),
    ("1:30", 90),
    ("-1:30", -90),
    ("1:30.5", 90.5),
    ("0o17", "0o17"),
    ("1e-3", "1e-3"),
    ("08", "08"),
    ("2020-01-02", datetime.date(2020, 1, 2)),
]


@pytest.mark.parametrize(("text", "old"), READINGS)
def test_another_reading_of_yaml_1_1_is_found(text, old):
    assert list(yaml12.readings_1_1(read(f"a: {text}"))) == [(read(f"a: {text}").items["a"], old)]


ALIKE = ["10", "0", "1.5", ".5", "1.0e-3", "0x1F", "true", "~", "text", "none", "y", "n", "2020-99-99", "="]


@pytest.mark.parametrize("text", [*ALIKE, "'010'", '"on"', "!!str on"])
def test_what_both_versions_read_alike_or_1_1_not_at_all_is_not_mentioned(text):
    assert list(yaml12.readings_1_1(read(f"a: [{text}]"))) == []


def test_a_reading_is_found_once_where_it_stands_however_often_it_is_used():
    node = read("x: &x {a: on}\ny: {<<: *x}\nz: [*x, *x, 010]")
    assert [(scalar.text, scalar.mark.line) for scalar, _ in yaml12.readings_1_1(node)] == [("on", 1), ("010", 3)]


@pytest.mark.parametrize(
    ("text", "told"), [("x y", "'x y'"), ("'1'", "'1'"), ("[1]", "a list"), ("{a: 1}", "a mapping")]
)
def test_a_message_shows_a_node_in_a_word(text, told):
    assert yaml12.spelled(read(text)) == told
