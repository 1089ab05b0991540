"""farmx init: what it finds here becomes a file that the reader takes as it is, and no file is ever overwritten."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typed import Typed, everything, write

from farmx import config, sites

ROOT = Path(__file__).resolve().parent.parent

SINFO = """#!/bin/sh
[ "$1" = --version ] && echo "slurm 23.11.4" && exit
cat <<'end'
cpu|up|12:00:00|40|64|256000|(null)
gpu*|up|2-00:00:00|8|48+|512000+|gpu:a100:8(S:0-1)
old|down|infinite|2|16|64000|gpu:2,craynetwork:1
short|up|30:00|1|64|256000|(null)
gpu*|up|2-00:00:00|1|96|512000|gpu:h100:8
end
"""
SCONTROL = "#!/bin/sh\necho 'KillWait                = 30 sec'; echo 'MaxArraySize            = 1001'\n"
SACCTMGR = "#!/bin/sh\necho 'vision|normal,long'; echo 'nlp|'\n"
FAILS = "#!/bin/sh\necho 'sinfo: error: cannot reach it' >&2; exit 1\n"
OURS = {"sbatch": "#!/bin/sh\n", "sinfo": SINFO, "scontrol": SCONTROL, "sacctmgr": SACCTMGR}
SMI = """#!/bin/sh
echo 'GPU 0: NVIDIA A1 (UUID: GPU-8f1c)'
echo 'GPU 1: NVIDIA A1 (UUID: GPU-9f1c)'
"""
HEAD = """\
# Written by farmx init; every key: docs/config.md. `farmx sweep.yml -n` shows what would run, and makes nothing.

# Where runs go: ./runs when there is no such line. `~` and $VAR are replaced. The nodes of the farm must see it.
# LOGROOT: ~/farmx-runs

# The farm to submit to: the section below; --farm on the command line is stronger.
FARM: slurm

"""
CLUSTER = """\
# Slurm 23.11.4, 4 partitions
#   partition  time limit  nodes  CPUs  memory MB  GPUs a node
#   cpu        12:00:00    40     64    256000     -
#   gpu        2-00:00:00  8      48+   512000+    gpu:a100:8   default
#   old        infinite    2      16    64000      gpu:2        down
#   short      30:00       1      64    256000     -
#   gpu        2-00:00:00  1      96    512000     gpu:h100:8   default
# arrays of at most 1001 runs (MaxArraySize); what is larger is split
# your accounts: vision (qos normal,long), nlp
slurm:
  EXECUTOR: slurm
  RESOURCES: # options of sbatch
    partition: gpu # cpu, gpu, short
    time: 4:00:00 # the limit of gpu: 2-00:00:00
    cpus_per_task: 1 # nodes of gpu have 48+
    # mem: 8G # nodes of gpu have 512000+ MB
    gpus: 1 # gpu: gpu:a100:8 a node
    # account: NAME # vision (qos normal,long), nlp
    # qos: NAME
    # array_parallelism: 20 # of a launch at most so many jobs at once
