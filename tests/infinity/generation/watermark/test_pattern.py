"""The pattern of a watermark is balanced, follows from the key alone, and leads all heads alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from infinity.bits import index_to_bits
from infinity.generation.watermark.key import WatermarkKey
from infinity.generation.watermark.pattern import BitWatermark, count_pairs, leaning, pair_signs
from infinity.scales import ASPECT_RATIOS, published_schedule

KEY, OTHER = WatermarkKey(b"a key of the tests"), WatermarkKey(b"the other test key")


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_every_row_of_every_channel_is_balanced(ratio: float) -> None:
    schedule = published_schedule(ratio, "256")
    offsets = BitWatermark(KEY, 3.0).offsets(schedule, 5)
    assert set(offsets.unique().tolist()) <= {-3.0, 0.0, 3.0}
    for (rows, columns), span in zip(schedule.grids, schedule.spans, strict=True):
        grid = offsets[span].unflatten(0, (rows, columns))
        assert grid.sum(dim=1).abs().max() == 0
        assert (grid == 0).sum() == (rows * 5 if columns % 2 else 0)  # the last column of odd ones has no neighbour


def test_patterns_of_keys_scales_and_grids_are_unlike_each_other() -> None:
    schedule = published_schedule(1.0, "256")
    one, two = (BitWatermark(key, 1.0).offsets(schedule, 32) for key in (KEY, OTHER))
    assert torch.equal(one, BitWatermark(KEY, 1.0).offsets(schedule, 32))
    assert 0.45 < (one == two).float().mean() < 0.55
    last, before = one[schedule.spans[-1]], one[schedule.spans[-2]]
    assert 0.4 < (last[: len(before)] == before).float().mean() < 0.6


def test_both_heads_lean_by_the_same_odds() -> None:
    offsets = torch.tensor([[2.0, -2.0, 0.0]])
    bits = torch.randn(1, 1, 3, 2)
    codes = index_to_bits(torch.arange(8), 3)
    as_codes = sum(bits[..., c, :][..., codes[:, c].long()] for c in range(3))
    one = torch.softmax(leaning(bits, offsets), dim=-1)[..., 1]
    joint = torch.softmax(leaning(as_codes, offsets), dim=-1)
    assert torch.allclose(one, (joint.unsqueeze(-1) * codes).sum(dim=-2), atol=1e-5)


@pytest.mark.parametrize("strength", [0.0, -1.0, 51.0, float("nan"), float("inf"), "2", None])
def test_a_strength_out_of_range_is_refused(strength: Any) -> None:
    with pytest.raises(ValueError, match="watermark strength"):
        BitWatermark(KEY, strength)


def test_pairs_are_counted_per_picture_by_their_definition() -> None:
    key, shape = WatermarkKey(b"sixteen letters."), (3, 4, 7, 5)
    bits = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    signs = pair_signs(key, (4, 7), 2, 5)
    green, differs = count_pairs(key, bits, 2)
    for picture in range(3):
        pairs = [
            (bits[picture, y, 2 * x, c], bits[picture, y, 2 * x + 1, c], signs[y, x, c])
            for y in range(4) for x in range(3) for c in range(5)
        ]  # fmt: skip
        unlike = [(left, sign) for left, right, sign in pairs if left != right]
        assert int(differs[picture]) == len(unlike) > 0
        assert int(green[picture]) == sum(bool(left) == bool(sign > 0) for left, sign in unlike)
