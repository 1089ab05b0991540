"""Values arrive in the program exactly as they are written, by every way a run can start and whatever surrounds it."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from launching import HOSTILE, PLACE

VALUES = [*HOSTILE, "\r\n", "a\\\nb", "'\"'\"'", "`id`", "${HOME}", "{a,b}", "--", "-1", "é\u0301\u200f", "%s", "\\"]
KEYS = ["two words", "it's", '"', "$HOME", ";", "a\nb", "größe", "-x", "--long", "a=b", "*", "k" * 1000]
SAYS = """
import json, os, sys
who = os.environ.get("FARMX_ATTEMPT", "hand")
given = {name: text for name, text in os.environ.items() if name.startswith(("GIVEN", "SET"))}
with open(os.path.join(os.environ.get("LOGDIR", "."), f"said.{who}.json"), "w") as file:
    json.dump([sys.argv[1:], given], file)
sys.exit(who == "1")
"""  # the first attempt fails, so that there is something to retry


@pytest.fixture
def place(tmp_path) -> Path:
    """A project whose directory, LOGROOT and everything above have hostile names."""
    home = tmp_path / PLACE / "project"
    home.mkdir(parents=True)
    (home / "says.py").write_text(SAYS)
    (home / ".farmx.yaml").write_text("LOGROOT: runs; it's\n")
    return home


def sweep(place: Path, **keys: object) -> None:
    """sweep.yml: json is yaml, so each value stands there as it is."""
    (place / "sweep.yml").write_text(json.dumps({"CMD": "python -S says.py", **keys}))


@pytest.fixture
def farmx(commands):
    """farmx(place, *argv, code=0) -> stdout."""

    def run(place: Path, *argv: str, code: int = 0) -> str:
        done = commands(*argv, cwd=place)
        assert done.code == code, done.err
        return done.out

    return run


def runs(place: Path, name: str = "sweep") -> list[Path]:
    return sorted(path for path in (place / "runs; it's" / name).glob("[!.]*"))


def said(run: Path, who: str) -> tuple[list[str], dict[str, str]]:
    argv, given = json.loads((run / f"said.{who}.json").read_text())
    return argv, given


def heard(place: Path, who: str) -> list[list[str]]:
    """The argv that each run's program had in attempt `who`, in no order that means something."""
    return sorted(said(run, who)[0] for run in runs(place))


STYLES = {
    "gnu": lambda value, i: [f"--v{i}", value, f"--both{i}", value, "z"],
    "equals": lambda value, i: [f"--v{i}={value}", f"--both{i}={value}", f"--both{i}=z"],
    "hydra": lambda value, i: [f"v{i}={value}", f"both{i}=[{value},z]"],
}


def hparams(values: list[str]) -> dict[str, object]:
    """Two parameters for each value, one of which holds it in a list."""
    both = [((f"v{i}", value), (f"both{i}", [[value, "z"]])) for i, value in enumerate(values)]
    return dict(pair for pairs in both for pair in pairs)


SHELL = ("X=1 python -S says.py", "gnu")  # a CMD that only a shell understands


@pytest.mark.parametrize(("cmd", "style"), [*(("python -S says.py", style) for style in STYLES), SHELL])
def test_values_arrive_by_pool_by_retry_and_by_hand(farmx, place, cmd, style):
    points = sorted((VALUES[first::4] for first in range(4)), key=len)  # each item has all keys of the one before
    sweep(place, CMD=cmd, ARG_STYLE=style, HPARAMS=[hparams(point) for point in points])
    expected = sorted([word for i, value in enumerate(point) for word in STYLES[style](value, i)] for point in points)
    farmx(place, "sweep.yml", "-j", "2", code=1)
    farmx(place, "retry", "sweep", "-j", "2")
    for run in runs(place):
        subprocess.run([run / "launch.sh"], check=True)
    assert [heard(place, who) for who in ("1", "2", "hand")] == [expected] * 3
    kept = [json.loads((run / "hparams.json").read_text()) for run in runs(place)]
    assert sorted(each[key] for each in kept for key in each if key.startswith("v")) == sorted(VALUES)


def test_values_arrive_in_the_foreground(farmx, place):
    sweep(place, HPARAMS={"v": VALUES})
    farmx(place, "sweep.yml", "-i", code=1)
    assert heard(place, "1") == sorted(["--v", value] for value in VALUES)


