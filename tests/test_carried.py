"""What is carried to nodes: one file that needs a Python and nothing else."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

from launching import PLACE, ROOT

from farmx.farms import carried


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
    assert names == sorted(["__main__.py", "farmx/__init__.py", *(f"farmx/{name}.py" for name in imported("node"))])
    code = f"import sys; sys.path[:] = [{path!r}, *(each for each in sys.path if 'site-packages' not in each)]"
    subprocess.run([sys.executable, "-I", "-S", "-c", f"{code}\nfrom farmx import node"], check=True)


def test_the_command_runs_from_a_directory_of_any_name_whatever_modules_lie_around(tmp_path):
    home = tmp_path / PLACE / ".farmx"
    submission = home / "submissions" / "id"
    submission.mkdir(parents=True)
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    line = carried.command(str(submission), "0")
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": "."})
    assert f"FileNotFoundError: [Errno 2] No such file or directory: {str(submission / 'job.json')!r}" in done.stderr
