"""compose: a sweep file and what surrounds it become an order; no run imports the live tree."""

import os
import sys
import time
from pathlib import Path

import pytest
from commands import read

from farmx import compose
from farmx.errors import ConfigError, SweepError
from farmx.spec import Surroundings

NOW = 1_700_000_000.25


@pytest.fixture
def tree(tmp_path):
    """A source tree with a sweep, and nothing else around."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "sweep.yml").write_text("CMD: python t.py\nHPARAMS: {lr: [1, 2, 3]}\n")
    return tmp_path / "tree"


def at(tree: Path, **environ: str) -> Surroundings:
    return Surroundings(str(tree), str(tree.parent / "home"), environ, NOW, "host", ("farmx", "sweep.yml", "-i"))


def order(tree: Path, request: compose.Request | None = None, here: bool = False, **environ: str):
    """The order that a request for sweep.yml becomes."""
    where = at(tree, **environ)
    return compose.order(compose.read(request or compose.Request("sweep.yml"), where), where, "somebody", here)


def pythonpath(tree: Path, **environ: str) -> tuple[str, ...]:
    return order(tree, **environ).specs[0].pythonpath


# ---------------------------------------------------------------- an order


def test_an_order_says_all_that_a_launch_needs(tree):
    made = order(tree)
    assert (made.source, made.experiment) == (str(tree), str(tree / "runs" / "sweep"))
    assert made.sweep == str(tree / "sweep.yml")
    assert [spec.hparams for spec in made.specs] == [{"lr": 1}, {"lr": 2}, {"lr": 3}]
    assert [spec.stages[0].words for spec in made.specs][0] == ("python", "t.py", "--lr", "1")
    assert (made.now, made.farm, made.cool, made.again, made.staging) == (NOW, "local", True, False, None)
    assert made.specs[0].pythonpath == ("LOGDIR/code",)
    text = (tree / "sweep.yml").read_text()
    assert made.told == {"argv": ["farmx", "sweep.yml", "-i"], "cwd": str(tree), "user": "somebody", "host": "host",
                         "text": text, "origins": {}}  # fmt: skip
    assert not (tree / "runs").exists()


def test_where_a_stage_asks_for_resources_is_known_beside_where_all_do(tree):
    (tree / "sweep.yml").write_text("""\
