"""scripts/venv and the Makefile: what they install, when, and what they say; python3, pip and apt-get are fakes."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO = ("demo", "--editable", ".", "scikit-learn")

# python3 as Debian has it: without python3-venv there is no ensurepip. It logs what it is asked.
PYTHON = """#!/bin/sh
here=$(dirname "$0")
case "$*" in
  "-c import ensurepip") [ -e "$STATE/ensurepip" ] ;;
  "-c import sys; sys.exit"*) [ ! -e "$STATE/old" ] ;;
  "-c ") ;;
  "--version") echo "Python 3.9.2" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/bin/pip"; echo "venv" >>"$STATE/log" ;;
  "-m pip --version") [ -e "$here/pip" ] ;;
  "-m compileall "*) echo "$*" >>"$STATE/log"; exit 1 ;;  # it does where a file is none
  "-m pip install "*) echo "pip $*" >>"$STATE/log"; [ ! -e "$STATE/killed" ] || kill -9 $PPID
    ! rm "$STATE/stumble" 2>/dev/null || { [ ! -e "$STATE/again" ] || mv "$STATE/again" "$STATE/stumble"; exit 1; } ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""
APT = """#!/bin/sh
echo "apt-get $*" >>"$STATE/log"
[ ! -e "$STATE/refuses" ] || exit 100
case "$*" in *" python3-venv") touch "$STATE/ensurepip" ;; esac
"""
INSTALL = "pip -m pip install --quiet --disable-pip-version-check --no-compile --config-settings editable_mode=compat"
COMPILE = "-m compileall -qq -j 0 -x site-packages/.*/tests/ .venv/lib"
PIP = [f"{INSTALL} --editable . scikit-learn", COMPILE]
GET = ["apt-get update -qq", "apt-get install -y -qq --no-install-recommends python3-venv"]
TOOLS = ("sh", "env", "cat", "cksum", "cp", "dirname", "flock", "mkdir", "mv", "rm", "touch")


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Place:
    """A checkout with nothing but pyproject.toml and scripts/venv, and a PATH of fakes that `state` switches."""

    def __init__(self, path: Path):
        self.path, self.state, self.bin = path / "it's a $HOME; checkout", path / "state", path / "bin"
        for folder in (self.path / "scripts", self.state, self.bin):
            folder.mkdir(parents=True)
        shutil.copy(ROOT / "scripts/venv", self.path / "scripts/venv")
        (self.path / "pyproject.toml").write_text("[project]\n")
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        program(self.bin / "python3", PYTHON)
        program(self.bin / "apt-get", APT)
        program(self.bin / "id", "#!/bin/sh\necho 0\n")
        (self.state / "ensurepip").touch()

    def venv(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "STATE": str(self.state)} | env
        return subprocess.run(["scripts/venv", *words], cwd=self.path, env=env, capture_output=True, text=True)

    def log(self) -> list[str]:
        """What was asked of the fakes since the last call."""
        path = self.state / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_first_call_makes_the_environment_and_the_second_does_nothing(place):
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == ["venv", *PIP]
    assert (place.path / ".venv/.ready-demo").exists()
    again = place.venv(*DEMO)
    assert (again.returncode, again.stdout, again.stderr, place.log()) == (0, "", "", [])


def test_a_changed_pyproject_installs_again_into_the_same_environment(place):
    place.venv(*DEMO)
    place.log()
    (place.path / "pyproject.toml").write_text('[project]\nname = "farmx"\n')
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == PIP
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == []


def test_another_purpose_installs_into_the_same_environment(place):
    place.venv(*DEMO)
    place.log()
    assert place.venv("test", "--editable", ".[test]").returncode == 0
    assert place.log() == [f"{INSTALL} --editable .[test]", COMPILE]
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == []


def test_an_environment_killed_while_it_was_made_is_made_again_from_nothing(place):
    (place.state / "killed").touch()
    assert place.venv(*DEMO).returncode == -9
    assert place.log() == ["venv", PIP[0]]
    (place.path / ".venv/half-unpacked").touch()
    (place.state / "killed").unlink()
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == ["venv", *PIP]
    left = sorted(path.name for path in (place.path / ".venv").iterdir())
    assert left == [".ready-demo", "bin"]


