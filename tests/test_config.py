"""config: which setting counts, where it is from, and what is wrong with it."""

import os
import re
from pathlib import Path

import pytest

from farmx import config, layout, settings, yaml12
from farmx.config import Config, Farm
from farmx.errors import ConfigError, FarmxError, SweepError
from farmx.settings import TABLE

ROOT = Path(__file__).resolve().parent.parent
KEYS = [setting.key for setting in TABLE]


@pytest.fixture
def place(tmp_path):
    """A repository with a directory in it, and a home directory; place(...) composes the settings there."""
    return Place(tmp_path)


class Place:
    def __init__(self, path):
        self.home, self.repo, self.cwd = path / "home", path / "repo", path / "repo" / "sub" / "dir"
        self.home.mkdir()
        self.cwd.mkdir(parents=True)
        (self.repo / ".git").mkdir()
        self.names = {
            "project": self.cwd / ".farmx.yaml",
            "parent": self.cwd.parent / ".farmx.yaml",
            "root": self.repo / ".farmx.yaml",
            "outside": path / ".farmx.yaml",
            "user": self.home / ".config" / "farmx" / "config.yaml",
            "runx": self.cwd / ".runx",
            "runx_root": self.repo / ".runx",
            "runx_user": self.home / ".config" / "runx.yml",
        }

    def write(self, name, text):
        path = self.names.get(name, self.cwd / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def compose(self, sweep="", *, environ=None, **more):
        node = yaml12.parse(sweep, "sweep.yml", SweepError)
        settings, marks = (node.items, node.marks) if node else ({}, {})
        return config.compose(
            cwd=str(self.cwd),
            home=str(self.home),
            environ=environ or {},
            settings=settings,
            setting_marks=marks,
            own_keys=("CMD", "HPARAMS", "GOAL"),
            **more,
        )

    def refusal(self, *args, **kwargs):
        before = sorted(self.repo.parent.rglob("*"))
        with pytest.raises(FarmxError) as refused:
            self.compose(*args, **kwargs)
        assert "\n" not in str(refused.value)
        assert sorted(self.repo.parent.rglob("*")) == before
        return str(refused.value)


# ---------------------------------------------------------------- everything at once


def test_without_any_file_every_setting_has_its_default(place):
    assert place.compose() == Config(
        logroot=str(place.cwd / "runs"),
        farm=Farm("local", "local", None, {}, None, None),
        code_ignore_patterns=(),
        code_link=(),
        code_include=(),
        code_staging=None,
        code_max_files=20_000,
        code_max_mb=200.0,
        env={},
        env_pass=(),
        setup="",
        pythonpath=None,
        arg_style="gnu",
        origins=dict.fromkeys(KEYS, "default"),
    )


EVERYTHING = """\
LOGROOT: /logs
FARM: big
CODE_IGNORE_PATTERNS: '.git, *.pyc,docs*,,'
CODE_LINK: data
CODE_INCLUDE: [a b, c]
CODE_STAGING: share
CODE_MAX_FILES: 7
CODE_MAX_MB: 0.5
ENV: {A: 1e-3, B: "it's $HOME; x", C: '', D: true, E: LOGDIR/x}
ENV_PASS: [WANDB_API_KEY, HF_TOKEN]
SETUP: [module load cuda, "export X='a b'"]
PYTHONPATH: [LOGDIR/code, LOGDIR/code/lib]
CONTAINER: {image: x.sif, mounts: ['~/d', '/a:/b:ro'], runtime: singularity, args: [--cleanenv]}
ARG_STYLE: hydra
RETRY: {oom: {mem: x1.5, max: 128G, times: 4}, node_fail: 3, time: x2, error: 0}
BREAKER: 0
SENTINEL: true
NOTIFY: [$URL, slurm]
OPTIONS: {url: x, deep: {a: [1]}}
big:
  EXECUTOR: slurm
  SUBMIT_CMD: sbatch
  RESOURCES: {gpu: 2, time: 12:30:00, exclusive: true, volumes: [/a, /b], image: ~}
  NGC_LOGROOT: /ngc
  WORKSPACE: 12
  MAX_REQUEUES: 0
  SUBMIT_PARALLEL: 4
  JOB_ID: 'Job (\\d+)'
  STATUS_CMD: qstat {ids}
  STATUS_LINE: ^(?P<id>\\d+) (?P<state>\\w+)
  STATUS: {qw: queued, 2: running}
  CANCEL_CMD: qdel {ids}
  PACK: {per_gpu: 2, each: 9}
  REQUEUE_CODE: 99
"""


def test_settings_and_records_have_the_same_names():
    """In two places, that a -n need not load both."""
    names = ("LOCAL", "SLURM", "COMMAND", "EXECUTORS")
    assert [getattr(settings, name) for name in names] == [getattr(layout, name) for name in names]
    assert settings.LOGROOT == layout.ENV_LOGROOT


def test_every_setting_is_read(place):
    place.write("project", EVERYTHING)
    plain = ["LOGROOT", "FARM", *(key for key in KEYS if key not in settings.FARM_KEYS)]
    origins = {key: f".farmx.yaml:{line}:1" for line, key in enumerate(plain, 1)}
    keys = ["EXECUTOR", "SUBMIT_CMD", "RESOURCES", "NGC_LOGROOT", "WORKSPACE", "MAX_REQUEUES", "SUBMIT_PARALLEL",
            "JOB_ID", "STATUS_CMD", "STATUS_LINE", "STATUS", "CANCEL_CMD", "PACK", "REQUEUE_CODE"]  # fmt: skip
    farm = {key: line for line, key in enumerate(keys, len(plain) + 3)}
    origins |= {key: f".farmx.yaml:{line}:3" for key, line in farm.items()}
    columns = {"gpu": 15, "time": 23, "exclusive": 39, "volumes": 56, "image": 75}
    origins |= {f"RESOURCES.{key}": f".farmx.yaml:{farm['RESOURCES']}:{column}" for key, column in columns.items()}
    columns = {"": 1, ".url": 11, ".deep": 19}
    origins |= {f"OPTIONS{key}": f".farmx.yaml:{len(plain) + 1}:{column}" for key, column in columns.items()}
    resources = {"gpu": 2, "time": "12:30:00", "exclusive": True, "volumes": ["/a", "/b"], "image": None}
    assert place.compose() == Config(
        logroot="/logs",
        farm=Farm("big", "slurm", "sbatch", resources, "/ngc", "12", 0, 4, r"Job (\d+)", "qstat {ids}",
                  r"^(?P<id>\d+) (?P<state>\w+)", {"qw": "queued", "2": "running"}, "qdel {ids}",
                  {"per_gpu": 2, "each": 9}, 99, {"url": "x", "deep": {"a": [1]}}),  # fmt: skip
        code_ignore_patterns=(".git", "*.pyc", "docs*"),
        code_link=("data",),
        code_include=("a b", "c"),
        code_staging="share",
        code_max_files=7,
        code_max_mb=0.5,
        env={"A": "1e-3", "B": "it's $HOME; x", "C": "", "D": "true", "E": "LOGDIR/x"},
        env_pass=("WANDB_API_KEY", "HF_TOKEN"),
        setup="module load cuda\nexport X='a b'",
        pythonpath="LOGDIR/code:LOGDIR/code/lib",
        arg_style="hydra",
        origins=origins,
        retry={"oom": {"mem": "x1.5", "max": "128G", "times": 4}, "node_fail": 3, "time": "x2", "error": 0},
        breaker=0,
        sentinel=True,
        container={
            "image": str(place.cwd / "x.sif"),
            "mounts": [[str(place.home / "d"), str(place.home / "d"), "rw"], ["/a", "/b", "ro"]],
            "runtime": "apptainer",
            "args": ["--cleanenv"],
        },
        notify=("$URL", "slurm"),
    )


def test_every_setting_but_a_farms_own_may_stand_in_a_sweep(place):
    text = EVERYTHING.replace("FARM: big\n", "").split("big:")[0] + "RESOURCES: {gpu: 1}\n"
    place.write("project", EVERYTHING)
    from_file, from_sweep = place.compose(flags={"FARM": "local"}), place.compose(text)
    assert from_sweep._replace(farm=from_file.farm, origins={}) == from_file._replace(origins={})
    assert from_sweep.origins["CODE_LINK"] == "sweep.yml:3:1"
    assert from_sweep.farm.resources["gpu"] == 1


# ---------------------------------------------------------------- which place wins

# What every place says of one setting, strongest first; taking the strongest away leaves the next.
PLACES = [
    ("flag", "command line"),
    ("environment", "FARMX_LOGROOT"),
    ("sweep", "sweep.yml:1:1"),
    ("project section", ".farmx.yaml:3:3"),
    ("user section", "~/.config/farmx/config.yaml:3:3"),
    ("project", ".farmx.yaml:1:1"),
    ("user", "~/.config/farmx/config.yaml:1:1"),
    ("runx", ".runx:1:1"),
    ("runx_user", "~/.config/runx.yml:1:1"),
    (None, "default"),
]


@pytest.mark.parametrize(("strongest", "origin"), PLACES, ids=[str(name) for name, _ in PLACES])
def test_the_strongest_place_wins(place, strongest, origin):
    names = [name for name, _ in PLACES]
    here = set(names[names.index(strongest) : -1])

    def line(name):
        return f"LOGROOT: /{name.replace(' ', '-')}\n" if name in here else ""

    for name in ("project", "user"):
        section = line(f"{name} section") or "CODE_LINK: []\n"
        place.write(name, (line(name) or "# nothing\n") + f"big:\n  {section}")
    for name in ("runx", "runx_user"):
        place.write(name, line(name))
    found = place.compose(
        line("sweep"),
        environ={"FARMX_LOGROOT": "/environment"} if "environment" in here else {},
        flags={"FARM": "big", **({"LOGROOT": "/flag"} if "flag" in here else {})},
    )
    expected = f"/{strongest.replace(' ', '-')}" if strongest else str(place.cwd / "runs")
    assert (found.logroot, found.origins["LOGROOT"]) == (expected, origin)


def test_settings_are_taken_key_by_key_and_resources_too(place):
    section = "big: {RESOURCES: {gpu: 3, cpu: 4}}\n"
    place.write("project", "FARM: big\nENV: {A: 1}\nRESOURCES: {cpu: 1, mem: 2}\n" + section)
    place.write("user", "ENV: {B: 2}\nSETUP: from user\nRESOURCES: {mem: 9, disk: 5}\n")
    found = place.compose("RESOURCES: {gpu: 8}\nCODE_LINK: data")
    assert found.farm.resources == {"disk": 5, "mem": 2, "cpu": 4, "gpu": 8}
    assert (found.env, found.setup, found.code_link) == ({"A": "1"}, "from user", ("data",))
    assert (found.origins["RESOURCES"], found.origins["RESOURCES.gpu"]) == ("sweep.yml:1:1", "sweep.yml:1:13")
    assert (found.origins["RESOURCES.mem"], found.origins["RESOURCES.cpu"]) == (".farmx.yaml:3:21", ".farmx.yaml:4:27")


def test_a_resource_is_the_same_however_it_is_spelled(place):
    place.write("project", "FARM: big\nbig: {RESOURCES: {cpus-per-task: 4, mem_per_cpu: 1, a_b: 1}}\n")
    place.write("user", "RESOURCES: {mem-per-cpu: 9, x-y: 5}\n")
    found = place.compose("RESOURCES: {cpus_per_task: 2, a-b: null}")
    assert found.farm.resources == {"x-y": 5, "mem_per_cpu": 1, "cpus_per_task": 2, "a-b": None}


def test_null_is_as_if_the_key_were_not_there(place):
    place.write("project", "LOGROOT:\nENV: ~\nRESOURCES:\nFARM: null\nCODE_LINK:\n")
    place.write("user", "LOGROOT: /user\nENV: {A: 1}\n")
    found = place.compose("SETUP:\nARG_STYLE: ~\n")
    assert (found.logroot, found.env, found.farm.name, found.arg_style) == ("/user", {"A": "1"}, "local", "gnu")


def test_an_empty_list_is_a_value(place):
    place.write("project", "CODE_LINK: [data]\nCODE_IGNORE_PATTERNS: a\nPYTHONPATH: a\nENV_PASS: A\n")
    found = place.compose("CODE_LINK: []\nCODE_IGNORE_PATTERNS: ''\nPYTHONPATH: ''\nENV_PASS: []\n")
    assert (found.code_link, found.code_ignore_patterns, found.pythonpath, found.env_pass) == ((), (), "", ())


# ---------------------------------------------------------------- which files are found


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], None),
        (["outside"], None),
        (["root"], "root"),
        (["root", "parent"], "parent"),
        (["root", "parent", "project"], "project"),
        (["root", "outside", "user"], "root"),
        (["user", "runx"], "user"),
        (["runx_root", "runx"], "runx"),
        (["runx_root", "runx_user"], "runx_root"),
        (["runx_user"], "runx_user"),
    ],
)
def test_the_nearest_file_up_to_the_repositorys_root_counts(place, files, found):
    for name in files:
        place.write(name, f"LOGROOT: /{name}")
    assert place.compose().logroot == (f"/{found}" if found else str(place.cwd / "runs"))


