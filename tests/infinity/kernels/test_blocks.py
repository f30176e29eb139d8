"""Hand-written gradients equal those of the plain formula."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from infinity.kernels.blocks import (
    MAX_LOG_SCALE,
    feed_forward,
    gelu_tanh,
    modulated_norm,
    plain_unit_queries_and_keys,
    unit_queries_and_keys,
)
from infinity.scales import Resolution
from infinity.transformer.rope import rotations

SCHEDULE = Resolution(sides=(1, 2, 3)).schedule(1.0)
TURN = torch.view_as_real(rotations(SCHEDULE, 8, "frame", torch.device("cpu")))


def _rotate(x: torch.Tensor) -> torch.Tensor:
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = TURN.unbind(-1)
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


def _plain(joint: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    query, key = F.normalize(joint, dim=-1).transpose(1, 2).chunk(2, dim=1)
    scale = log_scale.clamp(max=MAX_LOG_SCALE).exp()[:, None, None]
    return torch.stack([_rotate(query * scale), _rotate(key)])


@pytest.mark.parametrize("way", [unit_queries_and_keys, plain_unit_queries_and_keys])
def test_unit_queries_and_keys_equal_the_plain_formula(way: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
    generator = torch.Generator().manual_seed(0)
    joint = torch.randn(2, SCHEDULE.num_tokens, 6, 8, generator=generator, requires_grad=True)
    log_scale = torch.tensor([0.5, 1.0, 5.0], requires_grad=True)  # the last one is above the bound
    expected = _plain(joint, log_scale)
    weight = torch.randn(expected.shape, generator=generator)
    found = torch.stack(way(joint, log_scale, TURN))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), (joint, log_scale)),
        torch.autograd.grad((expected * weight).sum(), (joint, log_scale)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_queries_have_their_scale_and_keys_length_one() -> None:
    joint = torch.randn(1, SCHEDULE.num_tokens, 4, 8, generator=torch.Generator().manual_seed(0))
    query, key = unit_queries_and_keys(joint, torch.tensor([math.log(4.0), 10.0]), TURN)
    lengths = query.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.tensor([4.0, 100.0])[:, None].expand_as(lengths))
    torch.testing.assert_close(key.norm(dim=-1), torch.ones_like(lengths))


def test_zero_vector_stays_finite() -> None:
    joint = torch.zeros(1, SCHEDULE.num_tokens, 2, 8, requires_grad=True)
    query, key = unit_queries_and_keys(joint, torch.zeros(1), TURN)
    (query.sum() + key.sum()).backward()
    assert joint.grad is not None
    assert joint.grad.isfinite().all()


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


@pytest.mark.parametrize("group", [16 * 64, 2**19])
@pytest.mark.parametrize("frozen", [False, True])
def test_feed_forward_in_groups_of_rows_equals_its_formula(
    group: int, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With groups of 64 rows, of which the last is short, and with all rows at once; weights may be frozen."""
    monkeypatch.setattr("infinity.kernels.blocks._FeedForward.GROUP", group)
    torch.manual_seed(0)
    expand, contract = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)
    for linear in (expand, contract):
        linear.requires_grad_(not frozen)
    x = torch.randn(3, 50, 8, requires_grad=True)
    leaves = [x, *([] if frozen else [*expand.parameters(), *contract.parameters()])]
    found = feed_forward(x, expand, contract)
    expected = contract(F.gelu(expand(x), approximate="tanh"))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(feed_forward(x, expand, contract), expected, atol=1e-5, rtol=0)
    weight = torch.randn(expected.shape)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_gelu_and_its_slope_equal_the_formula_in_float64() -> None:
    x = torch.linspace(-12, 12, 10_001, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    found, expected = gelu_tanh(x), F.gelu(exact, approximate="tanh")
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=0)
    (slope,) = torch.autograd.grad(found.sum(), x)
    (exact_slope,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(slope.double(), exact_slope, atol=4e-6, rtol=0)
