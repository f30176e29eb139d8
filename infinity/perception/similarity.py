"""How well a caption fits its picture: the cosine of their CLIP vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32

from infinity.config import Config
from infinity.perception.clip import Clip, ClipConfig, Picture


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSimilarityConfig(Config):
    """Which CLIP compares.

    Attributes:
        kind: Tells it from other scorers in JSON.
        clip: The network.
    """

    kind: Literal["clip_similarity"] = "clip_similarity"
    clip: ClipConfig = field(default_factory=ClipConfig)

    @property
    def score(self) -> str:
        """Name of the score."""
        return "clip_similarity"

    def weights_digest(self) -> str:
        """16 digits that name everything a score follows from besides picture and caption."""
        return self.clip.weights_digest()


class ClipSimilarity:
    """A loaded CLIP as a scorer."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def __call__(self, pictures: Sequence[Picture], captions: Sequence[str]) -> Float32[np.ndarray, " n"]:
        """-1 to 1 for each picture and its caption."""
        return np.asarray(self._clip.similarity(pictures, captions).cpu().numpy(), np.float32)
