"""Feed-forward layer that keeps its input alone: a fifth of the memory of a training step.

Fast twin of ``contract(gelu(expand(x)))``. ``python -m benchmarks.training.kernels`` shows what it earns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from infinity.kernels.switch import uses_fast


def feed_forward(
    x: Float[Tensor, "*batch D"],
    expand: nn.Linear,
    contract: nn.Linear,
    *,
    recomputed: bool = False,
    keeps_hidden: bool = False,
) -> Float[Tensor, "*batch D"]:
    """Linear, GELU in its tanh form, Linear (paper 3.1).

    Args:
        x: Input of any number of leading axes.
        expand: From D to the hidden width.
        contract: From the hidden width to D.
        recomputed: Whether the backward pass computes the layer again anyway (activation checkpointing).
        keeps_hidden: Whether the hidden features are kept for the backward pass: less time, more memory, equal bits.

    Returns:
        A tensor of the shape of ``x``.
    """
    if serves(x, expand, contract):
        weights = expand.weight, expand.bias, contract.weight, contract.bias
        result: Tensor = _FeedForward.apply(x, *weights, keeps_hidden)  # type: ignore[no-untyped-call]
        return result
    if _gains_by_gelu_products(x, expand, contract, recomputed):
        result = _with_gelu_product(x, expand, contract)
        return result
    contracted: Tensor = contract(F.gelu(expand(x), approximate="tanh"))
    return contracted


def _gains_by_gelu_products(x: Tensor, expand: nn.Linear, contract: nn.Linear, recomputed: bool) -> bool:
    """Return whether the GELU's input is not needed later: plain layers on a GPU, where nothing is kept of them."""
    if type(expand) is not nn.Linear or type(contract) is not nn.Linear or x.device.type != "cuda":
        return False
    return not torch.is_grad_enabled() or (recomputed and torch.compiler.is_compiling())


def _with_gelu_product(x: Tensor, expand: nn.Linear, contract: nn.Linear) -> Tensor:
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    weights = expand.weight, expand.bias, contract.weight, contract.bias
    result: Tensor = _FeedForwardAgain.apply(*(part.to(dtype) for part in (x, *weights)))  # type: ignore[no-untyped-call]
    return result


def gelu_product(
    x: Float[Tensor, "*batch D"], weight: Float[Tensor, "H D"], bias: Float[Tensor, " H"]
) -> Float[Tensor, "*batch H"]:
    """Apply a linear map and the GELU in its tanh form; on a GPU in one kernel, which saves a pass over the result.

    Torch's operation for that has the tanh form on a GPU alone, and applies it before the result is rounded. A compiler
    keeps it as one call.
    """
    if x.device.type != "cuda":
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")
    hidden: Tensor = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
    return hidden.view(*x.shape[:-1], -1)


def serves(x: Tensor, expand: nn.Linear, contract: nn.Linear) -> bool:
    """Return whether the fast twin serves: plain float32 layers, without adapters, in a pass with gradients."""
    linear = type(expand) is nn.Linear and type(contract) is nn.Linear
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return linear and plain and torch.is_grad_enabled() and uses_fast(x, "feed_forward")


class _FeedForward(torch.autograd.Function):
    """Keep the input alone, and go through the rows in chunks that fit a processor's cache.

    The backward pass computes the hidden features again, or reads them where they are kept: computing them is 13 % of
    the layer's time. Their gradients never exist for all rows. Where there is one chunk, they are kept.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, expand: Tensor, bias: Tensor, contract: Tensor, end_bias: Tensor, keeps_hidden: bool
    ) -> Tensor:
        flat = x.flatten(0, -2)
        result = x.new_empty(len(flat), len(contract))
        keeps = keeps_hidden or len(flat) * len(bias) <= _CHUNK
        kept = flat.new_empty(len(flat), len(bias) if keeps else 0)
        for rows, out, place in row_chunks(len(bias), flat, result, kept):
            hidden = hidden_features(rows, expand, bias, place)
            torch.addmm(end_bias, F.gelu(hidden, approximate="tanh"), contract.t(), out=out)
        ctx.save_for_backward(x, expand, bias, contract, kept if keeps else None)
        return result.view(*x.shape[:-1], len(contract))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, expand, bias, contract, kept = ctx.saved_tensors
        learns = any(ctx.needs_input_grad[1:])
        flat, grad = x.flatten(0, -2), grad.flatten(0, -2)
        grad_x, grad_expand, grad_bias, grad_contract = (torch.zeros_like(t) for t in (flat, expand, bias, contract))
        places = flat.new_empty(len(flat), 0) if kept is None else kept
        for rows, grad_rows, out, place in row_chunks(len(bias), flat, grad, grad_x, places):
            hidden = place if kept is not None else F.linear(rows, expand, bias)
            active = F.gelu(hidden, approximate="tanh")
            if learns:
                grad_contract.addmm_(grad_rows.t(), active)
            torch.mm(grad_rows, contract, out=active)
            grad_hidden = torch.ops.aten.gelu_backward(active, hidden, approximate="tanh")
            torch.mm(grad_hidden, expand, out=out)
            if learns:
                grad_expand.addmm_(grad_hidden.t(), rows)
                grad_bias += grad_hidden.sum(dim=0)
        if not learns:
            return grad_x.view_as(x), None, None, None, None, None
        return grad_x.view_as(x), grad_expand, grad_bias, grad_contract, grad.sum(dim=0), None


def hidden_features(
    rows: Float[Tensor, "R D"], expand: Float[Tensor, "H D"], bias: Float[Tensor, " H"], place: Tensor
) -> Float[Tensor, "R H"]:
    """Compute the GELU's input in the memory of ``place``, which has no columns where it is not kept."""
    if not place.shape[1]:
        return F.linear(rows, expand, bias)
    return torch.addmm(bias, rows, expand.t(), out=place)


_CHUNK = 2**19
"""Hidden features of a chunk, 2 MiB: what a core of a server has as its own cache."""


def row_chunks(hidden_width: int, *tables: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Divide tables of equally many rows into chunks of about equally many."""
    count = max(1, math.ceil(len(tables[0]) * hidden_width / _CHUNK))
    return zip(*(table.chunk(count) for table in tables), strict=True)


class _FeedForwardAgain(torch.autograd.Function):
    """Keep the input alone, and compute the hidden features again; for compiled blocks with activation checkpointing.

    They are computed again there in any case. As a function of its own the forward pass need not write the GELU's
    input, so that the product applies the GELU. All arguments have one data type.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, expand: Tensor, bias: Tensor, contract: Tensor, end_bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, expand, bias, contract)
        return F.linear(gelu_product(x, expand, bias), contract, end_bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, expand, bias, contract = ctx.saved_tensors
        flat, grad = x.flatten(0, -2), grad.flatten(0, -2)
        hidden = F.linear(flat, expand, bias)
        grad_contract = grad.t() @ F.gelu(hidden, approximate="tanh")
        grad_hidden = torch.ops.aten.gelu_backward(grad @ contract, hidden, approximate="tanh")
        grad_x = (grad_hidden @ expand).view_as(x)
        return grad_x, grad_hidden.t() @ flat, grad_hidden.sum(dim=0), grad_contract, grad.sum(dim=0)
