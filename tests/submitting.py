"""A scheduler made of a submit command: what it was told to run is kept, and run where the test says so."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from commands import Project

# Takes a job: its arguments to calls, its number to its output. Where there is `run` it runs the last argument, again
# as long as that ends with 99, and notes each code in codes, what was said in out.
SUBMIT = """#!/usr/bin/env bash
[ -e "$HOLD/refuse" ] && { cat "$HOLD/refuse" >&2; exit 7; }
if [ -e "$HOLD/busy" ]; then rm "$HOLD/busy"; echo "try again" >&2; exit 1; fi
exec 9>>"$HOLD/calls"
flock 9
echo x >> "$HOLD/count"
number=$(wc -l < "$HOLD/count")
if [ -e "$HOLD/most" ] && [ "$number" -gt "$(cat "$HOLD/most")" ]; then
  if [ -e "$HOLD/full" ]; then cat "$HOLD/full" >&2; else echo "quota reached" >&2; fi; exit 1
fi
printf '%s\\0' "$@" >&9; printf '\\n\\0' >&9
flock -u 9
[ -e "$HOLD/said" ] && cat "$HOLD/said" || echo "job $number is queued"
exec 9>&-
[ -e "$HOLD/run" ] || exit 0
while [ $# -gt 1 ]; do shift; done
code=99 RESTARTED=0
while [ "$code" = 99 ]; do
  JOB_ID=$number RESTARTED=$RESTARTED sh -c "$1" > "$HOLD/out" 2>&1 < /dev/null
  code=$? RESTARTED=1
  echo "$code" >> "$HOLD/codes"
done
exit 0
"""


def put(path: Path, monkeypatch: pytest.MonkeyPatch, scripts: Mapping[str, str]) -> Path:
    """Make the directory, which is $HOLD to its commands, and put these before all others on PATH."""
    path.mkdir()
    for name, text in scripts.items():
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(path), prepend=os.pathsep)
    monkeypatch.setenv("HOLD", str(path))
    return path


def configure(project: Project, submit: str = "submit_job", more: str = "", farm: str = "big") -> None:
    """Let the project's farm be the submit command. more: lines of its section."""
    lines = [f"FARM: {farm}", f"{farm}:", f"  SUBMIT_CMD: {submit}", *(f"  {line}" for line in more.splitlines())]
    project.write(".farmx.yaml", "\n".join(lines) + "\n")


def calls(hold: Path) -> list[list[str]]:
    """The arguments of each call that was taken, in order."""
    text = (hold / "calls").read_text() if (hold / "calls").exists() else ""
    return [each.split("\0")[:-1] for each in text.split("\n\0")[:-1]]


def codes(hold: Path) -> list[str]:
    """How each job ended that was run, in order."""
    return (hold / "codes").read_text().split()


def submission(project: Project) -> Path:
    """The only one there is."""
    (path,) = (project.experiment / ".farmx/submissions").iterdir()
    return path
