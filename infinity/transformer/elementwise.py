"""Maths without weights that every block spends memory traffic on; gradients by hand where that saves passes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Complex64, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from infinity.transformer.rope import rotate

MAX_LOG_SCALE = math.log(100.0)
"""Upper bound of the learned logarithmic scale of the queries (paper 3.3)."""

_MIN_LENGTH = 1e-12


def modulated_norm(
    x_BLD: Float[Tensor, "B L D"], gain_B1D: Float[Tensor, "B 1 D"], shift_B1D: Float[Tensor, "B 1 D"], eps: float
) -> Float[Tensor, "B L D"]:
    """Layer norm without own gain, then gain * x + shift, one gain and shift a sample; float32."""
    return torch.addcmul(shift_B1D, F.layer_norm(x_BLD.float(), x_BLD.shape[-1:], eps=eps), gain_B1D)


def unit_queries_and_keys(
    joint: Float[Tensor, "B L M E"], log_scale: Float[Tensor, " N"], turn: Complex64[Tensor, "L P"]
) -> Float[Tensor, "B L M E"]:
    """Queries and keys of length one, queries times exp(log_scale), both turned by their positions (paper 3.3).

    Args:
        joint: Float32 queries of the N heads, then keys of the N heads: M is 2 N.
        log_scale: One number a head; above ln 100 it counts as ln 100.
        turn: Rotations of the L tokens.
    """
    result: Tensor = _UnitRotate.apply(joint.float(), log_scale, turn)  # type: ignore[no-untyped-call]
    return result


class _UnitRotate(torch.autograd.Function):
    """y = rotate(x) * scale / |x|. As a rotation keeps lengths and products, y.dy is all that the gradients need:

    dlog_scale = sum of y.dy, and dx = rotate_back(dy) * scale / |x| - x * (y.dy) / |x|^2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, turn: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(_MIN_LENGTH)
        scale = torch.cat([log_scale.clamp(max=MAX_LOG_SCALE).exp(), torch.ones_like(log_scale)])
        factor = scale[:, None] / length
        y = rotate(x, turn).mul_(factor)
        ctx.save_for_backward(x, y, length, factor, log_scale, turn)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y, length, factor, log_scale, turn = ctx.saved_tensors
        if grad.stride(-1) != 1:  # an expanded gradient: pairs of channels must be neighbours in memory
            grad = grad.contiguous()
        product = (grad * y).sum(dim=-1, keepdim=True)
        grad_x = rotate(grad, turn.conj().resolve_conj()).mul_(factor).addcmul_(x, product / length.square(), value=-1)
        per_head = product[:, :, : log_scale.shape[0], 0].sum(dim=(0, 1))
        return grad_x, per_head * (log_scale <= MAX_LOG_SCALE), None
