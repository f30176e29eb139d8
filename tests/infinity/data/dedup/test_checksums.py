"""Equal checksums are found without an object for each."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from infinity.data.dedup.checksums import as_rows, earlier_equals, equal_codes

CHECKSUMS = st.lists(st.sampled_from([b"\0\0\0", b"\0\0\1", b"\1\0\0", b"abc", b"ab\0"]), max_size=30)


@given(CHECKSUMS, st.integers(1, 7))
def test_rows_hold_the_bytes_of_the_column_however_it_is_cut(values: list[bytes], size: int) -> None:
    column = pa.chunked_array([pa.array(values, pa.binary(3))])
    cut = pa.chunked_array(
        [piece for at in range(0, len(values), size) for piece in column.slice(at, size).chunks], pa.binary(3)
    )
    assert [row.tobytes() for row in as_rows(cut)] == values


@given(CHECKSUMS)
def test_codes_are_equal_where_the_bytes_are(values: list[bytes]) -> None:
    rows = as_rows(pa.chunked_array([pa.array(values, pa.binary(3))]))
    codes = equal_codes(rows)
    assert [[a == b for b in values] for a in values] == (codes[:, None] == codes[None, :]).tolist()
    assert earlier_equals(rows).tolist() == [values[:at].count(value) for at, value in enumerate(values)]
    assert set(codes.tolist()) == set(range(len(set(values))))
    assert np.issubdtype(codes.dtype, np.int64)
