"""3x3 convolutions with a quarter of the multiplications, for decoding on a processor (Winograd; arXiv:1509.09308).

A tile of 4x4 results needs 6x6 pixels. Seen as polynomials evaluated at six points, convolution is a product point by
point: 36 matrix products over channels instead of 9 * 16. The points 0, +-1/sqrt(2), +-sqrt(2) and infinity make the
rounding error that of the plain convolution; the usual 0, +-1, +-2 would make it four times larger.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

TILE = 4
"""Rows and columns of results a tile."""

WINDOW = TILE + 2
"""Rows and columns of pixels that a tile sees."""

STRIP_BYTES = 8 * 2**20
"""Tiles are worked on in strips of about this size, which stay in the processor's cache and bound the memory."""

MIN_WIDTH = 128
MIN_PIXELS = 32 * 32
"""Below these the transforms cost more than the products they save."""


class Conv3x3(nn.Conv2d):
    """3x3 convolution with padding 1 that takes the short way where no gradient is needed and maps are large."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width, out_width, 3, padding=1)

    def forward(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B E H W"]:
        """Same size; the width may change."""
        assert self.bias is not None
        if self.takes_short_way(x_BDHW):
            return winograd_conv(x_BDHW, self.weight, self.bias)
        return super().forward(x_BDHW)

    def takes_short_way(self, x_BDHW: Float[Tensor, "B D H W"]) -> bool:
        """Whether the short way is open for a map (float32 on a processor, no gradient) and pays."""
        large = min(self.in_channels, self.out_channels) >= MIN_WIDTH and x_BDHW[0, 0].numel() >= MIN_PIXELS
        plain = x_BDHW.device.type == "cpu" and x_BDHW.dtype == self.weight.dtype == torch.float32
        return large and plain and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def winograd_conv(
    x_BDHW: Float[Tensor, "B D H W"], weight: Float[Tensor, "E D 3 3"], bias: Float[Tensor, " E"]
) -> Float[Tensor, "B E H W"]:
    """The convolution with padding 1; channels last in memory, without gradient."""
    to_points, weight_to_points, to_results = _matrices()
    batch, in_width, rows, columns = x_BDHW.shape
    width = weight.shape[0]
    tile_rows, tile_columns = -(-rows // TILE), -(-columns // TILE)
    # [window pixel, D, E] of the weights, read as (E, 9, D) which they are in memory.
    squared = torch.kron(weight_to_points, weight_to_points)
    weights = (squared @ weight.permute(0, 2, 3, 1).flatten(1, 2)).permute(1, 2, 0)
    pixels = _with_margins(x_BDHW, TILE * tile_rows, TILE * tile_columns)
    results = pixels.new_empty(batch, tile_rows, TILE, tile_columns, TILE, width)
    strip_rows = max(1, STRIP_BYTES // (4 * WINDOW**2 * batch * tile_columns * max(in_width, width)))
    for first in range(0, tile_rows, strip_rows):
        last = min(first + strip_rows, tile_rows)
        strip = pixels[:, TILE * first : TILE * last + 2]
        # [row and column in the window, B, tile row, tile column, D]
        windows = strip.unfold(1, WINDOW, TILE).unfold(2, WINDOW, TILE).permute(4, 5, 0, 1, 2, 3)
        points = _both_ways(to_points, windows)
        products = torch.bmm(points.view(WINDOW**2, -1, in_width), weights)
        tiles = _both_ways(to_results, products.view(WINDOW, WINDOW, -1)).view(
            TILE, TILE, batch, -1, tile_columns, width
        )
        results[:, first:last] = tiles.add_(bias).permute(2, 3, 0, 4, 1, 5)
    maps = results.view(batch, tile_rows * TILE, tile_columns * TILE, width)[:, :rows, :columns]
    return maps.permute(0, 3, 1, 2)


def _both_ways(matrix: Float[Tensor, "m n"], squares: Float[Tensor, "n n *rest"]) -> Float[Tensor, "m m rest"]:
    """The matrix applied to rows and columns of squares, whose further axes become one."""
    m, n = matrix.shape
    by_row = matrix @ squares.reshape(n, -1)
    return matrix @ by_row.view(m, n, -1)


def _with_margins(x_BDHW: Tensor, rows: int, columns: int) -> Float[Tensor, "B H W D"]:
    """One row and column of zeros before, and zeros up to one after ``rows`` and ``columns``."""
    batch, width, height, length = x_BDHW.shape
    padded = x_BDHW.new_empty(batch, rows + 2, columns + 2, width)
    padded[:, 1 : height + 1, 1 : length + 1] = x_BDHW.permute(0, 2, 3, 1)
    for margin in (padded[:, :1], padded[:, height + 1 :], padded[:, :, :1], padded[:, :, length + 1 :]):
        margin.zero_()
    return padded


@cache
def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """In one dimension: pixels to points (6, 6), weights to points (6, 3), products to results (4, 6).

    Toom-Cook interpolation at five finite points and infinity.
    """
    finite = np.array([0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5)])
    to_points, weight_to_points, to_results = (
        np.zeros((WINDOW, WINDOW)),
        np.zeros((WINDOW, 3)),
        np.zeros((TILE, WINDOW)),
    )
    for i, point in enumerate(finite):
        others = np.delete(finite, i)
        to_points[i, : WINDOW - 1] = np.poly(others)[::-1]
        weight_to_points[i] = point ** np.arange(3) / np.prod(point - others)
        to_results[:, i] = point ** np.arange(TILE)
    to_points[-1] = np.poly(finite)[::-1]
    weight_to_points[-1, -1] = to_results[-1, -1] = 1.0
    one, two, three = (torch.from_numpy(m).float() for m in (to_points, weight_to_points, to_results))
    return one, two, three
