"""A picture's file is enough to draw it again, bit for bit: plain, edited, blended, and with adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.picture_files import read_drawing
from infinity.transformer.lora import Adapter, LowRank
from infinity.transformer.lora_files import save_adapter
from tests.fixtures.small_world import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = "blocks.0.feed_forward.expand"
    out, inner = InfinityPipeline.from_pretrained(model).pipeline.transformer.get_submodule(place).weight.shape
    numbers = torch.Generator().manual_seed(0)
    layer = LowRank(torch.randn(2, inner, generator=numbers), torch.randn(out, 2, generator=numbers), 1.0)
    folder = str(tmp_path_factory.mktemp("adapter") / "wild")
    save_adapter(folder, Adapter("wild", {place: layer}, ""))
    return folder


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_every_kind_of_picture_is_drawn_again_with_equal_pixels(model: str, adapter: str, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(np.tri(30, dtype=np.uint8) * 255).save(mask)
    plain = tmp_path / "plain"
    common = ("-c", model, "--seed", 5, "--guidance", "1..3", "--temperature", "0.8")
    command("generate", *common, "-p", "a red cube", "-o", plain, "--aspect-ratio", 2)
    edits = ("edit", only(plain), "-c", model, "-p", "a blue ball")
    command(*edits, "--mask", mask, "-o", tmp_path / "inpainted")
    command(*edits, "--keep-scales", 2, "-o", tmp_path / "varied")
    command(*edits, "--outpaint", 1, "-o", tmp_path / "outpainted")
    command("generate", *common, "-p", "a", "-o", tmp_path / "blended", "--later-prompt", "b", "--later-scale", 2)
    command("generate", *common, "-p", "a", "-o", tmp_path / "adapted", "--lora", f"{adapter}:0.5")
    command("edit", only(tmp_path / "inpainted"), "-c", model, "-p", "x", "--mask", mask, "-o", tmp_path / "twice")
    for name in ("plain", "inpainted", "varied", "outpainted", "blended", "adapted", "twice"):
        path = only(tmp_path / name)
        command("redo", path, "-c", model, "-o", tmp_path / f"{name}-again", "--lora", adapter)
        assert np.array_equal(pixels(only(tmp_path / f"{name}-again")), pixels(path)), name
        assert only(tmp_path / f"{name}-again").read_bytes() == path.read_bytes(), name


def test_an_edit_of_an_own_picture_keeps_its_exact_bits(model: str, tmp_path: Path) -> None:
    pipe = InfinityPipeline.from_pretrained(model)
    drawn = pipe("a red cube", seed=8)
    (path,) = drawn.save(tmp_path)
    mask = np.zeros((6, 6), dtype=bool)
    mask[:3] = True
    from infinity.generation.redo import source_of

    found = source_of(pipe, path.read_bytes(), where="x")
    assert torch.equal(found.labels.bits_BLC, drawn.bits.bits_BLC)
    assert not np.array_equal(pipe.edit(drawn, mask, "b").pixels(), drawn.pixels())


def test_what_is_missing_is_named(model: str, adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("generate", "-c", model, "-p", "a", "-o", tmp_path / "out", "--lora", adapter)
    path = only(tmp_path / "out")
    assert "give its file with --lora" in refused("redo", path, "-c", model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFINITY_RUNS", raising=False)
    assert "give its folder with --checkpoint" in refused("redo", path)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (4, 4)).save(other / "x.png")
    assert "expected a drawing with its settings" in refused("redo", other / "x.png", "-c", model)
    assert "exactly one of --mask" in refused("edit", path, "-c", model, "-p", "x")


def test_the_model_of_a_picture_is_found_among_the_runs(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    InfinityPipeline.from_pretrained(model).save_pretrained("runs/shapes/transformer-1/model")
    command("generate", "-c", model, "-p", "a", "-o", "out")
    command("redo", only(Path("out")), "-o", "again")
    assert np.array_equal(pixels(only(Path("again"))), pixels(only(Path("out"))))
    assert read_drawing(only(Path("again"))).edit is None


def test_a_picture_of_another_model_is_refused(model: str, tmp_path: Path) -> None:
    from tests.fixtures.small_world import TOKENIZER

    command("generate", "-c", model, "-p", "a", "-o", tmp_path / "out")
    other = write_model(tmp_path / "other", tokenizer=TOKENIZER.replace(num_bits=3))
    assert "was drawn with the model" in refused("redo", only(tmp_path / "out"), "-c", other)
