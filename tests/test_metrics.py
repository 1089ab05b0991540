"""metrics and metric_rows: every line that can be in a metrics file, what counts of it, and a cache that never lies."""

import builtins
import json
import math
import os
import random
import time
from pathlib import Path

import pytest
from faults import EVERY, part

from farmx import layout, metrics
from farmx.metric_rows import Row, attempts, parts, rows
from farmx.metrics import MetricLog, Series
from farmx.spec import Attempt, Goal, Run, Standing, State

DATA = Path(__file__).parent / "data"
NAN, INF = math.nan, math.inf
LATER = 1e11  # a look long after the files were written


def run_at(path, attempts=()):
    found = tuple(Attempt(str(path / layout.ATTEMPTS / layout.attempt_name(*one)), one, {}, {}) for one in attempts)
    return Run(path.name, str(path), path.parent.name, State.DONE, {}, found)


def line(phase, step, values, at=0.0):
    words = {INF: "Infinity", -INF: "-Infinity"}
    sound = {k: "NaN" if v != v else words.get(v, v) for k, v in values.items()}
    return json.dumps({"time": float(at), "phase": phase, "step": step, "metrics": sound}) + "\n"


def start(at=0.0):
    return line("start", 0, {}, at)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", newline="") as file:
        file.write("".join(lines))
    return path


def outside(path, *lines):
    """A run that logx wrote outside a launch."""
    write(path / layout.OUTSIDE_METRICS, *lines)
    return run_at(path)


def launched(path, *attempts):
    """A run with attempts 1.0, 2.0, ..., each of these lines."""
    numbers = [(i, 0) for i in range(1, len(attempts) + 1)]
    for number, lines in zip(numbers, attempts, strict=True):
        write(path / layout.ATTEMPTS / layout.attempt_name(*number) / layout.METRICS, *lines)
    return run_at(path, numbers)


def log_of(run, cache=None, now=LATER):
    return metrics.read([run], cache and str(cache), now)[run.path]


def series(*values):
    """The series of a metric logged at steps 0, 1, 2, ..."""
    there = [(value, step) for step, value in enumerate(values) if value == value]
    low = min(there, default=(None, None))
    high = max(there, key=lambda one: (one[0], -one[1]), default=(None, None))
    return Series(values[-1], len(values) - 1, *low, *high)


# Lines


def read_lines(name, data):
    found, unreadable = rows(name, data)
    return [group for i, group in enumerate(attempts(found)) if i == 0 or group], unreadable


GOOD = ("val", 3, 5.0, {"acc": 0.9})
JSON_LINES = {
    "a row": ('{"time": 5.0, "phase": "val", "step": 3, "metrics": {"acc": 0.9}}', [GOOD], 0),
    "unknown keys": (
        '{"format": 1, "time": 5.0, "phase": "val", "step": 3, "metrics": {"acc": 0.9}, "x": []}',
        [GOOD],
        0,
    ),
    "a float step": (
        '{"time": 5.0, "phase": "val", "step": 3.5, "metrics": {"acc": 1}}',
        [("val", 3.5, 5.0, {"acc": 1})],
        0,
    ),
    "a whole time": ('{"time": 5, "phase": "val", "step": 3, "metrics": {"acc": 0.9}}', [GOOD], 0),
    "no time": ('{"phase": "val", "step": 3, "metrics": {"acc": 0.9}}', [("val", 3, None, {"acc": 0.9})], 0),
    "a time of text": (
        '{"time": "x", "phase": "val", "step": 3, "metrics": {"acc": 0.9}}',
        [("val", 3, None, {"acc": 0.9})],
        0,
    ),
    "a time beyond all": (
        '{"time": 1' + "0" * 400 + ', "phase": "val", "step": 3, "metrics": {}}',
        [("val", 3, None, {})],
        0,
    ),
    "no metrics": ('{"time": 5.0, "phase": "val", "step": 3, "metrics": {}}', [("val", 3, 5.0, {})], 0),
    "a truth": (
        '{"time": 5.0, "phase": "val", "step": 3, "metrics": {"ok": true}}',
        [("val", 3, 5.0, {"ok": True})],
        0,
    ),
    "infinities": (
        '{"time": 5.0, "phase": "v", "step": 3, "metrics": {"a": "Infinity", "b": "-Infinity"}}',
        [("v", 3, 5.0, {"a": INF, "b": -INF})],
        0,
    ),
    "a null value": ('{"time": 5.0, "phase": "val", "step": 3, "metrics": {"acc": 0.9, "x": null}}', [GOOD], 0),
    "a value of text": ('{"time": 5.0, "phase": "val", "step": 3, "metrics": {"acc": 0.9, "x": "high"}}', [GOOD], 1),
    "a value of lists": ('{"time": 5.0, "phase": "val", "step": 3, "metrics": {"acc": 0.9, "x": [1]}}', [GOOD], 1),
    "a step of text": ('{"time": 5.0, "phase": "val", "step": "3", "metrics": {}}', [], 1),
    "a step that is true": ('{"time": 5.0, "phase": "val", "step": true, "metrics": {}}', [], 1),
    "a step that is no number": ('{"time": 5.0, "phase": "val", "step": NaN, "metrics": {}}', [], 1),
    "no step": ('{"time": 5.0, "phase": "val", "metrics": {}}', [], 1),
    "no phase": ('{"time": 5.0, "step": 3, "metrics": {}}', [], 1),
    "an empty phase": ('{"time": 5.0, "phase": "", "step": 3, "metrics": {}}', [], 1),
    "a phase that is a list": ('{"time": 5.0, "phase": [], "step": 3, "metrics": {}}', [], 1),
    "metrics that are a list": ('{"time": 5.0, "phase": "val", "step": 3, "metrics": []}', [], 1),
    "no metrics at all": ('{"time": 5.0, "phase": "val", "step": 3}', [], 1),
    "a list": ("[]", [], 1),
    "a number": ("5", [], 1),
    "text": ('"phase"', [], 1),
    "null": ("null", [], 1),
    "torn": ('{"time": 5.0, "phase": "va', [], 1),
    "two rows on a line": (
        '{"phase": "val", "step": 3, "metrics": {}}{"phase": "val", "step": 3, "metrics": {}}',
        [],
        1,
    ),
    "two rows and a comma": (
        '{"phase": "val", "step": 3, "metrics": {}},{"phase": "val", "step": 3, "metrics": {}}',
        [],
        1,
    ),
    "NULs": ("\0\0\0", [], 1),
    "a byte order mark": ("\ufeff{}", [], 1),
    "depth": ("[" * 100_000, [], 1),
    "a number of 5,000 digits": ('{"phase": "val", "step": ' + "9" * 5000 + ', "metrics": {}}', [], 1),
    "blank": ("", [], 0),
    "blanks": (" \t\r", [], 0),
}


