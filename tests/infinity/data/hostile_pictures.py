"""Picture files that mean harm or were harmed: none of them may become a sample."""

import gzip
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.infinity.data.builders import encoded, huge_png, noise

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    size = struct.pack(">I", len(data) if length is None else length)
    return size + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int = 40, height: int = 40, *extra: bytes, color: int = 2, depth: int = 8, rows: int = 40) -> bytes:
    """A PNG with extra chunks before its pixels; ``rows`` of zeros, however many are promised."""
    channels = {0: 1, 2: 3, 6: 4}[color]
    line = (width * channels * depth + 7) // 8 + 1
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(line)) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int, *, progressive: bool = False) -> bytes:
    """A JPEG whose header promises another size than it has."""
    data = bytearray(encoded(noise(16, 16), "JPEG", progressive=progressive, subsampling=0))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_segments(marker: int, size: int, count: int) -> bytes:
    data = encoded(noise(), "JPEG")
    return data[:2] + (bytes([0xFF, marker]) + struct.pack(">H", size + 2) + bytes(size)) * count + data[2:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d + bytes(len(d) % 2) for k, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_canvas(width: int, height: int, flags: int = 0) -> bytes:
    return bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def gif(width: int, height: int, frames: int = 1, extension: bytes = b"") -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + extension + frame * frames + b"\x3b"


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.sh", "#!/bin/sh\n")
    return buffer.getvalue()


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({self.path!r}, 'w').close()",)


def bombs() -> dict[str, bytes]:
    """Small files that promise or unpack to much more."""
    text = zlib.compress(bytes(64 * 2**20), 9)
    anim = (b"ANMF", webp_canvas(8, 8) + bytes(6))
    progressive = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    return {
        "png 900 million pixels": huge_png(),
        "png one bit deep": png(100_000, 100_000, color=0, depth=1, rows=2),
        "png over the limit": png(8001, 8000, rows=2),
        "png wide": png(2**31 - 1, 1, color=0, rows=0),
        "png with alpha near the limit": png(7900, 7900, color=6, rows=7900),
        "png near the limit, cut off": png(7900, 7900, rows=7900)[:-5000],
        "jpeg 65500 x 65500": jpeg_of_size(65_500, 65_500),
        "jpeg progressive near the limit": jpeg_of_size(7900, 7900, progressive=True),
        "gif screen 65535 x 65535": gif(65_535, 65_535),
        "webp canvas 16383 x 16383": webp((b"VP8X", webp_canvas(16_383, 16_383, 2)), anim),
        "webp canvas 2**24": webp((b"VP8X", webp_canvas(2**24, 2**24)), (b"VP8 ", bytes(10))),
        "webp lossless near the limit": webp((b"VP8L", b"\x2f" + struct.pack("<I", 7899 | 7899 << 14) + bytes(20))),
        "png zTXt bomb": png(40, 40, chunk(b"zTXt", b"Comment\0\0" + text)),
        "png iTXt bomb": png(40, 40, chunk(b"iTXt", b"Comment\0\1\0\0\0" + text)),
        "png iCCP bomb": png(40, 40, chunk(b"iCCP", b"icc\0\0" + text)),
        "png long text": png(40, 40, chunk(b"tEXt", b"Comment\0" + bytes(9 * 2**20))),
        "png many texts": png(40, 40, *[chunk(b"tEXt", b"Comment\0" + bytes(2**19))] * 20),
        "png long exif": png(40, 40, chunk(b"eXIf", bytes(9 * 2**20))),
        "jpeg long exif": jpeg_segments(0xE1, 65_000, 150),
        "jpeg long profile": jpeg_segments(0xE2, 65_000, 150),
        "jpeg long comments": jpeg_segments(0xFE, 65_000, 150),
        "webp long exif": webp((b"VP8X", webp_canvas(40, 40, 8)), (b"EXIF", bytes(9 * 2**20))),
        "gif long comment": gif(8, 8, extension=b"\x21\xfe" + (b"\xff" + bytes(255)) * 40_000 + b"\0"),
        "png 2**31 frames": png(40, 40, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "gif 5000 frames": gif(8, 8, frames=5000),
        "webp 5000 frames": webp((b"VP8X", webp_canvas(8, 8, 2)), *[anim] * 5000),
        "jpeg 5000 scans": progressive[:-2] + scan * 5000 + b"\xff\xd9",
    }


def polyglots() -> dict[str, bytes]:
    """A picture for one reader, something else for another."""
    pictures = {name: encoded(noise(), name) for name in ("JPEG", "PNG", "GIF", "WEBP")}
    tails = {"zip": zip_file(), "pdf": b"%PDF-1.7\n", "script": b"<script>alert(1)</script>", "php": b"<?php evil();"}
    tails |= {"elf": b"\x7fELF\x02\x01", "rar": b"Rar!\x1a\x07\0", "shell": b"\n#!/bin/sh\n", "page": b"<html>"}
    found = {
        f"{name} with {tail} behind": data + rest for name, data in pictures.items() for tail, rest in tails.items()
    }
    padded = pictures["PNG"] + bytes(500) + zip_file()
    before = {f"{tail} with picture behind": rest + pictures["JPEG"] for tail, rest in tails.items()}
    return found | before | {"zip far behind": padded}


def damaged() -> dict[str, bytes]:
    """Cut off, overwritten, contradictory."""
    rough = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = {name: encoded(rough, name) for name in ("JPEG", "PNG", "WEBP", "GIF")}
    found = {f"{n} cut at {share} %": d[: len(d) * share // 100] for n, d in whole.items() for share in (1, 10, 50, 80)}
    png_data, jpeg_data = whole["PNG"], whole["JPEG"]
    found |= {
        "nothing": b"",
        "one byte": b"\xff",
        "zeros": bytes(10_000),
        "jpeg magic": b"\xff\xd8\xff",
        "png magic": PNG,
        "gif magic": b"GIF89a",
        "webp magic": b"RIFF\0\0\0\0WEBP",
        "png wrong checksum": png_data[:200] + b"\xff" * 40 + png_data[240:],
        "png of no size": png(0, 0),
        "png endless chunk": PNG + chunk(b"IHDR", bytes(13), length=2**32 - 1),
        "png without pixels": PNG
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 8, 2, 0, 0, 0))
        + chunk(b"IEND", b""),
        "png wrong depth": png(40, 40).replace(struct.pack(">BB", 8, 2), struct.pack(">BB", 7, 2), 1),
        "jpeg of no size": jpeg_of_size(0, 0),
        "jpeg empty segment": jpeg_data[:2] + b"\xff\xe1\0\0" + jpeg_data[2:],
        "jpeg without scans": jpeg_data[: jpeg_data.index(b"\xff\xda")] + b"\xff\xd9",
        "jpeg without tables": jpeg_data[:2] + jpeg_data[jpeg_data.index(b"\xff\xc0") :],
        "webp wrong length": whole["WEBP"][:4] + b"\xff\xff\xff\xff" + whole["WEBP"][8:60],
        "gif wrong code size": whole["GIF"].replace(b"\x08\xff", b"\xfe\xff", 1),
        "gif without frames": gif(40, 40, frames=0),
    }
    return found


def others(canary: str) -> dict[str, bytes]:
    """No pictures at all, or of formats that are not read."""
    small = Image.fromarray(noise())
    entity = b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>'
    return {
        **{name: encoded(small, name) for name in ("ICO", "PPM", "TGA")},
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(" + canary.encode() + b") (w) file\n",
        "svg": entity,
        "svgz": gzip.compress(entity),
        "svg picture of another": f'<svg><image href="file://{canary}"/></svg>'.encode(),
        "page": b"<!DOCTYPE html><html>404</html>",
        "zip": zip_file(),
        "pickle": pickle.dumps(Bomb(canary)),
        "program": b"\x7fELF\x02\x01\x01" + bytes(500),
        "film": b"\0\0\0\x20ftypisom" + bytes(500),
        "psd": b"8BPS\0\1" + bytes(100),
        "text": b"This is a text file.\n" * 10,
    }


def hostile_pictures(canary: str) -> dict[str, bytes]:
    """All of them by what they are; ``canary`` is a file that none of them may write."""
    return bombs() | polyglots() | damaged() | others(canary) | newer_formats()


def newer_formats() -> dict[str, bytes]:
    """Bombs, polyglots and damage of the formats that came later."""
    whole = {name: encoded(noise(), name) for name in ("BMP", "TIFF", "JPEG2000", "AVIF")}
    found = {f"{name} cut off": data[: len(data) // 2] for name, data in whole.items()}
    found |= {f"{name} beginning": data[:20] for name, data in whole.items()}
    found |= {f"{name} and a program": data + b"\x7fELF\x02\x01" for name, data in whole.items()}
    found |= {f"{name} and an archive": data + zip_file() for name, data in whole.items()}
    bmp, tiff, jp2, avif = (whole[name] for name in ("BMP", "TIFF", "JPEG2000", "AVIF"))
    ispe = avif.index(b"ispe") + 8
    size = jp2.index(b"\xff\x4f\xff\x51") + 8
    directory = struct.unpack_from("<I", tiff, 4)[0]
    entries = struct.unpack_from("<H", tiff, directory)[0]
    behind = directory + 2 + 12 * entries
    page = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 40)
    pages = b"".join(page + struct.pack("<I", len(tiff) + 18 * (i + 1)) for i in range(5000))
    wide = tiff.replace(struct.pack("<HHI", 256, 4, 1) + struct.pack("<I", 40), struct.pack("<HHII", 256, 4, 1, 2**31))
    wide = wide.replace(struct.pack("<HHIHH", 256, 3, 1, 40, 0), struct.pack("<HHII", 256, 4, 1, 2**31))
    return found | {
        "bmp 65000 x 65000": bmp[:18] + struct.pack("<ii", 65_000, 65_000) + bmp[26:],
        "bmp of a negative width": bmp[:18] + struct.pack("<i", -40) + bmp[22:],
        "bmp of an odd header": bmp[:14] + struct.pack("<I", 7) + bmp[18:],
        "tiff 2**31 wide": wide,
        "tiff 5000 pages": tiff[:behind] + struct.pack("<I", len(tiff)) + tiff[behind + 4 :] + pages,
        "tiff page beyond the end": tiff[:4] + struct.pack("<I", 2**31) + tiff[8:],
        "jpeg 2000 of 2**31 x 2**31": jp2[:size] + struct.pack(">II", 2**31, 2**31) + jp2[size + 8 :],
        "jpeg 2000 of no size": jp2[:size] + bytes(8) + jp2[size + 8 :],
        "avif of 65536 x 65536": avif[: ispe + 0] + struct.pack(">II", 65_536, 65_536) + avif[ispe + 8 :],
        "avif of many boxes": avif[:4] + b"ftypavif" + struct.pack(">I4s", 8, b"free") * 10_000,
    }