CMD:
  train: {cmd: 'true', RESOURCES: {mem: it's, cpus: 1}}
  avg: {cmd: 'true', RESOURCES: }
  test: {cmd: 'true', RESOURCES: {mem: 4, gpus: 2}}
RESOURCES: {mem: 3}
""")
    (tree / ".farmx.yaml").write_text("RESOURCES: {cpus: 8}\n")
    origins = compose.read(compose.Request("sweep.yml"), at(tree)).config.origins
    assert {key: place for key, place in origins.items() if key.startswith("RESOURCES.")} == {
        "RESOURCES.mem": "sweep.yml:5:13",
        "RESOURCES.cpus": ".farmx.yaml:1:13",
        "RESOURCES.gpus": "sweep.yml:4:43",
        'RESOURCES.mem "it\'s"': "sweep.yml:2:36",
        "RESOURCES.cpus 1": "sweep.yml:2:47",
        "RESOURCES.mem 4": "sweep.yml:4:35",
        "RESOURCES.gpus 2": "sweep.yml:4:43",
    }


def test_the_ids_of_launches_sort_by_time_and_differ(tmp_path):
    ids = [compose.launch_id(now, str(tmp_path)) for now in (1.0, 1.25, 1.5, 2.0, 1e9, NOW, NOW)]
    assert ids == sorted(ids[:-2]) + ids[-2:]
    assert len(set(ids)) == len(ids)
    assert ids[-1].startswith(time.strftime("%Y%m%d-%H%M%S", time.gmtime(NOW)) + ".250-")


# What there is of launches -> the time in the name of one that begins at 08:00:00.250 on 21 November by its clock.
AFTER = [
    ([], "20261121-080000.250"),
    (["20261121-075959.999-ffffff.json"], "20261121-080000.250"),
    (["20261121-080000.250-ffffff.json"], "20261121-080000.251"),
    (["20261121-080000.251-ffffff.json", "20261121-080000.999-000000"], "20261121-080001.000"),
    (["20261231-235959.999-ffffff-12"], "20270101-000000.000"),
    (["29990101-000000.000-ffffff.json", "20261121-075959.999-ffffff-2"], "29990101-000000.001"),
    (["notes", "99999999-999999.999-ffffff", "2999-ffffff", ".29990101-000000.000-ffffff.json.7.aa"],
     "20261121-080000.250"),
]  # fmt: skip


@pytest.mark.parametrize("folder", ["launches", "submissions"])
@pytest.mark.parametrize(("there", "time"), AFTER)
def test_a_launch_comes_after_those_there_are_whatever_clock_named_them(tmp_path, folder, there, time):
    (tmp_path / ".farmx" / folder).mkdir(parents=True)
    for name in there:
        (tmp_path / ".farmx" / folder / name).touch()
    assert compose.launch_id(1795248000.25, str(tmp_path)).rpartition("-")[0] == time


@pytest.mark.parametrize("first, points", [(None, 3), (1, 1), (2, 2), (99, 3)])
def test_first_takes_so_many_points_from_the_begin(tree, first, points):
    request = compose.Request("sweep.yml", first=first)
    assert compose.read(request, at(tree)).size() == points
    assert [spec.hparams["lr"] for spec in order(tree, request).specs] == [1, 2, 3][:points]


def test_a_sweep_elsewhere_gives_its_name_and_not_its_code(tree):
    (tree / "deep er").mkdir()
    (tree / "sweep.yml").rename(tree / "deep er" / "my sweep.yaml")
    made = order(tree, compose.Request("deep er/my sweep.yaml"))
    assert (made.source, made.sweep) == (str(tree), str(tree / "deep er" / "my sweep.yaml"))
    assert made.experiment == str(tree / "runs" / "my sweep")


NO_SWEEP = [
    ("none.yml", "none.yml: no such sweep file"),
    ("folder", "folder: is a directory; give a sweep file"),
    ("bytes.yml", "bytes.yml: cannot be read: it is not UTF-8 text"),
    ("sweep.yml/x", "sweep.yml/x: cannot be read: Not a directory"),
]


@pytest.mark.parametrize("name, told", NO_SWEEP)
def test_a_sweep_that_cannot_be_read_is_one_line(tree, name, told):
    (tree / "folder").mkdir()
    (tree / "bytes.yml").write_bytes(b"CMD: \xff")
    with pytest.raises(SweepError) as caught:
        compose.read(compose.Request(name), at(tree))
    assert str(caught.value) == told


# ---------------------------------------------------------------- where settings come from

RANK = ["flag", "environment", "sweep", "project", "user", "runx"]  # strongest first


@pytest.mark.parametrize("weakest", range(len(RANK)))
def test_the_strongest_place_that_says_it_decides(tree, weakest):
    """Every place from the `weakest`th up says LOGROOT: the strongest of them wins; and then one less."""
    home = tree.parent / "home"
    (home / ".config" / "farmx").mkdir(parents=True)
    files = {"project": tree / ".farmx.yaml", "user": home / ".config/farmx/config.yaml", "runx": tree / ".runx"}
    told = RANK[weakest:]
    for name in told:
        if name in files:
            files[name].write_text(f"LOGROOT: /{name}\n")
    if "sweep" in told:
        (tree / "sweep.yml").write_text("CMD: 'true'\nLOGROOT: /sweep\n")
    environ = {"FARMX_LOGROOT": "/environment"} if "environment" in told else {}
    request = compose.Request("sweep.yml", {"LOGROOT": "/flag"} if "flag" in told else {})
    assert order(tree, request, **environ).experiment == f"/{told[0]}/sweep"


def test_flags_of_a_request_reach_the_order(tree):
    request = compose.Request("sweep.yml", {"LOGROOT": "elsewhere"}, name="e", tag="t-{lr}", cool=False, again=True)
    made = order(tree, request)
    assert made.experiment == str(tree / "elsewhere" / "e")
    assert (made.cool, made.again) == (False, True)
    assert [spec.tag for spec in made.specs] == ["t-1", "t-2", "t-3"]
    assert made.told["origins"]["LOGROOT"] == "command line"


TEND = "SENTINEL is for EXECUTOR: slurm; of farm {} farmx tend, or the next launch, does what RETRY says"
MAIL = "NOTIFY: slurm is Slurm's own mail, and farm {} sends none; name an address, as json://host"
BOTH = "SENTINEL: true\nNOTIFY: [slurm, 'json://host']\n"
IDLE = [
    ("EXECUTOR: slurm", BOTH, []),
    ("EXECUTOR: local", BOTH, [TEND.format("big"), MAIL.format("big")]),
    ("SUBMIT_CMD: qsub {script}", BOTH, [TEND.format("big"), MAIL.format("big")]),
    ("SUBMIT_CMD: qsub {script}", "SENTINEL: true\n", [TEND.format("big")]),
    ("SUBMIT_CMD: qsub {script}", "NOTIFY: slurm\n", [MAIL.format("big")]),
    ("SUBMIT_CMD: qsub {script}", "SENTINEL: false\nNOTIFY: 'json://host'\n", []),
    (None, BOTH, [TEND.format("local"), MAIL.format("local")]),
]


@pytest.mark.parametrize(("farm", "settings", "notes"), IDLE)
def test_what_is_for_slurm_alone_is_told_where_the_farm_is_none(tree, farm, settings, notes):
    (tree / ".farmx.yaml").write_text(settings + (f"FARM: big\nbig:\n  {farm}\n" if farm else ""))
    assert list(order(tree).notes) == notes


UNREAD = "{} nothing to farm big, which is EXECUTOR: {}; take {} out"
COMMANDS = ["SUBMIT_CMD: qsub {script}", "SUBMIT_PARALLEL: 2", "JOB_ID: ^(x)", "STATUS_CMD: qstat",
            "STATUS_LINE: (?P<id>a)(?P<state>b)", "STATUS: {r: running}", "CANCEL_CMD: qdel {ids}", "REQUEUE_CODE: 99",
            "NGC_LOGROOT: /ngc", "WORKSPACE: w"]  # fmt: skip


@pytest.mark.parametrize("executor", ["slurm", "local"])
@pytest.mark.parametrize("line", COMMANDS)
def test_what_only_a_submit_cmd_reads_is_told_where_there_is_none(tree, line, executor):
    text = f"FARM: big\nbig:\n  EXECUTOR: {executor}\n"
    (tree / ".farmx.yaml").write_text(f"{text}  {line}\n")
    told = UNREAD.format(f"{line.partition(':')[0]} says", executor, "it")
    assert list(order(tree).notes) == [told]
    assert list(order(tree, here=True).notes) == []
    (tree / ".farmx.yaml").write_text(f"{line}\n{text}")
    assert list(order(tree).notes) == [told]
    assert list(order(tree, compose.Request("sweep.yml", {"FARM": "local"})).notes) == []


def test_what_only_a_submit_cmd_reads_is_one_note_and_none_where_there_is_one(tree):
    names = [line.partition(":")[0] for line in COMMANDS]
    (tree / ".farmx.yaml").write_text("FARM: big\nbig:\n" + "".join(f"  {line}\n" for line in COMMANDS))
    assert list(order(tree).notes) == []
    (tree / ".farmx.yaml").write_text((tree / ".farmx.yaml").read_text() + "  EXECUTOR: slurm\n")
    assert list(order(tree).notes) == [UNREAD.format(f"{', '.join(names)} say", "slurm", "them")]


PACKED = "PACK is for jobs; on this machine -j, --gpus or the farm's RESOURCES say how many runs work at once"
PACK = "PACK: {runs: 2}\n"
PACKING = [
    ("EXECUTOR: local", PACK, False, [PACKED]),
    ("EXECUTOR: slurm", PACK, True, [PACKED]),
    ("EXECUTOR: slurm", PACK, False, []),
    ("EXECUTOR: local", "PACK: {runs: 1}\n", False, []),
    (None, PACK, True, [PACKED]),
]


@pytest.mark.parametrize(("farm", "settings", "here", "notes"), PACKING)
def test_a_pack_that_nothing_is_packed_by_is_told(tree, farm, settings, here, notes):
    (tree / ".farmx.yaml").write_text(settings + (f"FARM: big\nbig:\n  {farm}\n" if farm else ""))
    assert list(order(tree, here=here).notes) == notes


HERE = "NOTIFY: slurm is Slurm's own mail, of which runs here send none; name an address, as json://host"


@pytest.mark.parametrize(("notify", "notes"), [("slurm", [HERE]), ("[slurm, 'json://host']", []), ("[]", [])])
def test_where_what_would_go_to_slurm_runs_here_and_nobody_is_told_that_is_said(tree, notify, notes):
    (tree / ".farmx.yaml").write_text(f"NOTIFY: {notify}\nFARM: big\nbig: {{EXECUTOR: slurm}}\n")
    assert list(order(tree, here=True).notes) == notes
    assert list(order(tree).notes) == []


def test_a_tag_of_the_sweep_comes_before_the_requests(tree):
    (tree / "sweep.yml").write_text("CMD: 'true'\nHPARAMS: [{RUNX.TAG: mine, lr: 1}, {RUNX.TAG: null, lr: 2}]\n")
    assert order(tree, compose.Request("sweep.yml", tag="t")).specs[0].tag == "mine"


def test_a_named_configuration_that_is_missing_is_one_line(tree):
    with pytest.raises(ConfigError) as caught:
        order(tree, compose.Request("sweep.yml", config_file="none.yaml"))
    assert str(caught.value) == "none.yaml: there is no such configuration file; give -c an existing one"


# ---------------------------------------------------------------- PYTHONPATH

ENTRIES = [  # the shell's PYTHONPATH, TREE and LINK (a link to it) -> what comes after LOGDIR/code
    ("", ()),
    ("TREE", ()),
    ("TREE/", ()),
    (".", ()),
    ("TREE/src", ("LOGDIR/code/src",)),
    ("src", ("LOGDIR/code/src",)),
    ("./src/../lib", ("LOGDIR/code/lib",)),
    ("TREE/src:TREE/lib:TREE/src", ("LOGDIR/code/src", "LOGDIR/code/lib")),
    ("LINK", ()),
    ("LINK/src", ("LOGDIR/code/src",)),
    ("TREE/it's $HOME", ("LOGDIR/code/it's $HOME",)),
    ("TREE-not", ()),
    ("/usr/lib:..", ()),
    ("::", ()),
]


@pytest.mark.parametrize("entry, behind", ENTRIES)
def test_a_shells_entries_inside_the_tree_lead_into_the_snapshot(tree, entry, behind):
    (tree.parent / "link").symlink_to(tree)
    entry = entry.replace("TREE", str(tree)).replace("LINK", str(tree.parent / "link"))
    assert pythonpath(tree, PYTHONPATH=entry) == ("LOGDIR/code", *behind)


def test_a_tree_that_is_reached_through_a_link_is_the_same(tree):
    (tree.parent / "link").symlink_to(tree)
    assert pythonpath(tree.parent / "link", PYTHONPATH=str(tree / "src")) == ("LOGDIR/code", "LOGDIR/code/src")


def test_the_settings_entries_stand_between_editable_installs_and_the_shells(tree):
    (tree / "sweep.yml").write_text("CMD: python t.py\nPYTHONPATH: LOGDIR/code/mine:/abs\n")
    path = environment(tree.parent, f"{tree}/src\n")
    made = pythonpath(tree, PATH=path, PYTHONPATH=str(tree / "lib"))
    assert made == ("LOGDIR/code/src", "LOGDIR/code/mine", "/abs", "LOGDIR/code/lib")


def environment(home: Path, pth: str) -> str:
    """A virtual environment, as far as its layout, with a .pth file; its PATH."""
    site = home / "venv" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (home / "venv" / "pyvenv.cfg").touch()
    (home / "venv" / "bin").mkdir()
    (home / "venv" / "bin" / "python").write_text("#!/bin/sh\n")
    (home / "venv" / "bin" / "python").chmod(0o755)
    (site / "__editable__.pkg.pth").write_text(pth)
    return str(home / "venv" / "bin")


FINDER = """import importlib.util, sys
MAPPING: dict[str, str] = {mapping!r}
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in MAPPING:
            return importlib.util.spec_from_file_location(name, MAPPING[name] + "/__init__.py",
                submodule_search_locations=[MAPPING[name]])
def install():
    sys.meta_path.append(Finder)
"""
LAYOUTS = {"flat": "pkg", "src": "src/pkg", "finder": "lib/pkg", "deep": "a dir/it's/pkg"}


@pytest.mark.parametrize("how", LAYOUTS)
def test_a_run_imports_an_editable_package_from_its_own_code(project, tmp_path, how):
    package = project.path / LAYOUTS[how]
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    venv = tmp_path / "venv"
    site = venv / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (venv / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    if how == "finder":
        mapping = {"pkg": str(package)}
        (site / "__editable___pkg_1_finder.py").write_text(FINDER.replace("{mapping!r}", repr(mapping)))
        (site / "__editable__.pkg-1.pth").write_text(
            "import __editable___pkg_1_finder; __editable___pkg_1_finder.install()\n"
        )
    else:
        (site / "__editable__.pkg-1.pth").write_text(f"{package.parent}\n")
    project.write("where.py", "import pkg\nprint(pkg.__file__)\n")
    project.sweep("{n: 1}", cmd="python where.py")
    env = {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    out = project.ok("sweep.yml", "-i", **env).out
    (run,) = project.runs()
    tree = f"{os.path.realpath(run)}/.code/{read(run / 'run.json')['digest']}"
    assert os.path.realpath(out.splitlines()[-1]) == f"{tree}/{LAYOUTS[how]}/__init__.py"


def test_a_shells_entry_reached_through_a_link_imports_from_the_runs_own_code(project, tmp_path):
    (project.path / "src").mkdir()
    project.write("src/module.py", "")
    (tmp_path / "link").symlink_to(project.path)
    project.write("where.py", "import module\nprint(module.__file__)\n")
    project.sweep("{n: 1}", cmd=f"{sys.executable} where.py")
    out = project.ok("sweep.yml", "-i", PYTHONPATH=str(tmp_path / "link" / "src")).out
    (run,) = project.runs()
    digest = read(run / "run.json")["digest"]
    assert os.path.realpath(out.splitlines()[-1]) == f"{os.path.realpath(run)}/.code/{digest}/src/module.py"
