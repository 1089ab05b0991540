"""A real Slurm whose arrays hold three runs: what is asked of a launch holds for all its arrays together."""

import pytest
from launching import until

from farms import fixtures
from farms.site import Site
from farms.slurm import Slurm

pytestmark = pytest.mark.farm

# Each program notes which others run beside it.
PROGRAM = """
home = os.environ["SIDE"] + ".now"
os.makedirs(f"{home}/{n}")
note("beside", len(os.listdir(home)))
wait(os.environ["SIDE"] + ".go")
note(n)
os.rmdir(f"{home}/{n}")
"""


@pytest.fixture(scope="module")
def short():
    fixtures.need(Slurm)
    farm = Slurm.up(accounting=False, max_array=3)
    yield farm
    farm.stop()


@pytest.fixture
def site(short, project):
    made = Site(project, short)
    yield made
    made.end()


@pytest.mark.parametrize(("most", "throttles"), [(2, ["0-2%1", "0-2%1", "0-1%1"]), (4, ["0-2%2", "0-2%1", "0-1%1"])])
def test_no_more_run_at_once_than_array_parallelism_says_and_as_many_do(site, most, throttles):
    site.setup(f'{{"array_parallelism": {most}}}')
    site.sweep(PROGRAM, "{n: " + str(list(range(1, 9))) + "}")
    site.ok("sweep.yml")
    scripts = [(each / "script").read_text() for each in site.submissions()]
    assert [line[16:] for text in scripts for line in text.splitlines() if "--array" in line] == throttles
    until(lambda: len(site.notes()) == most)
    assert sorted(site.states()) == ["queued"] * (8 - most) + ["running"] * most
    site.go()
    assert site.ended() == ["done"] * 8
    beside = [int(line.split()[1]) for line in site.notes() if line.startswith("beside")]
    assert (len(beside), max(beside) <= most) == (8, True)
    assert {line for line in site.notes() if "beside" not in line} == set("12345678")
