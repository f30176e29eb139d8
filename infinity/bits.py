"""Bit labels: what the tokenizer writes and the transformer predicts (paper 3.2, Eq. 5)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_INDEX_BITS = 62
"""An integer label needs one bit a channel; more would overflow int64."""


def bits_to_codes(bits: Bool[Tensor, "*grid C"]) -> Float[Tensor, "*grid C"]:
    """Unit vectors of binary spherical quantization: +1/sqrt(C) for a set bit, -1/sqrt(C) for a clear one, float32."""
    return torch.where(bits, 1.0, -1.0) * bits.shape[-1] ** -0.5


def codes_to_bits(codes: Float[Tensor, "*grid C"]) -> Bool[Tensor, "*grid C"]:
    """A value strictly above zero is a set bit; zero counts as negative (repository multiscale_bsq.py)."""
    return codes > 0


def bits_to_index(bits: Bool[Tensor, "*grid C"]) -> Int[Tensor, "*grid"]:
    """Integer label of every position: sum over p of bit_p * 2**p (paper Eq. 5), int64.

    Raises:
        ValueError: More than 62 bits a position.
    """
    _check_index_bits(bits.shape[-1])
    weights = 2 ** torch.arange(bits.shape[-1], device=bits.device)
    return (bits.long() * weights).sum(dim=-1)


def index_to_bits(index: Int[Tensor, "*grid"], num_bits: int) -> Bool[Tensor, "*grid C"]:
    """The inverse of ``bits_to_index``."""
    _check_index_bits(num_bits)
    return (index.unsqueeze(-1) >> torch.arange(num_bits, device=index.device)) & 1 == 1


def fold(maps: Tensor) -> Tensor:
    """Fold 2x2 positions into one token: (B, C, 2H, 2W) to (B, 4C, H, W); channel 4c + 2dy + dx (8B model)."""
    return torch.nn.functional.pixel_unshuffle(maps, 2)


def unfold(maps: Tensor) -> Tensor:
    """The inverse of ``fold``: (B, 4C, H, W) to (B, C, 2H, 2W)."""
    return torch.nn.functional.pixel_shuffle(maps, 2)


def _check_index_bits(num_bits: int) -> None:
    if num_bits > MAX_INDEX_BITS:
        raise ValueError(f"an integer label holds at most {MAX_INDEX_BITS} bits, got {num_bits}; keep the bits themselves")
