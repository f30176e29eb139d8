"""The page of prompts with their drawings."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.drawn.prompt_page import CELL_PX, COLUMNS, TEXT_PX, chosen, page
from infinity.data.dataset.manifest import Manifest
from tests.fixtures.data.training_pictures import make_data


def test_captions_are_different_ones_of_the_training_pictures_and_follow_from_the_seed(tmp_path: Path) -> None:
    manifest = Manifest.load(make_data(tmp_path, num_train=24, num_validation=4))
    found = chosen(manifest, 3, seed=1)
    assert found == chosen(manifest, 3, seed=1)
    assert len(set(found)) == 3
    with pytest.raises(SystemExit, match="100 captions were asked for"):
        chosen(manifest, 100, seed=1)


def test_every_drawing_stands_in_its_cell_over_its_prompt() -> None:
    pictures = np.stack([np.full((16, 16, 3), 20 * number, np.uint8) for number in range(COLUMNS + 1)])
    sheet = np.asarray(page([f"prompt {number}" for number in range(COLUMNS + 1)], pictures))
    assert sheet.shape == (2 * (CELL_PX + TEXT_PX), COLUMNS * CELL_PX, 3)
    assert (sheet[CELL_PX // 2, CELL_PX + CELL_PX // 2] == 20).all()
    assert (sheet[CELL_PX + TEXT_PX + CELL_PX // 2, CELL_PX // 2] == 20 * COLUMNS).all()
    assert sheet[CELL_PX : CELL_PX + TEXT_PX, :CELL_PX].min() < 50  # words
