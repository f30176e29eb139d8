"""Spherical quantization in one function equals the chain of plain ones."""

import pytest
import torch

from infinity.kernels.straight_through import plain_spherical_straight_through, spherical_straight_through


@pytest.mark.parametrize("num_bits", [1, 8, 32])
def test_codes_units_and_gradients_equal_the_plain_formula(num_bits: int) -> None:
    generator = torch.Generator().manual_seed(num_bits)
    residual = torch.randn(2, num_bits, 3, 5, generator=generator, requires_grad=True)
    weights = torch.randn(2, *residual.shape, generator=generator)
    found, plain = spherical_straight_through(residual), plain_spherical_straight_through(residual)
    for ours, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    grads = [
        torch.autograd.grad((codes * weights[0] + unit * weights[1]).sum(), residual)[0]
        for codes, unit in (found, plain)
    ]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-5)


def test_a_residual_of_zero_has_finite_codes_and_gradients() -> None:
    residual = torch.zeros(1, 4, 1, 1, requires_grad=True)
    codes, unit = spherical_straight_through(residual)
    assert codes.tolist() == torch.full((1, 4, 1, 1), -0.5).tolist()  # zero counts as a bit that is not set
    assert unit.abs().sum() == 0
    (codes.sum() + unit.sum()).backward()
    assert residual.grad is not None
    assert residual.grad.isfinite().all()
