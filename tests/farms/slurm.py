"""A Slurm of one's own: two nodes of four CPUs and four fake GPUs each, with or without accounting.

    python tests/farms/slurm.py up DIR [--no-accounting] [--max-array N] [--set KEY=VALUE]...
    python tests/farms/slurm.py down DIR

`up` returns when jobs run, and prints the line that a shell needs to talk to it: eval "$(tests/farms/slurm.py up DIR)".
Needs root and tests/farms/install. Touches nothing outside DIR: munge, the database and all sockets are in there.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

if not __package__:  # started as a script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from farms.daemons import PATIENCE_S, Farm, FarmError, checked, fresh, is_open, send

CLUSTER = "farm"
# Settings with which a dead node is noticed in about twelve seconds, not in minutes; a busy machine may look dead then.
NERVOUS = {"SlurmdTimeout": "5", "BatchStartTimeout": "1", "MessageTimeout": "3"}
MAX_ARRAY = 20001
CPUS = 4
GPUS = 4
# Everything as fast as it gets. A requeued job may start again when its credentials have expired, cred_expire later,
# and then starts when the main scheduler comes round: sched_interval, a minute unless told.
CONFIGURATION = """
ClusterName={cluster}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=4000
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1,default_queue_depth=2000
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=6
MaxJobCount=100000
MaxArraySize={max_array}
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
{accounting}
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs={cpus} RealMemory=64000 Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
"""
DATABASE = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
"""
# Nobody misses what a crash of the machine takes, and nobody but root comes near.
MARIADB = (
    "--no-defaults",
    "--user=root",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
    "--performance-schema=OFF",
)


