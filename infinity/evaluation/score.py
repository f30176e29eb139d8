"""A score: what was measured, on how much, with which uncertainty, and by which protocol."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

from infinity.config import Config

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""

_METRIC = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Score(Config):
    """One score of a report.

    Example:
        >>> score = Score.share("geneval.counting", correct=30, n=80, protocol="geneval/1")
        >>> score.value, round(score.low, 3), round(score.high, 3)
        (0.375, 0.277, 0.485)

    Args:
        metric: Slug with dots, for example "scene_geneval.overall".
        value: The score, or None when it was not measured; ``note`` then says why.
        unit: Unit of the value: "share" (0 to 1), "dB", "nats", "pictures", "" for a number without one.
        n: Size of the sample behind the value; 0 when not measured.
        protocol: How it was measured, with the version of the procedure; scores compare only under one protocol.
        low: Lower end of the 95 % interval in the value's unit; None when no interval is known.
        high: Upper end of the 95 % interval.
        note: What a reader must know besides the number.
    """

    metric: str
    value: float | None
    unit: str
    n: int
    protocol: str
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not _METRIC.fullmatch(self.metric):
            raise ValueError(f"Score.metric: expected lower-case words joined by dots, got {self.metric!r}")
        if self.n < 0:
            raise ValueError(f"Score.n of {self.metric}: expected at least 0, got {self.n}")
        if (self.low is None) != (self.high is None):
            raise ValueError(
                f"Score of {self.metric}: expected both ends of the interval or none, got {self.low} and {self.high}"
            )
        if self.value is None and (not self.note or self.low is not None):
            raise ValueError(f"Score of {self.metric}: a figure that was not measured needs a note and has no interval")

    @classmethod
    def share(cls, metric: str, correct: int, n: int, *, protocol: str, note: str = "") -> Self:
        """Return a share of successes with its Wilson interval; not measured when ``n`` is zero."""
        if n == 0:
            return cls.not_measured(metric, "share", protocol=protocol, reason=note or "there was nothing to count")
        low, high = wilson_interval(correct, n)
        return cls(
            metric=metric, value=correct / n, unit="share", n=n, protocol=protocol, low=low, high=high, note=note
        )

    @classmethod
    def resampled(
        cls,
        metric: str,
        value: float,
        unit: str,
        n: int,
        interval: tuple[float, float] | None,
        *,
        protocol: str,
        note: str,
    ) -> Self:
        """Return a score whose interval comes from resampling prompts; None where resampling says nothing."""
        low, high = interval or (None, None)
        note = join_notes(note, "interval from resampling prompts" if interval else "")
        return cls(metric=metric, value=value, unit=unit, n=n, protocol=protocol, low=low, high=high, note=note)

    @classmethod
    def not_measured(cls, metric: str, unit: str, *, protocol: str, reason: str) -> Self:
        """Return a score without value, with the reason, so that the metric is not silently absent."""
        return cls(metric=metric, value=None, unit=unit, n=0, protocol=protocol, note=f"not measured: {reason}")


def join_notes(*notes: str) -> str:
    """Return all notes that are not empty, joined."""
    return "; ".join(note for note in notes if note)


def slug(words: str) -> str:
    """Return words as one word of a metric's name: "entity - whole" becomes "entity_whole"."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "none"


def benchmark_of(metric: str) -> str:
    """Return the name of the benchmark that a metric belongs to; one of corrected rules belongs to the same one.

    Example:
        >>> benchmark_of("dpg_corrected_rewritten.overall"), benchmark_of("judge_dsg.group.entity")
        ('dpg_rewritten', 'judge_dsg')
    """
    return metric.partition(".")[0].replace("_corrected", "")


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a binomial share by Wilson's method, which stays inside [0, 1] near its ends too.

    Raises:
        ValueError: Not 0 <= correct <= n, or n is zero.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"expected 0 <= correct <= n and n >= 1, got {correct} of {n}")
    share, z2 = correct / n, Z_95 * Z_95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At both ends the formula gives exactly 0 or 1, apart from rounding.
    return (0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half)
