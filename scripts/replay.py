"""Runs the blocks of a markdown document, each document in a directory of its own; writes outputs anew when asked.

    python scripts/replay.py FILE.md...     run them and put into each console block what its commands print now

A comment above a fenced block says what it is:

    <!-- file: NAME -->   put the block into the file NAME
    <!-- run -->          run it: of a console block the lines after `$ `, whose output is the rest; python as a script
    <!-- run 2 -->        the same; its last command must exit with 2
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^<!-- (file|run)(?:: (\S+)| (\d+))? -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What differs from one call to the next: names of runs, dates, durations, directories; then how wide a column is.
MASKS = (
    (re.compile(r"\b[a-z]+-[a-z]+_\d{4}\.\d\d\.\d\d_\d\d\.\d\d\b"), "RUN"),
    (re.compile(r"\b\d{4}[-.]\d\d[-.]\d\d[ _T]\d\d[:.]\d\d(?:[:.]\d\d)?\b"), "WHEN"),
    (re.compile(r"\b(?:\d+:)?\d+:\d\d\b|\b\d+(?:\.\d+)? ?(?:ms|s|min|h)\b"), "TIME"),
    (re.compile(r"/\S*/doc-\w+"), "HERE"),
    (re.compile(r"[-─]{2,}"), "--"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass(frozen=True)
class Block:
    """A marked block. kind: file or run; name: of the file; code: the exit code it must end with; at: in the text."""

    kind: str
    name: str
    code: int
    language: str
    text: str
    at: tuple[int, int]


def blocks(text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        kind, name, code, language, body = found.groups()
        yield Block(kind, name or "", int(code or 0), language, body, found.span(5))


def played(text: str, folder: Path) -> Iterator[tuple[Block, str]]:
    """Each block with what it should read: a console block with the output of now, any other as it stands."""
    for block in blocks(text):
        if block.kind == "file":
            (folder / block.name).write_text(block.text)
        yield block, _run(block, folder) if block.kind == "run" else block.text


def _run(block: Block, folder: Path) -> str:
    if block.language == "python":
        _call([sys.executable, "-c", block.text], folder, block.code)
        return block.text
    commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    codes = [0] * (len(commands) - 1) + [block.code]
    outputs = (_call(["bash", "-c", command], folder, code) for command, code in zip(commands, codes))
    return "".join(f"$ {command}\n{output}" for command, output in zip(commands, outputs))


def _call(argv: list[str], folder: Path, code: int) -> str:
    """What it prints, on a screen of 120 columns; stdout and stderr as they come."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == code, f"{argv[-1]}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout.replace(f"{folder}/", "").replace(str(folder), ".")


def masked(text: str) -> list[str]:
    """The lines of `text` without what differs from one call to the next."""
    for pattern, word in MASKS:
        text = pattern.sub(word, text)
    return [line.strip() for line in text.splitlines()]


def rewritten(text: str, folder: Path) -> str:
    """The document with the outputs of now, all of one session; as it was when none of them says anything new."""
    all_played = list(played(text, folder))
    if all(masked(now) == masked(block.text) for block, now in all_played):
        return text
    out, last = "", 0
    for block, now in all_played:
        out += text[last : block.at[0]] + now
        last = block.at[1]
    return out + text[last:]


def main(names: list[str]) -> None:
    for name in names:
        with tempfile.TemporaryDirectory(prefix="doc-") as folder:
            path = Path(name)
            path.write_text(rewritten(path.read_text(), Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
