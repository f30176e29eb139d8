"""Names of classes come from what a Parquet file notes of itself; a note that cannot be read names none."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from infinity.data.sources.columnar.rows import class_names


def noted(text: bytes) -> dict[str, tuple[str, ...]]:
    return class_names(pa.schema([("a", pa.int64())], metadata={b"huggingface": text}))


def test_names_of_classes_are_read_as_they_are_noted() -> None:
    feature = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    about = {"info": {"features": {"a": feature, "b": {"_type": "Value"}}}}
    assert noted(json.dumps(about).encode()) == {"a": ("cat", "dog")}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"7", b"\xff", b"[" * 100_000, b'{"info": {"features": []}}', b'{"info": {"features": {"a": 1}}}'],
)
def test_a_note_that_cannot_be_read_names_no_classes(text: bytes) -> None:
    assert noted(text) == {}
