"""Which runs have the same code: a sweep file that grew is no other code, to a launch or to sumx."""

import json
import shutil

import pytest
from commands import Project

from farmx import manifest


def codes(project: Project, *experiments: str) -> list[int] | None:
    """Which code each run has, by the value of n, from 0; None where sumx does not tell them apart."""
    asked = ("--json", *(experiments or ("sweep",)))
    done = project.commands(*asked, cwd=project.path, env=project.env, program="sumx")
    assert (done.code, done.err) == (0, "")
    rows = sorted(json.loads(done.out), key=lambda row: (row["n"], row.get("experiment")))
    told = [row.get("code") for row in rows]
    return [told.index(each) for each in told] if any(told) else None


def changed(project: Project, name: str = "sweep.yml") -> str:
    """What the launch says of the code of the runs that are there."""
    return project.ok(name, "-i").err.partition("made from other code: ")[2].strip()


def test_a_value_more_in_the_sweep_file_is_no_other_code(project):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    project.sweep("{n: [1, 2, 3]}")
    project.ok("sweep.yml", "-i")
    assert len(list((project.experiment / ".farmx/snapshots").iterdir())) == 2
    assert (changed(project), codes(project)) == ("", None)


@pytest.mark.parametrize("name", ["sweep", "{x: 1, CMD} of.yml", "sub/s.yml"])
def test_the_sweep_file_itself_is_no_code_however_it_is_written(project, name):
    (project.path / name).parent.mkdir(exist_ok=True)
    for values in ("1", "[1, 2]"):
        project.write(name, f"{{HPARAMS: {{n: {values}}}, CMD: sh note.sh}}")
        project.ok(name, "-i", "--exp-name", "sweep")
    assert ("made from" in project.ok(name, "-i", "--exp-name", "sweep").err, codes(project)) == (False, None)


@pytest.mark.parametrize("name", ["note.sh", "sweep.yml.orig", "size größe; it's $HOME", "sub/sweep.yml"])
def test_another_file_is(project, name):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    (project.path / name).parent.mkdir(exist_ok=True)
    project.write(name, "true")
    project.sweep("{n: [1, 2, 3]}")
    project.ok("sweep.yml", "-i")
    assert (changed(project), codes(project)) == (name, [0, 0, 2])


def test_a_sweep_file_whose_name_takes_escapes_is_left_out_too(project):
    name = 'größe "it\'s" $HOME; 1.yml'
    project.write(name, "CMD: sh note.sh\nHPARAMS: {n: 1}\n")
    project.ok(name, "-i", "--exp-name", "sweep")
    project.write(name, "CMD: sh note.sh\nHPARAMS: {n: [1, 2]}\n")
    project.ok(name, "-i", "--exp-name", "sweep")
    assert codes(project) is None


def test_every_sweep_file_is_left_out(project):
    project.write("other.yml", "CMD: sh note.sh\nHPARAMS: {n: [1, 2]}\n")
    project.ok("sweep.yml", "-i")
    project.ok("other.yml", "-i")
    project.sweep("{n: [1, 2, 3]}")
    project.ok("sweep.yml", "-i")
    project.write("other.yml", "CMD: sh note.sh\nHPARAMS: {n: [1, 2, 3]}\n")
    project.ok("other.yml", "-i")
    assert codes(project, "sweep", "other") is None
    assert codes(project, "other") is None
    assert "made from" not in project.ok("other.yml", "-i").err
    project.write("note.sh", "true")
    project.write("other.yml", "CMD: sh note.sh\nHPARAMS: {n: [1, 2, 3, 4]}\n")
    project.ok("other.yml", "-i")
    assert codes(project, "sweep", "other") == [0, 0, 0, 0, 0, 0, 6]


def test_a_snapshot_that_is_gone_is_like_no_other(project):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    (first,) = (project.experiment / ".farmx/snapshots").iterdir()
    project.sweep("{n: [1, 2, 3]}")
    project.ok("sweep.yml", "-i")
    shutil.rmtree(first)
    assert (changed(project), codes(project)) == ("", [0, 0, 2])


