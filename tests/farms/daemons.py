"""What the farms of tests share: a directory each, its daemons, ports, waiting, and the end of it all.

A farm lives in one directory, and each of its daemons is started with FARM=<that directory> in its environment. So
what belongs to a farm is found in /proc, whoever started it and however that ended: no record can be stale, and no
process is ever taken for another. Nobody needs what a farm leaves behind: it ends by SIGKILL, and its directory goes.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MARK = ".farm"  # in the directory of a farm, so that nothing else is ever deleted: the process it ends with, if any
HOME = Path("/tmp")  # of the farms that tests make: short, and any user may look into it
LOCKS = "farm-ports"
PORTS = range(20000, 30000, 10)  # below what the kernel hands out itself; ten for each farm
LONGEST = 80  # characters of a directory: a socket in it may have 107
PATIENCE_S = 120.0  # of a wait for what takes a second on a quiet machine
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class FarmError(Exception):
    """A farm cannot be brought up, in one line."""


class Farm:
    """A directory, the daemons that belong to it, and ten ports.

    Ends with `stop`; one made with `own=True` also when this process was killed: by the next farm that is made so.
    """

    commands: tuple[str, ...] = ()  # one of each package, to see whether it is installed
    job_variables: tuple[str, str] = ("", "")  # of a job's environment: a path inside the farm; one that only jobs have

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = -1
        self.port = 0

    # ------------------------------------------------------------ up

    def prepare(self, own: bool) -> None:
        """An empty directory and free ports; the farm that was there, or whose test was killed, is ended first."""
        need_root_and(self.commands)
        for folder in orphans() if own else ():
            self.at(folder).stop()
        self.stop()
        clean(self.folder)
        (self.folder / MARK).write_text(identity(os.getpid()) if own else "")
        self.lock, self.port = ports(HOME / LOCKS)

    def at(self, folder: Path) -> "Farm":
        """A farm of this kind, somewhere else."""
        return type(self)(folder)

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a daemon that stays in the foreground; what it prints is appended to <name>.out.

        The marks come last: some daemons write their title over the beginning of their environment.
        """
        marked = {"PATH": SYSTEM, "LANG": "C.UTF-8", **env, "FARM_DAEMON": name, "FARM": str(self.folder)}
        with (self.folder / f"{name}.out").open("ab") as out:
            command = ["setsid", "--fork", *argv]
            subprocess.run(command, stdin=-3, stdout=out, stderr=out, env=marked, cwd=self.folder, check=True)

    def until(self, fact: Callable[[], T], what: str, *daemons: str, seconds: float = PATIENCE_S) -> T:
        """What `fact` returns as soon as it is true; FarmError when one of the daemons ends before or time is up."""
        deadline = time.monotonic() + seconds
        while not (found := fact()):
            ended = [each for each in daemons if self.gone(each)]
            if ended or time.monotonic() > deadline:
                name, how = (ended[0], "ended") if ended else (daemons[0], "is too late")
                raise FarmError(f"{what}: {name} {how}; it said: {last_line(self.folder / f'{name}.out')}")
            time.sleep(0.02)
        return found

    # ------------------------------------------------------------ down

    def pids(self, name: str | None = None) -> list[int]:
        """The processes of the farm, jobs and all; or those of one daemon."""
        wanted = f"FARM={self.folder}".encode()
        named = f"FARM_DAEMON={name}".encode()
        return [
            pid
            for pid, env in environments()
            if (wanted in env and (name is None or named in env)) or (name is None and self.is_job(env))
        ]

    def is_job(self, env: set[bytes]) -> bool:
        """Whether this is the environment of a job of the farm; a shell that talks to the farm is none."""
        path, only = (variable.encode() + b"=" for variable in self.job_variables)
        inside = path + os.fsencode(self.folder) + b"/"
        return any(each.startswith(inside) for each in env) and any(each.startswith(only) for each in env)

    def with_variable(self, entry: str) -> list[int]:
        """The processes of its jobs that have this VARIABLE=value: a job of another farm may have the same number."""
        return [pid for pid, env in environments() if entry.encode() in env and self.is_job(env)]

    def gone(self, name: str | None = None) -> bool:
        """Whether `pids` finds none, twice: a process has no environment while it becomes another program."""
        if self.pids(name):
            return False
        time.sleep(0.05)
        return not self.pids(name)

    def kill(self, name: str | None, number: int = signal.SIGKILL) -> None:
        """Send a signal to a daemon, with its children, or to all that `pids` finds, until it is gone."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.gone(name):
            send(found := self.pids(name), number)
            if time.monotonic() > deadline:
                raise FarmError(f"{name or self.folder} does not end on signal {int(number)}: {found}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End every process of the farm and delete its directory. Afterwards its ports are free; twice is as once."""
        self.kill(None)
        if (self.folder / MARK).exists():
            shutil.rmtree(self.folder, ignore_errors=True)  # two tests may end the same orphan
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