class Slurm(Farm):
    """A running Slurm; `env()` is what a client needs."""

    commands = ("slurmctld", "slurmd", "sbatch", "slurmdbd", "munged", "mariadbd")
    job_variables = ("SLURM_CONF", "SLURM_JOB_ID")

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def nodes(self) -> tuple[str, str]:
        """The names of the two nodes, which are also those of their slurmd."""
        return f"n{self.port + 1}", f"n{self.port + 2}"

    def env(self) -> dict[str, str]:
        """What to add to the environment of clients."""
        return {"SLURM_CONF": str(self.conf)}

    def run(self, *argv: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a client, `more` added to its environment; CalledProcessError when it fails, unless check is False."""
        env = {**os.environ, **self.env(), **more}
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=check, stdin=-3, timeout=PATIENCE_S)

    def says(self, *argv: str) -> str:
        """What a client prints, without the space around; '' also when it fails."""
        return self.run(*argv, check=False).stdout.strip()

    # ------------------------------------------------------------ up

    @classmethod
    def up(
        cls,
        folder: Path | None = None,
        accounting: bool = True,
        max_array: int = MAX_ARRAY,
        settings: Mapping[str, str] | None = None,
    ) -> "Slurm":
        """A Slurm whose nodes are idle, in `folder`; without one, in a new directory, and it ends with this process.

        `settings` are lines of slurm.conf, in place of those here. FarmError, and nothing left running, when it cannot.
        """
        farm = cls((folder or fresh("slurm")).absolute())
        try:
            farm.prepare(own=folder is None)
            farm.write(accounting, max_array, settings or {})
            farm.start_all(accounting)
        except BaseException:
            farm.stop()
            raise
        return farm

    def write(self, accounting: bool, max_array: int, settings: Mapping[str, str]) -> None:
        """Every file that the daemons read."""
        at = {"folder": self.folder, "port": self.port + 3}
        text = CONFIGURATION.format(
            cluster=CLUSTER,
            folder=self.folder,
            port=self.port,
            max_array=max_array,
            accounting=ACCOUNTING.format(**at) if accounting else "",
            nodes=f"n[{self.port + 1}-{self.port + 2}]",
            ports=f"[{self.port + 1}-{self.port + 2}]",
            host=socket.gethostname().split(".")[0],
            cpus=CPUS,
            gpus=GPUS,
        )
        self.conf.write_text(with_settings(text, settings))
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # which looks for no cgroups; v2 does
        for number in range(GPUS):
            (self.folder / f"gpu{number}").symlink_to("/dev/null")  # any device will do
        write_secret(self.folder / "slurmdbd.conf", DATABASE.format(**at).encode())
        write_secret(self.folder / "munge.key", os.urandom(1024))
        for name in ("state", *self.nodes):
            (self.folder / name).mkdir()

    def start_all(self, accounting: bool) -> None:
        """Return when jobs run."""
        self.daemon("munged")
        if accounting:
            self.make_database()
        self.daemon("slurmctld")
        for node in self.nodes:
            self.daemon(node)
        self.until(self.is_idle, "the nodes do not become idle", "slurmctld", *self.nodes)

    def daemon(self, name: str) -> None:
        """Start one of munged, mariadbd, slurmdbd, slurmctld and `nodes`; munged and the database also wait for it."""
        socket_of_database = str(self.folder / "mariadb.socket")
        self.start(name, self.argv(name), {**self.env(), "MYSQL_UNIX_PORT": socket_of_database})
        ready = {
            "munged": lambda: (self.folder / "munge.socket").exists(),
            "mariadbd": lambda: self.says("mariadb-admin", "--no-defaults", "-S", socket_of_database, "ping"),
            "slurmdbd": lambda: is_open(self.port + 3),
        }
        if name in ready:
            self.until(ready[name], f"no {name}", name)

    def argv(self, name: str) -> list[str]:
        if name in self.nodes:
            return ["slurmd", "-D", "-N", name]
        if name == "munged":
            options = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "seed"}
            files = [f"--{option}={self.folder / file}" for option, file in options.items()]
            return ["munged", "--foreground", "--force", *files]
        if name == "mariadbd":
            where = [*self.places(), f"--socket={self.folder}/mariadb.socket"]
            return ["mariadbd", *MARIADB, *where, "--skip-networking", "--skip-grant-tables"]
        return [name, "-D"]

    def places(self) -> list[str]:
        """Of the database. One that starts deletes the tables that others are using in the same tmpdir."""
        return [f"--datadir={self.folder}/mariadb", f"--tmpdir={self.folder}/state"]

    def make_database(self) -> None:
        """Accounting that knows the cluster."""
        checked(self.run("mariadb-install-db", *MARIADB, *self.places(), "--skip-test-db", check=False))
        self.daemon("mariadbd")
        self.daemon("slurmdbd")
        checked(self.run("sacctmgr", "-i", "add", "cluster", CLUSTER, check=False))

    def kill_node(self, name: str) -> None:
        """What a power cut does to a node: its slurmd is gone, and its jobs with all their processes."""
        self.kill(name)
        while found := self.with_variable(f"SLURMD_NODENAME={name}"):
            send(found, signal.SIGKILL)

    def empty(self) -> None:
        """End every job; return when both nodes are idle, so that the next test has all of this Slurm.

        A controller that was killed as it began a job begins it again, finds it there and drains the node.
        """

        def is_empty() -> bool:
            if self.says("squeue", "-h"):
                self.says("scancel", "--user=root")  # each time: what was ending may have been queued again
            for node in self.says("sinfo", "-h", "-N", "-p", "main", "-t", "drain", "-o", "%N").split():
                self.says("scontrol", "update", f"nodename={node}", "state=resume")
            return self.is_idle() and not self.says("squeue", "-h")

        self.until(is_empty, "jobs do not end or nodes do not become idle", "slurmctld")

    def is_idle(self) -> bool:
        return self.says("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split() == ["idle", "idle"]


def with_settings(text: str, settings: Mapping[str, str]) -> str:
    """A configuration with some lines replaced and others added."""
    keys = {key.lower() for key in settings}
    kept = [line for line in text.splitlines() if line and line.partition("=")[0].lower() not in keys]
    return "\n".join([*(f"{key}={value}" for key, value in settings.items()), *kept, ""])


def write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


# ---------------------------------------------------------------- command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-accounting", action="store_true", help="no database: sacct fails")
    parser.add_argument("--max-array", type=int, default=MAX_ARRAY, metavar="N", help="MaxArraySize; %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a line of slurm.conf")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.what == "down":
        return Slurm(asked.folder.absolute()).stop()
    settings = dict(each.partition("=")[::2] for each in asked.set)
    farm = Slurm.up(asked.folder, not asked.no_accounting, asked.max_array, settings)
    print(f"export SLURM_CONF={farm.conf}")
    return None


if __name__ == "__main__":
    try:
        main()
    except FarmError as error:
        sys.exit(f"slurm.py: {error}")
