"""Bounds that hold for small samples, for losses concentrated in few items, and for related items."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

DOUBT = 0.01
"""Probability that a bound of this module lies above the true mean; the gate promises 2.5 %."""

_PRIOR = 20.0
"""Assumed relation between neighbours that a sample of n items cannot show: a design effect of at least 1 + 20 / n."""

_MOST_LAGS = 10
_CHUNK_VALUES = 4_000_000


def design_effect(gains: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " k"]:
    """Return, per column, the factor by which the variance of the mean exceeds that of unrelated items.

    Related prompts (one template, one object) stand beside each other in a benchmark, and are right and wrong together.
    The autocorrelations of neighbours up to ten places apart are summed, less one standard error for chance. A term of
    20 / n allows for relations that a small sample cannot show. The factor is never below 1.

    Args:
        gains: One row per item, in the order of the benchmark.
    """
    n = len(gains)
    least = np.full(gains.shape[1], 1.0 + _PRIOR / n)
    lags = min(_MOST_LAGS, n // 8)
    centred = gains - gains.mean(axis=0)
    variance = (centred * centred).sum(axis=0)
    variance = np.where(variance > 0, variance, 1.0)
    total, seen = np.zeros_like(least), np.zeros_like(least)
    for lag in range(1, lags + 1):
        # The autocorrelation of unrelated rows is -1 / n on average.
        total = total + (centred[:-lag] * centred[lag:]).sum(axis=0) / variance + 1.0 / n
        seen = np.maximum(seen, total - math.sqrt(lag / n))
    effect: Float64[np.ndarray, " k"] = np.maximum(least, 1.0 + 2.0 * seen)
    return effect


def pessimistic_mean(
    gains: Float64[np.ndarray, "n k"], worst: Float64[np.ndarray, " k"], *, num_resamples: int, seed: int
) -> Float64[np.ndarray, " k"]:
    """Return a lower bound of every column's mean that holds for any distribution with values above ``-worst``.

    This is Gaffke's bound: the items get random weights (uniform spacings), and one more item with the worst possible
    value is added. For n equal values it is the exact binomial bound: ten prompts without a loss do not rule out that a
    third of all prompts are lost (Learned-Miller and Thomas, A New Confidence Interval for the Mean of a Bounded Random
    Variable, 2020).

    Args:
        gains: One row per item.
        worst: Largest possible loss of a single item, per column.
        num_resamples: Number of sets of weights.
    """
    n = len(gains)
    random = np.random.Generator(np.random.PCG64(seed))
    rows_at_once = max(1, _CHUNK_VALUES // (n + 1))
    parts = []
    for start in range(0, num_resamples, rows_at_once):
        weights = random.standard_exponential((min(rows_at_once, num_resamples - start), n + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        parts.append(weights[:, :n] @ gains - weights[:, n:] * worst)
    return np.asarray(np.quantile(np.concatenate(parts), DOUBT, axis=0))


def items_needed(n: int, width: float, loss: float, worst: float) -> int:
    """Return about how many items of this spread rule out a loss.

    Args:
        n: Number of present items.
        width: Distance of the mean from its lower bound with these items.
        worst: Largest possible loss of a single item.
    """
    without_spread = 1.0 if loss >= worst else math.log(DOUBT) / math.log1p(-loss / worst)
    return math.ceil(max(n * (width / loss) ** 2 if width > loss else 0.0, without_spread))
