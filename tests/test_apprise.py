"""Messages by the real apprise, to a server on this machine; skipped where apprise is not installed."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from commands import Commands, project

apprise = pytest.importorskip("apprise")
SECRET = "hunter2hunter2"


class Server(HTTPServer):
    """What takes json:// messages; `answers` holds the codes to give, 200 after the last."""

    def __init__(self) -> None:
        self.got, self.answers = [], []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code = self.server.answers.pop(0) if self.server.answers else 200
        if code == 200:
            self.server.got.append((self.path, body["title"], body["message"]))
        self.send_response(code)
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.server.got.append(self.path)
        self.send_error(502)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(scope="module")
def sending():
    """The farmx command with apprise beside it, wherever that is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(apprise.__file__).parent.parent))
        with Commands() as commands:
            yield commands


@pytest.fixture
def told(tmp_path, sending, server):
    made = project(tmp_path, sending)
    made.write(".farmx.yaml", f"NOTIFY: 'json://user:$KEY@127.0.0.1:{server.server_port}/it/$KEY'\n")
    return made


def test_a_launch_tells_its_end(told, server):
    told.ok("sweep.yml", "-i", KEY=SECRET)
    assert server.got == [(f"/it/{SECRET}", "sweep: 2 done", "sumx sweep")]


def test_each_address_says_what_it_answered(told, server):
    assert told.ok("notify", "--test", KEY=SECRET).out == "json://...  took it\n"
    assert [title for _, title, _ in server.got] == ["farmx: a test"]
    server.answers.append(500)
    done = told("notify", "--test", KEY=SECRET)
    assert (done.code, done.out[:32]) == (1, "json://...  Failed to send JSON ")
    assert "500" in done.out and SECRET not in done.out + done.err


def test_what_the_server_refuses_is_sent_later_and_once(told, server):
    server.answers.append(503)
    done = told.ok("sweep.yml", "-i", KEY=SECRET)
    assert "note  NOTIFY: 1 message kept in .farmx/outbox: json://...: " in done.err
    assert SECRET not in done.err
    assert server.got == []
    told.ok("sweep.yml", "-i", KEY=SECRET)
    assert [title for _, title, _ in server.got] == ["sweep: 2 done"]


@pytest.mark.parametrize(("url", "problem"), [
    ("json://127.0.0.1:1/x", "json://...  "),
    ("nosuch://x", "nosuch://...  it is no address that apprise knows"),
    ("json://$NOT_SET/x", "json://...  $NOT_SET is not set"),
])  # fmt: skip
def test_an_address_that_cannot_be_reached_is_told(told, url, problem):
    told.write(".farmx.yaml", f"NOTIFY: {url}\n")
    done = told("notify", "--test")
    assert (done.code, done.out[: len(problem)], done.err) == (1, problem, "")


def test_the_addresses_of_the_document_lead_where_they_say(told, server):
    text = (Path(__file__).resolve().parent.parent / "docs/notify.md").read_text()
    (line,) = re.findall("^NOTIFY: .+$", text, re.MULTILINE)
    assert "mailgun://user@example.org/$MAILGUN_KEY" in line  # what Standard-Grid sends by
    told.write(".farmx.yaml", f"{line}\n")
    secrets = {"DISCORD_ID": "1" * 18, "DISCORD_TOKEN": SECRET, "MAILGUN_KEY": SECRET}
    done = told("notify", "--test", **secrets, https_proxy=f"http://127.0.0.1:{server.server_port}", no_proxy="")
    assert server.got == ["discord.com:443", "api.mailgun.net:443"]
    assert (done.code, SECRET in done.out + done.err) == (1, False)
    assert [each.split()[0] for each in done.out.splitlines()] == ["discord://...", "mailgun://..."]
