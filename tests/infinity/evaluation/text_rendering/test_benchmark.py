"""Text rendering on drawn words, read by the real OCR; on pictures without text it gives 0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.evaluation.text_rendering import drawn_word
from infinity.cli import app
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import JudgedPrompts, PictureFolder
from infinity.evaluation.text_rendering.benchmark import TextRenderingBenchmark
from infinity.jobs.cluster.connection import in_process
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.small_world import write_model

WORDS = ("coffee", "window", "garden")


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks("cpu")


def benchmark_of(folder: Path) -> TextRenderingBenchmark:
    (folder / "prompts.txt").write_text("".join(f'a sign that says "{word}"\n' for word in WORDS))
    pictures = PictureFolder(uri=str(folder / "pictures"))
    return TextRenderingBenchmark(prompts=PinnedFile(uri=str(folder / "prompts.txt")), pictures=pictures)


def judged(benchmark: TextRenderingBenchmark, networks: Networks) -> BenchmarkResult:
    assert benchmark.pictures is not None
    samples = benchmark.find(benchmark.pictures, benchmark.items())
    records = benchmark.judge(networks)(samples, [one.pictures() for one in samples])
    return benchmark.summarize(JudgedPrompts(samples=tuple(samples), records=tuple(records)))


def values(result: BenchmarkResult) -> list[float | None]:
    return [score.value for score in result.scores]


def test_drawn_words_are_read_large_and_not_tiny(tmp_path: Path, networks: Networks) -> None:
    benchmark = benchmark_of(tmp_path)
    (tmp_path / "pictures").mkdir()
    for size, expected in ((40, [1.0, 0.0, 1.0]), (3, [0.0, 1.0, 0.0])):
        for number, word in enumerate(WORDS):
            picture = drawn_word(word, size)
            picture.putalpha(9)  # transparency is dropped, as by every reader of the product
            picture.save(tmp_path / f"pictures/{number:05d}.png")
        found = values(judged(benchmark, networks))
        assert found == pytest.approx(expected, abs=0 if size == 40 else 0.35)


def test_gaps_are_counted(tmp_path: Path, networks: Networks) -> None:
    benchmark = benchmark_of(tmp_path)
    (tmp_path / "pictures").mkdir()
    drawn_word(WORDS[0], 40).save(tmp_path / "pictures/00000.webp", lossless=True)
    overall = judged(benchmark, networks).scores[0]
    assert (overall.value, overall.n) == (1.0, 1)
    assert overall.note.startswith("INCOMPLETE: 2 of 3 prompts")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "pictures/00001.png")
    assert judged(benchmark, networks).scores[0].value == 0.5


def test_a_model_that_draws_no_text_gets_0_without_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    (tmp_path / "list.jsonl").write_text(json.dumps({"prompt": "a sign", "text": ["hot", "tea"]}) + "\n")
    about = json.dumps({"prompts": {"uri": str(tmp_path / "list.jsonl")}})
    arguments = ["evaluate", write_model(tmp_path), "-b", f"text_rendering={about}", "-o", str(tmp_path / "out")]
    with in_process():
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "text_rendering.overall 0 share" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "a sign without a text\n", "line 1: expected a text in quotation marks"),
        ("a.txt", "", "found none"),
        ("a.json", '{"prompt": "x"}', "expected a list of prompts"),
        ("a.jsonl", '{"prompt": "x", "text": 3}', "expected a text or a list of texts"),
        ("a.jsonl", '{"prompt": "x", "text": "..."}', "which asks for none"),
        ("a.jsonl", '{"id": 1, "prompt": "x", "text": "a"}\n{"id": 1, "prompt": "y", "text": "b"}', "there twice"),
        ("a.jsonl", "[1]", "expected a prompt, found"),
    ],
)
def test_lists_that_cannot_be_used_are_named_by_their_place(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name) as error:
        TextRenderingBenchmark(prompts=PinnedFile(uri=str(tmp_path / name))).items()
    assert words in str(error.value)
