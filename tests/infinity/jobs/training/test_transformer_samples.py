"""Sheets of samples are about as large whatever the size of the pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from infinity.jobs.training.tokenizer import SHEET_SIDE_PX
from infinity.jobs.training.transformer_samples import _sheet


@pytest.mark.parametrize("side", [4, 16, 100, SHEET_SIDE_PX, 200])
def test_small_pictures_are_enlarged_by_a_whole_factor_and_large_ones_stay(side: int) -> None:
    pictures = [np.full((side, side, 3), level, np.uint8) for level in (10, 200)]
    found = _sheet({"averaged weights": pictures, "last weights": pictures}, ("a cat", "a dog"))
    shown = max(side, SHEET_SIDE_PX // side * side)
    with Image.open(io.BytesIO(found.png)) as sheet:
        assert 2 * shown <= sheet.width < 2 * shown + 20
        assert 2 * shown <= sheet.height < 2 * shown + 20
    assert found.captions == ("a cat", "a dog")
    assert found.rows == ("drawn with averaged weights", "drawn with last weights")


def test_a_worker_that_drew_nothing_has_no_sheet() -> None:
    assert _sheet({}, ("a cat",)).png == b""
