"""Search at drawing time chooses a seed: the best of all, or the best of those that looked best early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.results import PipelineResult, ScalePreview
from infinity.generation.sampling import SamplingConfig
from infinity.generation.search import SearchConfig, search
from tests.fixtures.small_world import write_model

SAMPLING = SamplingConfig(guidance=2.0)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(write_model(tmp_path_factory.mktemp("model")), device="cpu")


def redness(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> list[float]:
    assert len(pictures) == len(captions)
    return [float(picture[..., 0].mean()) for picture in pictures]


def alone(pipe: InfinityPipeline, seed: int) -> PipelineResult:
    return pipe.draw(["a red cube"], [seed], SAMPLING, output_type="np")


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_best_of_all_is_the_plain_picture_of_its_seed(pipe: InfinityPipeline, batch_size: int) -> None:
    config = SearchConfig(candidates=5)
    found = search(pipe, "a red cube", redness, config, sampling=SAMPLING, seed=3, batch_size=batch_size)
    drawn = {seed: alone(pipe, seed) for seed in range(3, 8)}
    expected = sorted(drawn, key=lambda seed: (-redness(drawn[seed].pixels(), ["x"])[0], seed))
    assert found.seeds == tuple(expected)
    assert found.best.seeds == (expected[0],)
    assert np.array_equal(found.best.images, drawn[expected[0]].images)
    assert torch.equal(found.best.bits.bits_BLC, drawn[expected[0]].bits.bits_BLC)
    assert found.best.settings == drawn[expected[0]].settings
    assert found.score == found.scores[0] == max(found.scores)


@pytest.mark.parametrize(("look_after", "kept"), [(1, 2), (2, 1), (3, 3)])
def test_an_early_look_keeps_those_with_the_best_previews(pipe: InfinityPipeline, look_after: int, kept: int) -> None:
    seen: dict[int, float] = {}

    def remember(seed: int) -> Callable[[ScalePreview], None]:
        def on_scale(preview: ScalePreview) -> None:
            if preview.scale == look_after - 1:
                seen[seed] = redness([np.asarray(preview.images()[0])], ["x"])[0]

        return on_scale

    for seed in range(6):
        pipe("a red cube", seed=seed, guidance_scale=2.0, callback_on_scale=remember(seed))
    config = SearchConfig(candidates=6, look_after=look_after, kept=kept)
    found = search(pipe, "a red cube", redness, config, sampling=SAMPLING, batch_size=4)
    assert set(found.seeds) == set(sorted(seen, key=lambda seed: (-seen[seed], seed))[:kept])
    assert np.array_equal(found.best.images, alone(pipe, found.seeds[0]).images)


def test_an_early_look_computes_no_further_scale(pipe: InfinityPipeline) -> None:
    def cost(config: SearchConfig) -> int:
        with FlopCounterMode(display=False) as counter:
            search(pipe, "a", redness, config, sampling=SAMPLING)
        return int(counter.get_total_flops())

    one = cost(SearchConfig(candidates=1))
    early = cost(SearchConfig(candidates=4, look_after=1)) - one
    late = cost(SearchConfig(candidates=4, look_after=3)) - one
    assert early < late < cost(SearchConfig(candidates=4))


def test_equal_scores_give_the_first_seed_and_all_shapes_work(pipe: InfinityPipeline) -> None:
    found = search(pipe, "a", lambda pictures, _: np.zeros(len(pictures)), sampling=SAMPLING, seed=-2, aspect_ratio=2.0)
    assert found.best.seeds == (-2,)
    assert found.best.images.shape[1] > found.best.images.shape[2]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"candidates": 0}, "at least 1 candidate"),
        ({"candidates": 2, "kept": 3}, "1 to 2 kept"),
        ({"kept": 0}, "kept, got 4 and 0"),
        ({"look_after": 0}, "look_after of at least 1 scale"),
    ],
)
def test_a_plan_that_cannot_be_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**config)


def test_what_cannot_be_searched_is_named(pipe: InfinityPipeline) -> None:
    with pytest.raises(ValueError, match="look_after below the 4 scales, got 4"):
        search(pipe, "a", redness, SearchConfig(look_after=4))
    with pytest.raises(ValueError, match="greedy candidates are all equal"):
        search(pipe, "a", redness, sampling=SamplingConfig(greedy=True))
    for wrong in ([1.0], [float("nan")] * 4):
        with pytest.raises(ValueError, match="one finite number per picture"):
            search(pipe, "a", lambda pictures, _, wrong=wrong: wrong)
