"""How samples are named, set aside for validation, and cut into shards, in one table or a piece at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int, UInt8

from infinity.config import Config
from infinity.data.dedup.checksums import as_values, earlier_equals

_ROWS_AT_ONCE = 8192
"""Number of rows that are Python objects at a time."""

_KEY_BYTES = 10  # twice as many digits


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardLimits(Config):
    """Largest size of a shard.

    Attributes:
        samples: Samples in one shard.
        num_bytes: Bytes of pictures in one shard, before those that must change; a larger picture has its own.
    """

    samples: int
    num_bytes: int


def sample_keys(kept: pa.Table) -> pa.ChunkedArray:
    """Return a name for each sample: 20 hexadecimal digits over picture and captions, and a number for repetitions.

    It does not depend on the place in the source, so a sample is recognised in a source that grew.
    """
    digests = sample_digests(kept)
    return numbered_keys(digests, earlier_equals(digests))


def sample_digests(kept: pa.Table) -> UInt8[np.ndarray, "n 10"]:
    """Return the bytes that name each sample, equal for equal pictures with equal captions."""
    parts = [np.empty((0, _KEY_BYTES), np.uint8)]
    columns = ["content", "caption", "caption_long", "caption_short", "further"]
    for batch in kept.select(columns).to_batches(_ROWS_AT_ONCE):
        contents, *captions = (column.to_pylist() for column in batch.columns)
        digests = [
            hashlib.sha256(content + json.dumps([*texts, *([further] if further else [])]).encode()).digest()[
                :_KEY_BYTES
            ]
            for content, *texts, further in zip(contents, *captions, strict=True)
        ]
        parts.append(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _KEY_BYTES))
    return np.concatenate(parts)


def numbered_keys(digests: UInt8[np.ndarray, "n 10"], repetitions: Int[np.ndarray, " n"]) -> pa.ChunkedArray:
    """Return the names of samples, given how many equal ones come before each."""
    keys = [
        pa.array([row.tobytes().hex() for row in digests[at : at + _ROWS_AT_ONCE]], pa.string())
        for at in range(0, len(digests), _ROWS_AT_ONCE)
    ]
    found = pa.chunked_array(keys, pa.string())
    if not repetitions.any():
        return found
    numbers = pa.array([f"-{number}" if number else "" for number in repetitions.tolist()], pa.string())
    return pc.binary_join_element_wise(found, numbers, "")


def choose_validation(pixels: UInt8[np.ndarray, "n 32"], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Return which pictures are set aside for validation: about ``share`` of all, at least one if that leaves others.

    Pictures come in an order given by a hash of seed and content, and equal pictures go together. So adding pictures to
    a source moves few between the splits, and no picture has an equal in the other split. Pictures are not grouped by
    caption or resemblance: in a set with few captions that would set aside whole kinds of pictures.

    Args:
        pixels: A checksum of each picture.
        share: 0 to below 1.
    """
    values, codes = np.unique(as_values(pixels), return_inverse=True)
    distinct = values.view(np.uint8).reshape(-1, 32)
    return choose_by_hash(validation_hashes(distinct, seed)[codes], num_validation(len(pixels), share))[0]


def num_validation(total: int, share: float) -> int:
    """Return how many of all pictures are set aside for validation."""
    return min(max(1, round(share * total)), total - 1) if share > 0 else 0


def validation_hashes(pixels: UInt8[np.ndarray, "n 32"], seed: int) -> UInt8[np.ndarray, "n 32"]:
    """Return what pictures are ordered by when some are set aside."""
    salt = f"{seed}:".encode()
    hashes = b"".join(hashlib.sha256(salt + value.tobytes()).digest() for value in pixels)
    return np.frombuffer(hashes, np.uint8).reshape(-1, 32)


def choose_by_hash(hashes: UInt8[np.ndarray, "n 32"], wanted: int) -> tuple[Bool[np.ndarray, " n"], int]:
    """Return which pictures are set aside, smallest hashes first, equal ones together; and how many are still wanted.

    Args:
        hashes: Those of ``validation_hashes``.
        wanted: Number of pictures to set aside; pictures of which there are more are passed over.
    """
    values, codes, sizes = np.unique(as_values(hashes), return_inverse=True, return_counts=True)
    chosen = np.zeros(len(values), bool)
    for place, size in enumerate(sizes.tolist()):
        if not wanted:
            break
        if size <= wanted:
            chosen[place] = True
            wanted -= size
    return np.asarray(chosen[codes], bool), wanted


def cut_evenly(num_bytes: Int[np.ndarray, " n"], limits: ShardLimits) -> Int[np.ndarray, " n"]:
    """Return each sample's shard number, ascending: as few shards as the limits allow, all about equally large.

    Half of a sample's weight is its share of the samples and half its share of the bytes, so that neither many small
    pictures nor a few large ones make a shard that is unlike the others.
    """
    counts = shard_sizes(lambda: iter([num_bytes]), len(num_bytes), limits)
    return np.repeat(np.arange(len(counts)), counts)


def shard_sizes(
    pieces: Callable[[], Iterator[Int[np.ndarray, " m"]]], total: int, limits: ShardLimits
) -> Int[np.ndarray, " s"]:
    """Return the number of samples in each shard, as ``cut_evenly`` cuts them; one piece is in memory at a time.

    Args:
        pieces: Function that yields the bytes of all samples, in order, cut anywhere; it is called several times.
        limits: Largest size of a shard.
    """
    if not total:
        return np.zeros(0, np.int64)
    whole = sum(float(_sizes(piece).sum()) for piece in pieces())
    number = max(-(-total // limits.samples), int(-(-whole // limits.num_bytes)))
    while True:
        counts, num_bytes = np.zeros(number, np.int64), np.zeros(number)
        before = 0.0
        for piece in pieces():
            weights = 0.5 / total + 0.5 * _sizes(piece) / whole
            ends = np.cumsum(np.concatenate([[before], weights]))[1:]  # one sum after the other, wherever pieces end
            shards = np.minimum(((ends - weights / 2) * number).astype(np.int64), number - 1)
            counts += np.bincount(shards, minlength=number)
            num_bytes += np.bincount(shards, _sizes(piece), minlength=number)
            before = float(ends[-1]) if len(ends) else before
        too_large = (num_bytes > limits.num_bytes) & (counts > 1)
        if counts.max() <= limits.samples and not too_large.any():
            return counts[counts > 0]
        number = max(number + 1, number * 11 // 10)


def _sizes(num_bytes: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    return np.maximum(num_bytes.astype(np.float64), 1.0)
