"""May a new model take the champion's place? A paired comparison, prompt by prompt and picture by picture.

Every metric with a margin is judged by the rule of ``gate_rule``. A model may be promoted only if every metric passes;
a worse metric blocks it; a sample that is too small leaves it undecided. A model that passes but is better in no metric
should replace no champion; the caller decides that by ``GateReport.is_better`` (decision 23).

Example:
    >>> score = Score(metric="clip_score.overall", value=20.0, unit="", n=12, protocol="clip-score/1")
    >>> items = {f"{number:05d}": 20.0 + number % 3 for number in range(12)}
    >>> better = {item: value + 1.0 for item, value in items.items()}
    >>> scores = {score.metric: score}
    >>> old = ScoredModel(model="old", digest="a", setting="s", scores=scores, items={score.metric: items})
    >>> new = ScoredModel(model="new", digest="b", setting="s", scores=scores, items={score.metric: better})
    >>> report = compare(old, new, GateConfig(num_resamples=1000))
    >>> report.decision, report.is_better
    ('promote', True)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float64

from infinity.config import Config
from infinity.evaluation.promotion.chance import items_needed
from infinity.evaluation.promotion.gate_rule import judge, worst_loss
from infinity.evaluation.promotion.margins import GateConfig, Margin
from infinity.evaluation.score import Score

Verdict = Literal["better", "passes", "worse", "too_small"]
Decision = Literal["promote", "block", "undecided"]


class GateError(ValueError):
    """Two evaluations cannot be compared; the message says what differs and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredModel:
    """Scores and item values of one model.

    Attributes:
        model: URI of the model folder.
        digest: Digest of the model's checkpoint.
        setting: Name of everything that the evaluation depends on besides the model: data, sampling, seeds, sizes.
        scores: Scores by metric, with their protocols.
        items: Value of every prompt or picture, by metric; None where it has none (PSNR of equal pictures).
    """

    model: str
    digest: str
    setting: str
    scores: Mapping[str, Score]
    items: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison(Config):
    """One metric of two models, compared item by item.

    Args:
        unit: Unit of all values here.
        n: Number of items that were compared.
        champion: Mean over the champion's items.
        candidate: Mean over the candidate's items.
        gain: Mean difference, positive where the candidate is better.
        low: Lower end of the 95 % interval of the gain; None for a single item, whose spread is unknown.
        high: Upper end.
        noise: Loss that an unchanged model may show by chance, over all metrics together; None for a single item.
        sure: Lower bound of the mean gain at 99 %, valid also where few prompts are lost completely; None for a single
            item.
        num_needed: Approximate number of items of this spread that are enough to decide.
        verdict: See ``gate_rule``.
    """

    metric: str
    unit: str
    n: int
    champion: float
    candidate: float
    gain: float
    low: float | None
    high: float | None
    noise: float | None
    delta: float
    num_needed: int
    verdict: Verdict
    sure: float | None = None

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        change = f"{'better' if self.gain >= 0 else 'worse'} by {_short(abs(self.gain))}"
        facts = f"{self.metric} {change} (δ {_short(self.delta)}"
        if self.verdict == "too_small":
            if self.sure is None or self.sure > -2 * self.delta:
                return f"{facts}, but only {self.n} items; at least {self.num_needed} decide)"
            possible = f"a loss of {_short(-self.sure)} is not ruled out with {self.n} items"
            return f"{facts}, but {possible}; about {self.num_needed} decide)"
        assert self.low is not None
        assert self.high is not None
        return f"{facts}, 95 % interval {_short(self.low)} to {_short(self.high)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemLoss(Config):
    """One prompt or picture on which the candidate is worse."""

    metric: str
    id: str
    champion: float
    candidate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport(Config):
    """Result of a comparison.

    Args:
        comparisons: One comparison per gated metric.
        ungated: Reasons by metric, for metrics that block nothing.
        worst: Items with the largest losses, worst first within a metric.
    """

    champion: str
    candidate: str
    comparisons: tuple[Comparison, ...]
    ungated: dict[str, str] = field(default_factory=dict)
    worst: tuple[ItemLoss, ...] = ()

    @property
    def decision(self) -> Decision:
        """The decision; "promote" only if every metric passes."""
        verdicts = {comparison.verdict for comparison in self.comparisons}
        if "worse" in verdicts:
            return "block"
        return "undecided" if "too_small" in verdicts else "promote"

    @property
    def is_better(self) -> bool:
        """Whether any metric is better by more than chance explains."""
        return any(comparison.verdict == "better" for comparison in self.comparisons)

    @property
    def cause(self) -> str:
        """The reason in one sentence: the metrics that decide, the heaviest loss in margins first."""
        deciding = {"block": ("worse",), "undecided": ("too_small",), "promote": ("better", "passes")}[self.decision]
        named = sorted((c for c in self.comparisons if c.verdict in deciding), key=lambda c: c.gain / c.delta)
        if self.decision == "promote":
            better = [c.metric for c in named if c.verdict == "better"]
            nearest = f"nearest to its margin: {named[0].sentence}"
            return f"no metric of {len(named)} is worse; better: {', '.join(better) or 'none'}; {nearest}"
        return "; ".join(c.sentence for c in named)


