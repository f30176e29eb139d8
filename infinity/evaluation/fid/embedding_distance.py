"""Distances between two sets of pictures by newer networks: CMMD (CLIP) and FD-DINOv2, with intervals."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from infinity import storage
from infinity.evaluation.fid.feature_distances import Rows
from infinity.evaluation.fid.frechet import GaussianStats, frechet_distance
from infinity.evaluation.fid.reference_sets import ReferenceSet
from infinity.evaluation.fid.set_distance import GROUPS, MOST_ROWS, SetDistanceError, around, jackknife
from infinity.evaluation.pictures.store import decode_picture
from infinity.evaluation.score import Score
from infinity.perception.embeddings import Embedder

_CHUNK_ROWS = 2048
SIGMA, SCALE = 10.0, 1000.0
"""Width of CMMD's kernel and factor of its value, as published."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedSet:
    """Vectors of a set of pictures.

    Attributes:
        rows: One vector per picture.
        source: Which pictures they are, in words.
    """

    rows: Rows
    source: str


def embed_set(
    reference: ReferenceSet, embedder: Embedder, *, progress: Callable[[float], None] = lambda share: None
) -> EmbeddedSet:
    """Return the vectors of all pictures of a set.

    Raises:
        ValueError: Fewer than two pictures, or more than fit into memory.
        PictureError: A file is not a readable picture.
        StorageError: A file cannot be read.
    """
    files, content, rows, done = reference.files(), hashlib.sha256(), list[Tensor](), 0
    if files.number > MOST_ROWS:
        raise SetDistanceError(f"{reference.uri}: expected at most {MOST_ROWS:,} pictures, found {files.number:,}")
    reading = files.read()
    while batch := tuple(islice(reading, embedder.config.batch_size)):
        for _, data in batch:
            content.update(hashlib.sha256(data).digest())
        decoded = [decode_picture(d, n, upright=False, remedy="take it out or repair it") for n, d in batch]
        rows.append(embedder.embed(decoded))
        done += len(batch)
        progress(done / files.number)
    where = storage.name(reference.uri.rstrip("/"))
    return EmbeddedSet(torch.cat(rows), f"{where}: {files.number} pictures, content {content.hexdigest()[:16]}")


def mmd(a: Float[Tensor, "n D"], b: Float[Tensor, "m D"]) -> float:
    """Return CMMD (arXiv:2401.09603): 1000 times the biased squared MMD with a Gaussian kernel of width 10.

    Example:
        >>> near, far = torch.zeros(4, 2), torch.full((3, 2), 10.0)
        >>> round(mmd(near, far), 3)  # 1000 * (2 - 2 * exp(-1))
        1264.241
    """
    return SCALE * (_kernel_mean(a, a) + _kernel_mean(b, b) - 2 * _kernel_mean(a, b))


def _kernel_mean(a: Rows, b: Rows) -> float:
    """Return the mean of exp(-|x - y|^2 / (2 sigma^2)) over all pairs, in float64."""
    total, squares = 0.0, (b.double() ** 2).sum(dim=1)
    for part in a.double().split(_CHUNK_ROWS):
        distances = (part**2).sum(dim=1)[:, None] + squares - 2 * part @ b.double().T
        total += float(torch.exp(-distances / (2 * SIGMA**2)).sum())
    return total / (len(a) * len(b))


def embedding_score(a: EmbeddedSet, b: EmbeddedSet, embedder: Embedder, *, interval: bool = True) -> Score:
    """Return CMMD or FD-DINOv2 of two sets, with an interval from leaving out tenths of the pictures of each side."""
    metric, figure = embedder.config.kind, mmd if embedder.config.kind == "cmmd" else _frechet
    rule = f"1000 * biased MMD^2, kernel width {SIGMA:g}" if metric == "cmmd" else "Frechet distance"
    n, error = min(len(a.rows), len(b.rows)), None
    numbers = f"compares only at these numbers: {len(a.rows)} and {len(b.rows)}"
    note = f"biased upwards; {numbers}"
    if interval and n >= 2 * GROUPS:
        error = math.sqrt(_variance(figure, a.rows, b.rows) + _variance(figure, b.rows, a.rows))
        note = f"{note}; interval from leaving out tenths of the pictures"
    protocol = f"{metric}/1: {rule}; {embedder.describe()}; {a.source} against {b.source}"
    return around(metric, figure(a.rows, b.rows), error, n, protocol, note, least=0.0)


def _frechet(a: Rows, b: Rows) -> float:
    return frechet_distance(GaussianStats.of(a), GaussianStats.of(b))


def _variance(figure: Callable[[Rows, Rows], float], changed: Rows, fixed: Rows) -> float:
    """Return the jackknife variance over tenths of one side."""
    order = torch.randperm(len(changed), generator=torch.Generator().manual_seed(2020))
    groups = torch.tensor_split(order, GROUPS)
    kept = (torch.cat([*groups[:left_out], *groups[left_out + 1 :]]) for left_out in range(GROUPS))
    return jackknife([figure(changed[rows], fixed) for rows in kept])
