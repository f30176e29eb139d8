"""Attention layers of a block: self-attention across scales, and cross-attention to the caption (paper 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from infinity.kernels.drawing_products import drawn, drawn_product
from infinity.kernels.recomputation import Recomputation, run
from infinity.kernels.unit_rotation import queries_keys_values, unit_queries_and_keys
from infinity.transformer.cache import KeyValueCache
from infinity.transformer.scale_attention import AttentionMask, attend, attention_calls


def cast_once(x: Tensor) -> Tensor:
    """Return the input of several products in autocast's data type, which else every product would cast again."""
    kind = x.device.type
    if x.dtype != torch.float32 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def _by_token(*parts_BNLE: Float[Tensor, "B N _ E"]) -> Float[Tensor, "B L D"]:
    """Put the results of all attention calls behind each other, and the heads of a token beside each other."""
    joined = parts_BNLE[0] if len(parts_BNLE) == 1 else torch.cat(parts_BNLE, dim=2)
    return joined.transpose(1, 2).flatten(2)


def _applied(layer: nn.Module, x_BLD: Float[Tensor, "B L D"], drawing: bool) -> Float[Tensor, "B L E"]:
    """Apply a linear map; while drawing, by the kernels for that."""
    result: Tensor = drawn(x_BLD, layer) if drawing else layer(x_BLD)
    return result


class JoinedProducts(NamedTuple):
    """Weights (3 D, D) and bias (3 D) of queries, keys and values; the keys' bias is zero."""

    weight: Tensor
    bias: Tensor


class SelfAttention(nn.Module):
    """Self-attention with queries and keys of length one, a learned scale per head, and RoPE; no bias on keys.

    Attributes:
        joined: Queries, keys and values as one product, for drawing; None, the default, for two.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.joined: JoinedProducts | None = None
        self._bias_versions = (0, 0)
        self.query_key = nn.Linear(width, 2 * width, bias=False)
        self.query_bias = nn.Parameter(torch.empty(width))
        self.value = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.empty(num_heads))
        self.project = nn.Linear(width, width)

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        rotary: Float[Tensor, "L P 2"],
        mask: AttentionMask | KeyValueCache,
        again: Recomputation | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Attend among all scales under the block-causal mask, or from one scale to those in the cache."""
        drawing = isinstance(mask, KeyValueCache)
        query, key, value = self._read(run(again, cast_once, x_BLD), rotary, drawing)
        query, key = query.to(value.dtype), key.to(value.dtype)
        if isinstance(mask, KeyValueCache):
            key, value = mask.extend(key, value)
            parts = [attend(query, key, value, None, 1.0)]
            mask.forget(query, key)
        else:
            parts = attention_calls(query, key, value, mask)
        return _applied(self.project, run(again, _by_token, *parts), drawing)

    def _read(
        self, x_BLD: Float[Tensor, "B L D"], rotary: Float[Tensor, "L P 2"], drawing: bool
    ) -> tuple[Float[Tensor, "B N L E"], Float[Tensor, "B N L E"], Float[Tensor, "B N L E"]]:
        """Return queries and keys, float32, and values."""
        if self.joined is not None:
            joint = drawn_product(x_BLD, *self.joined).unflatten(-1, (3 * self.num_heads, -1))
            return queries_keys_values(joint, self.log_scale, rotary)
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias)])
        if type(self.query_key) is nn.Linear:
            product = drawn_product if drawing else F.linear  # fuses product and bias: one pass over memory
            joint = product(x_BLD, self.query_key.weight, bias)
        else:
            joint = self.query_key(x_BLD) + bias  # an adapter (LoRA) has taken the place of the linear map
        joint = joint.unflatten(-1, (2 * self.num_heads, -1))
        value = _applied(self.value, x_BLD, drawing).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return *unit_queries_and_keys(joint, self.log_scale, rotary), value

    @torch.no_grad()
    def join(self) -> None:
        """Compute queries, keys and values as one product from now on, for drawing alone.

        The weights of both linear maps become views of one tensor. So names, shapes and numbers of a checkpoint stay,
        and a change in place, such as that of an adapter, reaches the joined product. Layers that are not plain linear
        maps, such as quantized ones, stay as they are.
        """
        self.joined = None
        if type(self.query_key) is not nn.Linear or type(self.value) is not nn.Linear:
            return
        weight = torch.cat([self.query_key.weight, self.value.weight])
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value.bias.float()])
        width = len(self.query_bias)
        self.query_key.weight = nn.Parameter(weight[: 2 * width], requires_grad=False)
        self.value.weight = nn.Parameter(weight[2 * width :], requires_grad=False)
        self.joined = JoinedProducts(weight, bias.to(weight.dtype))
        self._bias_versions = self._versions_of_biases()

    def join_again(self) -> None:
        """Renew a joined product whose weights were moved, cast or replaced, or whose biases were changed, since."""
        if self.joined is None:
            return
        memory = self.joined.weight.untyped_storage()._cdata
        parts = (self.query_key.weight, self.value.weight)
        is_same = all(part.untyped_storage()._cdata == memory for part in parts)
        if not is_same or self._bias_versions != self._versions_of_biases():
            self.join()

    def _versions_of_biases(self) -> tuple[int, int]:
        return self.query_bias._version, self.value.bias._version


