"""What a thumbnail can tell: whether it has structure by which pictures may be compared, and whether it shows a frame.

A night sky or a page of text is all detail that a thumbnail of 32 x 32 averages away: the thumbnails of two of them are
alike though the pictures are not. A frame is what others put around a picture; of two versions the one without it is
the original.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, UInt8

_AT_ONCE = 512
_LEAST_SHARE, _SURE_SHARE = 0.35, 0.6
"""Share of a picture's variance (longer side 256) that its thumbnail must hold; below the second, strong colours as
well. Of 900 photographs and emoji all hold 0.39 and more; pages of text 0.07 to 0.6, starry skies and lawns 0.07."""

_STRONG = 2.5
"""Colours that differ from the mean by more than this many times the limit of nearness are strong."""

_SAME, _OTHER, _MOST = 24.0, 40.0, 0.7
"""Levels within which a frame has one colour; levels by which the picture inside differs, along this share of a
side."""

Thumbnails = Callable[[Int[np.ndarray, " m"]], UInt8[np.ndarray, "m 32 32 3"]]


def told_by(
    rows: pa.Table, thumbnails: Thumbnails, difference: float
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return which pictures have structure in their thumbnails, and which have a frame.

    Args:
        rows: Columns of ``FACTS`` of readable pictures.
        thumbnails: Function from places in ``rows`` to thumbnails.
        difference: Levels within which two thumbnails are near: one that differs less from a flat colour tells nothing.
    """
    contrast = rows["contrast"].to_numpy().astype(np.float64)
    structured, framed = np.empty(rows.num_rows, bool), np.empty(rows.num_rows, bool)
    for at in range(0, rows.num_rows, _AT_ONCE):
        places = np.arange(at, min(rows.num_rows, at + _AT_ONCE))
        pictures = thumbnails(places).astype(np.float32)
        centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
        variance = np.square(centred).mean(axis=(1, 2)).max(axis=1)
        strength = np.abs(centred).max(axis=(1, 2, 3)) / max(difference, 1.0)
        share = variance / np.maximum(np.square(contrast[places]), 1e-6)
        is_sure = (share >= _SURE_SHARE) | (strength > _STRONG)
        structured[places] = (strength > 1) & (share >= _LEAST_SHARE) & is_sure
        framed[places] = have_frames(pictures)
    return structured, framed


def have_frames(pictures: Float[np.ndarray, "m 32 32 3"]) -> Bool[np.ndarray, " m"]:
    """Return which thumbnails have an edge of one colour on all sides, with something else right inside of it."""
    turned = [np.rot90(pictures, number, axes=(1, 2)) for number in range(4)]
    edges = np.stack([each[:, 0] for each in turned], axis=1)  # m 4 32 3
    colour = edges.mean(axis=(1, 2), keepdims=True)
    is_one = (np.abs(edges - colour) <= _SAME).all(axis=3).mean(axis=(1, 2)) > 1 - 1e-6
    inside = np.stack([each[:, 3, 3:-3] for each in turned], axis=1)
    differs = (np.abs(inside - colour) > _OTHER).any(axis=3).mean(axis=2)
    return np.asarray(is_one & (differs >= _MOST).all(axis=1))
