"""How much worse a metric may become before it counts: the margins of the gate, and its other settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, Self

from infinity.config import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin(Config):
    """How much worse a metric may become.

    Args:
        metric: Name of the metric, or a pattern with ``*``; of several that match the first counts.
        delta: Largest loss that is of no consequence, in the metric's unit.
        unit: Unit of the metric, as its score states it; another unit is refused.
        better: Which way is better.
    """

    metric: str
    delta: float
    unit: str
    better: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f"Margin of {self.metric}: expected a delta above 0, got {self.delta}")


MARGINS = (
    Margin(metric="scene_geneval.overall", delta=0.08, unit="share"),
    Margin(metric="scene_geneval.*", delta=0.25, unit="share"),  # 20 prompts a task decide no finer
    Margin(metric="geneval*.overall", delta=0.04, unit="share"),  # with rewritten prompts too
    Margin(metric="geneval*", delta=0.1, unit="share"),  # 80 to 100 prompts a task
    Margin(metric="dpg*.overall", delta=1.5, unit="percent"),
    Margin(metric="clip_score*.overall", delta=0.3, unit=""),
    Margin(metric="image_reward*.overall", delta=0.05, unit=""),
    Margin(metric="hps*.overall", delta=0.3, unit=""),
    Margin(metric="reconstruction.psnr_db", delta=0.2, unit="dB"),
    Margin(metric="validation.loss", delta=0.005, unit="nats", better="lower"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig(Config):
    """What blocks a promotion.

    Args:
        margins: By metric. Metrics without a margin are shown and block nothing.
        confidence: Of the intervals; a model that changed nothing is blocked in half of the rest of cases.
        min_items: Below this number of items a metric is too small to decide, whatever they say; a task of a benchmark
            with fewer is left to the benchmark's overall metric.
        num_resamples: Bootstrap replicates.
        seed: Of the resampling; the same input gives the same decision.
        floors: By metric (or pattern with ``*``) what no champion may be worse than, whatever the champion has; for any
            metric, with a margin or without. Of several that match the first counts.
    """

    margins: tuple[Margin, ...] = MARGINS
    confidence: float = 0.95
    min_items: int = 10
    num_resamples: int = 10_000
    seed: int = 20241205
    floors: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1.0:
            raise ValueError(f"GateConfig.confidence: expected between 0.5 and 1, got {self.confidence}")
        if self.min_items < 2 or self.num_resamples < 1000:
            raise ValueError(
                "GateConfig: expected min_items of at least 2 and num_resamples of at least 1000, got "
                f"{self.min_items} and {self.num_resamples}"
            )
        for metric, floor in self.floors.items():
            if not math.isfinite(floor):
                raise ValueError(f"GateConfig.floors of {metric}: expected a finite number, got {floor}")

    def with_deltas(self, deltas: Mapping[str, float]) -> Self:
        """The same gate with other margins; unit and direction of a metric stay those it has here.

        Raises:
            ValueError: A metric without a margin here, or a margin that is not above 0.
        """
        changed = []
        for metric, delta in deltas.items():
            if (margin := self.margin(metric)) is None:
                known = ", ".join(margin.metric for margin in self.margins)
                raise ValueError(f"deltas: no metric {metric!r} is gated; expected one of {known}")
            changed.append(margin.replace(metric=metric, delta=delta))
        return self.replace(margins=(*changed, *self.margins))

    def margin(self, metric: str) -> Margin | None:
        """The margin of a metric, or None where it has none."""
        return next((margin for margin in self.margins if fnmatchcase(metric, margin.metric)), None)
