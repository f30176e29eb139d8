"""A picture's file is enough to draw it again, bit for bit: plain, edited, blended, and with adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.generation.files.picture_files import read_drawing
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.transformer.adapters.lora import Adapter, LowRank
from infinity.transformer.adapters.lora_files import save_adapter
from tests.fixtures.data.small_world import write_model


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
    from infinity.generation.drawing.own_pictures import source_of

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
    from tests.fixtures.data.small_world import TOKENIZER

    command("generate", "-c", model, "-p", "a", "-o", tmp_path / "out")
    other = write_model(tmp_path / "other", tokenizer=TOKENIZER.replace(num_bits=3))
    assert "was drawn with the model" in refused("redo", only(tmp_path / "out"), "-c", other)


def test_a_merged_model_draws_the_bits_of_loaded_adapters_and_a_difference_gives_the_adapter_back(
    model: str, adapter: str, tmp_path: Path
) -> None:
    command("adapter", "merge", model, tmp_path / "merged", "--lora", f"{adapter}:0.5")
    loaded = InfinityPipeline.from_pretrained(model)
    loaded.load_lora_weights(adapter, 0.5)
    merged = InfinityPipeline.from_pretrained(str(tmp_path / "merged"))
    with_adapter, with_merged = (pipe("a red cube", num_images_per_prompt=4, seed=2) for pipe in (loaded, merged))
    assert torch.equal(with_adapter.bits.bits_BLC, with_merged.bits.bits_BLC)
    assert np.array_equal(with_adapter.pixels(), with_merged.pixels())
    plain = InfinityPipeline.from_pretrained(model)("a red cube", num_images_per_prompt=4, seed=2)
    assert not torch.equal(plain.bits.bits_BLC, with_merged.bits.bits_BLC)
    loaded.unload_lora_weights()
    loaded.load_lora_weights(adapter)  # as it is, at scale 1
    whole = loaded("a red cube", num_images_per_prompt=4, seed=2).bits.bits_BLC
    loaded.unload_lora_weights()
    loaded.load_lora_weights(adapter, 1.0)
    assert torch.equal(loaded("a red cube", num_images_per_prompt=4, seed=2).bits.bits_BLC, whole)
    assert not torch.equal(whole, plain.bits.bits_BLC)
    loaded.unload_lora_weights()
    assert torch.equal(loaded("a red cube", num_images_per_prompt=4, seed=2).bits.bits_BLC, plain.bits.bits_BLC)
    output = command("adapter", "from-difference", model, tmp_path / "merged", tmp_path / "found", "--rank", 2)
    assert "1 linear maps, 0.00% of the change left out" in " ".join(output.split())
    assert "blocks.0.feed_forward.expand LoRA of rank 2" in " ".join(
        command("adapter", "show", tmp_path / "found").split()
    )
    assert "whose blocks differ" in refused("adapter", "from-difference", model, model, tmp_path / "none")


def test_a_generator_gives_seeds_that_draw_the_same_again(model: str) -> None:
    pipe = InfinityPipeline.from_pretrained(model)
    first = pipe("a", num_images_per_prompt=2, generator=torch.Generator().manual_seed(3))
    assert len(set(first.seeds)) == 2
    assert np.array_equal(pipe("a", num_images_per_prompt=2, seed=list(first.seeds)).pixels(), first.pixels())
    with pytest.raises(ValueError, match="either a generator or a seed"):
        pipe("a", seed=1, generator=torch.Generator())


def test_previews_come_after_every_scale_and_end_with_the_picture(model: str) -> None:
    pipe, seen = InfinityPipeline.from_pretrained(model), []
    result = pipe(
        ["a", "b", "c"],
        batch_size=2,
        callback_on_scale=lambda preview: seen.append((preview.rows, preview.scale, preview.images())),
    )
    assert [(list(rows), scale) for rows, scale, _ in seen] == [([0, 1], k) for k in range(4)] + [
        ([2], k) for k in range(4)
    ]
    assert np.array_equal(np.asarray(seen[3][2][1]), result.pixels()[1])
    assert not np.array_equal(np.asarray(seen[0][2][1]), result.pixels()[1])
