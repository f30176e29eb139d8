"""Feed-forward layer that a gate adds to the residual stream, without its own result being kept for the gate.

Twin of ``residual + gate * feed_forward(x)`` for the training of large batches on a CPU. Autograd keeps the layer's
result, because the gate's gradient is the sum over tokens of result times gradient. The last product of the layer,
``result = active @ contract.T + bias``, moves out of that sum. So the gate's gradient follows from the sums over tokens
of gradient times active features. These sums are one per sample, and the gradient of ``contract`` needs them anyway.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from infinity.kernels.feed_forward import hidden_features, row_chunks, serves

LEAST_TOKENS = 256
"""Tokens of a sample from which on its own sum, a matrix as large as ``contract``, costs less than it saves."""


def serves_gated(x: Float[Tensor, "B L D"], expand: nn.Linear, contract: nn.Linear) -> bool:
    """Return whether ``gated_feed_forward`` serves this input: as ``feed_forward``'s fast twin, and long samples."""
    return x.ndim == 3 and x.shape[1] >= LEAST_TOKENS and serves(x, expand, contract)


def gated_feed_forward(
    residual: Float[Tensor, "B L D"],
    gate: Float[Tensor, "B 1 D"],
    x: Float[Tensor, "B L D"],
    expand: nn.Linear,
    contract: nn.Linear,
    *,
    keeps_hidden: bool = False,
) -> Float[Tensor, "B L D"]:
    """Return ``residual + gate * feed_forward(x)``, float32; only ``x`` and the gate are kept for the backward pass.

    Args:
        residual: Residual stream before the layer.
        gate: Factor per sample and channel.
        x: Input of the layer.
        expand: From D to the hidden width.
        contract: From the hidden width to D.
        keeps_hidden: Whether the hidden features are kept as well: less time, more memory, equal bits.
    """
    weights = expand.weight, expand.bias, contract.weight, contract.bias
    result: Tensor = _GatedFeedForward.apply(residual, gate, x, *weights, keeps_hidden)  # type: ignore[no-untyped-call]
    return result


class _GatedFeedForward(torch.autograd.Function):
    """Go through the samples, and through the rows of each in chunks that fit a processor's cache."""

    @staticmethod
    def forward(
        ctx: Any,
        residual: Tensor,
        gate: Tensor,
        x: Tensor,
        expand: Tensor,
        bias: Tensor,
        contract: Tensor,
        end_bias: Tensor,
        keeps_hidden: bool,
    ) -> Tensor:
        result = torch.empty_like(residual)
        # One tensor per sample: the C library maps and unmaps larger ones for every step.
        kept = [x.new_empty(x.shape[1], len(bias) if keeps_hidden else 0) for _ in range(len(x))]
        for sample in range(len(x)):
            tables = x[sample], residual[sample], result[sample], kept[sample]
            for rows, before, out, place in row_chunks(len(bias), *tables):
                active = F.gelu(hidden_features(rows, expand, bias, place), approximate="tanh")
                torch.addcmul(before, gate[sample], torch.addmm(end_bias, active, contract.t()), out=out)
        ctx.save_for_backward(gate, x, expand, bias, contract, end_bias, *(kept if keeps_hidden else ()))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, x, expand, bias, contract, end_bias, *kept = ctx.saved_tensors
        learns, gate_learns = any(ctx.needs_input_grad[3:]), ctx.needs_input_grad[1]
        grad_expand, grad_bias, grad_contract = (torch.zeros_like(t) for t in (expand, bias, contract))
        grad_x, grad_gate = torch.empty_like(x), torch.empty_like(gate)
        places = kept or x.new_empty(*x.shape[:2], 0)
        for sample in range(len(x)):
            product = torch.zeros_like(contract)  # sum over tokens of gradient times active features
            tables = x[sample], grad[sample], grad_x[sample], places[sample]
            for rows, grad_rows, out, place in row_chunks(len(bias), *tables):
                hidden = place if kept else F.linear(rows, expand, bias)
                active = F.gelu(hidden, approximate="tanh")
                if learns or gate_learns:
                    product.addmm_(grad_rows.t(), active)
                torch.mm(grad_rows * gate[sample], contract, out=active)
                grad_hidden = torch.ops.aten.gelu_backward(active, hidden, approximate="tanh")
                torch.mm(grad_hidden, expand, out=out)
                if learns:
                    grad_expand.addmm_(grad_hidden.t(), rows)
                    grad_bias += grad_hidden.sum(dim=0)
            if learns:
                grad_contract.addcmul_(gate[sample].t(), product)
            if gate_learns:
                grad_gate[sample] = product.mul_(contract).sum(dim=1) + end_bias * grad[sample].sum(dim=0)
        gates = (grad, grad_gate if gate_learns else None, grad_x)
        if not learns:
            return *gates, None, None, None, None, None
        grad_end = (grad.sum(dim=1, keepdim=True) * gate).sum(dim=(0, 1))
        return *gates, grad_expand, grad_bias, grad_contract, grad_end, None
