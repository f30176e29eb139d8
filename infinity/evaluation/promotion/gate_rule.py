"""The gate's rule for one metric: may the candidate be worse by more than its margin?

The rule looks at gains (differences item by item, positive where the candidate is better) and a margin delta:

* ``low`` to ``high`` is the 95 % interval of the mean gain, bootstrapped over the items.
* ``noise`` is the loss that chance alone may show for an unchanged model: half the width of the interval below zero at
  95 % for *all* metrics together (each gets an equal part of the 5 %), widened where neighbouring items are related.
* ``sure`` is a lower bound of the mean gain at 99 %. It also holds where a candidate loses few prompts but loses these
  completely, and where items are related: it is the lower of two bounds (see ``chance``).

A metric is *worse* if its loss is more than chance explains (gain < -noise) and a loss beyond delta is not ruled out
(low < -delta). It is *too small to decide* if a loss of 2 delta is not ruled out (sure <= -2 delta). Otherwise it
*passes*; it is *better* if the gain is more than chance explains.

So an unchanged model is blocked in 2.5 % of cases (the promise is at most 5 %), and a model that is worse by 2 delta in
one metric is promoted in at most 1 %, for any sample. Where neighbours are related and a sample is too small to show
it, the rates rise to 4.9 % and 2.4 % (the promise is 5 % and 2.5 %); see ``python -m benchmarks.evaluation.gate``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtrit

from infinity.evaluation.promotion.chance import DOUBT, design_effect, pessimistic_mean
from infinity.evaluation.promotion.margins import GateConfig, Margin
from infinity.evaluation.promotion.resampling import resample

_UNBOUNDED_MARGINS = 10.0
"""Largest assumed loss of a single item for a metric without a bound, in margins, unless a larger loss was seen."""

_BOUNDED_UNITS = ("share", "percent")


def judge(
    differences: Float64[np.ndarray, "n k"],
    delta: Float64[np.ndarray, " k"],
    config: GateConfig,
    *,
    num_metrics: int,
    worst: Float64[np.ndarray, " k"] | None = None,
) -> dict[str, np.ndarray]:
    """Apply the rule to k columns of gains over the same n items.

    Args:
        differences: Gain of every item, positive where the candidate is better; related items stand beside each other.
        num_metrics: Number of metrics that are judged together; the rate of false blocks is divided among them.
        worst: Largest possible loss of a single item; None is 1, the most that a share can lose. A larger loss that was
            seen replaces it.

    Returns:
        Numbers by name "gain", "low", "high", "noise" and "sure", and booleans "worse", "too_small" and "better"; one
            per column.
    """
    n, columns = differences.shape
    spread = resample(differences, num_resamples=config.num_resamples, seed=config.seed)
    outside = 1.0 - config.confidence
    low, high = spread.mean + spread.quantile(outside / 2), spread.mean + spread.quantile(1 - outside / 2)
    effect = design_effect(differences)

    def related(share: float) -> Float64[np.ndarray, " k"]:
        """Return the quantile for items of which only ``n / effect`` are independent."""
        own = np.maximum(1.0, n / effect - 1.0)
        wider = np.sqrt(effect) * stdtrit(own, share) / stdtrit(n - 1, share)
        return np.asarray(spread.quantile(share) * wider)

    # gain < -noise means that the interval of the gain at 1 - outside / num_metrics lies below zero.
    noise = np.maximum(0.0, related(1 - outside / 2 / num_metrics))
    possible = np.maximum(np.ones(columns) if worst is None else worst, np.abs(differences).max(axis=0))
    concentrated = pessimistic_mean(differences, possible, num_resamples=config.num_resamples, seed=config.seed)
    sure = np.minimum(concentrated, spread.mean + related(DOUBT))
    enough = n >= config.min_items
    worse = enough & (low < -delta) & (spread.mean < -noise)
    too_small = ~worse & (~(sure > -2 * delta) | (not enough))  # also where gains are too large to be squared
    better = ~worse & ~too_small & (low > 0) & (spread.mean > noise)
    return {
        "gain": spread.mean, "low": low, "high": high, "noise": noise, "sure": sure,
        "worse": worse, "too_small": too_small, "better": better,
    }  # fmt: skip


def worst_loss(margin: Margin, champion: Mapping[str, float | None]) -> float:
    """Return the largest possible loss of one item: to zero where a metric ends at zero, else ten margins."""
    if margin.unit in _BOUNDED_UNITS and margin.better == "higher":
        return max((value for value in champion.values() if value is not None), default=0.0)
    return _UNBOUNDED_MARGINS * margin.delta
