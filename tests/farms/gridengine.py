"""A Grid Engine of one's own: one host, one queue all.q of four slots, jobs of an ordinary user.

    python tests/farms/gridengine.py up DIR
    python tests/farms/gridengine.py down DIR

`up` returns when jobs run, and prints the lines that a shell needs to talk to it. Submit as the user `farmer`, whom
tests/farms/install made: Grid Engine refuses jobs of root. Needs root to start. Touches nothing outside DIR.
"""

import argparse
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

if not __package__:  # started as a script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from farms.daemons import PATIENCE_S, Farm, FarmError, checked, fresh

USER = "farmer"
ADMIN = "sgeadmin"  # made by Debian's package
LIBRARY = Path("/usr/lib/gridengine")
SHARE = Path("/usr/share/gridengine")
LINGER_S = 200.0  # within what a test may take
FORCE_S = 90.0
BOOTSTRAP = """
Version: 6.2
admin_user sgeadmin
default_domain none
ignore_fqdn false
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {folder}/spool
binary_path /usr/sbin
qmaster_spool_dir {folder}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
# In place of what Debian's default says. Each farm has group ids of its own: by them its jobs' processes are found.
CONFIGURATION = {
    "execd_spool_dir": "{folder}/execd",
    "load_report_time": "00:00:01",
    "administrator_mail": "none",
    "gid_range": "{first}-{last}",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00",
}
SCHEDULER = {
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "flush_finish_sec": "1",
    "job_load_adjustments": "NONE",
}
# load_thresholds: a busy machine is no reason to let a test wait.
QUEUE = {
    "qname": "all.q", "hostlist": "localhost", "seq_no": "0", "load_thresholds": "NONE", "suspend_thresholds": "NONE",
    "nsuspend": "1", "suspend_interval": "00:05:00", "priority": "0", "min_cpu_interval": "00:05:00",
    "processors": "UNDEFINED", "qtype": "BATCH INTERACTIVE", "ckpt_list": "NONE", "pe_list": "make smp mpi",
    "rerun": "FALSE", "slots": "4", "tmpdir": "/tmp", "shell": "/bin/bash", "prolog": "NONE", "epilog": "NONE",
    "shell_start_mode": "posix_compliant", "starter_method": "NONE", "suspend_method": "NONE", "resume_method": "NONE",
    "terminate_method": "NONE", "notify": "00:00:20", "owner_list": "NONE", "user_lists": "NONE", "xuser_lists": "NONE",
    "subordinate_list": "NONE", "complex_values": "NONE", "projects": "NONE", "xprojects": "NONE", "calendar": "NONE",
    "initial_state": "default", "s_rt": "INFINITY", "h_rt": "INFINITY", "s_cpu": "INFINITY", "h_cpu": "INFINITY",
    "s_fsize": "INFINITY", "h_fsize": "INFINITY", "s_data": "INFINITY", "h_data": "INFINITY", "s_stack": "INFINITY",
    "h_stack": "INFINITY", "s_core": "INFINITY", "h_core": "INFINITY", "s_rss": "INFINITY", "h_rss": "INFINITY",
    "s_vmem": "INFINITY", "h_vmem": "INFINITY",
}  # fmt: skip


class GridEngine(Farm):
    """A running Grid Engine; `env()` is what a client needs, `home` a directory that its user may write."""

    commands = ("sge_qmaster", "sge_execd", "qsub")
    job_variables = ("SGE_ROOT", "JOB_ID")

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def common(self) -> Path:
        return self.root / "default/common"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def env(self) -> dict[str, str]:
        """What to add to the environment of clients."""
        ports = {"SGE_QMASTER_PORT": str(self.port), "SGE_EXECD_PORT": str(self.port + 1)}
        return {"SGE_ROOT": str(self.root), "SGE_CELL": "default", **ports}

    def run(self, *argv: str, user: str = USER, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a client as `user` in `home`, `more` added to its environment; CalledProcessError when it fails."""
        who = pwd.getpwnam(user)
        env = {**os.environ, "HOME": str(self.home), "USER": user, "LOGNAME": user, **self.env(), **more}
        return subprocess.run(
            argv, env=env, cwd=self.home, capture_output=True, text=True, check=check, stdin=-3, timeout=PATIENCE_S,
            user=who.pw_uid, group=who.pw_gid, extra_groups=[],
        )  # fmt: skip

    def says(self, *argv: str, user: str = USER) -> str:
        """What a client prints, without the space around; '' also when it fails."""
        return self.run(*argv, user=user, check=False).stdout.strip()

    # ------------------------------------------------------------ up

    @classmethod
    def up(cls, folder: Path | None = None) -> "GridEngine":
        """A Grid Engine that runs jobs, in `folder`; without one, in a new directory, and it ends with this process.

        FarmError, and nothing left running, when it cannot.
        """
        need_names()
        farm = cls((folder or fresh("gridengine")).absolute())
        need_way(farm.folder)
        try:
            farm.prepare(own=folder is None)
            farm.write()
            farm.start_all()
        except BaseException:
            farm.stop()
            raise
        return farm

    def write(self) -> None:
        """Every file and directory that the daemons find, theirs."""
        self.common.mkdir(parents=True)
        for name in ("spool", "qmaster/job_scripts", "execd", "home"):
            (self.folder / name).mkdir(parents=True)
        (self.root / "util").symlink_to(SHARE / "util")
        (self.common / "bootstrap").write_text(BOOTSTRAP.lstrip().format(folder=self.folder))
        (self.common / "act_qmaster").write_text("localhost\n")
        (self.common / "host_aliases").write_text(" ".join(["localhost", *names_of_this_host()]) + "\n")
        given = {"folder": self.folder, "first": self.port * 10, "last": self.port * 10 + 99}
        new = {key: value.format(**given) for key, value in CONFIGURATION.items()}
        (self.folder / "configuration").write_text(changed((SHARE / "default-configuration").read_text(), new))
        (self.folder / "queue").write_text("".join(f"{key} {value}\n" for key, value in QUEUE.items()))
        subprocess.run(["chown", "-R", f"{ADMIN}:", self.folder], check=True)
        shutil.chown(self.home, USER, pwd.getpwnam(USER).pw_gid)

    def start_all(self) -> None:
        """Return when jobs run."""
        self.make_spool()
        self.daemon("sge_qmaster")
        self.until(lambda: self.says("qconf", "-sconf", user="root"), "no qmaster", "sge_qmaster")
        (self.folder / "scheduler").write_text(changed(self.must("root", "qconf", "-ssconf"), SCHEDULER))
        self.must("root", "qconf", "-Msconf", f"{self.folder}/scheduler")
        self.must("root", "qconf", "-as", "localhost")
        self.must("root", "qconf", "-Aq", f"{self.folder}/queue")
        self.daemon("sge_execd")
        self.until(self.is_ready, "the queue does not become ready", "sge_execd")

    def daemon(self, name: str) -> None:
        """Start sge_qmaster or sge_execd, in the foreground."""
        self.start(name, [name], {**self.env(), "SGE_ND": "true"})

    def make_spool(self) -> None:
        """An empty database, as Debian's init_cluster makes it."""
        resources = SHARE / "util/resources"
        self.must(ADMIN, str(LIBRARY / "spoolinit"), "berkeleydb", "libspoolb", f"{self.folder}/spool", "init")
        for kind, value in (
            ("configuration", f"{self.folder}/configuration"),
            ("complexes", f"{resources}/centry"),
            ("usersets", f"{resources}/usersets"),
            ("pes", f"{resources}/pe"),
            ("managers", ADMIN),
        ):
            self.must(ADMIN, str(LIBRARY / "spooldefaults"), kind, value)

    def must(self, user: str, *argv: str) -> str:
        """What a command prints; FarmError when it fails."""
        return checked(self.run(*argv, user=user, check=False))

    def jobs(self) -> list[str]:
        """The jobs that there are, of anybody."""

        def told() -> subprocess.CompletedProcess[str] | None:
            done = self.run("qstat", "-u", "*", check=False)
            return None if done.returncode else done

        said = self.until(told, "qstat fails", "sge_qmaster")
        return [line.split()[0] for line in said.stdout.splitlines()[2:]]

    def empty(self) -> None:
        """End every job, so that the next test has all of this Grid Engine.

        A host that did not hear that a job is to end is told again after a minute; later the job is forgotten by force.
        """
        by_force = time.monotonic() + FORCE_S

        def is_empty() -> bool:
            if left := self.jobs():
                force = ["-f"] if time.monotonic() > by_force else []
                self.says("qdel", *force, *left, user="root")
            return not left

        self.until(is_empty, "jobs do not end", "sge_qmaster", seconds=LINGER_S)

    def is_ready(self) -> bool:
        """Whether the queue's line has a load and no letter for what is wrong with it."""
        line = [each.split() for each in self.says("qstat", "-f").splitlines() if each.startswith("all.q@")]
        return len(line) == 1 and len(line[0]) == 5 and line[0][3] != "-NA-"


