"""Losses and accuracies of predicted bits (paper 3.3; repository trainer.py)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.bits import bits_to_index, index_to_bits
from infinity.scales import ScaleSchedule


def bitwise_cross_entropy(logits: Float[Tensor, "B L C 2"], bits: Bool[Tensor, "B L C"]) -> Float[Tensor, "B L"]:
    """Return the cross-entropy of every image token, averaged over its C bits, in nats.

    The infinite-vocabulary classifier (IVC, arXiv:2412.04431): a token is C independent two-class problems instead of
    one problem with 2**C classes. Two classes need only the difference of their logits.

    Args:
        logits: Scores; the last axis is (bit is 0, bit is 1).
        bits: True bits of the same tokens.
    """
    zero, one = logits.float().unbind(dim=-1)
    loss_BLC = F.binary_cross_entropy_with_logits(one - zero, bits.to(zero.dtype), reduction="none")
    return loss_BLC.mean(dim=-1)


def joint_cross_entropy(logits: Float[Tensor, "B L V"], bits: Bool[Tensor, "B L C"]) -> Float[Tensor, "B L"]:
    """Return the cross-entropy of every image token over its V = 2**C codes, divided by C: nats per bit."""
    loss_BL = F.cross_entropy(logits.float().movedim(-1, 1), bits_to_index(bits), reduction="none")
    return loss_BL / bits.shape[-1]


def token_cross_entropy(logits: Tensor, bits: Bool[Tensor, "B L C"]) -> Float[Tensor, "B L"]:
    """Return the loss of the head that the logits come from: (B, L, C, 2) is bitwise, (B, L, 2**C) joint."""
    return bitwise_cross_entropy(logits, bits) if logits.ndim == 4 else joint_cross_entropy(logits, bits)


def log_partition_penalty(logits: Tensor) -> Float[Tensor, "B L"]:
    """Return the squared log partition function of every token, averaged over its bits (z-loss of PaLM).

    The cross-entropy does not change when a constant is added to all logits of a choice. The z-loss keeps that constant
    near zero, so that logits do not drift to where bfloat16 is coarse.

    Args:
        logits: Logits (B, L, C, 2) of the bitwise or (B, L, 2**C) of the joint head.
    """
    square = logits.float().logsumexp(dim=-1).square()
    return square.mean(dim=-1) if logits.ndim == 4 else square


def likeliest_bits(logits: Tensor, num_bits: int) -> Bool[Tensor, "B L C"]:
    """Return the more probable value of every bit, or the bits of the most probable code; ties go to the smaller."""
    if logits.ndim == 4:
        return logits[..., 1] > logits[..., 0]
    return index_to_bits(logits.argmax(dim=-1), num_bits)


def scale_weights(schedule: ScaleSchedule, device: torch.device | str = "cpu") -> Float[Tensor, " L"]:
    """Return the weights of the tokens, proportional to 1 / sqrt(tokens of their scale), with sum 1 (paper 3.3).

    Without them the last scale, which has half of all tokens, would dominate the few tokens of the composition.
    """
    areas = torch.tensor([h * w for h, w in schedule.grids])
    weights = areas.float().rsqrt().repeat_interleave(areas, output_size=schedule.num_tokens)
    return (weights / weights.sum()).to(device)


class ScaleAccuracy(NamedTuple):
    """Accuracy at every scale, from 0 to 1.

    Attributes:
        bits_K: Fraction of right bits; 0.5 is chance.
        tokens_K: Fraction of tokens with all bits right.
    """

    bits_K: Float[Tensor, " K"]
    tokens_K: Float[Tensor, " K"]


@torch.no_grad()
def accuracy_per_bit(logits: Tensor, bits: Bool[Tensor, "B L C"]) -> Float[Tensor, " C"]:
    """Return the accuracy of each of the C bits, over all tokens."""
    return (likeliest_bits(logits, bits.shape[-1]) == bits).float().mean(dim=(0, 1))


@torch.no_grad()
def accuracy_per_scale(logits: Tensor, bits: Bool[Tensor, "B L C"], schedule: ScaleSchedule) -> ScaleAccuracy:
    """Return the accuracy of bits and of whole tokens at every scale."""
    right = likeliest_bits(logits, bits.shape[-1]) == bits
    of_token = torch.stack([right.float().mean(dim=-1), right.all(dim=-1).float()]).mean(dim=1)
    per_scale = torch.stack([of_token[:, span].mean(dim=-1) for span in schedule.spans], dim=-1)
    return ScaleAccuracy(*per_scale.unbind(0))
