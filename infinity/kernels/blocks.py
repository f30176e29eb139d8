"""Maths without weights that every block spends memory traffic on; gradients by hand where that saves passes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from infinity.transformer.rope import rotate_into

MAX_LOG_SCALE = math.log(100.0)
"""Upper bound of the learned logarithmic scale of the queries (paper 3.3)."""

_MIN_LENGTH = 1e-12


def modulated_norm(
    x_BLD: Float[Tensor, "B L D"], gain_B1D: Float[Tensor, "B 1 D"], shift_B1D: Float[Tensor, "B 1 D"], eps: float
) -> Float[Tensor, "B L D"]:
    """Layer norm without own gain, then gain * x + shift, one gain and shift a sample; float32."""
    if _by_hand(x_BLD) and torch.is_grad_enabled():
        result: Tensor = _ModulatedNorm.apply(x_BLD, gain_B1D, shift_B1D, eps)  # type: ignore[no-untyped-call]
        return result
    return torch.addcmul(shift_B1D, F.layer_norm(x_BLD.float(), x_BLD.shape[-1:], eps=eps), gain_B1D)


def _by_hand(x: Tensor) -> bool:
    """Whether what was written for the caches of a CPU is used; a compiler joins plain formulas better by itself."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


class _ModulatedNorm(torch.autograd.Function):
    """Keeps the input, which the residual stream has anyway, and computes what is normal again, in two passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
        normal, mean, rate = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, gain, mean, rate)
        return torch.addcmul(shift, normal, gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, gain, mean, rate = ctx.saved_tensors
        grad_gain = (x - mean).mul_(rate).mul_(grad).sum(dim=1, keepdim=True)
        grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad * gain, x, x.shape[-1:], mean, rate, None, None, (True, False, False)
        )
        return grad_x, grad_gain, grad.sum(dim=1, keepdim=True), None


def feed_forward(x: Float[Tensor, "*batch D"], expand: nn.Linear, contract: nn.Linear) -> Float[Tensor, "*batch D"]:
    """Linear, GELU (tanh), Linear."""
    is_plain = type(expand) is nn.Linear and type(contract) is nn.Linear  # no adapters
    if not (is_plain and _by_hand(x) and torch.is_grad_enabled()) or torch.is_autocast_enabled("cpu"):
        contracted: Tensor = contract(gelu_tanh(expand(x)))
        return contracted
    weights = expand.weight, expand.bias, contract.weight, contract.bias
    result: Tensor = _FeedForward.apply(x, *weights)  # type: ignore[no-untyped-call]
    return result


class _FeedForward(torch.autograd.Function):
    """Keeps what goes into the GELU, and neither its value nor its slope: half of what autograd keeps.

    Rows are worked off in groups whose hidden values stay in the processor's cache.
    """

    GROUP = 2**19
    """Hidden numbers of a group of rows: 2 MiB."""

    @staticmethod
    def _groups(hidden: Tensor) -> list[slice]:
        rows, width = hidden.shape
        size = max(64, _FeedForward.GROUP // width)
        return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]

    @staticmethod
    def forward(ctx: Any, x: Tensor, expand: Tensor, bias: Tensor, contract: Tensor, end_bias: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        hidden, y = x.new_empty(len(flat), len(expand)), x.new_empty(len(flat), len(contract))
        for group in _FeedForward._groups(hidden):
            torch.addmm(bias, flat[group], expand.t(), out=hidden[group])
            torch.addmm(end_bias, _GeluTanh.value(hidden[group]), contract.t(), out=y[group])
        ctx.save_for_backward(x, hidden, expand, contract)
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, expand, contract = ctx.saved_tensors
        learns = any(ctx.needs_input_grad[1:])
        flat, grad = x.flatten(0, -2), grad.flatten(0, -2)
        grad_x, grad_bias = torch.empty_like(flat), hidden.new_zeros(hidden.shape[1])
        grad_expand, grad_contract = torch.zeros_like(expand), torch.zeros_like(contract)
        for group in _FeedForward._groups(hidden):
            value, slope = _GeluTanh.value_and_slope(hidden[group])
            if learns:
                grad_contract.addmm_(grad[group].t(), value)
            inner = torch.mm(grad[group], contract, out=value).mul_(slope)
            if learns:
                grad_expand.addmm_(inner.t(), flat[group])
                grad_bias += inner.sum(dim=0)
            torch.mm(inner, expand, out=grad_x[group])
        if not learns:
            return grad_x.view_as(x), None, None, None, None
        return grad_x.view_as(x), grad_expand, grad_bias, grad_contract, grad.sum(dim=0)


def gelu_tanh(x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """GELU in its tanh form: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).

    On a CPU torch's own kernel spends most of its time in tanh; this is a third faster, forward and backward.
    """
    if not _by_hand(x):
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
        if not ctx.needs_input_grad[0]:
            return _GeluTanh.value(x)
        y, slope = _GeluTanh.value_and_slope(x)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    def value(x: Tensor) -> Tensor:
        rate = torch.addcmul(x.new_tensor(_GeluTanh.LINEAR), x, x, value=_GeluTanh.CUBIC)
        return rate.mul_(x).sigmoid_().mul_(x)

    @staticmethod
    def value_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
        rate = torch.addcmul(x.new_tensor(_GeluTanh.LINEAR), x, x, value=_GeluTanh.CUBIC)
        sigmoid = (rate * x).sigmoid_()
        y = x * sigmoid
        rest = torch.addcmul(y, y, sigmoid, value=-1)
        return y, sigmoid.addcmul_(rest, rate, value=3).add_(rest, alpha=-2 * _GeluTanh.LINEAR)

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
    """y = rotate(x) * scale / |x|. A rotation keeps lengths and products: y and y.dy are all that the gradients need:

    dlog_scale = sum of y.dy, and dx = rotate_back(dy - y * (y.dy) / scale^2) * scale / |x|.

    So x is not kept. The rotation also moves the head axis to the front, which then costs nothing; below S is 2:
    queries and keys.
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
        ctx.save_for_backward(y, factor, scale, log_scale, turn)
        return y[0], y[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        y, factor, scale, log_scale, turn = ctx.saved_tensors
        _, batch, heads, length, width = y.shape
        grad_x = y.new_empty(batch, length, 2 * heads, width)
        grad_SBNLE = grad_x.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
        back = turn.conj().resolve_conj()
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