def need_names() -> None:
    """FarmError, unless there is the user, and this host knows its own name."""
    try:
        pwd.getpwnam(USER)
        socket.gethostbyname(socket.gethostname())
    except KeyError:
        raise FarmError(f"no user {USER} here, whose jobs Grid Engine would run; run tests/farms/install") from None
    except OSError:
        raise FarmError(f"{socket.gethostname()}, this host, has no address; run tests/farms/install") from None


def need_way(folder: Path) -> None:
    """FarmError, unless Grid Engine's users may go through all that `folder` lies in."""
    for each in folder.parents:
        if each.exists() and not each.stat().st_mode & 0o001:
            raise FarmError(f"{folder}: other users may not enter {each}; name a directory elsewhere")


def changed(text: str, new: dict[str, str]) -> str:
    """The lines `key value` of a configuration, some with new values."""
    lines = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
    return "".join(f"{key} {new.get(key, value)}\n" for key, value in lines)


def names_of_this_host() -> list[str]:
    """All that this machine may be called by its own addresses: to Grid Engine they are one host."""
    name = socket.gethostname()
    lines = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    found = [line[1:] for line in lines if line and (line[0].startswith("127.") or name in line)]
    return sorted({name, *(each for names in found for each in names)} - {"localhost"})


# ---------------------------------------------------------------- command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.what == "down":
        GridEngine(asked.folder.absolute()).stop()
    else:
        for name, value in GridEngine.up(asked.folder).env().items():
            print(f"export {name}={value}")


if __name__ == "__main__":
    try:
        main()
    except FarmError as error:
        sys.exit(f"gridengine.py: {error}")
