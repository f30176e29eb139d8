"""What near duplicates are compared by, and the order of preference of all pictures that may stay.

Pictures that no comparison tells apart meet in a partition, and the preferred one goes on. Then the rows are dealt to
partitions anew, now by ranges of their preference, so that the place of each in the order of all is known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8

from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket, write_buckets
from infinity.data.curation.partitioned.row_rules import PREFERENCE_COLUMNS
from infinity.data.curation.partitioned.workspace import Chunk, Work, Workspace, writes
from infinity.data.dedup.checksums import as_rows, as_values, equal_codes
from infinity.data.dedup.duplicates import look_key, preference
from infinity.data.dedup.near_duplicates import Fingerprints
from infinity.data.dedup.structure import told_by

LOOKS_IN, FIRSTS, TWINS, SPREAD, ORDERED = "looks-in", "firsts", "twins", "spread", "ordered"
_SAMPLES = 64
"""Places in a partition's order that are told, so that ranges of about equal size can be chosen."""

_COMPARED = ("row", "phash", "width_px", "height_px", "coarse")


@writes(LOOKS_IN)
def send_looks(work: Workspace, number: int, chunk: Chunk, before: Sequence[str]) -> Work:
    """Task of a chunk: look at the thumbnails of what is left, and send pictures that look the same to one place."""
    assert work.filters.near_duplicates is not None
    rows = work.remaining(number, before)
    pictures = chunk.thumbnails(rows["row"])
    structured, framed = told_by(rows, pictures.__getitem__, work.filters.near_duplicates.difference)
    places = np.flatnonzero(structured)
    rows, pictures = rows.take(pa.array(places)), pictures[places]
    coarse = Fingerprints.of(rows, pictures.__getitem__).coarse
    columns = zip(*(rows[name].to_pylist() for name in ("phash", "width_px", "height_px")), pictures, strict=True)
    looks = rows.select([*PREFERENCE_COLUMNS, "phash"]).drop_columns(["pixels"])
    looks = looks.append_column("framed", pa.array(framed[places]))
    looks = looks.append_column("coarse", _bytes(coarse))
    looks = looks.append_column("look", pa.array([look_key(*each) for each in columns], pa.binary(16)))
    return looks, by_checksum(looks["look"], work.num_partitions), {"rows": rows.num_rows}


@writes(FIRSTS)
def choose_firsts(work: Workspace, number: int) -> Work:
    """Task of a partition: of pictures that look the same the preferred one goes on, the others remember it."""
    rows = read_bucket(work.of_chunks(LOOKS_IN), number)
    order = preference(rows, rows["framed"].to_numpy(zero_copy_only=False))
    codes = equal_codes(as_rows(rows["look"]))
    _, first, group = np.unique(codes[order], return_index=True, return_inverse=True)
    better = order[first[group]]
    repeats = np.flatnonzero(better != order)
    twins, known = rows.take(pa.array(order[repeats])), rows.take(pa.array(better[repeats]))
    told = pa.table({"row": twins["row"], "better": known["row"], "name": known["name"]})
    write_buckets(work.uri(TWINS, number), told, known["row"].to_numpy() % work.num_partitions)
    firsts = rows.take(pa.array(np.sort(order[first])))
    ranks = _ranks(firsts)
    values = np.sort(as_values(ranks))
    chosen = values[np.linspace(0, len(values) - 1, _SAMPLES).round().astype(int)] if len(values) else values
    samples = [each.tobytes().hex() for each in chosen]
    firsts = firsts.select(_COMPARED).append_column("rank", _bytes(ranks))
    return firsts, None, {"rows": firsts.num_rows, "twins": told.num_rows, "samples": samples}


def ranges(told: Sequence[dict[str, Any]]) -> list[str]:
    """Return where the ranges of ranks end, but for the last one, from what ``choose_firsts`` tells of every partition.

    Ranges are about equally full: a sample stands for its share of the rows of its partition.
    """
    samples = sorted((sample, each["rows"] / len(each["samples"])) for each in told for sample in each["samples"])
    if not samples:
        return []
    weights = np.cumsum([weight for _, weight in samples])
    wanted = weights[-1] * np.arange(1, len(told)) / len(told)
    return [samples[place][0] for place in np.searchsorted(weights, wanted).tolist()]


@writes(SPREAD)
def spread_firsts(work: Workspace, number: int, ends: Sequence[str]) -> Work:
    """Task of a partition: send each row to the range that its rank lies in."""
    rows = read_bucket([work.uri(FIRSTS, number)])
    edges = [bytes.fromhex(end) for end in ends]
    buckets = [bisect_right(edges, rank) for rank in rows["rank"].to_pylist()]
    return rows, np.array(buckets, np.int64), {"rows": rows.num_rows}


@writes(ORDERED)
def order_firsts(work: Workspace, number: int) -> Work:
    """Task of a range: put its rows in order of preference."""
    rows = read_bucket(work.of_partitions(SPREAD), number)
    order = np.argsort(as_values(as_rows(rows["rank"])), kind="stable")
    return rows.take(pa.array(order)).select(_COMPARED), None, {"rows": rows.num_rows}


def _ranks(rows: pa.Table) -> UInt8[np.ndarray, "n 53"]:
    """Return bytes that sort as ``preference`` sorts pictures of different content, smallest first."""
    pixels = rows["width_px"].to_numpy().astype(np.int64) * rows["height_px"].to_numpy().astype(np.int64)
    lengths = np.array([len(text) for text in rows["caption"].to_pylist()], np.int64)
    parts = [rows["framed"].to_numpy(zero_copy_only=False).astype(np.uint8)[:, None]]
    for values, width in ((pixels, 8), (rows["num_bytes"].to_numpy(), 8), (lengths, 4)):
        parts.append(_descending(values, width))
    return np.concatenate([*parts, as_rows(rows["content"])], axis=1)


def _descending(values: Int[np.ndarray, " n"], width: int) -> UInt8[np.ndarray, "n w"]:
    rest = (2**63 - 1 - values).astype(">u8").view(np.uint8).reshape(-1, 8)
    return rest if width == 8 else (2**31 - 1 - values).astype(">u4").view(np.uint8).reshape(-1, 4)


def _bytes(rows: UInt8[np.ndarray, "n w"]) -> pa.Array:
    content = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, content])
