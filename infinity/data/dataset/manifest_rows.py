"""Rows of a manifest: their columns, and rows with several captions among rows with one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

ROWS_PER_GROUP = 8192
"""Rows that are decoded together where a reader asks for the checksum, name or caption of one of them."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # name of the sample's files in its shard: a checksum of picture and captions
        ("shard", pa.string()),  # relative to the root that the head names
        ("offset", pa.int64()),  # of the picture's bytes in the shard
        ("num_bytes", pa.int64()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("extension", pa.string()),  # of the picture's file in the shard
        ("aspect_ratio", pa.float64()),  # the trained ratio (height / width) nearest to the picture's
        ("caption", pa.string()),
        ("caption_long", pa.string()),  # both null unless the source gives a long and a short one
        ("caption_short", pa.string()),
        ("split", pa.string()),
        ("sha256", pa.string()),  # of the picture's bytes in the shard
        ("original_sha256", pa.string()),  # of the file in the source; another one where the picture had to change
        ("pixels_sha256", pa.string()),  # of size and pixels, as they were decoded to be measured
        ("phash", pa.uint64()),
        ("url", pa.string()),
        ("source", pa.string()),  # the picture's name where it came from
    ]
)
"""Columns of the manifest; rows are ordered by split, aspect ratio, shard and place in the shard."""

FULL_SCHEMA = SCHEMA.append(pa.field("further", pa.string()))
"""Columns of rows with several captions: ``further`` is a JSON list of those that may stand for ``caption``, or null. A
manifest has this column only where some row has several captions."""


def with_further(rows: pa.Table) -> pa.Table:
    """Return rows of a manifest with the columns of ``FULL_SCHEMA``."""
    if "further" not in rows.column_names:
        rows = rows.append_column("further", pa.nulls(rows.num_rows, pa.string()))
    return rows.select(FULL_SCHEMA.names).cast(FULL_SCHEMA)


def has_further(rows: pa.Table) -> bool:
    """Return whether some row has further captions."""
    return "further" in rows.column_names and rows["further"].null_count < rows.num_rows


def whole_groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the same rows in pieces of one or more row groups, the last one of what is left; never nothing."""
    waiting, number, is_first = [schema.empty_table()], 0, True
    for table in tables:
        waiting.append(table.cast(schema))
        number += table.num_rows
        if number >= ROWS_PER_GROUP:
            rows, number = pa.concat_tables(waiting), number % ROWS_PER_GROUP
            yield rows.slice(0, rows.num_rows - number)
            waiting, is_first = [rows.slice(rows.num_rows - number)], False
    if number or is_first:
        yield pa.concat_tables(waiting)
