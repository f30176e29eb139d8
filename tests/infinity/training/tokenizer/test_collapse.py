"""Collapsed bits are told from living ones."""

import pytest
import torch

from infinity.training.tokenizer.collapse import (
    CollapseConfig,
    CollapseError,
    check_labels,
    check_reconstruction,
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


def test_shares_and_gains_at_their_limits_are_borne() -> None:
    config = CollapseConfig(from_step=4, num_rows=2, max_dead_share=0.75, min_gain_db=0.5)
    usage = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    assert dead_share(usage, config.dead_entropy) == 0.75
    check_labels(usage, config, "here")
    check_reconstruction(logged(0.5, 0.5, dead=0.75, first=4), config)
    with pytest.raises(CollapseError, match="100% of its bits"):
        check_labels(torch.zeros(2, 2), config, "here")
    with pytest.raises(CollapseError, match="76% of its bits"):
        check_reconstruction(logged(0.5, 0.5, dead=0.76, first=4), config)
    with pytest.raises(CollapseError, match=r"only 0\.49 dB better"):
        check_reconstruction(logged(0.49, 0.49, dead=0.75, first=4), config)
    check_reconstruction(logged(0.0, 0.0, first=3), config)  # one of them is too young


def test_a_maximal_error_is_zero_decibels() -> None:
    assert psnr_db(torch.tensor(4.0)) == pytest.approx(0.0)
    assert psnr_db(torch.tensor(4e-3)) == pytest.approx(30.0, abs=1e-4)


def logged(*gains_db: float, dead: float = 0.0, first: int = 0) -> list[dict[str, float]]:
    """Rows of a training, one a step."""
    return [
        {"step": float(step), "psnr_db": 15.0, "gain_db": gain, "dead_bits": dead}
        for step, gain in enumerate(gains_db, first)
    ]


def test_one_batch_that_a_constant_picture_fits_well_stops_nothing() -> None:
    config = CollapseConfig(from_step=2)
    check_reconstruction(logged(0.0, 0.0, 3.1, 2.4, -0.1, 3.0, 2.9), config)
    with pytest.raises(CollapseError, match=r"step 6: .*only 0\.20 dB better .*mean of 5 logged steps; 0\.5 dB"):
        check_reconstruction(logged(0.0, 0.0, 0.2, 0.4, -0.1, 0.3, 0.2), config)
    with pytest.raises(CollapseError, match=r"step 6: .*90% of its bits"):
        check_reconstruction(logged(*[9.0] * 7, dead=0.9), config)


def test_a_mean_of_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="num_rows: expected at least 1, got 0"):
        CollapseConfig(num_rows=0)


def test_a_young_tokenizer_is_left_alone_until_enough_is_logged() -> None:
    config = CollapseConfig(from_step=300)
    check_reconstruction(logged(*[0.0] * 304), config)  # steps 0 to 303: four rows count
    with pytest.raises(CollapseError, match="step 304"):
        check_reconstruction(logged(*[0.0] * 305), config)
    check_reconstruction([], config)