@pytest.mark.parametrize(("text", "expected", "unreadable"), JSON_LINES.values(), ids=JSON_LINES)
def test_a_line_is_a_row_or_counted_and_its_neighbours_stay(text, expected, unreadable):
    data = f"{line('a', 1, {'x': 1})}{text}\n{line('b', 2, {'x': 2})}".encode()
    around = ("a", 1, 0.0, {"x": 1}), ("b", 2, 0.0, {"x": 2})
    assert read_lines("metrics.jsonl", data) == ([(None, [around[0], *expected, around[1]])], unreadable)


def test_bytes_that_are_no_unicode_are_a_line_that_counts():
    data = b'{"phase": "\xff"}\n' + line("val", 1, {"x": 1}).encode()
    assert read_lines("metrics.jsonl", data) == ([(None, [("val", 1, 0.0, {"x": 1})])], 1)


@pytest.mark.parametrize("halves", [b'"metrics": {"x": [1\n2]}}\n', b'"metrics": {"x": 1\n"y": 2}}\n'])
def test_lines_that_only_make_sense_together_are_no_rows(halves):
    data = b'{"time": 1.0, "phase": "val", "step": 1, ' + halves
    assert read_lines("metrics.jsonl", data) == ([(None, [])], 2)


def test_nan_is_a_number_from_the_reader_on():
    for word in ('"NaN"', "NaN"):
        data = b'{"time": 1.0, "phase": "val", "step": 1, "metrics": {"x": %s}}\n' % word.encode()
        ((_, rows),), unreadable = read_lines("metrics.jsonl", data)
        assert (repr(rows), unreadable) == ("[('val', 1, 1.0, {'x': nan})]", 0)


def test_every_start_row_begins_an_attempt_even_one_without_a_step():
    data = (
        start(1.0) + line("val", 1, {}, 2.0) + '{"time": 3.0, "phase": "start"}\n' + line("val", 2, {}, 4.0)
    ).encode()
    assert read_lines("metrics.jsonl", data) == (
        [(None, []), (1.0, [("val", 1, 2.0, {})]), (3.0, [("val", 2, 4.0, {})])],
        0,
    )


# Regular files are read by column, and say the same


def by_column(data):
    """The parts of `data`, as plain values."""
    return [
        (part.opens, part.start, part.first, {phase: plain_block(block) for phase, block in part.blocks.items()})
        for part in parts("metrics.jsonl", data, True)[0]
    ]


def plain_block(block):
    columns = {name: list(zip(*both, strict=True)) for name, both in block.columns.items()}
    return list(block.steps), columns, list(block.timed), block.until


def by_row(data):
    """The same from the rows alone."""
    found = attempts(rows("metrics.jsonl", data)[0])
    return [
        (
            True,
            start,
            group[0][:3] if group else None,
            {
                phase: slow_block([row for row in group if row[0] == phase])
                for phase in dict.fromkeys(r[0] for r in group)
            },
        )
        for start, group in found
    ]


def slow_block(found):
    columns = {}
    for _, step, _, values in found:
        for name, value in values.items():
            columns.setdefault(name, []).append((value, step))
    timed = [(step, time) for _, step, time, _ in found if time is not None]
    return [row[1] for row in found], columns, [step for step, _ in timed], timed[-1][1] if timed else None


def same(data):
    ours, theirs = by_column(data), by_row(data)
    if len(ours) < len(theirs):  # nothing before a start row at the very beginning
        assert theirs[0] == (True, None, None, {})
        theirs = theirs[1:]
    return repr(ours) == repr(theirs)


REGULAR = {
    "one phase": [line("val", i, {"acc": i / 7, "n": i}, i / 3) for i in range(9)],
    "two phases": [line(p, i, {f'{p} "é, {{x': i / 7}, i / 3) for i in range(9) for p in ("val", "train")],
    "a phase now and then": [line("val" if i % 4 == 3 else "train", i, {"a": 0.5}, i / 3) for i in range(9)],
    "float steps": [line("val", i / 2, {"a": 1e-7 * i + 1e-9, "b": -1.5e20}, i / 3) for i in range(9)],
    "no metrics": [line("val", i, {}, i / 3) for i in range(9)],
    "one row": [line("val", 1, {"a": 1})],
}
IRREGULAR = {
    "a metric now and then": [line("val", i, {"a": 1} | ({"b": 2} if i % 2 else {}), i / 3) for i in range(9)],
    "metrics in another order": [
        line("val", i, {"a": i, "b": -i} if i % 2 else {"b": -i, "a": i}, i / 3) for i in range(9)
    ],
    "whole and not": [line("val", i, {"a": i / 2 if i % 2 else i}, i / 3) for i in range(9)],
    "steps whole and not": [line("val", i / 2 if i % 2 else i, {"a": 1}, i / 3) for i in range(9)],
    "not numbers": [line("val", i, {"a": NAN if i == 4 else 0.5}, i / 3) for i in range(9)],
    "nothing but NaN": [line("val", i, {"a": NAN}, i / 3) for i in range(9)],
    "infinity": [line("val", i, {"a": INF}, i / 3) for i in range(9)],
    "truths": [line("val", i, {"a": i % 2 == 0}, i / 3) for i in range(9)],
    "great whole numbers": [line("val", i, {"a": 10**17 * i}, i / 3) for i in range(30)],
    "many phases": [line(f"phase{i}", 1, {"a": 1}, i / 3) for i in range(20)],
    "a metric called start": [line("val", i, {"start": i}, i / 3) for i in range(9)],
    "no time": [line("val", i, {"a": i}, i / 3).replace('"time": ', '"when": ') for i in range(9)],
    "time of day": [line("val", i, {"a": i}).replace("0.0", str(i)) for i in range(9)],
    "no blanks": [line("val", i, {"a": i}, i / 3).replace(" ", "") for i in range(9)],
    "a phase called start in part": ['{"time": 5.0, "phase": "val", "step": 1, "metrics": {}, "note": "start"}\n'],
}


