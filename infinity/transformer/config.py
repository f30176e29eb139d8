"""Shape of the transformer (paper 3.5; sizes in paper Table 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from infinity.config import Config
from infinity.ranges import Natural, Range, ShareBelowOne

Positions = Literal["frame", "grid", "interpolated", "learned"]
Head = Literal["bitwise", "joint"]

MAX_JOINT_BITS = 16
"""Largest number of bits of a joint head: a 2**C-way classifier beyond it outweighs the model (paper Table 5)."""

MAX_DEPTH = 1000
"""Largest depth; the deepest published model has 40 blocks. It guards against files with absurd values."""
MAX_SIZE = 2**20
"""Largest value of every other count, such as the width; products of two of them cannot overflow."""
_Size = Annotated[int, Range(1, MAX_SIZE)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig(Config):
    """Shape of the transformer, and its dropout rates in training.

    Attributes:
        width: Model width D.
        num_heads: Attention heads N; the channels per head must be a multiple of 4 (RoPE rotates pairs along two
            axes).
        depth: Number of blocks.
        num_bits: Bits C per token; four times the tokenizer's where 2x2 positions are folded into a token.
        text_channels: Channels Dt of the text features (2048 for Flan-T5-XL).
        max_text_tokens: Largest length of a caption, and rows of the learned table that replaces a dropped caption.
        mlp_ratio: Ratio of the feed-forward's hidden width to the width, before rounding to a multiple of 256.
        head: Classifier: "bitwise" is the infinite-vocabulary classifier (IVC), "joint" has one class for each of the
            2**C codes.
        positions: RoPE coordinates: "frame" scales all grids to the largest one (published models), "grid" counts rows
            and columns of each grid, "interpolated" resizes one table of cosines and sines to each grid. "learned" has
            no RoPE but learned absolute positions, for studies (paper Fig. 13).
        scale_embedding_period: Blocks between two additions of the scale embedding; 0 adds it once, before the first
            block. None for no scale embedding, for studies.
        cross_attention_layer_scale: Initial value of a learned vector (LayerScale) that multiplies the output of
            cross-attention; None for no such vector.
        max_scales: Rows of the scale embedding.
        drop_path: Probability in training that a sample skips the last block's modulated branches (stochastic depth);
            linearly less in earlier blocks, 0 in the first.
        condition_drop: Probability in training that a caption is replaced by the learned table, as classifier-free
            guidance needs.
        norm_eps: Epsilon of all norms.
    """

    width: _Size
    num_heads: _Size
    depth: Annotated[int, Range(1, MAX_DEPTH)]
    num_bits: _Size
    text_channels: _Size
    max_text_tokens: _Size = 512
    mlp_ratio: Annotated[float, Range(above=0, most=1000)] = 4.0
    head: Head = "bitwise"
    positions: Positions = "frame"
    scale_embedding_period: Natural | None = 0
    cross_attention_layer_scale: float | None = None
    max_scales: _Size = 15
    drop_path: ShareBelowOne = 0.1
    condition_drop: ShareBelowOne = 0.1
    norm_eps: ShareBelowOne = 1e-6

    def __post_init__(self) -> None:
        if self.width % self.num_heads or self.head_width % 4:
            raise ValueError(
                f"TransformerConfig: width {self.width} over {self.num_heads} heads must give a multiple of 4 "
                "channels per head"
            )
        if self.width % self.num_pool_heads:
            raise ValueError(
                f"TransformerConfig: width {self.width} must be a multiple of the {self.num_pool_heads} heads that "
                f"{self.text_channels} text channels need for pooling the caption"
            )
        if self.head == "joint" and self.num_bits > MAX_JOINT_BITS:
            raise ValueError(
                f"TransformerConfig: a joint head of {self.num_bits} bits would have 2**{self.num_bits} classes; at "
                f"most {MAX_JOINT_BITS} bits are possible, use head='bitwise'"
            )

    @property
    def head_width(self) -> int:
        """Channels E of one attention head."""
        return self.width // self.num_heads

    @property
    def hidden_width(self) -> int:
        """Hidden channels of the feed-forward: a multiple of 256, ties to even as in the published models.

        Widths whose product rounds to 0 keep the exact product.
        """
        exact = self.width * self.mlp_ratio
        return round(exact / 256) * 256 or max(1, round(exact))

    @property
    def num_pool_heads(self) -> int:
        """Heads of the attention pooling of the caption: 128 text channels each, 64 in models wider than 4096."""
        return max(1, self.text_channels // (64 if self.width > 4096 else 128))

    @property
    def num_outputs(self) -> int:
        """Logits per token: two per bit, or one per class."""
        return 2 * self.num_bits if self.head == "bitwise" else 2**self.num_bits

    def drop_path_rate(self, block: int) -> float:
        """Return the probability that a sample skips the modulated branches of a block, counted from 0."""
        return self.drop_path * block / max(self.depth - 1, 1)

    def adds_scale_embedding(self, block: int) -> bool:
        """Return whether the scale embedding is added before this block, counted from 0."""
        if self.scale_embedding_period is None:
            return False
        return block == 0 if self.scale_embedding_period == 0 else block % self.scale_embedding_period == 0
