"""Square pictures for CLIP or BLIP: cropped, and normalised by mean and deviation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def centre_square(picture: Image.Image, side_px: int, resample: Image.Resampling) -> UInt8[np.ndarray, "S S 3"]:
    """Return the middle square of a picture whose shorter side was scaled to ``side_px`` by Pillow's filter.

    Sizes are rounded as torchvision does.
    """
    width, height = picture.size
    short = min(width, height)
    if short != side_px:
        picture = picture.resize((side_px * width // short, side_px * height // short), resample)
    left, top = (round((side - side_px) / 2) for side in picture.size)
    return np.asarray(picture.crop((left, top, left + side_px, top + side_px)))


def normalise(levels: Float[Tensor, "n 3 S S"]) -> Float[Tensor, "n 3 S S"]:
    """Return RGB levels of 0 to 1, normalised by the mean and deviation of OpenAI's pictures."""
    mean, deviation = (levels.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _DEVIATION))
    return (levels - mean) / deviation
