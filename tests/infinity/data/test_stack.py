"""Many small tables become one of few pieces."""

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infinity.data.stack import TableStack

TEXTS = pa.schema([("row", pa.int64()), ("text", pa.string())])


@settings(max_examples=30)
@example([100] * 300)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=300))
def test_a_stack_holds_all_rows_in_order_in_few_pieces(sizes: list[int]) -> None:
    stack, rows = TableStack(), 0
    for size in sizes:
        values = list(range(rows, rows + size))
        stack.add(pa.table({"row": values, "text": [str(value) for value in values]}, schema=TEXTS))
        rows += size
    whole = stack.whole()
    assert whole.schema == TEXTS
    assert whole["row"].to_pylist() == list(range(rows))
    assert whole["text"].to_pylist() == [str(value) for value in range(rows)]
    assert whole["row"].num_chunks <= rows // 8192 + len(sizes) // 128 + 1


def test_what_was_added_need_not_be_kept() -> None:
    before = pa.total_allocated_bytes()
    stack = TableStack()
    for _ in range(1000):
        table = pa.table({"row": pa.array([1]), "text": pa.array(["x" * 4096])}, schema=TEXTS)
        stack.add(table.slice(0, 1))
    del table
    whole = stack.whole()
    del stack
    assert pa.total_allocated_bytes() - before <= 1.1 * whole.nbytes
