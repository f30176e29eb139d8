"""Measures of sharpness in the figures of the tokenizer."""

import math

import pytest
import torch

from benchmarks.tokenizer_figures.runs import SPECTRUM_BANDS, edges, spectrum


@pytest.fixture
def pixels() -> torch.Tensor:
    """Noise, which has the same power at every frequency."""
    return torch.rand(64, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_blur_takes_power_from_high_frequencies_and_energy_from_edges(pixels: torch.Tensor) -> None:
    blurred = torch.nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    ratio = spectrum(blurred) / spectrum(pixels)
    assert ratio[0] > 0.9
    assert ratio[-1] < 0.05
    assert edges(blurred) < 0.2 * edges(pixels)


@pytest.mark.parametrize("cycles", [6, 13, 20])
def test_a_wave_lies_in_the_ring_of_its_frequency(cycles: int) -> None:
    wave = torch.cos(2 * math.pi * cycles / 48 * torch.arange(48)).expand(1, 3, 48, 48)
    assert int(spectrum(wave).argmax()) == int(cycles / 48 * 2 * SPECTRUM_BANDS)


def test_contrast_counts_as_power(pixels: torch.Tensor) -> None:
    assert torch.allclose(spectrum(0.5 * pixels) / spectrum(pixels), torch.tensor(0.25), atol=1e-3)
