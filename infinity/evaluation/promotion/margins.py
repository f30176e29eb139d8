"""Margins of the gate, by which a metric may become worse, and the gate's other settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from infinity.config import Config
from infinity.ranges import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin(Config):
    """Largest acceptable loss of a metric.

    Args:
        metric: Name of the metric, or a pattern with ``*``; the first margin that matches counts.
        delta: Largest acceptable loss, in the metric's unit.
        unit: Unit of the metric, as in its score; a score with another unit is refused.
        better: Whether higher or lower values are better.
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
    Margin(metric="scene_geneval.*", delta=0.25, unit="share"),  # 20 prompts per task decide no finer
    Margin(metric="geneval*.overall", delta=0.04, unit="share"),  # with rewritten prompts too
    Margin(metric="geneval*", delta=0.1, unit="share"),  # 80 to 100 prompts per task
    Margin(metric="dpg*.overall", delta=1.5, unit="percent"),
    Margin(metric="clip_score*.overall", delta=0.3, unit=""),
    Margin(metric="image_reward*.overall", delta=0.05, unit=""),
    Margin(metric="hps*.overall", delta=0.3, unit=""),
    Margin(metric="pick_score*.overall", delta=0.2, unit=""),
    Margin(metric="diversity*.overall", delta=0.02, unit=""),
    Margin(metric="judge_*.overall", delta=3.0, unit="percent"),  # 800 to 1,600 prompts
    Margin(metric="text_rendering*.overall", delta=0.05, unit="share"),
    Margin(metric="reconstruction.psnr_db", delta=0.2, unit="dB"),
    Margin(metric="validation.loss", delta=0.005, unit="nats", better="lower"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig(Config):
    """Settings of the gate.

    Example:
        >>> GateConfig().margin("geneval.two_object").delta
        0.1

    Args:
        margins: Margins of the metrics. A metric without a margin is shown and blocks nothing.
        confidence: Confidence of the intervals; an unchanged model is blocked in half of the remaining cases.
        min_items: Smallest number of items that can decide a metric; a benchmark's task with fewer items is left to the
            overall metric.
        num_resamples: Number of bootstrap replicates.
        seed: Seed of the resampling; the same input gives the same decision.
        floors: Value by metric (or pattern with ``*``) that no champion may be worse than, whatever the present
            champion reaches; the metric may have a margin or not. The first pattern that matches counts.
    """

    margins: tuple[Margin, ...] = MARGINS
    confidence: Annotated[float, Range(above=0.5, below=1)] = 0.95
    min_items: Annotated[int, Range(2)] = 10
    num_resamples: Annotated[int, Range(1000)] = 10_000
    seed: int = 20241205
    floors: dict[str, float] = field(default_factory=dict)

    def with_deltas(self, deltas: Mapping[str, float]) -> Self:
        """Return the same gate with other margins; unit and direction of a metric stay the same.

        Raises:
            ValueError: A metric has no margin here, or a margin is not above 0.
        """
        changed = []
        for metric, delta in deltas.items():
            if (margin := self.margin(metric)) is None:
                known = ", ".join(margin.metric for margin in self.margins)
                raise ValueError(f"deltas: no metric {metric!r} is gated; expected one of {known}")
            changed.append(margin.replace(metric=metric, delta=delta))
        return self.replace(margins=(*changed, *self.margins))

    def margin(self, metric: str) -> Margin | None:
        """Return the margin of a metric, or None where it has none."""
        return next((margin for margin in self.margins if fnmatchcase(metric, margin.metric)), None)
