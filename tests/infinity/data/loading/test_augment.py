"""Crops and mirrors: drawn by row and visit, off unless asked for."""

import numpy as np
import pytest
from PIL import Image

from infinity.data.images.fitting import fit
from infinity.data.loading.augment import CENTRE, AugmentConfig, Placement


def test_nothing_is_drawn_by_default() -> None:
    assert AugmentConfig().changes_nothing
    assert AugmentConfig().place(3, (1, 2), (0, 0)) == [CENTRE, CENTRE]


def test_random_crops_cover_the_picture_and_belong_to_the_visit() -> None:
    config = AugmentConfig(crop="random", flip=0.25)
    rows, visits = tuple([4] * 1000), tuple(range(1000))
    placements = config.place(9, rows, visits)
    assert placements[17:18] == config.place(9, (4,), (17,))
    assert placements != config.place(8, rows, visits)
    across = np.array([each.across for each in placements])
    assert across.min() < 0.02
    assert across.max() > 0.98
    assert 0.2 < np.mean([each.mirrored for each in placements]) < 0.3
    assert all(each.across == 0.5 for each in AugmentConfig(flip=0.5).place(9, rows, visits))


def test_a_placement_moves_the_crop_and_mirrors_it() -> None:
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    image = Image.fromarray(ramp)  # 20 x 60
    left, middle, right = (fit(image, (20, 20), Placement(across=place)) for place in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(left, ramp[:, :20])
    np.testing.assert_array_equal(middle, fit(image, (20, 20)))
    np.testing.assert_array_equal(right, ramp[:, 40:])
    np.testing.assert_array_equal(fit(image, (20, 20), Placement(across=1.0, mirrored=True)), ramp[:, 40:][:, ::-1])


def test_an_impossible_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="flip: expected 0 to 1, got 2"):
        AugmentConfig(flip=2)
