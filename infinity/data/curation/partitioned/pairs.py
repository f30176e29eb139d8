"""Which pictures may be near: every two ranges of the order are compared, and what hangs together is told.

Of all pairs only a forest is kept: as many edges as there are pictures in it, however many pairs there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.partitioned.looks import ORDERED
from infinity.data.curation.partitioned.workspace import Work, Workspace, writes
from infinity.data.dedup.checksums import as_rows
from infinity.data.dedup.config import NearDuplicates
from infinity.data.dedup.hamming import Pairs
from infinity.data.dedup.near_duplicates import Fingerprints, coarse_limit, likely_pairs

PAIRS = "pairs"
_AT_ONCE = 8
"""Most ranges that a task compares with one."""

_MARGIN = 1.001
"""Cells are wider than the limits by this, so that no rounding puts two near ones two cells apart."""

Edges = Int[np.ndarray, "e 2"]


def cells(num_ranges: int) -> list[tuple[tuple[int, int], ...]]:
    """Return every two ranges that are compared, each with itself too, in groups of one range and some others.

    Each range is compared with those that follow, around in a circle: so all have about equally much to do.
    """
    groups: list[tuple[tuple[int, int], ...]] = []
    for each in range(num_ranges):
        steps = range(num_ranges // 2 + 1)
        found = [(each, (each + step) % num_ranges) for step in steps if 2 * step < num_ranges or each < step]
        groups += [tuple(found[at : at + _AT_ONCE]) for at in range(0, len(found), _AT_ONCE)]
    return groups


@writes(PAIRS)
def compare_ranges(work: Workspace, number: int, group: Sequence[tuple[int, int]], starts: Sequence[int]) -> Work:
    """Task of one range and some others: write a forest of the pictures that may be near.

    Args:
        group: Every two ranges that are compared, the first always the same.
        starts: Place in the order of all at which each range begins.
    """
    edges = np.concatenate([_forest_of(work, cell, starts) for cell in group])
    return *both_ways(edges, work.num_partitions), {"edges": len(edges)}


def _forest_of(work: Workspace, cell: tuple[int, int], starts: Sequence[int]) -> Edges:
    assert work.filters.near_duplicates is not None
    tables = [read_bucket([work.uri(ORDERED, each)]) for each in dict.fromkeys(cell)]
    places = [np.arange(table.num_rows) + starts[each] for each, table in zip(cell, tables, strict=False)]
    if not all(table.num_rows for table in tables):
        return np.empty((0, 2), np.int64)
    looks = _fingerprints(pa.concat_tables(tables).combine_chunks())
    forest = Forest(len(looks.hashes))
    between = 0 if cell[0] == cell[1] else tables[0].num_rows
    for pairs in near_cells(looks, work.filters.near_duplicates, between):
        forest.join(*pairs)
    return np.asarray(np.concatenate(places)[forest.edges()])


def both_ways(edges: Edges, num_partitions: int) -> tuple[pa.Table, Int[np.ndarray, " n"]]:
    """Return edges in both directions, and for each the bucket of the picture where it begins."""
    both = np.concatenate([edges, edges[:, ::-1]])
    table = pa.table({"start": pa.array(both[:, 0], pa.int64()), "end": pa.array(both[:, 1], pa.int64())})
    return table, both[:, 0] % num_partitions


def near_cells(looks: Fingerprints, limits: NearDuplicates, between: int) -> Iterator[Pairs]:
    """Yield the pairs that ``likely_pairs`` finds, after a look at shape and brightness that leaves most out.

    Args:
        between: If positive, only pairs of one of the first ``between`` pictures and a later one.
    """
    shape = np.floor(looks.ratios / (looks.slack.max() * _MARGIN)).astype(np.int64)
    light = np.floor(looks.coarse.mean(axis=1) / (coarse_limit(limits) * _MARGIN)).astype(np.int64)
    places: dict[tuple[int, int], Int[np.ndarray, " m"]] = {}
    order = np.lexsort((light, shape))
    keys = np.stack([shape[order], light[order]], axis=1)
    cuts = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
    for group in np.split(order, cuts):
        places[int(shape[group[0]]), int(light[group[0]])] = np.sort(group)
    for (row, column), group in places.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                other = places.get((row + down, column + across))
                if other is not None:
                    yield from _near_groups(looks, limits, group, other, between)


def _near_groups(
    looks: Fingerprints,
    limits: NearDuplicates,
    group: Int[np.ndarray, " m"],
    other: Int[np.ndarray, " k"],
    between: int,
) -> Iterator[Pairs]:
    """Yield pairs of two cells; of one range with itself every two cells come twice, of which one is compared."""
    if between:
        group, other = group[group < between], other[other >= between]
    elif group[0] > other[0]:
        return
    if not len(group) or not len(other):
        return
    same = not between and group[0] == other[0]
    chosen = group if same else np.concatenate([group, other])
    for i, j in likely_pairs(looks.take(chosen), limits, 0 if same else len(group), 1):
        if len(i):
            yield chosen[i], chosen[j]


class Forest:
    """What hangs together among some places; each knows the smallest place that it hangs together with."""

    def __init__(self, number: int) -> None:
        self._roots = np.arange(number)

    def join(self, left: Int[np.ndarray, " p"], right: Int[np.ndarray, " p"]) -> None:
        """Join the places of each pair."""
        while True:
            a, b = self._roots[left], self._roots[right]
            apart = a != b
            if not apart.any():
                return
            left, right, a, b = left[apart], right[apart], a[apart], b[apart]
            np.minimum.at(self._roots, np.maximum(a, b), np.minimum(a, b))
            while not np.array_equal(shorter := self._roots[self._roots], self._roots):
                self._roots = shorter

    def edges(self) -> Edges:
        """Return each place that hangs together with a smaller one, and the smallest of these."""
        joined = np.flatnonzero(self._roots != np.arange(len(self._roots)))
        return np.stack([joined, self._roots[joined]], axis=1)


def _fingerprints(rows: pa.Table) -> Fingerprints:
    """Return what likely pairs are found by; there are no thumbnails."""
    nothing = np.empty((rows.num_rows, 0), np.uint8)
    return Fingerprints.with_means(rows, as_rows(rows["coarse"]), nothing, nothing.__getitem__)
