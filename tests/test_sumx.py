"""sumx: which columns a table has, what is in them, and in which order its rows are."""

import pytest

from farmx import sumx
from farmx.errors import UsageError
from farmx.metrics import MetricLog, Series
from farmx.spec import Goal, Run, State
from farmx.sumx import Column, Table

ACC = Goal("val/acc", "max")


def run(name, hparams=None, state=State.DONE, experiment="sweep", **more):
    return Run(name, f"/root/{experiment}/{name}", experiment, state, hparams or {}, identity="p1", **more)


def log(step=None, epoch_time=None, **values):
    """A log; acc=(last, best) was best at step 1, acc=x was last x at `step` and best 10 before; `train_loss` too."""
    epochs = 1 if epoch_time is not None else 0
    named = {name.replace("train_", "train/") if "train_" in name else f"val/{name}": v for name, v in values.items()}
    return MetricLog(
        {name: v if isinstance(v, Series) else Series(v, step, v, step, v, step) for name, v in named.items()},
        step=step,
        seconds=epoch_time or 0.0,
        epochs=epochs,
    )


def made(pairs, **options):
    return sumx.table([one for one, _ in pairs], {one.path: its for one, its in pairs if its}, **options)


def columns(table):
    return [column.name for column in table.columns]


def cells(table, name):
    return [row[columns(table).index(name)] for row in table.rows]


def test_the_table_of_the_readme():
    pairs = [
        (run("run1", {"lr": 0.01, "solver": "sgd", "arch": "a"}), log(10, 315.0, acc=98.2)),
        (run("run2", {"lr": 0.01, "solver": "adam", "arch": "a"}), log(10, 312.0, acc=98.1)),
        (run("run3", {"lr": 0.02, "solver": "sgd", "arch": "a"}), log(10, 305.0, acc=Series(99.0, 10, 9, 1, 99.5, 8))),
        (run("run4", {"lr": 0.02, "solver": "adam", "arch": "a"}), log(10, 311.0, acc=99.1)),
    ]
    assert made(pairs, sortwith="acc") == Table(
        (
            Column("run", "text"),
            Column("lr", "value"),
            Column("solver", "value"),
            Column("acc", "metric"),
            Column("acc-best", "metric"),
            Column("acc-epoch", "step"),
            Column("epoch", "step"),
            Column("epoch_time", "seconds"),
        ),
        (
            ("run3", 0.02, "sgd", 99.0, 99.5, 8, 10, 305.0),
            ("run4", 0.02, "adam", 99.1, 99.1, 10, 10, 311.0),
            ("run1", 0.01, "sgd", 98.2, 98.2, 10, 10, 315.0),
            ("run2", 0.01, "adam", 98.1, 98.1, 10, 10, 312.0),
        ),
    )


def test_without_runs_there_are_no_rows():
    assert sumx.table([], {}) == Table(
        (Column("run", "text"), Column("epoch", "step"), Column("epoch_time", "seconds")), ()
    )


@pytest.mark.parametrize("state", [state for state in State if state is not State.DONE])
def test_every_run_has_its_row_whatever_its_state(state):
    table = made([(run("a"), log(1, acc=1)), (run("b", state=state), None)])
    assert columns(table) == ["run", "state", "acc", "epoch", "epoch_time"]
    assert table.rows == (("a", "done", 1, 1, None), ("b", str(state), None, None, None))
    assert type(table.rows[0][1]) is str


def test_the_state_is_left_out_where_nobody_can_know_it():
    runx = Run("a", "/root/sweep/a", "sweep", State.UNKNOWN, {})
    assert "state" not in columns(made([(runx, None), (run("b"), None)]))
    assert "state" in columns(made([(run("a", state=State.UNKNOWN), None), (run("b"), None)]))


# Hyperparameters

