"""Metrics over rows of features that are not sums: KID, Inception Score, precision and recall, sliced distance.

Each is a function of rows in a stated order and a seed. So any number of workers that return the same rows in the same
order give the same value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.random import RandomState
from torch import Tensor

from infinity.config import Config
from infinity.ranges import Count, Range

Rows = Float[Tensor, "n D"]
_CHUNK_VALUES = 8_000_000
"""Entries of a distance matrix that are held at once: 64 MB of float64."""


@dataclass(frozen=True, slots=True)
class MeanAndDeviation:
    """Mean and population standard deviation over subsets or splits."""

    mean: float
    deviation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class KidConfig(Config):
    """Kernel Inception distance (arXiv:1801.01401): unbiased squared maximum mean discrepancy over random subsets.

    Args:
        subsets: Number of random subsets.
        subset_size: Rows per subset that are drawn from each set, without repetition.
        kernel: (x.y * gamma + offset) ** degree, or exp(-|x - y|^2 / (2 sigma^2)).
        degree: Degree of the polynomial.
        gamma: Factor of the polynomial; None is one over the width.
        offset: Constant of the polynomial.
        sigma: Width of the Gaussian.
    """

    subsets: Count = 100
    subset_size: Annotated[int, Range(2)] = 1000
    kernel: Literal["polynomial", "gaussian"] = "polynomial"
    degree: int = 3
    gamma: float | None = None
    offset: float = 1.0
    sigma: float = 10.0
    seed: int = 2020

    @property
    def protocol(self) -> str:
        """The configuration in words."""
        kernel = f"(x.y * {self.gamma or '1/width'} + {self.offset:g})^{self.degree}"
        if self.kernel == "gaussian":
            kernel = f"exp(-|x-y|^2 / (2 * {self.sigma:g}^2))"
        return f"unbiased, {self.subsets} subsets of {self.subset_size}, kernel {kernel}, seed {self.seed}"


def kernel_distance(
    a: Rows, b: Rows, config: KidConfig, *, random: RandomState | None = None, second_first: bool = False
) -> MeanAndDeviation:
    """Return KID of two sets of features; it may be negative, since it is unbiased.

    Example:
        >>> near, far = torch.zeros(4, 2), torch.ones(4, 2)
        >>> kernel_distance(near, far, KidConfig(subsets=3, subset_size=2)).mean
        7.0

    Args:
        a: Rows of the first set.
        b: Rows of the second set, of the same width.
        config: Kernel and subsets.
        random: Generator that draws the subsets; None starts from the config's seed.
        second_first: Whether a subset's rows of ``b`` are drawn first, as in clean-fid; False is the order of
            torch-fidelity.

    Raises:
        ValueError: Widths differ, or a set has fewer rows than a subset.
    """
    _check_widths("kernel_distance", a, b)
    if min(len(a), len(b)) < config.subset_size:
        raise ValueError(
            f"kernel_distance: expected at least {config.subset_size} rows in each cloud (the size of a subset), got "
            f"{len(a)} and {len(b)}; choose a smaller subset_size and state it"
        )
    draw = random or RandomState(config.seed)
    kernel, size = _kernel(config, a.shape[1]), config.subset_size
    values = []
    for _ in range(config.subsets):
        clouds = (b, a) if second_first else (a, b)
        chosen = [cloud[torch.from_numpy(draw.choice(len(cloud), size, replace=False))].double() for cloud in clouds]
        x, y = reversed(chosen) if second_first else chosen
        within = sum(float(k.sum() - k.diagonal().sum()) for k in (kernel(x, x), kernel(y, y)))
        values.append(within / (size * (size - 1)) - 2 * float(kernel(x, y).mean()))
    return MeanAndDeviation(float(np.mean(values)), float(np.std(values)))


def _kernel(config: KidConfig, width: int) -> Callable[[Tensor, Tensor], Tensor]:
    gamma = 1 / width if config.gamma is None else config.gamma

    def polynomial(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T * gamma + config.offset) ** config.degree

    def gaussian(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-_squared_distances(x, y) / (2 * config.sigma**2))

    return gaussian if config.kernel == "gaussian" else polynomial


def inception_score(logits: Rows, *, splits: int = 10, shuffle: bool = True, seed: int = 2020) -> MeanAndDeviation:
    """Return exp of the mean divergence between a picture's classes and those of its split (arXiv:1606.03498).

    Args:
        logits: Class scores of every picture, before softmax; torch-fidelity feeds those without bias.
        splits: Number of parts; split i is rows i * n // splits to (i + 1) * n // splits.
        shuffle: Whether rows are shuffled first.

    Raises:
        ValueError: Fewer rows than splits.
    """
    count = len(logits)
    if splits < 1 or count < splits:
        raise ValueError(f"inception_score: expected at least one row a split, got {count} rows for {splits} splits")
    order = RandomState(seed).permutation(count) if shuffle else np.arange(count)
    logs = torch.log_softmax(logits[torch.from_numpy(order)].double(), dim=1)
    scores = []
    for split in range(splits):
        part = logs[split * count // splits : (split + 1) * count // splits]
        shares = part.exp()
        mean = shares.mean(dim=0, keepdim=True)
        # A class that no picture has adds nothing: 0 log 0 is 0.
        divergence = (shares * (part - mean.log()).nan_to_num(0.0, 0.0, 0.0)).sum(dim=1)
        scores.append(float(divergence.mean().exp()))
    return MeanAndDeviation(float(np.mean(scores)), float(np.std(scores)))


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Shares of rows that lie inside the other set's balls (arXiv:1904.06991)."""

    precision: float
    recall: float

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / max(1e-5, self.precision + self.recall)


