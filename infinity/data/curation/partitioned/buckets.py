"""Rows of one task for many others: a Parquet file with a row group per bucket, of which a reader takes one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from infinity import storage
from infinity.data.dedup.checksums import as_rows
from infinity.storage.ranges import RangeReader

_BUCKETS, _TOLD = b"infinity.buckets", b"infinity.told"
_BLOCK_BYTES = 256 * 1024
"""Bytes that are read at once where less is asked for: the description of a file, or a small bucket."""


def write_buckets(
    uri: str, rows: pa.Table, buckets: Int[np.ndarray, " n"], told: Mapping[str, Any] | None = None
) -> None:
    """Write rows so that ``read_bucket`` finds those of one bucket without reading the others.

    Args:
        uri: Place of the file.
        rows: The rows; within a bucket they keep their order.
        buckets: Number of the bucket of each row.
        told: A few numbers that ``read_told`` gives back.

    Raises:
        StorageError: The file cannot be written.
    """
    present, counts = np.unique(buckets, return_counts=True)
    sorted_rows = rows.take(pa.array(np.argsort(buckets, kind="stable")))
    notes = {_BUCKETS: present.tolist(), _TOLD: dict(told or {})}
    schema = rows.schema.with_metadata({key: json.dumps(note, sort_keys=True).encode() for key, note in notes.items()})
    file, start = io.BytesIO(), 0
    with pq.ParquetWriter(file, schema, compression="zstd", write_statistics=False) as writer:
        for count in counts.tolist():
            writer.write_table(sorted_rows.slice(start, count).cast(schema), row_group_size=count)
            start += count
    storage.write_bytes(uri, file.getbuffer())


def write_rows(uri: str, rows: pa.Table) -> None:
    """Write rows that belong together: a file with one bucket, or none."""
    write_buckets(uri, rows, np.zeros(rows.num_rows, np.int64))


def read_bucket(uris: Iterable[str], bucket: int = 0, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of one bucket from the files of all tasks, in the order of the files.

    Args:
        uris: Places of the files, at least one.
        bucket: Number of the bucket.
        columns: Columns to read; None for all.

    Raises:
        StorageError: A file cannot be read.
    """
    return pa.concat_tables([_read_one(uri, bucket, columns) for uri in uris]).combine_chunks()


def _read_one(uri: str, bucket: int, columns: Sequence[str] | None) -> pa.Table:
    with _explained(uri), pq.ParquetFile(RangeReader(uri, _BLOCK_BYTES)) as file:
        schema = file.schema_arrow
        present: list[int] = json.loads(schema.metadata[_BUCKETS])
        names = schema.names if columns is None else list(columns)
        if bucket in present:
            found = file.read_row_group(present.index(bucket), columns=names, use_threads=False)
        else:
            found = schema.empty_table().select(names)
        return found.select(names).replace_schema_metadata(None)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn what a damaged file raises into a sentence: the file was written whole, so the disk has changed it."""
    try:
        yield
    except storage.StorageError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise storage.StorageError(
            f"{uri}: expected a file that this decision wrote, found a damaged one ({type(error).__name__}: {error}); "
            "delete it and run the command again"
        ) from error


def read_told(uri: str) -> dict[str, Any] | None:
    """Return what was told of a file when it was written, without reading its rows; None where there is no file.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        with _explained(uri), pq.ParquetFile(RangeReader(uri, _BLOCK_BYTES)) as file:
            return dict(json.loads(file.schema_arrow.metadata[_TOLD]))
    except storage.FileMissingError:
        return None


def by_checksum(column: pa.ChunkedArray, number: int) -> Int[np.ndarray, " n"]:
    """Return a bucket for each checksum of a column: equal for equal ones, and all buckets about equally full."""
    first = np.ascontiguousarray(as_rows(column)[:, :8]).view(">u8").ravel()
    return np.asarray(first.astype(np.uint64) % np.uint64(number), np.int64)
