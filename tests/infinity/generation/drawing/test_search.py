"""Search at drawing time chooses a seed: the best of all, or the best of those that looked best early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from infinity.generation.drawing.redo import redo
from infinity.generation.drawing.results import PipelineResult, ScalePreview
from infinity.generation.drawing.search import SearchConfig, search
from infinity.generation.editing.edits import variation
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import ScaleDone
from tests.fixtures.data.small_world import write_model

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


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("shared", [1, 3])
def test_candidates_that_share_scales_are_variations_of_the_first(
    pipe: InfinityPipeline, shared: int, batch_size: int
) -> None:
    """Each is, bit for bit, what a variation draws alone, and what its file draws again."""
    drawn: list[np.ndarray] = []

    def remember(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> list[float]:
        drawn.extend(pictures)
        return redness(pictures, captions)

    config = SearchConfig(candidates=5, shared_scales=shared)
    found = search(pipe, "a red cube", remember, config, sampling=SAMPLING, seed=3, batch_size=batch_size)
    first = alone(pipe, 3)
    expected = [first.pixels()[0]]
    for seed in range(4, 8):
        varied = pipe.vary(first, "a red cube", keep_scales=shared, seed=seed, sampling=SAMPLING)
        expected.append(varied.pixels()[0])
        if seed == found.best.seeds[0]:
            assert torch.equal(found.best.bits.bits_BLC, varied.bits.bits_BLC)
            assert np.array_equal(redo(pipe, found.best.settings[0]).pixels(), found.best.pixels())
    assert all(np.array_equal(one, other) for one, other in zip(drawn, expected, strict=True))
    assert found.score == max(redness(expected, ["a"] * 5))


def test_one_candidate_that_shares_scales_is_the_plain_picture(pipe: InfinityPipeline) -> None:
    found = search(pipe, "a red cube", redness, SearchConfig(candidates=1, shared_scales=3), sampling=SAMPLING, seed=9)
    assert torch.equal(found.best.bits.bits_BLC, alone(pipe, 9).bits.bits_BLC)
    assert found.best.settings == alone(pipe, 9).settings


@pytest.mark.sweep(7)
@pytest.mark.parametrize(
    "sampling",
    [
        SAMPLING, SamplingConfig(guidance=1.0), SamplingConfig(pruned=(0.5,)),
        SamplingConfig(guidance=(3.0, 3.0, 1.0, 1.0)),
        SamplingConfig(guidance=(1.0, 3.0, 3.0, 1.0)), SamplingConfig(guided_blocks=(-1,), guide_logits=False),
        SamplingConfig(guidance=2.0, negative_prompt="a blue ball"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shared", [1, 2, 3])
def test_scales_that_are_computed_once_give_the_bits_of_every_picture_alone(
    pipe: InfinityPipeline, shared: int, sampling: SamplingConfig
) -> None:
    edit = variation(pipe.source(pipe("a red cube", seed=1)), shared)
    seen: list[torch.Tensor] = []

    def look(rows: slice, done: ScaleDone) -> None:
        assert len(done.summed_BCHW) == rows.stop - rows.start
        seen.append(done.summed_BCHW.clone())

    together = pipe.draw_edit(edit, "a red cube", [5, 6, 7], sampling, on_scale=look)
    assert len(seen) == 4
    for row, seed in enumerate((5, 6, 7)):
        one = pipe.draw_edit(edit, "a red cube", [seed], sampling)
        assert torch.equal(one.bits.bits_BLC[0], together.bits.bits_BLC[row])


def test_shared_scales_are_computed_once(pipe: InfinityPipeline) -> None:
    def cost(config: SearchConfig) -> int:
        with FlopCounterMode(display=False) as counter:
            search(pipe, "a", redness, config, sampling=SAMPLING)
        return int(counter.get_total_flops())

    costs = [cost(SearchConfig(candidates=4, shared_scales=k)) for k in range(4)]
    assert costs[0] > costs[1] > costs[2] > costs[3]
    added = [cost(SearchConfig(candidates=5, shared_scales=k)) - costs[k] for k in (0, 3)]
    assert costs[0] - costs[3] == 2 * (added[0] - added[1])  # three branches without the scales, which run once more


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
        ({"shared_scales": -1}, "shared_scales of at least 0"),
        ({"shared_scales": 1, "look_after": 2}, "and 0 with look_after"),
    ],
)
def test_a_plan_that_cannot_be_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**config)


def test_what_cannot_be_searched_is_named(pipe: InfinityPipeline) -> None:
    with pytest.raises(ValueError, match="look_after below the 4 scales, got 4"):
        search(pipe, "a", redness, SearchConfig(look_after=4))
    with pytest.raises(ValueError, match="keep_scales: expected 1 to 3, got 4"):
        search(pipe, "a", redness, SearchConfig(shared_scales=4))
    with pytest.raises(ValueError, match="greedy candidates are all equal"):
        search(pipe, "a", redness, sampling=SamplingConfig(greedy=True))
    for wrong in ([1.0], [float("nan")] * 4):
        with pytest.raises(ValueError, match="one finite number per picture"):
            search(pipe, "a", lambda pictures, _, wrong=wrong: wrong)
