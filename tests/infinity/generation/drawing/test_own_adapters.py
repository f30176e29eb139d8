"""Pictures of one call with different adapters: each has the bits that it has alone, and the loaded adapters stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.transformer.adapters.lora import Adapter, AdapterError, LowRank
from infinity.transformer.adapters.lora_files import save_adapter
from tests.fixtures.data.small_world import write_model

PLACE = "blocks.0.feed_forward.expand"
PROMPTS = ["a red cat", "a blue cat", "a red car", "an old boat", "a cube"]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(write_model(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture(scope="module")
def places(pipe: InfinityPipeline, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out, inner = pipe.pipeline.transformer.get_submodule(PLACE).weight.shape  # type: ignore[union-attr,misc]
    found = []
    for name in ("one", "two"):
        numbers = torch.Generator().manual_seed(len(found))
        layer = LowRank(torch.randn(2, inner, generator=numbers), torch.randn(out, 2, generator=numbers), 1.0)
        found.append(str(tmp_path_factory.mktemp("adapters") / name))
        save_adapter(found[-1], Adapter(name, {PLACE: layer}, ""))
    return found


@pytest.mark.parametrize("form", ["pil", "np", "pt"])
def test_each_picture_has_the_bits_and_settings_that_it_has_alone(
    pipe: InfinityPipeline, places: list[str], form: Any
) -> None:
    one, two = places
    adapters = [[(one, 1.0)], [], [(two, 0.5)], [(one, 1.0)], [(one, 1.0), (two, -0.5)]]
    shares: list[float] = []
    together = pipe(
        PROMPTS,
        seed=7,
        num_images_per_prompt=2,
        adapters=adapters,
        output_type=form,
        progress=shares.append,
        batch_size=3,
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(together.images) == len(together.settings) == 10
    for number, (prompt, pairs) in enumerate(zip(PROMPTS, adapters, strict=True)):
        pipe.set_adapters(pairs)
        alone = pipe(prompt, seed=7, num_images_per_prompt=2, output_type=form)
        pipe.unload_lora_weights()
        rows = slice(2 * number, 2 * number + 2)
        assert torch.equal(together.bits.bits_BLC[rows], alone.bits.bits_BLC)
        assert np.array_equal(together.pixels()[rows], alone.pixels())
        assert together.settings[rows] == alone.settings
        assert (together.prompts[rows], together.seeds[rows]) == (alone.prompts, alone.seeds)


def test_loaded_adapters_stay_and_take_no_part(pipe: InfinityPipeline, places: list[str]) -> None:
    plain = pipe("a red cat", seed=1).bits.bits_BLC
    pipe.set_adapters([(places[0], 1.0)])
    loaded = pipe.adapters
    assert torch.equal(pipe(["a red cat"], seed=1, adapters=[[]]).bits.bits_BLC, plain)
    assert pipe.adapters == loaded
    pipe.unload_lora_weights()


def test_wrong_lists_are_refused_and_change_nothing(pipe: InfinityPipeline, places: list[str], tmp_path: Path) -> None:
    for wrong in ([[]], [[], [], []], "one", {"one": 1.0}, 3):
        with pytest.raises(ValueError, match="adapters: expected one list of pairs for each of 2 prompts"):
            pipe(["a", "b"], adapters=wrong)
    for pair in ("one", (places[0],), (places[0], float("nan")), (3, 1.0)):
        with pytest.raises(ValueError, match="adapter"):
            pipe(["a", "b"], adapters=[[pair], []])
    with pytest.raises(AdapterError):
        pipe(["a"], adapters=[[(str(tmp_path / "none"), 1.0)]])
    with pytest.raises(ValueError, match="callback_on_scale: pictures with adapters of their own"):
        pipe(["a"], adapters=[[]], callback_on_scale=lambda _: None)
    assert pipe.adapters == ()
