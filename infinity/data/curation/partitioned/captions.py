"""Captions that nearly repeat one of any other picture, in parts: the same fates as ``dedup.duplicates`` gives.

Captions of the same word pairs meet in a partition, where the preferred one stays for all of them. Of these, captions
that agree in a band of their MinHash signatures meet and are compared. What hangs together is found by large and small
stars (``components``), and each component is decided in one place. Captions of different components are never alike,
so they cannot change each other's fate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket, write_buckets
from infinity.data.curation.partitioned.components import labels_stage
from infinity.data.curation.partitioned.pairs import both_ways
from infinity.data.curation.partitioned.row_rules import CAPTIONS, PREFERENCE_COLUMNS
from infinity.data.curation.partitioned.workspace import ROWS, Work, Workspace, writes
from infinity.data.dedup.checksums import as_rows
from infinity.data.dedup.duplicates import caption_duplicates, preference
from infinity.data.dedup.minhash import are_alike, band_keys, shingles

WORDS_IN, BANDS_IN, WORDS, PAIRS, MEMBERS, LOSERS = (
    "words-in", "caption-bands", "words", "caption-pairs", "caption-members", "caption-losers",
)  # fmt: skip
PREFIX = "caption-"
"""Prefix of the stages that find components of captions."""


@writes(WORDS_IN)
def send_words(work: Workspace, number: int, before: Sequence[str]) -> Work:
    """Task of a chunk: send what is left to where captions of the same word pairs meet."""
    rows = work.remaining(number, before).select(PREFERENCE_COLUMNS)
    sums = [_checksum(caption) for caption in rows["caption"].to_pylist()]
    rows = rows.append_column("words", pa.array(sums, pa.binary(16)))
    return rows, by_checksum(rows["words"], work.num_partitions), {"rows": rows.num_rows}


def _checksum(caption: str) -> bytes:
    lines = sorted("\n".join(shingle) for shingle in shingles(caption))
    return hashlib.blake2b("\0".join(lines).encode(), digest_size=16).digest()


@writes(WORDS)
def choose_words(work: Workspace, number: int) -> Work:
    """Task of a partition: keep the preferred one of captions of the same word pairs, and send it to its bands."""
    rows = read_bucket(work.of_chunks(WORDS_IN), number).combine_chunks()
    rows = rows.take(pa.array(preference(rows)))
    sums = as_rows(rows["words"]) if rows.num_rows else np.empty((0, 16), np.uint8)
    _, first, group = np.unique(sums, axis=0, return_index=True, return_inverse=True)
    better = first[group.ravel()] if rows.num_rows else np.empty(0, np.int64)
    repeats = np.flatnonzero(better != np.arange(rows.num_rows))
    _send_bands(work, number, rows.take(pa.array(np.sort(first))))
    twins = pa.table(
        {"row": rows["row"].take(pa.array(repeats)), "better": rows["row"].take(pa.array(better[repeats])),
         "name": rows["name"].take(pa.array(better[repeats]))}
    )  # fmt: skip
    return twins, twins["better"].to_numpy() % work.num_partitions, {"rows": rows.num_rows}


def _send_bands(work: Workspace, number: int, rows: pa.Table) -> None:
    """Send captions with words to every band of their signature, unless only equal ones are alike."""
    assert work.filters.caption_duplicates is not None
    keys, places = list[np.ndarray](), list[int]()
    if work.filters.caption_duplicates.similarity < 1:
        for place, caption in enumerate(rows["caption"].to_pylist()):
            if words := shingles(caption):
                keys.append(band_keys(words))
                places.append(place)
    bands = np.concatenate(keys) if keys else np.empty(0, np.uint64)
    each = len(keys[0]) if keys else 1
    found = rows.select(["row", "caption"]).take(pa.array(np.repeat(places, each), pa.int64()))
    found = found.append_column("band", pa.array(bands, pa.uint64()))
    write_buckets(work.uri(BANDS_IN, number), found, (bands % np.uint64(work.num_partitions)).astype(np.int64))


@writes(PAIRS)
def compare_captions(work: Workspace, number: int) -> Work:
    """Task of a partition: compare the captions of each band, and tell which are alike."""
    assert work.filters.caption_duplicates is not None
    similarity = work.filters.caption_duplicates.similarity
    rows = read_bucket(work.of_partitions(BANDS_IN), number).sort_by("band").combine_chunks()
    numbers, bands = rows["row"].to_numpy(), rows["band"].to_numpy()
    _, starts = np.unique(bands, return_index=True)
    edges = set[tuple[int, int]]()
    for start, end in pairwise([*starts.tolist(), len(bands)]):
        if end - start > 1:
            sets = [shingles(text) for text in rows["caption"].slice(start, end - start).to_pylist()]
            edges |= {
                (int(numbers[start + a]), int(numbers[start + b]))
                for a, b in combinations(range(end - start), 2)
                if are_alike(sets[a], sets[b], similarity)
            }
    found = np.array(sorted(edges), np.int64).reshape(-1, 2)
    return *both_ways(found, work.num_partitions), {"edges": len(found)}


@writes(MEMBERS)
def send_members(work: Workspace, number: int) -> Work:
    """Task of a chunk: send rows whose captions hang together with others to where these are decided."""
    labels = read_bucket(work.of_partitions(labels_stage(PREFIX)), number)
    rows = read_bucket([work.uri(ROWS, number)], columns=PREFERENCE_COLUMNS)
    rows = rows.take(pc.index_in(labels["index"], value_set=rows["row"].combine_chunks()))
    rows = rows.append_column("label", labels["label"])
    return rows, labels["label"].to_numpy() % work.num_partitions, {"rows": rows.num_rows}


@writes(LOSERS)
def decide_captions(work: Workspace, number: int) -> Work:
    """Task of a partition: decide which captions nearly repeat one of a preferred row that stays."""
    assert work.filters.caption_duplicates is not None
    rows = read_bucket(work.of_chunks(MEMBERS), number).combine_chunks()
    matches = caption_duplicates(rows, work.filters.caption_duplicates, rows["label"].to_pylist())
    losers = pa.table(
        {"row": rows["row"].take(pa.array([match.index for match in matches], pa.int64())),
         "detail": pa.array([match.detail for match in matches], pa.string())}
    )  # fmt: skip
    return losers, losers["row"].to_numpy() % work.num_partitions, {"dropped": losers.num_rows}


@writes(CAPTIONS)
def drop_captions_anywhere(work: Workspace, number: int) -> Work:
    """Task of a partition: give each dropped row its words; captions of the same words share one fate."""
    losers = read_bucket(work.of_partitions(LOSERS), number)
    twins = read_bucket(work.of_partitions(WORDS), number)
    told = dict(zip(losers["row"].to_pylist(), losers["detail"].to_pylist(), strict=True))
    better = zip(twins["better"].to_pylist(), twins["name"].to_pylist(), strict=True)
    details = [*told.values(), *(told.get(row, f"caption of {name}") for row, name in better)]
    rows = pa.chunked_array([*losers["row"].chunks, *twins["row"].chunks], pa.int64())
    dropped = pa.table({"row": rows, "detail": pa.array(details, pa.string())})
    return dropped, work.chunks_of(dropped["row"]), {"dropped": dropped.num_rows}
