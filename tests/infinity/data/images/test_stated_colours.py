"""Colours that a picture states without a profile are followed: gAMA, cHRM, cICP, codes of AVIF, EXIF of cameras."""

import io
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from infinity.data.images.decoding import UnreadableError, as_shown, decode
from infinity.data.images.stated_colours import StatedColours, _colorants, _written, reads_alike, stated_colours
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.infinity.data.images.test_colours import P3, by_littlecms, far, grey_profile
from tests.infinity.data.images.test_colours import SRGB as SRGB_PROFILE
from tests.infinity.data.images.test_colours import WIDE as PROFILES

LIMIT = 10**7
D65 = np.array([0.95047, 1.0, 1.08883])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
WIDE = {
    "p3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
}


def with_chunks(picture: np.ndarray | Image.Image, **chunks: bytes) -> bytes:
    """A PNG with further chunks in front of its pixels."""
    data = encoded(picture)
    more = b"".join(
        struct.pack(">I", len(content))
        + name.encode()
        + content
        + struct.pack(">I", zlib.crc32(name.encode() + content))
        for name, content in chunks.items()
    )
    return data[:33] + more + data[33:]


def gama(gamma: float) -> bytes:
    return struct.pack(">I", round(gamma * 100_000))


def chrm(points: tuple[tuple[float, float], ...], white: tuple[float, float] = (0.3127, 0.3290)) -> bytes:
    return struct.pack(">8I", *(round(value * 100_000) for point in (white, *points) for value in point))


def light(levels: np.ndarray, gamma: float | None) -> np.ndarray:
    """Light of levels in [0, 1] by a gamma, or by the curve of sRGB."""
    if gamma is not None:
        return np.asarray(levels**gamma)
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def matrix(points: tuple[tuple[float, float], ...]) -> np.ndarray:
    columns = np.stack([np.array([x / y, 1, (1 - x - y) / y]) for x, y in points], 1)
    return np.asarray(columns * np.linalg.solve(columns, D65))


def expected(levels: np.ndarray, points: tuple[tuple[float, float], ...], gamma: float | None) -> np.ndarray:
    """The levels of sRGB for a white of D65, by the textbook: no adaptation is needed."""
    shown = light(levels / 255, gamma) @ matrix(points).T @ np.linalg.inv(matrix(SRGB)).T
    shown = np.clip(shown, 0, 1)
    return np.rint(255 * np.where(shown <= 0.0031308, shown * 12.92, 1.055 * shown ** (1 / 2.4) - 0.055)).astype(int)


@pytest.mark.parametrize("gamma", [1.0, 1.4, 1.8, 2.6])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_gama_is_followed(mode: str, gamma: float) -> None:
    image = Image.fromarray(noise()).convert(mode)
    picture = decode(with_chunks(image, gAMA=gama(1 / gamma)), LIMIT)
    plain = np.asarray(image.convert("RGB")).astype(float)
    assert far(picture.image, expected(plain, SRGB, gamma)) <= 2
    assert far(plain, expected(plain, SRGB, gamma)) > 10
    assert (picture.keep_bytes, picture.converted_from) == (False, "gAMA and cHRM")
    assert decode(picture.encode(), LIMIT).keep_bytes


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("gamma", [None, 1.8])
def test_chrm_is_followed(name: str, gamma: float | None) -> None:
    chunks = {"cHRM": chrm(WIDE[name])} | ({"gAMA": gama(1 / gamma)} if gamma else {"gAMA": gama(1 / 2.2)})
    picture = decode(with_chunks(noise(), **chunks), LIMIT)
    assert far(picture.image, expected(noise().astype(float), WIDE[name], gamma)) <= 2


@pytest.mark.parametrize(
    "chunks",
    [
        {"gAMA": gama(1 / 2.2)},  # what most programs write for sRGB
        {"gAMA": gama(1 / 2.2), "cHRM": chrm(SRGB)},
        {"sRGB": b"\0", "gAMA": gama(1.0), "cHRM": chrm(WIDE["p3"])},
        {"cICP": bytes([1, 13, 0, 1])},
        {"cICP": bytes([1, 1, 0, 1])},
        {"cICP": bytes([99, 13, 0, 1])},
        {"cICP": bytes([12, 99, 0, 1])},
        {"gAMA": bytes(4)},
        {"cHRM": bytes(32)},
        {"cHRM": chrm(((0.3, 0.3), (0.3, 0.3), (0.3, 0.3)))},
        {"cHRM": b"\x7f" * 32},
    ],
    ids=str,
)
def test_srgb_and_what_makes_no_sense_change_nothing(chunks: dict[str, bytes]) -> None:
    picture = decode(with_chunks(noise(), **chunks), LIMIT)
    assert (picture.keep_bytes, picture.converted_from) == (True, "")
    assert far(picture.image, noise()) == 0


