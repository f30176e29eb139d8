"""Binary quantizers and their penalties (paper 3.2, Eq. 4; BSQ: arXiv:2406.07548; LFQ: arXiv:2310.05737)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.kernels.straight_through import spherical_straight_through

QuantizerKind = Literal["bsq", "lfq"]

MAX_BRUTE_FORCE_BITS = 16
"""The brute-force entropy compares every position with all 2**C codes; beyond this memory explodes (paper Table 3)."""

MIN_SHARE = 1e-6
"""Means of soft bits are kept this far from 0 and 1 in the entropy of the batch."""


def code_magnitude(num_bits: int, kind: QuantizerKind) -> float:
    """Absolute value of every coordinate of a code: 1/sqrt(C) puts BSQ codes on the unit sphere, LFQ codes are +-1."""
    return float(num_bits**-0.5) if kind == "bsq" else 1.0


def bits_to_maps(bits_BHWC: Bool[Tensor, "B H W C"], kind: QuantizerKind) -> Float[Tensor, "B C H W"]:
    """Codes of bits as maps, float32, channels last in memory."""
    # Seen as bytes, since conversion from bool to float is several times slower.
    return scale_codes(bits_BHWC.view(torch.uint8).float(), kind).permute(0, 3, 1, 2)


def scale_codes(set_BHWC: Float[Tensor, "B H W C"], kind: QuantizerKind) -> Float[Tensor, "B H W C"]:
    """Codes of bits that are given as the numbers 0 and 1; overwrites its argument."""
    magnitude = code_magnitude(set_BHWC.shape[-1], kind)
    return set_BHWC.mul_(2.0 * magnitude).sub_(magnitude)


def straight_through(
    residual: Float[Tensor, "B C H W"], kind: QuantizerKind
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
    """Quantize with a gradient.

    Returns:
        The codes, whose gradient flows into the second value unchanged; and what they are compared with: the residual
        divided by its length for BSQ, the residual itself for LFQ.
    """
    if kind == "bsq":
        return spherical_straight_through(residual)
    return residual + (torch.where(residual > 0, 1.0, -1.0) - residual).detach(), residual


def commitment(unit: Float[Tensor, "B C H W"], codes: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Mean squared distance, over positions and channels, between the normalised residual and its detached code."""
    return F.mse_loss(unit, codes.detach())


def binary_entropy(probability: Tensor) -> Tensor:
    """Entropy in nats of a two-way choice; exact at 0 and 1."""
    entropy: Tensor = torch.special.entr(probability) + torch.special.entr(1.0 - probability)
    return entropy


def factorised_entropies(
    unit: Float[Tensor, "B C H W"], inverse_temperature: float, kind: QuantizerKind = "bsq"
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Entropy terms of the soft assignment with memory O(C) (paper 3.2).

    The softmax over squared distances to all 2**C codes factorises over bits, since each coordinate m of a code is
    +-1/sqrt(C) (LFQ: +-1) on its own: a bit is set with probability sigmoid(4 * inverse_temperature * m * u).

    Returns:
        Two scalars in nats, summed over the C bits: the mean entropy of a position (exact), and the entropy of the mean
        assignment (an upper bound of the joint entropy, reached when the bits are independent over the batch).
    """
    logits = 4.0 * inverse_temperature * code_magnitude(unit.shape[1], kind) * unit.float()
    probability = torch.sigmoid(logits)
    # h(p) = softplus(l) - l * p, which stays finite in value and gradient where p rounds to 0 or 1.
    per_position = F.softplus(logits) - logits * probability
    # A bit that is surely constant has a mean of exactly 0 or 1, where the entropy's slope is infinite.
    of_mean = binary_entropy(probability.mean(dim=(0, 2, 3)).clamp(MIN_SHARE, 1.0 - MIN_SHARE))
    return per_position.mean(dim=(0, 2, 3)).sum(), of_mean.sum()


def brute_force_entropies(
    unit: Float[Tensor, "B C H W"], inverse_temperature: float, kind: QuantizerKind = "lfq"
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The same two terms by comparing every position with all 2**C codes; the entropy of the mean is exact here.

    Raises:
        ValueError: More than 16 bits.
    """
    num_bits = unit.shape[1]
    if num_bits > MAX_BRUTE_FORCE_BITS:
        raise ValueError(
            f"the entropy over all 2**C codes is for at most {MAX_BRUTE_FORCE_BITS} bits, got {num_bits}; "
            "use the factorised entropy"
        )
    index = torch.arange(2**num_bits, device=unit.device)
    signs = ((index.unsqueeze(-1) >> torch.arange(num_bits, device=unit.device)) & 1) * 2.0 - 1.0
    codes = signs * code_magnitude(num_bits, kind)
    positions = unit.float().movedim(1, -1).reshape(-1, num_bits)
    # |u - q|^2 = |u|^2 + |q|^2 - 2 u.q and the first two are the same for all codes, so only the product counts.
    log_p = torch.log_softmax(2.0 * inverse_temperature * positions @ codes.T, dim=-1)
    p = log_p.exp()
    return -(p * log_p).sum(-1).mean(), torch.special.entr(p.mean(dim=0)).sum()
