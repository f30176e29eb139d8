"""Queries and keys of length one, rotated by their positions: one autograd function that keeps only its result.

Fast twin of ``plain_unit_queries_and_keys``. ``python -m benchmarks.training.kernels`` shows what it earns.
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
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            query, key = _FusedUnitRotate.apply(joint, log_scale, rotary)  # type: ignore[no-untyped-call]
            return query, key
        return plain_unit_queries_and_keys(joint, log_scale, rotary)
    rotary_LP = torch.view_as_complex(rotary)
    query, key = _UnitRotate.apply(joint.float(), log_scale, rotary_LP)  # type: ignore[no-untyped-call]
    return query, key


def queries_keys_values(
    joint: Float[Tensor, "B L M E"], log_scale: Float[Tensor, " N"], rotary: Float[Tensor, "L P 2"]
) -> tuple[Float[Tensor, "B N L E"], Float[Tensor, "B N L E"], Float[Tensor, "B N L E"]]:
    """Return queries and keys as ``unit_queries_and_keys`` does, and the values, from one product of all three.

    Args:
        joint: Queries, keys, then values of the N heads: M is 3 N.
        log_scale: One number per head.
        rotary: Cosine and sine of every pair of channels of the L tokens.

    Returns:
        Queries and keys, float32, and the values in the data type of ``joint``.
    """
    heads = len(log_scale)
    query_key, value_BLNE = joint.split([2 * heads, heads], dim=2)
    if uses_fast(joint, "unit_rotation"):
        return *unit_queries_and_keys(query_key, log_scale, rotary), value_BLNE.transpose(1, 2)
    query, key = plain_unit_queries_and_keys(query_key, log_scale, rotary)
    # A compiler fuses kernels that read the same memory. No cosine is above 2, so that the values stay as they are; but
    # reading cosines makes writing the values part of the kernel that writes queries and keys.
    pairs = value_BLNE.unflatten(-1, (-1, 2))
    value = torch.where(_by_head(rotary)[..., :1] > 2.0, 0.0, pairs).flatten(-2)
    return query, key, value.transpose(1, 2)


def plain_unit_queries_and_keys(
    joint: Float[Tensor, "B L M E"], log_scale: Float[Tensor, " N"], rotary: Float[Tensor, "L P 2"]
) -> tuple[Float[Tensor, "B N L E"], Float[Tensor, "B N L E"]]:
    """Compute the same in plain operations, with autograd's gradients; a compiler fuses them by itself."""
    query_BLNE, key_BLNE = joint.float().chunk(2, dim=2)
    scale_N1 = log_scale.clamp(max=MAX_LOG_SCALE).exp()[:, None]
    query = _rotated(F.normalize(query_BLNE, dim=-1, eps=_MIN_LENGTH) * scale_N1, rotary)
    return query, _rotated(F.normalize(key_BLNE, dim=-1, eps=_MIN_LENGTH), rotary)


def _rotated(x_BLNE: Float[Tensor, "B L N E"], rotary: Float[Tensor, "L P 2"]) -> Float[Tensor, "B N L E"]:
    """Rotate adjacent pairs of channels in real numbers, which a compiler fuses with what stands before and after.

    (even, odd) becomes (even cos - odd sin, odd cos + even sin): the pair, plus the flipped pair with signs. A flip is
    another order of reading for a compiler, where stacking two halves would be a kernel with two results.
    """
    return _turned(x_BLNE, rotary, forward=True).transpose(1, 2)


def _turned(x_BLNE: Float[Tensor, "B L N E"], rotary: Float[Tensor, "L P 2"], *, forward: bool) -> Tensor:
    """Rotate adjacent pairs of channels, or rotate them back."""
    pairs = x_BLNE.unflatten(-1, (-1, 2))
    cosine, sine = _by_head(rotary).split(1, dim=-1)
    signs = torch.arange(-1, 2, 2, device=x_BLNE.device) * (1 if forward else -1)
    turned: Tensor = (pairs * cosine + pairs.flip(-1) * (sine * signs)).flatten(-2)
    return turned


def _by_head(rotary: Float[Tensor, "*B L P 2"]) -> Float[Tensor, "*B L 1 P 2"]:
    """Give rotations an axis of heads; those of some tokens of each picture, (B, 1, L, P, 2), have one elsewhere."""
    return rotary.unsqueeze(1) if rotary.ndim == 3 else rotary.transpose(1, 2)


class _FusedUnitRotate(torch.autograd.Function):
    """The plain formula with the gradients of ``_UnitRotate`` in real numbers, for a compiler.

    Only the input is kept. With u = x / |x| and g = rotate_back(dy) * scale, dx = (g - u (u.g)) / |x|, which a compiler
    makes one kernel that reads x and dy; of autograd's own gradients it makes several.
    """

    @staticmethod
    def forward(ctx: Any, joint: Tensor, log_scale: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(joint, log_scale, rotary)
        return plain_unit_queries_and_keys(joint, log_scale, rotary)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        joint, log_scale, rotary = ctx.saved_tensors
        factors = log_scale.clamp(max=MAX_LOG_SCALE).exp()[:, None], 1.0
        found, products = [], []
        for x, grad, factor in zip(joint.chunk(2, dim=2), grads, factors, strict=True):
            inverse = torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True).clamp_min(_MIN_LENGTH).reciprocal()
            unit, back = x.float() * inverse, _turned(grad.float().transpose(1, 2), rotary, forward=False) * factor
            along = (unit * back).sum(dim=-1, keepdim=True)
            found.append(((back - unit * along) * inverse).to(joint.dtype))
            products.append(along)
        per_head = products[0].sum(dim=(0, 1, 3)) * (log_scale <= MAX_LOG_SCALE)
        return torch.cat(found, dim=2), per_head, None


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
