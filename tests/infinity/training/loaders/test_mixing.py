"""Several resolutions take turns: each once a round, in an order that follows from seed and round."""

import pytest

from infinity.scales import Resolution
from infinity.training.loaders.mixing import MixedLoader, MixedResolution


def mixed(number: int, seed: int = 3) -> MixedLoader[tuple[int, int]]:
    """Loaders whose batches are their own number and step."""
    return MixedLoader([lambda step, which=which: [(which, step)] for which in range(number)], seed)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_every_round_has_a_step_of_each_and_steps_of_each_follow_each_other(number: int) -> None:
    loader = mixed(number)
    for turn in range(20):
        found = [loader(number * turn + place)[0] for place in range(number)]
        assert sorted(found) == [(which, turn) for which in range(number)]
    assert [loader.choice(step) for step in range(40)] == [loader(step)[0] for step in range(40)]


def test_the_order_differs_from_round_to_round_and_from_seed_to_seed() -> None:
    orders = {
        tuple(mixed(4, seed).choice(4 * turn + place)[0] for place in range(4)) for seed in (1, 2) for turn in (0, 1, 2)
    }
    assert len(orders) > 3
    assert [mixed(4).choice(step) for step in range(8)] == [mixed(4).choice(step) for step in range(8)]


def test_no_loader_and_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one loader, got none"):
        MixedLoader([], 0)
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        MixedResolution(resolution=Resolution(size="256"), batch_size=0)
