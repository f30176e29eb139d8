"""Fréchet distance between two clouds of features, from sums that add up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class GaussianStats:
    """Count, sum and sum of outer products of feature rows, in float64; states of disjoint rows add up."""

    count: int
    total: Float64[Tensor, " D"]
    outer: Float64[Tensor, "D D"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n D"]) -> GaussianStats:
        """The state of some rows, which are taken to float64 before anything is added."""
        wide = rows.double()
        return cls(len(wide), wide.sum(dim=0), wide.T @ wide)

    @classmethod
    def empty(cls, width: int) -> GaussianStats:
        """The state of no rows."""
        zeros = torch.zeros(width, dtype=torch.float64)
        return cls(0, zeros, zeros.new_zeros(width, width))

    def __add__(self, other: GaussianStats) -> GaussianStats:
        return GaussianStats(self.count + other.count, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> Float64[Tensor, " D"]:
        """Mean row."""
        self._check(1)
        return self.total / self.count

    @property
    def covariance(self) -> Float64[Tensor, "D D"]:
        """Sample covariance, divided by the count less one."""
        self._check(2)
        return (self.outer - torch.outer(self.total, self.total) / self.count) / (self.count - 1)

    def _check(self, least: int) -> None:
        if self.count < least:
            raise ValueError(f"GaussianStats: expected at least {least} rows, got {self.count}")


def frechet_distance(a: GaussianStats, b: GaussianStats) -> float:
    """Squared Fréchet distance of the two normal distributions with the given means and covariances.

    |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)); the last trace is the sum of the square roots of the
    eigenvalues of the symmetric F^T S_b F, where S_a = F F^T. The result is not clamped: of equal clouds it may be
    -1e-7. Biased upwards for few rows, so compare at equal counts only.

    Raises:
        ValueError: Widths differ, or a cloud has less than two rows.
    """
    if a.total.shape != b.total.shape:
        raise ValueError(f"frechet_distance: expected equal widths, got {len(a.total)} and {len(b.total)}")
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
