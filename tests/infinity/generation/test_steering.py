"""What steers a batch fits the batch, or is refused before anything is drawn."""

import pytest
import torch

from infinity.bits import BitLabels
from infinity.generation.steering import KeptBits, LaterText, Steering
from tests.fixtures.models.tiny_pipeline import SCHEDULE
from tests.fixtures.models.tiny_transformer import random_text

TOKENS, BITS = SCHEDULE.num_tokens, 4
LABELS = BitLabels(SCHEDULE, torch.zeros(2, TOKENS, BITS, dtype=torch.bool))


@pytest.mark.parametrize(
    "mask",
    [
        torch.zeros(2, TOKENS),
        torch.zeros(2, TOKENS, dtype=torch.uint8),
        torch.zeros(2, TOKENS + 1, dtype=torch.bool),
        torch.zeros(1, TOKENS, dtype=torch.bool),
        torch.zeros(TOKENS, dtype=torch.bool),
    ],
    ids=["floats", "bytes", "a token more", "a picture less", "no pictures"],
)
def test_a_mask_of_kept_bits_has_a_truth_per_token(mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=rf"KeptBits: expected a bool mask .*\(2, {TOKENS}\), got"):
        KeptBits(LABELS, mask)


def test_a_mask_that_fits_takes_over_the_kept_tokens_alone() -> None:
    mask = torch.zeros(2, TOKENS, dtype=torch.bool)
    mask[1, 0] = True
    kept = KeptBits(LABELS, mask)
    kept.check(SCHEDULE, 2, BITS)
    span = SCHEDULE.spans[0]
    drawn = torch.ones(2, span.stop - span.start, BITS, dtype=torch.bool)
    found = kept.over(drawn, span)
    assert found[0].all()
    assert not found[1, 0].any()


@pytest.mark.parametrize("batch", [(1, BITS), (2, BITS + 1)])
def test_kept_bits_of_another_batch_are_refused(batch: tuple[int, int]) -> None:
    kept = Steering(kept=KeptBits(LABELS, torch.zeros(2, TOKENS, dtype=torch.bool)))
    with pytest.raises(ValueError, match="kept bits: expected"):
        kept.check(SCHEDULE, *batch)


@pytest.mark.parametrize("scale", [-1, 0, 1, SCHEDULE.num_scales, SCHEDULE.num_scales + 1])
def test_a_later_prompt_begins_at_any_scale_or_behind_the_last(scale: int) -> None:
    steering = Steering(later=LaterText(scale, random_text([3])))
    if 0 <= scale <= SCHEDULE.num_scales:
        steering.check(SCHEDULE, 1, BITS)
        return
    with pytest.raises(ValueError, match=f"expected a scale from 0 to {SCHEDULE.num_scales}, got {scale}"):
        steering.check(SCHEDULE, 1, BITS)
