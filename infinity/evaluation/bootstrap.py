"""Confidence intervals by resampling prompts, since the pictures of one prompt are right and wrong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

RESAMPLES = 2000
_SEED = 20170815
_CHUNK = 200


def stratified_interval(
    strata: Sequence[tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]], share: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of the mean over strata of (sum of values) / (sum of weights), resampled within strata.

    The interval lies between percentiles of 2,000 bootstrap replicates from a fixed seed. Clusters are sorted first, so
    that the order in which results arrive has no influence.

    Args:
        strata: Values and weights of the clusters (prompts) of each stratum (task): numbers of right pictures, and of
            all pictures.
        share: Share of the replicates that lie within the interval.

    Returns:
        Both ends; None where all clusters of every stratum agree, or a stratum has a single cluster, since resampling
        says nothing then.
    """
    if any(len(values) < 2 for values, _ in strata):
        return None
    if all(np.ptp(values / weights) == 0 for values, weights in strata):
        return None
    random = np.random.Generator(np.random.PCG64(_SEED))
    replicates = np.zeros(RESAMPLES)
    for values, weights in strata:
        order = np.lexsort((weights, values))
        values, weights = values[order], weights[order]
        for start in range(0, RESAMPLES, _CHUNK):  # in chunks, to bound the memory
            chosen = random.integers(0, len(values), (_CHUNK, len(values)))
            means = values[chosen].sum(axis=1) / weights[chosen].sum(axis=1)
            replicates[start : start + _CHUNK] += means / len(strata)
    low, high = np.quantile(replicates, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of a mean with one value per cluster; None where resampling says nothing.

    Example:
        >>> low, high = mean_interval([0.0, 1.0] * 50)
        >>> round(low, 1), round(high, 1)
        (0.4, 0.6)
        >>> mean_interval([0.7, 0.7]) is None
        True
    """
    listed = np.asarray(values, np.float64)
    return stratified_interval([(listed, np.ones_like(listed))], share)


def resampled_interval(
    clusters: Float64[np.ndarray, "n ..."],
    figure: Callable[[Float64[np.ndarray, "r ..."]], Float64[np.ndarray, " r"]],
    share: float = 0.95,
) -> tuple[float, float] | None:
    """Return the interval of a figure that depends on sums over clusters, resampled as wholes.

    Args:
        clusters: One array of sums per cluster (prompt).
        figure: Function from the sums of every replicate to its figure; NaN where it has none.
        share: Share of the replicates that lie within the interval.

    Returns:
        Both ends; None where resampling says nothing: fewer than two clusters, or replicates that all agree.
    """
    number = len(clusters)
    if number < 2:
        return None
    flat = clusters.reshape(number, -1)
    flat = flat[np.lexsort(flat.T)]  # the order in which results arrive has no influence
    random = np.random.Generator(np.random.PCG64(_SEED))
    found = []
    for _ in range(RESAMPLES // _CHUNK):
        counts = random.multinomial(number, np.full(number, 1 / number), _CHUNK).astype(np.float64)
        found.append(figure((counts @ flat).reshape(_CHUNK, *clusters.shape[1:])))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    if not len(values) or np.ptp(values) < 1e-12 * max(1.0, float(np.abs(values).max())):
        return None
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
