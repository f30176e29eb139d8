"""Attention kernels and the block-causal mask over the image tokens of all scales; both are chosen here alone."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from infinity.scales import ScaleSchedule
from infinity.transformer.attention_backend import fused_attention

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Kernel = Literal["auto", "windows", "dense", "flex"]
"""Implementation of block-causal attention in training: "windows" makes one call per fine scale, "dense" one call with
an L x L mask, "flex" uses FlexAttention with a block mask. "auto" is "flex" on a GPU with Triton, else "windows"."""

KERNELS: tuple[Kernel, ...] = get_args(Kernel)

_DENSE_TOKENS = 192
"""Largest number of leading tokens that share one masked call; for fewer, a call costs more than masked work."""

_EXPLICIT_SCORES = 96 * 96
"""Largest number of scores per head for which plain matrix products beat the fused kernel on a CPU."""


def attend(
    query: Float[Tensor, "B N Lq E"],
    key: Float[Tensor, "B N Lk E"],
    value: Float[Tensor, "B N Lk E"],
    bias: Float[Tensor, "#B 1 #Lq Lk"] | None,
    scale: float,
) -> Float[Tensor, "B N Lq E"]:
    """Compute softmax(scale * q k + bias) v; ``bias`` is 0 or minus infinity."""
    is_small = query.device.type == "cpu" and not torch.compiler.is_compiling()  # compiled code has one form
    if is_small and query.shape[2] * key.shape[2] <= _EXPLICIT_SCORES:
        return _attend_explicitly(query, key, value, bias, scale)
    bias = bias if bias is None else bias.to(query.dtype)
    return fused_attention(query, key, value, bias, scale)


def _attend_explicitly(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attend by two batched matrix products, with all heads of all samples in one axis."""
    batch, heads, length, _ = query.shape
    query, key, value = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    scores_shape = (batch, heads, length, key.shape[1])
    if bias is None:
        added = query.new_empty(()).expand(batch * heads, *scores_shape[2:])  # never read, since beta is 0
    else:
        added = bias.to(query.dtype).expand(scores_shape).flatten(0, 1)
    scores = torch.baddbmm(added, query, key.transpose(1, 2), alpha=scale, beta=0 if bias is None else 1)
    attended: Tensor = torch.bmm(scores.softmax(dim=-1), value).unflatten(0, (batch, heads))
    return attended


def mask_bias(mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 0 where the mask is true, minus infinity elsewhere."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -math.inf)


def scale_of_token(schedule: ScaleSchedule) -> Int64[Tensor, " L"]:
    """Return the number of every token's scale, from 0."""
    lengths = torch.tensor([h * w for h, w in schedule.grids])
    return torch.arange(schedule.num_scales).repeat_interleave(lengths, output_size=schedule.num_tokens)


def scale_mask(schedule: ScaleSchedule, device: torch.device) -> Bool[Tensor, "L L"]:
    """Return the block-causal mask: a token (row) attends to all tokens of its own and coarser scales (paper 3.1)."""
    scale = scale_of_token(schedule)
    return (scale[:, None] >= scale[None, :]).to(device)


@dataclass(frozen=True, slots=True)
class PrefixChunk:
    """Neighbouring scales that share one attention call: queries from ``start`` attend to the tokens up to ``stop``."""

    start: int
    stop: int
    bias: Float[Tensor, "Lq Lk"] | None


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMask:
    """Block-causal mask of a training pass in the form of one kernel: exactly one of the three is set.

    Attributes:
        chunks: Attention calls that cover all tokens, in order.
        bias: Mask of all pairs of tokens as 0 and minus infinity.
        blocks: Mask of FlexAttention.
    """

    chunks: tuple[PrefixChunk, ...] = ()
    bias: Float[Tensor, "L L"] | None = None
    blocks: BlockMask | None = None


@lru_cache(maxsize=64)
def attention_mask(schedule: ScaleSchedule, device: torch.device, kernel: Kernel = "auto") -> AttentionMask:
    """Return the block-causal mask of a schedule for a kernel; "auto" takes the one that fits the device.

    Raises:
        ValueError: The kernel is unknown.
    """
    if kernel not in KERNELS:
        raise ValueError(f"attention: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    if kernel == "auto":
        kernel = "flex" if device.type == "cuda" and _has_triton() else "windows"
    if kernel == "flex":
        return AttentionMask(blocks=_blocks(schedule, device))
    if kernel == "dense":
        return AttentionMask(bias=mask_bias(scale_mask(schedule, device)))
    return AttentionMask(chunks=_chunks(schedule, device))


def _has_triton() -> bool:
    """Return whether FlexAttention can be compiled for a GPU; uncompiled it would hold all scores in memory."""
    return importlib.util.find_spec("triton") is not None


def _chunks(schedule: ScaleSchedule, device: torch.device) -> tuple[PrefixChunk, ...]:
    """Divide the block-causal mask into attention calls.

    The coarse scales share one call with a small mask. Every fine scale is an unmasked call over its prefix, so that no
    masked pair is computed.
    """
    spans = schedule.spans
    dense = [span for span in spans if span.stop <= _DENSE_TOKENS]
    chunks = [PrefixChunk(span.start, span.stop, None) for span in spans[len(dense) :]]
    if dense:
        prefix = schedule.prefix(len(dense))
        bias = mask_bias(scale_mask(prefix, device)) if len(dense) > 1 else None
        chunks.insert(0, PrefixChunk(0, dense[-1].stop, bias))
    return tuple(chunks)


def _blocks(schedule: ScaleSchedule, device: torch.device) -> BlockMask:
    """Build FlexAttention's mask of 128 x 128 blocks; fully masked blocks are skipped."""
    from torch.nn.attention.flex_attention import create_block_mask

    scale = scale_of_token(schedule).to(device)

    def attends(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return scale[query] >= scale[key]

    length = schedule.num_tokens
    return create_block_mask(attends, B=None, H=None, Q_LEN=length, KV_LEN=length, device=device)


def block_causal_attention(
    query: Float[Tensor, "B N L E"],
    key: Float[Tensor, "B N L E"],
    value: Float[Tensor, "B N L E"],
    mask: AttentionMask,
) -> Float[Tensor, "B N L E"]:
    """Compute softmax(q k) v under ``scale_mask``; queries are already scaled, so that there is no factor."""
    outputs = attention_calls(query, key, value, mask)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def attention_calls(
    query: Float[Tensor, "B N L E"],
    key: Float[Tensor, "B N L E"],
    value: Float[Tensor, "B N L E"],
    mask: AttentionMask,
) -> list[Tensor]:
    """Return the result of ``block_causal_attention`` in parts, each for some neighbouring tokens."""
    if mask.blocks is not None:
        return [_flex(query.device)(query, key, value, block_mask=mask.blocks, scale=1.0)]
    if mask.bias is not None:
        return [attend(query, key, value, mask.bias, 1.0)]
    return [
        attend(query[:, :, c.start : c.stop], key[:, :, : c.stop], value[:, :, : c.stop], c.bias, 1.0)
        for c in mask.chunks
    ]


def _flex(device: torch.device) -> Any:
    """Return FlexAttention, compiled on a GPU; on a CPU it has no backward pass and serves for comparison."""
    from torch.nn.attention.flex_attention import flex_attention

    compiles = device.type == "cuda" and not torch.compiler.is_compiling()  # a compiled block compiles it too
    return _compiled_flex() if compiles else flex_attention


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
