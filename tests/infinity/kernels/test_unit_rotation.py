"""Queries and keys of length one: the hand-written gradient equals that of the plain formula."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from infinity.kernels.switch import Kernels, use_kernels
from infinity.kernels.unit_rotation import (
    MAX_LOG_SCALE,
    _FusedUnitRotate,
    plain_unit_queries_and_keys,
    queries_keys_values,
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


@pytest.mark.parametrize("way", [unit_queries_and_keys, plain_unit_queries_and_keys, _FusedUnitRotate.apply])
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


@pytest.mark.parametrize("way", [unit_queries_and_keys, _FusedUnitRotate.apply])
def test_zero_vector_stays_finite(way: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
    joint = torch.zeros(1, SCHEDULE.num_tokens, 2, 8, requires_grad=True)
    query, key = way(joint, torch.zeros(1), TURN)
    (query.sum() + key.sum()).backward()
    assert joint.grad is not None
    assert joint.grad.isfinite().all()


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("by_picture", [False, True])
def test_one_product_of_queries_keys_and_values_is_taken_apart(kernels: Kernels, by_picture: bool) -> None:
    """Also where each picture has tokens, and so rotations, of its own: (B, 1, L, P, 2)."""
    joint = torch.randn(2, SCHEDULE.num_tokens, 9, 8, generator=torch.Generator().manual_seed(0))
    log_scale = torch.tensor([0.5, 1.0, 5.0])
    expected = _plain(joint[:, :, :6], log_scale)
    rotary = TURN.expand(2, 1, *TURN.shape) if by_picture else TURN
    with use_kernels(kernels):
        query, key, value = queries_keys_values(joint, log_scale, rotary)
    torch.testing.assert_close(torch.stack([query, key]), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(value, joint[:, :, 6:].transpose(1, 2))
