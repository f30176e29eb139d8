"""Laws of KID, Inception Score, precision and recall; the recorded figures are replayed by ``tests.parity``."""

import math

import pytest
import torch

from infinity.evaluation.fid.feature_distances import (
    KidConfig,
    inception_score,
    kernel_distance,
    precision_recall,
    sliced_distance,
)
from infinity.evaluation.preference.clip_score import clip_scores, clipscore, mean_clip_score


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


def test_clip_score_clamps_the_mean_and_clipscore_the_pair() -> None:
    a = rows(6).numpy()
    assert clip_scores(a, a * 7).tolist() == pytest.approx([100.0] * 6)
    opposite = clip_scores(a, -a)
    assert mean_clip_score(opposite) == 0
    assert clipscore(opposite).tolist() == [0.0] * 6
    assert math.isclose(clipscore(-opposite)[0], 2.5)
    with pytest.raises(ValueError, match="not zero"):
        clip_scores(a, a * 0)
    with pytest.raises(ValueError, match="at least one pair"):
        mean_clip_score(opposite[:0])
