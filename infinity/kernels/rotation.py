"""Rotate pairs of channels by their token's angle: complex products that read and write memory once."""

from __future__ import annotations

import torch
from jaxtyping import Complex64, Float
from torch import Tensor


def rotate_into(
    out: Float[Tensor, "*batch L E"], x: Float[Tensor, "*batch L E"], turn: Complex64[Tensor, "L P"]
) -> None:
    """Turn adjacent pairs of channels (2i, 2i + 1) of every token; float32, without gradient.

    ``out`` and ``x`` may lie differently in memory as long as the channels are neighbours.
    """
    torch.mul(_pairs(x), turn, out=_pairs(out))


def _pairs(x: Tensor) -> Tensor:
    """Adjacent channels as complex numbers, sharing memory."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))
