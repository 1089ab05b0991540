"""zsh and fish themselves complete names by the scripts that docs/life.md has people evaluate; bash is in
tests/test_completion.py. They are no part of a bare machine: tests/farms/install brings them."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from launching import until
from test_completion import LINES, place  # noqa: F401 (a fixture)

from farms.fixtures import lack

pytestmark = pytest.mark.farm
OFFERED = [each for each in LINES if each[1]]
# Of each kind one: a command, a file, an experiment, its runs, a run of any name, an option, its value; sumx.
KINDS = [(line, names) for line, names in OFFERED if line in (
    "farmx sta", "farmx s", "farmx status sw", "farmx status sweep/br", "farmx why gr", "farmx logs --st",
    "farmx retry --code o", "sumx sweep sw",
)]  # fmt: skip
SOURCES = "_FARMX_COMPLETE={shell}_source farmx", "_SUMX_COMPLETE={shell}_source sumx"
# Tab takes the next of what is offered; ^T writes down what the line has become.
ZSHRC = """
autoload -Uz compinit; compinit -u -D
eval "$({})"; eval "$({})"
bindkey '^I' menu-complete
typed() {{ print -rn -- "$BUFFER" > "$TYPED.new"; mv "$TYPED.new" "$TYPED"; BUFFER= }}
zle -N typed; bindkey '^T' typed
: > "$TYPED.ready"
"""


@pytest.fixture
def shell(request, place, monkeypatch):  # noqa: F811
    """The shell that the test is of, at home in the place; skipped, or failed where farms are required, without it."""
    if not shutil.which(request.param):
        lack(f"no {request.param} here; tests/farms/install installs it")
    for name, value in (("HOME", place), ("ZDOTDIR", place), ("TYPED", place / "typed"), ("LANG", "C.UTF-8")):
        monkeypatch.setenv(name, str(value))
    return place


@pytest.mark.parametrize("shell", ["fish"], indirect=True)
def test_fish_offers_what_fits(shell):
    asks = "".join(f"complete -C {quoted(line)}; echo ==\n" for line, _ in OFFERED)
    text = "".join(f"{source} | source\n" for source in SOURCES).format(shell="fish") + asks
    done = subprocess.run(["fish", "--private", "-c", text], cwd=shell, capture_output=True, text=True)
    found = [[name.partition("\t")[0] for name in each.splitlines()] for each in done.stdout.split("==\n")[:-1]]
    assert (dict(zip([line for line, _ in OFFERED], found, strict=True)), done.stderr) == (dict(OFFERED), "")


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Zsh:
    """A zsh at a terminal."""

    def __init__(self, home: Path) -> None:
        self.home, (self._screen, theirs) = home, os.openpty()
        os.set_blocking(self._screen, False)
        self._process = subprocess.Popen(["zsh", "-d", "-i"], cwd=home, stdin=theirs, stdout=theirs, stderr=theirs,
                                         start_new_session=True)  # fmt: skip
        os.close(theirs)
        self._wait(home / "typed.ready")

    def typed(self, text: str) -> str:
        """What the line has become once this was typed."""
        os.write(self._screen, f"{text}\x14".encode())
        self._wait(self.home / "typed")
        made = (self.home / "typed").read_text()
        (self.home / "typed").unlink()
        return made

    def _wait(self, path: Path) -> None:
        """Until the file is there; what is on the screen meanwhile is nothing to us, and must not fill it."""

        def there() -> bool:
            with suppress(BlockingIOError):
                os.read(self._screen, 1 << 16)
            return path.exists()

        until(there)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)


@pytest.fixture
def zsh(shell):
    (shell / ".zshrc").write_text(ZSHRC.format(*(each.format(shell="zsh") for each in SOURCES)))
    made = Zsh(shell)
    yield made
    made.end()


@pytest.mark.parametrize("shell", ["zsh"], indirect=True)
def test_zsh_completes_each_of_what_fits(zsh):
    told = {line: [zsh.typed(line + "\t" * count) for count in range(1, len(names) + 1)] for line, names in KINDS}
    assert told == {line: [completed(line, name, len(names) == 1) for name in names] for line, names in KINDS}


def completed(line: str, name: str, alone: bool) -> str:
    """The line with its last word as that name; the only one that fits is followed by the next word."""
    begin = line.removesuffix(line.rpartition(" ")[2])
    return begin + name.replace(" ", "\\ ") + (" " if alone else "")
