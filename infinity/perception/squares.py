"""Pictures cut to the square that a network looks at."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def centre_square(picture: Image.Image, side_px: int, resample: Image.Resampling) -> UInt8[np.ndarray, "S S 3"]:
    """The shorter side brought to ``side_px`` by Pillow's filter, and the middle cut out; as torchvision rounds."""
    width, height = picture.size
    short = min(width, height)
    if short != side_px:
        picture = picture.resize((side_px * width // short, side_px * height // short), resample)
    left, top = (round((side - side_px) / 2) for side in picture.size)
    return np.asarray(picture.crop((left, top, left + side_px, top + side_px)))
