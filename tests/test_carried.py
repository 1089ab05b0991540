"""What is carried to nodes: one file that needs a Python and nothing else."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from launching import PLACE, ROOT, Place, end

from farmx import layout
from farmx.farms import base, carried
from farmx.spec import Job


def test_the_runner_is_written_once_for_each_version(tmp_path):
    first = Path(carried.runner(str(tmp_path)))
    before = first.stat()
    assert Path(carried.runner(str(tmp_path))) == first
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(tmp_path.iterdir()) == [first]


def imported(module: str) -> set[str]:
    """The modules of ours that it imports, in functions too, and those that they import."""
    found, todo = set[str](), {module}
    while todo - found:
        name = (todo - found).pop()
        found.add(name)
        for node in ast.walk(ast.parse(Path(ROOT, "farmx", f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "farmx":
                todo |= {each.name for each in node.names}
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("farmx."):
                todo.add(node.module.removeprefix("farmx."))
    return found


def test_it_holds_what_it_imports_and_nothing_else(tmp_path):
    path = carried.runner(str(tmp_path))
    with zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
    modules = [f"farmx/{name}.{kind}" for name in imported("node") for kind in ("py", "pyc")]
    assert names == sorted(["__main__.py", "farmx/__init__.py", *modules])
    code = f"import sys; sys.path[:] = [{path!r}, *(each for each in sys.path if 'site-packages' not in each)]"
    subprocess.run([sys.executable, "-I", "-S", "-c", f"{code}\nfrom farmx import node"], check=True)


SPOILED = {  # what became of a member -> what it is then
    ".py": lambda text: b"raise SystemExit('compiled anew')",  # so only what was compiled before is of use
    ".pyc": lambda code: b"\0\0\0\0" + code[4:],  # so it is of another Python than that of the node
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_node_takes_what_was_compiled_and_the_text_where_its_python_is_another(tmp_path, kind):
    path, spoiled = carried.runner(str(tmp_path)), str(tmp_path / "spoiled.pyz")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(spoiled, "w") as made:
        for name in archive.namelist():
            whole = f"{name.removesuffix(kind)}.py" + ("" if kind == ".pyc" else "c") not in archive.namelist()
            text = archive.read(name)
            made.writestr(name, text if whole or not name.endswith(kind) else SPOILED[kind](text))
    done = [subprocess.run([sys.executable, "-I", "-S", each, "/none", "0"], capture_output=True, text=True)
            for each in (path, spoiled)]  # fmt: skip
    told = (1, "", "/none/job.json: No such file or directory\n")
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == [told, told]


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Launched by the Python of an environment in which something stops whoever looks for what is installed."""
    home = tmp_path / "environment"
    installed = home / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    installed.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (home / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    (installed / "stop.pth").write_text("import os; os.write(1, b'found'); os._exit(9)\n")
    monkeypatch.setattr(sys, "executable", str(home / "bin" / "python"))
    assert subprocess.run([sys.executable, "-I", "-c", ""], capture_output=True).stdout == b"found"


def test_the_command_runs_from_a_directory_of_any_name_whatever_lies_around_or_is_installed(tmp_path, python):
    home = tmp_path / PLACE / ".farmx"
    submission = home / "submissions" / "id"
    submission.mkdir(parents=True)
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    line = carried.command(str(submission), "0")
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": "."})
    told = f"{submission / 'job.json'}: No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


@pytest.fixture
def latin(tmp_path):
    """The environment of a node whose names and texts are not UTF-8."""
    made = tmp_path / "locales" / "en_US.ISO-8859-1"
    made.parent.mkdir()
    charmap = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", "--no-archive", str(made)]
    if not shutil.which("localedef") or subprocess.run(charmap, capture_output=True).returncode:
        pytest.skip("this machine has no other locale, and none can be made")
    return {**os.environ, "LOCPATH": str(made.parent), "LC_ALL": made.name}


def test_a_node_finds_runs_of_any_name_whatever_its_locale(tmp_path, latin):
    code = "import sys; print(sys.getfilesystemencoding())"
    encoding = subprocess.run([sys.executable, "-I", "-c", code], env=latin, capture_output=True, text=True).stdout
    assert encoding == "iso8859-1\n"
    place = Place(tmp_path / "größe")
    run = place.shell("printf '%s\\n' \"$FARMX_RUN\"", name="ré 漢 \udcff")
    submission = base.submission(str(place.experiment / ".farmx/submissions"), "größe", [Job(run, "1.0")]).path
    layout.write_json(os.path.join(submission, layout.JOB), {"format": 1, "farm": "big", "executor": "command"})
    line = os.fsencode(carried.command(submission, "0"))
    done = subprocess.run(["sh", "-c", line], env=latin, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == os.fsencode(f"{os.path.basename(run)} 1.0 done\n")
    assert end(run)["state"] == "done"
    assert Path(run, layout.OUTPUT).read_bytes() == os.fsencode(f"{run}\n")
