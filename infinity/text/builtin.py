"""A frozen text encoder of words and their neighbours that needs no download (decision 6).

It replaces Flan-T5 in demonstrations and tests. Every step is integer arithmetic or a single correctly rounded
operation, so that equal captions give equal features on every machine and with every version of the libraries.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from infinity.config import Config
from infinity.ranges import Count
from infinity.text.condition import TextCondition

Array = np.ndarray[Any, np.dtype[np.float64]]

END = "</s>"
"""Token at the end of every caption, so that an empty caption has a token too."""

_WORD = re.compile(r"\w+|[^\w\s]")
_SHARES = 8
"""Number of equal groups of channels: two each for the word, the word before and the word after, one for the position,
one for all earlier words."""
_SLOWEST = 1000.0
"""Longest wave length of the positions, in words over 2 pi."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltinTextConfig(Config):
    """Settings of the built-in encoder.

    Attributes:
        kind: Name of the encoder in JSON.
        channels: Channels Dt per token, a multiple of 16.
        max_tokens: Largest number of tokens, including the end token; longer captions are cut.
        seed: Seed of the word vectors.
    """

    kind: Literal["builtin"] = "builtin"
    channels: int = 128
    max_tokens: Count = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.channels < 16 or self.channels % 16:
            raise ValueError(f"BuiltinTextConfig.channels: expected a positive multiple of 16, got {self.channels}")


class BuiltinTextEncoder:
    """Encoder of words as seeded random vectors, with their neighbours, their position and earlier words.

    The channels of a token are, in eighths: two for the word itself, two for the word before, two for the word after
    (so that "cube" in "red cube and blue ball" also has "red"), one for the position, one for the sum of all earlier
    words, halved at every step (so that "ball" has a trace of what precedes it).

    Example:
        >>> encoder = BuiltinTextEncoder(BuiltinTextConfig(channels=32))
        >>> features = encoder.encode(["a red cube", ""])
        >>> features.lengths, tuple(features.features_TD.shape)
        ((4, 1), (5, 32))
    """

    def __init__(self, config: BuiltinTextConfig) -> None:
        self.config = config
        self._vector = lru_cache(maxsize=65536)(self._draw_vector)

    def __reduce__(self) -> tuple[type[BuiltinTextEncoder], tuple[BuiltinTextConfig]]:
        """Copy and pickle the settings, from which everything else follows."""
        return BuiltinTextEncoder, (self.config,)

    @property
    def channels(self) -> int:
        """Channels Dt per token."""
        return self.config.channels

    @property
    def max_tokens(self) -> int:
        """Largest number of tokens; longer captions are cut."""
        return self.config.max_tokens

    def num_tokens(self, prompt: str) -> int:
        """Return the number of words and marks, plus the end token, before the caption is cut."""
        return len(words(prompt)) + 1

    def encode(self, prompts: Sequence[str]) -> TextCondition:
        """Return float32 features on the CPU, with about unit variance per channel."""
        return TextCondition.pack([torch.from_numpy(self._encode(prompt)) for prompt in prompts])

    def _encode(self, prompt: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        tokens = [*words(prompt)[: self.config.max_tokens - 1], END]
        eighth = self.config.channels // _SHARES
        own = np.stack([self._vector(token) for token in tokens])
        nothing = np.zeros((1, 2 * eighth))
        before = np.concatenate([nothing, own[:-1]])
        after = np.concatenate([own[1:], nothing])
        past = np.zeros((len(tokens), eighth))
        for i in range(1, len(tokens)):
            past[i] = past[i - 1] * 0.5 + own[i - 1, :eighth]
        features = np.concatenate([own, before, after, _positions(len(tokens), eighth), past], axis=1)
        return features.astype(np.float32)

    def _draw_vector(self, word: str) -> Array:
        """Draw uniform channels of unit variance, 16 bits each, from sha256 in counter mode over seed and word."""
        num_channels = 2 * self.config.channels // _SHARES
        key = hashlib.sha256(f"{self.config.seed}:{word}".encode()).digest()
        num_blocks = math.ceil(num_channels / 16)
        stream = b"".join(hashlib.sha256(key + block.to_bytes(4, "little")).digest() for block in range(num_blocks))
        integers = np.frombuffer(stream, dtype="<i2")[:num_channels].astype(np.float64)
        return (integers + 0.5) * (math.sqrt(3.0) / 32768.0)


def words(prompt: str) -> list[str]:
    """Split into lower-case words and punctuation marks: "A red cube." gives a, red, cube and a full stop."""
    return _WORD.findall(prompt.lower())


def _positions(length: int, num_channels: int) -> Array:
    """Return sine and cosine of the position at wave lengths from 2 pi to 2 pi * 1000 words.

    They are rounded to 1/4096, since the sines of two machines may differ in the last digit.
    """
    num_waves = num_channels // 2
    table = np.empty((length, num_channels))
    for wave in range(num_waves):
        step = _SLOWEST ** -(wave / num_waves)
        for i in range(length):
            table[i, 2 * wave] = round(math.sin(i * step) * 4096) / 4096
            table[i, 2 * wave + 1] = round(math.cos(i * step) * 4096) / 4096
    return table * math.sqrt(2.0)
