"""What a picture file says about itself before anything is decoded: size, frames, metadata, what is hidden behind it.

Pillow learns most of this on opening too, but some of its decoders make room for all pixels, or unpack all metadata,
while they open a file. So the containers of all formats are walked here, without unpacking anything: the walk
costs time in proportion to the file and no memory.

Sources: ITU-T T.81 (JPEG), the W3C recommendation PNG (third edition), GIF89a, the WebP container specification.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from infinity.data.images.box_headers import CODESTREAM, JP2, is_avif, read_heif, read_jpeg2000
from infinity.data.images.header_values import BrokenHeaderError, Header
from infinity.data.images.optional_formats import JXL, is_heif, read_jxl
from infinity.data.images.plain_headers import TIFF, read_bmp, read_tiff

__all__ = ["BrokenHeaderError", "Header", "foreign_content", "read_header"]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"sPLT", b"hIST")
_WEBP_METADATA = (b"ICCP", b"EXIF", b"XMP ")
_GIF_PROFILE = b"\xff\x0bICCRGBG1012"
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_STANDALONE = (0x00, 0x01, *range(0xD0, 0xD8))
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_ARCHIVES = (b"PK\x03\x04", _ZIP_END, b"Rar!\x1a", b"7z\xbc\xaf")
_PROGRAMS = (b"%PDF-", b"\x7fELF", b"MZ\x90", b"#!/", b"<script", b"<?php", b"<html", b"<!DOCTYPE")


def read_header(data: bytes) -> Header | None:
    """Walk the container; None if it is none of the formats that are read.

    Raises:
        BrokenHeaderError: The file begins like one of these formats, but does not name its size.
    """
    readers: tuple[tuple[bytes, Callable[[bytes], Header | None]], ...] = (
        (b"\xff\xd8\xff", _jpeg),
        (_PNG, _png),
        (b"GIF8", _gif),
        (b"RIFF", _webp),
        (b"BM", read_bmp),
        *((signature, read_tiff) for signature in TIFF),
        *((signature, read_jpeg2000) for signature in (JP2, CODESTREAM)),
        *((signature, read_jxl) for signature in JXL),
    )
    in_boxes = is_avif(data) or is_heif(data)
    read = read_heif if in_boxes else next((read for start, read in readers if data.startswith(start)), None)
    try:
        return None if read is None else read(data)
    except (struct.error, IndexError) as error:
        raise BrokenHeaderError("the header is incomplete") from error


def foreign_content(data: bytes, header: Header) -> str | None:
    """Return what lies behind the picture if that is an archive, a program or a page: the file is two files in one.

    Other bytes behind a picture are common (phones append depth maps and films) and no reason to refuse it.
    """
    rest = data[header.end : header.end + 64].lstrip(b"\0\r\n\t ")
    for signature in (*_ARCHIVES, *_PROGRAMS):
        if rest.startswith(signature):
            return signature.decode("latin-1")
    # Archive programs look for a zip file from its end.
    at = data.rfind(_ZIP_END, max(header.end, len(data) - _ZIP_END_BYTES - 0xFFFF))
    complete = at >= 0 and len(data) == at + _ZIP_END_BYTES + int.from_bytes(data[at + 20 : at + 22], "little")
    return "PK" if complete else None


def _jpeg(data: bytes) -> Header:
    at, size, metadata, progressive, factors = 2, None, 0, False, 3.0
    for marker, start, length in _jpeg_segments(data):
        at = start + length
        if marker in _SOF and size is None:
            height, width = struct.unpack_from(">HH", data, start + 1)
            size, progressive = (width, height), marker in _PROGRESSIVE
            factors = _samples_per_pixel(data[start + 5 : start + length])
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            metadata += length
        if marker == 0xDA:
            break
    if size is None:
        raise BrokenHeaderError("no frame header before the data ends")
    end = data.find(b"\xff\xd9", at)
    scans = data.count(b"\xff\xda", at) + 1 if progressive else 1
    return Header(
        format="JPEG",
        width_px=size[0],
        height_px=size[1],
        num_frames=scans,
        metadata_bytes=metadata,
        buffer_bytes_per_px=2 * factors if progressive else 0,  # all coefficients, two bytes each
        end=end + 2 if end >= 0 else len(data),
    )


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, offset of the content, its length) up to the first scan."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # bytes that belong to nothing, which decoders skip
            if (at := data.find(b"\xff", at)) < 0:
                return
            continue
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker < 0xC0:
            raise BrokenHeaderError(f"expected a marker at offset {at}")
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2 or marker == 0xD9:
            raise BrokenHeaderError(f"a segment of {length} bytes at offset {at}")
        yield marker, at + 4, length - 2
        at += 2 + length


def _samples_per_pixel(components: bytes) -> float:
    """Return samples of all components for one pixel: 3 without subsampling, 1.5 with 4:2:0."""
    if components[0] == 0:
        raise BrokenHeaderError("a frame without components")
    factors = [(components[3 * i + 2] >> 4, components[3 * i + 2] & 15) for i in range(components[0])]
    horizontal, vertical = max(h for h, _ in factors), max(v for _, v in factors)
    return sum(h * v for h, v in factors) / max(1, horizontal * vertical)


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise BrokenHeaderError("the first chunk is not IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    at, metadata, frames, codes = 8, 0, 1, None
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if kind in _PNG_METADATA:
            metadata += length
        elif kind == b"acTL":
            frames = max(frames, struct.unpack_from(">I", data, at + 8)[0])
        elif kind == b"cICP" and length == 4:
            codes = (data[at + 8], data[at + 9])
        at += 12 + length
        if kind == b"IEND":
            break
    return Header(
        format="PNG",
        width_px=width,
        height_px=height,
        num_frames=frames,
        metadata_bytes=metadata,
        buffer_bytes_per_px=0,
        end=min(at, len(data)),
        codes=codes,
    )


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    frames = metadata = 0
    profile = b""
    while at < len(data):
        kind = data[at]
        if kind == 0x2C and at + 10 <= len(data):
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if not frames:  # a first frame beyond the screen makes the screen larger
                width, height = max(width, left + frame_width), max(height, top + frame_height)
            frames += 1
            at = _behind_blocks(data, at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
        elif kind == 0x21:
            end = _behind_blocks(data, at + 2)
            metadata += end - at
            if data[at + 1 : at + 14] == _GIF_PROFILE and not profile:
                profile = _blocks(data, at + 14)
            at = end
        else:
            at += kind == 0x3B
            break
    return Header(
        format="GIF",
        width_px=width,
        height_px=height,
        num_frames=frames,
        metadata_bytes=metadata,
        buffer_bytes_per_px=1,
        end=min(at, len(data)),
        profile=profile,
    )


def _blocks(data: bytes, at: int) -> bytes:
    parts: list[bytes] = []
    while at < len(data) and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(parts)


def _behind_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _webp(data: bytes) -> Header | None:
    if data[8:12] != b"WEBP":
        return None
    (length,) = struct.unpack_from("<I", data, 4)
    end = min(len(data), 8 + length + length % 2)
    at, metadata, frames = 12, 0, 0
    width = height = 0
    while at + 8 <= end:
        kind = data[at : at + 4]
        (size,) = struct.unpack_from("<I", data, at + 4)
        if kind in _WEBP_METADATA:
            metadata += size
        elif kind == b"ANMF":
            frames += 1
        elif kind in (b"VP8X", b"VP8L", b"VP8 ") and not width:
            width, height = _webp_size(kind, data, at + 8)
        at += 8 + size + size % 2
    if not width:
        raise BrokenHeaderError("no picture before the data ends")
    return Header(
        format="WEBP",
        width_px=width,
        height_px=height,
        num_frames=max(1, frames),
        metadata_bytes=metadata,
        buffer_bytes_per_px=12,  # two canvases of the animation decoder, and the frame as bytes
        end=end,
    )


def _webp_size(kind: bytes, data: bytes, at: int) -> tuple[int, int]:
    if kind == b"VP8X":
        wide, high = (int.from_bytes(data[at + i : at + i + 3], "little") + 1 for i in (4, 7))
        if len(data) < at + 10:
            raise IndexError
        return wide, high
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, at + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, at + 6)
    return width & 0x3FFF, height & 0x3FFF