def compare(
    champion: ScoredModel,
    candidate: ScoredModel,
    config: GateConfig,
    *,
    num_worst: int = 6,
    only: Collection[str] | None = None,
) -> GateReport:
    """Compare two evaluations, item by item.

    Args:
        champion: Evaluation of the present champion.
        candidate: Evaluation of the model that may replace the champion.
        num_worst: Number of items with the largest losses that are named per metric.
        only: Metrics that are judged; None judges all metrics with a margin.

    Raises:
        GateError: They were measured differently or on different items, or nothing can be compared.
    """
    if champion.setting != candidate.setting:
        raise GateError(
            f"{candidate.model} and {champion.model} were measured with different settings (data, sampling, seeds or "
            f"sizes: {candidate.setting} and {champion.setting}); evaluate both with one spec"
        )
    gated, ungated = _gated(champion, candidate, config)
    if only is not None:
        ungated |= {metric: "is judged against another champion" for metric in gated if metric not in only}
        gated = {metric: margin for metric, margin in gated.items() if metric in only}
    if not gated:
        raise GateError(
            f"{candidate.model} and {champion.model}: expected at least one metric with values per item and a margin, "
            f"found none among {', '.join(sorted(candidate.scores)) or 'no scores'}; evaluate prompts or pictures"
        )
    comparisons, worst = [], []
    for metric, margin in gated.items():
        old, new = champion.items[metric], candidate.items[metric]
        _check(metric, champion, candidate, margin)
        ids = sorted(old)
        sign = 1.0 if margin.better == "higher" else -1.0
        gains = sign * (np.array([new[i] for i in ids], np.float64) - np.array([old[i] for i in ids], np.float64))
        comparison = _comparison(metric, margin, gains, old, new, config, len(gated))
        if champion.digest == candidate.digest and len(gains) >= config.min_items and not gains.any():
            # One model twice: there is nothing that a sample could miss.
            comparison = comparison.replace(verdict="passes")
        comparisons.append(comparison)
        order = [index for index in np.argsort(gains, kind="stable")[:num_worst] if gains[index] < 0]
        worst += [_loss(metric, ids[index], old, new) for index in order]
    return GateReport(
        champion=champion.digest,
        candidate=candidate.digest,
        comparisons=tuple(comparisons),
        ungated=ungated,
        worst=tuple(worst),
    )


def _gated(
    champion: ScoredModel, candidate: ScoredModel, config: GateConfig
) -> tuple[dict[str, Margin], dict[str, str]]:
    """Return the metrics that decide, and the others with their reason.

    Raises:
        GateError: Only one of the two models has a metric that decides.
    """
    gated: dict[str, Margin] = {}
    ungated: dict[str, str] = {}
    for metric in sorted({*champion.scores, *candidate.scores, *champion.items, *candidate.items}):
        margin = config.margin(metric)
        sides = [metric in champion.items, metric in candidate.items]
        if margin is None:
            ungated[metric] = "no margin is set for it"
        elif not any(sides):
            ungated[metric] = "has no values per item to pair"
        elif not all(sides):
            lacking = champion if sides[1] else candidate
            raise GateError(
                f"{metric} was not measured per item on {lacking.model}, but on the other model; evaluate both again "
                "with the same benchmarks"
            )
        elif whole := _whole_of(metric, champion, config):
            few = len(champion.items[metric])
            ungated[metric] = f"{few} items are too few to judge alone (expected {config.min_items}); {whole} has them"
        else:
            gated[metric] = margin
    return gated, ungated


