"""Parts of a model that do not stay on the device: equal pictures, little memory, and what is refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from infinity.budget import working_bytes, working_memory
from infinity.cli import app
from infinity.generation import placement
from infinity.generation.drawing.redo import OtherModelError, redo
from infinity.generation.files.picture_files import read_drawing
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.pipeline import Pipeline, save_model
from infinity.text import T5TextConfig
from infinity.transformer import Transformer
from infinity.transformer.adapters.lora import Adapter, LowRank
from infinity.transformer.number_formats import precision
from tests.fixtures.data.small_world import RESOLUTION, TRANSFORMER, write_model
from tests.fixtures.models.published_files import write_t5

PROMPTS = ["a red cat", "two blue cubes", "an old boat"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def reading(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that reads captions by a T5."""
    folder = tmp_path_factory.mktemp("reading")
    (folder / "t5").mkdir()
    write_t5(folder / "t5")
    transformer = Transformer(
        TRANSFORMER.replace(num_bits=Pipeline.load(model).tokenizer.config.token_bits, text_channels=128)
    )
    transformer.init_weights(torch.Generator().manual_seed(3))
    text = T5TextConfig(model=str(folder / "t5"))
    uri = str(folder / "model")
    save_model(uri, transformer, text=text, resolution=RESOLUTION, tokenizer_uri=f"{model}/tokenizer")
    return uri


def bits(pipe: InfinityPipeline, **settings: Any) -> torch.Tensor:
    return pipe(PROMPTS, seed=5, **settings).bits.bits_BLC


@pytest.fixture
def loadings(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Weak references to every text encoder that was loaded."""
    found: list[Callable[[], object]] = []
    build = placement.build_text_encoder

    def counted(*arguments: Any) -> Any:
        encoder = build(*arguments)
        found.append(weakref.ref(encoder))
        return encoder

    monkeypatch.setattr(placement, "build_text_encoder", counted)
    return found


@pytest.mark.parametrize("settings", [{}, {"negative_prompt": "a cube"}, {"batch_size": 2, "guidance_scale": 1.0}])
def test_a_released_text_encoder_gives_the_same_bits_and_is_loaded_once_per_call(
    reading: str, loadings: list[Callable[[], object]], settings: dict[str, Any]
) -> None:
    expected = bits(InfinityPipeline.from_pretrained(reading, device="cpu"), **settings)
    loadings.clear()
    pipe = InfinityPipeline.from_pretrained(reading, device="cpu", release_text=True)
    assert len(loadings) == 1  # at first, to check it
    during = []
    found = pipe(
        PROMPTS, seed=5, callback_on_scale=lambda _: during.append(sum(e() is not None for e in loadings)), **settings
    )
    assert torch.equal(found.bits.bits_BLC, expected)
    assert len(loadings) == 2
    assert set(during) == {0}  # none while the transformer draws


def test_a_released_text_encoder_serves_blends_and_edits(reading: str, tmp_path: Path) -> None:
    kept = InfinityPipeline.from_pretrained(reading, device="cpu")
    pipe = InfinityPipeline.from_pretrained(reading, device="cpu", release_text=True)
    for draw in (
        lambda each: each.blend("a red cat", "an old boat", later_scale=1, seed=3),
        lambda each: each.vary(each("a red cat").images[0], "a blue cat", keep_scales=1, seed=3),
    ):
        assert torch.equal(draw(pipe).bits.bits_BLC, draw(kept).bits.bits_BLC)
    assert pipe.pipeline.text_encoder.num_tokens("a red cat") == kept.pipeline.text_encoder.num_tokens("a red cat")


def test_a_wrong_text_encoder_is_told_when_the_model_is_loaded(reading: str, model: str) -> None:
    with pytest.raises(ValueError, match="device: expected cpu, cuda"):
        InfinityPipeline.from_pretrained(reading, device="cpu", text_device="tpu")
    with pytest.raises(ValueError, match="memory_gb"):
        InfinityPipeline.from_pretrained(model, device="cpu", memory_gb=0.0)


@pytest.mark.parametrize("forms", [{}, {"quantize": "int8"}, {"quantize": "int4", "cache": "int8"}])
def test_offloaded_weights_draw_the_same_bits_and_come_back(model: str, forms: dict[str, Any]) -> None:
    pipe = InfinityPipeline.from_pretrained(model, device="cpu", offload=True, **forms)
    expected = InfinityPipeline.from_pretrained(model, device="cpu", **forms)
    places = [each.data_ptr() for each in pipe.pipeline.transformer.parameters()]
    assert torch.equal(bits(pipe), bits(expected))
    assert places == [each.data_ptr() for each in pipe.pipeline.transformer.parameters()]


def test_a_layer_computes_with_fetched_weights_alone(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of its layer a weight is zero here, so that one which is read without being fetched changes the bits."""
    homes: dict[tuple[int, str], torch.Tensor] = {}

    def fetch(self: Any, *_: object) -> None:
        for place, name in self.places:
            place[name] = homes[id(place), name]

    def give_up(self: Any, *_: object) -> None:
        for place, name in self.places:
            place[name] = torch.nn.Parameter(torch.zeros_like(place[name]), requires_grad=False)

    monkeypatch.setattr(placement._WaitingLayer, "_fetch", fetch)
    monkeypatch.setattr(placement._WaitingLayer, "_give_up", give_up)
    pipe = InfinityPipeline.from_pretrained(model, device="cpu", offload=True)
    for block in pipe.pipeline.transformer.block_modules():
        for _, maps in placement._layers(block):
            for place, name in (each for linear in maps for each in placement._places(linear)):
                homes[id(place), name] = place[name]
                place[name] = torch.nn.Parameter(torch.zeros_like(place[name]), requires_grad=False)
    assert torch.equal(bits(pipe), bits(InfinityPipeline.from_pretrained(model, device="cpu")))


def test_adapters_reach_offloaded_weights(model: str) -> None:
    plain, offloaded = (InfinityPipeline.from_pretrained(model, device="cpu", offload=each) for each in (False, True))
    shape = plain.pipeline.transformer.blocks[0].feed_forward.expand.weight.shape
    generator = torch.Generator().manual_seed(0)
    change = LowRank(torch.randn(2, shape[1], generator=generator), torch.randn(shape[0], 2, generator=generator), 1.0)
    for pipe in (plain, offloaded):
        pipe.set_adapters([(Adapter("wild", {"blocks.0.feed_forward.expand": change}, ""), 1.0)])
    assert torch.equal(bits(plain), bits(offloaded))
    without = bits(plain)
    for pipe in (plain, offloaded):
        pipe.unload_lora_weights()
    assert torch.equal(bits(plain), bits(offloaded))
    assert not torch.equal(bits(plain), without)


def test_what_offloaded_weights_cannot_do_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match=r"offload: .*neither compiled nor captured"):
        InfinityPipeline.from_pretrained(model, device="cpu", offload=True, compiled=True)
    with pytest.raises(ValueError, match="to: a model with offloaded weights stays"):
        InfinityPipeline.from_pretrained(model, device="cpu", offload=True).to("cpu")