@pytest.mark.parametrize("lines", (REGULAR | IRREGULAR).values(), ids=REGULAR | IRREGULAR)
@pytest.mark.parametrize("begin", ["", start(1.5), start(1.5) + line("val", 0, {"a": 1}) + start(2.5), "junk\n"])
def test_reading_by_column_says_what_the_rows_say(lines, begin):
    assert same((begin + "".join(lines)).encode())


@pytest.mark.parametrize("seed", range(100))
def test_reading_by_column_says_what_the_rows_say_of_damaged_files(seed):
    dice = random.Random(seed)
    data = (start(1.5) + "".join(dice.choice(list(REGULAR.values())))).encode()
    for _ in range(30):
        at, other = dice.randrange(len(data)), dice.randrange(len(data))
        glued = [data[:at] + data[at + 1 :], data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]]
        glued += [data[:at] + data[other : other + 9] + data[at:], data[:at] + b"\n" + data[at:]]
        damaged = dice.choice(glued)
        assert same(damaged[: damaged.rfind(b"\n") + 1])


@pytest.mark.parametrize("lines", REGULAR.values(), ids=REGULAR)
def test_a_regular_file_is_not_read_row_by_row(monkeypatch, lines):
    calls = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: calls.append(text) or loads(text))
    parts("metrics.jsonl", (start(1.5) + "".join(lines)).encode(), True)
    assert len(calls) <= 5 and max(map(len, calls)) < 200


VAL = ("val", 2, 7.5, {"acc": 0.5})
CSV_LINES = {
    "a row": ("val,acc,0.5,epoch,2,timestamp,7.5\r", [VAL], 0),
    "no timestamp": ("val,acc,0.5,epoch,2\r", [("val", 2, None, {"acc": 0.5})], 0),
    "a float epoch": ("val,acc,1,epoch,2.5,timestamp,7.5\r", [("val", 2.5, 7.5, {"acc": 1})], 0),
    "a tensor": ("val,acc,tensor(0.5000),epoch,2,timestamp,7.5\r", [VAL], 0),
    "a tensor elsewhere": ("val,acc,\"tensor(0.5000, device='cuda:0')\",epoch,2,timestamp,7.5\r", [VAL], 0),
    "a tensor of one": ("val,acc,tensor([0.5000]),epoch,2,timestamp,7.5\r", [VAL], 0),
    "a tensor of one elsewhere": ("val,acc,\"tensor([0.5], device='cuda:0')\",epoch,2,timestamp,7.5\r", [VAL], 0),
    "a tensor of two": ('val,acc,0.5,x,"tensor([1., 2.])",epoch,2,timestamp,7.5\r', [VAL], 1),
    "a tensor of lines": ('val,acc,0.5,x,"tensor([[1., 2.],\n   [3., 4.]])",epoch,2,timestamp,7.5\r', [VAL], 1),
    "a numpy scalar": ("val,acc,np.float64(0.5),epoch,2,timestamp,7.5\r", [VAL], 0),
    "infinity": ("val,acc,-inf,epoch,2,timestamp,7.5\r", [("val", 2, 7.5, {"acc": -INF})], 0),
    "a metric called epoch": ("val,epoch,9,epoch,2,timestamp,7.5\r", [("val", 2, 7.5, {"epoch": 9})], 0),
    "a metric called val, quoted": (
        'val,"val, best",9,epoch,2,timestamp,7.5\r',
        [("val", 2, 7.5, {"val, best": 9})],
        0,
    ),
    "text": ("val,acc,0.5,note,good,epoch,2,timestamp,7.5\r", [VAL], 1),
    "NULs": ("\0\0val,acc,0.5,epoch,2,timestamp,7.5\r", [VAL], 0),
    "torn": ("val,acc,0.5,ep", [], 1),
    "torn and glued": ("val,acc,0.1val,acc,0.5,epoch,2,timestamp,7.5\r", [], 1),
    "torn after the epoch": ("val,acc,0.5,epoch,2,timest", [], 1),
    "an epoch of text": ("val,acc,0.5,epoch,last,timestamp,7.5\r", [], 1),
    "an epoch that is no number": ("val,acc,0.5,epoch,nan,timestamp,7.5\r", [], 1),
    "a phase alone": ("val\r", [], 1),
    "an unclosed quote": ('val,"acc', [], 1),
    "blank": ("", [], 0),
    "blank with a return": ("\r", [], 0),
    "only a comma": (",", [], 1),
}


@pytest.mark.parametrize(("text", "expected", "unreadable"), CSV_LINES.values(), ids=CSV_LINES)
def test_a_line_of_runx_is_a_row_or_counted_and_its_neighbours_stay(text, expected, unreadable):
    data = f"val,x,1,epoch,1,timestamp,1.0\r\n{text}\nval,x,3,epoch,3,timestamp,3.0\r\n".encode()
    around = ("val", 1, 1.0, {"x": 1}), ("val", 3, 3.0, {"x": 3})
    assert read_lines("metrics.csv", data) == ([(None, [around[0], *expected, around[1]])], unreadable)


def test_a_field_beyond_what_csv_takes_is_a_line_that_counts():
    data = b"val,x," + b"9" * 200_000 + b",epoch,1\r\nval,x,3,epoch,3,timestamp,3.0\r\n"
    assert read_lines("metrics.csv", data) == ([(None, [("val", 3, 3.0, {"x": 3})])], 1)


def test_runx_start_rows_begin_attempts_with_and_without_a_time():
    data = b"start,start/step,0,timestamp,1.5\r\nval,x,3,epoch,3\r\nstart,start/step,0\r\n"
    assert read_lines("metrics.csv", data) == ([(None, []), (1.5, [("val", 3, None, {"x": 3})]), (None, [])], 0)


# What was once written stays readable


