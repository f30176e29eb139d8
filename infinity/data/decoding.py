"""From the bytes of a file to RGB pixels, or the reason why not.

What a stranger's folder holds is opened with suspicion: the header alone decides about format and size before anything
is decoded, and every way in which decoding can fail is one named reason.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

UnreadableReason = Literal[
    "missing_file",
    "not_accessible",
    "empty_file",
    "file_too_large",
    "not_a_picture",
    "format",
    "too_many_pixels",
    "truncated",
    "corrupt",
    "bad_row",
]

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
"""Formats that are read, and their file endings."""

_STORED = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 178_000_000
"""Pillow itself refuses a few pixels more than this; a setting may only be stricter."""

_ORIENTATION = 0x0112  # the EXIF tag


class UnreadableError(ValueError):
    """A picture or a row of the source cannot be used; ``reason`` is the slug that is counted."""

    def __init__(self, reason: UnreadableReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A picture that was decoded without complaint.

    Attributes:
        image: RGB, upright, transparency replaced by white.
        extension: Ending of the file that will be stored: the original's if its bytes can stay, else ``png``.
        keep_bytes: Whether the original bytes show exactly ``image`` to every reader, so that they can be stored.
    """

    image: Image.Image
    extension: str
    keep_bytes: bool

    @property
    def pixels_sha256(self) -> bytes:
        """32 bytes that are equal exactly for pictures with the same size and the same pixels."""
        digest = hashlib.sha256(struct.pack("<II", *self.image.size))
        digest.update(self.image.tobytes())
        return digest.digest()

    def encode(self) -> bytes:
        """A PNG of the same pixels, for where the original bytes cannot stay."""
        buffer = io.BytesIO()
        self.image.save(buffer, format="PNG", compress_level=3)  # 6 takes twice the time for 3 % of the bytes
        return buffer.getvalue()


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode one picture completely; of a moving one the first frame.

    Args:
        data: A whole file.
        max_pixels: Largest width times height that is decoded; more is refused from the header.

    Raises:
        UnreadableError: With the reason.
    """
    if not data:
        raise UnreadableError("empty_file", "the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata and large pictures; both are dealt with here
        image = _open(data)
        if image.width * image.height > max_pixels:
            raise UnreadableError("too_many_pixels", f"{image.width} x {image.height} pixels, more than {max_pixels:,}")
        try:
            image.load()
            turned = _orientation(image) != 1
            upright = ImageOps.exif_transpose(image) if turned else image
            rgb = to_rgb(upright)
        except Exception as error:  # broken files make decoders raise nearly anything; the reason is kept and counted
            reason: UnreadableReason = "truncated" if _says_truncated(error) else "corrupt"
            raise UnreadableError(reason, str(error) or type(error).__name__) from error
    plain = image.mode in ("RGB", "L") and "transparency" not in image.info
    # Phones append depth maps to a JPEG and mark it as MPO; every JPEG reader shows the first picture.
    name = "JPEG" if image.format == "MPO" else str(image.format)
    still = name == "JPEG" or getattr(image, "n_frames", 1) == 1
    keep = name in _STORED and plain and still and not turned
    return Decoded(image=rgb, extension=FORMATS[name] if keep else "png", keep_bytes=keep)


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB with 8 bits a channel: transparency shows white, 16-bit grey is scaled, other colour spaces are converted."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        paper = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, clear).convert("RGB")
    return image.convert("RGB")


def _open(data: bytes) -> Image.Image:
    """Read the header only."""
    try:
        return Image.open(io.BytesIO(data), formats=list(FORMATS))
    except Image.DecompressionBombError as error:
        raise UnreadableError("too_many_pixels", f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except Exception as error:  # a header that begins well and goes on badly
        reason: UnreadableReason = "truncated" if _says_truncated(error) else "corrupt"
        raise UnreadableError(reason, str(error) or type(error).__name__) from error


def _unidentified(data: bytes) -> UnreadableError:
    """Tell a picture of another format from something that is no picture."""
    signatures = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF"}
    for signature, name in signatures.items():
        if data.startswith(signature):
            return UnreadableError("truncated", f"begins as {name}, but the header is incomplete or broken")
    try:
        name = str(Image.open(io.BytesIO(data)).format)
    except Exception:  # no decoder knows it
        return UnreadableError("not_a_picture", f"begins with {data[:16]!r}")
    return UnreadableError("format", f"{name} is not one of {', '.join(FORMATS)}")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the metadata is absent or broken, since the pixels may still be good."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's parser of EXIF raises nearly anything on broken data
        return 1
    return value if value in range(1, 9) else 1


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if image.mode != "F":
        values = values / 257  # 65535 becomes 255
    return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8)).convert("RGB")


def _says_truncated(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("truncated", "incomplete", "unexpected end", "eof", "not enough"))
