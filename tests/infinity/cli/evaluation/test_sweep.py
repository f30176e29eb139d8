"""``infinity sweep``: one model at several settings, from one command."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from tests.fixtures.data.small_world import write_model

SCENES = 'scenes={"pictures_per_prompt": 1, "prompts_per_task": 1, "num_shown": 1}'


def run(*arguments: object) -> tuple[int, str]:
    with in_process():
        result = CliRunner().invoke(app, ["sweep", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def test_a_sweep_names_the_best_by_the_mean_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    grid = '{"on_logits": [1.0, 3.0], "seeds": [0, 7], "greedy": true}'
    model = write_model(tmp_path)
    code, output = run(model, "-b", SCENES, "--grid", grid, "-o", tmp_path / "out")
    assert code == 0, output
    assert "Best scene_geneval.overall by the mean over" in output
    (table,) = (tmp_path / "out").rglob("sweep.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["guidance_on"] for row in rows] == ["logits"] * 4 + ["greedy"] * 2, "greedy is drawn once"
    assert str(table) in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-b", SCENES, "--grid", '{"guidance": [1]}'), "unknown 'guidance'"),
        (("-b", SCENES, "--grid", "[1"), "--grid: expected JSON"),
        (("-b", SCENES, "--grid", '{"seeds": []}'), "at least one strength"),
        (("-b", SCENES, "--grid", '{"seeds": [0, 0]}'), "SweepGrid.seeds: expected each number once, got (0, 0)"),
        (("-b", SCENES, "--grid", '{"on_logits": [1, 1.0]}'), "SweepGrid.on_logits: expected each number once"),
        (
            ("-b", SCENES, "--grid", '{"on_logits": [], "pyramid": [3], "greedy": true}'),
            "expected strengths in on_logits",
        ),
        (("-b", SCENES, "-b", SCENES), "scenes is there twice"),
        ((), "--benchmark: expected at least one of"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    code, output = run(tmp_path / "model", *arguments, "-o", tmp_path / "out")
    assert code == 1
    assert words in output
