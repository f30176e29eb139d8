"""Headers of pictures in boxes: AVIF and HEIC (ISO 23008-12 and 14496-12) and JPEG 2000 (ISO 15444-1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from infinity.data.images.header_values import BrokenHeaderError, Header

JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM = b"\xff\x4f\xff\x51"

_AVIF = (b"avif", b"avis")
_CONTAINERS = (b"meta", b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"jp2h")
_OUTERMOST = frozenset(
    b"ftyp meta mdat moov free skip uuid moof mfra sidx styp pdin jp2h jp2c jp2i uinf asoc rreq".split()
)
_OUTERMOST |= {b"jP  ", b"xml "}
_HOLDS_PROFILE = (2, 3)
"""Methods of a JPEG 2000 colour box that holds an ICC profile."""

_MAX_DEPTH = 8
_MAX_BOXES = 4096


def is_avif(data: bytes) -> bool:
    """Return whether a file says that it is AVIF, first or among what it is compatible with."""
    if data[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))]
    return any(brand in _AVIF for brand in brands)


def read_heif(data: bytes) -> Header:
    """Return the header; width and height are the largest of all pictures in the file: tiles, alpha plane and whole."""
    width = height = frames = metadata = end = 0
    codes: tuple[int, int] | None = None
    for kind, start, stop, depth in _boxes(data, 0, len(data)):
        if depth == 0:
            end = stop
        if kind == b"ispe":
            across, down = struct.unpack_from(">II", data, start + 4)
            width, height = max(width, across), max(height, down)
        elif kind == b"stsz":
            frames = max(frames, struct.unpack_from(">I", data, start + 8)[0])
        elif kind in (b"colr", b"iinf", b"udta"):
            metadata += stop - start
            if data[start : start + 4] == b"nclx" and codes is None:
                primaries, transfer = struct.unpack_from(">HH", data, start + 4)
                codes = (primaries, transfer)
    if not width or not height:
        raise BrokenHeaderError("no size before the data ends")
    return Header(
        format="AVIF" if is_avif(data) else "HEIF",
        width_px=width,
        height_px=height,
        num_frames=max(1, frames),
        metadata_bytes=metadata,
        buffer_bytes_per_px=12,  # planes of up to 16 bits with alpha, and their RGBA
        end=end,
        codes=codes,
    )


def read_jpeg2000(data: bytes) -> Header:
    """Read the header of a codestream, or of the first codestream in boxes."""
    metadata, start, end, profile = 0, 0, len(data), b""
    if data.startswith(JP2):
        start, end = -1, 0
        for kind, begin, stop, depth in _boxes(data, 0, len(data)):
            if depth == 0:
                end = stop
            if kind == b"jp2c" and start < 0:
                start = begin
            elif kind in (b"xml ", b"uuid", b"colr"):
                metadata += stop - begin
                if kind == b"colr" and not profile and data[begin] in _HOLDS_PROFILE:
                    profile = data[begin + 3 : stop]
        if start < 0:
            raise BrokenHeaderError("no picture before the data ends")
    if data[start : start + 4] != CODESTREAM:
        raise BrokenHeaderError("expected the size at the beginning of the picture")
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    if right <= left or bottom <= top or not 1 <= components <= 4:
        raise BrokenHeaderError(f"a size of {right - left} x {bottom - top} with {components} components")
    return Header(
        format="JPEG2000",
        width_px=right - left,
        height_px=bottom - top,
        num_frames=1,
        metadata_bytes=metadata,
        buffer_bytes_per_px=8 * components,  # four bytes each, before and after the wavelets
        end=end,
        profile=profile,
    )


def _boxes(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (kind, beginning and end of the content, depth) of all boxes, each before the boxes inside of it."""
    waiting, number = [(start, end, depth)], 0
    while waiting:
        at, stop, level = waiting.pop()
        while at + 8 <= stop:
            number += 1
            if number > _MAX_BOXES:
                raise BrokenHeaderError(f"more than {_MAX_BOXES:,} boxes")
            (size,), kind, content = struct.unpack_from(">I", data, at), data[at + 4 : at + 8], at + 8
            if level == 0 and kind not in _OUTERMOST:
                break  # other content behind the picture, and no box of it
            if size == 1:
                (size,), content = struct.unpack_from(">Q", data, at + 8), at + 16
            behind = stop if size == 0 else at + size
            if behind < content:
                raise BrokenHeaderError(f"a box of {size} bytes at offset {at}")
            inside = min(behind, stop)
            yield kind, content, inside, level
            if kind in _CONTAINERS and level < _MAX_DEPTH:
                waiting.append((content + 4 * (kind == b"meta"), inside, level + 1))
            at = behind
