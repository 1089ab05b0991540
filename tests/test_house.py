"""The rules of the house that no single module can keep: who imports whom, sizes, weight at import, errors."""

import ast
import os
import re
import statistics
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from farmx import errors
from farmx.version import __version__

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "farmx"

# A module imports only from levels above its own, so there is no cycle either. NAME.* are the leaves of a package.
LADDER = (
    ("version", "errors"),
    ("layout",),
    ("spec", "yaml12", "processes", "lines", "several", "needs", "logdirs", "interpreter", "provenance",
     "shelltext", "stages", "containers", "whereabouts"),
    ("policy", "evidence", "packs", "outfit", "pickles"),
    ("runner", "breaker", "metric_rows", "checkpoints", "boards", "settings", "templates"),
    ("remedies", "notices", "scheduler"),
    ("logx", "pipeline", "packed"),
    ("node", "config", "sweep", "metrics", "manifest", "records"),
    ("snapshot",),
    ("plan", "farms.base", "farms.beside"),
    ("farms",),
    ("polls", "farms.calls", "farms.carried", "farms.slurm_words", "farms.command_words", "farms.gpus",
     "farms.together"),
    ("farms.shares",),
    ("farms.command_asked", "farms.worker"),
    ("farms.slurm_script",),
    ("farms.slurm_queue", "farms.slurm_check", "farms.slurm_left", "farms.sentinel"),
    ("farms.*",),
    ("sites",),
    ("verdicts", "programs", "chains"),
    ("drills", "stage", "status", "steps"),
    ("sumx", "claims"),
    ("orders",),
    ("reports", "naming"),
    ("reports.*", "launcher", "relaunch", "logs", "outbox", "messages"),
    ("why", "clean"),
    ("compose",),
    ("cli", "cli.surroundings"),
    ("cli.options", "cli.screen", "cli.telling"),
    ("cli.notifying",),
    ("cli.here", "cli.looking", "cli.notify", "cli.logs", "cli.why", "cli.cleaning", "cli.init"),
    ("cli.detached",),
    ("cli.there", "cli.pruning"),
    ("cli.launching", "cli.watching"),
    ("cli.relaunching", "cli.drill", "cli.tending", "api"),
    ("cli.main",),
    ("cli.sumx",),
    ("__main__",),
    ("testing",),
)
# Import this much of farmx and no more: the last two are carried to nodes, with what they import.
ALONE = {
    "version": set(),
    "errors": set(),
    "layout": {"errors"},
    "processes": set(),
    "stages": {"layout"},
    "containers": {"errors", "layout"},
    "needs": set(),
    "policy": {"errors", "needs"},
    "evidence": {"layout"},
    "breaker": {"errors", "evidence", "layout"},
    "remedies": {"breaker", "evidence", "layout", "needs", "policy", "runner", "stages"},
    "outfit": {"layout"},
    "whereabouts": {"errors", "layout"},
    "runner": {"errors", "layout", "outfit", "processes", "stages"},
    "notices": {"breaker", "errors", "evidence", "layout"},
    "scheduler": {"breaker", "errors", "layout", "runner"},
    "packs": {"errors", "needs"},
    "packed": {"processes", "runner"},
    "node": {"breaker", "containers", "errors", "layout", "notices", "packed", "packs", "processes", "remedies",
             "runner", "scheduler", "stages", "whereabouts"},
}
STDLIB_AT_IMPORT = ("layout", "logx", "runner", "processes")  # by training scripts and on nodes
LEAVES = ("farms.", "reports.")  # import none of:
ABOVE_LEAVES = {"launcher", "relaunch", "naming", "compose", "config", "cli", "api"}

# Who may see the process around us; everybody else gets it as an argument. `cli` stands for all of the package.
# How old is a file; when did this happen.
AGES = ("layout", "farms.base", "farms.local", "farms.slurm", "farms.command", "boards", "records", "polls")
SEES = {
    "sys.argv": {"cli", "runner", "__main__"},
    "os.getcwd": {"cli", "api"},
    "Path.cwd": {"cli", "api"},
    "time.time": {"cli", "api", "runner", "logx", *AGES},
    "print": {"cli", "logx", "runner", "node", "farms.local"},
    "input": {"cli"},
    "sys.exit": {"cli", "runner"},
}