DIFFERING = {
    "numbers": ([1, 2], True),
    "the same": ([0.1, 0.1], False),
    "whole and not": ([1, 1.0], False),
    "a truth is no number": ([1, True], True),
    "a text is no number": ([1, "1"], True),
    "a text is no truth": ([True, "true"], True),
    "none is absent": ([None, ...], False),
    "absent is another": ([1, ...], True),
    "none is another": ([1, None], True),
    "zero is not absent": ([0, ...], True),
    "lists": ([[64, 64], [64, 32]], True),
    "equal lists": ([[64, 64], [64, 64]], False),
    "a list and its text": ([[64], "[64]"], True),
    "nested": ([{"a": {"b": 1}}, {"a": {"b": 2}}], True),
    "nested in another order": ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
    "not numbers": ([float("nan"), float("nan")], False),
    "of all kinds": ([1, "x", [1], None, True, {"a": 1}, 0.5], True),
}


@pytest.mark.parametrize(("values", "expected"), DIFFERING.values(), ids=DIFFERING)
def test_hyperparameters_that_differ_are_columns(values, expected):
    pairs = [(run(f"r{i}", {} if value is ... else {"x": value}), None) for i, value in enumerate(values)]
    table = made(pairs)
    assert ("x" in columns(table)) == expected
    if expected:
        assert repr(cells(table, "x")) == repr([None if value is ... else value for value in values])


SWEPT = {
    "one": ([{"nodes": 1}, {"nodes": 2}], {"nodes": [1, 2]}),
    "the same": ([{"nodes": 1}, {"nodes": 1}], {}),
    "of some": ([{"partition": "long"}, {}], {"partition": ["long", None]}),
    "two": (
        [{"nodes": 1, "partition": "a"}, {"nodes": 1, "partition": "b"}, {"nodes": 2, "partition": "b"}],
        {"nodes": [1, 1, 2], "partition": ["a", "b", "b"]},
    ),
}


@pytest.mark.parametrize(("swept", "expected"), SWEPT.values(), ids=SWEPT)
def test_swept_resources_that_differ_are_columns(swept, expected):
    table = made([(run(f"r{i}", swept=each), None) for i, each in enumerate(swept)])
    assert columns(table) == ["run", *expected, "epoch", "epoch_time"]
    assert {name: cells(table, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([("one", "python a.py"), ("one", "python b.py")], ["python a.py", "python b.py"]),
        ([("one", "python a.py"), ("one", "python a.py")], None),
        ([("one", "python a.py"), ("two", "python b.py")], None),
        ([("one", "python a.py"), ("one", "")], None),
        ([("one", "a"), ("one", ""), ("one", "b"), ("two", "c")], ["a", None, "b", "c"]),
    ],
)
def test_the_command_is_shown_where_runs_of_an_experiment_differ_in_it(told, expected):
    pairs = [(run(f"r{i}", experiment=name, command=words), None) for i, (name, words) in enumerate(told)]
    table = made(pairs)
    assert (cells(table, "command") if "command" in columns(table) else None) == expected


def test_a_hyperparameter_has_a_better_claim_to_a_name_than_a_resource():
    table = made([(run(name, {"nodes": i}, swept={"nodes": 7 + i}), None) for i, name in enumerate("ab")])
    assert (columns(table)[1:3], table.rows[1][1:3]) == (["nodes", "resources.nodes"], (1, 8))


@pytest.mark.parametrize("name", ["logdir", "command", "result_dir", "nbr_workers", "paths", "val_paths"])
def test_what_runx_hid_is_shown_where_it_alone_tells_runs_apart(name):
    values = [{"lr": 1, name: [1]}, {"lr": 1, name: 2}, {"lr": 2, name: 2}, {"lr": 2}]
    table = made([(run(str(i), each), None) for i, each in enumerate(values)])
    assert columns(table) == ["run", "lr", name, "epoch", "epoch_time"]
    assert cells(table, name) == [[1], 2, 2, None]
    assert columns(made([(run("a", values[0]), None), (run("b", values[1], experiment="other"), None)])) == [
        "experiment", "run", "epoch", "epoch_time"
    ]  # fmt: skip
    runxs = [(run(str(i), each)._replace(identity=None), None) for i, each in enumerate(values)]
    assert columns(made(runxs)) == ["run", "lr", "epoch", "epoch_time"]
    commands = [(run(str(i), each, command=f"c {i}"), None) for i, each in enumerate(values)]
    assert columns(made(commands)) == ["run", "lr", "command", "epoch", "epoch_time"]


