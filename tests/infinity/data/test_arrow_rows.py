"""Tables of Python rows are pyarrow's own, and making them loads no pandas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.arrow_rows import table_of

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
