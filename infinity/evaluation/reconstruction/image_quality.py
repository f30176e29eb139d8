"""Similarity of two pictures: PSNR and SSIM, in float64 on 8-bit RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

PROTOCOL = "image-quality/1: 8-bit RGB, reconstruction rounded to nearest, float64, mean of per-picture values"
"""PSNR = 10 log10(255**2 / mean squared error over pixels and channels). SSIM: Gaussian 11x11 window of sigma 1.5,
windows inside the picture only, K1 = 0.01, K2 = 0.03, range 255, mean over windows and channels (Wang et al. 2004)."""

WINDOW_PX = 11
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MULTISCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

Images = UInt8[np.ndarray, "B H W C"]


def psnr_db(reference: Images, images: Images) -> Float64[np.ndarray, " B"]:
    """Return the peak signal-to-noise ratio of every picture in dB, infinite where the two are equal.

    Example:
        >>> black = np.zeros((1, 2, 2, 3), np.uint8)
        >>> psnr_db(black, black + 255).tolist(), psnr_db(black, black).tolist()
        ([0.0], [inf])

    Raises:
        ValueError: Shapes differ or values are not uint8.
    """
    _check(reference, images)
    difference = reference.astype(np.float64) - images.astype(np.float64)
    errors = (difference**2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / errors))


@dataclass(frozen=True, slots=True)
class SsimWindow:
    """Windows that SSIM averages over; the default is that of Wang et al. 2004, which all our scores use.

    Attributes:
        sigma_px: Standard deviation of the window's Gaussian weights; None weights all pixels equally.
        sample_covariance: Whether covariances are divided by the number of pixels minus one (scikit-image's default).
        border: "inside" takes windows inside the picture only; "reflect" takes one around every pixel (torchmetrics).
    """

    size_px: int = WINDOW_PX
    sigma_px: float | None = 1.5
    sample_covariance: bool = False
    border: Literal["inside", "reflect"] = "inside"

    def mean(self, x_HWC: Float64[np.ndarray, "H W C"]) -> Float64[np.ndarray, "h w C"]:
        """Return the weighted mean of every window."""
        if self.border == "reflect":
            around = self.size_px // 2
            x_HWC = np.pad(x_HWC, ((around, around), (around, around), (0, 0)), mode="reflect")
        offsets = np.arange(self.size_px) - self.size_px // 2
        weights = np.ones(self.size_px) if self.sigma_px is None else np.exp(-0.5 * (offsets / self.sigma_px) ** 2)
        weights /= weights.sum()
        rows = sliding_window_view(x_HWC, self.size_px, axis=0) @ weights
        return np.asarray(sliding_window_view(rows, self.size_px, axis=1) @ weights)


WANG = SsimWindow()


def ssim(reference: Images, images: Images, window: SsimWindow = WANG) -> Float64[np.ndarray, " B"]:
    """Return the structural similarity of every picture, at most 1.

    Example:
        >>> ramp = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)
        >>> ssim(ramp, ramp).tolist()
        [1.0]

    Raises:
        ValueError: Shapes differ, values are not uint8, or a side is smaller than the window.
    """
    _check(reference, images)
    if min(reference.shape[1:3]) < window.size_px:
        raise ValueError(
            f"ssim: expected sides of at least {window.size_px} px, got {reference.shape[1]} x {reference.shape[2]}"
        )
    pairs = zip(reference, images, strict=True)
    return np.array([ssim_of_planes(a.astype(np.float64), b.astype(np.float64), window) for a, b in pairs], np.float64)


def ssim_of_planes(
    a_HWC: Float64[np.ndarray, "H W C"], b_HWC: Float64[np.ndarray, "H W C"], window: SsimWindow = WANG
) -> float:
    """Return SSIM of one picture whose values lie between 0 and 255 and may be fractions."""
    luminance, structure = _similarity(a_HWC, b_HWC, window)
    return float((luminance * structure).mean())


def multiscale_ssim(reference: Images, images: Images) -> Float64[np.ndarray, " B"]:
    """Return SSIM over five scales, each half as large (Wang et al. 2003); negative contrasts count as zero.

    Raises:
        ValueError: Shapes differ, values are not uint8, or a side is below 161 px, so that the coarsest scale has no
            window.
    """
    _check(reference, images)
    least = (WINDOW_PX - 1) * 2 ** (len(_MULTISCALE_WEIGHTS) - 1) + 1
    if min(reference.shape[1:3]) < least:
        raise ValueError(
            f"multiscale_ssim: expected sides of at least {least} px, got {reference.shape[1]} x {reference.shape[2]}"
        )
    pairs = zip(reference, images, strict=True)
    return np.array([_multiscale_of(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs], np.float64)


def _multiscale_of(a: Float64[np.ndarray, "H W C"], b: Float64[np.ndarray, "H W C"]) -> float:
    product = np.ones(a.shape[2])
    last = len(_MULTISCALE_WEIGHTS) - 1
    for level, weight in enumerate(_MULTISCALE_WEIGHTS):
        luminance, structure = _similarity(a, b, WANG)
        values = luminance * structure if level == last else structure
        product *= np.maximum(values.mean(axis=(0, 1)), 0) ** weight
        a, b = _halved(a), _halved(b)
    return float(product.mean())


def _halved(x_HWC: Float64[np.ndarray, "H W C"]) -> Float64[np.ndarray, "h w C"]:
    """Return means of 2 x 2 pixels; an odd side gets a row of zeros at both ends, which count (pytorch_msssim)."""
    odd_height, odd_width = x_HWC.shape[0] % 2, x_HWC.shape[1] % 2
    x = np.pad(x_HWC, ((odd_height, odd_height), (odd_width, odd_width), (0, 0)))
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    return np.asarray((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4)


def _similarity(
    a: Float64[np.ndarray, "H W C"], b: Float64[np.ndarray, "H W C"], window: SsimWindow
) -> tuple[Float64[np.ndarray, "h w C"], Float64[np.ndarray, "h w C"]]:
    """Return the similarity of means, and that of contrast and structure, of every window."""
    mean_a, mean_b, square_a, square_b, product = (window.mean(x) for x in (a, b, a * a, b * b, a * b))
    pixels = window.size_px**2
    factor = pixels / (pixels - 1) if window.sample_covariance else 1.0
    variances = factor * (square_a - mean_a**2 + square_b - mean_b**2)
    covariance = factor * (product - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _check(reference: Images, images: Images) -> None:
    if reference.shape != images.shape or reference.ndim != 4:
        raise ValueError(f"expected two equal shapes (B, H, W, C), got {reference.shape} and {images.shape}")
    if reference.dtype != np.uint8 or images.dtype != np.uint8:
        raise ValueError(f"expected uint8 pictures, got {reference.dtype} and {images.dtype}")
