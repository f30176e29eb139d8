"""Compare a candidate with its family: the present champion, and for every metric the best one so far."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from infinity.evaluation.promotion.anchors import anchors, score_of
from infinity.evaluation.promotion.champions import Champion
from infinity.evaluation.promotion.gate import Decision, GateReport
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.promotion.rolled_back import rolled_back
from infinity.evaluation.score import Score

End = Literal["promote", "keep", "block", "undecided"]

Compare = Callable[[Champion, Collection[str] | None], GateReport | None]
"""Function that returns the gate's report on a champion and some metrics (None: all metrics with a margin).

None stands for a champion that cannot be scored again."""


@dataclass(frozen=True, slots=True)
class Contest:
    """The end of a contest and its reason in one sentence; ``keep``: no metric is worse, but none is better either."""

    end: End
    why: str


def contest(history: Sequence[Champion], scores: Sequence[Score], compare: Compare, config: GateConfig) -> Contest:
    """Compare a candidate with the champions of its family.

    Args:
        history: All records of the family, oldest first; the last one is the present champion's.
        compare: Function that compares the candidate with a champion; it must not return None for the present one.

    Raises:
        GateError: Two evaluations cannot be compared.
    """
    causes: dict[Decision, list[str]] = {"block": [], "undecided": [], "promote": []}
    found = compare(history[-1], None)
    assert found is not None
    causes[found.decision].append(found.cause)
    for number, metrics in anchors(history, scores, config, set_aside=rolled_back(history)).items():
        best = history[number - 1]
        against = compare(best, metrics)
        decision, cause = _by_record(best, scores, metrics, config) if against is None else _decision_of(against)
        causes[decision].append(f"against record {number}, the best so far{_before(best, scores, metrics)}: {cause}")
    if causes["block"]:
        return Contest("block", "; ".join(causes["block"]))
    if causes["undecided"]:
        return Contest("undecided", "; ".join(causes["undecided"]))
    return Contest("promote" if found.is_better else "keep", "; ".join(causes["promote"]))


def _decision_of(report: GateReport) -> tuple[Decision, str]:
    return report.decision, report.cause


def _before(best: Champion, scores: Sequence[Score], metrics: Collection[str]) -> str:
    """Return words about an anchor that has no figure under the candidate's protocol; empty for others."""
    own = [score for score in scores if score.metric in metrics]
    is_same = any((old := score_of(best, score)) is not None and old.protocol == score.protocol for score in own)
    return "" if is_same else " under an earlier protocol"


def _by_record(
    best: Champion, scores: Sequence[Score], metrics: Collection[str], config: GateConfig
) -> tuple[Decision, str]:
    """Decide by scores alone where the best champion's folder is gone, so that no items can be paired.

    A figure of another protocol says nothing then: the cause tells that this champion is no measure any more.
    """
    causes, lost = [], []
    for score in scores:
        margin = config.margin(score.metric)
        if score.metric not in metrics or margin is None or score.value is None:
            continue
        old = score_of(best, score)
        if old is None or old.value is None or old.protocol != score.protocol:
            lost.append(score.metric)
            continue
        loss = old.value - score.value if margin.better == "higher" else score.value - old.value
        if loss > margin.delta:
            causes.append(f"{score.metric} is {score.value:.4g}, more than δ {margin.delta:.3g} behind {old.value:.4g}")
    gone = f"its folder {best.model} does not hold it any more, so only figures compare"
    if lost:
        gone += f", and those of {', '.join(lost)} are of another protocol: it is no measure for them any more"
    return ("undecided", f"{'; '.join(causes)}; {gone}") if causes else ("promote", gone)