# ---------------------------------------------------------------- processes


def environments() -> list[tuple[int, set[bytes]]]:
    """(pid, its VARIABLE=value entries) of every process that is alive, this one left out."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            found.append((int(name), set(Path(f"/proc/{name}/environ").read_bytes().split(b"\0"))))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def identity(pid: int) -> str:
    """'pid start' of a process: no other one ever has the same; '' when there is none."""
    try:
        return f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except (FileNotFoundError, ProcessLookupError):
        return ""


def checked(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed; FarmError when it failed, with the last it said."""
    if done.returncode != 0:
        said = [*done.stdout.splitlines(), *done.stderr.splitlines(), "nothing"]
        last = next(line.strip() for line in reversed([said[-1], *said[:-1]]) if line.strip())
        raise FarmError(f"{' '.join(done.args)} exited {done.returncode}; it said: {last}")
    return done.stdout


def last_line(path: Path) -> str:
    """The last line of what a daemon printed that is an error, else the last one."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return ([*lines[-1:], *errors] or ["nothing"])[-1].strip()


# ---------------------------------------------------------------- directories and ports


def absent(commands: Sequence[str]) -> list[str]:
    return [each for each in commands if shutil.which(each, path=SYSTEM) is None]


def need_root_and(commands: Sequence[str]) -> None:
    """FarmError, unless this is root and the commands are installed."""
    if os.getuid() != 0:
        raise FarmError("only root can bring up a farm: it runs jobs of other users")
    if missing := absent(commands):
        raise FarmError(f"not installed: {' '.join(missing)}; run tests/farms/install")


def clean(folder: Path) -> None:
    """An empty directory that every user may enter; FarmError when it has a long name or something in it."""
    if len(str(folder)) > LONGEST:
        raise FarmError(f"{folder}: too long for the sockets in it; at most {LONGEST} characters")
    if folder.exists() and any(folder.iterdir()):
        raise FarmError(f"{folder}: something else is in it; name a new directory")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)


def fresh(name: str) -> Path:
    """A new directory for a farm that ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"farm-{name}-", dir=HOME))
    (folder / MARK).write_text(identity(os.getpid()))
    return folder


def orphans() -> list[Path]:
    """The farms in HOME whose process was killed before it could end them."""
    found = []
    for mark in HOME.glob(f"farm-*/{MARK}"):
        try:
            owner = mark.read_text()
        except FileNotFoundError:  # another test is ending it
            continue
        if owner and identity(int(owner.split()[0])) != owner:
            found.append(mark.parent)
    return found


def ports(locks: Path) -> tuple[int, int]:
    """(a lock, the first of ten free ports), which no other farm gets before the lock is closed."""
    locks.mkdir(exist_ok=True)
    for first in PORTS:
        lock = os.open(locks / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        if all(map(is_free, range(first, first + PORTS.step))):
            return lock, first
        os.close(lock)
    raise FarmError(f"no ten free ports between {PORTS.start} and {PORTS.stop}")


def is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError:
            return False
    return True


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
