"""The documents say what is: their blocks run and print what they show, and each key, flag and file has its place."""

import re
import sys
from inspect import Signature, isfunction, signature
from pathlib import Path

import click
import pytest

from farmx import layout
from farmx.boards import Board
from farmx.cli.main import farmx
from farmx.cli.sumx import sumx
from farmx.farms import slurm
from farmx.farms.base import Can
from farmx.logx import LogX
from farmx.settings import TABLE
from farmx.spec import State

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text() for path in DOCUMENTS)

sys.path.insert(0, str(ROOT / "scripts"))
import replay  # noqa: E402

RUNNABLE = [path for path in DOCUMENTS if list(replay.blocks(path.read_text()))]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.name)
def test_the_blocks_of_a_document_run_and_print_what_it_shows(path, tmp_path):
    for block, now in replay.played(path.read_text(), tmp_path):
        assert replay.masked(now) == replay.masked(block.text)


def test_a_block_that_prints_something_else_is_found(tmp_path):
    text = "<!-- file: a -->\n```text\nhello\n```\n\n<!-- run 3 -->\n```console\n$ cat a\nbye\n$ exit 3\n```\n"
    (_, _), (block, now) = replay.played(text, tmp_path)
    assert (block.text, now) == ("$ cat a\nbye\n$ exit 3\n", "$ cat a\nhello\n$ exit 3\n")
    assert replay.masked(now) != replay.masked(block.text)
    assert replay.rewritten(text, tmp_path) == text.replace("bye", "hello")


def test_a_block_that_fails_is_found(tmp_path):
    with pytest.raises(AssertionError, match="false: exit code 1"):
        list(replay.played("<!-- run -->\n```console\n$ false\n```\n", tmp_path))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("done  shy-otter_2026.11.21_05.18   0:07", "done fat-lemur_2027.01.02_23.59  1:00:07"),
        ("------  ---", "-----  ----"),
        ("took 1.2 s", "took 14 s"),
    ],
)
def test_what_differs_from_call_to_call_is_masked(one, other):
    assert replay.masked(one) == replay.masked(other)


# ---------------------------------------------------------------- nothing is left out


def rows(path: Path) -> dict[str, list[str]]:
    """The tables of a document: first cell without its quotes -> the other cells."""
    lines = re.findall(r"^\| `([^`]+)`(?:[^|\\]|\\.)*\|(.*)\|$", path.read_text(), re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.key)
def test_every_setting_has_its_row(setting):
    allowed, default, meaning = rows(ROOT / "docs/config.md")[setting.key]
    assert re.sub("`", "", allowed) == setting.allowed
    assert meaning
    if isinstance(setting.default, (int, float)):
        assert default == f"{setting.default:g}" or default == str(setting.default)


def test_every_state_has_its_row():
    told = rows(ROOT / "docs/launching.md")
    assert [state.value for state in State if state.value not in told] == []


def test_every_variable_a_program_finds_is_told():
    names = [value for name, value in vars(layout).items() if name.startswith("ENV_")]
    assert [name for name in names if f"`{name}`" not in (ROOT / "docs/config.md").read_text()] == []


def commands(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    inside = command.commands if isinstance(command, click.Group) else {}
    return [(name, command)] + [found for word, one in inside.items() for found in commands(one, f"{name} {word}")]


COMMANDS = [found for one in (farmx, sumx) for found in commands(one, one.name)]
TYPED = [name for name, command in COMMANDS if name != "farmx" and not command.hidden]


def test_every_command_has_its_row():
    begins = [" ".join(name.split()[: 1 + name.startswith("farmx")]) for name in rows(ROOT / "docs/launching.md")]
    assert [name for name in TYPED if name not in begins] == []


def test_every_command_stands_among_the_commands_of_the_readme():
    section = (ROOT / "README.md").read_text().partition("\n## The commands\n")[2].partition("\n## ")[0]
    wanted = [name for name in TYPED if name != "farmx launch"]  # which is for those who want it spelled out
    assert [name for name in wanted if not re.search(rf"`{name}\b", section)] == []


def test_every_command_takes_what_every_command_is_said_to_take():
    told = "and, but for `init`, takes `-c` and `--logroot`; those that look have `--json`."
    assert told in " ".join((ROOT / "docs/launching.md").read_text().split())
    without = {flag: [name for name, command in COMMANDS[1:] if not any(flag in one.opts for one in command.params)]
               for flag in ("-c", "--logroot", "--json")}  # fmt: skip
    acts = ["farmx launch", "farmx init", "farmx drill", "farmx clean"]
    assert without == {"-c": ["farmx init"], "--logroot": ["farmx init"], "--json": acts}


def test_every_flag_is_told():
    missing = []
    for name, command in COMMANDS:
        flags = [flag for one in command.params if isinstance(one, click.Option) for flag in one.opts]
        missing += [f"{name} {flag}" for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", TEXT)]
    assert missing == []


def test_what_a_training_script_calls_is_told_with_its_arguments():
    names = [name for name in dir(LogX) if not name.startswith("_") and callable(getattr(LogX, name))]
    cells = re.findall(r"^\| (`\w+\(.*?) \| ", (ROOT / "docs" / "logx.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+\([^`]*\))`", " ".join(cells))) == {called(name) for name in names}


def called(name: str) -> str:
    """The words of a method of logx, without types."""
    given = [each.replace(annotation=each.empty) for each in signature(getattr(LogX(), name)).parameters.values()]
    return f"{name}{Signature(given)}"


def test_what_tensorboard_has_without_torch_is_told():
    text = (ROOT / "docs" / "logx.md").read_text()
    (sentence,) = re.findall(r"with torch's arguments, (.*?)\.\s", text, re.DOTALL)
    own = {"add_trial", "add_summary"}  # not torch's
    assert {*re.findall(r"`(\w+)`", sentence)} | own == {name for name in vars(Board) if not name.startswith("_")}


def test_all_that_a_farm_of_another_package_may_be_asked_for_has_its_row():
    told = rows(ROOT / "docs/own-farm.md")
    ours = {name: one for name, one in vars(slurm).items() if isfunction(one) and one.__module__ == slurm.__name__}
    public = [name for name in ours if not name.startswith("_") and name != "configuration"]
    assert [name for name in public if f"{name}({', '.join(signature(ours[name]).parameters)})" not in told] == []
    assert [name for name in Can._fields if f"`{name}`" not in told["CAN"][0]] == []


def test_every_benchmark_has_its_row():
    told = rows(ROOT / "benchmarks/README.md")
    assert sorted(told) == sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", [*DOCUMENTS, *ROOT.glob("*.md"), *ROOT.glob("*/*/*.md")], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert (path.parent / target).exists(), target
