"""The cheaper way of comparison is taken, pieces stay bounded, and parts share the pairs among them."""

import numpy as np
import pytest

from infinity.data.dedup import hamming
from infinity.data.dedup.hamming import _cheapest_bands, _neighbours, near_pairs


def spread(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)


def pairs(pieces: object) -> list[tuple[int, int]]:
    return sorted(pair for i, j in pieces for pair in zip(i.tolist(), j.tolist(), strict=True))  # type: ignore


def test_bands_are_taken_for_many_spread_hashes_and_tiles_for_few_or_crowded_ones() -> None:
    assert _cheapest_bands(spread(20_000), 4, 0) is not None
    assert _cheapest_bands(spread(200), 4, 0) is None
    assert _cheapest_bands(np.zeros(20_000, np.uint64), 4, 0) is None
    assert _cheapest_bands(spread(20_000), 4, 10_000) is not None
    assert _cheapest_bands(spread(20_000), 4, 1) is None, "one against all others are few comparisons"
    assert _cheapest_bands(spread(20_000), 32, 0) is None, "so many choices of bands cost more than all pairs"


@pytest.mark.parametrize("between", [0, 700])
@pytest.mark.parametrize("partitions", [1, 3])
def test_both_ways_find_every_pair_once_across_tiles(
    between: int, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = spread(1500)
    hashes[1000:1400] = hashes[:400] ^ np.uint64(0b101)
    hashes[1400:] = hashes[650:750]
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= 2
    left, right = np.nonzero(np.triu(near, 1))
    if between:
        left, right = left[(left < between) & (right >= between)], right[(left < between) & (right >= between)]
    expected = sorted(zip(left.tolist(), right.tolist(), strict=True))
    monkeypatch.setattr(hamming, "_TILE", 512)
    for tile_cost in (1e9, 1e-9):
        monkeypatch.setattr(hamming, "_TILE_COST", tile_cost)
        assert (_cheapest_bands(hashes, 2, between) is None) == (tile_cost < 1)
        assert pairs(near_pairs(hashes, 2, between=between, partitions=partitions)) == expected


def test_every_part_has_pairs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spread evenly enough that a cluster gains from it."""
    hashes = np.repeat(spread(300), 2)
    monkeypatch.setattr(hamming, "_TILE_COST", 1e9)
    bands = _cheapest_bands(hashes, 0, 0)
    assert bands is not None
    (chosen,) = bands.choices() if len(list(bands.choices())) == 1 else [next(bands.choices())]
    shares = [len(pairs(hamming._by_bands(hashes, bands, chosen, 0, part, 3))) for part in range(3)]
    assert sum(shares) == 300
    assert min(shares) > 60


def test_pieces_are_bounded_but_for_a_place_with_more_partners_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "_PAIRS_AT_ONCE", 50)
    keys = np.repeat(np.arange(4, dtype=np.uint64), [30, 1, 80, 2])
    pieces = list(_neighbours(keys))
    assert max(len(i) for i, _ in pieces) <= 79
    assert all(len(i) <= 50 or len(set(i.tolist())) == 1 for i, _ in pieces)
    assert len(pieces) < 200, "as much as fits goes into a piece"
    expected = [(i, j) for i in range(113) for j in range(i + 1, 113) if keys[i] == keys[j]]
    assert pairs(pieces) == expected


@pytest.mark.parametrize("distance", [-1, 33])
def test_distances_out_of_range_are_refused(distance: int) -> None:
    with pytest.raises(ValueError, match=f"distance of 0 to 32, got {distance}"):
        list(near_pairs(spread(3), distance))


def test_the_largest_and_the_smallest_distance_work() -> None:
    hashes = np.array([0, 2**32 - 1, 2**33 - 1, 0], np.uint64)
    assert pairs(near_pairs(hashes, 32)) == [(0, 1), (0, 3), (1, 2), (1, 3)]
    assert pairs(near_pairs(hashes, 0)) == [(0, 3)]