# What `import NAME` may not load, beside what a bare python loads.
HEAVY = {"apprise", "torch", "numpy", "submitit", "git", "coolname", "tabulate", "rich", "tensorboard", "yaml", "click",
         "pickle"}  # fmt: skip
SLOW = {"dataclasses", "inspect", "logging", "subprocess", "tempfile", "asyncio"}
WEIGHT = {
    "farmx": HEAVY | {"json", "typing", "re", "farmx.errors", "farmx.logx", "farmx.layout", "farmx.api"},
    "farmx.version": HEAVY | {"json", "typing", "re"},
    "farmx.logx": HEAVY | SLOW | {"typing", "farmx.spec"},
    "farmx.runner": HEAVY | SLOW,
    "farmx.cli.main": HEAVY - {"click"},
    "farmx.api": HEAVY,
    "farmx.farms.worker": HEAVY | SLOW | {"farmx.spec", "farmx.farms.base", "random", "ctypes", "decimal"},
}
# What a command may not load, beside what a bare python loads.
LOOKS = {"dataclasses", "subprocess", "shutil", "socket", "ctypes", "getpass", "random", "hashlib", "tempfile", "git"}
TABLES = (HEAVY | LOOKS | {"farmx.runner", "farmx.launcher"}) - {"click", "yaml"}
COMMANDS = {
    "farmx --help": (HEAVY | LOOKS | {"json", "farmx.spec", "farmx.config"}) - {"click", "shutil"},
    "farmx sweep.yml -n": TABLES | {"farmx.layout"},
    "farmx status": TABLES,
    "sumx sweep": TABLES,
    "sumx sweep --json": TABLES,
}


DEF = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(HOME.rglob("*.py"))}
NAMED = {name: path for name, path in MODULES.items() if name}  # but farmx/__init__.py
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
NODES = [(name, node) for name, tree in TREES.items() for node in ast.walk(tree)]


def level_of(name: str) -> int:
    """The level of a module; its own line of the ladder goes before its package's."""
    package = name.rpartition(".")[0] + ".*"
    found = [level for word in (name, package) for level, names in enumerate(LADDER) if word in names]
    assert found, f"{name} is not in the ladder"
    return found[0]


def ours(module: str, names: list[str]) -> set[str]:
    """What `from module import names` brings of farmx, as names of modules: `from farmx import plan` is plan."""
    inside = [f"{module}.{name}".removeprefix("farmx.") for name in names]
    modules = {name for name in inside if name in MODULES}
    home = module.removeprefix("farmx").removeprefix(".")
    return modules | ({home} if home and len(modules) < len(names) else set())