def test_outside_a_repository_only_this_directory_is_looked_at(place):
    (place.repo / ".git").rmdir()
    place.write("root", "LOGROOT: /root")
    place.write("parent", "LOGROOT: /parent")
    assert place.compose().origins["LOGROOT"] == "default"
    place.write("project", "LOGROOT: /project")
    assert place.compose().logroot == "/project"


def test_the_git_file_of_a_worktree_is_a_root_too(place):
    (place.repo / "sub" / ".git").write_text("gitdir: elsewhere")
    place.write("root", "LOGROOT: /root")
    place.write("parent", "LOGROOT: /parent")
    assert place.compose().logroot == "/parent"
    place.names["parent"].unlink()
    assert place.compose().origins["LOGROOT"] == "default"


@pytest.mark.parametrize(("value", "counts"), [("{home}/xdg", True), ("xdg", False), ("", False)])
def test_xdg_config_home_counts_when_it_is_absolute(place, value, counts):
    place.names["xdg"] = place.home / "xdg" / "farmx" / "config.yaml"
    place.write("xdg", "LOGROOT: /xdg")
    place.write("user", "LOGROOT: /user")
    found = place.compose(environ={"XDG_CONFIG_HOME": value.format(home=place.home)})
    assert found.logroot == ("/xdg" if counts else "/user")