@dataclass(frozen=True, slots=True)
class TextMemory:
    """Keys and values of the captions, padded to M tokens; ``bias`` masks the padding, None where there is none."""

    keys: Float[Tensor, "B N M E"]
    values: Float[Tensor, "B N M E"]
    bias: Float[Tensor, "B 1 1 M"] | None

    def first(self, batch_size: int) -> TextMemory:
        """Return the keys and values of the first captions."""
        bias = None if self.bias is None else self.bias[:batch_size]
        return TextMemory(self.keys[:batch_size], self.values[:batch_size], bias)

    def select(self, rows: Int[Tensor, " R"]) -> TextMemory:
        """Return the keys and values of some captions; a caption may occur several times."""
        return TextMemory(self.keys[rows], self.values[rows], None if self.bias is None else self.bias[rows])


class KeyValue(nn.Module):
    """Linear maps from text tokens to keys, without bias, and to values, with bias."""

    def __init__(self, text_width: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.key = nn.Linear(text_width, width, bias=False)
        self.value = nn.Linear(text_width, width)

    def forward(self, text_BMD: Float[Tensor, "B M D"], bias: Float[Tensor, "B 1 1 M"] | None) -> TextMemory:
        """Return keys and values, split into heads."""
        keys, values = (
            layer(text_BMD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.key, self.value)
        )
        return TextMemory(keys, values, bias)


class CrossAttention(nn.Module):
    """Scaled dot-product attention from image tokens to their own caption."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = KeyValue(width, width, num_heads)
        self.project = nn.Linear(width, width)

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        text: TextMemory,
        again: Recomputation | None = None,
        *,
        drawing: bool = False,
    ) -> Float[Tensor, "B L D"]:
        """Attend from every image token to its caption."""
        asked = _applied(self.query, run(again, cast_once, x_BLD), drawing)
        query = asked.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        attended = attend(query, text.keys, text.values, text.bias, query.shape[-1] ** -0.5)
        return _applied(self.project, run(again, _by_token, attended), drawing)


class CaptionPool(nn.Module):
    """Attention pooling with one learned query: a caption becomes one vector of the model's width."""

    def __init__(self, text_channels: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(num_heads, width // num_heads))
        self.key_value = KeyValue(text_channels, width, num_heads)
        self.project = nn.Linear(width, width)

    def forward(self, text_BMF: Float[Tensor, "B M F"], bias: Float[Tensor, "B 1 1 M"] | None) -> Float[Tensor, "B D"]:
        """Return one vector per caption."""
        text = self.key_value(text_BMF, bias)
        query = self.query[None, :, None].expand(text_BMF.shape[0], -1, -1, -1).to(text.keys.dtype)
        pooled = attend(query, text.keys, text.values, bias, query.shape[-1] ** -0.5)
        projected: Tensor = self.project(pooled.flatten(1))
        return projected
