"""Headers of BMP and TIFF pictures."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from infinity.data.images.header_values import BrokenHeaderError, Header

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF begins; with a plus sign in BigTIFF, whose places have 8 bytes."""

_EMBEDDED = b"DEBM"
"""Kind of colours of a BMP that holds an ICC profile."""

_BIT_FIELDS = (0, 3, 6)  # kinds of BMP whose rows are not packed
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _HEIGHT, _BITS, _OFFSETS, _SAMPLES, _COUNTS = 256, 257, 258, 273, 277, 279
_TILE_OFFSETS, _TILE_COUNTS = 324, 325
_METADATA = (270, 305, 306, 315, 700, 33432, 33723, 34377, 34675)
_MAX_PAGES = 1001


def read_bmp(data: bytes) -> Header:
    """Read the size from the second of two headers, whose own size tells its kind."""
    offset, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing = 0
    elif size >= 40:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
        height = abs(height)
    else:
        raise BrokenHeaderError(f"a header of {size} bytes")
    if width <= 0 or height <= 0:
        raise BrokenHeaderError(f"a size of {width} x {height}")
    pixels = offset + (width * bits + 31) // 32 * 4 * height
    end, profile = pixels if packing in _BIT_FIELDS else len(data), b""
    if size >= 124 and data[70:74] == _EMBEDDED:
        place, length = struct.unpack_from("<II", data, 126)
        profile = data[14 + place : 14 + place + length]
        end = max(end, 14 + place + length)
    return Header(
        format="BMP",
        width_px=width,
        height_px=height,
        num_frames=1,
        metadata_bytes=len(profile),
        buffer_bytes_per_px=1,
        end=min(len(data), end),
        profile=profile,
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """How numbers are written in a TIFF."""

    order: Literal["little", "big"]
    is_big: bool

    @property
    def place_bytes(self) -> int:
        return 8 if self.is_big else 4

    def number(self, data: bytes, at: int, num_bytes: int) -> int:
        return int.from_bytes(data[at : at + num_bytes], self.order)


@dataclass(slots=True)
class _Page:
    """Fields of one directory of a TIFF."""

    values: dict[int, tuple[int, ...]]
    metadata_bytes: int
    end: int
    following: int

    def first(self, tag: int, default: int) -> int:
        return self.values.get(tag, (default,))[0]


def read_tiff(data: bytes) -> Header:
    """Read the size from the first page; count the other pages."""
    kind = _Kind("little" if data.startswith(b"II") else "big", is_big=b"+" in data[2:4])
    page = _page(data, kind.number(data, 8 if kind.is_big else 4, kind.place_bytes), kind)
    width, height = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    if not width or not height:
        raise BrokenHeaderError("the first page has no size")
    samples = page.first(_SAMPLES, 1)
    bits = max(page.values.get(_BITS) or (1,))
    frames, metadata, end, at, seen = 1, page.metadata_bytes, page.end, page.following, set[int]()
    while at and at not in seen and frames < _MAX_PAGES:
        seen.add(at)
        other = _page(data, at, kind, with_values=False)
        frames, metadata, end, at = frames + 1, metadata + other.metadata_bytes, max(end, other.end), other.following
    return Header(
        format="TIFF",
        width_px=width,
        height_px=height,
        num_frames=frames,
        metadata_bytes=metadata,
        buffer_bytes_per_px=samples * max(1, bits / 8),  # a strip may be the whole picture
        end=min(end, len(data)),
    )


def _page(data: bytes, at: int, form: _Kind, *, with_values: bool = True) -> _Page:
    wide = form.place_bytes
    begin = at + (8 if form.is_big else 2)
    if not 8 <= at <= len(data) - 2:
        raise BrokenHeaderError(f"a page at offset {at:,} of {len(data):,} bytes")
    end = begin + (4 + 2 * wide) * form.number(data, at, begin - at) + wide
    if end > len(data):
        raise BrokenHeaderError("a page that is cut off")
    page = _Page({}, 0, end, form.number(data, end - wide, wide))
    for entry in range(begin, end - wide, 4 + 2 * wide):
        tag, kind = (form.number(data, entry + i, 2) for i in (0, 2))
        size = _TYPE_BYTES.get(kind, 1) * form.number(data, entry + 4, wide)
        place = entry + 4 + wide if size <= wide else form.number(data, entry + 4 + wide, wide)
        if size > wide:
            page.end = max(page.end, place + size)
        if tag in _METADATA:
            page.metadata_bytes += size
        if with_values and tag in (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS):
            if kind not in (3, 4, 16) or place + size > len(data):
                raise BrokenHeaderError(f"tag {tag} that holds no numbers")
            step = _TYPE_BYTES[kind]
            page.values[tag] = tuple(form.number(data, i, step) for i in range(place, place + size, step))
    for offsets, counts in ((_OFFSETS, _COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        strips = zip(page.values.get(offsets, ()), page.values.get(counts, ()), strict=False)
        page.end = max([page.end, *(offset + size for offset, size in strips)])
    return page
