"""What is measured of a picture depends on what it shows, hardly on its size or encoding."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from infinity.data.images.fingerprint import laplacian_variance, measure_likeness, widest_deviation
from tests.fixtures.drawn_sets import drawing


def test_flat_picture_has_no_contrast_and_no_sharpness() -> None:
    likeness = measure_likeness(Image.new("RGB", (300, 200), (10, 200, 30)))
    assert likeness.contrast == likeness.sharpness == likeness.phash == 0


def test_contrast_is_the_deviation_of_the_channel_that_varies_most() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    levels[..., 1] //= 2
    expected = levels.reshape(-1, 3).std(axis=0).max()
    assert widest_deviation(Image.fromarray(levels)) == pytest.approx(expected)


def test_laplacian_of_a_single_point() -> None:
    grey = np.zeros((5, 5), np.uint8)
    grey[2, 2] = 10
    assert laplacian_variance(grey) == pytest.approx(np.var([0, 10, 0, 10, -40, 10, 0, 10, 0]))
    assert laplacian_variance(grey[:2]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_blur_lowers_sharpness_and_a_large_copy_is_as_sharp(seed: int) -> None:
    image = drawing(seed).resize((256, 200))
    sharp = measure_likeness(image).sharpness
    assert measure_likeness(image.filter(ImageFilter.GaussianBlur(3))).sharpness < 0.3 * sharp
    large = image.resize((768, 600), Image.Resampling.NEAREST)
    assert measure_likeness(large).sharpness == pytest.approx(sharp, rel=0.35)