@pytest.mark.parametrize(
    ("codes", "name", "gamma"), [((12, 13), "p3", None), ((9, 8), "bt2020", 1.0), ((12, 4), "p3", 2.2)]
)
def test_codes_of_png_are_followed(codes: tuple[int, int], name: str, gamma: float | None) -> None:
    picture = decode(with_chunks(noise(), cICP=bytes([*codes, 0, 1])), LIMIT)
    assert far(picture.image, expected(noise().astype(float), WIDE[name], gamma)) <= 2
    assert picture.converted_from == f"H.273 {codes[0]}/{codes[1]}"


def avif(picture: np.ndarray, primaries: int, transfer: int) -> bytes:
    data = bytearray(encoded(picture, "AVIF", quality=100, subsampling="4:4:4"))
    at = data.index(b"nclx") + 4
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


def test_codes_of_avif_are_followed() -> None:
    plain = np.asarray(decode(avif(noise(), 1, 13), LIMIT).image).astype(float)
    assert far(decode(avif(noise(), 12, 13), LIMIT).image, expected(plain, WIDE["p3"], None)) <= 2


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_since_its_levels_are_none_of_srgb(transfer: int, name: str) -> None:
    for data in (with_chunks(noise(), cICP=bytes([9, transfer, 0, 1])), avif(noise(), 9, transfer)):
        with pytest.raises(UnreadableError, match=f"HDR \\({name}\\)"):
            decode(data, LIMIT)


def test_a_profile_counts_more_than_codes_and_chunks() -> None:
    data = encoded(noise(), icc_profile=P3)
    at = data.index(b"iCCP") - 4
    chunk = struct.pack(">I", 4) + b"gAMA" + gama(1.0) + struct.pack(">I", zlib.crc32(b"gAMA" + gama(1.0)))
    both = decode(data[:at] + chunk + data[at:], LIMIT)
    assert (both.pixels_sha256, both.converted_from) == (decode(data, LIMIT).pixels_sha256, "wide")


def jp2(picture: np.ndarray, profile: bytes) -> bytes:
    """A JPEG 2000 whose colour box holds a profile in the place of a number."""
    data = encoded(picture, "JPEG2000", irreversible=False)
    begin, end = data.index(b"jp2h") - 4, data.index(b"jp2c") - 4
    at = data.index(b"colr", begin) - 4
    (old,) = struct.unpack_from(">I", data, at)
    box = struct.pack(">I", 11 + len(profile)) + b"colr\2\0\0" + profile
    inside = data[begin + 8 : at] + box + data[at + old : end]
    return data[:begin] + struct.pack(">I", 8 + len(inside)) + b"jp2h" + inside + data[end:]


def bmp(picture: np.ndarray, profile: bytes) -> bytes:
    """A BMP of the fifth version, with a profile behind its pixels."""
    data = encoded(picture, "BMP")
    (offset,) = struct.unpack_from("<I", data, 10)
    pixels = data[offset:]
    head = struct.pack("<I", 124) + data[18:54] + bytes(16) + b"DEBM" + bytes(48)
    head += struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    whole = head + pixels + profile
    return b"BM" + struct.pack("<IHHI", 14 + len(whole), 0, 0, 14 + len(head)) + whole


