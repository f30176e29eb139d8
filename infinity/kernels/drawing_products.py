"""Linear maps of drawing on a CPU by oneDNN, with the GELU as part of the product.

Fast twin of ``gelu(linear(x))`` without gradients. Torch's own product in float32 is another library's, which is slower
on long inputs, and its GELU of bfloat16 numbers takes nearly as long as the product before it. Which kernel serves
depends on the tokens of one picture, never on the batch, so that a picture is the same in every batch.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from infinity.kernels.switch import uses_fast

LEAST_TOKENS = 128
"""Tokens of a picture from which on the product in float32 is the faster one; in bfloat16 it always is."""


def drawn(x: Float[Tensor, "B L D"], layer: nn.Module, *, gelu: bool = False) -> Float[Tensor, "B L E"]:
    """Apply a linear map, or what stands in its place such as a quantized one; then the GELU in its tanh form."""
    if type(layer) is nn.Linear:
        return drawn_product(x, layer.weight, layer.bias, gelu=gelu)
    result: Tensor = layer(x)
    return F.gelu(result, approximate="tanh") if gelu else result


def drawn_product(
    x: Float[Tensor, "B L D"],
    weight: Float[Tensor, "E D"],
    bias: Float[Tensor, " E"] | None,
    *,
    gelu: bool = False,
) -> Float[Tensor, "B L E"]:
    """Apply a linear map to the tokens of a scale, in the data type of autocast.

    Args:
        bias: Bias; None for none.
        gelu: Whether the GELU in its tanh form follows.
    """
    is_cast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if is_cast else x.dtype
    if serves(x, weight, dtype):
        bias = None if bias is None else bias.to(dtype)
        name, form = ("gelu", "tanh") if gelu else ("none", "")
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(dtype), weight.to(dtype), bias, name, [], form)
        return product
    result = F.linear(x, weight, bias)
    return F.gelu(result, approximate="tanh") if gelu else result


def serves(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Return whether the fast twin serves: without gradients, for plain tensors on a CPU that has the product.

    Weights of float32 are cast, so that a picture does not depend on the data type in which they are stored.

    Args:
        x: Tokens of B pictures.
        dtype: Data type of the product.
    """
    is_plain = x.device.type == "cpu" and type(x) is Tensor and weight.is_floating_point() and x.ndim == 3
    if not is_plain or torch.is_grad_enabled() or torch.compiler.is_compiling() or not len(x):
        return False
    if dtype == torch.float32 and x.shape[1] < LEAST_TOKENS:
        return False
    return _has_product(dtype) and uses_fast(x, "drawing_products")


@cache
def _has_product(dtype: torch.dtype) -> bool:
    """Return whether this build of torch, on this processor, has oneDNN's product of a data type."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
