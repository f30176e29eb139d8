"""Pairs of captions with nearly the same words, found by MinHash and checked exactly.

A caption is the set of its word pairs. MinHash signatures of 128 numbers are cut into 32 bands of 4; captions that
agree in a band are compared by the true Jaccard similarity of their sets, so nothing is merged by chance. A pair of
similarity 0.8 is missed with a probability of 5e-8, one of 0.6 with 1 %. Hashes are BLAKE2 and fixed numbers: every
machine and every order finds the same pairs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import UInt64

from infinity.data.dedup.words import units

_BANDS, _ROWS = 32, 4
_MULTIPLIERS, _ADDENDS = np.random.default_rng(0x1F).integers(0, 2**63, (2, _BANDS * _ROWS), dtype=np.uint64)
_MULTIPLIERS = _MULTIPLIERS | np.uint64(1)

Shingles = frozenset[tuple[str, ...]]


def shingles(text: str, size: int = 2) -> Shingles:
    """Return sequences of ``size`` words; of a shorter text the whole text, which is then equal or unlike.

    In scripts without blanks between words, they are sequences of about as many characters as these words have.
    """
    found, per_word = units(text)
    size *= per_word
    if len(found) < size:
        return frozenset([tuple(found)]) if found else frozenset()
    return frozenset(tuple(found[at : at + size]) for at in range(len(found) - size + 1))


def similar_captions(captions: Sequence[str], similarity: float) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """Find captions that are alike.

    Args:
        captions: Cleaned captions.
        similarity: Smallest Jaccard similarity of their word pairs, above 0 to 1.

    Returns:
        All pairs i < j of captions that are alike without being equal, and for each caption whose word pairs equal
        those of an earlier one, that one; such a caption is in no pair.
    """
    first: dict[Shingles, int] = {}
    equal: dict[int, int] = {}
    for index, caption in enumerate(captions):
        if (earlier := first.setdefault(shingles(caption), index)) != index:
            equal[index] = earlier
    if similarity == 1:
        return [], equal  # captions that are not equal are below 1
    sets = [each for each in first if each]
    # Sets come in the order of their captions.
    alike = ((a, b) for a, b in _candidates(sets) if are_alike(sets[a], sets[b], similarity))
    return [(first[sets[a]], first[sets[b]]) for a, b in alike], equal


def are_alike(a: Shingles, b: Shingles, similarity: float) -> bool:
    """Return whether the Jaccard similarity of two sets is at least a number."""
    shared = len(a & b)
    return shared >= similarity * (len(a) + len(b) - shared)


def band_keys(each: Shingles) -> UInt64[np.ndarray, " 32"]:
    """Return a number for every band of a signature, equal for captions that agree in the band."""
    rows = _signature(each).reshape(_BANDS, _ROWS)
    lines = (b"%d," % band + row.tobytes() for band, row in enumerate(rows))
    return np.array([int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big") for line in lines], np.uint64)


def _candidates(sets: Sequence[Shingles]) -> list[tuple[int, int]]:
    """Return pairs that agree in some band."""
    buckets: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index, each in enumerate(sets):
        signature = _signature(each)
        for band in range(_BANDS):
            buckets[band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()].append(index)
    found = {pair for members in buckets.values() if len(members) > 1 for pair in combinations(members, 2)}
    return sorted(found)


def _signature(each: Shingles) -> UInt64[np.ndarray, " 128"]:
    values = np.array([_hash(shingle) for shingle in each], np.uint64)
    with np.errstate(over="ignore"):
        mixed = values[:, None] * _MULTIPLIERS + _ADDENDS
    return np.asarray((mixed >> np.uint64(20)).min(axis=0))


def _hash(shingle: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.blake2b("\n".join(shingle).encode(), digest_size=8).digest(), "big")
