"""What counts as a repetition: settings of near duplicates among pictures and among captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infinity.config import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicates(Config):
    """Limits of near duplicates among pictures: both must hold. Decision 0016 has the data behind the defaults.

    Attributes:
        distance: Largest number of different bits of the perceptual hash, 0 to 20.
        difference: Largest difference of any place and channel of the 32 x 32 thumbnails, laid over each other as well
            as a crop of 5 % allows and smoothed; in levels [0, 255].
    """

    distance: int = 12
    difference: float = 18.0

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= 20:
            raise ValueError(f"NearDuplicates.distance: expected 0 to 20 bits, got {self.distance}")
        if self.difference < 0:
            raise ValueError(f"NearDuplicates.difference: expected at least 0 levels, got {self.difference}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionDuplicates(Config):
    """Limits of near duplicates among captions.

    Attributes:
        similarity: Smallest Jaccard similarity of the captions' word pairs, above 0 to 1; 1 is the same words.
        scope: Rows among which repetitions are looked for: those with the same pixels ("picture") or all ("anywhere").
    """

    similarity: float = 0.8
    scope: Literal["picture", "anywhere"] = "picture"

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise ValueError(f"CaptionDuplicates.similarity: expected above 0 to 1, got {self.similarity}")
