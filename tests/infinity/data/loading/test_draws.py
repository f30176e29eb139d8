"""Numbers by name: golden values, since an order of training data must outlive releases of libraries."""

import numpy as np

from infinity.data.loading.draws import bits_at, key_of, permutation, uniform_at


def test_numbers_of_the_published_generator() -> None:
    """The first outputs of SplitMix64 from the seed 1234567, as in the reference implementation."""
    assert bits_at(1234567, np.arange(5)).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


def test_keys_are_names() -> None:
    assert key_of("a", 1) == key_of("a", 1)
    assert len({key_of("a", 1), key_of("a", 2), key_of("a1"), key_of("a", "1"), key_of(1, "a")}) == 5
    assert key_of("shards", 0) == 10578862112454863270


def test_uniform_numbers_are_uniform() -> None:
    values = uniform_at(7, np.arange(100_000))
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert abs(counts - 10_000).max() < 400
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.01


def test_a_permutation_holds_every_number_once() -> None:
    assert sorted(permutation(3, 100).tolist()) == list(range(100))
    assert permutation(3, 100).tolist() != permutation(4, 100).tolist()
    assert permutation(3, 0).tolist() == []
