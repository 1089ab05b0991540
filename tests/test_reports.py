"""reports: one table as text, csv and json, to the character."""

import csv
import io
import json
import subprocess
import sys

import pytest

from farmx import reports
from farmx.errors import UsageError
from farmx.sumx import Column, Table

KINDS = {"run": "text", "lr": "value", "acc": "metric", "epoch": "step", "epoch_time": "seconds"}
NAN, INF = float("nan"), float("inf")


def table(*rows, names=tuple(KINDS)):
    return Table(tuple(Column(name, KINDS.get(name, "value")) for name in names), rows)


def text(*rows, names=tuple(KINDS)):
    return reports.of("text")(table(*rows, names=names))


def shown(cells, kind):
    """What a column of these cells looks like, name and rule left out."""
    found = reports.of("text")(Table((Column("x", kind), Column("end", "text")), tuple((one, "|") for one in cells)))
    return [line.removesuffix("|") for line in found.split("\n")[2:-1]]


def test_a_table_for_people():
    rows = [
        ("run4", 0.02, 99.1, 10, 321.4),
        ("run10", 1e-05, 9.25, 9, 3.14159),
        ("ü $HOME;", None, None, None, None),
        ("run1", 10, 100.0, 10, 93784.0),
    ]
    assert text(*rows) == (
        "run           lr     acc  epoch  epoch_time\n"
        "--------  ------  ------  -----  ----------\n"
        "run4       0.02    99.1      10        5:21\n"
        "run10      1e-05    9.25      9        3.1s\n"
        "ü $HOME;\n"
        "run1      10      100        10    26:03:04\n"
    )


TEXTS = {
    "numbers as people write them": ("metric", [99.1, 98.25, 0.5], ["99.1   ", "98.25  ", " 0.5   "]),
    "four digits are enough": ("metric", [0.123456, 99.87654], [" 0.1235  ", "99.88    "]),
    "unless numbers look alike": ("metric", [99.8765, 99.8767], ["99.876  ", "99.877  "]),
    "but no metric needs more than six": ("metric", [0.12345671, 0.12345672], ["0.123457  ", "0.123457  "]),
    "a hyperparameter needs what it takes": ("value", [0.12345671, 0.12345672], ["0.12345671  ", "0.12345672  "]),
    "small numbers": ("value", [1e-05, 0.001, 3.14e-07], ["1e-05     ", "0.001     ", "3.14e-07  "]),
    "great numbers": ("metric", [123456.7, 9999.6, 12345.0], ["123457  ", " 10000  ", " 12345  "]),
    "beyond sixteen places": ("metric", [1e20, 1.0], ["1e+20  ", "1      "]),
    "whole numbers stay whole": ("value", [12345678, 5], ["12345678  ", "       5  "]),
    "beyond floats": ("value", [10**30, 1], ["1" + "0" * 30 + "  ", " " * 30 + "1  "]),
    "what is no number": ("metric", [NAN, INF, -INF, 1.5], [" nan    ", " inf    ", "-inf    ", "   1.5  "]),
    "below zero": ("metric", [-1.5, 2.25], ["-1.5   ", " 2.25  "]),
    "absent": ("metric", [None, 1.5], ["     ", "1.5  "]),
    "truths": ("value", [True, False, None], ["True   ", "False  ", "       "]),
    "of all kinds": ("value", [1, "x", 0.5, None], ["1    ", "x    ", "0.5  ", "     "]),
    "lists": (
        "value",
        [[64, 64], [], {"a": [0.1, None]}],
        ["[64,64]           ", "[]                ", '{"a":[0.1,null]}  '],
    ),
    "lines": ("value", ["a\nb", "\x1b[31m\t"], [r"a\nb        ", r"\x1b[31m\t  "]),
    "wide": ("value", ["日本", "e\u0301", "abc"], ["日本  ", "e\u0301     ", "abc   "]),
    "long": ("value", ["a" * 50, "b"], ["a" * 39 + "…  ", "b" + " " * 41]),
    "long and alike": ("value", ["a" * 50, "a" * 49 + "b"], ["a" * 50 + "  ", "a" * 49 + "b  "]),
    "seconds": (
        "seconds",
        [0.31, 59.6, 60.0, 311.2, 3600.0, 200000.0],
        ["   0.31s  ", "    1:00  ", "    1:00  ", "    5:11  ", " 1:00:00  ", "55:33:20  "],
    ),
    "hardly any seconds": (
        "seconds",
        [0.00123, 0.0, 9.94, 9.96, None, INF],
        ["0.0012s  ", "     0s  ", "   9.9s  ", "   0:10  ", "         ", "    inf  "],
    ),
}


