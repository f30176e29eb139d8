"""Shapes, norms and the fast paths of the convolutional autoencoder."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infinity.kernels import winograd
from infinity.tokenizer.autoencoder import AutoencoderConfig, Decoder, Encoder, Upsample, num_groups


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
    with pytest.raises(ValueError, match=f"{name}: expected at least 5 positive widths for 4 halvings"):
        AutoencoderConfig(num_bits=4, base_width=16, num_downsamples=4, **{name: wrong})  # type: ignore[arg-type]


def test_too_few_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="encoder_multipliers: expected at least 5 positive widths for 4 halvings"):
        AutoencoderConfig(num_bits=4, encoder_multipliers=(1, 2))


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (9, 16)])
def test_upsample_is_repetition_followed_by_the_convolution(size: tuple[int, int]) -> None:
    """Also in its gradients: the four small convolutions are the same function."""
    upsample = Upsample(6)
    small, weights = random_maps(2, 6, *size), random_maps(2, 6, 2 * size[0], 2 * size[1], seed=1)

    def gradients(fast: bool) -> tuple[Tensor, ...]:
        x = small.clone().requires_grad_()
        doubled = upsample(x) if fast else upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        grads = torch.autograd.grad((doubled * weights).sum(), [x, *upsample.parameters()])
        return doubled, *grads

    for ours, plain in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-5)


def test_memory_layout_does_not_change_the_picture() -> None:
    config = AutoencoderConfig(
        num_bits=4, base_width=8, encoder_multipliers=(1, 1), decoder_multipliers=(1, 1), num_downsamples=1
    )
    decoder, features = Decoder(config), random_maps(1, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            decoder(features), decoder(features.contiguous(memory_format=torch.channels_last)), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 30)])
@pytest.mark.parametrize("strip_bytes", [1, 2**30])
def test_convolution_with_fewer_products_is_as_exact_as_the_plain_one(
    size: tuple[int, int], strip_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both against float64, for any size and however the tiles are cut into strips."""
    monkeypatch.setattr(winograd, "STRIP_BYTES", strip_bytes)
    x, conv = random_maps(2, 16, *size), torch.nn.Conv2d(16, 24, 3, padding=1)
    with torch.no_grad():
        exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
        short = winograd.winograd_conv(x, conv.weight, conv.bias)
    assert short.shape == exact.shape
    assert (short - exact).abs().max() < 5e-6


def test_wide_decoder_without_gradient_gives_the_picture_of_the_plain_convolutions() -> None:
    """The short way is taken from a width of 128 and 32 x 32 pixels, and only without gradient."""
    config = AutoencoderConfig(
        num_bits=4,
        base_width=128,
        encoder_multipliers=(1, 1),
        decoder_multipliers=(1, 1),
        num_res_blocks=1,
        num_downsamples=1,
    )
    decoder, features = Decoder(config), random_maps(1, 4, 32, 36)
    plain = decoder(features).detach()
    with torch.no_grad():
        short = decoder(features)
    assert not torch.equal(short, plain)
    torch.testing.assert_close(short, plain, atol=1e-5, rtol=0.0)
