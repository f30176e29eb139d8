"""The records on the board: what the document says is what their logs say."""

import json
from pathlib import Path

import pytest

from benchmarks.speedrun.__main__ import SeedRecord, meets_goals
from tests.fixtures.documents import REPOSITORY

RECORDS = sorted((REPOSITORY / "benchmarks" / "speedrun" / "records").iterdir())


@pytest.mark.parametrize("folder", RECORDS, ids=lambda folder: folder.name)
def test_a_record_has_three_logs_whose_median_meets_the_goals_and_which_stand_on_the_board(folder: Path) -> None:
    board = (REPOSITORY / "docs" / "speedrun.md").read_text(encoding="utf-8")
    commit = folder.name.partition("-")[0]
    logs = sorted(folder.glob("seed-*.json"))
    records = [SeedRecord(**json.loads(log.read_text(encoding="utf-8"))) for log in logs]
    assert len(records) == 3
    assert meets_goals(records)
    for log, record in zip(logs, records, strict=True):
        assert record.row(commit, int(log.stem.removeprefix("seed-"))) in board
        assert sum(record.stages.values()) == pytest.approx(record.wall_s, rel=0.05, abs=1.0)
