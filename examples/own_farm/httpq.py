"""A queue of this machine behind HTTP, in place of your scheduler: `python httpq.py PORT` runs two jobs at once.

Each request is a POST of json. /submit {"command", "log", "nice"} queues shell text and says its {"id"}; /standing
{"ids"} says "waiting" or "running" of each that has not ended; /end {"ids"} ends these. It does whatever anybody on
this machine asks: a toy.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread


class Server(ThreadingHTTPServer):
    """waiting: id -> what was submitted, first come first.  running: id -> its process.  codes: id -> how it ended."""

    daemon_threads = True

    def __init__(self, port: int = 0, slots: int = 2) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.waiting: dict[str, dict] = {}
        self.running: dict[str, subprocess.Popen] = {}
        self.codes: dict[str, int] = {}
        self._slots, self._lock = slots, Lock()

    def answer(self, what: str, told: dict) -> dict:
        """Do what is asked. Raises LookupError for what nobody can."""
        with self._lock:
            return {"submit": self._submit, "standing": self._standing, "end": self._end}[what](told)

    def _submit(self, told: dict) -> dict:
        name = uuid.uuid4().hex[:12]  # no number that another job has one day
        self.waiting[name] = told
        self._start()
        return {"id": name}

    def _standing(self, told: dict) -> dict:
        places = (("waiting", self.waiting), ("running", self.running))
        return {name: word for word, jobs in places for name in told["ids"] if name in jobs}

    def _end(self, told: dict) -> dict:
        for name in told["ids"]:
            self.waiting.pop(name, None)
            with suppress(KeyError, ProcessLookupError):
                os.killpg(self.running[name].pid, signal.SIGTERM)
        return {}

    def _start(self) -> None:
        while self.waiting and len(self.running) < self._slots:
            name = next(iter(self.waiting))
            told = self.waiting.pop(name)
            argv = ["nice", "-n", str(told["nice"]), "sh", "-c", told["command"]]
            with open(told["log"], "ab") as log:
                self.running[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                      env={**os.environ, "HTTPQ_JOB": name}, start_new_session=True)
            Thread(target=self._follow, args=(name, self.running[name]), daemon=True).start()

    def _follow(self, name: str, process: subprocess.Popen) -> None:
        code = process.wait()
        with self._lock:
            self.codes[name] = code
            del self.running[name]
            self._start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            code, said = 200, self.server.answer(self.path.strip("/"), told)
        except (LookupError, OSError) as error:
            code, said = 400, {"error": str(error)}
        text = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    with Server(int(sys.argv[1])) as server:
        server.serve_forever()
