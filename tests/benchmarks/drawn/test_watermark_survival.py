"""What comes back of drawn bits is counted per scale, and soft decisions are fair under other keys."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.drawn.watermark_survival import KEY, ScaleSurvival, compare, inverted, soft_scores
from infinity.bits import BitLabels
from infinity.generation.watermark import BitWatermark, WatermarkKey
from infinity.scales import custom_schedule
from infinity.tokenizer import Tokenizer, TokenizerConfig

SCHEDULE = custom_schedule(1.0, last_grid=(8, 8), num_scales=3)


def marked(count: int = 2, bits: int = 8) -> BitLabels:
    """Bits that agree with the key wherever there is a pair."""
    offsets = BitWatermark(KEY, 1.0).offsets(SCHEDULE, bits)
    return BitLabels(SCHEDULE, (offsets > 0).expand(count, -1, -1).clone())


def test_bits_that_came_back_whole_agree_as_they_were_drawn() -> None:
    for scale, row in enumerate(compare(KEY, marked(), marked())):
        assert row.survived == 1.0
        if SCHEDULE.grids[scale][1] > 1:
            assert row == ScaleSurvival(1.0, 1.0, 1.0)
        else:
            assert math.isnan(row.green_drawn)


def test_bits_that_came_back_inverted_agree_nowhere() -> None:
    drawn = marked()
    last = compare(KEY, drawn, BitLabels(SCHEDULE, ~drawn.bits_BLC))[-1]
    assert last == ScaleSurvival(0.0, 1.0, 0.0)


def test_soft_decisions_find_the_key_that_drew_and_no_other() -> None:
    bits = marked().scale(2).permute(0, 3, 1, 2).float()
    features = bits * 2 - 1
    assert soft_scores(KEY, features, SCHEDULE)[2] == pytest.approx(math.sqrt(8 * 4 * 8))
    others = [
        soft_scores(WatermarkKey(f"another key number {i:06d}".encode()), features, SCHEDULE)[2] for i in range(64)
    ]
    assert abs(sum(others) / 64) < 1.0
    assert 0.5 < torch.tensor(others).std() < 2.0


def test_inverted_features_decode_nearer_to_the_picture() -> None:
    tokenizer = Tokenizer(
        TokenizerConfig(
            num_bits=8, base_width=8, encoder_multipliers=(1, 1), decoder_multipliers=(1, 1), num_downsamples=1
        )
    )
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    tokenizer.requires_grad_(False)
    start = torch.zeros(1, 8, 8, 8)
    picture = tokenizer.decoder(torch.randn(start.shape, generator=torch.Generator().manual_seed(1)))
    found = inverted(tokenizer, picture, start, steps=20)
    before, after = ((tokenizer.decoder(each) - picture).square().sum() for each in (start, found))
    assert after < 0.7 * before
