"""Intervals by resampling prompts: the pictures of one prompt are right and wrong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

RESAMPLES = 2000
_SEED = 20170815
_CHUNK = 200


def stratified_interval(
    strata: Sequence[tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]], share: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the plain mean over strata of (sum of values) / (sum of weights), by resampling within each stratum.

    The percentiles of 2,000 bootstrap replicates from a fixed seed. Clusters are put in a fixed order first, so that
    the order in which results arrive does not show.

    Args:
        strata: For each stratum (a task) the value and the weight of its clusters (prompts): pictures that are right,
            and pictures in all.
        share: Of the replicates that lie within.

    Returns:
        Both ends; None where all clusters of every stratum agree, or a stratum has a single one: resampling says
        nothing then.
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
        for start in range(0, RESAMPLES, _CHUNK):  # bounds the memory
            chosen = random.integers(0, len(values), (_CHUNK, len(values)))
            means = values[chosen].sum(axis=1) / weights[chosen].sum(axis=1)
            replicates[start : start + _CHUNK] += means / len(strata)
    low, high = np.quantile(replicates, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float] | None:
    """Interval of a plain mean, one value a cluster; None where resampling says nothing."""
    listed = np.asarray(values, np.float64)
    return stratified_interval([(listed, np.ones_like(listed))], share)
