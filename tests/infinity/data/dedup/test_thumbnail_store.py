"""Thumbnails in a file come back by row, in any order; a row that has none is an error."""

import sys
from pathlib import Path

import numpy as np
import pytest

from infinity.data.dedup.thumbnail_store import ThumbnailStore


def pictures(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)


def test_thumbnails_come_back_by_row() -> None:
    first, second = pictures(3), pictures(2)
    store = ThumbnailStore(
        [(np.array([2, 5, 9]), first), (np.array([], np.int64), first[:0]), (np.array([20, 21]), second)]
    )
    found = store.of(np.array([21, 2, 9, 2]))
    assert np.array_equal(found, np.stack([second[1], first[0], first[2], first[0]]))
    assert store.of(np.array([], np.int64)).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("row", [0, 3, 99])
def test_rows_without_a_thumbnail_are_an_error(row: int) -> None:
    store = ThumbnailStore([(np.array([2, 5]), pictures(2))])
    with pytest.raises(KeyError):
        store.of(np.array([2, row]))
    with pytest.raises(KeyError):
        ThumbnailStore([]).of(np.array([row]))


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        ThumbnailStore([(np.array([5]), pictures(1)), (np.array([2]), pictures(1))])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process holds")
def test_what_was_looked_at_is_no_memory_of_the_process() -> None:
    store = ThumbnailStore((np.arange(at, at + 500), pictures(500)) for at in range(0, 10_000, 500))  # 31 MB
    before = resident_files()
    for at in range(0, 10_000, 500):
        store.of(np.arange(at, at + 500))
    assert resident_files() - before < 8 * 2**20


def resident_files() -> int:
    """Bytes of mapped files that this process holds in memory."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile:"))
    return int(line.split()[1]) * 1024
