"""Translation of published transformers' tensor names to ours (names and shapes: goldens README, section 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from infinity.checkpoint import CheckpointError
from infinity.convert.entries import Entry, count_numbered, shape_of
from infinity.transformer import TransformerConfig
from infinity.transformer.config import Positions

_USUAL_MLP_RATIO = 4.0
OBSOLETE_BUFFERS = frozenset({"lvl_1L", "attn_bias_for_masking", "Infinity_visible_kvlen", "Infinity_invisible_qlen"})
"""Buffers that the published loader drops by name: attention masks of one schedule, which follow from the schedule."""


def num_block_chunks(published: Mapping[str, Tensor]) -> int:
    """Return the number of groups of blocks in the names; 1 where they are ``blocks.0``, ``blocks.1`` and so on."""
    return count_numbered(published, "block_chunks.") or 1


def infer_transformer_config(
    published: Mapping[str, Tensor],
    *,
    where: str,
    positions: Positions = "frame",
    scale_embedding_each_chunk: bool = False,
    norm_eps: float = 1e-6,
) -> TransformerConfig:
    """Infer the configuration from shapes.

    Args:
        published: Tensors by published name.
        where: Name of the source in error messages.
        positions: RoPE coordinates, which cannot be inferred from shapes. Released models use the common frame.
        scale_embedding_each_chunk: Whether the scale embedding is added before every chunk of blocks (every
            block where there is one chunk); released models add it once.
        norm_eps: Epsilon of all norms.

    Raises:
        CheckpointError: A tensor is missing, or the shapes fit no configuration.
    """
    chunks = num_block_chunks(published)
    depth = len(
        {match[0] for name in published if (match := re.match(r"block_chunks\.\d+\.module\.\d+\.|blocks\.\d+\.", name))}
    )
    if not depth or depth % chunks:
        raise CheckpointError(
            f"{where}: found {depth} transformer blocks in {chunks} chunks; expected equal chunks of blocks"
        )
    block = _block_prefixes(depth, chunks)[0]
    width = shape_of(published, "pos_start", 3, where=where)[2]
    num_rows, num_bits = (
        shape_of(published, "head.weight", 2, where=where)[0],
        shape_of(published, "word_embed.weight", 2, where=where)[1],
    )
    if num_rows != 2 * num_bits:
        raise CheckpointError(
            f"{where}: head.weight has {num_rows} rows for {num_bits} bits per token; expected two logits per bit"
        )
    max_text_tokens, text_channels = shape_of(published, "cfg_uncond", 2, where=where)
    hidden = shape_of(published, f"{block}ffn.fc1.weight", 2, where=where)[0]
    has_gate = f"{block}ca_gamma" in published
    try:
        config = TransformerConfig(
            width=width,
            num_heads=shape_of(published, f"{block}sa.scale_mul_1H11", 4, where=where)[1],
            depth=depth,
            num_bits=num_bits,
            text_channels=text_channels,
            max_text_tokens=max_text_tokens,
            mlp_ratio=_USUAL_MLP_RATIO,
            positions=positions,
            scale_embedding_period=(depth // chunks if chunks > 1 else 1) if scale_embedding_each_chunk else 0,
            cross_attention_layer_scale=1.0 if has_gate else None,
            max_scales=shape_of(published, "lvl_embed.weight", 2, where=where)[0],
            norm_eps=norm_eps,
        )
    except ValueError as error:
        raise CheckpointError(f"{where}: the tensors' shapes fit no transformer: {error}") from error
    return config if config.hidden_width == hidden else config.replace(mlp_ratio=hidden / width)


def transformer_entries(config: TransformerConfig, num_chunks: int) -> list[Entry]:
    """Return the translation table of a configuration, in the order of published files.

    Raises:
        CheckpointError: The published format cannot hold the configuration.
    """
    if config.head != "bitwise":
        raise CheckpointError("published files hold bitwise heads only; this transformer has a joint head")
    if config.positions == "learned" or config.scale_embedding_period is None:
        raise CheckpointError(
            "published files hold rotary positions with a scale embedding; this transformer has positions "
            f"{config.positions!r} and scale_embedding_period {config.scale_embedding_period}"
        )
    if num_chunks < 1 or config.depth % num_chunks:
        raise CheckpointError(f"expected a number of chunks that divides the {config.depth} blocks, got {num_chunks}")
    return [*_before_blocks(config), *_blocks(config, num_chunks)]


def _before_blocks(config: TransformerConfig) -> Iterator[Entry]:
    width, text, bits = config.width, config.text_channels, config.num_bits
    heads = config.num_pool_heads
    yield Entry("cfg_uncond", (config.max_text_tokens, text), ("unconditional_text",))
    yield Entry("pos_start", (1, 1, width), ("start",))
    yield Entry("text_norm.weight", (text,), ("text_norm.weight",))
    yield Entry("text_proj_for_sos.ca.mat_q", (1, heads, width // heads), ("pool.query",))
    yield from _key_value("text_proj_for_sos.ca.", "pool.", text, width)
    yield from _linear("text_proj_for_sos.ca.proj", "pool.project", width, width)
    yield from _linear("text_proj_for_ca.0", "text_project.0", text, width)
    yield from _linear("text_proj_for_ca.2", "text_project.2", width, width)
    yield Entry("lvl_embed.weight", (config.max_scales, width), ("scale_embedding",))
    yield from _linear("word_embed", "token_project", bits, width)
    yield from _linear("shared_ada_lin.1", "modulate", width, 6 * width)
    yield from _linear("head_nm.ada_lin.1", "head_modulate", width, 2 * width)
    yield from _linear("head", "head", width, 2 * bits)


def _blocks(config: TransformerConfig, num_chunks: int) -> Iterator[Entry]:
    width, hidden = config.width, config.hidden_width
    for index, there in enumerate(_block_prefixes(config.depth, num_chunks)):
        here = f"blocks.{index}."
        yield Entry(f"{there}ada_gss", (1, 1, 6, width), (f"{here}modulation_offset",))
        if config.cross_attention_layer_scale is not None:
            yield Entry(f"{there}ca_gamma", (width,), (f"{here}cross_gate",))
        yield Entry(f"{there}sa.scale_mul_1H11", (1, config.num_heads, 1, 1), (f"{here}self_attention.log_scale",))
        yield Entry(f"{there}sa.q_bias", (width,), (f"{here}self_attention.query_bias",))
        yield Entry(f"{there}sa.v_bias", (width,), (f"{here}self_attention.value.bias",))
        yield _no_key_bias(f"{there}sa.", width)
        rows = (f"{here}self_attention.query_key.weight", f"{here}self_attention.value.weight")
        yield Entry(f"{there}sa.mat_qkv.weight", (3 * width, width), rows)
        yield from _linear(f"{there}sa.proj", f"{here}self_attention.project", width, width)
        bias, no_key_bias, weight = _key_value(f"{there}ca.", f"{here}cross_attention.", width, width)
        yield from (bias, no_key_bias)
        yield from _linear(f"{there}ca.mat_q", f"{here}cross_attention.query", width, width)
        yield weight
        yield from _linear(f"{there}ca.proj", f"{here}cross_attention.project", width, width)
        yield from _linear(f"{there}ffn.fc1", f"{here}feed_forward.expand", width, hidden)
        yield from _linear(f"{there}ffn.fc2", f"{here}feed_forward.contract", hidden, width)
        yield Entry(f"{there}ca_norm.weight", (width,), (f"{here}cross_norm.weight",))
        yield Entry(f"{there}ca_norm.bias", (width,), (f"{here}cross_norm.bias",))


def _block_prefixes(depth: int, num_chunks: int) -> list[str]:
    if num_chunks == 1:
        return [f"blocks.{index}." for index in range(depth)]
    size = depth // num_chunks
    return [f"block_chunks.{index // size}.module.{index % size}." for index in range(depth)]


def _linear(there: str, here: str, in_width: int, out_width: int) -> Iterator[Entry]:
    yield Entry(f"{there}.weight", (out_width, in_width), (f"{here}.weight",))
    yield Entry(f"{there}.bias", (out_width,), (f"{here}.bias",))


def _key_value(there: str, here: str, in_width: int, width: int) -> tuple[Entry, Entry, Entry]:
    rows = (f"{here}key_value.key.weight", f"{here}key_value.value.weight")
    return (
        Entry(f"{there}v_bias", (width,), (f"{here}key_value.value.bias",)),
        _no_key_bias(there, width),
        Entry(f"{there}mat_kv.weight", (2 * width, in_width), rows),
    )


def _no_key_bias(there: str, width: int) -> Entry:
    """Return the entry of a stored buffer of zeros, in the data type of the bias beside it."""
    return Entry(
        f"{there}zero_k_bias", (width,), (), lambda file: torch.zeros(width, dtype=file[f"{there}v_bias"].dtype)
    )
