"""Upsampling by phases equals repetition and a convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinity.kernels.upsample import doubled_conv, phase_weights


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (9, 16)])
def test_it_is_repetition_followed_by_the_convolution(size: tuple[int, int]) -> None:
    """Also in its gradients: the four small convolutions are the same function."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, 3, padding=1)
    small, weights = random_maps(2, 6, *size), random_maps(2, 6, 2 * size[0], 2 * size[1], seed=1)

    def gradients(fast: bool) -> tuple[Tensor, ...]:
        x = small.clone().requires_grad_()
        doubled = doubled_conv(x, conv) if fast else conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        grads = torch.autograd.grad((doubled * weights).sum(), [x, *conv.parameters()])
        return doubled, *grads

    for ours, plain in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("widths", [(3, 7), (7, 3), (1, 1)])
def test_sums_of_taps_equal_a_table_of_zeros_and_ones(widths: tuple[int, int], form: torch.memory_format) -> None:
    """For weights in any order in memory, of any widths."""
    taps = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    weight = random_maps(*widths, 3, 3).contiguous(memory_format=form)
    expected = torch.einsum("pai,qbj,ocij->pqocab", taps, taps, weight).flatten(0, 2)
    found = phase_weights(weight)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
