"""What the pipeline returns: pictures with everything that is needed to draw them again, and previews."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from infinity.bits import BitLabels
from infinity.generation.device import own_defaults
from infinity.generation.files.picture_files import DrawingSettings, to_png, write_drawing
from infinity.generation.generate import to_uint8
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import ScaleDone
from infinity.tokenizer import Tokenizer

OutputType = Literal["pil", "np", "pt"]
Images = list[Image.Image] | UInt8[np.ndarray, "B H W 3"] | UInt8[Tensor, "B 3 H W"]


@dataclass(frozen=True, slots=True, eq=False)
class PipelineResult:
    """Pictures and what is needed to draw them again.

    Attributes:
        images: Pictures in the order of the prompts; those of one prompt are neighbours.
        prompts: Prompt of each picture.
        seeds: Seed of each picture.
        bits: Bit labels of all pictures; the tokenizer decodes them to the same pixels.
        sampling: Guidance, temperature and top-p of the pictures.
        aspect_ratio: Height / width of the pictures.
        settings: Settings of each picture, as a PNG file carries them.
    """

    images: Images
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    bits: BitLabels
    sampling: SamplingConfig
    aspect_ratio: float
    settings: tuple[DrawingSettings, ...] = ()

    def pixels(self) -> UInt8[np.ndarray, "B H W 3"]:
        """Return all pictures as one array, whatever the output type."""
        return as_array(self.images)

    def one(self, index: int) -> PipelineResult:
        """Return the result with one of the pictures alone, in the same form."""
        return PipelineResult(
            self.images[index : index + 1],
            (self.prompts[index],),
            (self.seeds[index],),
            self.bits.select([index]),
            self.sampling,
            self.aspect_ratio,
            self.settings[index : index + 1],
        )

    @staticmethod
    def joined(
        parts: Sequence[PipelineResult], places: Sequence[Sequence[int]], output_type: OutputType
    ) -> PipelineResult:
        """Return the pictures of several results as one, in another order.

        Args:
            parts: Results of one shape and one sampling.
            places: Number in the whole of each picture of each part; together every number from 0 once.
            output_type: Form of the pictures.
        """
        order = np.argsort([place for numbers in places for place in numbers])
        prompts, seeds, settings = (
            [each for part in parts for each in getattr(part, name)] for name in ("prompts", "seeds", "settings")
        )
        pixels = torch.from_numpy(np.concatenate([part.pixels() for part in parts])[order])
        bits = torch.cat([part.bits.bits_BLC for part in parts])[torch.from_numpy(order)]
        return PipelineResult(
            as_output(output_type, pixels),
            tuple(prompts[i] for i in order),
            tuple(seeds[i] for i in order),
            BitLabels(parts[0].bits.schedule, bits),
            parts[0].sampling,
            parts[0].aspect_ratio,
            tuple(settings[i] for i in order),
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write all pictures as PNG files that carry their settings, and return their paths.

        No file replaces another. ``infinity redo`` draws such a file again.

        Raises:
            OSError: The folder cannot be written.
        """
        pairs = zip(self.pixels(), self.settings, strict=True)
        return [
            write_drawing(Path(folder), index, to_png(image, about), about)
            for index, (image, about) in enumerate(pairs)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class ScalePreview:
    """State of some pictures after a scale.

    Attributes:
        rows: Numbers of the pictures among all of the call.
        scale: Number of the scale, from 0.
        num_scales: Number of scales of the pictures.
    """

    rows: range
    scale: int
    num_scales: int
    _done: ScaleDone
    _tokenizer: Tokenizer

    @own_defaults()
    @torch.no_grad()
    def images(self) -> list[Image.Image]:
        """Decode the bits so far, as pictures of the final size; valid during the callback."""
        decoded = to_uint8(self._tokenizer.decode(self._done.summed_BCHW))
        return [Image.fromarray(picture) for picture in decoded.numpy()]


OnPreview = Callable[[ScalePreview], None]
"""Callback after every scale of every batch."""


def check_output_type(output_type: Any) -> None:
    """Refuse an unknown form of pictures.

    Raises:
        ValueError: The form is unknown.
    """
    if output_type not in get_args(OutputType):
        raise ValueError(f"output_type: expected pil, np or pt, got {output_type!r:.80}")


def as_output(output_type: OutputType, images: UInt8[Tensor, "B H W 3"]) -> Images:
    """Return pictures in the form that was asked for."""
    if output_type == "pt":
        return images.permute(0, 3, 1, 2)
    pixels: np.ndarray = images.cpu().numpy()
    if output_type == "np":
        return pixels
    return [Image.fromarray(picture) for picture in pixels]


def as_array(images: Images) -> UInt8[np.ndarray, "B H W 3"]:
    """Invert ``as_output``."""
    if isinstance(images, Tensor):
        return images.permute(0, 2, 3, 1).cpu().numpy()
    return images if isinstance(images, np.ndarray) else np.stack([np.asarray(image) for image in images])


def settings_of(prompts: Sequence[str], seeds: Sequence[int], about: DrawingSettings) -> tuple[DrawingSettings, ...]:
    """Return the settings of several pictures that differ in prompt and seed alone."""
    return tuple(about.replace(prompt=prompt, seed=seed) for prompt, seed in zip(prompts, seeds, strict=True))
