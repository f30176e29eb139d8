"""What a file shows, and why some files show nothing."""

import contextlib
import hashlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from infinity.data.images.decoding import FORMATS, Decoded, UnreadableError, decode
from infinity.data.images.header_values import BrokenHeaderError
from infinity.data.images.headers import read_header
from infinity.data.images.rgb import to_rgb
from tests.fixtures.data.pictures_on_disk import encoded, huge_png, noise

LIMIT = 64_000_000


def shown(data: bytes) -> np.ndarray:
    return np.asarray(decode(data, LIMIT).image)


def reason(data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode(data, limit)
    return caught.value.reason


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(noise(20, 30), "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_lossless_formats_show_their_pixels_and_keep_their_bytes(format: str) -> None:
    data = encoded(noise(), format, **({"lossless": True} if format == "WEBP" else {}))
    picture = decode(data, LIMIT)
    np.testing.assert_array_equal(np.asarray(picture.image), noise())
    assert picture.keep_bytes
    assert picture.extension == FORMATS[format]


@pytest.mark.parametrize(
    "data",
    [
        encoded(noise(), "JPEG"),
        encoded(Image.fromarray(noise()).convert("L"), "JPEG"),
        encoded(Image.fromarray(noise()).convert("L"), "PNG"),
        oriented(1),
    ],
    ids=["jpeg", "grey jpeg", "grey png", "upright jpeg"],
)
def test_kept_bytes_show_the_same_pixels_to_any_reader(data: bytes) -> None:
    picture = decode(data, LIMIT)
    assert picture.keep_bytes
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), np.asarray(picture.image))


