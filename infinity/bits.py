"""Bit labels: what the tokenizer writes and the transformer predicts (paper 3.2, Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from infinity.scales import ScaleSchedule

MAX_INDEX_BITS = 62
"""An integer label needs one bit a channel; more would overflow int64."""


def bits_to_codes(bits: Bool[Tensor, "*grid C"]) -> Float[Tensor, "*grid C"]:
    """Unit vectors of binary spherical quantization: +1/sqrt(C) for a set bit, -1/sqrt(C) for a clear one, float32."""
    return torch.where(bits, 1.0, -1.0) * float(bits.shape[-1] ** -0.5)


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


@dataclass(frozen=True, slots=True, eq=False)
class BitLabels:
    """The bits of every token of a batch of pictures, coarse to fine.

    Attributes:
        schedule: Grids of the tokens; all pictures of a batch share it.
        bits_BLC: Bits of all scales after one another, each scale row by row. Where a tokenizer folds 2x2 positions
            into one token, C is four times the bits of a position.
    """

    schedule: ScaleSchedule
    bits_BLC: Bool[Tensor, "B L C"]

    def __post_init__(self) -> None:
        if self.bits_BLC.dtype != torch.bool or self.bits_BLC.ndim != 3:
            found = f"{tuple(self.bits_BLC.shape)} of {self.bits_BLC.dtype}"
            raise ValueError(f"BitLabels: expected a bool tensor (pictures, tokens, bits), got {found}")
        if self.bits_BLC.shape[1] != self.schedule.num_tokens:
            expected = f"{self.schedule.num_tokens} tokens for grids {self.schedule.grids}"
            raise ValueError(f"BitLabels: expected {expected}, got {self.bits_BLC.shape[1]}")

    @classmethod
    def from_scales(cls, schedule: ScaleSchedule, scales: Sequence[Bool[Tensor, "B H W C"]]) -> BitLabels:
        """Join one bit map a scale.

        Raises:
            ValueError: A number of maps or a grid that is not the schedule's.
        """
        found = tuple(tuple(bits.shape[1:3]) for bits in scales)
        if found != schedule.grids:
            raise ValueError(f"BitLabels: expected bit maps of grids {schedule.grids}, got {found}")
        return cls(schedule, torch.cat([bits.flatten(1, 2) for bits in scales], dim=1))

    @property
    def num_bits(self) -> int:
        """C, the bits of one token."""
        return self.bits_BLC.shape[-1]

    @property
    def batch_size(self) -> int:
        """B, the pictures."""
        return self.bits_BLC.shape[0]

    def scale(self, k: int) -> Bool[Tensor, "B H W C"]:
        """The bit map of scale k, counted from 0."""
        bits: Tensor = self.bits_BLC[:, self.schedule.spans[k]].unflatten(1, self.schedule.grids[k])
        return bits

    def select(self, rows: Sequence[int] | slice | Tensor) -> BitLabels:
        """The labels of some pictures of the batch, in the given order; ``rows``: indices, a slice or a bool mask."""
        return BitLabels(self.schedule, self.bits_BLC[rows if isinstance(rows, slice | Tensor) else list(rows)])

    def to(self, device: torch.device | str) -> BitLabels:
        """The same labels on another device."""
        return BitLabels(self.schedule, self.bits_BLC.to(device))


def _check_index_bits(num_bits: int) -> None:
    if num_bits > MAX_INDEX_BITS:
        raise ValueError(
            f"an integer label holds at most {MAX_INDEX_BITS} bits, got {num_bits}; keep the bits themselves"
        )