def test_files_are_shown_as_a_person_would_write_them(place):
    for name in ("root", "runx_root", "user", "runx_user"):
        place.write(name, "")
    shown = [source.shown for source in config.find(str(place.cwd), str(place.home), {})]
    assert shown == ["../../.farmx.yaml", "~/.config/farmx/config.yaml", "../../.runx", "~/.config/runx.yml"]


def test_a_file_in_a_parent_within_the_home_directory_is_shown_from_here(tmp_path):
    (tmp_path / "project" / "sub").mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    (tmp_path / "project" / ".farmx.yaml").write_text("")
    shown = [source.shown for source in config.find(str(tmp_path / "project" / "sub"), str(tmp_path), {})]
    assert shown == ["../.farmx.yaml"]


@pytest.mark.parametrize("name", ["my.yml", "./my.yml", "../dir/my.yml", "a b's.yml"])
def test_a_named_file_is_the_only_one(place, name):
    place.write("project", "LOGROOT: /project\nSETUP: x\n")
    place.write("user", "SETUP: y\n")
    place.write(name, "LOGROOT: /named")
    found = place.compose(named=name)
    assert (found.logroot, found.setup, found.origins["LOGROOT"]) == ("/named", "", f"{name}:1:1")


@pytest.mark.parametrize("name", ["no.yml", "sub", "/no/where.yml"])
def test_a_named_file_that_is_not_there_is_an_error(place, name):
    place.write("project", "LOGROOT: /project")
    (place.cwd / "sub").mkdir()
    expected = f"{name}: there is no such configuration file; give -c an existing one"
    assert place.refusal(named=name) == expected


