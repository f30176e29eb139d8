"""Write generated pictures as PNG files that contain their settings; no file ever replaces another."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from infinity import storage
from infinity.config import Config
from infinity.generation.sampling import PyramidGuidance, SamplingConfig
from infinity.transformer.cache import CacheForm
from infinity.version import __version__

PNG_KEY = "infinity"
"""Keyword of the PNG text chunk with the settings as JSON."""
_MOST_NAME_BYTES = 120
_NEWER = ("watermark", "cache", "cache_share", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterUse(Config):
    """An adapter that a picture was drawn with.

    Attributes:
        content: Digest of its tensors.
        scale: Factor of its change.
    """

    name: str
    content: str
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WatermarkUse(Config):
    """A watermark that a picture was drawn with.

    Attributes:
        key_id: Name of the key, from which the key does not follow.
        strength: Logits by which bits leaned.
    """

    key_id: str
    strength: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRecord(Config):
    """What steered the drawing of a picture beside its prompt; packed, so that it is drawn again without its source.

    Attributes:
        source_bits: Bits of the edited picture, 8 per byte, deflated, as base64; empty where nothing was edited.
        kept_tokens: Mask of the tokens that kept their bits, likewise.
        later_prompt: Prompt of the later scales; None for none.
        later_scale: First scale, from 0, that reads it.
    """

    source_bits: str = ""
    kept_tokens: str = ""
    later_prompt: str | None = None
    later_scale: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawingSettings(Config):
    """Settings of a generated picture; the same model draws it again from them.

    Attributes:
        seed: Seed of the random numbers.
        aspect_ratio: Height / width of the schedule.
        size: Width and height in pixels.
        guidance: Classifier-free guidance (``SamplingConfig``).
        temperature: Temperature (``SamplingConfig``).
        top_p: Top-p, ``SamplingConfig.nucleus``.
        greedy: Whether sampling was greedy (``SamplingConfig``).
        guide_logits: Whether guidance mixed logits (``SamplingConfig``).
        guided_blocks: Blocks whose output guidance mixed (``SamplingConfig``).
        negative_prompt: Negative prompt (``SamplingConfig``).
        model: Digest of the model folder.
        version: Version of the program.
        adapters: Adapters that were loaded.
        edit: What steered the drawing beside its prompt; None for a plain drawing.
        quantized: Form of the blocks' stored weights; None for floating point.
        pruned: Shares of left-out tokens (``SamplingConfig``).
        watermark: Watermark in the bits; None for none.
        cache: Form of the cached keys and values; None for floating point.
        cache_share: Share of earlier tokens that blocks kept (``SamplingConfig``); None for all.
        bfloat16: True where products were bfloat16; None for float32.
    """

    later: ClassVar[frozenset[str]] = frozenset(
        {"adapters", "edit", "quantized", "pruned", "watermark", "cache", "cache_share", "bfloat16"}
    )

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
    adapters: tuple[AdapterUse, ...] = ()
    edit: EditRecord | None = None
    quantized: Literal["int8", "int4", "float8"] | None = None
    pruned: tuple[float, ...] = ()
    watermark: WatermarkUse | None = None
    cache: CacheForm | None = None
    cache_share: float | tuple[float, ...] | None = None
    bfloat16: Literal[True] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; newer fields are left out where they are None, so that files keep their bytes."""
        return {name: value for name, value in Config.to_json(self).items() if value is not None or name not in _NEWER}

    @classmethod
    def of(
        cls, prompt: str, seed: int, sampling: SamplingConfig, *, aspect_ratio: float, size: tuple[int, int], model: str
    ) -> DrawingSettings:
        """Return the settings of a picture of this version of the program, as its file holds them.

        Whole numbers are floating-point ones there, so that 3 and 3.0 make the same file through every door.

        Args:
            seed: Seed of the random numbers.
            sampling: Guidance, temperature and top-p.
            aspect_ratio: Height / width of the schedule.
            size: Width and height in pixels.
            model: Digest of the model folder.
        """
        settings = cls(
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
            pruned=sampling.pruned,
            cache_share=sampling.cache_share if sampling.saves_cache else None,
            model=model,
            version=__version__,
        )
        return cls.from_json(settings.to_json())

    @property
    def sampling(self) -> SamplingConfig:
        """Settings of the sampling."""
        return SamplingConfig(
            guidance=self.guidance,
            guide_logits=self.guide_logits,
            guided_blocks=self.guided_blocks,
            temperature=self.temperature,
            greedy=self.greedy,
            nucleus=self.top_p,
            negative_prompt=self.negative_prompt,
            pruned=self.pruned,
            cache_share=1.0 if self.cache_share is None else self.cache_share,
        )


