"""One transformer block: self-attention, cross-attention and feed-forward, all residual (paper 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from infinity.kernels.feed_forward import feed_forward
from infinity.transformer.attention import CrossAttention, SelfAttention, TextMemory
from infinity.transformer.cache import KeyValueCache
from infinity.transformer.config import TransformerConfig
from infinity.transformer.scale_attention import AttentionMask


class Modulation(NamedTuple):
    """Adaptive norm of a block from the pooled caption, (B, 1, D) each; gains are 1 + the published scales."""

    attend_gate: Tensor
    expand_gate: Tensor
    attend_gain: Tensor
    expand_gain: Tensor
    attend_shift: Tensor
    expand_shift: Tensor


class DropPathMask(NamedTuple):
    """Drop path (stochastic depth): factor (B, 1, 1) of either modulated branch, 0 where a sample skips it."""

    attend: Tensor
    expand: Tensor


def modulated_norm(
    x_BLD: Float[Tensor, "B L D"], gain_B1D: Float[Tensor, "B 1 D"], shift_B1D: Float[Tensor, "B 1 D"], eps: float
) -> Float[Tensor, "B L D"]:
    """Apply a layer norm without weights, then gain * x + shift per sample; float32 (adaptive norm, paper 3.1)."""
    return torch.addcmul(shift_B1D, F.layer_norm(x_BLD.float(), x_BLD.shape[-1:], eps=eps), gain_B1D)


class FeedForward(nn.Module):
    """Feed-forward layer: linear, GELU (tanh), linear."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden_width)
        self.contract = nn.Linear(hidden_width, width)

    def forward(self, x_BLD: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Return a tensor of the same shape."""
        return feed_forward(x_BLD, self.expand, self.contract)


class Block(nn.Module):
    """Transformer block with adaptive norms (AdaLN); all blocks share the projection of the pooled caption."""

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
        """Add this block's offset to the shared projection: two gates, two scales, two shifts."""
        gates, scales, shifts = (shared_B6D + self.modulation_offset).unsqueeze(2).split(2, dim=1)
        return Modulation(*gates.unbind(1), *(scales + 1).unbind(1), *shifts.unbind(1))

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        modulation: Modulation,
        text: TextMemory,
        rotary: Float[Tensor, "L P 2"],
        mask: AttentionMask | KeyValueCache,
        drop_path: DropPathMask | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Apply the block.

        Args:
            x_BLD: Residual stream, float32.
            modulation: Adaptive norm and gates.
            text: Keys and values of the captions.
            rotary: Rotary position embedding (RoPE) of the L tokens.
            mask: Block-causal mask in training, cache of keys and values in generation.
            drop_path: Factors of stochastic depth; None outside of training.

        Returns:
            The residual stream after the block, float32.
        """
        m = modulation
        attend_gate = m.attend_gate if drop_path is None else m.attend_gate * drop_path.attend
        expand_gate = m.expand_gate if drop_path is None else m.expand_gate * drop_path.expand
        normed = modulated_norm(x_BLD, m.attend_gain, m.attend_shift, self.norm_eps)
        x_BLD = torch.addcmul(x_BLD, attend_gate, self.self_attention(normed, rotary, mask).float())
        read = self.cross_attention(self.cross_norm(x_BLD), text).float()
        x_BLD = x_BLD + read if self.cross_gate is None else torch.addcmul(x_BLD, self.cross_gate, read)
        normed = modulated_norm(x_BLD, m.expand_gain, m.expand_shift, self.norm_eps)
        return torch.addcmul(x_BLD, expand_gate, self.feed_forward(normed).float())
