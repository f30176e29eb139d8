"""HEIC and JPEG XL are read where their library is installed, and named with what to do where it is not."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infinity.data.images import decoding
from infinity.data.images.decoding import UnreadableError, decode
from infinity.data.images.headers import BrokenHeaderError, read_header
from infinity.data.images.optional_formats import NAMES, can_read
from tests.fixtures.data.pictures_on_disk import noise
from tests.infinity.data.images.test_colours import P3, by_littlecms, far

LIMIT = 10**7


def bits(*parts: tuple[int, int]) -> bytes:
    """Numbers of some bits each, from the lowest bit of the first byte on."""
    number = at = 0
    for value, count in parts:
        number |= value << at
        at += count
    return number.to_bytes(at // 8 + 16, "little")


def jxl(width: int, height: int) -> bytes:
    """The beginning of a JPEG XL whose sides are written as numbers of 13 bits."""
    return b"\xff\x0a" + bits((0, 1), (1, 2), (height - 1, 13), (0, 3), (1, 2), (width - 1, 13))


def boxed(stream: bytes) -> bytes:
    parts = [b"JXL \r\n\x87\n", b"ftypjxl \0\0\0\0jxl ", b"Exif" + bytes(20), b"jxlp\0\0\0\0" + stream]
    return b"".join(struct.pack(">I", 4 + len(part)) + part for part in parts)


def test_the_size_of_a_jpeg_xl_is_read_bare_and_in_boxes() -> None:
    for data in (jxl(640, 481), boxed(jxl(640, 481))):
        header = read_header(data)
        assert header is not None
        assert (header.format, header.width_px, header.height_px) == ("JXL", 640, 481)
    small = read_header(b"\xff\x0a" + bits((1, 1), (3, 5), (4, 3)))
    assert small is not None
    assert (small.width_px, small.height_px) == (48, 32)  # three to two


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_jpeg_xl_that_ends_before_its_size_is_broken(cut: int) -> None:
    with pytest.raises(BrokenHeaderError):
        read_header(jxl(640, 481)[:cut])
    with pytest.raises(BrokenHeaderError):
        read_header(boxed(jxl(640, 481))[:50])


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + struct.pack(">I", 60) + b"meta\0\0\0\0" + b"".join(
    (struct.pack(">I", 48), b"iprp", struct.pack(">I", 40), b"ipco", struct.pack(">I", 20), b"ispe", bytes(4))
) + struct.pack(">II", 40, 30) + bytes(12)  # fmt: skip


@pytest.mark.parametrize(("data", "name"), [(HEIC, "HEIC"), (jxl(64, 64), "JPEG XL"), (boxed(jxl(64, 64)), "JPEG XL")])
def test_without_its_library_a_format_is_named_with_what_to_do(
    data: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "can_read", lambda format: False)
    with pytest.raises(UnreadableError, match=rf"^format: {name} needs a library .*infinity-t2i\[formats\]") as error:
        decode(data, LIMIT)
    assert error.value.reason == "format"


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"II\xbc\x01" + bytes(60), "JPEG XR"), (b"qoif" + bytes(60), "QOI"), (b"<svg xmlns='x'></svg>" * 3, "SVG"),
     (b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(60), "raw of a camera"), (b"v/1\x01" + bytes(60), "OpenEXR")],
)  # fmt: skip
def test_formats_that_nobody_reads_here_are_named(data: bytes, name: str) -> None:
    with pytest.raises(UnreadableError, match=f"^format: {name} is not one of .*; save it as PNG or JPEG"):
        decode(data, LIMIT)


def written(format: str, image: Image.Image, **options: Any) -> bytes:
    """A picture in a format whose library must be installed, and must write it too."""
    if not can_read(format):
        pytest.skip(f"no library for {NAMES[format]} (extra formats)")
    if format == "HEIF":
        pytest.importorskip("pillow_heif", reason="only pillow-heif writes HEIC").register_heif_opener()
    buffer = io.BytesIO()
    exact = {"quality": 100} if format == "HEIF" else {"lossless": True}
    image.save(buffer, format=format, **exact, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", NAMES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_are_read_and_stored_as_png(format: str, mode: str) -> None:
    smooth = Image.fromarray(noise(5, 5)).resize((64, 48), Image.Resampling.BICUBIC).convert(mode)
    picture = decode(written(format, smooth), LIMIT)
    assert (picture.size, picture.extension, picture.keep_bytes) == ((64, 48), "png", False)
    difference = np.abs(np.asarray(picture.image).astype(int) - np.asarray(smooth.convert("RGB")))
    assert np.mean(difference) <= (4 if format == "HEIF" else 0)


@pytest.mark.parametrize("format", NAMES)
def test_exif_turns_nothing_that_the_decoder_has_turned(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = written(format, Image.fromarray(noise()).resize((64, 48)), exif=exif.tobytes())
    header = read_header(data)
    assert header is not None
    assert header.format == format
    picture = decode(data, LIMIT)
    assert picture.size == picture.image.size == Image.open(io.BytesIO(data)).size


def test_exif_of_a_jpeg_within_a_jpeg_xl_counts() -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(noise()).resize((64, 48)).save(buffer, "JPEG", exif=exif)
    written("JXL", Image.new("RGB", (8, 8)))  # or the library is not there
    packed = io.BytesIO()
    Image.open(io.BytesIO(buffer.getvalue())).save(packed, "JXL", lossless_jpeg=True)
    image = Image.open(io.BytesIO(packed.getvalue()))
    picture = decode(packed.getvalue(), LIMIT)
    assert picture.size == picture.image.size == ((48, 64) if image.jpeg else image.size)  # type: ignore[attr-defined]


def test_profiles_of_heic_are_followed() -> None:
    smooth = Image.fromarray(noise(5, 5)).resize((64, 48), Image.Resampling.BICUBIC)
    data = written("HEIF", smooth, icc_profile=P3)
    plain = Image.open(io.BytesIO(data)).convert("RGB")
    picture = decode(data, LIMIT)
    assert far(picture.image, by_littlecms(plain, P3)) <= 2
    assert far(picture.image, plain) > 10
    assert picture.converted_from


@pytest.mark.parametrize("format", NAMES)
def test_the_header_alone_refuses_what_is_too_large(format: str) -> None:
    data = written(format, Image.fromarray(np.zeros((48, 64, 3), np.uint8)))
    with pytest.raises(UnreadableError, match="too many pixels"):
        decode(data, 64 * 48 - 1)
    with pytest.raises(UnreadableError):
        decode(data[: len(data) // 2], LIMIT)
