"""Quantization of the blocks' linear maps: 8 or about 5 bits per weight, in plain torch.

With int8 and int4 only storage is smaller: every product restores its weights first and computes as before, so this
runs on any device and with any version of torch. int8 has one scale per output (symmetric). int4 has a scale and a
least value per 32 weights of an output (asymmetric), in float16: 5 bits per weight in all. With float8 the products
themselves are in 8 bits (``infinity.transformer.number_formats.float8``), which needs a newer GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from infinity.config import one_of
from infinity.transformer.model import Transformer
from infinity.transformer.number_formats.float8 import fits_float8, float8_product, to_float8

Quantization = Literal["int8", "int4"]
"""Form of stored weights that any device restores."""
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
WeightForm = Literal["int8", "int4", "float8"]
"""Form of the weights of a model that draws."""
WEIGHT_FORMS: tuple[WeightForm, ...] = get_args(WeightForm)
GROUP = 32
"""Weights of int4 that share a scale and a least value."""


class QuantizedLinear(nn.Module):
    """A linear map with weights of few bits; gradients flow through it, but not into it.

    Example:
        >>> linear = nn.Linear(64, 8)
        >>> small = QuantizedLinear(linear, "int8")
        >>> bool((small.weight - linear.weight).abs().max() <= linear.weight.abs().max() / 127)
        True
    """

    codes: Tensor
    scale: Tensor
    least: Tensor | None
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, kind: WeightForm) -> None:
        """Quantize the weights of a linear map; its bias stays as it is.

        Args:
            linear: Map with weights (Out, In) in any data type of floating point.
            kind: Form of the stored weights.
        """
        super().__init__()
        self.kind, self.in_features, self.out_features = kind, linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        codes, scale, least = _FORMS[kind](weight)
        for name, value in (("codes", codes), ("scale", scale), ("least", least)):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach(), persistent=False)

    @property
    def weight(self) -> Float[Tensor, "Out In"]:
        """Restored weights, float32."""
        if self.least is None:
            return self.codes.float() * self.scale
        nibbles = torch.stack([self.codes & 15, self.codes >> 4], dim=-1).view(self.out_features, -1, GROUP)
        whole = nibbles * self.scale.float().unsqueeze(-1) + self.least.float().unsqueeze(-1)
        return whole.flatten(1)[:, : self.in_features]

    def forward(self, x: Float[Tensor, "... In"]) -> Float[Tensor, "... Out"]:
        """Apply the map with restored weights, or in float8, in the data type of the input or of autocast."""
        if self.kind == "float8":
            return float8_product(x, self.codes, self.scale, self.bias)
        if torch.is_grad_enabled() and x.requires_grad:
            product: Tensor = _RestoredProduct.apply(x, self)  # type: ignore[no-untyped-call]
            return product
        return F.linear(x, self.weight.to(x.dtype), self.bias)

    def extra_repr(self) -> str:
        """Return what ``print`` shows of the map."""
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"


class _RestoredProduct(torch.autograd.Function):
    """Product with restored weights, which the backward pass restores again; autograd would keep those of all maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear, ctx.dtype = linear, x.dtype
        return F.linear(x, linear.weight.to(x.dtype), linear.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad @ ctx.linear.weight.to(grad.dtype)).to(ctx.dtype), None


def quantize_products(transformer: Transformer, kind: WeightForm) -> None:
    """Replace the blocks' linear maps by quantized ones, in place, for inference or below adapters in training.

    Text projections, embeddings, norms, modulation and head stay float32. So do maps whose widths float8 does not have,
    which no published layout has.

    Args:
        transformer: Transformer; these maps can not be trained any more, nor be changed by an ``AdapterStack``.
        kind: Form of the weights; "float8" is for inference alone.

    Raises:
        ValueError: The kind is unknown, or a weight is not finite.
    """
    check_weight_form(kind)
    for block in transformer.block_modules():
        for parent in list(block.modules()):
            for name, module in list(parent.named_children()):
                if isinstance(module, nn.Linear) and (kind != "float8" or fits_float8(module)):
                    if not module.weight.is_meta and not math.isfinite(float(module.weight.detach().abs().amax())):
                        raise ValueError(f"quantize: the weights of {name} are NaN or infinite; the model is damaged")
                    setattr(parent, name, QuantizedLinear(module, kind))


def check_quantization(name: str | None) -> Quantization | None:
    """Return a form of stored weights by its name; None for floating point.

    Raises:
        ValueError: The name is unknown.
    """
    return one_of(name, QUANTIZATIONS, "quantize")


def check_weight_form(name: str | None) -> WeightForm | None:
    """Return a form of the weights of a model that draws, by its name; None for floating point.

    Raises:
        ValueError: The name is unknown.
    """
    return one_of(name, WEIGHT_FORMS, "quantize")


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, also of a module on the device "meta"."""
    return sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))


def weight_count(module: nn.Module) -> int:
    """Return the number of weights of a module; a quantized map counts those that it restores."""
    restored = sum(
        each.in_features * each.out_features + (0 if each.bias is None else each.out_features)
        for each in module.modules()
        if isinstance(each, QuantizedLinear)
    )
    return restored + sum(weight.numel() for weight in module.parameters())


def _int8(weight: Tensor) -> tuple[Tensor, Tensor, None]:
    # What stays is allocated before what goes; else the heap of the C library keeps a hole for every layer.
    codes, scale = weight.new_empty(weight.shape, dtype=torch.int8), weight.new_empty(weight.shape[0], 1)
    scale.copy_(_no_zero(weight.abs().amax(dim=1, keepdim=True) / 127))
    codes.copy_((weight / scale).round_().clamp_(-127, 127))
    return codes, scale, None


def _int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    padded = F.pad(weight, (0, -weight.shape[1] % GROUP), mode="constant")
    groups = padded.view(weight.shape[0], -1, GROUP)
    least = groups.amin(dim=-1).half()
    scale = _no_zero(((groups.amax(dim=-1) - least.float()) / 15).half())
    codes = ((groups - least.float().unsqueeze(-1)) / scale.float().unsqueeze(-1)).round().clamp(0, 15)
    pairs = codes.to(torch.uint8).view(weight.shape[0], -1, 2)
    return pairs[..., 0] | pairs[..., 1] << 4, scale, least


def _float8(weight: Tensor) -> tuple[Tensor, Tensor, None]:
    codes, scale = weight.new_empty(weight.shape, dtype=torch.float8_e4m3fn), weight.new_empty(weight.shape[0], 1)
    for own, value in zip((codes, scale), to_float8(weight), strict=True):
        own.copy_(value)
    return codes, scale, None


_FORMS: Mapping[WeightForm, Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]] = {
    "int8": _int8,
    "int4": _int4,
    "float8": _float8,
}


def _no_zero(scale: Tensor) -> Tensor:
    """Return scales with 1 instead of 0, where all weights are equal and any scale restores them."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)
