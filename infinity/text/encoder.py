"""What a text encoder is, and which ones exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from infinity.text.builtin import BuiltinTextConfig, BuiltinTextEncoder
from infinity.text.condition import TextCondition
from infinity.text.t5 import T5TextConfig, T5TextEncoder

TextConfig = BuiltinTextConfig | T5TextConfig
"""Which encoder turns captions into features; the key ``kind`` tells them apart in JSON."""


class TextEncoder(Protocol):
    """Captions in, packed features out; frozen and deterministic.

    Its configuration alone decides in which type it computes: an autocast around a call changes no feature.
    """

    @property
    def channels(self) -> int:
        """Dt, the channels of the features."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longer captions are cut to this many tokens."""
        ...

    def num_tokens(self, prompt: str) -> int:
        """Tokens of a caption before it is cut, the closing token included."""
        ...

    def encode(self, prompts: Sequence[str]) -> TextCondition:
        """Float32 features of every prompt, at least one token each."""
        ...


def build_text_encoder(config: TextConfig, device: str = "cpu") -> TextEncoder:
    """The encoder that a configuration names.

    Args:
        config: Of either kind.
        device: Where a T5 runs; the built-in encoder always runs on the CPU.
    """
    if isinstance(config, BuiltinTextConfig):
        return BuiltinTextEncoder(config)
    return T5TextEncoder(config, device)
