"""Named sizes of transformers and tokenizers (paper 3.5, Table 4 and Table 6; repository tools/run_infinity.py).

A variant of a named size is ``TRANSFORMERS["2.2B"].replace(num_bits=16)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from infinity.tokenizer import TokenizerConfig
from infinity.transformer import TransformerConfig

FLAN_T5_XL_CHANNELS = 2048
BUILTIN_TEXT_CHANNELS = 128


def _published(width: int, num_heads: int, depth: int, num_bits: int) -> TransformerConfig:
    return TransformerConfig(
        width=width, num_heads=num_heads, depth=depth, num_bits=num_bits, text_channels=FLAN_T5_XL_CHANNELS
    )


def _small(width: int, num_heads: int, depth: int, num_bits: int) -> TransformerConfig:
    return TransformerConfig(
        width=width,
        num_heads=num_heads,
        depth=depth,
        num_bits=num_bits,
        text_channels=BUILTIN_TEXT_CHANNELS,
        max_text_tokens=64,
    )


TRANSFORMERS: Mapping[str, TransformerConfig] = MappingProxyType(
    {
        # Small models do better with 16 bits per token, large ones with 32 (paper Fig. 9).
        "125M": _published(768, 8, 12, num_bits=16),
        "361M": _published(1152, 12, 16, num_bits=16),
        "940M": _published(1536, 16, 24, num_bits=32),
        "2.2B": _published(2080, 20, 32, num_bits=32),
        "4.7B": _published(2688, 24, 40, num_bits=32),
        "2B-released": _published(2048, 16, 32, num_bits=32),
        "8B-released": _published(3584, 28, 40, num_bits=56),  # 14 bits at each of 2x2 positions
        # For the built-in text encoder and small pictures.
        "tiny": _small(64, 2, 2, num_bits=8),
        "mini": _small(192, 6, 6, num_bits=8),
        "small": _small(384, 6, 8, num_bits=12),
    }
)
"""Transformers by name; published ones use Flan-T5-XL, "tiny", "mini" and "small" the built-in text encoder."""

TOKENIZERS: Mapping[str, TokenizerConfig] = MappingProxyType(
    {
        "d16": TokenizerConfig(num_bits=16),
        "d24": TokenizerConfig(num_bits=24),
        "d32": TokenizerConfig(num_bits=32),
        "d64": TokenizerConfig(num_bits=64),
        # Stride 8, and 2x2 positions of 14 bits become one token of 56 bits at stride 16 (the 8B model).
        "d56-folded": TokenizerConfig(
            num_bits=14,
            num_downsamples=3,
            encoder_multipliers=(1, 2, 4, 4),
            decoder_multipliers=(1, 2, 4, 4),
            fold=True,
        ),
        # For small pictures: stride 8, and norm groups that do not hide flat colours from narrow networks.
        "tiny": TokenizerConfig(
            num_bits=8,
            base_width=16,
            num_downsamples=3,
            encoder_multipliers=(1, 1, 2, 2),
            decoder_multipliers=(1, 1, 2, 2),
            num_res_blocks=1,
            norm_groups=4,
        ),
        # For the demo's pictures of 48 px: a stem of 2 px and two halvings, stride 8.
        "scenes": TokenizerConfig(
            num_bits=24,
            base_width=16,
            encoder_multipliers=(1, 2, 4),
            decoder_multipliers=(1, 2, 4),
            num_res_blocks=1,
            num_downsamples=2,
            stem_px=2,
            norm_groups=4,
        ),
        "small": TokenizerConfig(
            num_bits=12,
            base_width=32,
            num_downsamples=3,
            encoder_multipliers=(1, 2, 2, 4),
            decoder_multipliers=(1, 2, 2, 4),
            num_res_blocks=1,
            norm_groups=8,
        ),
    }
)
"""Tokenizers by name; "d16" to "d64" have stride 16 and are those of paper Table 4."""


def transformer_preset(name: str) -> TransformerConfig:
    """Return a named transformer.

    Raises:
        ValueError: The name is unknown; the message lists the known ones.
    """
    if name not in TRANSFORMERS:
        raise ValueError(f"transformer: expected one of {', '.join(TRANSFORMERS)}, got {name!r}")
    return TRANSFORMERS[name]


def tokenizer_preset(name: str) -> TokenizerConfig:
    """Return a named tokenizer.

    Raises:
        ValueError: The name is unknown; the message lists the known ones.
    """
    if name not in TOKENIZERS:
        raise ValueError(f"tokenizer: expected one of {', '.join(TOKENIZERS)}, got {name!r}")
    return TOKENIZERS[name]
