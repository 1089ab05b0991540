"""The farm keeps farmx's contract."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import httpq
import pytest

from farmx.testing import REFUSAL, FarmContract, Site


class Watched(httpq.Server):
    """Notes what was recorded by each request, and refuses what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[str, list[int]] = {}
        self.refuses: set[str] = set()
        self.recorded = int

    def answer(self, what: str, told: dict) -> dict:
        self.heard.setdefault(what, []).append(self.recorded())
        if what in self.refuses:
            raise LookupError(REFUSAL)
        return super().answer(what, told)


@dataclass
class HttpqSite(Site):
    """A site that asks the queue itself what was asked of it."""

    queue: Watched = field(default_factory=Watched)

    def __post_init__(self) -> None:
        self.section = {"EXECUTOR": "httpq", "OPTIONS": {"url": self.queue.url}}
        self.submits, self.asks, self.ends = "submit", "standing", "end"
        self.refused, self.other = {"nice": 20}, {"nice": 1}
        self.exits = lambda job: {str(self.queue.codes[job])} if job in self.queue.codes else set()
        self.queue.recorded = self.recorded
        super().__post_init__()

    def watch(self, name: str) -> None:
        pass

    def calls(self, name: str | None) -> list[int]:
        return list(self.queue.heard.get(name, []))

    def refuse(self, name: str) -> None:
        self.queue.refuses.add(name)

    def answer(self, name: str) -> None:
        self.queue.refuses.remove(name)


@pytest.fixture
def queue() -> Iterator[Watched]:
    with Watched() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class TestHttpq(FarmContract):
    @pytest.fixture
    def site(self, tmp_path: Path, queue: Watched) -> HttpqSite:
        return HttpqSite(tmp_path / "site", {}, queue=queue)
