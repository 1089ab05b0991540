"""stage: what launch.sh gives a program, from the runner and by hand, and the run directory around it."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from attempts import TORN
from launching import HOSTILE, PLACE, Place, execute, lost, output, spec, tree
from rights import ordinary_rights

from farmx import layout, plan, stage, status, templates, whereabouts
from farmx.errors import RecordError, StageError
from farmx.spec import Goal, RunSpec
from farmx.version import __version__

DUMP = """
import json, os, sys
told = {"argv": sys.argv[1:], "cwd": os.getcwd(), "path": sys.path[1:], "env": dict(os.environ)}
print(json.dumps(told))
"""


DATA = Path(__file__).parent / "data"


@pytest.fixture
def place(tmp_path):
    """An experiment in a directory whose name needs every quote there is; its program tells what it was given."""
    made = Place(tmp_path / PLACE)
    (made.source / "dump.py").write_text(DUMP)
    return made


def by_runner(run: str) -> dict:
    """What the program tells when the runner starts it."""
    assert execute(run).state == "done", output(run)
    return json.loads(output(run))


def by_hand(run: str, how: str = "{}", cwd: str = "/", **env: str) -> dict:
    """What the program tells when a person starts launch.sh; how: the words before it and its path as {}."""
    words = [word.format(os.path.join(run, layout.LAUNCH)) for word in how.split()]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **env})
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


WAYS = [by_runner, by_hand, lambda run: by_hand(run, "sh {}"), lambda run: by_hand(run, "bash {}"),
        lambda run: by_hand(run, "sh launch.sh", run), lambda run: by_hand(run, "./launch.sh", run)]  # fmt: skip
ways = pytest.mark.parametrize("way", WAYS, ids=["runner", "by hand", "sh", "bash", "sh inside", "inside"])
PYTHON = (sys.executable, "dump.py")


# ---------------------------------------------------------------- words


@ways
@pytest.mark.parametrize("shell", [None, "cd . && python dump.py"], ids=["words", "shell text"])
def test_every_word_arrives_as_it_was_written(place, way, shell):
    run = place.run((*PYTHON, *HOSTILE), hparams={"a": HOSTILE}, shell=shell)
    told = way(run)
    ours = [] if shell else HOSTILE
    assert told["argv"] == [*ours, "--a", *HOSTILE]
    assert told["cwd"] == os.path.realpath(os.path.join(run, "code"))


@ways
@pytest.mark.parametrize("shell", [None, "true; python dump.py"], ids=["words", "shell text"])
def test_logdir_is_the_directory_of_the_run_wherever_it_stands(place, way, shell):
    words = ["LOGDIR", "LOGDIR/x y", "out=LOGDIR", "xLOGDIRy", "LOGDIR:LOGDIR", "'LOGDIR'", '"LOGDIR"', "$HOME LOGDIR"]
    run = place.run(PYTHON, hparams={"a": words}, shell=shell, env={"OUT": "it's LOGDIR;$HOME", "E": ""})
    told = way(run)
    assert told["argv"] == ["--a", *(word.replace("LOGDIR", run) for word in words)]
    assert {name: told["env"][name] for name in ("OUT", "E", "LOGDIR")} == {
        "OUT": f"it's {run};$HOME", "E": "", "LOGDIR": run
    }  # fmt: skip


TEXTS = [
    # what a user writes after `printf '%s\n'`, what the program gets, @ for the run's directory
    ("LOGDIR", ["@"]),
    ("LOGDIR/a", ["@/a"]),
    ("'LOGDIR/a b'", ["@/a b"]),
    ('"LOGDIR/a b"', ["@/a b"]),
    ('x"LOGDIR"y', ["x@y"]),
    ("a'b'LOGDIR'c'", ["ab@c"]),
    (r"it\'s LOGDIR", ["it's", "@"]),
    (r'"say \"LOGDIR\""', ['say "@"']),
    (r"'back\' LOGDIR", ["back\\", "@"]),
    (r'"a\\" LOGDIR', ["a\\", "@"]),
    ('"it\'s LOGDIR"', ["it's @"]),
    ("'\"' LOGDIR '\"'", ['"', "@", '"']),
    ("$LOGDIR_NOT_SET'x'", ["x"]),
    ('"$LOGDIR/a"', ["@/a"]),
    ('"${LOGDIR}/a"', ["@/a"]),
    ('"${LOGDIR##*/}"', ["one"]),
    ("'$LOGDIR'", ["$LOGDIR"]),
    ('"$(echo "LOGDIR" | tail -c 4)"', ["one"]),
    ('"$(basename "LOGDIR")" LOGDIR', ["one", "@"]),
    (r"\LOGDIR", ["LOGDIR"]),
    (r"\\LOGDIR", ["\\@"]),
    ("größe=LOGDIR", ["größe=@"]),
    (r"$'it\'s' LOGDIR", ["it's", "@"]),
    (r"$'it\'s LOGDIR\n'", ["it's @\n"]),
    ("$(basename 'LOGDIR') LOGDIR", ["one", "@"]),
    ("$( (basename LOGDIR) ) 'LOGDIR'", ["one", "@"]),
    ("\"$(basename 'LOGDIR') it's\" LOGDIR", ["one it's", "@"]),
]


@pytest.mark.parametrize("text, told", TEXTS, ids=[row[0] for row in TEXTS])
def test_logdir_in_shell_text_is_quoted_as_its_place_needs(place, text, told):
    run = place.run(shell=f"printf '%s\\0' {text}")
    done = subprocess.run([os.path.join(run, layout.LAUNCH)], capture_output=True)
    assert done.stdout.decode().split("\0")[:-1] == [word.replace("@", run) for word in told]
    assert (done.returncode, done.stderr) == (0, b"")


def test_shell_text_is_bash_and_its_exit_code_the_last_commands(place):
    run = place.run(shell="a=(1 2); [[ ${#a[@]} == 2 ]] && (exit 3)")
    assert subprocess.run([os.path.join(run, layout.LAUNCH)]).returncode == 3


def test_a_program_that_cannot_be_found_is_an_error_of_the_shell(place):
    run = place.run(("no-such-program", "x"))
    done = subprocess.run([os.path.join(run, layout.LAUNCH)], capture_output=True, text=True)
    assert done.returncode == 127 and "no-such-program: not found" in done.stderr


# ---------------------------------------------------------------- environment


@ways
def test_the_environment_is_what_the_launching_shell_had_then_env_then_setup_then_pythonpath(place, way, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/venv of it's")
    monkeypatch.setenv("CONDA_PREFIX", "/conda\n$HOME")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/lib:/größe")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin:/a b"
    monkeypatch.setenv("PATH", path)
    setup = 'export A="$A+setup"\nmodule() { export PYTHONPATH=/module:$PYTHONPATH; }\nmodule load x'
    run = place.run(PYTHON, env={"A": "env", "B": "$A"}, setup=setup, pythonpath=("LOGDIR/code/lib", "/p q"))
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", "/inherited")
    told = way(run)
    assert {name: told["env"].get(name) for name in (*stage.SHELL_RECORD, "A", "B")} == {
        "PATH": path,
        "VIRTUAL_ENV": "/venv of it's",
        "CONDA_PREFIX": "/conda\n$HOME",
        "LD_LIBRARY_PATH": "/lib:/größe",
        "A": "env+setup",
        "B": "$A",
    }
    assert told["path"][:3] == [f"{run}/code/lib", "/p q", "/module"]


def test_an_inherited_pythonpath_comes_last_and_none_leaves_no_empty_entry(place):
    run = place.run(PYTHON, pythonpath=("LOGDIR/code", "LOGDIR/code/lib"))
    ours = f"{run}/code:{run}/code/lib"
    assert by_hand(run)["env"]["PYTHONPATH"] == ours
    assert by_hand(run, PYTHONPATH="/a b:/c")["env"]["PYTHONPATH"] == f"{ours}:/a b:/c"


def test_a_cdpath_of_the_person_at_the_shell_leads_nowhere_else(place, tmp_path):
    run = place.run(PYTHON)
    relative = os.path.relpath(run, tmp_path)
    (tmp_path / "elsewhere" / relative / "code").mkdir(parents=True)
    script = os.path.join(relative, layout.LAUNCH)
    done = subprocess.run(
        ["sh", script], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "CDPATH": str(tmp_path / "elsewhere")},
    )  # fmt: skip
    assert json.loads(done.stdout)["env"]["LOGDIR"] == run


@pytest.mark.parametrize("how", ["renamed", "copied"])
def test_a_run_that_was_renamed_or_copied_runs_by_hand_in_its_new_place(place, how):
    run = place.run(PYTHON, hparams={"out": "LOGDIR"})
    assert execute(run).state == "done"
    other = os.path.join(os.path.dirname(run), "other name")
    if how == "renamed":
        os.rename(run, other)
    else:
        shutil.copytree(run, other, symlinks=True)
    told = by_hand(other)
    assert (told["argv"], told["cwd"]) == (["--out", other], os.path.realpath(os.path.join(other, "code")))


def test_a_run_without_code_does_not_run_elsewhere(place):
    run = place.run(PYTHON)
    os.unlink(os.path.join(run, layout.CODE))
    done = subprocess.run([os.path.join(run, layout.LAUNCH)], capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == ""


# ---------------------------------------------------------------- the text of launch.sh

PLAIN = f"""#!/bin/sh
# run one of experiment my sweep, by farmx {__version__}; runs by hand too
case $0 in */*) CDPATH= cd -- "${{0%/*}}" || exit 1 ;; esac
export LOGDIR="$PWD"
export PATH=/bin
export A='it'"'"'s '"$LOGDIR"
export PYTHONPATH="$LOGDIR"/code:lib"${{PYTHONPATH:+:$PYTHONPATH}}"
cd -- "$LOGDIR"/code || exit 1
exec python t.py --lr 1e-3 --note 'a b'
"""
SHELL = f"""#!/bin/bash
# run one of experiment my sweep, by farmx {__version__}; runs by hand too
case $0 in */*) CDPATH= cd -- "${{0%/*}}" || exit 1 ;; esac
export LOGDIR="$PWD"
module load cuda
export PYTHONPATH="$LOGDIR"/code"${{PYTHONPATH:+:$PYTHONPATH}}"
cd -- "$LOGDIR"/code || exit 1
X="${{LOGDIR}}" python t.py > "$LOGDIR"/log
"""


def script(made: RunSpec, environ: dict[str, str]) -> str:
    shared = stage.Shared("my\nsweep", "sweep.yml", "d", {}, environ, 1.0)
    told = json.loads(stage.text(made, "one", 1, shared))
    assert told["script"] == stage.script(told, environ)
    return told["script"]


def test_launch_sh_is_readable():
    hparams = {"lr": 0.001, "note": "a b"}
    made = spec(("python", "t.py"), hparams, env={"A": "it's LOGDIR"}, pythonpath=("LOGDIR/code", "lib"))
    assert script(made, {"PATH": "/bin", "HOME": "/root", "CONDA_PREFIX": ""}) == PLAIN.replace("1e-3", "0.001")
    shell = spec((), shell='X="LOGDIR" python t.py > LOGDIR/log', setup="module load cuda")
    assert script(shell, {}) == SHELL


def test_secrets_that_are_passed_by_name_are_written_nowhere(place, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cr3t")
    run = place.run(PYTHON, env_pass=("TOKEN",))
    assert by_runner(run)["env"]["TOKEN"] == "s3cr3t"
    Path(run, layout.OUTPUT).resolve().unlink()
    os.unlink(os.path.join(run, layout.OUTPUT))
    assert [name for name, text in tree(Path(run)).items() if "s3cr3t" in text] == []


# ---------------------------------------------------------------- the run directory


def shared(place: Place, **more: object) -> stage.Shared:
    given = {"digest": "d", "code": {"staging": "link", "source": "/s"}, "environ": {"PATH": "/bin"}, "now": 7.5}
    return stage.Shared(place.experiment.name, "/s/sweep.yml", **{**given, **more})


def test_a_run_is_one_record_which_says_all(place):
    made = spec(("t",), {"lr": 0.1, "x": None, "f": float("nan")}, goal=Goal("val/acc", "max"), env_pass=("T",))
    stage.run(str(place.experiment), made, "one", 3, shared(place))
    path = place.experiment / "one"
    told = json.loads((path / "run.json").read_text())
    bare = {key: value for key, value in told.items() if key != "script"}
    assert told["script"] == stage.script(bare, {"PATH": "/bin"})
    assert bare == {
        "format": 2,
        "run": "one",
        "experiment": "sweep",
        "point": made.identity,
        "hparams": {"lr": 0.1, "x": None, "f": "NaN"},
        "generation": 3,
        "identity": dict(made.preimage),
        "tag": None,
        "stages": [{"name": "main", "words": ["t", "--lr", "0.1", "--f", "nan"]}],
        "env": {},
        "env_pass": ["T"],
        "setup": "",
        "pythonpath": ["LOGDIR/code"],
        "resources": {},
        "goal": {"metric": "val/acc", "mode": "max"},
        "digest": "d",
        "code": {"staging": "link", "source": "/s"},
        "sweep": "/s/sweep.yml",
        "staged": 7.5,
    }
    assert tree(path) == {"run.json": json.dumps(told) + "\n"}
    assert sorted(os.listdir(place.experiment)) == [".farmx", "one"]


DIFFERENT = [  # in what each says of itself, beside a run of `true`: the spec and what of Shared
    ({}, {}),
    ({"env": {"A": "it's $HOME;\n漢\udcff"}}, {}),
    ({"setup": 'module load "x"\\'}, {}),
    ({"resources": {"gpus": 1}}, {}),
    ({"resources": {"gpus": True}}, {}),
    ({"resources": {"gpus": 1.0, "deep": [{"x": float("inf")}]}}, {}),
    ({"env_pass": ("T",), "pythonpath": ()}, {}),
    ({"goal": Goal("val/acc", "max"), "breaker": 3, "sentinel": True}, {}),
    ({"retry": {"oom": {"mem": "x1.5"}}}, {}),
    ({"container": {"image": "/i", "mounts": [], "runtime": "apptainer", "args": []}}, {}),
    ({"shell": "true"}, {}),
    ({"shell": "echo $_name"}, {}),
    ({"shell": "echo $_time $_name"}, {}),
    ({}, {"environ": {"PATH": "/else where", "VIRTUAL_ENV": "/v"}}),
    ({}, {"only": {"1": ("main",)}}),
    ({}, {"now": 8.5, "digest": "e"}),
]


def test_what_runs_share_is_told_of_each_as_of_one_alone(place):
    alike = shared(place)
    given = [(spec(**more), alike._replace(**about)) for more, about in DIFFERENT]
    names = ("one", "it's \"\\漢")  # in turn, so that what is kept of one would be seen in the next
    made = [(spec, each, stage.text(spec, name, 2, each)) for name in names for spec, each in given]
    assert len({text for _, _, text in made}) == len(made)
    for of, each, text in made:
        told = json.loads(text)
        assert text.decode() == json.dumps(told) + "\n"
        assert told["script"] == stage.script(told, each.environ)
        assert {key: told[key] for key in (*stage.around(of), "digest", "staged")} == {
            **stage.around(of), "digest": each.digest, "staged": each.now}  # fmt: skip
        assert json.dumps(told["resources"]) == json.dumps(stage.sound(of.resources))
        assert [told["stages"][0].get("shell"), told.get("only", {}), told.get("container", {})] == [
            of.stages[0].shell, {key: list(names) for key, names in each.only.items()}, of.container]  # fmt: skip


def test_what_the_shell_exports_is_told_as_it_is_now(place):
    environ = {"PATH": "/bin"}
    made, telling = spec(), shared(place, environ=environ)
    before = stage.text(made, "one", 1, telling)
    environ["PATH"] = "/new"
    assert before.replace(b"PATH=/bin", b"PATH=/new") == stage.text(made, "one", 1, telling) != before


def run(place: Place, made: RunSpec | None = None) -> None:
    stage.run(str(place.experiment), made or spec(), "one", 1, shared(place))


def short(place: Place, made: RunSpec | None = None) -> None:
    """By the short path that a launch takes."""
    home = os.open(place.experiment, os.O_RDONLY)
    try:
        stage.run(str(place.experiment), made or spec(), "one", 1, shared(place), home)
    finally:
        os.close(home)


def instead(place: Place, made: RunSpec | None = None) -> None:
    stage.instead(str(place.experiment), made or spec(), "one", 1, shared(place), "l")


WAYS = [run, short, instead]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_makes_the_same(place, way):
    way(place)
    path = place.experiment / "one"
    assert tree(path) == {"run.json": stage.text(spec(), "one", 1, shared(place)).decode()}
    assert sorted(os.listdir(place.experiment)) == [".farmx", "one"]


def put(place: Place, there: dict[str, str] | None) -> None:
    """These files, '' for an empty one, as what has the name of the run, while a launch is at work; None: a file."""
    (place.experiment / ".farmx/staging/.launch-l").touch()
    if there is None:
        (place.experiment / "one").write_text("mine")
        return
    (place.experiment / "one").mkdir()
    for name, text in there.items():
        path = place.experiment / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


THERE = [None, {"run.json": "{\n"}, {"run.json": "{}"}, {"mine": ""}, {".mine": ""}, {"attempts/1.0/owner.json": "{}"}]
THERE += [{"run.json": "", "attempts/1.0/owner.json": "{}"}]
BEGUN = [{}, *({"run.json": text} for text in ("", "{", "\0", '{"run": "größ', '{"run": 1}\\'))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("there", THERE)
def test_what_has_the_name_of_a_run_is_not_touched(place, there, way):
    put(place, there)
    before = tree(place.experiment), os.listdir(place.experiment)
    with pytest.raises(FileExistsError):
        way(place, spec(("false",)))
    assert (tree(place.experiment), os.listdir(place.experiment)) == before


@pytest.mark.parametrize("there", BEGUN)
def test_a_run_that_was_begun_is_another_launchs_until_it_is_made_instead(place, there):
    put(place, there)
    assert whereabouts.is_begun(str(place.experiment / "one"))
    with pytest.raises(FileExistsError):
        run(place)
    assert tree(place.experiment / "one") == there
    instead(place)
    assert tree(place.experiment / "one") == {"run.json": stage.text(spec(), "one", 1, shared(place)).decode()}


@pytest.mark.parametrize("step", ["mkdir", "write"])
def test_who_makes_a_run_that_another_made_meanwhile_writes_over_nothing(place, monkeypatch, step):
    real, theirs = getattr(os, step), spec(("theirs",))
    (place.experiment / ".farmx/staging/.launch-l").touch()

    def meanwhile(*given: object, **more: object) -> object:
        if step == "mkdir":
            real(*given, **more)
        monkeypatch.undo()
        instead(place, theirs)
        return real(*given, **more) if step == "write" else None

    monkeypatch.setattr(os, step, meanwhile)
    with nullcontext() if step == "write" else pytest.raises(FileExistsError):
        run(place)  # what it writes when that is no more there nobody reads
    assert tree(place.experiment / "one") == {"run.json": stage.text(theirs, "one", 1, shared(place)).decode()}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_appears_whole(place, monkeypatch, way):
    """Of a long record others see a page, and the next: whoever looks, or kills who writes, may come between."""
    seen = []

    def write(descriptor: int, content: memoryview) -> int:
        seen.append(status.of(str(place.experiment), ["one"]))
        return real(descriptor, content[:200])

    real = os.write
    (place.experiment / ".farmx/staging/.launch-l").touch()
    monkeypatch.setattr(os, "write", write)
    way(place)
    monkeypatch.undo()
    assert len(seen) > 3 and set(seen) == {status.Look(())}
    assert stage.recorded(str(place.experiment / "one"))["run"] == "one"


@pytest.mark.parametrize(("call", "error"), [("mkdir", errno.EEXIST), ("rename", errno.ENOENT)])
def test_a_run_is_made_instead_where_nfs_repeats_a_call(place, monkeypatch, call, error):
    lost(monkeypatch, call, error)
    instead(place)
    monkeypatch.undo()
    assert sorted(os.listdir(place.experiment)) == [".farmx", "one"]
    assert stage.recorded(str(place.experiment / "one"))["point"] == spec().identity


FAILS = [("mkdir", errno.EDQUOT), ("open", errno.ENOSPC), ("write", errno.EIO)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("call", "error"), FAILS)
def test_of_a_run_that_cannot_be_made_nothing_is_left(place, monkeypatch, call, error, way):
    real, opened = getattr(os, call), []

    def failing(*given: object, **more: object) -> object:
        if call == "open" and given[1] & os.O_DIRECTORY == given[1] & os.O_CREAT == 0:
            return real(*given, **more)
        opened.append(call)
        if call == "write" and len(opened) == 1:
            return real(given[0], given[1][:100])  # a disk that is nearly full takes a part
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(StageError) as caught:
        way(place)
    monkeypatch.undo()
    told = f"cannot be staged: {os.strerror(error)}; what was staged before is kept"
    assert str(caught.value) == f"{place.experiment}/one: {told}"
    assert call == "open" or sorted(os.listdir(place.experiment)) == [".farmx"]  # nor can a directory be read then


@pytest.mark.parametrize("call", ["mkdir", "write", "rename"])
def test_a_run_that_was_begun_and_cannot_be_made_instead_is_told_and_not_tried_for_ever(place, monkeypatch, call):
    put(place, {})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StageError, match="cannot be staged: No space left on device"):
        instead(place)
    monkeypatch.undo()
    assert sorted(os.listdir(place.experiment)) == [".farmx", "one"]


def test_a_torn_record_that_another_user_lets_nobody_remove_is_told_and_not_tried_for_ever(place, monkeypatch):
    put(place, {"run.json": "{"})

    def denied(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "unlink", denied)
    with pytest.raises(StageError, match="cannot be staged: Permission denied"):
        instead(place)


@pytest.mark.parametrize("taken", [False, True])
def test_of_a_run_that_cannot_be_renamed_nothing_is_left(place, monkeypatch, taken):
    """taken: its name is; which is told first, since a run of another name fails the same way."""
    if taken:
        (place.experiment / "one").touch()
    before = sorted(os.listdir(place.experiment))

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(FileExistsError if taken else StageError) as caught:
        instead(place)
    told = f"cannot be staged: {os.strerror(errno.EIO)}; what was staged before is kept"
    assert taken or str(caught.value) == f"{place.experiment}/one: {told}"
    assert sorted(os.listdir(place.experiment)) == before


def test_what_a_launch_could_not_remove_of_a_run_keeps_it_from_no_other(place):
    (place.experiment / f".l.{spec().identity}.1").mkdir()
    (place.experiment / f".l.{spec().identity}.1/run.json").write_text("{")
    with pytest.raises(StageError) as caught:
        instead(place)
    assert str(caught.value) == (
        f"{place.experiment}/one: cannot be staged: File exists; what was staged before is kept"
    )
    instead(place)
    assert sorted(os.listdir(place.experiment)) == [".farmx", "one"]


@pytest.mark.parametrize("there", [*THERE, *BEGUN])
def test_only_a_run_that_was_begun_is_discarded(place, there):
    put(place, there)
    before = tree(place.experiment)
    stage.discard(str(place.experiment / "one"))
    assert (place.experiment / "one").exists() is (there not in BEGUN)
    assert there in BEGUN or tree(place.experiment) == before
    stage.discard(str(place.experiment / "none"))


@pytest.mark.parametrize("there", [*THERE, *BEGUN, {"run.json": "{}"}])
def test_where_no_launch_is_at_work_nothing_is_begun(place, there):
    put(place, there)
    (place.experiment / ".farmx/staging/.launch-l").unlink()
    before = tree(place.experiment)
    assert not whereabouts.is_begun(str(place.experiment / "one"))
    stage.discard(str(place.experiment / "one"))
    assert tree(place.experiment) == before


def test_records_follow_the_umask_and_launch_sh_is_executable(place):
    before = os.umask(0o027)
    try:
        path = place.run()
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE(os.lstat(os.path.join(path, name)).st_mode) for name in os.listdir(path)}
    assert modes == {"run.json": 0o640, "hparams.json": 0o640, "launch.sh": 0o750, "code": 0o777}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750


def test_a_place_that_cannot_be_written_is_one_line(place):
    place.experiment.chmod(0o555)
    with ordinary_rights(), pytest.raises(StageError) as caught:
        run(place)
    told = "cannot be staged: Permission denied; what was staged before is kept"
    assert str(caught.value) == f"{place.experiment}/one: {told}"


# ---------------------------------------------------------------- renewed


def test_renewing_gives_todays_code_and_shell_and_changes_nothing_else(place, monkeypatch):
    run = place.run(PYTHON, hparams={"a": "x"}, env={"E": "1"})
    before = tree(Path(run))
    (place.source / "dump.py").write_text(DUMP + "\n# new\n")
    digest = place.snapshot()
    stage.renew(run, digest, {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "/new"})
    after = tree(Path(run))
    told = json.loads(before["run.json"])
    script = stage.script(told, {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "/new"})
    assert json.loads(after["run.json"]) == {**told, "digest": digest, "script": script}
    assert {name for name in after if after[name] != before.get(name)} == {"run.json"}
    assert by_runner(run)["env"]["VIRTUAL_ENV"] == "/new"
    assert Path(run, "launch.sh").read_text() == script


# ---------------------------------------------------------------- what earlier formats left


def test_a_run_of_format_1_is_read_run_and_renewed(tmp_path):
    shutil.copytree(DATA / "run-1", tmp_path, symlinks=True, dirs_exist_ok=True)
    run = str(tmp_path / "sweep/one")
    before = tree(Path(run))
    (told,) = status.of(str(tmp_path / "sweep"), ["one"]).runs
    assert told.hparams == {"text": "it's $HOME; größe", "n": 1}
    assert execute(run).state == "done"
    assert output(run) == "it's $HOME; größe in one\n"
    assert {name: tree(Path(run))[name] for name in before if name != "code"} == {
        name: text for name, text in before.items() if name != "code"
    }
    stage.renew(run, told.digest, {"PATH": "/usr/bin:/bin:/new"})
    assert json.loads(Path(run, "run.json").read_text())["format"] == 2
    assert execute(run, "2.0").state == "done"
    assert "export PATH=/usr/bin:/bin:/new\n" in Path(run, "launch.sh").read_text()


def test_renewing_a_run_of_the_same_code_does_not_rewrite_its_record(place):
    run = place.run(PYTHON)
    number = os.stat(os.path.join(run, "run.json")).st_ino
    stage.renew(run, place.snapshot(), dict(os.environ))
    assert os.stat(os.path.join(run, "run.json")).st_ino == number


def test_renewing_a_run_whose_record_is_torn_is_one_line(place):
    run = place.run(PYTHON)
    Path(run, "run.json").write_text('{"format"')
    with pytest.raises(RecordError) as caught:
        stage.renew(run, "d", {})
    assert str(caught.value) == f"{run}/run.json: {TORN}"


CHANGES = [
    lambda run: stage.renew(run, "d", {}),
    lambda run: stage.set_retry(run, {"error": 1}),
    lambda run: stage.set_resources(run, {"mem": 1}, {}),
    lambda run: stage.ask(run, {"1": ["a"]}),
    stage.recorded,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("there", ["nothing", "no record", "a file"])
def test_a_run_that_was_deleted_meanwhile_is_one_line(tmp_path, change, there):
    run = tmp_path / "it's gone"
    if there == "no record":
        run.mkdir()
    if there == "a file":
        run.touch()
    with pytest.raises(RecordError) as caught:
        change(str(run))
    assert str(caught.value) == f"{run}/run.json: it is gone: was the run moved or deleted meanwhile?"
    assert [each.name for each in tmp_path.rglob("*")] == ([] if there == "nothing" else [run.name])


# ---------------------------------------------------------------- several stages


def pipeline(*texts: str) -> tuple[plan.StageTemplate, ...]:
    """Stages a, b, ..., each a template."""
    return tuple(plan.StageTemplate(name, templates.read(text, "here")) for name, text in zip("abcd", texts))


def started(run: str, *argv: str, code: int = 0) -> str:
    """What launch.sh prints when it is started by hand with these arguments."""
    words = [os.path.join(run, layout.LAUNCH), *argv]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_launch_sh_runs_the_stage_it_is_told_and_by_hand_all_in_order(place):
    stages = pipeline("echo one LOGDIR {x}", "cd . && echo two {_name} {x}", "pwd")
    run = place.run(stages=stages, hparams={"x": "it's"})
    code = os.path.realpath(os.path.join(run, "code"))
    told = {"a": f"one {run} it's\n", "b": "two one it's\n", "c": f"{code}\n"}
    assert {name: started(run, name) for name in told} == told
    assert started(run) == "".join(told.values())
    assert started(run, "d", code=2) == "launch.sh: no stage d; stages: a b c\n"


@pytest.mark.parametrize("setup", ["", "set -e", "set -u"])
@pytest.mark.parametrize("second", ["sh -c 'exit 3'", "true && (exit 3)"])
def test_by_hand_too_a_stage_that_fails_stops_the_rest(place, setup, second):
    run = place.run(stages=pipeline("echo one", second, "echo three"), setup=setup)
    assert started(run, code=3) == "one\n"
    assert started(run, "b", code=3) == ""


def test_the_time_is_the_same_for_all_stages_by_hand(place):
    clock = 'date() { echo "$1" >> "$LOGDIR/asked"; wc -l < "$LOGDIR/asked"; }'
    run = place.run(stages=pipeline("true && echo {_time}", "echo {_time}"), setup=clock)
    assert started(run).split() == ["1", "1"]
    assert Path(run, "asked").read_text() == "+%Y%m%d.%H%M%S\n"


def test_launch_sh_of_plain_stages_needs_no_bash(place):
    run = place.run(stages=pipeline("echo one", "echo two"))
    assert Path(run, "launch.sh").read_text().splitlines()[-18:] == [
        'cd -- "$LOGDIR"/code || exit 1',
        "stage() {",
        "case $1 in",
        "a)", "exec echo one", ";;",
        "b)", "exec echo two", ";;",
        '*) echo "launch.sh: no stage $1; stages: a b" >&2; exit 2 ;;',
        "esac",
        "}",
        'if [ $# -gt 0 ]; then stage "$1"; exit; fi',
        "for each in a b; do",
        '(stage "$each")',
        "code=$?",
        "[ $code -eq 0 ] || exit $code",
        "done",
    ]  # fmt: skip
    assert Path(run, "launch.sh").read_text().startswith("#!/bin/sh\n")


def test_the_record_holds_each_stage_as_it_is_to_run(place):
    stages = (*pipeline("echo {x}", "true && echo {x}"), plan.StageTemplate("c", templates.read("x", ""), "", {"g": 2}))
    told = json.loads(Path(place.run(stages=stages, hparams={"x": 1}), "run.json").read_text())
    forms = plan.forms([("echo", "{x}"), "true && echo {x}", ("x",)])
    assert told["stages"] == [
        {"name": "a", "words": ["echo", "1"]},
        {"name": "b", "words": [], "shell": "true && echo 1", "form": forms[1]},
        {"name": "c", "words": ["x"], "form": forms[2], "resources": {"g": 2}},
    ]


def test_renewing_gives_other_stages(place):
    run = place.run(stages=pipeline("echo one", "echo two"))
    other = spec(stages=pipeline("echo one", "echo three")).stages
    stage.renew(run, place.snapshot(), dict(os.environ), other)
    told = json.loads(Path(run, "run.json").read_text())
    assert [each["words"] for each in told["stages"]] == [["echo", "one"], ["echo", "three"]]
    assert execute(run).state == "done"
    assert started(run) == "one\nthree\n"


def test_an_attempt_is_asked_for_some_stages(place):
    run = place.run(stages=pipeline("echo one", "echo two"))
    before = json.loads(Path(run, "run.json").read_text())

    number = os.stat(os.path.join(run, "run.json")).st_ino
    stage.ask(run, {})
    assert os.stat(os.path.join(run, "run.json")).st_ino == number
    stage.ask(run, {"1": ["b"]})
    assert json.loads(Path(run, "run.json").read_text()) == {**before, "only": {"1": ["b"]}}
    stage.ask(run, {"2": ["a"], "3": ["b"]})
    assert json.loads(Path(run, "run.json").read_text()) == {**before, "only": {"2": ["a"], "3": ["b"]}}
    stage.ask(run, {"2": ["a", "b"]}, "again")
    assert json.loads(Path(run, "run.json").read_text()) == {**before, "again": {"2": ["a", "b"]}}
    stage.ask(run, {})
    assert json.loads(Path(run, "run.json").read_text()) == before


@pytest.mark.parametrize(
    ("staging", "files", "wanted"), [(None, 2_000, "link"), (None, 2_001, "share"), ("copy", 2_001, "copy")]
)
def test_above_two_thousand_files_runs_share_the_snapshot_unless_somebody_decides(staging, files, wanted):
    assert stage.recipe("/src", {"link": ()}, staging, files) == {"staging": wanted, "source": "/src", "link": ()}
