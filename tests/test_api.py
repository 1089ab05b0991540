"""farmx from Python: what the commands do, as values; usable again and again, from anywhere in a project."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import everything, write

import farmx
from farmx.cli.launching import request_of, words_of
from farmx.cli.main import launch as command
from farmx.compose import Request
from farmx.errors import FarmxError, RecordError
from farmx.spec import State

SWEEP = "CMD: sh t.sh\nHPARAMS: {lr: [0.2, 0.1], seed: [0, 1, 0]}\n"
VALUES = [{"lr": 0.2, "seed": 0}, {"lr": 0.2, "seed": 1}, {"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1}]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    write(tmp_path, {"sweep.yml": SWEEP, "t.sh": "case \" $* \" in *' 0.1 '*) exit 1; esac\n", "sub/x": ""})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["notebook.py", "--flag"])
    return tmp_path


@pytest.fixture
def python(commands, place) -> Callable[..., str]:
    """python(code, cwd=place) -> what the code prints, in a process of its own, once all it began has ended."""

    def run(code: str, cwd: Path = place) -> str:
        done = commands(code, cwd=cwd, program="python")
        assert done.code == 0, done.err
        return done.out

    return run


def test_launch_returns_the_runs_in_the_order_of_the_points_however_often(place, python):
    told = python(
        "import farmx\n"
        "for how in ({}, {'jobs': 2}, {'interactive': True}):\n"
        "    runs = farmx.launch('sweep.yml', **how)\n"
        "    print('VALUES', [run.hparams for run in runs])\n"
        "    print('STATES', [str(run.state) for run in runs], [len(run.attempts) for run in runs])\n"
        "    print('NAMES', hash(tuple(run.name for run in runs)))\n",
    )
    lines = [line for line in told.splitlines() if line.split()[0] in ("VALUES", "STATES", "NAMES")]
    states = "STATES ['done', 'done', 'failed', 'failed'] [1, 1, 1, 1]"
    assert lines[0::3] == [f"VALUES {VALUES}"] * 3
    assert lines[1::3] == [states] * 3
    assert len(set(lines[2::3])) == 1


def test_some_stages_are_launched(place, python):
    write(place, {"stages.yml": "CMD:\n  a: sh t.sh\n  b: 'true'\n"})
    told = python(
        "import farmx\n"
        "for stages in (['a'], ()):\n"
        "    (run,) = farmx.launch('stages.yml', stages=stages)\n"
        "    print('STATE', run.state, [(stage.name, stage.done) for stage in run.stages])\n",
    )
    assert [line for line in told.splitlines() if line.startswith("STATE")] == [
        "STATE staged [('a', True), ('b', False)]", "STATE done [('a', True), ('b', True)]"
    ]  # fmt: skip


def test_runs_reads_them_back_as_they_were_launched(place, python):
    python("import farmx; farmx.launch('sweep.yml', tag='t', first=4)")
    read = farmx.runs("sweep")
    assert [(run.hparams["lr"], run.hparams["seed"], run.state) for run in read] == [
        (0.2, 0, State.DONE), (0.2, 1, State.DONE), (0.1, 0, State.FAILED),
    ]  # fmt: skip
    assert read == farmx.runs("sweep", logroot=str(place / "runs"))
    assert [run.path for run in read] == [str(place / "runs" / "sweep" / run.name) for run in read]


def test_an_unreadable_run_is_not_left_out_in_silence(place, python):
    python("import farmx; farmx.launch('sweep.yml', first=2)")
    torn = Path(farmx.runs("sweep")[1].path, "run.json")
    torn.write_text("{")
    with pytest.raises(RecordError) as caught:
        farmx.runs("sweep")
    assert str(caught.value) == f"{torn}: cannot be read: it is not json; restore it or move it away"


def test_every_parameter_means_what_the_option_means(place, python):
    told = python(
        "import farmx\n"
        "runs = farmx.launch('sweep.yml', logroot='elsewhere', name='e', tag='t', first=1, gpus='0')\n"
        "again = farmx.launch('sweep.yml', logroot='elsewhere', name='e', first=1, again=True, jobs=1)\n"
        "last = farmx.launch('sweep.yml', logroot='elsewhere', name='e', first=1)\n"
        "print('TOLD', len(farmx.runs('e', logroot='elsewhere')), runs[0].name[:2], runs != again, again == last)\n",
    )
    assert [line for line in told.splitlines() if line.startswith("TOLD")] == ["TOLD 2 t_ True True"]


def test_runs_without_cool_names_are_called_by_their_tag(place, python):
    code = "import farmx; print('RUNS', sorted(run.name for run in farmx.launch('sweep.yml', tag='t', cool=False)))"
    told = python(code)
    assert [line for line in told.splitlines() if line.startswith("RUNS")] == ["RUNS ['t', 't_2', 't_3', 't_4']"]


def test_a_configuration_file_is_the_one_that_is_named(place, python):
    write(place, {"it's.yaml": "LOGROOT: elsewhere\n", ".farmx.yaml": "LOGROOT: here\n"})
    told = python(
        "import farmx\n"
        "(run,) = farmx.launch('sweep.yml', first=1, config_file=\"it's.yaml\")\n"
        "print('TOLD', run == farmx.runs('sweep', config_file=\"it's.yaml\")[0], run.path)\n",
    )
    (line,) = [line for line in told.splitlines() if line.startswith("TOLD")]
    assert line.startswith(f"TOLD True {place}/elsewhere/sweep/")


def test_paths_may_be_paths_and_gpus_numbers_and_a_stage_a_text(place, python):
    write(place, {"stages.yml": "CMD:\n  a: sh t.sh\n  b: 'true'\n", "c.yaml": "ENV: {A: b}\n"})
    told = python(
        "import farmx\n"
        "from pathlib import Path\n"
        "where = {'logroot': Path('elsewhere'), 'config_file': Path('c.yaml')}\n"
        "for how in ({'gpus': 0, 'stages': 'a'}, {'gpus': [0, 1], 'stages': 'a, b'}, {'gpus': ('0+1',)}):\n"
        "    (run,) = farmx.launch(Path('stages.yml'), **how, **where)\n"
        "    print('STATE', run.state)\n"
        "print('STATE', [farmx.runs(Path('elsewhere/stages'), **where) == [run]])\n",
    )
    lines = [line for line in told.splitlines() if line.startswith("STATE")]
    assert lines == ["STATE staged", "STATE done", "STATE done", "STATE [True]"]


@pytest.mark.parametrize("path", ["elsewhere/mine", "./elsewhere/mine", "elsewhere/mine/", "{here}/elsewhere/mine"])
def test_an_experiment_may_be_a_path(place, python, path):
    python("import farmx; farmx.launch('sweep.yml', first=1, name='mine', logroot='elsewhere')")
    (run,) = farmx.runs(path.format(here=place))
    assert (run.experiment, run.path) == ("mine", str(place / "elsewhere" / "mine" / run.name))
    assert farmx.runs("mine/", logroot="elsewhere") == [run]


def test_so_many_runs_as_max_runs_allows_are_launched(place, python):
    told = python("import farmx; print('RUNS', len(farmx.launch('sweep.yml', jobs=2, max_runs=6)))\n"
                  "print('RUNS', len(farmx.launch('sweep.yml', first=1, max_runs=1)))")  # fmt: skip
    assert [line for line in told.splitlines() if line.startswith("RUNS")] == ["RUNS 4", "RUNS 1"]


def test_from_a_subdirectory_the_code_is_what_is_there(place, python):
    write(place, {"sub/sweep.yml": "CMD: python here.py\n", "sub/here.py": "print('sub')\n", ".farmx.yaml": "{}"})
    told = python("import farmx; print('STATE', farmx.launch('sweep.yml')[0].state)", place / "sub")
    assert "STATE done" in told
    assert [path.name for path in (place / "sub" / "runs").glob("[!.]*")] == ["sweep"]


MANY = "more than max_runs=1000; give max_runs=1001 if you mean it, or first=N to try a few"
WRONG = [
    ({"sweep": "none.yml"}, "none.yml: no such sweep file"),
    ({"sweep": "sweeep.yml"}, "sweeep.yml: no such sweep file; did you mean sweep.yml?"),
    ({"sweep": "sweep.yml", "farm": "mars"}, "no farm named 'mars' in any configuration file; known: local"),
    ({"sweep": "sweep.yml", "jobs": 0}, "-j 0: a pool has at least one slot; give -j 1 or more"),
    ({"sweep": "sweep.yml", "gpus": "x"}, "--gpus 'x': 'x' is no GPU; give 0,1 or 0+1,2+3 or free"),
    ({"sweep": "sweep.yml", "interactive": False},
     "launch(): no farm is set up; interactive=True or jobs=N runs here, farm='local' leaves the runs to a pool of "
     "this machine"),
    ({"sweep": "sweep.yml", "interactive": False, "farm": "bare"},
     "farm 'bare' has neither EXECUTOR nor SUBMIT_CMD; add one, or give -i to run here"),
    ({"sweep": None}, "launch(): sweep=None is no path; give a text or a Path"),
    ({"sweep": 3}, "launch(): sweep=3 is no path; give a text or a Path"),
    ({"sweep": "sweep.yml", "logroot": 3}, "launch(): logroot=3 is no path; give a text or a Path"),
    ({"sweep": "sweep.yml", "config_file": 3}, "launch(): config_file=3 is no path; give a text or a Path"),
    ({"sweep": "sweep.yml", "tag": 3}, "launch(): tag=3 is no text; give tag='...'"),
    ({"sweep": "sweep.yml", "name": 3}, "launch(): name=3 is no text; give name='...'"),
    ({"sweep": "sweep.yml", "farm": 3}, "launch(): farm=3 is no text; give farm='...'"),
    ({"sweep": "sweep.yml", "jobs": "2"}, "launch(): jobs='2' is no whole number"),
    ({"sweep": "sweep.yml", "jobs": True}, "launch(): jobs=True is no whole number"),
    ({"sweep": "sweep.yml", "first": 1.5}, "launch(): first=1.5 is no whole number"),
    ({"sweep": "sweep.yml", "max_runs": "6"}, "launch(): max_runs='6' is no whole number"),
    ({"sweep": "sweep.yml", "gpus": 0.5}, "launch(): gpus=0.5 names no GPUs; give '0,1', [0, 1] or 'free'"),
    ({"sweep": "sweep.yml", "gpus": [None]}, "launch(): gpus=[None] names no GPUs; give '0,1', [0, 1] or 'free'"),
    ({"sweep": "sweep.yml", "gpus": []}, "--gpus '': '' is no GPU; give 0,1 or 0+1,2+3 or free"),
    ({"sweep": "sweep.yml", "stages": 1}, "launch(): stages=1 names no stages; give ['train', 'test']"),
    ({"sweep": "sweep.yml", "stages": [1]}, "launch(): stages=[1] names no stages; give ['train', 'test']"),
    ({"sweep": "sweep.yml", "logroot": "$NOPE"},
     "command line: LOGROOT: $NOPE is not set; export it, or write the path"),
    ({"sweep": "sub/many.yml"}, f"sub/many.yml makes 1,001 runs, {MANY}"),
    ({"sweep": "sub/many.yml", "interactive": False, "farm": "local"}, f"sub/many.yml makes 1,001 runs, {MANY}"),
    ({"sweep": "sweep.yml", "max_runs": 5}, "sweep.yml makes 6 runs, more than max_runs=5; give max_runs=6 if you mean "
     "it, or first=N to try a few"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[str(row[0]) for row in WRONG])
def test_a_mistake_is_a_farmx_error_and_makes_nothing(place, given, message):
    write(place, {"sub/many.yml": f"CMD: sh t.sh\nHPARAMS: {{n: {list(range(1001))}}}\n"})
    if given.get("farm") == "bare":
        write(place, {".farmx.yaml": "bare: {RESOURCES: {a: 1}}\n"})
    before = everything(place)
    with pytest.raises(FarmxError) as caught:
        farmx.launch(**given)
    assert str(caught.value) == message
    assert everything(place) == before


ABSENT = [
    ("swep", "no experiment named 'swep' in {here}/runs; there are none"),
    ("sub/", "no experiment named 'sub' in {here}/runs; there are none"),
    ("./sub", "{here}/sub holds no runs; name an experiment; there are none"),
    (3, "runs(): experiment=3 is no path; give a text or a Path"),
    (None, "runs(): experiment=None is no path; give a text or a Path"),
]


@pytest.mark.parametrize(("name", "message"), ABSENT)
def test_an_experiment_that_is_not_there_is_told(place, name, message):
    with pytest.raises(FarmxError) as caught:
        farmx.runs(name)
    assert str(caught.value) == message.format(here=place)


def test_what_to_type_next_is_a_command_and_not_the_script_that_launched(place):
    done = subprocess.run(
        [sys.executable, "-c", "import farmx; farmx.launch('sweep.yml')"],
        cwd=place, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if line.startswith("next")] == [
        "next  sumx sweep", "next  farmx retry sweep  # 2 failed or cancelled",
    ]  # fmt: skip


AGAIN = [
    ("'sweep.yml', first=1", "farmx sweep.yml -i --first 1"),
    ("'sweep.yml', first=1, jobs=2, gpus=[0, 1]", "farmx sweep.yml -j 2 --gpus 0,1 --first 1"),
    ("'sweep.yml', first=1, max_runs=2000, name='e', logroot=\"it's $HOME\", tag='t u', cool=False, "
     "config_file='c.yaml'",
     "farmx sweep.yml -i --max-runs 2000 --logroot 'it'\"'\"'s $HOME' -c c.yaml --exp-name e --tag 't u' --first 1 "
     "--no-cooldir"),
    ("'sweep.yml', first=1, farm='box', interactive=False, config_file='c.yaml'",
     "farmx sweep.yml --farm box -c c.yaml --first 1"),
    ("'sweep.yml', first=1, farm='box', config_file='c.yaml'", "farmx sweep.yml --farm box -c c.yaml --first 1"),
    ("'sweep.yml', first=1, farm='box', interactive=True, config_file='c.yaml'",
     "farmx sweep.yml -i --farm box -c c.yaml --first 1"),
    ("'sweep.yml', first=1, farm='box', jobs=1, config_file='c.yaml'",
     "farmx sweep.yml -j 1 --farm box -c c.yaml --first 1"),
]  # fmt: skip


REQUESTS = [
    {}, {"flags": {"LOGROOT": "it's", "FARM": "f"}}, {"config_file": "c"}, {"name": "e"}, {"tag": "-t u"},
    {"cool": False}, {"again": True}, {"first": 3}, {"stages": ("a", "b")},
]  # fmt: skip


@pytest.mark.parametrize("given", REQUESTS)
def test_a_request_as_a_command_line_asks_for_the_same(given):
    request = Request("s.yml", **given)
    _, *words = words_of(request)
    assert request_of(command.make_context("launch", words).params) == request
    assert {key for each in REQUESTS for key in each} | {"sweep"} == set(Request._fields)


@pytest.mark.parametrize(("given", "line"), AGAIN)
def test_the_command_that_does_the_same_says_all_that_was_given(place, python, commands, given, line):
    write(place, {"c.yaml": "box: {EXECUTOR: local}\n"})
    code = f"import farmx\nfarmx.launch({given})\n"
    python(code)
    write(place, {"t.sh": "other=1\n"})
    _, *words = shlex.split(line)
    for same, program in (([code], "python"), (words, "farmx")):
        done = commands(*same, cwd=place, program=program)
        assert done.err.splitlines()[-1] == f"next  {line} --again  # 1 made from other code: t.sh"


def test_the_package_offers_what_is_documented():
    assert [callable(farmx.launch), callable(farmx.runs), hasattr(farmx.logx, "metric"), farmx.__version__[0]] == [
        True, True, True, "0",
    ]  # fmt: skip
    with pytest.raises(AttributeError, match="module 'farmx' has no attribute 'nope'"):
        farmx.nope  # noqa: B018
