"""Fréchet distance between two clouds of features, from sums that add up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

_COARSE_BITS, _FINE_BITS = 6, 24
"""Features are kept to 2**-24 and split at 2**-6. Products of the parts are multiples of small units, and their sums
stay below 2**53 units: every sum is exact, so that it does not depend on who added what first."""

LIMIT = 2.0**12
"""Largest magnitude of a feature. Those of Inception stay below a few dozen."""

_MOST_COARSE = 2.0 ** (53 - 2 * _COARSE_BITS - 1)
_MOST_MIXED = 2.0 ** (53 - _COARSE_BITS - _FINE_BITS)
_MOST_FINE = 2.0 ** (53 - 2 * _FINE_BITS)
"""Sums of squares (and their geometric mean) below which all sums of products, and all sums on the way, are exact: none
is larger than the larger of the two sums of squares (Cauchy and Schwarz). Features of 1.5 million pictures stay below,
those of ImageNet's 1.28 million among them: remainders of 2**-7 at most have squares of 2**-14 / 3 on the mean."""


@dataclass(frozen=True, slots=True, eq=False)
class GaussianStats:
    """Count, sums and sums of outer products of feature rows, exactly: states of disjoint rows add up in any grouping.

    A row is x = c + f, with c a multiple of 2**-6 and f of 2**-24 at most 2**-7 large (what float32 holds of a number
    near 1). Three matrices of float64: 101 MB for 2048 features.

    Attributes:
        count: Rows.
        coarse_total: Sum of c.
        fine_total: Sum of f.
        coarse: Sum of c c^T.
        mixed: Sum of c f^T.
        fine: Sum of f f^T.
    """

    count: int
    coarse_total: Float64[Tensor, " D"]
    fine_total: Float64[Tensor, " D"]
    coarse: Float64[Tensor, "D D"]
    mixed: Float64[Tensor, "D D"]
    fine: Float64[Tensor, "D D"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n D"]) -> GaussianStats:
        """The state of some rows.

        Raises:
            ValueError: A value is not finite or beyond 4096, or there are more rows than sums stay exact for.
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
        """The state of no rows."""
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
        """Features of a row."""
        return len(self.coarse_total)

    @property
    def total(self) -> Float64[Tensor, " D"]:
        """Sum of the rows."""
        return self.coarse_total + self.fine_total

    @property
    def mean(self) -> Float64[Tensor, " D"]:
        """Mean row."""
        self._check(1)
        return self.total / self.count

    @property
    def covariance(self) -> Float64[Tensor, "D D"]:
        """Sample covariance, divided by the count less one."""
        self._check(2)
        outer = self.coarse + (self.mixed + self.mixed.T) + self.fine
        return (outer - torch.outer(self.total, self.total) / self.count) / (self.count - 1)

    def moments(self) -> Moments:
        """Mean and covariance: all that a Fréchet distance needs.

        Raises:
            ValueError: Less than two rows.
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
    """Squared Fréchet distance of the two normal distributions with the given means and covariances.

    |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)); the last trace is the sum of the square roots of the
    eigenvalues of the symmetric F^T S_b F, where S_a = F F^T. The result is not clamped: of equal clouds it may be
    -1e-7. Biased upwards for few rows, so compare at equal counts only.

    Raises:
        ValueError: Widths differ, or a cloud has less than two rows.
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
    """F with F F^T equal to a positive semi-definite matrix of rank r.

    Eigenvalues within rounding of zero are left out: they are noise, and fewer rows than features leave many of them.
    """
    values, vectors = torch.linalg.eigh(symmetric)
    real = values > values.max().clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    factor: Tensor = vectors[:, real] * values[real].sqrt()
    return factor
