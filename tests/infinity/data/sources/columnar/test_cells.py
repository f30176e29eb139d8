"""Cells of files in columns that no value of Python can hold are bad rows, and end no job."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity.data.sources.opening import open_source
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.infinity.data.sources.test_opening import records
from tests.infinity.evaluation.pictures.test_table import BEYOND_PYTHON


@pytest.mark.parametrize("kind", BEYOND_PYTHON)
def test_a_picture_with_a_cell_that_python_cannot_hold_is_a_bad_row(tmp_path: Path, kind: str) -> None:
    pictures = pa.array([encoded(noise(8, 8, seed=1))])
    both = pa.StructArray.from_arrays([pictures, BEYOND_PYTHON[kind]], ["bytes", "taken"])
    pq.write_table(pa.table({"image": both, "text": ["a cube"]}), tmp_path / "a.parquet")
    (record,) = records(open_source(str(tmp_path)))
    assert record.problem is not None
    assert record.problem.reason == "bad_row"
    assert "image" in record.problem.detail
