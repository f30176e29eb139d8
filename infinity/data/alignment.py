"""How different two thumbnails are when one may be a crop of the other.

A crop of a few percent moves edges by a fraction of a thumbnail's cell, which changes cells more than another skin tone
does. So one thumbnail is laid over the other as well as a crop allows (a scale and a shift along each axis, found by
least squares), and what still differs then is the difference.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from infinity.data.likeness import THUMBNAIL_PX

MAX_SHIFT = 0.06
"""How far an edge may move, in picture sides: a crop of 5 %, and a little for rounding to pixels."""

_STEPS = 4
_BATCH = 4096
_CENTERS = (np.arange(THUMBNAIL_PX) + 0.5) / THUMBNAIL_PX

Thumbnails = UInt8[np.ndarray, "P 16 16 3"]


def thumbnail_difference(a: Thumbnails, b: Thumbnails) -> Float[np.ndarray, " P"]:
    """The largest difference of any cell and channel, in levels [0, 255], of each pair laid over each other.

    Differences are averaged over neighbouring cells (1-2-1 along both axes) first: interpolation errs from cell to
    cell, a changed colour covers several.
    """
    parts = [
        np.minimum(
            _aligned(a[at : at + _BATCH], b[at : at + _BATCH]), _aligned(b[at : at + _BATCH], a[at : at + _BATCH])
        )
        for at in range(0, len(a), _BATCH)
    ]
    return np.concatenate([np.empty(0, np.float64), *parts])


def coarse_difference(a: Thumbnails, b: Thumbnails) -> Float[np.ndarray, " P"]:
    """The largest difference of any channel in a grid of 4 x 4 means, in levels: cheap, and small for any crop."""
    return np.asarray(np.abs(_coarse(a) - _coarse(b)).max(axis=(1, 2, 3)))


def _coarse(thumbnails: Thumbnails) -> Float[np.ndarray, "P 4 4 3"]:
    side = THUMBNAIL_PX // 4
    return np.asarray(thumbnails.reshape(-1, 4, side, 4, side, 3).mean(axis=(2, 4), dtype=np.float32))


def _aligned(a: Thumbnails, b: Thumbnails) -> Float[np.ndarray, " P"]:
    """Lay ``a`` over ``b`` by damped least squares (Gauss-Newton), and return what differs at the end."""
    source, target = a.astype(np.float64), b.astype(np.float64)
    shift = np.zeros((len(a), 4))  # along x: of the left edge, growth to the right; along y: of the top, downwards
    for _ in range(_STEPS):
        warped, seen = _warp(source, shift)
        residual = (target - warped) * seen[..., None]
        down, right = (gradient * THUMBNAIL_PX * seen[..., None] for gradient in np.gradient(warped, axis=(1, 2)))
        slopes = (right, right * _CENTERS[:, None], down, down * _CENTERS[:, None, None])
        jacobian = np.stack(slopes, axis=-1).reshape(len(a), -1, 4)
        normal = jacobian.transpose(0, 2, 1) @ jacobian
        damping = 1e-3 * np.trace(normal, axis1=1, axis2=2) / 4 + 1e-3
        downhill = jacobian.transpose(0, 2, 1) @ residual.reshape(len(a), -1, 1)
        shift = _limited(shift + np.linalg.solve(normal + damping[:, None, None] * np.eye(4), downhill)[..., 0])
    warped, seen = _warp(source, shift)
    left_over = np.abs(_smooth(_smooth((target - warped) * seen[..., None], 1), 2)).max(axis=(1, 2, 3))
    as_it_is = np.abs(_smooth(_smooth(target - source, 1), 2)).max(axis=(1, 2, 3))
    return np.asarray(np.minimum(left_over, as_it_is))


def _limited(shift: Float[np.ndarray, "P 4"]) -> Float[np.ndarray, "P 4"]:
    """No edge moves further than ``MAX_SHIFT``."""
    first = np.clip(shift[:, ::2], -MAX_SHIFT, MAX_SHIFT)
    last = np.clip(shift[:, ::2] + shift[:, 1::2], -MAX_SHIFT, MAX_SHIFT)
    return np.stack([first, last - first], axis=-1).reshape(-1, 4)


def _warp(
    source: Float[np.ndarray, "P 16 16 3"], shift: Float[np.ndarray, "P 4"]
) -> tuple[Float[np.ndarray, "P 16 16 3"], Bool[np.ndarray, "P 16 16"]]:
    """Source as seen through the shift, and which cells lie inside of it."""
    across, seen_across = _interpolation(shift[:, 0], shift[:, 1])
    along, seen_along = _interpolation(shift[:, 2], shift[:, 3])
    count, side = len(source), THUMBNAIL_PX
    rows = along @ source.reshape(count, side, side * 3)
    columns = across[:, None] @ rows.reshape(count, side, side, 3)
    return columns, seen_along[:, :, None] & seen_across[:, None, :]


def _interpolation(
    start: Float[np.ndarray, " P"], growth: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, "P 16 16"], Bool[np.ndarray, "P 16"]]:
    """Weights of linear interpolation along one axis."""
    last = THUMBNAIL_PX - 1
    places = (_CENTERS + start[:, None] + growth[:, None] * _CENTERS) * THUMBNAIL_PX - 0.5
    seen = (places >= -0.25) & (places <= last + 0.25)
    places = np.clip(places, 0, last)
    cells = np.arange(THUMBNAIL_PX)
    return np.maximum(0.0, 1 - np.abs(places[..., None] - cells)), seen


def _smooth(values: Float[np.ndarray, "P 16 16 3"], axis: int) -> Float[np.ndarray, "P 16 16 3"]:
    """The 1-2-1 mean along an axis; borders count twice."""
    cells = np.arange(THUMBNAIL_PX)
    before = np.take(values, np.maximum(cells - 1, 0), axis)
    behind = np.take(values, np.minimum(cells + 1, THUMBNAIL_PX - 1), axis)
    return np.asarray((before + 2 * values + behind) / 4)
