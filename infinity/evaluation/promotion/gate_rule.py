"""The gate's rule for one metric: may the candidate be worse by more than its margin?

On gains (differences item by item, positive where the candidate is better), with a margin delta:

* ``low`` to ``high`` is the 95 % interval of the mean gain, bootstrapped over the items.
* ``noise`` is the loss that chance alone may show where nothing changed: half the width of the interval below zero at
  95 % for *all* metrics together (each gets an equal part of the 5 %), widened where neighbouring items are related.
* ``sure`` is what the mean gain is at least, at 99 %, also where a candidate loses few prompts but these wholly, and
  where items are related: the lower of two bounds (see ``chance``).

A metric is *worse* if its loss is more than chance explains (gain < -noise) and a loss beyond delta is not ruled out
(low < -delta). It is *too small to decide* if a loss of 2 delta is not ruled out (sure <= -2 delta). Otherwise it
*passes*; it is *better* if the gain is more than chance explains.

So a model that changed nothing is blocked in 2.5 % of cases (the promise is at most 5 %), and one that is worse by 2
delta in one metric is promoted in at most 1 %, whatever the sample. Where neighbours are related and a sample is too
small to show it, these become up to 4.9 % and 2.4 % (the promise is 5 % and 2.5 %); see ``python -m benchmarks.gate``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64
from scipy import stats

from infinity.evaluation.promotion.chance import DOUBT, design_effect, pessimistic_mean
from infinity.evaluation.promotion.margins import GateConfig, Margin
from infinity.evaluation.promotion.resampling import resample

_UNBOUNDED_MARGINS = 10.0
"""Loss of a single item that is thought possible where a metric has no bound, in margins, unless more was seen."""

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
        differences: Gain of every item, positive where the candidate is better; related items beside each other.
        delta: Margin of every column.
        config: Of the gate.
        num_metrics: How many metrics are judged together; the rate of false blocks is divided among them.
        worst: Largest loss of a single item that is possible; None is 1, all that a share can lose. Where a larger one
            was seen, that counts.

    Returns:
        By name "gain", "low", "high", "noise", "sure" (numbers) and "worse", "too_small", "better" (truth), one a
        column.
    """
    n, columns = differences.shape
    spread = resample(differences, num_resamples=config.num_resamples, seed=config.seed)
    outside = 1.0 - config.confidence
    low, high = spread.mean + spread.quantile(outside / 2), spread.mean + spread.quantile(1 - outside / 2)
    effect = design_effect(differences)

    def related(share: float) -> Float64[np.ndarray, " k"]:
        """The quantile for items of which only ``n / effect`` say something of their own."""
        own = np.maximum(1.0, n / effect - 1.0)
        wider = np.sqrt(effect) * stats.t.ppf(share, own) / stats.t.ppf(share, n - 1)
        return np.asarray(spread.quantile(share) * wider)

    # gain < -noise says the same as: the interval of the gain, at 1 - outside / num_metrics, lies below zero.
    noise = np.maximum(0.0, related(1 - outside / 2 / num_metrics))
    possible = np.maximum(np.ones(columns) if worst is None else worst, np.abs(differences).max(axis=0))
    concentrated = pessimistic_mean(differences, possible, num_resamples=config.num_resamples, seed=config.seed)
    sure = np.minimum(concentrated, spread.mean + related(DOUBT))
    enough = n >= config.min_items
    worse = enough & (low < -delta) & (spread.mean < -noise)
    too_small = ~worse & ((sure <= -2 * delta) | (not enough))
    better = ~worse & ~too_small & (low > 0) & (spread.mean > noise)
    return {
        "gain": spread.mean, "low": low, "high": high, "noise": noise, "sure": sure,
        "worse": worse, "too_small": too_small, "better": better,
    }  # fmt: skip


def worst_loss(margin: Margin, champion: Mapping[str, float | None]) -> float:
    """Largest loss of one item that is possible: to zero where zero is a metric's end, else ten margins."""
    if margin.unit in _BOUNDED_UNITS and margin.better == "higher":
        return max((value for value in champion.values() if value is not None), default=0.0)
    return _UNBOUNDED_MARGINS * margin.delta
