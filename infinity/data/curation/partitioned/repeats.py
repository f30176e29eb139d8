"""Rows with the same pixels or nearly the same caption: they meet in a partition, where the preferred one stays."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from infinity.data.curation.partitioned.buckets import by_checksum, read_bucket
from infinity.data.curation.partitioned.row_rules import CAPTIONS, EXACT, EXACT_IN, PREFERENCE_COLUMNS
from infinity.data.curation.partitioned.workspace import Work, Workspace, writes
from infinity.data.dedup.duplicates import Match, caption_duplicates, exact_duplicates

CAPTIONS_IN = "captions-in"


@writes(EXACT)
def drop_exact(work: Workspace, number: int) -> Work:
    """Task of a partition: drop what has the pixels of a preferred row."""
    rows = read_bucket(work.of_chunks(EXACT_IN), number)
    return _dropped(work, rows, exact_duplicates(rows, work.filters.duplicates))


@writes(CAPTIONS_IN)
def send_captions(work: Workspace, number: int, before: Sequence[str]) -> Work:
    """Task of a chunk: send what is left to the partition of its pixels."""
    rows = work.remaining(number, before).select(PREFERENCE_COLUMNS)
    return rows, by_checksum(rows["pixels"], work.num_partitions), {"rows": rows.num_rows}


@writes(CAPTIONS)
def drop_captions(work: Workspace, number: int) -> Work:
    """Task of a partition: drop what nearly has the caption of a preferred row with the same pixels."""
    assert work.filters.caption_duplicates is not None
    rows = read_bucket(work.of_chunks(CAPTIONS_IN), number)
    return _dropped(work, rows, caption_duplicates(rows, work.filters.caption_duplicates))


def _dropped(work: Workspace, rows: pa.Table, matches: Sequence[Match]) -> Work:
    """Return which rows a task drops and why, in the buckets of their chunks."""
    places = pa.array([match.index for match in matches], pa.int64())
    details = pa.array([match.detail for match in matches], pa.string())
    dropped = pa.table({"row": rows["row"].take(places), "detail": details})
    return dropped, work.chunks_of(dropped["row"]), {"rows": rows.num_rows, "dropped": dropped.num_rows}