def transparent(mode: str) -> bytes:
    """Left half red and opaque, right half black and fully transparent."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    if mode == "RGBA":
        return encoded(image)
    if mode == "webp":
        return encoded(image, "WEBP", lossless=True, exact=True)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.paste(0, (0, 0, 4, 8))
    if mode == "gif":
        return encoded(palette, "GIF", transparency=1)
    if mode == "palette":
        return encoded(palette, "PNG", transparency=b"\xff\x00")
    return encoded(image.convert("RGB"), "PNG", transparency=(0, 0, 0))


@pytest.mark.parametrize("mode", ["RGBA", "webp", "gif", "palette", "colour key"])
def test_transparent_pixels_become_white(mode: str) -> None:
    picture = decode(transparent(mode), LIMIT)
    assert not picture.keep_bytes
    pixels = np.asarray(picture.image)
    assert (pixels[:, :4] == (255, 0, 0)).all()
    assert (pixels[:, 4:] == 255).all()


def test_half_transparent_grey_mixes_with_white() -> None:
    assert (shown(encoded(Image.new("LA", (4, 4), (0, 128)))) == 127).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_camera_orientation_is_applied_and_then_gone(orientation: int) -> None:
    upright = Image.open(io.BytesIO(oriented(1)))
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_270],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_90],
    }
    for turn in turns[orientation]:
        upright = upright.transpose(turn)
    picture = decode(oriented(orientation), LIMIT)
    np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(upright))
    stored = Image.open(io.BytesIO(picture.encode()))
    assert stored.getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(np.asarray(stored), np.asarray(upright))


@pytest.mark.sweep(10)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_the_size_is_that_of_the_turned_picture(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encoded(noise()[:20], format, exif=exif), LIMIT)
    assert picture.size == picture.image.size == ((20, 40) if orientation >= 5 else (40, 20))


def test_impossible_orientation_and_broken_exif_leave_the_picture_as_it_is() -> None:
    plain = shown(oriented(1))
    np.testing.assert_array_equal(shown(oriented(99)), plain)
    broken = encoded(noise(20, 30), "JPEG", quality=95, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    np.testing.assert_array_equal(shown(broken), plain)


def test_sixteen_bit_grey_is_scaled_to_eight() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16).repeat(4, axis=0)
    assert shown(encoded(values))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95), (255, 0, 0)),
        (encoded(Image.new("1", (8, 8), 1)), (255, 255, 255)),
        (encoded(Image.new("L", (8, 8), 100)), (100, 100, 100)),
    ],
    ids=["cmyk", "one bit", "grey"],
)
def test_other_colour_spaces_become_rgb(data: bytes, colour: tuple[int, int, int]) -> None:
    assert np.abs(shown(data).astype(int) - colour).max() <= 3


def test_of_a_moving_picture_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    picture = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), LIMIT)
    assert picture.image.getpixel((0, 0)) == (255, 0, 0)
    assert (picture.keep_bytes, picture.extension) == (False, "png")


def test_fingerprint_of_pixels_knows_size_and_content() -> None:
    def of(image: np.ndarray) -> bytes:
        picture = Image.fromarray(image)
        return Decoded(image=picture, extension="png", keep_bytes=True, size=picture.size).pixels_sha256

    tall = noise()
    height, width, _ = tall.shape
    assert of(tall) == hashlib.sha256(struct.pack("<II", width, height) + tall.tobytes()).digest()
    assert of(noise()) == of(noise().copy())
    assert of(noise()) != of(noise(seed=1))
    assert of(np.zeros((2, 8, 3), np.uint8)) != of(np.zeros((8, 2, 3), np.uint8))


def test_huge_picture_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda picture: pytest.fail("its pixels were decoded"))
    assert reason(huge_png()) == "too_many_pixels"
    assert reason(huge_png(10_000)) == "too_many_pixels"  # above our limit, below Pillow's
    assert reason(encoded(noise()), limit=1599) == "too_many_pixels"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty_file"),
        (b"This is a text file.\n" * 10, "not_a_picture"),
        (b"\xff\xd8\xff\xe0 and no more", "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (encoded(noise(), "PPM"), "format"),
    ],
)
def test_what_is_no_picture_has_its_reason(data: bytes, expected: str) -> None:
    assert reason(data) == expected


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_picture_is_unreadable(format: str, share: float) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), format)
    assert reason(data[: int(len(data) * share)]) in ("truncated", "corrupt")


@settings(max_examples=80)
@given(
    format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    cut=st.integers(0, 3000),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=8),
)
def test_damaged_file_is_a_picture_or_has_a_reason(format: str, cut: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(noise(), format))[: cut or None]
    for place, value in changes:
        if place < len(data):
            data[place] = value
    # No other exception than the one with a reason.
    with contextlib.suppress(UnreadableError):
        assert decode(bytes(data), LIMIT).image.mode == "RGB"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_header_with_any_byte_changed_is_read_or_named_as_broken(format: str) -> None:
    whole = encoded(noise(), format)
    for place in range(min(len(whole), 600)):
        for value in (0, 1, 255):
            with contextlib.suppress(BrokenHeaderError):
                read_header(whole[:place] + bytes([value]) + whole[place + 1 :])


NEWER = [
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, "RGB"),
    ("AVIF", {}, "RGBA"),
    ("BMP", {}, "RGB"),
    ("BMP", {}, "L"),
    ("BMP", {}, "P"),
    ("BMP", {}, "1"),
    ("TIFF", {}, "RGB"),
    ("TIFF", {"compression": "tiff_lzw"}, "RGB"),
    ("TIFF", {"compression": "tiff_adobe_deflate"}, "RGBA"),
    ("TIFF", {"compression": "jpeg", "quality": 95}, "RGB"),
    ("TIFF", {"big_tiff": False}, "I;16"),
    ("TIFF", {}, "CMYK"),
    ("JPEG2000", {}, "RGB"),
    ("JPEG2000", {"no_jp2": True}, "RGB"),
    ("JPEG2000", {}, "LA"),
]


@pytest.mark.parametrize(("format", "options", "mode"), NEWER)
def test_newer_formats_show_their_pixels_and_are_stored_as_png(format: str, options: dict, mode: str) -> None:
    image = Image.fromarray(noise()).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    data = encoded(image, format, **options)
    picture = decode(data, LIMIT)
    assert (picture.size, picture.keep_bytes, picture.extension) == ((40, 40), False, "png")
    expected = to_rgb(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(expected))
    close = np.abs(np.asarray(picture.image).astype(int) - np.asarray(to_rgb(image)).astype(int)).max()
    assert close <= (24 if format == "AVIF" or options.get("compression") == "jpeg" else 1)


@pytest.mark.parametrize("format", ["AVIF", "BMP", "TIFF", "JPEG2000"])
def test_the_header_alone_refuses_what_is_too_large(format: str) -> None:
    data = encoded(noise(50, 60), format)
    assert decode(data, 3000).size == (60, 50)
    assert reason(data, 2999) == "too_many_pixels"
    with pytest.raises(UnreadableError, match="too much memory"):
        decode(data, LIMIT, max_memory_bytes=len(data) + 3000 * 4)


def test_a_tiff_with_long_offsets_is_read_and_a_lying_one_is_refused() -> None:
    data = encoded(noise(), "TIFF", big_tiff=True)
    assert data.startswith(b"II+\0")
    assert (np.asarray(decode(data, 10**7).image) == noise()).all()
    number = int.from_bytes(data[8:16], "little")
    lying = data[:number] + b"\xff" * 8 + data[number + 8 :]
    with pytest.raises(UnreadableError, match="cut off"):
        decode(lying, 10**7)


@pytest.mark.parametrize("junk", [b"\0", b"\0\0\x10junk", b"\xff\xff\xff", b"\xff\0\xff\0", bytes(5000)])
def test_bytes_between_the_segments_of_a_jpeg_are_skipped_as_decoders_do(junk: bytes) -> None:
    data = encoded(noise(), "JPEG")
    behind_first = 4 + int.from_bytes(data[4:6], "big")
    picture = decode(data[:behind_first] + junk + data[behind_first:], LIMIT)
    assert picture.pixels_sha256 == decode(data, LIMIT).pixels_sha256
