"""Which pictures look alike: by hash, shape and coarse colours, and at last by thumbnails laid over each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, UInt8, UInt64

from infinity.data.dedup.alignment import mean_colours, thumbnail_difference, unexplained
from infinity.data.dedup.config import NearDuplicates
from infinity.data.dedup.hamming import Pairs, near_pairs
from infinity.data.images.fingerprint import THUMBNAIL_PX

Thumbnails = Callable[[Int[np.ndarray, " m"]], UInt8[np.ndarray, "m 32 32 3"]]
"""Function from places in a table to thumbnails."""

_MAX_STRETCH = 0.08
"""Largest difference of the logarithm of the aspect ratio: a crop of 5 % along one axis, and a little for rounding."""

_COARSE_SLACK = 24.0
"""Levels by which the 4 x 4 means of a crop may differ beyond the limit of aligned thumbnails (docs/decisions/0016)."""

_COARSE_AT_ONCE = 200_000
_ALIGNED_AT_ONCE = 8192
_REDUCED_AT_ONCE = 512
"""Thumbnails whose means are taken together: about 20 MB of numbers."""

_WAITING = 100_000
_MOST = 8
"""Most known pictures that a new one is compared with: those that small shifts explain best (decision 16). In a set of
photographs few have more likely partners; in one of drawings that all look alike a limit is what makes an end."""

_MOST_UNEXPLAINED = 20.0
"""Levels; 1 in 200 crops of 5 % has more."""

_ROUNDS = ((0, 2), (2, _MOST))
"""Which of its likely partners, the best first, a picture is compared with at a time."""

_NO_PAIRS: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Features of pictures that are compared, an entry per picture; thumbnails are fetched when they are needed."""

    hashes: UInt64[np.ndarray, " n"]
    ratios: Float[np.ndarray, " n"]  # logarithm of height / width
    slack: Float[np.ndarray, " n"]  # how far that one may be off
    coarse: UInt8[np.ndarray, "n 48"]  # means of 4 x 4 fields
    fields: UInt8[np.ndarray, "n 192"]  # means of 8 x 8 fields
    places: Int[np.ndarray, " n"]
    thumbnails: Thumbnails

    @classmethod
    def of(cls, rows: pa.Table, thumbnails: Thumbnails) -> Fingerprints:
        """Return the fingerprints of readable pictures, from the columns of their facts."""
        places = np.arange(rows.num_rows)
        parts = [places[at : at + _REDUCED_AT_ONCE] for at in range(0, len(places), _REDUCED_AT_ONCE)]
        means = [[np.empty((0, side * side * 3), np.uint8)] for side in (4, 8)]
        for part in parts:
            pictures = thumbnails(part)
            for side, found in zip((4, 8), means, strict=True):
                found.append(mean_colours(pictures, side))
        return cls.with_means(rows, np.concatenate(means[0]), np.concatenate(means[1]), thumbnails)

    @classmethod
    def with_means(
        cls,
        rows: pa.Table,
        coarse: UInt8[np.ndarray, "n 48"],
        fields: UInt8[np.ndarray, "n f"],
        thumbnails: Thumbnails,
    ) -> Fingerprints:
        """Return the fingerprints of pictures whose means are known.

        Args:
            rows: Columns ``phash``, ``width_px`` and ``height_px`` of ``FACTS``.
            coarse: Means of 4 x 4 fields.
            fields: Means of 8 x 8 fields; none where only ``likely_pairs`` is asked.
            thumbnails: Function from places in ``rows`` to thumbnails.
        """
        width, height = (rows[name].to_numpy().astype(np.float64) for name in ("width_px", "height_px"))
        return cls(
            hashes=rows["phash"].to_numpy().astype(np.uint64),
            ratios=np.log(height / width),
            slack=_MAX_STRETCH + 1.0 / np.minimum(width, height),
            coarse=coarse,
            fields=fields,
            places=np.arange(rows.num_rows),
            thumbnails=thumbnails,
        )

    def take(self, chosen: Int[np.ndarray, " m"]) -> Fingerprints:
        """Return the fingerprints at the given places, in that order."""
        return Fingerprints(
            hashes=self.hashes[chosen],
            ratios=self.ratios[chosen],
            slack=self.slack[chosen],
            coarse=self.coarse[chosen],
            fields=self.fields[chosen],
            places=self.places[chosen],
            thumbnails=self.thumbnails,
        )


def similar_fingerprints(looks: Fingerprints, limits: NearDuplicates, *, partitions: int = 1) -> Pairs:
    """Return all pairs i < j that are near, ordered by (i, j).

    Args:
        partitions: Number of parts that the search is cut into, see ``near_pairs``; the result does not depend on it.
    """
    found = [_NO_PAIRS]
    for left, right in likely_pairs(looks, limits, 0, partitions):
        near = pair_differences(looks, left, right, limits.difference) <= limits.difference
        found.append((left[near], right[near]))
    left, right = _joined(found)
    order = np.lexsort((right, left))
    return left[order], right[order]


