"""CLIP score from embeddings: how well pictures fit their texts, in the two published conventions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

PROTOCOL = "clip-score/1: 100 * cosine, not clamped per pair; the mean over pairs, not below 0"

Embeddings = Float[np.ndarray, "n D"]


def clip_scores(pictures: Embeddings, texts: Embeddings) -> Float64[np.ndarray, " n"]:
    """Return 100 * cosine of every pair, -100 to 100; embeddings need not have unit length.

    Example:
        >>> clip_scores(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [1.0, 0.0]])).tolist()
        [100.0, 0.0]

    Raises:
        ValueError: Shapes differ, or an embedding is zero or not finite, so that it has no direction.
    """
    if pictures.shape != texts.shape or pictures.ndim != 2:
        raise ValueError(f"clip_scores: expected two equal shapes (n, D), got {pictures.shape} and {texts.shape}")
    wide = [rows.astype(np.float64) for rows in (pictures, texts)]
    lengths = [np.linalg.norm(rows, axis=1) for rows in wide]
    if not all(np.isfinite(length).all() and (length > 0).all() for length in lengths):
        raise ValueError("clip_scores: expected finite embeddings that are not zero")
    return np.asarray(100 * (wide[0] * wide[1]).sum(axis=1) / (lengths[0] * lengths[1]))


def mean_clip_score(scores: Float[np.ndarray, " n"]) -> float:
    """Return the benchmark's score: torchmetrics clamps the mean at 0, never a pair.

    Raises:
        ValueError: There is no pair.
    """
    if not len(scores):
        raise ValueError("mean_clip_score: expected at least one pair of picture and text, got none")
    return max(float(np.mean(scores)), 0.0)
