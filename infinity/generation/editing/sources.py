"""The bits of a picture that is edited: encoded from its pixels, or those that it was drawn with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from infinity.bits import BitLabels
from infinity.data.images.decoding import as_shown
from infinity.data.images.fitting import fit
from infinity.generation.device import own_defaults
from infinity.generation.generate import to_uint8
from infinity.generation.pipeline import Pipeline
from infinity.scales import nearest_aspect_ratio
from infinity.tokenizer.pixels import to_pixels


@dataclass(frozen=True, slots=True, eq=False)
class PictureBits:
    """A picture as bits.

    Attributes:
        image_HW3: Pixels that the tokenizer decodes from the bits, 0 to 255.
        aspect_ratio: Height / width of the schedule.
    """

    labels: BitLabels
    image_HW3: UInt8[Tensor, "H W 3"]
    aspect_ratio: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image_HW3.shape[0], self.image_HW3.shape[1]


@own_defaults()
@torch.no_grad()
def decoded_bits(pipeline: Pipeline, labels: BitLabels, aspect_ratio: float) -> PictureBits:
    """Return one picture from its bits."""
    tokenizer = pipeline.tokenizer
    decoded = to_uint8(tokenizer.decode_labels(labels.to(pipeline.device)))
    return PictureBits(labels.to("cpu"), decoded[0], aspect_ratio)


@own_defaults()
def bits_of_image(pipeline: Pipeline, image: Image.Image, aspect_ratio: float | None = None) -> PictureBits:
    """Encode a picture to bits; it is scaled and cropped to the nearest of the model's shapes.

    Args:
        pipeline: Loaded model.
        image: Picture of any size and mode; it is turned as its EXIF says.
        aspect_ratio: Height / width of the schedule; None for the nearest to the picture's.
    """
    picture = as_shown(image)
    ratio = nearest_aspect_ratio(picture.height, picture.width) if aspect_ratio is None else aspect_ratio
    schedule = pipeline.config.resolution.schedule(ratio)
    tokenizer = pipeline.tokenizer
    pixels = np.array(fit(picture, schedule.image_size_px(tokenizer.config.stride_px)))
    with torch.no_grad():
        features = tokenizer.encode(to_pixels(torch.from_numpy(pixels)[None], pipeline.device))
        labels = tokenizer.quantize(features, schedule).labels
    return decoded_bits(pipeline, labels, ratio)


def on_canvas(image: Image.Image, aspect_ratio: float) -> tuple[Image.Image, Image.Image]:
    """Put a picture into the middle of a larger canvas of another shape, for outpainting.

    Args:
        aspect_ratio: Height / width of the canvas, which is the smallest that holds the picture.

    Returns:
        The canvas, filled with the nearest edge pixels, and a mask that is white outside the picture.

    Raises:
        ValueError: The picture has this shape already, so that there is nothing outside it.
    """
    picture = as_shown(image)
    width = max(picture.width, round(picture.height / aspect_ratio))
    height = max(picture.height, round(width * aspect_ratio))
    top, left = (height - picture.height) // 2, (width - picture.width) // 2
    if (height, width) == (picture.height, picture.width):
        raise ValueError(f"aspect_ratio: the picture already has the shape {aspect_ratio}; expected another one")
    below, right = height - picture.height - top, width - picture.width - left
    canvas = np.pad(np.array(picture), ((top, below), (left, right), (0, 0)), mode="edge")
    mask = np.full((height, width), 255, dtype=np.uint8)
    mask[top : top + picture.height, left : left + picture.width] = 0
    return Image.fromarray(canvas), Image.fromarray(mask)
