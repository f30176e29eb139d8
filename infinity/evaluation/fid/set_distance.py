"""Distances between two sets of pictures: FID, KID, Inception Score, precision and recall, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinity.evaluation.fid.feature_distances import KidConfig, inception_score, kernel_distance, precision_recall
from infinity.evaluation.fid.frechet import GaussianStats, Moments, frechet_distance
from infinity.evaluation.fid.reference_sets import Network, Reading, ReferenceSet
from infinity.evaluation.fid.reference_statistics import Provenance
from infinity.evaluation.score import Z_95, Score, wilson_interval

MOST_ROWS = 100_000
"""Most pictures of one set whose features are held in memory: 0.8 GB."""

GROUPS = 10
"""Parts of a set, each of which is left out once for an interval."""
_NEIGHBOURS = 3
_SPLITS = 10


class SetDistanceError(ValueError):
    """Two sets cannot be compared; the message says what differs and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureSet:
    """Features of one set of pictures.

    Attributes:
        moments: Mean and covariance of the features.
        provenance: Which pictures they are, and how they were prepared.
        rows: Features of every picture; None for a file of statistics, which does not hold them.
        logits: Class scores without bias; None for a file of statistics.
    """

    moments: Moments
    provenance: Provenance
    rows: Tensor | None = None
    logits: Tensor | None = None


@torch.inference_mode()
def look_at(
    reference: ReferenceSet, network: Network, *, device: str = "cpu", progress: Callable[[float], None]
) -> PictureSet:
    """Return the features of all pictures of a set.

    Raises:
        ValueError: Fewer than two pictures, or more than fit into memory.
        PictureError: A file is not a readable picture.
        StorageError: A file cannot be read.
    """
    reading = Reading(reference, network, device=device, progress=progress)
    if reading.files.number > MOST_ROWS:
        raise SetDistanceError(
            f"{reference.uri}: expected at most {MOST_ROWS:,} pictures, found {reading.files.number:,}; write their "
            "statistics with `infinity statistics` and compare with that file"
        )
    rows, logits = [], []
    for found in reading:
        rows.append(getattr(found, f"features_{reference.feature}").float().cpu())
        logits.append(found.logits_without_bias.float().cpu())
    features = torch.cat(rows)
    return PictureSet(GaussianStats.of(features).moments(), reading.provenance(), features, torch.cat(logits))


def distances(a: PictureSet, b: PictureSet, *, kid: KidConfig, interval: bool = True) -> tuple[Score, ...]:
    """Return one score per metric; a metric that the two sets do not allow is a score that says why.

    Args:
        a: The set that is scored, such as a model's pictures.
        b: The set that it is compared with.
        kid: Kernel and subsets.
        interval: Whether FID gets an interval, which takes twenty more distances.

    Raises:
        SetDistanceError: The pictures were prepared differently, or the features differ.
    """
    for what in ("protocol", "feature"):
        left, right = getattr(a.provenance, what), getattr(b.provenance, what)
        if left != right:
            raise SetDistanceError(f"sets of different conventions never compare ({what}): {left!r} and {right!r}")
    return tuple(_figures(a, b, kid, interval))


def _figures(a: PictureSet, b: PictureSet, kid: KidConfig, interval: bool) -> Iterator[Score]:
    ends = " against ".join(each.provenance.source or "an unnamed set" for each in (a, b))
    protocol = f"{a.provenance.protocol}, {a.provenance.feature} features; {ends}"
    yield _fid(a, b, protocol, interval)
    if a.rows is None or b.rows is None or a.logits is None:
        reason = "a file of statistics holds no features of single pictures; name the pictures"
        for name in ("kid", "inception_score", "precision", "recall"):
            yield Score.not_measured(name, "", protocol=protocol, reason=reason)
        return
    n = min(len(a.rows), len(b.rows))
    if n < kid.subset_size:
        reason = f"{n} pictures are fewer than a subset of {kid.subset_size}"
        yield Score.not_measured("kid", "", protocol=protocol, reason=reason)
    else:
        found = kernel_distance(a.rows, b.rows, kid)
        error = found.deviation * math.sqrt(kid.subset_size / n)
        about = f"interval from the deviation over subsets ({found.deviation:.3g}), scaled to {n} pictures"
        yield around("kid", found.mean, error, n, f"{protocol}; {kid.protocol}", about)
    yield from _inception_score(a.logits, protocol)
    yield from _shares(a.rows, b.rows, protocol)


