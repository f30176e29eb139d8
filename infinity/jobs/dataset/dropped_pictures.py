"""Small pictures of rows that a data set does not hold, read once more from the source, for people to look at."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from infinity.data.curation.dropped import small_pictures
from infinity.data.sources.checking import UNREADABLE
from infinity.data.sources.opening import Slice
from infinity.jobs.cluster.fan_out import fan_out
from infinity.jobs.dataset.facts import SourceTable

PER_REASON = 10
MAX_SLICES = 32
"""Slices that are read again at most: those that hold most examples. The others keep their thumbnail of the facts."""


def dropped_pictures(rows: SourceTable, dropped: pa.Table, max_pixels: int) -> dict[int, bytes]:
    """Return JPEG files of the first few rows of every reason, by row; none of rows that cannot be read.

    Args:
        rows: All rows of the data set's sources.
        dropped: ``row`` and ``reason`` of those that are left out.
        max_pixels: Limit of the first pass: larger pictures are unreadable.

    Raises:
        StorageError: A source cannot be read.
    """
    examples: list[int] = []
    for reason in pc.unique(dropped["reason"]).to_pylist():
        if not reason.startswith(f"{UNREADABLE}_"):
            examples += dropped.filter(pc.equal(dropped["reason"], reason))["row"].slice(0, PER_REASON).to_pylist()
    wanted: dict[int, tuple[Slice, list[int]]] = {}
    for row in examples:
        (piece,) = rows.slices_of([row])
        wanted.setdefault(piece.first_row, (piece, []))[1].append(row)
    most_first = sorted(wanted.values(), key=lambda item: (-len(item[1]), item[0].first_row))
    found = fan_out(small_pictures, [(piece, chosen, max_pixels) for piece, chosen in most_first[:MAX_SLICES]])
    return {row: data for part in found for row, data in part.items()}
