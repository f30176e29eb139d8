"""A Parquet file whose columns are decoded when they are asked for, whole or only around some rows."""

from __future__ import annotations

import io
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_PIECES = 1024
"""Row groups of single columns that are kept: those of a shuffle's windows come again and again."""


class ParquetColumns:
    """Columns of a Parquet file that lies in memory as it is, or that is read in parts. Safe to share among threads.

    Args:
        content: The file, or a reader that seeks.
        repeating: Columns of few distinct texts: they come as dictionaries, which saves their time and memory.

    Raises:
        pyarrow.ArrowInvalid: Not a Parquet file.
    """

    def __init__(self, content: bytes | memoryview | io.RawIOBase, repeating: tuple[str, ...] = ()) -> None:
        self._buffer = content if isinstance(content, io.RawIOBase) else pa.BufferReader(content)
        metadata = pq.read_metadata(self._buffer)
        names = set(metadata.schema.to_arrow_schema().names)
        self._file = pq.ParquetFile(
            self._buffer, metadata=metadata, read_dictionary=[name for name in repeating if name in names]
        )
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts: list[int] = list(accumulate(counts, initial=0))
        self._lock = threading.Lock()
        self._whole: dict[str, pa.ChunkedArray] = {}
        self._pieces: OrderedDict[tuple[str, int], pa.Array] = OrderedDict()

    @property
    def num_rows(self) -> int:
        """Number of rows of the file."""
        return self._starts[-1]

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of the file."""
        return list(self._file.metadata.schema.to_arrow_schema().names)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The schema's metadata."""
        return dict(self._file.schema_arrow.metadata or {})

    def unfit(self, schema: pa.Schema) -> str | None:
        """Return how the columns differ in name or type from a schema; None where they do not."""
        found = self._file.metadata.schema.to_arrow_schema()
        if missing := [name for name in schema.names if name not in found.names]:
            return f"expected the columns {', '.join(schema.names)}; missing are {', '.join(missing)}"
        for field in schema:
            kind = found.field(field.name).type
            if kind != field.type:
                return f"expected the type {field.type} in the column {field.name!r}, found {kind}"
        return None

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column and remember it.

        Raises:
            KeyError: There is no column of that name.
            pyarrow.ArrowInvalid: The file is damaged.
            OSError: The file is damaged.
        """
        with self._lock:
            if name not in self._whole:
                self._whole[name] = self._file.read(columns=[name], use_threads=False)[name]
            return self._whole[name]

    def values(self, name: str, rows: Sequence[int]) -> list[Any]:
        """Return values of a column in some rows, in their order; only the row groups that hold them are decoded.

        Raises:
            KeyError: There is no such column.
            IndexError: There is no such row.
            pyarrow.ArrowInvalid: The file is damaged.
            OSError: The file is damaged.
        """
        if (whole := self._whole.get(name)) is not None:
            return [whole[row].as_py() for row in rows]
        groups = [bisect_right(self._starts, row) - 1 for row in rows]
        pieces = {group: (self._piece(name, group), self._starts[group]) for group in set(groups)}
        found = []
        for row, group in zip(rows, groups, strict=True):
            piece, start = pieces[group]
            found.append(piece[row - start].as_py())
        return found

    def groups(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of each row group, none as a dictionary; nothing is remembered.

        Raises:
            KeyError: There is no such column.
            pyarrow.ArrowInvalid: The file is damaged.
            OSError: The file is damaged.
        """
        schema = self._file.metadata.schema.to_arrow_schema()
        wanted = pa.schema([schema.field(name) for name in names])
        for group in range(len(self._starts) - 1):
            with self._lock:
                rows = self._file.read_row_group(group, columns=list(names), use_threads=False)
            yield rows.select(list(names)).cast(wanted)

    def whole(self) -> pa.Table:
        """Return all columns, none as a dictionary; not remembered.

        Raises:
            pyarrow.ArrowInvalid: The file is damaged.
            OSError: The file is damaged.
        """
        with self._lock:
            self._buffer.seek(0)
            return pq.read_table(self._buffer).replace_schema_metadata(None)

    def _piece(self, name: str, group: int) -> pa.Array:
        if group < 0 or group >= len(self._starts) - 1:
            raise IndexError(f"expected rows 0 to {self.num_rows - 1}, got another one")
        with self._lock:
            piece = self._pieces.pop((name, group), None)
            if piece is None:
                piece = self._file.read_row_group(group, columns=[name], use_threads=False)[name].combine_chunks()
            self._pieces[name, group] = piece
            if len(self._pieces) > _PIECES:
                self._pieces.popitem(last=False)
            return piece
