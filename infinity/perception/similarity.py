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
    """Configuration of the CLIP that compares.

    Attributes:
        kind: Tag that tells this scorer from others in JSON.
        clip: Configuration of the network.
    """

    kind: Literal["clip_similarity"] = "clip_similarity"
    clip: ClipConfig = field(default_factory=ClipConfig)

    @property
    def score(self) -> str:
        """Name of the score in tables."""
        return "clip_similarity"

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides picture and caption."""
        return self.clip.weights_digest()


class ClipSimilarity:
    """A loaded CLIP as a scorer."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def __call__(self, pictures: Sequence[Picture], captions: Sequence[str]) -> Float32[np.ndarray, " n"]:
        """Return the cosine, -1 to 1, of each picture and its caption."""
        return np.asarray(self._clip.similarity(pictures, captions).cpu().numpy(), np.float32)
