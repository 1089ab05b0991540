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


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_a_crash_left_before_it_was_in_its_place_has_the_code_it_has(project, which):
    project.sweep("{n: 1}")
    project.ok("sweep.yml", "-i")
    project.sweep("{n: [1, 2]}")
    project.ok("sweep.yml", "-i")
    run = sorted(project.runs(), key=lambda run: json.loads((run / "hparams.json").read_text())["n"])[which]
    run.rename(project.experiment / ".farmx/staging" / run.name)
    assert codes(project) is None


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


def test_the_sweep_files_of_all_experiments_shown_are_left_out(project):
    project.write("other.yml", "CMD: sh note.sh\nHPARAMS: {n: [1, 2]}\n")
    project.ok("sweep.yml", "-i")
    project.ok("other.yml", "-i")
    project.sweep("{n: [1, 2, 3]}")
    project.ok("sweep.yml", "-i")
    project.write("other.yml", "CMD: sh note.sh\nHPARAMS: {n: [1, 2, 3]}\n")
    project.ok("other.yml", "-i")
    assert codes(project, "sweep", "other") is None
    assert codes(project, "other") == [0, 0, 2]  # what sweep.yml is to its runs, nobody knows
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


def test_what_is_alike_goes_by_all_files_but_some(tmp_path):
    for digest, lines in {"a": ["x", "y"], "b": ["x", "y", "s"], "c": ["x"], "d": ["s", "x", "y"]}.items():
        (tmp_path / digest).mkdir()
        (tmp_path / digest / "manifest").write_text("".join(manifest.file_line(name, 0o644, 1, "0") for name in lines))
    places = {digest: str(tmp_path / digest) for digest in "abcde"}
    assert manifest.alike(places, ["s"]) == {"a": "a", "b": "a", "c": "c", "d": "a", "e": "e"}
    assert manifest.alike(places, []) == {"a": "a", "b": "b", "c": "c", "d": "b", "e": "e"}
    assert manifest.alike({}, []) == {}
