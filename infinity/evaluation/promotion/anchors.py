"""The best champions of a family so far, with which a candidate is compared besides the present champion.

Comparisons with the present champion alone would let a family decline slowly: each step may lose up to a margin. So for
every metric, the champion with the best score is an anchor. Where the protocol changed over time, there is one anchor
per protocol, since figures of different protocols do not compare; each is scored again under the candidate's. Models
that a person rolled back are no anchors (decision 23).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from infinity.evaluation.promotion.champions import Champion
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.score import Score


def anchors(
    history: Sequence[Champion], scores: Iterable[Score], config: GateConfig, *, set_aside: Collection[str] = ()
) -> dict[int, tuple[str, ...]]:
    """Return the metrics in which an earlier champion was better than the present one, by number of its record.

    Args:
        history: All records of the family, oldest first; the last one is the present champion's.
        scores: Scores of the candidate; those in another unit are no measure.
        config: Configuration that names the gated metrics and which way is better.
        set_aside: Digests of models that are no anchors.
    """
    found: dict[int, dict[str, None]] = {}
    numbers: dict[str, int] = {}
    for score in scores:
        margin = config.margin(score.metric)
        if margin is None or score.value is None:
            continue
        sign = 1.0 if margin.better == "higher" else -1.0
        for best in _best(history, score, sign, set_aside):
            number = numbers.setdefault(best.model_digest, best.number)
            found.setdefault(number, {})[score.metric] = None
    return {number: tuple(metrics) for number, metrics in sorted(found.items())}


def _best(history: Sequence[Champion], like: Score, sign: float, set_aside: Collection[str]) -> Iterator[Champion]:
    """Yield the best record under every protocol, the score's own first, where the present champion is not as good."""
    present = history[-1]
    by_protocol: dict[str, list[tuple[float, Champion]]] = {like.protocol: []}
    for record in history:
        score = score_of(record, like)
        if score is not None and score.value is not None and record.model_digest not in set_aside:
            by_protocol.setdefault(score.protocol, []).append((sign * score.value, record))
    for protocol, found in by_protocol.items():
        if not found:
            continue
        value, best = max(found, key=lambda pair: pair[0])
        if best.model_digest == present.model_digest:
            continue
        own = score_of(present, like)
        if own is None or own.value is None or own.protocol != protocol or value > sign * own.value:
            yield best


def score_of(record: Champion, like: Score) -> Score | None:
    """Return a record's score of the metric of another score in the same unit, or None."""
    return next((score for score in record.scores if (score.metric, score.unit) == (like.metric, like.unit)), None)
