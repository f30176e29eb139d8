"""Bit labels, which the tokenizer writes and the transformer predicts (paper 3.2, Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from infinity.scales import ScaleSchedule

MAX_INDEX_BITS = 62
"""Largest number of bits of an integer label; more would overflow int64."""


def bits_to_index(bits: Bool[Tensor, "*grid C"]) -> Int[Tensor, "*grid"]:
    """Return the integer label of every position: sum over p of bit_p * 2**p (paper Eq. 5), int64.

    Raises:
        ValueError: There are more than 62 bits per position.

    Example:
        >>> bits_to_index(torch.tensor([[True, False, True]])).tolist()
        [5]
        >>> index_to_bits(torch.tensor([5]), num_bits=3).tolist()
        [[True, False, True]]
    """
    _check_index_bits(bits.shape[-1])
    weights = 2 ** torch.arange(bits.shape[-1], device=bits.device)
    return (bits.long() * weights).sum(dim=-1)


def index_to_bits(index: Int[Tensor, "*grid"], num_bits: int) -> Bool[Tensor, "*grid C"]:
    """Invert ``bits_to_index``."""
    _check_index_bits(num_bits)
    return (index.unsqueeze(-1) >> torch.arange(num_bits, device=index.device)) & 1 == 1


def fold(maps: Tensor) -> Tensor:
    """Fold 2x2 positions into one token: (B, C, 2H, 2W) to (B, 4C, H, W); channel 4c + 2dy + dx (8B model)."""
    return torch.nn.functional.pixel_unshuffle(maps, 2)


@dataclass(frozen=True, slots=True, eq=False)
class BitLabels:
    """Bits of all tokens of a batch of pictures, coarse to fine.

    Attributes:
        schedule: Grids of the tokens; all pictures of a batch share it.
        bits_BLC: Bits of all scales, concatenated, each scale row by row. Where a tokenizer folds 2x2 positions into
            one token, C is four times the bits of a position.

    Example:
        >>> from infinity.scales import custom_schedule
        >>> schedule = custom_schedule(1.0, last_grid=(2, 2), num_scales=2)
        >>> labels = BitLabels(schedule, torch.zeros(3, schedule.num_tokens, 8, dtype=torch.bool))
        >>> labels.batch_size, labels.num_bits, tuple(labels.scale(1).shape)
        (3, 8, (3, 2, 2, 8))
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
        """Concatenate the bit maps of all scales.

        Raises:
            ValueError: The maps' grids are not the schedule's.
        """
        found = tuple(tuple(bits.shape[1:3]) for bits in scales)
        if found != schedule.grids:
            raise ValueError(f"BitLabels: expected bit maps of grids {schedule.grids}, got {found}")
        return cls(schedule, torch.cat([bits.flatten(1, 2) for bits in scales], dim=1))

    @property
    def num_bits(self) -> int:
        """Number of bits C per token."""
        return self.bits_BLC.shape[-1]

    @property
    def batch_size(self) -> int:
        """Number of pictures B of the batch."""
        return self.bits_BLC.shape[0]

    def scale(self, k: int) -> Bool[Tensor, "B H W C"]:
        """Return the bit map of scale k, counted from 0."""
        bits: Tensor = self.bits_BLC[:, self.schedule.spans[k]].unflatten(1, self.schedule.grids[k])
        return bits

    def select(self, rows: Sequence[int] | slice | Tensor) -> BitLabels:
        """Return the labels of some pictures, in the given order; ``rows`` are indices, a slice or a bool mask."""
        return BitLabels(self.schedule, self.bits_BLC[rows if isinstance(rows, slice | Tensor) else list(rows)])

    def to(self, device: torch.device | str) -> BitLabels:
        """Return the labels on another device."""
        return BitLabels(self.schedule, self.bits_BLC.to(device))


def _check_index_bits(num_bits: int) -> None:
    if num_bits > MAX_INDEX_BITS:
        raise ValueError(
            f"an integer label holds at most {MAX_INDEX_BITS} bits, got {num_bits}; keep the bits themselves"
        )