def _whole_of(metric: str, measured: ScoredModel, config: GateConfig) -> str | None:
    """Return the overall metric that judges the items of a task with too few of its own, if there is one."""
    whole = f"{metric.rpartition('.')[0]}.overall"
    items, all_items = measured.items[metric], measured.items.get(whole, {})
    is_judged = config.margin(whole) is not None and len(all_items) >= config.min_items
    return (
        whole
        if metric != whole and len(items) < config.min_items and is_judged and set(items) <= set(all_items)
        else None
    )


def _check(metric: str, champion: ScoredModel, candidate: ScoredModel, margin: Margin) -> None:
    """Refuse scores that look comparable but are not."""
    scores = [side.scores.get(metric) for side in (champion, candidate)]
    for side, score in zip((champion, candidate), scores, strict=True):
        if score is None:
            raise GateError(f"{metric} of {side.model} has values per item but no score with a protocol")
        if score.unit != margin.unit:
            raise GateError(f"{metric} of {side.model} is in {score.unit!r}; its margin is in {margin.unit!r}")
    first, second = scores
    assert first is not None
    assert second is not None
    if first.protocol != second.protocol:
        raise GateError(f"{metric}: two protocols, {first.protocol!r} and {second.protocol!r}; evaluate both again")
    old, new = champion.items[metric], candidate.items[metric]
    lost, added = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    if lost or added:
        raise GateError(
            f"{metric}: the two models were measured on different items: {len(lost)} only on the champion"
            f"{f' (first: {lost[0]!r})' if lost else ''}, {len(added)} only on the candidate"
            f"{f' (first: {added[0]!r})' if added else ''}; evaluate both on the same ones"
        )
    if first.n != second.n:
        raise GateError(f"{metric}: {first.n} values behind the champion's score, {second.n} behind the candidate's")
    if not old:
        raise GateError(f"{metric}: expected items to compare, got none")
    for side, values in ((champion, old), (candidate, new)):
        empty = sorted(name for name, value in values.items() if value is None or not math.isfinite(value * value))
        if empty:
            raise GateError(
                f"{metric} of {side.model} has no finite value for {len(empty)} of {len(values)} items (first: "
                f"{empty[0]!r}); leave these items out of both evaluations"
            )


def _comparison(
    metric: str,
    margin: Margin,
    gains: Float64[np.ndarray, " n"],
    old: Mapping[str, float | None],
    new: Mapping[str, float | None],
    config: GateConfig,
    num_metrics: int,
) -> Comparison:
    base = Comparison(
        metric=metric,
        unit=margin.unit,
        n=len(gains),
        champion=_mean(old),
        candidate=_mean(new),
        gain=float(gains.mean()),
        low=None,
        high=None,
        noise=None,
        delta=margin.delta,
        num_needed=config.min_items,
        verdict="too_small",
    )
    if len(gains) < 2:
        return base
    worst = worst_loss(margin, old)
    found = judge(gains[:, None], np.array([margin.delta]), config, num_metrics=num_metrics, worst=np.array([worst]))
    verdicts: tuple[Verdict, ...] = ("worse", "too_small", "better")
    sure = float(found["sure"][0])
    needed = items_needed(len(gains), base.gain - sure, 2 * margin.delta, max(worst, float(np.abs(gains).max())))
    return base.replace(
        low=float(found["low"][0]),
        high=float(found["high"][0]),
        noise=float(found["noise"][0]),
        sure=sure,
        num_needed=max(config.min_items, needed),
        verdict=next((name for name in verdicts if found[name][0]), "passes"),
    )


def _loss(metric: str, item: str, old: Mapping[str, float | None], new: Mapping[str, float | None]) -> ItemLoss:
    before, after = old[item], new[item]
    assert before is not None
    assert after is not None
    return ItemLoss(metric=metric, id=item, champion=before, candidate=after)


def _mean(values: Mapping[str, float | None]) -> float:
    return math.fsum(value for value in values.values() if value is not None) / len(values)


def _short(value: float) -> str:
    return f"{value:.3g}"
