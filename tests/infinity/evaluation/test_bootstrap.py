"""Intervals by resampling cover the truth, repeat themselves, and admit what they cannot know."""

import numpy as np
import pytest
from scipy import stats

from infinity.evaluation.bootstrap import mean_interval, resampled_interval, stratified_interval


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    truths = np.array([0.3, 0.7])
    hits = 0
    for _ in range(150):
        strata = []
        for truth in truths:
            chances = random.beta(2 * truth, 2 * (1 - truth), 60)
            strata.append((random.binomial(4, chances).astype(float), np.full(60, 4.0)))
        low, high = stratified_interval(strata) or (0, 0)
        hits += low <= truths.mean() <= high
    assert 0.88 <= hits / 150 <= 1.0


def test_clusters_make_wider_intervals_than_independent_pictures() -> None:
    together = np.repeat([0.0, 4.0], 25)
    apart = np.tile([2.0, 2.0, 1.0, 3.0, 2.0], 10)
    weights = np.full(50, 4.0)
    widths = [np.ptp(stratified_interval([(values, weights)])) for values in (together, apart)]
    assert widths[0] > 2 * widths[1]


def test_order_of_the_clusters_does_not_show() -> None:
    random = np.random.default_rng(1)
    values, weights = random.integers(0, 5, 40).astype(float), np.full(40, 4.0)
    order = random.permutation(40)
    assert stratified_interval([(values, weights)]) == stratified_interval([(values[order], weights[order])])


def test_unequal_numbers_of_pictures_count_by_their_number() -> None:
    low, high = stratified_interval([(np.array([3.0, 0.0, 1.0]), np.array([4.0, 1.0, 4.0]))]) or (0, 0)
    assert 0 <= low <= 4 / 9 <= high <= 1


@pytest.mark.parametrize("values", [[1.0], [0.5, 0.5, 0.5], [0.0, 0.0]])
def test_nothing_is_known_where_all_agree(values: list[float]) -> None:
    assert mean_interval(values) is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_replicates_that_differ_by_rounding_alone_say_nothing(scale: float) -> None:
    clusters = scale * np.outer(np.arange(1.0, 11.0), [0.3, 0.1])
    agreeing = {
        "of ones": lambda sums: sums[:, 0] / sums[:, 1],
        "of zeros": lambda sums: sums[:, 0] / scale - 3 * sums[:, 1] / scale,
    }
    for figure in agreeing.values():
        assert len(np.unique(figure(clusters))) > 1, "there is no rounding to see"
        assert resampled_interval(clusters, figure) is None
    assert resampled_interval(clusters, lambda sums: sums[:, 0] / scale) is not None


def test_an_interval_that_is_not_asked_for_otherwise_holds_95_of_100_replicates() -> None:
    values = np.random.default_rng(5).normal(size=80).tolist()
    assert mean_interval(values) == mean_interval(values, 0.95)
    clusters = np.array([[value, 1.0] for value in values])
    mean = lambda sums: sums[:, 0] / sums[:, 1]  # noqa: E731 - a formula
    assert resampled_interval(clusters, mean) == resampled_interval(clusters, mean, 0.95)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_as_many_replicates_lie_below_an_interval_as_above_it(share: float) -> None:
    """Of values that are symmetrical about 3, so is the interval of their mean."""
    half = np.abs(np.random.default_rng(6).normal(size=100))
    clusters = np.concatenate([3.0 + half, 3.0 - half])[:, None]
    found = resampled_interval(clusters, lambda sums: sums[:, 0] / 200, share)
    assert found is not None
    low, high = found
    assert abs((low + high) / 2 - 3.0) < 0.1 * (high - low)
    assert high - low == pytest.approx(2 * stats.norm.ppf((1 + share) / 2) * clusters.std() / 200**0.5, rel=0.1)
