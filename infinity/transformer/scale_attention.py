"""Attention kernels, and who sees whom among the image tokens of all scales: the one place that chooses either."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from infinity.scales import ScaleSchedule

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Kernel = Literal["auto", "windows", "dense", "flex"]
"""How the block-causal mask of a training pass is respected: a call for every fine scale, one call with a mask of all
tokens by all tokens, or FlexAttention with a mask of blocks. "auto" is "flex" on a GPU with Triton, else "windows"."""

KERNELS: tuple[Kernel, ...] = get_args(Kernel)

_DENSE_TOKENS = 192
"""Up to so many leading tokens share one masked call: below it, a call costs more than the masked part."""

_EXPLICIT_SCORES = 96 * 96
"""Up to so many scores a head, plain matrix products beat the fused kernel on a CPU (twice as fast at 30 tokens)."""


def attend(
    query: Float[Tensor, "B N Lq E"],
    key: Float[Tensor, "B N Lk E"],
    value: Float[Tensor, "B N Lk E"],
    bias: Float[Tensor, "#B 1 #Lq Lk"] | None,
    scale: float,
) -> Float[Tensor, "B N Lq E"]:
    """softmax(scale * q k + bias) v. ``bias`` is 0 or minus infinity."""
    if query.device.type == "cpu" and query.shape[2] * key.shape[2] <= _EXPLICIT_SCORES:
        return _attend_explicitly(query, key, value, bias, scale)
    bias = bias if bias is None else bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)


def _attend_explicitly(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Two batched matrix products with all heads of all samples in one axis."""
    batch, heads, length, _ = query.shape
    query, key, value = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    scores_shape = (batch, heads, length, key.shape[1])
    if bias is None:
        added = query.new_empty(()).expand(batch * heads, *scores_shape[2:])  # not read, as beta is 0
    else:
        added = bias.to(query.dtype).expand(scores_shape).flatten(0, 1)
    scores = torch.baddbmm(added, query, key.transpose(1, 2), alpha=scale, beta=0 if bias is None else 1)
    attended: Tensor = torch.bmm(scores.softmax(dim=-1), value).unflatten(0, (batch, heads))
    return attended


