"""Save and load tokenizers as checkpoint folders of kind "tokenizer"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infinity.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig

KIND = "tokenizer"


def save_tokenizer(uri: str, tokenizer: Tokenizer, extra: Mapping[str, Any] | None = None) -> str:
    """Write a tokenizer with its configuration, and return the digest of the checkpoint."""
    return save_checkpoint(uri, kind=KIND, config=tokenizer.config, tensors=tokenizer.state_dict(), extra=extra)


def load_tokenizer(uri: str) -> Tokenizer:
    """Load a frozen tokenizer, in evaluation mode and without gradients.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged or of another kind, or tensors do not fit.
    """
    return tokenizer_of(load_checkpoint(uri, kind=KIND))


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """Build the frozen tokenizer of a checkpoint of kind "tokenizer".

    Raises:
        CheckpointError: The tensors do not fit the configuration.
        ConfigError: The configuration is not that of a tokenizer.
    """
    config = TokenizerConfig.from_json(checkpoint.config, where=checkpoint.uri)
    tokenizer = build(lambda: Tokenizer(config), checkpoint.tensors, where=checkpoint.uri)
    return tokenizer.eval().requires_grad_(False)