@pytest.mark.parametrize(("times", "asked"), [(1, PIP), (2, PIP[:1])])
def test_an_index_that_stumbles_is_asked_once_more(place, times, asked):
    for name in ("stumble", "again")[:times]:
        (place.state / name).touch()
    done = place.venv(*DEMO)
    assert (done.returncode, done.stderr.count("make: pip failed; once more")) == (times - 1, 1)
    assert place.log() == ["venv", PIP[0], *asked]
    assert (place.path / ".venv/.unfinished").exists() == (times == 2)


def test_an_environment_without_pip_is_made_again(place):
    (place.path / ".venv/bin").mkdir(parents=True)
    shutil.copy(place.bin / "python3", place.path / ".venv/bin/python")
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == ["venv", *PIP]


def test_somebody_elses_environment_is_used_and_kept(place):
    (place.path / ".venv/bin").mkdir(parents=True)
    shutil.copy(place.bin / "python3", place.path / ".venv/bin/python")
    (place.path / ".venv/bin/pip").touch()
    (place.path / ".venv/theirs").touch()
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == PIP
    assert (place.path / ".venv/theirs").exists()


def test_a_moved_checkout_installs_again(place):
    place.venv(*DEMO)
    place.log()
    place.path = place.path.rename(place.path.with_name("elsewhere"))
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == PIP


def test_root_without_ensurepip_gets_it_from_apt(place):
    (place.state / "ensurepip").unlink()
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == [*GET, "venv", *PIP]


def test_a_user_with_sudo_gets_ensurepip_from_apt(place):
    (place.state / "ensurepip").unlink()
    program(place.bin / "id", "#!/bin/sh\necho 1000\n")
    program(place.bin / "sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    (place.bin / "true").symlink_to(shutil.which("true"))
    assert place.venv(*DEMO).returncode == 0
    assert place.log() == [*GET, "venv", *PIP]


def no_python(place):
    (place.bin / "python3").unlink()


def old_python(place):
    (place.state / "old").touch()


def no_ensurepip(place):
    (place.state / "ensurepip").unlink()
    program(place.bin / "id", "#!/bin/sh\necho 1000\n")


def apt_refuses(place):
    (place.state / "ensurepip").unlink()
    (place.state / "refuses").touch()


def useless_apt(place):
    (place.state / "ensurepip").unlink()
    program(place.bin / "apt-get", "#!/bin/sh\n")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (no_python, "make: no python3 here; install Python 3.10 or newer, or set PYTHON to one"),
        (old_python, "make: farmx needs Python 3.10 or newer; Python 3.9.2 is too old: set PYTHON to another"),
        (
            no_ensurepip,
            "make: python3 cannot make a virtual environment; install it first: apt-get install python3-venv",
        ),
        (apt_refuses, "make: apt-get update failed; install python3-venv yourself and call make again"),
        (useless_apt, "make: python3 still has no ensurepip after installing python3-venv; set PYTHON to one that has"),
    ],
)
def test_what_is_missing_is_said_in_one_line_and_nothing_is_made(place, broken, says):
    broken(place)
    done = place.venv(*DEMO)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == says
    assert not (place.path / ".venv").exists()


def test_the_place_can_be_named_and_leaves_the_projects_own_alone(place):
    place.venv(*DEMO)
    place.log()
    words = ("farms", "some-client==1")
    assert place.venv(*words, FARMX_VENV=".venv-farms").returncode == 0
    assert place.log() == ["venv", f"{INSTALL} some-client==1", COMPILE.replace(".venv", ".venv-farms")]
    assert place.venv(*words, FARMX_VENV=".venv-farms").returncode == 0
    assert (place.log(), (place.path / ".venv/.ready-farms").exists()) == ([], False)


def test_python_can_be_named(place):
    (place.bin / "python3").rename(place.bin / "python3.12")
    assert place.venv(*DEMO, PYTHON="python3.12").returncode == 0
    assert place.log() == ["venv", *PIP]


def test_no_host_and_no_index_is_named():
    for name in ("Makefile", "scripts/venv", ".ci/run", "pyproject.toml"):
        assert not re.search(r"://|index-url|find-links", (ROOT / name).read_text()), name


def test_make_alone_lists_every_target():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert [line.split()[1] for line in listed.splitlines()] == [name for name in targets if name != "venv"]
