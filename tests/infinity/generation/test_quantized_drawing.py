"""Drawing with quantized weights: equal in every batch, recorded in the picture, drawn again from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from infinity.cli import app
from infinity.generation.drawing.redo import OtherModelError, redo
from infinity.generation.files.picture_files import read_drawing
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.pipeline import Pipeline, load_transformer
from infinity.serving.drawing import DrawingRoom
from infinity.serving.settings import ServingConfig
from infinity.transformer.number_formats.precision import store_products_as
from infinity.transformer.number_formats.quantized import (
    QUANTIZATIONS,
    Quantization,
    QuantizedLinear,
    quantize_products,
)
from tests.fixtures.data.small_world import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_a_picture_is_the_same_alone_in_a_batch_by_the_command_and_again(
    model: str, tmp_path: Path, kind: Quantization
) -> None:
    pipe = InfinityPipeline.from_pretrained(model, device="cpu", quantize=kind)
    prompts = ["a red cube", "two blue balls"]
    together, alone = pipe(prompts, seed=4, output_type="np"), pipe(prompts[1], seed=4, output_type="np")
    assert np.array_equal(together.images[1], alone.images[0])
    assert command("generate", "-c", model, "-p", prompts[1], "--seed", 4, "--quantize", kind, "-o", tmp_path / "a")
    (file,) = (tmp_path / "a").iterdir()
    assert read_drawing(file) == alone.settings[0]
    assert read_drawing(file).quantized == kind
    found = command("redo", file, "-c", model, "-o", tmp_path / "b")
    assert found.exit_code == 0, found.output
    (again,) = (tmp_path / "b").iterdir()
    assert again.read_bytes() == file.read_bytes()


def test_logits_are_close_to_those_of_floating_point_and_int8_is_closer(model: str) -> None:
    bits = {
        kind: InfinityPipeline.from_pretrained(model, device="cpu", quantize=kind)("a", guidance_scale=1.0, seed=3)
        for kind in (None, *QUANTIZATIONS)
    }
    differ = {kind: float((bits[kind].bits.bits_BLC != bits[None].bits.bits_BLC).float().mean()) for kind in bits}
    assert differ[None] == 0 <= differ["int8"] <= differ["int4"] < 0.5


def test_a_picture_of_other_weights_is_not_drawn_again_in_silence(model: str) -> None:
    plain = InfinityPipeline.from_pretrained(model, device="cpu")
    small = InfinityPipeline.from_pretrained(model, device="cpu", quantize="int8")
    with pytest.raises(OtherModelError, match="drawn with int8 weights, the model is loaded with floating-point ones"):
        redo(plain, small("a").settings[0])
    with pytest.raises(OtherModelError, match="drawn with floating-point weights, the model is loaded with int8 ones"):
        redo(small, plain("a").settings[0])
    assert plain("a").settings[0].quantized is None


def test_a_server_draws_with_the_weights_that_it_was_told(model: str) -> None:
    room = DrawingRoom(ServingConfig(model=model, device="cpu", quantize="int4"))
    expected = InfinityPipeline.from_pretrained(model, device="cpu", quantize="int4")("a", seed=2)
    assert torch.equal(room.pipe("a", seed=2).bits.bits_BLC, expected.bits.bits_BLC)


def test_float8_is_refused_on_a_processor_at_every_door(model: str, tmp_path: Path) -> None:
    refused = r"float8: products in 8 bits need an NVIDIA GPU .*found the device cpu; leave float8 out"
    for load in (
        lambda: InfinityPipeline.from_pretrained(model, device="cpu", quantize="float8"),
        lambda: DrawingRoom(ServingConfig(model=model, device="cpu", quantize="float8")),
    ):
        with pytest.raises(ValueError, match=refused):
            load()
    found = command("generate", "-c", model, "-p", "a", "--quantize", "float8", "--device", "cpu", "-o", tmp_path)
    assert found.exit_code != 0
    assert "float8: products in 8 bits need an NVIDIA GPU" in " ".join(found.output.split())
    assert "Traceback" not in found.output


def test_float8_draws_one_picture_in_every_batch_and_its_file_says_so(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated here, as if this processor were a card that has it."""
    monkeypatch.setattr("infinity.generation.pipeline.check_float8", lambda device: None)
    pipe = InfinityPipeline.from_pretrained(model, device="cpu", quantize="float8")
    prompts = ["a red cube", "two blue balls"]
    together, alone = pipe(prompts, seed=4, output_type="np"), pipe(prompts[1], seed=4, output_type="np")
    assert np.array_equal(together.images[1], alone.images[0])
    assert alone.settings[0].quantized == "float8"
    plain = InfinityPipeline.from_pretrained(model, device="cpu")(prompts[1], seed=4)
    assert float((alone.bits.bits_BLC != plain.bits.bits_BLC).float().mean()) < 0.3
    kinds = {m.kind for m in pipe.pipeline.transformer.modules() if isinstance(m, QuantizedLinear)}
    assert kinds == {"float8"}
    with pytest.raises(ValueError, match="found the device cpu"):
        pipe.to("cpu")  # no door is left open


def test_an_unknown_kind_is_one_sentence(model: str, tmp_path: Path) -> None:
    found = command("generate", "-c", model, "-p", "a", "--quantize", "int3", "-o", tmp_path)
    assert found.exit_code != 0
    assert "quantize: expected int8 or int4 or float8, got 'int3'" in " ".join(found.output.split())


@pytest.mark.parametrize("kind", [None, *QUANTIZATIONS])
def test_loading_reads_layer_by_layer_and_keeps_nothing_of_the_file(
    model: str, kind: Quantization | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 weights stay in the mapped file until they are quantized; the rest is copied, so the file may go."""
    _, whole = load_transformer(model)
    if kind is not None:
        quantize_products(whole, kind)
    store_products_as(whole, torch.bfloat16)
    monkeypatch.setattr("infinity.generation.pipeline.check_bfloat16", lambda device: None)  # nothing is computed
    loaded = Pipeline.load(model, quantized=kind, bfloat16=True).transformer
    expected = dict((*whole.named_parameters(), *whole.named_buffers()))
    found = dict((*loaded.named_parameters(), *loaded.named_buffers()))
    assert found.keys() == expected.keys()
    for name, weights in found.items():
        assert weights.dtype == expected[name].dtype
        assert torch.equal(weights, expected[name]), name
    maps = Path("/proc/self/maps")
    if maps.exists():
        span = [line.split("-") for line in maps.read_text().splitlines() if line.endswith(".safetensors")]
        mapped = [(int(first, 16), int(rest.split()[0], 16)) for first, rest in span]
        places = [weights.data_ptr() for weights in found.values()]
        assert not any(first <= place < last for place in places for first, last in mapped)
