"""Queries and keys of length one, rotated by their positions: one autograd function that keeps only its result.

Fast twin of ``plain_unit_queries_and_keys``. ``python -m benchmarks.kernels`` shows what it earns.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Complex64, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from infinity.kernels.switch import uses_fast

MAX_LOG_SCALE = math.log(100.0)
"""Upper bound of the learned logarithmic scale of the queries (paper 3.3)."""

_MIN_LENGTH = 1e-12


def unit_queries_and_keys(
    joint: Float[Tensor, "B L M E"], log_scale: Float[Tensor, " N"], rotary: Float[Tensor, "L P 2"]
) -> tuple[Float[Tensor, "B N L E"], Float[Tensor, "B N L E"]]:
    """Normalise queries and keys to length one, scale queries by exp(log_scale), and apply RoPE (paper 3.3).

    Args:
        joint: Queries of the N heads, then keys of the N heads: M is 2 N.
        log_scale: One number per head, clamped to at most ln 100.
        rotary: Cosine and sine of every pair of channels of the L tokens.

    Returns:
        Queries and keys, float32, contiguous per head, as the attention kernels read them.
    """
    if not uses_fast(joint, "unit_rotation"):
        return plain_unit_queries_and_keys(joint, log_scale, rotary)
    rotary_LP = torch.view_as_complex(rotary)
    query, key = _UnitRotate.apply(joint.float(), log_scale, rotary_LP)  # type: ignore[no-untyped-call]
    return query, key


def plain_unit_queries_and_keys(
    joint: Float[Tensor, "B L M E"], log_scale: Float[Tensor, " N"], rotary: Float[Tensor, "L P 2"]
) -> tuple[Float[Tensor, "B N L E"], Float[Tensor, "B N L E"]]:
    """Compute the same in plain operations, with autograd's gradients; a compiler fuses them by itself."""
    query_BLNE, key_BLNE = joint.float().chunk(2, dim=2)
    scale_N1 = log_scale.clamp(max=MAX_LOG_SCALE).exp()[:, None]
    query = _rotated(F.normalize(query_BLNE, dim=-1, eps=_MIN_LENGTH) * scale_N1, rotary)
    return query, _rotated(F.normalize(key_BLNE, dim=-1, eps=_MIN_LENGTH), rotary)


def _rotated(x_BLNE: Float[Tensor, "B L N E"], rotary: Float[Tensor, "L P 2"]) -> Float[Tensor, "B N L E"]:
    """Rotate adjacent pairs of channels in real numbers, which a compiler fuses with what stands before and after."""
    even, odd = x_BLNE.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotary[:, None].unbind(-1)
    y_BLNE = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
    return y_BLNE.transpose(1, 2)


class _UnitRotate(torch.autograd.Function):
    """y = rotate(x) * scale / |x|. A rotation keeps lengths and products: y and y.dy are all that the gradients need:

    dlog_scale = sum of y.dy, and dx = rotate_back(dy - y * (y.dy) / scale^2) * scale / |x|.

    So x is not kept. The rotation also moves the head axis to the front, which then costs nothing; below S is 2:
    queries and keys.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor]:
        x_SBNLE = x.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
        inverse = torch.linalg.vector_norm(x_SBNLE, dim=-1, keepdim=True).clamp_min_(_MIN_LENGTH).reciprocal_()
        scale = torch.stack([log_scale.clamp(max=MAX_LOG_SCALE).exp(), torch.ones_like(log_scale)])
        factor = inverse * scale[:, None, :, None, None]
        y = torch.empty(x_SBNLE.shape, device=x.device)
        rotate_into(y, x_SBNLE, rotary)
        y.mul_(factor)
        ctx.save_for_backward(y, factor, scale, log_scale, rotary)
        return y[0], y[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        y, factor, scale, log_scale, rotary = ctx.saved_tensors
        _, batch, heads, length, width = y.shape
        grad_x = y.new_empty(batch, length, 2 * heads, width)
        grad_SBNLE = grad_x.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
        back = rotary.conj().resolve_conj()
        products = []
        for half, grad in enumerate(grads):
            if grad.stride(-1) != 1:  # an expanded gradient: pairs of channels must be neighbours in memory
                grad = grad.contiguous()
            product = (grad * y[half]).sum(dim=-1, keepdim=True)
            share = product / scale[half, :, None, None].square()
            rotate_into(grad_SBNLE[half], torch.addcmul(grad, y[half], share, value=-1).mul_(factor[half]), back)
            products.append(product)
        per_head = products[0].sum(dim=(0, 2, 3))
        return grad_x, per_head * (log_scale <= MAX_LOG_SCALE), None


def rotate_into(
    out: Float[Tensor, "*batch L E"], x: Float[Tensor, "*batch L E"], rotary: Complex64[Tensor, "L P"]
) -> None:
    """Rotate adjacent pairs of channels (2i, 2i + 1) of every token; float32, without gradient.

    ``out`` and ``x`` may have different strides as long as the channels are adjacent.
    """
    torch.mul(_pairs(x), rotary, out=_pairs(out))


def _pairs(x: Tensor) -> Tensor:
    """View adjacent channels as complex numbers."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))