def similar_to_known(looks: Fingerprints, limits: NearDuplicates, known: int, *, partitions: int = 1) -> Pairs:
    """Return pairs of a picture among the first ``known`` and a later picture that is near it.

    Of several the one is taken whose difference small shifts explain best. They are asked in this order, some at a
    time, so that a picture which repeats a known one is soon done with.

    Args:
        looks: Pictures that are known, then new ones.
        known: Number of known pictures.
        partitions: Number of parts that the search is cut into, see ``near_pairs``; the result does not depend on it.
    """
    if not known:
        return _NO_PAIRS
    left, right = _joined([_NO_PAIRS, *likely_pairs(looks, limits, known, partitions)])
    left, right, place = _best_first(looks, left, right)
    match = np.full(len(looks.hashes), -1)
    for first, last in _ROUNDS:
        asked = np.flatnonzero((place >= first) & (place < last) & (match[right] < 0))
        differences = pair_differences(looks, left[asked], right[asked], limits.difference)
        near = asked[differences <= limits.difference][::-1]  # the best is written last
        match[right[near]] = left[near]
    found = np.flatnonzero(match >= 0)
    return match[found], found


def _best_first(
    looks: Fingerprints, left: Int[np.ndarray, " p"], right: Int[np.ndarray, " p"]
) -> tuple[Int[np.ndarray, " q"], Int[np.ndarray, " q"], Int[np.ndarray, " q"]]:
    """Return for each new picture the known ones that small shifts explain best: both, and the place in this order."""
    order = np.lexsort((left, right))
    left, right = left[order], right[order]
    new, starts = np.unique(right, return_index=True)
    chosen = [np.empty(0, np.int64)]
    places = [np.empty(0, np.int64)]
    edges = [*starts.tolist(), len(right)]
    for picture, (start, end) in zip(new.tolist(), pairwise(edges), strict=True):
        rest = unexplained(looks.fields[picture], looks.fields[left[start:end]])
        best = np.argsort(rest, kind="stable")[:_MOST]
        best = best[rest[best] <= _MOST_UNEXPLAINED]
        chosen.append(start + best)
        places.append(np.arange(len(best)))
    kept = np.concatenate(chosen)
    return left[kept], right[kept], np.concatenate(places)


def likely_pairs(looks: Fingerprints, limits: NearDuplicates, between: int, partitions: int) -> Iterator[Pairs]:
    """Yield pairs that are near by hash, shape and coarse colours, in pieces of bounded size; no others can be near.

    Args:
        looks: All pictures; neither thumbnails nor the means of 8 x 8 fields are looked at.
        between: If positive, only pairs of one of the first ``between`` pictures and a later one.
        partitions: Number of parts that the search is cut into; the pairs do not depend on it.
    """
    waiting, number = [_NO_PAIRS], 0
    for left, right in near_pairs(looks.hashes, limits.distance, between=between, partitions=partitions):
        far = np.abs(looks.ratios[left] - looks.ratios[right])
        shaped = far <= np.maximum(looks.slack[left], looks.slack[right])
        for i, j in _pieces(left[shaped], right[shaped]):
            near = _coarse_distances(looks, i, j) <= coarse_limit(limits)
            waiting.append((i[near], j[near]))
            number += len(waiting[-1][0])
        if number >= _WAITING:
            yield _joined(waiting)
            waiting, number = [_NO_PAIRS], 0
    yield _joined(waiting)


def coarse_limit(limits: NearDuplicates) -> float:
    """Return the levels by which any of the 4 x 4 means of two near pictures may differ."""
    return _COARSE_SLACK + limits.difference


def pair_differences(
    looks: Fingerprints, left: Int[np.ndarray, " p"], right: Int[np.ndarray, " p"], limit: float = np.inf
) -> Float[np.ndarray, " p"]:
    """Return the differences of pairs of thumbnails, laid over each other, in levels; above the limit inexactly."""
    parts = [np.empty(0, np.float32)]
    for at in range(0, len(left), _ALIGNED_AT_ONCE):
        a, b = (looks.thumbnails(looks.places[side[at : at + _ALIGNED_AT_ONCE]]) for side in (left, right))
        parts.append(thumbnail_difference(a, b, limit))
    return np.concatenate(parts)


def thumbnails_in(rows: pa.Table) -> Thumbnails:
    """Return the thumbnails that a table of facts holds itself."""
    column = rows["thumbnail"].combine_chunks()
    data = column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    size = THUMBNAIL_PX * THUMBNAIL_PX * 3
    if not rows.num_rows:
        return lambda places: np.empty((0, THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
    pixels = np.frombuffer(data.buffers()[1], np.uint8, rows.num_rows * size, data.offset * size)
    pictures = pixels.reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX, 3)
    return lambda places: pictures[places]


def _coarse_distances(looks: Fingerprints, left: Int[np.ndarray, " p"], right: Int[np.ndarray, " p"]) -> np.ndarray:
    """Return the largest difference of the 4 x 4 means of pairs, in levels."""
    a, b = looks.coarse[left], looks.coarse[right]
    return np.asarray((np.maximum(a, b) - np.minimum(a, b)).max(axis=1))


def _joined(pairs: Sequence[Pairs]) -> Pairs:
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return left, right


def _pieces(left: Int[np.ndarray, " p"], right: Int[np.ndarray, " p"]) -> Iterator[Pairs]:
    for at in range(0, len(left), _COARSE_AT_ONCE):
        yield left[at : at + _COARSE_AT_ONCE], right[at : at + _COARSE_AT_ONCE]
