"""Pictures with a colour profile give the colours that it means, on every path, and say that they were converted."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from infinity.data.curation.storing import StoringConfig
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.colours import MAX_DIFFERENCE, profile_of
from infinity.data.images.decoding import decode
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from tests.fixtures.data.pictures_on_disk import encoded, image_folder, noise

LIMIT = 10**7
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CASES = Path(__file__).parents[5] / "shared" / "cases" / "data-icc-wide-gamut" / "input"


def matrix_profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], gamma: float) -> bytes:
    """A display profile of three colorants (XYZ of D50) and one gamma, put together by hand."""
    import struct

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"wide\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78 + 3)
    tags = {b"rXYZ": xyz(red), b"gXYZ": xyz(green), b"bXYZ": xyz(blue), b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"desc": text, b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    at, table, body = 132 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(128)
    head[8:12], head[12:24], head[36:40] = b"\2\x20\0\0", b"mntrRGB XYZ ", b"acsp"
    head[68:80] = fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    whole = bytes(head) + struct.pack(">I", len(tags)) + table + body
    return len(whole).to_bytes(4, "big") + whole[4:]


ADOBE = matrix_profile((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446), 2.2)
P3 = matrix_profile((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841), 2.2)
PROPHOTO = matrix_profile((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249), 1.8)
WIDE = {"adobe": ADOBE, "p3": P3, "prophoto": PROPHOTO}


def by_littlecms(image: Image.Image, profile: bytes) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    made = ImageCms.profileToProfile(
        image, source, ImageCms.createProfile("sRGB"), intent, outputMode="RGB", flags=flags
    )
    return np.asarray(made).astype(int)


def far(a: np.ndarray | Image.Image, b: np.ndarray | Image.Image) -> int:
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG", "AVIF"])
def test_profiles_are_followed_in_every_format(name: str, format: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100}}
    data = encoded(noise(), format, icc_profile=WIDE[name], **options.get(format, {}))
    picture = decode(data, LIMIT)
    expected = by_littlecms(Image.open(io.BytesIO(data)).convert("RGB"), WIDE[name])
    assert far(picture.image, expected) <= 2
    assert far(expected, noise()) > 10  # or the test would say nothing
    assert (picture.keep_bytes, picture.extension, picture.converted_from) == (False, "png", "wide")
    assert far(Image.open(io.BytesIO(picture.encode())), expected) <= 2


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_transparency_and_palettes_stay(mode: str) -> None:
    image = Image.fromarray(noise()).convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.array([0, 255], np.uint8), (40, 20))))
    if mode == "P":
        image = Image.fromarray(noise()).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    data = encoded(image if mode != "LA" else image.convert("LA"), "PNG", icc_profile=ADOBE)
    plain = Image.open(io.BytesIO(data)).convert("RGBA")
    expected = by_littlecms(plain.convert("RGB"), ADOBE)
    if mode != "P":
        expected[:, ::2] = 255
    assert far(decode(data, LIMIT).image, expected) <= 2


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_turned_pictures_are_converted_and_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(20, 30), "JPEG", quality=100, subsampling=0, exif=exif, icc_profile=ADOBE)
    stored = by_littlecms(Image.open(io.BytesIO(data)), ADOBE).astype(np.uint8)
    turn = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    assert far(decode(data, LIMIT).image, np.rot90(stored, turn)) <= 2


def test_srgb_and_what_cannot_be_read_change_nothing() -> None:
    plain = encoded(noise())
    for profile in (SRGB, b"no profile", SRGB[:200], bytes(1000), b""):
        data = encoded(noise(), icc_profile=profile)
        picture = decode(data, LIMIT)
        assert (picture.keep_bytes, picture.converted_from) == (True, "")
        assert picture.pixels_sha256 == decode(plain, LIMIT).pixels_sha256
    assert profile_of(Image.new("RGB", (1, 1))) is None
    assert MAX_DIFFERENCE <= 2


def test_a_profile_for_other_pixels_than_there_are_is_not_used() -> None:
    data = encoded(Image.fromarray(noise()).convert("CMYK"), "JPEG", icc_profile=ADOBE)
    assert decode(data, LIMIT).converted_from == ""
    grey = encoded(Image.fromarray(noise()).convert("L"), icc_profile=ADOBE)
    assert decode(grey, LIMIT).image.size == (40, 40)


@pytest.mark.parametrize("side_px", [None, 32])
def test_stored_pictures_have_the_converted_colours_and_say_so(tmp_path: Path, side_px: int | None) -> None:
    image = np.full((80, 80, 3), (183, 72, 54), np.uint8)
    image[:40] = noise(40, 80)
    files = {"wide.jpg": encoded(image, "JPEG", quality=98, icc_profile=ADOBE), "plain.png": encoded(noise(seed=3))}
    source = image_folder(tmp_path / "in", files, [{"file_name": name, "text": f"a {name}"} for name in files])
    spec = BuildDatasetSpec(source=str(source), output=str(tmp_path / "out"), storing=StoringConfig(side_px=side_px))
    with in_process():
        manifest = Manifest.load(run(spec).manifest)
    place = {row["source"]: index for index, row in enumerate(manifest.table.to_pylist())}
    stored = Image.open(io.BytesIO(manifest.read_image(place["wide.jpg"])))
    assert "icc_profile" not in stored.info
    expected = by_littlecms(Image.open(io.BytesIO(files["wide.jpg"])), ADOBE)[70, 10]
    assert far(np.asarray(stored)[-4, 4], expected) <= 3
    assert manifest.head.converted == {"wide": 1}
    changed = {row["source"] for row in manifest.table.to_pylist() if row["sha256"] != row["original_sha256"]}
    assert "wide.jpg" in changed


def test_a_manifest_of_plain_pictures_says_nothing_of_colours(tmp_path: Path) -> None:
    source = image_folder(tmp_path / "in", {"x.png": encoded(noise())}, [{"file_name": "x.png", "text": "a cat"}])
    with in_process():
        report = run(BuildDatasetSpec(source=str(source), output=str(tmp_path / "out")))
    assert "converted" not in Manifest.load(report.manifest).head.to_json()


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["srgb.png", "p3.png", "adobe.png", "p3.webp"])
def test_one_colour_is_one_colour_in_every_space(name: str) -> None:
    shown = np.asarray(decode((CASES / name).read_bytes(), LIMIT).image)
    assert far(shown[24, 24], np.array([200, 60, 40])) <= 2
    assert far(shown[5, 5], np.array([90, 140, 60])) <= 2


def grey_profile(gamma: float) -> bytes:
    """A profile of grey pixels."""
    whole = matrix_profile((0.4, 0.2, 0.0), (0.4, 0.7, 0.1), (0.1, 0.1, 0.7), gamma)
    return whole.replace(b"mntrRGB XYZ ", b"mntrGRAYXYZ ").replace(b"rTRC", b"kTRC")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_profile_of_grey_pixels_takes_no_colours_away(format: str) -> None:
    plain = Image.fromarray(noise())
    data = encoded(noise(), format=format, icc_profile=grey_profile(1.0))
    assert far(decode(data, LIMIT).image, Image.open(io.BytesIO(data)).convert("RGB")) == 0
    grey = io.BytesIO()
    plain.convert("L").save(grey, "PNG", icc_profile=grey_profile(1.0))
    followed = decode(grey.getvalue(), LIMIT).image
    assert far(followed, plain.convert("L").convert("RGB")) > 20
