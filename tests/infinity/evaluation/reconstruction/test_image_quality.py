"""PSNR and SSIM agree with scikit-image and pytorch_msssim and behave at the ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infinity.evaluation.reconstruction.image_quality import psnr_db, ssim

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


def test_wrong_input_is_refused() -> None:
    image = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(image, image)
    with pytest.raises(ValueError, match="equal shapes"):
        psnr_db(image, image[:, :4])
    with pytest.raises(ValueError, match="uint8"):
        psnr_db(image / 255.0, image / 255.0)
