"""Upsampling by two, then a 3x3 convolution, in four ninths of the products.

Fast twin of ``conv(interpolate(x))``. A pixel of the doubled map sees only 2x2 different pixels of the small one, so
each of the four phases (row, column modulo 2) is a 2x2 convolution of the small map with sums of weights.
``python -m benchmarks.training.kernels`` shows what it earns.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from infinity.kernels.switch import uses_fast

MIN_SIDE = 8
"""Smallest side for the fast twin: on smaller maps the borders of the phases cost more than the products saved."""

_PLACES = (((0,), (1, 2)), ((0, 1), (2,)))
"""Taps of a row or column of the kernel that fall on the same small pixel: [phase][tap of the small map]."""

_TABLE = torch.tensor(
    [[[float(tap in taps) for tap in range(3)] for taps in phase] for phase in _PLACES], dtype=torch.float32
)
"""The same with zeros and ones: [phase, tap of the small map, tap of the kernel]."""


def doubled_conv(x_BDhw: Float[Tensor, "B D h w"], conv: nn.Conv2d) -> Float[Tensor, "B E H W"]:
    """Repeat every pixel twice in both directions, then convolve; ``conv`` is 3x3 with padding 1 and a bias."""
    if min(x_BDhw.shape[-2:]) < MIN_SIDE or not uses_fast(x_BDhw, "upsample"):
        result: Tensor = conv(F.interpolate(x_BDhw, scale_factor=2.0, mode="nearest"))
        return result
    assert conv.bias is not None
    learns = torch.is_grad_enabled() and conv.weight.requires_grad
    phases = _learnt_phases(conv.weight) if learns else phase_weights(conv.weight)
    maps = F.conv2d(x_BDhw, phases, conv.bias.repeat(4), padding=1)
    result = _Interleave.apply(maps)  # type: ignore[no-untyped-call]
    return result


def _learnt_phases(weight: Float[Tensor, "E D 3 3"]) -> Float[Tensor, "E4 D 2 2"]:
    """Return the sums of taps with a gradient; its rounding is that of all trainings so far, so that they repeat."""
    table = _TABLE.to(weight)
    phases = torch.einsum("pai,qbj,ocij->pqocab", table, table, weight).flatten(0, 2)
    return phases.contiguous(memory_format=torch.channels_last)


def phase_weights(weight: Float[Tensor, "E D 3 3"]) -> Float[Tensor, "E4 D 2 2"]:
    """Return the sums of taps for each phase, channels last, without gradient: whole rows of D numbers are added.

    An einsum with a table of zeros and ones took a twentieth of decoding, most of it to change the order in memory.
    """
    taps = weight.detach().permute(0, 2, 3, 1)
    width_out, _, _, width_in = taps.shape
    phases = taps.new_empty(2, 2, width_out, 2, 2, width_in)
    for p, a in product((0, 1), repeat=2):
        row = _sum(taps, _PLACES[p][a])
        for q, b in product((0, 1), repeat=2):
            phases[p, q, :, a, b] = _sum(row, _PLACES[q][b])
    return phases.flatten(0, 2).permute(0, 3, 1, 2)


def _sum(x: Tensor, places: tuple[int, ...]) -> Tensor:
    """Return the sum of some places of the second axis."""
    total: Tensor = x.select(1, places[0])
    for place in places[1:]:
        total = total + x.select(1, place)
    return total


class _Interleave(torch.autograd.Function):
    """Interleave four phases, each one pixel larger than the small map, to one map of twice its size, channels last.

    Phase (p, q) of pixel (y, x) lies at (y + p, x + q) and channels 2p + q. Slices under autograd would allocate four
    gradients of full size and their sum; this function allocates one.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        batch, width, rows, columns = maps.shape
        rows, columns, width = rows - 1, columns - 1, width // 4
        source = maps.permute(0, 2, 3, 1).reshape(batch, rows + 1, columns + 1, 4, width)
        doubled = maps.new_empty(batch, rows, 2, columns, 2, width)
        for p, q in product((0, 1), repeat=2):
            doubled[:, :, p, :, q] = source[:, p : p + rows, q : q + columns, 2 * p + q]
        return doubled.reshape(batch, 2 * rows, 2 * columns, width).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        batch, width, rows, columns = grad.shape
        rows, columns = rows // 2, columns // 2
        source = grad.permute(0, 2, 3, 1).reshape(batch, rows, 2, columns, 2, width)
        maps = grad.new_zeros(batch, rows + 1, columns + 1, 4, width)
        for p, q in product((0, 1), repeat=2):
            maps[:, p : p + rows, q : q + columns, 2 * p + q] = source[:, :, p, :, q]
        return maps.flatten(3).permute(0, 3, 1, 2)