def _fid(a: PictureSet, b: PictureSet, protocol: str, interval: bool) -> Score:
    value = frechet_distance(a.moments, b.moments)
    counts = [each.moments.count for each in (a, b)]
    notes = ["biased upwards; compares only at these numbers: " + " and ".join(str(n or "unknown") for n in counts)]
    n = min((count for count in counts if count is not None), default=0)
    error = None
    if interval and n >= 2 * GROUPS and (a.rows is not None or b.rows is not None):
        error = math.sqrt(_jackknife_variance(a, b) + _jackknife_variance(b, a))
        fixed = [each.provenance.source for each in (a, b) if each.rows is None]
        notes.append(f"interval from leaving out tenths of the pictures{' of one side' if fixed else ''}")
    return around("fid", value, error, n, protocol, "; ".join(notes), least=0.0)


def _jackknife_variance(changed: PictureSet, fixed: PictureSet) -> float:
    """Return the variance of the distance over the pictures of one set: the jackknife over tenths of them."""
    if changed.rows is None:
        return 0.0
    order = torch.randperm(len(changed.rows), generator=torch.Generator().manual_seed(2020))
    groups = [GaussianStats.of(changed.rows[part]) for part in torch.tensor_split(order, GROUPS)]
    values = []
    for left_out in range(GROUPS):
        kept = GaussianStats.empty(changed.provenance.feature)
        for number, group in enumerate(groups):
            kept = kept if number == left_out else kept + group
        values.append(frechet_distance(kept.moments(), fixed.moments))
    return jackknife(values)


def jackknife(values: Sequence[float]) -> float:
    """Return the variance of a figure from its values with one of the `GROUPS` left out each."""
    mean = math.fsum(values) / GROUPS
    return (GROUPS - 1) / GROUPS * math.fsum((value - mean) ** 2 for value in values)


def _inception_score(logits: Tensor, protocol: str) -> Iterator[Score]:
    if len(logits) < _SPLITS:
        reason = f"{len(logits)} pictures are fewer than {_SPLITS} splits"
        yield Score.not_measured("inception_score", "", protocol=protocol, reason=reason)
        return
    found = inception_score(logits, splits=_SPLITS)
    about = f"of the first set alone; interval from the deviation over {_SPLITS} splits ({found.deviation:.3g})"
    yield around("inception_score", found.mean, found.deviation / math.sqrt(_SPLITS), len(logits), protocol, about)


def _shares(rows: Tensor, others: Tensor, protocol: str) -> Iterator[Score]:
    if min(len(rows), len(others)) <= _NEIGHBOURS:
        reason = f"{min(len(rows), len(others))} pictures are too few for {_NEIGHBOURS} neighbours"
        for name in ("precision", "recall"):
            yield Score.not_measured(name, "share", protocol=protocol, reason=reason)
        return
    found = precision_recall(rows, others, neighbours=_NEIGHBOURS)
    for name, value, n in (("precision", found.precision, len(rows)), ("recall", found.recall, len(others))):
        low, high = wilson_interval(round(value * n), n)
        yield Score(
            metric=name, value=value, unit="share", n=n, protocol=protocol, low=low, high=high,
            note=f"balls of {_NEIGHBOURS} neighbours; interval of Wilson, the other set as it is",
        )  # fmt: skip


def around(
    metric: str, value: float, error: float | None, n: int, protocol: str, note: str, *, least: float = -math.inf
) -> Score:
    """Return a score with a normal interval, which ends at the least possible value."""
    low, high = (None, None) if error is None else (min(value, max(least, value - Z_95 * error)), value + Z_95 * error)
    return Score(metric=metric, value=value, unit="", n=n, protocol=protocol, low=low, high=high, note=note)
