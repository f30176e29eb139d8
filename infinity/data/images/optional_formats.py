"""Formats that are read where a library for them is installed (extra ``formats``): HEIC of phones, and JPEG XL.

Their decoders turn the pictures themselves, so their EXIF must turn nothing. The header of a JPEG XL is read here; that
of HEIC has the boxes of AVIF. Source: ISO/IEC 18181-1, annex D (JPEG XL).
"""

from __future__ import annotations

import importlib
from functools import lru_cache

from infinity.data.images.header_values import BrokenHeaderError, Header

NAMES = {"HEIF": "HEIC", "JXL": "JPEG XL"}
"""Formats as Pillow calls them, and as people do."""

JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
"""How JPEG XL begins: as a bare stream, and in boxes."""

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_WIDTHS = (9, 13, 18, 30)
_METADATA = (b"Exif", b"xml ", b"jumb", b"brob")


@lru_cache
def can_read(format: str) -> bool:
    """Return whether Pillow reads a format of ``NAMES``, after telling it of the library that is installed, if any."""
    try:
        if format == "JXL":
            importlib.import_module("pillow_jxl")
            return True
    except ImportError:
        return False
    for name in ("pi_heif", "pillow_heif"):
        try:
            importlib.import_module(name).register_heif_opener()
        except ImportError:
            continue
        return True
    return False


def is_heif(data: bytes) -> bool:
    """Return whether a file says first that it is HEIC, or a picture in its container."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF


def read_jxl(data: bytes) -> Header:
    """Read the size at the beginning of the picture's stream, which lies bare or in boxes.

    Raises:
        BrokenHeaderError: The data ends before the stream has named its size.
    """
    start, end, metadata = 0, len(data), 0
    if not data.startswith(JXL[0]):
        start, end, metadata = _in_boxes(data)
    bits = _Bits(data[start : start + 24])
    if bits.take(16) != int.from_bytes(JXL[0], "little"):
        raise BrokenHeaderError("expected the size at the beginning of the picture")
    is_small = bits.take(1) == 1
    height = _side(bits, is_small)
    ratio = bits.take(3)
    across, down = _RATIOS[ratio - 1]
    width = height * across // down if ratio else _side(bits, is_small)
    return Header(
        format="JXL",
        width_px=width,
        height_px=height,
        num_frames=1,
        metadata_bytes=metadata,
        buffer_bytes_per_px=24,  # planes in floating point, before and after their filters
        end=end,
    )


def _in_boxes(data: bytes) -> tuple[int, int, int]:
    """Return where the stream begins, where the boxes end, and the bytes of metadata."""
    at, start, metadata = 0, -1, 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        content = at + 8
        if size == 1:
            size, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        behind = len(data) if size == 0 else at + size
        if behind < content:
            raise BrokenHeaderError(f"a box of {size} bytes at offset {at}")
        if kind in (b"jxlc", b"jxlp") and start < 0:
            start = content + 4 * (kind == b"jxlp")
        elif kind in _METADATA:
            metadata += behind - content
        at = behind
    if start < 0:
        raise BrokenHeaderError("no picture before the data ends")
    return start, min(at, len(data)), metadata


def _side(bits: _Bits, is_small: bool) -> int:
    return (bits.take(5) + 1) * 8 if is_small else bits.take(_WIDTHS[bits.take(2)]) + 1


class _Bits:
    """Numbers of some bits, from the lowest of each byte on."""

    def __init__(self, data: bytes) -> None:
        self._left, self._number = 8 * len(data), int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise BrokenHeaderError("the header is incomplete")
        found = self._number & ((1 << count) - 1)
        self._number >>= count
        return found
