"""The best champions of a family so far, with which a candidate is compared besides the present champion.

Comparisons with the present champion alone would let a family decline slowly: each step may lose up to a margin. So for
every metric, the champion with the best score is an anchor. Models that a person rolled back are not (decision 23).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from infinity.evaluation.promotion.champions import Champion
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.score import Score


def anchors(
    history: Sequence[Champion], scores: Iterable[Score], config: GateConfig, *, set_aside: Collection[str] = ()
) -> dict[int, tuple[str, ...]]:
    """Return the metrics in which an earlier champion was better than the present one, by number of its record.

    Args:
        history: All records of the family, oldest first; the last one is the present champion's.
        scores: Scores of the candidate; only scores of the same protocol compare.
        config: Configuration that names the gated metrics and which way is better.
        set_aside: Digests of models that are no anchors.
    """
    found: dict[int, list[str]] = {}
    for score in scores:
        margin = config.margin(score.metric)
        if margin is None or score.value is None:
            continue
        sign = 1.0 if margin.better == "higher" else -1.0
        best, present = None, history[-1]
        for record in history:
            value = _value(record, score)
            if value is None or record.model_digest in set_aside:
                continue
            if best is None or sign * value > best[0]:
                best = (sign * value, record)
        if best is None or best[1].model_digest == present.model_digest:
            continue
        own = _value(present, score)
        if own is None or best[0] > sign * own:
            found.setdefault(best[1].number, []).append(score.metric)
    return {number: tuple(metrics) for number, metrics in sorted(found.items())}


def _value(record: Champion, like: Score) -> float | None:
    """Return the record's value of a metric under the protocol of another score, or None."""
    for score in record.scores:
        if score.metric == like.metric and score.protocol == like.protocol and score.unit == like.unit:
            return score.value
    return None
