"""Whose bits an edit begins with: those that a picture was drawn with, as long as nobody has changed it since."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from infinity.cli import app
from infinity.data.images.decoding import UnreadableError
from infinity.generation.drawing import own_pictures
from infinity.generation.drawing.own_pictures import source_of
from infinity.generation.editing.masks import pixel_mask
from infinity.generation.editing.sources import bits_of_image
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.watermark import BitWatermark, WatermarkKey
from infinity.transformer.adapters.lora import Adapter, LowRank
from infinity.transformer.adapters.lora_files import save_adapter
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.fixtures.data.small_world import write_model
from tests.infinity.data.images.test_colours import ADOBE
from tests.infinity.data.images.test_stated_colours import camera, gama, with_chunks

CAT, MASK = "a cat", np.tri(24, dtype=bool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(write_model(folder))


@pytest.fixture(scope="module")
def adapter(pipe: InfinityPipeline, folder: Path) -> str:
    place = "head"
    out, inner = pipe.pipeline.transformer.get_submodule(place).weight.shape
    numbers = torch.Generator().manual_seed(0)
    layer = LowRank(torch.randn(2, inner, generator=numbers), torch.randn(out, 2, generator=numbers), 8.0)
    save_adapter(str(folder / "wild"), Adapter("wild", {place: layer}, ""))
    return str(folder / "wild")


def file_of(pipe: InfinityPipeline, folder: Path, **changes: float) -> Path:
    (path,) = pipe(CAT, seed=3, **changes).save(folder)  # type: ignore[arg-type]
    return path


def changed(path: Path, pixels: np.ndarray) -> bytes:
    """Other pixels with the settings of a picture, as programs write that keep what they do not know."""
    about, file = PngInfo(), io.BytesIO()
    about.add_itxt("infinity", Image.open(path).text["infinity"])  # type: ignore[attr-defined]
    Image.fromarray(pixels).save(file, "PNG", pnginfo=about)
    return file.getvalue()


def both(pipe: InfinityPipeline, data: bytes) -> torch.Tensor:
    """Bits of a file as the command line and the server read it, which are those of the opened picture."""
    by_file = source_of(pipe, data, where="file")
    by_python = pipe.source(Image.open(io.BytesIO(data)))
    assert torch.equal(by_file.labels.bits_BLC, by_python.labels.bits_BLC)
    assert torch.equal(by_file.image_HW3, by_python.image_HW3)
    return by_file.labels.bits_BLC


@pytest.mark.parametrize("change", ["painted", "one pixel", "cropped", "mirrored", "larger"])
def test_a_picture_that_was_changed_since_is_edited_as_it_looks(
    pipe: InfinityPipeline, tmp_path: Path, change: str
) -> None:
    path = file_of(pipe, tmp_path)
    pixels = np.asarray(Image.open(path)).copy()
    other = pixels.copy()
    other[:12] = 0
    dot = pixels.copy()
    dot[5, 5] = 255 - dot[5, 5]
    every = {"painted": other, "one pixel": dot, "cropped": pixels[:9], "mirrored": pixels[::-1]}
    found = (every | {"larger": pixels.repeat(2, 0).repeat(2, 1)})[change]
    expected = bits_of_image(pipe.pipeline, Image.fromarray(found)).labels.bits_BLC
    assert torch.equal(both(pipe, changed(path, found)), expected)


def test_a_picture_as_it_was_drawn_keeps_its_bits_even_where_a_processor_rounds_otherwise(
    pipe: InfinityPipeline, tmp_path: Path
) -> None:
    path, drawn = file_of(pipe, tmp_path), pipe(CAT, seed=3)
    assert torch.equal(both(pipe, path.read_bytes()), drawn.bits.bits_BLC)
    pixels = drawn.pixels()[0].astype(int)
    near = np.clip(pixels + np.random.default_rng(0).integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8)
    assert torch.equal(both(pipe, changed(path, near)), drawn.bits.bits_BLC)
    by_result = pipe.edit(drawn, MASK, "b", seed=1)
    by_picture = pipe.edit(Image.open(path), MASK, "b", seed=1)
    assert np.array_equal(by_result.pixels(), by_picture.pixels())
    assert by_result.settings == by_picture.settings


def test_the_adapters_of_an_edit_are_not_those_of_its_picture(
    pipe: InfinityPipeline, adapter: str, tmp_path: Path
) -> None:
    plain, plain_bits = file_of(pipe, tmp_path / "plain"), pipe(CAT, seed=3).bits.bits_BLC
    pipe.load_lora_weights(adapter, 0.5)
    try:
        adapted, adapted_bits = file_of(pipe, tmp_path / "adapted"), pipe(CAT, seed=3).bits.bits_BLC
        assert not torch.equal(plain_bits, adapted_bits)
        for scale in (0.5, 1.0, 0.0):
            pipe.set_adapters([(adapter, scale)])
            before = pipe.adapters, pipe("b").bits.bits_BLC
            assert torch.equal(both(pipe, plain.read_bytes()), plain_bits)
            assert torch.equal(both(pipe, adapted.read_bytes()), adapted_bits)
            assert pipe.adapters == before[0]
            assert torch.equal(pipe("b").bits.bits_BLC, before[1])
    finally:
        pipe.unload_lora_weights()
    # Without the adapter nobody can draw the picture again.
    encoded = bits_of_image(pipe.pipeline, Image.open(adapted).convert("RGB")).labels.bits_BLC
    assert torch.equal(both(pipe, adapted.read_bytes()), encoded)


def test_a_watermark_of_the_edit_is_not_that_of_its_picture(pipe: InfinityPipeline, tmp_path: Path) -> None:
    path, bits = file_of(pipe, tmp_path), pipe(CAT, seed=3).bits.bits_BLC
    pipe.watermark = mark = BitWatermark(WatermarkKey(b"k" * 40))
    try:
        assert torch.equal(both(pipe, path.read_bytes()), bits)
        assert pipe.watermark == mark
    finally:
        pipe.watermark = None


def test_a_callback_may_edit_but_not_with_another_model(pipe: InfinityPipeline, adapter: str, tmp_path: Path) -> None:
    path = file_of(pipe, tmp_path)
    edited = pipe.edit(Image.open(path), MASK, "b").pixels()
    found = []
    pipe("x", callback_on_scale=lambda _: found.append(pipe.edit(Image.open(path), MASK, "b").pixels()))
    assert all(np.array_equal(each, edited) for each in found)
    pipe.load_lora_weights(adapter)
    try:
        with pytest.raises(ValueError, match="cannot be changed by a callback"):
            pipe("x", callback_on_scale=lambda _: pipe.edit(Image.open(path), MASK, "b"))
        assert pipe.adapters[0].scale == 1.0
    finally:
        pipe.unload_lora_weights()


def run(code: int, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_an_adapter_that_was_moved_draws_its_picture_again(
    pipe: InfinityPipeline, adapter: str, folder: Path, tmp_path: Path
) -> None:
    pipe.load_lora_weights(adapter, 0.5)
    path = file_of(pipe, tmp_path)
    pipe.unload_lora_weights()
    moved = Path(adapter).rename(tmp_path / "another name")
    try:
        run(0, "redo", path, "-c", folder / "model", "-o", tmp_path / "again", "--lora", moved)
        (again,) = (tmp_path / "again").iterdir()
        assert again.read_bytes() == path.read_bytes()
    finally:
        moved.rename(adapter)


def test_a_picture_that_is_refused_takes_no_other_with_it(
    pipe: InfinityPipeline, adapter: str, folder: Path, tmp_path: Path
) -> None:
    good = file_of(pipe, tmp_path / "good")
    pipe.load_lora_weights(adapter)
    bad = file_of(pipe, tmp_path / "bad")
    pipe.unload_lora_weights()
    said = run(1, "redo", good, bad, "-c", folder / "model", "-o", tmp_path / "again")
    assert "give its file with --lora" in said
    (again,) = (tmp_path / "again").iterdir()
    assert again.read_bytes() == good.read_bytes()


def test_the_command_line_edits_what_python_edits_with_the_same_adapters(
    pipe: InfinityPipeline, adapter: str, folder: Path, tmp_path: Path
) -> None:
    plain = file_of(pipe, tmp_path / "plain")
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    pipe.load_lora_weights(adapter, 0.5)
    try:
        for number, path in enumerate((plain, file_of(pipe, tmp_path / "adapted"))):
            (by_python,) = pipe.edit(Image.open(path), MASK, "b", seed=5).save(tmp_path / f"python-{number}")
            run(
                0, "edit", path, "-c", folder / "model", "-p", "b", "--seed", 5, "--mask", tmp_path / "mask.png",
                "--lora", f"{adapter}:0.5", "-o", tmp_path / f"command-{number}",
            )  # fmt: skip
            (by_command,) = (tmp_path / f"command-{number}").iterdir()
            assert by_python.read_bytes() == by_command.read_bytes()
    finally:
        pipe.unload_lora_weights()


def test_colours_are_those_that_a_viewer_shows_through_every_door(pipe: InfinityPipeline) -> None:
    for data in (
        *(encoded(noise(), format, icc_profile=ADOBE) for format in ("PNG", "JPEG", "TIFF")),
        with_chunks(noise(), gAMA=gama(1 / 1.4)),
        encoded(noise(20, 30), "JPEG", exif=camera(orientation=6)),
    ):
        both(pipe, data)
    colours = Image.fromarray(noise())
    first = {"La": "LA", "RGBa": "RGBA", "PA": "P", "I": "L", "F": "L"}
    for mode in ("La", "LA", "RGBa", "PA", "CMYK", "I", "F", "1"):
        assert pipe.source(colours.convert(first.get(mode, "RGB")).convert(mode)).size_px == (24, 24)
        assert pixel_mask(colours.convert(first.get(mode, "RGB")).convert(mode), (24, 24)).shape == (24, 24)


def test_a_picture_that_is_too_large_is_refused_before_its_settings_are_looked_for(
    pipe: InfinityPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may stand behind the pixels, which would be decoded first."""
    data, asked = file_of(pipe, tmp_path).read_bytes(), list[bytes]()
    monkeypatch.setattr(own_pictures, "drawing_in", lambda given, **_: asked.append(given))
    with pytest.raises(UnreadableError, match="too many pixels"):
        source_of(pipe, data, where="file", max_pixels=10)
    assert asked == []
