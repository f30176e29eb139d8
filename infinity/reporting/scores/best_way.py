"""The best sampling settings of a sweep by the mean over seeds, and those that do not differ from them reliably."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infinity.evaluation.promotion.leaderboard import is_lower_better
from infinity.evaluation.score import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One choice of sampling settings with the scores of its seeds.

    Attributes:
        name: Guidance, strength and temperature in words.
        scores: Scores of one metric, one per seed, all measured.
    """

    name: str
    scores: tuple[Score, ...]

    @property
    def mean(self) -> float:
        """Mean of the scores over the seeds."""
        return math.fsum(score.value for score in self.scores if score.value is not None) / len(self.scores)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval's width for one seed, since all seeds draw the same prompts; None if unknown."""
        halves = [
            (score.high - score.low) / 2 for score in self.scores if score.low is not None and score.high is not None
        ]
        return math.fsum(halves) / len(halves) if halves else None


def best_way(ways: Sequence[Way], metric: str) -> str:
    """Return a sentence with the best settings, and the settings that may be as good.

    Settings do not differ reliably from the best if the difference of their means is within the 95 % interval of such a
    difference. Where no score has an interval, the sentence says so.
    """
    measured = [way for way in ways if way.scores]
    if not measured:
        return f"No way of drawing has a value of {metric}."
    sign = -1.0 if is_lower_better(metric) else 1.0
    best = max(measured, key=lambda way: sign * way.mean)
    seeds = len(best.scores)
    start = f"Best {metric} by the mean over {seeds} seed{'s' if seeds > 1 else ''}: {best.name} ({best.mean:.4g})"
    others = [way for way in measured if way is not best]
    if not others:
        return f"{start}."
    if best.half_width is None:
        return f"{start}. Its scores have no interval, so it is unknown whether others are as good."
    near = [way.name for way in others if sign * (best.mean - way.mean) <= _reach(best, way)]
    if not near:
        return f"{start}, clearly better than all others."
    return f"{start}; not clearly better than {', '.join(near)}."


def _reach(one: Way, other: Way) -> float:
    """Return by how much two means may differ by chance."""
    return math.hypot(one.half_width or 0.0, other.half_width or 0.0)