"""


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    """A machine with no scheduler and no GPU; a command of it is an executable in bin/."""
    write(tmp_path, {"project": None, "bin": None})
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{Path(sys.executable).parent}")
    for name in ("sh", "cat"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    return Typed(monkeypatch, capfd, tmp_path / "project")


def give(here: Typed, commands: dict[str, str]) -> None:
    for name, text in commands.items():
        path = here.cwd.parent / "bin" / name
        path.write_text(text)
        path.chmod(0o755)


def chosen(here: Typed, name: str = ".farmx.yaml") -> config.Farm:
    """The farm of a file, as the reader reads it."""
    return config.compose(cwd=str(here.cwd), home="/nowhere", environ={}, named=name).farm


def test_slurm_is_told_with_its_partitions_and_the_file_is_taken_as_it_is(here):
    give(here, OURS)
    said = here("farmx init")
    assert (said.code, said.out) == (0, "")
    assert said.err.splitlines()[:2] == [
        "found  Slurm 23.11.4, 4 partitions",
        "         partition  time limit  nodes  CPUs  memory MB  GPUs a node",
    ]
    assert said.err.splitlines()[-3:] == [
        "wrote  .farmx.yaml",
        "next   farmx sweep.yml -n  # print every command, make nothing",
        "next   farmx sweep.yml  # launch on slurm",
    ]
    assert (here.cwd / ".farmx.yaml").read_text() == HEAD + CLUSTER
    farm = chosen(here)
    assert (farm.name, farm.executor) == ("slurm", "slurm")
    assert farm.resources == {"partition": "gpu", "time": "4:00:00", "cpus_per_task": 1, "gpus": 1}


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ("short*|up|30:00|1|8|9|(null)", ["partition: short # short", "time: 30:00 # the limit of short: 30:00"]),
        ("a*|down|1:00|1|8|9|gpu:1\nb|up|infinite|1|8|9|(null)",
         ["partition: b # b", "time: 4:00:00 # b has no limit", "# mem: 8G # nodes of b have 9 MB",
          "# gpus: 1 # a: gpu:1 a node"]),
    ],
    ids=["a short limit", "a default that is down"],
)  # fmt: skip
def test_what_is_asked_for_fits_the_partition(here, rows, lines):
    give(here, {**OURS, "sinfo": f"#!/bin/sh\ncat <<'end'\n{rows}\nend\n", "sacctmgr": "#!/bin/sh\nexit 1\n"})
    text = here("farmx init -n").out
    assert [line for line in lines if f"    {line}\n" not in text] == []
    assert "account" not in text


@pytest.mark.parametrize(
    ("commands", "kind"),
    [
        (["qsub", "qconf"], "sge"),
        (["qsub", "pbsnodes"], "pbs"),
        (["qsub"], "pbs"),
        (["bsub"], "lsf"),
        (["condor_submit"], "htcondor"),
        (["prun"], "panda"),
        (["ngc"], "ngc"),
        (["ngc", "bsub"], "lsf"),
        ([], "local"),
    ],
)
def test_the_template_of_what_is_here_is_written(here, commands, kind):
    give(here, dict.fromkeys(commands, "#!/bin/sh\n"))
    said = here("farmx init -o one.yaml")
    assert said.code == 0, said.err
    assert said.err.splitlines()[-2:] == [
        "next   farmx sweep.yml -n -c one.yaml  # print every command, make nothing",
        f"next   farmx sweep.yml -c one.yaml  # launch on {chosen(here, 'one.yaml').name}",
    ]
    assert chosen(here, "one.yaml").name == ("box" if kind == "local" else kind)
    assert ("also   ngc is here: --farm ngc writes that" in said.err) == (len(commands) == 2 and "ngc" in commands)


@pytest.mark.parametrize(
    ("kind", "commands", "told", "also"),
    [
        ("slurm-script", [], "the template for slurm-script: sbatch is not here", None),
        ("slurm-script", ["sbatch", "sinfo"], "sbatch is here", "slurm is here: --farm slurm writes that"),
        ("pbs", ["qsub", "qconf"], "the template for pbs: pbsnodes is not here", "sge is here: --farm sge writes that"),
        ("sge", ["qsub", "qconf", "ngc"], "qsub is here", "ngc is here: --farm ngc writes that"),
        ("lsf", ["prun", "ngc"], "the template for lsf: bsub is not here",
         "panda, ngc are here: --farm KIND writes one of them"),
    ],
)  # fmt: skip
def test_what_is_there_of_a_kind_that_was_asked_for_is_told(here, kind, commands, told, also):
    give(here, dict.fromkeys(commands, "#!/bin/sh\n"))
    lines = here(f"farmx init -n --farm {kind}").err.splitlines()
    assert lines[0] == f"found  {told}"
    assert lines[2:] == ([] if also is None else [f"also   {also}"])


def test_a_slurm_that_does_not_answer_is_told_and_the_next_best_is_taken(here):
    give(here, {**OURS, "sinfo": FAILS})
    said = here("farmx init -n")
    told = "Slurm cannot be asked: sinfo: error: cannot reach it"
    assert said.err.splitlines()[0] == f"found  {told}"
    assert "  EXECUTOR: local\n" in said.out
    assert here("farmx init --farm slurm") == (4, "", f"farmx: {told}\n")
    assert everything(here.cwd) == {}


def test_the_gpus_of_this_machine_are_told(here):
    give(here, {"nvidia-smi": SMI})
    said = here("farmx init --farm local")
    assert " and 2 GPUs (NVIDIA A1)" in said.err.splitlines()[0]
    text = (here.cwd / ".farmx.yaml").read_text()
    assert "    #   GPU 0: NVIDIA A1\n    #   GPU 1: NVIDIA A1\n" in text
    farm = chosen(here)
    assert (farm.name, farm.executor, farm.resources) == ("box", "local", {"gpus": "free"})


def test_a_gpu_of_this_machine_is_one(here):
    give(here, {"nvidia-smi": SMI.replace("GPU 1: NVIDIA A1", "")})
    assert " and 1 GPU (NVIDIA A1)" in here("farmx init --farm local").err.splitlines()[0]


@pytest.mark.parametrize("there", ["file", "dangling link"])
def test_what_is_there_stays_as_it_is(here, there):
    path = here.cwd / ".farmx.yaml"
    path.write_text("mine") if there == "file" else path.symlink_to("nowhere")
    before = everything(here.cwd)
    told = "is there and stays as it is; -o FILE writes another, -n shows what would be written"
    assert here("farmx init") == (2, "", f"farmx: .farmx.yaml {told}\n")
    assert here("farmx init -o .farmx.yaml") == (2, "", f"farmx: .farmx.yaml {told}\n")
    assert here("farmx init -n").code == 0
    assert everything(here.cwd) == before


def test_a_wrong_kind_or_place_is_told_and_nothing_is_made(here):
    told = here("farmx init --farm slrum").err
    assert told == "farmx: --farm: there is no kind of farm 'slrum'; did you mean slurm?\n"
    told = here("farmx init --farm local -o no/where.yaml")
    assert (told.code, told.err.splitlines()[-1]) == (
        3, "farmx: no/where.yaml: cannot be written: No such file or directory; nothing was made"
    )  # fmt: skip
    assert everything(here.cwd) == {}


def test_a_wrong_kind_is_told_before_a_file_that_is_there(here):
    (here.cwd / ".farmx.yaml").write_text("FARM: x\n")
    told = here("farmx init --farm slrum")
    assert (told.code, told.err) == (2, "farmx: --farm: there is no kind of farm 'slrum'; did you mean slurm?\n")
    assert (here.cwd / ".farmx.yaml").read_text() == "FARM: x\n"


@pytest.mark.parametrize("kind", ["slurm-script", "sge", "lsf", "pbs", "htcondor", "ngc", "panda"])
def test_every_kind_may_be_asked_for(here, kind):
    assert here(f"farmx init --farm {kind}").code == 0
    assert chosen(here).executor == "command"


EACH = """
import contextlib, sys
from farmx.cli.main import farmx
for kind in sys.argv[1:]:
    print(f"\\0{kind}")
    with contextlib.suppress(SystemExit):
        farmx(["init", "-n", "--farm", kind])
"""


@pytest.mark.slow
def test_an_installed_farmx_has_every_template(tmp_path):
    for name in ("farmx", "templates"):
        shutil.copytree(ROOT / name, tmp_path / "source" / name, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, tmp_path / "source"]
    built = subprocess.run(build, capture_output=True, text=True)
    if "No matching distribution" in built.stderr:
        pytest.skip("no package index to build a wheel with")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    kinds = [kind for kind in sites.kinds() if kind not in ("local", "slurm")]
    command = [sys.executable, "-c", EACH, *kinds]  # one process: seven would each compile all of it
    done = subprocess.run(command, cwd=tmp_path / "site", capture_output=True, text=True)
    shown = {kind: f"FARM: {kind}\n\n{sites.template(kind)}" for kind in kinds}
    told = dict(text.split("\n", 1) for text in done.stdout.split("\0")[1:])
    assert {kind: text[-len(shown[kind]) :] for kind, text in told.items()} == shown, done.stderr
    assert len(kinds) == 7
