"""Upsampling by phases equals repetition and a convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinity.kernels.upsample import doubled_conv


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
