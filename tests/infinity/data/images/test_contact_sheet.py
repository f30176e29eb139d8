"""Sheets hold their pictures unchanged and in order."""

import io

import numpy as np
import pytest
from PIL import Image

from infinity.data.images.contact_sheet import compose_sheet, encode_png


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def some_images(number: int, height: int = 5, width: int = 7) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (number, height, width, 3), dtype=np.uint8))


def test_every_picture_lies_unchanged_in_its_cell() -> None:
    images = some_images(5)
    sheet = pixels(compose_sheet(images, 3, gap_px=2))
    assert sheet.shape == (2 * 7 + 2, 3 * 9 + 2, 3)
    for index, image in enumerate(images):
        top, left = 2 + index // 3 * 7, 2 + index % 3 * 9
        np.testing.assert_array_equal(sheet[top : top + 5, left : left + 7], image)
    assert (sheet[9:, 20:] == 255).all()  # the unused cell is white


def test_few_pictures_make_a_narrow_sheet() -> None:
    assert pixels(compose_sheet(some_images(2), 8, gap_px=0)).shape == (5, 14, 3)


def test_enlarging_repeats_pixels() -> None:
    (image,) = some_images(1)
    np.testing.assert_array_equal(pixels(compose_sheet([image], 1, gap_px=0, enlarge=3))[1::3, 1::3], image)


def test_marks_frame_their_picture_only() -> None:
    images = some_images(2)
    sheet = pixels(compose_sheet(images, 2, gap_px=2, marks=[(10, 160, 60), None]))
    assert (sheet[2:4, 2:13] == (10, 160, 60)).all()
    assert (sheet[2:11, 11:13] == (10, 160, 60)).all()
    assert (sheet[:, 13:17] == 255).all()
    np.testing.assert_array_equal(sheet[4:9, 4:11], images[0])
    np.testing.assert_array_equal(sheet[4:9, 17:24], images[1])


def test_pictures_of_several_sizes_share_a_sheet() -> None:
    sheet = pixels(compose_sheet([*some_images(1, 4, 4), *some_images(1, 6, 3)], 2, gap_px=1))
    assert sheet.shape == (6 + 2, 2 * 5 + 1, 3)


def test_png_keeps_every_value() -> None:
    (image,) = some_images(1)
    np.testing.assert_array_equal(pixels(encode_png(image)), image)


@pytest.mark.parametrize(
    ("images", "columns", "message"),
    [([], 1, "at least one"), ([np.zeros((2, 2, 3))], 1, "uint8"), ([np.zeros((2, 2, 3), np.uint8)], 0, "positive")],
)
def test_wrong_input_is_refused(images: list[np.ndarray], columns: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose_sheet(images, columns)
