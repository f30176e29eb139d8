"""Bootstrap of paired differences: what chance does to a mean over prompts or pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr, stdtrit

_CHUNK_VALUES = 4_000_000
"""Entries of the matrix of counts that are held at once: 32 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Distribution of the means of k columns under resampling.

    Attributes:
        deviations: Means of resamples minus the mean, ascending in every column.
        num_items: Number of rows that were resampled.
    """

    mean: Float64[np.ndarray, " k"]
    deviations: Float64[np.ndarray, "r k"]
    num_items: int

    def quantile(self, share: float) -> Float64[np.ndarray, " k"]:
        """Return the deviation below which a share of the resamples lies, widened as small samples need.

        Resampling n items understates their spread by sqrt((n - 1) / n), and does not know Student's t. So the share is
        moved outwards until, for normal differences, the interval is the t interval ("expanded percentiles",
        Hesterberg, What Teachers Should Know about the Bootstrap, 2015, section 3.3).
        """
        wide = math.sqrt(self.num_items / (self.num_items - 1)) * stdtrit(self.num_items - 1, share)
        return np.asarray(np.quantile(self.deviations, float(ndtr(wide)), axis=0))


def resample(differences: Float64[np.ndarray, "n k"], *, num_resamples: int, seed: int) -> Spread:
    """Bootstrap the means of k columns over the same n items.

    Args:
        differences: One row per item; the order of the rows is part of the input.
        num_resamples: Number of samples of n rows, drawn with replacement.
        seed: Seed of these draws.

    Raises:
        ValueError: Fewer than two items.
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"expected at least 2 items to resample, got {n}")
    random = np.random.Generator(np.random.PCG64(seed))
    mean = differences.mean(axis=0)
    centred = differences - mean
    rows_at_once = max(1, _CHUNK_VALUES // n)
    parts = []
    for start in range(0, num_resamples, rows_at_once):
        rows = min(rows_at_once, num_resamples - start)
        chosen = random.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=rows * n).reshape(rows, n)
        parts.append(counts.astype(np.float64) @ centred / n)
    return Spread(mean=mean, deviations=np.sort(np.concatenate(parts), axis=0), num_items=n)