def gif(picture: np.ndarray, profile: bytes) -> bytes:
    """A GIF with a profile in an application block."""
    data = encoded(Image.fromarray(picture).quantize(64), "GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    parts = [profile[i : i + 255] for i in range(0, len(profile), 255)]
    block = b"!\xff\x0bICCRGBG1012" + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    return data[:at] + block + data[at:]


@pytest.mark.parametrize("write", [jp2, bmp, gif])
@pytest.mark.parametrize("name", ["p3", "adobe", "prophoto"])
def test_profiles_in_containers_whose_profiles_pillow_leaves_alone_are_followed(write: Any, name: str) -> None:
    data = write(noise(), PROFILES[name])
    plain = Image.open(io.BytesIO(data)).convert("RGB")
    picture = decode(data, LIMIT)
    assert far(picture.image, by_littlecms(plain, PROFILES[name])) <= 2
    assert far(picture.image, plain) > 10
    assert (picture.converted_from, picture.keep_bytes) == ("wide", False)
    assert decode(write(noise(), SRGB_PROFILE), LIMIT).converted_from == ""
    for broken in (bytes(8), b"x" * 200, PROFILES[name][:100]):
        assert far(decode(write(noise(), broken), LIMIT).image, plain) == 0


@pytest.mark.parametrize("profile", [b"x" * 200, P3[:150]])
def test_a_broken_profile_leaves_the_word_to_what_is_stated_beside_it(profile: bytes) -> None:
    chunk = b"name\0\0" + zlib.compress(profile)
    picture = decode(with_chunks(noise(), iCCP=chunk, gAMA=gama(1.0)), LIMIT)
    assert far(picture.image, expected(noise().astype(float), SRGB, 1.0)) <= 2
    assert far(decode(with_chunks(noise(), iCCP=chunk), LIMIT).image, noise()) == 0
    damaged = decode(with_chunks(noise(), iCCP=b"name\0\0no stream", gAMA=gama(1.0)), LIMIT)
    assert far(damaged.image, picture.image) == 0


def test_in_png_known_codes_count_more_than_a_profile() -> None:
    chunk = b"name\0\0" + zlib.compress(PROFILES["prophoto"])
    picture = decode(with_chunks(noise(), cICP=bytes([12, 13, 0, 1]), iCCP=chunk), LIMIT)
    assert far(picture.image, expected(noise().astype(float), WIDE["p3"], None)) <= 2
    assert decode(with_chunks(noise(), cICP=bytes([1, 13, 0, 1]), iCCP=chunk), LIMIT).keep_bytes
    for codes in ([2, 2, 0, 1], [99, 13, 0, 1]):  # which say nothing
        unknown = decode(with_chunks(noise(), cICP=bytes(codes), iCCP=chunk), LIMIT)
        assert unknown.converted_from == "wide"
    stated = decode(with_chunks(noise(), cICP=bytes([99, 13, 0, 1]), gAMA=gama(1.0)), LIMIT)
    assert stated.converted_from == "gAMA and cHRM"


@pytest.mark.parametrize("gamma", [None, 1.0, 1.8])
def test_tags_of_tiff_are_followed(gamma: float | None) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[318] = tuple(map(rational, (0.3127, 0.3290)))
    tags[319] = tuple(rational(value) for point in WIDE["p3"] for value in point)
    if gamma is not None:
        tags[301] = tuple(round(65535 * (i / 255) ** gamma) for i in range(256))
    picture = decode(encoded(noise(), "TIFF", tiffinfo=tags), LIMIT)
    assert far(picture.image, expected(noise().astype(float), WIDE["p3"], gamma)) <= 2
    assert picture.converted_from == "tags of TIFF"


@pytest.mark.parametrize("curve", [(65535,) * 256, (0,) * 256, (0, 65535)])
def test_curves_of_tiff_that_make_no_sense_leave_that_of_srgb(curve: tuple[int, ...]) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[319] = tuple(rational(value) for point in SRGB for value in point)
    tags[301] = curve
    assert far(decode(encoded(noise(), "TIFF", tiffinfo=tags), LIMIT).image, noise()) == 0


def rational(value: float) -> TiffImagePlugin.IFDRational:
    return TiffImagePlugin.IFDRational(round(value * 10000), 10000)


def packed_grey(bits: int, clear: int) -> bytes:
    """A grey PNG of few bits, all levels in a row, one of them transparent."""
    levels = np.arange(2**bits)
    row = np.packbits((levels[:, None] >> np.arange(bits - 1, -1, -1)) & 1).tobytes() * (32 // 2**bits + 1)
    width = len(row) * 8 // bits

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, 24, bits, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * 24)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"tRNS", struct.pack(">H", clear))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("bits", "clear"), [(bits, clear) for bits in (1, 2, 4) for clear in range(2**bits)])
def test_transparent_levels_of_packed_grey_become_white(bits: int, clear: int) -> None:
    found = np.asarray(decode(packed_grey(bits, clear), LIMIT).image)[0, : 2**bits, 0].tolist()
    steps = [level * 255 // (2**bits - 1) for level in range(2**bits)]
    assert found == [255 if level == clear else step for level, step in enumerate(steps)]


def deep_png(pixels: np.ndarray, clear: tuple[int, int, int]) -> bytes:
    """Return a PNG of colours of 16 bits, one of them transparent."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    chunks = {b"IHDR": head, b"tRNS": struct.pack(">HHH", *clear), b"IDAT": zlib.compress(rows), b"IEND": b""}
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("clear", [0x8000, 0x00FF, 0xFFFF, 0x4040, 0x0001])
def test_the_transparent_colour_of_16_bits_becomes_white_and_no_other(clear: int) -> None:
    pixels = np.full((32, 32, 3), clear, np.uint16)
    pixels[16:] = (clear + 0x2000) % 0x10000
    data = deep_png(pixels, (clear, clear, clear))
    other = (clear + 0x2000) % 0x10000 >> 8
    for found in (decode(data, LIMIT).image, as_shown(Image.open(io.BytesIO(data)))):
        values = np.asarray(found)
        assert (values[:16] == 255).all()
        assert (values[16:] == other).all()


@pytest.mark.parametrize("profile", [b"", grey_profile(1.0)])
def test_transparent_levels_of_deep_grey_become_white(profile: bytes) -> None:
    deep = Image.fromarray((np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40))
    chunks = {"tRNS": struct.pack(">H", 400)} | ({"iCCP": b"n\0\0" + zlib.compress(profile)} if profile else {})
    found = np.asarray(decode(with_chunks(deep, **chunks), LIMIT).image)[..., 0]
    assert found[0, 10] == 255
    assert found[0, 9] < 60
    assert found[0, 11] < 60


@pytest.mark.parametrize(
    ("data", "alike"),
    [
        (encoded(noise()), True),
        (encoded(noise(), "JPEG"), True),
        (encoded(noise(), "WEBP"), True),
        (with_chunks(noise(), gAMA=gama(1.0)), False),
        (encoded(noise(), "JPEG", icc_profile=P3), False),
        (encoded(noise(), "JPEG", exif=Image.Exif()), False),
        (encoded(noise(), "WEBP", icc_profile=P3), False),
        (encoded(noise(), "BMP"), False),
        (encoded(noise(), "AVIF"), False),
    ],
)
def test_files_that_every_reading_reads_alike_are_told(data: bytes, alike: bool) -> None:
    assert reads_alike(data) == alike


def camera(**tags: Any) -> Image.Exif:
    exif = Image.Exif()
    ifd = exif.get_ifd(0x8769)
    ifd[0xA001], ifd[0xA005] = tags.get("space", 0xFFFF), {1: tags.get("index", "R03")}
    exif[0x0112] = tags.get("orientation", 1)
    return exif


def test_cameras_that_say_adobe_rgb_are_believed() -> None:
    plain = encoded(noise(), "JPEG", quality=100, subsampling=0)
    levels = np.asarray(decode(plain, LIMIT).image).astype(float)
    data = encoded(noise(), "JPEG", quality=100, subsampling=0, exif=camera(orientation=6))
    picture = decode(data, LIMIT)
    assert far(picture.image, np.rot90(expected(levels, WIDE["adobe"], 563 / 256), 3)) <= 2
    assert (picture.converted_from, picture.keep_bytes) == ("Adobe RGB of a camera", False)
    for tags in ({"space": 1}, {"index": "R98"}):
        assert decode(encoded(noise(), "JPEG", exif=camera(**tags)), LIMIT).converted_from == ""


def test_deep_grey_follows_gama() -> None:
    deep = np.linspace(0, 65535, 1600).astype(np.uint16).reshape(40, 40)
    levels = np.repeat((deep / 257.0)[..., None], 3, -1)
    picture = decode(with_chunks(Image.fromarray(deep), gAMA=gama(1.0)), LIMIT)
    assert far(picture.image, expected(levels, SRGB, 1.0)) <= 2


def test_deep_grey_follows_its_profile_as_plain_grey_does() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(2, 0).repeat(2, 1)
    plain = decode(encoded(Image.fromarray(levels), icc_profile=grey_profile(1.0)), LIMIT)
    deep = decode(encoded(Image.fromarray(levels.astype(np.uint16) * 257), icc_profile=grey_profile(1.0)), LIMIT)
    assert far(plain.image, deep.image) == 0
    ramp = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    between = decode(encoded(Image.fromarray(ramp), icc_profile=grey_profile(1.0)), LIMIT)
    assert (np.diff(np.asarray(between.image)[..., 0].astype(int).ravel()) >= 0).all()


def test_lab_pictures_are_read_with_and_without_a_profile() -> None:
    lab = ImageCms.profileToProfile(
        Image.fromarray(noise()), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    with_profile = decode(encoded(lab, "TIFF"), LIMIT)
    lab.info.pop("icc_profile", None)
    without = decode(encoded(lab, "TIFF"), LIMIT)
    for picture in (with_profile, without):
        assert picture.converted_from
        difference = np.abs(np.asarray(picture.image).astype(int) - noise())
        assert np.quantile(difference, 0.95) <= 3  # 8 bits of Lab are coarse


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_grey_in_floating_point_goes_to_one_or_to_255(white: float) -> None:
    values = np.linspace(0, white, 1600, dtype=np.float32).reshape(40, 40)
    found = np.asarray(decode(encoded(Image.fromarray(values), "TIFF"), LIMIT).image)[..., 0]
    assert far(found, np.rint(values * (255 / white))) == 0
    values[0, :3] = np.nan, np.inf, -np.inf
    odd = np.asarray(decode(encoded(Image.fromarray(values), "TIFF"), LIMIT).image)[..., 0]
    assert odd[0, :3].tolist() == [0, 255, 0]
    assert far(odd[1:], found[1:]) == 0


def test_points_that_span_no_colours_make_no_profile() -> None:
    point = (0.3, 0.3)
    assert StatedColours("x", (point, point, point, point), None).profile == b""
    assert StatedColours("x", ((0.3, 0.0), *SRGB), 1.0).profile == b""
    assert stated_colours(Image.new("RGB", (1, 1)), None) is None


PLAIN = Image.new("RGB", (1, 1))
WHITE = (0.3127, 0.3290)
H273 = {
    5: (WHITE, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: (WHITE, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: (WHITE, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: (WHITE, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (WHITE, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""White, red, green and blue of table 2."""


@pytest.mark.parametrize("primaries", H273)
@pytest.mark.parametrize(
    ("transfer", "gamma"), [(4, 2.2), (5, 2.8), (8, 1.0), *((code, None) for code in (1, 2, 6, 13, 14, 15))]
)
def test_every_code_of_h273_has_the_points_and_the_curve_of_its_table(
    primaries: int, transfer: int, gamma: float | None
) -> None:
    found = stated_colours(PLAIN, (primaries, transfer))
    assert found == StatedColours(f"H.273 {primaries}/{transfer}", H273[primaries], gamma)


@pytest.mark.parametrize("primaries", [1, 2])
def test_srgb_by_its_codes_states_nothing_but_another_curve_does(primaries: int) -> None:
    assert [stated_colours(PLAIN, (primaries, transfer)) for transfer in (1, 2, 6, 13, 14, 15)] == [None] * 6
    found = stated_colours(PLAIN, (primaries, 8))
    assert found is not None
    assert found.points == (WHITE, *SRGB)


@pytest.mark.parametrize(
    "codes", [(0, 13), (3, 13), (4, 13), (8, 13), (10, 13), (13, 13), (12, 3), (12, 7), (12, 12), (12, 17)]
)
def test_codes_without_a_meaning_here_state_nothing(codes: tuple[int, int]) -> None:
    assert stated_colours(PLAIN, codes) is None


def png_of(**info: object) -> Image.Image:
    image = Image.open(io.BytesIO(encoded(noise(2, 2))))
    image.info |= info
    return image


@pytest.mark.parametrize(
    ("written", "gamma"),
    [
        (0.45455, None),
        (0.4762, None),
        (0.433, None),
        (0.48, 1 / 0.48),
        (0.431, 1 / 0.431),
        (0.01, 10.0),
        (50.0, 0.1),
        (0.0, None),
    ],
)
def test_gama_near_that_of_srgb_means_its_curve_and_other_ones_are_bounded(written: float, gamma: float | None) -> None:
    found = stated_colours(png_of(gamma=written), None)
    assert (None if found is None else found.gamma) == (gamma if gamma is None else pytest.approx(gamma))
    assert found is None or found.points == (WHITE, *SRGB)


@pytest.mark.parametrize("place", range(8))
def test_a_point_that_is_off_by_more_than_rounding_is_another_point(place: int) -> None:
    plain = [value for point in (WHITE, *SRGB) for value in point]
    for off, is_another in ((0.0019, False), (-0.0019, False), (0.0021, True), (-0.0021, True)):
        given = tuple(value + off * (place == number) for number, value in enumerate(plain))
        found = stated_colours(png_of(chromaticity=given), None)
        assert (found is not None) == is_another
        assert found is None or found.points == tuple(zip(given[::2], given[1::2], strict=True))
    assert stated_colours(png_of(chromaticity=tuple(plain[:7])), None) is None


@pytest.mark.parametrize("gamma", [None, 1.8])
def test_the_profile_is_the_one_that_littlecms_writes_of_the_same_points(gamma: float | None) -> None:
    data = StatedColours("x", (WHITE, *SRGB), gamma).profile
    assert int.from_bytes(data[:4], "big") == len(data)
    (number,) = struct.unpack_from(">I", data, 128)
    tags = [struct.unpack_from(">4sII", data, 132 + 12 * k) for k in range(number)]
    assert {name for name, _, _ in tags} == {b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"bTRC"}
    ends = [132 + 12 * number]
    for _, at, size in tags:
        assert at % 4 == 0
        assert at >= ends[-1]
        ends.append(at + size)
    assert ends[-1] <= len(data) < ends[-1] + 4
    found, own = (ImageCms.ImageCmsProfile(each).profile for each in (io.BytesIO(data), ImageCms.createProfile("sRGB")))
    assert (found.version, found.device_class, found.connection_space, found.xcolor_space) == (
        4.2,
        "mntr",
        "XYZ ",
        "RGB ",
    )
    assert struct.unpack_from(">3i", data, 68) == (63190, 65536, 54061)  # the D50 of ICC.1
    assert found.media_white_point[0] == pytest.approx((0.9642, 1.0, 0.8249), abs=1e-4)
    for name in ("red_colorant", "green_colorant", "blue_colorant"):
        assert getattr(found, name)[0] == pytest.approx(getattr(own, name)[0], abs=2e-3)
    curve = next(data[at : at + size] for name, at, size in tags if name == b"rTRC")
    kind, *numbers = struct.unpack_from(f">H2x{(len(curve) - 12) // 4}i", curve, 8)
    wanted = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045) if gamma is None else (1.8,)
    assert (kind, [number / 65536 for number in numbers]) == (
        3 if gamma is None else 0,
        pytest.approx(wanted, abs=1e-4),
    )


