"""Tokenizers as checkpoint folders of kind "tokenizer"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infinity.checkpoint import load_checkpoint, load_weights, save_checkpoint
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
    checkpoint = load_checkpoint(uri, kind=KIND)
    tokenizer = Tokenizer(TokenizerConfig.from_json(checkpoint.config, where=uri))
    load_weights(tokenizer, checkpoint.tensors, where=uri)
    return tokenizer.eval().requires_grad_(False)