@pytest.mark.parametrize("name", ["logdir", "command", "result_dir", "nbr_workers", "paths", "val_paths"])
def test_what_runx_hides_is_hidden_where_something_else_differs(name):
    pairs = [(run("a", {"lr": 1, name: 1}), None), (run("b", {"lr": 2, name: 2}), None)]
    assert columns(made(pairs)) == ["run", "lr", "epoch", "epoch_time"]


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        ([], ["run", "state", "lr", "acc", "val/epoch", "acc-best", "acc-epoch", "epoch", "epoch_time", "code"]),
        (["lr"], ["run", "state", "acc", "val/epoch", "acc-best", "acc-epoch", "epoch", "epoch_time", "code"]),
        (["acc"], ["run", "state", "lr", "val/epoch", "acc-best", "acc-epoch", "epoch", "epoch_time", "code"]),
        (["val/acc", "val/epoch"], ["run", "state", "lr", "acc-best", "acc-epoch", "epoch", "epoch_time", "code"]),
        (["epoch", "epoch_time", "code", "state"], ["run", "lr", "acc", "val/epoch", "acc-best", "acc-epoch"]),
        (
            ["no such", "hparams.lr"],
            ["run", "state", "acc", "val/epoch", "acc-best", "acc-epoch", "epoch", "epoch_time", "code"],
        ),
        (["acc-best", "acc-epoch", "run"], ["state", "lr", "acc", "val/epoch", "epoch", "epoch_time", "code"]),
    ],
)
def test_ignore_hides_any_column_by_name(ignored, left):
    pairs = [
        (run("a", {"lr": 1}, digest="a" * 40), log(1, acc=1, epoch=5)),
        (run("b", {"lr": 2}, State.FAILED, digest="b" * 40), None),
    ]
    assert columns(made(pairs, sortwith="acc", ignore=ignored)) == left


def test_all_ignored_leaves_rows_of_nothing():
    assert made([(run("a"), None)], ignore=["run", "epoch", "epoch_time"]) == Table((), ((),))


def test_no_two_columns_have_one_name():
    hparams = dict.fromkeys(("run", "epoch", "acc", "acc-best", "lr", "code"), 1)
    values = {"acc": 1, "epoch": 2, "run": 3, "acc-best": 4, "hparams.acc": 5}
    its = MetricLog({f"val/{name}": Series(v, 1, v, 1, v, 1) for name, v in values.items()}, step=1)
    table = made([(run("a", hparams), its), (run("b"), None)], sortwith="acc")
    assert columns(table) == [
        *["run", "hparams.run", "hparams.epoch", "acc", "hparams.acc-best", "lr", "code"],
        *["val/acc", "val/epoch", "val/run", "val/acc-best", "hparams.acc"],
        *["acc-best", "acc-epoch", "epoch", "epoch_time"],
    ]


# Metrics


def test_a_column_whose_longer_name_is_taken_too_has_a_star():
    table = made([(run(name, {"hparams.run": name, "run": name}), None) for name in ("a", "b")])
    assert columns(table)[:3] == ["run", "hparams.run", "hparams.run*"]


def test_a_metric_only_some_runs_have_is_a_column():
    table = made([(run("a"), log(1, loss=3)), (run("b"), log(2, acc=1)), (run("c"), log(3, acc=2, loss=1))])
    assert table.columns[1:3] == (Column("loss", "metric"), Column("acc", "metric"))
    assert (cells(table, "loss"), cells(table, "acc")) == ([3, None, 1], [None, 1, 2])


