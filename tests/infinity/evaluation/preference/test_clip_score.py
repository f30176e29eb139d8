"""CLIP score from embeddings: a cosine, whatever their lengths, in both published conventions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infinity.evaluation.preference.clip_score import clip_scores, mean_clip_score

vectors = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-10, 10)).filter(
    lambda rows: bool((np.linalg.norm(rows, axis=1) > 1e-3).all())
)


@given(vectors, st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_only_directions_count_and_the_score_is_symmetric(rows: np.ndarray, seed: int, factor: float) -> None:
    others = np.random.default_rng(seed).normal(size=rows.shape)
    scores = clip_scores(rows, others)
    assert scores.shape == (len(rows),)
    assert np.abs(scores).max() <= 100 + 1e-9
    np.testing.assert_allclose(clip_scores(rows * factor, others), scores, atol=1e-9)
    np.testing.assert_allclose(clip_scores(others, rows), scores, atol=1e-9)
    np.testing.assert_allclose(clip_scores(rows, -others), -scores, atol=1e-9)


@given(vectors)
def test_a_vector_fits_itself_by_100(rows: np.ndarray) -> None:
    np.testing.assert_allclose(clip_scores(rows, rows), 100.0)


def test_half_precision_embeddings_do_not_overflow() -> None:
    rows = np.full((1, 768), 300.0, np.float16)
    assert clip_scores(rows, rows)[0] == pytest.approx(100.0)


def test_the_mean_is_clamped_and_a_pair_is_not() -> None:
    scores = clip_scores(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert scores.tolist() == [100.0, -100.0]
    assert mean_clip_score(scores) == 0.0
    assert mean_clip_score(scores - 10) == 0.0
    assert mean_clip_score(scores + 10) == 10.0


@pytest.mark.parametrize(
    ("pictures", "texts", "words"),
    [
        (np.ones((2, 3)), np.ones((3, 3)), "two equal shapes"),
        (np.ones(3), np.ones(3), "two equal shapes"),
        (np.zeros((1, 3)), np.ones((1, 3)), "not zero"),
        (np.full((1, 3), np.nan), np.ones((1, 3)), "finite"),
        (np.full((1, 3), np.inf), np.ones((1, 3)), "finite"),
    ],
)
def test_what_has_no_direction_or_no_partner_is_refused(pictures: np.ndarray, texts: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clip_scores(pictures, texts)


def test_no_pair_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        mean_clip_score(np.zeros(0))
