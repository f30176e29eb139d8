"""Random numbers that are functions of a name: the same on every machine, in any order, with every library version.

A generator's numbers depend on what was drawn before and on the release of its library; an order of training data must
depend on neither. SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) turns a
counter into 64 well mixed bits with six operations.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from jaxtyping import Float, Int, UInt64

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def key_of(*parts: str | int) -> int:
    """Return a 64-bit number for a list of names and numbers; another list gives an unrelated one."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "little")


def bits_at(key: int, counters: Int[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Return 64 random bits for each counter (at least 0) of a key."""
    with np.errstate(over="ignore"):  # SplitMix64 computes modulo 2**64 (docs/decisions/0011)
        z = np.uint64(key) + (counters.astype(np.uint64) + np.uint64(1)) * _STEP
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return z ^ (z >> np.uint64(31))


def uniform_at(key: int, counters: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return a uniform number in [0, 1), of 53 bits, for each counter of a key."""
    return (bits_at(key, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(key: int, number: int) -> Int[np.ndarray, " n"]:
    """Return the numbers 0 to ``number`` - 1 in the random order of a key."""
    return np.argsort(bits_at(key, np.arange(number)), kind="stable")
