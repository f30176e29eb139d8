"""Captioned pictures in Parquet files, cut at row groups; ``columnar.py`` says what a row holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity import storage
from infinity.data.sources.columnar.rows import (
    ColumnarSlice,
    check_columns,
    class_names,
    needed_columns,
    picture_columns,
    row_of,
)
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.quarantine import is_quarantine
from infinity.data.sources.samples import CaptionChoice, SourceError
from infinity.storage.ranges import RangeReader

MAX_ROW_BYTES = 2**27
"""Rows that are larger on the average, unpacked, are not read: a page of a few of them would fill a worker."""

_ROWS_AT_ONCE = 16  # pictures in memory at the same time
_BYTES_AT_ONCE = 2**24  # fewer, where they are large
_READ_BYTES = 2**20
_SPLIT_ROWS = 1024  # a larger row group is dealt to several tasks, though each reads it from its beginning
_MAX_ROWS_PER_BYTE = 8  # a file that promises more rows is lying: tasks would be made for them


@dataclass(frozen=True, slots=True)
class ParquetSlice(ColumnarSlice):
    """``num_rows`` rows of one row group, from its row ``skip`` on."""

    uri: str
    group: int
    skip: int
    num_rows: int
    first_row: int
    captions: CaptionChoice
    columns: SourceColumns = field(default_factory=SourceColumns)

    def _rows(self) -> Iterator[dict[str, Any]]:
        with _opened(self.uri) as file:
            names, classes = needed_columns(file.schema_arrow, self.columns), class_names(file.schema_arrow)
            group = file.metadata.row_group(self.group)
            if group.total_byte_size > MAX_ROW_BYTES * max(1, group.num_rows):
                raise MemoryError(f"{group.total_byte_size:,} bytes in {group.num_rows:,} rows")
            at_once = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE * group.num_rows // max(1, group.total_byte_size)))
            position = 0
            for batch in file.iter_batches(at_once, row_groups=[self.group], columns=names, use_threads=False):
                for index in range(batch.num_rows):
                    if position >= self.skip + self.num_rows:
                        return
                    if position >= self.skip:
                        yield row_of(batch, names, index, classes)
                    position += 1


def parquet_slices(
    uri: str, first_row: int, captions: CaptionChoice, columns: SourceColumns
) -> tuple[list[ParquetSlice], int]:
    """Cut a Parquet file at its row groups; and the row behind its last.

    Raises:
        SourceError: The file is not Parquet, or has no column for pictures or captions.
        StorageError: The file cannot be read.
    """
    slices: list[ParquetSlice] = []
    row = first_row
    with _opened(uri) as file:
        check_columns(uri, file.schema_arrow, columns)
        if file.metadata.num_rows > 1000 + _MAX_ROWS_PER_BYTE * storage.size(uri):
            raise SourceError(f"{uri}: promises {file.metadata.num_rows:,} rows in {storage.size(uri):,} bytes")
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            for skip in range(0, size, _SPLIT_ROWS):
                part = min(_SPLIT_ROWS, size - skip)
                slices.append(ParquetSlice(uri, group, skip, part, row, captions, columns))
                row += part
    return slices, row


def parquet_kind(uri: str, columns: SourceColumns) -> str:
    """ "quarantine", "Parquet" (it has pictures) or "URL list".

    Raises:
        SourceError: The file is not Parquet.
    """
    with _opened(uri) as file:
        schema = file.schema_arrow
    if is_quarantine(schema):
        return "quarantine"
    has_pictures = picture_columns(uri, schema, columns)
    return "URL list" if columns.urls(schema.names) and not has_pictures else "Parquet"


def parquet_names(uri: str) -> list[str]:
    """Return the names of the columns of a Parquet file.

    Raises:
        SourceError: The file is not Parquet.
    """
    with _opened(uri) as file:
        return list(file.schema_arrow.names)


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        source = pa.PythonFile(RangeReader(uri), mode="r")
        # Pages come one after the other: a whole row group of pictures may be larger than a worker's memory.
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_READ_BYTES)
    except storage.StorageError:
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise SourceError(f"{uri}: expected a Parquet file ({error})") from error
    with file:
        yield file
