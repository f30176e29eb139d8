"""Drawings with and without an adapter: pictures to train on are those of the rows, and distances are in decibels."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.drawn.adapter_page import chosen, main, psnr_db
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import load_images, picture
from tests.fixtures.data.training_pictures import make_data


def test_written_pictures_are_new_ones_with_their_captions(tmp_path: Path) -> None:
    manifest = Manifest.load(make_data(tmp_path, num_train=24, num_validation=4))
    new, prior = tmp_path / "new", tmp_path / "prior"
    assert main(["model", manifest.uri, "--pictures", str(new), "--prior", str(prior), "--count", "3"]) == 0
    for folder, split in ((new, "validation"), (prior, "train")):
        found = {int(path.stem): path.read_text(encoding="utf-8").strip() for path in folder.glob("*.txt")}
        assert set(found) <= set(manifest.rows(split).tolist())  # type: ignore[arg-type]
        assert list(found.values()) == manifest.captions(list(found))
        for row, expected in zip(found, load_images(manifest, list(found), (16, 16)), strict=True):
            assert np.array_equal(picture((folder / f"{row}.png").read_bytes(), (16, 16)), expected)
    with pytest.raises(SystemExit, match="5 pictures of validation were asked for, there are 4"):
        chosen(manifest, "validation", 5, seed=0)


def test_the_median_distance_is_in_decibels() -> None:
    black = np.zeros((3, 4, 4, 3), np.uint8)
    others = black.copy()
    others[1:] = 1
    assert psnr_db(black, others) == pytest.approx(20 * np.log10(255))
    assert psnr_db(black, black) == pytest.approx(99)
