"""The wheel holds what it needs and no more, and works from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("infinity", "flows", "infra", "tests", "benchmarks", "examples")
FILES = ("pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def call(*arguments: object, folder: Path, **environment: str) -> str:
    """Run a program in a folder and return what it printed."""
    result = subprocess.run(
        [str(each) for each in arguments], cwd=folder, env={**os.environ, **environment}, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / "source" / name)
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "-w", folder / "dist")
    call(sys.executable, *build, folder / "source", folder=folder)
    (file,) = (folder / "dist").iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder into which the wheel is installed; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    call(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", folder, wheel,
         folder=folder)  # fmt: skip
    return folder


def test_the_wheel_holds_modules_and_their_data_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    roots = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert roots == {"infinity", "flows", "infra"}
    expected = {
        str(path.relative_to(ROOT))
        for room in ("infinity", "flows", "infra")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and _is_shipped(path)
    }
    assert expected <= names, sorted(expected - names)
    assert any(name.endswith("/published.csv") for name in names)
    assert any(name.startswith("infinity/reporting/page/") for name in names)
    assert {"infra/env.sh", "infinity/py.typed"} <= names


def _is_shipped(path: Path) -> bool:
    """Say whether the installed program reads a file: all of infinity, and what infra's Python reads."""
    return path.suffix == ".py" or ROOT / "infinity" in path.parents or path.name == "env.sh"


def test_the_public_names_and_the_command_work_from_another_folder(installed: Path, tmp_path: Path) -> None:
    program = (
        "import infinity, pathlib; from infinity import *; from infinity import InfinityPipeline;"
        "from infinity.evaluation.promotion.leaderboard import published;"
        "print(pathlib.Path(infinity.__file__).parents[1], InfinityPipeline.__name__, len(list(published())) > 0)"
    )
    found = call(sys.executable, "-c", program, folder=tmp_path, PYTHONPATH=str(installed))
    assert found.split() == [str(installed), "InfinityPipeline", "True"]
    shown = call(sys.executable, installed / "bin" / "infinity", "--help", folder=tmp_path, PYTHONPATH=str(installed))
    assert "generate" in shown
    assert "bitwise" in shown
