"""One transformer block: self-attention, cross-attention, feed-forward, all residual (paper 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.kernels.blocks import feed_forward, modulated_norm
from infinity.transformer.attention import CrossAttention, KeyValueCache, SelfAttention, TextMemory
from infinity.transformer.config import TransformerConfig
from infinity.transformer.scale_attention import AttentionMask


class Modulation(NamedTuple):
    """What the pooled caption does to a block, (B, 1, D) each; gains are 1 + the published scales."""

    attend_gate: Tensor
    expand_gate: Tensor
    attend_gain: Tensor
    expand_gain: Tensor
    attend_shift: Tensor
    expand_shift: Tensor


class DropPathMask(NamedTuple):
    """Stochastic depth: factor (B, 1, 1) of either modulated branch, 0 where a sample skips it."""

    attend: Tensor
    expand: Tensor


class FeedForward(nn.Module):
    """Linear, GELU (tanh), Linear."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden_width)
        self.contract = nn.Linear(hidden_width, width)

    def forward(self, x_BLD: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Same shape."""
        return feed_forward(x_BLD, self.expand, self.contract)


class Block(nn.Module):
    """Adaptive norms around self-attention and feed-forward; all blocks share the projection of the caption."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_eps = config.norm_eps
        self.modulation_offset = nn.Parameter(torch.empty(6, width))
        self.self_attention = SelfAttention(width, config.num_heads)
        self.cross_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.cross_attention = CrossAttention(width, config.num_heads)
        has_gate = config.cross_attention_layer_scale is not None
        self.cross_gate = nn.Parameter(torch.empty(width)) if has_gate else None
        self.feed_forward = FeedForward(width, config.hidden_width)

    def modulation(self, shared_B6D: Float[Tensor, "B 6 D"]) -> Modulation:
        """The shared projection plus this block's offset: two gates, two scales, two shifts."""
        gates, scales, shifts = (shared_B6D + self.modulation_offset).unsqueeze(2).split(2, dim=1)
        return Modulation(*gates.unbind(1), *(scales + 1).unbind(1), *shifts.unbind(1))

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        modulation: Modulation,
        text: TextMemory,
        turn: Float[Tensor, "L P 2"],
        visible: AttentionMask | KeyValueCache,
        keep: DropPathMask | None = None,
    ) -> Float[Tensor, "B L D"]:
        """The residual stream stays float32."""
        m = modulation
        attend_gate = m.attend_gate if keep is None else m.attend_gate * keep.attend
        expand_gate = m.expand_gate if keep is None else m.expand_gate * keep.expand
        normed = modulated_norm(x_BLD, m.attend_gain, m.attend_shift, self.norm_eps)
        x_BLD = torch.addcmul(x_BLD, attend_gate, self.self_attention(normed, turn, visible).float())
        read = self.cross_attention(self.cross_norm(x_BLD), text).float()
        x_BLD = x_BLD + read if self.cross_gate is None else torch.addcmul(x_BLD, self.cross_gate, read)
        normed = modulated_norm(x_BLD, m.expand_gain, m.expand_shift, self.norm_eps)
        return torch.addcmul(x_BLD, expand_gate, self.feed_forward(normed).float())