def test_a_budget_of_the_pipeline_cuts_passes_and_changes_no_bit(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITY_MEMORY_GB", "7")
    sizes: list[int] = []
    small = InfinityPipeline.from_pretrained(model, device="cpu", memory_gb=1e-6)
    small(PROMPTS, callback_on_scale=lambda preview: sizes.append(len(preview.rows)))
    assert set(sizes) == {1}
    assert torch.equal(bits(small), bits(InfinityPipeline.from_pretrained(model, device="cpu")))
    assert working_bytes(torch.device("cpu")) == 7_000_000_000
    with working_memory(5), working_memory(None):
        assert working_bytes(torch.device("cpu")) == 5


def test_the_file_of_a_picture_says_that_it_was_drawn_in_bfloat16(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_has_instructions", lambda: True)  # emulated where the processor has none
    common = ("generate", "-c", model, "-p", "a red cat", "--device", "cpu", "-o")
    files = []
    for name, option in (("half", "--bfloat16"), ("single", "--no-bfloat16")):
        found = CliRunner().invoke(app, [*common, str(tmp_path / name), option])
        assert found.exit_code == 0, found.output
        (file,) = (tmp_path / name).iterdir()
        files.append(file)
        found = CliRunner().invoke(app, ["redo", str(file), "-c", model, "-o", str(tmp_path / f"{name}-again")])
        assert found.exit_code == 0, found.output
        (again,) = (tmp_path / f"{name}-again").iterdir()
        assert again.read_bytes() == file.read_bytes()
    half, single = (read_drawing(file) for file in files)
    assert (half.bfloat16, single.bfloat16) == (True, None)
    assert b"bfloat16" not in files[1].read_bytes()
    with pytest.raises(OtherModelError, match="products in bfloat16, the model computes in float32"):
        redo(InfinityPipeline.from_pretrained(model, device="cpu"), half)


def test_the_command_takes_the_placements(reading: str, tmp_path: Path) -> None:
    options = ("--release-text", "--offload", "--text-device", "cpu")
    for name, more in (("plain", ()), ("placed", options)):
        found = CliRunner().invoke(
            app, ["generate", "-c", reading, "-p", "a red cat", "-o", str(tmp_path / name), *more]
        )
        assert found.exit_code == 0, found.output
    (plain,), (placed,) = ((tmp_path / name).iterdir() for name in ("plain", "placed"))
    assert plain.read_bytes() == placed.read_bytes()
    gc.collect()