def precision_recall(generated: Rows, real: Rows, *, neighbours: int = 3) -> PrecisionRecall:
    """Return the share of generated rows inside any ball of a real row (precision), and the other way round (recall).

    Example:
        >>> real, generated = torch.arange(6.0)[:, None], torch.tensor([[0.5], [1.5], [90.0], [91.0]])
        >>> precision_recall(generated, real, neighbours=1)
        PrecisionRecall(precision=0.5, recall=0.5)

    The ball of a row reaches to its nearest neighbour number ``neighbours``, inclusively, not counting the row itself.

    Raises:
        ValueError: Widths differ, or a set has too few rows for this number of neighbours.
    """
    _check_widths("precision_recall", generated, real)
    if neighbours < 1 or min(len(generated), len(real)) <= neighbours:
        raise ValueError(
            f"precision_recall: expected more than {neighbours} rows in each cloud (the neighbours of a row), got "
            f"{len(generated)} and {len(real)}"
        )
    return PrecisionRecall(
        precision=_share_inside(generated, real, neighbours), recall=_share_inside(real, generated, neighbours)
    )


def _share_inside(rows: Rows, centres: Rows, neighbours: int) -> float:
    rows, centres = rows.double(), centres.double()
    step = max(1, _CHUNK_VALUES // len(centres))
    radii = torch.cat([torch.cdist(part, centres).kthvalue(neighbours + 1).values for part in centres.split(step)])
    inside = torch.cat([(torch.cdist(part, centres) <= radii).any(dim=1) for part in rows.split(step)])
    return float(inside.double().mean())


def sliced_distance(a: Rows, b: Rows, *, projections: int = 1000, seed: int = 2020) -> float:
    """Return the Monge Inception distance: mean squared gap of sorted random projections, times 3 * width.

    The larger set is thinned to the size of the smaller one first.

    Raises:
        ValueError: Widths differ.
    """
    _check_widths("sliced_distance", a, b)
    generator = torch.Generator().manual_seed(seed)
    count = min(len(a), len(b))
    a, b = (
        rows if len(rows) == count else rows[torch.randperm(len(rows), generator=generator)[:count]] for rows in (a, b)
    )
    directions = torch.randn(projections, a.shape[1], generator=generator)
    directions = (directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)).double()
    gaps = [(rows.double() @ directions.T).sort(dim=0).values for rows in (a, b)]
    return 3.0 * a.shape[1] * float(((gaps[0] - gaps[1]) ** 2).mean())


def _squared_distances(x: Float64[Tensor, "n D"], y: Float64[Tensor, "m D"]) -> Float64[Tensor, "n m"]:
    distances: Tensor = torch.cdist(x, y)
    return distances**2


def _check_widths(what: str, a: Rows, b: Rows) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{what}: expected clouds of one width, got {a.shape[1]} and {b.shape[1]}")
