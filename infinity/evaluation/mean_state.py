"""A mean that adds up: count, sum and sum of squares."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from infinity.evaluation.score import Z_95, Score


@dataclass(frozen=True, slots=True)
class MeanState:
    """Float64 sums of a sample; states of disjoint parts add up to the state of all.

    Example:
        >>> state = MeanState.of([1.0, 2.0]) + MeanState.of([6.0])
        >>> state.count, state.mean
        (3, 3.0)
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> MeanState:
        """Return the state of some values."""
        listed = [float(value) for value in values]
        return cls(len(listed), math.fsum(listed), math.fsum(value * value for value in listed))

    def __add__(self, other: MeanState) -> MeanState:
        return MeanState(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """Mean of the sample.

        Raises:
            ValueError: The sample is empty.
        """
        if self.count == 0:
            raise ValueError("expected at least one value, got none")
        return self.total / self.count

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean, from the sample variance; None below two values."""
        if self.count < 2:
            return None
        variance = (self.squares - self.total * self.total / self.count) / (self.count - 1)
        return math.sqrt(max(variance, 0.0) / self.count)

    def score(self, metric: str, unit: str, *, protocol: str, note: str = "") -> Score:
        """Return the mean with its normal 95 % interval; not measured without values, or if the mean is infinite."""
        if self.count == 0:
            return Score.not_measured(metric, unit, protocol=protocol, reason=note or "there was nothing to measure")
        if not math.isfinite(self.total):
            reason = f"the mean over {self.count} is infinite (a picture equals its original)"
            return Score.not_measured(metric, unit, protocol=protocol, reason=reason)
        error = self.standard_error
        low, high = (None, None) if error is None else (self.mean - Z_95 * error, self.mean + Z_95 * error)
        return Score(
            metric=metric, value=self.mean, unit=unit, n=self.count, protocol=protocol, low=low, high=high, note=note
        )
