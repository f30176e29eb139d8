"""A model's pictures in shared storage: each is named by what it was drawn from, so that none is drawn twice."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from infinity import storage
from infinity.config import digest_of
from infinity.data.images.contact_sheet import encode_png
from infinity.evaluation.pictures.files import is_decoded
from infinity.generation.sampling import SamplingConfig

PICTURES_FOLDER = "pictures"
"""Folder of pictures in a store that holds other files too."""

VERSION = 1
"""Version of drawing; raise it when the same model, prompt and seed no longer give the same picture."""

Picture = UInt8[np.ndarray, "H W 3"]


class PictureError(ValueError):
    """A picture is missing, or a file is not a readable picture."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Request for one picture: a prompt, a seed, and an aspect ratio (height / width)."""

    prompt: str
    seed: int
    aspect_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class PictureStore:
    """The pictures of one model under one sampling configuration.

    Attributes:
        folder: URI of the folder, which all models share.
        model_digest: Digest of the model's checkpoint.
        sampling: How the pictures are drawn.
        device: Kind of device, such as "cpu"; half precision on a GPU gives other pictures than a CPU.
        forms: Forms of weights and cache that are not floating point; empty where both are.
    """

    folder: str
    model_digest: str
    sampling: SamplingConfig
    device: str
    forms: tuple[str, ...] = ()

    def key(self, drawing: Drawing) -> str:
        """Return the path of a picture below the folder; it names all that the picture depends on (decision 21)."""
        drawn = [VERSION, self.device, self.sampling.identity(), drawing.prompt, drawing.seed, drawing.aspect_ratio]
        digest = digest_of([*drawn, *self.forms])
        return f"{self.model_digest[:16]}/{digest[:2]}/{digest}.png"

    def uri(self, drawing: Drawing) -> str:
        """Return the URI of a picture."""
        return storage.join(self.folder, self.key(drawing))

    def present(self) -> frozenset[str]:
        """Return the keys of all pictures of this model that exist."""
        below = storage.list_files(storage.join(self.folder, self.model_digest[:16]))
        return frozenset("/".join(uri.rsplit("/", 3)[1:]) for uri in below)

    def write(self, drawing: Drawing, picture: Picture) -> None:
        """Store a picture without loss; an existing one stays."""
        try:
            storage.write_bytes(self.uri(drawing), encode_png(picture), if_absent=True)
        except storage.FileAlreadyThereError:
            return

    def read(self, drawing: Drawing) -> Picture:
        """Return a picture that was drawn before.

        Raises:
            PictureError: The file is missing or not a readable picture.
        """
        return read_picture(self.uri(drawing))


def read_picture(uri: str) -> Picture:
    """Return an RGB picture from a file, upright (its EXIF orientation is applied).

    Raises:
        PictureError: The file is missing or not a readable picture.
    """
    try:
        data = storage.read_bytes(uri)
    except storage.FileMissingError as error:
        raise PictureError(f"{uri}: expected a picture, found none; run the evaluation again to draw it") from error
    return decode_picture(data, uri)


def decode_picture(
    data: bytes, where: str, *, upright: bool = True, remedy: str = "delete it and run the evaluation again"
) -> Picture:
    """Return a picture as RGB, as Pillow's ``convert("RGB")`` gives it; everything that is scored is read here.

    Transparency is dropped, as torch-fidelity, pytorch-fid, clean-fid and GenEval's scorer do. Training data is read
    otherwise: its transparent places become white (``data.images.decoding``).

    Args:
        data: Content of the file.
        where: Name of the file in error messages.
        upright: Whether the EXIF orientation is applied, as GenEval's scorer does; the tools for FID do not.
        remedy: What to do about a damaged file, for the error message.

    Raises:
        PictureError: The file is not a readable picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))
    # Its message would name an object in memory, and records of an evaluation must not change from run to run.
    except UnidentifiedImageError as error:
        if data and not is_decoded(where):
            raise PictureError(
                f"{where}: expected a picture that Pillow decodes, found .{where.rpartition('.')[2].lower()}; convert "
                "it to .png"
            ) from error
        reason = "it is empty" if not data else "no format that Pillow knows"
        raise PictureError(f"{where}: expected a picture, found a damaged file ({reason}); {remedy}") from error
    # Pillow raises any of these for damaged files.
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise PictureError(f"{where}: expected a picture, found a damaged file ({error}); {remedy}") from error
