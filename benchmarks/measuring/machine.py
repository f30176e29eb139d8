"""How fast the processor at hand multiplies."""

from __future__ import annotations

import torch

from benchmarks.measuring.timing import seconds_of

SIDE = 1536
"""Rows and columns of the matrices whose product gives the rates."""


def rates(repeats: int) -> dict[str, float]:
    """Return the operations per second of processor time of large products, in GFLOP/s by data type."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))

        def product(left: torch.Tensor = left, right: torch.Tensor = right) -> object:
            return left @ right

        product()
        seconds = min(seconds_of(product)[1] for _ in range(repeats))
        found[f"{dtype}".removeprefix("torch.")] = round(2 * SIDE**3 / seconds / 1e9, 1)
    return found
