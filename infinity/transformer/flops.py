"""Floating-point operations of the transformer's parts; a multiplication and the addition after it are two."""

from __future__ import annotations

from infinity.transformer.config import TransformerConfig


def per_token_flops(config: TransformerConfig) -> int:
    """Return the operations of one block for one token, apart from products of queries with keys and values."""
    width = config.width
    return 2 * width * (4 * width + 2 * width + 2 * config.hidden_width)  # self-attention, cross-attention, MLP


def text_memory_flops(config: TransformerConfig, text_tokens: int) -> int:
    """Return the operations of one block's keys and values of a caption."""
    return 4 * config.width * config.width * text_tokens


def caption_flops(config: TransformerConfig, text_tokens: int) -> int:
    """Return the operations of pooling and projecting a caption, and of its modulations."""
    width, channels = config.width, config.text_channels
    return text_tokens * (2 * channels * 2 * width + 2 * width * (channels + width)) + 2 * width * 9 * width
