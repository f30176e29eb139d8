"""Headers of BMP and TIFF pictures."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from infinity.data.images.header_values import BrokenHeaderError, Header

TIFF = (b"II*\0", b"MM\0*")

_BIT_FIELDS = (0, 3, 6)  # kinds of BMP whose rows are not packed
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
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
    return Header(
        format="BMP",
        width_px=width,
        height_px=height,
        num_frames=1,
        metadata_bytes=0,
        buffer_bytes_per_px=1,
        end=min(len(data), pixels) if packing in _BIT_FIELDS else len(data),
    )


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
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    page = _page(data, int.from_bytes(data[4:8], order), order)
    width, height = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    if not width or not height:
        raise BrokenHeaderError("the first page has no size")
    samples = page.first(_SAMPLES, 1)
    bits = max(page.values.get(_BITS, (1,)))
    frames, metadata, end, at, seen = 1, page.metadata_bytes, page.end, page.following, set[int]()
    while at and at not in seen and frames < _MAX_PAGES:
        seen.add(at)
        other = _page(data, at, order, with_values=False)
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


def _page(data: bytes, at: int, order: Literal["little", "big"], *, with_values: bool = True) -> _Page:
    if not 8 <= at <= len(data) - 2:
        raise BrokenHeaderError(f"a page at offset {at:,} of {len(data):,} bytes")
    number = int.from_bytes(data[at : at + 2], order)
    end = at + 2 + 12 * number + 4
    if end > len(data):
        raise BrokenHeaderError("a page that is cut off")
    page = _Page({}, 0, end, int.from_bytes(data[end - 4 : end], order))
    for entry in range(at + 2, end - 4, 12):
        tag, kind = (int.from_bytes(data[entry + i : entry + i + 2], order) for i in (0, 2))
        count = int.from_bytes(data[entry + 4 : entry + 8], order)
        size = _TYPE_BYTES.get(kind, 1) * count
        place = entry + 8 if size <= 4 else int.from_bytes(data[entry + 8 : entry + 12], order)
        if size > 4:
            page.end = max(page.end, place + size)
        if tag in _METADATA:
            page.metadata_bytes += size
        if with_values and tag in (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS):
            if kind not in (3, 4) or place + size > len(data):
                raise BrokenHeaderError(f"tag {tag} that holds no numbers")
            step = _TYPE_BYTES[kind]
            page.values[tag] = tuple(
                int.from_bytes(data[i : i + step], order) for i in range(place, place + size, step)
            )
    for offsets, counts in ((_OFFSETS, _COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        strips = zip(page.values.get(offsets, ()), page.values.get(counts, ()), strict=False)
        page.end = max([page.end, *(offset + size for offset, size in strips)])
    return page
