"""The bits of a picture that is to be edited: exactly those that it was drawn with, where this model drew it."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from infinity.data.images.decoding import MAX_PIXELS, as_shown, check_header, decode, plain
from infinity.data.memory import LEAST_PICTURE_BYTES
from infinity.generation.drawing.drawer import Drawer
from infinity.generation.drawing.redo import redo
from infinity.generation.editing.sources import PictureBits, bits_of_image, decoded_bits
from infinity.generation.files.picture_files import PNG_KEY, DrawingSettings, drawing_in

_ROUNDING = 1
"""Levels by which a pixel may differ from that of the file: the decoder rounds otherwise on another processor."""


def source_of(drawer: Drawer, data: bytes, *, where: str, max_pixels: int = MAX_PIXELS) -> PictureBits:
    """Return the bits of a picture file that is to be edited.

    A picture that this model drew, and that nobody has changed since, is drawn again, which gives exactly its bits;
    others are encoded. Adapters that it was drawn with must be loaded, at any scale.

    Raises:
        UnreadableError: The bytes are not a picture that can be read.
        ValueError: The settings in the file are damaged.
    """
    check_header(data, max_pixels)  # before any pixel is decoded
    try:
        settings = drawing_in(data, where=where)
    except ValueError:
        settings = None
    return _bits(drawer, plain(decode(data, max_pixels, LEAST_PICTURE_BYTES).image), settings)


def source_of_image(drawer: Drawer, image: Image.Image) -> PictureBits:
    """Return the bits of an opened picture that is to be edited, the same as of its file.

    Raises:
        ValueError: The settings in the picture are damaged.
    """
    pixels = as_shown(image)
    try:
        settings = DrawingSettings.parse(str(image.info[PNG_KEY]), where=PNG_KEY)
    except (KeyError, ValueError):
        settings = None
    return _bits(drawer, pixels, settings)


def _bits(drawer: Drawer, image: Image.Image, settings: DrawingSettings | None) -> PictureBits:
    drawn = None if settings is None else _drawn_again(drawer, np.asarray(image), settings)
    return bits_of_image(drawer.pipeline, image) if drawn is None else drawn


def _drawn_again(
    drawer: Drawer, pixels_HW3: UInt8[np.ndarray, "H W 3"], settings: DrawingSettings
) -> PictureBits | None:
    """Return the bits that a picture was drawn with; None if it is another model's, or was changed since.

    Programs that crop or paint often keep the settings in the file, which are then those of another picture.
    """
    pipeline = drawer.pipeline
    drawn_by = (settings.model, settings.quantized, settings.cache)
    if drawn_by != (pipeline.digest, pipeline.quantized, pipeline.cache):
        return None
    if settings.size != (pixels_HW3.shape[1], pixels_HW3.shape[0]):
        return None
    adapters = drawer.loaded_again(settings.adapters)
    mark = drawer.watermark if settings.watermark == drawer.watermark_use else None
    if adapters is None or (settings.watermark is not None and mark is None):
        return None
    with drawer.drawing_with(adapters, mark):
        result = redo(drawer, settings)
    difference = np.abs(result.pixels()[0].astype(np.int16) - pixels_HW3)
    if int(difference.max()) > _ROUNDING:
        return None
    return decoded_bits(pipeline, result.bits, result.aspect_ratio)
