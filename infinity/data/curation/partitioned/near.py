"""Near duplicates of what hangs together: decided as in one table, in any number of partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.partitioned.components import LABELS
from infinity.data.curation.partitioned.looks import ORDERED, TWINS
from infinity.data.curation.partitioned.row_rules import NEAR
from infinity.data.curation.partitioned.workspace import ROWS, Chunk, Work, Workspace, writes
from infinity.data.dedup.duplicates import block_edges, repeated_looks
from infinity.data.dedup.near_duplicates import Fingerprints, thumbnails_in
from infinity.data.images.fingerprint import THUMBNAIL_PX

MEMBERS, FACES, LOSERS = "members", "faces", "losers"
_COLUMNS = ("name", "phash", "width_px", "height_px")


@writes(MEMBERS)
def send_members(work: Workspace, number: int, start: int) -> Work:
    """Task of a range: tell the chunks which of their rows hang together with others.

    Args:
        start: Place in the order of all at which the range begins.
    """
    labels = read_bucket(work.of_partitions(LABELS), number)
    rows = read_bucket([work.uri(ORDERED, number)], columns=["row"])
    found = rows.take(pa.array(labels["index"].to_numpy() - start))
    members = pa.table({"row": found["row"], "index": labels["index"], "label": labels["label"]})
    return members, work.chunks_of(members["row"]), {"rows": members.num_rows}


@writes(FACES)
def send_faces(work: Workspace, number: int, chunk: Chunk) -> Work:
    """Task of a chunk: send rows that hang together with others, with their thumbnails, to where they are decided."""
    members = read_bucket(work.of_partitions(MEMBERS), number)
    rows = read_bucket([work.uri(ROWS, number)], columns=["row", *_COLUMNS])
    rows = rows.take(pc.index_in(members["row"], value_set=rows["row"].combine_chunks()))
    pictures = pa.py_buffer(np.ascontiguousarray(chunk.thumbnails(members["row"])))
    kind = pa.binary(THUMBNAIL_PX * THUMBNAIL_PX * 3)
    thumbnails = pa.Array.from_buffers(kind, members.num_rows, [None, pictures])
    for name in _COLUMNS:
        members = members.append_column(name, rows[name])
    members = members.append_column("thumbnail", thumbnails)
    return members, members["label"].to_numpy() % work.num_partitions, {"rows": members.num_rows}


@writes(LOSERS)
def decide_near(work: Workspace, number: int, total: int) -> Work:
    """Task of a partition: decide which looks repeat a better one that stays.

    Args:
        total: Number of looks in all ranges.
    """
    assert work.filters.near_duplicates is not None
    rows = read_bucket(work.of_chunks(FACES), number).sort_by("index").combine_chunks()
    index, label = (rows[name].to_numpy() for name in ("index", "label"))
    looks = Fingerprints.of(rows, thumbnails_in(rows))
    dropped = repeated_looks(looks, blocks_of(index, label, total), work.filters.near_duplicates)
    repeats, kept = pa.array(dropped.keys(), pa.int64()), pa.array(dropped.values(), pa.int64())
    losers = pa.table({"row": rows["row"].take(repeats), "name": rows["name"].take(kept)})
    buckets = losers["row"].to_numpy() % work.num_partitions
    return losers, buckets, {"rows": rows.num_rows, "dropped": losers.num_rows}


def blocks_of(index: Int[np.ndarray, " n"], label: Int[np.ndarray, " n"], total: int) -> list[Int[np.ndarray, " m"]]:
    """Return the places of rows that are compared together, as in one table of all.

    Neighbouring blocks of that table are one where no component has rows in two of them: the result is the same.

    Args:
        index: Place of each row in the order of all, ascending.
        total: Number of rows of all.
    """
    numbers = np.searchsorted(np.array(block_edges(total)), index, side="right")
    cuts, seen = [0], dict[int, int]()
    for place, (number, component) in enumerate(zip(numbers.tolist(), label.tolist(), strict=True)):
        if seen.get(component, number) != number:
            cuts.append(int(np.searchsorted(numbers, number)))
            seen = dict.fromkeys(label[cuts[-1] : place].tolist(), number)
        seen[component] = number
    return [np.arange(start, end) for start, end in zip(cuts, [*cuts[1:], len(index)], strict=True)]


@writes(NEAR)
def drop_near(work: Workspace, number: int) -> Work:
    """Task of a partition: give each dropped row its words; a picture that looks the same shares its better's fate."""
    losers = read_bucket(work.of_partitions(LOSERS), number)
    twins = read_bucket(work.of_partitions(TWINS), number)
    kept = dict(zip(losers["row"].to_pylist(), losers["name"].to_pylist(), strict=True))
    names = zip(twins["better"].to_pylist(), twins["name"].to_pylist(), strict=True)
    details = [f"nearly {name}" for name in [*kept.values(), *(kept.get(row, name) for row, name in names)]]
    rows = pa.chunked_array([*losers["row"].chunks, *twins["row"].chunks], pa.int64())
    dropped = pa.table({"row": rows, "detail": pa.array(details, pa.string())})
    return dropped, work.chunks_of(dropped["row"]), {"dropped": dropped.num_rows}


def starts_of(told: Sequence[dict[str, Any]]) -> list[int]:
    """Return where each range begins in the order of all, and the number of all, from what tasks tell of the ranges."""
    return [0, *np.cumsum([each["rows"] for each in told], dtype=np.int64).tolist()]