def test_rows_of_format_1_as_an_attempt_wrote_them():
    run = run_at(DATA / "metrics-1" / "sweep" / "brave-otter", [(1, 0), (2, 0)])
    log = log_of(run)
    assert log == MetricLog(
        {
            "train/loss": Series(0.2, 4, 0.2, 4, 1.0, 0),
            "val/acc": Series(0.9, 4, 0.5, 0, 0.9, 4),
            "val/loss": Series(0.2, 4, 0.2, 4, 1.0, 0),
        },
        step=4,
        started=1795238977.991385,
        seconds=(1795238977.9925003 - 1795238977.991385) + (1795238978.0310743 - 1795238978.029875),
        epochs=7,
    )
    assert [(row.phase, row.step) for row in metrics.rows(run)] == [
        *[(phase, step) for step in (0, 1) for phase in ("train", "val")],
        *[(phase, step) for step in (2, 3, 4) for phase in ("train", "val")],
    ]


def test_rows_of_format_1_as_two_programs_wrote_them_outside_a_launch():
    log = log_of(run_at(DATA / "metrics-1" / "sweep" / "lone-heron"))
    assert (log.series["val/acc"], log.step, log.epochs, log.unreadable) == (Series(0.8, 3, 0.5, 0, 0.8, 3), 3, 5, 0)


RUNX = {
    "curious-rattlesnake_2020.02.06_14.19": (
        {
            "val/loss": Series(0.2, 3, 0.2, 3, 0.8, 0),
            "val/acc": Series(98.0, 3, 92.0, 0, 98.0, 3),
            "val/top5": Series(99.5, 3, 99.5, 0, 99.5, 0),
            "val/count": Series(50, 3, 50, 0, 50, 0),
        },
        3,
        4,
        0,
    ),
    "ambitious-lobster_2020.02.06_14.19": (
        {
            "val/loss": Series(0.1, 3, 0.1, 3, 0.5, 0),
            "val/acc": Series(99.0, 3, 95.0, 0, 99.0, 3),
            "val/top5": Series(99.5, 3, 99.5, 0, 99.5, 0),
            "val/count": Series(50, 3, 50, 0, 50, 0),
        },
        3,
        5,
        0,
    ),
    "timeless-newt_2020.02.06_14.20": (
        {
            "val/loss": Series(0.45, 1, 0.45, 1, 0.9, 0),
            "val/acc": Series(95.5, 1, 91.0, 0, 95.5, 1),
            "val/top5": Series(99.5, 1, 99.5, 0, 99.5, 0),
            "val/count": Series(50, 1, 50, 0, 50, 0),
        },
        1,
        0,
        0,
    ),
    "untold-heron_2020.02.06_14.21": (
        {"val/acc": Series(NAN, 0, None, None, None, None), "val/lr": Series(0.5, 0, 0.5, 0, 0.5, 0)},
        0,
        1,
        1,
    ),
}


@pytest.mark.parametrize("name", RUNX)
def test_what_runx_wrote_is_read(name):
    log = log_of(run_at(DATA / "runx" / "sweep" / name))
    assert repr((dict(log.series), log.step, log.epochs, log.unreadable)) == repr(RUNX[name])


# Sums


def test_a_metric_has_its_last_and_its_best_where_it_was_first_best(tmp_path):
    run = outside(tmp_path / "run", *(line("val", i, {"acc": v}) for i, v in enumerate([2, 5, 1, 5, 1])))
    log = log_of(run)
    assert log.series == {"val/acc": Series(1, 4, 1, 2, 5, 1)}
    assert (log.best(Goal("val/acc", "max")), log.best(Goal("val/acc", "min"))) == ((5, 1), (1, 2))
    assert log.best(Goal("val/loss", "min")) is None


NOT_NUMBERS = {
    "a NaN is never best": ([NAN, 2.0, NAN], Series(NAN, 2, 2.0, 1, 2.0, 1)),
    "nothing but NaN": ([NAN, NAN], Series(NAN, 1, None, None, None, None)),
    "infinities are numbers": ([1.0, INF, -INF], Series(-INF, 2, -INF, 2, INF, 1)),
    "both infinities add up to NaN": ([INF, -INF, 1.0], Series(1.0, 2, -INF, 1, INF, 0)),
    "a number beyond floats": ([10**400, 1.5], Series(1.5, 1, 1.5, 1, 10**400, 0)),
    "whole and not": ([1, 1.0, 2.5], Series(2.5, 2, 1, 0, 2.5, 2)),
}