# ---------------------------------------------------------------- LOGROOT


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/a/b", "/a/b"),
        ("/a/../b/", "/b"),
        (" /a ", "/a"),
        ("~", "{home}"),
        ("~/logs", "{home}/logs"),
        ("$DISK/x", "/disk/x"),
        ("${DISK}x", "/diskx"),
        ("/a~/$DISK", "/a~//disk"),
        ("runs", "{base}/runs"),
        ("../runs", "{base}/../runs"),
        ("a b's; é", "{base}/a b's; é"),
        ("$5", "{base}/$5"),
    ],
)
def test_logroot_is_expanded_and_starts_from_where_it_is_written(place, written, expected):
    def path(base):
        return os.path.normpath(expected.format(home=place.home, base=base))

    environ = {"DISK": "/disk"}
    line = f"LOGROOT: {written!r}\n" if "'" not in written else f'LOGROOT: "{written}"\n'
    assert place.compose(flags={"LOGROOT": written}, environ=environ).logroot == path(place.cwd)
    assert place.compose(environ={**environ, "FARMX_LOGROOT": written}).logroot == path(place.cwd)
    assert place.compose(line, environ=environ, sweep_dir="/sweeps").logroot == path("/sweeps")
    assert place.compose(line, environ=environ).logroot == path(place.cwd)
    for name in ("runx_user", "runx_root", "user", "root"):
        place.write(name, line)
        assert place.compose(environ=environ).logroot == path(place.names[name].parent)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("$SCRATCH/x", "$SCRATCH is not set; export it, or write the path"),
        ("a/${NOT_SET}", "$NOT_SET is not set; export it, or write the path"),
        ("~bob/x", "'~bob/x': only ~ and ~/ are replaced; write the path"),
    ],
)
def test_a_logroot_that_cannot_be_expanded_says_so(place, written, problem):
    assert place.refusal(flags={"LOGROOT": written}) == f"command line: LOGROOT: {problem}"
    assert place.refusal(environ={"FARMX_LOGROOT": written}) == f"FARMX_LOGROOT: LOGROOT: {problem}"
    assert place.refusal(f"\nLOGROOT: {written}") == f"sweep.yml:2:1: LOGROOT: {problem}"
    place.write("project", f"LOGROOT: {written}")
    assert place.refusal() == f".farmx.yaml:1:1: LOGROOT: {problem}"


# ---------------------------------------------------------------- farms

FARMS = """\
LOGROOT: /top
big: {SUBMIT_CMD: submit_job, LOGROOT: /big, ENV: {A: 1}}
longcat: {EXECUTOR: slurm}
half: {RESOURCES: {gpu: 1}}
empty: {}
local: {LOGROOT: /here, CODE_LINK: data}
odd name; $x: {EXECUTOR: local}
7: {EXECUTOR: slurm}
"""


@pytest.mark.parametrize(
    ("name", "executor", "command", "logroot"),
    [
        ("big", "command", "submit_job", "/big"),
        ("longcat", "slurm", None, "/top"),
        ("half", "", None, "/top"),
        ("empty", "", None, "/top"),
        ("local", "local", None, "/here"),
        ("odd name; $x", "local", None, "/top"),
        ("7", "slurm", None, "/top"),
    ],
)
def test_a_farm_is_a_section(place, name, executor, command, logroot):
    place.write("project", FARMS)
    for found in (
        place.compose(flags={"FARM": name}),
        place.compose(environ={"FARMX_FARM": name}),
        place.compose(f"FARM: {name}" if name != "7" else "FARM: 7"),
    ):
        assert (found.farm.name, found.farm.executor, found.farm.submit_cmd) == (name, executor, command)
        assert found.logroot == logroot


def test_local_needs_no_section_and_takes_no_command_from_the_top(place):
    place.write("project", "SUBMIT_CMD: submit_job\nEXECUTOR: slurm\nFARM: big\nbig: {}\n")
    assert place.compose(flags={"FARM": "local"}).farm.executor == "local"
    assert place.compose().farm == Farm("big", "slurm", "submit_job", {}, None, None)


def test_sections_of_several_files_are_one_farm(place):
    place.write("user", "big: {SUBMIT_CMD: user, WORKSPACE: w}\n")
    place.write("project", "FARM: big\nbig: {SUBMIT_CMD: project}\n")
    found = place.compose().farm
    assert (found.submit_cmd, found.workspace) == ("project", "w")


UNKNOWN_FARMS = [
    ({"flags": {"FARM": "mars"}}, "", "no farm named 'mars' in .farmx.yaml; known: big, local"),
    ({"environ": {"FARMX_FARM": "mars"}}, "", "FARMX_FARM: no farm named 'mars' in .farmx.yaml; known: big, local"),
    ({}, "FARM: mars", "sweep.yml:1:1: no farm named 'mars' in .farmx.yaml; known: big, local"),
    ({"flags": {"FARM": "bi"}}, "", "no farm named 'bi' in .farmx.yaml; known: big, local"),
    ({"flags": {"FARM": ""}}, "", "command line: FARM: '' is not allowed; it must be a name"),
]


@pytest.mark.parametrize(("given", "sweep", "message"), UNKNOWN_FARMS)
def test_an_unknown_farm_names_the_known_ones(place, given, sweep, message):
    place.write("project", "big: {EXECUTOR: slurm}\n")
    assert place.refusal(sweep, **given) == message


def test_an_unknown_farm_without_files_says_so(place):
    assert place.refusal(flags={"FARM": "mars"}) == "no farm named 'mars' in any configuration file; known: local"


# ---------------------------------------------------------------- runx's files

RUNX = """\
LOGROOT: ~/logs
CODE_IGNORE_PATTERNS: '.git,*.pyc,docs*,test*'
FARM: bigfarm
SOMETHING: else
env: {no: farm}
NOTHING:
RESOURCES:
bigfarm:
    SUBMIT_CMD: 'submit_job'
    LOGROOT: /big
    ANYTHING: {a: 1}
    RESOURCES:
        image: mydocker-image-big:1.0
        gpu: 8
smallfarm:
    SUBMIT_CMD: 'A=1 submit_small'
"""


