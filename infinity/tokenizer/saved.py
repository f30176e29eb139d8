"""Tokenizers as checkpoint folders of kind "tokenizer"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infinity.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig

KIND = "tokenizer"


def save_tokenizer(uri: str, tokenizer: Tokenizer, extra: Mapping[str, Any] | None = None) -> str:
    """Write a tokenizer with its configuration; returns the digest that names the checkpoint."""
    return save_checkpoint(uri, kind=KIND, config=tokenizer.config, tensors=tokenizer.state_dict(), extra=extra)


def load_tokenizer(uri: str) -> Tokenizer:
    """Read a tokenizer, in evaluation mode and without gradients: it is frozen for everyone but its own training.

    Raises:
        CheckpointError: No checkpoint there, a damaged one, another kind, or tensors that do not fit its configuration.
    """
    return tokenizer_of(load_checkpoint(uri, kind=KIND))


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer that a checkpoint of kind "tokenizer" holds, frozen.

    Raises:
        CheckpointError: Tensors that do not fit its configuration.
        ConfigError: No configuration of a tokenizer.
    """
    config = TokenizerConfig.from_json(checkpoint.config, where=checkpoint.uri)
    tokenizer = build(lambda: Tokenizer(config), checkpoint.tensors, where=checkpoint.uri)
    return tokenizer.eval().requires_grad_(False)
