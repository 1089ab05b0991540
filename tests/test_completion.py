"""Tab: what each shell's own script asks for and is answered; names are listed, no record is opened."""

import os
import select
import shlex
import shutil
import subprocess

import pytest
from conftest import BIN
from launching import PATIENCE_S

RUNS = {"sweep": ["brave-cat", "bright-emu", "other"], "swift": ["brave-cat", "größe 漢字"], "empty": []}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A LOGROOT whose records nobody can open: they are pipes that nobody writes to."""
    monkeypatch.setenv("FARMX_LOGROOT", str(tmp_path / "logs"))
    for name in ("sweep.yml", "swift.yaml", "swift.py"):
        (tmp_path / name).touch()
    for experiment, runs in RUNS.items():
        (tmp_path / "logs" / experiment / ".farmx").mkdir(parents=True)
        for run in (*runs, ".hidden"):
            (tmp_path / "logs" / experiment / run).mkdir()
            os.mkfifo(tmp_path / "logs" / experiment / run / "run.json")
    return tmp_path


@pytest.fixture
def asked(place, commands):
    """asked(line, shell) -> what is offered for the last word, as the script of that shell asks; and stderr."""

    def ask(line: str, shell: str) -> tuple[list[str], str]:
        program, words = line.split(" ")[0], line.split(" ")
        position = words[-1] if shell == "fish" else str(len(words) - 1)
        asks = {f"_{program.upper()}_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": position}
        done = commands(cwd=place, env=asks, program=program)
        return OFFERED[shell](done.out), done.err

    return ask


def bash(text: str) -> list[str]:
    return [line.partition(",")[2] for line in text.splitlines() if line.startswith("plain,")]


def zsh(text: str) -> list[str]:
    lines = text.splitlines()
    kinds = [(lines[place], lines[place + 1]) for place in range(0, len(lines) - 2, 3)]
    return [name for kind, name in kinds if kind == "plain"]


def fish(text: str) -> list[str]:
    lines = text.splitlines()
    if "," in (lines or [""])[0]:  # before click 8.2
        return [line.partition(",")[2].partition("\t")[0] for line in lines if line.startswith("plain,")]
    return [lines[place + 1] for place in range(0, len(lines) - 2, 3) if lines[place] == "plain"]


OFFERED = {"bash": bash, "zsh": zsh, "fish": fish}
LINES = [
    ("farmx sta", ["status"]),
    ("farmx s", ["status", "sweep.yml", "swift.yaml"]),
    ("farmx wh", ["why"]),
    ("farmx launch s", []),
    ("farmx status ", ["empty", "sweep", "swift"]),
    ("farmx status sw", ["sweep", "swift"]),
    ("farmx status sweep/", ["sweep/brave-cat", "sweep/bright-emu", "sweep/other"]),
    ("farmx status sweep/br", ["sweep/brave-cat", "sweep/bright-emu"]),
    ("farmx status sw/br", []),
    ("farmx status br", ["brave-cat", "bright-emu"]),
    ("farmx status sweep br", ["brave-cat", "bright-emu"]),
    ("farmx logs -f br", ["brave-cat", "bright-emu"]),
    ("farmx why gr", ["größe 漢字"]),
    ("farmx retry --code own br", ["brave-cat", "bright-emu"]),
    ("farmx retry --code o", ["own"]),
    ("farmx cancel e", ["empty"]),
    ("farmx cancel .", []),
    ("farmx logs --logroot nowhere ", []),
    ("farmx logs --st", ["--stage"]),
    ("farmx statsu x", []),
    ("sumx ", ["empty", "sweep", "swift"]),
    ("sumx br", []),
    ("sumx sweep/b", []),
    ("sumx sweep sw", ["sweep", "swift"]),
]


@pytest.mark.parametrize("shell", OFFERED)
@pytest.mark.parametrize("line, names", LINES)
def test_a_shell_is_offered_what_fits(asked, line, names, shell):
    assert asked(line, shell) == (names, "")


def test_names_that_no_shell_takes_on_a_line_are_left_out(place, asked):
    (place / "logs/sweep/br\noken").mkdir()
    (place / "logs/sweep/br\x1b[2J").mkdir()
    assert asked("farmx why br", "zsh") == (["brave-cat", "bright-emu"], "")


def test_where_the_configuration_is_wrong_nothing_is_offered_and_nothing_said(place, asked, monkeypatch):
    monkeypatch.delenv("FARMX_LOGROOT")
    (place / ".farmx.yaml").write_text("LOGROOT: [")
    assert asked("farmx status s", "bash") == ([], "")


def test_of_ten_thousand_runs_none_is_looked_at(place):
    """The runs are names without directories: whatever was looked at would not be there."""
    code = """
