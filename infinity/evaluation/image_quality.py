"""How close a picture is to another: PSNR and SSIM, in float64 on 8-bit RGB."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

PROTOCOL = "image-quality/1: 8-bit RGB, reconstruction rounded to nearest, float64, mean of per-picture values"
"""PSNR = 10 log10(255**2 / mean squared error over pixels and channels). SSIM: Gaussian 11x11 window of sigma 1.5,
windows inside the picture only, K1 = 0.01, K2 = 0.03, range 255, mean over windows and channels (Wang et al. 2004)."""

WINDOW_PX = 11
_SIGMA_PX = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Images = UInt8[np.ndarray, "B H W C"]


def psnr_db(reference: Images, images: Images) -> Float64[np.ndarray, " B"]:
    """Peak signal-to-noise ratio of every picture in dB, infinite where the two are equal.

    Raises:
        ValueError: Shapes differ or values are not uint8.
    """
    _check(reference, images)
    difference = reference.astype(np.float64) - images.astype(np.float64)
    errors = (difference**2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / errors))


def ssim(reference: Images, images: Images) -> Float64[np.ndarray, " B"]:
    """Structural similarity of every picture, at most 1.

    Raises:
        ValueError: Shapes differ, values are not uint8, or a side is below 11 pixels.
    """
    _check(reference, images)
    if min(reference.shape[1:3]) < WINDOW_PX:
        raise ValueError(
            f"ssim: expected sides of at least {WINDOW_PX} px, got {reference.shape[1]} x {reference.shape[2]}"
        )
    return np.array([_ssim_of(a, b) for a, b in zip(reference, images, strict=True)], dtype=np.float64)


def _ssim_of(a_HWC: UInt8[np.ndarray, "H W C"], b_HWC: UInt8[np.ndarray, "H W C"]) -> float:
    a, b = a_HWC.astype(np.float64), b_HWC.astype(np.float64)
    mean_a, mean_b, square_a, square_b, product = (_blur(x) for x in (a, b, a * a, b * b, a * b))
    variances = square_a - mean_a**2 + square_b - mean_b**2
    covariance = product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return float((luminance * structure).mean())


def _blur(x_HWC: Float64[np.ndarray, "H W C"]) -> Float64[np.ndarray, "h w C"]:
    """Gaussian mean of every window that lies inside the picture."""
    offsets = np.arange(WINDOW_PX) - WINDOW_PX // 2
    window = np.exp(-0.5 * (offsets / _SIGMA_PX) ** 2)
    window /= window.sum()
    rows = sliding_window_view(x_HWC, WINDOW_PX, axis=0) @ window
    return np.asarray(sliding_window_view(rows, WINDOW_PX, axis=1) @ window)


def _check(reference: Images, images: Images) -> None:
    if reference.shape != images.shape or reference.ndim != 4:
        raise ValueError(f"expected two equal shapes (B, H, W, C), got {reference.shape} and {images.shape}")
    if reference.dtype != np.uint8 or images.dtype != np.uint8:
        raise ValueError(f"expected uint8 pictures, got {reference.dtype} and {images.dtype}")
