"""One transformer block: self-attention, cross-attention and feed-forward, all residual (paper 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from infinity.kernels.drawing_products import drawn
from infinity.kernels.feed_forward import feed_forward
from infinity.kernels.gated_feed_forward import gated_feed_forward, serves_gated
from infinity.kernels.recomputation import LARGE_BYTES, Recomputation, again_if_it_saves, layer_norm, run
from infinity.transformer.attention import CrossAttention, SelfAttention, TextMemory, cast_once
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


class PendingBranch(NamedTuple):
    """Output of a block's last branch before it is added to the residual stream: gate (B, 1, D), branch (B, L, D).

    Adding it is left to the next block, so that a compiler fuses the addition with that block's first norm.
    """

    gate: Tensor
    branch: Tensor

    def added_to(self, x_BLD: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Return the residual stream after the branch, float32."""
        return torch.addcmul(x_BLD, self.gate, self.branch.float())


class DropPathMask(NamedTuple):
    """Drop path (stochastic depth): factor (B, 1, 1) of either modulated branch, 0 where a sample skips it."""

    attend: Tensor
    expand: Tensor


def modulated_norm(
    x_BLD: Float[Tensor, "B L D"],
    gain_B1D: Float[Tensor, "B 1 D"],
    shift_B1D: Float[Tensor, "B 1 D"],
    eps: float,
    again: Recomputation | None = None,
) -> Float[Tensor, "B L D"]:
    """Apply a layer norm without weights, then gain * x + shift per sample; float32 (adaptive norm, paper 3.1)."""
    normed = run(again, F.layer_norm, x_BLD.float(), x_BLD.shape[-1:], None, None, eps)
    return run(again, torch.addcmul, shift_B1D, normed, gain_B1D)


