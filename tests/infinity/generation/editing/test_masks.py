"""Which numbers of a mask mark a pixel, at the edge between those that do and those that do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.generation.editing.masks import mask_of, pixel_mask, redrawn_tokens
from infinity.scales import Resolution
from tests.fixtures.data.pictures_on_disk import encoded


@pytest.mark.parametrize(
    ("value", "kind", "marked"),
    [
        (127, np.uint8, False), (128, np.uint8, True), (1, np.uint8, True), (0, np.uint8, False),
        (0.5, np.float32, True), (math.nextafter(0.5, 0), np.float64, False), (1.0, np.float32, True),
        (127.9, np.float32, False), (128.0, np.float32, True), (255.0, np.float32, True),
        (1, np.int64, True), (0, np.int64, False), (-1, np.int64, False),
        (True, np.bool_, True), (False, np.bool_, False),
    ],
)  # fmt: skip
def test_a_number_marks_from_half_of_the_brightest_on(value: Any, kind: Any, marked: bool) -> None:
    assert pixel_mask(np.full((2, 3), value, kind), (2, 3)).tolist() == [[marked] * 3] * 2


@pytest.mark.parametrize(("level", "marked"), [(127, False), (128, True)])
def test_a_file_marks_white_from_half_the_brightness_and_clear_below_half_the_opacity(level: int, marked: bool) -> None:
    grey = Image.new("L", (4, 4), level)
    assert mask_of(encoded(grey)).all() == marked
    assert pixel_mask(grey, (4, 4)).all() == marked
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, level))
    clear.putpixel((0, 0), (0, 0, 0, 0))
    assert mask_of(encoded(clear)).sum() == (1 if marked else 16)


@pytest.mark.parametrize(("shape", "size"), [((4, 8), (4, 4)), ((8, 4), (4, 4)), ((2, 4), (4, 4)), ((6, 6), (2, 2))])
def test_a_mask_of_another_shape_is_cropped_at_its_centre(shape: tuple[int, int], size: tuple[int, int]) -> None:
    places = np.arange(shape[0] * shape[1]).reshape(shape)
    for place in places.ravel():
        found = pixel_mask(places == place, size)
        step = min(shape[0] / size[0], shape[1] / size[1])
        rows, columns = (
            [math.floor((i + 0.5) * step + (length - n * step) / 2) for i in range(n)]
            for length, n in zip(shape, size, strict=True)
        )
        assert found.tolist() == [[bool(places[row, column] == place) for column in columns] for row in rows]


def test_a_token_is_drawn_again_from_the_covered_share_on() -> None:
    schedule = Resolution(sides=(1, 2)).schedule(1.0)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, 0] = True  # half of one of four tokens, an eighth of all
    assert redrawn_tokens(mask, schedule, covered=0.5).tolist() == [False, True, False, False, False]
    assert redrawn_tokens(mask, schedule, covered=0.125).tolist() == [True, True, False, False, False]
    with pytest.raises(ValueError, match=r"covers less than 51% of every token \(2 x 2 px"):
        redrawn_tokens(mask, schedule, covered=0.51)
    for share in (0.0, 1.01, math.nan):
        with pytest.raises(ValueError, match="covered: expected a share above 0 up to 1"):
            redrawn_tokens(mask, schedule, covered=share)
