"""Rows of the detector: every pair of query and class, scores and boxes from masks, as the public scorer's detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from infinity.perception.detection.mask2former import Mask2Former, Mask2FormerConfig, frames_of, rows_of
from tests.fixtures.models.tiny_networks import write_mask2former


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_mask2former(tmp_path_factory.mktemp("mask2former"))


def by_hand(classes: torch.Tensor, masks: torch.Tensor, size: tuple[int, int]) -> list[tuple[int, float, list[float]]]:
    """The rows spelled out one by one."""
    rows = []
    shares = classes.softmax(-1)
    for query in range(len(classes)):
        mask = torch.nn.functional.interpolate(masks[query][None, None], size=size, mode="bilinear")[0, 0]
        inside = mask > 0
        mean = float(mask.sigmoid()[inside].sum() / (inside.sum() + 1e-6))
        ys, xs = np.nonzero(inside.numpy())
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]
        rows += [(label, float(shares[query, label]) * mean, [float(v) for v in box]) for label in range(4)]
    return sorted(rows, key=lambda row: -row[1])


def test_rows_equal_those_spelled_out() -> None:
    generator = torch.Generator().manual_seed(0)
    classes, masks = torch.randn(7, 5, generator=generator), torch.randn(7, 8, 6, generator=generator) - 0.5
    masks[3] = -1
    found, wanted = rows_of(classes, masks, (20, 15)), by_hand(classes, masks, (20, 15))
    assert found.masks.shape == (28, 20, 15)
    np.testing.assert_allclose(found.scores, [row[1] for row in wanted], rtol=1e-5)
    certain = [n for n, row in enumerate(wanted) if row[1] > 0]
    assert [int(found.labels[n]) for n in certain] == [wanted[n][0] for n in certain]
    np.testing.assert_array_equal(found.boxes[certain], np.array([wanted[n][2] for n in certain], np.float32))


def test_only_the_hundred_most_probable_pairs_remain() -> None:
    found = rows_of(torch.randn(50, 81, generator=torch.Generator().manual_seed(1)), torch.randn(50, 4, 4), (8, 8))
    assert len(found.scores) == 100


def test_frames_hold_the_mask_and_end_just_outside() -> None:
    masks = torch.zeros(2, 5, 6, dtype=torch.bool)
    masks[0, 1:3, 2:5] = True
    assert frames_of(masks).tolist() == [[2, 1, 5, 3], [0, 0, 0, 0]]


def test_pictures_of_different_sizes_in_one_batch_have_the_rows_they_have_alone(folder: str) -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, size, dtype=np.uint8) for size in ((24, 24, 3), (30, 20, 3), (24, 24, 3))]
    detector = Mask2Former(Mask2FormerConfig(model=folder, batch_size=3))
    assert detector.num_classes == 80
    for picture, together in zip(pictures, detector(pictures), strict=True):
        assert together.masks.shape[1:] == picture.shape[:2]
        assert (np.diff(together.scores) <= 0).all()
        assert ((together.scores > 0) & (together.scores <= 1)).any()
    for a, b in zip(detector(pictures[::2]), (detector([pictures[0]])[0], detector([pictures[2]])[0]), strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_missing_weights_and_other_checksums_are_clear_errors(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no Mask2Former could be loaded from the hub name"):
        Mask2Former(Mask2FormerConfig(model=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="expected sha256 00000000, found"):
        Mask2Former(Mask2FormerConfig(model=folder, sha256="00000000"))


def test_a_file_that_lacks_weights_is_refused_instead_of_filled_with_random_numbers(tmp_path: Path) -> None:
    folder = write_mask2former(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["class_predictor.bias"], tensors["criterion.empty_weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing 1: class_predictor\.bias; the folder holds another kind"):
        Mask2Former(Mask2FormerConfig(model=folder))