@pytest.mark.parametrize("name", ["runx", "runx_root", "runx_user"])
def test_runxs_files_are_read_as_they_are(place, name):
    place.write(name, RUNX)
    found = place.compose()
    resources = {"image": "mydocker-image-big:1.0", "gpu": 8}
    assert found.farm == Farm("bigfarm", "command", "submit_job", resources, None, None)
    assert (found.logroot, found.code_ignore_patterns) == ("/big", (".git", "*.pyc", "docs*", "test*"))
    small = place.compose(flags={"FARM": "smallfarm"})
    assert (small.logroot, small.farm.submit_cmd) == (str(place.home / "logs"), "A=1 submit_small")


@pytest.mark.parametrize("named", [".runx_nv", "conf/my.runx", "runx.yml"])
def test_a_named_runx_file_is_known_by_its_name(place, named):
    place.write(named, RUNX)
    assert place.compose(named=named).farm.name == "bigfarm"


def test_the_options_of_a_farm_merge_by_key_as_they_are_spelled(place):
    place.write("project", "FARM: big\nbig: {OPTIONS: {a-b: 1, url: {x: 1}, c: 2}}\n")
    place.write("user", "OPTIONS: {c: 9, d: [1]}\n")
    found = place.compose("OPTIONS: {a_b: 3, url: {y: 2}, c: null}")
    assert found.farm.options == {"a-b": 1, "url": {"y": 2}, "c": None, "d": [1], "a_b": 3}
    assert (found.origins["OPTIONS"], found.origins["OPTIONS.url"]) == ("sweep.yml:1:1", "sweep.yml:1:19")
    assert found.origins["OPTIONS.d"].endswith("config.yaml:1:17")


def test_resources_without_a_farm_are_no_error(place):
    place.write("runx", "LOGROOT: /logs\nRESOURCES: {gpu: 1}\nSUBMIT_CMD: x\n")
    assert place.compose().farm == Farm("local", "local", "x", {"gpu": 1}, None, None)


# ---------------------------------------------------------------- what is wrong

