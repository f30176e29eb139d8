"""Shapes, norms and the fast paths of the convolutional autoencoder."""

import pytest
import torch
from torch import Tensor

from infinity.tokenizer.autoencoder import AutoencoderConfig, Decoder, Encoder, num_groups


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("num_downsamples", "encoder_multipliers", "decoder_multipliers", "stem_px", "stride_px"),
    [
        (4, (1, 1, 1, 1, 2), (1, 1, 2, 2, 3), 1, 16),
        (3, (1, 2, 3, 4), (1, 1, 2, 2), 1, 8),
        (3, (1, 1, 1, 1, 2), (1, 1, 1, 1, 1), 1, 8),  # more levels than halvings, as the stride-8 tokenizer has
        (2, (1, 2, 4), (2, 2, 4), 2, 8),
        (0, (1,), (1,), 1, 1),
    ],
)
def test_encoder_divides_and_decoder_multiplies_by_the_stride(
    num_downsamples: int,
    encoder_multipliers: tuple[int, ...],
    decoder_multipliers: tuple[int, ...],
    stem_px: int,
    stride_px: int,
) -> None:
    config = AutoencoderConfig(
        num_bits=5,
        base_width=8,
        encoder_multipliers=encoder_multipliers,
        decoder_multipliers=decoder_multipliers,
        num_res_blocks=1,
        num_downsamples=num_downsamples,
        stem_px=stem_px,
    )
    assert config.stride_px == stride_px
    features = Encoder(config)(random_maps(2, 3, 2 * stride_px, 3 * stride_px))
    assert features.shape == (2, 5, 2, 3)
    assert Decoder(config)(features).shape == (2, 3, 2 * stride_px, 3 * stride_px)


@pytest.mark.parametrize(
    ("width", "groups"),
    [(32, 32), (64, 32), (512, 32), (24, 24), (48, 24), (72, 24), (96, 32), (16, 4), (8, 2), (12, 2), (4, 1), (3, 1)],
)
def test_groups_are_32_or_24_as_published_and_at_least_four_channels_wide_elsewhere(width: int, groups: int) -> None:
    assert num_groups(width, None) == groups


def test_given_groups_must_divide_every_width() -> None:
    AutoencoderConfig(num_bits=4, base_width=16, norm_groups=4)
    with pytest.raises(ValueError, match="norm_groups: expected a divisor of the width 16, got 5"):
        AutoencoderConfig(num_bits=4, base_width=16, norm_groups=5)


@pytest.mark.parametrize("name", ["encoder_multipliers", "decoder_multipliers"])
@pytest.mark.parametrize("wrong", [(0, 1, 1, 1, 1), (1, 1, 1, 1, 0), (1, 1, 1, 1)])
def test_a_width_of_zero_or_one_too_few_is_refused(name: str, wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected 5 to 64 numbers from 1 to 1024 for 4 halvings"):
        AutoencoderConfig(num_bits=4, base_width=16, num_downsamples=4, **{name: wrong})  # type: ignore[arg-type]


def test_too_few_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="encoder_multipliers: expected 5 to 64 numbers from 1 to 1024 for 4 halvings"):
        AutoencoderConfig(num_bits=4, encoder_multipliers=(1, 2))


def test_memory_layout_does_not_change_the_picture() -> None:
    config = AutoencoderConfig(
        num_bits=4, base_width=8, encoder_multipliers=(1, 1), decoder_multipliers=(1, 1), num_downsamples=1
    )
    decoder, features = Decoder(config), random_maps(1, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            decoder(features), decoder(features.contiguous(memory_format=torch.channels_last)), atol=1e-6, rtol=0
        )
