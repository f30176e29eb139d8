"""The default suite runs a fixed part of long sweeps, and ``--exhaustive`` all of them."""

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.sampling import sample_of

MANY = """import pytest
@pytest.mark.sweep(3)
@pytest.mark.parametrize("number", range(20))
def test_many(number): ...
@pytest.mark.parametrize("number", range(20))
def test_all(number): ...
@pytest.fixture
def costly(): raise AssertionError("set up for a test that does not run")
@pytest.mark.exhaustive("takes minutes")
def test_long(costly): ...
"""
CONFTEST = """from tests.sampling import Sample
def pytest_configure(config):
    config.pluginmanager.register(Sample(), "sample")
"""
PLAIN = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def test_a_sweep_runs_a_sample_and_a_chosen_case_runs_whatever_the_sample_is(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    sweep: a\n    exhaustive: b\n")
    (tmp_path / "test_it.py").write_text(MANY)

    def ran(*options: str) -> list[str]:
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *options]
        done = subprocess.run(command, cwd=tmp_path, env=PLAIN, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return [line.split()[0] for line in done.stdout.splitlines() if " PASSED" in line]

    found = ran()
    assert sum("test_many" in each for each in found) == 3
    assert sum("test_all" in each for each in found) == 20
    assert len(found) == 23  # the long one is skipped before anything is set up for it
    (left_out, *_) = ({f"test_it.py::test_many[{number}]" for number in range(20)}) - set(found)
    assert ran(left_out) == [left_out]
    assert ran("-k", left_out.partition("::")[2]) == [left_out]


def test_the_sample_is_the_same_in_every_order() -> None:
    ids = [f"tests/a.py::test_it[{number}]" for number in range(50)]
    mixed = random.Random(3).sample(ids, len(ids))
    assert sample_of(ids, 6) == sample_of(mixed, 6)
    assert len(sample_of(ids, 6)) == 6
    assert sample_of(ids[:4], 6) == set(ids[:4])
