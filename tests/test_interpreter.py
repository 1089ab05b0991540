"""interpreter: whose packages a run will import, and which of them live in the tree that is snapshotted."""

from pathlib import Path

import pytest

from farmx import interpreter


def environment(root: Path, version: str = "python3.11", packages: str = "lib/{}/site-packages") -> Path:
    """A made-up installation of Python; return its site-packages."""
    (root / "bin").mkdir(parents=True)
    for name in ("python", "python3"):
        (root / "bin" / name).write_text("#!/bin/sh\nexit 1\n")
        (root / "bin" / name).chmod(0o755)
    site = root / packages.format(version)
    site.mkdir(parents=True)
    return site


def sites(environ: dict[str, str], *words: str) -> list[str]:
    return interpreter.site_packages({"HOME": "/nowhere", **environ}, words)


# ---------------------------------------------------------------- which interpreter


def test_the_packages_are_those_of_the_first_python_among_the_words_else_in_path(tmp_path):
    one, two = environment(tmp_path / "one"), environment(tmp_path / "two")
    path = {"PATH": f"{tmp_path}/two/bin:/usr/bin"}
    assert sites(path, "python", "t.py") == [str(two)]
    assert sites(path, "torchrun", "t.py") == [str(two)]
    assert sites(path, str(tmp_path / "one/bin/python3"), "t.py") == [str(one)]
    assert sites(path, "env", str(tmp_path / "one/bin/python"), "t.py") == [str(one)]
    assert sites(path) == [str(two)]


def test_an_interpreter_that_is_a_link_is_where_the_link_is(tmp_path):
    environment(tmp_path / "base")
    site = environment(tmp_path / "venv")
    for name in ("python", "python3"):
        (tmp_path / "venv/bin" / name).unlink()
        (tmp_path / "venv/bin" / name).symlink_to(tmp_path / "base/bin" / name)
    assert sites({"PATH": f"{tmp_path}/venv/bin"}, "python") == [str(site)]


def test_no_python_has_no_packages(tmp_path):
    assert sites({"PATH": str(tmp_path)}, "python") == []


def test_a_python_that_is_named_and_not_there_leaves_the_one_in_path(tmp_path):
    site = environment(tmp_path / "one")
    assert sites({"PATH": f"{tmp_path}/one/bin"}, "python3.99") == [str(site)]


def test_a_place_with_wildcards_in_its_name_is_found(tmp_path):
    site = environment(tmp_path / "[x]* ?")
    assert sites({"PATH": f"{tmp_path}/[x]* ?/bin"}, "python") == [str(site)]


def test_packages_beside_a_systems_own_are_found(tmp_path):
    local = environment(tmp_path / "usr", packages="local/lib/{}/dist-packages")
    own = tmp_path / "usr/lib/python3/dist-packages"
    users = tmp_path / "home/.local/lib/python3.11/site-packages"
    for folder in (own, users):
        folder.mkdir(parents=True)
    found = sites({"PATH": f"{tmp_path}/usr/bin", "HOME": str(tmp_path / "home")}, "python3")
    assert found == [str(users), str(local), str(own)]


def test_a_virtual_environment_does_not_see_the_users_packages(tmp_path):
    site = environment(tmp_path / "venv")
    (tmp_path / "venv/pyvenv.cfg").touch()
    (tmp_path / "home/.local/lib/python3.11/site-packages").mkdir(parents=True)
    assert sites({"PATH": f"{tmp_path}/venv/bin", "HOME": str(tmp_path / "home")}, "python") == [str(site)]


# ---------------------------------------------------------------- packages


def test_packages_are_named_with_their_versions(tmp_path):
    one, two = environment(tmp_path / "one"), environment(tmp_path / "two")
    for name in ("torch-2.1.0+cu121.dist-info", "numpy-1.26.4.dist-info", "numpy", "a.egg-info", "odd.dist-info"):
        (one / name).mkdir()
    for name in ("click-8.1.dist-info", "numpy-2.0.0.dist-info"):
        (two / name).mkdir()
    told = interpreter.packages([str(one), str(two)])
    assert told == {"click": "8.1", "numpy": "1.26.4", "odd": "", "torch": "2.1.0+cu121"}
    assert list(told) == sorted(told)


