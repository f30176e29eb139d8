"""Learned absolute positions, the baseline that rotary positions are compared with (paper 3.5, Fig. 13)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.scales import ScaleSchedule

MAX_SIDE = 128
"""Largest side of a grid; the published ones have at most 111 rows."""


class LearnedPositions(nn.Module):
    """A learned vector per scale and row, and another per scale and column; a token gets the sum of its two.

    One table per axis serves all aspect ratios, which a table per token, as in VAR, would not.
    """

    def __init__(self, max_scales: int, width: int) -> None:
        """Make tables without values.

        Args:
            max_scales: Largest number of scales.
            width: Channels D of the model.
        """
        super().__init__()
        self.rows = nn.Parameter(torch.empty(max_scales, MAX_SIDE, width))
        self.columns = nn.Parameter(torch.empty(max_scales, MAX_SIDE, width))

    def forward(self, schedule: ScaleSchedule) -> Float[Tensor, "L D"]:
        """Return the vectors of all tokens, scale by scale and row by row.

        Raises:
            ValueError: A grid is larger than the tables.
        """
        if (longest := max(map(max, schedule.grids))) > MAX_SIDE:
            raise ValueError(f"learned positions hold grids of at most {MAX_SIDE} rows and columns, got {longest}")
        return torch.cat(
            [
                (self.rows[k, :h, None] + self.columns[k, None, :w]).flatten(0, 1)
                for k, (h, w) in enumerate(schedule.grids)
            ]
        )
