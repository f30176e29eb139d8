"""Rows that wait in a file on this machine, so that memory does not grow with their number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pyarrow as pa


class WaitingRows:
    """Tables of one schema, written as they come and read once, in the same order and cut at the same places.

    A context manager: the temporary file goes at the end of the block.
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
        """All rows, a piece at a time; none can be added any more."""
        self._writer.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            yield pa.Table.from_batches([batch])