@pytest.mark.parametrize("style", STYLES)
def test_what_n_prints_is_the_same_command_to_a_shell(farmx, place, style):
    sweep(place, ARG_STYLE=style, HPARAMS={"v": VALUES, "both": "z"})
    printed = farmx(place, "sweep.yml", "-n")
    commands = printed.replace("\npython -S says.py", "\0python -S says.py").split("\0")
    spelled = {"gnu": ["--v", "{}", "--both", "z"], "equals": ["--v={}", "--both=z"], "hydra": ["v={}", "both=z"]}
    expected = [[word.replace("{}", value) for word in spelled[style]] for value in VALUES]
    assert [shlex.split(command) for command in commands] == [["python", "-S", "says.py", *each] for each in expected]
    told = []
    for command in commands:
        subprocess.run(["bash", "-c", command], cwd=place, check=True)
        told.append(said(place, "hand")[0])
    assert told == expected


@pytest.mark.parametrize("style", STYLES)
def test_keys_arrive_too(farmx, place, style):
    sweep(place, ARG_STYLE=style, HPARAMS={**dict.fromkeys(KEYS, "1"), "on $x": True, "off": False})
    farmx(place, "sweep.yml", "-i", code=1)
    flags = [key if key.startswith("-") else f"--{key}" for key in KEYS]
    expected = {
        "gnu": [word for flag in flags for word in (flag, "1")] + ["--on $x"],
        "equals": [f"{flag}=1" for flag in flags] + ["--on $x"],
        "hydra": [f"{key}=1" for key in KEYS] + ["on $x=true", "off=false"],
    }
    assert heard(place, "1") == [expected[style]]


def test_the_environment_arrives(farmx, place):
    given = {f"GIVEN{i}": value for i, value in enumerate(VALUES)}
    setup = ["export SET=\"$GIVEN1; it's\"", "export SET2='a", "b'"]
    sweep(place, ENV=given, SETUP=setup)
    farmx(place, "sweep.yml", "-j", "1", code=1)
    (run,) = runs(place)
    subprocess.run([run / "launch.sh"], check=True, env={"PATH": os.environ["PATH"]})
    expected = {**given, "SET": f"{given['GIVEN1']}; it's", "SET2": "a\nb"}
    assert [said(run, who)[1] for who in ("1", "hand")] == [expected] * 2


def test_logdir_arrives_wherever_it_stands(farmx, place):
    given = {"GIVEN": "LOGDIR/x y"}
    sweep(place, CMD="python -S says.py 'LOGDIR/it'", ENV=given, HPARAMS={"v": "a LOGDIR;LOGDIR", "w": [["LOGDIR", 1]]})
    farmx(place, "sweep.yml", "-i", code=1)
    (run,) = runs(place)
    subprocess.run([run / "launch.sh"], check=True, cwd="/")
    argv = [f"{run}/it", "--v", f"a {run};{run}", "--w", str(run), "1"]
    assert [said(run, who) for who in ("1", "hand")] == [(argv, {"GIVEN": f"{run}/x y"})] * 2


def test_names_of_experiments_and_tags_may_be_anything(farmx, place):
    name, tag = "it's $HOME; \"x\"\n größe", "a/b c; $HOME\n\"größe'"
    sweep(place, HPARAMS={"v": ["1", "2"]})
    farmx(place, "sweep.yml", "-j", "2", "--exp-name", name, "--tag", tag, code=1)
    made = runs(place, name)
    assert [run.name.rsplit("_", 3)[0] for run in made] == ["a-b-c-HOME-größe"] * 2
    farmx(place, "retry", name)
    assert sorted(said(run, "2")[0] for run in made) == [["--v", "1"], ["--v", "2"]]
    told = json.loads(farmx(place, "status", name, "--json"))
    assert (told["experiment"], told["counts"]) == (name, {"done": 2})
    table = subprocess.run(["sumx", name, "--json"], cwd=place, capture_output=True, text=True, check=True)
    assert sorted(row["v"] for row in json.loads(table.stdout)) == ["1", "2"]


def test_a_tag_filled_with_a_value_is_a_plain_name(farmx, place):
    sweep(place, HPARAMS={"v": VALUES, "RUNX.TAG": "{v}"})
    farmx(place, "sweep.yml", "-j", "2", code=1)
    names = [run.name for run in runs(place)]
    assert len(names) == len(VALUES)
    assert [name for name in names if not (name.isprintable() and name[0].isalnum() and len(name.encode()) < 256)] == []


def test_a_value_beyond_what_the_system_takes_is_told(place):
    sweep(place, HPARAMS={"v": "x" * 200_000})
    done = subprocess.run(
        ["farmx", "sweep.yml", "-j", "1"], cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert "Argument list too long" in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 1000
