"""Fréchet distance between two sets of features, from sums that add up exactly (decision 20)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

_COARSE_BITS, _FINE_BITS = 6, 24
"""Features are rounded to 2**-24 and split at 2**-6. Products of the parts are multiples of small units, and their
sums stay below 2**53 units. So every sum is exact, and does not depend on the order of addition (decision 20)."""

LIMIT = 2.0**12
"""Largest magnitude of a feature. Those of Inception stay below a few dozen."""

_MOST_COARSE = 2.0 ** (53 - 2 * _COARSE_BITS - 1)
_MOST_MIXED = 2.0 ** (53 - _COARSE_BITS - _FINE_BITS)
_MOST_FINE = 2.0 ** (53 - 2 * _FINE_BITS)
"""Bounds on sums of squares (and on their geometric mean) below which all sums of products are exact, and all
partial sums too: by Cauchy and Schwarz none is larger than the larger of the two sums of squares. Features of 1.5
million pictures stay below, so ImageNet's 1.28 million fit: remainders of at most 2**-7 have squares of 2**-14 / 3 on
average."""


@dataclass(frozen=True, slots=True, eq=False)
class GaussianStats:
    """Count, sums and sums of outer products of feature rows. States of disjoint rows add up exactly, in any grouping.

    A row is x = c + f. The coarse part c is a multiple of 2**-6; the fine part f is a multiple of 2**-24 and at most
    2**-7 large, which is what float32 holds of a number near 1. The three matrices take 101 MB for 2048 features.

    Attributes:
        count: Number of rows.
        coarse_total: Sum of c.
        fine_total: Sum of f.
        coarse: Sum of c c^T.
        mixed: Sum of c f^T.
        fine: Sum of f f^T.

    Example:
        >>> rows = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
        >>> whole, parts = GaussianStats.of(rows), GaussianStats.of(rows[:1]) + GaussianStats.of(rows[1:])
        >>> whole.mean.tolist(), whole.covariance.tolist() == parts.covariance.tolist()
        ([2.0, 2.0], True)
    """

    count: int
    coarse_total: Float64[Tensor, " D"]
    fine_total: Float64[Tensor, " D"]
    coarse: Float64[Tensor, "D D"]
    mixed: Float64[Tensor, "D D"]
    fine: Float64[Tensor, "D D"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n D"]) -> GaussianStats:
        """Return the state of some rows.

        Raises:
            ValueError: A value is not finite or not below 4096, or there are too many rows for exact sums.
        """
        wide = rows.double()
        if len(wide) and not float(wide.abs().max()) < LIMIT:
            raise ValueError(f"GaussianStats: expected finite features below {LIMIT:g}, got {float(wide.abs().max())}")
        wide = _to_multiple(wide, _FINE_BITS)
        coarse = _to_multiple(wide, _COARSE_BITS)
        fine = wide - coarse
        return cls(
            len(wide), coarse.sum(dim=0), fine.sum(dim=0), coarse.T @ coarse, coarse.T @ fine, fine.T @ fine
        )._exact()

    @classmethod
    def empty(cls, width: int) -> GaussianStats:
        """Return the state of no rows."""
        row, square = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
        return cls(0, row, row, square, square, square)

    def __add__(self, other: GaussianStats) -> GaussianStats:
        if self.width != other.width:
            raise ValueError(f"GaussianStats: expected equal widths, got {self.width} and {other.width}")
        return GaussianStats(
            self.count + other.count,
            self.coarse_total + other.coarse_total,
            self.fine_total + other.fine_total,
            self.coarse + other.coarse,
            self.mixed + other.mixed,
            self.fine + other.fine,
        )._exact()

    @property
    def width(self) -> int:
        """Number of features per row."""
        return len(self.coarse_total)

    @property
    def total(self) -> Float64[Tensor, " D"]:
        """Sum of all rows of features."""
        return self.coarse_total + self.fine_total

    @property
    def mean(self) -> Float64[Tensor, " D"]:
        """Mean of the rows of features."""
        self._check(1)
        return self.total / self.count

    @property
    def covariance(self) -> Float64[Tensor, "D D"]:
        """Sample covariance: the divisor is the count minus one."""
        self._check(2)
        outer = self.coarse + (self.mixed + self.mixed.T) + self.fine
        return (outer - torch.outer(self.total, self.total) / self.count) / (self.count - 1)

    def moments(self) -> Moments:
        """Return mean and covariance, which are all that a Fréchet distance needs.

        Raises:
            ValueError: Fewer than two rows.
        """
        return Moments(self.count, self.mean, self.covariance)

    def _check(self, least: int) -> None:
        if self.count < least:
            raise ValueError(f"GaussianStats: expected at least {least} rows, got {self.count}")

    def _exact(self) -> GaussianStats:
        if not self.width:
            return self
        coarse, fine = float(self.coarse.diagonal().max()), float(self.fine.diagonal().max())
        if coarse >= _MOST_COARSE or fine >= _MOST_FINE or coarse * fine >= _MOST_MIXED**2:
            raise ValueError(
                f"GaussianStats: sums are exact for squares that add up to {_MOST_COARSE:g}, and those of remainders "
                f"to {_MOST_FINE:g}, got {coarse:g} and {fine:g} of {self.count} rows; use fewer rows"
            )
        return self


def _to_multiple(values: Float64[Tensor, "n D"], bits: int) -> Float64[Tensor, "n D"]:
    """The nearest multiple of 2**-bits."""
    return torch.round(values * 2.0**bits) * 2.0**-bits


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and covariance of ``count`` rows; the count of a published file may be unknown."""

    count: int | None
    mean: Float64[Tensor, " D"]
    covariance: Float64[Tensor, "D D"]


def frechet_distance(a: GaussianStats | Moments, b: GaussianStats | Moments) -> float:
    """Return the squared Fréchet distance of the two normal distributions with the given means and covariances.

    |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)). The last trace is the sum of the square roots of the
    eigenvalues of the symmetric matrix F^T S_b F, where S_a = F F^T. The result is not clamped: for equal sets it may
    be -1e-7. It is biased upwards for few rows, so compare at equal counts only.

    Example:
        >>> rows = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
        >>> a, b = GaussianStats.of(rows), GaussianStats.of(rows + 3)
        >>> round(frechet_distance(a, b), 6)
        18.0

    Raises:
        ValueError: Widths differ, or a set has fewer than two rows.
    """
    a, b = (cloud.moments() if isinstance(cloud, GaussianStats) else cloud for cloud in (a, b))
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"frechet_distance: expected equal widths, got {len(a.mean)} and {len(b.mean)}")
    covariance_a, covariance_b = a.covariance, b.covariance
    offset = a.mean - b.mean
    factor = _factor(covariance_a)
    eigenvalues = torch.linalg.eigvalsh(factor.T @ covariance_b @ factor)
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    return float(offset @ offset + covariance_a.trace() + covariance_b.trace() - 2 * cross)


def _factor(symmetric: Float64[Tensor, "D D"]) -> Float64[Tensor, "D r"]:
    """Return F with F F^T equal to a positive semi-definite matrix of rank r.

    Eigenvalues within rounding of zero are left out: they are noise. With fewer rows than features there are many.
    """
    values, vectors = torch.linalg.eigh(symmetric)
    real = values > values.max().clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    factor: Tensor = vectors[:, real] * values[real].sqrt()
    return factor