def test_only_the_last_val_row_is_shown():
    table = made([(run("a"), log(5, acc=1, old=Series(9, 4, 9, 4, 9, 4), train_loss=3))])
    assert columns(table) == ["run", "acc", "epoch", "epoch_time"]


def test_a_metric_of_another_phase_is_shown_when_asked_for():
    table = made([(run("a"), log(5, acc=1, train_loss=Series(3, 7, 2, 6, 9, 0)))], sortwith="train/loss")
    assert columns(table) == ["run", "acc", "train/loss", "train/loss-best", "train/loss-epoch", "epoch", "epoch_time"]
    assert table.rows == (("a", 1, 3, 2, 6, 5, None),)


def test_a_metric_with_a_slash_keeps_its_phase():
    pairs = [(run("a"), MetricLog({"val/top/5": Series(3, 7, 2, 6, 9, 0)}, step=7))]
    for name in ("top/5", "val/top/5"):
        table = made(pairs, sortwith=name)
        assert (columns(table)[1:4], table.rows[0][1:4]) == (
            ["val/top/5", "val/top/5-best", "val/top/5-epoch"],
            (3, 9, 0),
        )


@pytest.mark.parametrize(
    ("name", "logged", "shown"),
    [
        ("test/acc", ["val/acc"], "acc"),
        ("validation/acc", ["val/acc", "train/acc"], "acc"),
        ("trn/acc", ["val/acc", "train/acc"], "train/acc"),
        ("test/acc", ["val/test/acc"], "val/test/acc"),
        ("test/acc", ["val/acc", "val/test/acc"], "acc"),
        ("test/acc", ["test/acc"], "test/acc"),  # not of logx
        ("test/acc", [], "acc"),
    ],
)
def test_a_phase_may_have_any_of_its_names(name, logged, shown):
    its = MetricLog({full: Series(1, 1, 1, 1, 1, 1) for full in logged}, step=1)
    assert f"{shown}-best" in columns(made([(run("a"), its)], sortwith=name))


def rising(name, **more):
    return [(run(f"{name}{i}", **more), log(1, **{name: float(i)})) for i in range(3)]


@pytest.mark.parametrize(
    ("name", "mode", "goal", "first"),
    [
        ("acc", None, None, "acc2"),
        ("acc", "min", None, "acc0"),
        ("loss", None, None, "loss0"),
        ("loss", "max", None, "loss2"),
        ("val_loss", None, None, "val_loss0"),
        ("score", None, Goal("val/score", "min"), "score0"),
        ("score", "max", Goal("val/score", "min"), "score2"),
        ("score", None, Goal("val/acc", "min"), "score2"),
    ],
)
def test_which_way_is_better(name, mode, goal, first):
    table = made(rising(name, goal=goal), sortwith=name, mode=mode)
    assert cells(table, "run")[0] == first


@pytest.mark.parametrize("metric", ["val/top/5", "top/5"])
def test_the_goal_may_be_a_metric_with_a_slash(metric):
    logs = [MetricLog({"val/top/5": Series(v, 1, v, 1, v, 1)}, step=1) for v in (1, 2)]
    table = made([(run(name, goal=Goal(metric, "min")), one) for name, one in zip("ab", logs)])
    assert (table.notes, cells(table, "run"), cells(table, "val/top/5-best")) == ((), ["a", "b"], [1, 2])


def test_goals_of_one_metric_that_differ_leave_the_way_to_its_name():
    pairs = [(run(f"{mode}", goal=Goal("val/loss", mode)), log(1, loss=v)) for mode, v in (("max", 2), ("min", 1))]
    assert cells(made(pairs, sortwith="loss"), "run") == ["min", "max"]
    assert "loss-best" not in columns(made(pairs))


