"""The pattern of a watermark: which bits of which tokens lean which way, balanced between neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from infinity.bits import index_to_bits
from infinity.generation.watermark.key import WatermarkKey
from infinity.scales import Grid, ScaleSchedule

DEFAULT_STRENGTH = 2.0
"""Logits by which a bit leans; BitMark's (arXiv 2506.21209) setting with little loss of quality."""
MOST_STRENGTH = 50.0


def pair_signs(key: WatermarkKey, grid: Grid, scale: int, num_bits: int) -> Int8[Tensor, "H P C"]:
    """Return the sign of the left token of every pair of side by side tokens; the right one has the other sign.

    Args:
        key: Key that the signs follow from.
        grid: Rows and columns of the scale.
        scale: Number of the scale, from 0; scales of one grid differ.
        num_bits: Bits C per token.
    """
    rows, pairs = grid[0], grid[1] // 2
    count = rows * pairs * num_bits
    stream = np.frombuffer(key.stream(f"{scale}:{grid[0]}x{grid[1]}:{num_bits}", (count + 7) // 8), dtype=np.uint8)
    bits = np.unpackbits(stream, count=count).astype(np.int8)
    return torch.from_numpy(bits * 2 - 1).reshape(rows, pairs, num_bits)


@dataclass(frozen=True, slots=True)
class BitWatermark:
    """A watermark that is drawn into pictures.

    Two tokens side by side in the same scale and row make a pair. In every channel one of them leans to 1 and the other
    to 0, which one follows from the key. So the means of all channels stay, and what neighbours have in common, such as
    a plain background, says nothing for or against a watermark.

    Attributes:
        key: Key of the pattern.
        strength: Logits that are added for a 1 at one token of a pair and taken away at the other; above 0, to 50.

    Raises:
        ValueError: The strength is out of range.
    """

    key: WatermarkKey
    strength: float = DEFAULT_STRENGTH

    def __post_init__(self) -> None:
        if not isinstance(self.strength, int | float) or not 0 < self.strength <= MOST_STRENGTH:  # also refuses NaN
            raise ValueError(
                f"watermark strength: expected a number above 0 to {MOST_STRENGTH:g}, got {self.strength}; leave the "
                "watermark out for none"
            )

    def offsets(self, schedule: ScaleSchedule, num_bits: int) -> Float[Tensor, "L C"]:
        """Return what is added to the logit of a 1 of every bit; a token without a neighbour has 0."""
        parts = []
        for scale, (rows, columns) in enumerate(schedule.grids):
            signs = pair_signs(self.key, (rows, columns), scale, num_bits).float()
            grid = torch.zeros(rows, columns, num_bits)
            grid[:, : columns // 2 * 2] = torch.stack([signs, -signs], dim=2).flatten(1, 2)
            parts.append(grid.flatten(0, 1))
        return torch.cat(parts) * self.strength


def leaning(logits: Tensor, offsets_MC: Float[Tensor, "M C"]) -> Tensor:
    """Return the logits of one scale that lean by a watermark.

    Args:
        logits: Logits (B, M, C, 2) of bits, or (B, M, V) of the V = 2**C codes of a token.
        offsets_MC: Offsets of the scale's tokens.
    """
    if logits.ndim == 4:
        return torch.stack([logits[..., 0], logits[..., 1] + offsets_MC], dim=-1)
    codes = torch.arange(logits.shape[-1], device=logits.device)
    return logits + offsets_MC @ index_to_bits(codes, offsets_MC.shape[-1]).to(offsets_MC.dtype).T


def count_pairs(key: WatermarkKey, bits_BHWC: Bool[Tensor, "B H W C"], scale: int) -> tuple[Tensor, Tensor]:
    """Return how many pairs of a scale differ as the key says, and how many differ at all, per picture."""
    columns = bits_BHWC.shape[2] // 2 * 2
    signs = pair_signs(key, (bits_BHWC.shape[1], bits_BHWC.shape[2]), scale, bits_BHWC.shape[3]).to(bits_BHWC.device)
    left, right = bits_BHWC[:, :, 0:columns:2], bits_BHWC[:, :, 1:columns:2]
    differs = left ^ right
    green = differs & (left == (signs > 0))
    return green.flatten(1).sum(dim=1), differs.flatten(1).sum(dim=1)