def imported(tree: ast.AST) -> set[str]:
    """The modules of farmx that it imports, wherever: at the top, in functions, for type checkers."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.name.removeprefix("farmx.") for one in node.names if one.name.startswith("farmx.")}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the ladder"
            if (node.module or "").split(".")[0] == "farmx":
                found |= ours(node.module, [one.name for one in node.names])
    return found


IMPORTS = [(name, other) for name in NAMED for other in imported(TREES[name])]


def others_at_import(tree: ast.Module) -> set[str]:
    """The packages that importing it imports, ours left out."""
    found = {one.name for node in tree.body if isinstance(node, ast.Import) for one in node.names}
    found |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in found} - {"farmx"}


def functions(tree: ast.AST) -> list[tuple[str, int]]:
    """(name, lines) of each function, from its def to its end, its docstring left out."""
    return [(node.name, lines(node)) for node in ast.walk(tree) if isinstance(node, DEF)]


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    said = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
    return node.end_lineno - node.lineno + 1 - said


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    a = node.args
    named = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [one for one in named if one.arg not in ("self", "cls")]


# ---------------------------------------------------------------- modules


def test_the_ladder_and_the_package_name_the_same_modules():
    lines = [name for names in LADDER for name in names]
    assert len(lines) == len(set(lines))
    packages = tuple(name[:-1] for name in lines if name.endswith(".*"))
    inside = [name for name in NAMED if name not in lines and not name.startswith(packages)]
    assert inside == []
    assert [name for name in lines if not name.endswith(".*") and name not in NAMED] == []


def architecture() -> list[tuple[int, str]]:
    """(line, module or package) of the table of CONTRIBUTING.md, in order."""
    table = re.search(r"\| module, .*?\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[0]
    rows = enumerate(row.split("|")[1] for row in table.split("\n")[2:-2])
    return [(line, name) for line, cell in rows for name in re.findall(r"`(\w+)/?`", cell)]


def test_the_architecture_names_every_module_once():
    tops = {name.split(".")[0] for name in NAMED} - {"version", "__main__"}
    assert sorted(name for _, name in architecture()) == sorted(tops)


def test_the_architecture_tells_a_module_after_all_that_it_imports():
    lines = {"version": -1, "__main__": len(NAMED)} | {name: line for line, name in architecture()}
    assert [(name, other) for name, other in IMPORTS if lines[other.split(".")[0]] > lines[name.split(".")[0]]] == []


def test_the_architecture_tells_every_name_on_disk_and_who_writes_it():
    text = (HOME / "layout.py").read_text().partition("# LOGROOT/")[2].partition("# Of run.json")[0]
    names = re.findall(r'^[A-Z_]+ = "(.+)"  # (\w+)', text, re.MULTILINE)
    assert len(names) == len(re.findall("^[A-Z]", text, re.MULTILINE))
    tree = re.search(r"^    LOGROOT/.*?\n((?: .*\n)+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)[1]
    rows = [(row[:33], row[33:].split()[0]) for row in tree.splitlines()]
    told = {(part, writer) for cell, writer in rows for part in re.split("[/, ]+", cell)}
    fixed = {(part.partition("<")[0] or part.rpartition(">")[2], writer) for part, writer in told}
    assert [name for name in names if name not in fixed] == []


def test_a_module_imports_only_from_levels_above_its_own():
    assert [(name, other) for name, other in IMPORTS if level_of(other) >= level_of(name)] == []


def test_some_modules_stand_alone():
    assert {name: imported(TREES[name]) for name in ALONE} == ALONE


def test_a_leaf_does_not_know_who_uses_it():
    leaves = [name for name in NAMED if name.startswith(LEAVES)]
    assert [(name, other) for name in leaves for other in imported(TREES[name]) & ABOVE_LEAVES] == []


def test_what_programs_import_stands_on_the_standard_library():
    library = set(sys.stdlib_module_names)
    assert [(name, other) for name in STDLIB_AT_IMPORT for other in others_at_import(TREES[name]) - library] == []


def test_pytest_is_imported_by_what_others_test_their_farms_with_alone():
    inside = [name for name, tree in TREES.items() if re.search(r"\b(import|from) pytest\b", ast.unparse(tree))]
    assert inside == ["testing"]


def test_a_module_has_a_docstring_and_fits():
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []
    sizes = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: size for name, size in sizes.items() if size > 450} == {}


def test_functions_fit():
    sizes = [(size, f"{name}:{function}") for name, tree in TREES.items() for function, size in functions(tree)]
    assert max(sizes) <= (60, ""), max(sizes)
    assert statistics.median(size for size, _ in sizes) <= 7
    assert sum(size <= 25 for size, _ in sizes) >= 0.9 * len(sizes)


def test_every_argument_is_typed_and_nothing_catches_everything():
    for name, node in NODES:
        if isinstance(node, DEF):
            assert [one.arg for one in arguments(node) if one.annotation is None] == [], (name, node.name)
        if isinstance(node, ast.ExceptHandler):
            caught = {dotted(one) for one in ast.walk(node.type)} if node.type else {"Exception"}
            assert not caught & {"Exception", "BaseException"}, f"{name}, line {node.lineno}"


def test_only_the_edges_see_the_process_around_them():
    both = {(name, dotted(node)) for name, node in NODES if isinstance(node, ast.Attribute | ast.Name)}
    edges = [("cli" if name.startswith("cli.") else name, what) for name, what in both]
    assert [(whose, what) for whose, what in edges if whose not in SEES.get(what, {whose})] == []


# ---------------------------------------------------------------- weight


def loaded(code: str) -> set[str]:
    """The modules in memory after a fresh python ran `code`."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def bare():
    return loaded("")