@pytest.mark.parametrize(("mode", "first"), [(None, "acc2"), ("max", "acc2"), ("min", "acc0")])
def test_the_goal_sorts_where_nothing_else_is_said(mode, first):
    table = made(rising("acc", goal=ACC), mode=mode)
    assert (cells(table, "run")[0], "acc-best" in columns(table), table.notes) == (first, True, ())


@pytest.mark.parametrize("names", ["abcdefgh", "hgfedcba", "bdfhaceg"])
def test_best_first_none_last_ties_as_they_come(names):
    bests = {"a": 2.0, "b": None, "c": 10, "d": 9.5, "e": 2, "f": float("inf"), "g": None, "h": -1}
    pairs = [(run(name), log(1, acc=bests[name]) if bests[name] is not None else None) for name in names]
    ties, nones = [each for each in names if each in "ae"], [each for each in names if each in "bg"]
    assert cells(made(pairs, sortwith="acc"), "run") == ["f", "c", "d", *ties, "h", *nones]
    assert cells(made(pairs, sortwith="acc", mode="min"), "run") == ["h", *ties, "d", "c", "f", *nones]


def test_a_run_that_only_logged_nan_is_last():
    nan = float("nan")
    pairs = [(run("a"), log(1, acc=Series(nan, 1, None, None, None, None))), (run("b"), log(1, acc=-5))]
    assert cells(made(pairs, sortwith="acc"), "run") == ["b", "a"]


def test_without_a_goal_runs_are_in_the_order_they_come_in():
    assert cells(made([(run(name), None) for name in ("b", "a10", "a9", "c")]), "run") == ["b", "a10", "a9", "c"]


def test_several_experiments_have_a_column_and_come_one_after_another():
    told = [("lr10", "a"), ("lr9", "b"), ("lr10", "c"), ("lr9", "a")]
    table = made([(run(name, experiment=experiment), None) for experiment, name in told])
    assert [row[:2] for row in table.rows] == [("lr9", "b"), ("lr9", "a"), ("lr10", "a"), ("lr10", "c")]
    assert columns(table) == ["experiment", "run", "epoch", "epoch_time"]


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        ([None, None], None),
        (["abcdefgh", "abcdefgh"], None),
        (["abcdefgh", None], None),
        (["abcdefgh1", "bbcdefgh1"], ["abcdefg", "bbcdefg"]),
        (["abcdefghi1", "abcdefghi2", None], ["abcdefghi1", "abcdefghi2", None]),
    ],
)
def test_the_code_is_shown_when_snapshots_differ(digests, expected):
    table = made([(run(f"r{i}", digest=digest), None) for i, digest in enumerate(digests)])
    assert (cells(table, "code") if "code" in columns(table) else None) == expected


def test_snapshots_of_one_code_are_one():
    pairs = [(run(name, digest=digest), None) for name, digest in zip("abc", ["aaaaaaaaa", "bbbbbbbbb", "ccccccccc"])]
    table = made(pairs, codes={"aaaaaaaaa": "bbbbbbbbb", "bbbbbbbbb": "bbbbbbbbb"})
    assert cells(table, "code") == ["bbbbbbb", "bbbbbbb", "ccccccc"]
    assert "code" not in columns(made(pairs, codes=dict.fromkeys(["aaaaaaaaa", "bbbbbbbbb", "ccccccccc"], "aaaaaaaaa")))


