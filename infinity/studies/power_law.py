"""A power law through measured sizes, and the interval in which the mean of a larger size is expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from infinity.config import Config
from infinity.reporting.study import ContrastResult, StudyRow
from infinity.studies.judging import mean_and_interval
from infinity.studies.study import PowerLaw

MIN_SIZES = 3
"""Fewest different sizes that are fitted: a line through two has no spread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit(Config):
    """A line through logarithms: ln y = intercept + slope · ln x.

    Attributes:
        intercept: Value at x = 1.
        slope: Exponent of the law; negative where y falls.
        slope_half: Half of the 95 % interval of the slope.
        residual: Standard deviation of the points around the line.
        num_points: Number of points.
        square_x: Sum of squared distances of ln x from its mean.
    """

    intercept: float
    slope: float
    slope_half: float
    residual: float
    num_points: int
    mean_x: float
    square_x: float

    def at(self, x: float, *, num_new: int) -> tuple[float, float, float]:
        """Return the expected mean of ``num_new`` new values at x, and both ends of its 95 % interval."""
        place = math.log(x)
        centre = self.intercept + self.slope * place
        variance = 1 / num_new + 1 / self.num_points + (place - self.mean_x) ** 2 / self.square_x
        half = float(stdtrit(self.num_points - 2, 0.975)) * self.residual * math.sqrt(variance)
        return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def fit_power_law(points: Sequence[tuple[float, float]]) -> Fit:
    """Fit ln y = intercept + slope · ln x by least squares.

    Args:
        points: Points (x, y), both positive, of at least three different x.

    Raises:
        ValueError: There are too few sizes, or a value is not positive.

    Example:
        >>> fit = fit_power_law([(1.0, 8.0), (10.0, 4.0), (100.0, 2.0)])
        >>> round(fit.slope, 3), round(fit.at(1000.0, num_new=1)[0], 3)
        (-0.301, 1.0)
    """
    if any(x <= 0 or y <= 0 for x, y in points):
        raise ValueError("power law: expected positive numbers, got one that is not")
    if len({x for x, _ in points}) < MIN_SIZES:
        raise ValueError(f"power law: expected at least {MIN_SIZES} sizes, got {len({x for x, _ in points})}")
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    square_x = math.fsum((x - mean_x) ** 2 for x in xs)
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / square_x
    intercept = mean_y - slope * mean_x
    errors = math.fsum((y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    residual = math.sqrt(errors / (len(xs) - 2))
    half = float(stdtrit(len(xs) - 2, 0.975)) * residual / math.sqrt(square_x)
    return Fit(
        intercept=intercept,
        slope=slope,
        slope_half=half,
        residual=residual,
        num_points=len(xs),
        mean_x=mean_x,
        square_x=square_x,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction(Config):
    """The prediction of a held-out size, written down before it is trained.

    Attributes:
        num_new: Number of seeds over which its mean is expected.
        fit: Law through the other sizes.
    """

    arm: str
    num_new: int
    fit: Fit


def predict(law: PowerLaw, rows: Sequence[StudyRow], *, num_new: int) -> Prediction:
    """Fit the law to all arms but the held-out one.

    Raises:
        ValueError: There are too few sizes.
    """
    points = [
        (row.values[law.x], row.values[law.metric])
        for row in rows
        if row.arm != law.held_out and law.x in row.values and law.metric in row.values
    ]
    return Prediction(arm=law.held_out, num_new=num_new, fit=fit_power_law(points))


def judge_prediction(law: PowerLaw, prediction: Prediction | None, rows: Sequence[StudyRow]) -> ContrastResult:
    """Compare the measured mean of the held-out arm with the interval that was written down before."""
    measured = {row.seed: row for row in rows if row.arm == law.held_out and law.metric in row.values}
    found = [row.values[law.metric] for row in measured.values()]
    name = f"{law.held_out} predicted by the power law of the other sizes"
    if prediction is None or not found:
        why = "no prediction could be made" if prediction is None else "the held-out arm was not measured"
        return ContrastResult(
            name=name, rule=f"{law.metric} within its predicted interval", per_seed={}, mean=None, low=None, high=None,
            sign_p=None, verdict="not told apart", why=why,
        )  # fmt: skip
    x = next(iter(measured.values())).values[law.x]
    expected, low, high = prediction.fit.at(x, num_new=prediction.num_new)
    mean, half = mean_and_interval(found)
    slope, slope_half = prediction.fit.slope, prediction.fit.slope_half
    return ContrastResult(
        name=name,
        rule=f"mean {law.metric} between {low:.4g} and {high:.4g}, expected {expected:.4g}, written down before",
        per_seed={str(seed): row.values[law.metric] for seed, row in measured.items()},
        mean=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        sign_p=None,
        verdict="holds" if low <= mean <= high else "does not hold",
        why=f"exponent {slope:.4g} ± {slope_half:.2g} over {prediction.fit.num_points} points",
    )
