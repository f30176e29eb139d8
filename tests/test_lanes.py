"""Several processes share the tests: each is run once, by one of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lanes import verdict

REPOSITORY = Path(__file__).parents[1]
CONFTEST = """import os
from pathlib import Path
from tests.lanes import CLAIMS, Lane
def pytest_configure(config):
    config.pluginmanager.register(Lane(Path(os.environ.pop(CLAIMS))), "lane")
"""
TEST = """import os, pytest
from pathlib import Path
@pytest.mark.parametrize("number", range(3))
def test_it(number):
    with (Path(__file__).parent / "ran").open("a") as file:
        file.write(f"{Path(__file__).stem} {number} {os.getpid()}\\n")
    assert (Path(__file__).stem, number) != ("test_2", 1)
"""


def test_every_test_runs_once_a_file_stays_together_and_a_failure_counts(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number in range(6):
        (tmp_path / f"test_{number}.py").write_text(TEST)
    command = [sys.executable, "-m", "tests.lanes", "--lanes", "3", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stdout + done.stderr
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted((name, number) for name, number, _ in ran) == [
        (f"test_{i}", str(n)) for i in range(6) for n in range(3)
    ]
    for name in {name for name, _, _ in ran}:
        assert len({process for each, _, process in ran if each == name}) == 1
    assert sum(map(int, re.findall(r"(\d+) passed", done.stdout))) == 17
    assert re.findall(r"(\d+) failed", done.stdout) == ["1"]


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([0, 1], 1), ([5, 0], 0), ([5, 5], 5), ([0, -9], -9), ([2, 1], 2)]
)
def test_one_bad_lane_is_a_bad_run(codes: list[int], expected: int) -> None:
    assert verdict(codes) == expected
