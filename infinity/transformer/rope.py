"""Two-dimensional rotary position embeddings (RoPE) over all scales (paper 3.5, Fig. 13; repository basic.py)."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Complex64, Float
from torch import Tensor

from infinity.scales import Grid, ScaleSchedule
from infinity.transformer.config import Positions

_BASE = 10_000.0
_TABLE_SIDE = 128
"""Longer side of the table of "interpolated" positions."""


@lru_cache(maxsize=64)
def rotations(
    schedule: ScaleSchedule, head_width: int, positions: Positions, device: torch.device
) -> Complex64[Tensor, "L P"]:
    """Return cos + i sin of every token and every pair of channels of a head; P is half the head's width.

    The first half of the pairs rotates with the row, the second half with the column. Within each half frequencies fall
    geometrically from 1 with base 10000. With complex numbers the rotation of a pair is one multiplication, which
    reads and writes memory once. "learned" positions rotate nothing.
    """
    if positions == "learned":
        return torch.ones(schedule.num_tokens, head_width // 2, dtype=torch.complex64, device=device)
    if positions == "interpolated":
        return torch.cat([_interpolated(grid, schedule.frame, head_width) for grid in schedule.grids]).to(device)
    angles = []
    for h, w in schedule.grids:
        rows, columns = torch.arange(h), torch.arange(w)
        if positions == "frame":
            # Float32 products rounded half to even, since the published weights were trained with these positions.
            rows = (rows * (schedule.frame[0] / h)).round()
            columns = (columns * (schedule.frame[1] / w)).round()
        angles.append(_angles(rows, columns, head_width))
    angle = torch.cat(angles)
    return torch.complex(angle.cos(), angle.sin()).to(device)


def _angles(rows: Tensor, columns: Tensor, head_width: int) -> Float[Tensor, "HW P"]:
    half = head_width // 2
    frequency = 1.0 / (_BASE ** (torch.arange(0, half, 2).float() / half))
    by_row = torch.outer(rows.float(), frequency)[:, None].expand(-1, len(columns), -1)
    by_column = torch.outer(columns.float(), frequency)[None].expand(len(rows), -1, -1)
    return torch.cat([by_row, by_column], dim=-1).flatten(0, 1)


def _interpolated(grid: Grid, frame: Grid, head_width: int) -> Complex64[Tensor, "HW P"]:
    """Resize a table of the frame's ratio with 128 positions on its longer side, cosines and sines separately."""
    if frame[0] >= frame[1]:
        side = (_TABLE_SIDE, int(_TABLE_SIDE / frame[0] * frame[1]))
    else:
        side = (int(_TABLE_SIDE / frame[1] * frame[0]), _TABLE_SIDE)
    angle = _angles(torch.arange(side[0]), torch.arange(side[1]), head_width)
    table = torch.stack([angle.cos(), angle.sin()]).unflatten(1, side).movedim(-1, 1)
    resized = F.interpolate(table, size=grid, mode="bilinear", align_corners=True)
    cosine, sine = resized.flatten(2).transpose(1, 2).contiguous().unbind(0)
    return torch.complex(cosine, sine)
