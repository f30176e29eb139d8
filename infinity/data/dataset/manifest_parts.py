"""Rows of a large manifest: Parquet files beside a small head, opened one by one when their rows are asked for."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity import storage
from infinity.config import Config
from infinity.data.dataset.manifest_rows import ROWS_PER_GROUP
from infinity.data.dataset.parquet_columns import ParquetColumns
from infinity.storage.ranges import RangeReader

PARTS_FOLDER = "rows"
PART_PATH = re.compile(rf"{PARTS_FOLDER}/[0-9a-f]{{16}}\.parquet")
"""Paths of files of rows, relative to the manifest's folder; a manifest that names others is refused."""

ROWS_PER_PART = 32 * ROWS_PER_GROUP
_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestPart(Config):
    """One file of rows.

    Attributes:
        path: Path of the file, relative to the folder of the manifest.
        num_rows: Number of its rows.
        num_bytes: Size of the file.
        sha256: Checksum of the file.
    """

    path: str
    num_rows: int
    num_bytes: int
    sha256: str


def write_parts(
    folder: str, groups: Iterable[pa.Table], schema: pa.Schema, rows_per_part: int
) -> tuple[ManifestPart, ...]:
    """Write rows into files that are named by their content; one of them is in memory at a time.

    Args:
        folder: URI of the manifest's folder.
        groups: Rows in order, in pieces of whole row groups but for the last one.
        rows_per_part: Rows of a file, but for the last one: whole row groups.

    Raises:
        StorageError: A file cannot be written.
    """
    parts = []
    for rows in _in_parts(groups, rows_per_part):
        file = io.BytesIO()
        pq.write_table(rows.cast(schema), file, compression="zstd", row_group_size=ROWS_PER_GROUP)
        content = file.getbuffer()
        digest = hashlib.sha256(content).hexdigest()
        path = f"{PARTS_FOLDER}/{digest[:16]}.parquet"
        storage.put_once(storage.join(folder, path), content)
        parts.append(ManifestPart(path=path, num_rows=rows.num_rows, num_bytes=len(content), sha256=digest))
    return tuple(parts)


def _in_parts(groups: Iterable[pa.Table], rows_per_part: int) -> Iterator[pa.Table]:
    waiting, number = list[pa.Table](), 0
    for rows in groups:
        waiting.append(rows)
        number += rows.num_rows
        while number >= rows_per_part:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows_per_part)
            number -= rows_per_part
            waiting = [whole.slice(rows_per_part)]
    if number:
        yield pa.concat_tables(waiting)


class PartedColumns:
    """Columns of rows that lie in several files, as ``ParquetColumns`` gives those of one. Safe to share among threads.

    Args:
        parts: The files, in order, at least one.
        folder: URI of the manifest's folder.
        repeating: Columns of few distinct texts: they come as dictionaries.

    Attributes:
        parts: The files, in order.

    Raises:
        StorageError: The first file cannot be read.
        pyarrow.ArrowInvalid: It is not a Parquet file.
    """

    def __init__(self, parts: Sequence[ManifestPart], folder: str, repeating: tuple[str, ...] = ()) -> None:
        self.parts, self._folder, self._repeating = tuple(parts), folder, repeating
        self._starts: list[int] = list(accumulate((part.num_rows for part in parts), initial=0))
        self._opened: dict[int, ParquetColumns] = {}
        self._lock = threading.Lock()
        self._first = self._file(0)

    @property
    def num_rows(self) -> int:
        """Number of rows of all files."""
        return self._starts[-1]

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, the same in all files."""
        return self._first.column_names

    def unfit(self, schema: pa.Schema) -> str | None:
        """Return how the columns of the first file differ from a schema; None where they do not."""
        return self._first.unfit(schema)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of all files and remember it."""
        pieces = [self._file(number).column(name) for number in range(len(self.parts))]
        kind = pieces[0].type
        return pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks], kind)

    def values(self, name: str, rows: Sequence[int]) -> list[Any]:
        """Return values of a column in some rows, in their order; only files and row groups that hold them are read.

        Raises:
            IndexError: There is no such row.
        """
        found: list[Any] = [None] * len(rows)
        places: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            number = bisect_right(self._starts, row) - 1
            if not 0 <= number < len(self.parts):
                raise IndexError(f"expected rows 0 to {self.num_rows - 1}, got another one")
            places.setdefault(number, []).append(place)
        for number, chosen in places.items():
            values = self._file(number).values(name, [rows[place] - self._starts[number] for place in chosen])
            for place, value in zip(chosen, values, strict=True):
                found[place] = value
        return found

    def groups(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of each row group of each file; one file is open at a time, and nothing is remembered."""
        for number in range(len(self.parts)):
            yield from self._open(number).groups(names)

    def whole(self) -> pa.Table:
        """Return all columns of all files, none as a dictionary; not remembered."""
        return pa.concat_tables([self._file(number).whole() for number in range(len(self.parts))])

    def _file(self, number: int) -> ParquetColumns:
        with self._lock:
            if number not in self._opened:
                self._opened[number] = self._open(number)
            return self._opened[number]

    def _open(self, number: int) -> ParquetColumns:
        part = self.parts[number]
        uri = storage.join(self._folder, part.path)
        found = ParquetColumns(RangeReader(uri, _BLOCK_BYTES), self._repeating)
        if found.num_rows != part.num_rows:
            raise pa.ArrowInvalid(f"{uri}: expected {part.num_rows} rows, found {found.num_rows}")
        return found
