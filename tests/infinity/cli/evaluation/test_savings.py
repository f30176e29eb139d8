"""``infinity savings``: what drawing with less work saves and costs, from one command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from tests.fixtures.data.small_world import write_model

SCENES = 'scenes={"pictures_per_prompt": 1, "prompts_per_task": 1, "num_shown": 1}'
WAYS = '[{"name": "no guidance", "unguided": 9}]'


def run(*arguments: object) -> tuple[int, str]:
    with in_process():
        result = CliRunner().invoke(app, ["savings", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def test_the_table_the_sentences_and_the_page_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    code, output = run(write_model(tmp_path), "-b", SCENES, "--ways", WAYS, "-o", tmp_path / "out")
    assert code == 0, output
    (page,) = (tmp_path / "out").rglob("savings.html")
    assert str(page) in output
    assert "no guidance" in output
    assert "The control, a planted loss, is" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-b", SCENES, "--ways", "{}"), "--ways: expected a list of objects"),
        (("-b", SCENES, "--ways", "[]"), "at least one way"),
        (("-b", SCENES, "--ways", '[{"name": "a"}, {"name": "a"}]'), "expected each name once"),
        (("-b", SCENES, "--ways", '[{"name": " "}]'), "name"),
        (("-b", SCENES, "--ways", '[{"name": "a", "quantize": "int3"}]'), "int3"),
        (("-b", SCENES, "--margin", "0"), "margin"),
        ((), "--benchmark: expected at least one of"),
    ],
)
def test_what_cannot_be_tried_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    code, output = run(tmp_path / "model", *arguments, "-o", tmp_path / "out")
    assert code == 1
    assert words in output
