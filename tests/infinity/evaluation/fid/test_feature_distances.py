"""Laws of KID, Inception Score, precision and recall; the recorded figures are replayed by ``tests.parity``."""

import dataclasses
import math
from typing import Literal

import pytest
import torch

from infinity.evaluation.fid.feature_distances import (
    KidConfig,
    PrecisionRecall,
    inception_score,
    kernel_distance,
    precision_recall,
    sliced_distance,
)
from infinity.evaluation.preference.clip_score import clip_scores, mean_clip_score


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def test_kernel_distance_is_near_zero_of_one_cloud_and_grows_with_a_shift() -> None:
    config = KidConfig(subsets=20, subset_size=100)
    near = kernel_distance(rows(400), rows(400, 1), config)
    far = kernel_distance(rows(400), rows(400, 1) + 1, config)
    assert abs(near.mean) < 3 * near.deviation
    assert far.mean > near.mean + 10 * near.deviation
    with pytest.raises(ValueError, match="at least 100 rows in each cloud"):
        kernel_distance(rows(99), rows(400), config)


@pytest.mark.parametrize("kernel", ["polynomial", "gaussian"])
def test_kernel_distance_of_whole_clouds_is_the_unbiased_formula(kernel: Literal["polynomial", "gaussian"]) -> None:
    """Subsets that are the whole cloud leave nothing to chance."""
    a, b = rows(12).double(), rows(12, 1).double() + 0.5
    config = KidConfig(subsets=3, subset_size=12, kernel=kernel, degree=2, gamma=0.25, offset=2.0, sigma=1.5)

    def value(x: torch.Tensor, y: torch.Tensor) -> float:
        if kernel == "gaussian":
            return math.exp(-float((x - y).square().sum()) / (2 * 1.5**2))
        return float(0.25 * x @ y + 2.0) ** 2

    within = [sum(value(c[i], c[j]) for i in range(12) for j in range(12) if i != j) / (12 * 11) for c in (a, b)]
    between = sum(value(x, y) for x in a for y in b) / 144
    found = kernel_distance(a, b, config)
    assert found.mean == pytest.approx(sum(within) - 2 * between, rel=1e-6)
    assert found.deviation == pytest.approx(0, abs=1e-9)
    assert kernel_distance(b, a, config).mean == pytest.approx(found.mean, rel=1e-6)


def test_kernel_distance_takes_one_over_the_width_where_no_gamma_is_set() -> None:
    config = KidConfig(subsets=2, subset_size=10)
    a, b = rows(30), rows(30, 1)
    assert kernel_distance(a, b, config) == kernel_distance(a, b, dataclasses.replace(config, gamma=1 / 8))
    with pytest.raises(ValueError, match="subset_size: expected at least 2"):
        KidConfig(subset_size=1)
    assert KidConfig(subset_size=2).subset_size == 2
    with pytest.raises(ValueError, match="subsets"):
        KidConfig(subsets=0)


def test_inception_score_is_exp_of_the_mean_divergence_of_each_split() -> None:
    """Of splits of unequal size too."""
    logits = rows(11) * 2
    values = []
    for part in (slice(0, 3), slice(3, 7), slice(7, 11)):
        shares = logits[part].double().softmax(dim=1)
        divergence = (shares * (shares.log() - shares.mean(dim=0).log())).sum(dim=1).mean()
        values.append(math.exp(float(divergence)))
    found = inception_score(logits, splits=3, shuffle=False)
    assert found.mean == pytest.approx(sum(values) / 3, rel=1e-5)
    assert found.deviation == pytest.approx(torch.tensor(values).std(correction=0).item(), rel=1e-4)


def test_f_score_is_the_harmonic_mean() -> None:
    assert PrecisionRecall(0.5, 0.25).f_score == pytest.approx(2 / (1 / 0.5 + 1 / 0.25))
    assert PrecisionRecall(0.0, 0.0).f_score == 0


def test_sliced_distance_of_unequal_clouds_takes_as_many_rows_of_each() -> None:
    a = rows(60)
    for other in (a[:37], torch.cat([a, a])):
        value = sliced_distance(a, other, projections=500)
        assert 0 <= value < 1.5
        assert sliced_distance(a, other + 10, projections=500) == pytest.approx(3 * 8 * 10**2, rel=0.1)


def test_clouds_of_other_widths_are_refused() -> None:
    for distance in (sliced_distance, precision_recall):
        with pytest.raises(ValueError, match="clouds of one width, got 8 and 5"):
            distance(rows(20), rows(20)[:, :5])


def test_inception_score_is_one_of_equal_pictures_and_the_number_of_classes_at_best() -> None:
    assert inception_score(torch.zeros(20, 5)).mean == pytest.approx(1)
    sure = torch.eye(5).repeat(4, 1) * 1000
    assert inception_score(sure, splits=1).mean == pytest.approx(5)
    with pytest.raises(ValueError, match="3 rows for 10 splits"):
        inception_score(torch.zeros(3, 5))


def test_precision_and_recall_see_what_is_strange_and_what_is_missing() -> None:
    real = torch.cat([rows(50), rows(50) + 100])
    half = precision_recall(rows(50, 1), real)
    assert half.precision > 0.5
    assert half.recall <= 0.5
    assert precision_recall(real, real).f_score == 1
    assert precision_recall(rows(50) + 1000, rows(50)).precision == 0
    with pytest.raises(ValueError, match="more than 3 rows"):
        precision_recall(rows(3), rows(50))


def test_sliced_distance_is_three_times_the_square_of_a_shift() -> None:
    assert sliced_distance(rows(50), rows(50)) == 0
    shifted = sliced_distance(rows(50), rows(50) + torch.tensor([2.0, 0, 0, 0, 0, 0, 0, 0]), projections=4000)
    assert shifted == pytest.approx(3 * 4, rel=0.1)


def test_clip_score_clamps_the_mean_and_no_pair() -> None:
    a = rows(6).numpy()
    assert clip_scores(a, a * 7).tolist() == pytest.approx([100.0] * 6)
    opposite = clip_scores(a, -a)
    assert opposite.tolist() == pytest.approx([-100.0] * 6)
    assert mean_clip_score(opposite) == 0
    with pytest.raises(ValueError, match="not zero"):
        clip_scores(a, a * 0)
    with pytest.raises(ValueError, match="at least one pair"):
        mean_clip_score(opposite[:0])
