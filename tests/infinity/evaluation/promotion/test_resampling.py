"""The bootstrap of paired differences: repeatable, unbiased, and as wide as Student's t for normal gains."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from infinity.evaluation.promotion.resampling import resample


def test_the_same_input_gives_the_same_deviations_and_another_seed_others() -> None:
    gains = np.random.default_rng(0).normal(size=(30, 2))
    one, same, other = (resample(gains, num_resamples=500, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.deviations, same.deviations)
    assert not np.array_equal(one.deviations, other.deviations)


def test_columns_are_resampled_together_and_do_not_disturb_each_other() -> None:
    gains = np.random.default_rng(0).normal(size=(40, 3))
    whole = resample(gains, num_resamples=400, seed=3)
    for column in range(3):
        alone = resample(gains[:, column : column + 1], num_resamples=400, seed=3)
        np.testing.assert_allclose(alone.deviations[:, 0], whole.deviations[:, column], atol=1e-12)


def test_deviations_are_sorted_around_zero_and_scale_with_the_gains() -> None:
    gains = np.random.default_rng(0).exponential(size=(50, 1))
    spread, wider = (resample(gains * factor + 7, num_resamples=4000, seed=4) for factor in (1.0, 3.0))
    assert (np.diff(spread.deviations[:, 0]) >= 0).all()
    assert abs(spread.deviations.mean()) < 0.01
    np.testing.assert_allclose(wider.deviations, 3 * spread.deviations, atol=1e-9)
    assert spread.mean[0] == pytest.approx(gains.mean() + 7)


@pytest.mark.parametrize("n", [10, 30, 200])
def test_the_quantile_of_normal_gains_is_that_of_student(n: int) -> None:
    gains = np.random.default_rng(n).normal(size=(n, 1))
    gains = (gains - gains.mean()) / gains.std(ddof=1)
    spread = resample(gains, num_resamples=40_000, seed=5)
    for share in (0.025, 0.975):
        expected = stats.t.ppf(share, n - 1) / np.sqrt(n)
        assert spread.quantile(share)[0] == pytest.approx(expected, rel=0.1)


def test_equal_gains_have_no_spread() -> None:
    spread = resample(np.full((20, 1), 0.25), num_resamples=300, seed=6)
    assert spread.mean[0] == 0.25
    assert np.abs(spread.deviations).max() < 1e-12
