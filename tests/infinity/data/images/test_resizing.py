"""Smaller copies are Pillow's up to rounding, and the same on every processor."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cykooz_resizer import CpuExtensions, FilterType, ResizeAlg, ResizeOptions, Resizer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity.data.images.resizing import Filter, shrink


def _noise(width: int, height: int, seed: int) -> Image.Image:
    """Of a middling contrast: between the two passes both cut off what overshoots, but in another order."""
    return Image.fromarray(np.random.default_rng(seed).integers(80, 176, (height, width, 3), np.uint8))


@settings(max_examples=25)
@given(st.data(), st.integers(1, 300), st.integers(1, 300), st.sampled_from(["bilinear", "bicubic"]))
def test_pixels_are_pillows_up_to_rounding(data: st.DataObject, width: int, height: int, how: Filter) -> None:
    image = _noise(width, height, width * height)
    size = (data.draw(st.integers(1, width)), data.draw(st.integers(1, height)))
    expected = image.resize(size, Image.Resampling[how.upper()])
    found = np.asarray(shrink(image, size, how), np.int16)
    assert found.shape == (size[1], size[0], 3)
    difference = np.abs(found - np.asarray(expected, np.int16))
    assert difference.max() <= 2
    assert (difference == 2).mean() < 0.01


@settings(max_examples=25)
@given(st.data(), st.integers(1, 300), st.integers(1, 300))
def test_averages_first_are_pillows_up_to_rounding(data: st.DataObject, width: int, height: int) -> None:
    image = _noise(width, height, width * height)
    size = (data.draw(st.integers(1, width)), data.draw(st.integers(1, height)))
    expected = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    found = np.asarray(shrink(image, size, "bilinear", averaged=True), np.int16)
    assert np.abs(found - np.asarray(expected, np.int16)).max() <= 2


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
def test_every_processor_makes_the_same_bytes(how: Filter) -> None:
    image = _noise(517, 391, 0)
    name = {"bilinear": "bilinear", "bicubic": "catmull_rom"}[how]
    options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType[name]))
    for extensions in (CpuExtensions.none, CpuExtensions.sse4_1, CpuExtensions.avx2):
        resizer, small = Resizer(), Image.new("RGB", (310, 211))
        try:
            resizer.cpu_extensions = extensions
        except ValueError:  # this processor has none of these
            continue
        resizer.resize_pil(image, small, options)
        assert small.tobytes() == shrink(image, (310, 211), how).tobytes()


def test_the_same_size_is_the_same_picture_and_the_original_stays() -> None:
    image = _noise(40, 30, 1)
    before = image.tobytes()
    assert shrink(image, (40, 30), "bicubic").tobytes() == before == image.tobytes()


@pytest.mark.parametrize(("mode", "size"), [("L", (4, 4)), ("RGBA", (4, 4)), ("RGB", (11, 4)), ("RGB", (4, 11))])
def test_other_modes_and_larger_copies_are_refused(mode: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {mode} of (10, 10)")):
        shrink(Image.new(mode, (10, 10)), size, "bicubic")