@pytest.mark.parametrize("tables", [1, 3])
@pytest.mark.parametrize("length", [2**8, 2**4])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
def test_the_exponent_of_a_table_is_read_at_its_middle(tables: int, length: int, gamma: float) -> None:
    curve = [round(65535 * (place / (length - 1)) ** gamma) for place in range(length)] * tables
    points = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    image: Any = SimpleNamespace(tag_v2={301: tuple(curve), 319: points}, format="TIFF")
    found = stated_colours(image, None)
    assert found is not None
    assert found.gamma == pytest.approx(gamma, rel=1e-3)
    assert found.points == ((0.3127, 0.3290), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def test_a_profile_of_stated_colours_is_one_of_the_standard_to_the_byte() -> None:
    for gamma in (None, 2.2):
        written = StatedColours("x", ((0.3127, 0.3290), *WIDE["p3"]), gamma)  # type: ignore[arg-type]
        data = _written(_colorants(written.points), gamma)
        assert int.from_bytes(data[:4], "big") == len(data)
        assert (data[4:8], data[8:12], data[12:24], data[36:40]) == (bytes(4), b"\4\x20\0\0", b"mntrRGB XYZ ", b"acsp")
        assert data[68:80] == bytes.fromhex("0000f6d6 00010000 0000d32d"), "the white of every profile"
        tags = [struct.unpack_from(">4sII", data, 132 + 12 * place) for place in range(data[131])]
        assert [name for name, _, _ in tags] == [b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"bTRC"]
        assert all(at % 4 == 0 and at + size <= len(data) for _, at, size in tags)
        sums = sum(np.array(struct.unpack_from(">3i", data, at + 8)) for _, at, _ in tags[:3])
        assert np.abs(sums - [0xF6D6, 0x10000, 0xD32D]).max() <= 2, "white is the sum of the colorants"
