"""Laws of the losses and accuracies."""

import math

import pytest
import torch
import torch.nn.functional as F

from infinity.bits import bits_to_index
from infinity.scales import Resolution, published_schedule
from infinity.transformer.loss import (
    accuracy_per_scale,
    bitwise_cross_entropy,
    joint_cross_entropy,
    likeliest_bits,
    log_partition_penalty,
    scale_weights,
    token_cross_entropy,
)

SCHEDULE = Resolution(sides=(1, 2, 4)).schedule(1.0)


def _bits(seed: int = 0, num_bits: int = 5) -> torch.Tensor:
    return torch.rand(2, SCHEDULE.num_tokens, num_bits, generator=torch.Generator().manual_seed(seed)) < 0.5


def test_uniform_logits_cost_ln_2_with_either_head() -> None:
    bits = _bits()
    for logits in (torch.zeros(*bits.shape, 2), torch.zeros(*bits.shape[:2], 2**5)):
        torch.testing.assert_close(
            token_cross_entropy(logits, bits), torch.full((2, SCHEDULE.num_tokens), math.log(2.0))
        )


def test_bitwise_loss_is_the_cross_entropy_of_two_classes() -> None:
    bits = _bits()
    logits = torch.randn(*bits.shape, 2, generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(logits.flatten(0, -2), bits.long().flatten(), reduction="none").view(bits.shape)
    torch.testing.assert_close(bitwise_cross_entropy(logits, bits), expected.mean(-1))


def test_joint_head_of_independent_bits_costs_what_the_bitwise_head_costs() -> None:
    bits = _bits()
    logits = torch.randn(*bits.shape, 2, generator=torch.Generator().manual_seed(1))
    codes = (torch.arange(2**5)[:, None] >> torch.arange(5)) & 1
    joint = torch.stack([logits[..., j, :][..., codes[:, j]] for j in range(5)]).sum(0)
    torch.testing.assert_close(joint_cross_entropy(joint, bits), bitwise_cross_entropy(logits, bits))
    assert torch.equal(likeliest_bits(joint, 5), likeliest_bits(logits, 5))


def test_scale_weights_sum_to_one_and_balance_the_scales() -> None:
    schedule = published_schedule(1.0, "256")
    weights = scale_weights(schedule)
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    totals = torch.tensor([weights[span].sum() for span in schedule.spans])
    sides = torch.tensor([h for h, _ in schedule.grids])
    torch.testing.assert_close(totals, sides / sides.sum())


def test_accuracy_counts_bits_and_whole_tokens() -> None:
    bits = _bits()
    logits = F.one_hot(bits.long(), 2).float()
    wrong = SCHEDULE.spans[1].start
    logits[:, wrong, 0] = logits[:, wrong, 0].flip(-1)
    accuracy = accuracy_per_scale(logits, bits, SCHEDULE)
    torch.testing.assert_close(accuracy.bits_K, torch.tensor([1.0, 1 - 1 / 20, 1.0]))
    torch.testing.assert_close(accuracy.tokens_K, torch.tensor([1.0, 0.75, 1.0]))
    joint = F.one_hot(bits_to_index(bits), 2**5).float()
    assert accuracy_per_scale(joint, bits, SCHEDULE).tokens_K.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("shape", [(2, 3, 5, 2), (2, 3, 32)])
def test_log_partition_penalty_is_zero_for_normalised_logits_and_grows_with_a_common_constant(
    shape: tuple[int, ...],
) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    torch.testing.assert_close(log_partition_penalty(logits), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(log_partition_penalty(logits - 3.0), torch.full((2, 3), 9.0))
