"""Binary spherical quantization with a straight-through gradient, as one autograd function.

Fast twin of ``plain_spherical_straight_through``: on small latents a chain of small functions costs more than its
arithmetic. ``python -m benchmarks.training.kernels`` shows what it earns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from infinity.kernels.switch import uses_fast

MIN_LENGTH = 1e-12
"""Divisor of a residual of length zero (repository multiscale_bsq.py, through torch's ``normalize``)."""


def spherical_straight_through(
    residual: Float[Tensor, "B C H W"],
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
    """Quantize a residual to signs on the unit sphere; the gradient passes as if nothing was rounded (paper 3.2).

    Args:
        residual: Latent of C channels, one per bit.

    Returns:
        The codes, +-1/sqrt(C), and the residual divided by its length.
    """
    if not uses_fast(residual, "straight_through"):
        return plain_spherical_straight_through(residual)
    codes, unit = _SphericalStraightThrough.apply(residual)  # type: ignore[no-untyped-call]
    return codes, unit


def plain_spherical_straight_through(
    residual: Float[Tensor, "B C H W"],
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
    """Compute the same with autograd's own gradients."""
    unit = F.normalize(residual, dim=1, eps=MIN_LENGTH)
    magnitude = residual.shape[1] ** -0.5
    codes = torch.where(residual > 0, magnitude, -magnitude)
    return unit + (codes - unit).detach(), unit


class _SphericalStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.linalg.vector_norm(residual, dim=1, keepdim=True).clamp_min_(MIN_LENGTH)
        unit = residual / length
        magnitude = float(residual.shape[1] ** -0.5)
        ctx.save_for_backward(unit, length)
        return torch.where(residual > 0, magnitude, -magnitude), unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_codes: Tensor, grad_unit: Tensor) -> Tensor:
        unit, length = ctx.saved_tensors
        grad = grad_codes + grad_unit
        along = (grad * unit).sum(dim=1, keepdim=True)
        return torch.addcmul(grad, unit, along, value=-1.0).div_(length)
