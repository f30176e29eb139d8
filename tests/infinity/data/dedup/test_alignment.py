"""Differences of thumbnails: none for the same picture, small for a crop, large for a patch of another colour."""

import numpy as np
import pytest
from PIL import Image

from infinity.data.dedup.alignment import _LUMA_CHROMA, _gradient, mean_colours, thumbnail_difference, unexplained
from infinity.data.images.fingerprint import measure_fingerprint
from tests.fixtures.data.drawn_sets import cropped, drawing

LIMIT = 18.0


def thumbnail(image: Image.Image) -> np.ndarray:
    return measure_fingerprint(image).thumbnail


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    drawings = [drawing(seed) for seed in range(60)]
    copies = [cropped(each, random) for each in drawings]
    return np.stack([*map(thumbnail, drawings)]), np.stack([*map(thumbnail, copies)])


def test_same_picture_differs_by_nothing_and_order_does_not_matter(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pairs
    assert (thumbnail_difference(a, a) == 0).all()
    assert thumbnail_difference(a, b) == pytest.approx(thumbnail_difference(b, a), abs=1e-4)
    assert thumbnail_difference(a[:0], b[:0]).shape == (0,)


def test_crops_are_near_where_their_thumbnails_as_they_are_would_not_be(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pairs
    found = thumbnail_difference(a, b)
    assert np.quantile(found, 0.95) < LIMIT
    plain = np.abs(a.astype(int) - b).max(axis=(1, 2, 3))
    assert np.median(plain) > 2 * LIMIT


def test_a_patch_of_three_cells_in_another_colour_is_seen() -> None:
    image = np.full((128, 128, 3), 235, np.uint8)
    image[30:100, 40:90] = (40, 60, 120)
    other = image.copy()
    image[20:32, 60:72], other[20:32, 60:72] = (250, 220, 180), (190, 130, 90)  # a face in two skin tones
    a, b = (thumbnail(Image.fromarray(each))[None] for each in (image, other))
    assert thumbnail_difference(a, b)[0] > LIMIT


def test_a_limit_changes_no_answer_below_it(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pairs
    others = np.roll(b, 1, axis=0)
    for second in (b, others):
        whole, limited = thumbnail_difference(a, second), thumbnail_difference(a, second, LIMIT)
        assert ((whole <= LIMIT) == (limited <= LIMIT)).mean() > 0.98
        assert (limited >= whole - 1e-4).all()


def test_shifts_explain_crops_better_than_other_pictures(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (mean_colours(each, 8) for each in pairs)
    own = np.array([unexplained(x, y[None])[0] for x, y in zip(a, b, strict=True)])
    best = np.array([unexplained(x, b).argmin() for x in a])
    assert np.quantile(own, 0.95) < 15
    assert (best == np.arange(len(a))).all()
    assert unexplained(a[0], a[:1])[0] == pytest.approx(0, abs=1e-2)
    flat = np.full(192, 100, np.uint8)
    assert unexplained(flat, flat[None] + np.uint8(10))[0] == pytest.approx(10)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_gradient_of_an_even_slope_is_the_slope_also_at_the_borders(axis: int) -> None:
    """Levels per picture side: one level per place, eight places."""
    shape = [1, 1, 1, 1]
    shape[axis] = 8
    slope = np.broadcast_to(np.arange(8, dtype=np.float32).reshape(shape), (2, 8, 8, 3))
    assert np.array_equal(_gradient(slope, axis), np.full_like(slope, 8.0))


def test_grey_has_luma_alone() -> None:
    """As in JFIF: the factors of luma add up to one, those of either chroma to nothing."""
    assert _LUMA_CHROMA.sum(axis=0) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    full = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    assert np.allclose(_LUMA_CHROMA.T, full * [[1.0], [0.7], [0.7]], atol=1e-3)
