"""A stand-in for apprise beside the farmx command, and the file that its addresses name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Commands

# apprise as farmx knows it: add() takes an address, notify() sends or says why not in the log. An address names a file.
APPRISE = '''\
import logging as _logging, os, time
from contextlib import contextmanager
from io import StringIO

class logging:
    WARNING = _logging.WARNING

@contextmanager
def _capture(level):
    global said
    said = StringIO()
    yield said

LogCapture = _capture

class Apprise:
    def add(self, url):
        self.url = url
        return url.startswith("file://")

    def notify(self, title, body):
        path = self.url.removeprefix("file://")
        if os.path.exists(path + ".down"):
            said.write("2026-11-21 - WARNING - Failed to send to " + path + ": no route\\n")
            return False
        with open(path, "a") as file:
            file.write(title + "|" + body.replace("\\n", "|") + "\\n")
        return True
'''


class Post:
    """The file that the address of NOTIFY names."""

    def __init__(self, home: Path) -> None:
        self.path, self.down = home / "it's a secret", home / "it's a secret.down"

    def told(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


@contextmanager
def commands(home: Path) -> Iterator[Commands]:
    """The farmx command, which finds the stand-in in the directory `home`."""
    (home / "apprise.py").write_text(APPRISE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(home))
        with Commands() as made:
            yield made