BAD_VALUES = [  # a setting, and what is said of it after 'KEY: '
    ("LOGROOT: [a]", 10, "a list is not allowed; it must be a path"),
    ("LOGROOT: {a: 1}", 10, "a mapping is not allowed; it must be a path"),
    ("LOGROOT: true", 10, "'true' is not allowed; it must be a path"),
    ("LOGROOT: ''", 10, "'' is not allowed; it must be a path"),
    ("LOGROOT: ' '", 10, "' ' is not allowed; it must be a path"),
    ("FARM: [a]", 7, "a list is not allowed; it must be a name"),
    ("EXECUTOR: pbs", 11,
     "'pbs' is not allowed; it must be local, slurm or command; or install the package that brings it"),
    ("EXECUTOR: Slurm", 11, "'Slurm' is not allowed; it must be local, slurm or command; did you mean slurm?"),
    ("OPTIONS: [a]", 10, "a list is not allowed; it must be a mapping"),
    ("SUBMIT_PARALLEL: 0.5", 18, "'0.5' is not allowed; it must be a whole number above 0"),
    ("JOB_ID: '('", 9,
     "'(' is no regular expression: missing ), unterminated subpattern at position 0"),
    ("JOB_ID: '[0-9]+'", 9, "'[0-9]+' is not allowed; it must be a regular expression with a group"),
    ("STATUS_CMD: true", 13, "'true' is not allowed; it must be a command"),
    ("STATUS_LINE: '(?P<id>.) (.)'", 14,
     "'(?P<id>.) (.)' is not allowed; it must be a regular expression with groups named id and state"),
    ("STATUS: qstat", 9,
     "'qstat' is not allowed; it must be a mapping of its words to queued, running, done, failed or cancelled"),
    ("STATUS: {Q: queud}", 13,
     "'queud' is not allowed; it must be queued, running, done, failed or cancelled; did you mean queued?"),
    ("CANCEL_CMD: [qdel]", 13, "a list is not allowed; it must be a command"),
    ("MAX_REQUEUES: -1", 15, "'-1' is not allowed; it must be a whole number, 0 for never"),
    ("REQUEUE_CODE: 0", 15, "'0' is not allowed; it must be a whole number from 1 to 255"),
    ("REQUEUE_CODE: 256", 15, "'256' is not allowed; it must be a whole number from 1 to 255"),
    ("REQUEUE_CODE: true", 15, "'true' is not allowed; it must be a whole number from 1 to 255"),
    ("PACK: 4", 7, "'4' is not allowed; it must be a mapping of runs or per_gpu, and each, to whole numbers"),
    ("PACK: {}", 7, "it must say runs or per_gpu, how many runs are at work at once, and not both"),
    ("PACK: {each: 4}", 7, "it must say runs or per_gpu, how many runs are at work at once, and not both"),
    ("PACK: {runs: 4, per_gpu: 1}", 7, "it must say runs or per_gpu, how many runs are at work at once, and not both"),
    ("PACK: {runs: 4, slots: 4}", 17, "'slots' is nothing here; it must be runs, per_gpu or each"),
    ("PACK: {runs: 0}", 8, "runs: 0 is not allowed; it must be a whole number above 0"),
    ("PACK: {runs: true}", 8, "runs: True is not allowed; it must be a whole number above 0"),
    ("PACK: {per_gpu: '2'}", 8, "per_gpu: '2' is not allowed; it must be a whole number above 0"),
    ("PACK: {runs: 4, each: 3}", 17, "each: 3 leaves some of the 4 slots of a job idle; it must be 4 or more"),
    ("SUBMIT_CMD: [a, b]", 13, "a list is not allowed; it must be a command"),
    ("RESOURCES: gpu", 12, "'gpu' is not allowed; it must be a mapping"),
    ("RESOURCES: [gpu]", 12, "a list is not allowed; it must be a mapping"),
    ("RESOURCES: {a-b_c: 1, x: 2, a_b_c: 3}", 29, "a-b_c and a_b_c are one name; keep one"),
    ("RESOURCES: {a: {b: 1}}", 16, "a holds a mapping; it takes text, numbers, true, false and lists"),
    ("RESOURCES: {a: [1, [2]]}", 20, "a holds a list; it takes text, numbers, true, false and lists"),
    ("CODE_IGNORE_PATTERNS: {a: 1}", 23, "a mapping is not allowed; it must be a comma list or a list"),
    ("CODE_IGNORE_PATTERNS: [a, [b]]", 27, "a list is not allowed; it must be a comma list or a list"),
    ("CODE_LINK: {a: b}", 12, "a mapping is not allowed; it must be a path or a list"),
    ("CODE_LINK: [a, ~]", 16, "'~' is not allowed; it must be a path or a list"),
    ("CODE_INCLUDE: [a, '']", 19, "'' is not allowed; it must be a path or a list"),
    ("CODE_STAGING: none", 15, "'none' is not allowed; it must be link, copy or share"),
    ("CODE_STAGING: links", 15, "'links' is not allowed; it must be link, copy or share; did you mean link?"),
    ("CODE_MAX_FILES: many", 17, "'many' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: 0", 17, "'0' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: 1e3", 17, "'1e3' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: '7'", 17, "'7' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: true", 17, "'true' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: [1]", 17, "a list is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_MB: -1", 14, "'-1' is not allowed; it must be a number above 0"),
    ("CODE_MAX_MB: .nan", 14, "'.nan' is not allowed; it must be a number above 0"),
    ("CODE_MAX_MB: .inf", 14, "'.inf' is not allowed; it must be a number above 0"),
    ("ENV: A=1", 6, "'A=1' is not allowed; it must be a mapping of names to texts"),
    ("ENV: [A]", 6, "a list is not allowed; it must be a mapping of names to texts"),
    ("ENV: {A: }", 10, "A is nothing; it must be text or a number, '' for an empty one"),
    ("ENV: {A: ~}", 10, "A is nothing; it must be text or a number, '' for an empty one"),
    ("ENV: {A: [1]}", 10, "A is a list; it must be text or a number, '' for an empty one"),
    ("ENV: {A: {B: 1}}", 10, "A is a mapping; it must be text or a number, '' for an empty one"),
    ("ENV: {a-b: 1}", 7, "'a-b' is no name of a variable; it must be letters, digits and _"),
    ("ENV: {1A: 1}", 7, "'1A' is no name of a variable; it must be letters, digits and _"),
    ("ENV: {é: 1}", 7, "'é' is no name of a variable; it must be letters, digits and _"),
    ("ENV: {A: 1, FARMX_RUN: x}", 13, "FARMX_RUN is set by farmx itself; choose another name"),
    ("ENV: {LOGDIR: x}", 7, "LOGDIR is set by farmx itself; choose another name"),
    ("ENV: {PYTHONPATH: x}", 7, "PYTHONPATH is a setting of its own; write PYTHONPATH: at the top level"),
    ("ENV_PASS: {A: 1}", 11, "a mapping is not allowed; it must be a comma list or a list"),
    ("ENV_PASS: [A, B C]", 15, "'B C' is no name of a variable; it must be letters, digits and _"),
    ("ENV_PASS: 'A, LOGDIR'", 11, "LOGDIR is set by farmx itself; choose another name"),
    ("SETUP: {a: 1}", 8, "a mapping is not allowed; it must be text or a list of lines"),
    ("SETUP: [a, {b: c}]", 12, "a mapping is not allowed; it must be text or a list of lines"),
    ("PYTHONPATH: {a: 1}", 13, "a mapping is not allowed; it must be a colon list or a list"),
    ("ARG_STYLE: unix", 12, "'unix' is not allowed; it must be gnu, equals or hydra"),
    ("ARG_STYLE: equal", 12, "'equal' is not allowed; it must be gnu, equals or hydra; did you mean equals?"),
    ("ARG_STYLE: [gnu]", 12, "a list is not allowed; it must be gnu, equals or hydra"),
    ("CONTAINER: x.sif", 12, "'x.sif' is not allowed; it must be a mapping of image, mounts, runtime and args"),
    ("CONTAINER: {img: x}", 13, "there is no 'img'; did you mean image?"),
    ("CONTAINER: {mounts: [/a]}", 12, "image is missing; write image: a path or an address"),
    ("CONTAINER: {image: 3}", 20, "image is missing; write image: a path or an address"),
    ("CONTAINER: {image: x, runtime: docker}", 32, "'docker' is not allowed; it must be apptainer or pyxis"),
    ("CONTAINER: {image: x, mounts: [a]}", 31,
     "'a' is not allowed; write HOST, HOST:INSIDE or HOST:INSIDE:ro, absolute paths both"),
    ("CONTAINER: {image: x, mounts: '/a:ro'}", 31,
     "'/a:ro' is not allowed; write HOST, HOST:INSIDE or HOST:INSIDE:ro, absolute paths both"),
    ("CONTAINER: {image: x, mounts: '/a:/b:r'}", 31, "'/a:/b:r': 'r' is not allowed; it must be ro or rw"),
    ("CONTAINER: {image: x, args: [1]}", 29, "[1] is not allowed; it must be a text or a list of texts"),
    ("NOTIFY: {a: json://secret}", 9,
     "what stands here is not allowed; it must be an address of apprise's, slurm, or a list"),
    ("NOTIFY: [json://host, secret]", 9,
     "an address begins with what takes it, as json://host or mailto://; or write slurm"),
    ("RETRY: 3", 8, "'3' is not allowed; it must be a mapping of oom, node_fail, time or error to what they are given"),
    ("RETRY: {omm: 3}", 9, "there is no cause 'omm'; did you mean oom?"),
    ("RETRY: {oom: 1, nodes: 3}", 17, "there is no cause 'nodes'; known: error, node_fail, oom, time"),
    ("RETRY: {error: -1}", 16,
     "error: -1 is not allowed; it must be a whole number of further attempts, a factor such as x1.5, or a mapping "
     "such as {mem: x1.5, max: 128G}"),
    ("RETRY: {error: x2}", 16, "error: 'x2': error is about no resource; write {mem: x2}, or whichever is to grow"),
    ("RETRY: {oom: {mem: 1.5}}", 20, "oom: 1.5 is not allowed; it must be a factor above 1, such as x1.5"),
    ("RETRY: {oom: {mem: x1, max: 1G}}", 20, "oom: 'x1' is not allowed; it must be a factor above 1, such as x1.5"),
    ("RETRY: {oom: {max: 128G}}", 14, "oom: no resource is to grow; name one resource: {mem: x1.5, max: 128G}"),
    ("RETRY: {oom: {mem: x2, gpus: x2}}", 14, "oom: mem, gpus is to grow; name one resource: {mem: x1.5, max: 128G}"),
    ("RETRY: {oom: {mem: x2, max: lots}}", 29,
     "oom: 'lots' is not allowed; it must be an amount such as 128G, 2-00:00:00 or 16"),
    ("RETRY: {oom: {mem: x2, times: x}}", 31, "oom: 'x' is not allowed; it must be a whole number of attempts"),
    ("BREAKER: -1", 10, "'-1' is not allowed; it must be a whole number, 0 for never"),
    ("SENTINEL: 1", 11, "'1' is not allowed; it must be true or false"),
    ("NGC_LOGROOT: [a]", 14, "a list is not allowed; it must be a path"),
    ("WORKSPACE: false", 12, "'false' is not allowed; it must be a name"),
]


