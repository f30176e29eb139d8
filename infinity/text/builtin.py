"""A frozen text encoder of words in their neighbourhood that needs no download.

It stands in for Flan-T5 in demonstrations and tests. Every step is integer arithmetic or a single correctly rounded
operation, so equal captions give equal features on every machine and with every version of the libraries.
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
from infinity.text.condition import TextCondition

Array = np.ndarray[Any, np.dtype[np.float64]]

END = "</s>"
"""The token that closes every caption, so that an empty one has a token too."""

_WORD = re.compile(r"\w+|[^\w\s]")
_SHARES = (
    8  # of the channels: two each for the word, the one before and the one after, one for position, one for the past
)
_SLOWEST = 1000.0  # longest wave of the positions, in words over 2 pi


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltinTextConfig(Config):
    """The built-in encoder.

    Attributes:
        kind: Tells it from other encoders in JSON.
        channels: Dt, a multiple of 16.
        max_tokens: Longer captions are cut to this many tokens, the closing token included.
        seed: Of the word vectors.
    """

    kind: Literal["builtin"] = "builtin"
    channels: int = 128
    max_tokens: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.channels < 16 or self.channels % 16:
            raise ValueError(f"BuiltinTextConfig.channels: expected a positive multiple of 16, got {self.channels}")
        if self.max_tokens < 1:
            raise ValueError(f"BuiltinTextConfig.max_tokens: expected at least 1, got {self.max_tokens}")


class BuiltinTextEncoder:
    """Words to seeded vectors, each with its neighbours, its position and a fading memory of the words before it.

    The channels of a token are, in eighths: two for the word itself, two for the word before, two for the word after
    (so that one look at "cube" in "red cube and blue ball" also sees "red"), one for its position, one for the sum of
    all earlier words, halved with every step (so that "ball" knows what it is left of).
    """

    def __init__(self, config: BuiltinTextConfig) -> None:
        self.config = config
        self._vector = lru_cache(maxsize=65536)(self._draw_vector)

    @property
    def channels(self) -> int:
        """Dt."""
        return self.config.channels

    @property
    def max_tokens(self) -> int:
        """Longer captions are cut."""
        return self.config.max_tokens

    def num_tokens(self, prompt: str) -> int:
        """Words, marks, and the closing token."""
        return len(words(prompt)) + 1

    def encode(self, prompts: Sequence[str]) -> TextCondition:
        """Float32 features on the CPU, about unit variance a channel."""
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
        """Uniform channels of unit variance, 16 bits each, from sha256 in counter mode over the seed and the word."""
        num_channels = 2 * self.config.channels // _SHARES
        key = hashlib.sha256(f"{self.config.seed}:{word}".encode()).digest()
        num_blocks = math.ceil(num_channels / 16)
        stream = b"".join(hashlib.sha256(key + block.to_bytes(4, "little")).digest() for block in range(num_blocks))
        integers = np.frombuffer(stream, dtype="<i2")[:num_channels].astype(np.float64)
        return (integers + 0.5) * (math.sqrt(3.0) / 32768.0)


def words(prompt: str) -> list[str]:
    """Lower-case words and punctuation marks, in order: "A red cube." gives a, red, cube and a full stop."""
    return _WORD.findall(prompt.lower())


def _positions(length: int, num_channels: int) -> Array:
    """Sine and cosine of the position at wave lengths from 2 pi to 2 pi * 1000 words.

    Rounded to 1/4096, because the sine of two machines may differ in the last digit.
    """
    num_waves = num_channels // 2
    table = np.empty((length, num_channels))
    for wave in range(num_waves):
        step = _SLOWEST ** -(wave / num_waves)
        for i in range(length):
            table[i, 2 * wave] = round(math.sin(i * step) * 4096) / 4096
            table[i, 2 * wave + 1] = round(math.cos(i * step) * 4096) / 4096
    return table * math.sqrt(2.0)
