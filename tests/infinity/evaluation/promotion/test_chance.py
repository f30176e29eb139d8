"""Bounds that hold for samples which are small, concentrated or related."""

import numpy as np
import pytest

from infinity.evaluation.promotion.chance import DOUBT, design_effect, items_needed, pessimistic_mean


@pytest.mark.parametrize("n", [10, 37, 400])
def test_without_a_single_loss_the_bound_is_the_exact_binomial_one(n: int) -> None:
    found = pessimistic_mean(np.zeros((n, 1)), np.array([0.5]), num_resamples=40_000, seed=1)[0]
    assert found == pytest.approx(-0.5 * (1 - DOUBT ** (1 / n)), rel=0.03)


@pytest.mark.parametrize(("n", "share"), [(10, 0.2), (15, 0.1), (40, 0.05)])
def test_the_bound_lies_above_the_truth_in_at_most_one_percent_of_samples_that_lose_wholly(
    n: int, share: float
) -> None:
    gains = np.where(np.random.default_rng(3).random((n, 2000)) < share, -0.8, 0.0)
    bound = pessimistic_mean(gains, np.full(2000, 0.8), num_resamples=4000, seed=2)
    assert (bound > -0.8 * share).mean() <= DOUBT + 0.005


def test_unrelated_items_have_no_effect_and_groups_of_neighbours_theirs() -> None:
    random = np.random.default_rng(4)
    alone = random.normal(size=(1000, 50))
    assert np.median(design_effect(alone)) == pytest.approx(1.02, abs=0.01)
    groups = np.repeat(random.normal(size=(200, 50)), 5, axis=0)
    assert 3.5 < np.median(design_effect(groups)) <= 5.1  # five copies of each count once
    assert np.all(design_effect(alone[:10]) == 3.0)  # too few to see it
    assert np.all(design_effect(np.zeros((40, 2))) == 1.5)


def test_as_many_items_as_are_called_for_rule_the_loss_out() -> None:
    needed = items_needed(20, 0.185, 0.16, 0.9)
    for n, is_enough in ((needed, True), (needed // 2, False)):
        bound = pessimistic_mean(np.zeros((n, 1)), np.array([0.9]), num_resamples=20_000, seed=0)[0]
        assert (bound > -0.16) == is_enough
    assert items_needed(20, 0.1, 2.0, 0.9) == 1  # more than an item can lose is never lost


@pytest.mark.parametrize("n", [1, 3, 7])
def test_too_few_items_for_a_neighbour_have_the_least_factor_however_related(n: int) -> None:
    """Fewer than eight items show no relation, and nothing is computed from neighbours that do not exist."""
    related = np.repeat(np.random.default_rng(6).normal(size=(1, 20)), n, axis=0) + np.arange(n)[:, None]
    assert np.allclose(design_effect(related), 1.0 + 20.0 / n)


def test_neighbours_are_looked_at_up_to_an_eighth_of_the_items() -> None:
    """Sixteen items show their relation over one and two places; beyond that chance alone is seen."""
    gains = np.repeat([1.0, -1.0], 8)[:, None]
    one, two = ((gains[:-lag] * gains[lag:]).sum() / 16 + 1 / 16 for lag in (1, 2))
    seen = max(one - (1 / 16) ** 0.5, one + two - (2 / 16) ** 0.5)
    assert design_effect(gains) == pytest.approx([1.0 + 2.0 * seen])
