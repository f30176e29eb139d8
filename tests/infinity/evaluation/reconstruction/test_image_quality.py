"""PSNR and SSIM agree with scikit-image and pytorch_msssim and behave at the ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from infinity.evaluation.reconstruction.image_quality import SsimWindow, multiscale_ssim, psnr_db, ssim

PAIRS = ("noise_96x128", "blur_256x256", "gray_contrast_61x47", "shift_300x180", "identical_40x40", "flat_32x48")


def load(folder: Path, pair: str, which: str) -> np.ndarray:
    pixels = np.asarray(Image.open(folder / "images" / f"{pair}_{which}.png"))
    return pixels[None, ..., None] if pixels.ndim == 2 else pixels[None]


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "goldens/eval/psnr_ssim"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return data


@pytest.mark.reference
@pytest.mark.parametrize("pair", PAIRS)
def test_psnr_equals_scikit_image(folder: Path, expected: dict[str, Any], pair: str) -> None:
    (value,) = psnr_db(load(folder, pair, "ref"), load(folder, pair, "rec"))
    assert value == pytest.approx(float(expected["pairs"][pair]["skimage_psnr_255"]), abs=1e-10)


@pytest.mark.reference
@pytest.mark.parametrize("pair", PAIRS)
def test_ssim_equals_scikit_image_and_pytorch_msssim(folder: Path, expected: dict[str, Any], pair: str) -> None:
    (value,) = ssim(load(folder, pair, "ref"), load(folder, pair, "rec"))
    assert value == pytest.approx(expected["pairs"][pair]["skimage_ssim_gauss_wang"], abs=1e-9)
    # pytorch_msssim computes in float32, whose cancellation shows on flat pictures.
    tolerance = 2e-5 if pair == "flat_32x48" else 2e-6
    assert value == pytest.approx(expected["pairs"][pair]["pytorch_msssim_ssim_255"], abs=tolerance)


@pytest.mark.reference
def test_mean_is_over_pictures_not_over_pooled_errors(folder: Path, expected: dict[str, Any]) -> None:
    pooling = expected["batch_pooling"]
    batches = [
        np.concatenate([load(folder, p, which)[:, :32, :48] for p in pooling["pairs"]]) for which in ("ref", "rec")
    ]
    assert psnr_db(*batches).mean() == pytest.approx(pooling["mean_of_per_image_psnr"], abs=1e-5)


def test_batch_equals_one_by_one_and_both_are_symmetric() -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 20, 3)).astype(np.uint8)
    for metric in (psnr_db, ssim):
        np.testing.assert_array_equal(metric(a, b), [metric(x[None], y[None])[0] for x, y in zip(a, b, strict=True)])
        np.testing.assert_allclose(metric(a, b), metric(b, a), rtol=1e-14)


def test_equal_pictures_have_infinite_psnr_and_ssim_one() -> None:
    image = np.full((1, 16, 16, 3), 77, np.uint8)
    assert np.isinf(psnr_db(image, image)).all()
    assert ssim(image, image) == pytest.approx(1.0, abs=1e-12)


def noisy(height: int, width: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and one with noise."""
    random = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(random.uniform(0, 255, (height, width, 3)), (4, 4, 0)) * 2 - 128
    other = smooth + random.normal(0, spread, smooth.shape)
    a, b = (np.clip(np.round(x), 0, 255).astype(np.uint8)[None] for x in (smooth, other))
    return a, b


def ssim_by_filters(a: np.ndarray, b: np.ndarray, mean: Any, factor: float, border: int) -> float:
    """The formula of Wang et al. with filters of scipy."""
    x, y = a[0].astype(float), b[0].astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = factor * (mean(x * x) - mx**2), factor * (mean(y * y) - my**2), factor * (mean(x * y) - mx * my)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    whole = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(whole[border : whole.shape[0] - border, border : whole.shape[1] - border].mean())


def test_psnr_of_a_constant_error_is_the_textbook_value() -> None:
    a = np.full((1, 4, 5, 3), 100, np.uint8)
    assert psnr_db(a, a + 10) == pytest.approx(10 * np.log10(255**2 / 100))


@pytest.mark.parametrize("size", [(24, 31), (11, 12)])
def test_ssim_is_the_formula_with_filters_of_scipy(size: tuple[int, int]) -> None:
    a, b = noisy(*size, spread=12)
    gaussian = ssim_by_filters(a, b, lambda x: ndimage.gaussian_filter(x, (1.5, 1.5, 0), radius=(5, 5, 0)), 1.0, 5)
    assert 0.1 < gaussian < 0.99
    assert ssim(a, b) == pytest.approx(gaussian, abs=1e-12)
    uniform = ssim_by_filters(a, b, lambda x: ndimage.uniform_filter(x, (7, 7, 1)), 49 / 48, 3)
    assert ssim(a, b, SsimWindow(7, None, sample_covariance=True)) == pytest.approx(uniform, abs=1e-12)
    reflected = ssim_by_filters(a, b, lambda x: ndimage.uniform_filter(x, (7, 7, 1), mode="mirror"), 1.0, 0)
    assert ssim(a, b, SsimWindow(7, None, border="reflect")) == pytest.approx(reflected, abs=1e-12)


def halved_by_torch(x: np.ndarray) -> np.ndarray:
    """As pytorch_msssim halves a picture: odd sides are padded on both ends, and the zeros count."""
    planes = torch.from_numpy(x).permute(2, 0, 1)
    padding = [side % 2 for side in planes.shape[1:]]
    return F.avg_pool2d(planes, kernel_size=2, padding=padding).permute(1, 2, 0).numpy()


def test_multiscale_ssim_is_the_product_over_five_scales_with_filters_of_scipy() -> None:
    """Contrast and structure of all scales, luminance of the coarsest, each to the power that Wang et al. found."""
    a, b = noisy(173, 166, 25)
    x, y, product = a[0].astype(float), b[0].astype(float), np.ones(3)
    for level, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean = lambda z: ndimage.gaussian_filter(z, (1.5, 1.5, 0), radius=(5, 5, 0))[5:-5, 5:-5]  # noqa: E731
        mx, my = mean(x), mean(y)
        values = (2 * (mean(x * y) - mx * my) + 58.5225) / (mean(x * x) - mx**2 + mean(y * y) - my**2 + 58.5225)
        if level == 4:
            values = values * (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
        product *= values.mean(axis=(0, 1)) ** weight
        x, y = halved_by_torch(x), halved_by_torch(y)
    assert 0.2 < product.mean() < 0.95
    assert multiscale_ssim(a, b) == pytest.approx(product.mean(), abs=1e-12)


def test_multiscale_ssim_is_one_of_equals_and_falls_with_noise() -> None:
    values = [float(multiscale_ssim(*noisy(161, 170, spread))[0]) for spread in (0, 5, 20, 60)]
    assert values[0] == pytest.approx(1.0, abs=1e-12)
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0
    with pytest.raises(ValueError, match="at least 161 px, got 160 x 170"):
        multiscale_ssim(*noisy(160, 170, 5))
    with pytest.raises(ValueError, match="at least 161 px, got 170 x 160"):
        multiscale_ssim(*noisy(170, 160, 5))
    with pytest.raises(ValueError, match="at least 11 px, got 12 x 10"):
        ssim(*noisy(12, 10, 5))


def test_wrong_input_is_refused() -> None:
    image = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(image, image)
    with pytest.raises(ValueError, match="equal shapes"):
        psnr_db(image, image[:, :4])
    with pytest.raises(ValueError, match="uint8"):
        psnr_db(image / 255.0, image / 255.0)
