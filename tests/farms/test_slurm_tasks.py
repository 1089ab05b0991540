"""Jobs that a real Slurm makes several tasks or nodes though nobody asked for them: each task has its rank."""

import json
import socket

import pytest
from launching import until

from farms.site import Site, attempts
from farms.test_policies import stand
from farms.test_slurm_farm import SAVES, TASK

pytestmark = pytest.mark.farm


def wanted(site: Site, what: str) -> str:
    wants = {"gpus": {"gpus": 8}, "tasks": {"gpus": 2, "gpus_per_task": 1}, "nodes": {"nodelist": [*site.slurm.nodes]}}
    return f"RESOURCES: {json.dumps(wants[what])}\n"


@pytest.mark.parametrize(("what", "nodes"), [("gpus", 2), ("tasks", 1), ("nodes", 2)])
def test_a_job_that_slurm_makes_several_tasks_runs_the_command_in_each_with_its_rank(site, what, nodes):
    site.sweep(TASK, "{n: 1}", wanted(site, what))
    site.ok("sweep.yml")
    assert site.ended() == ["done"]
    local = 2 // nodes
    ranks = [(rank, 2, rank % local, local, rank // local) for rank in range(2)]
    assert sorted(site.notes()) == [" ".join(map(str, (*each, socket.gethostname(), True))) for each in ranks]


def test_every_task_of_such_a_job_is_told_once_and_goes_on(site):
    site.sweep(SAVES, "{n: 1}", wanted(site, "nodes") + "ENV: {SLOW: 0.5}\n")
    site.ok("sweep.yml")
    site.noted("1 1 began 0", "1 1 began 1")
    site.slurm.run("scancel", "--batch", "--signal=USR2", site.job())
    assert site.ended() == ["done"]
    assert sorted(site.notes()) == sorted(
        f"1 {what} {rank}" for what in ("1 began", "1 told", "1 saved", "2 went on") for rank in (0, 1)
    )
    assert attempts(site.run()) == {"1.0": "preempted", "1.1": "done"}


FAILS = """
if os.environ["RANK"] == "1":
    if n == "1":
        sys.exit(3)
    if n == "2":
        raise KeyError("lr")
    os.kill(os.getpid(), signal.SIGSEGV)
time.sleep(300)
"""


def test_of_several_tasks_the_run_failed_with_the_code_of_the_one_that_failed_first(site):
    site.sweep(FAILS, "{n: [1, 2, 3]}", "RESOURCES: {nodes: 2, ntasks: 3}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"] * 3
    told = [json.loads(site.ok("why", run["run"], "--json").out) for run in site.told()]
    assert [(each["code"], each["why"], each["error"]) for each in told] == [
        (3, "main exited with 3", ""),
        (1, "main exited with 1", "KeyError: 'lr'"),
        (139, "main exited with 139: it crashed: it touched memory that is not its own", ""),
    ]


def test_the_rest_is_held_where_one_task_of_each_says_that_the_command_is_wrong(site):
    wrong = "if os.environ['RANK'] == '1':\n    print('no such option')\n    sys.exit(2)\ntime.sleep(300)"
    site.setup('{"array_parallelism": 1}')
    site.sweep(wrong, "{n: [1, 2, 3]}", f"{wanted(site, 'nodes')}BREAKER: 2\n")
    site.ok("sweep.yml")
    held = "held: the first 2 runs failed with: no such option"
    until(lambda: stand(site) == [("failed", "main exited with 2")] * 2 + [("queued", held)])


WHOLE = [{}, {"exclusive": True}, {"exclusive": True, "nodes": 1}, {"mincpus": 4}]  # Slurm counts the CPUs as tasks


@pytest.mark.parametrize("wants", WHOLE, ids=map(str, WHOLE))
def test_one_task_has_no_rank_and_is_started_by_nothing_also_where_it_has_a_whole_node(site, wants):
    keys = ("RANK", "MASTER_ADDR", "SLURM_STEP_ID", "SLURM_NTASKS")
    site.sweep(f"note(*(os.environ.get(key) for key in {keys}))", "{n: 1}", f"RESOURCES: {json.dumps(wants)}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["done"]
    assert site.notes() == ["None None None None"]


@pytest.mark.parametrize("wants", [{"nodes": 2}, {"gpus": 8}], ids=map(str, ({"nodes": 2}, {"gpus": 8})))
def test_whole_nodes_have_a_task_each_with_the_cpus_that_it_asked_for(site, wants):
    keys = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "SLURM_CPUS_ON_NODE")  # of the step
    wants = {**wants, "exclusive": True, "cpus_per_task": 2}
    site.sweep(f"note(*(os.environ[key] for key in {keys}))", "{n: 1}", f"RESOURCES: {json.dumps(wants)}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["done"]
    assert sorted(site.notes()) == ["0 2 0 1 0 2", "1 2 0 1 1 2"]


def test_a_task_that_fails_ends_the_others(site):
    site.sweep("if os.environ['RANK'] == '0': sys.exit(3)\ntime.sleep(300)", "{n: 1}", "RESOURCES: {nodes: 2}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["failed"]


def test_runs_that_share_a_job_have_one_node_or_are_refused(site):
    site.sweep("note(n)", "{n: [1, 2]}", "PACK: {runs: 2}\n" + wanted(site, "gpus"))
    refused = site("sweep.yml")
    assert (refused.code, site.project.root.exists()) == (2, False)
    assert refused.line(2).endswith(
        "sweep.yml:4:13: RESOURCES.gpus 8: sbatch says: Requested node configuration is not available"
    )
    site.sweep("note(n, os.environ['SLURM_NNODES'])", "{n: [1, 2]}", "PACK: {runs: 2}\nRESOURCES: {gpus: 4}\n")
    site.ok("sweep.yml")
    assert site.ended() == ["done"] * 2
    assert sorted(site.notes()) == ["1 1", "2 1"]
