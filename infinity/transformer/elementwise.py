"""Maths without weights that every block spends memory traffic on; gradients by hand where that saves passes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from infinity.transformer.rope import rotate_into

MAX_LOG_SCALE = math.log(100.0)
"""Upper bound of the learned logarithmic scale of the queries (paper 3.3)."""

_MIN_LENGTH = 1e-12


def modulated_norm(
    x_BLD: Float[Tensor, "B L D"], gain_B1D: Float[Tensor, "B 1 D"], shift_B1D: Float[Tensor, "B 1 D"], eps: float
) -> Float[Tensor, "B L D"]:
    """Layer norm without own gain, then gain * x + shift, one gain and shift a sample; float32."""
    return torch.addcmul(shift_B1D, F.layer_norm(x_BLD.float(), x_BLD.shape[-1:], eps=eps), gain_B1D)


def gelu_tanh(x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """GELU in its tanh form: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).

    On a CPU torch's own kernel spends most of its time in tanh; this is a third faster, forward and backward.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    result: Tensor = _GeluTanh.apply(x)  # type: ignore[no-untyped-call]
    return result


class _GeluTanh(torch.autograd.Function):
    """y = x s with s = sigmoid(x a) and a = p + q x^2; dy/dx = s + y (1 - s) (3 a - 2 p).

    Every line below reads and writes the whole tensor once, and memory traffic is what this costs.
    """

    LINEAR = 2 * math.sqrt(2 / math.pi)
    CUBIC = LINEAR * 0.044715

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rate = torch.addcmul(x.new_tensor(_GeluTanh.LINEAR), x, x, value=_GeluTanh.CUBIC)
        if not ctx.needs_input_grad[0]:
            return rate.mul_(x).sigmoid_().mul_(x)
        sigmoid = (rate * x).sigmoid_()
        y: Tensor = x * sigmoid
        rest = torch.addcmul(y, y, sigmoid, value=-1)
        slope = sigmoid.addcmul_(rest, rate, value=3).add_(rest, alpha=-2 * _GeluTanh.LINEAR)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        slope: Tensor
        (slope,) = ctx.saved_tensors
        return grad * slope


def unit_queries_and_keys(
    joint: Float[Tensor, "B L M E"], log_scale: Float[Tensor, " N"], turn: Float[Tensor, "L P 2"]
) -> tuple[Float[Tensor, "B N L E"], Float[Tensor, "B N L E"]]:
    """Queries and keys of length one, queries times exp(log_scale), both turned by their positions (paper 3.3).

    Args:
        joint: Queries of the N heads, then keys of the N heads: M is 2 N.
        log_scale: One number a head; above ln 100 it counts as ln 100.
        turn: Rotations of the L tokens: cosine and sine of every pair of channels.

    Returns:
        Queries and keys, float32, head by head in memory as the attention kernels read them.
    """
    if torch.compiler.is_compiling():
        return plain_unit_queries_and_keys(joint, log_scale, turn)
    turn_LP = torch.view_as_complex(turn)
    query, key = _UnitRotate.apply(joint.float(), log_scale, turn_LP)  # type: ignore[no-untyped-call]
    return query, key


def plain_unit_queries_and_keys(
    joint: Float[Tensor, "B L M E"], log_scale: Float[Tensor, " N"], turn: Float[Tensor, "L P 2"]
) -> tuple[Float[Tensor, "B N L E"], Float[Tensor, "B N L E"]]:
    """The same in operations that a compiler joins by itself, with autograd's gradients."""
    x_SBNLE = joint.float().unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
    scale = torch.stack([log_scale.clamp(max=MAX_LOG_SCALE).exp(), torch.ones_like(log_scale)])
    unit = F.normalize(x_SBNLE, dim=-1, eps=_MIN_LENGTH) * scale[:, None, :, None, None]
    even, odd = unit.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = turn.unbind(-1)
    y = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
    return y[0], y[1]


class _UnitRotate(torch.autograd.Function):
    """y = rotate(x) * scale / |x|. As a rotation keeps lengths and products, y.dy is all that the gradients need:

    dlog_scale = sum of y.dy, and dx = rotate_back(dy) * scale / |x| - x * (y.dy) / |x|^2.

    The rotation also moves the head axis to the front, which then costs nothing; below S is 2: queries and keys.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        x_SBNLE = x.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
        inverse = torch.linalg.vector_norm(x_SBNLE, dim=-1, keepdim=True).clamp_min_(_MIN_LENGTH).reciprocal_()
        scale = torch.stack([log_scale.clamp(max=MAX_LOG_SCALE).exp(), torch.ones_like(log_scale)])
        factor = inverse * scale[:, None, :, None, None]
        y = torch.empty(x_SBNLE.shape, device=x.device)
        rotate_into(y, x_SBNLE, turn)
        y.mul_(factor)
        ctx.save_for_backward(x, y, inverse, factor, log_scale, turn)
        return y[0], y[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y, inverse, factor, log_scale, turn = ctx.saved_tensors
        x_SBNLE = x.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
        grad_x = torch.empty_like(x)
        grad_SBNLE = grad_x.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
        back = turn.conj().resolve_conj()
        products = []
        for half, grad in enumerate(grads):
            if grad.stride(-1) != 1:  # an expanded gradient: pairs of channels must be neighbours in memory
                grad = grad.contiguous()
            product = (grad * y[half]).sum(dim=-1, keepdim=True)
            rotate_into(grad_SBNLE[half], grad, back)
            grad_SBNLE[half].mul_(factor[half])
            grad_SBNLE[half].addcmul_(x_SBNLE[half], product * inverse[half].square(), value=-1)
            products.append(product)
        per_head = products[0].sum(dim=(0, 2, 3))
        return grad_x, per_head * (log_scale <= MAX_LOG_SCALE), None
