"""Blocks that keep a share of earlier tokens: what is drawn, what it costs, and what remembers it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from infinity.generation import PyramidGuidance, SamplingConfig, generate
from infinity.generation.files.picture_files import DrawingSettings
from infinity.generation.flops import drawing_flops
from infinity.generation.generate import Conditions, sample_bits
from infinity.generation.memory import cache_bytes
from infinity.generation.sampling import picture_generator
from infinity.kernels.switch import use_kernels
from tests.fixtures.models.tiny_pipeline import PROMPTS, SCHEDULE, SEEDS, tiny_parts

HALF = SamplingConfig(guidance=3.0, cache_share=0.5)
WAYS = {
    "exact": SamplingConfig(guidance=3.0),
    "no guidance": SamplingConfig(guidance=1.0),
    "late guidance off": SamplingConfig(guidance=(3.0, 3.0, 1.0, 1.0)),
    "features": SamplingConfig(guidance=PyramidGuidance(), guide_logits=False, guided_blocks=(-1,)),
    "pruned": SamplingConfig(guidance=3.0, pruned=(0.5, 0.75)),
    "half of the cache": HALF,
    "all": SamplingConfig(guidance=(3.0, 3.0, 3.0, 1.0), pruned=(0.25,), cache_share=0.25),
}


def drawn(sampling: SamplingConfig, rows: slice = slice(None)) -> Tensor:
    """The bits of the tiny model's pictures."""
    seeds = [*SEEDS][rows]
    return generate(*tiny_parts(), PROMPTS[rows], schedule=SCHEDULE, sampling=sampling, seeds=seeds).labels.bits_BLC


@pytest.mark.parametrize("sampling", WAYS.values(), ids=WAYS)
def test_the_formula_counts_what_a_counter_counts(sampling: SamplingConfig) -> None:
    transformer, tokenizer, text_encoder = tiny_parts()
    text = text_encoder.encode(PROMPTS[:1])
    conditions = Conditions(text, [picture_generator(PROMPTS[0], 0, SCHEDULE)])
    counter = FlopCounterMode(display=False)
    with use_kernels("plain"), counter, sdpa_kernel(SDPBackend.MATH):
        sample_bits(transformer, tokenizer, conditions, schedule=SCHEDULE, sampling=sampling)
    expected = drawing_flops(transformer.config, SCHEDULE, sampling, text.lengths[0])
    assert counter.get_total_flops() == pytest.approx(expected, rel=2e-3), "but for pooling the caption"


@pytest.mark.parametrize("sampling", [HALF, WAYS["all"]], ids=["half", "all"])
def test_a_picture_is_the_same_alone_and_in_a_batch(sampling: SamplingConfig) -> None:
    together = drawn(sampling)
    for number in range(len(PROMPTS)):
        assert torch.equal(drawn(sampling, slice(number, number + 1)), together[number : number + 1])


def test_the_first_scales_see_all_and_later_ones_differ() -> None:
    plain, half = drawn(WAYS["exact"]), drawn(HALF)
    start = SCHEDULE.spans[2].start  # the one token of the first scale is kept for the second
    assert torch.equal(plain[:, :start], half[:, :start])
    assert not torch.equal(plain[:, start:], half[:, start:])


def test_a_block_has_its_own_share() -> None:
    depth = tiny_parts()[0].config.depth
    assert torch.equal(drawn(HALF.replace(cache_share=(1.0,) * depth)), drawn(WAYS["exact"]))
    assert torch.equal(drawn(HALF.replace(cache_share=(0.5,) * depth)), drawn(HALF))
    with pytest.raises(
        ValueError, match=rf"cache_share: expected one number or {depth}, one per block, got {depth + 1}"
    ):
        drawn(HALF.replace(cache_share=(0.5,) * (depth + 1)))


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, (), (0.5, 0.0)])
def test_shares_that_keep_nothing_are_refused(share: float | tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="cache_share: expected shares above 0 up to 1"):
        SamplingConfig(cache_share=share)


def test_the_share_is_told_and_remembered() -> None:
    assert HALF.describe().endswith(", 50 % of earlier tokens kept")
    assert WAYS["pruned"].describe().endswith(", 50 %, 75 % of the last scales' tokens left out")
    assert HALF.identity() != WAYS["exact"].identity()
    settings = DrawingSettings.of("a cat", 1, HALF, aspect_ratio=1.0, size=(8, 8), model="m")
    assert settings.sampling == HALF
    plain = DrawingSettings.of("a cat", 1, WAYS["exact"], aspect_ratio=1.0, size=(8, 8), model="m")
    assert "cache_share" not in plain.to_json(), "files of plain pictures keep their bytes"


def test_the_bytes_of_a_cache_follow_its_shares() -> None:
    config, depth = tiny_parts()[0].config, tiny_parts()[0].config.depth
    before = SCHEDULE.spans[-1].start
    whole = cache_bytes(config, SCHEDULE, torch.float32, None)
    assert cache_bytes(config, SCHEDULE, torch.float32, None, (1.0,) * depth) == whole
    per_token = whole // SCHEDULE.num_tokens
    assert cache_bytes(config, SCHEDULE, torch.float32, None, (0.5,) * depth) == per_token * -(-before // 2)
