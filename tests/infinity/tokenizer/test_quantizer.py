"""Laws of the binary quantizers and their penalties (paper 3.2; behaviours worth a test)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infinity.tokenizer.quantizer import (
    QuantizerKind,
    binary_entropy,
    bits_to_maps,
    brute_force_entropies,
    code_magnitude,
    commitment,
    factorised_entropies,
    straight_through,
)

KINDS: tuple[QuantizerKind, ...] = ("bsq", "lfq")


def random_maps(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("num_bits", [1, 2, 14, 32, 64])
def test_bsq_codes_lie_on_the_unit_sphere(num_bits: int) -> None:
    codes, unit = straight_through(random_maps(2, num_bits, 4, 4), "bsq")
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(2, 4, 4))
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2, 4, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_bits_are_the_codes_of_the_quantizer(kind: QuantizerKind) -> None:
    residual = random_maps(2, 14, 3, 5)
    codes, _ = straight_through(residual, kind)
    bits_BHWC = residual.permute(0, 2, 3, 1) > 0
    torch.testing.assert_close(bits_to_maps(bits_BHWC, kind), codes, atol=1e-6, rtol=0.0)
    if kind == "bsq":
        length = bits_to_maps(bits_BHWC, kind).norm(dim=1)
        torch.testing.assert_close(length, torch.ones_like(length), msg="on the unit sphere")


@pytest.mark.parametrize("kind", KINDS)
def test_zero_counts_as_negative(kind: QuantizerKind) -> None:
    codes, _ = straight_through(torch.zeros(1, 4, 1, 1), kind)
    assert torch.equal(codes, torch.full((1, 4, 1, 1), -code_magnitude(4, kind)))


def test_length_of_the_residual_does_not_change_its_code() -> None:
    residual = random_maps(2, 16, 3, 3)
    short, _ = straight_through(residual * 1e-6, "bsq")
    long, _ = straight_through(residual * 1e6, "bsq")
    assert torch.equal(short, long)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_normalised_residual(kind: QuantizerKind) -> None:
    """Compared with the chain of separate operations under torch's own differentiation."""
    weights_codes, weights_unit = random_maps(2, 8, 3, 3, seed=1), random_maps(2, 8, 3, 3, seed=2)
    ours = random_maps(2, 8, 3, 3).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    codes, unit = straight_through(ours, kind)
    (codes * weights_codes + unit * weights_unit).sum().backward()
    normalised = F.normalize(theirs, dim=1) if kind == "bsq" else theirs
    through = normalised + (codes.detach() - normalised).detach()
    (through * weights_codes + normalised * weights_unit).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_commitment_is_the_mean_over_channels_and_pulls_only_the_residual() -> None:
    residual = random_maps(2, 8, 3, 3).requires_grad_()
    codes, unit = straight_through(residual, "bsq")
    loss = commitment(unit, codes)
    torch.testing.assert_close(loss, (unit - codes).detach().square().sum(dim=1).mean() / 8)
    pulled = torch.autograd.grad(loss, unit)[0]
    torch.testing.assert_close(pulled, 2 * (unit - codes).detach() / unit.numel())


@pytest.mark.sweep(8)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_bits", [1, 2, 5, 10])
@pytest.mark.parametrize("inverse_temperature", [0.5, 10.0, 100.0])
def test_factorised_entropy_of_a_sample_equals_brute_force(
    kind: QuantizerKind, num_bits: int, inverse_temperature: float
) -> None:
    _, unit = straight_through(random_maps(2, num_bits, 4, 3), kind)
    fast, _ = factorised_entropies(unit, inverse_temperature, kind)
    slow, _ = brute_force_entropies(unit, inverse_temperature, kind)
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_factorised_entropy_of_the_batch_is_never_below_brute_force(kind: QuantizerKind, seed: int) -> None:
    mixed = random_maps(3, 6, 2, 2, seed=seed) + random_maps(1, 1, 1, 1, seed=seed + 100)
    _, unit = straight_through(mixed, kind)
    for inverse_temperature in (1.0, 10.0, 100.0):
        _, bound = factorised_entropies(unit, inverse_temperature, kind)
        _, exact = brute_force_entropies(unit, inverse_temperature, kind)
        assert bound >= exact - 1e-4


def test_entropies_reach_their_limits() -> None:
    """Opposite sure codes: every position is certain, the batch is uniform over each bit."""
    unit = torch.ones(2, 4, 1, 1) * torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1) * 0.5
    sure, spread = factorised_entropies(unit, 100.0, "bsq")
    assert sure < 1e-6
    torch.testing.assert_close(spread, torch.tensor(4 * math.log(2)))
    _, joint = brute_force_entropies(unit, 100.0, "bsq")
    torch.testing.assert_close(joint, torch.tensor(math.log(2)))  # only two of the sixteen codes occur


def test_entropy_gradients_are_finite_where_bits_are_certain() -> None:
    unit = torch.cat([torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)], dim=1).requires_grad_()
    sure, spread = factorised_entropies(unit, 1e4, "lfq")
    (sure - spread).backward()
    assert unit.grad is not None
    assert unit.grad.isfinite().all()


def test_binary_entropy_is_exact_at_the_ends() -> None:
    torch.testing.assert_close(binary_entropy(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.0, math.log(2), 0.0]))


@pytest.mark.parametrize("num_bits", [32, 64])
def test_memory_does_not_grow_with_two_to_the_bits(num_bits: int) -> None:
    """64 bits work, and the largest tensor on the way has one number a position and bit."""
    unit = random_maps(1, num_bits, 8, 8).requires_grad_()
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        codes, normalised = straight_through(unit, "bsq")
        sure, spread = factorised_entropies(normalised, 100.0)
    (codes.sum() + sure + spread).backward()
    assert max(sizes) == unit.numel()


def test_brute_force_refuses_more_than_16_bits() -> None:
    with pytest.raises(ValueError, match="at most 16 bits, got 17"):
        brute_force_entropies(torch.zeros(1, 17, 1, 1), 1.0)
