"""A quarantine keeps whole what fits, the beginning of what does not, and never more bytes than it may."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.images.decoding import UnreadableError
from infinity.data.sources import quarantine
from infinity.data.sources.quarantine import Quarantine
from infinity.data.sources.samples import Record

PROBLEM = UnreadableError("truncated", "cut")
ROW, SLICE, BEGINNING = 100, 250, 10


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MAX_KEPT_BYTES", ROW)
    monkeypatch.setattr(quarantine, "MAX_SLICE_BYTES", SLICE)
    monkeypatch.setattr(quarantine, "BEGINNING_BYTES", BEGINNING)


def kept(*sizes: int, raw: bool = False) -> list[tuple[int, bool]]:
    """Bytes kept of each row, and whether they are all."""
    rows = Quarantine()
    for number, size in enumerate(sizes):
        data = bytes([number % 256]) * size
        record = Record(row=number, name="x", problem=PROBLEM if raw else None, raw=data if raw else b"")
        rows.add(record, PROBLEM, b"" if raw else data)
    found = rows.table().to_pylist()
    for number, (size, row) in enumerate(zip(sizes, found, strict=True)):
        whole = bytes([number % 256]) * size
        assert whole.startswith(row["data"])
        assert (row["num_bytes"], row["sha256"]) == (size, hashlib.sha256(whole).digest())
    return [(len(row["data"]), row["is_whole"]) for row in found]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((ROW,), [(ROW, True)]),
        ((ROW + 1,), [(BEGINNING, False)]),
        ((ROW, ROW, SLICE - 2 * ROW), [(ROW, True), (ROW, True), (SLICE - 2 * ROW, True)]),
        ((ROW, ROW, SLICE - 2 * ROW + 1), [(ROW, True), (ROW, True), (BEGINNING, False)]),
        ((ROW, ROW, ROW, ROW), [(ROW, True), (ROW, True), (BEGINNING, False), (BEGINNING, False)]),
        ((ROW, ROW, 45, ROW, 1), [(ROW, True), (ROW, True), (45, True), (5, False), (0, False)]),
        ((ROW, ROW, 50, 0), [(ROW, True), (ROW, True), (50, True), (0, True)]),
    ],
)
def test_bounds_of_rows_and_slices_hold_to_the_byte(sizes: tuple[int, ...], expected: list[tuple[int, bool]]) -> None:
    assert kept(*sizes) == expected
    assert kept(*sizes, raw=True) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2 * ROW), max_size=30), st.booleans())
def test_a_slice_never_keeps_more_than_its_bound(sizes: list[int], raw: bool) -> None:
    found = kept(*sizes, raw=raw)
    assert sum(number for number, _ in found) <= SLICE
    assert all(is_whole == (number == size) for (number, is_whole), size in zip(found, sizes, strict=True))