@pytest.mark.parametrize("name", WEIGHT)
def test_importing_a_module_does_not_load_what_only_some_of_its_functions_need(name, bare):
    assert (loaded(f"import {name}") - bare) & WEIGHT[name] == set()


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_does_not_load_what_it_does_not_need(line, bare, tmp_path):
    (tmp_path / "sweep.yml").write_text("CMD: 'true'\n")
    (tmp_path / "runs/sweep/one").mkdir(parents=True)
    (tmp_path / "runs/sweep/one/hparams.json").write_text("{}")
    name, *words = line.split()
    start = f"import sys, atexit\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\nsys.argv[1:] = {words}"
    command = next(one for one in entry_points(group="console_scripts") if one.name == name)
    code = f"{start}\nfrom {command.module} import {command.attr}\n{command.attr}()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    clicks = {"subprocess"} if sys.version_info < (3, 11) else set()  # click's uuid's platform loads it in Python 3.10
    assert (set(done.stderr.splitlines()[-1].split()) - bare) & COMMANDS[line] - clicks == set()


STARTS = {
    "a script": ("scripts", ["scripts/farmx"]),
    "a script by its path": ("scripts", ["{}/scripts/farmx"]),
    "a script in a linked directory": ("scripts", ["{}/linked/farmx"]),
    "a module": (".", ["-m", "farmx"]),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_module_beside_the_script_or_in_the_directory_is_not_imported(start, tmp_path):
    place, words = STARTS[start]
    (tmp_path / "scripts").mkdir()
    (tmp_path / "linked").symlink_to("scripts")
    (tmp_path / "scripts/farmx").write_text("from farmx.__main__ import farmx\nfarmx()\n")
    (tmp_path / place / "click.py").write_text("raise SystemExit('not ours')\n")
    line = [sys.executable, *(word.format(tmp_path) for word in words), "--version"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"farmx, version {__version__}\n", "")


@pytest.mark.parametrize("command", ["farmx", "sumx"])
def test_ctrl_c_while_a_command_is_loaded_ends_it_without_a_word(command, tmp_path):
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    code = f"import sys; from farmx.__main__ import {command}; sys.path.insert(0, sys.argv[1]); {command}()"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_command_that_ends_looks_for_no_garbage(tmp_path):
    told = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0))"
    code = f"{told}; import sys; sys.argv[1:] = ['no.yml', '-n']; from farmx.__main__ import farmx; farmx()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "True\n"), done.stderr


ENDS = """
import atexit, os, sys, threading, time
class Freed:
    def __del__(self): os.write(1, b"freed\\n")
sys.freed = Freed()
atexit.register(print, "registered")
threading.Thread(target=lambda: (time.sleep(0.2), print("from a thread"))).start()
sys.argv[1:] = WORDS
from farmx.__main__ import farmx
farmx()
"""


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["no.yml", "-n"], 2)])
def test_a_command_ends_as_python_does_but_frees_nothing_one_by_one(words, code, tmp_path):
    program = ENDS.replace("WORDS", repr(words))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (code, ["from a thread", "registered"]), done.stderr


def test_what_is_said_at_the_end_and_cannot_be_written_is_told_by_pythons_exit_code(tmp_path):
    code = "import atexit, sys; sys.argv[1:] = ['no.yml', '-n']; atexit.register(sys.stdout.write, 'x'); "
    code += "from farmx.__main__ import farmx; farmx()"
    with open("/dev/full", "w") as full:
        env = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=env)
    assert done.returncode == 120


@pytest.mark.parametrize("first", ["", "import farmx.logx, farmx.api"])
def test_the_package_gives_its_three_names_whatever_was_imported_before(first):
    again = "from farmx import launch, logx, runs\nassert callable(launch) and callable(runs) and logx.metric\n"
    loaded(f"{first}\n{again * 2}")


# ---------------------------------------------------------------- errors


def subclasses(of: type) -> list[type]:
    return [one for child in of.__subclasses__() for one in (child, *subclasses(child))]


def test_every_error_is_in_the_tree_with_its_exit_code():
    told = dict(re.findall(r"(?:── )?(\w+Error)\s+(\d+)  ", errors.__doc__))
    tree = [errors.FarmxError, *(one for one in subclasses(errors.FarmxError) if one.__module__ == "farmx.errors")]
    assert told == {one.__name__: str(one.exit_code) for one in tree}
    assert all(one.__doc__ for one in tree)


def test_errors_have_one_home():
    made = [(name, node.name) for name, node in NODES if isinstance(node, ast.ClassDef) and name != "errors"]
    assert [one for one in made if one[1].endswith("Error")] == []