@pytest.mark.parametrize(("values", "expected"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_no_plain_number(tmp_path, values, expected, at_once):
    cache = tmp_path / "cache"
    lines = [line("val", i, {"x": value}) for i, value in enumerate(values)]
    run = outside(tmp_path / "e" / "run", *lines[:1])
    if not at_once:
        log_of(run, cache)
    outside(tmp_path / "e" / "run", *lines[1:])
    log = log_of(run, cache)
    assert repr(log.series["val/x"]) == repr(expected)
    if expected.max is None:
        assert log.best(Goal("val/x", "max")) is None


def test_the_last_val_row_is_every_value_at_the_last_val_step(tmp_path):
    rows = [
        line("val", 0, {"acc": 1, "rare": 7}),
        line("val", 1, {"acc": 2}),
        line("val", 1, {"top/5": 3}),
        line("train", 9, {"loss": 4}),
    ]
    log = log_of(outside(tmp_path / "run", *rows))
    assert (log.last_row(), log.step) == ({"acc": 2, "top/5": 3}, 1)
    assert list(log.series) == ["val/acc", "val/rare", "val/top/5", "train/loss"]


def vals(steps, since, each=60.0):
    return [line("val", step, {"acc": step}, since + each * (i + 1)) for i, step in enumerate(steps)]


DAY = 86400.0
TIMES = {
    "one program": ([[start(100.0), *vals(range(10), 100.0)]], 60.0, 10, 100.0),
    "one epoch, numbered 0": ([[start(0.0), *vals([0], 0.0)]], 60.0, 1, 0.0),
    "epochs from 1": ([[start(0.0), *vals(range(1, 6), 0.0)]], 60.0, 5, 0.0),
    "longer than a day": ([[start(0.0), *vals(range(3), 0.0, 2.3 * DAY)]], 2.3 * DAY, 3, 0.0),
    "two rows an epoch": ([[start(0.0), *vals([0, 0, 1, 1], 0.0, 30.0)]], 60.0, 2, 0.0),
    "a queue between attempts": ([[start(0.0), *vals([0, 1], 0.0)], [start(DAY), *vals([2, 3], DAY)]], 60.0, 4, 0.0),
    "epochs done twice": ([[start(0.0), *vals([0, 1, 2], 0.0)], [start(DAY), *vals([1, 2], DAY)]], 60.0, 5, 0.0),
    "a program restarted in its file": ([[start(0.0), *vals([0, 1], 0.0), start(DAY), *vals([2], DAY)]], 60.0, 3, 0.0),
    "an attempt that got nowhere": ([[start(0.0)], [start(DAY), *vals([0], DAY)]], 60.0, 1, 0.0),
    "no start row: the first epoch is not measured": ([vals([0, 1, 2], 0.0)], 60.0, 2, 60.0),
    "no start row, but a train row": ([[line("train", 0, {"x": 1}, 0.0), *vals([0, 1], 0.0)]], 60.0, 2, 0.0),
    "nothing but a start": ([[start(5.0)]], None, 0, 5.0),
    "no val rows": ([[start(5.0), line("train", 0, {"x": 1}, 9.0)]], None, 0, 5.0),
    "nothing": ([[]], None, 0, None),
    "a clock set back": ([[start(100.0), *vals([0, 1], 0.0, 10.0)]], 0.0, 2, 100.0),
}


@pytest.mark.parametrize(("attempts", "epoch_time", "epochs", "started"), TIMES.values(), ids=TIMES)
def test_epoch_time_is_time_spent_running(tmp_path, attempts, epoch_time, epochs, started):
    log = log_of(launched(tmp_path / "run", *attempts))
    assert (log.epoch_time, log.epochs, log.started) == (epoch_time and pytest.approx(epoch_time), epochs, started)


def numbered(phase, steps, sign=1):
    return [line(phase, step, {"x": sign * step}) for step in steps]


SUPERSEDED = {
    "goes on": ([numbered("val", [0, 1]), numbered("val", [2, 3], -1)], {"val": [0, 1, -2, -3]}),
    "goes back": ([numbered("val", [0, 1, 2]), numbered("val", [1, 2], -1)], {"val": [0, -1, -2]}),
    "begins again": ([numbered("val", [1, 2, 3]), numbered("val", [0], -1)], {"val": [0]}),
    "leaves other phases": (
        [numbered("val", [0, 1]) + numbered("train", [0, 1]), numbered("val", [1], -1)],
        {"val": [0, -1], "train": [0, 1]},
    ),
    "goes back twice": (
        [numbered("val", range(6)), numbered("val", [2], -1), numbered("val", [4], -1)],
        {"val": [0, 1, -2, -4]},
    ),
    "goes back further": (
        [numbered("val", range(6)), numbered("val", [4], -1), numbered("val", [2], -1)],
        {"val": [0, 1, -2]},
    ),
    "its own earlier steps stay": (
        [numbered("val", range(4)), numbered("val", [3, 1], -1)],
        {"val": [0, 1, 2, -3, -1]},
    ),
    "within a file": ([[*numbered("val", [0, 1]), start(), *numbered("val", [1], -1)]], {"val": [0, -1]}),
    "says nothing": ([numbered("val", [0, 1]), [start()]], {"val": [0, 1]}),
}


@pytest.mark.parametrize(("attempts", "expected"), SUPERSEDED.values(), ids=SUPERSEDED)
def test_a_later_attempt_supersedes_rows_from_its_first_step_on(tmp_path, attempts, expected):
    run = launched(tmp_path / "run", *attempts)
    found = {}
    for row in metrics.rows(run):
        found.setdefault(row.phase, []).append(row.metrics["x"])
    assert found == expected
    assert {name: one.last for name, one in log_of(run).series.items()} == {
        f"{phase}/x": values[-1] for phase, values in expected.items()
    }


# What stages wrote, (place, steps) each, attempt by attempt -> what counts: 213 is of attempt 2, place 1, step 3.
STAGES = {
    "in one attempt": ([[(0, [0, 1]), (1, [0])]], [100, 101, 110]),
    "each in its own": ([[(0, [0, 1])], [(1, [0])]], [100, 101, 210]),
    "a stage goes back": ([[(0, [0, 1, 2])], [(0, [1, 2])], [(1, [0])]], [100, 201, 202, 310]),
    "a later one goes back": ([[(0, [0]), (1, [0, 1])], [(1, [1])]], [100, 110, 211]),
    "an earlier one begins once more": ([[(0, [0]), (1, [0, 7])], [(0, [5])]], [100, 205]),
    "both do": ([[(0, [0, 1]), (1, [0])], [(0, [0]), (1, [3])]], [200, 213]),
    "a later one alone comes first": ([[(1, [4])], [(0, [0])], [(1, [2])]], [200, 312]),
    "the one between logs nothing": ([[(0, [0])], [(1, [])], [(2, [0])]], [100, 320]),
}


def staged(path, attempts, timed=True, since=0):
    """A run of three stages whose attempts wrote this. since: so many of them are there already."""
    for number, told in list(enumerate(attempts, 1))[since:]:
        home = path / layout.ATTEMPTS / f"{number}.0"
        for count, (place, steps) in enumerate(told):
            at = 10.0 * number + count
            begun = {"time": at, "event": "started", "stage": f"s{place}", "place": place}
            write(home / layout.EVENTS, json.dumps(begun) + "\n", "torn{\n")
            rows = [line("val", step, {"x": 100 * number + 10 * place + step}, at + 0.7) for step in steps]
            begin = start(at + 0.5) if timed else start().replace("0.0", "null")
            write(home / layout.METRICS, begin, *rows)
    made = run_at(path, [(number, 0) for number in range(1, len(attempts) + 1)])
    return made._replace(stages=tuple(Standing(f"s{place}", "", True) for place in range(3)))


@pytest.mark.parametrize(("attempts", "expected"), STAGES.values(), ids=STAGES)
def test_an_attempt_supersedes_rows_of_its_own_stage_and_of_later_ones(tmp_path, look, attempts, expected):
    run = staged(tmp_path / "e" / "run", attempts)
    assert [row.metrics["x"] for row in metrics.rows(run)] == expected
    (found,) = look(run)[0].series.values()
    assert (found.last, found.min, found.max) == (expected[-1], min(expected), max(expected))


@pytest.mark.parametrize(("attempts", "expected"), STAGES.values(), ids=STAGES)
def test_what_stages_add_is_read_on(tmp_path, look, attempts, expected):
    for count in range(len(attempts)):
        log, _ = look(staged(tmp_path / "e" / "run", attempts[: count + 1], since=count))
    assert (log.series["val/x"].last, log.series["val/x"].max) == (expected[-1], max(expected))


def test_without_times_the_rows_of_an_attempt_are_those_of_its_first_stage(tmp_path):
    for told, expected in (([[(0, [0, 1])], [(1, [0])]], [100, 101, 210]), ([[(0, [0, 1]), (1, [0])]], [110])):
        run = staged(tmp_path / str(len(told)) / "run", told, timed=False)
        assert [row.metrics["x"] for row in metrics.rows(run)] == expected


def test_rows_are_rows(tmp_path):
    assert metrics.rows(outside(tmp_path / "run", start(), line("val", 1, {"x": 2}, 3.0))) == [
        Row("val", 1, 3.0, {"x": 2})
    ]
    assert metrics.rows(run_at(tmp_path / "nothing")) == []


# Files


def test_attempts_come_before_what_a_program_wrote_beside_them(tmp_path):
    run = launched(tmp_path / "run", [], numbered("val", [1]))
    outside(tmp_path / "run", *numbered("val", [7]))
    assert log_of(run).series == {"val/x": Series(1, 1, 1, 1, 1, 1)}


def test_runx_in_a_launched_run_is_read_where_no_attempt_has_metrics(tmp_path):
    run = run_at(tmp_path / "run", [(1, 0)])
    write(tmp_path / "run" / layout.RUNX_METRICS, "val,x,1,epoch,1\r\n")
    assert log_of(run).series == {"val/x": Series(1, 1, 1, 1, 1, 1)}


def test_a_run_ported_from_runx_goes_on(tmp_path):
    write(tmp_path / "run" / layout.RUNX_METRICS, "val,x,1,epoch,1\r\n", "val,x,2,epoch,2\r\n")
    log = log_of(outside(tmp_path / "run", *numbered("val", [2, 3], -1)))
    assert log.series == {"val/x": Series(-3, 3, -3, 3, 1, 1)}


def test_attempts_are_in_order_of_their_numbers(tmp_path):
    run = launched(tmp_path / "run", *([*numbered("val", [i])] for i in range(11)))
    shuffled = Run(run.name, run.path, run.experiment, run.state, {}, tuple(reversed(run.attempts)))
    assert [row.step for row in metrics.rows(shuffled)] == list(range(11))


@pytest.mark.parametrize("tail", ['{"time": 1', '{"time": 1.0, "phase": "val", "step": 9, "metrics": {}}', "\0", "x"])
def test_a_line_without_its_end_is_awaited_in_silence(tmp_path, tail):
    run = outside(tmp_path / "run", *numbered("val", [0, 1]), tail)
    assert (log_of(run).step, log_of(run).unreadable) == (1, 0)


def test_a_run_whose_file_cannot_be_read_says_why(tmp_path):
    (tmp_path / "run" / layout.OUTSIDE_METRICS).mkdir(parents=True)
    assert log_of(run_at(tmp_path / "run")) == MetricLog(problem=f"{tmp_path}/run/metrics.jsonl: not a file")


def test_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / layout.RUNX_METRICS)
    assert log_of(run_at(tmp_path / "run")).problem == f"{tmp_path}/run/metrics.csv: not a file"


def test_a_run_that_vanished_has_an_empty_log(tmp_path):
    assert log_of(run_at(tmp_path / "gone", [(1, 0)])) == MetricLog()


# The cache


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Look at a run by way of the cache; the answer, and what of the run was opened for it."""

    def looked(run, now=LATER):
        opened = []
        true_open = builtins.open

        def counting(path, *rest, **more):
            opened.extend([str(path).removeprefix(run.path + "/")] if str(path).startswith(run.path) else [])
            return true_open(path, *rest, **more)

        with monkeypatch.context() as patch:
            patch.setattr(builtins, "open", counting)
            log = log_of(run, tmp_path / "cache", now)
        assert repr(log) == repr(log_of(run))
        return log, opened

    return looked


def test_what_did_not_change_is_not_opened_again(tmp_path, look):
    run = launched(tmp_path / "e" / "run", numbered("val", [0, 1]), numbered("val", [1, 2]))
    first, opened = look(run)
    assert opened == ["attempts/1.0/metrics.jsonl", "attempts/2.0/metrics.jsonl"]
    assert look(run) == (first, [])


def test_only_what_is_new_is_opened(tmp_path, look):
    look(launched(tmp_path / "e" / "run", numbered("val", [0, 1])))
    run = launched(tmp_path / "e" / "run", [], numbered("val", [2]))
    assert look(run)[1] == ["attempts/2.0/metrics.jsonl"]


def test_a_file_that_grew_is_read_on(tmp_path, look):
    run = outside(tmp_path / "e" / "run", *numbered("val", [0, 1]))
    look(run)
    outside(tmp_path / "e" / "run", *numbered("val", [2]))
    log, opened = look(run)
    assert (log.series["val/x"], opened) == (series(0, 1, 2), ["metrics.jsonl"])


def rewrite(path, text):
    path.write_text(text)


def replace(path, text):
    before = path.stat()
    new = path.with_name("aside")
    new.write_text(text)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


def in_place(path, text):
    before = path.stat()
    with open(path, "r+") as file:
        file.write(text)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "truncated": lambda lines: lines[:2],
    "emptied": lambda lines: [],
    "of the same size": lambda lines: [lines[0].replace("1", "7"), *lines[1:]],
    "longer": lambda lines: [lines[0].replace("1", "7"), *lines[1:], *numbered("val", [9])],
    "longer with another last line": lambda lines: [*lines[:-1], lines[-1].replace("3", "8"), *numbered("val", [9])],
    "of other phases": lambda lines: numbered("train", [1, 2, 3]),
}


@pytest.mark.parametrize("how", [rewrite, replace, in_place])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("now", ["at once", "later"])
def test_a_file_that_changed_is_never_taken_for_what_it_was(tmp_path, look, how, change, now):
    lines = numbered("val", [1, 2, 3])
    run = outside(tmp_path / "e" / "run", *lines)
    path = tmp_path / "e" / "run" / layout.OUTSIDE_METRICS
    old = look(run, time.time())[0]
    if now == "later":
        age(path)
        look(run)
    how(path, "".join(change(lines)))
    assert look(run, time.time())[0] != old


def age(path):
    """Wait until the file system gives times other than the file's."""
    before = path.stat().st_ctime_ns
    probe = path.with_name("probe")
    while True:
        probe.touch()
        if probe.stat().st_ctime_ns > before:
            return
        time.sleep(0.001)


def test_a_young_file_is_read_again_before_it_is_taken_as_known(tmp_path, look):
    run = outside(tmp_path / "e" / "run", *numbered("val", [1]))
    now = (tmp_path / "e" / "run" / layout.OUTSIDE_METRICS).stat().st_ctime
    seen = [look(run, now + after)[1] for after in (-60, 0, 1, 3, 3, 0)]
    assert seen == [["metrics.jsonl"]] * 4 + [[], []]


def test_a_file_of_runx_that_grew_is_read_as_a_whole(tmp_path, look):
    path = write(tmp_path / "e" / "run" / layout.RUNX_METRICS, 'val,x,1,y,"tensor([[1.,\n')
    run = run_at(tmp_path / "e" / "run")
    assert look(run)[0].series == {}
    write(path, ' 2.]])",epoch,1\r\n')
    assert (look(run)[0].series, look(run)[0].unreadable) == ({"val/x": Series(1, 1, 1, 1, 1, 1)}, 1)


def test_what_begins_without_times_sums_to_the_same_whenever_it_was_looked_at(tmp_path, look):
    run = outside(tmp_path / "e" / "run", '{"phase": "val", "step": 1, "metrics": {"x": 1}}\n')
    look(run)
    outside(tmp_path / "e" / "run", line("val", 2, {"x": 2}, 5.0), line("val", 3, {"x": 3}, 9.0))
    assert look(run)[0] == log_of(run) == MetricLog({"val/x": Series(3, 3, 1, 1, 3, 3)}, step=3)


def test_an_attempt_that_is_no_directory_has_no_rows(tmp_path):
    write(tmp_path / "e" / "run" / layout.ATTEMPTS / "1.0", "mine\n")
    run = run_at(tmp_path / "e" / "run", [(1, 0)])
    assert (log_of(run), metrics.rows(run)) == (MetricLog(), [])


def test_an_attempt_that_vanished_or_came_in_between_is_seen(tmp_path, look):
    run = launched(tmp_path / "e" / "run", *(numbered("val", [i, i + 1], 1 if i else -1) for i in range(3)))
    look(run)
    fewer = Run(run.name, run.path, run.experiment, run.state, {}, run.attempts[::2])
    assert look(fewer)[0].series["val/x"].min == -1
    assert look(run)[0].series["val/x"].min == 0


def test_an_earlier_attempt_that_grew_still_comes_before_the_later(tmp_path, look):
    run = launched(tmp_path / "e" / "run", numbered("val", [0]), numbered("val", [2]))
    look(run)
    launched(tmp_path / "e" / "run", numbered("val", [1, 5]))
    assert look(run)[0].series == {"val/x": Series(2, 2, 0, 0, 2, 2)}


def cache_file(tmp_path):
    (path,) = (tmp_path / "cache" / "metrics").iterdir()
    return path


DAMAGE = {
    "deleted": lambda data: None,
    "empty": lambda data: b"",
    "torn": lambda data: data[: len(data) // 2],
    "no json": lambda data: b"[",
    "no text": lambda data: b"\xff" * 100,
    "a value changed": lambda data: data.replace(b"[1, 1, 0, 0, 1, 1]", b"[5, 1, 0, 0, 9, 1]"),
    "of another format": lambda data: data.replace(b"[1,", b"[2,", 1),
    "of another experiment": lambda data: data.replace(b"/e", b"/f", 1),
    "another shape": lambda data: b'[1]\n{"a": 1}',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_no_cache(tmp_path, look, damage):
    run = outside(tmp_path / "e" / "run", *numbered("val", [0, 1]))
    first = look(run)[0]
    path = cache_file(tmp_path)
    before = path.read_bytes()
    after = damage(before)
    assert after != before
    path.unlink() if after is None else path.write_bytes(after)
    assert look(run) == (first, ["metrics.jsonl"])
    assert look(run) == (first, [])


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, look):
    (tmp_path / "cache").write_text("in the way")
    run = outside(tmp_path / "e" / "run", *numbered("val", [0, 1]))
    assert look(run) == look(run) == (log_of(run), ["metrics.jsonl"])


def test_looking_writes_one_file_an_experiment_and_none_under_logroot(tmp_path):
    runs = [outside(tmp_path / "root" / e / r, *numbered("val", [1])) for e in ("é $HOME", "b;") for r in ("1", "2")]
    before = sorted((tmp_path / "root").rglob("*"))
    logs = metrics.read(runs, str(tmp_path / "cache"), LATER)
    assert list(logs.values()) == [log_of(run) for run in sorted(runs, key=lambda run: run.path)]
    assert sorted((tmp_path / "root").rglob("*")) == before
    names = [path.name[:-9] for path in (tmp_path / "cache" / "metrics").iterdir()]
    assert sorted(names) == ["b;", "é $HOME"]


def test_a_look_at_one_run_keeps_what_is_known_of_others_while_they_are_there(tmp_path, look):
    runs = [outside(tmp_path / "e" / name, *numbered("val", [1])) for name in "abc"]
    metrics.read(runs, str(tmp_path / "cache"), LATER)
    os.rename(tmp_path / "e" / "b", tmp_path / "e" / "d")
    write(tmp_path / "e" / "a" / layout.OUTSIDE_METRICS, *numbered("val", [2]))
    look(runs[0])
    kept = json.loads(cache_file(tmp_path).read_text().partition("\n")[2])
    assert sorted(map(os.path.basename, kept)) == ["a", "c"]
    assert look(runs[2])[1] == []


def test_a_run_put_in_the_place_of_another_is_itself(tmp_path, look):
    run = outside(tmp_path / "e" / "a", *numbered("val", [1]))
    look(run)
    outside(tmp_path / "e" / "b", *numbered("val", [2]))
    os.rename(tmp_path / "e" / "a", tmp_path / "e" / "old")
    os.rename(tmp_path / "e" / "b", tmp_path / "e" / "a")
    assert look(run)[0].step == 2


def test_a_failing_run_does_not_spoil_what_is_known_of_it(tmp_path, look):
    run = launched(tmp_path / "e" / "run", numbered("val", [0, 1]))
    first = look(run)[0]
    path = tmp_path / "e" / "run" / layout.ATTEMPTS / "1.0" / layout.METRICS
    os.rename(path, path.with_name("aside"))
    path.mkdir()
    assert look(run)[0].problem == f"{path}: not a file"
    path.rmdir()
    os.rename(path.with_name("aside"), path)
    assert look(run)[0] == first


def test_a_file_that_cannot_be_opened_halfway_does_not_spoil_what_is_known(tmp_path, look, monkeypatch):
    runs = [launched(tmp_path / "e" / name, numbered("val", [0])) for name in "ab"]
    metrics.read(runs, str(tmp_path / "cache"), LATER)
    runs = [launched(tmp_path / "e" / "a", [*numbered("val", [1]), "junk\n"], numbered("val", [2])), runs[1]]
    write(tmp_path / "e" / "b" / layout.ATTEMPTS / "1.0" / layout.METRICS, *numbered("val", [1]))
    true_open = builtins.open

    def refusing(path, *rest, **more):
        if "2.0" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return true_open(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refusing)
        logs = metrics.read(runs, str(tmp_path / "cache"), LATER)
    path = f"{runs[0].path}/attempts/2.0/metrics.jsonl"
    assert logs[runs[0].path] == MetricLog(problem=f"{path}: Permission denied")
    assert [look(run)[0].step for run in runs] == [2, 1]


# Any history, seen at any time, sums to what a plain reader makes of the whole


def plain(run):
    """Every rule once more, the slow way: (series, step, started, seconds, epochs)."""
    kept, seconds, epochs, started = [], 0.0, 0, None
    for attempt in programs(run):
        origin = attempt[0]["time"] if attempt else None
        last = attempt[0]["step"] if attempt and attempt[0]["phase"] == "val" else None
        started = origin if started is None else started
        first, until = {}, origin
        for row in attempt:
            first.setdefault(row["phase"], row["step"])
            if row["phase"] == "val":
                epochs += row["step"] != last
                last, until = row["step"], row["time"]
        seconds += max(0.0, until - origin) if attempt else 0.0
        kept = [row for row in kept if row["step"] < first.get(row["phase"], INF)]
        kept += [row for row in attempt if row["phase"] != "start"]
    step = next((row["step"] for row in reversed(kept) if row["phase"] == "val"), None)
    return summed(kept), step, started, round(seconds, 6), epochs


def programs(run):
    for attempt in run.attempts:
        path = Path(attempt.path, layout.METRICS)
        rows = []
        for text in path.read_text().split("\n")[:-1] if path.exists() else []:
            row = json.loads(text) if text.startswith("{") and text.endswith("}") else None
            if row and row["phase"] == "start":
                yield rows
                rows = []
            rows += [row] if row else []
        yield rows


def summed(rows):
    found = {}
    for row in rows:
        for name, value in row["metrics"].items():
            value = NAN if value == "NaN" else value
            old = found.get(f"{row['phase']}/{name}", [None] * 6)
            low, high = (Goal("", mode).better(value, old[at]) for mode, at in (("min", 2), ("max", 4)))
            here = [value, row["step"]]
            found[f"{row['phase']}/{name}"] = here + (here if low else old[2:4]) + (here if high else old[4:6])
    return {name: Series(*one) for name, one in sorted(found.items())}


class History:
    """A run to which things happen."""

    def __init__(self, path, seed):
        self.path, self.dice, self.clock, self.steps = path, random.Random(seed), 0.0, {}
        self.run = launched(path, [start()])
        self.torn = ""

    @property
    def file(self):
        return Path(self.run.attempts[-1].path, layout.METRICS)

    def row(self):
        phase = self.dice.choice(["val", "val", "train", "ema/x"])
        self.steps[phase] = max(0, self.steps.get(phase, -1) + self.dice.choice([1, 1, 1, 1, 0, -1, 0.5]))
        values = {name: self.dice.choice([1, 2, 2.5, -3, NAN]) for name in self.dice.sample("abc", 2)}
        self.clock += self.dice.random()
        write(self.file, self.torn, line(phase, self.steps[phase], values, self.clock))
        self.torn = ""

    def tear(self):
        text, self.torn = self.torn, ""
        text = text or line("val", self.steps.get("val", 0), {"a": 9}, self.clock)
        cut = self.dice.randrange(len(text))
        write(self.file, text[:cut])
        self.torn = text[cut:]

    def program(self):
        write(self.file, self.torn, start(self.clock))
        self.torn = ""
        self.go_back()

    def attempt(self):
        self.torn = ""
        number = (len(self.run.attempts) + 1, 0)
        attempts = [*(one.number for one in self.run.attempts), number]
        self.run = run_at(self.path, attempts)
        write(self.file, self.dice.choice([start(self.clock), ""]))
        self.go_back()

    def go_back(self):
        self.clock += 1000
        for phase in self.steps:
            self.steps[phase] = max(-1, self.steps[phase] - self.dice.choice([0, 0, 0, 2, 5]))

    def junk(self):
        if not self.torn:
            write(self.file, self.dice.choice(["\n", "junk\n", "\n\n", "[1\n"]))

    def cut(self):
        self.torn = ""
        lines = self.file.read_text().split("\n")[:-1]
        rewrite(self.file, "".join(one + "\n" for one in lines[: self.dice.randrange(len(lines) + 1)]))

    def live(self):
        happens = self.dice.choices(["row", "tear", "program", "attempt", "junk", "cut"], [30, 5, 2, 2, 2, 1])[0]
        getattr(self, happens)()


@pytest.mark.parametrize("number", range(40 if EVERY else 10))
def test_any_history_sums_to_the_same_whenever_it_was_looked_at(tmp_path, number):
    first, stride = part(4)
    history = History(tmp_path / "e" / "run", first + number * stride)
    for _ in range(60):
        history.live()
        if history.dice.random() < 0.4:
            log = log_of(history.run, tmp_path / "cache", time.time())
            assert repr(log) == repr(log_of(history.run))
            ours = dict(sorted(log.series.items())), log.step, log.started, round(log.seconds, 6), log.epochs
            assert repr(ours) == repr(plain(history.run))
            assert repr(summed([row._asdict() for row in metrics.rows(history.run)])) == repr(ours[0])
