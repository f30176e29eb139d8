"""All pairs of 64-bit hashes within a Hamming distance, in pieces of bounded size.

Two ways, and the cheaper one is taken. Tiles compare every pair: 1.5 ns per pair, however the hashes are spread. Bands
cut 64 bits into k pieces: two hashes that differ in at most d bits agree in at least k - d whole bands (pigeonhole), so
it is enough to compare hashes that agree in some choice of k - d bands. That is far fewer where hashes are spread
evenly, and more than all of them where a few bands have few values, as in drawings. Both miss nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np
from jaxtyping import Bool, Int, UInt64

_BITS = 64
_PAIRS_AT_ONCE = 2_000_000
_TILE = 1024
_TILE_COST, _SORT_COST, _PAIR_COST = 1.5, 100.0, 12.0  # ns per pair, per hash and round, per pair of a bucket

Pairs = tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]


def near_pairs(
    hashes: UInt64[np.ndarray, " n"], distance: int, *, between: int = 0, partitions: int = 1
) -> Iterator[Pairs]:
    """Yield every pair i < j with at most ``distance`` different bits, once, in no particular order.

    Args:
        hashes: One hash per picture; equal hashes make pairs with each other.
        distance: Largest number of different bits, 0 to 32.
        between: If positive, only pairs with i < ``between`` <= j.
        partitions: Into how many parts the work is dealt, as a cluster would; the pairs do not depend on it.

    Raises:
        ValueError: The distance is out of range.
    """
    if not 0 <= distance <= _BITS // 2:
        raise ValueError(f"near_pairs: expected a distance of 0 to {_BITS // 2}, got {distance}")
    bands = _cheapest_bands(hashes, distance, between)
    for part in range(partitions):
        if bands is None:
            yield from _by_tiles(hashes, distance, between, part, partitions)
        else:
            for chosen in bands.choices():
                yield from _by_bands(hashes, bands, chosen, between, part, partitions)


@dataclass(frozen=True, slots=True)
class _Bands:
    """Masks of the bits of each band, and how many bits may differ."""

    masks: tuple[np.uint64, ...]
    distance: int

    @classmethod
    def of(cls, number: int, distance: int) -> _Bands:
        edges = np.linspace(0, _BITS, number + 1).round().astype(int).tolist()
        return cls(tuple(np.uint64(((1 << high) - 1) ^ ((1 << low) - 1)) for low, high in pairwise(edges)), distance)

    def choices(self) -> Iterator[tuple[int, ...]]:
        """Yield the bands that are compared in each round."""
        return combinations(range(len(self.masks)), len(self.masks) - self.distance)

    def mask(self, chosen: tuple[int, ...]) -> np.uint64:
        return np.uint64(sum(int(self.masks[band]) for band in chosen))

    def is_first(self, different: UInt64[np.ndarray, " p"], chosen: tuple[int, ...]) -> Bool[np.ndarray, " p"]:
        """Return whether this is the first choice in which a pair agrees: no other band up to its last one agrees."""
        first = np.ones(len(different), bool)
        for band in set(range(chosen[-1])) - set(chosen):
            first &= (different & self.masks[band]) != 0
        return first


def _cheapest_bands(hashes: UInt64[np.ndarray, " n"], distance: int, between: int) -> _Bands | None:
    """Return the number of bands that costs least, from the buckets of a few choices; None if tiles cost less."""
    total = len(hashes)
    cost = _TILE_COST * (between * (total - between) if between else total**2 / 2)
    best = None
    for number in range(distance + 1, min(_BITS, distance + 5) + 1):
        rounds = comb(number, distance)
        if rounds > 2000 or rounds * _SORT_COST * total >= cost:
            continue
        bands = _Bands.of(number, distance)
        choices = list(bands.choices())
        sample = choices[:: max(1, len(choices) // 4)]
        pairs = np.mean([_pairs_in_buckets(hashes & bands.mask(chosen)) for chosen in sample])
        needed = rounds * (_SORT_COST * total + _PAIR_COST * float(pairs))
        if needed < cost:
            best, cost = bands, needed
    return best


def _pairs_in_buckets(keys: UInt64[np.ndarray, " n"]) -> float:
    counts = np.unique(keys, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())


def _by_tiles(
    hashes: UInt64[np.ndarray, " n"], distance: int, between: int, part: int, partitions: int
) -> Iterator[Pairs]:
    """Compare all pairs, a square of them at a time."""
    tile, total = 0, len(hashes)
    for top in range(0, between or total, _TILE):
        bottom = min(top + _TILE, between or total)
        for left in range(between or top, total, _TILE):
            tile += 1
            if tile % partitions != part:
                continue
            near = np.bitwise_count(hashes[top:bottom, None] ^ hashes[None, left : left + _TILE]) <= distance
            if left == top:
                near = np.triu(near, 1)
            places = np.flatnonzero(near)
            if len(places):
                i, j = np.divmod(places, near.shape[1])
                yield top + i, left + j


def _by_bands(
    hashes: UInt64[np.ndarray, " n"],
    bands: _Bands,
    chosen: tuple[int, ...],
    between: int,
    part: int,
    partitions: int,
) -> Iterator[Pairs]:
    """Yield near pairs that agree in the chosen bands and in no earlier choice; buckets of one part only."""
    keys = hashes & bands.mask(chosen)
    mine = np.arange(len(hashes))
    if partitions > 1:  # multiplied, so that the high bits of the key count
        mine = np.flatnonzero((keys * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(partitions) == part)
    order = mine[np.argsort(keys[mine], kind="stable")]
    for left, right in _neighbours(keys[order]):
        i, j = order[left], order[right]  # i < j: the sort is stable
        if between:
            across = (i < between) & (j >= between)
            i, j = i[across], j[across]
        different = hashes[i] ^ hashes[j]
        near = np.bitwise_count(different) <= bands.distance
        near[near] = bands.is_first(different[near], chosen)
        if near.any():
            yield i[near], j[near]


def _neighbours(keys: UInt64[np.ndarray, " n"]) -> Iterator[Pairs]:
    """Yield all pairs of places with equal sorted keys, in pieces of bounded size."""
    _, starts, counts = np.unique(keys, return_index=True, return_counts=True)
    ends = np.repeat(starts + counts, counts)
    places = np.arange(len(keys))
    partners = ends - places - 1  # later places of the same bucket
    after = np.concatenate([[0], np.cumsum(partners)])
    at = 0
    while at < len(keys):
        stop = max(at + 1, int(np.searchsorted(after, after[at] + _PAIRS_AT_ONCE, side="right")) - 1)
        left = np.repeat(places[at:stop], partners[at:stop])
        within = np.arange(len(left)) - np.repeat(after[at:stop] - after[at], partners[at:stop])
        yield left, left + 1 + within
        at = stop
