"""The templates on real schedulers and clients: what the first line of each says was tried.

htcondor, ngcsdk and panda-client, whose servers run nowhere here, have a virtual environment of their own: see the
Makefile. tests/test_farm_templates.py says which test is for which first line.
"""

import base64
import http.server
import json
import os
import shlex
import subprocess
import threading
import time
from itertools import count
from pathlib import Path

import pytest
from commands import hparams
from launching import until

from farms.farmer import farmer
from farms.fixtures import client
from farms.site import Site
from farmx import sites
from farmx.farms import command_words

pytestmark = pytest.mark.farm
EXPERIMENT = "it's a größe; $HOME"
NUMBER = count()


def configured(kind: str, root: Path) -> str:
    """What init writes, with its LOGROOT."""
    made, _ = sites.site(kind, os.environ["PATH"])
    return made.text + f"LOGROOT: {json.dumps(str(root))}\n"


def claimed(kind: str, scheduler: str) -> None:
    """The first line of the template says that this one took it, as the test that asks has seen."""
    assert sites.template(kind).startswith(f"# verified: {scheduler} took it: "), scheduler


def test_slurm_by_script_takes_runs_lists_and_cancels_them(slurm, project):
    site = Site(project, slurm)
    project.write(".farmx.yaml", configured("slurm-script", project.root))
    site.sweep("note(n, attempt)\nif n == '3': time.sleep(300)", "{n: [1, 2, 3]}")
    site.ok("sweep.yml", "--exp-name", EXPERIMENT)
    until(lambda: site.states(EXPERIMENT) == ["done", "done", "running"])
    last = site.told(EXPERIMENT)[2]["run"]
    (queued,) = (project.root / EXPERIMENT / ".farmx/submissions").glob("*/queued")
    jobs = [line.split()[1] for line in queued.read_text().splitlines()]
    assert len(jobs) == 3 and all(job.isdecimal() for job in jobs)
    names = slurm.says("squeue", "-h", "-t", "all", f"--jobs={','.join(jobs)}", "-o", "%j").split()
    assert f"it_s_a_gr__e___HOME_{last}" in names
    site.ok("cancel", last)
    until(lambda: site.states(EXPERIMENT) == ["done", "done", "cancelled"])
    assert sorted(site.notes()) == ["1 1", "2 1", "3 1"]
    claimed("slurm-script", f"Slurm {slurm.says('sbatch', '--version').split()[1]}")


def test_by_script_too_a_running_run_that_slurm_was_told_to_cancel_is_cancelled_and_not_launched_again(slurm, project):
    site = Site(project, slurm)
    project.write(".farmx.yaml", configured("slurm-script", project.root))
    site.sweep("note(n)\ntime.sleep(600)", "{n: [1]}")
    site.ok("sweep.yml")
    site.noted("1")
    (run,) = site.told()
    slurm.run("scancel", run["job"])
    assert site.ended() == ["cancelled"]
    assert "runs  1: 1 cancelled" in site.ok("sweep.yml").err


def test_grid_engine_takes_runs_lists_and_cancels_them(gridengine):
    big = farmer(gridengine, f"{os.getpid()}.templates.{next(NUMBER)}")
    big.write(".farmx.yaml", configured("sge", big.root))
    big.sweep("{n: [1, 2]}", 'if [ "$2" = 2 ]; then sleep 300; fi')
    big.ok("sweep.yml")
    big.become("done", "running")
    big.ok("cancel", read_run(big, 2))
    assert big.ended() == ["done", "cancelled"]
    big.emptied()
    claimed("sge", f"Grid Engine {gridengine.says('qstat', '-help').split()[1]}")


def test_grid_engine_takes_a_parallel_environment_with_its_slots_or_neither(gridengine):
    big = farmer(gridengine, f"{os.getpid()}.templates.{next(NUMBER)}")
    made = configured("sge", big.root)
    assert "    pe: smp #" in made and "    slots: 1\n" in made
    cases = [("smp", 2), ("smp", None), (None, 2), (None, None)]
    for place, (pe, slots) in enumerate(cases):
        said = made.replace("    pe: smp #", f"    pe: {json.dumps(pe)} #")
        big.write(".farmx.yaml", said.replace("    slots: 1\n", f"    slots: {json.dumps(slots)}\n"))
        big.sweep("{n: 1}", f'echo "{place} $PE $NSLOTS" >>"{big.side}.slots"')
        big.ok("sweep.yml", "--exp-name", f"case{place}")
    told = Path(f"{big.side}.slots")
    lines = until(lambda: got if told.exists() and len(got := sorted(told.read_text().splitlines())) == 4 else None)
    assert lines == ["0 smp 2", "1  1", "2  1", "3  1"]
    big.emptied()