def visibility_bias(visible: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0 where something is seen, minus infinity elsewhere."""
    return torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, -math.inf)


def scale_of_token(schedule: ScaleSchedule) -> Int64[Tensor, " L"]:
    """Number of every token's scale, from 0."""
    lengths = torch.tensor([h * w for h, w in schedule.grids])
    return torch.arange(schedule.num_scales).repeat_interleave(lengths, output_size=schedule.num_tokens)


def scale_mask(schedule: ScaleSchedule, device: torch.device) -> Bool[Tensor, "L L"]:
    """Who (row) sees whom (column): a token sees all tokens of its own and of coarser scales (paper 3.1)."""
    scale = scale_of_token(schedule)
    return (scale[:, None] >= scale[None, :]).to(device)


@dataclass(frozen=True, slots=True)
class PrefixChunk:
    """Neighbouring scales that share one attention call: their queries see the tokens up to ``stop``."""

    start: int
    stop: int
    bias: Float[Tensor, "Lq Lk"] | None


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMask:
    """Who sees whom in a training pass, made ready for a kernel: exactly one of the three is set.

    Attributes:
        calls: Windows over all tokens, in order.
        bias: 0 and minus infinity for all pairs of tokens.
        blocks: FlexAttention's mask.
    """

    calls: tuple[PrefixChunk, ...] = ()
    bias: Float[Tensor, "L L"] | None = None
    blocks: BlockMask | None = None


@lru_cache(maxsize=64)
def visibility(schedule: ScaleSchedule, device: torch.device, kernel: Kernel = "auto") -> AttentionMask:
    """The block-causal mask of a schedule, for the kernel that was asked for or fits the device.

    Raises:
        ValueError: No kernel of that name.
    """
    if kernel not in KERNELS:
        raise ValueError(f"attention: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    if kernel == "auto":
        kernel = "flex" if device.type == "cuda" and _has_triton() else "windows"
    if kernel == "flex":
        return AttentionMask(blocks=_blocks(schedule, device))
    if kernel == "dense":
        return AttentionMask(bias=visibility_bias(scale_mask(schedule, device)))
    return AttentionMask(calls=_windows(schedule, device))


def _has_triton() -> bool:
    """Whether FlexAttention can be compiled for a GPU; uncompiled it holds all scores."""
    return importlib.util.find_spec("triton") is not None


def _windows(schedule: ScaleSchedule, device: torch.device) -> tuple[PrefixChunk, ...]:
    """Cut the block-causal mask into calls.

    The coarse scales share one call with a small mask; every fine scale is an unmasked call over its prefix, so that
    nothing invisible is computed.
    """
    spans = schedule.spans
    dense = [span for span in spans if span.stop <= _DENSE_TOKENS]
    calls = [PrefixChunk(span.start, span.stop, None) for span in spans[len(dense) :]]
    if dense:
        prefix = schedule.prefix(len(dense))
        bias = visibility_bias(scale_mask(prefix, device)) if len(dense) > 1 else None
        calls.insert(0, PrefixChunk(0, dense[-1].stop, bias))
    return tuple(calls)


def _blocks(schedule: ScaleSchedule, device: torch.device) -> BlockMask:
    """Blocks of 128 x 128 pairs: those that nobody sees are skipped, the last one may be cut off by the end."""
    from torch.nn.attention.flex_attention import create_block_mask

    scale = scale_of_token(schedule).to(device)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return scale[query] >= scale[key]

    length = schedule.num_tokens
    return create_block_mask(sees, B=None, H=None, Q_LEN=length, KV_LEN=length, device=device)


def block_causal_attention(
    query: Float[Tensor, "B N L E"],
    key: Float[Tensor, "B N L E"],
    value: Float[Tensor, "B N L E"],
    visible: AttentionMask,
) -> Float[Tensor, "B N L E"]:
    """softmax(q k) v under ``scale_mask``, without a factor."""
    if visible.blocks is not None:
        attended: Tensor = _flex(query.device)(query, key, value, block_mask=visible.blocks, scale=1.0)
        return attended
    if visible.bias is not None:
        return attend(query, key, value, visible.bias, 1.0)
    if _keeps_windows(query, visible):
        joined: Tensor = _Windows.apply(query, key, value, visible.calls)  # type: ignore[no-untyped-call]
        return joined
    parts = [
        attend(query[:, :, c.start : c.stop], key[:, :, : c.stop], value[:, :, : c.stop], c.bias, 1.0)
        for c in visible.calls
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _keeps_windows(query: Tensor, visible: AttentionMask) -> bool:
    """Whether gradients of several fused calls are put together by hand; small calls are plain products anyway."""
    return (
        len(visible.calls) > 1
        and query.device.type == "cpu"
        and query.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and all((call.stop - call.start) * call.stop > _EXPLICIT_SCORES for call in visible.calls)
    )


class _Windows(torch.autograd.Function):
    """The windows' outputs lie in one tensor, and their gradients are added where they belong.

    Autograd would make a tensor of zeros for every slice of queries, keys and values, and keep each output twice: these
    passes over memory were a twentieth of a training step. Outputs lie token by token, as the projection reads them.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, calls: tuple[PrefixChunk, ...]) -> Tensor:
        batch, heads, length, width = query.shape
        attended = query.new_empty(batch, length, heads, width).transpose(1, 2)
        sums = []
        for call in calls:
            rows, stop = slice(call.start, call.stop), call.stop
            attended[:, :, rows], log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, rows], key[:, :, :stop], value[:, :, :stop], attn_mask=_mask(call, query), scale=1.0
            )
            sums.append(log_sum)
        ctx.save_for_backward(query, key, value, attended, *sums)
        ctx.calls = calls
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attended, *sums = ctx.saved_tensors
        if grad.stride(-1) != 1:
            grad = grad.contiguous()
        grad_query, grad_key, grad_value = torch.empty_like(query), None, None
        for call, log_sum in zip(reversed(ctx.calls), reversed(sums), strict=True):
            rows, stop = slice(call.start, call.stop), call.stop
            of_query, of_key, of_value = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *(grad[:, :, rows], query[:, :, rows], key[:, :, :stop], value[:, :, :stop], attended[:, :, rows]),
                *(log_sum, 0.0, False),
                attn_mask=_mask(call, query),
                scale=1.0,
            )
            grad_query[:, :, rows] = of_query
            if grad_key is None or grad_value is None:  # the last window sees all tokens
                grad_key, grad_value = of_key, of_value
            else:
                grad_key[:, :, :stop] += of_key
                grad_value[:, :, :stop] += of_value
        return grad_query, grad_key, grad_value, None


def _mask(call: PrefixChunk, like: Tensor) -> Tensor | None:
    return call.bias if call.bias is None else call.bias.to(like.dtype)


def _flex(device: torch.device) -> Any:
    """FlexAttention is fast only when it is compiled; on a CPU, where it has no backward pass, it is for comparison."""
    from torch.nn.attention.flex_attention import flex_attention

    compiles = device.type == "cuda" and not torch.compiler.is_compiling()  # inside of a compiled block it is anyway
    return _compiled_flex() if compiles else flex_attention


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
