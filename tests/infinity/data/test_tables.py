"""Tables of Python rows are pyarrow's own and load no pandas, small ones become few pieces, waiting ones come back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infinity.data.tables import TableStack, WaitingRows, table_of

_KINDS = {
    "wide": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "narrow": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "hash": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "share": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "ratio": (pa.float64(), st.floats(allow_nan=False)),
    "kept": (pa.bool_(), st.booleans()),
    "name": (pa.string(), st.text(max_size=8)),
    "data": (pa.binary(), st.binary(max_size=8)),
    "large": (pa.large_binary(), st.binary(max_size=8)),
    "sum": (pa.binary(4), st.binary(min_size=4, max_size=4)),
}
_SCHEMA = pa.schema([(name, kind) for name, (kind, _) in _KINDS.items()], metadata={b"kind": b"test"})
_ROW = st.fixed_dictionaries({}, optional={name: st.none() | values for name, (_, values) in _KINDS.items()})


@settings(max_examples=40)
@given(st.lists(_ROW, max_size=12))
def test_tables_are_those_of_pyarrow(rows: list[dict[str, Any]]) -> None:
    found, expected = table_of(rows, _SCHEMA), pa.Table.from_pylist(rows, schema=_SCHEMA)
    found.validate(full=True)
    assert found.equals(expected, check_metadata=True)
    assert [column.null_count for column in found.columns] == [column.null_count for column in expected.columns]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("sum", b"123", ValueError),
        ("narrow", 2**31, (ValueError, OverflowError)),
        ("hash", -1, (ValueError, OverflowError)),
        ("wide", "1", TypeError),
        ("name", 1, TypeError),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        table_of([{name: value}], _SCHEMA)


def test_columns_of_other_kinds_are_refused() -> None:
    with pytest.raises(TypeError, match="found list"):
        table_of([{"a": [1]}], pa.schema([("a", pa.list_(pa.int64()))]))


def test_measuring_and_writing_load_neither_pandas_nor_torch() -> None:
    code = """
import sys, tempfile
from infinity.data.curation.dropped import small_pictures
from infinity.data.dataset.layout import ShardPlan
from infinity.data.curation.measuring import MeasuringCall, measure
from infinity.scenes.drawing import ScenesConfig
from infinity.data.dataset.shards import write_shard
from infinity.data.sources.opening import scene_source
from infinity.data.curation.storing import StoringConfig
(piece,) = scene_source(ScenesConfig(count=3)).slices
with tempfile.TemporaryDirectory() as folder:
    places = {name: f"{folder}/{name}.parquet" for name in ("facts", "quarantine", "reduced")}
    call = MeasuringCall(piece=piece, max_pixels=10**6, storing=StoringConfig(side_px=24), **places)
    facts, reduced = measure(call)
    samples = facts.append_column("key", facts["name"])
    write_shard(ShardPlan(split="train", aspect_ratio=1.0, samples=samples), (piece,), folder, 10**6)
    assert len(small_pictures(piece, [1], 10**6)) == 1
assert facts.num_rows == reduced.num_rows == 3
print(sorted({"pandas", "torch", "ray"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


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


WAITING = pa.schema([("key", pa.string()), ("digest", pa.binary(4)), ("size", pa.int32())])


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(st.text(max_size=9) | st.none(), st.integers(0, 9)), min_size=1, max_size=9)))
def test_rows_come_back_in_the_same_pieces(pieces: list[list[tuple[str | None, int]]]) -> None:
    tables = []
    for piece in pieces:
        rows = [{"key": key, "digest": bytes([size] * 4), "size": size} for key, size in piece]
        tables.append(pa.Table.from_pylist(rows, schema=WAITING))
    with WaitingRows(WAITING) as waiting:
        for table in tables:
            waiting.add(table)
        assert waiting.num_rows == sum(map(len, pieces))
        assert [table.to_pylist() for table in waiting.tables()] == [table.to_pylist() for table in tables]


def test_waiting_rows_take_no_memory() -> None:
    with WaitingRows(WAITING) as waiting:
        before = pa.total_allocated_bytes()
        for _ in range(100):
            waiting.add(pa.Table.from_pylist([{"key": "k" * 10_000, "digest": b"1234", "size": 1}], schema=WAITING))
        assert pa.total_allocated_bytes() - before < 100_000
