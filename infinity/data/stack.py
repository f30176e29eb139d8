"""Many small tables as one, without the memory that each of them takes beside its values."""

from __future__ import annotations

import pyarrow as pa

_ROWS, _TABLES = 8192, 128
"""How many wait at most until they are one piece, whose own cost is then lost among its values."""


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
        """All rows; at least one table was added."""
        self._join()
        return pa.concat_tables(self._pieces)

    def _join(self) -> None:
        if self._waiting:
            self._pieces.append(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting, self._rows = [], 0
