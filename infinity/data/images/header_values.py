"""What the outside of a picture file says."""

from __future__ import annotations

from dataclasses import dataclass


class BrokenHeaderError(ValueError):
    """The container ends or contradicts itself before it has named the picture's size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The outside of a picture file.

    Attributes:
        format: "JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF" or "JPEG2000".
        width_px: Width as stored, before any rotation.
        height_px: Height as stored, before any rotation.
        num_frames: Pictures of an animation, or scans of a progressive JPEG: what a decoder would walk through.
        metadata_bytes: Text, colour profiles, EXIF, comments, as they lie in the file (perhaps compressed).
        buffer_bytes_per_px: Memory of the decoder besides the picture itself, in bytes per pixel.
        end: Offset behind the picture; what follows belongs to no decoder.
        codes: Colour primaries and transfer function as in ITU-T H.273; None where the container does not name them.
        profile: Colour profile of a container whose profiles Pillow does not read; empty where there is none.
    """

    format: str
    width_px: int
    height_px: int
    num_frames: int
    metadata_bytes: int
    buffer_bytes_per_px: float
    end: int
    codes: tuple[int, int] | None = None
    profile: bytes = b""