# What cannot be


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ac", "no run has a metric 'ac'; did you mean acc? known: acc, loss, train/loss"),
        ("train/los", "no run has a metric 'train/los'; did you mean train/loss? known: acc, loss, train/loss"),
        ("zzz", "no run has a metric 'zzz'; known: acc, loss, train/loss"),
        ("", "no run has a metric ''; known: acc, loss, train/loss"),
        ("lr", "no run has a metric 'lr'; known: acc, loss, train/loss"),
        ("trn/los", "no run has a metric 'trn/los'; did you mean train/loss? known: acc, loss, train/loss"),
        ("test/ac", "no run has a metric 'test/ac'; did you mean acc? known: acc, loss, train/loss"),
        ("val/ac", "no run has a metric 'val/ac'; did you mean acc? known: acc, loss, train/loss"),
        ("train/acc", "no run has a metric 'train/acc'; did you mean acc? known: acc, loss, train/loss"),
        ("eval/loss", "no run has a metric 'eval/loss'; did you mean loss? known: acc, loss, train/loss"),
    ],
)
def test_an_unknown_metric_names_the_nearest_and_all_there_are(name, message):
    pairs = [(run("a", {"lr": 1}), log(1, loss=1, acc=2)), (run("b"), log(1, train_loss=1))]
    with pytest.raises(UsageError) as error:
        made(pairs, sortwith=name)
    assert str(error.value) == message


def test_while_nothing_is_logged_any_metric_will_do():
    table = made([(run("b", state=State.QUEUED), None), (run("a", state=State.QUEUED), None)], sortwith="acc")
    assert (cells(table, "run"), cells(table, "acc-best")) == (["b", "a"], [None, None])
    assert table.notes == ("no run has logged acc yet",)


@pytest.mark.parametrize(
    ("pairs", "options", "notes"),
    [
        ([(run("a"), MetricLog(unreadable=2))], {}, ["2 lines unreadable in a"]),
        (
            [(run("a"), MetricLog(unreadable=1)), (run("b"), MetricLog(unreadable=3))],
            {},
            ["1 line unreadable in a", "3 lines unreadable in b"],
        ),
        ([(run("a"), MetricLog(problem="x: gone"))], {}, ["1 run unreadable: a (x: gone)"]),
        ([(run(n), MetricLog(problem=f"{n}: gone")) for n in "abc"], {}, ["3 runs unreadable: a, b, c (a: gone)"]),
        (
            [(run("a", goal=ACC), None), (run("b", goal=Goal("val/loss", "min")), None)],
            {},
            ["the runs have different goals (val/acc, val/loss): name one with --sortwith"],
        ),
        (
            [(run("a", goal=ACC), None), (run("b", goal=Goal("val/acc", "min")), None)],
            {},
            ["the runs have different goals (max val/acc, min val/acc): name one with --sortwith"],
        ),
        ([(run("a", goal=ACC), None)], {}, ["no run has logged acc yet"]),
        ([(run("a", goal=ACC), log(1, loss=1))], {}, ["no run has logged acc yet; known: loss"]),
        (
            [(run("a", goal=Goal("val/loss", "min")), log(1, acc=1, train_loss=1))],
            {},
            ["no run has logged loss yet; did you mean train/loss? known: acc, train/loss"],
        ),
        (
            [(run("a", goal=Goal("val/acuracy", "max")), log(1, accuracy=1, loss=1))],
            {},
            ["no run has logged acuracy yet; did you mean accuracy? known: accuracy, loss"],
        ),
        (
            [(run("a"), log(train_loss=1)), (run("b"), log(train_acc=1))],
            {},
            ["nothing of phase val is logged; --sortwith shows other phases: train/acc, train/loss"],
        ),
        ([(run("a"), log(train_loss=1)), (run("b"), log(1, acc=1))], {}, []),
        ([(run("a"), log(train_loss=1))], {"sortwith": "train/loss"}, []),
        ([(run("a", goal=Goal("train/loss", "min")), log(train_loss=1))], {}, []),
        ([(run("a"), log(1, loss=1))], {"mode": "max"}, ["--max changes nothing without --sortwith or a GOAL"]),
        ([(run("a"), log(1, loss=1))], {"mode": "max", "sortwith": "loss"}, []),
    ],
)
def test_nothing_is_left_out_in_silence(pairs, options, notes):
    assert list(made(pairs, **options).notes) == notes


def test_a_log_that_cannot_be_read_still_has_its_row():
    assert made([(run("a"), MetricLog(problem="gone"))]).rows == (("a", None, None),)
