"""Cells of shape and brightness leave no pair out, and blocks that join decide as those of one table."""

import numpy as np
import pyarrow as pa
import pytest

from infinity.data.curation.partitioned.near import blocks_of
from infinity.data.curation.partitioned.pairs import near_cells
from infinity.data.dedup.config import NearDuplicates
from infinity.data.dedup.duplicates import block_edges
from infinity.data.dedup.near_duplicates import Fingerprints, likely_pairs


def looks(number: int, seed: int) -> Fingerprints:
    """Pictures of a few shapes and colours whose hashes lie near each other."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 2**64, 8, dtype=np.uint64)
    flips = np.uint64(1) << random.integers(0, 64, (number, 4), dtype=np.uint64)
    rows = pa.table(
        {
            "phash": base[random.integers(0, 8, number)] ^ np.bitwise_xor.reduce(flips, axis=1),
            "width_px": random.integers(300, 420, number),
            "height_px": random.integers(300, 420, number),
        }
    )
    coarse = np.clip(random.integers(0, 256, (number, 1)) + random.integers(-12, 12, (number, 48)), 0, 255)
    nothing = np.empty((number, 0), np.uint8)
    return Fingerprints.with_means(rows, coarse.astype(np.uint8), nothing, nothing.__getitem__)


@pytest.mark.parametrize("between", [0, 130])
@pytest.mark.parametrize("limits", [NearDuplicates(), NearDuplicates(distance=20, difference=0.0)])
def test_cells_find_every_likely_pair(between: int, limits: NearDuplicates) -> None:
    every = looks(400, between)
    found = [pair for i, j in near_cells(every, limits, between) for pair in zip(*sort(i, j), strict=True)]
    expected = [pair for i, j in likely_pairs(every, limits, between, 1) for pair in zip(*sort(i, j), strict=True)]
    assert len(expected) > 50
    assert sorted(found) == sorted(expected)


def sort(i: np.ndarray, j: np.ndarray) -> tuple[list[int], list[int]]:
    return np.minimum(i, j).tolist(), np.maximum(i, j).tolist()


def test_blocks_join_only_where_no_component_lies_in_two_of_them() -> None:
    random = np.random.default_rng(0)
    total = 60_000
    index = np.sort(random.choice(total, 500, replace=False))
    label = random.integers(0, 120, 500)
    blocks = blocks_of(index, label, total)
    numbers = np.searchsorted(np.array(block_edges(total)), index, side="right")
    assert np.concatenate(blocks).tolist() == list(range(500))
    assert 1 < len(blocks) < len(set(numbers.tolist()))
    for block in blocks:
        for component in set(label[block].tolist()):
            assert len(set(numbers[block][label[block] == component].tolist())) == 1
