"""Feed-forward layer that keeps less for its backward pass: an eighth of the memory of a training step.

Fast twin of ``contract(gelu(expand(x)))``. ``python -m benchmarks.kernels`` shows what it earns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from infinity.kernels.switch import uses_fast


def feed_forward(x: Float[Tensor, "*batch D"], expand: nn.Linear, contract: nn.Linear) -> Float[Tensor, "*batch D"]:
    """Linear, GELU in its tanh form, Linear (paper 3.1).

    Args:
        x: Input of any number of leading axes.
        expand: From D to the hidden width.
        contract: From the hidden width to D.

    Returns:
        A tensor of the shape of ``x``.
    """
    if _serves(x, expand, contract):
        weights = expand.weight, expand.bias, contract.weight, contract.bias
        result: Tensor = _FeedForward.apply(x, *weights)  # type: ignore[no-untyped-call]
        return result
    contracted: Tensor = contract(F.gelu(expand(x), approximate="tanh"))
    return contracted


def _serves(x: Tensor, expand: nn.Linear, contract: nn.Linear) -> bool:
    """Return whether the fast twin applies: plain float32 layers, without adapters, in a pass with gradients."""
    linear = type(expand) is nn.Linear and type(contract) is nn.Linear
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return linear and plain and torch.is_grad_enabled() and uses_fast(x, "feed_forward")


class _FeedForward(torch.autograd.Function):
    """Keep the input of the GELU and compute its output again; autograd would keep both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, expand: Tensor, bias: Tensor, contract: Tensor, end_bias: Tensor) -> Tensor:
        hidden = F.linear(x, expand, bias)
        ctx.save_for_backward(x, hidden, expand, contract)
        return F.linear(F.gelu(hidden, approximate="tanh"), contract, end_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, expand, contract = ctx.saved_tensors
        learns = any(ctx.needs_input_grad[1:])
        flat, hidden, grad = x.flatten(0, -2), hidden.flatten(0, -2), grad.flatten(0, -2)
        grad_contract = grad.t() @ F.gelu(hidden, approximate="tanh") if learns else None
        grad_hidden = torch.ops.aten.gelu_backward(grad @ contract, hidden, approximate="tanh")
        grad_x = (grad_hidden @ expand).view_as(x)
        if not learns:
            return grad_x, None, None, None, None
        return grad_x, grad_hidden.t() @ flat, grad_hidden.sum(dim=0), grad_contract, grad.sum(dim=0)
