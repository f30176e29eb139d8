"""From the pixels of any kind of picture to RGB with 8 bits per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

_STRIP_PIXELS = 2**17  # what the processor's caches hold
_GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4}


def to_rgb(image: Image.Image) -> Image.Image:
    """Return RGB with 8 bits per channel: transparency becomes white, 16-bit grey is scaled, other spaces converted."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _by_strips(image, partial(_from_deep_grey, white=_white(image)))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _by_strips(image, _on_white)
    return image.convert("RGB")


def with_alpha(image: Image.Image) -> Image.Image:
    """Return a picture with an alpha channel; Pillow knows no way from the premultiplied grey of mode La to colours."""
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def scale_clear(image: Image.Image) -> None:
    """Give the transparent colour of a PNG that is not loaded yet the levels that Pillow will give to its pixels.

    Greys of 1, 2 or 4 bits become 8 bits, and of colours of 16 bits the upper 8 stay.
    """
    clear = image.info.get("transparency")
    tiles = getattr(image, "tile", ())
    if image.format != "PNG" or clear is None or not tiles:
        return
    form = str(tiles[0][3])
    if isinstance(clear, int) and form in _GREY_BITS:
        image.info["transparency"] = clear * 255 // (2 ** _GREY_BITS[form] - 1)
    elif isinstance(clear, tuple) and form == "RGB;16B":
        image.info["transparency"] = tuple(level >> 8 for level in clear)


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a picture strip by strip, so that intermediate steps need memory for a strip only."""
    whole = Image.new("RGB", image.size)
    top = 0
    for strip in _strips(image):
        whole.paste(convert(strip), (0, top))
        top += strip.height
    return whole


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """Yield a picture from top to bottom in strips of about ``_STRIP_PIXELS``."""
    height = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(image.height, top + height)))
        if "transparency" in image.info:
            strip.info["transparency"] = image.info["transparency"]
        yield strip


def _on_white(image: Image.Image) -> Image.Image:
    clear = with_alpha(image)
    return Image.alpha_composite(Image.new("RGBA", clear.size, (255, 255, 255, 255)), clear).convert("RGB")


def _white(image: Image.Image) -> float:
    """Return the value that is white: 65,535, or in floating point 1 where no value is larger, else 255."""
    if image.mode != "F":
        return 65535.0
    values = np.asarray(image)
    return 255.0 if np.max(values, initial=0.0, where=np.isfinite(values)) > 1 else 1.0


def _from_deep_grey(image: Image.Image, white: float) -> Image.Image:
    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=white, neginf=0.0) * (255 / white)
    if (clear := image.info.get("transparency")) is not None:
        values[np.asarray(image) == clear] = 255
    return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8)).convert("RGB")