class FeedForward(nn.Module):
    """Feed-forward layer: linear, GELU (tanh), linear.

    Attributes:
        keeps_hidden: Whether a large pass on a CPU keeps the hidden features for the backward pass; a small one does.
    """

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.keeps_hidden = True
        self.expand = nn.Linear(width, hidden_width)
        self.contract = nn.Linear(hidden_width, width)

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        *,
        recomputed: bool = False,
        drawing: bool = False,
        onto: tuple[Float[Tensor, "B L D"], Float[Tensor, "B 1 D"]] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Apply the layer.

        Args:
            recomputed: Whether the backward pass computes the layer again.
            drawing: Whether this is a scale of a picture that is being drawn.
            onto: Residual stream and gate, where the gated result is to be added to the stream; where ``serves_gated``.
        """
        if drawing and x_BLD.device.type == "cpu":
            return drawn(drawn(x_BLD, self.expand, gelu=True), self.contract)
        # A compiler chooses itself what it keeps, and does not know the size of a batch.
        keeps = not torch.compiler.is_compiling() and (self.keeps_hidden or x_BLD.nbytes < LARGE_BYTES)
        if onto is not None:
            return gated_feed_forward(*onto, x_BLD, self.expand, self.contract, keeps_hidden=keeps)
        return feed_forward(x_BLD, self.expand, self.contract, recomputed=recomputed, keeps_hidden=keeps)


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
        *,
        recomputed: bool = False,
    ) -> Float[Tensor, "B L D"]:
        """Apply the block.

        Args:
            x_BLD: Residual stream, float32.
            modulation: Adaptive norm and gates.
            text: Keys and values of the captions.
            rotary: Rotary position embedding (RoPE) of the L tokens.
            mask: Block-causal mask in training, cache of keys and values in generation.
            drop_path: Factors of stochastic depth; None outside of training.
            recomputed: Whether the backward pass computes the block again.

        Returns:
            The residual stream after the block, float32.
        """
        again = again_if_it_saves(x_BLD, recomputed=recomputed)
        with nullcontext() if again is None else again:
            x_BLD, gate, normed = self._attended(x_BLD, modulation, text, rotary, mask, drop_path, again)
            if serves_gated(normed, self.feed_forward.expand, self.feed_forward.contract):
                added: Tensor = self.feed_forward(normed, onto=(x_BLD, gate))
                return added
            return PendingBranch(gate, self.feed_forward(normed, recomputed=recomputed)).added_to(x_BLD)

    def checkpointed(self, *inputs: Any) -> Float[Tensor, "B L D"]:
        """Apply the block with activation checkpointing: the backward pass computes it again from its inputs.

        Compiled, it keeps attention and the second product of the feed-forward, which are small for what they cost.

        Args:
            inputs: Arguments of ``forward``.
        """
        kept: Any = {"context_fn": _kept_contexts} if torch.compiler.is_compiling() else {}
        result: Tensor = checkpoint(self.forward, *inputs, use_reentrant=False, recomputed=True, **kept)
        return result

    def advance(
        self,
        x_BLD: Float[Tensor, "B L D"],
        pending: PendingBranch | None,
        modulation: Modulation,
        text: TextMemory,
        rotary: Float[Tensor, "L P 2"],
        mask: AttentionMask | KeyValueCache,
        drop_path: DropPathMask | None = None,
        *,
        recomputed: bool = False,
    ) -> tuple[Float[Tensor, "B L D"], PendingBranch]:
        """Apply the block like ``forward``, between two additions to the residual stream.

        Args:
            x_BLD: Residual stream without ``pending``, float32.
            pending: Last branch of the block before; None where it is added already.
            modulation: Adaptive norm and gates.
            text: Keys and values of the captions.
            rotary: Rotary position embedding of the L tokens.
            drop_path: Factors of stochastic depth.
            recomputed: Whether the backward pass computes the block again.

        Returns:
            The residual stream before the feed-forward's addition, and what is to be added.
        """
        if pending is not None:
            x_BLD = pending.added_to(x_BLD)
        again = again_if_it_saves(x_BLD, recomputed=recomputed)
        with nullcontext() if again is None else again:
            x_BLD, gate, normed = self._attended(x_BLD, modulation, text, rotary, mask, drop_path, again)
            drawing = isinstance(mask, KeyValueCache)
            return x_BLD, PendingBranch(gate, self.feed_forward(normed, recomputed=recomputed, drawing=drawing))

    def _attended(
        self,
        x_BLD: Float[Tensor, "B L D"],
        modulation: Modulation,
        text: TextMemory,
        rotary: Float[Tensor, "L P 2"],
        mask: AttentionMask | KeyValueCache,
        drop_path: DropPathMask | None,
        again: Recomputation | None,
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B 1 D"], Float[Tensor, "B L D"]]:
        """Return the residual stream after both attentions, the gate of the feed-forward, and its input."""
        m = modulation
        attend_gate = m.attend_gate if drop_path is None else m.attend_gate * drop_path.attend
        expand_gate = m.expand_gate if drop_path is None else m.expand_gate * drop_path.expand
        normed = modulated_norm(x_BLD, m.attend_gain, m.attend_shift, self.norm_eps, again)
        attended = self.self_attention(normed, rotary, mask, again).float()  # a gate's gradient needs its branch
        x_BLD = run(again, torch.addcmul, x_BLD, attend_gate, attended)
        asked, drawing = layer_norm(again, self.cross_norm, x_BLD), isinstance(mask, KeyValueCache)
        read = self.cross_attention(asked, text, again, drawing=drawing).float()
        x_BLD = x_BLD + read if self.cross_gate is None else run(again, torch.addcmul, x_BLD, self.cross_gate, read)
        normed = modulated_norm(x_BLD, m.expand_gain, m.expand_shift, self.norm_eps, again)
        return x_BLD, expand_gate, run(again, cast_once, normed)


def is_kept(operation: object, shapes: Sequence[Sequence[int]]) -> bool:
    """Return whether activation checkpointing of a compiled block keeps an operation's result.

    It keeps attention, whose operations grow with the square of the tokens, and products whose result is smaller than
    their input.
    """
    name = str(operation)
    if "attention" in name:
        return "backward" not in name
    matrices = [shape for shape in shapes if len(shape) == 2]
    return "addmm" in name and len(matrices) == 2 and matrices[1][1] < matrices[0][1]


def _policy(_: Any, operation: object, *args: Any, **__: Any) -> CheckpointPolicy:
    kept = is_kept(operation, [each.shape for each in args if isinstance(each, Tensor)])
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


_kept_contexts = partial(create_selective_checkpoint_contexts, _policy)