import os, sys
from farmx import layout, naming
real = layout.names
layout.names = lambda path: [f"run_{each}" for each in range(10_000)] if path.endswith("sweep") else real(path)
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event in ("open", "os.listdir", "os.scandir") else None)
print(len(naming.offered(sys.argv[1], "run_99", True)), len(seen))
"""
    done = subprocess.run([BIN / "python", "-c", code, place / "logs"], capture_output=True, text=True, check=True)
    assert done.stdout == "111 3\n"  # logs, empty and swift were listed


def test_where_nothing_else_fits_the_shell_looks_for_files(place):
    env = {**os.environ, "COMP_WORDS": "farmx sub/sw", "COMP_CWORD": "1", "_FARMX_COMPLETE": "bash_complete"}
    done = subprocess.run([BIN / "farmx"], cwd=place, env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("file,sub/sw\n", "")


# ---------------------------------------------------------------- zsh itself

IN_ZSH = """
autoload -U compinit; compinit -C -d {dump}
eval "$(_FARMX_COMPLETE=zsh_source farmx)"
tell() {{ zle -I; print -r -- "<$BUFFER>"; }}
zle -N tell; bindkey '^T' tell
PROMPT='ready> '
"""
TYPED = [  # what is typed before Tab -> what stands on the line then
    ("farmx retry --code=o", "farmx retry --code=own "),
    ("farmx retry --code o", "farmx retry --code own "),
    ("farmx retry --cod", "farmx retry --code "),
    ("farmx why sweep/oth", "farmx why sweep/other "),
    ("farmx logs --logroot=lo", "farmx logs --logroot=logs/"),
]


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """What zsh finds of its own completions, which takes it longer than all the rest."""
    if not shutil.which("zsh"):
        pytest.skip("no zsh here")
    path = tmp_path_factory.mktemp("zsh") / "dump"
    subprocess.run(["zsh", "-fc", f"autoload -U compinit; compinit -u -d {path}"], check=True)
    return path


@pytest.mark.parametrize("line, wanted", TYPED)
def test_zsh_itself_completes_it(place, dump, line, wanted):
    (place / ".zshrc").write_text(IN_ZSH.format(dump=dump))
    env = {**os.environ, "ZDOTDIR": str(place), "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb"}
    ours, theirs = os.openpty()
    process = subprocess.Popen(["zsh", "-di"], cwd=place, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
                               start_new_session=True)  # fmt: skip
    os.close(theirs)
    shown = ""

    def see(text: str) -> str:
        nonlocal shown
        while text not in shown:
            assert select.select([ours], [], [], PATIENCE_S)[0], shown
            shown += os.read(ours, 65536).decode(errors="replace")
        return shown

    see("ready> ")
    os.write(ours, f"{line}\t\x14".encode())
    told = see(">\r").rpartition("<")[2].partition(">")[0]
    process.kill()
    process.wait()
    os.close(ours)
    assert told == wanted


# ---------------------------------------------------------------- bash itself

IN_BASH = """
eval "$(_{upper}_COMPLETE=bash_source {program})"
complete -p {program} >&2
"""
COMPLETE = """
COMPREPLY=() COMP_WORDS=({words}) COMP_CWORD={position}
_{program}_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}" ''
"""


@pytest.mark.parametrize("program", ["farmx", "sumx"])
def test_bash_itself_completes_it(place, program):
    """One bash, which has the script of the program once."""
    lines = {line: names for line, names in LINES if names and line.split(" ")[0] == program}
    code = IN_BASH.format(upper=program.upper(), program=program)
    for words in (line.split(" ") for line in lines):
        typed = shlex.join(words)  # what is not typed yet is an empty word
        code += COMPLETE.format(program=program, words=typed, position=len(words) - 1)
    done = subprocess.run(["bash", "--norc", "-c", code], cwd=place, capture_output=True, text=True)
    assert done.stderr == f"complete -o nosort -F _{program}_completion {program}\n"
    told = done.stdout.removesuffix("\n\n").split("\n\n")
    assert [each.splitlines() for each in told] == list(lines.values())