def read_run(big, n: int) -> str:
    return next(run.name for run in big.runs() if hparams(run)["n"] == n)


def test_a_slurm_that_is_found_is_launched_on_as_it_was_written(slurm, project):
    site = Site(project, slurm)
    done = site.ok("init")
    assert "found  Slurm 22.05" in done.err and "         main       infinite" in done.err
    site.sweep("note(n, attempt)", "{n: [1, 2]}")
    site.ok("sweep.yml")
    assert site.ended() == ["done", "done"]
    asked = slurm.says("scontrol", "show", "job", site.job().partition("_")[0], "-o")
    assert "Partition=main" in asked and "TimeLimit=04:00:00" in asked and "gres/gpu" in asked


# ---------------------------------------------------------------- clients without their servers


def section(kind: str) -> tuple[str, dict]:
    """SUBMIT_CMD and RESOURCES of a template."""
    import yaml

    (fields,) = yaml.safe_load(sites.template(kind)).values()
    return fields["SUBMIT_CMD"], fields["RESOURCES"]


PARSE = """
import json, sys
from htcondor2 import Submit
made = Submit(sys.stdin.read())
print(json.dumps([made.getQArgs(), dict(made)]))
"""


def test_htcondor_parses_what_condor_submit_is_given():
    python = client("python")
    text, resources = section("htcondor")
    every = {**resources, "gpus": 2, "disk": "10GB", "requirements": 'OpSysMajorVer == 9 && Arch == "X86_64"',
             "group": "a.b", "runtime_s": 60}  # fmt: skip
    own = {"name": "a_b", "env_pass": "TOKEN,KEY", "requeue_code": "99", "script": "/it's a größe/0.sh",
           "log": "/it's a größe/0.log"}  # fmt: skip
    _, words = command_words.fill(command_words.read(text, "here"), own, every)
    assert words[:2] == ["condor_submit", "-terse"]
    described = "\n".join([*words[2:-2], f"{words[-2][1:]} {words[-1]}", ""])
    done = subprocess.run([python, "-c", PARSE], input=described, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    arguments, made = json.loads(done.stdout)
    assert arguments == "1"
    assert made == {
        "universe": "vanilla", "executable": own["script"], "output": own["log"], "error": own["log"],
        "log": f"{own['log']}.condor", "batch_name": "a_b", "should_transfer_files": "IF_NEEDED", "request_cpus": "1",
        "request_memory": "4GB", "request_disk": "10GB", "request_gpus": "2", "requirements": every["requirements"],
        "accounting_group": "a.b", "MY.MaxRuntime": "60", "getenv": "TOKEN,KEY", "kill_sig": "SIGUSR2",
        "remove_kill_sig": "SIGTERM", "on_exit_remove": "ExitCode=!=99",
    }  # fmt: skip


# The command that ngcsdk lacks, with a server that takes what it is told; a job of it is the process that asked for it.
NGC = """
import json, os, sys, types, warnings
from unittest import mock
warnings.simplefilter("ignore")
sys.modules.update(ngccli=types.SimpleNamespace(cacerts=json), ngcpygo=mock.Mock())  # of the program, for what we leave
import basecommand.command.batch, basecommand.command.workspace
from basecommand.data.api.Job import Job
from ngcbase.command.clicommand import CLICommand
from ngcbase.command.parser import NgcParser
from ngcsdk import Client

def job(number):
    resources = {"name": "i", "systemMemory": 1, "gpus": 1, "cpuCores": 1}
    told = {"jobDefinition": {"name": "7", "resources": resources}, "jobStatus": {"status": "RUNNING"}}
    return Job({"id": number, **told})

def told(name):
    def tell(**given):
        given = {key: list(value) if key == "job_ids" else value for key, value in given.items() if value}
        with open(os.environ["TOLD"], "a") as file:
            file.write(json.dumps([name, os.getpid(), given]) + "\\n")
        return job(os.getpid())
    return tell

def listed(**_):
    with open(os.environ["TOLD"]) as file:
        return [job(number) for name, number, _ in map(json.loads, file) if name == "run"]

jobs = types.SimpleNamespace(run=told("run"), kill=told("kill"), list=listed)
Client.basecommand = types.SimpleNamespace(jobs=jobs, workspace=types.SimpleNamespace(upload=told("upload")))
CLICommand.CLI_CLIENT = Client()
parser = NgcParser(prog="ngc")
parser.client = CLICommand.CLI_CLIENT
CLICommand(parser)
args = parser.parse_args()
args.func.__wrapped__(args)  # without what counts how long it takes
"""


def test_ngcsdk_parses_what_ngc_is_called_with_and_prints_what_is_read(project, tmp_path):
    python = client("python")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ngc").write_text(f"#!{python}\n{NGC}")
    (tmp_path / "bin/ngc").chmod(0o755)
    told = tmp_path / "told"
    env = {"PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}", "TOLD": str(told), "HOME": str(tmp_path)}
    project.write(".farmx.yaml", configured("ngc", project.root))
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "--exp-name", EXPERIMENT, **env)
    experiment = project.root / EXPERIMENT
    (path,) = (experiment / ".farmx/submissions").iterdir()
    runs = json.loads(project.ok("status", EXPERIMENT, "--json", **env).out)["runs"]
    assert [(run["state"], run["note"]) for run in runs] == [("queued", "its job has begun")] * 2
    project.ok("cancel", EXPERIMENT, **env)
    upload, *asked, kill = map(json.loads, told.read_text().splitlines())
    at = {"source": str(experiment), "destination": EXPERIMENT, "threads": upload[2]["threads"]}
    assert (upload[0], upload[2]) == ("upload", {"workspace_id": "my-workspace", **at})
    assert {number: (name, given) for name, number, given in asked} == {int(run["job"]): ("run", {
        "name": f"it_s_a_gr__e___HOME_{run['run']}", "instance": "dgx1v.32g.1.norm", "result": "/results",
        "commandline": f"sh {shlex.quote(f'/mount/runs/{EXPERIMENT}/.farmx/submissions/{path.name}/{place}.sh')}",
        "image": "nvidia/pytorch:24.01-py3", "workspace": ["my-workspace:/mount/runs:RW"], "coscheduling": True,
    }) for place, run in enumerate(runs)}  # fmt: skip
    assert (kill[0], kill[2]) == ("kill", {"job_ids": [int(run["job"]) for run in runs]})


