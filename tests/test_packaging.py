"""The wheel holds what the source tree holds: modules, the bundled model, its recipe and the demo's media."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_constraints_pin_every_dependency_exactly() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [item for extra in project["optional-dependencies"].values() for item in extra]
    wanted = {name_of(item) for item in [*project["dependencies"], *extras]} - {"videolm"}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.count("==") != 1 or "+" in line] == []
    assert wanted <= {name_of(line) for line in lines}


def name_of(requirement: str) -> str:
    name = requirement
    for mark in "<>=![;":
        name = name.partition(mark)[0]
    return name.strip().lower().replace("_", "-")


@pytest.mark.slow
def test_the_wheel_holds_all_files(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(tree),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("videolm-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("videolm/")}
    source = tree / "src"
    files = [path for path in (source / "videolm").rglob("*") if path.is_file()]
    assert {path.relative_to(source).as_posix() for path in files} - packed == set()
