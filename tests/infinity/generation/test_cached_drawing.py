"""Drawing with keys and values in 8 bits: equal in every batch and through every door, recorded, drawn again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from infinity.cli import app
from infinity.generation.drawing.own_pictures import source_of
from infinity.generation.drawing.redo import OtherModelError, redo
from infinity.generation.files.picture_files import read_drawing
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.memory import cache_bytes, picture_bytes
from infinity.presets import transformer_preset
from infinity.scales import published_schedule
from infinity.serving.drawing import DrawingRoom
from infinity.serving.settings import ServingConfig
from tests.fixtures.data.small_world import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def small(model: str) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(model, device="cpu", cache="int8")


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_a_picture_is_the_same_alone_in_a_batch_by_the_command_the_server_and_again(
    model: str, small: InfinityPipeline, tmp_path: Path
) -> None:
    prompts = ["a red cube", "two blue balls"]
    together, alone = small(prompts, seed=4, output_type="np"), small(prompts[1], seed=4, output_type="np")
    assert np.array_equal(together.images[1], alone.images[0])
    found = command("generate", "-c", model, "-p", prompts[1], "--seed", 4, "--cache", "int8", "-o", tmp_path / "a")
    assert found.exit_code == 0, found.output
    (file,) = (tmp_path / "a").iterdir()
    assert read_drawing(file) == alone.settings[0]
    assert read_drawing(file).cache == "int8"
    found = command("redo", file, "-c", model, "-o", tmp_path / "b")
    assert found.exit_code == 0, found.output
    (again,) = (tmp_path / "b").iterdir()
    assert again.read_bytes() == file.read_bytes()
    room = DrawingRoom(ServingConfig(model=model, device="cpu", cache="int8"))
    assert torch.equal(room.pipe(prompts[1], seed=4).bits.bits_BLC, alone.bits.bits_BLC)
    assert torch.equal(source_of(small, file.read_bytes(), where="").labels.bits_BLC, alone.bits.bits_BLC)


def test_the_cache_is_stored_in_eight_bits_and_few_bits_differ(model: str, small: InfinityPipeline) -> None:
    plain = InfinityPipeline.from_pretrained(model, device="cpu")
    prompts = [f"picture {i}" for i in range(8)]
    one, other = (pipe(prompts, seed=1).bits.bits_BLC for pipe in (plain, small))
    assert float((one != other).float().mean()) < 0.2
    text = small.pipeline.text_encoder.encode(["a"])
    decoding = small.pipeline.transformer.start_decoding(text, small.pipeline.config.resolution.schedule(1.0))
    small.pipeline.transformer.decode_scale(decoding, 0, None)
    assert {each.dtype for cache in decoding.caches for each in cache._stored} == {torch.int8, torch.float16}


def test_a_picture_of_another_cache_is_not_drawn_again_in_silence(model: str, small: InfinityPipeline) -> None:
    plain = InfinityPipeline.from_pretrained(model, device="cpu")
    with pytest.raises(
        OtherModelError, match="with int8 keys and values, the model is loaded with floating-point ones"
    ):
        redo(plain, small("a").settings[0])
    with pytest.raises(
        OtherModelError, match="with floating-point keys and values, the model is loaded with int8 ones"
    ):
        redo(small, plain("a").settings[0])
    assert "cache" not in plain("a").settings[0].to_json()


def test_an_unknown_form_is_one_sentence(model: str, tmp_path: Path) -> None:
    for arguments in (
        ("generate", "-c", model, "-p", "a", "-o", tmp_path),
        ("serve", model),
        ("estimate", "--draw", "2b"),
    ):
        found = command(*arguments, "--cache", "int3")
        assert found.exit_code != 0
        assert "cache: expected int8, got 'int3'" in " ".join(found.output.split())


def test_a_pass_holds_more_pictures() -> None:
    config, schedule = transformer_preset("2B-released"), published_schedule(1.0, "1024")
    plain, eight = (cache_bytes(config, schedule, torch.bfloat16, form) for form in (None, "int8"))
    kept = schedule.spans[-1].start / schedule.num_tokens  # the last scale, three fifths, is read once
    assert eight / plain == pytest.approx((0.5 + 1 / 128) * kept)
    assert eight / plain < 0.32
    wanted: dict[str, Any] = {"doubled": True, "cache_dtype": torch.bfloat16}
    assert picture_bytes(config, schedule, **wanted, cache_form="int8") < 0.65 * picture_bytes(
        config, schedule, **wanted
    )
