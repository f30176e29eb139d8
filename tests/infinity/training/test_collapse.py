"""Collapsed bits are told from living ones."""

import pytest
import torch

from infinity.training.collapse import (
    CollapseConfig,
    CollapseError,
    check_labels,
    constant_picture_error,
    dead_share,
    psnr_db,
)


def test_only_bits_that_hardly_ever_change_are_dead() -> None:
    usage = torch.tensor([[0.0, 1.0, 0.5, 0.1], [0.0005, 0.9999, 0.01, 0.3]])
    assert dead_share(usage, 0.03) == pytest.approx(4 / 8)


def test_the_error_of_the_constant_picture_does_not_depend_on_the_size_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(512, 3, 4, 4, generator=generator)
    small = torch.stack([constant_picture_error(part) for part in pictures.split(4)]).mean()
    assert small == pytest.approx(float(constant_picture_error(pictures)), rel=0.02)


def test_a_single_picture_has_no_constant_error() -> None:
    assert constant_picture_error(torch.rand(1, 3, 2, 2)) == 0.0


def test_living_labels_pass_and_dead_ones_are_refused() -> None:
    check_labels(torch.full((3, 4), 0.4), CollapseConfig(), "here")
    with pytest.raises(CollapseError, match="here: this tokenizer has collapsed: 100%"):
        check_labels(torch.zeros(3, 4), CollapseConfig(), "here")


def test_a_maximal_error_is_zero_decibels() -> None:
    assert psnr_db(torch.tensor(4.0)) == pytest.approx(0.0)
    assert psnr_db(torch.tensor(4e-3)) == pytest.approx(30.0, abs=1e-4)
