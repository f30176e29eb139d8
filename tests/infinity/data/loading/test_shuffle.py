"""A round holds every row once, shard after shard, and is the same whatever was asked before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.loading.shuffle import OrderConfig, Rounds

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def rounds(counts: list[int], window: int, key: int = 1) -> Rounds:
    gaps = np.cumsum([0, *(count + 3 for count in counts)])[:-1]  # rows of others lie between
    return Rounds(gaps, np.array(counts), key, OrderConfig(window_pictures=window))


@settings(max_examples=25)
@given(COUNTS, st.integers(1, 20), st.integers(0, 3))
def test_a_round_holds_every_row_once(counts: list[int], window: int, round_: int) -> None:
    number = sum(counts)
    rows, which = rounds(counts, window).at(round_ * number, number)
    wanted = [row for start, count in zip(np.cumsum([0, *(c + 3 for c in counts)]), counts, strict=False)
              for row in range(start, start + count)]  # fmt: skip
    assert sorted(rows.tolist()) == wanted
    assert set(which.tolist()) == {round_}


@settings(max_examples=25)
@given(COUNTS, st.integers(1, 20), st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), max_size=4))
def test_places_do_not_depend_on_what_was_asked_before(
    counts: list[int], window: int, asked: list[tuple[int, int]]
) -> None:
    used, whole = rounds(counts, window), rounds(counts, window).at(0, 240)[0]
    for first, number in asked:
        np.testing.assert_array_equal(used.at(first, number)[0], whole[first : first + number])


def test_shards_are_visited_one_window_after_the_other() -> None:
    """At no time pictures of more shards are mixed than a window holds: a reader goes through each shard once."""
    order = rounds([10] * 50, window=40)
    rows, _ = order.at(0, 500)
    shards = rows // 13
    for start in range(0, 480, 40):  # the last window has the two shards that are left
        assert len(set(shards[start : start + 40].tolist())) == 4
    assert len(set(shards[:40].tolist()) & set(shards[40:].tolist())) == 0
    later = order.at(500, 40)[0] // 13
    assert set(later.tolist()) != set(shards[:40].tolist())


def test_a_set_within_one_window_is_shuffled_freely() -> None:
    rows, _ = rounds([10] * 20, window=1000).at(0, 200)
    assert len(set((rows[:40] // 13).tolist())) > 12
    assert abs(np.corrcoef(np.arange(200), rows)[0, 1]) < 0.25


def test_a_hundred_million_rows_cost_what_their_shards_cost() -> None:
    starts = np.arange(10_000) * 10_000
    order = Rounds(starts, np.full(10_000, 10_000), 3, OrderConfig())
    rows, which = order.at(3 * 10**8 + 77_777_777, 4096)
    assert len(set(rows.tolist())) == 4096
    assert rows.max() < 10**8
    assert set(which.tolist()) == {3}


def test_an_impossible_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window_pictures: expected at least 1, got 0"):
        OrderConfig(window_pictures=0)