def test_the_table_of_bad_values_leaves_no_setting_out():
    assert {line.split(":")[0] for line, _, _ in BAD_VALUES} == set(KEYS)


@pytest.mark.parametrize(("line", "column", "problem"), BAD_VALUES, ids=[line for line, _, _ in BAD_VALUES])
def test_a_bad_value_says_what_is_allowed_wherever_it_stands(place, line, column, problem):
    key = line.split(":")[0]
    assert place.refusal(line) == f"sweep.yml:1:{column}: {key}: {problem}"
    for name in ("project", "runx"):
        place.write(name, line)
        assert place.refusal() == f"{place.names[name].name}:1:{column}: {key}: {problem}"
        if key != "FARM":
            place.write(name, f"unused:\n  {line}")
            assert place.refusal() == f"{place.names[name].name}:2:{column + 2}: {key}: {problem}"
        place.names[name].unlink()


NO_FARM = "; it is no setting, and no farm, whose section holds settings"
WRONG = [  # .farmx.yaml, and what is said of it
    ("LOGROT: /x", "1:1: unknown key 'LOGROT'; did you mean LOGROOT?"),
    ("logroot: /x", "1:1: unknown key 'logroot'; did you mean LOGROOT?"),
    ("\nCODE_IGNORE: a", "2:1: unknown key 'CODE_IGNORE'; did you mean CODE_IGNORE_PATTERNS?"),
    ("HPARAMS: 1", "1:1: unknown key 'HPARAMS'; known: " + ", ".join(sorted(KEYS))),
    ("RESOURCE: {gpu: 1}", "1:1: unknown key 'RESOURCE'; did you mean RESOURCES?"),
    ("env: {A: 1}", "1:1: unknown key 'env'; did you mean ENV?"),
    ("CONTANER: {image: x}", "1:1: unknown key 'CONTANER'; did you mean CONTAINER?"),
    ("container: {image: x}", "1:1: unknown key 'container'; did you mean CONTAINER?"),
    ("RETYR: {oom: 2}", "1:1: unknown key 'RETYR'; did you mean RETRY?"),
    ("\nPAKC: {runs: 2}", "2:1: unknown key 'PAKC'; did you mean PACK?"),
    ("STATU: {R: running}", "1:1: unknown key 'STATU'; did you mean STATUS?"),
    ("OPTION: {a: 1}", "1:1: unknown key 'OPTION'; did you mean OPTIONS?"),
    ("LOGROTS: {a: 1}", "1:1: unknown key 'LOGROTS'; did you mean LOGROOT?"),
    ("HPARAMS: {lr: [1]}", "1:1: unknown key 'HPARAMS'" + NO_FARM),
    ("CMD: {train: x}", "1:1: unknown key 'CMD'" + NO_FARM),
    ("big: {gpu: 1}", "1:1: unknown key 'big'" + NO_FARM),
    ("pack: {EXECUTER: local}", "1:1: unknown key 'pack'; did you mean PACK?"),
    ("pack: {EXECUTER: local, LOGROOT: x}", "1:8: unknown key 'EXECUTER'; did you mean EXECUTOR?"),
    ("big: {SUBMIT: x}", "1:7: unknown key 'SUBMIT'; did you mean SUBMIT_CMD?"),
    ("big: {LOGROOT: /x, gpu: 1}", "1:20: unknown key 'gpu'; known: " + ", ".join(sorted(KEYS))),
    ("big: {FARM: x}", "1:7: FARM has no place in the farm big; take it out"),
    (
        "local: {SUBMIT_CMD: x}",
        "1:9: SUBMIT_CMD has no place in the farm local, which is built in and runs here; take it out",
    ),
    (
        "local: {EXECUTOR: slurm}",
        "1:9: EXECUTOR has no place in the farm local, which is built in and runs here; take it out",
    ),
    ("FARM: a\na: {EXECUTOR: command}", "2:5: the farm a has EXECUTOR command and no SUBMIT_CMD; add it"),
    ("LOGROOT: /a\nLOGROOT: /b", "2:1: 'LOGROOT' is written twice, first at line 1; keep one"),
    ("[LOGROOT]", "1:1: a configuration file is a mapping; write LOGROOT: <directory>"),
    ("/logs", "1:1: a configuration file is a mapping; write LOGROOT: <directory>"),
    ("LOGROOT: /a\n\tFARM: b", "2:1: a tab cannot indent; use spaces"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_with_a_file_is_one_line_with_its_place(place, text, message):
    place.write("project", text)
    assert place.refusal() == f".farmx.yaml:{message}"
    with pytest.raises(ConfigError):
        place.compose()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HPARMS: {lr: 1}", "sweep.yml:1:1: unknown key 'HPARMS'; did you mean HPARAMS?"),
        ("hparams: {lr: 1}", "sweep.yml:1:1: unknown key 'hparams'; did you mean HPARAMS?"),
        ("\nGOALS: acc", "sweep.yml:2:1: unknown key 'GOALS'; did you mean GOAL?"),
        ("LOGROT: /x", "sweep.yml:1:1: unknown key 'LOGROT'; did you mean LOGROOT?"),
        ("bigfarm: {EXECUTOR: slurm}", "sweep.yml:1:1: unknown key 'bigfarm'; did you mean FARM?"),
    ],
)
def test_what_is_wrong_in_a_sweep_is_a_sweep_error(place, text, message):
    assert place.refusal(text) == message
    with pytest.raises(SweepError):
        place.compose(text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "{}", "x-anything: {a: 1}\nx-more: 1\n"])
