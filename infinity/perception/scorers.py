"""All scorers of the data stage: pictures and their captions in, one number per picture out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from infinity.config import digest_of
from infinity.perception.clip import Clip, ClipConfig, Picture
from infinity.perception.detection.image_classifier import ImageClassifier, NsfwConfig, WatermarkConfig
from infinity.perception.detection.ocr import TextArea, TextAreaConfig
from infinity.perception.preference.aesthetic import Aesthetic, AestheticConfig
from infinity.perception.similarity import ClipSimilarity, ClipSimilarityConfig

ScorerConfig = ClipSimilarityConfig | AestheticConfig | WatermarkConfig | NsfwConfig | TextAreaConfig
"""Configuration of a scorer; ``kind`` tells them apart in JSON, ``score`` is the name of the number."""

SCORE_VERSION = 1
"""Version; raise it when the same network gives the same picture another number."""

PAPER_SCORERS: tuple[ScorerConfig, ...] = (TextAreaConfig(), WatermarkConfig(), AestheticConfig())
"""The three scorers by which the paper's data was chosen."""

DEFAULT_SCORERS: dict[str, ScorerConfig] = {
    scorer.score: scorer for scorer in (*PAPER_SCORERS, NsfwConfig(), ClipSimilarityConfig())
}
"""One configuration for every score."""


class Scorer(Protocol):
    """A scorer with its network loaded."""

    def __call__(self, pictures: Sequence[Picture], captions: Sequence[str]) -> Float32[np.ndarray, " n"]:
        """Return one number per picture, whatever other pictures are scored with it."""
        ...


class OwnScorerConfig(Protocol):
    """A scorer that a user adds in Python, a ``Config`` with these members; see ``examples/add_a_filter.py``."""

    kind: str
    score: str

    def weights_digest(self) -> str:
        """Return a text that changes whenever the same picture would get another number."""
        ...

    def load(self, device: str) -> Scorer:
        """Return the scorer, ready on a device such as "cpu"."""
        ...


def score_key(config: ScorerConfig) -> str:
    """Return 16 digits that change with everything a score depends on, and with nothing else (folder, batch, checksum).

    Raises:
        ValueError: The weights are missing, or an optional library is not installed.
        StorageError: The weights cannot be read.
    """
    return digest_of([SCORE_VERSION, config.kind, config.weights_digest()])


def load_scorers(configs: Sequence[ScorerConfig | OwnScorerConfig], device: str, threads: int = 1) -> list[Scorer]:
    """Return the loaded scorers; those with the same CLIP share it.

    Raises:
        ValueError: Weights are missing or other ones, a label is unknown, or a library is not installed.
        StorageError: Weights cannot be read.
    """
    clips: dict[ClipConfig, Clip] = {}

    def clip(config: ClipConfig) -> Clip:
        if config not in clips:
            clips[config] = Clip(config, device)
        return clips[config]

    def load(config: ScorerConfig | OwnScorerConfig) -> Scorer:
        if isinstance(config, ClipSimilarityConfig):
            return ClipSimilarity(clip(config.clip))
        if isinstance(config, AestheticConfig):
            return Aesthetic(config, clip(config.clip))
        if isinstance(config, TextAreaConfig):
            return TextArea(config, threads)
        if isinstance(config, WatermarkConfig | NsfwConfig):
            return ImageClassifier(config, device)
        return config.load(device)

    return [load(config) for config in configs]
