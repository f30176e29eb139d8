"""Binary spherical quantization (BSQ), lookup-free quantization (LFQ), and their entropy penalties.

Sources: paper 3.2, Eq. 4; BSQ: arXiv:2406.07548; LFQ: arXiv:2310.05737.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from infinity.kernels.straight_through import spherical_straight_through

QuantizerKind = Literal["bsq", "lfq"]

MAX_BRUTE_FORCE_BITS = 16
"""Largest number of bits of the brute-force entropy, which compares every position with all 2**C codes (Table 3)."""

MIN_SHARE = 1e-6
"""Smallest distance of the means of soft bits from 0 and 1 in the entropy of the batch."""


def code_magnitude(num_bits: int, kind: QuantizerKind) -> float:
    """Return the magnitude of a code's coordinates: 1/sqrt(C) puts BSQ codes on the unit sphere, LFQ codes are +-1."""
    return float(num_bits**-0.5) if kind == "bsq" else 1.0


def bits_to_maps(bits_BHWC: Bool[Tensor, "B H W C"], kind: QuantizerKind) -> Float[Tensor, "B C H W"]:
    """Return the codes of bits as maps, float32, in the memory format channels-last."""
    # Viewed as bytes, since the conversion from bool to float is several times slower.
    return scale_codes(bits_BHWC.view(torch.uint8).float(), kind).permute(0, 3, 1, 2)


def scale_codes(set_BHWC: Float[Tensor, "B H W C"], kind: QuantizerKind) -> Float[Tensor, "B H W C"]:
    """Return the codes of bits given as the numbers 0 and 1; overwrites its argument."""
    magnitude = code_magnitude(set_BHWC.shape[-1], kind)
    return set_BHWC.mul_(2.0 * magnitude).sub_(magnitude)


def straight_through(
    residual: Float[Tensor, "B C H W"], kind: QuantizerKind
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
    """Quantize with a straight-through gradient.

    Returns:
        The codes, whose gradient flows unchanged into the second value; and the value before quantization: the
        residual divided by its length for BSQ, the residual itself for LFQ.
    """
    if kind == "bsq":
        return spherical_straight_through(residual)
    return residual + (torch.where(residual > 0, 1.0, -1.0) - residual).detach(), residual


def commitment(unit: Float[Tensor, "B C H W"], codes: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Return the mean squared distance between the normalised residual and its detached code."""
    return F.mse_loss(unit, codes.detach())


def binary_entropy(probability: Tensor) -> Tensor:
    """Return the entropy in nats of a binary choice; exact at 0 and 1."""
    entropy: Tensor = torch.special.entr(probability) + torch.special.entr(1.0 - probability)
    return entropy


def factorised_entropies(
    unit: Float[Tensor, "B C H W"], inverse_temperature: float, kind: QuantizerKind = "bsq"
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the entropy terms of the soft assignment in O(C) memory (paper 3.2, Eq. 4).

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
    """Return the same two terms by comparing every position with all 2**C codes; the entropy of the mean is exact.

    Raises:
        ValueError: There are more than 16 bits.
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
    # |u - q|^2 = |u|^2 + |q|^2 - 2 u.q. The first two terms are equal for all codes and cancel in the softmax.
    log_p = torch.log_softmax(2.0 * inverse_temperature * positions @ codes.T, dim=-1)
    p = log_p.exp()
    return -(p * log_p).sum(-1).mean(), torch.special.entr(p.mean(dim=0)).sum()
