"""A fitted picture has the size, keeps its centre, and needs no table library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity.data.images.fitting import Placement, fit


@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40))
def test_fitted_picture_has_the_size_and_stays_centred(height: int, width: int, rows: int, columns: int) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], (height, width, 3))
    fitted = fit(Image.fromarray(np.ascontiguousarray(ramp)), (rows, columns))
    assert fitted.shape == (rows, columns, 3)
    mirrored = fit(Image.fromarray(np.ascontiguousarray(ramp[:, ::-1])), (rows, columns))
    assert np.abs(fitted[:, ::-1].astype(int) - mirrored).max() <= 2


def test_fitted_picture_covers_the_frame_and_loses_only_the_long_side() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 255  # exactly the centre square
    assert (fit(Image.fromarray(image), (20, 20)) == 255).all()
    assert (fit(Image.fromarray(image), (10, 10))[:, 3:-3] == 255).all()
    assert (fit(Image.fromarray(np.full((7, 9, 3), 80, np.uint8)), (64, 32)) == 80).all()


def test_drawing_pictures_loads_no_table_library() -> None:
    code = "import sys, infinity.generation; print([n for n in ('pyarrow', 'pandas', 'ray') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("axis", [0, 1])
def test_a_placement_says_what_is_cut_off_before_and_behind(axis: int) -> None:
    levels = np.arange(40, dtype=np.uint8)
    shape = (40, 20, 3) if axis == 0 else (20, 40, 3)
    image = np.array(np.broadcast_to(levels[:, None, None] if axis == 0 else levels[None, :, None], shape))

    def kept(placement: Placement) -> list[int]:
        fitted = fit(Image.fromarray(image), (20, 20), placement)
        return [int(each) for each in (fitted[:, 0, 0] if axis == 0 else fitted[0, :, 0])]

    assert kept(Placement()) == list(range(10, 30)), "the centre where nothing is said"
    for share, first in ((0.0, 0), (0.25, 5), (1.0, 20)):
        placement = Placement(down=share) if axis == 0 else Placement(across=share)
        assert kept(placement) == list(range(first, first + 20))


def test_a_mirrored_placement_changes_left_and_right_alone() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    assert (fit(image, (20, 20), Placement(mirrored=True)) == fit(image, (20, 20))[:, ::-1]).all()
