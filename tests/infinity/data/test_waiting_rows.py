"""Rows that wait in a file come back as they were put there."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.waiting_rows import WaitingRows

SCHEMA = pa.schema([("key", pa.string()), ("digest", pa.binary(4)), ("size", pa.int32())])


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(st.text(max_size=9) | st.none(), st.integers(0, 9)), min_size=1, max_size=9)))
def test_rows_come_back_in_the_same_pieces(pieces: list[list[tuple[str | None, int]]]) -> None:
    tables = []
    for piece in pieces:
        rows = [{"key": key, "digest": bytes([size] * 4), "size": size} for key, size in piece]
        tables.append(pa.Table.from_pylist(rows, schema=SCHEMA))
    with WaitingRows(SCHEMA) as waiting:
        for table in tables:
            waiting.add(table)
        assert waiting.num_rows == sum(map(len, pieces))
        assert [table.to_pylist() for table in waiting.tables()] == [table.to_pylist() for table in tables]


def test_waiting_rows_take_no_memory() -> None:
    with WaitingRows(SCHEMA) as waiting:
        before = pa.total_allocated_bytes()
        for _ in range(100):
            waiting.add(pa.Table.from_pylist([{"key": "k" * 10_000, "digest": b"1234", "size": 1}], schema=SCHEMA))
        assert pa.total_allocated_bytes() - before < 100_000
