"""Bands of rows give the pixels of the plain networks, in less memory."""

import pytest
import torch

from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.tokenizer.bands import decode_in_bands, encode_in_bands

NETWORKS = {
    "published form": TokenizerConfig(num_bits=8, base_width=32, num_res_blocks=1),
    "three halvings": TokenizerConfig(num_bits=4, base_width=24, num_res_blocks=1, num_downsamples=3),
    "stem": TokenizerConfig(
        num_bits=4, base_width=16, encoder_multipliers=(1, 2), decoder_multipliers=(2, 1), num_downsamples=1, stem_px=2
    ),
    "no halving": TokenizerConfig(
        num_bits=4, base_width=8, encoder_multipliers=(1,), decoder_multipliers=(1,), num_downsamples=0, norm_groups=2
    ),
}
GRIDS = [(2, 2), (3, 2), (1, 4)]


@pytest.fixture(scope="module", params=NETWORKS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    tokenizer = Tokenizer(NETWORKS[request.param]).eval()
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    return tokenizer


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.sweep(8)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("budget", [1, 200_000, 10**9])
def test_pictures_decoded_in_bands_are_the_same(tokenizer: Tokenizer, grid: tuple[int, int], budget: int) -> None:
    """One row at a time, some, and all."""
    features = numbers(2, tokenizer.config.num_bits, *grid)
    with torch.no_grad():
        plain = tokenizer.decoder(features)
    torch.testing.assert_close(decode_in_bands(tokenizer.decoder, features, budget), plain, rtol=0, atol=1e-4)


@pytest.mark.sweep(8)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("budget", [1, 200_000, 10**9])
def test_features_encoded_in_bands_are_the_same(tokenizer: Tokenizer, grid: tuple[int, int], budget: int) -> None:
    images = numbers(2, 3, *(side * tokenizer.config.stride_px for side in grid)).clamp(-1, 1)
    with torch.no_grad():
        plain = tokenizer.encoder(images)
    torch.testing.assert_close(encode_in_bands(tokenizer.encoder, images, budget), plain, rtol=0, atol=1e-4)


def test_moments_are_those_of_the_whole_picture(tokenizer: Tokenizer) -> None:
    """A picture whose halves differ much would show a seam if each band had its own mean."""
    features = numbers(1, tokenizer.config.num_bits, 4, 2)
    features[:, :, 2:] = 40 + 5 * features[:, :, 2:]
    with torch.no_grad():
        plain, upper = tokenizer.decoder(features), tokenizer.decoder(features[:, :, :2])
    banded = decode_in_bands(tokenizer.decoder, features, 1)
    torch.testing.assert_close(banded, plain, rtol=1e-4, atol=1e-4)
    assert (banded[:, :, : upper.shape[2]] - upper).abs().max() > 1e-2
