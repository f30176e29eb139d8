"""What phones write is read within a limit of memory that follows from a setting, and at a fraction in less."""

import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from infinity.data.curation.filters import FilterConfig
from infinity.data.images.decoding import UnreadableError, decode, open_unguarded
from infinity.data.loading.batches import picture
from infinity.data.memory import picture_bytes
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.infinity.data.images.test_colours import P3

LIMIT = FilterConfig().max_pixels
PHONES = {"48 megapixels": (8064, 6048), "108 megapixels": (12000, 9000), "200 megapixels": (16320, 12240)}


def of_a_phone(**options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(96, 128), "JPEG", quality=90, exif=exif, icc_profile=P3, **options)


@pytest.mark.parametrize("name", PHONES)
def test_what_phones_write_fits_into_the_memory_that_the_setting_allows(name: str) -> None:
    width, height = PHONES[name]
    file_bytes = 40 * 2**20
    assert picture_bytes(max(LIMIT, width * height)) >= 8 * width * height + file_bytes


def test_a_turned_picture_with_a_profile_needs_two_copies_and_its_file() -> None:
    data = of_a_phone()
    need = len(data) + 8 * 96 * 128
    assert decode(data, LIMIT, need).size == (96, 128)
    with pytest.raises(UnreadableError, match="too much memory"):
        decode(data, LIMIT, need - 1)


@pytest.mark.parametrize(("side_px", "fraction"), [(12, 8), (13, 4), (24, 4), (48, 2), (49, 1)])
def test_with_a_store_size_only_the_fraction_counts_that_is_decoded(side_px: int, fraction: int) -> None:
    data = of_a_phone()
    need = len(data) + 8 * 96 * 128 // fraction**2
    found = decode(data, LIMIT, need, side_px)
    assert found.size == (96, 128)
    assert found.image.size == (96 // fraction, 128 // fraction)
    with pytest.raises(UnreadableError, match="too much memory"):
        decode(data, LIMIT, need - 1, side_px)


def test_the_coefficients_of_a_progressive_picture_count_in_full() -> None:
    data = of_a_phone(progressive=True)
    with pytest.raises(UnreadableError, match="too much memory"):
        decode(data, LIMIT, len(data) + 2 * 96 * 128, 12)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_no_limit_but_the_setting_counts(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 40 // 3)  # more than twice: Pillow refuses
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    shown = np.asarray(decode(data, LIMIT).image)
    assert (picture(data, (40, 40)) == shown).all()
    with pytest.raises(UnidentifiedImageError):
        open_unguarded(b"no picture")
