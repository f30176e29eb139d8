"""A picture fitted to a size: scaled until it covers the size, and cropped.

It needs no table library, so that drawing and editing pictures, which only fit them, load none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image


@dataclass(frozen=True, slots=True)
class Placement:
    """Position of the crop in a picture.

    Attributes:
        down: Share of the surplus height above the crop, 0 to 1.
        across: Share of the surplus width left of the crop, 0 to 1.
        mirrored: Whether left and right change sides.
    """

    down: float = 0.5
    across: float = 0.5
    mirrored: bool = False


CENTRE = Placement()


def fit(image: Image.Image, size_px: tuple[int, int], placement: Placement = CENTRE) -> UInt8[np.ndarray, "H W 3"]:
    """Scale with a Lanczos filter until the picture covers (height, width), and keep a part of it: the centre.

    Crop and scaling are one step: the crop need not fall on whole pixels, so the picture is never distorted.
    """
    height, width = size_px
    scale = max(height / image.height, width / image.width)
    left = (image.width - width / scale) * placement.across
    top = (image.height - height / scale) * placement.down
    box = (
        max(0.0, left),
        max(0.0, top),
        min(image.width, left + width / scale),
        min(image.height, top + height / scale),
    )
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))
    return pixels[:, ::-1] if placement.mirrored else pixels
