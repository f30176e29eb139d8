"""How the scores of a data set are spread: counts in fixed bins, which add up over any parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from infinity.config import Config

_LINEAR = {
    "caption_chars": (0.0, 400.0),
    "caption_words": (0.0, 80.0),
    "caption_letters": (0.0, 1.0),
    "caption_char_run": (0.0, 20.0),
    "caption_word_repeats": (0.0, 1.0),
    "caption_script": (0.0, 1.0),
    "caption_english": (0.0, 1.0),
    "elongation": (1.0, 5.0),
    "contrast": (0.0, 128.0),
    "clip_similarity": (-0.1, 0.5),
    "aesthetic": (1.0, 10.0),
    "watermark": (0.0, 1.0),
    "nsfw": (0.0, 1.0),
    "text_area": (0.0, 1.0),
}
_GEOMETRIC = {"side_px": (8.0, 8192.0), "num_pixels": (64.0, 2.0**26), "sharpness": (0.1, 1e5)}
_NUM_BINS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram(Config):
    """Counts of one score; values outside of the bins are counted in the first or last one.

    Attributes:
        score: Name of the score.
        edges: Borders of the bins, one more than bins; a bin holds its lower border.
        counts: Number of pictures in each bin.
        minimum: Smallest score that is kept, or None.
        maximum: Largest score that is kept, or None.
    """

    score: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    minimum: float | None = None
    maximum: float | None = None

    @classmethod
    def of(
        cls,
        score: str,
        values: Float[np.ndarray, " n"],
        minimum: float | None = None,
        maximum: float | None = None,
        own_range: tuple[float, float] = (0.0, 1.0),
    ) -> Histogram:
        """Count values in bins that depend on the name of the score alone, or on ``own_range`` for a user's score."""
        edges = _edges(score, own_range)
        inside = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        counts = np.bincount(inside, minlength=len(edges) - 1)
        return cls(
            score=score, edges=tuple(edges.tolist()), counts=tuple(counts.tolist()), minimum=minimum, maximum=maximum
        )

    def __add__(self, other: Histogram) -> Histogram:
        if (self.score, self.edges) != (other.score, other.edges):
            raise ValueError(f"expected another histogram of {self.score}, got one of {other.score}")
        return self.replace(counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))


def _edges(score: str, own_range: tuple[float, float]) -> Float[np.ndarray, " n"]:
    if score in _GEOMETRIC:
        low, high = _GEOMETRIC[score]
        return np.round(np.geomspace(low, high, _NUM_BINS + 1), 6)
    low, high = _LINEAR.get(score, own_range)
    return np.round(np.linspace(low, high, _NUM_BINS + 1), 6)