class Panda(http.server.BaseHTTPRequestHandler):
    """As much of a PanDA server as prun and pbook ask for; keeps what it was told in `told`."""

    told: list[tuple[str, bytes]] = []

    def do_POST(self) -> None:
        self.told.append((self.path.partition("?")[0], self.rfile.read(int(self.headers.get("Content-Length", 0)))))
        tasks = [{"jediTaskID": 4242, "status": "running", "taskName": "a"}]
        data = tasks if "get_tasks" in self.path else 4242
        answer = json.dumps({"success": True, "message": "succeeded. new jediTaskID=4242", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def panda():
    """What a client needs to talk to the server."""
    prun = client("prun")
    Panda.told.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Panda)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/server/panda"
    urls = dict.fromkeys(("PANDA_URL", "PANDA_URL_SSL", "PANDACACHE_URL"), url)
    ours = dict.fromkeys(("PANDA_SYS", "VIRTUAL_ENV"), str(prun.parent.parent))
    path = f"{prun.parent}{os.pathsep}{os.environ['PATH']}"
    yield {**urls, **ours, "PATH": path, "PANDA_AUTH": "oidc", "PANDA_AUTH_VO": "wlcg", "PANDA_AUTH_ID_TOKEN": token()}
    server.shutdown()
    server.server_close()


def token() -> str:
    """An id token that nobody signed."""
    claims = {"name": "Me", "preferred_username": "me", "sub": "me", "exp": int(time.time()) + 3600, "groups": ["wlcg"]}
    parts = (base64.urlsafe_b64encode(json.dumps(each).encode()).decode() for each in ({"alg": "none"}, claims))
    return ".".join([*(part.rstrip("=") for part in parts), "x"])


def test_prun_builds_the_task_and_pbook_lists_and_kills_it(panda, project):
    text = configured("panda", project.root).replace("NICKNAME", "me")
    project.write(".farmx.yaml", text.replace("site: null", "site: TEST").replace("vo: null", "vo: wlcg"))
    project.sweep("{n: 1}")
    project.ok("sweep.yml", "--exp-name", EXPERIMENT, **panda)
    (path,) = (project.root / EXPERIMENT / ".farmx/submissions").iterdir()
    assert (path / "queued").read_text() == "0-0 4242\n"
    (task,) = [json.loads(body)["task_parameters"] for place, body in Panda.told if place.endswith("/task/submit")]
    name = project.ok("status", EXPERIMENT, "--json", **panda).out
    (run,) = [each["run"] for each in json.loads(name)["runs"]]
    assert task["taskName"].startswith(f"user.me.it_s_a_gr__e___HOME_{run}.")
    assert (task["site"], task["vo"]) == ("TEST", "wlcg")
    project.ok("cancel", EXPERIMENT, **panda)
    assert [json.loads(body) for place, body in Panda.told if place.endswith("/task/kill")] == [{"task_id": 4242}]
