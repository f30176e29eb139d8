"""Tables of rows: from Python values without pandas, many small ones as one, and rows that wait in a file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_MOST_BYTES = 2**31 - 1
"""Most bytes of all values of a column of texts or bytes, unless it is a large one: offsets have 32 bits."""
_ROWS, _TABLES = 8192, 128
"""Most rows and tables that wait until they are one piece, whose own cost is then lost among its values."""


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return the table that ``pyarrow.Table.from_pylist`` would make: what a row does not have is null there.

    ``from_pylist`` looks whether a value comes from pandas and loads it to know: 0.4 seconds of a processor and 40 MB
    in every worker of a stage whose whole work on a picture takes a hundredth of a second.

    Args:
        rows: Numbers, truth values, texts and bytes by column.
        schema: Columns of these kinds.

    Raises:
        ValueError: A value does not fit its column.
        TypeError: A column of another kind, or a value of another kind than its column.
    """
    columns = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    present = np.array([value is not None for value in values], bool)
    valid = None if present.all() else pa.py_buffer(_bits(present))
    return pa.Array.from_buffers(kind, len(values), [valid, *_buffers(values, kind)])


def _buffers(values: list[Any], kind: pa.DataType) -> list[pa.Buffer]:
    """Return the value buffers of a column; where a value is absent, its bytes are arbitrary."""
    if pa.types.is_boolean(kind):
        return [pa.py_buffer(_bits(np.array([value is True for value in values], bool)))]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = [0 if value is None else value for value in values]
        if any(isinstance(value, (str, bytes)) for value in numbers):  # numpy would read a number out of them
            raise TypeError(f"table_of: expected numbers in a column of {kind}, found a text")
        return [pa.py_buffer(np.array(numbers, kind.to_pandas_dtype()))]
    if pa.types.is_fixed_size_binary(kind):
        parts = [bytes(kind.byte_width) if value is None else value for value in values]
        if any(len(part) != kind.byte_width for part in parts):
            raise ValueError(f"table_of: expected {kind.byte_width} bytes in every value of a column")
        return [pa.py_buffer(b"".join(parts))]
    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    if is_large or pa.types.is_string(kind) or pa.types.is_binary(kind):
        as_bytes = [b"" if value is None else value.encode() if isinstance(value, str) else value for value in values]
        ends = list(accumulate(map(len, as_bytes), initial=0))
        if ends[-1] > _MOST_BYTES and not is_large:
            raise ValueError(f"table_of: expected at most {_MOST_BYTES:,} bytes in a column, found {ends[-1]:,}")
        return [pa.py_buffer(np.array(ends, np.int64 if is_large else np.int32)), pa.py_buffer(b"".join(as_bytes))]
    raise TypeError(f"table_of: expected columns of numbers, truth values, texts or bytes, found {kind}")


def _bits(values: np.ndarray) -> np.ndarray:
    return np.packbits(values, bitorder="little")


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """Return a compressed Parquet file of a table, the same bytes for the same rows."""
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_statistics=False, row_group_size=row_group_size)
    return file.getvalue()


def shifted(table: pa.Table, shift: int) -> pa.Table:
    """Return a table with a number added to each value of its column ``row``."""
    rows = pc.add(table["row"], pa.scalar(shift, pa.int64()))
    return table.set_column(table.schema.get_field_index("row"), "row", rows) if shift else table


class TableStack:
    """Tables with the same columns, one below the other; what was added is copied and need not be kept.

    A table of 64 rows and 18 columns takes five times the memory of its values.
    """

    def __init__(self) -> None:
        self._pieces: list[pa.Table] = []
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Put one table below all others."""
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= _ROWS or len(self._waiting) >= _TABLES:
            self._join()

    def whole(self) -> pa.Table:
        """Return all rows; at least one table was added."""
        self._join()
        return pa.concat_tables(self._pieces)

    def _join(self) -> None:
        if self._waiting:
            self._pieces.append(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting, self._rows = [], 0


class WaitingRows:
    """Tables of one schema, written as they come and read once, in the same order and cut at the same places.

    They wait in a file on this machine, so that memory does not grow with their number. A context manager: the
    temporary file goes at the end of the block.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._writer = pa.ipc.new_stream(self._file, schema)
        self.num_rows = 0

    def __enter__(self) -> WaitingRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, table: pa.Table) -> None:
        """Put rows behind all others.

        Raises:
            OSError: No space is left for temporary files.
        """
        self._writer.write_table(table)
        self.num_rows += table.num_rows

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows, a piece at a time; none can be added any more."""
        self._writer.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            yield pa.Table.from_batches([batch])
