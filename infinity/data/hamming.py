"""All pairs of 64-bit hashes within a Hamming distance, without comparing every pair.

Cut 64 bits into k bands. Two hashes that differ in at most d bits agree in at least k - d whole bands (pigeonhole), so
it is enough to compare hashes that agree in some choice of k - d bands: nothing is missed. More bands make the buckets
smaller and their number larger; the cheapest choice follows from the number of hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np
from jaxtyping import Int, UInt64

_BITS = 64
_PAIRS_AT_ONCE = 2_000_000


def near_pairs(
    hashes: UInt64[np.ndarray, " n"], distance: int, partitions: int = 1
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Every pair i < j with at most ``distance`` different bits, ordered by (i, j).

    Args:
        hashes: One a picture; equal ones make pairs with each other.
        distance: Largest number of different bits, 0 to 32.
        partitions: Into how many parts the buckets are dealt, as a cluster would; the pairs do not depend on it.
    """
    if not 0 <= distance <= _BITS // 2:
        raise ValueError(f"near_pairs: expected a distance of 0 to {_BITS // 2}, got {distance}")
    masks = _masks(len(hashes), distance)
    codes = [np.empty(0, np.int64)]
    for part in range(partitions):
        codes += [_pairs_of_bucket(hashes, mask, distance, part, partitions) for mask in masks]
    pairs = np.unique(np.concatenate(codes))
    return pairs // max(1, len(hashes)), pairs % max(1, len(hashes))


def _masks(num_hashes: int, distance: int) -> list[np.uint64]:
    """The bits that are compared in each round."""

    def cost(bands: int) -> float:
        rounds, bits = comb(bands, distance), (bands - distance) * _BITS / bands
        return rounds * (20 * num_hashes + num_hashes**2 / 2 ** (bits + 1))

    options = [bands for bands in range(distance + 1, min(_BITS, distance + 5) + 1) if comb(bands, distance) <= 2000]
    bands = min(options, key=cost)
    edges = np.linspace(0, _BITS, bands + 1).round().astype(int).tolist()
    single = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in combinations(single, bands - distance)]


def _pairs_of_bucket(
    hashes: UInt64[np.ndarray, " n"], mask: np.uint64, distance: int, part: int, partitions: int
) -> Int[np.ndarray, " p"]:
    """Near pairs that agree under the mask, each as ``i * n + j``; buckets of one part only."""
    keys = hashes & mask
    mine = np.arange(len(hashes))
    if partitions > 1:  # multiplied, so that the high bits of the key have a say
        mine = np.flatnonzero((keys * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(partitions) == part)
    order = mine[np.argsort(keys[mine], kind="stable")]
    found = [np.empty(0, np.int64)]
    for left, right in _neighbours(keys[order]):
        i, j = order[left], order[right]
        near = np.bitwise_count(hashes[i] ^ hashes[j]) <= distance
        low, high = np.minimum(i, j)[near], np.maximum(i, j)[near]
        found.append(low * len(hashes) + high)
    return np.concatenate(found)


def _neighbours(keys: UInt64[np.ndarray, " n"]) -> Iterator[tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]]:
    """All pairs of places with equal sorted keys, in pieces of bounded size."""
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