@pytest.mark.parametrize(("kind", "cells", "expected"), TEXTS.values(), ids=TEXTS)
def test_a_cell_is_as_short_as_it_can_be(kind, cells, expected):
    assert shown(cells, kind) == expected


def test_a_name_that_is_no_text_is_spelled_out():
    assert text(("\udcff",), names=["run"]) == "run\n------\n\\udcff\n"


def test_no_columns_and_no_rows():
    assert text(names=["run"]) == "run\n---\n"
    assert reports.of("text")(Table((), ((),))) == ""


ROWS = [
    ("run 1", 0.1, 99.123456789012, 10, 321.25),
    ('a "b", c\n$HOME;', [1, None, "x"], NAN, None, None),
    ("ü日本", {"a": 1.5}, -INF, 3.5, INF),
    ("d", True, 10**30, 0, 0.0),
]


def test_csv_keeps_all_digits_and_quotes_what_it_must():
    assert reports.of("csv")(table(*ROWS)) == (
        "run,lr,acc,epoch,epoch_time\n"
        "run 1,0.1,99.123456789012,10,321.25\n"
        '"a ""b"", c\n$HOME;","[1, null, ""x""]",NaN,,\n'
        'ü日本,"{""a"": 1.5}",-Infinity,3.5,Infinity\n'
        "d,True,1000000000000000000000000000000,0,0.0\n"
    )
    back = list(csv.reader(io.StringIO(reports.of("csv")(table(*ROWS)), newline="")))
    assert [row[0] for row in back] == ["run", *(row[0] for row in ROWS)]


def test_json_is_a_list_of_objects_with_the_fields_of_the_table():
    made = reports.of("json")(table(*ROWS))
    assert made == (
        "[\n"
        '{"run": "run 1", "lr": 0.1, "acc": 99.123456789012, "epoch": 10, "epoch_time": 321.25},\n'
        r'{"run": "a \"b\", c\n$HOME;", "lr": [1, null, "x"], "acc": "NaN", "epoch": null, "epoch_time": null},'
        "\n"
        '{"run": "ü日本", "lr": {"a": 1.5}, "acc": "-Infinity", "epoch": 3.5, "epoch_time": "Infinity"},\n'
        '{"run": "d", "lr": true, "acc": 1000000000000000000000000000000, "epoch": 0, "epoch_time": 0.0}\n'
        "]\n"
    )
    assert [list(one) for one in json.loads(made)] == [list(KINDS)] * len(ROWS)
    assert json.loads(reports.of("json")(table())) == []


def test_nan_within_a_hyperparameter_is_still_json():
    assert reports.of("json")(table(([NAN, {"a": INF}],), names=["lr"])) == '[\n{"lr": ["NaN", {"a": "Infinity"}]}\n]\n'


@pytest.mark.parametrize("name", list(reports.BUILT_IN))
def test_every_report_is_text_that_a_file_can_hold(name):
    made = reports.of(name)(table(("\udcff\ud800", "\udcff", 1.0, 1, 1.0)))
    assert made.encode() and made.endswith("\n")


def test_an_unknown_report_names_the_nearest():
    with pytest.raises(UsageError) as error:
        reports.of("jsn")
    assert str(error.value) == "no report named 'jsn'; did you mean json?"


@pytest.mark.parametrize("name", ["out.csv", "out", "ü $HOME;.txt"])
def test_a_file_has_exactly_the_name_given(tmp_path, name):
    stdout = io.StringIO()
    reports.deliver("a\r\nb\n", str(tmp_path / name), stdout)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert ((tmp_path / name).read_bytes(), stdout.getvalue()) == (b"a\r\nb\n", "")


def test_a_dash_is_stdout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stdout = io.StringIO()
    reports.deliver("a\n", "-", stdout)
    assert (list(tmp_path.iterdir()), stdout.getvalue()) == ([], "a\n")


def test_a_file_that_cannot_be_written_is_said_so(tmp_path):
    for path, why in ((tmp_path / "no" / "out.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError) as error:
            reports.deliver("a\n", str(path), io.StringIO())
        assert str(error.value) == f"{path}: cannot be written: {why}"


def test_no_report_is_imported_before_it_is_named_nor_text_with_what_it_does_not_need():
    code = (
        "import sys; from farmx import metrics, sumx, reports;"
        "print(sorted(m for m in sys.modules if m.startswith('farmx.reports.')));"
        "reports.of('text')(sumx.table([], {}));"
        "print(sorted(m for m in sys.modules if m.startswith('farmx.reports.')));"
        "print(sorted({'tabulate', 'csv', 'pandas', 'rich', 'tensorboard', 'yaml', 'click'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split("\n") == ["[]", "['farmx.reports.text']", "[]", ""]