def test_packages_of_a_directory_that_has_gone_are_none(tmp_path):
    assert interpreter.packages([str(tmp_path / "gone")]) == {}


# ---------------------------------------------------------------- editable installs


def finder(site: Path, mapping: dict[str, str]) -> None:
    """What setuptools puts there for an editable install."""
    name = "__editable___p_1_0_finder"
    (site / "__editable__.p-1.0.pth").write_text(f"import {name}; {name}.install()")
    text = f"import sys\nMAPPING: dict[str, str] = {mapping!r}\nNAMESPACES: dict[str, list[str]] = {{}}\nX = {{}}\n"
    (site / f"{name}.py").write_text(text)


ROOTS = [
    # lines of a .pth, what leads into the tree (at T)
    (["T"], ["."]),
    (["T/src"], ["src"]),
    (["T/src", "T/lib/x", "T/src"], ["src", "lib/x"]),
    (["T/src/"], ["src"]),
    (["T/../T/src"], ["src"]),
    (["/elsewhere", "Tother/src", "T/.."], []),
    (["# T/src", "", "import T/src", "import\tos", "T/a b"], ["a b"]),
    (["../../../T/src"], ["src"]),
]


@pytest.mark.parametrize("lines, roots", ROOTS, ids=[",".join(row[0]) for row in ROOTS])
def test_the_lines_of_a_pth_that_lead_into_the_tree_are_import_roots(tmp_path, lines, roots):
    tree = tmp_path / "T"
    tree.mkdir()
    site = environment(tmp_path / "e", packages="s/p")  # e/s/p, so that ../../../T is the tree
    lines = [line.replace("T", str(tree), 1) if not line.startswith("..") else line for line in lines]
    (site / "x.pth").write_text("\n".join(lines))
    assert interpreter.import_roots([str(site)], str(tree)) == tuple(roots)


FINDERS = [
    ({"pkg": "T/src/pkg"}, ["src"]),
    ({"pkg": "T/pkg", "mod": "T/mod"}, ["."]),
    ({"a": "T/one/a", "b": "T/two/b", "c": "/elsewhere/c"}, ["one", "two"]),
    ({"space.pkg": "T/src/space/pkg"}, ["src"]),
    ({"pkg": "T/a}b/pkg"}, ["a}b"]),
    ({"pkg": "T/it's \"so\"/pkg"}, ["it's \"so\""]),
    ({}, []),
]


@pytest.mark.parametrize("mapping, roots", FINDERS, ids=[str(row[0]) for row in FINDERS])
def test_what_setuptools_maps_into_the_tree_is_an_import_root(tmp_path, mapping, roots):
    tree, site = tmp_path / "T", environment(tmp_path / "e")
    finder(site, {name: path.replace("T", str(tree), 1) for name, path in mapping.items()})
    assert interpreter.import_roots([str(site)], str(tree)) == tuple(roots)


NONSENSE = ["", "MAPPING = 1\n", "MAPPING = {open('x')}\n", "MAPPING = {'a': }\n", "MAPPING = {'a'}\n",
            "MAPPING = {'a': 1}\n", "\udcff"]  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE)
def test_a_finder_that_says_nothing_we_know_is_no_root(tmp_path, text):
    site = environment(tmp_path / "e")
    (site / "__editable___p_finder.py").write_text(text, errors="surrogateescape")
    (site / "x.pth").write_bytes(b"\xff\xfe\0\n")
    (site / "y.pth").mkdir()
    assert interpreter.import_roots([str(site)], str(tmp_path / "T")) == ()


def test_a_tree_that_is_reached_through_a_link_is_the_tree(tmp_path):
    (tmp_path / "T/src").mkdir(parents=True)
    (tmp_path / "by").symlink_to("T")
    site = environment(tmp_path / "e")
    (site / "x.pth").write_text(f"{tmp_path}/by/src\n")
    assert interpreter.import_roots([str(site)], str(tmp_path / "T")) == ("src",)
    (site / "x.pth").write_text(f"{tmp_path}/T/src\n")
    assert interpreter.import_roots([str(site)], str(tmp_path / "by")) == ("src",)