def test_an_empty_file_sets_nothing(place, text):
    place.write("project", text)
    assert set(place.compose().origins.values()) == {"default"}


def test_a_file_that_is_no_text_is_told(place):
    place.names["project"].write_bytes(b"LOGROOT: \xff\xfe")
    assert place.refusal() == ".farmx.yaml: cannot be read: it is not UTF-8 text"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_the_right_to_read_it_is_told(place):
    place.write("project", "LOGROOT: /x")
    place.names["project"].chmod(0)
    assert place.refusal() == ".farmx.yaml: cannot be read: Permission denied"


# ---------------------------------------------------------------- the example


def example(place, text=None):
    place.write("project", text or (ROOT / ".farmx.example.yaml").read_text())
    return place.compose


def test_the_example_loads_for_every_farm_in_it(place):
    compose = example(place)
    here = compose()
    assert (here.logroot, here.farm.name, here.code_link) == (str(place.home / "farmx-runs"), "local", ("data",))
    assert here.code_ignore_patterns == ("docs", "*.ipynb", "*.pth")
    farms = [compose(flags={"FARM": name}).farm for name in ("bigfarm", "smallfarm", "ngc")]
    assert [(farm.executor, farm.submit_cmd) for farm in farms] == [
        ("slurm", None),
        ("command", "submit_job"),
        ("command", "ngc batch run"),
    ]
    assert farms[0].resources == {"partition": "gpu", "gpus": 8, "mem": "64G", "time": "12:00:00"}


def test_the_lines_that_are_commented_out_in_the_example_hold_too(place):
    text = (ROOT / ".farmx.example.yaml").read_text()
    compose = example(place, re.sub(r"(?m)^# ([A-Z_]+:|  - )", r"\1", text))
    found = compose()
    of_farms = {"EXECUTOR", "RESOURCES", "SUBMIT_CMD", "NGC_LOGROOT", "WORKSPACE", "MAX_REQUEUES", "SUBMIT_PARALLEL",
                "JOB_ID", "STATUS_CMD", "STATUS_LINE", "STATUS", "CANCEL_CMD", "RETRY", "PACK",
                "REQUEUE_CODE", "OPTIONS"}  # fmt: skip
    assert {key for key in KEYS if found.origins[key] == "default"} == of_farms
    defaults = {setting.key: setting.default for setting in TABLE}
    assert (found.code_max_files, found.code_max_mb) == (defaults["CODE_MAX_FILES"], defaults["CODE_MAX_MB"])
    assert found.arg_style == defaults["ARG_STYLE"]
    assert found.setup == "module load cuda/12.4\nsource ~/venv/bin/activate"


def test_the_example_shows_every_setting():
    text = (ROOT / ".farmx.example.yaml").read_text()
    assert [key for key in KEYS if not re.search(rf"(?m)^[# ]*{key}:", text)] == []


def test_every_setting_has_a_line_of_help():
    assert [setting.key for setting in TABLE if not (setting.help and setting.allowed)] == []
