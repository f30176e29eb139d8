"""The pages of ``examples/``, each run in miniature."""

from __future__ import annotations

import ast
import io
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infinity import presets
from infinity.checkpoint import load_checkpoint
from infinity.data.dataset.manifest import Manifest
from infinity.generation.pipeline import KIND
from infinity.jobs.cluster.connection import in_process
from infinity.scenes.drawing import ScenesConfig, write_scenes
from tests.fixtures.data.small_world import write_data, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PAGES = (
    "scenes", "emoji", "paper_2b", "finetune", "generate", "evaluate", "add_a_filter", "add_a_metric",
    "read_with_datasets",
)  # fmt: skip


def run(name: str, *arguments: Any, **options: Any) -> Any:
    """Call the ``main`` of a page."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](*arguments, **options)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 48 captioned pictures."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(ScenesConfig(count=48, size_px=32), folder)
    return folder


def test_every_page_is_here_and_short_enough_to_be_read() -> None:
    assert sorted(PAGES) == sorted(path.stem for path in EXAMPLES.glob("*.py"))
    for name in PAGES:
        text = (EXAMPLES / f"{name}.py").read_text()
        assert 30 <= len(text.splitlines()) <= 90, name
        assert ast.get_docstring(ast.parse(text)), name


def test_scenes_trains_a_model_from_nothing(tmp_path: Path) -> None:
    with in_process():
        folder = run("scenes", str(tmp_path / "run"), "mini")
    assert load_checkpoint(folder).kind == KIND
    assert size_of(tmp_path / "run/circle.png") == (32, 32)


def test_emoji_trains_on_a_folder_of_pictures(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with in_process():
        folder = run("emoji", str(scenes), str(tmp_path / "run"), "mini")
    assert load_checkpoint(folder).kind == KIND
    assert "kept" in capsys.readouterr().out
    assert list((tmp_path / "run").glob("*.png"))


def test_paper_2b_writes_the_specs_and_says_what_they_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = {"125M": presets.TRANSFORMERS["125M"].replace(depth=1)}  # tracing a step takes time for every block
    monkeypatch.setattr(presets, "TRANSFORMERS", {**presets.TRANSFORMERS, **shallow})
    files = run("paper_2b", "s3://data/manifest.parquet", str(tmp_path), model="125M", num_workers=1024, bits=16)
    kinds = [json.loads(file.read_text())["kind"] for file in files]
    assert kinds == ["tokenizer", "tokenizer", "transformer", "transformer", "transformer"]
    assert capsys.readouterr().out.count("GB per GPU") == 3


def test_finetune_changes_the_weights_of_a_model(model: str, scenes: Path, tmp_path: Path) -> None:
    with in_process():
        folder = run("finetune", model, str(scenes), str(tmp_path), num_steps=2, batch_size=2)
    before, after = load_checkpoint(model).tensors, load_checkpoint(folder).tensors
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)
    assert (tmp_path / "finetuned.png").exists()


def test_generate_draws_the_same_seed_again(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        run("generate", model, str(tmp_path / folder))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "guidance-1.png", "guidance-3.png", "seed-10.png", "seed-7.png", "seed-8.png", "seed-9.png", "wide.png",
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    width, height = size_of(tmp_path / "a/wide.png")
    assert width > height
    assert "bits each" in capsys.readouterr().out


def test_evaluate_prints_every_figure(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with in_process():
        figures = run("evaluate", model, write_data(tmp_path / "data"), str(tmp_path / "out"), 4)
    assert figures["reconstruction.psnr_db"] is not None
    assert figures["validation.loss"] is not None
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*figures, "samples"))


def test_a_filter_of_ones_own_drops_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        grey = np.repeat(pixels[:, :, :1], 3, axis=2)
        Image.fromarray(grey if number < 2 else pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture number {number}")
    with in_process():
        counts = run("add_a_filter", str(folder), str(tmp_path / "out"))
        everything = run("add_a_filter", str(folder), str(tmp_path / "out"), None)
    assert (counts["read"], counts["kept"], counts["dropped_no_colour"]) == (6, 4, 2)
    assert everything["kept"] == 6


def test_a_metric_of_ones_own_is_scored_beside_the_others(model: str, tmp_path: Path) -> None:
    with in_process():
        value = run("add_a_metric", model, write_data(tmp_path / "data"), str(tmp_path / "out"), 4)
    assert value is not None
    assert 0 < value < 255


def test_datasets_of_hugging_face_streams_every_picture_with_its_caption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    manifest = Manifest.load(write_data(tmp_path / "data"))
    stream = runpy.run_path(str(EXAMPLES / "read_with_datasets.py"))["stream"](manifest.uri)
    rows = manifest.rows("train")
    assert stream.num_shards == len(set(manifest.values("shard", rows)))
    found = list(stream)
    assert [each["text"] for each in found] == manifest.captions(rows)
    for row, each in zip(rows.tolist(), found, strict=True):
        expected = Image.open(io.BytesIO(manifest.read_image(row)))
        np.testing.assert_array_equal(np.asarray(each["image"]), np.asarray(expected))
