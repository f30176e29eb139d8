"""A fitted picture has the size, keeps its centre, and needs no table library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity.data.images.fitting import fit


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