def to_png(image_HW3: np.ndarray, drawing: DrawingSettings) -> bytes:
    """Return a PNG file with its settings in a text chunk."""
    about, file = PngInfo(), io.BytesIO()
    about.add_itxt(PNG_KEY, drawing.dump().strip())
    Image.fromarray(image_HW3).save(file, "PNG", pnginfo=about)
    return file.getvalue()


def read_drawing(path: Path | str) -> DrawingSettings:
    """Read the settings from a PNG file.

    Raises:
        ValueError: The file is not a PNG picture, or has no settings.
        OSError: The file cannot be read.
    """
    return drawing_in(storage.read_bytes(str(path)), where=str(path))


def drawing_in(data: bytes, *, where: str) -> DrawingSettings:
    """Read the settings from the bytes of a PNG file.

    Raises:
        ValueError: The bytes are not a PNG picture, or have no settings.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()  # text chunks may also follow the pixels
            text = getattr(image, "text", {}).get(PNG_KEY)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "it is another kind of file" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{where}: expected a PNG file, found none that can be read ({reason})") from error
    if text is None:
        raise ValueError(f"{where}: expected a drawing with its settings in the text chunk {PNG_KEY!r}, found none")
    return DrawingSettings.parse(str(text), where=f"{where}: {PNG_KEY}")


def write_drawing(folder: Path, index: int, png: bytes, drawing: DrawingSettings) -> Path:
    """Write a picture under a name of its own; a file of that name with another content is never replaced.

    Args:
        folder: Folder; it is created if it does not exist.
        index: Number at the start of the name.

    Returns:
        Path of the file: the usual name, or one with the digest of the settings, perhaps numbered.

    Raises:
        OSError: The file cannot be written.
    """
    make_picture_folder(folder)
    for name in _names(index, drawing):
        path = folder / name
        try:
            _write_new(path, png)
        except FileExistsError:
            if not path.is_file() or path.read_bytes() != png:
                continue
        return path
    raise AssertionError("names never end")


def _write_new(path: Path, png: bytes) -> None:
    """Write a file under a name that is free; on a disk that is full nothing stays of it.

    Not by a link, as storage does: disks of cameras and sticks have none.
    """
    try:
        file = path.open("xb")
    except FileExistsError:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with file:
            file.write(png)
    except OSError as error:
        path.unlink()
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> storage.StorageError:
    return storage.StorageError(f"cannot write {path}: {error.strerror}; free some space or choose another place")


def make_picture_folder(folder: Path) -> None:
    """Make a folder for pictures, on this machine.

    Raises:
        ValueError: A URI was given.
        OSError: The folder cannot be made.
    """
    if _IS_URI.match(str(folder)):
        raise ValueError(f"{folder}: expected a folder on this machine for the pictures, found a URI")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise storage.StorageError(f"{folder}: expected a folder for the pictures, found something else") from error
    except OSError as error:
        raise storage.StorageError(
            f"cannot make the folder {folder} for the pictures: {error.strerror}; choose another place"
        ) from error


_IS_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # as a Path, which has lost the second slash


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
