"""The state folder of an older version is taken over: runs, champion and schedules are there and used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fixtures.operations.measure_upgrade import main

OLDER = "INFINITY_OLDER"
"""Names the folder of an older checkout with a ``.venv``."""


@pytest.mark.ray
@pytest.mark.prefect
@pytest.mark.slow
def test_runs_champion_and_schedules_survive_an_upgrade_and_a_restored_backup(
    exhaustive: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if not exhaustive or OLDER not in os.environ:
        pytest.skip(f"minutes, and needs an older checkout; --exhaustive with {OLDER}=<its folder> runs it")
    assert main([str(Path(os.environ[OLDER]))]) == 0, capsys.readouterr().out
