"""Drawn pictures in shared storage: each under the name of what it was drawn from, so that none is drawn twice."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from infinity import storage
from infinity.config import digest_of
from infinity.data.images.contact_sheet import encode_png
from infinity.generation.sampling import SamplingConfig

PICTURES_FOLDER = "pictures"
"""Of a store that holds more than pictures."""

VERSION = 1
"""Of the drawing: to be raised when the same model, prompt and seed no longer give the same picture."""

Picture = UInt8[np.ndarray, "H W 3"]


class PictureError(ValueError):
    """A picture that should be there is missing or is none."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture that is wanted: of a prompt, with a seed, at an aspect ratio (height / width)."""

    prompt: str
    seed: int
    aspect_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class PictureStore:
    """The drawings of one model under one sampling.

    Attributes:
        folder: URI that all models share.
        model_digest: Of the model's checkpoint.
        sampling: How the pictures are drawn.
        device: Kind of device; half precision on a GPU draws other pictures than a CPU.
    """

    folder: str
    model_digest: str
    sampling: SamplingConfig
    device: str

    def key(self, drawing: Drawing) -> str:
        """Path of a drawing below the folder: a function of all that the picture depends on."""
        drawn = [VERSION, self.device, self.sampling.to_json(), drawing.prompt, drawing.seed, drawing.aspect_ratio]
        digest = digest_of(drawn)
        return f"{self.model_digest[:16]}/{digest[:2]}/{digest}.png"

    def uri(self, drawing: Drawing) -> str:
        """Where a drawing lies."""
        return storage.join(self.folder, self.key(drawing))

    def present(self) -> frozenset[str]:
        """Keys of all drawings of this model that are there."""
        below = storage.list_files(storage.join(self.folder, self.model_digest[:16]))
        return frozenset("/".join(uri.rsplit("/", 3)[1:]) for uri in below)

    def write(self, drawing: Drawing, picture: Picture) -> None:
        """Keep a drawing without loss; one that is there already stays."""
        try:
            storage.write_bytes(self.uri(drawing), encode_png(picture), if_absent=True)
        except storage.FileAlreadyThereError:
            return

    def read(self, drawing: Drawing) -> Picture:
        """A drawing that was made before.

        Raises:
            PictureError: It is missing or no picture.
        """
        return read_picture(self.uri(drawing))


def read_picture(uri: str) -> Picture:
    """An RGB picture from a file, upright (its EXIF orientation is followed first).

    Raises:
        PictureError: It is missing or no picture.
    """
    try:
        data = storage.read_bytes(uri)
    except storage.FileMissingError as error:
        raise PictureError(f"{uri}: expected a picture, found none; run the evaluation again to draw it") from error
    return decode_picture(data, uri)


def decode_picture(
    data: bytes, where: str, *, upright: bool = True, remedy: str = "delete it and run the evaluation again"
) -> Picture:
    """The one reader of everything that is scored: RGB as Pillow's ``convert("RGB")`` gives it.

    Transparency is dropped, as torch-fidelity, pytorch-fid, clean-fid and GenEval's scorer do. Not for training data,
    whose transparent places show white (``data.decoding``).

    Args:
        data: A whole file.
        where: Its name, for messages.
        upright: Whether its EXIF orientation is followed first, as GenEval's scorer does; the tools for FID do not.
        remedy: What to do about a damaged file.

    Raises:
        PictureError: It is no picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))
    # Pillow reports damaged files as any of these.
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise PictureError(f"{where}: expected a picture, found a damaged file ({error}); {remedy}") from error
