"""Four ways to prepare a picture: each against an independent computation of what its protocol says."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from infinity.evaluation.fid.preparation import INPUT_PX, PREPARATIONS, Convention, protocol, resize_tf1

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


def pictures(height: int, width: int, count: int = 1, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def flat(level: int) -> Tensor:
    return torch.full((1, 40, 56, 3), level, dtype=torch.uint8)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (299, 299), (350, 310)])
def test_every_picture_becomes_three_planes_of_299_px(convention: Convention, height: int, width: int) -> None:
    prepared = PREPARATIONS[convention](pictures(height, width))
    assert prepared.shape == (1, 3, INPUT_PX, INPUT_PX)
    assert prepared.dtype == torch.float32
    assert prepared.isfinite().all()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_picture_is_prepared_alike_alone_and_in_any_batch(convention: Convention) -> None:
    many = pictures(40, 33, count=6)
    together = PREPARATIONS[convention](many)
    assert all(torch.equal(together[i : i + 1], PREPARATIONS[convention](many[i : i + 1])) for i in range(len(many)))


@pytest.mark.parametrize(
    ("convention", "black", "white"),
    [("tf1", -1.0, 127 / 128), ("clean_fid", -1.0, 127 / 128), ("pytorch_fid", -1.0, 1.0)],
)
def test_flat_pictures_stay_flat_at_the_ends_of_the_range(convention: Convention, black: float, white: float) -> None:
    for level, value in ((0, black), (255, white)):
        assert PREPARATIONS[convention](flat(level)).sub(value).abs().max() < 1e-6


def test_the_papers_script_takes_imagenets_mean_and_deviation_before_it_doubles() -> None:
    prepared = PREPARATIONS["imagenet_norm"](flat(100))[0, :, 0, 0]
    expected = [2 * (100 / 255 - mean) / std - 1 for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert prepared.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size_in", [7, 100, 299, 400])
def test_the_resize_of_tensorflow_1_samples_without_a_half_pixel(size_in: int) -> None:
    line = torch.arange(size_in, dtype=torch.float64).pow(2).expand(1, 1, size_in, size_in).contiguous()
    resized = resize_tf1(line, 64)[0, 0, 0]
    for i in range(64):
        position = float(np.float32(i) * np.float32(size_in / 64))
        first = int(position)
        second = min(first + 1, size_in - 1)
        expected = first**2 + (position - first) * (second**2 - first**2)
        assert resized[i].item() == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    same = pictures(INPUT_PX, INPUT_PX)
    for convention in ("tf1", "clean_fid", "pytorch_fid"):
        prepared = PREPARATIONS[convention](same)
        scale, shift = (127.5, 127.5) if convention == "pytorch_fid" else (128, 128)
        assert (prepared * scale + shift - same.permute(0, 3, 1, 2)).abs().max() < 1e-3, convention


def test_the_antialiased_resize_averages_and_the_others_do_not() -> None:
    """Stripes of one pixel, shrunk: an average is grey, a sample is a stripe again."""
    stripes = (torch.arange(1196) % 2 * 255).to(torch.uint8).view(1, 1, -1, 1).expand(1, 1196, 1196, 3).contiguous()
    contrast = {name: PREPARATIONS[name](stripes).std().item() for name in ("tf1", "clean_fid")}
    assert contrast["clean_fid"] < 0.05
    assert PREPARATIONS["tf1"](stripes).unique().numel() <= 2


def test_the_centre_of_a_wide_picture_is_kept_by_the_script_of_the_paper_alone() -> None:
    wide = torch.zeros(1, 100, 300, 3, dtype=torch.uint8)
    wide[:, :, :90] = 255
    assert PREPARATIONS["imagenet_norm"](wide)[0, 0].std() < 1e-5, "the bright side is cropped away"
    assert PREPARATIONS["clean_fid"](wide)[0, 0].std() > 0.5
    crop = np.asarray(Image.fromarray(wide[0].numpy()).crop((100, 0, 200, 100)))
    assert crop.max() == 0


def test_no_two_conventions_share_a_protocol_or_a_result() -> None:
    one = pictures(64, 48)
    assert len({protocol(convention) for convention in CONVENTIONS}) == len(CONVENTIONS)
    results = [PREPARATIONS[convention](one) for convention in CONVENTIONS]
    for number, result in enumerate(results):
        assert all((result - other).abs().max() > 0.01 for other in results[number + 1 :])
