"""What counts as a repetition: settings of near duplicates among pictures and among captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from infinity.config import Config
from infinity.ranges import NotNegative, Range, ShareAboveZero


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicates(Config):
    """Limits of near duplicates among pictures: both must hold. Decision 0016 has the data behind the defaults.

    Attributes:
        distance: Largest number of different bits of the perceptual hash, 0 to 20.
        difference: Largest difference of any place and channel of the 32 x 32 thumbnails, laid over each other as well
            as a crop of 5 % allows and smoothed; in levels [0, 255].
    """

    distance: Annotated[int, Range(0, 20)] = 12
    difference: NotNegative = 18.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionDuplicates(Config):
    """Limits of near duplicates among captions.

    Attributes:
        similarity: Smallest Jaccard similarity of the captions' word pairs, above 0 to 1; 1 is the same words.
        scope: Rows among which repetitions are looked for: those with the same pixels ("picture") or all ("anywhere").
    """

    similarity: ShareAboveZero = 0.8
    scope: Literal["picture", "anywhere"] = "picture"
