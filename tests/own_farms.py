"""What tests of farms that other packages bring share: a package that counts as installed, the example among them."""

import shutil
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "examples/own_farm"
sys.path.append(str(HOME))  # its server and its tests are for ours, too


def installed(path: Path, name: str, entry_point: str) -> None:
    """Have what lies in `path` count as a package that brings a farm, as pip writes it down."""
    info = path / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[farmx.farms]\n{entry_point}\n")


def example(path: Path) -> None:
    """The example, installed in `path`."""
    shutil.copytree(HOME, path, ignore=shutil.ignore_patterns("runs", "__pycache__", ".pytest_cache"))
    installed(path, "farmx-httpq", "httpq = farmx_httpq")
