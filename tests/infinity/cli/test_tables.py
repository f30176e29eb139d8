"""Tables of commands, run as a user does: no line of a table is wider than 100 columns on any terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from infinity.cli import app
from infinity.evaluation.promotion.champions import Champions
from infinity.evaluation.score import Score
from infinity.reporting.terminal.table import WIDTH
from tests.fixtures.data.small_world import write_data
from tests.fixtures.jobs.evaluations import prompts, write_evaluation


def shown(*args: object) -> list[str]:
    """Return what a command prints, but for addresses of files, which stay in one piece."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [line for line in result.output.splitlines() if not line.startswith(("/", "files: ", "repeat: "))]


@pytest.mark.parametrize("columns", ["20", "80", "250"])
def test_no_table_is_wider_than_100_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    deep = tmp_path / ("a folder with a long name " * 4)
    before = write_evaluation(deep / "a", "one", prompts(20, 0.5))
    after = write_evaluation(deep / "b", "two", prompts(20, 0.5))
    registry = deep / "registry"
    score = Score(metric="geneval.overall", value=0.5, unit="share", n=9, protocol="geneval/1")
    Champions(str(registry)).promote(
        "scenes", follows=None, model=before.spec.model, model_digest=before.report.model_digest,
        evaluation=before.folder, scores=[score], why="a reason of many words, " * 8,
    )  # fmt: skip
    outputs = [
        shown("compare", before.folder, after.folder, "-o", tmp_path / "page"),
        shown("leaderboard", before.folder, after.folder),
        shown("registry", "show", "--registry", registry),
        shown("study"),
        shown("data", "show", write_data(deep / "data", num_validation=4)),
    ]
    for lines in outputs:
        head = next((place for place, line in enumerate(lines) if line.startswith("{")), len(lines))  # JSON follows
        assert max(map(cell_len, lines[:head])) <= WIDTH
