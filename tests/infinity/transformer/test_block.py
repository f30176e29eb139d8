"""Parts of a transformer block."""

import torch

from infinity.transformer.block import modulated_norm


def test_modulated_norm_is_layer_norm_with_a_gain_and_shift_of_each_sample() -> None:
    x, gain, shift = (torch.randn(2, n, 8, generator=torch.Generator().manual_seed(n)) for n in (5, 1, 1))
    leaves = [each.requires_grad_() for each in (x, gain, shift)]
    expected = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt() * gain + shift
    found = modulated_norm(x, gain, shift, 1e-6)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(modulated_norm(x, gain, shift, 1e-6), expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9))
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
