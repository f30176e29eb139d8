"""Replay of recorded PSNR and SSIM, in the conventions of the libraries that are compared with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infinity.evaluation.reconstruction.image_quality import SsimWindow, multiscale_ssim, psnr_db, ssim, ssim_of_planes
from tests.parity.arrays import rgb
from tests.parity.scores.evaluation import Compare, Figures

EXACT = 1e-9
SINGLE = 2e-5
"""The recorded values were computed in float32."""

SINGLE_FLAT = 4e-4
"""Where a picture is flat, variances cancel in float32: README, section 4."""

_LUMA = (0.2125, 0.7154, 0.0721)
_Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def psnr_ssim_kind(path: Path, data: Any) -> Compare | None:
    """The replay of a file with pairs of pictures."""
    if not isinstance(data, dict) or not isinstance(data.get("pairs"), dict) or "versions" not in data:
        return None
    return lambda figures: _compare(path, data, figures)


def _compare(path: Path, data: dict[str, Any], figures: Figures) -> None:
    for name, expected in data["pairs"].items():
        pair = _pair(path, name)
        flat = min(float(picture.std()) for picture in pair) < 1
        for key, value in expected.items():
            if key not in _KEYS:
                figures.failures.append(f"{name}.{key}: no figure that is known")
                continue
            single = SINGLE_FLAT if flat and "ssim" in key.removeprefix("pytorch_msssim_") else SINGLE
            tolerance = EXACT if key == "mse" or key.startswith("skimage") else single
            figures.close(f"{name}.{key}", _KEYS[key](*pair), value, absolute=tolerance)
    if "batch_pooling" in data:
        _compare_pooling(path, data["batch_pooling"], figures)
    figures.information["pairs"] = len(data["pairs"])


def _pair(path: Path, name: str) -> _Pair:
    a, b = (rgb(path.parent / "images" / f"{name}_{side}.png")[None] for side in ("ref", "rec"))
    return a, b


def _compare_pooling(path: Path, data: dict[str, Any], figures: Figures) -> None:
    """Mean over pictures against one figure of all pixels, on crops of one size."""
    size = re.fullmatch(r"top-left (\d+) rows x (\d+) columns", data["crop"])
    if size is None:
        raise ValueError(f"batch_pooling.crop: expected 'top-left <n> rows x <m> columns', found {data['crop']!r}")
    rows, columns = map(int, size.groups())
    pairs = [_pair(path, name) for name in data["pairs"]]
    a, b = (np.concatenate([pair[side][:, :rows, :columns] for pair in pairs]) for side in (0, 1))
    mean = float(psnr_db(a, b).mean())
    pooled = float(psnr_db(a.reshape(1, -1, columns, 3), b.reshape(1, -1, columns, 3))[0])
    figures.close("mean_of_per_image_psnr", mean, data["mean_of_per_image_psnr"], absolute=SINGLE)
    figures.close("psnr_of_pooled_mse", pooled, data["psnr_of_pooled_mse_torchmetrics_default"], absolute=SINGLE)


def _mse(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).mean())


def _psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(psnr_db(a, b)[0])


def _ssim(window: SsimWindow) -> Callable[..., float]:
    return lambda a, b: float(ssim(a, b, window)[0])


def _luma(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    planes = ((picture[0].astype(np.float64) @ np.array(_LUMA))[..., None] for picture in (a, b))
    return ssim_of_planes(*planes)


def _multiscale(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(multiscale_ssim(a, b)[0])


def _multiscale_bsqvit(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return _multiscale(a, b) if min(a.shape[1:3]) >= 256 else float("nan")


_WANG = _ssim(SsimWindow())
_REFLECTED = _ssim(SsimWindow(border="reflect"))
_KEYS: Mapping[str, Callable[..., float]] = {
    "mse": _mse,
    "skimage_psnr_255": _psnr,
    "skimage_ssim_uniform7": _ssim(SsimWindow(size_px=7, sigma_px=None, sample_covariance=True)),
    "skimage_ssim_gauss_wang": _WANG,
    "skimage_ssim_gauss_samplecov": _ssim(SsimWindow(sample_covariance=True)),
    "skimage_ssim_gauss_wang_luma": _luma,
    "torchmetrics_psnr_255": _psnr,
    "torchmetrics_psnr_unit": _psnr,
    "torchmetrics_ssim_255": _REFLECTED,
    "torchmetrics_ssim_unit": _REFLECTED,
    "pytorch_msssim_ssim_255": _WANG,
    "pytorch_msssim_msssim_255": _multiscale,
    "bsqvit_psnr_from_unit": _psnr,
    "bsqvit_psnr_from_pm1": _psnr,
    "bsqvit_ssim": _WANG,
    "bsqvit_msssim": _multiscale_bsqvit,
}
