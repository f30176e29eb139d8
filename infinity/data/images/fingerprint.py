"""What a picture looks like in a few numbers: a perceptual hash, a thumbnail, contrast and sharpness.

All of them are taken from one reduced copy, so that a picture costs the same whatever its size, and a resized or newly
encoded copy gives nearly the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from infinity.data.images.resizing import shrink

REDUCED_PX = 256
"""Longer side of the copy that is measured; smaller pictures are measured as they are."""

THUMBNAIL_PX = 32
"""Side of the colour thumbnail of which the hash is taken, and by which a likely pair of near duplicates is checked."""

_NUM_LUMA, _NUM_CHROMA = 32, 16  # bits from brightness, and from each of the two colour differences
_DEAD_SHARE = 0.04  # of the length of the coefficients; what is nearer to 0 counts as 0
_DEAD_LEVELS = 8.0  # the same in absolute terms: 1/4 grey level over the picture
_FILTER = Image.Resampling.BILINEAR


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Measurements of one picture.

    Attributes:
        phash: Perceptual hash of 64 bits; the number of different bits is a distance.
        thumbnail: 32 x 32 RGB, the whole picture squeezed into a square.
        contrast: Standard deviation of the levels [0, 255] of the channel that varies most; 0 is one flat colour.
        sharpness: Variance of the Laplacian (four neighbours) of the grey levels, longer side at most 256; low is
            blurred or flat.
    """

    phash: int
    thumbnail: UInt8[np.ndarray, "32 32 3"]
    contrast: float
    sharpness: float


def measure_fingerprint(image: Image.Image) -> Fingerprint:
    """Measure an RGB picture of any size."""
    small = reduced(image)
    thumbnail = small.resize((THUMBNAIL_PX, THUMBNAIL_PX), _FILTER)
    return Fingerprint(
        phash=perceptual_hash(thumbnail),
        thumbnail=np.asarray(thumbnail),
        contrast=widest_deviation(small),
        sharpness=laplacian_variance(np.asarray(small.convert("L"))),
    )


def reduced(image: Image.Image) -> Image.Image:
    """Return the picture with its longer side at most ``REDUCED_PX``; larger ones are averaged over pixels first."""
    scale = REDUCED_PX / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return shrink(image, (width, height), "bilinear", averaged=True)


def perceptual_hash(thumbnail: Image.Image) -> int:
    """Return 64 bits: which low frequencies of brightness (32) and of two colour differences (16 each) are high.

    A DCT hash as pHash has made it known, with two changes. A coefficient must be above a dead zone rather than above
    the median: symmetric drawings have many coefficients of exactly 0, whose sign is the encoder's noise. And half of
    the bits tell of colour, since drawings of equal outline in other colours are other pictures.
    """
    values = np.asarray(thumbnail.convert("YCbCr"), np.float64)
    basis = _cosines()
    spectrum = np.stack([basis @ values[..., channel] @ basis.T for channel in range(3)], axis=-1)
    rows, columns = _lowest_frequencies()
    luma = spectrum[rows, columns, 0]
    chroma = spectrum[rows[:_NUM_CHROMA], columns[:_NUM_CHROMA], 1:].T.ravel()
    bits = np.concatenate([_is_high(luma), _is_high(chroma)])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def widest_deviation(image: Image.Image) -> float:
    """Return the standard deviation of the levels of the channel where it is largest, from the exact histogram."""
    counts = np.array(image.histogram(), np.float64).reshape(3, 256)
    levels = np.arange(256)
    total = counts.sum(axis=1)
    variance = (counts * levels**2).sum(axis=1) / total - ((counts * levels).sum(axis=1) / total) ** 2
    return float(np.sqrt(np.maximum(variance, 0).max()))


def laplacian_variance(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Return the variance of the discrete Laplacian over the inner pixels; 0 where there are none."""
    if min(grey.shape) < 3:
        return 0.0
    levels = grey.astype(np.int16)
    inner = levels[1:-1, 1:-1]
    laplacian = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:] - 4 * inner
    return float(laplacian.var(dtype=np.float64))


def _is_high(coefficients: Float[np.ndarray, " n"]) -> np.ndarray:
    length = float(np.sqrt(np.square(coefficients).sum()))
    return coefficients > max(_DEAD_LEVELS, _DEAD_SHARE * length)


@cache
def _cosines() -> Float[np.ndarray, "8 32"]:
    """Return the first rows of the orthonormal DCT-II."""
    at = np.arange(THUMBNAIL_PX) + 0.5
    rows = np.cos(np.pi / THUMBNAIL_PX * np.arange(8)[:, None] * at) * np.sqrt(2 / THUMBNAIL_PX)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows)


@cache
def _lowest_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the DCT by growing frequency, without the constant term."""
    square = [(row, column) for row in range(8) for column in range(8) if row or column]
    order = sorted(square, key=lambda at: (at[0] ** 2 + at[1] ** 2, at))[:_NUM_LUMA]
    rows, columns = zip(*order, strict=True)
    return np.array(rows), np.array(columns)
