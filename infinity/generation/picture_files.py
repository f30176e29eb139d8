"""Drawings as PNG files that say how they were drawn, under names that hide no other drawing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from infinity.config import Config
from infinity.generation.sampling import PyramidGuidance, SamplingConfig
from infinity.version import __version__

PNG_KEY = "infinity"
"""Keyword of the text chunk that holds the settings as JSON."""
_MOST_NAME_BYTES = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawingSettings(Config):
    """How a picture was drawn; with the same model it can be drawn again.

    Attributes:
        prompt: What was asked for.
        seed: Of its random numbers.
        aspect_ratio: Height / width that its schedule stands for.
        size: Width and height in pixels.
        guidance: As in ``SamplingConfig``.
        temperature: As in ``SamplingConfig``.
        top_p: ``SamplingConfig.nucleus``.
        greedy: As in ``SamplingConfig``.
        guide_logits: As in ``SamplingConfig``.
        guided_blocks: As in ``SamplingConfig``.
        negative_prompt: As in ``SamplingConfig``.
        model: Digest of the model folder.
        version: Of the program.
    """

    prompt: str
    seed: int
    aspect_ratio: float
    size: tuple[int, int]
    guidance: float | tuple[float, ...] | PyramidGuidance
    temperature: float | tuple[float, ...]
    top_p: float
    greedy: bool
    guide_logits: bool
    guided_blocks: tuple[int, ...]
    negative_prompt: str | None
    model: str
    version: str

    @classmethod
    def of(
        cls, prompt: str, seed: int, sampling: SamplingConfig, *, aspect_ratio: float, size: tuple[int, int], model: str
    ) -> DrawingSettings:
        """A drawing of this program.

        Args:
            prompt: What was asked for.
            seed: Of its random numbers.
            sampling: How its bits were drawn.
            aspect_ratio: Height / width that its schedule stands for.
            size: Width and height in pixels.
            model: Digest of the model folder.
        """
        return cls(
            prompt=prompt,
            seed=seed,
            aspect_ratio=aspect_ratio,
            size=size,
            guidance=sampling.guidance,
            temperature=sampling.temperature,
            top_p=sampling.nucleus,
            greedy=sampling.greedy,
            guide_logits=sampling.guide_logits,
            guided_blocks=sampling.guided_blocks,
            negative_prompt=sampling.negative_prompt,
            model=model,
            version=__version__,
        )

    @property
    def sampling(self) -> SamplingConfig:
        """How its bits were drawn."""
        return SamplingConfig(
            guidance=self.guidance,
            guide_logits=self.guide_logits,
            guided_blocks=self.guided_blocks,
            temperature=self.temperature,
            greedy=self.greedy,
            nucleus=self.top_p,
            negative_prompt=self.negative_prompt,
        )


def to_png(image_HW3: np.ndarray, drawing: DrawingSettings) -> bytes:
    """A PNG file with its settings in a text chunk."""
    about, file = PngInfo(), io.BytesIO()
    about.add_itxt(PNG_KEY, drawing.dump().strip())
    Image.fromarray(image_HW3).save(file, "PNG", pnginfo=about)
    return file.getvalue()


def read_drawing(path: Path | str) -> DrawingSettings:
    """How a PNG file was drawn.

    Raises:
        ValueError: No picture, or one without these settings.
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()  # chunks may also stand behind the pixels
            text = getattr(image, "text", {}).get(PNG_KEY)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: expected a PNG file, found none that can be read ({error})") from error
    if text is None:
        raise ValueError(f"{path}: expected a drawing with its settings in the text chunk {PNG_KEY!r}, found none")
    return DrawingSettings.parse(str(text), where=f"{path}: {PNG_KEY}")


def write_drawing(folder: Path, index: int, png: bytes, drawing: DrawingSettings) -> Path:
    """Write a drawing under a name of its own; a file of that name with another content is never replaced.

    Args:
        folder: Is made.
        index: Number in front of the name.
        png: The file.
        drawing: What it shows and how it was drawn.

    Returns:
        Where it lies: under its usual name, or one with the digest of the settings, perhaps numbered.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _names(index, drawing):
        path = folder / name
        try:
            with path.open("xb") as file:
                file.write(png)
        except FileExistsError:
            if path.read_bytes() != png:
                continue
        return path
    raise AssertionError("names never end")


def _names(index: int, drawing: DrawingSettings) -> Iterator[str]:
    words = "-".join(re.findall(r"[^\W_]+", drawing.prompt.lower()))[:60]
    words = words.encode()[:_MOST_NAME_BYTES].decode(errors="ignore").strip("-")
    name = "-".join([f"{index:03d}", *([words] if words else []), f"seed{drawing.seed}"])
    yield f"{name}.png"
    yield f"{name}-{drawing.digest()}.png"
    number = 2
    while True:
        yield f"{name}-{drawing.digest()}-{number}.png"
        number += 1
