"""What is measured of a picture depends on what it shows, hardly on its size or encoding."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import fft, ndimage

from infinity.data.images.fingerprint import (
    REDUCED_PX,
    _cosines,
    _lowest_frequencies,
    laplacian_variance,
    measure_fingerprint,
    perceptual_hash,
    reduced,
    widest_deviation,
)
from tests.fixtures.data.drawn_sets import drawing


def test_flat_picture_has_no_contrast_and_no_sharpness() -> None:
    likeness = measure_fingerprint(Image.new("RGB", (300, 200), (10, 200, 30)))
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
    sharp = measure_fingerprint(image).sharpness
    assert measure_fingerprint(image.filter(ImageFilter.GaussianBlur(3))).sharpness < 0.3 * sharp
    large = image.resize((768, 600), Image.Resampling.NEAREST)
    assert measure_fingerprint(large).sharpness == pytest.approx(sharp, rel=0.35)


@pytest.mark.parametrize("shape", [(3, 3), (7, 12), (20, 5)])
def test_laplacian_is_that_of_scipy_inside_the_picture(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    inside = ndimage.laplace(grey.astype(float))[1:-1, 1:-1]
    assert laplacian_variance(grey) == pytest.approx(inside.var())


def test_the_spectrum_is_the_orthonormal_one_of_scipy() -> None:
    values = np.random.default_rng(3).uniform(0, 255, (32, 32))
    expected = fft.dctn(values, norm="ortho")[:8, :8]
    np.testing.assert_allclose(_cosines() @ values @ _cosines().T, expected, atol=1e-9)


def test_bits_stand_for_the_lowest_frequencies_without_the_mean() -> None:
    rows, columns = _lowest_frequencies()
    lengths = rows**2 + columns**2
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 32
    assert lengths.min() == 1
    assert (np.diff(lengths) >= 0).all()
    others = [r * r + c * c for r in range(8) for c in range(8) if (r, c) not in set(zip(rows, columns, strict=True))]
    assert sorted(others)[1] >= lengths.max(), "the first of the others is the mean"


def test_the_hash_of_a_wave_has_the_bit_of_its_frequency_and_colour() -> None:
    """Brightness first, then blue and red differences."""
    rows, columns = _lowest_frequencies()
    at = np.arange(32) + 0.5
    for number in (0, 5, 15):
        across, down = (np.cos(np.pi / 32 * n[number] * at) for n in (columns, rows))
        wave = np.outer(down, across)
        for channel, bit in ((0, number), (1, 32 + number), (2, 48 + number)):
            planes = np.full((32, 32, 3), 128.0)
            planes[..., channel] += 60 * wave
            image = Image.fromarray(planes.round().astype(np.uint8), "YCbCr").convert("RGB")
            assert perceptual_hash(image) >> (63 - bit) & 1 == 1, (channel, number)
            planes[..., channel] -= 120 * wave
            image = Image.fromarray(planes.round().astype(np.uint8), "YCbCr").convert("RGB")
            assert perceptual_hash(image) >> (63 - bit) & 1 == 0, (channel, number)


@pytest.mark.parametrize("size", [(REDUCED_PX, 7), (REDUCED_PX + 1, 50), (40, 900), (9000, 3)])
def test_the_reduced_picture_keeps_its_shape_and_small_ones_stay(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (9, 8, 7))
    small = reduced(image)
    assert (small is image) == (max(size) <= REDUCED_PX)
    scale = min(1, REDUCED_PX / max(size))
    assert small.size == tuple(max(1, round(side * scale)) for side in size)