MANIFESTS = ["", "{", "[]", "[3]", "{}", "null", "[" * 100_000, "\udcff\n"]


@pytest.mark.parametrize("text", MANIFESTS, ids=[f"{text!r:.9}" for text in MANIFESTS])
def test_a_snapshot_whose_manifest_is_damaged_is_left_alone_and_like_no_other(project, text):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    (first,) = (project.experiment / ".farmx/snapshots").iterdir()
    (first / "manifest").write_bytes(text.encode(errors="surrogateescape"))
    note = f"note  snapshot {first.name} no longer matches its manifest; it is left alone and not used again"
    assert note in project.ok("sweep.yml", "-i").err.splitlines()
    project.sweep("{n: [1, 2, 3]}")
    assert project.ok("sweep.yml", "-i").err.splitlines()[2].startswith("runs  3: 2 done, 1 new  in ")
    assert codes(project) == [0, 0, 2]


SWEEPS = ["CMD: true", "x-a: 1\nCMD:\n  train: true", "'CMD' : true", 'HPARAMS: 1\n"CMD": true', "\ufeffCMD: true"]
CONFIGS = ["cmd: true", "lr: 1\nXCMD: 2", "# CMD: true", "lr: CMD", "", "\udcff", "model:\n  CMD: fast"]


@pytest.mark.parametrize(("name", "text", "differs"), [
    *(("s.yml", text, []) for text in SWEEPS),
    *(("s.yml", text, ["s.yml"]) for text in CONFIGS),
    ("sub/s.yaml", "CMD: true", []),
    ("s.py", "CMD: str = 1", ["s.py"]),
    ("s.txt", "CMD: true", ["s.txt"]),
], ids=ascii)  # fmt: skip
def test_a_sweep_file_is_known_by_what_it_says(tmp_path, name, text, differs):
    for digest, names in {"a": ["z.sh"], "b": ["z.sh", name], "c": ["z.sh", "gone.yml", name]}.items():
        tree = tmp_path / "snapshots" / digest / "code"
        (tree / "sub").mkdir(parents=True)
        (tree / name).write_bytes(text.encode(errors="surrogateescape"))
        told = "".join(manifest.file_line(each, 0o644, 1, "0") for each in names)
        (tree.parent / "manifest").write_text(told)
    assert manifest.differing(str(tmp_path), "a", "b", []) == differs
    assert set(manifest.differing(str(tmp_path), "a", "c", [])) == {*differs, "gone.yml"}
    places = {digest: str(tmp_path / "snapshots" / digest) for digest in "abcd"}
    assert manifest.alike(places, []) == {"a": "a", "b": "b" if differs else "a", "c": "c", "d": "d"}
    assert manifest.alike({}, []) == {}
    assert manifest.differing(str(tmp_path), "a", "b", [name]) == []
    assert manifest.alike(places, [name]) == {"a": "a", "b": "a", "c": "c", "d": "d"}


def test_of_what_differs_python_comes_first(project):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    for name in ("a.txt", "b.csv", "c.md", "z.py"):
        project.write(name, "1")
    assert changed(project) == "z.py, a.txt, b.csv, ..."


def test_a_launch_that_begins_something_tells_of_other_code_too(project):
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    project.write("note.sh", "true")
    project.sweep("{n: [1, 2, 3]}")
    said = project.ok("sweep.yml", "-i").err.splitlines()
    assert "note  2 left alone were made from other code: note.sh" in said
    assert [line for line in said if line.startswith("next")] == ["next  sumx sweep"]
    said = project.ok("sweep.yml", "-i").err.splitlines()
    assert not [line for line in said if line.startswith("note")]
    assert said[-1] == "next  farmx sweep.yml -i --again  # 2 made from other code: note.sh"
